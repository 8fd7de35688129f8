//! The Kubernetes API: list, watch, apply.
