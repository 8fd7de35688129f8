//! Clouds of any size: so many objects of so many VMs, each with so many ports on one subnet.
//!
//! For the tests that count what a sync asks, and for `benches/cost`, which measures the same.

use serde_json::{Value, json};
use simulated_cloud::Scenario;
use simulated_cloud::state::{FixedIp, Port, Server, Settings};

/// The project that networks and subnets belong to, and what is in the first project.
pub(crate) const PROJECT: &str = "6f2c1b0e9d8a4c7bb1e5d43a2f908c61";
/// The namespace of the objects.
pub(crate) const NAMESPACE: &str = "default";
/// The network of every port, and its one subnet.
const NETWORK: &str = "5d0e8c1a-72b4-4f3e-9a16-c83b5e7f2d90";
const SUBNET: &str = "c1f4a7d2-0b95-4e68-8d3c-2a9e6b517f04";

/// How large a cloud is.
#[derive(Clone, Debug)]
pub(crate) struct Population {
    /// Objects whose VMs exist.
    pub(crate) objects: usize,
    /// VMs of each object; no VM is in two.
    pub(crate) vms: usize,
    /// Ports of each VM.
    pub(crate) ports: usize,
    /// Providers, which the objects take turns in; all lead to the one Keystone.
    pub(crate) providers: usize,
    /// Projects, which the objects take turns in; the network is shared with all of them.
    pub(crate) projects: usize,
    /// How the services behave.
    pub(crate) settings: Settings,
}

impl Population {
    /// One provider, and services that keep connections, as behind a proxy.
    pub(crate) fn new(objects: usize, vms: usize, ports: usize) -> Population {
        let settings = Settings { keep_alive: true, ..Settings::default() };
        Population { objects, vms, ports, providers: 1, projects: 1, settings }
    }

    /// The cloud alone; its objects are still to be created.
    pub(crate) fn without_objects(&self) -> Scenario {
        let mut scenario = Scenario::from_json(self.cloud(), Vec::new()).unwrap();
        scenario.state.settings = self.settings.clone();
        for vm in 0..self.objects * self.vms {
            scenario.state.add_server(Server {
                id: uuid(1, vm),
                name: format!("worker-{vm:05}"),
                project_id: self.project_of(vm / self.vms),
                status: "ACTIVE".to_owned(),
                metadata: std::collections::BTreeMap::new(),
            });
            for port in (0..self.ports).map(|port| vm * self.ports + port) {
                scenario.state.add_port(self.port(vm, port));
            }
        }
        scenario
    }

    /// The cloud with its objects.
    pub(crate) fn scenario(&self) -> Scenario {
        let mut scenario = self.without_objects();
        scenario.objects = (0..self.objects).map(|number| self.object(number)).collect();
        scenario
    }

    /// One object.
    pub(crate) fn object(&self, number: usize) -> Value {
        let vms = number * self.vms..(number + 1) * self.vms;
        json!({
            "apiVersion": "multinic.example.com/v1alpha1",
            "kind": "OpenstackConfig",
            "metadata": {"namespace": NAMESPACE, "name": name(number), "uid": uuid(3, number)},
            "spec": {
                "subnetID": SUBNET,
                "vmNames": vms.map(|vm| uuid(1, vm)).collect::<Vec<_>>(),
                "credentials": {
                    "openstackProviderID": provider(number % self.providers),
                    "projectID": self.project_of(number),
                },
            },
        })
    }

    fn cloud(&self) -> Value {
        let password = "Adm1n-pässwörd!";
        let provider = |number| {
            json!({"id": provider(number), "admin_password": password,
                   "rabbitmq": {"user": "openstack", "password": "rabbit-0pen5tack",
                                "urls": ["10.0.0.5:5672"]}})
        };
        let project =
            |number| json!({"id": self.project_of(number), "name": format!("demo-{number}")});
        json!({
            "providers": (0..self.providers).map(provider).collect::<Vec<_>>(),
            "users": [{"id": "2d6df820a8d14024b12b3d6531b02f95", "name": "admin",
                       "password": password, "admin": true}],
            "projects": (0..self.projects).map(project).collect::<Vec<_>>(),
            "networks": [{"id": NETWORK, "name": "tenant", "project_id": PROJECT}],
            "subnets": [{"id": SUBNET, "name": "tenant", "network_id": NETWORK,
                         "cidr": "10.0.0.0/8", "gateway_ip": "10.0.0.1"}],
        })
    }

    /// The project of an object, its VMs and their ports.
    fn project_of(&self, object: usize) -> String {
        match object % self.projects {
            0 => PROJECT.to_owned(),
            number => format!("{number:032x}"),
        }
    }

    fn port(&self, vm: usize, port: usize) -> Port {
        let [_, a, b, c] = u32::try_from(port + 10).unwrap().to_be_bytes();
        Port {
            id: uuid(2, port),
            name: String::new(),
            network_id: NETWORK.to_owned(),
            project_id: self.project_of(vm / self.vms),
            mac_address: format!("fa:16:3e:{a:02x}:{b:02x}:{c:02x}"),
            status: "ACTIVE".to_owned(),
            device_id: uuid(1, vm),
            fixed_ips: vec![FixedIp {
                subnet_id: SUBNET.to_owned(),
                ip_address: format!("10.{a}.{b}.{c}"),
            }],
            created_at: None,
            tags: Vec::new(),
        }
    }
}

/// The name of an object.
pub(crate) fn name(number: usize) -> String {
    format!("object-{number:04}")
}

/// The id of a provider.
pub(crate) fn provider(number: usize) -> String {
    uuid(4, number)
}

fn uuid(kind: usize, number: usize) -> String {
    format!("{kind:08x}-0000-4000-8000-{number:012x}")
}
