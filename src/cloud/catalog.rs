//! The service catalog: which endpoint is used (docs/behaviour.md#neutron-endpoint). Pure.

use std::collections::BTreeSet;

use serde::Deserialize;

/// One service of a token's catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct CatalogService {
    /// `network`, `compute`, ...
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// Its endpoints, in no particular order.
    #[serde(default)]
    pub endpoints: Option<Vec<Endpoint>>,
}

/// One endpoint. Old catalogs have only `region`, new ones both: two fields, not one with an alias,
/// which would refuse the catalogs that have both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Endpoint {
    /// `public`, `internal` or `admin`.
    #[serde(default)]
    pub interface: Option<String>,
    /// The region's name in old catalogs.
    #[serde(default)]
    pub region: Option<String>,
    /// The region's id.
    #[serde(default)]
    pub region_id: Option<String>,
    /// The URL, as free a text as its installer chose.
    #[serde(default)]
    pub url: Option<String>,
}

/// Neutron; some tools write `networking`.
pub(super) const NETWORK: [&str; 2] = ["network", "networking"];
/// Nova, and never `compute_legacy`.
pub(super) const COMPUTE: [&str; 1] = ["compute"];

/// Endpoints that an error lists, those of the wanted type first.
const MAX_LISTED: usize = 20;

/// The endpoint's URL as it stands in the catalog, or that there is none and what there is instead.
/// Of several matches the first URL counts, because their order differs from answer to answer.
/// `kinds` are the types that the service goes by, best first; no `region` means any.
pub(super) fn select(
    catalog: &[CatalogService],
    kinds: &[&str],
    interface: &str,
    region: Option<&str>,
) -> Result<String, String> {
    for kind in kinds {
        let mut urls: Vec<&str> = catalog
            .iter()
            .filter(|service| service.kind.as_deref() == Some(*kind))
            .flat_map(|service| service.endpoints.iter().flatten())
            .filter(|endpoint| endpoint.is_meant(interface, region))
            .filter_map(|endpoint| endpoint.url.as_deref())
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .collect();
        urls.sort_unstable();
        if let Some(url) = urls.first() {
            return Ok((*url).to_owned());
        }
    }
    Err(no_endpoint(catalog, kinds, interface, region))
}

impl Endpoint {
    fn is_meant(&self, interface: &str, region: Option<&str>) -> bool {
        let is_in = |region: &str| {
            self.region_id.as_deref() == Some(region) || self.region.as_deref() == Some(region)
        };
        self.interface.as_deref().map(interface_name) == Some(interface) && region.is_none_or(is_in)
    }
}

/// `publicURL` is how the second version of the identity API said `public`.
fn interface_name(interface: &str) -> &str {
    interface.strip_suffix("URL").unwrap_or(interface)
}

fn no_endpoint(
    catalog: &[CatalogService],
    kinds: &[&str],
    interface: &str,
    region: Option<&str>,
) -> String {
    let kind = kinds.first().copied().unwrap_or_default();
    let region = region.map(|region| format!(" in region {region}")).unwrap_or_default();
    let mut present = BTreeSet::new();
    for service in catalog {
        let kind = service.kind.as_deref().unwrap_or("?");
        for endpoint in service.endpoints.iter().flatten() {
            let interface = endpoint.interface.as_deref().map_or("?", interface_name);
            let region = endpoint.region_id.as_deref().or(endpoint.region.as_deref());
            let text = format!("{kind} {interface} {}", region.unwrap_or("?"));
            present.insert((!kinds.contains(&kind), text));
        }
    }
    let more = present.len().saturating_sub(MAX_LISTED);
    let more = (more > 0).then(|| format!("{more} more"));
    let listed = present.into_iter().map(|(_, text)| text).take(MAX_LISTED).chain(more);
    let listed = Vec::from_iter(listed).join(", ");
    let listed =
        if listed.is_empty() { "it is empty".to_owned() } else { format!("it has {listed}") };
    format!("the catalog has no {interface} endpoint of type {kind}{region}; {listed}")
}

#[cfg(test)]
mod tests {
    use super::{CatalogService, NETWORK};
    use serde_json::json;

    fn catalog() -> Vec<CatalogService> {
        serde_json::from_value(json!([
            {"type": "network", "endpoints": [
                {"interface": "internal", "region": "R1", "region_id": "R1", "url": "http://int"},
                {"interface": "public", "region_id": "R2", "url": "http://two"},
                {"interface": "public", "region": "R1", "url": "http://one-b"},
                {"interface": "public", "region": "R1", "region_id": "R1", "url": "http://one-a"},
                {"interface": null, "url": null},
            ]},
            {"type": "compute", "endpoints": [
                {"interface": "public", "region": "R1", "url": "http://compute"},
            ]},
            {"type": "volume"},
        ]))
        .unwrap()
    }

    fn select(
        catalog: &[CatalogService],
        interface: &str,
        region: Option<&str>,
    ) -> Result<String, String> {
        super::select(catalog, &NETWORK, interface, region)
    }

    #[test]
    fn type_interface_and_region_choose_and_the_order_of_the_catalog_does_not() {
        let mut catalog = catalog();
        for _ in 0..2 {
            let url = |interface, region| select(&catalog, interface, region).unwrap();
            assert_eq!(url("public", Some("R1")), "http://one-a");
            assert_eq!(url("public", Some("R2")), "http://two");
            assert_eq!(url("internal", None), "http://int");
            assert_eq!(url("public", None), "http://one-a");
            catalog[0].endpoints.as_mut().unwrap().reverse();
        }
    }

    #[test]
    fn no_match_says_what_there_is() {
        let error = select(&catalog(), "admin", Some("R3")).unwrap_err();
        assert_eq!(
            error,
            "the catalog has no admin endpoint of type network in region R3; it has \
             network ? ?, network internal R1, network public R1, network public R2, compute public R1"
        );
        let error = select(&[], "public", None).unwrap_err();
        assert!(error.ends_with("it is empty"), "{error}");
    }

    #[test]
    fn of_a_large_catalog_the_endpoints_of_the_wanted_type_are_listed_first() {
        let service = |kind: &str, endpoints: usize| {
            let endpoint =
                |n| json!({"interface": "admin", "region": format!("R{n:02}"), "url": "u"});
            json!({"type": kind, "endpoints": Vec::from_iter((0..endpoints).map(endpoint))})
        };
        let services = json!([service("compute", 21), service("network", 1), service("volume", 9)]);
        let catalog: Vec<CatalogService> = serde_json::from_value(services).unwrap();
        let error = select(&catalog, "public", None).unwrap_err();
        assert!(error.contains("it has network admin R00, compute admin R00, "), "{error}");
        assert!(error.ends_with("compute admin R18, 11 more"), "{error}");
    }

    #[test]
    fn of_a_large_catalog_twenty_endpoints_are_listed_and_the_rest_counted() {
        let error = |endpoints: usize| {
            let endpoints = (0..endpoints)
                .map(|n| json!({"interface": "public", "region": format!("R{n:02}"), "url": "u"}));
            let service = json!([{"type": "image", "endpoints": Vec::from_iter(endpoints)}]);
            let catalog: Vec<CatalogService> = serde_json::from_value(service).unwrap();
            select(&catalog, "public", None).unwrap_err()
        };
        assert!(error(20).ends_with("image public R18, image public R19"), "{}", error(20));
        assert!(error(23).ends_with("image public R19, 3 more"), "{}", error(23));
    }
}
