//! ureq's agents: the connections they keep, and for how long they use the certificates of a CA file.

use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use super::{
    CONNECT_LIMIT, ClientCertificate, ClientOptions, ClientTls, INPUT_BYTES, OUTPUT_BYTES,
    USER_AGENT,
};
use crate::clock::Clock;
use crate::http::resolver::RememberingResolver;
use crate::http::trust::Trust;

/// Certificates that were removed from a file stop being trusted within this time.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The agents of https calls, made at the first one: root certificates cost milliseconds and memory.
#[derive(Default)]
pub(super) struct SecureAgents {
    /// The last is the current one, if `read` is known. Those before it were replaced, but a call
    /// still uses them: a shutdown reaches these calls too.
    agents: Vec<Arc<Agent>>,
    /// The fingerprint of the file, and the uptime from which it is looked at again.
    read: Option<(Vec<u8>, Duration)>,
}

impl SecureAgents {
    /// An agent that trusts the certificates which the file holds now, or held less than a minute ago.
    pub(super) fn get(
        &mut self,
        options: &ClientOptions,
        uptime: Duration,
    ) -> Result<Arc<Agent>, String> {
        if self.read.as_ref().is_some_and(|(_, due)| uptime >= *due) {
            self.forget_if_changed(&options.trust, uptime);
        }
        let current = self.read.as_ref().and_then(|_| self.agents.pop());
        self.agents.retain(|agent| Arc::strong_count(agent) > 1);
        let current = match current {
            Some(current) => current,
            None => {
                let (certificates, fingerprint) = options.trust.load()?;
                self.read = Some((fingerprint, uptime.saturating_add(LOOK_EVERY)));
                Arc::new(agent(options, Some(tls(certificates, &options.tls)?)))
            }
        };
        self.agents.push(Arc::clone(&current));
        Ok(current)
    }

    /// Is the file another one than was read, or gone? Then the next call reads it again, and says so
    /// if it can't.
    pub(super) fn forget_if_changed(&mut self, trust: &Trust, uptime: Duration) -> bool {
        let Some((fingerprint, due)) = &mut self.read else { return false };
        *due = uptime.saturating_add(LOOK_EVERY);
        let is_changed = trust.differs_from(fingerprint);
        if is_changed {
            self.read = None;
        }
        is_changed
    }

    pub(super) fn shutdown(&self) {
        self.agents.iter().for_each(|agent| Agent::clone(agent).shutdown());
    }
}

/// Without certificates nothing is verified.
fn tls(roots: Option<Vec<Certificate<'static>>>, ours: &ClientTls) -> Result<TlsConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let ours = ours.certificate.as_ref().map(ClientCertificate::read).transpose()?;
    let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider).client_cert(ours);
    Ok(match roots {
        Some(roots) => tls.root_certs(RootCerts::new_with_certs(&roots)).build(),
        None => tls.disable_verification(true).build(),
    })
}

pub(super) fn agent(options: &ClientOptions, tls: Option<TlsConfig>) -> Agent {
    let mut builder = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent(USER_AGENT)
        .input_buffer_size(INPUT_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        .max_idle_connections(32)
        .max_idle_connections_per_host(16)
        .max_idle_age(options.idle_limit)
        .timeout_connect(Some(CONNECT_LIMIT.min(options.call_limit)));
    if let Some(tls) = tls {
        builder = builder.tls_config(tls);
    }
    let resolver = RememberingResolver::new(Clock::system(), options.tls.server_name.as_ref());
    Agent::with_parts(builder.build(), DefaultConnector::default(), resolver)
}
