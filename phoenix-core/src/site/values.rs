//! Single values of the site file: paths, addresses, names, commands and the like.
//!
//! Each function returns `None` exactly when it reported a problem.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::files::{Holds, LocalFiles};
use super::format;
use super::model::{Command, DockerAddress, ServerTrust};
use super::names::NameRule;
use crate::ground::document::{Cursor, Fields, Value};
use crate::pki::SubjectAltName;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer waits are mistakes, and longer lifetimes pass the year 9999 sooner or later.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);
const LONGEST_LIFETIME: Duration = days(36_525);
/// Clocks differ by this much.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(60);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Of a path (Linux).
const LONGEST_PATH: usize = 4095;

pub(super) const fn days(count: u32) -> Duration {
    DAY.saturating_mul(count)
}

/// A duration in whole seconds, as the site file writes it: `90d`, not `2months 29days`.
pub(super) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        s if s > 0 && s.is_multiple_of(DAY.as_secs()) => format!("{}d", s / DAY.as_secs()),
        s if s > 0 && s.is_multiple_of(3600) => format!("{}h", s / 3600),
        _ => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}

/// How long something may take.
pub(super) fn wait(cursor: &Cursor<'_>) -> Option<Duration> {
    within(cursor, Duration::from_millis(1), LONGEST_WAIT)
}

/// How long a certificate is valid, or how long before its end something happens.
pub(super) fn lifetime(cursor: &Cursor<'_>) -> Option<Duration> {
    within(cursor, SHORTEST_LIFETIME, LONGEST_LIFETIME)
}

fn within(cursor: &Cursor<'_>, least: Duration, most: Duration) -> Option<Duration> {
    let duration = cursor.duration()?;
    if duration < least {
        cursor.refuse(format!(
            "too short: at least {}",
            humantime::format_duration(least)
        ));
        return None;
    }
    if duration > most {
        cursor.refuse(format!("too long: at most {}", show(most)));
        return None;
    }
    Some(duration)
}

/// `name`, which stands at `cursor`, follows `rule`.
pub(super) fn name<'d>(cursor: &Cursor<'d>, rule: &NameRule) -> Option<&'d str> {
    let name = cursor.nonempty()?;
    if !rule.allows(name) {
        cursor.refuse_suggesting(format!("must be {}", rule.words), mend(name, rule));
        return None;
    }
    Some(name)
}

/// What `name` was probably meant to be, as `rule` wants it.
pub(super) fn mend(name: &str, rule: &NameRule) -> Option<String> {
    let filler = rule.inside.chars().next().unwrap_or('_');
    let mended: String = name
        .chars()
        .map(|c| {
            if rule.upper {
                c
            } else {
                c.to_ascii_lowercase()
            }
        })
        .map(|c| {
            if c.is_ascii_alphanumeric() || rule.inside.contains(c) {
                c
            } else {
                filler
            }
        })
        .collect();
    let mended = mended.trim_matches(filler);
    rule.allows(mended).then(|| mended.to_owned())
}

/// An `https:` URL of a server's root, or with a path where `path` is allowed.
pub(super) fn https(cursor: &Cursor<'_>, path: bool) -> Option<Url> {
    let text = cursor.nonempty()?;
    let parsed = Url::parse(text);
    if let Ok(url) = &parsed
        && (!url.username().is_empty() || url.password().is_some())
    {
        // Not quoted: what stands before the `@` may be a secret.
        cursor.reader().report(
            cursor.position(),
            cursor.path(),
            None,
            "credentials do not belong in a URL",
            None,
        );
        return None;
    }
    match parsed {
        Ok(url) if url.scheme() == "https" && url.host_str().is_some_and(|h| !h.is_empty()) => {
            if url.query().is_some() || url.fragment().is_some() {
                cursor.refuse("a URL without `?` and `#` is expected here");
                return None;
            }
            if !path && !matches!(url.path(), "" | "/") {
                let mut root = url.clone();
                root.set_path("");
                let meant = root.as_str().trim_end_matches('/').to_owned();
                cursor.refuse_suggesting("a URL without a path is expected here", Some(meant));
                return None;
            }
            Some(url)
        }
        Ok(url) if url.scheme() == "http" => {
            let meant = text
                .split_once(':')
                .map(|(_, rest)| format!("https:{rest}"));
            cursor.refuse_suggesting("`http:` sends credentials readable over the network", meant);
            None
        }
        _ => {
            let meant = (!text.contains("://"))
                .then(|| format!("https://{text}"))
                .filter(|meant| Url::parse(meant).is_ok());
            cursor.refuse_suggesting("an `https://` URL is expected here", meant);
            None
        }
    }
}

/// The SHA-256 of a certificate: 64 hexadecimal digits, with or without colons.
pub(super) fn fingerprint(cursor: &Cursor<'_>) -> Option<[u8; 32]> {
    let text = cursor.nonempty()?;
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let mut bytes = [0; 32];
    if hex::decode_to_slice(&digits, &mut bytes).is_ok() {
        return Some(bytes);
    }
    let hexadecimal = digits.chars().all(|c| c.is_ascii_hexdigit());
    cursor.refuse(match digits.len() {
        40 if hexadecimal => {
            "this is a SHA-1; the SHA-256 of the certificate is expected here".to_owned()
        }
        count if hexadecimal => {
            format!("a SHA-256 has 64 hexadecimal digits; these are {count}")
        }
        _ => "the SHA-256 of a certificate is expected here, in hexadecimal".to_owned(),
    });
    None
}

/// How a server is recognised: by `ca`, by `fingerprint`, or as `otherwise`.
pub(super) fn trust<'d>(
    fields: &Fields<'d>,
    files: &LocalFiles<'d>,
    otherwise: ServerTrust,
) -> Option<ServerTrust> {
    if let Some(ca) = fields.get("ca") {
        return Some(ServerTrust::CaFile(files.file(&ca, Holds::Public)?));
    }
    if let Some(digest) = fields.get("fingerprint") {
        return Some(ServerTrust::Fingerprint(fingerprint(&digest)?));
    }
    Some(otherwise)
}

/// An absolute path in a guest.
pub(super) fn guest_path(cursor: &Cursor<'_>) -> Option<String> {
    let text = cursor.nonempty()?;
    let wrong = if !text.starts_with('/') {
        Some("an absolute path is expected here: it is in the guest, not beside the site file")
    } else if !text.chars().all(|c| matches!(c, ' '..='~')) {
        Some("a path in a guest is ASCII: the Proxmox API mangles anything else")
    } else if text.len() > LONGEST_PATH {
        Some("the path is too long")
    } else if text[1..]
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
    {
        Some("a path without empty parts, `.` and `..` is expected here")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        let meant = text
            .starts_with('/')
            .then(|| format!("/{}", parts(text).join("/")))
            .filter(|meant| meant != text && meant.len() > 1 && !meant.contains("/.."))
            .filter(|meant| meant.is_ascii());
        cursor.refuse_suggesting(wrong, meant);
        return None;
    }
    Some(text.to_owned())
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect()
}

/// Permission bits: text, or a number that YAML reads as octal (`0640`).
pub(super) fn mode(cursor: &Cursor<'_>) -> Option<u32> {
    let text = cursor.nonempty()?;
    let quoted = matches!(cursor.node().value, Value::String(_));
    let digits = text
        .strip_prefix("0o")
        .or_else(|| text.strip_prefix('0'))
        .or(quoted.then_some(text));
    let octal = |digits: &str| {
        (digits.len() == 3)
            .then(|| u32::from_str_radix(digits, 8).ok())
            .flatten()
    };
    if let Some(mode) = digits.and_then(octal) {
        if mode & 0o400 == 0 {
            cursor.refuse("the owner must be able to read the file");
            return None;
        }
        return Some(mode);
    }
    let meant = octal(text).map(|mode| format!("{mode:04o}"));
    cursor.refuse_suggesting(
        "permission bits in octal are expected here, such as `0640`",
        meant,
    );
    None
}

/// A subnet as CIDR, without bits set behind its prefix.
pub(super) fn cidr(cursor: &Cursor<'_>) -> Option<(IpAddr, u8)> {
    let text = cursor.nonempty()?;
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        (prefix <= width(address)).then_some((address, prefix))
    });
    let Some((address, prefix)) = parsed else {
        cursor.refuse("a subnet such as `10.20.0.0/16` is expected here");
        return None;
    };
    let network = masked(address, prefix);
    if network != address {
        cursor.refuse_suggesting(
            "this is an address in a subnet, not the subnet",
            Some(format!("{network}/{prefix}")),
        );
        return None;
    }
    Some((address, prefix))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// Whether two subnets have an address in common.
pub(super) fn overlap(one: (IpAddr, u8), other: (IpAddr, u8)) -> bool {
    let prefix = one.1.min(other.1);
    one.0.is_ipv4() == other.0.is_ipv4() && masked(one.0, prefix) == masked(other.0, prefix)
}

/// Where a Docker engine listens.
pub(super) fn docker_address(cursor: &Cursor<'_>) -> Option<DockerAddress> {
    let text = cursor.nonempty()?;
    let Some((scheme, rest)) = text.split_once("://") else {
        let meant = if text.starts_with('/') {
            Some(format!("unix://{text}"))
        } else {
            host_and_port(text, Some(2376)).map(|_| format!("tcp://{text}"))
        };
        cursor.refuse_suggesting("an address is `tcp://HOST:2376` or `unix:///PATH`", meant);
        return None;
    };
    match scheme {
        "unix" if rest.starts_with('/') && rest.len() > 1 => {
            Some(DockerAddress::Unix(PathBuf::from(rest)))
        }
        "unix" => {
            let meant = (!rest.is_empty() && rest != "/").then(|| format!("unix:///{rest}"));
            cursor.refuse_suggesting("a socket has an absolute path: `unix:///PATH`", meant);
            None
        }
        "tcp" => match host_and_port(rest.trim_end_matches('/'), Some(2376)) {
            Some((host, port)) => Some(DockerAddress::Tcp { host, port }),
            None => {
                cursor.refuse("a host and a port are expected here: `tcp://HOST:2376`");
                None
            }
        },
        "http" => {
            cursor.refuse_suggesting(
                "a Docker engine is reached with TLS or by a unix socket, never by plain `http:`",
                Some(format!("tcp://{rest}")),
            );
            None
        }
        "https" => {
            cursor.refuse_suggesting("write `tcp://`", Some(format!("tcp://{rest}")));
            None
        }
        _ => {
            cursor.refuse("an address is `tcp://HOST:2376` or `unix:///PATH`");
            None
        }
    }
}

/// `HOST:PORT`; an IPv6 address stands in brackets in the text and without them in the result.
pub(super) fn tcp_address(cursor: &Cursor<'_>) -> Option<(String, u16)> {
    let found = host_and_port(cursor.nonempty()?, None);
    if found.is_none() {
        cursor.refuse("a host and a port are expected here: `HOST:443`");
    }
    found
}

/// A host (without brackets) and its port.
pub(super) fn host_and_port(text: &str, port: Option<u16>) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() > 0).then(|| (address.ip().to_string(), address.port()));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, written)) if !host.contains(':') || host.ends_with(']') => {
            let digits = written.bytes().all(|b| b.is_ascii_digit());
            (
                host,
                Some(written.parse().ok().filter(|port| digits && *port > 0)?),
            )
        }
        _ => (text, port),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None => {
            rustls_pki_types::ServerName::try_from(host).ok()?;
            host.to_ascii_lowercase()
        }
    };
    Some((host, port?))
}

/// Subject alternative names, each once.
pub(super) fn sans(cursor: &Cursor<'_>) -> Option<Vec<SubjectAltName>> {
    let mut names: indexmap::IndexMap<SubjectAltName, Cursor<'_>> = indexmap::IndexMap::new();
    let mut complete = true;
    for item in cursor.items()? {
        let Some(text) = item.text() else {
            complete = false;
            continue;
        };
        match text.parse::<SubjectAltName>() {
            Ok(name) => {
                if let Some(first) = names.get(&name) {
                    item.refuse(format!("the name is also at {}", first.position()));
                    complete = false;
                } else {
                    if let Some(caveat) = name.caveat() {
                        item.warn(caveat);
                    }
                    names.insert(name, item);
                }
            }
            Err(error) => {
                item.refuse_suggesting(error.to_string(), error.suggestion());
                complete = false;
            }
        }
    }
    complete.then(|| names.into_keys().collect())
}

/// A program run in a guest: a list, one text for a shell, or a map with a timeout.
pub(super) fn command(cursor: &Cursor<'_>) -> Option<Command> {
    let Value::Map(_) = cursor.node().value else {
        return Some(Command::new(argv(cursor)?, COMMAND_TIMEOUT));
    };
    let fields = format::COMMAND_OBJECT.open(cursor)?;
    let timeout = match fields.get("timeout") {
        Some(timeout) => wait(&timeout),
        None => Some(COMMAND_TIMEOUT),
    };
    let argv = argv(&fields.get("command")?);
    Some(Command::new(argv?, timeout?))
}

fn argv(cursor: &Cursor<'_>) -> Option<Vec<String>> {
    match &cursor.node().value {
        Value::List(items) => {
            if items.is_empty() {
                cursor.refuse("a command has at least the program's name");
                return None;
            }
            let argv: Vec<String> = cursor
                .items()?
                .iter()
                .enumerate()
                .filter_map(|(index, item)| {
                    let text = if index == 0 {
                        item.nonempty()
                    } else {
                        item.text()
                    }?;
                    argument(item, text)
                })
                .collect();
            (argv.len() == items.len()).then_some(argv)
        }
        Value::Null | Value::Map(_) => {
            cursor.refuse(format!(
                "a command is expected here: a list of program and arguments, or one text for a \
                 shell, not {}",
                cursor.node().value.kind()
            ));
            None
        }
        _ => {
            let script = argument(cursor, cursor.nonempty()?)?;
            Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), script])
        }
    }
}

fn argument(cursor: &Cursor<'_>, text: &str) -> Option<String> {
    if !text.is_ascii() {
        cursor.refuse("arguments are ASCII: the Proxmox API mangles anything else");
        return None;
    }
    if text.contains('\0') {
        cursor.refuse("no argument has a NUL character");
        return None;
    }
    Some(text.to_owned())
}
