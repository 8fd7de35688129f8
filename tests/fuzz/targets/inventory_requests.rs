//! Requests to the inventory, from the first byte to the answer.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use multinic_operator::clock::{Clock, Now};
use multinic_operator::http::server::head::{end_of_head, parse};
use multinic_operator::http::server::{Handler as _, Method};
use multinic_operator::inventory::api::{Api, ApiSettings};
use multinic_operator::inventory::record::{Change, Record};
use multinic_operator::inventory::store::Store;

use super::inventory_files::{disk, sample};

static API: LazyLock<Api> = LazyLock::new(|| {
    let now = Now { uptime: Duration::ZERO, wall: jiff::Timestamp::UNIX_EPOCH };
    let path = Path::new("/data/inventory.json");
    let store = Store::new(disk(), path, Clock::invented(now), Arc::default());
    store.retry();
    let named = |name: &str| {
        let record: Record = sample(name);
        Change::Upsert(record)
    };
    let stored = store.commit(vec![named("worker-1"), named("<b>"), named("노드")]);
    assert!(stored.iter().all(Result::is_ok));
    let settings = ApiSettings {
        cors_origin: Some("https://ui.example.com".into()),
        ..ApiSettings::default()
    };
    Api::new(Arc::new(store), Arc::default(), settings, Arc::new(|| None))
});

/// The limit of a server that takes bodies.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// What is let through has one reading: no body, no control characters, nothing of the head left
/// over. Its answer is never a failure of ours, and no header of it ends a line.
pub fn run(data: &[u8]) {
    let mut scanned = 0;
    // As a network brings it: the end is looked for anew after each piece.
    for end in (0..data.len()).step_by(7).chain([data.len()]) {
        match end_of_head(&data[..end], &mut scanned) {
            Ok(None) => {}
            Ok(Some(length)) => return answer(&data[..length]),
            Err(refusal) => {
                assert!((400..=505).contains(&refusal.status));
                return;
            }
        }
    }
}

fn answer(head: &[u8]) {
    let mut again = 0;
    assert!(matches!(end_of_head(head, &mut again), Ok(Some(length)) if length == head.len()));
    if let Ok(head) = parse(head, BODY_LIMIT) {
        assert!(head.length <= BODY_LIMIT, "{}", head.length);
        assert!(head.length == 0 || head.request.method == Method::Post);
    }
    let head = match parse(head, 0) {
        Ok(head) => head,
        Err(refusal) => {
            assert!((400..=505).contains(&refusal.status));
            return;
        }
    };
    assert_eq!(head.length, 0);
    let request = head.request;
    assert!(request.path.starts_with('/') || request.method == Method::Options);
    assert!(!request.path.chars().any(char::is_control), "{:?}", request.path);
    let response = API.answer(&request);
    assert!(matches!(response.status, 200 | 204 | 304 | 400 | 404), "{}", response.status);
    for (_, value) in &response.headers {
        // The server leaves such a header out; none should need it.
        assert!(!value.contains(['\r', '\n']), "{value:?}");
    }
    let json = response
        .headers
        .iter()
        .any(|(name, value)| *name == "Content-Type" && value.starts_with("application/json"));
    if json && !response.body.bytes().is_empty() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&response.body.bytes());
        assert!(parsed.is_ok());
    }
}
