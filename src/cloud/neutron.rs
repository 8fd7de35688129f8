//! Neutron: the subnet, its network, and the ports of the VMs (docs/behaviour.md#subnet, #ports).
//!
//! Two habits of Neutron shape this file. An admin's token sees every project and filters compare
//! without regard to case, so every answer is compared again. And a list may be cut into pages
//! whether or not that was asked for, so [`PortsByVm`] is returned only once every page came.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use serde::Deserialize;

use super::answer;
use super::error::{CloudError, Step};
use super::service::{Link, TokenService};
use crate::http::client::{Answer, Client, Service};
use crate::http::url::{path_segment, query_value};
use crate::node_config::SharedTexts;
use crate::secret::Secret;

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
                           &fields=binding:vif_type";

/// How to reach Neutron with a token. Clones share all of it.
#[derive(Clone)]
pub struct Neutron {
    /// The client.
    pub client: Arc<Client>,
    /// URL that ends in `/v2.0`.
    pub endpoint: Arc<str>,
    /// The token.
    pub token: Arc<Secret>,
}

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
    /// Neutron couldn't bind it to the host of its VM. Only an admin is told.
    pub binding_failed: bool,
}

/// The ports of each VM that was asked for, ordered by id, or why one of them can't be read.
/// [`Neutron::ports`] returns it only when each page of the list came.
pub(crate) type PortsByVm = HashMap<String, Result<Vec<Port>, CloudError>>;

#[derive(Deserialize)]
struct SubnetBody {
    subnet: Subnet,
}

#[derive(Deserialize)]
struct SubnetPage {
    subnets: Vec<Subnet>,
    #[serde(default)]
    subnets_links: Option<Vec<Link>>,
}

#[derive(Deserialize)]
struct NetworkBody {
    network: GivenNetwork,
}

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

#[derive(Deserialize)]
struct PortPage<'a> {
    #[serde(borrow)]
    ports: Vec<GivenPort<'a>>,
    #[serde(default)]
    ports_links: Option<Vec<Link>>,
}

/// A port as the answer has it; its texts are borrowed from there.
#[derive(Deserialize)]
struct GivenPort<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    device_id: Option<Text<'a>>,
    mac_address: Option<Text<'a>>,
    status: Option<Text<'a>>,
    network_id: Option<Text<'a>>,
    #[serde(default)]
    fixed_ips: Option<Vec<FixedIp<'a>>>,
    #[serde(default)]
    project_id: Option<Text<'a>>,
    #[serde(default)]
    tenant_id: Option<Text<'a>>,
    #[serde(default, rename = "binding:vif_type")]
    vif_type: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct FixedIp<'a> {
    #[serde(borrow)]
    subnet_id: Text<'a>,
    ip_address: Text<'a>,
}

/// Borrowed unless it has escapes. By itself a `Cow` in an `Option` would never be borrowed.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Ids compare without regard to case; nearly always they are spelled alike, which is told faster.
pub(crate) fn same(left: &str, right: &str) -> bool {
    left == right || left.eq_ignore_ascii_case(right)
}

/// Where neither key is there, the `project_id` in the question has to do.
fn in_project(project: Option<&str>, tenant: Option<&str>, wanted: &str) -> bool {
    project.or(tenant).is_none_or(|owner| same(owner, wanted))
}

impl Neutron {
    /// A subnet by its id, whichever project it belongs to: shared networks belong to others.
    pub fn subnet_by_id(&self, id: &str) -> Result<Subnet, CloudError> {
        let url = format!("{}/subnets/{}", self.endpoint, path_segment(id));
        let answer = self.service().get(&url, Step::Subnet)?;
        if is_not_found(&answer, "SubnetNotFound") {
            return Err(answer::refused(&answer, Step::SubnetNotFound));
        }
        let body: SubnetBody = answer::read(&answer, Step::Subnet)?;
        if !same(&body.subnet.id, id) {
            let what = format!("answered with subnet {}", body.subnet.id);
            return Err(answer::wrong(&answer, Step::Subnet, &what));
        }
        Ok(body.subnet)
    }

    /// The one subnet of that name in the project.
    pub fn subnet_by_name(&self, project_id: &str, name: &str) -> Result<Subnet, CloudError> {
        let url = format!(
            "{}/subnets?project_id={}&name={}",
            self.endpoint,
            query_value(project_id),
            query_value(name)
        );
        let is_meant = |subnet: &Subnet| {
            let Subnet { project_id: project, tenant_id: tenant, .. } = subnet;
            subnet.name.as_deref() == Some(name)
                && in_project(project.as_deref(), tenant.as_deref(), project_id)
        };
        let take = |answer: &Answer, found: &mut BTreeMap<Arc<str>, Subnet>| {
            let page: SubnetPage = answer::read(answer, Step::Subnet)?;
            let of_that_name = page.subnets.into_iter().filter(is_meant);
            found.extend(of_that_name.map(|subnet| (subnet.id.clone(), subnet)));
            Ok(page.subnets_links)
        };
        let mut found = self.service().pages(&url, Step::Subnet, take)?;
        match (found.len(), found.pop_first()) {
            (1, Some((_, subnet))) => Ok(subnet),
            (count, Some((first, _))) => {
                let ids: Vec<Arc<str>> = std::iter::once(first).chain(found.into_keys()).collect();
                let what = format!(
                    "project {project_id} has {count} subnets named {name:?}: {}; \
                     set spec.subnetID to the one that is meant",
                    ids.join(", ")
                );
                Err(self.service().wrong(&url, Step::SubnetNotUnique, &what))
            }
            _ => {
                let what = format!("project {project_id} has no subnet named {name:?}");
                Err(self.service().wrong(&url, Step::SubnetNotFound, &what))
            }
        }
    }

    /// A network. One that doesn't exist has no subnets and no MTU.
    pub(crate) fn network(&self, network_id: &str) -> Result<Network, CloudError> {
        let url = format!("{}/networks/{}", self.endpoint, path_segment(network_id));
        let answer = self.service().get(&url, Step::Subnet)?;
        let wrong = |what: &str| answer::wrong(&answer, Step::Subnet, what);
        if is_not_found(&answer, "NetworkNotFound") {
            let mtu = Err(wrong("HTTP 404: there is no such network"));
            return Ok(Network { mtu, subnets: Vec::new() });
        }
        let NetworkBody { network } = answer::read(&answer, Step::Subnet)?;
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
    pub(crate) fn groups(&self, project_id: &str, vm_ids: &[&str]) -> Vec<Vec<String>> {
        let used = HEAD_BASE_BYTES
            + self.endpoint.len()
            + self.token.expose().len()
            + query_value(project_id).len()
            + PORT_FIELDS.len();
        let room = HEAD_LIMIT_BYTES.saturating_sub(used) / (DEVICE_ID_KEY.len() + UUID_LENGTH);
        let (uuids, others): (Vec<&str>, Vec<&str>) = vm_ids.iter().partition(|id| is_uuid(id));
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<String>>();
        let shared = uuids.chunks(room.clamp(1, MAX_DEVICE_IDS)).map(owned);
        shared.chain(others.chunks(1).map(owned)).collect()
    }

    /// Every port of these VMs (lower-case ids, none blank) in the project; one request a page.
    pub(crate) fn ports(
        &self,
        project_id: &str,
        vm_ids: &[String],
    ) -> Result<PortsByVm, CloudError> {
        let mut url = format!("{}/ports?project_id={}", self.endpoint, query_value(project_id));
        for vm_id in vm_ids {
            url.push_str(DEVICE_ID_KEY);
            url.push_str(&query_value(vm_id));
        }
        url.push_str(PORT_FIELDS);
        let mut texts = SharedTexts::default();
        let take = |answer: &Answer, found: &mut PortsByVm| {
            let page: PortPage<'_> = answer::read(answer, Step::Ports)?;
            for given in page.ports {
                let project =
                    in_project(given.project_id.as_deref(), given.tenant_id.as_deref(), project_id);
                // Whose port it is can't be said, so nothing can be said of any of these VMs.
                let device_id = given
                    .device_id
                    .as_deref()
                    .ok_or_else(|| answer::wrong(answer, Step::Ports, "a port has no device_id"))?;
                let device_id = device_id.to_ascii_lowercase();
                if !project || !vm_ids.contains(&device_id) {
                    continue;
                }
                let ports = found.entry(device_id).or_insert_with(|| Ok(Vec::new()));
                match (port(&given, &mut texts), &mut *ports) {
                    (Ok(port), Ok(ports)) => ports.push(port),
                    (Err(what), _) => {
                        *ports = Err(answer::wrong(answer, Step::Ports, &what));
                    }
                    (Ok(_), Err(_)) => {}
                }
            }
            Ok(page.ports_links)
        };
        let mut found = self.service().pages(&url, Step::Ports, take)?;
        for vm_id in vm_ids {
            let ports = found.entry(vm_id.clone()).or_insert_with(|| Ok(Vec::new()));
            if let Ok(ports) = ports {
                *ports = each_once(std::mem::take(ports));
            }
        }
        Ok(found)
    }

    fn service(&self) -> TokenService<'_> {
        let Neutron { client, token, .. } = self;
        TokenService { service: Service::Neutron, client, token }
    }
}

/// Each port once, ordered by id: of one that came twice, because rows moved between two pages, the
/// later answer.
fn each_once(mut ports: Vec<Port>) -> Vec<Port> {
    ports.sort_by(|left, right| left.id.cmp(&right.id));
    ports.dedup_by(|later, kept| {
        let twice = later.id == kept.id;
        if twice {
            std::mem::swap(later, kept);
        }
        twice
    });
    ports
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
fn port(given: &GivenPort<'_>, texts: &mut SharedTexts) -> Result<Port, String> {
    let id = given.id.as_deref().unwrap_or_default();
    let fail = |what: String| format!("port {id}: {what}");
    if id.is_empty() {
        return Err("a port has no id".to_owned());
    }
    let given_mac = given.mac_address.as_deref().unwrap_or_default();
    let mac_address = given_mac.trim().to_ascii_lowercase();
    if !is_mac_address(&mac_address) {
        return Err(fail(format!("{given_mac:?} is no MAC address")));
    }
    let network_id =
        given.network_id.as_deref().ok_or_else(|| fail("it has no network_id".to_owned()))?;
    let mut fixed_ips = Vec::with_capacity(given.fixed_ips.as_ref().map_or(0, Vec::len));
    for fixed_ip in given.fixed_ips.iter().flatten() {
        let text = fixed_ip.ip_address.trim();
        let address: IpAddr =
            text.parse().map_err(|_| fail(format!("{text:?} is no IP address")))?;
        fixed_ips.push((texts.shared(&fixed_ip.subnet_id), address));
    }
    let status = given.status.as_deref().unwrap_or_default().trim().to_ascii_uppercase();
    Ok(Port {
        mac_address,
        status: texts.shared(&status),
        network_id: texts.shared(network_id),
        fixed_ips,
        binding_failed: given.vif_type.as_deref() == Some("binding_failed"),
        id: id.to_owned(),
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
    use super::{Port, each_once, is_mac_address, is_uuid};

    #[test]
    fn a_port_that_came_twice_is_there_once_as_it_came_last() {
        let port = |id: &str, status: &str| Port {
            id: id.to_owned(),
            mac_address: "fa:16:3e:00:00:01".to_owned(),
            status: status.into(),
            network_id: "network".into(),
            fixed_ips: Vec::new(),
            binding_failed: false,
        };
        let all = each_once(vec![port("b", "BUILD"), port("a", "DOWN"), port("b", "ACTIVE")]);
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
