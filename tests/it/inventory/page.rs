//! The page in a real headless Chromium; `tests/page` holds what is checked.
//!
//! Left out, and said so, where Node or Chromium is missing. `PAGE_SCREENSHOTS=<folder>` keeps
//! pictures of what was seen.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use multinic_operator::inventory::api::ApiSettings;
use multinic_operator::inventory::record::Change;
use multinic_operator::overview::ObjectState;
use multinic_operator::reconcile::report::Reason;
use multinic_operator::resources::Hold;

use crate::inventory::api::{World, full_record, node_shown, object, of, world};
use crate::inventory::support::{commit, record, start};
use crate::skip::skipped;

const CHROMIUM: [&str; 3] =
    ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

fn of_p1(node: &str, ports: &[u32], step: u64) -> Change {
    let mut record = record(node, &format!("vm-{node}"), ports, step);
    record.provider_id = "p1".to_owned();
    Change::Upsert(record)
}

fn shown_world() -> World {
    let world = world(ApiSettings::default());
    let mut earlier = record("legacy", "vm-legacy", &[500], 1);
    earlier.provider_id = "p2".to_owned();
    earlier.config.interfaces[0].name = "".into();
    earlier.config.interfaces[0].id = 1;
    let changes = vec![
        full_record("p1", "worker-full"),
        of_p1("worker-3", &[30, 31], 20),
        of_p1("worker-4", &[400], 30),
        of_p1("<script>window.taken = true</script>", &[60], 40),
        of_p1("it's", &[70], 50),
        of_p1("가나다 노드", &[80], 50),
        of("p2", "worker-0", "vm-1"),
        Change::Upsert(earlier),
    ];
    commit(&world.store, changes).unwrap();
    let mut changed = record("it's", "vm-it's", &[70, 71], 90);
    changed.provider_id = "p1".to_owned();
    changed.config.interfaces[0].mtu = 9000;
    changed.config.interfaces[0].address = "10.10.77.7".parse().unwrap();
    commit(&world.store, vec![Change::Upsert(changed)]).unwrap();
    let mut overdue = object("shop", "amber", "True", "Synced");
    overdue.next_due = overdue.last_synced_at;
    world.overview.put(overdue);
    world.overview.put(object("shop", "blue", "False", "NovaError"));
    world.overview.put(held("held", "ChangeHeld", "0123456789ab"));
    world.overview.put(held("lost", "MemoryLost", "memory-lost"));
    world.overview.put(without_agent("shop", "<b>cyan</b>", "Unknown", ""));
    let macs = ["fa:16:3e:00:00:1e", "fa:16:3e:00:00:1f"];
    world.overview.put_nodes("shop", "blue", vec![node_shown("p1", "worker-3", macs)]);
    world
}

fn held(name: &str, reason: &str, hash: &str) -> ObjectState {
    let message = format!(
        "held: 3 of 4 nodes would lose ports or get other interface ids. If that is right, approve \
         it: kubectl -n shop annotate osc {name} --overwrite multinic.example.com/approve={hash}; not \
         sent: worker-0 (without port 1b40dcd7-aa83-49e5-b974-43beda025211)"
    );
    let (hash, since) = (hash.to_owned(), start());
    let hold = Some(Hold { hash, since, nodes: 3, approved: false });
    ObjectState { hold, message, ..without_agent("shop", name, "False", reason) }
}

/// An object that nobody asks the agent about.
fn without_agent(namespace: &str, name: &str, ready: &str, reason: &str) -> ObjectState {
    ObjectState {
        configured: None,
        configured_nodes: None,
        configured_reason: None,
        configured_message: None,
        ..object(namespace, name, ready, reason)
    }
}

/// 2,000 nodes and 300 objects, of which three are held and six fail.
fn large_world() -> World {
    let world = world(ApiSettings::default());
    let nodes = 0..2_000_u32;
    let nodes = nodes.map(|node| of_p1(&format!("worker-{node:04}"), &[2 * node, 2 * node + 1], 1));
    commit(&world.store, nodes.collect()).unwrap();
    for number in 0..300 {
        let name = format!("object-{number:03}");
        world.overview.put(match number {
            7 | 107 | 207 => held(&name, "ChangeHeld", "0123456789ab"),
            number if number % 50 == 3 => without_agent("shop", &name, "False", "NeutronPortError"),
            _ => without_agent("shop", &name, "True", "NoChange"),
        });
    }
    world
}

#[test]
fn the_page_says_of_each_failure_what_to_do_in_both_languages() {
    let words = include_str!("../../../src/inventory/page/words.js");
    for reason in Reason::ALL.into_iter().filter(|reason| !reason.is_success()) {
        let entry = format!("\n    {}: \"", reason.name());
        assert_eq!(words.matches(&entry).count(), 2, "{}", reason.name());
    }
}

#[test]
fn the_page_keeps_its_promises_in_a_real_browser() {
    let chromium = CHROMIUM.iter().find(|path| Path::new(path).exists());
    let node = Command::new("node").arg("--version").stdout(Stdio::null()).status();
    let (Some(chromium), Ok(_)) = (chromium, node) else {
        skipped("needs node and chromium (Debian: nodejs, chromium)");
        return;
    };
    let shown = shown_world();
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, "open-sesame").unwrap();
    let guarded = world(ApiSettings { cors_origin: None, token_file: Some(token_file.clone()) });
    commit(&guarded.store, vec![of("p1", "worker-0", "vm-1")]).unwrap();
    let large = large_world();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/page.test.mjs");
    let mut child = Command::new("node")
        .arg(script)
        .arg(format!("http://{}", shown.server.address()))
        .arg(format!("http://{}", guarded.server.address()))
        .arg(format!("http://{}", large.server.address()))
        .arg(chromium)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        println!("{line}");
        match line.as_str() {
            "change" => commit(&shown.store, vec![of_p1("worker-new", &[90], 99)]).unwrap(),
            "fail" => shown.overview.put(object("shop", "brand-new", "False", "NovaError")),
            "rotate" => {
                fs::write(&token_file, "new-token").unwrap();
                // The file is asked at most once a second, by the store's clock.
                guarded.store.clock().advance(Duration::from_secs(2));
            }
            _ => {}
        }
    }
    assert!(child.wait().unwrap().success(), "a promise of the page is broken, see above");
}

/// What a file of the page refers to.
fn references(text: &str) -> Vec<&str> {
    let markers = ["href=\"", "src=\"", "from \"", "ask(\"", "RECORDS = \"", "path = `", "- url: "];
    let after = |marker: &'static str| text.split(marker).skip(1);
    let found = markers.into_iter().flat_map(after);
    found.map(|rest| rest.split(['"', '`', '?', '\n']).next().unwrap()).collect()
}

#[test]
fn the_page_and_the_docs_refer_to_what_is_beside_them() {
    let world = shown_world();
    let get = |path: &str| crate::inventory::client::get(world.server.address(), path);
    let mut found = Vec::new();
    for file in ["/", "/docs", "/page.js", "/openapi.yaml"] {
        let text = String::from_utf8(get(file).body).unwrap();
        for reference in references(&text).into_iter().filter(|path| !path.starts_with("data:")) {
            assert!(
                !reference.starts_with('/') && !reference.contains("//"),
                "{file}: {reference}"
            );
            let path = format!("/{}", reference.trim_start_matches("./"));
            assert_eq!(get(&path).status, 200, "{file}: {reference}");
            found.push(reference.to_owned());
        }
    }
    for expected in [
        "page.css",
        "page.js",
        "./words.js",
        "docs",
        "./",
        "openapi.yaml",
        "v1/inventory/node-configs",
        "v1/inventory/changes",
        "v1/overview",
    ] {
        assert!(found.iter().any(|path| path == expected), "{expected} isn't among {found:?}");
    }
}
