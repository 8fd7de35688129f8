//! A whole cloud on loopback ports: Contrabass, Keystone, Neutron, Nova, Viola and the Kubernetes
//! API, over real HTTP, from a folder of fixtures.

pub mod clock;
pub mod faults;
pub mod journal;
pub mod wire;
