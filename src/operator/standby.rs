//! The inventory API of a standby: forwards requests to the leader, which alone has the inventory.
//!
//! Nothing is decided here: the leader checks token, query and origin, and its answer is returned as it
//! is. Only the headers listed here are forwarded, in either direction. A request that another replica
//! forwarded isn't forwarded again, so none goes in circles.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::leadership::{Leader, LeaderStatus};
use crate::http::client::{Answer, Client, ClientOptions, Failure, Request as Forwarded, Service};
use crate::http::server::{Body, Handler, Method, NO_MEMORY, Request, Reservation, Response};
use crate::http::trust::Trust;
use crate::http::url::{path_segment, query_value};
use crate::inventory::api::Api;
use crate::metrics::Metrics;

/// The leader answers from memory, so it answers soon or not at all.
const CALL_LIMIT: Duration = Duration::from_secs(3);
/// Below the idle limit of the leader's server.
const IDLE_LIMIT: Duration = Duration::from_secs(15);
/// Longer answers aren't forwarded: each is held in memory until its client has received it.
const ANSWER_LIMIT_BYTES: usize = 8 * 1024 * 1024;
/// So much of the server's memory is reserved before an answer comes. For a longer one, of which there
/// are few, [`ANSWER_LIMIT_BYTES`] is reserved and the leader asked again: reserved for each request,
/// that would be more than the pod has. It bounds the requests that wait for a leader that hangs.
const SHORT_ANSWER_BYTES: usize = 512 * 1024;
/// The name of this program in `Via` (RFC 9110, 7.6.3), which shows that a replica forwarded a request.
const PROXY_NAME: &str = "multinic-operator";
/// Headers of the leader's answer that go to the client.
const RESPONSE_HEADERS: [&str; 17] = [
    "Access-Control-Allow-Headers",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
    "Allow",
    "Cache-Control",
    "Content-Security-Policy",
    "Content-Type",
    "ETag",
    "Link",
    "Referrer-Policy",
    "Retry-After",
    "Vary",
    "WWW-Authenticate",
    "X-Content-Type-Options",
    "X-Continue",
];

/// The inventory API of this replica or of the leader.
pub(super) struct InventoryHandler {
    /// Set once this replica leads.
    pub(super) api: Arc<OnceLock<Api>>,
    pub(super) leader: Arc<LeaderStatus>,
    pub(super) forwarder: Forwarder,
}

impl Handler for InventoryHandler {
    fn answer(&self, request: &Request) -> Response {
        if let Some(api) = self.api.get() {
            return api.answer(request);
        }
        if request.path == "/healthz" {
            let body = Body::Static(b"{\"status\":\"ok\"}");
            return Response::new(200, body).with("Content-Type", "application/json");
        }
        let leader =
            self.leader.other().unwrap_or_else(|| Leader::named("this replica, which starts"));
        let mut message = format!("not the leader (leader: {})", leader.name);
        match leader.inventory.map(|address| self.forwarder.forward(request, address)) {
            None => {}
            Some(Ok(response)) => return response,
            Some(Err(error)) => message += &format!("; the leader could not be asked: {error}"),
        }
        Response::error(503, &message).with("Retry-After", "5")
    }
}

/// Forwards requests to the leader.
pub(super) struct Forwarder {
    client: Client,
}

impl Forwarder {
    pub(super) fn new(metrics: Arc<Metrics>) -> Forwarder {
        let options = ClientOptions {
            call_limit: CALL_LIMIT,
            trust: Trust::System,
            idle_limit: IDLE_LIMIT,
            // From pod to pod, with the client's token.
            proxies: Arc::default(),
        };
        Forwarder { client: Client::new(options, metrics) }
    }

    /// The leader's answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn forward(
        &self,
        request: &Request,
        leader: SocketAddr,
    ) -> Result<Response, String> {
        if is_from_a_replica(request) {
            return Err("another replica forwarded this request".to_owned());
        }
        let url = format!("http://{leader}{}", target(request));
        let via = via(request);
        // A HEAD is asked as a GET: the length of an answer is known by its body, which our server
        // leaves out again.
        let method = if request.method == Method::Options { "OPTIONS" } else { "GET" };
        let mut forwarded = Forwarded::reading(Service::Leader, method, &url)
            .answer_limit(SHORT_ANSWER_BYTES as u64)
            .header("via", &via);
        let optional = [("if-none-match", &request.if_none_match), ("origin", &request.origin)];
        for (name, value) in optional {
            if let Some(value) = value {
                forwarded = forwarded.header(name, value);
            }
        }
        if let Some(authorization) = &request.authorization {
            forwarded = forwarded.secret_header("authorization", "", authorization);
        }
        let (answer, reservation) = self.ask(forwarded, request)?;
        let mut response = Response::new(answer.status, Body::Empty);
        for name in RESPONSE_HEADERS {
            if let Some(value) = answer.header(name) {
                response = response.with(name, value);
            }
        }
        response.body = Body::Owned(answer.body);
        Ok(response.holding(reservation))
    }

    /// The answer, and the reservation of the server's memory for it.
    fn ask(
        &self,
        forwarded: Forwarded<'_>,
        request: &Request,
    ) -> Result<(Answer, Reservation), String> {
        let mut reservation = request.memory.reserve(SHORT_ANSWER_BYTES).ok_or(NO_MEMORY)?;
        let mut result = self.client.call(&forwarded);
        if result.as_ref().is_err_and(|error| error.failure == Failure::TooLarge) {
            if !reservation.grow(ANSWER_LIMIT_BYTES - SHORT_ANSWER_BYTES) {
                return Err(NO_MEMORY.to_owned());
            }
            result = self.client.call(&forwarded.answer_limit(ANSWER_LIMIT_BYTES as u64));
        }
        let mut answer = result.map_err(|error| match error.failure {
            Failure::TooLarge => {
                format!("its answer exceeds {} MiB: ask for pages", ANSWER_LIMIT_BYTES >> 20)
            }
            failure => failure.to_string(),
        })?;
        answer.body.shrink_to_fit();
        reservation.shrink_to(answer.body.capacity());
        Ok((answer, reservation))
    }
}

fn is_from_a_replica(request: &Request) -> bool {
    let hops = request.via.as_deref().unwrap_or_default().split(',');
    hops.into_iter().any(|hop| hop.split_whitespace().nth(1) == Some(PROXY_NAME))
}

/// `Via` of the request with this program at its end.
fn via(request: &Request) -> String {
    let before = request.via.as_ref().map(|before| format!("{before}, "));
    format!("{}1.1 {PROXY_NAME}", before.unwrap_or_default())
}

/// Path and query, encoded again from what was read of them.
fn target(request: &Request) -> String {
    if request.path == "*" {
        return "/".to_owned();
    }
    let segments: Vec<String> = request.path.split('/').map(path_segment).collect();
    let mut target = segments.join("/");
    for (at, (name, value)) in request.query.iter().enumerate() {
        let separator = if at == 0 { '?' } else { '&' };
        target += &format!("{separator}{}={}", query_value(name), query_value(value));
    }
    target
}

#[cfg(test)]
mod tests {
    use super::{
        ANSWER_LIMIT_BYTES, Forwarder, NO_MEMORY, SHORT_ANSWER_BYTES, is_from_a_replica, target,
        via,
    };
    use crate::clock::Clock;
    use crate::http::server::{
        Body, Handler, Limits, MemoryBudget, Method, Request, Response, Server,
    };
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::{Arc, Mutex, mpsc};
    use std::time::Duration;

    const MEBIBYTE: usize = 1024 * 1024;

    fn request(path: &str, query: &[(&str, &str)], via: Option<&str>) -> Request {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Request {
            method: Method::Get,
            path: path.to_owned(),
            query: query.iter().map(pair).collect(),
            if_none_match: None,
            authorization: None,
            origin: None,
            via: via.map(str::to_owned),
            provider_id: None,
            body: Vec::new(),
            memory: MemoryBudget::default(),
        }
    }

    #[test]
    fn what_was_read_of_path_and_query_is_written_so_that_it_reads_the_same_again() {
        let plain = request("/v1/inventory/node-configs", &[("limit", "5")], None);
        assert_eq!(target(&plain), "/v1/inventory/node-configs?limit=5");
        let odd = request("/a b/../%2F?#@", &[("k&=", "한 국&x=1"), ("", "")], None);
        let expected = "/a%20b/%2E%2E/%252F%3F%23%40?k%26%3D=%ED%95%9C%20%EA%B5%AD%26x%3D1&=";
        assert_eq!(target(&odd), expected);
        assert_eq!(target(&request("//evil.example.com/x", &[], None)), "//evil.example.com/x");
        assert_eq!(target(&request("*", &[], None)), "/");
    }

    #[test]
    fn a_replica_that_asks_is_distinguished_from_other_proxies() {
        let first = request("/", &[], Some("1.1 edge, 2 multinic-operator.example.com"));
        assert!(!is_from_a_replica(&first));
        assert_eq!(via(&first), "1.1 edge, 2 multinic-operator.example.com, 1.1 multinic-operator");
        assert!(is_from_a_replica(&request("/", &[], Some(&via(&first)))));
        assert!(!is_from_a_replica(&request("/", &[], None)));
    }

    #[test]
    fn an_answer_that_is_too_large_is_not_taken_in() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let leader = listener.local_addr().unwrap();
        let talker = crate::threads::spawn("talker", move || {
            // Once as if it were short, once as long as it may be.
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 8388609\r\n\r\n";
                stream.write_all(head).unwrap();
                let _ = (0..129).take_while(|_| stream.write_all(&[b' '; 65536]).is_ok()).count();
            }
        });
        let forwarder = Forwarder::new(Arc::default());
        let reason = forwarder.forward(&request("/", &[], None), leader).unwrap_err();
        assert!(reason.contains("exceeds 8 MiB"), "{reason}");
        drop(forwarder);
        talker.unwrap().join().unwrap();
    }

    /// A server whose readers' memory the answers of a leader come out of.
    fn standby(leader: SocketAddr, held_bytes: usize) -> Server {
        let forwarder = Forwarder::new(Arc::default());
        let handler = move |request: &Request| {
            forwarder
                .forward(request, leader)
                .unwrap_or_else(|reason| Response::error(503, &reason))
        };
        serve(Arc::new(handler), held_bytes)
    }

    fn serve(handler: Arc<dyn Handler>, held_bytes: usize) -> Server {
        let address = "127.0.0.1:0".parse().unwrap();
        let limits = Limits { held_bytes, ..Limits::default() };
        Server::start("test", address, limits, handler, Clock::system(), Arc::default()).unwrap()
    }

    fn asking(server: &Server) -> TcpStream {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    #[test]
    fn what_is_passed_on_to_readers_that_do_not_read_counts_until_they_are_gone() {
        static LONG: [u8; 3 * MEBIBYTE] = [b'x'; 3 * MEBIBYTE];
        let leader = |_: &Request| Response::new(200, Body::Static(&LONG));
        let leader = serve(Arc::new(leader), MEBIBYTE);
        let standby = standby(leader.address(), ANSWER_LIMIT_BYTES + MEBIBYTE);
        let mut heads = Vec::new();
        for _ in 0..4 {
            let mut stream = asking(&standby);
            let mut head = [0; 12];
            stream.read_exact(&mut head).unwrap();
            heads.push((String::from_utf8_lossy(&head).into_owned(), stream));
        }
        // A second one may be as long as any, for which there is no memory beside the first.
        let statuses: Vec<&str> = heads.iter().map(|(head, _)| head.as_str()).collect();
        let refused = ["HTTP/1.1 503"; 3];
        assert_eq!(statuses, [&["HTTP/1.1 200"], &refused[..]].concat());
        heads.clear();
        let (clock, limit) = (Clock::system(), Duration::from_secs(5));
        let began = clock.now().uptime;
        loop {
            let mut answer = Vec::new();
            asking(&standby).read_to_end(&mut answer).unwrap();
            if answer.starts_with(b"HTTP/1.1 200") {
                break assert!(answer.ends_with(&LONG));
            }
            assert!(clock.now().uptime < began + limit, "what was held doesn't come back");
        }
    }

    #[test]
    fn what_is_yet_to_come_from_the_leader_counts_too() {
        let (asked, arrived) = mpsc::channel();
        let (go_on, released) = mpsc::channel();
        let (asked, released) = (Mutex::new(asked), Mutex::new(released));
        let leader = move |_: &Request| {
            asked.lock().unwrap().send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
            Response::new(200, Body::Static(b"good"))
        };
        let leader = serve(Arc::new(leader), MEBIBYTE);
        let standby = standby(leader.address(), 2 * SHORT_ANSWER_BYTES);
        let answer = |mut stream: TcpStream| {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let first = [asking(&standby), asking(&standby)];
        arrived.recv().and_then(|()| arrived.recv()).unwrap();
        let third = answer(asking(&standby));
        assert!(third.contains(NO_MEMORY), "{third}");
        for _ in 0..3 {
            go_on.send(()).unwrap();
        }
        assert!(first.map(answer).iter().all(|text| text.ends_with("good")));
        assert!(answer(asking(&standby)).ends_with("good"), "their memory has not come back");
    }
}
