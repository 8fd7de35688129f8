//! Host names to addresses, for the client.
//!
//! ureq asks for the address at each call, also when a kept connection is taken, and starts a
//! thread for the question so that it can give up waiting. Here an address in the URL needs no
//! question at all, and a name's answer is used again for a few seconds.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::client::ServerName;
use crate::clock::Clock;
use crate::threads::lock;

/// As long as one pass lasts, and shorter than a poll's interval: a service that moved is found at the
/// next poll.
const LIFE: Duration = Duration::from_secs(5);

/// The system's resolver, with a short memory.
#[derive(Debug)]
pub(super) struct RememberingResolver {
    clock: Clock,
    system: DefaultResolver,
    /// By scheme, host and port; with the uptime until which the answer is used.
    known: Mutex<HashMap<String, (ResolvedSocketAddrs, Duration)>>,
    /// The host whose address is taken for this name.
    server_name: Option<ServerName>,
}

impl RememberingResolver {
    pub(super) fn new(clock: Clock, server_name: Option<&ServerName>) -> RememberingResolver {
        let (system, known) = (DefaultResolver::default(), Mutex::default());
        RememberingResolver { clock, system, known, server_name: server_name.cloned() }
    }
}

impl Resolver for RememberingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let real = self.server_name.as_ref().and_then(|named| named.real(uri));
        let uri = real.as_ref().unwrap_or(uri);
        if let Some(address) = address_in(uri) {
            let mut found = self.empty();
            found.push(address);
            return Ok(found);
        }
        // The scheme stands for a port that isn't written.
        let key = format!("{:?} {:?}", uri.scheme(), uri.authority());
        let uptime = self.clock.now().uptime;
        let mut known = lock(&self.known);
        known.retain(|_, (_, until)| *until > uptime);
        if let Some((addresses, _)) = known.get(&key) {
            return Ok(addresses.clone());
        }
        drop(known);
        let found = self.system.resolve(uri, config, timeout).map_err(|error| match error {
            // What the system says of a name server that is away has no kind of its own.
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            other => other,
        })?;
        lock(&self.known).insert(key, (found.clone(), uptime + LIFE));
        Ok(found)
    }
}

/// The address of a URL whose host is one.
fn address_in(uri: &Uri) -> Option<SocketAddr> {
    let usual = match uri.scheme_str()? {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    format!("{}:{}", uri.host()?, uri.port_u16().unwrap_or(usual)).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::address_in;

    #[test]
    fn an_address_in_the_url_needs_no_question() {
        let cases = [
            ("http://127.0.0.1:8080/a", Some("127.0.0.1:8080")),
            ("https://10.0.0.5/v3", Some("10.0.0.5:443")),
            ("http://[fd00::1]/", Some("[fd00::1]:80")),
            ("https://keystone.example:5000/v3", None),
            ("http://1.2.3/", None),
        ];
        for (url, address) in cases {
            let found = address_in(&url.parse().unwrap());
            assert_eq!(found.map(|address| address.to_string()).as_deref(), address, "{url}");
        }
    }
}
