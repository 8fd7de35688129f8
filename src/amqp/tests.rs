//! A session against invented brokers, and against what a real RabbitMQ 3.10 sent.

use std::time::Duration;

use proptest::prelude::*;

use super::wire::{BODY, Bytes, HEADER, HEARTBEAT, METHOD};
use super::{BODY_LIMIT_BYTES, Error, Event, Login, Session, Subscription};
use crate::secret::Secret;

/// All that it sent: login, a queue, the exchange `neutron`, no exchange `nova`, two messages, the close.
const RECORDED: &[u8] = include_bytes!("../../fixtures/recordings/rabbitmq/session.bin");
const SECOND: Duration = Duration::from_secs(1);
const START: Duration = Duration::from_secs(1000);

fn session() -> Session {
    let login = Login {
        user: "operator".to_owned(),
        password: Secret::new("rabbit-0pen5tack".to_owned()),
        vhost: "/".to_owned(),
    };
    let subscription = Subscription {
        exchanges: vec!["neutron", "nova"],
        keys: vec!["notifications.info", "versioned_notifications.info"],
        queue_limit: 1000,
        look_every: 60 * SECOND,
    };
    Session::new(login, subscription, START)
}

fn frame(kind: u8, channel: u16, payload: &Bytes) -> Vec<u8> {
    let mut bytes = Vec::new();
    payload.frame(kind, channel, &mut bytes);
    bytes
}

fn method(channel: u16, payload: &Bytes) -> Vec<u8> {
    frame(METHOD, channel, payload)
}

fn start(mechanisms: &str) -> Vec<u8> {
    let start = Bytes::method(10, 10).u8(0).u8(9).long(&[]);
    method(0, &start.long(mechanisms.as_bytes()).long(b"en_US"))
}

fn tune(frame_limit: u32, heartbeat: u16) -> Vec<u8> {
    method(0, &Bytes::method(10, 30).u16(2047).u32(frame_limit).u16(heartbeat))
}

fn queue_declared() -> Vec<u8> {
    method(1, &Bytes::method(50, 11).short("amq.gen-x").u32(0).u32(0))
}

fn close(channel: u16, code: u16, reason: &str) -> Vec<u8> {
    let close = if channel == 0 { Bytes::method(10, 50) } else { Bytes::method(20, 40) };
    method(channel, &close.u16(code).short(reason).u16(0).u16(0))
}

fn message(body: &[u8]) -> Vec<u8> {
    let deliver = Bytes::method(60, 60).short("tag").u32(0).u32(1).u8(0).short("e").short("k");
    let mut bytes = [method(1, &deliver), header(body.len() as u64)].concat();
    for part in body.chunks(30_000) {
        let mut payload = Bytes::default();
        payload.0.extend_from_slice(part);
        bytes.extend(frame(BODY, 1, &payload));
    }
    bytes
}

fn header(length: u64) -> Vec<u8> {
    let length = Bytes::default().u32((length >> 32) as u32).u32(length as u32);
    let mut payload = Bytes::default().u16(60).u16(0);
    payload.0.extend_from_slice(&length.0);
    frame(HEADER, 1, &payload.u16(0))
}

/// A session to which messages can come, without anything to send.
fn ready(heartbeat: u16) -> Session {
    let mut session = session();
    for bytes in [
        start("PLAIN"),
        tune(131_072, heartbeat),
        method(0, &Bytes::method(10, 41).short("")),
        method(1, &Bytes::method(20, 11).long(&[])),
        queue_declared(),
    ] {
        assert_eq!(session.received(&bytes, START), Ok(vec![]));
    }
    let consumed = method(1, &Bytes::method(60, 21).short("tag"));
    assert_eq!(session.received(&consumed, START), Ok(vec![Event::Subscribed]));
    session.output();
    session
}

/// Ready, with both exchanges bound: the first round is over.
fn bound() -> Session {
    let mut session = ready(10);
    let bind_ok = method(2, &Bytes::method(50, 21));
    let opened = method(2, &Bytes::method(20, 11).long(&[]));
    assert_eq!(session.received(&opened, START), Ok(vec![]));
    assert_eq!(session.received(&bind_ok, START), Ok(vec![Event::Bound("neutron")]));
    assert_eq!(session.received(&bind_ok, START), Ok(vec![Event::Bound("nova")]));
    session.output();
    session
}

/// Class, method and channel of each method among these bytes.
fn sent(output: &[u8]) -> Vec<(u8, u8, u8)> {
    let (mut rest, mut found) = (output, Vec::new());
    while let [kind, _, channel, a, b, c, d, ..] = *rest {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if kind == METHOD {
            found.push((rest[8], rest[10], channel));
        }
        assert_eq!(rest[length + 7], 0xCE);
        rest = &rest[length + 8..];
    }
    assert!(rest.is_empty());
    found
}

#[test]
fn a_recorded_session_is_understood_in_pieces_of_every_size() {
    for size in [1, 2, 7, 100, 4096, RECORDED.len()] {
        let (mut session, mut events) = (session(), Vec::new());
        let mut output = session.output().to_vec();
        assert_eq!(output, b"AMQP\0\0\x09\x01");
        output.clear();
        let (messages, close_ok) = RECORDED.split_at(RECORDED.len() - 12);
        for piece in messages.chunks(size) {
            events.extend(session.received(piece, START).unwrap());
            output.extend_from_slice(&session.output());
        }
        session.close();
        output.extend_from_slice(&session.output());
        assert_eq!(session.received(close_ok, START), Ok(vec![]));
        assert!(session.is_closed());
        let missing = "404 NOT_FOUND - no exchange 'nova' in vhost '/'".to_owned();
        let quiet = [Event::Subscribed, Event::Bound("neutron"), Event::Unbound("nova", missing)];
        assert_eq!(events[..3], quiet, "{size}");
        for event in &events[3..] {
            let Event::Message(body) = event else { panic!("{event:?}") };
            let envelope: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert!(envelope["oslo.message"].as_str().unwrap().contains("port.update.end"));
        }
        let login = b"\x05PLAIN\0\0\0\x1a\0operator\0rabbit-0pen5tack\x05en_US";
        assert!(output.windows(login.len()).any(|window| window == login));
        let ask = [(40, 10, 2), (50, 20, 2), (50, 20, 2)];
        let login = [(10, 11, 0), (10, 31, 0), (10, 40, 0)];
        let queue = [(20, 10, 1), (50, 10, 1), (60, 20, 1), (20, 10, 2)];
        let refused = [(20, 41, 2), (20, 10, 2)];
        let all = [&login[..], &queue, &ask, &ask, &refused, &[(10, 50, 0)]].concat();
        assert_eq!(sent(&output), all, "{size}");
    }
}

/// Byte for byte: a flag that is wrong would declare an exchange, or keep the queue.
#[test]
fn the_queue_is_our_own_and_exchanges_are_only_looked_at() {
    let mut session = session();
    for bytes in [start("PLAIN"), tune(0, 0)] {
        session.received(&bytes, START).unwrap();
    }
    session.output();
    session.received(&method(0, &Bytes::method(10, 41).short("")), START).unwrap();
    // Class and method, a reserved number, the name, the flags, the arguments.
    let declare = b"\0\x32\0\x0a\0\0\0\x0c\0\0\0\x16\x0cx-max-lengthl\0\0\0\0\0\0\x03\xe8\xce";
    let consume = b"\0\x3c\0\x14\0\0\0\0\x02\0\0\0\0\xce";
    let output = session.output();
    let has = |output: &[u8], part: &[u8]| output.windows(part.len()).any(|window| window == part);
    assert!(has(&output, declare) && has(&output, consume), "{}", output.escape_ascii());
    session.received(&queue_declared(), START).unwrap();
    session.output();
    session.received(&method(2, &Bytes::method(20, 11).long(&[])), START).unwrap();
    let look = b"\0\x28\0\x0a\0\0\x07neutron\x05topic\x11\0\0\0\0\xce";
    let first = b"\0\x32\0\x14\0\0\x09amq.gen-x\x07neutron\x12notifications.info\x01\0\0\0\0\xce";
    let last = b"\x07neutron\x1cversioned_notifications.info\0\0\0\0\0\xce";
    let output = session.output();
    let is_as_wanted = has(&output, look) && has(&output, first) && has(&output, last);
    assert!(is_as_wanted, "{}", output.escape_ascii());
}

#[test]
fn limits_are_the_lower_ones_and_zero_is_none() {
    for (frame_limit, heartbeat, agreed) in
        [(131_072, 60, (32_768_u32, 10_u16)), (0, 0, (32_768, 10)), (4096, 2, (4096, 2))]
    {
        let mut session = session();
        session.received(&start("AMQPLAIN PLAIN"), START).unwrap();
        session.output();
        session.received(&tune(frame_limit, heartbeat), START).unwrap();
        let output = session.output();
        let wanted = method(0, &Bytes::method(10, 31).u16(2).u32(agreed.0).u16(agreed.1));
        assert_eq!(output[..wanted.len()], wanted, "{frame_limit} {heartbeat}");
    }
}

#[test]
fn a_broker_that_says_nothing_for_two_heartbeats_is_dead_and_hears_from_us_each_half() {
    let mut session = ready(4);
    let beat = frame(HEARTBEAT, 0, &Bytes::default());
    let mut beats = 0;
    for tenth in 0..100 {
        let now = START + tenth * SECOND / 10;
        session.tick(now).unwrap();
        beats += session.output().len() / beat.len();
        if tenth == 30 {
            assert_eq!(session.received(&beat, now), Ok(vec![]));
        }
    }
    assert_eq!(beats, 4);
    let last = START + 3 * SECOND;
    session.tick(last + 8 * SECOND - Duration::from_millis(1)).unwrap();
    let silent = session.tick(last + 8 * SECOND).unwrap_err();
    assert_eq!(silent, Error::TimedOut(8 * SECOND));
    assert_eq!(silent.to_string(), "the broker didn't answer for 8 s");
}

#[test]
fn a_broker_that_lets_nobody_in_is_left_after_ten_seconds_however_chatty_it_is() {
    let mut session = session();
    session.received(&start("PLAIN"), START).unwrap();
    session.received(&tune(0, 10), START).unwrap();
    let late = START + 10 * SECOND;
    session.received(&frame(HEARTBEAT, 0, &Bytes::default()), late).unwrap();
    session.tick(late - Duration::from_millis(1)).unwrap();
    assert_eq!(session.tick(late), Err(Error::TimedOut(10 * SECOND)));
}

#[test]
fn who_speaks_another_protocol_is_shown_with_what_it_said() {
    for (sent, words) in [
        (&b"HTTP/1.1 400 Bad Request"[..], "no AMQP 0-9-1 but \"HTTP/1.1 400 Bad\""),
        (b"AMQP\x00\x01\x00\x00", "no AMQP 0-9-1 but \"AMQP\\x00\\x01\\x00\\x00\""),
        (b"\x15\x03\x03\0\x02\x02\x0a", "an alert of TLS: it wants TLS at this port"),
    ] {
        let text = session().received(sent, START).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn what_breaks_the_format_ends_the_session() {
    let mut no_end = message(b"{}");
    *no_end.last_mut().unwrap() = 0;
    let body = frame(BODY, 1, &Bytes::default().u32(7));
    for (bytes, words) in [
        (no_end, "a frame without its end byte"),
        (vec![METHOD, 0, 1, 0x7F, 0, 0, 0], "a frame above the limit"),
        (method(1, &Bytes::default().u8(1)), "a frame that ends within a field"),
        (body.clone(), "what doesn't belong there"),
        ([header(3), body].concat(), "what doesn't belong there"),
        ([header(3), header(3)].concat(), "what doesn't belong there"),
        (start("PLAIN"), "what doesn't belong there"),
        (method(9, &Bytes::method(60, 60)), "what doesn't belong there"),
        (method(2, &Bytes::method(60, 60)), "what doesn't belong there"),
    ] {
        let text = ready(10).received(&bytes, START).unwrap_err().to_string();
        assert_eq!(text, format!("the broker sent {words}"));
    }
    let unasked = bound().received(&method(2, &Bytes::method(50, 21)), START);
    assert_eq!(unasked, Err(Error::Malformed("what doesn't belong there")));
    let text = session().received(&start("AMQPLAIN EXTERNAL"), START).unwrap_err().to_string();
    assert_eq!(text, "the broker sent a choice of logins without PLAIN");
}

#[test]
fn bodies_come_whole_and_one_that_is_too_large_is_passed_over() {
    let limit = BODY_LIMIT_BYTES as usize;
    let mut session = ready(10);
    for length in [0, 1, 29_999, 30_000, 30_001, 300_000, limit] {
        let body = vec![b'x'; length];
        assert_eq!(session.received(&message(&body), START), Ok(vec![Event::Message(body)]));
    }
    let bytes = [message(&vec![b'x'; limit + 1]), message(b"next")].concat();
    let events = [Event::TooLarge(limit as u64 + 1), Event::Message(b"next".to_vec())];
    assert_eq!(session.received(&bytes, START).unwrap(), events);
}

#[test]
fn a_close_by_the_broker_is_answered_and_its_reason_told() {
    let reason = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.";
    let mut early = session();
    early.received(&start("PLAIN"), START).unwrap();
    early.output();
    let error = early.received(&close(0, 403, reason), START).unwrap_err();
    assert_eq!(error.to_string(), format!("the broker says 403 {reason}"));
    assert_eq!(sent(&early.output()), [(10, 51, 0)]);
    // The queue's name is another one each time, and a text may have more than one line.
    let reason = "ACCESS_REFUSED -\naccess to queue 'amq.gen-81S_c-J' refused for user 'u'";
    let error = ready(10).received(&close(1, 403, reason), START).unwrap_err();
    let words = "403 ACCESS_REFUSED - access to queue 'amq.gen-*' refused for user 'u'";
    assert_eq!(error, Error::Closed(words.to_owned()));
    let cancel = method(1, &Bytes::method(60, 30).short("tag").u8(1));
    assert_eq!(ready(10).received(&cancel, START), Err(Error::Cancelled));
}

#[test]
fn a_blocked_broker_says_so() {
    let mut session = ready(10);
    let blocked = method(0, &Bytes::method(10, 60).short("low on disk"));
    let bytes = [blocked, method(0, &Bytes::method(10, 61))].concat();
    let events = [Event::Blocked("low on disk".to_owned()), Event::Unblocked];
    assert_eq!(session.received(&bytes, START).unwrap(), events);
}

#[test]
fn exchanges_are_looked_for_again_and_only_news_are_told() {
    let mut session = bound();
    let opened = method(2, &Bytes::method(20, 11).long(&[]));
    let bind_ok = method(2, &Bytes::method(50, 21));
    let mut now = START;
    let mut round = |answers: [&[u8]; 2]| {
        let heartbeat = frame(HEARTBEAT, 0, &Bytes::default());
        let next = now + 60 * SECOND;
        session.received(&heartbeat, next).unwrap();
        session.tick(next - Duration::from_millis(1)).unwrap();
        assert_eq!(sent(&session.output()), []);
        session.tick(next).unwrap();
        assert_eq!(sent(&session.output()), [(40, 10, 2), (50, 20, 2), (50, 20, 2)]);
        now = next;
        let events: Vec<Event> =
            answers.iter().flat_map(|answer| session.received(answer, now).unwrap()).collect();
        session.output();
        events
    };
    let gone = [close(2, 404, "NOT_FOUND - no exchange"), opened.clone()].concat();
    let refused = [close(2, 403, "ACCESS_REFUSED"), opened].concat();
    assert_eq!(round([&bind_ok, &bind_ok]), []);
    let unbound = |exchange, text: &str| Event::Unbound(exchange, text.to_owned());
    let events = [unbound("neutron", "404 NOT_FOUND - no exchange")];
    assert_eq!(round([&gone, &bind_ok]), events);
    assert_eq!(round([&gone, &refused]), [unbound("nova", "403 ACCESS_REFUSED")]);
    assert_eq!(round([&bind_ok, &refused]), [Event::Bound("neutron")]);
    assert_eq!(round([&bind_ok, &bind_ok]), [Event::Bound("nova")]);
}

#[test]
fn an_orderly_close_waits_for_its_answer_and_tells_nothing_more() {
    let mut session = bound();
    session.close();
    session.close();
    assert_eq!(sent(&session.output()), [(10, 50, 0)]);
    assert_eq!(session.received(&message(b"late"), START), Ok(vec![]));
    session.tick(START + 100 * SECOND).unwrap();
    assert!(!session.is_closed());
    assert_eq!(session.received(&method(0, &Bytes::method(10, 51)), START), Ok(vec![]));
    assert!(session.is_closed() && session.output().is_empty());
    // At the same time as the broker's own, and before anything was said.
    let mut both = bound();
    both.close();
    assert_eq!(both.received(&close(0, 320, "CONNECTION_FORCED"), START), Ok(vec![]));
    assert!(both.is_closed());
    let mut unborn = self::session();
    unborn.close();
    assert!(unborn.is_closed());
}

proptest! {
    #[test]
    fn whatever_becomes_of_the_bytes_nothing_breaks_and_memory_has_a_limit(
        changes in prop::collection::vec((0..RECORDED.len(), any::<u8>()), 0..6),
        cut in 0..RECORDED.len(),
        again in 0..RECORDED.len(),
        size in 1_usize..5000,
    ) {
        let mut bytes = RECORDED.to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(cut);
        bytes.extend_from_slice(&RECORDED[again..]);
        let (mut session, mut now) = (session(), START);
        for piece in bytes.chunks(size) {
            now += SECOND;
            let Ok(events) = session.received(piece, now) else { break };
            for event in events {
                if let Event::Message(body) = event {
                    prop_assert!(body.len() as u64 <= BODY_LIMIT_BYTES);
                }
            }
            if session.tick(now).is_err() {
                break;
            }
            prop_assert!(session.output().len() < 100_000);
        }
    }
}
