//! One connection: requests in, answers out, and what a fault makes of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::message::{Body, Framing, Request, Response};
use super::{Limits, Shared, Stop};
use crate::faults::{FaultKind, Trouble};
use crate::journal::{LoggedRequest, Service};

/// No head may be longer, whatever a service allows.
const HEAD_MAXIMUM: usize = 256 * 1024;
/// No body may be longer.
const BODY_MAXIMUM: usize = 64 * 1024 * 1024;
/// How often a hanging request looks whether its client is still there.
const HANG_STEP: Duration = Duration::from_millis(20);

/// Writes the body of a streamed answer.
pub struct StreamWriter<'a> {
    stream: &'a TcpStream,
    stop: &'a Stop,
    chunked: bool,
    cut: bool,
}

impl StreamWriter<'_> {
    /// Sends one piece (one chunk, if the answer is chunked) at once. Nothing goes out after
    /// [`StreamWriter::cut`], and an empty piece is none.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.cut || bytes.is_empty() {
            return Ok(());
        }
        if !self.chunked {
            return self.stream.write_all(bytes);
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.stream.write_all(&chunk)
    }

    /// Whether the client closed the connection, or the server is being stopped.
    pub fn peer_is_gone(&mut self) -> bool {
        self.stop.is_set() || peer_is_gone(self.stream)
    }

    /// Ends the connection after what was sent so far, without the last chunk.
    pub fn cut(&mut self) {
        self.cut = true;
    }
}

/// What becomes of the connection after an answer.
#[derive(PartialEq, Eq)]
enum Next {
    Keep,
    Close,
    Reset,
}

/// Serves one connection until it ends.
pub(super) fn serve(shared: &Shared, number: u64, stream: &TcpStream) {
    // Without it small answers wait for the acknowledgement of earlier ones.
    drop(stream.set_nodelay(true));
    let mut received = Vec::new();
    loop {
        let next = match read_request(shared, number, stream, &mut received) {
            Ok(Some(incoming)) => answer(shared, stream, &incoming),
            Ok(None) | Err(_) => Next::Close,
        };
        match next {
            Next::Keep if !shared.stop.is_set() => {}
            Next::Reset => {
                // With a linger time of zero, closing sends RST instead of FIN.
                drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
                return;
            }
            _ => return,
        }
    }
}

struct Incoming {
    request: Request,
    sequence: u64,
    keep: bool,
}

/// Reads one request. `None`: the client closed the connection, or was refused.
fn read_request(
    shared: &Shared,
    connection: u64,
    mut stream: &TcpStream,
    received: &mut Vec<u8>,
) -> io::Result<Option<Incoming>> {
    let limits = shared.handler.limits();
    let mut head_bytes = None;
    while head_bytes.is_none() && received.len() <= HEAD_MAXIMUM {
        head_bytes = find(received, b"\r\n\r\n").map(|end| end + 4);
        if head_bytes.is_none() && !receive(stream, received)? {
            return Ok(None);
        }
    }
    let head = Head::parse(limits, received, head_bytes, shared.service, connection);
    let Head { mut logged, length, keep } = match head {
        Ok(head) => head,
        Err((logged, status)) => {
            refuse(shared, stream, *logged, status)?;
            return Ok(None);
        }
    };
    if logged.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let end = logged.head_bytes + length;
    while received.len() < end {
        if !receive(stream, received)? {
            return Ok(None);
        }
    }
    logged.body = received[logged.head_bytes..end].to_vec();
    received.drain(..end);
    let request =
        Request::new(&logged.method, &logged.target, logged.headers.clone(), logged.body.clone());
    Ok(Some(Incoming { request, sequence: shared.journal.arrived(logged), keep }))
}

/// What a head says.
struct Head {
    logged: LoggedRequest,
    /// Bytes of the body.
    length: usize,
    /// Whether the connection may be kept.
    keep: bool,
}

/// What can be logged of a request that can't be taken, and the status that it gets, if any.
type Refused = (Box<LoggedRequest>, Option<u16>);

impl Head {
    /// Reads a head; no `head_bytes`: it didn't end within the maximum.
    fn parse(
        limits: Limits,
        received: &[u8],
        head_bytes: Option<usize>,
        service: Service,
        connection: u64,
    ) -> Result<Head, Refused> {
        let mut logged = LoggedRequest {
            sequence: 0,
            service,
            method: String::new(),
            target: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            status: None,
            head_bytes: head_bytes.unwrap_or(received.len()),
            connection,
            arrived_ms: 0,
            begun_ms: None,
            answered_ms: None,
        };
        let Some(head_bytes) = head_bytes else {
            return Err((Box::new(logged), Some(431)));
        };
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut parsed = httparse::Request::new(&mut headers);
        if parsed.parse(&received[..head_bytes]).is_err() {
            return Err((Box::new(logged), Some(400)));
        }
        logged.method = parsed.method.unwrap_or_default().to_owned();
        logged.target = parsed.path.unwrap_or_default().to_owned();
        logged.headers = parsed
            .headers
            .iter()
            .map(|header| {
                let value = String::from_utf8_lossy(header.value).into_owned();
                (header.name.to_owned(), value)
            })
            .collect();
        if let Some(status) = too_long(limits, received, head_bytes) {
            return Err((Box::new(logged), status));
        }
        if logged.header("transfer-encoding").is_some() {
            return Err((Box::new(logged), Some(411)));
        }
        let length = match logged.header("content-length").map(str::parse::<usize>) {
            None => 0,
            Some(Ok(length)) if length <= BODY_MAXIMUM => length,
            Some(_) => return Err((Box::new(logged), Some(413))),
        };
        let closing = logged
            .header("connection")
            .is_some_and(|value| value.to_ascii_lowercase().contains("close"));
        Ok(Head { keep: parsed.version == Some(1) && !closing, logged, length })
    }
}

/// Whether the request is longer than the service takes, and the status that it then gets.
fn too_long(limits: Limits, received: &[u8], head_bytes: usize) -> Option<Option<u16>> {
    let line = find(received, b"\r\n").map_or(head_bytes, |end| end + 2);
    if limits.request_line.is_some_and(|limit| line > limit) {
        return Some(Some(414));
    }
    if limits.head.is_some_and(|limit| head_bytes > limit) {
        return Some(None);
    }
    None
}

/// Answers what can't be taken, without asking the service, and logs it.
fn refuse(
    shared: &Shared,
    mut stream: &TcpStream,
    logged: LoggedRequest,
    status: Option<u16>,
) -> io::Result<()> {
    let sequence = shared.journal.arrived(logged);
    if let Some(status) = status {
        shared.journal.status_sent(sequence, status);
        let answer = match status {
            414 => "HTTP/1.0 414 Request URI Too Long\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
            _ => format!("HTTP/1.1 {status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        };
        stream.write_all(answer.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
    }
    shared.journal.left_flight(shared.service);
    shared.journal.answered(sequence);
    Ok(())
}

/// Answers one request, with whatever fault meets it.
fn answer(shared: &Shared, stream: &TcpStream, incoming: &Incoming) -> Next {
    let request = &incoming.request;
    let trouble = shared.faults.meet(shared.service, request);
    let next = match respond(shared, stream, request, &trouble) {
        Ok(Some(response)) => {
            let stream_begun = matches!(response.body, Body::Stream(_));
            shared.journal.status_sent(incoming.sequence, response.status);
            if stream_begun {
                shared.journal.left_flight(shared.service);
            }
            let sent = send(shared, stream, request, response, trouble.kind);
            if !stream_begun {
                shared.journal.left_flight(shared.service);
            }
            sent.unwrap_or(Next::Close)
        }
        Ok(None) => {
            shared.journal.left_flight(shared.service);
            Next::Close
        }
        Err(_) => {
            shared.journal.left_flight(shared.service);
            Next::Reset
        }
    };
    shared.journal.answered(incoming.sequence);
    if next == Next::Keep && !incoming.keep {
        return Next::Close;
    }
    next
}

/// The connection is to be reset.
struct ResetWanted;

/// The answer to a request; none when the connection is to end without one.
fn respond(
    shared: &Shared,
    stream: &TcpStream,
    request: &Request,
    trouble: &Trouble,
) -> Result<Option<Response>, ResetWanted> {
    if !trouble.delay.is_zero() && shared.stop.wait(trouble.delay) {
        return Ok(None);
    }
    Ok(match &trouble.kind {
        None
        | Some(
            FaultKind::Delay(_)
            | FaultKind::CutBody { .. }
            | FaultKind::CutBodyUntilClose { .. }
            | FaultKind::DripBody { .. },
        ) => Some(shared.handler.handle(request)),
        Some(FaultKind::Status { status, headers, body }) => {
            let mut response = Response::empty(*status);
            response.headers.clone_from(headers);
            response.body = Body::Bytes(body.clone());
            Some(response)
        }
        Some(FaultKind::Html { status }) => Some(Response::new(
            *status,
            "text/html",
            format!(
                "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n<hr><center>proxy</center>\r\n</body>\r\n</html>\r\n"
            ),
        )),
        Some(FaultKind::Body(body)) => Some(Response::new(200, "application/json", body.clone())),
        Some(FaultKind::CloseWithoutAnswer) => None,
        Some(FaultKind::AnswerLost) => {
            drop(shared.handler.handle(request));
            None
        }
        Some(FaultKind::Reset) => return Err(ResetWanted),
        Some(FaultKind::Hang) => {
            while !shared.faults.cleared_since(trouble.clearings, HANG_STEP) {
                if shared.stop.is_set() || peer_is_gone(stream) {
                    return Ok(None);
                }
            }
            Some(shared.handler.handle(request))
        }
    })
}

/// Puts an answer on the wire.
fn send(
    shared: &Shared,
    mut stream: &TcpStream,
    request: &Request,
    mut response: Response,
    fault: Option<FaultKind>,
) -> io::Result<Next> {
    if matches!(fault, Some(FaultKind::CutBodyUntilClose { .. })) {
        response.framing = Framing::UntilClose;
    }
    let body = std::mem::replace(&mut response.body, Body::Bytes(Vec::new()));
    let bytes = match body {
        Body::Bytes(bytes) => bytes,
        Body::Stream(write) => {
            if response.framing == Framing::ContentLength {
                response.framing = Framing::Chunked;
            }
            stream.write_all(&response.head(None))?;
            let mut writer = StreamWriter {
                stream,
                stop: &shared.stop,
                chunked: response.framing == Framing::Chunked,
                cut: false,
            };
            write(&mut writer)?;
            if writer.cut || !writer.chunked {
                return Ok(Next::Close);
            }
            stream.write_all(b"0\r\n\r\n")?;
            return Ok(Next::Keep);
        }
    };
    let head = response.head(Some(bytes.len()));
    if request.method == "HEAD" {
        stream.write_all(&head)?;
        return Ok(Next::Keep);
    }
    match fault {
        Some(FaultKind::CutBody { after_bytes } | FaultKind::CutBodyUntilClose { after_bytes }) => {
            stream.write_all(&head)?;
            stream.write_all(&bytes[..after_bytes.min(bytes.len())])?;
            return Ok(Next::Close);
        }
        Some(FaultKind::DripBody { bytes: piece, pause }) => {
            stream.write_all(&head)?;
            for part in bytes.chunks(piece.max(1)) {
                stream.write_all(part)?;
                if shared.stop.wait(pause) {
                    return Ok(Next::Close);
                }
            }
        }
        _ if response.framing == Framing::Chunked => {
            stream.write_all(&head)?;
            let mut writer = StreamWriter { stream, stop: &shared.stop, chunked: true, cut: false };
            writer.send(&bytes)?;
            stream.write_all(b"0\r\n\r\n")?;
        }
        _ => {
            // One write, so that small answers are one packet.
            let mut whole = head;
            whole.extend_from_slice(&bytes);
            stream.write_all(&whole)?;
        }
    }
    Ok(match response.framing {
        Framing::UntilClose => Next::Close,
        Framing::ContentLength | Framing::Chunked => Next::Keep,
    })
}

/// Whether the client closed its side; what it sent meanwhile stays unread.
fn peer_is_gone(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let gone = match stream.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).is_err() || gone
}

/// Takes in what has arrived; false at the end of the stream.
fn receive(mut stream: &TcpStream, received: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    let count = stream.read(&mut buffer)?;
    received.extend_from_slice(&buffer[..count]);
    Ok(count > 0)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
