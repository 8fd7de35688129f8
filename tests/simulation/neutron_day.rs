//! A day of one object with many nodes, on which Neutron shows half of the ports for ten minutes, or on
//! which some ports are really gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use multinic_operator::node_config::NodeConfig;
use multinic_operator::resources::{ObjectKey, Status};
use serde_json::json;
use simulated_cloud::CloudState;
use simulated_cloud::state::Port;

use crate::cloud::{PROJECTS, PROVIDERS, hide_ports, quiet, subnet_id, vm_id};
use crate::driver::{Broken, Plan, Simulation};
use crate::secrets;

const HOUR: Duration = Duration::from_secs(3600);
const TEN_MINUTES: Duration = Duration::from_secs(600);

/// The simulation, and what Viola has of each node.
struct Day {
    simulation: Simulation,
    key: ObjectKey,
    begun: BTreeMap<String, NodeConfig>,
}

impl Day {
    /// An hour after the first sync; all is well.
    fn begins(nodes: usize) -> Result<Day, Broken> {
        secrets::listen();
        let plan = Plan { seed: 1, without: Default::default(), events: 0, batch_limit: None };
        let mut simulation = Simulation::new(plan);
        simulation.is_faultless = true;
        simulation.kubernetes.approves = 0;
        simulation.transport.state().faults.noise = 0;
        let intervals =
            &mut Arc::make_mut(&mut Arc::make_mut(&mut simulation.config).settings).intervals;
        (intervals.fast, intervals.slow) = (Duration::from_secs(30), Duration::from_secs(240));
        intervals.resync = None;
        let cloud = quiet(nodes, &mut simulation.random);
        simulation.oracle.note_cloud(Duration::ZERO, &cloud);
        simulation.transport.now.state.lock().clone_from(&cloud);
        simulation.transport.before.state.lock().clone_from(&cloud);
        let key = ObjectKey { namespace: "default".to_owned(), name: "nodes".to_owned() };
        let vms: Vec<String> = (0..nodes).map(|number| vm_id(0, number)).collect();
        let spec = json!({"subnetID": subnet_id(0, 0), "vmNames": vms,
            "credentials": {"openstackProviderID": PROVIDERS[0], "projectID": PROJECTS[0]}});
        let created = simulation.begin;
        simulation.kubernetes.add(
            Duration::ZERO,
            key.clone(),
            created,
            spec,
            &mut simulation.random,
        );
        simulation.holds.note_objects(simulation.kubernetes.objects.values());
        let mut day = Day { simulation, key, begun: BTreeMap::new() };
        day.wait(HOUR)?;
        day.begun = day.told();
        assert_eq!(day.begun.len(), nodes);
        assert_eq!(day.reason(), "NoChange");
        Ok(day)
    }

    fn wait(&mut self, time: Duration) -> Result<(), Broken> {
        let until = self.simulation.at + time;
        while self.simulation.next_time() <= until {
            self.simulation.step(None)?;
        }
        self.simulation.set_time(until);
        self.simulation.pump();
        Ok(())
    }

    /// After this time everything is as the cloud says.
    fn ends(&mut self, time: Duration) -> Result<(), Broken> {
        self.wait(time)?;
        assert_eq!(self.reason(), "NoChange");
        self.simulation.check_convergence()
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut CloudState, &mut fastrand::Rng) -> T) -> T {
        let simulation = &mut self.simulation;
        let mut now = simulation.transport.now.state.lock();
        let result = change(&mut now, &mut simulation.random);
        simulation.oracle.note_cloud(simulation.at, &now);
        result
    }

    fn show(&mut self, hidden: Vec<Port>) {
        self.change(|cloud, _| hidden.into_iter().for_each(|port| cloud.add_port(port)));
    }

    fn told(&self) -> BTreeMap<String, NodeConfig> {
        let told = self.simulation.oracle.told.iter();
        told.map(|((_, node), told)| (node.clone(), told.config.clone())).collect()
    }

    fn status(&self) -> Status {
        self.simulation.kubernetes.objects[&self.key].read().status
    }

    fn reason(&self) -> String {
        self.status().condition("Ready").unwrap().reason.clone()
    }

    fn posts(&self) -> usize {
        self.simulation.viola.received().len()
    }
}

#[test]
fn half_of_the_ports_for_ten_minutes_costs_no_card_and_heals() {
    let mut day = Day::begins(100).unwrap();
    let sent = day.posts();
    let hidden = day.change(hide_ports);
    assert!(hidden.len() >= 67, "{} ports", hidden.len());
    day.wait(TEN_MINUTES).unwrap();
    assert_eq!(day.reason(), "ChangeHeld");
    assert!(day.status().hold.is_some());
    day.show(hidden);
    day.ends(22 * HOUR).unwrap();
    assert_eq!((day.posts(), day.told()), (sent, day.begun.clone()));
    assert_eq!(day.status().hold, None);
}

#[test]
fn half_of_the_ports_with_an_approval_are_taken_and_come_back_as_they_were() {
    let mut day = Day::begins(100).unwrap();
    let hidden = day.change(hide_ports);
    day.wait(TEN_MINUTES / 2).unwrap();
    assert_eq!((day.reason().as_str(), day.told() == day.begun), ("ChangeHeld", true));
    day.simulation.kubernetes.approves = 4;
    let key = day.key.clone();
    day.simulation.see_hold(&key);
    day.simulation.kubernetes.approves = 0;
    day.wait(TEN_MINUTES / 2).unwrap();
    let told = day.told();
    let cards = |nodes: &BTreeMap<String, NodeConfig>| -> usize {
        nodes.values().map(|node| node.interfaces.len()).sum()
    };
    assert!(cards(&told) < cards(&day.begun), "what was approved is sent");
    day.show(hidden);
    day.ends(HOUR).unwrap();
    assert_eq!(day.told(), day.begun);
}

#[test]
fn ports_of_one_node_in_a_hundred_are_removed_without_a_question() {
    let mut day = Day::begins(200).unwrap();
    let sent = day.posts();
    let changed = day.change(|cloud, _| {
        let vms: Vec<String> = (0..200).step_by(100).map(|number| vm_id(0, number)).collect();
        for vm in &vms {
            let port = cloud.ports.of_device(vm).next().unwrap().id.clone();
            cloud.ports.remove(&port);
        }
        vms
    });
    day.wait(TEN_MINUTES).unwrap();
    assert_eq!((day.posts(), day.reason().as_str()), (sent + 1, "NoChange"));
    for (name, node) in day.told() {
        let lost = usize::from(changed.contains(&node.instance_id));
        assert_eq!(node.interfaces.len() + lost, day.begun[&name].interfaces.len(), "{name}");
    }
    day.ends(HOUR).unwrap();
}
