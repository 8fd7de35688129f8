//! Neutron's lists: filters, pages and the links between them.

use serde_json::{Map, Value, json};

use crate::openstack::encode_query;
use crate::wire::Request;

pub(super) struct Kind {
    /// Key of the list, and last segment of its path.
    pub(super) collection: &'static str,
    /// How errors call one entity.
    pub(super) title: &'static str,
    /// What can be filtered by.
    attributes: &'static [&'static str],
}

pub(super) const PORTS: Kind = Kind {
    collection: "ports",
    title: "Port",
    attributes: &[
        "id",
        "name",
        "network_id",
        "tenant_id",
        "project_id",
        "mac_address",
        "admin_state_up",
        "status",
        "device_id",
        "device_owner",
        "fixed_ips",
        "security_groups",
        "description",
        "binding:host_id",
        "binding:vif_type",
        "binding:vnic_type",
        "port_security_enabled",
        "tags",
        "created_at",
        "updated_at",
        "revision_number",
    ],
};

pub(super) const SUBNETS: Kind = Kind {
    collection: "subnets",
    title: "Subnet",
    attributes: &[
        "id",
        "name",
        "tenant_id",
        "project_id",
        "network_id",
        "ip_version",
        "cidr",
        "gateway_ip",
        "enable_dhcp",
        "subnetpool_id",
        "ipv6_ra_mode",
        "ipv6_address_mode",
        "description",
        "service_types",
        "tags",
        "revision_number",
    ],
};

pub(super) const NETWORKS: Kind = Kind {
    collection: "networks",
    title: "Network",
    attributes: &[
        "id",
        "name",
        "tenant_id",
        "project_id",
        "admin_state_up",
        "mtu",
        "status",
        "shared",
        "router:external",
        "description",
        "provider:network_type",
        "provider:physical_network",
        "provider:segmentation_id",
        "tags",
        "revision_number",
    ],
};

/// Parameters that are no filters.
const RESERVED: &[&str] = &["fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"];

/// Why there is no list.
pub(super) enum Problem {
    /// 400 with a type and a message.
    BadRequest(&'static str, String),
    /// The marker's entity doesn't exist.
    MarkerGone(String),
}

/// The values of a filter. A key without `=` is no filter; one with nothing behind it is.
pub(super) fn values_of<'a>(request: &'a Request, name: &str) -> Vec<&'a str> {
    // The decoded pairs are those of the raw query, in order; empty ones are skipped.
    let raw = request.raw_query().split('&').filter(|pair| !pair.is_empty());
    raw.zip(&request.query)
        .filter(|(raw, (key, _))| key == name && raw.contains('='))
        .map(|(_, (_, value))| value.as_str())
        .collect()
}

/// The page that a request asks for, with its links. `entities` are all that the token sees.
pub(super) fn list(
    kind: &Kind,
    request: &Request,
    base: &str,
    maximum: Option<usize>,
    entities: impl Iterator<Item = Value>,
) -> Result<Value, Problem> {
    let unknown: Vec<String> = request
        .query
        .iter()
        .map(|(key, _)| key.as_str())
        .filter(|key| !RESERVED.contains(key) && !kind.attributes.contains(key))
        .map(|key| format!("'{key}'"))
        .collect();
    if !unknown.is_empty() {
        let message = format!("[{}] is invalid attribute for filtering", unknown.join(", "));
        return Err(Problem::BadRequest("HTTPBadRequest", message));
    }
    let limit = limit(request, maximum)?;

    let filters: Vec<(&str, Vec<&str>)> = kind
        .attributes
        .iter()
        .map(|attribute| (*attribute, values_of(request, attribute)))
        .filter(|(_, values)| !values.is_empty())
        .collect();
    // The marker is looked for among all, also those that the filters leave out.
    let marker = request.query_value("marker").filter(|id| !id.is_empty());
    let mut marker_seen = marker.is_none();
    let mut found = Vec::new();
    for entity in entities {
        marker_seen |= marker.is_some_and(|marker| equal(id_of(&entity), marker));
        if filters.iter().all(|(attribute, values)| matches(&entity, attribute, values)) {
            found.push(entity);
        }
    }
    if !marker_seen {
        return Err(Problem::MarkerGone(marker.unwrap_or_default().to_owned()));
    }
    found.sort_by(|one, other| id_of(one).cmp(id_of(other)));

    let mut body = Map::new();
    let Some(limit) = limit else {
        let found = match marker {
            Some(marker) => after(found, marker),
            None => found,
        };
        body.insert(kind.collection.to_owned(), Value::Array(found));
        return Ok(Value::Object(body));
    };
    let reverse =
        request.query_value("page_reverse").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let mut page = match (marker, reverse) {
        (Some(marker), true) => before(found, marker, limit),
        (Some(marker), false) => after(found, marker),
        (None, true) => {
            let begin = found.len().saturating_sub(limit);
            found.split_off(begin)
        }
        (None, false) => found,
    };
    page.truncate(limit);
    body.insert(format!("{}_links", kind.collection), links(kind, request, base, limit, &page));
    body.insert(kind.collection.to_owned(), Value::Array(page));
    Ok(Value::Object(body))
}

/// The page size; none: everything at once.
fn limit(request: &Request, maximum: Option<usize>) -> Result<Option<usize>, Problem> {
    let asked = match request.query_value("limit") {
        None => 0,
        Some(text) => text.parse::<usize>().map_err(|_| {
            let message = format!(
                "Bad limit request: Limit must be an integer 0 or greater and not '{text}'."
            );
            Problem::BadRequest("BadRequest", message)
        })?,
    };
    Ok(match (asked, maximum) {
        (0, maximum) => maximum,
        (asked, Some(maximum)) => Some(asked.min(maximum)),
        (asked, None) => Some(asked),
    })
}

/// `next` while the page is full (so also to an empty page), `previous` always.
fn links(kind: &Kind, request: &Request, base: &str, limit: usize, page: &[Value]) -> Value {
    let link = |marker: Option<&Value>, reverse: bool| {
        let kept = request
            .query
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .filter(|(key, _)| !matches!(*key, "marker" | "page_reverse"));
        let marker = marker.map(|entity| ("marker", id_of(entity)));
        let reverse = reverse.then_some(("page_reverse", "True"));
        let query = encode_query(kept.chain(marker).chain(reverse));
        format!("{base}/v2.0/{}?{query}", kind.collection)
    };
    let mut links = Vec::new();
    if page.len() == limit {
        links.push(json!({"rel": "next", "href": link(page.last(), false)}));
    }
    links.push(json!({"rel": "previous", "href": link(page.first(), true)}));
    Value::Array(links)
}

fn after(found: Vec<Value>, marker: &str) -> Vec<Value> {
    let marker = marker.to_ascii_lowercase();
    let begin = found.partition_point(|entity| *id_of(entity) <= *marker);
    let mut found = found;
    found.split_off(begin)
}

fn before(mut found: Vec<Value>, marker: &str, limit: usize) -> Vec<Value> {
    let marker = marker.to_ascii_lowercase();
    let end = found.partition_point(|entity| *id_of(entity) < *marker);
    found.truncate(end);
    found.split_off(end.saturating_sub(limit))
}

fn id_of(entity: &Value) -> &str {
    entity["id"].as_str().unwrap_or_default()
}

/// Whether one of the values fits.
fn matches(entity: &Value, attribute: &str, values: &[&str]) -> bool {
    let stored = &entity[attribute];
    values.iter().any(|value| match stored {
        Value::String(text) => equal(text, value),
        Value::Bool(truth) => {
            let asked = matches!(value.to_ascii_lowercase().as_str(), "true" | "1");
            *truth == asked
        }
        Value::Number(number) => number.to_string() == *value,
        Value::Array(elements) if attribute == "fixed_ips" => {
            let (key, wanted) = value.split_once('=').unwrap_or((value, ""));
            elements
                .iter()
                .any(|address| address[key].as_str().is_some_and(|text| equal(text, wanted)))
        }
        Value::Array(elements) => {
            elements.iter().any(|element| element.as_str().is_some_and(|text| equal(text, value)))
        }
        Value::Null | Value::Object(_) => false,
    })
}

/// As MySQL's usual collation compares: in any case, without trailing spaces.
fn equal(stored: &str, asked: &str) -> bool {
    let (stored, asked) = (stored.trim_end_matches(' '), asked.trim_end_matches(' '));
    if stored.is_ascii() && asked.is_ascii() {
        return stored.eq_ignore_ascii_case(asked);
    }
    stored.to_lowercase() == asked.to_lowercase()
}
