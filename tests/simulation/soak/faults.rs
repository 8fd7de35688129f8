//! What goes wrong with the services, and what people change in cloud and cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use multinic_operator::kube::objects::RawObject;
use multinic_operator::resources::{FORCE_ANNOTATION, OpenstackConfig};
use serde_json::{Value, json, value::to_raw_value};
use simulated_cloud::state::Provider;
use simulated_cloud::{Fault, FaultKind, Service};

use crate::cloud;
use crate::oracle::node_name;
use crate::soak::run::Soak;
use crate::specs::spec;

/// Those that are read.
const READ: [Service; 4] =
    [Service::Contrabass, Service::Keystone, Service::Neutron, Service::Nova];
/// How long reads are spared by turns, in ms.
const BREATH: u64 = 12_000;
/// Changes of the cloud after which hardly anything can be read.
const GRAVE: [&str; 4] =
    ["provider removed", "catalog changed", "password rotated", "settings changed"];
/// Names that objects have.
const NAMES: [&str; 6] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"];

/// How a fault ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Recovery {
    /// The service's faults are taken back.
    Faults(Service),
    /// The service listens again.
    Listens(Service),
    /// The watches flow again.
    Watches,
    /// Somebody puts right what only an operator of the cloud can.
    Cloud,
}

/// The object as the operator reads it.
pub(crate) fn read(object: &Value) -> OpenstackConfig {
    let raw = RawObject::read(&to_raw_value(object).unwrap()).unwrap();
    OpenstackConfig::from_raw(&raw, &Default::default())
}

fn kubernetes_refusal(code: u16, reason: &str, retry_after: Option<u32>) -> FaultKind {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "code": code, "message": "on purpose"});
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    headers.extend(retry_after.map(|seconds| ("Retry-After".to_owned(), seconds.to_string())));
    FaultKind::Status { status: code, headers, body: body.to_string().into_bytes() }
}

impl Soak {
    /// One thing that happens. Every other while only Viola and Kubernetes are at fault, or hardly
    /// a sync would ever come to its POST.
    pub(crate) fn something_happens(&mut self) {
        let spares_reads = self.spares_reads();
        match self.random.u8(0..100) {
            0..42 => self.cloud_changes(),
            42..58 => self.objects_change(),
            58..68 => self.answers_are_spoiled(Service::Viola),
            68..80 if !spares_reads => {
                let service = self.random.choice(READ).unwrap();
                self.answers_are_spoiled(service);
            }
            80..83 if !spares_reads => {
                let service = self.random.choice(READ).unwrap();
                self.service_goes_down(service);
            }
            83..85 => self.service_goes_down(Service::Viola),
            85..88 => self.viola_refuses(),
            _ => self.kubernetes_fails(),
        }
    }

    fn spares_reads(&self) -> bool {
        self.now() / BREATH % 2 == 1
    }

    /// Ends the faults that are due, or all of them.
    pub(crate) fn recover_services(&mut self, all: bool) {
        let now = self.now();
        let (due, later): (Vec<_>, Vec<_>) =
            self.recoveries.drain(..).partition(|(at, _)| all || *at <= now);
        self.recoveries = later;
        for (_, recovery) in due {
            match recovery {
                Recovery::Faults(service) => self.cloud.faults().clear_service(service),
                Recovery::Listens(service) => self.cloud.start_again(service).unwrap(),
                Recovery::Watches => self.cloud.kubernetes().freeze_watches(false),
                Recovery::Cloud => self.heal(),
            }
        }
    }

    /// Tells the oracle who is at fault now.
    pub(crate) fn note_troubles(&mut self) {
        let now = self.now();
        let met: BTreeSet<Service> =
            self.cloud.faults().pending().iter().map(|fault| fault.service).collect();
        let down = self.recoveries.iter().filter_map(|(_, recovery)| match recovery {
            Recovery::Listens(service) | Recovery::Faults(service) => Some(*service),
            Recovery::Watches | Recovery::Cloud => None,
        });
        for service in met.into_iter().chain(down) {
            self.oracle.note_fault(now, service);
        }
    }

    /// Puts the first state of everything before the oracle.
    pub(crate) fn begin(&mut self) {
        let state = self.cloud.edit(|state| state.clone());
        self.oracle.note_cloud(0, state);
        self.oracle.note_refusals(0, BTreeSet::new());
        for name in &NAMES[..4] {
            self.put(name);
        }
    }

    fn cloud_changes(&mut self) {
        let (now, spares_reads) = (self.now(), self.spares_reads());
        let random = &mut self.random;
        let (changed, state) = self.cloud.edit(|state| {
            let mut next = state.clone();
            let changed = cloud::change(&mut next, random);
            // Sockets can't move as invented services can.
            next.urls = state.urls.clone();
            let is_grave = changed.as_ref().is_some_and(|(kind, _)| GRAVE.contains(kind));
            if !(is_grave && spares_reads) {
                *state = next;
                return (changed.map(|(kind, text)| (kind, text, is_grave)), state.clone());
            }
            (None, state.clone())
        });
        self.oracle.note_cloud(now, state);
        let Some((kind, text, is_grave)) = changed else { return };
        self.tell(kind, &text);
        let lasts = |(_, recovery): &(u64, Recovery)| *recovery == Recovery::Cloud;
        if is_grave && !self.recoveries.iter().any(lasts) {
            let seconds = self.random.u64(1..8);
            self.later(seconds, Recovery::Cloud);
        }
    }

    /// Puts right what only an operator of the cloud can, mostly.
    pub(crate) fn heal(&mut self) {
        let now = self.now();
        let (random, first) = (&mut self.random, &self.cloud.scenario().state.providers);
        let state = self.cloud.edit(|state| {
            cloud::heal(state, random);
            for (provider, user) in first.iter().zip(&state.users) {
                let is_there = state.providers.iter().any(|known| known.id == provider.id);
                if !is_there && random.u8(0..8) > 0 {
                    let admin_password = user.password.clone();
                    state.providers.push(Provider { admin_password, ..provider.clone() });
                }
            }
            state.clone()
        });
        self.oracle.note_cloud(now, state);
        self.tell("cloud healed", "the cloud is put right");
    }

    fn objects_change(&mut self) {
        let name = self.random.choice(NAMES).unwrap();
        if self.cloud.kubernetes().get("OpenstackConfig", "default", name).is_none() {
            return self.put(name);
        }
        match self.random.u8(0..10) {
            0..4 => self.put(name),
            4..7 => {
                let value = self.random.u32(..).to_string();
                let kubernetes = self.cloud.kubernetes();
                let _ = kubernetes.annotate(
                    "OpenstackConfig",
                    "default",
                    name,
                    FORCE_ANNOTATION,
                    &value,
                );
                self.tell("force-reconcile", &format!("{name} is to be sent again"));
            }
            7 => {
                self.delete(name);
                self.put(name);
            }
            _ => self.delete(name),
        }
    }

    fn put(&mut self, name: &str) {
        let now = self.now();
        let object = json!({
            "apiVersion": "multinic.example.com/v1alpha1",
            "kind": "OpenstackConfig",
            "metadata": {"name": name, "namespace": "default"},
            "spec": spec(&mut self.random),
        });
        if let Ok(stored) = self.cloud.kubernetes().apply_object(object) {
            self.oracle.note_spec(now, name, read(&stored).spec.ok());
            self.tell("object put", &format!("{name} is {}", stored["spec"]));
        }
    }

    fn delete(&mut self, name: &str) {
        let now = self.now();
        if self.cloud.kubernetes().delete("OpenstackConfig", "default", name).is_ok() {
            self.oracle.note_spec(now, name, None);
            self.cloud.kubernetes().collect_garbage();
            self.tell("object deleted", &format!("{name} is deleted"));
        }
    }

    fn answers_are_spoiled(&mut self, service: Service) {
        let (name, kind) = self.spoiled(service);
        self.oracle.note_fault(self.now(), service);
        let fault = Fault::always(service, kind);
        let text = if self.random.u8(0..8) == 0 {
            let seconds = self.random.u64(1..20);
            self.cloud.faults().add(fault);
            self.later(seconds, Recovery::Faults(service));
            format!("{service} answers {name} for {seconds} s")
        } else {
            let times = self.random.u32(1..4);
            self.cloud.faults().add(fault.times(times));
            format!("{service} answers {name}, {times} times")
        };
        self.tell(&format!("{service} {name}"), &text);
    }

    /// An answer that is no lie: what says yes has been done, and what is read says nothing untrue.
    fn spoiled(&mut self, service: Service) -> (&'static str, FaultKind) {
        let after_bytes = self.random.usize(1..60);
        let timeout = self.timeout.as_millis() as u64;
        let status = |status, headers, body: &str| FaultKind::Status {
            status,
            headers,
            body: body.as_bytes().to_vec(),
        };
        let retry_after = vec![("Retry-After".to_owned(), self.random.u8(0..4).to_string())];
        match self.random.u8(0..16) {
            0 => ("500", status(500, Vec::new(), "{\"error\": \"oops\"}")),
            1 => ("429", status(429, retry_after, "")),
            2 => ("503", status(503, retry_after, "busy")),
            3 => ("401", status(401, Vec::new(), "{\"error\": {\"message\": \"who?\"}}")),
            4 => ("403", status(403, Vec::new(), "")),
            5 => ("a proxy's page", FaultKind::Html { status: 502 }),
            6 => ("nothing", FaultKind::CloseWithoutAnswer),
            7 => ("a reset", FaultKind::Reset),
            8 => ("a lost answer", FaultKind::AnswerLost),
            9 => ("a cut body", FaultKind::CutBody { after_bytes }),
            10 => ("a cut body without length", FaultKind::CutBodyUntilClose { after_bytes }),
            11 => ("never", FaultKind::Hang),
            12 => {
                let delay = Duration::from_millis(self.random.u64(50..timeout * 3 / 2));
                ("late", FaultKind::Delay(delay))
            }
            13 => {
                let pause = Duration::from_millis(self.random.u64(5..40));
                ("in drips", FaultKind::DripBody { bytes: self.random.usize(1..50), pause })
            }
            _ if service == Service::Viola => ("500", status(500, Vec::new(), "")),
            _ => {
                let bodies = [
                    "",
                    "null",
                    "{}",
                    "[]",
                    "\"text\"",
                    "{\"ports\": 5}",
                    "{\"servers\": {}}",
                    "{\"ports\": [{}]}",
                    "{\"servers\": [null]}",
                    "{\"subnet\": []}",
                    "{\"token\": {}}",
                    "\u{feff}<?xml?>",
                ];
                let body = self.random.choice(bodies).unwrap();
                ("wrong JSON", FaultKind::Body(body.as_bytes().to_vec()))
            }
        }
    }

    fn service_goes_down(&mut self, service: Service) {
        if self.recoveries.iter().any(|(_, recovery)| *recovery == Recovery::Listens(service)) {
            return;
        }
        let longest = if self.random.u8(0..6) == 0 { 90 } else { 15 };
        let seconds = self.random.u64(1..longest.min(self.plan.faults.as_secs()));
        self.oracle.note_fault(self.now(), service);
        self.cloud.stop(service);
        self.later(seconds, Recovery::Listens(service));
        self.tell(&format!("{service} down"), &format!("{service} is down for {seconds} s"));
    }

    fn viola_refuses(&mut self) {
        let now = self.now();
        let name_key = self.oracle.name_key;
        let names: BTreeSet<String> = self.cloud.edit(|state| {
            let of =
                |(number, project)| cloud::vm_ids(number).into_iter().map(move |vm| (project, vm));
            let vms = cloud::PROJECTS.into_iter().enumerate().flat_map(of);
            vms.map(|(project, vm)| node_name(state, project, &vm, name_key)).collect()
        });
        let random = &mut self.random;
        let refused: BTreeSet<String> =
            names.into_iter().filter(|_| random.u8(0..3) == 0).collect();
        self.cloud.viola().accept_all_nodes();
        for name in &refused {
            self.cloud.viola().refuse_node(name, "the node isn't ready");
        }
        self.tell("nodes refused", &format!("Viola refuses {refused:?}"));
        self.oracle.note_refusals(now, refused);
    }

    fn kubernetes_fails(&mut self) {
        let kubernetes = self.cloud.kubernetes();
        let kind = match self.random.u8(0..16) {
            0 => {
                kubernetes.cut_watches();
                "watches cut"
            }
            1 => {
                kubernetes.end_watches();
                "watches ended"
            }
            2 => {
                kubernetes.compact();
                kubernetes.cut_watches();
                "compacted"
            }
            3 => {
                kubernetes.restart();
                "restarted"
            }
            4 => {
                kubernetes.expire_continue_tokens();
                kubernetes.stale_list_next(1);
                kubernetes.restart();
                "stale list"
            }
            5 => {
                kubernetes.drop_next_events(1);
                self.objects_change();
                self.cloud.kubernetes().drop_next_events(0);
                self.cloud.kubernetes().restart();
                "event lost"
            }
            6 => {
                self.kubernetes_answers("429", kubernetes_refusal(429, "TooManyRequests", Some(1)))
            }
            7 => self.kubernetes_answers("500", kubernetes_refusal(500, "InternalError", None)),
            8 => self.kubernetes_answers("410", kubernetes_refusal(410, "Expired", None)),
            9 => self.kubernetes_answers("a reset", FaultKind::Reset),
            10 => self.kubernetes_answers("a lost answer", FaultKind::AnswerLost),
            11 => {
                let after_bytes = self.random.usize(0..400);
                self.kubernetes_answers("a cut body", FaultKind::CutBody { after_bytes })
            }
            12 => {
                let lines = ["{\"type\":\"AD\n", "{\"type\":\"ODD\",\"object\":{}}\n", "\u{7}\n"];
                let line = self.random.choice(lines).unwrap();
                self.cloud.kubernetes().inject_watch_line(line);
                "broken line"
            }
            13 => {
                kubernetes.freeze_watches(true);
                let seconds = self.random.u64(1..10);
                self.later(seconds, Recovery::Watches);
                "watches frozen"
            }
            14 => {
                self.cloud.stop(Service::Kubernetes);
                let seconds = self.random.u64(1..10);
                self.later(seconds, Recovery::Listens(Service::Kubernetes));
                "down"
            }
            _ => {
                self.rotate_the_token();
                "token rotated"
            }
        };
        self.tell(&format!("kubernetes {kind}"), &format!("Kubernetes: {kind}"));
    }

    /// The next request is answered like this: any, or the next list or watch.
    fn kubernetes_answers(&mut self, name: &'static str, kind: FaultKind) -> &'static str {
        let fault = Fault::once(Service::Kubernetes, kind);
        if self.random.bool() {
            self.cloud.faults().add(fault);
        } else {
            self.cloud.faults().add(fault.path_contains("/openstackconfigs?"));
            self.cloud.kubernetes().cut_watches();
        }
        name
    }

    fn rotate_the_token(&mut self) {
        let file = self.folder.path().join("token");
        let old = std::fs::read_to_string(&file).unwrap();
        let token = format!("{}-{:x}", cloud::SECRET_MARK, self.random.u64(..));
        self.cloud.kubernetes().accept_token(&token, "operator");
        std::fs::write(&file, &token).unwrap();
        self.cloud.kubernetes().revoke_token(&old);
    }

    fn later(&mut self, seconds: u64, recovery: Recovery) {
        let at = self.now() + seconds * 1000;
        self.recoveries.push((at, recovery));
    }
}
