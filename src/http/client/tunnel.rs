//! The way through a proxy, as the HTTP library wants it.

use super::failure::{Failure, HttpError, failure_of};
use super::request::Request;
use crate::http::proxy::ProxyServer;

/// A proxy as ureq wants it. Made once: it holds a copy of the password.
pub(super) struct Tunnel {
    pub(super) variable: &'static str,
    proxy: Result<ureq::Proxy, ureq::Error>,
}

impl Tunnel {
    pub(super) fn to(server: &ProxyServer) -> Tunnel {
        let builder = ureq::Proxy::builder(ureq::ProxyProtocol::Http);
        let builder = builder.host(&server.host).port(server.port);
        let builder = match &server.login {
            None => builder,
            Some((user, None)) => builder.username(user),
            Some((user, Some(password))) => builder.username(user).password(password.expose()),
        };
        Tunnel { variable: server.variable, proxy: builder.build() }
    }

    /// What fails on the way to the proxy, or at it, isn't the service's failure.
    fn failure_of(&self, error: &ureq::Error) -> Failure {
        let what = match (error, failure_of(error)) {
            // The status, which ureq says twice, such as 407/407.
            (ureq::Error::ConnectProxyFailed(text), _) => match text.rsplit('/').next() {
                Some("407") => {
                    "HTTP 407: it wants another user and password than its URL has".to_owned()
                }
                Some(status) if status.len() == 3 => {
                    format!("HTTP {status}: it doesn't connect us with the service")
                }
                _ => "it gave no usable answer".to_owned(),
            },
            (_, failure @ (Failure::Refused | Failure::HostNotFound)) => failure.to_string(),
            (_, failure) => return failure,
        };
        Failure::Proxy { variable: self.variable, what }
    }
}

/// The proxy of this request, for the library.
pub(super) fn proxy_of(
    request: &Request<'_>,
    tunnel: Option<&Tunnel>,
) -> Result<Option<ureq::Proxy>, HttpError> {
    let Some(Tunnel { variable, proxy }) = tunnel else { return Ok(None) };
    match proxy {
        Ok(proxy) => Ok(Some(proxy.clone())),
        Err(_) => {
            let what = "its URL can't be used".to_owned();
            Err(request.failed(Failure::Proxy { variable, what }))
        }
    }
}

/// What came of a request that never got an answer.
pub(super) fn stopped_at(
    request: &Request<'_>,
    tunnel: Option<&Tunnel>,
    error: &ureq::Error,
) -> HttpError {
    request.failed(tunnel.map_or_else(|| failure_of(error), |tunnel| tunnel.failure_of(error)))
}
