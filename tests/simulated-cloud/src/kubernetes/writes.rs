//! The rules of writing: what a create, update, apply or delete makes of the stored object.
//! Works on the state alone; HTTP is `verbs`.

use super::apply::{self, Writer};
use super::identity;
use super::kinds::ResourceKind;
use super::rules;
use super::status::{Cause, Failure};
use super::store::{CollectionId, ObjectId, State};
use serde_json::{Value, json};
use std::sync::Arc;

/// Metadata that only the server sets.
const SERVER_FIELDS: [&str; 9] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// Which object is written: its collection, namespace and name.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) collection: CollectionId,
    pub(super) kind: ResourceKind,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Target {
    fn id(&self) -> ObjectId {
        (self.namespace.clone(), self.name.clone())
    }
}

/// What became of a delete.
pub(super) enum Deleted {
    /// It is gone; its uid.
    Gone(String),
    /// It waits for its finalizers.
    Terminating(Arc<Value>),
}

impl State {
    /// The object, or 404.
    pub(super) fn current(&self, target: &Target) -> Result<Arc<Value>, Failure> {
        self.collection(&target.collection)?
            .find(&target.namespace, &target.name)
            .cloned()
            .ok_or_else(|| Failure::not_found(&target.kind, &target.name))
    }

    /// Creates an object; the body may ask for a generated name.
    pub(super) fn create(
        &mut self,
        mut target: Target,
        mut object: Value,
        writer: &Writer,
    ) -> Result<Arc<Value>, Failure> {
        let kind = target.kind.clone();
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        if target.name.is_empty() {
            target.name = match object["metadata"]["generateName"].as_str() {
                Some(prefix) if !prefix.is_empty() => {
                    format!("{prefix}{}", identity::name_suffix())
                }
                _ => {
                    let message = "Required value: name or generateName is required";
                    let cause = Cause::new("FieldValueRequired", message, "metadata.name");
                    return Err(Failure::invalid(&kind, "", &[cause]));
                }
            };
        }
        let namespaces = self.collection(&(String::new(), "namespaces".to_owned()))?;
        if kind.namespaced && namespaces.find("", &target.namespace).is_none() {
            return Err(Failure::not_found(&namespaces.kind, &target.namespace));
        }
        rules::check_name(&kind, &target.name)?;
        if self.collection(&target.collection)?.find(&target.namespace, &target.name).is_some() {
            return Err(Failure::already_exists(&kind, &target.name));
        }
        rules::drop_unknown_fields(&kind, &mut object);
        if kind.status_subresource {
            remove_member(&mut object, "status");
        }
        let applied = object["metadata"]["managedFields"].take();
        for field in SERVER_FIELDS {
            remove_member(&mut object["metadata"], field);
        }
        set_type(&mut object, &kind);
        object["metadata"]["name"] = json!(target.name);
        if kind.namespaced {
            object["metadata"]["namespace"] = json!(target.namespace);
        }
        // Fields are owned as they were written, before the server rewrites any.
        let ownership = if applied.is_null() {
            apply::after_update(&json!({}), &object, writer)
        } else {
            applied
        };
        rules::normalise(&kind, &target.name, &mut object)?;
        rules::check_values(&kind, &target.name, &object, false)?;
        object["metadata"]["uid"] = json!(identity::uuid());
        object["metadata"]["creationTimestamp"] = json!(writer.time);
        if kind.custom {
            object["metadata"]["generation"] = json!(1);
        }
        if ownership.as_array().is_some_and(|entries| !entries.is_empty()) {
            object["metadata"]["managedFields"] = ownership;
        }
        Ok(self.commit(&target.collection, target.id(), object))
    }

    /// Turns the stored object into the desired one, as far as the endpoint lets it.
    /// An update that changes nothing is answered with the stored object, version and all.
    pub(super) fn update(
        &mut self,
        target: &Target,
        mut desired: Value,
        writer: &Writer,
        applied: bool,
    ) -> Result<Arc<Value>, Failure> {
        let current = self.current(target)?;
        let kind = &target.kind;
        rules::drop_unknown_fields(kind, &mut desired);
        check_preconditions(kind, &target.name, &current, &desired["metadata"])?;
        let mut ownership = desired["metadata"]["managedFields"].clone();
        let mut updated = writable_part(kind, &current, desired, writer);
        let written = updated.clone();
        rules::normalise(kind, &target.name, &mut updated)?;
        rules::check_values(kind, &target.name, &updated, writer.subresource.is_some())?;
        check_finalizers(kind, &target.name, &current, &updated)?;
        if kind.custom && content(kind, &updated) != content(kind, &current) {
            let generation = current["metadata"]["generation"].as_u64().unwrap_or_default();
            updated["metadata"]["generation"] = json!(generation + 1);
        }
        let unchanged = without_ownership(&updated) == without_ownership(&current);
        if !applied {
            if unchanged {
                return Ok(current);
            }
            ownership = apply::after_update(&current, &written, writer);
        } else if unchanged && same_ownership(&ownership, &current["metadata"]["managedFields"]) {
            return Ok(current);
        }
        if ownership.as_array().is_some_and(|entries| !entries.is_empty()) {
            updated["metadata"]["managedFields"] = ownership;
        } else {
            remove_member(&mut updated["metadata"], "managedFields");
        }
        let metadata = &updated["metadata"];
        if !metadata["deletionTimestamp"].is_null() && metadata["finalizers"].is_null() {
            // The answer is the object without its finalizer, under the version it had before.
            self.commit_deletion(&target.collection, &target.id());
            return Ok(Arc::new(updated));
        }
        Ok(self.commit(&target.collection, target.id(), updated))
    }

    /// Server-side apply. True: the object was created.
    pub(super) fn apply(
        &mut self,
        target: Target,
        body: &Value,
        writer: &Writer,
        force: bool,
    ) -> Result<(Arc<Value>, bool), Failure> {
        let live = match self.current(&target) {
            Ok(live) => Some(live),
            Err(missing) if writer.subresource.is_some() || missing.status().is_none() => {
                return Err(missing);
            }
            Err(_) => None,
        };
        let base = live.as_deref().cloned().unwrap_or(json!({}));
        check_preconditions(&target.kind, &target.name, &base, &body["metadata"])?;
        let merged =
            apply::apply(&base, body, writer, force).map_err(|conflicts| refused(&conflicts))?;
        match live {
            Some(_) => Ok((self.update(&target, merged, writer, true)?, false)),
            None => Ok((self.create(target, merged, writer)?, true)),
        }
    }

    /// Deletes, or marks for deletion while there are finalizers.
    pub(super) fn delete(
        &mut self,
        target: &Target,
        preconditions: &Value,
        now: &str,
    ) -> Result<Deleted, Failure> {
        let current = self.current(target)?;
        let uid = current["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        for (field, label, hint) in [
            ("uid", "UID", "The object might have been deleted and then recreated"),
            ("resourceVersion", "ResourceVersion", "The object might have been modified"),
        ] {
            let found = current["metadata"][field].as_str().unwrap_or_default();
            if let Some(wanted) = preconditions[field].as_str()
                && wanted != found
            {
                return Err(Failure::precondition(
                    &target.kind,
                    &target.name,
                    &format!(
                        "the {label} in the precondition ({wanted}) does not match the {label} in record ({found}). {hint}"
                    ),
                ));
            }
        }
        if current["metadata"]["finalizers"].is_null() {
            self.commit_deletion(&target.collection, &target.id());
            return Ok(Deleted::Gone(uid));
        }
        if !current["metadata"]["deletionTimestamp"].is_null() {
            return Ok(Deleted::Terminating(current));
        }
        let mut terminating = Value::clone(&current);
        terminating["metadata"]["deletionTimestamp"] = json!(now);
        terminating["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        if let Some(generation) = current["metadata"]["generation"].as_u64() {
            terminating["metadata"]["generation"] = json!(generation + 1);
        }
        Ok(Deleted::Terminating(self.commit(&target.collection, target.id(), terminating)))
    }
}

/// What the endpoint lets through: `/status` the status, the main resource all but that.
fn writable_part(
    kind: &ResourceKind,
    current: &Arc<Value>,
    mut desired: Value,
    writer: &Writer,
) -> Value {
    if writer.subresource.is_some() {
        let mut updated = Value::clone(current);
        remove_member(&mut updated, "status");
        if !desired["status"].is_null() {
            updated["status"] = desired["status"].take();
        }
        return updated;
    }
    if kind.status_subresource {
        remove_member(&mut desired, "status");
        if !current["status"].is_null() {
            desired["status"] = current["status"].clone();
        }
    }
    if !desired["metadata"].is_object() {
        desired["metadata"] = json!({});
    }
    for field in SERVER_FIELDS {
        remove_member(&mut desired["metadata"], field);
        if !current["metadata"][field].is_null() {
            desired["metadata"][field] = current["metadata"][field].clone();
        }
    }
    set_type(&mut desired, kind);
    desired
}

fn set_type(object: &mut Value, kind: &ResourceKind) {
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
}

/// A resourceVersion or uid in the body must be the stored one.
fn check_preconditions(
    kind: &ResourceKind,
    name: &str,
    current: &Value,
    metadata: &Value,
) -> Result<(), Failure> {
    let given = |field: &str| metadata[field].as_str().filter(|text| !text.is_empty());
    if given("resourceVersion")
        .is_some_and(|version| current["metadata"]["resourceVersion"] != version)
    {
        return Err(Failure::modified(kind, name));
    }
    if let Some(uid) = given("uid")
        && current["metadata"]["uid"] != uid
    {
        let found = current["metadata"]["uid"].as_str().unwrap_or_default();
        return Err(Failure::conflict(
            kind,
            name,
            &format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
            ),
        ));
    }
    Ok(())
}

fn check_finalizers(
    kind: &ResourceKind,
    name: &str,
    current: &Value,
    updated: &Value,
) -> Result<(), Failure> {
    if current["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let list = |object: &Value| -> Vec<Value> {
        object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default()
    };
    let before = list(current);
    let added: Vec<String> = list(updated)
        .iter()
        .filter(|finalizer| !before.contains(finalizer))
        .map(Value::to_string)
        .collect();
    if added.is_empty() {
        return Ok(());
    }
    let cause = || {
        let message = format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        Cause::new("FieldValueForbidden", message, "metadata.finalizers")
    };
    // The real server says it twice.
    Err(Failure::invalid(kind, name, &[cause(), cause()]))
}

/// What `generation` counts: all but metadata and, if it has its own endpoint, the status.
fn content(kind: &ResourceKind, object: &Value) -> Value {
    let mut content = object.clone();
    remove_member(&mut content, "metadata");
    if kind.status_subresource {
        remove_member(&mut content, "status");
    }
    content
}

fn without_ownership(object: &Value) -> Value {
    let mut rest = object.clone();
    remove_member(&mut rest["metadata"], "managedFields");
    rest
}

fn same_ownership(one: &Value, other: &Value) -> bool {
    let timeless = |entries: &Value| -> Vec<Value> {
        let mut entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter_mut().for_each(|entry| remove_member(entry, "time"));
        entries
    };
    timeless(one) == timeless(other)
}

pub(super) fn remove_member(object: &mut Value, name: &str) {
    if let Some(members) = object.as_object_mut() {
        members.remove(name);
    }
}

/// 409 that names each field and its owner; several fields of one owner stand in a list.
fn refused(conflicts: &[apply::Conflict]) -> Failure {
    let mut managers: Vec<(&str, Vec<&str>)> = Vec::new();
    for conflict in conflicts {
        match managers.iter_mut().find(|(manager, _)| *manager == conflict.manager) {
            Some((_, fields)) => fields.push(&conflict.field),
            None => managers.push((&conflict.manager, vec![&conflict.field])),
        }
    }
    let texts: Vec<String> = managers
        .iter()
        .map(|(manager, fields)| match fields.as_slice() {
            [field] => format!("conflict with {manager}: {field}"),
            _ => format!("conflicts with {manager}:\n- {}", fields.join("\n- ")),
        })
        .collect();
    let causes: Vec<Cause> = conflicts
        .iter()
        .map(|conflict| {
            let message = format!("conflict with {}", conflict.manager);
            Cause::new("FieldManagerConflict", message, &conflict.field)
        })
        .collect();
    let plural = if conflicts.len() == 1 { "" } else { "s" };
    let message =
        format!("Apply failed with {} conflict{plural}: {}", conflicts.len(), texts.join("\n"));
    Failure::field_managers(message, &causes)
}
