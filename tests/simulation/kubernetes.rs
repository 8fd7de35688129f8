//! The Kubernetes API of a simulation: objects that people create, change and delete, and a watch that
//! tells of it late, tells of it anew, or is silent for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use multinic_operator::clock::to_seconds_text;
use multinic_operator::controller::Event;
use multinic_operator::kube::objects::RawObject;
use multinic_operator::resources::{
    APPROVE_ANNOTATION, FORCE_ANNOTATION, ObjectKey, OpenstackConfig,
};
use serde_json::{Value, json, value::to_raw_value};

use crate::specs::spec_of;

/// Names that objects have.
const NAMES: [&str; 8] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"];

/// One object as the API server has it.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) key: ObjectKey,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    created: Timestamp,
    pub(crate) force: Option<String>,
    approve: Option<String>,
    /// When somebody last asked for everything to be sent again.
    pub(crate) forced_at: Option<Duration>,
    /// The nodes it had when that was done; none while it isn't.
    pub(crate) sent_again: Option<BTreeSet<String>>,
    spec: Value,
    pub(crate) status: Value,
    /// The status was edited since it was last written.
    pub(crate) edited: bool,
}

impl Object {
    /// As the operator reads it.
    pub(crate) fn read(&self) -> OpenstackConfig {
        let mut object = json!({
            "apiVersion": "multinic.example.com/v1alpha1",
            "kind": "OpenstackConfig",
            "metadata": {
                "namespace": self.key.namespace,
                "name": self.key.name,
                "uid": self.uid,
                "generation": self.generation,
                "creationTimestamp": to_seconds_text(self.created),
            },
            "spec": self.spec,
            "status": self.status,
        });
        if let Some(force) = &self.force {
            object["metadata"]["annotations"][FORCE_ANNOTATION] = json!(force);
        }
        if let Some(approve) = &self.approve {
            object["metadata"]["annotations"][APPROVE_ANNOTATION] = json!(approve);
        }
        let raw = RawObject::read(&to_raw_value(&object).unwrap()).unwrap();
        OpenstackConfig::from_raw(&raw, &Default::default())
    }
}

/// What the objects are like.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    /// Objects, at most.
    pub(crate) objects: usize,
    /// VMs of each, at most.
    pub(crate) most_vms: usize,
    /// One in so many is of another project.
    pub(crate) one_in: u8,
}

/// The API server.
pub(crate) struct Kubernetes {
    pub(crate) crowd: Crowd,
    pub(crate) objects: BTreeMap<ObjectKey, Object>,
    /// What the watch will tell, and when.
    feed: VecDeque<(Duration, Event)>,
    /// The watch tells nothing before this.
    pub(crate) silent_until: Duration,
    /// Nothing can be written before this.
    pub(crate) down_until: Duration,
    /// Names of Secrets that belong to somebody else.
    pub(crate) foreign_secrets: BTreeSet<String>,
    /// In so many of four cases the person approves what is held.
    pub(crate) approves: u8,
    made: u64,
}

impl Kubernetes {
    pub(crate) fn new(crowd: Crowd) -> Kubernetes {
        Kubernetes {
            crowd,
            objects: BTreeMap::new(),
            feed: VecDeque::new(),
            silent_until: Duration::ZERO,
            down_until: Duration::ZERO,
            foreign_secrets: BTreeSet::new(),
            approves: 2,
            made: 0,
        }
    }

    /// When the watch has something to tell.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.feed.front().map(|(at, _)| *at)
    }

    pub(crate) fn tell(&mut self) -> Option<Event> {
        self.feed.pop_front().map(|(_, event)| event)
    }

    fn put(&mut self, at: Duration, event: Event, random: &mut fastrand::Rng) {
        let at = at + Duration::from_millis(random.u64(1..1500));
        let last = self.feed.back().map_or(Duration::ZERO, |(at, _)| *at);
        let at = at.max(last).max(self.silent_until).max(self.down_until);
        self.feed.push_back((at, event));
    }

    /// The watch starts anew: whatever it had yet to tell is in the list.
    pub(crate) fn list(&mut self, at: Duration, random: &mut fastrand::Rng) {
        self.feed.clear();
        let objects = self.objects.values().map(Object::read).collect();
        self.put(at, Event::Listed { namespace: None, objects }, random);
    }

    /// Nobody watches.
    pub(crate) fn hang_up(&mut self) {
        self.feed.clear();
    }

    /// Writes a status; false if there is no such object any more.
    pub(crate) fn write_status(
        &mut self,
        at: Duration,
        key: &ObjectKey,
        uid: &str,
        status: &Value,
        random: &mut fastrand::Rng,
    ) -> bool {
        let Some(object) = self.objects.get_mut(key).filter(|object| object.uid == uid) else {
            return false;
        };
        object.status = status.clone();
        object.edited = false;
        let event = Event::Applied(Box::new(object.read()));
        self.put(at, event, random);
        true
    }

    /// The person sees the object's status and may approve what is held. Gives the uid and the hash,
    /// and whether GitOps takes the approval off again.
    pub(crate) fn approve(
        &mut self,
        at: Duration,
        key: &ObjectKey,
        random: &mut fastrand::Rng,
    ) -> Option<(String, String, bool)> {
        let object = self.objects.get_mut(key)?;
        let hold = object.status.get("hold").filter(|hold| hold["approved"] != true)?;
        let hash = hold["hash"].as_str()?.to_owned();
        if random.u8(0..4) >= self.approves {
            return None;
        }
        let is_taken_off = random.bool();
        // An approval that was used before counts again once it was taken off.
        let was_used = object.approve.as_ref() == Some(&hash);
        let values = was_used.then_some(None).into_iter().chain([Some(hash.clone())]);
        for value in values.chain(is_taken_off.then_some(None)) {
            let object = self.objects.get_mut(key)?;
            object.approve = value;
            let event = Event::Applied(Box::new(object.read()));
            self.put(at, event, random);
        }
        Some((self.objects.get(key)?.uid.clone(), hash, is_taken_off))
    }

    /// Something that people do to the objects: which kind, and in words.
    pub(crate) fn change(
        &mut self,
        at: Duration,
        begin: Timestamp,
        random: &mut fastrand::Rng,
    ) -> (&'static str, String) {
        let name = NAMES[random.usize(0..self.crowd.objects)];
        let key = ObjectKey { namespace: "default".to_owned(), name: name.to_owned() };
        let created = begin + at;
        let Some(object) = self.objects.get_mut(&key) else {
            return self.create(at, key, created, random);
        };
        match random.u8(0..13) {
            0..4 => {
                object.spec = spec_of(random, self.crowd.most_vms, self.crowd.one_in);
                object.generation += 1;
                let text = format!("{key} is changed to {}", object.spec);
                let event = Event::Applied(Box::new(object.read()));
                self.put(at, event, random);
                ("object changed", text)
            }
            4..7 => {
                object.force = Some(random.u32(..).to_string());
                object.forced_at = Some(at);
                object.sent_again = None;
                let event = Event::Applied(Box::new(object.read()));
                self.put(at, event, random);
                ("force-reconcile", format!("{key} is to be sent again"))
            }
            7 => {
                self.delete(at, &key, random);
                let (_, text) = self.create(at, key, created, random);
                ("object made again", text)
            }
            8 => {
                let secret = format!("rabbitmq-{name}");
                if !self.foreign_secrets.remove(&secret) {
                    self.foreign_secrets.insert(secret.clone());
                }
                ("foreign Secret", format!("the Secret {secret} changes hands"))
            }
            9 => {
                let Some(ready) = object.status["conditions"].get_mut(0) else {
                    return ("status edited", format!("{key} has no status to edit"));
                };
                let is_true = ready["status"] == "True";
                ready["status"] = json!(if is_true { "False" } else { "True" });
                ready["reason"] = json!("Edited");
                object.status["lastError"] = json!("edited");
                object.edited = true;
                let event = Event::Applied(Box::new(object.read()));
                self.put(at, event, random);
                ("status edited", format!("the status of {key} is edited"))
            }
            10 => {
                let value = random.u32(..).to_string();
                for object in self.objects.values_mut() {
                    object.force = Some(value.clone());
                    object.forced_at = Some(at);
                    object.sent_again = None;
                }
                let objects: Vec<OpenstackConfig> =
                    self.objects.values().map(Object::read).collect();
                let begins = self.feed.len();
                for object in objects {
                    self.put(at, Event::Applied(Box::new(object)), random);
                }
                // The watch tells of them in one go.
                let last = self.feed.back().map_or(at, |(at, _)| *at);
                self.feed.range_mut(begins..).for_each(|(at, _)| *at = last);
                ("all objects forced", "all objects are to be sent again".to_owned())
            }
            _ => {
                self.delete(at, &key, random);
                ("object deleted", format!("{key} is deleted"))
            }
        }
    }

    fn create(
        &mut self,
        at: Duration,
        key: ObjectKey,
        created: Timestamp,
        random: &mut fastrand::Rng,
    ) -> (&'static str, String) {
        let spec = spec_of(random, self.crowd.most_vms, self.crowd.one_in);
        let (uid, spec) = self.add(at, key.clone(), created, spec, random);
        ("object created", format!("{key} ({uid}) is created: {spec}"))
    }

    /// Creates an object; gives its uid and its spec.
    pub(crate) fn add(
        &mut self,
        at: Duration,
        key: ObjectKey,
        created: Timestamp,
        spec: Value,
        random: &mut fastrand::Rng,
    ) -> (String, Value) {
        self.made += 1;
        let object = Object {
            key: key.clone(),
            uid: format!("uid-{}", self.made),
            generation: 1,
            created,
            force: None,
            approve: None,
            forced_at: None,
            sent_again: None,
            spec: spec.clone(),
            status: Value::Null,
            edited: false,
        };
        let (uid, event) = (object.uid.clone(), Event::Applied(Box::new(object.read())));
        self.objects.insert(key, object);
        self.put(at, event, random);
        (uid, spec)
    }

    fn delete(&mut self, at: Duration, key: &ObjectKey, random: &mut fastrand::Rng) {
        let Some(object) = self.objects.remove(key) else { return };
        if random.u8(0..4) == 0 {
            let being_deleted = OpenstackConfig { being_deleted: true, ..object.read() };
            self.put(at, Event::Applied(Box::new(being_deleted)), random);
        }
        self.put(at, Event::Deleted { key: object.key, uid: object.uid }, random);
    }
}
