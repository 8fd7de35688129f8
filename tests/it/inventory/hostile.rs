//! Hostile crowds: slow heads, slow readers, thousands of connections, no descriptors left.
//! Threads and memory stay bounded, and a good client is served meanwhile.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use multinic_operator::http::server::{Body, Limits, Request, Response, Server};
use multinic_operator::inventory::api::ApiSettings;
use multinic_operator::inventory::record::Change;

use crate::inventory::api;
use crate::inventory::client::{connect, get, serve, serve_as};
use crate::inventory::support::{PROVIDER, commit, record};
use crate::skip::skipped;

const CONNECTIONS: usize = 64;

/// 8 MiB that are there once for all answers, as the inventory's records are.
fn large() -> Body {
    static LARGE: [u8; 8 * 1024 * 1024] = [b'x'; 8 * 1024 * 1024];
    Body::Static(&LARGE)
}

fn server(name: &'static str) -> Server {
    let handler = |request: &Request| match request.path.as_str() {
        "/large" => Response::new(200, large()),
        _ => Response::new(200, Body::Static(b"good")),
    };
    serve_as(name, Arc::new(handler), Limits { connections: CONNECTIONS, ..Limits::default() })
}

/// How many threads of this process have a name: the test's own server gives it to all of its.
fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map_while(Result::ok);
    // A thread may end between listing and reading.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|found| found.trim() == name).count()
}

/// Other tests use the same processors, hence room above the 100 ms seen alone. Who waited for the
/// deadline of another connection would wait longer.
const WORST: Duration = Duration::from_secs(3);

/// How long a client with a good request has to wait, at worst and at the median.
fn good_client(address: SocketAddr) -> (Duration, Duration) {
    let mut waits: Vec<_> = (0..40)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(get(address, "/").body, b"good");
            std::thread::park_timeout(Duration::from_millis(5));
            began.elapsed() - Duration::from_millis(5)
        })
        .collect();
    waits.sort();
    (waits[waits.len() - 1], waits[waits.len() / 2])
}

fn check(server: &Server, name: &str, what: &str) {
    let (worst, median) = good_client(server.address());
    let threads = threads_named(name);
    println!("{what}: worst {worst:?}, median {median:?}, {threads} threads");
    assert!(threads <= CONNECTIONS + 1, "{what}: {threads} threads");
    assert!(median < Duration::from_millis(100), "{what}: median {median:?}");
    assert!(worst < WORST, "{what}: worst {worst:?}");
}

#[test]
fn thousands_of_silent_connections_cost_no_more_than_the_limit() {
    let server = server("silent");
    let silent: Vec<_> = (0..2000).map(|_| connect(server.address())).collect();
    check(&server, "silent", "2000 silent connections");
    drop(silent);
}

#[test]
fn slow_heads_are_let_go_when_the_house_is_full() {
    let server = server("slow-heads");
    let mut slow: Vec<_> = (0..500).map(|_| connect(server.address())).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nX: ");
    }
    check(&server, "slow-heads", "500 slow heads");
}

#[test]
fn a_crowd_finds_places_to_wait_while_nobody_can_be_let_in() {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    if most.trim().parse::<usize>().unwrap() < 1000 {
        skipped(&format!("this system lets {} connections wait at most", most.trim()));
        return;
    }
    // A busy client can't be sent away, so the accept loop spends 50 ms on each that follows.
    let (busy, arrived) = std::sync::mpsc::channel();
    let (go_on, told) = std::sync::mpsc::channel::<()>();
    let (busy, told) = (std::sync::Mutex::new(busy), std::sync::Mutex::new(told));
    let handler = move |_: &Request| {
        busy.lock().unwrap().send(()).unwrap();
        let _ = told.lock().unwrap().recv();
        Response::new(200, Body::Static(b"good"))
    };
    let server = serve(Arc::new(handler), Limits { connections: 1, ..Limits::default() });
    let mut first = connect(server.address());
    first.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    arrived.recv().unwrap();
    // Who finds no place hears nothing and tries again after a second.
    let limit = Duration::from_millis(900);
    let crowd = (0..600).map(|_| TcpStream::connect_timeout(&server.address(), limit));
    let turned_away = crowd.collect::<Vec<_>>().iter().filter(|stream| stream.is_err()).count();
    assert_eq!(turned_away, 0);
    drop(go_on);
}

#[test]
fn slow_readers_are_let_go_when_the_house_is_full() {
    let server = server("slow-readers");
    let mut slow: Vec<_> = (0..CONNECTIONS + 20).map(|_| connect(server.address())).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    check(&server, "slow-readers", "84 readers that do not read");
}

#[test]
fn a_long_answer_is_had_beside_readers_that_do_not_read() {
    let server = server("long-answers");
    let mut slow: Vec<_> = (0..CONNECTIONS - 4).map(|_| connect(server.address())).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    let waits = (0..10).map(|_| {
        let began = Instant::now();
        assert_eq!(get(server.address(), "/large").body.len(), 8 * 1024 * 1024);
        began.elapsed()
    });
    let worst = waits.max().unwrap();
    println!("8 MiB beside 60 readers that do not read: worst {worst:?}");
    assert!(worst < WORST, "{worst:?}");
}

/// The status of the answer that has begun to come; the answer itself stays unread.
fn begun(stream: &TcpStream) -> Option<u16> {
    let mut head = [0; 12];
    let peeked = stream.peek(&mut head).ok().filter(|length| *length == head.len())?;
    str::from_utf8(&head[..peeked]).ok()?.rsplit(' ').next()?.parse().ok()
}

#[test]
fn what_is_made_for_readers_that_do_not_read_stays_within_a_budget() {
    const MADE_BYTES: usize = 1024 * 1024;
    let handler = |request: &Request| match request.path.as_str() {
        "/made" => Response::new(200, Body::Owned(vec![b'x'; MADE_BYTES])),
        _ => Response::new(200, Body::Owned(b"good".to_vec())),
    };
    let server = serve_as("made", Arc::new(handler), Limits::default());
    let (slow, statuses) = asked_and_unread(server.address(), "/made");
    let held = statuses.iter().filter(|status| **status == 200).count() * MADE_BYTES;
    println!("{} readers that do not read hold {held} bytes", slow.len());
    assert!(HELD_BYTES.contains(&held), "{held} bytes are held");
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    // Short answers come all the while, a long one when somebody has taken nothing for seconds.
    let (worst, _) = good_client(server.address());
    assert!(worst < WORST, "{worst:?}");
    let began = Instant::now();
    loop {
        let answer = get(server.address(), "/made");
        if answer.status == 200 {
            break assert_eq!(answer.body.len(), MADE_BYTES);
        }
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
        assert!(began.elapsed() < Duration::from_secs(8), "a long answer is never to be had");
        std::thread::park_timeout(Duration::from_millis(500));
    }
    println!("a long answer beside them after {:?}", began.elapsed());
    // What was held comes back with the connections.
    drop(slow);
    while get(server.address(), "/made").status != 200 {
        assert!(began.elapsed() < Duration::from_secs(20), "what was held doesn't come back");
    }
    assert!((0..30).all(|_| get(server.address(), "/made").status == 200));
}

/// What a crowd may seem to hold of a budget of 12 MiB, seen from its ends: of some the system has
/// taken all, and where it takes them seconds to ask, some have had to go for others.
const HELD_BYTES: RangeInclusive<usize> = 6 << 20..=24 << 20;

/// Readers that ask for a target and read nothing; gives the status of each one's answer.
fn asked_and_unread(address: SocketAddr, target: &str) -> (Vec<TcpStream>, Vec<u16>) {
    let crowd: Vec<_> = (0..Limits::default().connections - 6).map(|_| connect(address)).collect();
    for mut stream in &crowd {
        write!(stream, "GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    let statuses = crowd.iter().map(|stream| begun(stream).unwrap()).collect();
    (crowd, statuses)
}

#[test]
fn a_crowd_that_does_not_read_costs_the_lists_nothing() {
    let list = "/v1/inventory/node-configs";
    let filtered = format!("{list}?providerId={PROVIDER}");
    for target in [list, &filtered, &format!("{list}?limit=400"), "/v1/inventory/changes"] {
        let world = api::world(ApiSettings::default());
        for step in 0..6 {
            let nodes = (0..500_u32).map(|number| {
                let name = format!("worker-{number:04}");
                let mut record = record(&name, &name, &[number, number + 1, number + 2], step);
                record.config.interfaces[0].mtu = 1400 + step as u32;
                Change::Upsert(record)
            });
            commit(&world.store, nodes.collect()).unwrap();
        }
        let address = world.server.address();
        let (_crowd, statuses) = asked_and_unread(address, target);
        assert!(statuses.iter().all(|status| *status == 200), "{target}: {statuses:?}");
        assert_eq!(get(address, target).status, 200, "{target}");
    }
}

#[test]
fn a_reader_that_does_not_read_is_ended_by_a_deadline() {
    let handler = |_: &Request| Response::new(200, large());
    let answer = Duration::from_millis(200);
    let limits = Limits { answer, slowest_reader: 1024 * 1024 * 1024, ..Limits::default() };
    let server = serve(Arc::new(handler), limits);
    let mut stream = connect(server.address());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let began = Instant::now();
    // The write that fails is ours: the server has closed with data unread, so a reset comes.
    while stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").is_ok() {
        assert!(began.elapsed() < Duration::from_secs(5), "still waiting for a slow reader");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_reader_that_does_not_read_holds_little_of_the_systems_memory() {
    let name = "unread";
    let handler = |_: &Request| Response::new(200, large());
    let answer = Duration::from_millis(200);
    let limits = Limits { answer, slowest_reader: 1024 * 1024 * 1024, ..Limits::default() };
    let server = serve_as(name, Arc::new(handler), limits);
    let mut stream = connect(server.address());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let began = Instant::now();
    while threads_named(name) < 2 {
        assert!(began.elapsed() < Duration::from_secs(5), "never let in");
    }
    while threads_named(name) > 1 {
        assert!(began.elapsed() < Duration::from_secs(10), "still waiting for a slow reader");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    // The server has given up: what still comes is what the system kept, on both sides.
    let kept = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    println!("{kept} bytes kept for a reader that does not read");
    assert!(kept < 1024 * 1024, "{kept} bytes");
}

/// Ends the storm also when the test fails: the threads would go on for ever.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[test]
fn a_storm_of_connections_and_resets_leaves_the_port_alive() {
    let server = server("storm");
    let address = server.address();
    let storm = Arc::new(AtomicBool::new(true));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let storm = storm.clone();
            scope.spawn(move || {
                while storm.load(Ordering::Relaxed) {
                    if let Ok(mut stream) = TcpStream::connect(address) {
                        let _ = stream.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
                    }
                    std::thread::park_timeout(Duration::from_micros(300));
                }
            });
        }
        let _stop = StopOnDrop(&storm);
        check(&server, "storm", "a storm of connections");
    });
    assert_eq!(get(address, "/").body, b"good");
}

const CHILD_VARIABLE: &str = "GATE_TEST_FEW_DESCRIPTORS";

/// Not a test of its own: the server of [`running_out_of_descriptors_does_not_end_the_port`].
#[test]
#[ignore = "started by the descriptor test"]
fn serves_with_few_descriptors() {
    if std::env::var(CHILD_VARIABLE).is_err() {
        return;
    }
    let handler = |_: &Request| Response::new(200, Body::Static(b"good"));
    let server = serve(Arc::new(handler), Limits { connections: 256, ..Limits::default() });
    println!("serving on {}", server.address());
    // The parent ends it.
    std::thread::park_timeout(Duration::from_secs(120));
}

#[test]
fn running_out_of_descriptors_does_not_end_the_port() {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 48; exec \"$0\" \"$@\""])
        .arg(program)
        .args([
            "--exact",
            "inventory::hostile::serves_with_few_descriptors",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD_VARIABLE, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.split_once("serving on ")?.1.parse().ok()).unwrap();
    let silent: Vec<_> = (0..150).map(|_| connect(address)).collect();
    let (worst, median) = good_client(address);
    println!("48 descriptors, 150 silent connections: worst {worst:?}, median {median:?}");
    drop(silent);
    assert_eq!(get(address, "/").body, b"good");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(median < Duration::from_millis(100) && worst < WORST);
}
