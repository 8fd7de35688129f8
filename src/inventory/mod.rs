//! The inventory: what was last sent of each node, in a file, over HTTP and on a page.
//!
//! ```text
//! sync ── commit ──▶ store ──▶ document ──▶ files (disk, or the crash simulator)
//!                      │
//!                      └── snapshot (an immutable `Inventory`) ──▶ api ──▶ http::server
//! ```
//!
//! [`store`] owns the state and is the only writer. [`record`], [`timeline`], [`contents`] and
//! [`document`] are pure. [`api`] only reads, and so does [`load`]: for the store, and for commands
//! beside an operator. Nothing here decides what a node is sent.

pub mod api;
pub mod contents;
pub mod document;
pub mod files;
pub(crate) mod load;
pub mod record;
pub mod store;
mod timeline;
