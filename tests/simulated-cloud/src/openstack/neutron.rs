//! Neutron: ports, subnets and networks, to be listed and shown.
//!
//! Filters, pages, links and error bodies as the real one's. Nothing can be written.

mod listing;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    Refusal, authenticate, below_prefix, keystone_challenge, public_base, request_id,
    uwsgi_response,
};
use crate::pseudo_random::random_hex;
use crate::state::{CloudState, Network, Port, SharedState, Subnet, Token};
use crate::wire::{Body, Framing, Handler, Limits, Request, Response};

const CREATED_AT: &str = "2026-11-22T20:45:28Z";
const UPDATED_AT: &str = "2026-11-22T20:45:42Z";

pub struct Neutron {
    state: Arc<SharedState>,
}

impl Neutron {
    pub fn new(state: Arc<SharedState>) -> Arc<Neutron> {
        Arc::new(Neutron { state })
    }
}

impl Handler for Neutron {
    fn handle(&self, request: &Request) -> Response {
        let state = self.state.lock();
        let prefix = &state.settings.neutron_prefix;
        let Some(path) = below_prefix(&request.path, prefix) else {
            return html_not_found(&state);
        };
        let base = format!("{}{prefix}", public_base(request));
        if path.is_empty() || path == "/" {
            return versions(&state, &base);
        }
        let Some(below_version) = below_prefix(path, "/v2.0") else {
            return html_not_found(&state);
        };
        let token = match authenticate(&state, request) {
            Ok(token) => token,
            Err(refusal) => return refused(&state, &refusal),
        };
        let asked = Asked { state: &state, token, request, base: &base };
        asked.answer(below_version)
    }

    fn limits(&self) -> Limits {
        let state = self.state.lock();
        if state.settings.neutron_uwsgi {
            return Limits { request_line: None, head: Some(state.settings.uwsgi_head_limit) };
        }
        Limits { request_line: Some(state.settings.neutron_request_line_limit), head: None }
    }
}

/// A request with a valid token.
struct Asked<'a> {
    state: &'a CloudState,
    token: &'a Token,
    request: &'a Request,
    base: &'a str,
}

impl Asked<'_> {
    fn answer(&self, path: &str) -> Response {
        if path == "/" {
            return json_answer(self.state, 200, &resources(self.base));
        }
        let path = path.strip_suffix(".json").unwrap_or(path);
        let mut segments = path.trim_start_matches('/').split('/');
        let (collection, id, rest) = (segments.next(), segments.next(), segments.next());
        if self.request.method != "GET" || rest.is_some() {
            return http_not_found(self.state);
        }
        match (collection, id) {
            (Some("ports"), None) => self.list_ports(),
            (Some("subnets"), None) => self.list(
                &listing::SUBNETS,
                self.state.subnets.iter().filter_map(|subnet| {
                    let visible = self.sees_subnet(subnet);
                    visible.then(|| self.subnet_body(subnet))
                }),
            ),
            (Some("networks"), None) => self.list(
                &listing::NETWORKS,
                self.state.networks.iter().filter_map(|network| {
                    let visible = self.sees_network(network);
                    visible.then(|| self.network_body(network))
                }),
            ),
            (Some("ports"), Some(id)) => {
                let port = self.state.ports.get(id);
                let port = port.filter(|port| self.owns(&port.project_id));
                self.show("port", "Port", id, port.map(|port| self.port_body(port)))
            }
            (Some("subnets"), Some(id)) => {
                let subnet = self.state.subnet(id);
                let subnet = subnet.filter(|subnet| self.sees_subnet(subnet));
                let body = subnet.map(|subnet| self.subnet_body(subnet));
                self.show("subnet", "Subnet", id, body)
            }
            (Some("networks"), Some(id)) => {
                let network = self.state.network(id);
                let network = network.filter(|network| self.sees_network(network));
                let body = network.map(|network| self.network_body(network));
                self.show("network", "Network", id, body)
            }
            _ => http_not_found(self.state),
        }
    }

    fn show(&self, key: &str, title: &str, id: &str, body: Option<Value>) -> Response {
        match body {
            Some(body) => json_answer(self.state, 200, &json!({key: self.with_fields(body)})),
            None => not_found(self.state, title, id),
        }
    }

    /// Ports, of which there may be thousands: those of the asked servers, if servers are asked.
    fn list_ports(&self) -> Response {
        let devices = listing::values_of(self.request, "device_id");
        let visible = |port: &&Port| self.owns(&port.project_id);
        if devices.is_empty() {
            let ports = self.state.ports.iter().filter(visible);
            return self.list(&listing::PORTS, ports.map(|port| self.port_body(port)));
        }
        let mut ports: Vec<&Port> = devices
            .iter()
            .flat_map(|device| self.state.ports.of_device(device.trim_end()))
            .filter(visible)
            .collect();
        ports.sort_by_key(|port| port.id.to_ascii_lowercase());
        ports.dedup_by(|one, other| one.id == other.id);
        self.list(&listing::PORTS, ports.into_iter().map(|port| self.port_body(port)))
    }

    fn list(&self, kind: &listing::Kind, entities: impl Iterator<Item = Value>) -> Response {
        let maximum = self.state.settings.pagination_max_limit;
        match listing::list(kind, self.request, self.base, maximum, entities) {
            Ok(mut body) => {
                if let Some(Value::Array(entities)) = body.get_mut(kind.collection) {
                    for entity in entities {
                        *entity = self.with_fields(entity.take());
                    }
                }
                json_answer(self.state, 200, &body)
            }
            Err(listing::Problem::BadRequest(kind, message)) => {
                json_answer(self.state, 400, &neutron_error(kind, &message))
            }
            Err(listing::Problem::MarkerGone(id)) => not_found(self.state, kind.title, &id),
        }
    }

    /// Only the asked fields; unknown ones are ignored.
    fn with_fields(&self, body: Value) -> Value {
        let fields = self.request.query_values("fields");
        match body {
            Value::Object(mut object) if !fields.is_empty() => {
                object.retain(|key, _| fields.contains(&key.as_str()));
                Value::Object(object)
            }
            body => body,
        }
    }

    /// An admin sees the entities of all projects.
    fn owns(&self, project_id: &str) -> bool {
        self.token.admin || self.token.project_id.as_deref() == Some(project_id)
    }

    fn sees_network(&self, network: &Network) -> bool {
        network.shared || self.owns(&network.project_id)
    }

    fn sees_subnet(&self, subnet: &Subnet) -> bool {
        let network = self.state.network(&subnet.network_id);
        self.owns(subnet_project(self.state, subnet)) || network.is_some_and(|found| found.shared)
    }

    fn port_body(&self, port: &Port) -> Value {
        let mut fixed_ips = port.fixed_ips.clone();
        // Ordered as text, as the real one's are.
        fixed_ips.sort_by(|one, other| one.ip_address.cmp(&other.ip_address));
        let owner = if port.device_id.is_empty() { "" } else { "compute:nova" };
        let mut body = json!({
            "id": port.id,
            "name": port.name,
            "network_id": port.network_id,
            "tenant_id": port.project_id,
            "mac_address": port.mac_address,
            "admin_state_up": true,
            "status": port.status,
            "device_id": port.device_id,
            "device_owner": owner,
            "fixed_ips": fixed_ips,
            "allowed_address_pairs": [],
            "extra_dhcp_opts": [],
            "security_groups": [random_hex(&port.project_id, 32)],
            "description": "",
            "binding:vnic_type": "normal",
            "port_security_enabled": true,
            "qos_policy_id": null,
            "qos_network_policy_id": null,
            "tags": port.tags,
            "created_at": port.created_at.as_deref().unwrap_or(CREATED_AT),
            "updated_at": UPDATED_AT,
            "revision_number": 3,
            "project_id": port.project_id,
        });
        if self.token.admin {
            add(
                &mut body,
                json!({
                    "binding:profile": {},
                    "binding:host_id": "lab-compute",
                    "binding:vif_type": "ovs",
                    "binding:vif_details": {
                        "connectivity": "l2",
                        "port_filter": true,
                        "ovs_hybrid_plug": false,
                        "datapath_type": "system",
                        "bound_drivers": {"0": "openvswitch"},
                    },
                    "resource_request": null,
                }),
            );
        }
        body
    }

    fn subnet_body(&self, subnet: &Subnet) -> Value {
        let project_id = subnet_project(self.state, subnet);
        let version = if subnet.cidr.contains(':') { 6 } else { 4 };
        json!({
            "id": subnet.id,
            "name": subnet.name,
            "tenant_id": project_id,
            "network_id": subnet.network_id,
            "ip_version": version,
            "subnetpool_id": null,
            "enable_dhcp": true,
            "ipv6_ra_mode": null,
            "ipv6_address_mode": null,
            "gateway_ip": subnet.gateway_ip,
            "cidr": subnet.cidr,
            "allocation_pools": [allocation_pool(&subnet.cidr)],
            "host_routes": subnet.host_routes,
            "dns_nameservers": subnet.dns_nameservers,
            "description": "",
            "service_types": [],
            "tags": [],
            "created_at": CREATED_AT,
            "updated_at": CREATED_AT,
            "revision_number": 0,
            "project_id": project_id,
        })
    }

    fn network_body(&self, network: &Network) -> Value {
        let subnets: Vec<&str> = self
            .state
            .subnets
            .iter()
            .filter(|subnet| subnet.network_id == network.id)
            .map(|subnet| subnet.id.as_str())
            .collect();
        let mut body = json!({
            "id": network.id,
            "name": network.name,
            "tenant_id": network.project_id,
            "admin_state_up": true,
            "mtu": network.mtu,
            "status": "ACTIVE",
            "subnets": subnets,
            "shared": network.shared,
            "availability_zone_hints": [],
            "availability_zones": [],
            "ipv4_address_scope": null,
            "ipv6_address_scope": null,
            "router:external": false,
            "description": "",
            "port_security_enabled": true,
            "qos_policy_id": null,
            "tags": [],
            "created_at": CREATED_AT,
            "updated_at": UPDATED_AT,
            "revision_number": 3,
            "project_id": network.project_id,
        });
        if self.token.admin {
            add(
                &mut body,
                json!({
                    "provider:network_type": "vxlan",
                    "provider:physical_network": null,
                    "provider:segmentation_id": 8683,
                }),
            );
        }
        body
    }
}

fn subnet_project<'a>(state: &'a CloudState, subnet: &'a Subnet) -> &'a str {
    match &subnet.project_id {
        Some(project_id) => project_id,
        None => state.network(&subnet.network_id).map_or("", |network| &network.project_id),
    }
}

/// The first and the last address that the range might give out; roughly, for nobody reads it.
fn allocation_pool(cidr: &str) -> Value {
    let network = cidr.split('/').next().unwrap_or_default();
    json!({"start": network, "end": network})
}

fn add(body: &mut Value, additional: Value) {
    if let (Value::Object(body), Value::Object(additional)) = (body, additional) {
        body.extend(additional);
    }
}

fn versions(state: &CloudState, base: &str) -> Response {
    let body = json!({"versions": [{
        "id": "v2.0",
        "status": "CURRENT",
        "links": [{"rel": "self", "href": format!("{base}/v2.0/")}],
    }]});
    let mut response = json_answer(state, 200, &body);
    // The list of versions alone has no request id.
    response.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("x-openstack-request-id"));
    response
}

fn resources(base: &str) -> Value {
    let resource = |name: &str| {
        json!({
            "name": name,
            "collection": format!("{name}s"),
            "links": [{"rel": "self", "href": format!("{base}/v2.0/{name}s")}],
        })
    };
    json!({"resources": [
        resource("network"),
        resource("subnet"),
        resource("subnetpool"),
        resource("port"),
    ]})
}

fn neutron_error(kind: &str, message: &str) -> Value {
    let mut error = Map::new();
    error.insert("type".to_owned(), json!(kind));
    error.insert("message".to_owned(), json!(message));
    error.insert("detail".to_owned(), json!(""));
    json!({"NeutronError": error})
}

fn not_found(state: &CloudState, title: &str, id: &str) -> Response {
    let message = format!("{title} {id} could not be found.");
    json_answer(state, 404, &neutron_error(&format!("{title}NotFound"), &message))
}

fn http_not_found(state: &CloudState) -> Response {
    let error = neutron_error("HTTPNotFound", "The resource could not be found.");
    json_answer(state, 404, &error)
}

fn html_not_found(state: &CloudState) -> Response {
    let body = "<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n  The resource could not be found.<br /><br />\n\n\n\n </body>\n</html>";
    answer(state, 404, "text/html; charset=UTF-8", None, body.to_owned())
}

fn refused(state: &CloudState, refusal: &Refusal) -> Response {
    let challenge = match refusal {
        Refusal::Unauthorized => Some(keystone_challenge(state)),
        Refusal::KeystoneUnreachable => None,
    };
    let body = refusal.body().to_string();
    answer(state, refusal.status(), "application/json", challenge, body)
}

fn json_answer(state: &CloudState, status: u16, body: &Value) -> Response {
    answer(state, status, "application/json", None, body.to_string())
}

/// An answer as Neutron's own server makes it, or as uwsgi does.
fn answer(
    state: &CloudState,
    status: u16,
    content_type: &str,
    challenge: Option<String>,
    body: String,
) -> Response {
    let mut headers = vec![("Content-Type", content_type.to_owned())];
    if state.settings.neutron_uwsgi {
        headers.extend(challenge.map(|challenge| ("WWW-Authenticate", challenge)));
        headers.push(("x-openstack-request-id", request_id()));
        return uwsgi_response(state, status, headers, body);
    }
    headers.extend(challenge.map(|challenge| ("Www-Authenticate", challenge)));
    headers.push(("X-Openstack-Request-Id", request_id()));
    let date = state.now().strftime("%a, %d %b %Y %H:%M:%S GMT");
    headers.push(("Date", date.to_string()));
    Response {
        status,
        reason: None,
        headers: super::owned(headers),
        body: Body::Bytes(body.into_bytes()),
        framing: Framing::ContentLength,
    }
}
