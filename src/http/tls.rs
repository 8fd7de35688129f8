//! TLS for connections that don't carry HTTP; ureq sets up its own.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ALL_VERSIONS, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::trust::Trust;

/// What a client accepts that trusts these; reads the roots anew.
///
/// # Errors
/// Why there are no roots, for a message.
pub(crate) fn client_config(trust: &Trust) -> Result<ClientConfig, String> {
    let (certificates, _) = trust.load()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(ALL_VERSIONS)
        .map_err(|error| error.to_string())?;
    let builder = match certificates {
        Some(certificates) => {
            let mut roots = RootCertStore::empty();
            let given = certificates.iter().map(|known| CertificateDer::from(known.der()));
            roots.add_parsable_certificates(given);
            builder.with_root_certificates(roots)
        }
        None => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAnyone(provider)))
        }
    };
    Ok(builder.with_no_client_auth())
}

/// Accepts every certificate; the signatures only show that the server has its key.
#[derive(Debug)]
struct AcceptAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
