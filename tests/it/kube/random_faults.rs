//! A thousand random faults while objects come, change and go: at the end the view is the server's.
//!
//! `FAULTS_SEED` chooses other faults.

use std::fs;
use std::time::Duration;

use multinic_operator::kube::watch::Timing;
use serde_json::json;
use simulated_cloud::{Fault, FaultKind, Service};

use crate::kube::support::{Api, fast, watch};

const FAULTS: u32 = 1_000;

fn status(code: u16, reason: &str, retry_after: Option<u32>) -> FaultKind {
    let body = json!({"kind": "Status", "reason": reason, "code": code, "message": "on purpose"});
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    headers.extend(retry_after.map(|seconds| ("Retry-After".to_owned(), seconds.to_string())));
    FaultKind::Status { status: code, headers, body: body.to_string().into_bytes() }
}

#[test]
fn after_a_thousand_faults_the_view_equals_the_servers() {
    let seed = std::env::var("FAULTS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(1);
    println!("FAULTS_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let api = Api::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "token-0").unwrap();
    api.kubernetes.accept_token("token-0", "operator");
    api.kubernetes.set_bookmark_interval(Duration::from_millis(20));
    let timing = Timing {
        page_size: 3,
        silence_limit: Duration::from_millis(300),
        list_limit: Duration::from_millis(300),
        ..fast()
    };
    let (mut watcher, seen) = watch(&api, &api.client_with(Some(file.clone())), timing);
    for number in 0..FAULTS {
        let name = format!("object-{}", rng.u32(0..10));
        match api.objects().contains_key(&name) {
            true if rng.u32(0..3) == 0 => api.delete(&name),
            _ => drop(api.put(&name, &number.to_string())),
        }
        let fault = |kind| api.faults.add(Fault::once(Service::Kubernetes, kind));
        match rng.u32(0..14) {
            0 | 1 => api.kubernetes.cut_watches(),
            2 => api.kubernetes.end_watches(),
            3 => api.kubernetes.compact(),
            4 => api.kubernetes.restart(),
            5 => api.kubernetes.expire_continue_tokens(),
            6 => api.kubernetes.stale_list_next(1),
            7 => fault(status(429, "TooManyRequests", None)),
            8 => fault(status(500, "InternalError", None)),
            9 => fault(status(410, "Expired", None)),
            10 => fault(FaultKind::Reset),
            11 => fault(FaultKind::CutBody { after_bytes: rng.usize(0..400) }),
            12 => {
                let lines = ["{\"type\":\"AD\n", "{\"type\":\"ODD\",\"object\":{}}\n", "\u{7}\n"];
                api.kubernetes.inject_watch_line(lines[rng.usize(0..lines.len())]);
            }
            _ => {
                let token = format!("rotated-{number}");
                api.kubernetes.accept_token(&token, "operator");
                let old = fs::read_to_string(&file).unwrap();
                fs::write(&file, &token).unwrap();
                api.kubernetes.revoke_token(&old);
            }
        }
        // The next fault comes when the view has caught up, or in the middle of things.
        if rng.u32(0..4) == 0 {
            seen.wait_for_equal(&api);
        }
    }
    api.faults.clear();
    let took = seen.wait_for_equal(&api);
    assert!(took < Duration::from_secs(3), "seed {seed}: took {took:?}");
    watcher.stop();
    assert!(watcher.join(Duration::from_secs(5)), "seed {seed}");
    seen.wait_for_equal(&api);
}
