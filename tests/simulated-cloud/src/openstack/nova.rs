//! Nova: servers, to be listed and shown.
//!
//! Microversions, pages and error bodies as the real one's. Nothing can be written.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    authenticate, below_prefix, encode_query, keystone_challenge, public_base, request_id,
    uwsgi_response,
};
use crate::pseudo_random::random_hex;
use crate::state::{CloudState, Server, SharedState, Token};
use crate::wire::{Handler, Limits, Request, Response};

/// The newest microversion, 2.93.
const LATEST: u32 = 93;

pub struct Nova {
    state: Arc<SharedState>,
}

impl Nova {
    pub fn new(state: Arc<SharedState>) -> Arc<Nova> {
        Arc::new(Nova { state })
    }
}

impl Handler for Nova {
    fn handle(&self, request: &Request) -> Response {
        let state = self.state.lock();
        let prefix = &state.settings.nova_prefix;
        let Some(path) = below_prefix(&request.path, prefix) else {
            return html_not_found(&state);
        };
        let base = format!("{}{prefix}", public_base(request));
        if path.is_empty() || path == "/" {
            let headers = vec![("Content-Type", "application/json".to_owned())];
            return uwsgi_response(&state, 200, headers, versions(&base).to_string());
        }
        let Some(below_version) = below_prefix(path, "/v2.1") else {
            let headers = vec![("Content-Type", "application/json".to_owned())];
            let choices = json!({"choices": versions(&base)["versions"]});
            return uwsgi_response(&state, 300, headers, choices.to_string());
        };
        let microversion = match microversion(request) {
            Ok(microversion) => microversion,
            Err(asked) => return not_supported(&state, &asked),
        };
        if below_version.is_empty() || below_version == "/" {
            return answer(&state, 200, microversion, &version(&base));
        }
        let token = match authenticate(&state, request) {
            Ok(token) => token,
            Err(refusal) => return refused(&state, &refusal),
        };
        let asked = Asked { state: &state, token, request, microversion, base };
        asked.answer(below_version)
    }

    fn limits(&self) -> Limits {
        Limits { request_line: None, head: Some(self.state.lock().settings.uwsgi_head_limit) }
    }
}

/// A request with a valid token.
struct Asked<'a> {
    state: &'a CloudState,
    token: &'a Token,
    request: &'a Request,
    microversion: u32,
    base: String,
}

/// A request that Nova refuses: status, the error's name, message.
type Problem = (u16, &'static str, String);

impl Asked<'_> {
    fn answer(&self, path: &str) -> Response {
        let mut segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let mut project = "";
        if let Some(first) = segments.first().filter(|first| is_project_id(first)) {
            project = first;
            segments.remove(0);
        }
        match self.route(project, &segments) {
            Ok(body) => answer(self.state, 200, self.microversion, &body),
            Err((status, name, message)) => {
                error(self.state, status, self.microversion, name, &message)
            }
        }
    }

    fn route(&self, project: &str, segments: &[&str]) -> Result<Value, Problem> {
        let own = self.token.project_id.as_deref().unwrap_or_default();
        if !project.is_empty() && project != own {
            let message = format!(
                "Malformed request URL: URL's project_id '{project}' doesn't match Context's project_id '{own}'"
            );
            return Err((400, "badRequest", message));
        }
        let links = Links { base: &self.base, project };
        match (self.request.method.as_str(), segments) {
            ("GET", ["servers"]) => self.list(&links, false),
            ("GET", ["servers", "detail"]) => self.list(&links, true),
            ("GET", ["servers", id]) => {
                let (number, server) = self.find(id)?;
                Ok(json!({"server": self.detail(&links, number, server, true)}))
            }
            ("GET", ["servers", id, "metadata"]) => {
                let (_, server) = self.find(id)?;
                Ok(json!({"metadata": server.metadata}))
            }
            _ => {
                let message = "The resource could not be found.".to_owned();
                Err((404, "itemNotFound", message))
            }
        }
    }

    fn find(&self, id: &str) -> Result<(u64, &Server), Problem> {
        self.state
            .servers
            .get(id)
            .filter(|(_, server)| self.token.admin || self.is_own(server))
            .ok_or_else(|| {
                let message = format!("Instance {id} could not be found.");
                (404, "itemNotFound", message)
            })
    }

    fn is_own(&self, server: &Server) -> bool {
        self.token.project_id.as_deref() == Some(&server.project_id)
    }

    /// The servers of the token's project, page by page, the newest first.
    fn list(&self, links: &Links<'_>, detail: bool) -> Result<Value, Problem> {
        let all_tenants = self
            .request
            .query_value("all_tenants")
            .is_some_and(|value| matches!(value, "1" | "" | "true" | "True"));
        if all_tenants && !self.token.admin {
            let action = if detail { "detail" } else { "index" };
            let message = format!(
                "Policy doesn't allow os_compute_api:servers:{action}:get_all_tenants to be performed."
            );
            return Err((403, "forbidden", message));
        }
        let maximum = self.state.settings.nova_max_limit;
        let limit = match self.request.query_value("limit") {
            None => maximum,
            Some(text) => text.parse::<usize>().map_err(|_| {
                let message = format!("Invalid input for query parameters limit. Value: {text}.");
                (400, "badRequest", message)
            })?,
        };
        let limit = limit.min(maximum);

        let mut visible = self
            .state
            .servers
            .newest_first()
            .filter(|(_, server)| all_tenants || self.is_own(server))
            .filter(|(_, server)| self.passes_filters(server))
            .peekable();
        if let Some(marker) = self.request.query_value("marker") {
            let is_marker = |(_, server): &(u64, &Server)| server.id.eq_ignore_ascii_case(marker);
            while visible.next_if(|entry| !is_marker(entry)).is_some() {}
            if visible.next().is_none() {
                return Err((400, "badRequest", format!("marker [{marker}] not found")));
            }
        }
        let page: Vec<(u64, &Server)> = visible.take(limit).collect();
        let mut body = json!({});
        if page.len() == limit
            && let Some((_, last)) = page.last()
        {
            body["servers_links"] =
                json!([{"rel": "next", "href": self.next(links, detail, last)}]);
        }
        body["servers"] = page
            .into_iter()
            .map(|(number, server)| {
                if detail {
                    self.detail(links, number, server, false)
                } else {
                    json!({
                        "id": server.id,
                        "name": server.name,
                        "links": links.of_server(&server.id),
                    })
                }
            })
            .collect();
        Ok(body)
    }

    /// Of the filters only these have an effect: `name` (a pattern, here without its specials),
    /// `status`, and for an admin `uuid`, of which the last counts.
    fn passes_filters(&self, server: &Server) -> bool {
        let uuid = self.request.query_values("uuid").last().copied();
        let uuid = uuid.filter(|_| self.token.admin);
        let name = self.request.query_value("name");
        let status = self.request.query_value("status");
        uuid.is_none_or(|uuid| server.id.eq_ignore_ascii_case(uuid))
            && name.is_none_or(|name| server.name.to_lowercase().contains(&name.to_lowercase()))
            && status.is_none_or(|status| server.status.eq_ignore_ascii_case(status))
    }

    fn next(&self, links: &Links<'_>, detail: bool, last: &Server) -> String {
        let kept = self
            .request
            .query
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .filter(|(key, _)| *key != "marker");
        let query = encode_query(kept.chain([("marker", last.id.as_str())]));
        let collection = if detail { "servers/detail" } else { "servers" };
        format!("{}/{collection}?{query}", links.versioned())
    }

    fn detail(&self, links: &Links<'_>, number: u64, server: &Server, shown: bool) -> Value {
        let ports = self.state.ports.of_device(&server.id).count();
        let security_groups = vec![json!({"name": "default"}); ports];
        let flavor = if self.microversion >= 47 {
            json!({
                "vcpus": 1,
                "ram": 64,
                "disk": 1,
                "ephemeral": 0,
                "swap": 0,
                "original_name": "lab.small",
                "extra_specs": {},
            })
        } else {
            json!({"id": "lab1", "links": links.bookmark("flavors/lab1")})
        };
        let image = "5e3d2c1b-0000-4000-8000-00000000cafe";
        let mut body = json!({
            "id": server.id,
            "name": server.name,
            "status": server.status,
            "tenant_id": server.project_id,
            "user_id": self.token.user_id,
            "metadata": server.metadata,
            "hostId": random_hex("host", 56),
            "image": {"id": image, "links": links.bookmark(&format!("images/{image}"))},
            "flavor": flavor,
            "created": "2026-11-22T20:45:38Z",
            "updated": "2026-11-22T20:45:49Z",
            "addresses": self.addresses(server),
            "accessIPv4": "",
            "accessIPv6": "",
            "links": links.of_server(&server.id),
            "OS-DCF:diskConfig": "MANUAL",
            "progress": 0,
            "OS-EXT-AZ:availability_zone": "nova",
            "config_drive": "",
            "key_name": null,
            "OS-SRV-USG:launched_at": "2026-11-22T20:45:49.000000",
            "OS-SRV-USG:terminated_at": null,
            "security_groups": security_groups,
            "OS-EXT-STS:task_state": null,
            "OS-EXT-STS:vm_state": server.status.to_lowercase(),
            "OS-EXT-STS:power_state": 1,
            "os-extended-volumes:volumes_attached": [],
        });
        if self.token.admin {
            body["OS-EXT-SRV-ATTR:host"] = json!("lab-compute");
            body["OS-EXT-SRV-ATTR:instance_name"] = json!(format!("instance-{number:08x}"));
            body["OS-EXT-SRV-ATTR:hypervisor_hostname"] = json!("lab-compute");
        }
        let since = [
            (9, "locked", json!(false)),
            (19, "description", json!(server.name)),
            (26, "tags", json!([])),
            (63, "trusted_image_certificates", json!(null)),
            (73, "locked_reason", json!(null)),
            (90, "OS-EXT-SRV-ATTR:hostname", json!(server.name)),
        ];
        for (microversion, name, value) in since {
            if self.microversion >= microversion {
                body[name] = value;
            }
        }
        if shown && self.microversion >= 71 {
            body["server_groups"] = json!([]);
        }
        body
    }

    /// Addresses by network name, of one port the IPv6 ones first.
    fn addresses(&self, server: &Server) -> Value {
        let mut ports: Vec<_> = self.state.ports.of_device(&server.id).collect();
        ports.sort_by(|one, other| one.name.cmp(&other.name));
        let mut addresses: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for port in ports {
            let network = self.state.network(&port.network_id);
            let list = addresses.entry(network.map_or("", |network| &network.name)).or_default();
            for address in port.fixed_ips.iter().rev() {
                let version = if address.ip_address.contains(':') { 6 } else { 4 };
                list.push(json!({
                    "version": version,
                    "addr": address.ip_address,
                    "OS-EXT-IPS:type": "fixed",
                    "OS-EXT-IPS-MAC:mac_addr": port.mac_address,
                }));
            }
        }
        json!(addresses)
    }
}

/// Makes links; a project id in the request's path is kept in them.
struct Links<'a> {
    base: &'a str,
    project: &'a str,
}

impl Links<'_> {
    fn versioned(&self) -> String {
        self.below(&format!("{}/v2.1", self.base))
    }

    fn below(&self, base: &str) -> String {
        if self.project.is_empty() { base.to_owned() } else { format!("{base}/{}", self.project) }
    }

    fn bookmark(&self, path: &str) -> Value {
        json!([{"rel": "bookmark", "href": format!("{}/{path}", self.below(self.base))}])
    }

    fn of_server(&self, id: &str) -> Value {
        json!([
            {"rel": "self", "href": format!("{}/servers/{id}", self.versioned())},
            {"rel": "bookmark", "href": format!("{}/servers/{id}", self.below(self.base))},
        ])
    }
}

fn is_project_id(segment: &str) -> bool {
    segment.len() == 32 && segment.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The minor number of the asked microversion, or the asked one when there is none such.
fn microversion(request: &Request) -> Result<u32, String> {
    let asked = match request.header("OpenStack-API-Version") {
        Some(value) => value.strip_prefix("compute ").unwrap_or("2.1"),
        None => request.header("X-OpenStack-Nova-API-Version").unwrap_or("2.1"),
    };
    if asked == "latest" {
        return Ok(LATEST);
    }
    asked
        .strip_prefix("2.")
        .and_then(|minor| minor.parse().ok())
        .filter(|minor| (1..=LATEST).contains(minor))
        .ok_or_else(|| asked.to_owned())
}

fn versions(base: &str) -> Value {
    let old = json!({
        "id": "v2.0",
        "status": "SUPPORTED",
        "version": "",
        "min_version": "",
        "updated": "2011-01-21T11:33:21Z",
        "links": [{"rel": "self", "href": format!("{base}/v2/")}],
    });
    let current = json!({
        "id": "v2.1",
        "status": "CURRENT",
        "version": "2.93",
        "min_version": "2.1",
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": format!("{base}/v2.1/")}],
    });
    json!({"versions": [old, current]})
}

fn version(base: &str) -> Value {
    json!({"version": {
        "id": "v2.1",
        "status": "CURRENT",
        "version": "2.93",
        "min_version": "2.1",
        "updated": "2013-07-23T11:33:21Z",
        "links": [
            {"rel": "self", "href": format!("{base}/v2.1/")},
            {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
        ],
        "media-types": [{
            "base": "application/json",
            "type": "application/vnd.openstack.compute+json;version=2.1",
        }],
    }})
}

fn version_headers(microversion: &str) -> Vec<(&'static str, String)> {
    vec![
        ("OpenStack-API-Version", format!("compute {microversion}")),
        ("X-OpenStack-Nova-API-Version", microversion.to_owned()),
        ("Vary", "OpenStack-API-Version".to_owned()),
        ("Vary", "X-OpenStack-Nova-API-Version".to_owned()),
    ]
}

fn with_request_id(mut headers: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    let id = request_id();
    headers.push(("x-openstack-request-id", id.clone()));
    headers.push(("x-compute-request-id", id));
    headers
}

fn answer(state: &CloudState, status: u16, microversion: u32, body: &Value) -> Response {
    let mut headers = vec![("Content-Type", "application/json".to_owned())];
    headers.extend(version_headers(&format!("2.{microversion}")));
    uwsgi_response(state, status, with_request_id(headers), body.to_string())
}

fn error(
    state: &CloudState,
    status: u16,
    microversion: u32,
    name: &str,
    message: &str,
) -> Response {
    fault(state, status, &format!("2.{microversion}"), name, message)
}

fn fault(
    state: &CloudState,
    status: u16,
    microversion: &str,
    name: &str,
    message: &str,
) -> Response {
    let mut headers = version_headers(microversion);
    headers.push(("Content-Type", "application/json; charset=UTF-8".to_owned()));
    let body = json!({name: {"code": status, "message": message}});
    uwsgi_response(state, status, with_request_id(headers), body.to_string())
}

fn not_supported(state: &CloudState, asked: &str) -> Response {
    let message = format!(
        "Version {asked} is not supported by the API. Minimum is 2.1 and maximum is 2.{LATEST}."
    );
    fault(state, 406, asked, "computeFault", &message)
}

fn refused(state: &CloudState, refusal: &super::Refusal) -> Response {
    let mut headers = vec![("Content-Type", "application/json".to_owned())];
    if matches!(refusal, super::Refusal::Unauthorized) {
        headers.push(("WWW-Authenticate", keystone_challenge(state)));
    }
    let body = refusal.body().to_string();
    uwsgi_response(state, refusal.status(), with_request_id(headers), body)
}

fn html_not_found(state: &CloudState) -> Response {
    let headers = vec![("Content-Type", "text/html; charset=UTF-8".to_owned())];
    let body =
        "<html><head><title>404 Not Found</title></head><body><h1>404 Not Found</h1></body></html>";
    uwsgi_response(state, 404, headers, body)
}
