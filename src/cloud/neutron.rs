//! Neutron: the subnet, its network, and the ports of the VMs (docs/behaviour.md#subnet, #ports).
//!
//! Two habits of Neutron shape this file. An admin's token sees every project and filters compare
//! without regard to case, so every answer is compared again. And a list may be cut into pages
//! whether or not that was asked for, so [`PortsByVm`] is returned only once every page came.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::answer;
use super::error::{CloudError, Step};
use super::service::{TokenService, content};
use crate::http::client::Answer;
use crate::http::url::{path_segment, query_value};
use crate::node_config::SharedTexts;
use crate::resources::SubnetSelector;

/// The strictest common front end (uwsgi's default buffer) takes 4,096 bytes of request head and
/// closes the connection on anything larger, which looks like a network failure.
const HEAD_LIMIT_BYTES: usize = 3_600;
/// Characters of a UUID.
const UUID_LENGTH: usize = 36;
/// Before each VM's id.
const DEVICE_ID_KEY: &str = "&device_id=";
/// Fits every front end that was measured.
const MAX_DEVICE_IDS: usize = 50;
/// Request line, `Host`, `Accept`, `User-Agent`, header names, line ends and a page's marker,
/// generously.
const HEAD_BASE_BYTES: usize = 400;
/// Only what is used; an answer shrinks to a quarter.
const PORT_FIELDS: &str = "&fields=id&fields=device_id&fields=mac_address&fields=status\
                           &fields=network_id&fields=fixed_ips&fields=project_id&fields=tenant_id\
                           &fields=binding:vif_type&fields=created_at&fields=tags";

/// Neutron, its URL ending in `/v2.0`.
#[derive(Clone)]
pub(crate) struct Neutron(pub(super) TokenService);

/// A subnet, as far as nodes are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Subnet {
    /// Its id.
    pub id: Arc<str>,
    /// The network it belongs to.
    pub network_id: Arc<str>,
    /// Its range.
    pub cidr: Arc<str>,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    project_id: Option<String>,
    #[serde(default)]
    tenant_id: Option<String>,
}

/// A port, as far as nodes are concerned. What many ports have in common they share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its id.
    pub id: String,
    /// In lower case.
    pub mac_address: String,
    /// In upper case: ACTIVE, DOWN, BUILD, ERROR, ...
    pub status: Arc<str>,
    /// The network it is on.
    pub network_id: Arc<str>,
    /// Its addresses by subnet, in no particular order.
    pub fixed_ips: Vec<(Arc<str>, IpAddr)>,
    /// Neutron couldn't bind it to the host of its VM. Only an admin's token shows it.
    pub binding_failed: bool,
    /// Absent where Neutron doesn't say it, or not in a way that can be read.
    pub created_at: Option<Timestamp>,
    /// Its tags.
    pub tags: Vec<Arc<str>>,
}

/// The ports of each VM that was asked for, ordered by id, or why one of them can't be read.
/// [`Neutron::ports`] returns it only when each page of the list came.
pub(crate) type PortsByVm = HashMap<String, Result<Vec<Port>, CloudError>>;

#[derive(Deserialize)]
struct GivenNetwork {
    id: String,
    #[serde(default)]
    mtu: Option<u32>,
    #[serde(default)]
    subnets: Option<Vec<String>>,
}

/// A network, as far as nodes are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// In bytes, or why it isn't known: an invented one would break the node's traffic.
    pub(crate) mtu: Result<u32, CloudError>,
    subnets: Vec<String>,
}

impl Network {
    /// Is the subnet one of the network's?
    pub(crate) fn lists(&self, subnet_id: &str) -> bool {
        self.subnets.iter().any(|id| same(id, subnet_id))
    }
}

/// A port as the answer has it.
#[derive(Deserialize)]
struct GivenPort {
    id: Option<String>,
    device_id: Option<String>,
    mac_address: Option<String>,
    status: Option<String>,
    network_id: Option<String>,
    fixed_ips: Option<Vec<FixedIp>>,
    project_id: Option<String>,
    tenant_id: Option<String>,
    #[serde(rename = "binding:vif_type")]
    vif_type: Option<String>,
    created_at: Option<String>,
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct FixedIp {
    subnet_id: String,
    ip_address: String,
}

/// Ids compare without regard to case; nearly always they are spelled alike, which is seen faster.
pub(crate) fn same(left: &str, right: &str) -> bool {
    left == right || left.eq_ignore_ascii_case(right)
}

impl Neutron {
    /// Its URL.
    pub(crate) fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// The subnet that is meant. One that is named by its id may belong to any project: shared
    /// networks belong to others.
    pub(crate) fn subnet(&self, selector: &SubnetSelector) -> Result<Subnet, CloudError> {
        match selector {
            SubnetSelector::Id(id) => self.subnet_by_id(id),
            SubnetSelector::Name(name) => self.subnet_by_name(name),
        }
    }

    fn subnet_by_id(&self, id: &str) -> Result<Subnet, CloudError> {
        let answer = self.0.get(&format!("/subnets/{}", path_segment(id)), Step::Subnet)?;
        if is_not_found(&answer, "SubnetNotFound") {
            return Err(answer::refused(&answer, Step::SubnetNotFound));
        }
        let subnet: Subnet = content(&answer, Step::Subnet, "subnet")?;
        if !same(&subnet.id, id) {
            let what = format!("answered with subnet {}", subnet.id);
            return Err(answer::wrong(&answer, Step::Subnet, &what));
        }
        Ok(subnet)
    }

    /// The one subnet of that name in the project.
    fn subnet_by_name(&self, name: &str) -> Result<Subnet, CloudError> {
        let project_id = &*self.0.project_id;
        let (project, quoted) = (query_value(project_id), query_value(name));
        let path = format!("/subnets?project_id={project}&name={quoted}");
        let is_meant = |subnet: &Subnet| {
            subnet.name.as_deref() == Some(name)
                && self.owns(subnet.project_id.as_ref(), subnet.tenant_id.as_ref())
        };
        let keep = |subnet: Subnet, _: &Answer| Ok(Some(subnet).filter(is_meant));
        let found = self.0.list(&path, Step::Subnet, keep)?.into_iter();
        let mut found: BTreeMap<Arc<str>, Subnet> =
            found.map(|subnet| (Arc::clone(&subnet.id), subnet)).collect();
        let ids = Vec::from_iter(found.keys().cloned()).join(", ");
        let (step, what) = match (found.len(), found.pop_first()) {
            (1, Some((_, subnet))) => return Ok(subnet),
            (0, _) => {
                let what = format!("project {project_id} has no subnet named {name:?}");
                (Step::SubnetNotFound, what)
            }
            (count, _) => {
                let what = format!(
                    "project {project_id} has {count} subnets named {name:?}: {ids}; \
                     set spec.subnetID to the one that is meant"
                );
                (Step::SubnetNotUnique, what)
            }
        };
        Err(self.0.wrong(&path, step, &what))
    }

    /// A network. One that doesn't exist has no subnets and no MTU.
    pub(crate) fn network(&self, network_id: &str) -> Result<Network, CloudError> {
        let answer =
            self.0.get(&format!("/networks/{}", path_segment(network_id)), Step::Subnet)?;
        let wrong = |what: &str| answer::wrong(&answer, Step::Subnet, what);
        if is_not_found(&answer, "NetworkNotFound") {
            let mtu = Err(wrong("HTTP 404: there is no such network"));
            return Ok(Network { mtu, subnets: Vec::new() });
        }
        let network: GivenNetwork = content(&answer, Step::Subnet, "network")?;
        if !same(&network.id, network_id) {
            return Err(wrong(&format!("answered with network {}", network.id)));
        }
        // Some releases write 0 for an MTU that isn't known.
        let mtu = network.mtu.filter(|mtu| *mtu > 0);
        let mtu = mtu.ok_or_else(|| wrong("the network has no MTU"));
        Ok(Network { mtu, subnets: network.subnets.unwrap_or_default() })
    }

    /// The VMs in groups, each small enough for one request: the head stays within the limit,
    /// however long ids and token are. An id that isn't a UUID goes alone: what Neutron answers to
    /// it concerns no other VM.
    pub(crate) fn groups(&self, vm_ids: &[&str]) -> Vec<Vec<String>> {
        let used = HEAD_BASE_BYTES
            + self.0.endpoint.len()
            + self.0.token.expose().len()
            + query_value(&self.0.project_id).len()
            + PORT_FIELDS.len();
        let fitting = HEAD_LIMIT_BYTES.saturating_sub(used) / (DEVICE_ID_KEY.len() + UUID_LENGTH);
        let (uuids, others): (Vec<&str>, Vec<&str>) = vm_ids.iter().partition(|id| is_uuid(id));
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<String>>();
        let shared = uuids.chunks(fitting.clamp(1, MAX_DEVICE_IDS)).map(owned);
        shared.chain(others.chunks(1).map(owned)).collect()
    }

    /// Every port of these VMs (lower-case ids, none blank) in the project; one request a page.
    pub(crate) fn ports(&self, vm_ids: &[String]) -> Result<PortsByVm, CloudError> {
        let ids: String =
            vm_ids.iter().map(|id| format!("{DEVICE_ID_KEY}{}", query_value(id))).collect();
        let project = query_value(&self.0.project_id);
        let path = format!("/ports?project_id={project}{ids}{PORT_FIELDS}");
        let mut texts = SharedTexts::default();
        let keep = |mut given: GivenPort, answer: &Answer| {
            let wrong = |what: &str| answer::wrong(answer, Step::Ports, what);
            // Which VM has it isn't known, so nothing is known of any of these VMs.
            let vm_id = given.device_id.take().ok_or_else(|| wrong("a port has no device_id"));
            let mut vm_id = vm_id?;
            vm_id.make_ascii_lowercase();
            let is_meant = self.owns(given.project_id.as_ref(), given.tenant_id.as_ref())
                && vm_ids.contains(&vm_id);
            Ok(is_meant.then(|| (vm_id, port(given, &mut texts).map_err(|what| wrong(&what)))))
        };
        let mut found: PortsByVm = vm_ids.iter().map(|id| (id.clone(), Ok(Vec::new()))).collect();
        for (vm_id, port) in self.0.list(&path, Step::Ports, keep)? {
            match (found.get_mut(&vm_id), port) {
                (Some(Ok(ports)), Ok(port)) => ports.push(port),
                (Some(ports), Err(error)) => *ports = Err(error),
                _ => {}
            }
        }
        found.values_mut().flatten().for_each(keep_last_of_each);
        Ok(found)
    }

    /// Is this the owner's project? Where neither key is there, the `project_id` in the request has
    /// to do.
    fn owns(&self, project: Option<&String>, tenant: Option<&String>) -> bool {
        project.or(tenant).is_none_or(|owner| same(owner, &self.0.project_id))
    }
}

/// Each port once, ordered by id: of one that came twice, because rows moved between two pages, the
/// later answer.
fn keep_last_of_each(ports: &mut Vec<Port>) {
    ports.reverse();
    ports.sort_by(|left, right| left.id.cmp(&right.id));
    ports.dedup_by(|left, right| left.id == right.id);
}

/// Is it a UUID, with dashes?
pub(crate) fn is_uuid(text: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == UUID_LENGTH && text.bytes().enumerate().all(fits)
}

/// The port, or what is wrong with it.
fn port(given: GivenPort, texts: &mut SharedTexts) -> Result<Port, String> {
    let id = given.id.filter(|id| !id.is_empty()).ok_or("a port has no id")?;
    let given_mac = given.mac_address.unwrap_or_default();
    let mac_address = given_mac.trim().to_ascii_lowercase();
    if !is_mac_address(&mac_address) {
        return Err(format!("port {id}: {given_mac:?} is no MAC address"));
    }
    let network_id = given.network_id.ok_or_else(|| format!("port {id}: it has no network_id"))?;
    let fixed_ips = given.fixed_ips.unwrap_or_default().into_iter().map(|fixed_ip| {
        let text = fixed_ip.ip_address.trim();
        let address = text.parse().map_err(|_| format!("port {id}: {text:?} is no IP address"))?;
        Ok((texts.shared(&fixed_ip.subnet_id), address))
    });
    let fixed_ips = fixed_ips.collect::<Result<_, String>>()?;
    let mut status = given.status.unwrap_or_default();
    status.make_ascii_uppercase();
    Ok(Port {
        mac_address,
        status: texts.shared(status.trim()),
        network_id: texts.shared(&network_id),
        fixed_ips,
        created_at: given.created_at.and_then(|time| time.trim().parse().ok()),
        tags: given.tags.unwrap_or_default().iter().map(|tag| texts.shared(tag)).collect(),
        binding_failed: given.vif_type.as_deref() == Some("binding_failed"),
        id,
    })
}

fn is_mac_address(text: &str) -> bool {
    let fits = |(index, byte): (usize, u8)| match index % 3 {
        2 => byte == b':',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 17 && text.bytes().enumerate().all(fits)
}

/// A 404 of Neutron's own, `{"NeutronError": {"type": "SubnetNotFound", ...}}`: that of a mistyped
/// path says `HTTPNotFound` instead, and doesn't mean that the object is gone.
fn is_not_found(answer: &Answer, kind: &str) -> bool {
    let body = || serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
    answer.status == 404 && body().is_some_and(|body| body["NeutronError"]["type"] == kind)
}

#[cfg(test)]
mod tests {
    use super::{Port, is_mac_address, is_uuid, keep_last_of_each};

    #[test]
    fn a_port_that_came_twice_is_there_once_as_it_came_last() {
        let port = |id: &str, status: &str| Port {
            id: id.to_owned(),
            mac_address: "fa:16:3e:00:00:01".to_owned(),
            status: status.into(),
            network_id: "network".into(),
            fixed_ips: Vec::new(),
            binding_failed: false,
            created_at: None,
            tags: Vec::new(),
        };
        let mut all = vec![port("b", "BUILD"), port("a", "DOWN"), port("b", "ACTIVE")];
        keep_last_of_each(&mut all);
        assert_eq!(all, [port("a", "DOWN"), port("b", "ACTIVE")]);
    }

    #[test]
    fn a_uuid_has_its_dashes_in_their_places() {
        assert!(is_uuid("0a1b2c3d-0000-4000-8000-00000000000F"));
        for text in
            ["", "vm-1", "0a1b2c3d00004000800000000000000F", "0a1b2c3d-0000-4000-8000-00000000000g"]
        {
            assert!(!is_uuid(text), "{text}");
        }
    }

    #[test]
    fn a_mac_address_has_six_bytes() {
        assert!(is_mac_address("fa:16:3e:cd:62:6a"));
        for text in ["", "fa:16:3e:cd:62", "fa:16:3e:cd:62:6a:00", "fa:16:3e:cd:62:6g", "fa-16"] {
            assert!(!is_mac_address(text), "{text}");
        }
    }
}
