//! The replica that leads, and where its inventory API listens. Pure.
//!
//! The leader writes its address into an annotation of the Lease it holds. What may write the Lease
//! could write anything there, and a request that is forwarded may carry a client's token. So only an
//! address that a pod can have is used: no name, no URL, and no address that means another host on
//! each host.

use std::net::{IpAddr, SocketAddr};

/// The annotation: `<pod ip>:<port>`, an IPv6 address in brackets.
pub(super) const ADDRESS_ANNOTATION: &str = "multinic.example.com/inventory-address";
/// Characters of a wrong value that are shown.
const SHOWN_CHARACTERS: usize = 60;

/// The replica that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    /// Its name in the Lease, or what is known instead.
    pub(super) name: String,
    /// Where its inventory API listens, if the Lease says so.
    pub(super) inventory: Option<SocketAddr>,
}

impl Leader {
    /// One of which only the name is known.
    pub(super) fn named(name: &str) -> Leader {
        Leader { name: name.to_owned(), inventory: None }
    }

    /// One with this address in its Lease, and why that isn't used, if so. `own` is this replica's
    /// address.
    pub(super) fn read(
        name: &str,
        address: Option<&str>,
        own: Option<IpAddr>,
    ) -> (Leader, Option<String>) {
        let (inventory, problem) = match address.map(|text| read_address(text, own)) {
            None => (None, None),
            Some(Ok(address)) => (Some(address), None),
            Some(Err(problem)) => (None, Some(problem)),
        };
        (Leader { inventory, ..Leader::named(name) }, problem)
    }
}

/// The address in the annotation, or why it isn't used.
fn read_address(text: &str, own: Option<IpAddr>) -> Result<SocketAddr, String> {
    let wrong = |what: &str| {
        let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
        Err(format!("{shown:?} {what}"))
    };
    let Ok(address) = text.parse::<SocketAddr>() else {
        return wrong("is no IP address with a port");
    };
    // An IPv4 address mapped into IPv6 means what it means by itself.
    let ip = address.ip().to_canonical();
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    // Replicas that share a host may meet there; to a pod it would be a port of its own.
    let is_ours_alone = ip.is_loopback() && !own.is_some_and(|own| own.is_loopback());
    if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
        return wrong("is no address to connect to");
    }
    match is_link_local || is_ours_alone {
        true => wrong("is no address of another pod"),
        false => Ok(SocketAddr::new(ip, address.port())),
    }
}

#[cfg(test)]
mod tests {
    use super::{ADDRESS_ANNOTATION, read_address};
    use std::net::IpAddr;

    #[test]
    fn addresses_that_a_pod_can_have_are_used() {
        for text in ["10.244.1.7:18081", "[fd00:10::7]:18081", "203.0.113.9:1"] {
            assert_eq!(read_address(text, None).unwrap().to_string(), text);
        }
        let mapped = read_address("[::ffff:10.244.1.7]:18081", None).unwrap();
        assert_eq!(mapped.to_string(), "10.244.1.7:18081");
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(read_address("127.0.0.1:18081", Some(loopback)).is_ok());
    }

    #[test]
    fn anything_else_is_not() {
        let own: IpAddr = "10.244.1.8".parse().unwrap();
        for text in [
            "",
            "10.244.1.7",
            "10.244.1.7:",
            "10.244.1.7:0",
            "10.244.1.7:65536",
            " 10.244.1.7:18081",
            "10.244.1.7:18081/v1",
            "http://10.244.1.7:18081",
            "user@10.244.1.7:18081",
            "inventory.example.com:18081",
            "localhost:18081",
            "0.0.0.0:18081",
            "[::]:18081",
            "127.0.0.1:18081",
            "[::1]:18081",
            "[::ffff:127.0.0.1]:18081",
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:18081",
            "224.0.0.1:18081",
            "255.255.255.255:18081",
            "0x7f000001:80",
            "2130706433:80",
        ] {
            assert!(read_address(text, Some(own)).is_err(), "{text:?}");
            assert!(read_address(text, None).is_err(), "{text:?}");
        }
        let long = "x".repeat(10_000);
        assert!(read_address(&long, None).unwrap_err().len() < 200);
    }

    #[test]
    fn the_annotation_is_one_of_our_group() {
        assert!(ADDRESS_ANNOTATION.starts_with(&format!("{}/", crate::resources::GROUP)));
    }
}
