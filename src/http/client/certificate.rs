//! What a client shows of itself in TLS, and by which name it knows its server.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::http::Uri;
use ureq::http::uri::PathAndQuery;
use ureq::tls::{Certificate, ClientCert, PrivateKey};

use crate::secret::Secret;

/// TLS beside whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Who we are.
    pub certificate: Option<ClientCertificate>,
    /// The name in the server's certificate.
    pub server_name: Option<ServerName>,
}

/// A certificate of our own and its key, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, then those that it leads to.
    pub chain: Secret,
    /// Its private key.
    pub key: Secret,
}

impl ClientCertificate {
    /// As the HTTP library wants it, which takes for granted that both belong together.
    ///
    /// # Errors
    /// Why it can't be used, without a word of it.
    pub(crate) fn read(&self) -> Result<ClientCert, String> {
        let chain = CertificateDer::pem_slice_iter(self.chain.expose().as_bytes());
        let chain: Vec<CertificateDer<'_>> = chain.filter_map(Result::ok).collect();
        if chain.is_empty() {
            return Err("the client certificate holds no PEM certificate".to_owned());
        }
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes())
            .map_err(|_| "the key of the client certificate is no PEM key")?;
        let certificates: Vec<_> =
            chain.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
        let pem = PrivateKey::from_pem(self.key.expose().as_bytes())
            .map_err(|_| "the key of the client certificate is no PEM key")?;
        let provider = rustls::crypto::ring::default_provider();
        rustls::sign::CertifiedKey::from_der(chain, key, &provider)
            .map_err(|_| "the client certificate and its key don't belong together")?;
        Ok(ClientCert::new_with_certs(&certificates, pem))
    }
}

/// A name that stands in URLs in place of the host, so that TLS asks for it; the address is the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName {
    /// What the server's certificate names.
    pub name: String,
    /// Where the server is.
    pub host: String,
}

impl ServerName {
    /// The base URL with the name in place of the host.
    pub(crate) fn put_into(url: &str, name: &str) -> Option<(String, ServerName)> {
        let uri: Uri = url.parse().ok()?;
        let host = uri.host()?.to_owned();
        let named = with_host(&uri, name)?.to_string().trim_end_matches('/').to_owned();
        Some((named, ServerName { name: name.to_owned(), host }))
    }

    /// The URL with the host in place of the name; none for another URL, such as a proxy's.
    pub(in crate::http) fn real(&self, uri: &Uri) -> Option<Uri> {
        (uri.host() == Some(&self.name)).then(|| with_host(uri, &self.host)).flatten()
    }
}

fn with_host(uri: &Uri, host: &str) -> Option<Uri> {
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    format!("{}://{host}{port}{path}", uri.scheme_str()?).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::ServerName;

    #[test]
    fn a_server_is_asked_for_by_its_name_at_its_address() {
        let (url, named) = ServerName::put_into("https://[fd00::1]:6443/k8s", "api.biz").unwrap();
        assert_eq!(url, "https://api.biz:6443/k8s");
        let real = named.real(&format!("{url}/api?x=1").parse().unwrap()).unwrap();
        assert_eq!(real.to_string(), "https://[fd00::1]:6443/k8s/api?x=1");
        assert_eq!(named.real(&"http://proxy:3128".parse().unwrap()), None);
        assert_eq!(ServerName::put_into("https://a", "no host"), None);
    }
}
