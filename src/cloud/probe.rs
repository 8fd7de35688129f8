//! One question at a time, for `check`: trouble with one service doesn't hide the next.

use super::error::{CloudError, Step};
use super::neutron::Subnet;
use super::session::{Cloud, Login};
use crate::http::client::{Request, Service};
use crate::resources::SubnetSelector;

impl Cloud {
    /// The HTTP status of any answer from Contrabass' base URL.
    pub(crate) fn reach_contrabass(&self) -> Result<u16, CloudError> {
        let request = Request::get(Service::Contrabass, self.contrabass_endpoint()?);
        let answer = self.contrabass.call(&request);
        let answer = answer.map_err(|error| CloudError::transport(Step::Contrabass, &error))?;
        Ok(answer.status)
    }

    /// The subnet that is meant, and its network's MTU.
    pub(crate) fn probe_subnet(
        &self,
        login: &Login,
        project_id: &str,
        selector: &SubnetSelector,
    ) -> Result<(Subnet, u32), CloudError> {
        let neutron = self.neutron(login)?;
        let subnet = match selector {
            SubnetSelector::Id(id) => neutron.subnet_by_id(id)?,
            SubnetSelector::Name(name) => neutron.subnet_by_name(project_id, name)?,
        };
        let mtu = neutron.network(&subnet.network_id)?.mtu?;
        Ok((subnet, mtu))
    }
}
