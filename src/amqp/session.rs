//! One connection: login, heartbeats, the queue, its messages, and the close.

use std::time::Duration;

use zeroize::Zeroizing;

use super::bindings::Bindings;
use super::wire::{BODY, Bytes, FRAME_LIMIT_BYTES, Fields, Frame, HEADER, HEARTBEAT, METHOD};
use super::{BODY_LIMIT_BYTES, Error, Event, Login, OUT_OF_TURN, Subscription};

/// For login and queue; RabbitMQ gives a login as long.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// The broker may want fewer seconds.
const HEARTBEAT_SECONDS: u16 = 10;
/// The channel with the queue. Its end is the session's.
const QUEUE: u16 = 1;
/// The channel for exchanges. A refusal closes it, and it is opened again.
const BINDINGS: u16 = 2;

/// Which answer is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// `connection.start`.
    Start,
    /// `connection.tune`.
    Tune,
    /// `connection.open-ok`.
    Open,
    /// `basic.consume-ok`.
    Consume,
    /// None: messages come.
    Ready,
    /// `connection.close-ok`.
    Close,
    /// None: it is over.
    Closed,
}

/// A message that isn't all there yet.
struct Content {
    /// The length of its body, and how much of it is still to come.
    length: u64,
    left: u64,
    /// What came, unless it is too large.
    body: Vec<u8>,
}

/// A connection without its socket. The caller sends [`Session::output`] and hands in what arrives.
pub struct Session {
    login: Login,
    bindings: Bindings,
    stage: Stage,
    input: Vec<u8>,
    output: Zeroizing<Vec<u8>>,
    events: Vec<Event>,
    content: Option<Content>,
    /// None before it is agreed upon.
    heartbeat: Option<Duration>,
    /// Uptimes: by when messages must come, and of the last bytes in and heartbeat out.
    ready_by: Duration,
    received_at: Duration,
    beat_at: Duration,
}

impl Session {
    /// A session on a new connection; `now` is the uptime.
    pub fn new(login: Login, subscription: Subscription, now: Duration) -> Session {
        Session {
            login,
            bindings: Bindings::new(BINDINGS, subscription),
            stage: Stage::Start,
            input: Vec::new(),
            output: Zeroizing::new(b"AMQP\0\0\x09\x01".to_vec()),
            events: Vec::new(),
            content: None,
            heartbeat: None,
            ready_by: now + READY_LIMIT,
            received_at: now,
            beat_at: now,
        }
    }

    /// What is to be sent now; handed out once.
    pub fn output(&mut self) -> Zeroizing<Vec<u8>> {
        std::mem::take(&mut self.output)
    }

    /// Takes in what arrived, in pieces of any size.
    ///
    /// # Errors
    /// The session is over; [`Session::output`] may still hold a last answer.
    pub fn received(&mut self, bytes: &[u8], now: Duration) -> Result<Vec<Event>, Error> {
        if !bytes.is_empty() {
            self.received_at = now;
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut rest = &input[..];
        while let Some((frame, behind)) = Frame::first(rest)? {
            self.frame(&frame)?;
            rest = behind;
        }
        let done = input.len() - rest.len();
        input.drain(..done);
        self.input = input;
        Ok(std::mem::take(&mut self.events))
    }

    /// Does what is due by time; to be called at least four times in a heartbeat.
    ///
    /// # Errors
    /// The session is over: the broker is silent.
    pub fn tick(&mut self, now: Duration) -> Result<(), Error> {
        match (self.stage, self.heartbeat) {
            (Stage::Close | Stage::Closed, _) => {}
            (Stage::Ready, Some(heartbeat)) if now >= self.received_at + 2 * heartbeat => {
                return Err(Error::TimedOut(2 * heartbeat));
            }
            (Stage::Ready, Some(heartbeat)) => {
                if now >= self.beat_at + heartbeat / 2 {
                    self.beat_at = now;
                    Bytes::default().frame(HEARTBEAT, 0, &mut self.output);
                }
                self.bindings.tick(now, &mut self.output);
            }
            _ if now >= self.ready_by => return Err(Error::TimedOut(READY_LIMIT)),
            _ => {}
        }
        Ok(())
    }

    /// Begins an orderly end; nothing is reported from now on.
    pub fn close(&mut self) {
        match self.stage {
            Stage::Start => self.stage = Stage::Closed,
            Stage::Close | Stage::Closed => {}
            _ => {
                self.stage = Stage::Close;
                let close = Bytes::method(10, 50).u16(200).short("closed in order");
                self.send(0, &close.u16(0).u16(0));
            }
        }
    }

    /// Has the broker confirmed the end?
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    fn send(&mut self, channel: u16, method: &Bytes) {
        method.frame(METHOD, channel, &mut self.output);
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), Error> {
        let mut fields = Fields(frame.payload);
        match frame.kind {
            METHOD => self.method(frame.channel, fields),
            HEADER | BODY if self.stage != Stage::Ready => Ok(()),
            HEADER if self.content.is_none() => {
                let (_class, _weight, length) = (fields.u16()?, fields.u16()?, fields.u64()?);
                self.content = Some(Content { length, left: length, body: Vec::new() });
                self.body(&[])
            }
            BODY => self.body(frame.payload),
            HEARTBEAT => Ok(()),
            _ => Err(OUT_OF_TURN),
        }
    }

    /// More of the message's body. It is whole when nothing is left to come.
    fn body(&mut self, part: &[u8]) -> Result<(), Error> {
        let Content { length, left, body } = self.content.as_mut().ok_or(OUT_OF_TURN)?;
        *left = left.checked_sub(part.len() as u64).ok_or(OUT_OF_TURN)?;
        if *length <= BODY_LIMIT_BYTES {
            body.extend_from_slice(part);
        }
        if *left == 0 {
            self.events.push(match *length <= BODY_LIMIT_BYTES {
                true => Event::Message(std::mem::take(body)),
                false => Event::TooLarge(*length),
            });
            self.content = None;
        }
        Ok(())
    }

    fn method(&mut self, channel: u16, mut fields: Fields<'_>) -> Result<(), Error> {
        let method = (fields.u16()?, fields.u16()?);
        match (self.stage, channel, method) {
            // connection.close, which wants its close-ok.
            (stage, 0, (10, 50)) => {
                self.send(0, &Bytes::method(10, 51));
                self.stage = Stage::Closed;
                if stage != Stage::Close {
                    return Err(Error::Closed(fields.refusal()?));
                }
            }
            // connection.close-ok.
            (Stage::Close, 0, (10, 51)) => self.stage = Stage::Closed,
            (Stage::Close | Stage::Closed, ..) => {}
            // connection.start, .tune and .open-ok.
            (Stage::Start, 0, (10, 10)) => self.start(fields)?,
            (Stage::Tune, 0, (10, 30)) => self.tune(&mut fields)?,
            (Stage::Open, 0, (10, 41)) => self.opened(),
            // channel.open-ok; basic.deliver, of which nothing is needed.
            (Stage::Consume, QUEUE, (20, 11)) | (Stage::Ready, QUEUE, (60, 60)) => {}
            // queue.declare-ok, basic.consume-ok.
            (Stage::Consume, QUEUE, (50, 11)) => {
                self.bindings.begin(fields.short()?, &mut self.output);
            }
            (Stage::Consume, QUEUE, (60, 21)) => {
                self.stage = Stage::Ready;
                self.events.push(Event::Subscribed);
            }
            // channel.close.
            (_, QUEUE, (20, 40)) => return Err(Error::Closed(fields.refusal()?)),
            // basic.cancel.
            (_, QUEUE, (60, 30)) => return Err(Error::Cancelled),
            (Stage::Consume | Stage::Ready, BINDINGS, _) => {
                let now = self.received_at;
                let event = self.bindings.method(method, fields, now, &mut self.output)?;
                self.events.extend(event);
            }
            // connection.blocked and .unblocked.
            (_, 0, (10, 60)) => self.events.push(Event::Blocked(fields.short()?)),
            (_, 0, (10, 61)) => self.events.push(Event::Unblocked),
            _ => return Err(OUT_OF_TURN),
        }
        Ok(())
    }

    fn start(&mut self, mut fields: Fields<'_>) -> Result<(), Error> {
        let (_version, _properties) = (fields.u16()?, fields.long()?);
        if !fields.long()?.split(|byte| *byte == b' ').any(|mechanism| mechanism == b"PLAIN") {
            return Err(Error::Malformed("a choice of logins without PLAIN"));
        }
        let known =
            ["authentication_failure_close", "consumer_cancel_notify", "connection.blocked"];
        let known = known.iter().fold(Bytes::default(), |all, it| all.short(it).u8(b't').u8(1));
        let properties = Bytes::default().short("product").u8(b'S');
        let properties = properties.long(env!("CARGO_PKG_NAME").as_bytes());
        let properties = properties.short("capabilities").u8(b'F').long(&known.0);
        let Login { user, password, .. } = &self.login;
        let response = Zeroizing::new(format!("\0{user}\0{}", password.expose()));
        let answer = Bytes::method(10, 11).long(&properties.0).short("PLAIN");
        self.send(0, &answer.long(response.as_bytes()).short("en_US"));
        self.stage = Stage::Tune;
        Ok(())
    }

    /// Agrees on the lower limits of both. A zero means that the broker has no wish.
    fn tune(&mut self, fields: &mut Fields<'_>) -> Result<(), Error> {
        let (_channels, frame_limit, heartbeat) = (fields.u16()?, fields.u32()?, fields.u16()?);
        // One below zero is the highest.
        let frame_limit = frame_limit.wrapping_sub(1).min(FRAME_LIMIT_BYTES - 1) + 1;
        let heartbeat = heartbeat.wrapping_sub(1).min(HEARTBEAT_SECONDS - 1) + 1;
        self.heartbeat = Some(Duration::from_secs(heartbeat.into()));
        self.send(0, &Bytes::method(10, 31).u16(BINDINGS).u32(frame_limit).u16(heartbeat));
        self.send(0, &Bytes::method(10, 40).short(&self.login.vhost).short("").u8(0));
        self.stage = Stage::Open;
        Ok(())
    }

    /// Opens the channel, makes the queue and consumes it; they are answered one by one.
    fn opened(&mut self) {
        self.send(QUEUE, &Bytes::method(20, 10).short(""));
        // Exclusive and auto-delete, named by the broker.
        let limit = self.bindings.subscription.queue_limit;
        let limit = Bytes::default().short("x-max-length").u8(b'l').u32(0).u32(limit);
        let declare = Bytes::method(50, 10).u16(0).short("").u8(0b0_1100);
        self.send(QUEUE, &declare.long(&limit.0));
        // Without acknowledgements: a message that is lost is a poll that wasn't brought forward, and
        // the broker has no limit of time for them. No name means the queue that was declared last.
        let consume = Bytes::method(60, 20).u16(0).short("").short("").u8(0b0010);
        self.send(QUEUE, &consume.long(&[]));
        self.stage = Stage::Consume;
    }
}
