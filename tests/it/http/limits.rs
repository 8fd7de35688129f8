//! How long a call may take, whatever becomes of its connections.

use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use multinic_operator::clock::Clock;
use multinic_operator::http::client::{
    Answer, Client, ClientOptions, Clients, Failure, Request, Service, Transport,
};
use multinic_operator::http::trust::Trust;

use super::server::listen;
use super::trust::invented_clock;

fn options(call_limit: Duration) -> ClientOptions {
    ClientOptions {
        tls: Default::default(),
        call_limit,
        trust: Trust::System,
        idle_limit: Duration::from_secs(4),
        proxies: Arc::default(),
    }
}

#[test]
fn a_call_and_its_repetition_have_one_limit_between_them() {
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    // Takes a request and hangs up without an answer, shortly before the limit.
    let address = listen(move |mut socket| {
        let _ = socket.read(&mut [0; 4096]);
        seen.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1_500));
    });
    let url = format!("http://{address}/x");
    let client = Client::new(options(Duration::from_secs(2)), Arc::default());
    let began = Instant::now();
    let error = client.call(&Request::get(Service::Nova, &url));
    let took = began.elapsed();
    assert!(matches!(error.unwrap_err().failure, Failure::Timeout { .. }));
    assert!(took < Duration::from_millis(2_700), "a limit of 2 s, and it took {took:?}");
    assert_eq!(requests.load(Ordering::SeqCst), 2, "it was repeated");
}

/// Loses every request after a while of invented time, and notes what it was given for it.
struct Losing {
    clock: Clock,
    after: Duration,
    limits: Mutex<Vec<Duration>>,
}

impl Transport for Losing {
    fn carry(&self, _: &Request<'_>, limit: Duration) -> Result<Answer, Failure> {
        self.limits.lock().unwrap().push(limit);
        self.clock.advance(self.after);
        Err(Failure::Lost)
    }
}

#[test]
fn a_repetition_gets_what_the_first_attempt_left_and_is_left_out_where_that_is_nothing() {
    let seconds = Duration::from_secs;
    let expected =
        [(seconds(12), vec![seconds(30), seconds(18)]), (seconds(30), vec![seconds(30)])];
    for (after, limits) in expected {
        let clock = invented_clock();
        let losing = Arc::new(Losing { clock: clock.clone(), after, limits: Mutex::default() });
        let clients = Clients::new(&Arc::default()).over(Arc::clone(&losing) as _);
        let client = clients.client(options(seconds(30))).timed_by(clock);
        let error = client.call(&Request::get(Service::Nova, "http://127.0.0.1:1/x")).unwrap_err();
        assert_eq!(error.failure, Failure::Lost);
        assert_eq!(*losing.limits.lock().unwrap(), limits);
    }
}
