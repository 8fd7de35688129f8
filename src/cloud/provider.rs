//! A cloud and how to log in to it, as Contrabass or a `clouds.yaml` describes it.

use super::contrabass::RabbitMq;
use crate::config::{Domain, Identity, Project, User};
use crate::secret::Secret;

/// A cloud and how to log in to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Contrabass' id of the provider, or which cloud of which Secret it is.
    pub id: String,
    /// Is it a cloud of a Secret?
    pub is_of_secret: bool,
    /// Keystone's URL, in any of the spellings installers use.
    pub keystone_url: String,
    /// Who logs in.
    pub user: User,
    /// The user's password, or the application credential's secret.
    pub secret: Secret,
    /// The project of the token; none: that of the objects, or of the application credential.
    pub project: Option<Project>,
    /// Access to the cloud's RabbitMQ, where all of it is there, or why it can't be used.
    pub rabbitmq: Result<Option<RabbitMq>, String>,
}

impl From<&Identity> for Provider {
    fn from(identity: &Identity) -> Provider {
        Provider {
            id: identity.place.clone(),
            is_of_secret: true,
            keystone_url: identity.auth_url.clone(),
            user: identity.user.clone(),
            secret: identity.secret.clone(),
            project: identity.project.clone(),
            rabbitmq: Ok(None),
        }
    }
}

impl Provider {
    /// The project to name in a login for objects of this project, which may be empty. An application
    /// credential belongs to one and mustn't name it.
    pub(super) fn scope(&self, project_id: &str) -> Option<Project> {
        let of_objects =
            || Some(Project::Id(project_id.to_owned())).filter(|_| !project_id.is_empty());
        match &self.user {
            _ if self.has_application_credential() => None,
            _ => self.project.clone().or_else(of_objects),
        }
    }

    pub(super) fn has_application_credential(&self) -> bool {
        matches!(self.user, User::ApplicationCredential(_) | User::ApplicationCredentialOf { .. })
    }

    /// Who logs in, for messages. What a Secret says isn't shown.
    pub(super) fn who(&self) -> String {
        match &self.user {
            User::Name { name, domain: Domain::Either(domain) } if !self.is_of_secret => {
                format!("user {name:?} of domain {domain:?}")
            }
            _ if self.has_application_credential() => {
                format!("application credential of {}", self.id)
            }
            _ => format!("user of {}", self.id),
        }
    }

    /// The domain of the user; none where none has to be named.
    pub(super) fn domain(&self) -> Option<&Domain> {
        fn of(user: &User) -> Option<&Domain> {
            match user {
                User::Id(_) | User::ApplicationCredential(_) => None,
                User::Name { domain, .. } => Some(domain),
                User::ApplicationCredentialOf { user, .. } => of(user),
            }
        }
        of(&self.user)
    }
}
