//! What the controller wants done in Kubernetes: through the real [`Pending`], into the simulated
//! API server, in order and one at a time, as the operator's writer does.
//!
//! [`Pending`]: multinic_operator::kube::writer::pending::Pending

use std::collections::BTreeMap;
use std::time::Duration;

use multinic_operator::controller::{Effect, Event, Notice, SecretNote};
use multinic_operator::kube::objects::ObjectReference;
use multinic_operator::kube::writer::pending::{Job, Next, Outcome, StatusText};
use multinic_operator::kube::writer::{EventKind, SecretManifest};
use multinic_operator::resources::{OPENSTACK_CONFIGS, ObjectKey, OpenstackConfig};
use multinic_operator::secret::Secret;

use crate::driver::Year;
use crate::logs::secret_in;

/// The longest wait between two attempts, and a little.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);

fn reference(object: &OpenstackConfig) -> ObjectReference {
    ObjectReference {
        resource: OPENSTACK_CONFIGS,
        namespace: object.key.namespace.clone(),
        name: object.key.name.clone(),
        uid: object.uid.clone(),
    }
}

/// Leaves an effect with the writer.
pub(crate) fn perform(year: &mut Year, effect: Effect) {
    let now = year.now();
    let pending = &mut year.process.as_mut().unwrap().pending;
    match effect {
        Effect::Start(_) => {}
        Effect::WriteStatus(object, status) => {
            pending.put_status(reference(&object), StatusText::of(&status).unwrap());
            let status = serde_json::to_value(&status).unwrap();
            year.wanted.insert(object.uid.clone(), (year.at, status));
        }
        Effect::EnsureSecret(object, rabbitmq) => {
            let data = BTreeMap::from([
                ("RABBITMQ_USER".to_owned(), Secret::new(rabbitmq.user.clone())),
                ("RABBITMQ_PASSWORD".to_owned(), rabbitmq.password.clone()),
            ]);
            pending.put_secret(SecretManifest {
                namespace: object.key.namespace.clone(),
                name: format!("rabbitmq-{}", object.key.name),
                data,
                owner: reference(&object),
            });
        }
        Effect::LeaveSecret(object) => pending.forget_secret(&reference(&object)),
        Effect::Tell(object, Notice { warning, reason, note }) => {
            log::info!("{}: {reason}: {note}", object.key);
            let kind = if warning { EventKind::Warning } else { EventKind::Normal };
            pending.put_event(reference(&object), kind, reason, &note, now);
        }
        Effect::Forget(object) => pending.forget(&reference(&object)),
    }
}

/// Writes whatever is due; says whether somebody was told of it.
pub(crate) fn write(year: &mut Year) -> bool {
    let mut reported = false;
    loop {
        let now = year.now();
        let at = year.at;
        let process = year.process.as_mut().unwrap();
        match process.pending.next(now) {
            Next::Write(job) => {
                let (outcome, event) = carry_out(year, &job);
                let process = year.process.as_mut().unwrap();
                process.pending.finished(*job, outcome, now);
                if let Some(event) = event {
                    year.handle(event);
                    reported = true;
                }
            }
            Next::Wait(wait) => {
                process.write_at = wait.map(|wait| at + wait);
                return reported;
            }
            Next::End => return reported,
        }
    }
}

/// (c): what was wanted is written soon, as long as the API server takes it.
pub(crate) fn check(year: &Year) -> Result<(), String> {
    let is_due = |at: Duration| year.at > at.max(year.kubernetes.down_until) + WRITTEN_WITHIN;
    for object in year.kubernetes.objects.values() {
        if let Some((at, wanted)) = year.wanted.get(&object.uid)
            && is_due(*at)
            && object.status != *wanted
        {
            return Err(format!("(c) the status of {} isn't written", object.key));
        }
    }
    Ok(())
}

fn carry_out(year: &mut Year, job: &Job) -> (Outcome, Option<Event>) {
    if year.at < year.kubernetes.down_until {
        let retry_after = Some(Duration::from_secs(1)).filter(|_| year.random.bool());
        return (Outcome::ServerTrouble { retry_after }, None);
    }
    match job {
        Job::Status { object, status } => {
            let text = status.0.get();
            if let Some(found) = secret_in(text) {
                year.story.broken = Some(format!("(f) a status shows a secret: {found}"));
            }
            let key = ObjectKey { namespace: object.namespace.clone(), name: object.name.clone() };
            let status: serde_json::Value = serde_json::from_str(text).unwrap();
            let reason = status["conditions"][0]["reason"].as_str().unwrap_or_default().to_owned();
            year.count(&format!("Ready {reason}"));
            let (at, random) = (year.at, &mut year.random);
            let written = year.kubernetes.write_status(at, &key, &object.uid, &status, random);
            year.story.tell(at, format!("  status of {key}: {reason}"));
            (if written { Outcome::Done } else { Outcome::Gone }, None)
        }
        Job::Secret(secret) => {
            let is_foreign = year.kubernetes.foreign_secrets.contains(&secret.name);
            let text = format!("Secret {} belongs to somebody else", secret.name);
            let note = is_foreign.then_some(SecretNote { text, foreign: true });
            let owner = &secret.owner;
            let key = ObjectKey { namespace: owner.namespace.clone(), name: owner.name.clone() };
            (Outcome::Done, Some(Event::SecretChecked { key, uid: owner.uid.clone(), note }))
        }
        Job::Event { write, .. } => {
            if let Some(found) = secret_in(&format!("{write:?}")) {
                year.story.broken = Some(format!("(f) an Event shows a secret: {found}"));
            }
            (Outcome::Done, None)
        }
    }
}
