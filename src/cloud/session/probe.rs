//! One question at a time, for whoever wants to see each service answer for itself.
//!
//! The same clients, limits, logins and endpoints as in a sync; only the order is another, so that
//! trouble with one service doesn't hide the next.

use std::sync::Arc;

use super::{Cloud, Session};
use crate::cloud::contrabass::Provider;
use crate::cloud::error::{CloudError, Step};
use crate::cloud::neutron::{Neutron, Subnet};
use crate::cloud::nova::Nova;
use crate::http::client::{Request, Service};
use crate::resources::SubnetSelector;

/// A login to one project, whatever its catalog has.
#[derive(Clone)]
pub struct Login {
    session: Arc<Session>,
}

impl Login {
    /// Neutron's endpoint, or why there is none.
    pub fn neutron(&self) -> Result<&str, CloudError> {
        self.session.neutron.as_deref().map_err(Clone::clone)
    }

    /// Nova's endpoint; none if the catalog has none, and VMs go by their ids.
    pub fn nova(&self) -> Option<&str> {
        self.session.nova.as_deref()
    }
}

impl Cloud {
    /// The HTTP status of any answer from Contrabass' base URL.
    pub fn reach_contrabass(&self) -> Result<u16, CloudError> {
        let missing =
            |variable: &str| CloudError::new(Step::Contrabass, format!("{variable} is not set"));
        let endpoint = self.contrabass_endpoint.get().map_err(missing)?;
        let answer = self.contrabass.call(&Request::get(Service::Contrabass, endpoint));
        let answer = answer.map_err(|error| CloudError::transport(Step::Contrabass, &error))?;
        Ok(answer.status)
    }

    /// Keystone alone: a token for the project.
    pub fn probe_login(&self, provider: &Provider, project_id: &str) -> Result<Login, CloudError> {
        let session = self.known_session(provider, project_id, None).result?;
        Ok(Login { session })
    }

    /// Neutron alone: the subnet that is meant, and its network's MTU.
    pub fn probe_subnet(
        &self,
        login: &Login,
        project_id: &str,
        selector: &SubnetSelector,
    ) -> Result<(Subnet, u32), CloudError> {
        let neutron = Neutron {
            client: Arc::clone(&self.openstack),
            endpoint: login.session.neutron.clone()?,
            token: Arc::clone(&login.session.token),
        };
        self.networks.subnet(&neutron, project_id, selector, self.clock.now().uptime)
    }

    /// Nova alone: one answer to one small question.
    pub fn probe_nova(&self, login: &Login, project_id: &str) -> Result<(), CloudError> {
        let Some(endpoint) = &login.session.nova else { return Ok(()) };
        let nova = Nova {
            client: Arc::clone(&self.openstack),
            endpoint: Arc::clone(endpoint),
            project_id: project_id.into(),
            token: Arc::clone(&login.session.token),
            metadata_key: None,
            threads: self.threads.clone(),
        };
        nova.answers()
    }
}
