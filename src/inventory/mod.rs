//! The inventory: what each node was last told, on disk, over HTTP and on a page.
//!
//! ```text
//! sync ── commit ──▶ store ──▶ journal, document ──▶ files (disk, or the crash simulator)
//!                      │
//!                      └── snapshot (an immutable `Inventory`) ──▶ api ──▶ http::server
//! ```
//!
//! [`store`] owns the durable state and is the only writer. [`record`], [`timeline`],
//! [`contents`], [`journal`] and [`document`] are pure. [`api`] only reads; so does [`reader`], for
//! other processes. Nothing here decides what a node is told.

pub mod api;
pub mod contents;
pub mod document;
pub mod files;
pub mod journal;
pub mod load;
pub mod reader;
pub mod record;
pub mod sorted;
pub mod store;
pub mod timeline;
