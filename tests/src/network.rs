//! A lab's closed network: a bridge whose only other end is the host.
//!
//! Lab number N (1 to 100) has the addresses 10.77.N.0/24, the bridge `phxN` at 10.77.N.1 and the
//! overlay pool 10.(100+N).0.0/16, 256 networks of 24 bits, so that nothing of one lab ever
//! overlaps with another. The engine refuses a network that overlaps with an existing one, which
//! makes creating it the way to claim a number.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::engine::Engine;
use crate::{LabError, Result};

const NUMBERS: u8 = 100;

/// A lab's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name at the outer engine: the lab's.
    pub name: String,
    /// The lab's number.
    pub number: u8,
}

impl Network {
    /// The host's address on the bridge.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// The address with this last byte.
    #[must_use]
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, host)
    }

    /// The network in CIDR form.
    #[must_use]
    pub fn subnet(&self) -> String {
        format!("10.77.{}.0/24", self.number)
    }

    /// The pool that overlay networks of the lab's swarm take their /24 from, in CIDR form.
    #[must_use]
    pub fn overlay_pool(&self) -> String {
        format!("10.{}.0.0/16", 100 + u16::from(self.number))
    }

    fn bridge(&self) -> String {
        format!("phx{}", self.number)
    }
}

/// Claims a free number and creates its network.
///
/// # Errors
/// Where the engine refuses for another reason than an overlap, or all numbers are taken.
pub async fn create(engine: &Engine, name: &str, labels: &serde_json::Value) -> Result<Network> {
    // Starting at different numbers, labs that start together seldom try the same one.
    let first = u8::try_from(std::process::id() % u32::from(NUMBERS)).unwrap_or(0);
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut last = None;
    for offset in 0..NUMBERS {
        let network = Network {
            name: name.to_owned(),
            number: (first + offset) % NUMBERS + 1,
        };
        if routed(&routes, network.address(0)) {
            continue;
        }
        let wish = json!({
            "Name": network.name,
            "CheckDuplicate": true,
            "Driver": "bridge",
            "Internal": true,
            "IPAM": { "Config": [{ "Subnet": network.subnet(), "Gateway": network.gateway() }] },
            "Options": { "com.docker.network.bridge.name": network.bridge() },
            "Labels": labels,
        });
        match engine.post("/networks/create", wish).await {
            Ok(_) => return Ok(network),
            Err(error @ LabError::Refused { status: 409, .. }) => return Err(error),
            Err(error @ LabError::Refused { .. }) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        LabError::Unsuitable(format!(
            "all of 10.77.1.0/24 to 10.77.{NUMBERS}.0/24 are routed"
        ))
    }))
}

/// Whether the kernel's table has a route, other than the default one, that holds this address.
fn routed(table: &str, address: Ipv4Addr) -> bool {
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| {
            fields
                .get(index)
                .and_then(|field| u32::from_str_radix(field, 16).ok())
                .map(u32::swap_bytes)
        };
        match (number(1), number(7)) {
            (Some(destination), Some(mask)) => {
                mask != 0 && u32::from(address) & mask == destination & mask
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_never_overlap() {
        let networks: Vec<Network> = (1..=NUMBERS)
            .map(|number| Network {
                name: "x".into(),
                number,
            })
            .collect();
        let mut all: Vec<String> = networks
            .iter()
            .flat_map(|network| [network.subnet(), network.overlay_pool()])
            .collect();
        assert!(!all.iter().any(|cidr| cidr == "10.77.0.0/16"));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 2 * usize::from(NUMBERS));
    }

    #[test]
    fn a_route_of_the_host_takes_a_number() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nphx3\t00034D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\neth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\n";
        assert!(routed(table, Ipv4Addr::new(10, 77, 3, 0)));
        assert!(!routed(table, Ipv4Addr::new(10, 77, 4, 0)));
    }
}
