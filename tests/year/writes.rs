//! What the controller wants done in Kubernetes: through the real queues of the three lanes, into the
//! simulated API server, one at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use multinic_operator::controller::{Effect, Event, Notice, SecretNote};
use multinic_operator::kube::events::{EventText, Events};
use multinic_operator::kube::objects::ObjectReference;
use multinic_operator::kube::secret_writer::SecretManifest;
use multinic_operator::kube::write_queue::{Failure, Next, Priority, WriteQueue};
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

/// The queues of the operator's three lanes.
pub(crate) struct Writes {
    statuses: WriteQueue<ObjectReference, serde_json::Value>,
    secrets: WriteQueue<ObjectReference, SecretManifest>,
    events: WriteQueue<(ObjectReference, EventText), ()>,
    recent: Events,
}

impl Writes {
    pub(crate) fn new(random: &mut fastrand::Rng) -> Writes {
        let mut rng = || fastrand::Rng::with_seed(random.u64(..));
        Writes {
            statuses: WriteQueue::new(None, rng()),
            secrets: WriteQueue::new(None, rng()),
            events: WriteQueue::new(Some(5), rng()),
            recent: Events::new("year".to_owned(), rng()),
        }
    }
}

/// Leaves an effect with the writer.
pub(crate) fn perform(year: &mut Year, effect: Effect) {
    let now = year.now();
    let writes = &mut year.process.as_mut().unwrap().writes;
    match effect {
        Effect::Start(_) => {}
        Effect::WriteStatus(object, status) => {
            let priority = match status.is_shown_by(&object.status) {
                true => Priority::Refresh,
                false => Priority::Change,
            };
            let status = serde_json::to_value(&status).unwrap();
            writes.statuses.put(reference(&object), status.clone(), priority);
            year.wanted.insert(object.uid.clone(), (year.at, status));
        }
        Effect::WriteSecret(object, rabbitmq) => {
            let data = BTreeMap::from([
                ("RABBITMQ_USER".to_owned(), Secret::new(rabbitmq.user.clone())),
                ("RABBITMQ_PASSWORD".to_owned(), rabbitmq.password.clone()),
            ]);
            let owner = reference(&object);
            let name = format!("rabbitmq-{}", object.key.name);
            let secret = SecretManifest { name, data, owner: owner.clone() };
            writes.secrets.put(owner, secret, Priority::Change);
        }
        Effect::ForgetSecret(object) => {
            let owner = reference(&object);
            writes.secrets.drop_where(|key| *key == owner);
        }
        Effect::RecordEvent(object, Notice { warning, reason, note }) => {
            log::info!("{}: {reason}: {note}", object.key);
            let text = EventText::new(warning, reason, &note);
            let object = reference(&object);
            if writes.recent.count(&object, &text, now) {
                writes.events.put((object, text), (), Priority::Change);
            }
        }
        Effect::Forget(object) => {
            let object = reference(&object);
            writes.statuses.drop_where(|key| *key == object);
            writes.secrets.drop_where(|key| *key == object);
            writes.events.drop_where(|(key, _)| *key == object);
            writes.recent.forget(&object);
        }
    }
}

/// Writes whatever is due; says whether the controller was told of it.
pub(crate) fn write(year: &mut Year) -> bool {
    let (mut waits, mut reported) = (Vec::new(), false);
    let now = year.now().uptime;
    loop {
        match writes(year).statuses.next(now, true) {
            Next::Write(object, status) => {
                let result = server(year).and_then(|()| write_status(year, &object, &status));
                writes(year).statuses.finished(&object, result, now);
            }
            Next::Wait(wait) => break waits.extend(wait),
            Next::End => break,
        }
    }
    loop {
        match writes(year).secrets.next(now, true) {
            Next::Write(owner, secret) => {
                let result = server(year);
                writes(year).secrets.finished(&owner, result, now);
                if result.is_ok() {
                    let event = write_secret(year, owner, &secret);
                    year.handle(event);
                    reported = true;
                }
            }
            Next::Wait(wait) => break waits.extend(wait),
            Next::End => break,
        }
    }
    loop {
        match writes(year).events.next(now, true) {
            Next::Write(event, ()) => {
                let result = server(year);
                let recent = &mut writes(year).recent;
                if let (Ok(()), Some(write)) = (result, recent.body(&event.0, &event.1)) {
                    recent.written(&event.0, &event.1, true);
                    if let Some(found) = secret_in(&format!("{write:?}")) {
                        year.story.broken = Some(format!("(f) an Event shows a secret: {found}"));
                    }
                }
                writes(year).events.finished(&event, result, now);
            }
            Next::Wait(wait) => break waits.extend(wait),
            Next::End => break,
        }
    }
    let at = year.at;
    year.process.as_mut().unwrap().write_at = waits.into_iter().min().map(|wait| at + wait);
    reported
}

fn writes(year: &mut Year) -> &mut Writes {
    &mut year.process.as_mut().unwrap().writes
}

/// (c): what was wanted is written soon, as long as the API server takes it.
pub(crate) fn check(year: &Year) -> Result<(), String> {
    let is_due = |at: Duration| year.at > at.max(year.kubernetes.down_until) + WRITTEN_WITHIN;
    for object in year.kubernetes.objects.values() {
        if let Some((at, wanted)) = year.wanted.get(&object.uid)
            && is_due(*at)
            && !object.edited
            && object.status != *wanted
        {
            return Err(format!("(c) the status of {} isn't written", object.key));
        }
    }
    Ok(())
}

/// Does the API server answer?
fn server(year: &mut Year) -> Result<(), Failure> {
    if year.at >= year.kubernetes.down_until {
        return Ok(());
    }
    let retry_after = Some(Duration::from_secs(1)).filter(|_| year.random.bool());
    Err(Failure::Server { retry_after })
}

fn write_status(
    year: &mut Year,
    object: &ObjectReference,
    status: &serde_json::Value,
) -> Result<(), Failure> {
    if let Some(found) = secret_in(&status.to_string()) {
        year.story.broken = Some(format!("(f) a status shows a secret: {found}"));
    }
    let key = ObjectKey { namespace: object.namespace.clone(), name: object.name.clone() };
    let reason = status["conditions"][0]["reason"].as_str().unwrap_or_default().to_owned();
    year.count(&format!("Ready {reason}"));
    let (at, random) = (year.at, &mut year.random);
    year.kubernetes.write_status(at, &key, &object.uid, status, random);
    year.story.tell(at, format!("  status of {key}: {reason}"));
    Ok(())
}

fn write_secret(year: &Year, owner: ObjectReference, secret: &SecretManifest) -> Event {
    let is_foreign = year.kubernetes.foreign_secrets.contains(&secret.name);
    let text = format!("Secret {} is not owned by this OpenstackConfig", secret.name);
    let note = is_foreign.then_some(SecretNote { text, foreign: true });
    let key = ObjectKey { namespace: owner.namespace, name: owner.name };
    Event::SecretChecked { key, uid: owner.uid, note }
}
