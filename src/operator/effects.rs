//! Translates between the controller and `kube`: observations and reports become events, effects
//! become writes.

use std::collections::BTreeMap;

use crossbeam_channel::Sender;

use super::clusters::ClusterReader;
use super::listeners::Listeners;
use crate::cloud::contrabass::RabbitMq;
use crate::config::DeliverySettings;
use crate::controller::{Effect, Event, Notice, SecretNote};
use crate::inventory::record::Owner;
use crate::kube::objects::RawObject;
use crate::kube::secret_writer::{SecretManifest, SecretState};
use crate::kube::watch::Observation;
use crate::kube::write_queue::Priority;
use crate::kube::writer::Writer;
use crate::reconcile::Pass;
use crate::resources::{ObjectKey, OpenstackConfig};
use crate::secret::Secret;

/// What an observation means to the controller.
pub(super) fn event_of_observation(
    observation: Observation,
    delivery: &DeliverySettings,
) -> Option<Event> {
    let read = |raw: &RawObject| OpenstackConfig::from_raw(raw, delivery);
    match observation {
        Observation::Replaced { scope, objects } => {
            let objects = objects.iter().map(read).collect();
            Some(Event::Listed { namespace: scope, objects })
        }
        Observation::Applied(object) => Some(Event::Applied(Box::new(read(&object)))),
        Observation::Deleted(object) => {
            let object = read(&object);
            Some(Event::Deleted { key: object.key, uid: object.uid })
        }
        // The watcher has logged these; what is known of the objects stays as it is.
        Observation::Trouble { .. } | Observation::Recovered => None,
    }
}

/// What became of a Secret, for the controller, which alone knows whether that is news.
pub(super) fn event_of(secret: &SecretManifest, state: SecretState) -> Event {
    let SecretManifest { owner, name, .. } = secret;
    let note = match state {
        SecretState::Written => None,
        SecretState::Failed(text) => {
            let text = format!("RabbitMQ's Secret can't be written: {text} (Secret {name})");
            Some(SecretNote { text, foreign: false })
        }
        SecretState::NotOurs => {
            let text = format!(
                "RabbitMQ's Secret is left alone, it exists and is not owned by this \
                 OpenstackConfig (Secret {name})"
            );
            Some(SecretNote { text, foreign: true })
        }
    };
    let key = ObjectKey { namespace: owner.namespace.clone(), name: owner.name.clone() };
    Event::SecretChecked { key, uid: owner.uid.clone(), note }
}

/// What became of records that others had changed, for the controller.
pub(super) fn event_of_records(owner: Owner, reason: &'static str, note: String) -> Event {
    let Owner { namespace, name, uid } = owner;
    let notice = Notice { warning: true, reason, note };
    Event::RecordsRestored { key: ObjectKey { namespace, name }, uid, notice }
}

/// Does what the controller decided. Never waits: a pass is only made for an idle worker, and the
/// writer keeps what it can't write yet.
pub(super) fn perform(
    effect: Effect,
    passes: &Sender<Pass>,
    writer: &Writer,
    clusters: &ClusterReader,
    listeners: &mut Listeners,
) {
    match effect {
        Effect::Start(pass) => {
            if passes.try_send(pass).is_err() {
                log::error!("a pass found no idle worker; this is a bug");
            }
        }
        Effect::WriteStatus(object, status) => {
            let priority = match status.is_shown_by(&object.status) {
                true => Priority::Refresh,
                false => Priority::Change,
            };
            if let Err(error) = writer.write_status(object.reference(), &status, priority) {
                log::error!("{}: the status can't be written: {error}", object.key);
            }
        }
        Effect::WriteSecret(object, rabbitmq) => {
            writer.write_secret(manifest(&object, &rabbitmq));
        }
        Effect::ForgetSecret(object) => writer.forget_secret(&object.reference()),
        Effect::RecordEvent(object, Notice { warning, reason, note }) => {
            log::log!(
                if warning { log::Level::Warn } else { log::Level::Info },
                "{}: {reason}: {note}",
                object.key
            );
            writer.record_event(object.reference(), warning, reason, &note);
        }
        Effect::Forget(object) => writer.forget(&object.reference()),
        Effect::ReadClusters(wanted) => clusters.read(wanted),
        Effect::Listen(rabbitmq) => listeners.listen(&rabbitmq),
        Effect::StopListening(rabbitmq) => listeners.stop_listening(&rabbitmq),
    }
}

/// `rabbitmq-<object>`, owned by the object, so that it goes with it.
fn manifest(object: &OpenstackConfig, rabbitmq: &RabbitMq) -> SecretManifest {
    let data = BTreeMap::from([
        ("RABBITMQ_URLS".to_owned(), Secret::new(rabbitmq.urls.join(","))),
        ("RABBITMQ_USER".to_owned(), Secret::new(rabbitmq.user.clone())),
        ("RABBITMQ_PASSWORD".to_owned(), rabbitmq.password.clone()),
    ]);
    SecretManifest {
        name: format!("rabbitmq-{}", object.key.name),
        data,
        owner: object.reference(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::{SecretManifest, SecretState, event_of};
    use crate::controller::Event;
    use crate::kube::objects::RawObject;
    use crate::resources::OpenstackConfig;

    #[test]
    fn trouble_with_a_secret_is_reported_each_time() {
        let metadata = json!({"name": "a", "namespace": "default", "uid": "u1"});
        let body = to_raw_value(&json!({ "metadata": metadata })).unwrap();
        let raw = RawObject::read(&body).unwrap();
        let owner = OpenstackConfig::from_raw(&raw, &Default::default()).reference();
        let (name, data) = ("rabbitmq-a".to_owned(), BTreeMap::new());
        let secret = SecretManifest { name, data, owner };
        for _ in 0..2 {
            let event = event_of(&secret, SecretState::NotOurs);
            let Event::SecretChecked { uid, note: Some(note), .. } = event else {
                panic!("{event:?}")
            };
            assert!(uid == "u1" && note.foreign);
        }
    }
}
