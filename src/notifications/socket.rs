//! Addresses of brokers, and the socket to one, with TLS or without.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, InvalidMessage, StreamOwned};

use crate::http::tls::client_config;
use crate::http::trust::{self, Trust};

/// Long enough for a lost SYN to be repeated twice.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a read waits; between two of them the stop is noticed.
pub(super) const READ_LIMIT: Duration = Duration::from_millis(250);
/// What is sent fits the system's buffers.
const WRITE_LIMIT: Duration = Duration::from_secs(1);
/// Reads until a handshake counts as failed.
const HANDSHAKE_READS: usize = 20;

/// When TLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseTls {
    /// With `amqps://` and on port 5671.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: u16,
    pub(super) is_secure: bool,
}

impl Address {
    /// The address in a URL, or in a text such as `10.0.0.5:5672`. User, password and path are left
    /// out. None without a host or with a port that is none.
    pub(super) fn read(url: &str, tls: UseTls) -> Option<Address> {
        let (scheme, rest) = url.trim().split_once("://").unwrap_or(("", url.trim()));
        let authority = rest.rsplit('@').next()?.split(['/', '?', '#']).next()?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
                (host, Some(port.parse().ok().filter(|port| *port != 0)?))
            }
            _ => (authority, None),
        };
        let is_secure = match tls {
            UseTls::Auto => scheme.eq_ignore_ascii_case("amqps") || port == Some(5671),
            UseTls::Always => true,
            UseTls::Never => false,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port.unwrap_or(if is_secure { 5671 } else { 5672 });
        (!host.is_empty()).then_some(Address { host, port, is_secure })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(formatter, "[{}]:{}", self.host, self.port),
            false => write!(formatter, "{}:{}", self.host, self.port),
        }
    }
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A connection of bytes.
pub(super) struct Socket(Box<dyn Duplex>);

impl Socket {
    /// Connects. A look-up of the name and each attempt to connect run to their limits; a handshake ends
    /// when `is_stopped` says so.
    ///
    /// # Errors
    /// Why not, for a message.
    pub(super) fn connect(
        address: &Address,
        trust: &Trust,
        is_stopped: impl Fn() -> bool,
    ) -> Result<Socket, String> {
        let found = (address.host.as_str(), address.port).to_socket_addrs();
        let found = found.map_err(|_| "the host name could not be resolved")?;
        let mut result = Err("the host name has no address".to_owned());
        for found in found {
            result = TcpStream::connect_timeout(&found, CONNECT_LIMIT).map_err(|e| reason(&e));
            if result.is_ok() {
                break;
            }
        }
        let stream = result?;
        stream
            .set_read_timeout(Some(READ_LIMIT))
            .and_then(|()| stream.set_write_timeout(Some(WRITE_LIMIT)))
            .and_then(|()| stream.set_nodelay(true))
            .map_err(|error| reason(&error))?;
        match address.is_secure {
            true => with_tls(stream, address, trust, is_stopped),
            false => Ok(Socket(Box::new(stream))),
        }
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// Why not; the connection can't be used any more.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).map_err(|error| reason(&error))
    }

    /// What has come, or nothing within [`READ_LIMIT`].
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Result<&'a [u8], String> {
        match self.0.read(buffer) {
            Ok(0) => Err(LOST.to_owned()),
            Ok(count) => Ok(&buffer[..count]),
            Err(error) if is_wait(&error) => Ok(&[]),
            Err(error) => Err(reason(&error)),
        }
    }
}

fn with_tls(
    mut stream: TcpStream,
    address: &Address,
    trust: &Trust,
    is_stopped: impl Fn() -> bool,
) -> Result<Socket, String> {
    let name = ServerName::try_from(address.host.clone());
    let name = name.map_err(|_| "TLS: no certificate can name this host")?;
    let config = Arc::new(client_config(trust)?);
    let mut session = ClientConnection::new(config, name).map_err(|error| explain(&error))?;
    for _ in 0..HANDSHAKE_READS {
        match session.complete_io(&mut stream) {
            Ok(_) if !session.is_handshaking() => {
                return Ok(Socket(Box::new(StreamOwned::new(session, stream))));
            }
            Ok(_) => {}
            Err(error) if is_wait(&error) && !is_stopped() => {}
            Err(error) => return Err(reason(&error)),
        }
    }
    Err("timed out during the TLS handshake".to_owned())
}

const LOST: &str = "the connection was lost";

fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// In stable words, without ports or times.
fn reason(error: &io::Error) -> String {
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return explain(inner);
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "timed out".to_owned(),
        ErrorKind::ConnectionReset
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionAborted => LOST.to_owned(),
        _ => error.to_string(),
    }
}

fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "TLS: the broker doesn't speak it at this port".to_owned()
        }
        other => format!("TLS: {}", trust::explain(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, UseTls};

    fn read(url: &str, tls: UseTls) -> Option<(String, bool)> {
        Address::read(url, tls).map(|address| (address.to_string(), address.is_secure))
    }

    #[test]
    fn an_address_is_read_from_every_way_to_write_it() {
        for (url, shown, is_secure) in [
            ("10.0.0.5:5672", "10.0.0.5:5672", false),
            ("rabbit.example", "rabbit.example:5672", false),
            ("amqp://rabbit.example:5673/vhost", "rabbit.example:5673", false),
            ("amqps://rabbit.example", "rabbit.example:5671", true),
            ("rabbit.example:5671", "rabbit.example:5671", true),
            ("rabbit://user:pa/s@s@rabbit.example:5672//", "rabbit.example:5672", false),
            ("[fd00::5]:5671", "[fd00::5]:5671", true),
            ("fd00::5", "[fd00::5]:5672", false),
        ] {
            let wanted = Some((shown.to_owned(), is_secure));
            assert_eq!(read(url, UseTls::Auto), wanted, "{url}");
        }
        for url in ["", "amqp://", "user:secret@", "h:port", "h:0", "h:70000", ":5672"] {
            assert_eq!(read(url, UseTls::Auto), None, "{url}");
        }
    }

    #[test]
    fn a_setting_decides_over_port_and_scheme() {
        let (always, never) = (UseTls::Always, UseTls::Never);
        assert_eq!(read("h:5672", always), Some(("h:5672".to_owned(), true)));
        assert_eq!(read("h", always), Some(("h:5671".to_owned(), true)));
        assert_eq!(read("amqps://h:5671", never), Some(("h:5671".to_owned(), false)));
    }
}
