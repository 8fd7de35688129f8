//! The channel that looks for exchanges and binds the queue to those that are there.
//!
//! A refusal closes a channel with all that is under way on it, so the queue isn't on this one. Exchanges
//! are asked about one after another, in rounds: declared passively, which only looks, and bound to.

use std::time::Duration;

use super::wire::{Bytes, Fields, METHOD};
use super::{Error, Event, OUT_OF_TURN, Subscription};

pub(super) struct Bindings {
    channel: u16,
    pub(super) subscription: Subscription,
    queue: String,
    /// The last event about each exchange.
    said: Vec<Option<Event>>,
    /// Which exchange is asked about.
    asked: usize,
    /// Uptime at which the next round begins; none while one is under way.
    due: Option<Duration>,
}

impl Bindings {
    pub(super) fn new(channel: u16, subscription: Subscription) -> Bindings {
        let said = vec![None; subscription.exchanges.len()];
        Bindings { channel, subscription, queue: String::new(), said, asked: 0, due: None }
    }

    /// Opens the channel; the first round begins when it is open.
    pub(super) fn begin(&mut self, queue: String, output: &mut Vec<u8>) {
        self.queue = queue;
        self.send(&Bytes::method(20, 10).short(""), output);
    }

    pub(super) fn tick(&mut self, now: Duration, output: &mut Vec<u8>) {
        if self.due.is_some_and(|due| now >= due) {
            self.due = None;
            self.go_on(now, output);
        }
    }

    /// Takes in a method on the channel.
    pub(super) fn method(
        &mut self,
        method: (u16, u16),
        mut fields: Fields<'_>,
        now: Duration,
        output: &mut Vec<u8>,
    ) -> Result<Option<Event>, Error> {
        let asked = self.subscription.exchanges.get(self.asked).filter(|_| self.due.is_none());
        let event = match (method, asked) {
            // channel.open-ok.
            ((20, 11), _) => {
                self.go_on(now, output);
                return Ok(None);
            }
            // queue.bind-ok.
            ((50, 21), Some(exchange)) => Event::Bound(exchange),
            // channel.close, which wants its close-ok.
            ((20, 40), Some(exchange)) => Event::Unbound(exchange, fields.refusal()?),
            _ => return Err(OUT_OF_TURN),
        };
        let said = self.said[self.asked].replace(event.clone());
        self.asked += 1;
        if matches!(event, Event::Bound(_)) {
            self.go_on(now, output);
        } else {
            self.send(&Bytes::method(20, 41), output);
            self.send(&Bytes::method(20, 10).short(""), output);
        }
        Ok(Some(event).filter(|event| said.as_ref() != Some(event)))
    }

    /// Asks about the next exchange, or ends the round.
    fn go_on(&mut self, now: Duration, output: &mut Vec<u8>) {
        let Some(exchange) = self.subscription.exchanges.get(self.asked) else {
            self.asked = 0;
            self.due = Some(now + self.subscription.look_every);
            return;
        };
        // Passively. Only a refusal is answered, and the last binding.
        let declare = Bytes::method(40, 10).u16(0).short(exchange).short("topic").u8(0b1_0001);
        self.send(&declare.long(&[]), output);
        let keys = &self.subscription.keys;
        for (at, key) in keys.iter().enumerate() {
            let bind = Bytes::method(50, 20).u16(0).short(&self.queue).short(exchange).short(key);
            self.send(&bind.u8(u8::from(at + 1 < keys.len())).long(&[]), output);
        }
    }

    fn send(&self, method: &Bytes, output: &mut Vec<u8>) {
        method.frame(METHOD, self.channel, output);
    }
}
