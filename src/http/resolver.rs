//! Host names to addresses, for the client.
//!
//! ureq asks for the address at each call, also when a kept connection is taken, and starts a
//! thread for the question so that it can give up waiting. Here an address in the URL needs no
//! question at all, and a name's answer is used again for a few seconds.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::clock::Clock;

/// As long as one pass lasts, and shorter than a poll's interval: a service that moved is found at the
/// next poll.
const LIFE: Duration = Duration::from_secs(5);

/// The system's resolver, with a short memory.
pub(super) struct RememberingResolver {
    system: DefaultResolver,
    clock: Clock,
    /// By host and port; with the uptime until which the answer is used.
    known: Mutex<HashMap<String, (Vec<SocketAddr>, Duration)>>,
}

impl RememberingResolver {
    pub(super) fn new(clock: Clock) -> RememberingResolver {
        RememberingResolver { system: DefaultResolver::default(), clock, known: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Vec<SocketAddr>, Duration)>> {
        self.known.lock().unwrap_or_else(|held| held.into_inner())
    }

    fn all(&self, addresses: &[SocketAddr]) -> ResolvedSocketAddrs {
        let mut all = self.empty();
        for address in addresses {
            all.push(*address);
        }
        all
    }
}

impl fmt::Debug for RememberingResolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RememberingResolver")
    }
}

impl Resolver for RememberingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        if let Some(address) = address_in(uri) {
            return Ok(self.all(&[address]));
        }
        let Some(authority) = uri.authority() else {
            return self.system.resolve(uri, config, timeout);
        };
        // The scheme stands for a port that isn't written.
        let key = format!("{}://{authority}", uri.scheme_str().unwrap_or_default());
        let uptime = self.clock.now().uptime;
        if let Some((addresses, until)) = self.lock().get(&key)
            && *until > uptime
        {
            return Ok(self.all(addresses));
        }
        let found = self.system.resolve(uri, config, timeout).map_err(|error| match error {
            // What the system says of a name server that is away has no kind of its own.
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            other => other,
        })?;
        let mut known = self.lock();
        known.retain(|_, (_, until)| *until > uptime);
        known.insert(key, (found.iter().copied().collect(), uptime + LIFE));
        Ok(found)
    }
}

/// The address of a URL whose host is one.
fn address_in(uri: &Uri) -> Option<SocketAddr> {
    let authority = uri.authority()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = host.parse().ok()?;
    let usual = match uri.scheme_str()? {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    Some(SocketAddr::new(address, authority.port_u16().unwrap_or(usual)))
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
