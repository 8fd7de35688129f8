//! ureq's agents: the connections they keep, and for how long they use the certificates of a CA file.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use super::{CONNECT_LIMIT, ClientOptions, INPUT_BYTES, OUTPUT_BYTES, USER_AGENT};
use crate::clock::Clock;
use crate::http::resolver::RememberingResolver;
use crate::http::trust::Trust;

/// Certificates that were removed from a file stop being trusted within this time.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Two agents that differ in one thing. They are kept for as long as a call uses them, so that a
/// shutdown reaches the calls of either.
pub(super) struct Agents {
    /// Keeps connections.
    pub(super) keeping: Agent,
    /// Keeps none, so that each call connects again.
    pub(super) fresh: Agent,
}

impl Agents {
    pub(super) fn new(options: &ClientOptions, tls: Option<&TlsConfig>) -> Agents {
        Agents { keeping: agent(options, tls, true), fresh: agent(options, tls, false) }
    }

    pub(super) fn shutdown(&self) {
        self.keeping.clone().shutdown();
        self.fresh.clone().shutdown();
    }
}

/// The agents of https calls, made at the first one: root certificates cost milliseconds and memory.
#[derive(Default)]
pub(super) struct SecureAgents {
    current: Option<Current>,
    /// Replaced, but still used by a call.
    replaced: Vec<Arc<Agents>>,
}

struct Current {
    agents: Arc<Agents>,
    fingerprint: Vec<u8>,
    /// Uptime from which the file is looked at again.
    due: Duration,
}

impl SecureAgents {
    /// Agents that trust the certificates which the file holds now, or held less than a minute ago.
    pub(super) fn get(
        &mut self,
        options: &ClientOptions,
        uptime: Duration,
    ) -> Result<Arc<Agents>, String> {
        self.replaced.retain(|agents| Arc::strong_count(agents) > 1);
        if self.current.as_ref().is_some_and(|current| uptime >= current.due) {
            self.forget_if_changed(&options.trust, uptime);
        }
        if let Some(current) = &self.current {
            return Ok(Arc::clone(&current.agents));
        }
        let loaded = options.trust.load()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        let tls = match loaded.certificates {
            Some(certificates) => tls.root_certs(RootCerts::new_with_certs(&certificates)).build(),
            None => tls.disable_verification(true).build(),
        };
        let agents = Arc::new(Agents::new(options, Some(&tls)));
        let due = uptime.saturating_add(LOOK_EVERY);
        let current = Current { agents: Arc::clone(&agents), fingerprint: loaded.fingerprint, due };
        self.current = Some(current);
        Ok(agents)
    }

    /// Is the file another one than was read, or gone? Then the next call reads it again, and says so
    /// if it can't.
    pub(super) fn forget_if_changed(&mut self, trust: &Trust, uptime: Duration) -> bool {
        let Some(current) = &mut self.current else { return false };
        current.due = uptime.saturating_add(LOOK_EVERY);
        if !trust.differs_from(&current.fingerprint) {
            return false;
        }
        self.replaced.extend(self.current.take().map(|current| current.agents));
        true
    }

    pub(super) fn shutdown(&self) {
        let current = self.current.as_ref().map(|current| &current.agents);
        self.replaced.iter().chain(current).for_each(|agents| agents.shutdown());
    }
}

/// A body that is read through these agents; as long as it lives they count as used.
pub(super) struct HeldBody<R> {
    pub(super) body: R,
    pub(super) _agents: Arc<Agents>,
}

impl<R: Read> Read for HeldBody<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

fn agent(options: &ClientOptions, tls: Option<&TlsConfig>, keeps: bool) -> Agent {
    let (idle, idle_per_host) = if keeps { (32, 16) } else { (0, 0) };
    let mut builder = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent(USER_AGENT)
        .input_buffer_size(INPUT_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        .max_idle_connections(idle)
        .max_idle_connections_per_host(idle_per_host)
        .max_idle_age(options.idle_limit)
        .timeout_connect(Some(CONNECT_LIMIT.min(options.call_limit)))
        .timeout_global(Some(options.call_limit));
    if let Some(tls) = tls {
        builder = builder.tls_config(tls.clone());
    }
    let resolver = RememberingResolver::new(Clock::system());
    Agent::with_parts(builder.build(), DefaultConnector::default(), resolver)
}
