//! Random faults of the Kubernetes API while objects come, change and go. At the end every object's
//! status speaks of its newest generation, Viola holds what the objects ask for, nothing is done for
//! objects that are gone, and no object was ever synced twice at the same time.
//!
//! The seed is printed and in every failure's text; `CAMPAIGN_SEED` runs it again, `CAMPAIGN_FAULTS`
//! says how many faults.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use simulated_cloud::{Cloud, Fault, FaultKind, LoggedRequest, Scenario, Service};

use super::{is_ports, now, ports_requests, refusal};
use crate::process::{Operator, SOON, fixtures};
use crate::world::{World, ready_of};

const FAULTS: u32 = 200;
/// Each object has one VM of its own, and so one node.
const OBJECTS: usize = 10;
/// One longest back-off of 30 s, and what a sync takes.
const CONVERGENCE: Duration = Duration::from_secs(90);
/// An answer may be here before the journal has noted its end.
const NOTED_WITHIN_MS: u64 = 5;
const SUBNET: &str = "c1f4a7d2-0b95-4e68-8d3c-2a9e6b517f04";

fn vm(number: usize) -> String {
    format!("00000000-0000-4000-8000-0000000000{number:02}")
}

fn node(number: usize) -> String {
    format!("node-{number}")
}

/// The cloud of three nodes, with a VM for each object instead.
fn world() -> World {
    let file = fs::read(fixtures().join("three-nodes/cloud.json")).unwrap();
    let mut cloud: Value = serde_json::from_slice(&file).unwrap();
    let servers = (0..OBJECTS).map(|number| json!({"id": vm(number), "name": node(number)}));
    cloud["servers"] = servers.collect();
    let port = |number: usize| {
        json!({
            "id": port_id(number),
            "name": format!("port-{number}"),
            "mac_address": format!("fa:16:3e:00:00:{number:02}"),
            "device_id": vm(number),
            "fixed_ips": [{"subnet_id": SUBNET, "ip_address": format!("10.20.0.{}", 10 + number)}],
        })
    };
    cloud["ports"] = (0..OBJECTS).map(port).collect();
    World(Cloud::start(Scenario::from_json(cloud, Vec::new()).unwrap()).unwrap())
}

fn port_id(number: usize) -> String {
    format!("00000000-0000-4000-9000-0000000000{number:02}")
}

/// One run: the cloud, what is asked for in it, and the dice.
struct Campaign {
    world: World,
    rng: fastrand::Rng,
    token_file: std::path::PathBuf,
    /// The Biz cluster each object asks for; absent: there is no such object.
    wanted: BTreeMap<usize, String>,
    turns: u32,
    seed: u64,
}

impl Campaign {
    fn change_an_object(&mut self) {
        let number = self.rng.usize(0..OBJECTS);
        let is_gone = self.wanted.contains_key(&number) && self.rng.u32(0..3) == 0;
        if is_gone {
            self.delete(number);
        }
        // One that comes back at once may meet the sync of its former self.
        if !is_gone || self.rng.bool() {
            self.put(number);
        }
    }

    fn delete(&mut self, number: usize) {
        self.wanted.remove(&number);
        let name = format!("object-{number}");
        self.world.kubernetes().delete("OpenstackConfig", "default", &name).unwrap();
    }

    fn put(&mut self, number: usize) {
        let name = format!("object-{number}");
        self.turns += 1;
        let target = format!("biz-{}", self.rng.u32(0..3));
        let object = json!({
            "apiVersion": "multinic.example.com/v1alpha1",
            "kind": "OpenstackConfig",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "subnetID": SUBNET,
                // Ignored beside an id, but it moves the generation.
                "subnetName": format!("turn-{}", self.turns),
                "vmNames": [vm(number)],
                "credentials": {
                    "openstackProviderID": "b7c9e2d4-3f61-4a85-9c0e-71d2a6f854e3",
                    "projectID": "6f2c1b0e9d8a4c7bb1e5d43a2f908c61",
                    "k8sProviderID": target,
                },
            },
        });
        self.wanted.insert(number, target);
        self.world.kubernetes().apply_object(object).unwrap();
    }

    fn do_harm(&mut self) {
        let kubernetes = self.world.kubernetes();
        match self.rng.u32(0..15) {
            0 | 1 => kubernetes.cut_watches(),
            2 => kubernetes.end_watches(),
            3 => kubernetes.compact(),
            4 => kubernetes.restart(),
            5 => {
                kubernetes.expire_continue_tokens();
                kubernetes.stale_list_next(1);
                kubernetes.restart();
            }
            6 => {
                // What nobody was told of is found by the list that follows a restart.
                kubernetes.drop_next_events(1);
                self.change_an_object();
                self.world.kubernetes().restart();
            }
            7 => self.answer_badly(refusal(429, "TooManyRequests", Some(1))),
            8 => self.answer_badly(refusal(500, "InternalError", None)),
            9 => self.answer_badly(refusal(410, "Expired", None)),
            10 => self.answer_badly(FaultKind::Reset),
            11 => self.answer_badly(FaultKind::AnswerLost),
            12 => {
                let after_bytes = self.rng.usize(0..400);
                self.answer_badly(FaultKind::CutBody { after_bytes });
            }
            13 => {
                let lines = ["{\"type\":\"AD\n", "{\"type\":\"ODD\",\"object\":{}}\n", "\u{7}\n"];
                kubernetes.inject_watch_line(lines[self.rng.usize(0..lines.len())]);
            }
            _ => self.rotate_the_token(),
        }
    }

    /// The next request is answered like this: any, or the next list or watch.
    fn answer_badly(&mut self, kind: FaultKind) {
        let fault = Fault::once(Service::Kubernetes, kind);
        if self.rng.bool() {
            self.world.faults().add(fault);
        } else {
            self.world.faults().add(fault.path_contains("/openstackconfigs?"));
            self.world.kubernetes().cut_watches();
        }
    }

    fn rotate_the_token(&mut self) {
        let old = fs::read_to_string(&self.token_file).unwrap();
        self.turns += 1;
        let token = format!("rotated-{}", self.turns);
        self.world.kubernetes().accept_token(&token, "operator");
        fs::write(&self.token_file, &token).unwrap();
        self.world.kubernetes().revoke_token(&old);
    }

    /// One fault at a time, or they would add up to an outage in which nothing is tried any more.
    /// Now and then all is well before the next one, mostly it comes in the middle of things; if it
    /// always did, one long back-off would be all there is to see.
    fn pace(&mut self) {
        let met = |_: &[LoggedRequest]| self.world.faults().pending().is_empty();
        // A watch that was being opened while the others were cut lives on, and would not ask for
        // minutes: it is cut as well.
        let asked = (0..CONVERGENCE.as_secs() / 2).any(|_| {
            let asked = self.world.journal().wait_for(met, Duration::from_secs(2));
            if !asked {
                self.world.kubernetes().cut_watches();
            }
            asked
        });
        assert!(asked, "nothing is asked any more");
        if self.rng.u32(0..3) == 0 {
            self.wait_until_right();
        }
    }

    fn wait_until_right(&self) {
        let right = self.world.kubernetes().wait_until(
            |view| self.statuses_are_right(&view.objects("OpenstackConfig")),
            CONVERGENCE,
        );
        let objects = self.world.kubernetes().objects("OpenstackConfig");
        assert!(right, "seed {}: {objects:#?}", self.seed);
    }

    /// Every object says that its newest generation was synced, and there are no others.
    fn statuses_are_right(&self, objects: &[Value]) -> bool {
        objects.len() == self.wanted.len()
            && objects.iter().all(|object| {
                let is_ready = ready_of(object).is_some_and(|ready| {
                    ready["status"] == "True"
                        && ready["observedGeneration"] == object["metadata"]["generation"]
                });
                let status = &object["status"];
                is_ready && status["observedGeneration"] == object["metadata"]["generation"]
            })
    }

    fn viola_is_right(&self) -> bool {
        self.wanted.iter().all(|(number, target)| {
            let held = self.world.viola().current(target);
            let interface = held.get(&node(*number)).map(|node| node["interfaces"][0].clone());
            interface.is_some_and(|interface| interface["portId"] == port_id(*number))
        })
    }
}

/// The VM that a request for ports asks about.
/// The VMs that a request for ports is about.
fn vms_of(request: &LoggedRequest) -> Vec<String> {
    let parts = request.target.split('&');
    parts.filter_map(|part| part.strip_prefix("device_id=")).map(str::to_owned).collect()
}

/// For each VM, requests that were asked while another one wasn't answered yet.
fn overlaps(requests: &[LoggedRequest]) -> Vec<String> {
    let mut busy_until: BTreeMap<String, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for request in requests {
        for vm in vms_of(request) {
            let until = busy_until.entry(vm.clone()).or_default();
            if request.arrived_ms + NOTED_WITHIN_MS < *until {
                found.push(format!("{vm} at {} ms", request.arrived_ms));
            }
            *until = (*until).max(request.answered_ms.unwrap_or(u64::MAX));
        }
    }
    found
}

#[test]
fn after_hundreds_of_faults_every_object_is_as_it_should_be() {
    let read = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = read("CAMPAIGN_SEED").unwrap_or_else(|| fastrand::u64(..));
    let faults = read("CAMPAIGN_FAULTS").unwrap_or(u64::from(FAULTS));
    println!("CAMPAIGN_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, "first-token").unwrap();
    let world = world();
    world.kubernetes().accept_token("first-token", "operator");
    world.kubernetes().set_bookmark_interval(Duration::from_millis(100));
    // Syncs last long enough to meet each other if they could.
    world.faults().set_latency(Service::Neutron, Duration::from_millis(50));
    let variables = [
        ("POLL_FAST_INTERVAL", "300ms"),
        ("POLL_SLOW_INTERVAL", "600ms"),
        ("POLL_ERROR_INTERVAL", "300ms"),
        ("KUBE_TOKEN_FILE", token_file.to_str().unwrap()),
        ("RUST_LOG", "info"),
    ];
    let operator = Operator::start(&world, &variables);
    let rng = fastrand::Rng::with_seed(seed);
    let wanted = BTreeMap::new();
    let mut campaign = Campaign { world, rng, token_file, wanted, turns: 0, seed };
    let begun = now();
    for _ in 0..faults {
        campaign.change_an_object();
        campaign.do_harm();
        campaign.pace();
    }
    let harmed = begun.elapsed();
    // In the end nothing is told to anybody: the list that follows a restart must show it all.
    campaign.world.kubernetes().drop_next_events(usize::MAX);
    for number in 0..OBJECTS {
        match (campaign.wanted.contains_key(&number), number % 2) {
            (true, 0) => campaign.delete(number),
            (false, 0) => {}
            _ => campaign.put(number),
        }
    }
    campaign.world.kubernetes().drop_next_events(0);
    let world = &campaign.world;
    world.faults().clear();
    world.kubernetes().restart();
    campaign.wait_until_right();
    println!("{faults} faults in {harmed:?}, right after {:?}", begun.elapsed() - harmed);
    // The POST comes before the status that speaks of it.
    assert!(campaign.viola_is_right(), "seed {seed}: {}", world.viola().everything());
    assert_eq!(world.viola().violations(), Vec::<String>::new(), "seed {seed}");

    let before = ports_requests(world).len();
    let remaining: BTreeSet<String> = campaign.wanted.keys().map(|number| vm(*number)).collect();
    let polled_twice = |log: &[LoggedRequest]| {
        let mut polls: BTreeMap<String, usize> = BTreeMap::new();
        for vm in log.iter().filter(|request| is_ports(request)).skip(before).flat_map(vms_of) {
            *polls.entry(vm).or_default() += 1;
        }
        remaining.iter().all(|vm| polls.get(vm).is_some_and(|count| *count >= 2))
    };
    assert!(world.journal().wait_for(polled_twice, SOON), "seed {seed}: polls have stopped");
    let requests = ports_requests(world);
    let asked: BTreeSet<String> = requests[before..].iter().flat_map(vms_of).collect();
    assert_eq!(asked, remaining, "seed {seed}: objects that are gone are synced");
    assert_eq!(overlaps(&requests), Vec::<String>::new(), "seed {seed}: two workers at once");
    assert!(!operator.log().contains("that is a bug"), "seed {seed}: {}", operator.log());
    let (status, _) = operator.stop();
    assert_eq!(status.code(), Some(0), "seed {seed}");
}
