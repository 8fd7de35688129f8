//! A simulated cloud with helpers that read like the tests that use them.

use std::ops::Deref;

use serde_json::{Value, json};
use simulated_cloud::{Cloud, RabbitMq, Scenario, Service};

use super::process::{SOON, fixtures};

/// A running cloud.
pub(crate) struct World(pub(crate) Cloud);

impl Deref for World {
    type Target = Cloud;

    fn deref(&self) -> &Cloud {
        &self.0
    }
}

impl World {
    /// The cloud of a fixture.
    pub(crate) fn of(scenario: &str) -> World {
        World(Cloud::start(Scenario::load(&fixtures().join(scenario)).unwrap()).unwrap())
    }

    /// A broker that Contrabass names from now on, behind another address where nobody listens.
    pub(crate) fn broker(&self) -> RabbitMq {
        let broker = RabbitMq::start().unwrap();
        self.edit(|state| {
            for provider in &mut state.providers {
                provider.rabbitmq = Some(simulated_cloud::state::RabbitMq {
                    user: "openstack".to_owned(),
                    password: "rabbit-0pen5tack".to_owned(),
                    urls: vec!["127.0.0.1:1".to_owned(), broker.address()],
                });
            }
        });
        broker
    }

    /// The one object's key, for scenarios that have one.
    pub(crate) fn object(&self) -> (String, String) {
        let object = &self.scenario().objects[0];
        let text = |name: &str| object["metadata"][name].as_str().unwrap().to_owned();
        (text("namespace"), text("name"))
    }

    /// The Ready condition of the one object.
    pub(crate) fn ready(&self) -> Option<Value> {
        let (namespace, name) = self.object();
        ready_of(&self.kubernetes().get("OpenstackConfig", &namespace, &name)?)
    }

    /// The status of the one object.
    pub(crate) fn status(&self) -> Value {
        let (namespace, name) = self.object();
        self.kubernetes().get("OpenstackConfig", &namespace, &name).unwrap()["status"].clone()
    }

    /// Waits until the one object is Ready or not for this reason; gives its message.
    pub(crate) fn wait_for_reason(&self, reason: &str) -> String {
        let (namespace, name) = self.object();
        self.wait_for_reason_of(&namespace, &name, reason)
    }

    /// Waits until the one object's Ready condition fits.
    pub(crate) fn wait_for_ready(&self, fits: impl Fn(&Value) -> bool) {
        let (namespace, name) = self.object();
        let seen = self.kubernetes().wait_until(
            |view| {
                let object = view.get("OpenstackConfig", &namespace, &name);
                object.as_ref().and_then(ready_of_ref).is_some_and(&fits)
            },
            SOON,
        );
        assert!(seen, "it never came to that; it is {:?}", self.ready());
    }

    /// The same for a named object.
    pub(crate) fn wait_for_reason_of(&self, namespace: &str, name: &str, reason: &str) -> String {
        match self.ready_when(namespace, name, |ready| ready["reason"] == reason) {
            Ok(ready) => ready["message"].as_str().unwrap().to_owned(),
            Err(ready) => panic!("{name} never became {reason}; it is {ready:?}"),
        }
    }

    /// The Ready condition of a named object once it fits; as it is in the end if it never does.
    pub(crate) fn ready_when(
        &self,
        namespace: &str,
        name: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value, Value> {
        let seen = self.kubernetes().wait_until(
            |view| {
                let object = view.get("OpenstackConfig", namespace, name);
                object.as_ref().and_then(ready_of_ref).is_some_and(&fits)
            },
            SOON,
        );
        let object = self.kubernetes().get("OpenstackConfig", namespace, name);
        let ready = object.as_ref().and_then(ready_of).unwrap_or_default();
        if seen { Ok(ready) } else { Err(ready) }
    }

    /// Waits until Viola has been sent this many requests.
    pub(crate) fn wait_for_posts(&self, count: usize) {
        let enough = |log: &[simulated_cloud::LoggedRequest]| {
            let answered = |request: &&simulated_cloud::LoggedRequest| {
                request.service == Service::Viola && request.status.is_some()
            };
            log.iter().filter(answered).count() >= count
        };
        let seen = self.journal().wait_for(enough, SOON);
        assert!(seen, "Viola got {} requests, not {count}", self.journal().count(Service::Viola));
    }

    /// Makes the operator look again at once.
    pub(crate) fn force(&self, value: &str) {
        let (namespace, name) = self.object();
        let annotation = "multinic.example.com/force-reconcile";
        self.kubernetes()
            .annotate("OpenstackConfig", &namespace, &name, annotation, value)
            .unwrap();
    }

    /// Changes the spec of the one object.
    pub(crate) fn change_spec(&self, spec: Value) {
        let (namespace, name) = self.object();
        let patch = json!({"spec": spec});
        self.kubernetes().patch("OpenstackConfig", &namespace, &name, &patch).unwrap();
    }

    /// What Viola must hold in the end, by provider and node name.
    pub(crate) fn expected(&self) -> Vec<(String, String, Value)> {
        let posts = &self.scenario().expected.posts;
        let mut nodes: Vec<(String, String, Value)> = Vec::new();
        for post in posts {
            for node in &post.nodes {
                let name = node["nodeName"].as_str().unwrap().to_owned();
                nodes.push((post.provider_id.clone(), name, node.clone()));
            }
        }
        nodes.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        nodes
    }

    /// What Viola holds, in the same form.
    pub(crate) fn held(&self) -> Vec<(String, String, Value)> {
        let mut nodes = Vec::new();
        for provider in self.viola().providers() {
            for (name, node) in self.viola().current(&provider) {
                nodes.push((provider.clone(), name, node));
            }
        }
        nodes
    }
}

/// An object's Ready condition.
pub(crate) fn ready_of(object: &Value) -> Option<Value> {
    ready_of_ref(object).cloned()
}

fn ready_of_ref(object: &Value) -> Option<&Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "Ready")
}
