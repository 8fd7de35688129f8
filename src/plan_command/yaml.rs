//! YAML as JSON, as kubectl reads it. Pure.

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Value};

/// How deep collections may be nested.
const MAX_DEPTH: usize = 32;

/// The only document of a text; null if there is none.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text);
    let mut document = None;
    loop {
        match next(&mut parser)? {
            (Event::StreamEnd, _) => return Ok(document.unwrap_or_default()),
            (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd, _) => {}
            (event, span) if document.is_none() => {
                document = Some(value(&mut parser, event, span, 0)?);
            }
            (_, span) => {
                return Err(format!("has a second document at line {}", span.start.line()));
            }
        }
    }
}

fn next<'a>(parser: &mut Parser<'a, StrInput<'a>>) -> Result<(Event<'a>, Span), String> {
    let event = parser.next_event().ok_or("ends early")?;
    event.map_err(|error| format!("is neither YAML nor JSON: {error}"))
}

fn value<'a>(
    parser: &mut Parser<'a, StrInput<'a>>,
    event: Event<'a>,
    span: Span,
    depth: usize,
) -> Result<Value, String> {
    let fail = |what: &str| Err(format!("has {what} at line {}", span.start.line()));
    if depth > MAX_DEPTH {
        return fail("too deeply nested collections");
    }
    match event {
        Event::Scalar(text, style, ..) => Ok(scalar(&text, style)),
        Event::SequenceStart(..) => {
            let mut list = Vec::new();
            loop {
                match next(parser)? {
                    (Event::SequenceEnd, _) => return Ok(Value::Array(list)),
                    (event, span) => list.push(value(parser, event, span, depth + 1)?),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut map = Map::new();
            loop {
                let key = match next(parser)? {
                    (Event::MappingEnd, _) => return Ok(Value::Object(map)),
                    (Event::Scalar(key, ..), _) if key != "<<" => key.into_owned(),
                    _ => return fail("keys that aren't plain texts"),
                };
                let (event, span) = next(parser)?;
                if map.insert(key, value(parser, event, span, depth + 1)?).is_some() {
                    return fail("a key twice");
                }
            }
        }
        _ => fail("an alias, which isn't supported"),
    }
}

/// What a scalar is in YAML 1.1, as far as the custom resource has such values.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    let number = || text.parse().map(Value::Number).ok();
    match text {
        _ if style != ScalarStyle::Plain => text.into(),
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            true.into()
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            false.into()
        }
        _ => number().unwrap_or_else(|| text.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::read;

    #[test]
    fn a_manifest_is_read_as_kubectl_reads_it() {
        let text = "\
# One object.
---
kind: OpenstackConfig
metadata: {name: workers, annotations: {multinic.example.com/approve: \"123456789012\"}}
spec:
  paused: yes
  subnetID:
  vmNames:
    - 3b8f2c61-9d04-4e7a-a5c2-1f6e8d90b7a4
    - '7'
  settings: {downPortFastRetryMax: 3, violaTimeout: 30s}
";
        let object = json!({
            "kind": "OpenstackConfig",
            "metadata": {"name": "workers",
                "annotations": {"multinic.example.com/approve": "123456789012"}},
            "spec": {"paused": true, "subnetID": null,
                "vmNames": ["3b8f2c61-9d04-4e7a-a5c2-1f6e8d90b7a4", "7"],
                "settings": {"downPortFastRetryMax": 3, "violaTimeout": "30s"}},
        });
        assert_eq!(read(text), Ok(object.clone()));
        assert_eq!(read(&object.to_string()), Ok(object));
        assert_eq!(read("1e3").unwrap().as_f64(), Some(1000.0));
    }

    #[test]
    fn what_cannot_be_planned_is_said_with_its_line() {
        for (text, said) in [
            ("a: 1\n---\nb: 2", "has a second document at line 3"),
            ("a: 1\na: 2", "has a key twice at line 1"),
            ("a: &x 1\nb: *x", "has an alias, which isn't supported at line 2"),
            ("b:\n  <<: 1", "has keys that aren't plain texts at line 2"),
            ("a: [1", "is neither YAML nor JSON: "),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.starts_with(said), "{text:?}: {problem}");
        }
    }
}
