//! What the controller wants done in Kubernetes: through the real queues of the three lanes, into the
//! simulated API server, one at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use multinic_operator::controller::{Effect, Event, Notice, SecretNote};
use multinic_operator::kube::events::{EventText, Events};
use multinic_operator::kube::objects::ObjectReference;
use multinic_operator::kube::secret_writer::SecretManifest;
use multinic_operator::kube::write_queue::{Failure, Next, Priority, WriteQueue};
use multinic_operator::resources::ObjectKey;
use multinic_operator::secret::Secret;

use crate::driver::Simulation;
use crate::secrets::secret_in;

/// The longest wait between two attempts, and a little.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);

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
            recent: Events::new("simulation".to_owned(), rng()),
        }
    }
}

/// Leaves an effect with the writer.
pub(crate) fn perform(simulation: &mut Simulation, effect: Effect) {
    let now = simulation.now();
    let writes = &mut simulation.process.as_mut().unwrap().writes;
    match effect {
        Effect::Start(_) | Effect::ReadClusters(_) => {}
        Effect::WriteStatus(object, status) => {
            let priority = match status.is_shown_by(&object.status) {
                true => Priority::Refresh,
                false => Priority::Change,
            };
            let status = serde_json::to_value(&status).unwrap();
            writes.statuses.put(object.reference(), status.clone(), priority);
            simulation.wanted.insert(object.uid.clone(), (simulation.at, status));
        }
        Effect::WriteSecret(object, rabbitmq) => {
            let data = BTreeMap::from([
                ("RABBITMQ_USER".to_owned(), Secret::new(rabbitmq.user.clone())),
                ("RABBITMQ_PASSWORD".to_owned(), rabbitmq.password.clone()),
            ]);
            let owner = object.reference();
            let name = format!("rabbitmq-{}", object.key.name);
            let secret = SecretManifest { name, data, owner: owner.clone() };
            writes.secrets.put(owner, secret, Priority::Change);
        }
        Effect::ForgetSecret(object) => {
            let owner = object.reference();
            writes.secrets.drop_where(|key| *key == owner);
        }
        Effect::RecordEvent(object, Notice { warning, reason, note }) => {
            log::info!("{}: {reason}: {note}", object.key);
            let text = EventText::new(warning, reason, &note);
            let object = object.reference();
            if writes.recent.count(&object, &text, now) {
                writes.events.put((object, text), (), Priority::Change);
            }
        }
        Effect::Forget(object) => {
            let object = object.reference();
            writes.statuses.drop_where(|key| *key == object);
            writes.secrets.drop_where(|key| *key == object);
            writes.events.drop_where(|(key, _)| *key == object);
            writes.recent.forget(&object);
        }
        // There is no broker: messages come as events.
        Effect::Listen(_) | Effect::StopListening(_) => {}
    }
}

/// Writes whatever is due; says whether the controller was told of it.
pub(crate) fn write(simulation: &mut Simulation) -> bool {
    let (mut waits, mut reported) = (Vec::new(), false);
    let now = simulation.now().uptime;
    loop {
        match writes(simulation).statuses.next(now, true) {
            Next::Write(object, status) => {
                let result =
                    server(simulation).and_then(|()| write_status(simulation, &object, &status));
                writes(simulation).statuses.finished(&object, result, now);
            }
            Next::Wait(wait) => break waits.extend(wait),
            Next::End => break,
        }
    }
    loop {
        match writes(simulation).secrets.next(now, true) {
            Next::Write(owner, secret) => {
                let result = server(simulation);
                writes(simulation).secrets.finished(&owner, result, now);
                if result.is_ok() {
                    let event = write_secret(simulation, owner, &secret);
                    simulation.handle(event);
                    reported = true;
                }
            }
            Next::Wait(wait) => break waits.extend(wait),
            Next::End => break,
        }
    }
    loop {
        match writes(simulation).events.next(now, true) {
            Next::Write(event, ()) => {
                let result = server(simulation);
                let recent = &mut writes(simulation).recent;
                if let (Ok(()), Some(write)) = (result, recent.body(&event.0, &event.1)) {
                    recent.written(&event.0, &event.1, true);
                    if let Some(found) = secret_in(&format!("{write:?}")) {
                        simulation.trace.broken =
                            Some(format!("(f) an Event shows a secret: {found}"));
                    }
                }
                writes(simulation).events.finished(&event, result, now);
            }
            Next::Wait(wait) => break waits.extend(wait),
            Next::End => break,
        }
    }
    let at = simulation.at;
    simulation.process.as_mut().unwrap().write_at = waits.into_iter().min().map(|wait| at + wait);
    reported
}

fn writes(simulation: &mut Simulation) -> &mut Writes {
    &mut simulation.process.as_mut().unwrap().writes
}

/// (c): what was wanted is written soon, as long as the API server takes it.
pub(crate) fn check(simulation: &Simulation) -> Result<(), String> {
    let is_due =
        |at: Duration| simulation.at > at.max(simulation.kubernetes.down_until) + WRITTEN_WITHIN;
    for object in simulation.kubernetes.objects.values() {
        if let Some((at, wanted)) = simulation.wanted.get(&object.uid)
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
fn server(simulation: &mut Simulation) -> Result<(), Failure> {
    if simulation.at >= simulation.kubernetes.down_until {
        return Ok(());
    }
    let retry_after = Some(Duration::from_secs(1)).filter(|_| simulation.random.bool());
    Err(Failure::Server { retry_after })
}

fn write_status(
    simulation: &mut Simulation,
    object: &ObjectReference,
    status: &serde_json::Value,
) -> Result<(), Failure> {
    if let Some(found) = secret_in(&status.to_string()) {
        simulation.trace.broken = Some(format!("(f) a status shows a secret: {found}"));
    }
    let key = ObjectKey { namespace: object.namespace.clone(), name: object.name.clone() };
    let reason = status["conditions"][0]["reason"].as_str().unwrap_or_default().to_owned();
    simulation.count(&format!("Ready {reason}"));
    let (at, random) = (simulation.at, &mut simulation.random);
    simulation.kubernetes.write_status(at, &key, &object.uid, status, random);
    simulation.trace.tell(at, format!("  status of {key}: {reason}"));
    simulation.see_hold(&key);
    Ok(())
}

fn write_secret(simulation: &Simulation, owner: ObjectReference, secret: &SecretManifest) -> Event {
    let is_foreign = simulation.kubernetes.foreign_secrets.contains(&secret.name);
    let text = format!("Secret {} is not owned by this OpenstackConfig", secret.name);
    let note = is_foreign.then_some(SecretNote { text, foreign: true });
    let key = ObjectKey { namespace: owner.namespace, name: owner.name };
    Event::SecretChecked { key, uid: owner.uid, note }
}
