//! Which certificates a TLS connection accepts: all, those of a given bundle, or those of the system's.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible, RootCertStore};
use ureq::tls::{Certificate, PemItem, parse_pem};

/// Where distributions keep the bundle of public roots; the first that exists is taken.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Which certificates to accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Every certificate, also a forged one; the connection is encrypted and no more.
    Anyone,
    /// The roots in a PEM file, and which setting named it.
    Bundle {
        /// The environment variable that named the file, for messages.
        variable: &'static str,
        /// The PEM file.
        path: PathBuf,
    },
    /// The roots in a PEM text.
    Pem {
        /// Whose text it is, for messages.
        place: String,
        /// The PEM text.
        pem: String,
    },
    /// The system's public roots.
    System,
}

/// Certificates, none where nothing is verified; and the fingerprint of their file, which differs if
/// it has other content (mounts swap symlinks, so times say nothing).
pub(crate) type Loaded = (Option<Vec<Certificate<'static>>>, Vec<u8>);

impl Trust {
    /// Reads the roots; each call reads the file again.
    ///
    /// # Errors
    /// Why there are none, for a message.
    pub(crate) fn load(&self) -> Result<Loaded, String> {
        let (file, bytes) = self.content()?;
        let certificates = match self {
            Trust::Anyone => None,
            _ => {
                Some(certificates(&bytes).ok_or(file + ", which holds no usable PEM certificate")?)
            }
        };
        Ok((certificates, fingerprint(&bytes)))
    }

    /// Has the file other content than [`Trust::load`] read, or can't it be read any more?
    pub(crate) fn differs_from(&self, loaded: &[u8]) -> bool {
        !self.content().is_ok_and(|(_, bytes)| fingerprint(&bytes) == loaded)
    }

    /// Who names which file, for messages, and what it holds; nothing where nothing is verified.
    fn content(&self) -> Result<(String, Vec<u8>), String> {
        let (variable, path) = match self {
            Trust::Anyone => return Ok(Default::default()),
            Trust::Pem { place, pem } => return Ok((place.clone(), pem.as_bytes().to_vec())),
            Trust::Bundle { variable, path } => (*variable, path.as_path()),
            Trust::System => {
                let found = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists());
                let path = found.ok_or(
                    "no bundle of public root certificates was found; \
                     set the service's _CA_FILE variable, or SSL_CERT_FILE",
                )?;
                ("the system", path)
            }
        };
        let file = format!("{variable} names {}", path.display());
        match fs::read(path) {
            Ok(bytes) => Ok((file, bytes)),
            Err(error) => Err(format!("{file}, which can't be read: {error}")),
        }
    }
}

/// A digest: a bundle of public roots has 200 KB.
fn fingerprint(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}

/// All certificates of a file; none if one is broken, or none is there that can be used.
fn certificates(bytes: &[u8]) -> Option<Vec<Certificate<'static>>> {
    let mut certificates = Vec::new();
    for item in parse_pem(bytes) {
        if let PemItem::Certificate(certificate) = item.ok()? {
            certificates.push(certificate);
        }
    }
    // One that can't be read would be passed over in silence, and each call say later that its
    // server's authority isn't trusted. Among many, one more or less doesn't matter.
    let given = certificates.iter().map(|known| CertificateDer::from(known.der()));
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(given);
    (usable > 0).then_some(certificates)
}

/// A TLS failure in words that say what to do about the certificates OpenStack labs really have.
pub(crate) fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => match of_certificate(reason) {
            Some(words) => words.to_owned(),
            None => format!("the certificate is refused: {reason}"),
        },
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "the server has neither TLS 1.2 nor 1.3 in common with us".to_owned(),
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "the server doesn't speak TLS; is the URL meant to begin with http://?".to_owned(),
        other => other.to_string(),
    }
}

fn of_certificate(reason: &CertificateError) -> Option<&'static str> {
    Some(match reason {
        CertificateError::UnknownIssuer => {
            "the certificate is signed by an authority that isn't trusted here; \
             put its root into the service's _CA_FILE"
        }
        CertificateError::BadSignature => {
            "the certificate is signed by an authority that isn't trusted here, though one of the \
             same name is; put its present root into the service's _CA_FILE"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate isn't valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate doesn't name this host; it needs it as a subjectAltName"
        }
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the server presents a CA certificate as its own; \
             issue it a certificate with CA:FALSE"
        }
        _ => return None,
    })
}
