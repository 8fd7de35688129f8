//! Steps 1 to 8: what a sync asks before anything is decided. Reads only: nothing is sent, written
//! or remembered of the object, so whoever merely wants to know what a sync would do comes this way
//! too.

use std::sync::Arc;
use std::time::Duration;

use super::plan::Sources;
use super::report::Reason;
use crate::cloud::CloudError;
use crate::cloud::contrabass::RabbitMq;
use crate::cloud::session::{Answers, Asked, Cloud, FoundProvider, LoggedIn, Query};
use crate::config::Config;
use crate::inventory::contents::Inventory;
use crate::resources::{OpenstackConfig, Spec, SubnetSelector};

/// How often a pass begins. It starts over when the access turns out to be outdated, and one change
/// of it shows twice at most: first in a new answer of Contrabass, given beside the others or after a
/// refused password, then in a remembered token that is refused.
const MAX_ATTEMPTS: usize = 3;

/// One object's reading under way.
pub struct Reading<'a> {
    /// Settings.
    pub config: &'a Config,
    /// Whom to ask.
    pub cloud: &'a Arc<Cloud>,
    /// The object.
    pub object: &'a OpenstackConfig,
    /// Remembered failures don't count.
    pub fresh: bool,
    /// RabbitMQ's access and the serial of the answer it came with, once the provider was found.
    pub rabbitmq: Option<(u64, Result<RabbitMq, String>)>,
    /// Nova asked to be left alone for so long, though the pass goes on with what is known.
    pub retry_after: Option<Duration>,
}

/// A pass that ended early.
#[derive(Clone, Debug)]
pub struct Failed {
    /// In a word.
    pub reason: Reason,
    /// In a sentence.
    pub message: String,
    /// A service asked to be left alone for so long.
    pub retry_after: Option<Duration>,
}

impl From<CloudError> for Failed {
    fn from(error: CloudError) -> Failed {
        let CloudError { step, message, retry_after, .. } = error;
        Failed { reason: step.into(), message, retry_after }
    }
}

impl Failed {
    /// Nobody asked to be left alone.
    pub fn new(reason: Reason, message: impl Into<String>) -> Failed {
        Failed { reason, message: message.into(), retry_after: None }
    }
}

impl<'a> Reading<'a> {
    /// Nothing is asked yet.
    pub fn new(
        config: &'a Config,
        cloud: &'a Arc<Cloud>,
        object: &'a OpenstackConfig,
        fresh: bool,
    ) -> Reading<'a> {
        Reading { config, cloud, object, fresh, rabbitmq: None, retry_after: None }
    }

    /// Step 1: does the object say enough to begin?
    pub fn check(&self) -> Result<(&'a Spec, &'a SubnetSelector), Failed> {
        let missing = self.config.all_missing();
        if !missing.is_empty() {
            let message = format!("the operator's settings lack {}", missing.join(", "));
            return Err(Failed::new(Reason::ConfigError, message));
        }
        let spec = self.object.spec.as_ref();
        let spec = spec.map_err(|problem| Failed::new(Reason::ConfigError, problem.clone()))?;
        let subnet = spec.subnet.as_ref().ok_or_else(|| {
            let message = "set spec.subnetID or spec.subnetName; neither is given";
            Failed::new(Reason::SubnetRequired, message)
        })?;
        Ok((spec, subnet))
    }

    /// Steps 2 to 8, once more from the start when the access turns out to be outdated.
    pub fn read(&mut self, spec: &Spec, subnet: &SubnetSelector) -> Result<Answers, Failed> {
        if self.fresh {
            self.cloud.forget_failures(&spec.provider_id, &spec.project_id);
        }
        let (mut outdated_login, mut password_refused) = (None, false);
        for attempt in 1..=MAX_ATTEMPTS {
            let last = attempt == MAX_ATTEMPTS;
            let found = self.look_up_provider(spec, None)?;
            self.hand_over_rabbitmq(&found);
            let login = match self.log_in(spec, &found, outdated_login) {
                Err(error) if error.refused && !password_refused => {
                    // Perhaps the password was changed: Contrabass is asked again, once.
                    password_refused = true;
                    let again = self.look_up_provider(spec, Some(found.serial))?;
                    if again.provider == found.provider {
                        return Err(error.into());
                    }
                    self.cloud.forget_failures(&spec.provider_id, &spec.project_id);
                    continue;
                }
                login => login?,
            };
            let Asked { answers, current } = self.ask(spec, subnet, &found, &login)?;
            if current.provider != found.provider {
                // Whatever the others said, it was said to access that Contrabass no longer vouches
                // for; that the old place only fails is even likely.
                continue;
            }
            self.hand_over_rabbitmq(&current);
            if is_refused(&answers) && !last && outdated_login.is_none() {
                outdated_login = Some(login.serial);
                continue;
            }
            match answers {
                Ok(answers) => {
                    // What Nova won't say even to a new token is a matter of its VMs alone.
                    if answers.servers.are_incomplete() {
                        self.cloud.doubt(&found.provider, &spec.project_id);
                    }
                    self.retry_after = answers.servers.retry_after();
                    return Ok(answers);
                }
                Err(error) => {
                    self.cloud.doubt(&found.provider, &spec.project_id);
                    return Err(error.into());
                }
            }
        }
        let message = "Contrabass describes the provider differently each time it is asked";
        Err(Failed::new(Reason::ContrabassError, message))
    }

    /// Step 2.
    fn look_up_provider(
        &self,
        spec: &Spec,
        outdated: Option<u64>,
    ) -> Result<FoundProvider, CloudError> {
        self.cloud.provider(&spec.provider_id, &spec.project_id, outdated)
    }

    /// Step 3: the controller has the Secret written; trouble there never stops a sync.
    fn hand_over_rabbitmq(&mut self, found: &FoundProvider) {
        let provider = &found.provider;
        let access = match (&provider.rabbitmq, &provider.rabbitmq_problem) {
            (Some(rabbitmq), _) => Ok(rabbitmq.clone()),
            (None, Some(problem)) => Err(problem.clone()),
            (None, None) => return,
        };
        self.rabbitmq = Some((found.serial, access));
    }

    /// Steps 4 and 5.
    fn log_in(
        &self,
        spec: &Spec,
        found: &FoundProvider,
        outdated: Option<u64>,
    ) -> Result<LoggedIn, CloudError> {
        self.cloud.log_in(&found.provider, &spec.project_id, outdated)
    }

    /// Steps 6, 7 and 8.
    fn ask(
        &self,
        spec: &Spec,
        subnet: &SubnetSelector,
        found: &FoundProvider,
        login: &LoggedIn,
    ) -> Result<Asked, CloudError> {
        let query = Query {
            project_id: spec.project_id.clone(),
            subnet: subnet.clone(),
            vm_ids: spec.vm_ids.clone(),
        };
        self.cloud.ask(found, login, query)
    }

    /// What a plan is made from, steps 8 to 10.
    pub fn sources<'b>(
        &'b self,
        spec: &'b Spec,
        answers: &'b Answers,
        inventory: &'b Inventory,
    ) -> Sources<'b> {
        Sources {
            provider_id: &spec.provider_id,
            vm_ids: &spec.vm_ids,
            answers,
            statuses: self.config.openstack.port_statuses.as_deref(),
            inventory,
        }
    }
}

/// Was the token refused, by Neutron or by Nova?
fn is_refused(answers: &Result<Answers, CloudError>) -> bool {
    match answers {
        Ok(answers) => answers.servers.refuse_the_token(),
        Err(error) => error.refused,
    }
}
