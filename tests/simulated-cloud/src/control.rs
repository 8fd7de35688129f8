//! The control interface: for a person who plays with a running cloud, by curl.
//!
//! | request | |
//! |---|---|
//! | `GET /requests?service=nova` | what was asked, oldest first |
//! | `DELETE /requests` | forget that |
//! | `POST /faults` | `{"service": "nova", "kind": "status", "status": 503, "times": 2}` |
//! | `DELETE /faults` | end all faults |
//! | `POST /latency` | `{"service": "nova", "milliseconds": 200}` |
//! | `POST /edit` | change ports, servers and settings, see [`edit`] |
//! | `GET /viola` | what Viola holds |

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::faults::{Fault, FaultKind, Faults};
use crate::journal::{Journal, LoggedRequest, Service};
use crate::state::{CloudState, Port, Server, SharedState};
use crate::viola::Viola;
use crate::wire::{Handler, Request, Response};

pub struct Control {
    state: Arc<SharedState>,
    journal: Arc<Journal>,
    faults: Arc<Faults>,
    viola: Arc<Viola>,
}

impl Control {
    pub fn new(
        state: Arc<SharedState>,
        journal: Arc<Journal>,
        faults: Arc<Faults>,
        viola: Arc<Viola>,
    ) -> Arc<Control> {
        Arc::new(Control { state, journal, faults, viola })
    }

    fn answer(&self, request: &Request) -> Result<Value, String> {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/requests") => {
                let requests = match request.query_value("service") {
                    Some(service) => self.journal.requests(service.parse()?),
                    None => self.journal.all(),
                };
                Ok(requests.iter().map(request_body).collect())
            }
            ("DELETE", "/requests") => {
                self.journal.clear();
                Ok(json!({}))
            }
            ("POST", "/faults") => {
                self.faults.add(parse::<FaultBody>(&request.body)?.fault()?);
                Ok(json!({}))
            }
            ("DELETE", "/faults") => {
                self.faults.clear();
                Ok(json!({}))
            }
            ("POST", "/latency") => {
                let latency: LatencyBody = parse(&request.body)?;
                let duration = Duration::from_millis(latency.milliseconds);
                self.faults.set_latency(latency.service.parse()?, duration);
                Ok(json!({}))
            }
            ("POST", "/edit") => {
                edit(&mut self.state.lock(), parse(&request.body)?)?;
                Ok(json!({}))
            }
            ("GET", "/viola") => Ok(self.viola.everything()),
            (method, path) => Err(format!("there is no {method} {path}")),
        }
    }
}

impl Handler for Control {
    fn handle(&self, request: &Request) -> Response {
        match self.answer(request) {
            Ok(body) => Response::json(200, &body),
            Err(error) => Response::json(400, &json!({"error": error})),
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LatencyBody {
    service: String,
    milliseconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultBody {
    service: String,
    method: Option<String>,
    path_contains: Option<String>,
    times: Option<u32>,
    kind: String,
    status: Option<u16>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    after_bytes: Option<usize>,
    milliseconds: Option<u64>,
}

impl FaultBody {
    fn fault(self) -> Result<Fault, String> {
        let pause = Duration::from_millis(self.milliseconds.unwrap_or(100));
        let after_bytes = self.after_bytes.unwrap_or(20);
        let kind = match self.kind.as_str() {
            "status" => FaultKind::Status {
                status: self.status.unwrap_or(503),
                headers: self.headers,
                body: self.body.into_bytes(),
            },
            "html" => FaultKind::Html { status: self.status.unwrap_or(502) },
            "close" => FaultKind::CloseWithoutAnswer,
            "reset" => FaultKind::Reset,
            "answer_lost" => FaultKind::AnswerLost,
            "cut" => FaultKind::CutBody { after_bytes },
            "cut_until_close" => FaultKind::CutBodyUntilClose { after_bytes },
            "hang" => FaultKind::Hang,
            "body" => FaultKind::Body(self.body.into_bytes()),
            "delay" => FaultKind::Delay(pause),
            "drip" => FaultKind::DripBody { bytes: self.after_bytes.unwrap_or(1), pause },
            other => return Err(format!("unknown kind {other:?}")),
        };
        Ok(Fault {
            service: self.service.parse()?,
            method: self.method,
            path_contains: self.path_contains,
            header: None,
            times: self.times,
            kind,
        })
    }
}

/// One change of the cloud:
/// `{"port": "<id>", "status": "DOWN"}` and `{"server": "<id>", "name": "worker-9"}` change fields,
/// `{"add_port": {..}}` and `{"add_server": {..}}` add as in a `cloud.json`,
/// `{"remove_port": "<id>"}`, `{"remove_server": "<id>"}`, `{"revoke_tokens": true}`,
/// `{"settings": {"keep_alive": true}}`.
fn edit(state: &mut CloudState, change: Map<String, Value>) -> Result<(), String> {
    let mut change = change;
    let unknown = |what: &str, id: &str| format!("there is no {what} {id}");
    if let Some(port) = change.remove("add_port") {
        state.add_port(from_value(port)?);
    } else if let Some(server) = change.remove("add_server") {
        state.add_server(from_value(server)?);
    } else if let Some(id) = take_text(&mut change, "remove_port") {
        state.ports.remove(&id).ok_or(unknown("port", &id))?;
    } else if let Some(id) = take_text(&mut change, "remove_server") {
        state.servers.remove(&id).ok_or(unknown("server", &id))?;
    } else if let Some(id) = take_text(&mut change, "port") {
        let port = state.ports.get(&id).ok_or(unknown("port", &id))?;
        let port: Port = merge(port, &mut change)?;
        state.ports.insert(port);
    } else if let Some(id) = take_text(&mut change, "server") {
        let (_, server) = state.servers.get(&id).ok_or(unknown("server", &id))?;
        let changed: Server = merge(server, &mut change)?;
        state.servers.update(&id, |server| *server = changed);
    } else if change.remove("revoke_tokens").is_some() {
        state.revoke_tokens();
    } else if let Some(Value::Object(mut settings)) = change.remove("settings") {
        state.settings = merge(&state.settings, &mut settings)?;
    }
    match change.keys().next() {
        Some(key) => Err(format!("can't make sense of {key:?}")),
        None => Ok(()),
    }
}

fn take_text(change: &mut Map<String, Value>, key: &str) -> Option<String> {
    match change.remove(key)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// An entity with some fields replaced.
fn merge<T: serde::Serialize + DeserializeOwned>(
    entity: &T,
    fields: &mut Map<String, Value>,
) -> Result<T, String> {
    let mut value = serde_json::to_value(entity).map_err(|error| error.to_string())?;
    if let Value::Object(object) = &mut value {
        object.append(fields);
    }
    from_value(value)
}

fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn request_body(request: &LoggedRequest) -> Value {
    let service: Service = request.service;
    json!({
        "sequence": request.sequence,
        "service": service.name(),
        "method": request.method,
        "target": request.target,
        "status": request.status,
        "connection": request.connection,
        "arrivedMs": request.arrived_ms,
        "answeredMs": request.answered_ms,
        "body": String::from_utf8_lossy(&request.body),
    })
}
