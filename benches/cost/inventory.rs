//! How fast the inventory answers: 2,000 records, 16 kept connections, two seconds each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use simulated_cloud::{Cloud, LoggedRequest};

use crate::operator::{Operator, rest};
use crate::population::{Population, provider};
use crate::report::Report;

const CONNECTIONS: usize = 16;
const TIME: Duration = Duration::from_secs(2);

/// Answers a second, and milliseconds until one, of the whole list and of one node.
pub(crate) fn rates(report: &mut Report) {
    let population = Population::new(200, 10, 3);
    let cloud = Cloud::start(population.scenario()).unwrap();
    // Free a moment ago; another program would have to take it within a moment.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let variables =
        [("INVENTORY_ADDR", &*address), ("POLL_FAST_INTERVAL", "1h"), ("POLL_SLOW_INTERVAL", "1h")];
    let _operator = Operator::start(&cloud, &variables);
    let reported = |log: &[LoggedRequest]| {
        log.iter().filter(|request| request.path().ends_with("/status")).count() >= 200
    };
    assert!(cloud.journal().wait_for(reported, Duration::from_secs(60)));
    rest(Duration::from_millis(500));
    let list = format!("/v1/inventory/node-configs?providerId={}", provider(0));
    let one = format!("/v1/inventory/node-configs/worker-00042?providerId={}", provider(0));
    for (case, path) in [("inventory, list of 2,000", list), ("inventory, one node", one)] {
        let mut times: Vec<f64> = std::thread::scope(|scope| {
            let clients: Vec<_> =
                (0..CONNECTIONS).map(|_| scope.spawn(|| asked(&address, &path))).collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        });
        times.sort_by(f64::total_cmp);
        report.add(case, "answers a second", times.len() as f64 / TIME.as_secs_f64());
        report.add(case, "ms until an answer, median", times[times.len() / 2]);
        report.add(case, "ms until an answer, worst", times[times.len() - 1]);
    }
}

/// Milliseconds of each answer on one connection.
fn asked(address: &str, path: &str) -> Vec<f64> {
    let mut stream = BufReader::with_capacity(1 << 16, TcpStream::connect(address).unwrap());
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut body = Vec::new();
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < TIME {
        let sent = Instant::now();
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).unwrap();
        times.push(sent.elapsed().as_secs_f64() * 1_000.0);
    }
    times
}
