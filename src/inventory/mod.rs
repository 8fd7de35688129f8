//! The inventory: what each node was last told.
