//! The HTTP server: a gate, and tiny_http behind it.
