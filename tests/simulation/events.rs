//! What happens to clouds, clusters and machines, and how it ends.

use jiff::SignedDuration;
use multinic_operator::http::client::Service;
use multinic_operator::inventory::store::Store;

use crate::cloud;
use crate::disk::Mood;
use crate::driver::{Broken, Simulation};
use crate::faults::{Fault, SERVICES, outage_length};

impl Simulation {
    /// One of the things that happen to clouds, clusters and machines.
    pub(crate) fn something_happens(&mut self) {
        self.happened += 1;
        let poll = if self.random.bool() {
            self.config.settings.intervals.fast
        } else {
            self.config.settings.intervals.slow
        };
        let pause = poll.mul_f64(2.0 * self.random.f64());
        self.next_event = self.at + pause;
        self.end_troubles();
        let (kind, text) = match self.random.u8(0..100) {
            0..44 => {
                let mut now = self.transport.now.state.lock();
                let changed = cloud::change(&mut now, &mut self.random);
                let Some(changed) = changed else { return };
                self.oracle.note_cloud(self.at, &now);
                changed
            }
            44..50 => self.ports_hidden(),
            50..70 => {
                let (at, begin) = (self.at, self.begin);
                let changed = self.kubernetes.change(at, begin, &mut self.random);
                self.holds.note_objects(self.kubernetes.objects.values());
                changed
            }
            70..80 => self.outage(),
            80..86 => self.disk_trouble(),
            86..90 => self.clock_jumps(),
            90..95 => self.kubernetes_trouble(),
            95..98 => {
                let name = self.random.choice(["worker-0", "node-0-0", "node-0-1"]).unwrap();
                if !self.refused.remove(name) {
                    self.refused.insert(name.to_owned());
                }
                ("node refused", format!("Viola changes its mind about {name}"))
            }
            _ => {
                if self.process.is_some() && !self.is_left_out("killed") && self.posting == 0 {
                    self.restart();
                }
                return;
            }
        };
        self.count(kind);
        self.trace.tell(self.at, text);
    }

    /// Neutron shows some of the ports only, or all of them again.
    fn ports_hidden(&mut self) -> (&'static str, String) {
        let mut now = self.transport.now.state.lock();
        if self.hidden.is_empty() {
            let hidden = cloud::hide_ports(&mut now, &mut self.random);
            self.oracle.note_cloud(self.at, &now);
            self.hidden = hidden;
            let ids: Vec<&str> = self.hidden.iter().map(|port| port.id.as_str()).collect();
            return ("ports hidden", format!("ports {} are hidden", ids.join(", ")));
        }
        self.hidden.drain(..).for_each(|port| now.add_port(port));
        self.oracle.note_cloud(self.at, &now);
        ("ports shown again", "all ports are shown again".to_owned())
    }

    pub(crate) fn outage(&mut self) -> (&'static str, String) {
        let service = self.random.choice(SERVICES).unwrap();
        let faults = [Fault::Refused, Fault::TooLate, Fault::Status(500), Fault::Overloaded(503)];
        let fault = self.random.choice(faults).unwrap();
        if self.is_left_out(fault.name()) || self.is_left_out("outage") {
            return ("outage", format!("{service} might go down, but doesn't"));
        }
        let poll = self.config.settings.intervals.slow;
        let until = self.at + outage_length(&mut self.random, poll);
        self.transport.state().faults.outages.insert(service, fault);
        self.outages.insert(service, until);
        ("outage", format!("{service} is down ({}) until {until:?}", fault.name()))
    }

    pub(crate) fn disk_trouble(&mut self) -> (&'static str, String) {
        let (kind, mood) = match self.random.u8(0..3) {
            0 => ("disk full", Mood::Full),
            1 => ("disk read-only", Mood::ReadOnly),
            _ => {
                self.on_disk(Store::retry);
                return ("updates written", "what was only resent is written".to_owned());
            }
        };
        if !self.is_left_out(kind) {
            self.disk.set(mood);
            self.disk_ends = Some(
                self.at + outage_length(&mut self.random, self.config.settings.intervals.slow),
            );
        }
        (kind, format!("the disk is {mood:?}"))
    }

    pub(crate) fn clock_jumps(&mut self) -> (&'static str, String) {
        let seconds = self.random.choice([-86_400, -3600, -30, 30, 3600, 86_400]).unwrap();
        if self.is_left_out("clock jump") {
            return ("clock jump", "the clock might jump, but doesn't".to_owned());
        }
        self.skew += SignedDuration::from_secs(seconds);
        let wall = self.wall();
        if let Some(process) = &self.process {
            process.context.clock.set_wall(wall);
        }
        self.oracle.forget_resends();
        self.pace.jumped(self.at);
        self.upset_at = self.at;
        ("clock jump", format!("the wall clock jumps by {seconds} s"))
    }

    pub(crate) fn kubernetes_trouble(&mut self) -> (&'static str, String) {
        let until = self.at + outage_length(&mut self.random, self.config.settings.intervals.slow);
        match self.random.u8(0..3) {
            0 => {
                self.kubernetes.silent_until = until;
                ("stale watch", format!("the watch is silent until {until:?}"))
            }
            1 => {
                self.kubernetes.down_until = until;
                ("Kubernetes down", format!("Kubernetes takes no writes until {until:?}"))
            }
            _ => {
                if self.process.is_some() {
                    self.kubernetes.list(self.at, &mut self.random);
                }
                ("relist", "the watch starts anew".to_owned())
            }
        }
    }

    pub(crate) fn end_troubles(&mut self) {
        if !self.hidden.is_empty() && self.random.bool() {
            let (kind, text) = self.ports_hidden();
            self.count(kind);
            self.trace.tell(self.at, text);
        }
        let at = self.at;
        let ended: Vec<Service> =
            self.outages.iter().filter(|(_, until)| **until <= at).map(|(s, _)| *s).collect();
        for service in ended {
            self.outages.remove(&service);
            self.transport.state().faults.outages.remove(&service);
            self.trace.tell(at, format!("{service} is back"));
        }
        if self.disk_ends.is_some_and(|until| until <= at) {
            self.disk_ends = None;
            self.disk.set(Mood::Well);
            self.trace.tell(at, "the disk is well again".to_owned());
        }
    }

    /// No more faults from here on.
    pub(crate) fn end_faults(&mut self) -> Result<(), Broken> {
        self.is_faultless = true;
        self.trace.tell(self.at, "from here on nothing goes wrong any more".to_owned());
        let mut state = self.transport.state();
        state.faults.outages.clear();
        state.faults.noise = 0;
        drop(state);
        self.outages.clear();
        self.disk.set(Mood::Well);
        self.disk.spare();
        self.disk_ends = None;
        self.kubernetes.silent_until = self.at;
        self.kubernetes.down_until = self.at;
        if self.random.u8(0..4) > 0 {
            self.refused.clear();
        }
        if self.process.is_some() {
            self.kubernetes.list(self.at, &mut self.random);
        }
        self.kubernetes.approves = 4;
        for key in self.kubernetes.objects.keys().cloned().collect::<Vec<_>>() {
            self.see_hold(&key);
        }
        let mut now = self.transport.now.state.lock();
        cloud::heal(&mut now, &mut self.random);
        // The others are gone for good.
        self.hidden.retain(|_| self.random.bool());
        self.hidden.drain(..).for_each(|port| now.add_port(port));
        self.oracle.note_cloud(self.at, &now);
        Ok(())
    }
}
