//! What a cluster says of a node that was sent to it, and of each of its interfaces.

use serde::Serialize;

use super::object::{AgentStatus, InterfaceStatus, NodeObject};
use crate::node_config::{Interface, NodeConfig};

/// How far an interface, or a node, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It was sent; the agent says nothing of it yet.
    Sent,
    /// The agent works on it.
    InProgress,
    /// It is as it was sent.
    Configured,
    /// The agent failed.
    Failed,
}

/// What is known of an interface that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceState {
    /// 0 to 9.
    pub id: u8,
    /// `multinic{id}`.
    pub name: String,
    /// Lower case, with colons.
    pub mac_address: String,
    /// How far it has come.
    pub state: State,
    /// The agent's word for it; empty before it said one.
    pub reason: String,
    /// The agent's sentence; empty if there is none.
    pub message: String,
}

/// What a node's cluster says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// [`State::Sent`] also while the status speaks of another generation.
    pub state: State,
    /// Each interface that was sent, in their order.
    pub interfaces: Vec<InterfaceState>,
    /// In what the cluster has something else than was sent.
    pub drift: Option<Difference>,
    /// The agent's words about the node as a whole, where it failed without naming an interface.
    pub words: String,
}

/// The cluster has something else than was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// There is no object.
    Missing,
    /// The object says something else.
    Edited {
        /// One difference each.
        what: Vec<String>,
        /// Who wrote the object last.
        writer: Option<String>,
    },
}

impl NodeState {
    /// The state of a node by what was sent and by the object of its name in the cluster.
    pub fn of(sent: &NodeConfig, object: Option<&NodeObject>) -> NodeState {
        let Some(object) = object else {
            let interfaces = sent.interfaces.iter().map(|one| state_of(one, State::Sent, ("", "")));
            let (interfaces, drift) = (interfaces.collect(), Some(Difference::Missing));
            return NodeState { state: State::Sent, interfaces, drift, words: String::new() };
        };
        let what = object.differences(sent);
        let drift = (!what.is_empty())
            .then(|| Difference::Edited { what, writer: object.last_writer.clone() });
        let interfaces: Vec<InterfaceState> =
            sent.interfaces.iter().map(|one| interface(one, object)).collect();
        let (reason, message) = object.words();
        let mut node = NodeState { state: State::Sent, interfaces, drift, words: String::new() };
        node.state = node.state_of(object);
        if node.state == State::Failed && !node.interfaces.iter().any(is_failed) {
            node.words = in_words(reason, message);
        }
        node
    }

    fn state_of(&self, object: &NodeObject) -> State {
        if self.interfaces.iter().any(is_failed) {
            return State::Failed;
        }
        if !object.is_reported() {
            return State::Sent;
        }
        let is_configured = |one: &InterfaceState| one.state == State::Configured;
        match self.drift {
            // The agent speaks of something that wasn't sent.
            Some(_) => State::InProgress,
            None if overall(&object.status) == State::Failed => State::Failed,
            None if self.interfaces.iter().all(is_configured) => State::Configured,
            None => State::InProgress,
        }
    }

    /// Did the agent say anything about what was sent?
    pub(crate) fn is_reported(&self) -> bool {
        self.state != State::Sent
    }
}

fn is_failed(interface: &InterfaceState) -> bool {
    interface.state == State::Failed
}

/// The state of an interface; another address than was sent for it says nothing of what was sent.
fn interface(sent: &Interface, object: &NodeObject) -> InterfaceState {
    let given = object.interface(sent);
    let is_as_sent = given.is_some_and(|given| given.differences(sent).is_empty());
    if !is_as_sent || !object.is_reported() {
        return state_of(sent, State::Sent, ("", ""));
    }
    let statuses = &object.status.interface_statuses;
    match statuses.iter().find(|status| status.is_of(sent)) {
        Some(InterfaceStatus { status, reason, message, .. }) => {
            state_of(sent, state_named(status), (reason, message))
        }
        // Where the agent names no interface at all, what it says holds for each.
        None if statuses.is_empty() => state_of(sent, overall(&object.status), object.words()),
        None => state_of(sent, State::Sent, ("", "")),
    }
}

fn state_of(sent: &Interface, state: State, (reason, message): (&str, &str)) -> InterfaceState {
    InterfaceState {
        id: sent.id,
        name: sent.name.to_string(),
        mac_address: sent.mac_address.clone(),
        state,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn overall(status: &AgentStatus) -> State {
    state_named(&status.state)
}

/// What the agent's word means; a word of a later version is neither success nor failure.
fn state_named(word: &str) -> State {
    match word {
        "Configured" => State::Configured,
        "Failed" => State::Failed,
        _ => State::InProgress,
    }
}

/// `reason: message`, or the one that there is.
pub(super) fn in_words(reason: &str, message: &str) -> String {
    let words: Vec<&str> = [reason, message].into_iter().filter(|text| !text.is_empty()).collect();
    words.join(": ")
}
