//! What a login must say before anything is asked with it, and how often a refused one is tried.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::{Value, json};

use super::{PROVIDER, Reply, SUBNET, Stage, User, provider_with, refused, reply, spec, stage};
use crate::cloud::error::{CloudError, Step};
use crate::cloud::fetch::Fetch;
use crate::cloud::nova::ServerName;
use crate::http::client::Service;
use crate::resources::SubnetSelector;

fn token(catalog: Option<Value>) -> Reply {
    let mut token = json!({"expires_at": "2026-01-02T09:04:05.000000Z"});
    if let Some(catalog) = catalog {
        token["catalog"] = catalog;
    }
    reply(201, json!({"token": token})).with("x-subject-token", "made-up-token")
}

#[test]
fn a_catalog_that_is_absent_is_not_an_empty_one() {
    let said =
        "Keystone POST /v3/auth/tokens: the token has no catalog (is it scoped to the project?)";
    let empty = "the catalog has no public endpoint of type network; it is empty";
    let cases = [
        (None, Step::Keystone, said),
        (Some(Value::Null), Step::Keystone, said),
        (Some(json!([])), Step::NeutronEndpoint, empty),
    ];
    for (catalog, step, said) in cases {
        let stage = stage(&[]);
        stage.services.say(Service::Keystone, "", [token(catalog)]);
        let error = stage.ask(&["vm-1"]).unwrap_err();
        assert_eq!((error.step, error.message.as_str()), (step, said));
    }
}

#[test]
fn without_a_catalog_nothing_says_that_there_is_no_nova() {
    let stage = stage(&[("OPENSTACK_NEUTRON_ENDPOINT", "http://neutron.test")]);
    stage.services.say(Service::Keystone, "", [token(None)]);
    assert_eq!(stage.ask(&["vm-1"]).unwrap_err().step, Step::Keystone);
}

/// Seconds since the start at which Keystone was asked, of passes every 20 seconds.
fn logins_of(stage: &Stage, passes: u64) -> Vec<u64> {
    let mut times = Vec::new();
    for _ in 0..passes {
        let before = stage.services.asked(Service::Keystone).len();
        stage.ask(&["vm-1"]).unwrap();
        let logins = stage.services.asked(Service::Keystone).len() - before;
        times.extend(std::iter::repeat_n(stage.clock.now().uptime.as_secs(), logins));
        stage.clock.advance(Duration::from_secs(20));
    }
    times
}

fn differences(times: &[u64]) -> Vec<u64> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn a_catalog_without_compute_is_read_again_ever_more_rarely() {
    let stage = stage(&[("POLL_ERROR_INTERVAL", "40s")]);
    let network = json!([{"type": "network",
        "endpoints": [{"interface": "public", "url": "http://neutron.test"}]}]);
    stage.services.say(Service::Keystone, "", [token(Some(network))]);
    assert_eq!(stage.ask(&["vm-1"]).unwrap().names["vm-1"], ServerName::NoEndpoint);
    let times = logins_of(&stage, 150);
    assert_eq!(times, [20, 60, 140, 300, 620, 1220, 1820, 2420]);
    // Compute is there again.
    stage.services.forget(Service::Keystone);
    logins_of(&stage, 31);
    assert_eq!(
        stage.ask(&["vm-1"]).unwrap().names["vm-1"],
        ServerName::Known(Some("node-vm-1".into()))
    );
}

#[test]
fn after_days_of_renewed_tokens_a_failure_has_the_catalog_read_as_soon_as_at_first() {
    let stage = stage(&[("POLL_ERROR_INTERVAL", "40s")]);
    for _ in 0..5 {
        stage.ask(&["vm-1"]).unwrap();
        stage.clock.advance(Duration::from_secs(6 * 3600));
    }
    stage.ask(&["vm-1"]).unwrap();
    let renewals = stage.services.asked(Service::Keystone).len();
    assert_eq!(renewals, 6);
    stage.services.say(Service::Nova, "", [reply(500, json!({}))]);
    let times = logins_of(&stage, 10);
    assert_eq!(times.len(), 3, "{times:?}");
    assert_eq!(differences(&times), [40, 80], "{times:?}");
}

const PROJECTS: [&str; 3] = ["project-1", "project-2", "project-3"];
const OLD: &str = "Adm1n-pässwörd!";
const NEW: &str = "rabbit-0pen5tack";
const NEW_ENCRYPTED: &str = "8ODQwLCgkIBwYFBAMCAQALQ4qDi6YAaeloA0dOZVAjbhZUkdN324oz8oN5BRju1l";

/// A cloud whose user has this password and a role in the three projects.
fn with_user(password: &'static str, domain: Value) -> Stage {
    let stage = stage(&[("POLL_ERROR_INTERVAL", "20s")]);
    let user = User { password, domain, projects: PROJECTS.to_vec(), logins: Vec::new() };
    *stage.services.users.lock().unwrap() = Some(user);
    stage
}

impl Stage {
    fn of_user<T>(&self, read: impl FnOnce(&mut User) -> T) -> T {
        read(self.services.users.lock().unwrap().as_mut().unwrap())
    }

    /// The logins since the last call.
    fn logins(&self) -> Vec<(Option<String>, bool)> {
        self.of_user(|user| std::mem::take(&mut user.logins))
    }

    fn ask_in(&self, project_id: &str, forced: bool) -> Result<(), CloudError> {
        let spec = spec(SubnetSelector::Id(SUBNET.to_owned()), &["vm-1"]);
        let mut fetch = Fetch::new(&self.cloud, PROVIDER, project_id, forced);
        if forced {
            fetch.force_login();
        }
        fetch.slice(&[&spec], &[&spec])?;
        fetch.answers(&spec).map(drop)
    }

    /// The projects are polled each 20 seconds, for hours.
    fn poll_for_hours(&self) {
        for _ in 0..3 * 180 {
            for project in PROJECTS {
                let _ = self.ask_in(project, false);
            }
            self.clock.advance(Duration::from_secs(20));
        }
    }

    /// From now on Neutron refuses the tokens that were given so far.
    fn revoke_tokens(&self) {
        self.services.say(Service::Neutron, "", [refused()]);
    }
}

#[test]
fn a_password_changed_in_keystone_alone_is_refused_five_times_for_all_projects() {
    for known in [true, false] {
        let stage = with_user(OLD, json!({"id": "default"}));
        if known {
            PROJECTS.iter().for_each(|project| stage.ask_in(project, false).unwrap());
        }
        stage.of_user(|user| user.password = NEW);
        stage.revoke_tokens();
        stage.logins();
        stage.poll_for_hours();
        assert_eq!(stage.logins().iter().filter(|(_, accepted)| !accepted).count(), 5);
        let error = stage.ask_in(PROJECTS[1], false).unwrap_err();
        assert!(error.message.contains("password is wrong (refused 5 times"), "{error}");
        assert!(error.message.contains("no login follows, unless"), "{error}");

        // One try for each force, and none else.
        stage.ask_in(PROJECTS[1], true).unwrap_err();
        assert_eq!(stage.logins(), [(None, false)]);
        stage.poll_for_hours();
        assert_eq!(stage.logins(), []);

        // Contrabass has the new password.
        stage.services.say(
            Service::Contrabass,
            "",
            [provider_with("http://keystone.test", NEW_ENCRYPTED)],
        );
        stage.services.forget(Service::Neutron);
        for project in PROJECTS {
            stage.ask_in(project, false).unwrap();
            assert_eq!(stage.logins(), [(Some(project.to_owned()), true)]);
        }
    }
}

#[test]
fn a_forced_sync_finds_that_the_password_is_right_again() {
    let stage = with_user(NEW, json!({"id": "default"}));
    stage.poll_for_hours();
    stage.of_user(|user| user.password = OLD);
    stage.poll_for_hours();
    stage.logins();
    stage.ask_in(PROJECTS[0], true).unwrap();
    stage.ask_in(PROJECTS[1], false).unwrap();
    assert!(stage.logins().iter().any(|(project, accepted)| project.is_none() && *accepted));
}

#[test]
fn a_wrong_project_stops_no_other_and_is_said() {
    let stage = with_user(OLD, json!({"id": "default"}));
    stage.ask_in(PROJECTS[0], false).unwrap();
    for _ in 0..100 {
        let error = stage.ask_in("deleted", false).unwrap_err();
        assert!(error.message.contains("is right, but project deleted doesn't exist"), "{error}");
        for project in PROJECTS {
            stage.ask_in(project, false).unwrap();
        }
        stage.clock.advance(Duration::from_secs(20));
    }
    let logins = stage.logins();
    let refused = logins.iter().filter(|(_, accepted)| !accepted);
    assert!(refused.clone().all(|(project, _)| project.as_deref() == Some("deleted")));
    let (unscoped, refused) = (logins.iter().filter(|(p, _)| p.is_none()).count(), refused.count());
    assert_eq!((unscoped, refused), (100, 100), "each is followed by a login without a project");
}

#[test]
fn the_spelling_of_the_domain_that_worked_is_the_only_one_tried() {
    let stage = with_user(OLD, json!({"name": "default"}));
    stage.ask_in(PROJECTS[0], false).unwrap();
    let project = |id: &str| Some(id.to_owned());
    let expected = [(project("project-1"), false), (None, true), (project("project-1"), true)];
    assert_eq!(stage.logins(), expected);
    stage.ask_in(PROJECTS[1], false).unwrap();
    assert_eq!(stage.logins(), [(project("project-2"), true)]);
}

#[test]
fn a_token_that_is_held_goes_on_being_used() {
    let stage = with_user(OLD, json!({"id": "default"}));
    stage.ask_in(PROJECTS[0], false).unwrap();
    stage.of_user(|user| user.password = NEW);
    // Nova fails, so the catalog is read again, with another login.
    stage.services.say(Service::Nova, "", [reply(500, json!({}))]);
    for _ in 0..60 {
        stage.ask_in(PROJECTS[0], false).unwrap();
        stage.clock.advance(Duration::from_secs(20));
    }
    let refused = stage.logins().iter().filter(|(_, accepted)| !accepted).count();
    assert!((2..=5).contains(&refused), "{refused} refused logins");
}

/// Each project is asked for by a thread of its own, all at the same time.
fn ask_at_once(stage: &Stage) {
    let started = Barrier::new(PROJECTS.len());
    std::thread::scope(|scope| {
        for project in PROJECTS {
            let (stage, started) = (&*stage, &started);
            scope.spawn(move || {
                started.wait();
                stage.ask_in(project, false)
            });
        }
    });
}

#[test]
fn logins_at_the_same_time_are_refused_as_seldom() {
    for seconds in [0, 60] {
        let stage = with_user(OLD, json!({"id": "default"}));
        PROJECTS.iter().for_each(|project| stage.ask_in(project, false).unwrap());
        stage.clock.advance(Duration::from_secs(seconds));
        stage.of_user(|user| user.password = NEW);
        stage.revoke_tokens();
        stage.logins();
        for _ in 0..3 * 180 {
            ask_at_once(&stage);
            stage.clock.advance(Duration::from_secs(20));
        }
        let refused = stage.logins().iter().filter(|(_, accepted)| !accepted).count();
        assert!((2..=5).contains(&refused), "{refused} refused logins");
    }
}

#[test]
fn projects_log_in_side_by_side_once_the_password_is_proven() {
    let stage = with_user(OLD, json!({"id": "default"}));
    stage.ask_in(PROJECTS[0], false).unwrap();
    // Each login of two waits for the other one.
    *stage.services.logins_meet.lock().unwrap() = Some(Arc::new(Barrier::new(2)));
    std::thread::scope(|scope| {
        for project in &PROJECTS[1..] {
            scope.spawn(|| stage.ask_in(project, false).unwrap());
        }
    });
    assert_eq!(stage.logins().len(), 3);
}
