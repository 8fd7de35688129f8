//! Neutron: the subnet, its network, and the ports of the VMs (SPEC 5, steps 6 and 7).
//!
//! Two habits of Neutron shape this file. An admin's token sees every project and filters compare
//! without regard to case, so every answer is compared again. And a list may be cut into pages
//! whether or not that was asked for, so [`AllPorts`] can only be had once every page came.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use serde::Deserialize;

use super::answer;
use super::error::{CloudError, Step};
use super::service::{Link, TokenService};
use crate::http::client::{Answer, Client, Service};
use crate::http::url::{path_segment, query_value};
use crate::secret::Secret;
use crate::shared_texts::SharedTexts;

/// The strictest common front end (uwsgi's default buffer) takes 4,096 bytes of request head and
/// closes the connection on anything larger, which looks like a network failure.
const HEAD_LIMIT_BYTES: usize = 3_600;
/// Before each VM's id.
const DEVICE_ID_KEY: &str = "&device_id=";
/// Fits every front end that was measured.
const MAX_DEVICE_IDS: usize = 50;
/// Request line, `Host`, `Accept`, `User-Agent`, header names, line ends and a page's marker,
/// generously.
const HEAD_BASE_BYTES: usize = 400;
/// Only what is used; an answer shrinks to a quarter.
const PORT_FIELDS: &str = "&fields=id&fields=device_id&fields=mac_address&fields=status\
                           &fields=network_id&fields=fixed_ips&fields=project_id&fields=tenant_id";

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
    /// The VM it belongs to, in lower case.
    pub device_id: Arc<str>,
    /// In lower case.
    pub mac_address: String,
    /// In upper case: ACTIVE, DOWN, BUILD, ERROR, ...
    pub status: Arc<str>,
    /// The network it is on.
    pub network_id: Arc<str>,
    /// Its addresses by subnet, in no particular order.
    pub fixed_ips: Vec<(Arc<str>, IpAddr)>,
}

/// Every port of the VMs that were asked for. [`Neutron::ports`] makes one when each page of its
/// request came, and [`AllPorts::all`] of those when each request did: planning from half an answer
/// is impossible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllPorts(Vec<Port>);

impl AllPorts {
    /// The ports, ordered by id.
    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.0.iter()
    }

    /// Puts the answers to several requests together; one failure fails the whole.
    pub fn all(parts: Vec<Result<AllPorts, CloudError>>) -> Result<AllPorts, CloudError> {
        let mut whole = Vec::new();
        for part in parts {
            whole.append(&mut part?.0);
        }
        Ok(AllPorts::sorted(whole))
    }

    /// Each port once: of one that came twice, because rows moved between two pages, the later
    /// answer.
    fn sorted(mut ports: Vec<Port>) -> AllPorts {
        ports.sort_by(|left, right| left.id.cmp(&right.id));
        ports.dedup_by(|later, kept| {
            let twice = later.id == kept.id;
            if twice {
                std::mem::swap(later, kept);
            }
            twice
        });
        AllPorts(ports)
    }

    /// For tests of what is decided from ports.
    #[cfg(test)]
    pub fn of(ports: Vec<Port>) -> AllPorts {
        AllPorts::sorted(ports)
    }
}

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
    network: Network,
}

/// A network, as far as nodes are concerned.
#[derive(Clone, Debug, Deserialize)]
pub struct Network {
    id: String,
    #[serde(default)]
    mtu: Option<u32>,
    #[serde(default)]
    subnets: Option<Vec<String>>,
}

impl Network {
    /// Its MTU, in bytes; none if Neutron doesn't tell. Some releases write 0 for that.
    pub fn mtu(&self) -> Option<u32> {
        self.mtu.filter(|mtu| *mtu > 0)
    }

    /// Does it say that the subnet is one of its own?
    pub fn lists(&self, subnet_id: &str) -> bool {
        self.subnets.iter().flatten().any(|id| same(id, subnet_id))
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
    id: Text<'a>,
    device_id: Option<Text<'a>>,
    mac_address: Text<'a>,
    status: Option<Text<'a>>,
    network_id: Text<'a>,
    #[serde(default)]
    fixed_ips: Option<Vec<FixedIp<'a>>>,
    #[serde(default)]
    project_id: Option<Text<'a>>,
    #[serde(default)]
    tenant_id: Option<Text<'a>>,
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

    /// A network; none if Neutron says that there is no such network.
    pub fn network(&self, network_id: &str) -> Result<Option<Network>, CloudError> {
        let url = self.network_url(network_id);
        let answer = self.service().get(&url, Step::Subnet)?;
        if is_not_found(&answer, "NetworkNotFound") {
            return Ok(None);
        }
        let body: NetworkBody = answer::read(&answer, Step::Subnet)?;
        if !same(&body.network.id, network_id) {
            let what = format!("answered with network {}", body.network.id);
            return Err(answer::wrong(&answer, Step::Subnet, &what));
        }
        Ok(Some(body.network))
    }

    /// The MTU that this answer of [`Neutron::network`] gives; a made-up one would break the node's
    /// traffic.
    pub fn mtu_in(&self, network_id: &str, network: Option<&Network>) -> Result<u32, CloudError> {
        let network = network
            .ok_or_else(|| self.wrong_network(network_id, "HTTP 404: there is no such network"))?;
        network.mtu().ok_or_else(|| self.wrong_network(network_id, "the network has no MTU"))
    }

    fn network_url(&self, network_id: &str) -> String {
        format!("{}/networks/{}", self.endpoint, path_segment(network_id))
    }

    fn wrong_network(&self, network_id: &str, what: &str) -> CloudError {
        self.service().wrong(&self.network_url(network_id), Step::Subnet, what)
    }

    /// The VMs in groups, each small enough for one request: the head stays within the limit,
    /// however long ids and token are. An id that is too long beside them goes alone.
    pub fn groups<'a>(&self, project_id: &str, vm_ids: &'a [String]) -> Vec<&'a [String]> {
        let used = HEAD_BASE_BYTES
            + self.endpoint.len()
            + self.token.expose().len()
            + query_value(project_id).len()
            + PORT_FIELDS.len();
        let room = HEAD_LIMIT_BYTES.saturating_sub(used);
        let (mut groups, mut rest) = (Vec::new(), vm_ids);
        while !rest.is_empty() {
            let (group, others) = rest.split_at(how_many_fit(rest, room));
            groups.push(group);
            rest = others;
        }
        groups
    }

    /// Every port of these VMs (lower-case ids, none blank) in the project; one request a page.
    pub fn ports(&self, project_id: &str, vm_ids: &[String]) -> Result<AllPorts, CloudError> {
        let wanted: BTreeMap<&str, Arc<str>> = vm_ids
            .iter()
            .filter(|id| !id.trim().is_empty())
            .map(|id| (id.as_str(), Arc::from(id.as_str())))
            .collect();
        if wanted.is_empty() {
            return Ok(AllPorts(Vec::new()));
        }
        let mut url = format!("{}/ports?project_id={}", self.endpoint, query_value(project_id));
        for vm_id in wanted.keys() {
            url.push_str(DEVICE_ID_KEY);
            url.push_str(&query_value(vm_id));
        }
        url.push_str(PORT_FIELDS);
        let mut texts = SharedTexts::default();
        let take = |answer: &Answer, found: &mut Vec<Port>| {
            let page: PortPage<'_> = answer::read(answer, Step::Ports)?;
            found.reserve(page.ports.len());
            for given in page.ports {
                let project =
                    in_project(given.project_id.as_deref(), given.tenant_id.as_deref(), project_id);
                let device_id = given.device_id.as_deref().unwrap_or_default().to_ascii_lowercase();
                if project && let Some(device_id) = wanted.get(device_id.as_str()) {
                    let wrong = |what: String| answer::wrong(answer, Step::Ports, &what);
                    found.push(port(&given, device_id, &mut texts).map_err(wrong)?);
                }
            }
            Ok(page.ports_links)
        };
        self.service().pages(&url, Step::Ports, take).map(AllPorts::sorted)
    }

    fn service(&self) -> TokenService<'_> {
        let Neutron { client, token, .. } = self;
        TokenService { service: Service::Neutron, client, token }
    }
}

/// How many of the first VMs' ids fit into so much room in a URL; one at least, and no more than
/// every front end takes.
fn how_many_fit(vm_ids: &[String], room: usize) -> usize {
    let sizes = vm_ids.iter().map(|id| DEVICE_ID_KEY.len() + query_value(id).len());
    let ends = sizes.scan(0, |end, size| {
        *end += size;
        Some(*end)
    });
    ends.take(MAX_DEVICE_IDS).take_while(|end| *end <= room).count().max(1)
}

/// The port, or what is wrong with it.
fn port(
    given: &GivenPort<'_>,
    device_id: &Arc<str>,
    texts: &mut SharedTexts,
) -> Result<Port, String> {
    let fail = |what: String| format!("port {}: {what}", &*given.id);
    let mac_address = given.mac_address.trim().to_ascii_lowercase();
    if !is_mac_address(&mac_address) {
        return Err(fail(format!("{:?} is no MAC address", &*given.mac_address)));
    }
    let mut fixed_ips = Vec::with_capacity(given.fixed_ips.as_ref().map_or(0, Vec::len));
    for fixed_ip in given.fixed_ips.iter().flatten() {
        let text = fixed_ip.ip_address.trim();
        let address: IpAddr =
            text.parse().map_err(|_| fail(format!("{text:?} is no IP address")))?;
        fixed_ips.push((texts.shared(&fixed_ip.subnet_id), address));
    }
    let status = given.status.as_deref().unwrap_or_default().trim().to_ascii_uppercase();
    Ok(Port {
        device_id: Arc::clone(device_id),
        mac_address,
        status: texts.shared(&status),
        network_id: texts.shared(&given.network_id),
        fixed_ips,
        id: given.id.to_owned(),
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
    use super::{AllPorts, Port, is_mac_address};

    #[test]
    fn a_port_that_came_twice_is_there_once_as_it_came_last() {
        let port = |id: &str, status: &str| Port {
            id: id.to_owned(),
            device_id: "vm".into(),
            mac_address: "fa:16:3e:00:00:01".to_owned(),
            status: status.into(),
            network_id: "network".into(),
            fixed_ips: Vec::new(),
        };
        let first = AllPorts::of(vec![port("b", "BUILD"), port("a", "DOWN"), port("b", "ACTIVE")]);
        let all = AllPorts::all(vec![Ok(first), Ok(AllPorts::of(vec![port("a", "ACTIVE")]))]);
        let all: Vec<Port> = all.unwrap().iter().cloned().collect();
        assert_eq!(all, vec![port("a", "ACTIVE"), port("b", "ACTIVE")]);
    }

    #[test]
    fn a_mac_address_has_six_bytes() {
        assert!(is_mac_address("fa:16:3e:cd:62:6a"));
        for text in ["", "fa:16:3e:cd:62", "fa:16:3e:cd:62:6a:00", "fa:16:3e:cd:62:6g", "fa-16"] {
            assert!(!is_mac_address(text), "{text}");
        }
    }
}
