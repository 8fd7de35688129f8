//! What a message broker sends.

use std::time::Duration;

use multinic_operator::amqp::{BODY_LIMIT_BYTES, Event, Login, Session, Subscription};
use multinic_operator::secret::Secret;

const EXCHANGES: [&str; 2] = ["neutron", "nova"];

/// The first byte says in which pieces the rest arrives. Only exchanges that were asked for are told
/// of, a body is within its limit, what is sent in answer is in proportion to what came, and the end
/// waits for nothing.
pub fn run(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let login = Login {
        user: "user".to_owned(),
        password: Secret::new("password".to_owned()),
        vhost: "/".to_owned(),
    };
    let subscription = Subscription {
        exchanges: EXCHANGES.to_vec(),
        keys: vec!["notifications.info"],
        queue_limit: 10,
        look_every: Duration::from_secs(3),
    };
    let mut now = Duration::from_secs(1);
    let mut session = Session::new(login, subscription, now);
    let mut sent = session.output().len();
    for piece in data.chunks(usize::from(*size).max(1)) {
        now += Duration::from_millis(500);
        let taken = session.received(piece, now);
        sent += session.output().len();
        let Ok(events) = taken else { break };
        for event in events {
            match event {
                Event::Message(body) => {
                    assert!(body.len() as u64 <= BODY_LIMIT_BYTES && body.len() <= data.len());
                }
                Event::TooLarge(length) => assert!(length > BODY_LIMIT_BYTES),
                Event::Bound(exchange) => assert!(EXCHANGES.contains(&exchange)),
                Event::Unbound(exchange, reason) => {
                    assert!(EXCHANGES.contains(&exchange));
                    assert!(!reason.contains(char::is_control), "{reason:?}");
                }
                Event::Blocked(_) | Event::Unblocked | Event::Subscribed => {}
            }
        }
        if session.tick(now).is_err() {
            break;
        }
        sent += session.output().len();
    }
    // Answers, a heartbeat in five seconds, and a round of questions in three.
    assert!(sent < 1000 + 20 * data.len() + now.as_secs() as usize * 300, "{sent}");
    session.close();
    drop(session.received(data, now));
    assert!(session.tick(now + Duration::from_secs(1000)).is_ok());
}
