//! A kubeconfig from a Secret (docs/behaviour.md#kubeconfigs). Pure.
//!
//! Only what it holds itself is used: nothing that it names is run, read or asked. Errors name keys and
//! lines, never content.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::parse::base_url;
use super::yaml::{self, Map};
use crate::http::client::{ClientCertificate, ClientTls, ServerName};
use crate::http::proxy::Proxies;
use crate::http::trust::Trust;
use crate::kube::access::{Access, Credentials};
use crate::secret::Secret;

/// Keys of a cluster that aren't used, and what to do.
const REFUSED_OF_CLUSTER: [(&str, &str); 2] = [
    ("certificate-authority", "a path; put the certificates into certificate-authority-data"),
    ("proxy-url", "the operator's HTTPS_PROXY decides"),
];
/// Keys of a user that aren't used.
const REFUSED_OF_USER: [(&str, &str); 11] = [
    ("exec", "no program is run; put a token or a client certificate here"),
    ("auth-provider", "no program is run; put a token or a client certificate here"),
    ("client-certificate", "a path; put the certificate into client-certificate-data"),
    ("client-key", "a path; put the key into client-key-data"),
    ("tokenFile", "a path; put the token into token"),
    ("username", "user and password aren't supported by API servers"),
    ("password", "user and password aren't supported by API servers"),
    ("as", "nobody is impersonated"),
    ("as-uid", "nobody is impersonated"),
    ("as-groups", "nobody is impersonated"),
    ("as-user-extra", "nobody is impersonated"),
];

/// Reads the cluster and the user of the current context. `place` says whose text it is, `roots` whom to
/// trust if it holds no certificates.
///
/// # Errors
/// What is wrong, by key and line.
pub(crate) fn read(
    text: &str,
    place: &str,
    roots: &Trust,
    proxies: &Arc<Proxies>,
) -> Result<Access, String> {
    let document = yaml::read(text)?;
    let document = Map::of(&document);
    let context = context(&document)?;
    let cluster = named(&document, "clusters", "cluster", &context)?;
    let user = named(&document, "users", "user", &context)?;
    refuse(&cluster, &REFUSED_OF_CLUSTER)?;
    refuse(&user, &REFUSED_OF_USER)?;
    if cluster.text("insecure-skip-tls-verify")?.is_some_and(|text| text != "false") {
        let what = "turns verification off, which is never done; use certificate-authority-data";
        return Err(cluster.problem("insecure-skip-tls-verify", what));
    }
    let server = cluster.text("server")?.ok_or_else(|| cluster.lacks("server"))?;
    let mut api_url = base_url(&server).map_err(|what| cluster.problem("server", &what))?;
    let trust = match decoded(&cluster, "certificate-authority-data")? {
        None => roots.clone(),
        Some(pem) => {
            let place = format!("certificate-authority-data of {place}");
            let trust = Trust::Pem { place, pem: pem.expose().to_owned() };
            trust.load()?;
            trust
        }
    };
    let mut credentials = credentials(&user)?;
    let mut proxies = Arc::clone(proxies);
    if let Some(name) = cluster.text("tls-server-name")? {
        let no_name = || cluster.problem("tls-server-name", "is no host name");
        let named = ServerName::put_into(&api_url, &name).ok_or_else(no_name)?;
        api_url = named.0;
        credentials.tls.server_name = Some(named.1);
        // A proxy would look for the server by this name.
        proxies = Arc::default();
    }
    Ok(Access { api_url, token_file: None, trust, proxies, credentials })
}

/// The current context, or the only one.
fn context<'a>(document: &Map<'a>) -> Result<Map<'a>, String> {
    if document.text("current-context")?.is_some() {
        return named(document, "contexts", "context", document);
    }
    match document.maps("contexts")?.as_slice() {
        [only] => only.map("context"),
        [] => Err(document.lacks("contexts")),
        _ => Err(format!("{}; contexts has several", document.lacks("current-context"))),
    }
}

/// The entry of a list that a key of `by` names.
fn named<'a>(document: &Map<'a>, list: &str, entry: &str, by: &Map<'_>) -> Result<Map<'a>, String> {
    let key = if entry == "context" { "current-context" } else { entry };
    let name = by.text(key)?.ok_or_else(|| by.lacks(key))?;
    let mut found = Vec::new();
    for map in document.maps(list)? {
        if map.text("name")?.as_ref() == Some(&name) {
            found.push(map);
        }
    }
    match found.as_slice() {
        [one] => one.map(entry),
        [] => Err(by.problem(key, &format!("names none of {list}"))),
        _ => Err(by.problem(key, &format!("names several of {list}"))),
    }
}

fn refuse(map: &Map<'_>, keys: &[(&str, &str)]) -> Result<(), String> {
    keys.iter().try_for_each(|(key, why)| map.refuse(key, why))
}

fn credentials(user: &Map<'_>) -> Result<Credentials, String> {
    let chain = decoded(user, "client-certificate-data")?;
    let key = decoded(user, "client-key-data")?;
    let certificate = match (chain, key) {
        (None, None) => None,
        (Some(_), None) => return Err(user.lacks("client-key-data")),
        (None, Some(_)) => return Err(user.lacks("client-certificate-data")),
        (Some(chain), Some(key)) => {
            let certificate = ClientCertificate { chain, key };
            let read = certificate.read();
            read.map_err(|what| user.problem("client-certificate-data", &format!(": {what}")))?;
            Some(certificate)
        }
    };
    let token = user.text("token")?.map(Secret::new);
    if token.is_none() && certificate.is_none() {
        let what = "has no credentials: neither token nor client-certificate-data";
        return Err(user.is(what));
    }
    Ok(Credentials { token, tls: ClientTls { certificate, server_name: None } })
}

/// The text that is in base64 here, in one line or in several.
fn decoded(map: &Map<'_>, key: &str) -> Result<Option<Secret>, String> {
    let Some(text) = map.secret(key)? else { return Ok(None) };
    let joined: Zeroizing<String> =
        Zeroizing::new(text.expose().chars().filter(|c| !c.is_whitespace()).collect());
    let bytes = STANDARD.decode(joined.as_bytes());
    let bytes = bytes.map_err(|_| map.problem(key, "is no base64"))?;
    let text = String::from_utf8(bytes).map_err(|_| map.problem(key, "holds no PEM text"))?;
    Ok(Some(Secret::new(text)))
}

#[cfg(test)]
mod tests;
