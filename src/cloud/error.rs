//! What can go wrong while asking the cloud.

use std::fmt;
use std::time::Duration;

use crate::http::client::HttpError;

/// At which step a question failed; each is a Ready reason of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Step {
    /// What a Secret says of a cloud, or the project of an object that names one.
    Identity,
    Contrabass,
    Keystone,
    NeutronEndpoint,
    Subnet,
    SubnetNotFound,
    SubnetNotUnique,
    Ports,
    Nova,
}

/// A question without a usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudError {
    /// Where it failed.
    pub step: Step,
    /// What was asked of whom and what came back; stable, redacted.
    pub message: String,
    /// The service asked to be left alone for this long.
    pub retry_after: Option<Duration>,
    /// The service refused our token or password: a new one may help.
    pub refused: bool,
    /// What Contrabass said can't be decrypted: another key may help.
    pub undecryptable: bool,
}

impl CloudError {
    /// A failure with this message.
    pub fn new(step: Step, message: impl Into<String>) -> CloudError {
        let message = message.into();
        CloudError { step, message, retry_after: None, refused: false, undecryptable: false }
    }

    /// A call that brought no answer.
    pub fn transport(step: Step, error: &HttpError) -> CloudError {
        CloudError::new(step, error.to_string())
    }
}

impl fmt::Display for CloudError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for CloudError {}
