//! JSON merge patch (RFC 7386) and JSON patch (RFC 6902), pure.

use serde_json::{Map, Value};

/// Merges `patch` into `target`; null removes.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else {
        return;
    };
    for (name, change) in changes {
        // Directives of a strategic merge patch order lists; nothing here depends on them.
        if name.starts_with("$setElementOrder/") || name.starts_with("$retainKeys") {
            continue;
        }
        if change.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

/// Applies the operations in order. `None`: one of them cannot be applied, or a test failed.
pub(super) fn operations(mut target: Value, patch: &Value) -> Option<Value> {
    for operation in patch.as_array()? {
        let path = operation["path"].as_str()?;
        match operation["op"].as_str()? {
            "add" => add(&mut target, path, operation.get("value")?.clone())?,
            "remove" => {
                remove(&mut target, path)?;
            }
            "replace" => *target.pointer_mut(path)? = operation.get("value")?.clone(),
            "test" => {
                if target.pointer(path)? != operation.get("value")? {
                    return None;
                }
            }
            "move" => {
                let moved = remove(&mut target, operation["from"].as_str()?)?;
                add(&mut target, path, moved)?;
            }
            "copy" => {
                let copied = target.pointer(operation["from"].as_str()?)?.clone();
                add(&mut target, path, copied)?;
            }
            _ => return None,
        }
    }
    Some(target)
}

/// The parent's pointer and the unescaped last element.
fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Option<()> {
    let Some((parent, last)) = split(path) else {
        *target = value;
        return Some(());
    };
    match target.pointer_mut(parent)? {
        Value::Object(members) => {
            members.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let index: usize = last.parse().ok()?;
            if index > items.len() {
                return None;
            }
            items.insert(index, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(target: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(members) => members.remove(&last),
        Value::Array(items) => {
            let index: usize = last.parse().ok()?;
            (index < items.len()).then(|| items.remove(index))
        }
        _ => None,
    }
}
