//! The worst days of docs/operations.md, lived through with the guide's own commands.
//! Where there is no kubectl, each test says so and tests nothing.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use simulated_cloud::{LoggedRequest, Service};
use tempfile::TempDir;

use crate::guide::{commands, printed, shell};
use crate::process::{Operator, SOON, command};
use crate::skip::skipped;
use crate::world::World;

const QUICK: [(&str, &str); 4] = [
    ("POLL_FAST_INTERVAL", "200ms"),
    ("POLL_SLOW_INTERVAL", "300ms"),
    ("POLL_ERROR_INTERVAL", "200ms"),
    ("POLL_FAST_WINDOW", "1s"),
];

/// Three nodes of one object, and the person who is on call.
struct Day {
    world: World,
    operator: Option<Operator>,
    /// The operator's.
    volume: Arc<TempDir>,
    /// Where the person works.
    folder: TempDir,
    has_viola: bool,
}

impl Day {
    /// All is well; none where kubectl isn't installed.
    fn begins() -> Option<Day> {
        if Command::new("kubectl").arg("help").output().is_err() {
            skipped("kubectl is not installed");
            return None;
        }
        let world = World::of("three-nodes");
        let (volume, folder) = (Arc::new(TempDir::new().unwrap()), TempDir::new().unwrap());
        let mut day = Day { world, operator: None, volume, folder, has_viola: true };
        day.start();
        day.world.wait_for_reason("NoChange");
        Some(day)
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        let without = (!self.has_viola).then_some(("VIOLA_ENDPOINT", ""));
        QUICK.into_iter().chain(without).collect()
    }

    fn start(&mut self) {
        self.operator = None;
        let volume = Arc::clone(&self.volume);
        self.operator = Some(Operator::start_in(&self.world, &self.variables(), volume));
    }

    /// Runs a block of the guide; what follows from it in the operator's namespace is done.
    fn run(&mut self, block: &str) -> String {
        let mut block = block.replace("openstackconfig-sample", "demo");
        if let Some(operator) = &self.operator {
            let address = operator.address("inventory").to_string();
            block = block.replace("127.0.0.1:18081", &address);
        }
        let volume = self.volume.path();
        let mut shell = shell(&block, self.folder.path(), volume);
        let program = command(&self.world, &self.variables(), volume);
        shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.env("PROGRAM", program.get_program()).env("RUST_LOG", "off");
        shell.env("SERVER", self.world.url(Service::Kubernetes));
        let printed = printed(&shell.output().unwrap());
        let calls = self.folder.path().join("calls");
        for call in fs::read_to_string(&calls).unwrap_or_default().lines() {
            let has = |part: &str| call.contains(part);
            if has("\"remove\",\"path\":\"/data/VIOLA_ENDPOINT\"") {
                self.has_viola = false;
            } else if has("--replicas=0") {
                self.operator = None;
            } else if has("--replicas=1") || has("rollout restart") {
                self.start();
            }
        }
        let _ = fs::remove_file(calls);
        printed
    }

    fn posts(&self) -> usize {
        self.world.journal().count(Service::Viola)
    }

    /// Waits until so many more lists of ports were answered.
    fn wait_for_polls(&self, count: usize) {
        let polls = |log: &[LoggedRequest]| {
            log.iter().filter(|request| request.target.contains("/ports?")).count()
        };
        let from = polls(&self.world.journal().all());
        let seen = self.world.journal().wait_for(|log| polls(log) >= from + count, SOON);
        assert!(seen, "no polls came");
    }

    /// Name and id of each card at Viola by port, whatever the target.
    fn cards(&self) -> Vec<(String, Value)> {
        let nodes = self.world.held().into_iter();
        let interfaces =
            nodes.flat_map(|(_, _, node)| node["interfaces"].as_array().unwrap().clone());
        let card = |one: Value| (one["portId"].as_str().unwrap().to_owned(), one["id"].clone());
        let mut cards: Vec<_> = interfaces.map(card).collect();
        cards.sort_by(|one, other| one.0.cmp(&other.0));
        cards
    }
}

#[test]
fn a_mass_removal_is_held_until_neutron_is_repaired_or_it_is_approved() {
    let Some(mut day) = Day::begins() else { return };
    let (before, sent) = (day.cards(), day.posts());
    let lost = ["3e1bcf29-d8ed-4823-9f09-de1ad46b0b9d", "e82ce944-2a5f-4e59-a793-14c905663b6c"];
    let take =
        |day: &Day| day.world.edit(|state| lost.map(|port| state.ports.remove(port).unwrap()));
    let ports = take(&day);
    day.world.wait_for_reason("ChangeHeld");
    let blocks = commands("Held removals");
    let seen = day.run(&blocks[0]);
    let hash = day.world.status()["hold"]["hash"].as_str().unwrap().to_owned();
    for part in ["ChangeHeld", "held, see the status", lost[0], lost[1], &hash] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    // Neutron is repaired.
    day.world.edit(|state| ports.into_iter().for_each(|port| state.add_port(port)));
    day.world.wait_for_reason("NoChange");
    assert_eq!((day.cards(), day.posts()), (before.clone(), sent));
    // Another day the removal is right.
    take(&day);
    day.world.wait_for_reason("ChangeHeld");
    day.run(&blocks[1].replace("0123456789ab", &hash));
    day.world.wait_for_reason("NoChange");
    let left = before.into_iter().filter(|(port, _)| !lost.contains(&port.as_str()));
    assert_eq!(day.cards(), left.collect::<Vec<_>>());
}

#[test]
fn revoked_credentials_cost_no_card_and_no_restart() {
    let Some(mut day) = Day::begins() else { return };
    let before = day.cards();
    let password = |state: &mut simulated_cloud::state::CloudState| {
        state.users.iter_mut().for_each(|user| user.password = "n3w-passw0rd".to_owned());
    };
    day.world.edit(|state| {
        state.revoke_tokens();
        password(state);
    });
    day.world.wait_for_reason("KeystoneError");
    let blocks = commands("Revoked credentials");
    let seen = day.run(&blocks[0]);
    assert!(seen.contains("KeystoneError") && seen.contains("password"), "{seen}");
    day.world.edit(|state| {
        let providers = state.providers.iter_mut();
        providers.for_each(|provider| provider.admin_password = "n3w-passw0rd".to_owned());
    });
    let seen = day.run(&blocks[1]);
    assert!(seen.contains("condition met"), "{seen}");
    assert_eq!(day.cards(), before);
}

#[test]
fn a_viola_that_lost_its_state_gets_all_nodes_with_the_same_ids() {
    let Some(mut day) = Day::begins() else { return };
    // One node has its cards in another order than by MAC address.
    let port = "6354868d-f9b9-4574-9672-af08b0d88eea";
    let sent = day.posts();
    day.world.edit(|state| {
        state.ports.update(port, |port| port.mac_address = "FA:16:3E:FF:00:01".to_owned());
    });
    day.world.wait_for_posts(sent + 1);
    day.world.wait_for_reason("NoChange");
    let (before, sent) = (day.cards(), day.posts());
    day.world.viola().forget();
    day.wait_for_polls(2);
    assert_eq!((day.cards().len(), day.posts()), (0, sent), "it isn't noticed");
    let blocks = commands("Viola lost its state");
    day.run(&blocks[0]);
    day.world.wait_for_posts(sent + 1);
    assert_eq!(day.cards(), before);
    assert!(day.run(&blocks[1]).contains("demo"));
}

#[test]
fn lost_records_come_back_from_the_backup() {
    let Some(mut day) = Day::begins() else { return };
    let (before, sent) = (day.cards(), day.posts());
    day.run(&commands("Backup")[0]);
    let restore = commands("Restore");
    day.run(&restore[0]);
    fs::remove_file(day.volume.path().join("inventory.json")).unwrap();
    day.start();
    day.world.wait_for_reason("MemoryLost");
    for block in &restore {
        day.run(block);
    }
    day.world.wait_for_reason("NoChange");
    day.wait_for_polls(2);
    assert_eq!((day.cards(), day.posts()), (before, sent));
}

#[test]
fn lost_records_without_a_backup_are_approved_after_a_look_at_the_plan() {
    let Some(mut day) = Day::begins() else { return };
    let (before, sent) = (day.cards(), day.posts());
    day.operator = None;
    fs::remove_file(day.volume.path().join("inventory.json")).unwrap();
    day.start();
    day.world.wait_for_reason("MemoryLost");
    let blocks = commands("Lost inventory");
    day.run(&blocks[0]);
    day.world.wait_for_reason("ConfigError");
    let seen = day.run(&blocks[1]);
    for part in ["would send  3 of 3 nodes", "held: the operator sends none", "MemoryLost"] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    day.has_viola = true;
    day.start();
    day.world.wait_for_reason("MemoryLost");
    assert_eq!(day.posts(), sent);
    day.run(&blocks[2]);
    day.world.wait_for_posts(sent + 1);
    day.world.wait_for_reason("NoChange");
    day.run(&blocks[3]);
    assert_eq!(day.cards(), before);
}

#[test]
fn a_cloud_that_was_registered_anew_keeps_each_card_at_either_target() {
    for keeps_target in [false, true] {
        let Some(mut day) = Day::begins() else { return };
        let (before, sent) = (day.cards(), day.posts());
        let (old, new) = day.world.edit(|state| {
            let old = state.providers[0].id.clone();
            state.providers[0].id = "0d5c7e1a-2f94-4b6e-8a37-9c1e5d3f7b20".to_owned();
            (old, state.providers[0].id.clone())
        });
        day.world.wait_for_reason("ContrabassError");
        let blocks = commands("A cloud was registered anew");
        let with_ids = |block: &str| block.replace("OLD-ID", &old).replace("NEW-ID", &new);
        let seen = day.run(&with_ids(&blocks[0]));
        assert!(seen.contains("would send  3 of 3 nodes"), "{seen}");
        day.run(&with_ids(&blocks[if keeps_target { 2 } else { 1 }]));
        day.world.wait_for_reason("NoChange");
        if keeps_target {
            assert_eq!((day.cards(), day.posts()), (before, sent + 1));
            continue;
        }
        let twice = before.iter().flat_map(|card| [card.clone(), card.clone()]);
        assert_eq!(day.cards(), twice.collect::<Vec<_>>(), "at the old target and the new one");
    }
}
