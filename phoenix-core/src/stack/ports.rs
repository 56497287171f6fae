//! Published ports: `"8080:80"`, `"8000-8002:80-82/udp"`, and the long form.
//!
//! Invariants: numbers are from 1 to 65535; a port names no host address but the unspecified one,
//! because a swarm publishes on all of them and an address would promise what does not happen.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::ground::document::{Cursor, Fields, Node, Value};

use super::model::{Port, Protocol, PublishMode};
use super::reading::{fields, integer};

const PROTOCOLS: &[(&str, Protocol)] = &[
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("sctp", Protocol::Sctp),
];
const MODES: &[(&str, PublishMode)] = &[
    ("ingress", PublishMode::Ingress),
    ("host", PublishMode::Host),
];

/// How many ports a service may have: as many as there are of one protocol.
const MOST: usize = 65_535;

/// What is wrong with a port in short form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PortError {
    #[error("no port; one is written like `8080:80`, `80` or `8000-8002:80-82/udp`")]
    Malformed,
    #[error("a port is a number from 1 to 65535")]
    Number,
    #[error("the first port of a range is above its last")]
    Backwards,
    #[error("the ranges have different lengths")]
    Lengths,
    #[error("the protocol is one of `tcp`, `udp`, `sctp`")]
    Protocol,
    #[error(
        "a swarm publishes a port on every address of its nodes, never on one alone: \
         remove the address, or do not publish the port"
    )]
    HostAddress,
}

/// Reads the list of a service's ports.
pub(super) fn ports(at: &Cursor<'_>) -> Option<Vec<Port>> {
    let mut ports: Vec<Port> = Vec::new();
    let mut taken = BTreeSet::new();
    for item in at.items()? {
        let read = match written(item.node()) {
            Some(text) => match short(&text) {
                Ok(ports) => ports,
                Err(error) => {
                    item.refuse(error.to_string());
                    continue;
                }
            },
            None => match long(&item) {
                Some(port) => vec![port],
                None => continue,
            },
        };
        for port in read {
            let number = port.published.unwrap_or(port.target);
            let what = (protocol_of(&port), mode_of(&port), port.published.is_some());
            if !taken.insert((what, number)) {
                item.refuse(format!("port {number} is listed twice"));
                break;
            }
            ports.push(port);
        }
        if ports.len() > MOST {
            item.refuse(format!("a service has at most {MOST} ports"));
            return None;
        }
    }
    Some(ports)
}

/// Whether `address`, which stands before a port, is the unspecified one. A swarm publishes on all.
pub(super) fn is_everywhere(address: &str) -> bool {
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(address).parse();
    address.is_ok_and(|address: IpAddr| address.is_unspecified())
}

/// The port in short form at `text` with the first of several published ports, of which
/// `docker compose` takes one. `None` for one that has no such range.
pub(super) fn first_of_range(text: &str) -> Option<String> {
    let numbers = text.split('/').next().unwrap_or_default();
    let (before, target) = numbers.rsplit_once(':')?;
    let published = before.rsplit(':').next().unwrap_or_default();
    let (first, last) = range(published).ok()?;
    let rest = &text[before.len()..];
    let address = &before[..before.len() - published.len()];
    (first < last && !target.contains('-')).then(|| format!("{address}{first}{rest}"))
}

/// The short form at `node`, if it is one. A number is what YAML takes it for: `010` is 8.
pub(super) fn written(node: &Node) -> Option<Cow<'_, str>> {
    match &node.value {
        Value::Integer(number) => Some(number.to_string().into()),
        _ => node.text().map(Cow::Borrowed),
    }
}

/// Parses the short form; a range gives several ports.
pub(super) fn short(text: &str) -> Result<Vec<Port>, PortError> {
    let (numbers, protocol) = match text.split_once('/') {
        Some((numbers, protocol)) => {
            let protocol = protocol.to_ascii_lowercase();
            let known = PROTOCOLS.iter().find(|(word, _)| *word == protocol);
            (numbers, known.ok_or(PortError::Protocol)?.1)
        }
        None => (text, Protocol::Tcp),
    };
    let (published, target) = match numbers.rsplit_once(':') {
        Some((before, target)) => match before.rsplit_once(':') {
            Some((address, "")) if is_everywhere(address) => (None, range(target)?),
            Some((address, published)) if is_everywhere(address) => {
                (Some(range(published)?), range(target)?)
            }
            Some(_) => return Err(PortError::HostAddress),
            None => (Some(range(before)?), range(target)?),
        },
        None => (None, range(numbers)?),
    };
    let port = |published, target| Port {
        target,
        published,
        protocol: Some(protocol),
        mode: Some(PublishMode::Ingress),
    };
    let (first, last) = target;
    match published {
        None => Ok((first..=last).map(|target| port(None, target)).collect()),
        // Several published ports may lead to one, but not the other way round.
        Some((from, to)) if first == last => Ok((from..=to)
            .map(|published| port(Some(published), first))
            .collect()),
        Some((from, to)) if to - from == last - first => Ok((from..=to)
            .zip(first..=last)
            .map(|(published, target)| port(Some(published), target))
            .collect()),
        Some(_) => Err(PortError::Lengths),
    }
}

fn range(text: &str) -> Result<(u16, u16), PortError> {
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(PortError::Backwards);
            }
            Ok((first, last))
        }
    }
}

fn number(text: &str) -> Result<u16, PortError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        // An address without a published port (`127.0.0.1:80`) ends up here.
        return Err(if text.parse::<IpAddr>().is_ok() {
            PortError::HostAddress
        } else {
            PortError::Malformed
        });
    }
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(PortError::Number),
    }
}

fn long(at: &Cursor<'_>) -> Option<Port> {
    let map: Fields<'_> = fields(
        at,
        &["target", "published", "protocol", "mode"],
        &[(
            "host_ip",
            "a swarm publishes a port on every address of its nodes, never on one alone",
        )],
    )?;
    let target = integer(&map.required("target")?, 1..=u16::MAX);
    let published = match map.get("published") {
        Some(at) => integer(&at, 0..=u16::MAX)?,
        None => 0,
    };
    let protocol = word(&map, "protocol", PROTOCOLS)?;
    let mode = word(&map, "mode", MODES)?;
    Some(Port {
        target: target?,
        published: (published > 0).then_some(published),
        protocol,
        mode,
    })
}

/// One of `words` under `key`; an empty text is as good as none.
fn word<T: Copy>(map: &Fields<'_>, key: &str, words: &[(&str, T)]) -> Option<Option<T>> {
    match map.get(key) {
        Some(at) if at.node().text() == Some("") => Some(None),
        Some(at) => at.word(words).map(Some),
        None => Some(None),
    }
}

fn protocol_of(port: &Port) -> Protocol {
    port.protocol.unwrap_or(Protocol::Tcp)
}

fn mode_of(port: &Port) -> PublishMode {
    port.mode.unwrap_or(PublishMode::Ingress)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(published: Option<u16>, target: u16) -> Port {
        Port {
            target,
            published,
            protocol: Some(Protocol::Tcp),
            mode: Some(PublishMode::Ingress),
        }
    }

    #[test]
    fn short_ports_are_read() {
        assert_eq!(short("80"), Ok(vec![tcp(None, 80)]));
        assert_eq!(short("8080:80"), Ok(vec![tcp(Some(8080), 80)]));
        assert_eq!(short("8080:80/TCP"), Ok(vec![tcp(Some(8080), 80)]));
        assert_eq!(
            short("53:53/udp"),
            Ok(vec![Port {
                protocol: Some(Protocol::Udp),
                ..tcp(Some(53), 53)
            }])
        );
        assert_eq!(
            short("8000-8001:80-81"),
            Ok(vec![tcp(Some(8000), 80), tcp(Some(8001), 81)])
        );
        assert_eq!(
            short("8000-8001:80"),
            Ok(vec![tcp(Some(8000), 80), tcp(Some(8001), 80)])
        );
        assert_eq!(short("80-81"), Ok(vec![tcp(None, 80), tcp(None, 81)]));
        for text in [
            "0.0.0.0:8080:80",
            "[::]:8080:80",
            ":::8080:80",
            "0:0:0:0:0:0:0:0:8080:80",
        ] {
            assert_eq!(short(text), Ok(vec![tcp(Some(8080), 80)]), "{text}");
        }
        assert_eq!(short("0.0.0.0::80"), Ok(vec![tcp(None, 80)]));
    }

    #[test]
    fn of_a_range_that_leads_to_one_the_first_is_taken() {
        for (text, expected) in [
            ("8000-8002:80", Some("8000:80")),
            ("0.0.0.0:8000-8002:80/udp", Some("0.0.0.0:8000:80/udp")),
            ("8000-8002:80-82", None),
            ("8000:80", None),
            ("8000-8000:80", None),
            ("80", None),
            ("a-b:80", None),
        ] {
            assert_eq!(first_of_range(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn malformed_short_ports_say_why() {
        for (text, expected) in [
            ("", PortError::Malformed),
            (":80", PortError::Malformed),
            ("80:", PortError::Malformed),
            ("a:80", PortError::Malformed),
            ("80-", PortError::Malformed),
            ("0:80", PortError::Number),
            ("70000", PortError::Number),
            ("81-80", PortError::Backwards),
            ("8000-8002:80-81", PortError::Lengths),
            ("80:80-81", PortError::Lengths),
            ("80/icmp", PortError::Protocol),
            ("127.0.0.1:8080:80", PortError::HostAddress),
            ("127.0.0.1::80", PortError::HostAddress),
            ("127.0.0.1:80", PortError::HostAddress),
            ("[::1]:8080:80", PortError::HostAddress),
            ("0.0.0.0:80", PortError::HostAddress),
            ("[::ffff:0.0.0.0]:80:80", PortError::HostAddress),
            ("x0.0.0.0:80:80", PortError::HostAddress),
        ] {
            assert_eq!(short(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ranges_pair_up(from in 1_u16..60000, first in 1_u16..60000, length in 0_u16..100) {
            let ports = short(&format!("{from}-{}:{first}-{}", from + length, first + length)).unwrap();
            prop_assert_eq!(ports.len(), usize::from(length) + 1);
            for (index, port) in (0..).zip(&ports) {
                let target = if length == 0 { first } else { first + index };
                prop_assert_eq!(port, &tcp(Some(from + index), target));
            }
        }

        #[test]
        fn a_port_comes_back(
            target in 1_u16..,
            published in proptest::option::of(1_u16..),
            (word, protocol) in proptest::sample::select(PROTOCOLS),
        ) {
            let published_text = published.map_or_else(String::new, |port| format!("{port}:"));
            let port = Port {
                protocol: Some(protocol),
                ..tcp(published, target)
            };
            prop_assert_eq!(short(&format!("{published_text}{target}/{word}")), Ok(vec![port]));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[0-9a-c.:/\\[\\]-]{0,16}") {
            let _ = (short(&text), first_of_range(&text));
        }

        #[test]
        fn no_address_is_ever_accepted(address in any::<std::net::Ipv4Addr>(), port in 1_u16..) {
            prop_assume!(!address.is_unspecified());
            for text in [format!("{address}:{port}:80"), format!("{address}::80")] {
                prop_assert_eq!(short(&text), Err(PortError::HostAddress));
            }
        }
    }
}
