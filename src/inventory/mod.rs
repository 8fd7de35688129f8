//! The inventory: what was last sent of each node, kept in a place, over HTTP and on a page.
//!
//! ```text
//! sync ── commit ──▶ store ──▶ backend: file ──▶ document ──▶ files (disk, or the crash simulator)
//!                      │             or crate::records (objects in Kubernetes)
//!                      └── snapshot (an immutable `Inventory`) ──▶ api ──▶ http::server
//! ```
//!
//! [`store`] owns the state and is the only writer, through a [`backend`]. [`record`], [`timeline`], [`contents`] and
//! [`document`] are pure. [`api`] only reads, and so does [`load`]: for the store, and for commands
//! beside an operator. Nothing here decides what a node is sent.

pub mod api;
pub(crate) mod backend;
pub mod contents;
pub mod document;
mod file;
pub mod files;
pub(crate) mod load;
pub mod record;
pub mod store;
mod timeline;
