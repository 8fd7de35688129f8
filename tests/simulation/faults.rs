//! What goes wrong with requests, and the draw that says when.
//!
//! Requests of one sync go side by side, in an order that is nobody's. So a fault is never drawn
//! from a sequence: it follows from the seed, the pass, and what is asked for the how-manieth time.

use std::collections::BTreeMap;
use std::time::Duration;

use multinic_operator::http::client::{Failure, Service};
use simulated_cloud::wire::{Body, Response};

/// The services that syncs ask.
pub(crate) const SERVICES: [Service; 5] =
    [Service::Contrabass, Service::Keystone, Service::Neutron, Service::Nova, Service::Viola];

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Nobody listens.
    Refused,
    /// The name has no address.
    NoSuchHost,
    /// The answer comes after the limit.
    TooLate,
    /// The connection ends before the answer.
    Cut,
    /// The connection's end is the body's end, and it comes early.
    CutBody,
    /// JSON of some other shape.
    WrongJson,
    /// A page of something in front of the service, with status 200.
    Html,
    /// A status without a body of the service's own.
    Status(u16),
    /// A status with Retry-After.
    Overloaded(u16),
    /// The rows of a page come in another order.
    RowsReversed,
    /// Rows come twice.
    RowsTwice,
    /// A page leads to itself.
    EndlessPages,
    /// The service shows its caller's secrets in an error.
    Echo,
    /// Viola accepts some of the nodes.
    SomeRefused,
}

impl Fault {
    /// One word for counts and stories.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Refused => "refused",
            Fault::NoSuchHost => "no such host",
            Fault::TooLate => "too late",
            Fault::Cut => "cut",
            Fault::CutBody => "body cut",
            Fault::WrongJson => "wrong JSON",
            Fault::Html => "HTML",
            Fault::Status(401) => "401",
            Fault::Status(403) => "403",
            Fault::Status(404) => "404",
            Fault::Status(_) => "5xx",
            Fault::Overloaded(429) => "429",
            Fault::Overloaded(_) => "503",
            Fault::RowsReversed => "rows reversed",
            Fault::RowsTwice => "rows twice",
            Fault::EndlessPages => "endless pages",
            Fault::Echo => "secret echoed",
            Fault::SomeRefused => "some nodes refused",
        }
    }

    /// All of them.
    pub(crate) const ALL: [Fault; 18] = [
        Fault::Refused,
        Fault::NoSuchHost,
        Fault::TooLate,
        Fault::Cut,
        Fault::CutBody,
        Fault::WrongJson,
        Fault::Html,
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(404),
        Fault::Status(500),
        Fault::Overloaded(429),
        Fault::Overloaded(503),
        Fault::RowsReversed,
        Fault::RowsTwice,
        Fault::EndlessPages,
        Fault::Echo,
        Fault::SomeRefused,
    ];

    /// Can it happen at this service?
    pub(crate) fn fits(self, service: Service) -> bool {
        match self {
            Fault::RowsReversed | Fault::RowsTwice | Fault::EndlessPages => {
                matches!(service, Service::Neutron | Service::Nova)
            }
            Fault::SomeRefused => service == Service::Viola,
            // A page with status 200 counts as Viola's success: the contract says so.
            Fault::Html => service != Service::Viola,
            _ => true,
        }
    }

    /// Does the service do what it was asked for all the same, where that makes a difference?
    fn may_have_effect(self) -> bool {
        !matches!(
            self,
            Fault::Refused | Fault::NoSuchHost | Fault::Status(401 | 403 | 404) | Fault::Echo
        )
    }
}

/// A number that follows from its parts, whoever asks first.
pub(crate) fn drawn(seed: u64, parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// A fault that met a request, and whether the service did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Met {
    pub(crate) fault: Fault,
    pub(crate) has_effect: bool,
    /// For whatever is still open.
    pub(crate) dice: u64,
}

impl Met {
    /// Does it ask for a longer pause than is granted?
    pub(crate) fn asks_for_long(self) -> bool {
        matches!(self.fault, Fault::Overloaded(_)) && self.dice.is_multiple_of(16)
    }
}

/// What goes wrong at present.
#[derive(Clone, Debug)]
pub(crate) struct FaultSettings {
    pub(crate) seed: u64,
    /// The kinds that this simulation has.
    pub(crate) kinds: Vec<Fault>,
    /// Requests in a thousand that meet a fault by themselves.
    pub(crate) noise: u64,
    /// Services that are down, and how.
    pub(crate) outages: BTreeMap<Service, Fault>,
}

impl FaultSettings {
    /// What meets a request, if anything does.
    pub(crate) fn meets(&self, service: Service, request: &[&str]) -> Option<Met> {
        let dice = drawn(self.seed, request);
        let met = |fault: Fault| {
            let has_effect = fault.may_have_effect() && dice & 0x100_0000 != 0;
            Met { fault, has_effect, dice: dice >> 32 }
        };
        if let Some(fault) = self.outages.get(&service) {
            return Some(met(*fault));
        }
        if dice % 1000 >= self.noise {
            return None;
        }
        let fitting: Vec<Fault> =
            self.kinds.iter().copied().filter(|fault| fault.fits(service)).collect();
        let count = fitting.len() as u64;
        (count > 0).then(|| met(fitting[usize::try_from((dice >> 10) % count).unwrap()]))
    }
}

/// A reply as the client sees it.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Reply {
        let body = match response.body {
            Body::Bytes(bytes) => bytes,
            Body::Stream(_) => Vec::new(),
        };
        Reply { status: response.status, headers: response.headers, body }
    }
}

impl Reply {
    fn of(status: u16, body: &str) -> Reply {
        Reply { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }
}

/// What the fault makes of the true reply. `secret` is what the caller sent to be let in.
pub(crate) fn spoiled(met: Met, true_reply: Reply, secret: &str) -> Result<Reply, Failure> {
    let Met { fault, dice, .. } = met;
    let mut reply = true_reply;
    Ok(match fault {
        Fault::Refused => return Err(Failure::Refused),
        Fault::NoSuchHost => return Err(Failure::HostNotFound),
        Fault::TooLate => return Err(Failure::Timeout { waiting_for: "the answer" }),
        Fault::Cut => return Err(Failure::Lost),
        Fault::CutBody => {
            let length = reply.body.len().max(1);
            reply.body.truncate(usize::try_from(dice).unwrap_or(0) % length);
            // An answer without a body at all is another matter at Viola: it is a success.
            if reply.body.is_empty() {
                return Err(Failure::Lost);
            }
            reply
        }
        Fault::WrongJson => {
            let bodies = [
                "{\"ports\": null}",
                "{\"errors\": 7}",
                "[{\"errors\": ",
                "{\"ports\": [{}]}",
                "{\"returnCode\": \"200\", \"data\": {}",
                "{\"server\": {\"name\": \"x\"}",
            ];
            let status = if reply.status < 300 { reply.status } else { 200 };
            let body = bodies[usize::try_from(dice).unwrap_or(0) % bodies.len()];
            Reply { headers: reply.headers, ..Reply::of(status, body) }
        }
        Fault::Html => Reply::of(200, "<html><title>Please log in</title></html>"),
        Fault::Status(401) => {
            Reply::of(401, r#"{"error": {"code": 401, "message": "requires authentication"}}"#)
        }
        Fault::Status(status) => {
            Reply::of(status, "<html><title>Something in front</title></html>")
        }
        Fault::Overloaded(status) => {
            let seconds =
                if met.asks_for_long() { 100_000 } else { [1, 30, 120][dice as usize % 3] };
            let mut reply = Reply::of(status, "");
            reply.headers.push(("Retry-After".to_owned(), seconds.to_string()));
            reply
        }
        Fault::RowsReversed => of_rows(reply, |rows| rows.reverse()),
        Fault::RowsTwice => of_rows(reply, |rows| rows.extend(rows.clone())),
        Fault::EndlessPages => endless(reply),
        Fault::Echo => Reply::of(500, &format!("{{\"message\": \"bad header: {secret}\"}}")),
        Fault::SomeRefused => reply,
    })
}

fn of_rows(mut reply: Reply, change: impl Fn(&mut Vec<serde_json::Value>)) -> Reply {
    let Ok(mut body) = serde_json::from_slice::<serde_json::Value>(&reply.body) else {
        return reply;
    };
    for list in ["ports", "servers", "subnets"] {
        if let Some(serde_json::Value::Array(rows)) = body.get_mut(list) {
            change(rows);
        }
    }
    reply.body = body.to_string().into_bytes();
    reply
}

fn endless(mut reply: Reply) -> Reply {
    let Ok(mut body) = serde_json::from_slice::<serde_json::Value>(&reply.body) else {
        return reply;
    };
    for list in ["ports", "servers", "subnets"] {
        let last = body[list].as_array().and_then(|rows| rows.last()).map(|row| row["id"].clone());
        if let Some(serde_json::Value::String(last)) = last {
            let href = format!("http://x.test/?marker={last}");
            body[format!("{list}_links")] = serde_json::json!([{"rel": "next", "href": href}]);
        }
    }
    reply.body = body.to_string().into_bytes();
    reply
}

/// How long outages last: minutes, at times hours.
pub(crate) fn outage_length(random: &mut fastrand::Rng, poll: Duration) -> Duration {
    poll.mul_f64(random.choice([0.5, 2.0, 5.0]).unwrap() * random.f64())
}
