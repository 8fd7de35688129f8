//! What the MultiNIC agent made of what was sent (docs/behaviour.md#agent-status). Pure.
//!
//! | file | what |
//! |---|---|
//! | [`object`] | a `MultiNicNodeConfig` as its cluster has it |
//! | [`state`] | what it says of a node and of each of its interfaces |
//! | [`condition`] | what it says of an OpenstackConfig: the condition `Configured` |
//! | [`drift`] | when a node is sent again because the cluster lost it or others changed it |

pub mod condition;
pub mod drift;
pub mod object;
pub mod state;

#[cfg(test)]
mod tests;
