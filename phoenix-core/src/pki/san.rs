//! Subject alternative names: parsed once, at the edge, and typed from there on.
//!
//! What a text is follows from its shape alone: `scheme://…` is a URI, `…@…` an e-mail address,
//! what parses as an IP address is one, and everything else must be a DNS name as a TLS client
//! would look it up. There is no fallback: a text that is none of these is refused with what is
//! wrong with it, because a certificate with a name that nothing matches fails much later.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use rustls_pki_types::ServerName;

/// Octets of the longest DNS name (RFC 1035), without a trailing dot.
const LONGEST_NAME: usize = 253;
/// Octets of the longest label of a DNS name (RFC 1035).
const LONGEST_LABEL: usize = 63;
/// Octets of the longest local part of an e-mail address (RFC 5321).
const LONGEST_LOCAL_PART: usize = 64;
/// Octets of the longest e-mail address: a path of RFC 5321 without its angle brackets.
const LONGEST_EMAIL: usize = 254;

/// One subject alternative name of a certificate.
///
/// `Display` and `FromStr` are inverse to each other for every value that `FromStr` gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SubjectAltName {
    /// A DNS name in lower-case A-labels; the leftmost label may be `*`.
    Dns(String),
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// An e-mail address; its domain is in lower-case A-labels.
    Email(String),
    /// A URI, as it was written.
    Uri(String),
}

/// Why a text is no subject alternative name. [`SanError::suggestion`] has what was probably
/// meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SanError {
    /// The text is empty.
    #[error("an empty subject alternative name")]
    Empty,
    /// The text has white space or control characters in it.
    #[error("{text:?} has white space or a control character in it")]
    Blank {
        /// What was parsed.
        text: String,
    },
    /// The text lists several names.
    #[error("`{text}` lists several names: write one name per entry")]
    Several {
        /// What was parsed.
        text: String,
    },
    /// The text starts with the kind of name, as OpenSSL's configuration wants it.
    #[error("`{text}` starts with `{prefix}`: write the name alone, its kind follows from it")]
    Prefixed {
        /// What was parsed.
        text: String,
        /// The prefix with its colon.
        prefix: String,
    },
    /// The text ends in a port.
    #[error("`{text}` has a port: a certificate names a host, on every port")]
    Port {
        /// What was parsed.
        text: String,
        /// The text without the port.
        host: String,
    },
    /// An IPv6 address in brackets.
    #[error("`{text}` has brackets: write an IPv6 address without them")]
    Brackets {
        /// What was parsed.
        text: String,
    },
    /// A network instead of an address.
    #[error("`{text}` is a network: a certificate names single addresses")]
    Network {
        /// What was parsed.
        text: String,
    },
    /// An IPv6 address with a zone, which only means something on one machine.
    #[error("`{text}` has a zone index, which a certificate cannot name")]
    Zone {
        /// What was parsed.
        text: String,
    },
    /// Looks like an IP address without being one.
    #[error("`{text}` looks like an IP address but is none")]
    NotAnAddress {
        /// What was parsed.
        text: String,
    },
    /// A dot at the end.
    #[error("`{text}` ends in a dot, which names in certificates do not have")]
    TrailingDot {
        /// What was parsed.
        text: String,
    },
    /// Nothing before, after or between dots.
    #[error("`{text}` has an empty label")]
    EmptyLabel {
        /// What was parsed.
        text: String,
    },
    /// A label of more than 63 octets.
    #[error("`{text}` has a label of {length} octets; {LONGEST_LABEL} are allowed")]
    LabelTooLong {
        /// What was parsed.
        text: String,
        /// The label's octets, as A-label.
        length: usize,
    },
    /// A name of more than 253 octets.
    #[error("`{text}` has {length} octets; {LONGEST_NAME} are allowed")]
    NameTooLong {
        /// What was parsed.
        text: String,
        /// The name's octets, in A-labels.
        length: usize,
    },
    /// A label that starts or ends with a hyphen.
    #[error("`{text}` has the label `{label}`, which starts or ends with a hyphen")]
    Hyphen {
        /// What was parsed.
        text: String,
        /// The label.
        label: String,
    },
    /// A character that the name cannot have.
    #[error("`{text}` has `{character}` in it, which its kind of name cannot have")]
    Character {
        /// What was parsed.
        text: String,
        /// The first such character.
        character: char,
    },
    /// A `*` that is not the whole leftmost label, or nothing but a `*`.
    #[error("`{text}` has a `*` that is not the whole first label of a longer name")]
    Wildcard {
        /// What was parsed.
        text: String,
    },
    /// An internationalised name that the rules of IDNA do not allow.
    #[error("`{text}` is no valid internationalised domain name")]
    Idna {
        /// What was parsed.
        text: String,
    },
    /// Has an `@` without being an e-mail address.
    #[error("`{text}` is no e-mail address: {problem}")]
    Email {
        /// What was parsed.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Has a `://` without being a URI.
    #[error("`{text}` is no URI that a certificate can name: {problem}")]
    Uri {
        /// What was parsed.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl SanError {
    /// The text that was refused.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Empty => "",
            Self::Blank { text }
            | Self::Several { text }
            | Self::Prefixed { text, .. }
            | Self::Port { text, .. }
            | Self::Brackets { text }
            | Self::Network { text }
            | Self::Zone { text }
            | Self::NotAnAddress { text }
            | Self::TrailingDot { text }
            | Self::EmptyLabel { text }
            | Self::LabelTooLong { text, .. }
            | Self::NameTooLong { text, .. }
            | Self::Hyphen { text, .. }
            | Self::Character { text, .. }
            | Self::Wildcard { text }
            | Self::Idna { text }
            | Self::Email { text, .. }
            | Self::Uri { text, .. } => text,
        }
    }

    /// What was probably meant, when that is itself valid: one name, or several separated by
    /// `, ` where one entry listed several.
    #[must_use]
    pub fn suggestion(&self) -> Option<String> {
        let valid = |text: String| {
            text.parse::<SubjectAltName>()
                .ok()
                .map(|name| name.to_string())
        };
        let each_valid = |parts: Vec<&str>| {
            let names: Option<Vec<_>> = parts
                .into_iter()
                .filter(|part| !part.is_empty())
                .map(|part| match part.parse::<SubjectAltName>() {
                    Ok(name) => Some(name.to_string()),
                    // Lists are often copied from OpenSSL's configuration, prefixes and all.
                    Err(error @ Self::Prefixed { .. }) => error.suggestion(),
                    Err(_) => None,
                })
                .collect();
            names
                .filter(|names| !names.is_empty())
                .map(|names| names.join(", "))
        };
        match self {
            Self::Blank { text } => each_valid(text.split(is_blank).collect()),
            Self::Several { text } => each_valid(
                text.split(|c: char| is_separator(c) || is_blank(c))
                    .collect(),
            ),
            Self::Prefixed { text, prefix } => {
                let rest = &text[prefix.len()..];
                match rest.parse::<SubjectAltName>() {
                    Ok(name) => Some(name.to_string()),
                    Err(error) => error.suggestion(),
                }
            }
            Self::Port { host, .. } => valid(host.clone()),
            Self::Brackets { text } => valid(text.replace(['[', ']'], "")),
            Self::Network { text } => valid(text.split('/').next().unwrap_or_default().to_owned()),
            Self::Zone { text } => valid(text.split('%').next().unwrap_or_default().to_owned()),
            Self::TrailingDot { text } => valid(text.trim_end_matches('.').to_owned()),
            Self::Character {
                text,
                character: '_',
            } => valid(text.replace('_', "-")),
            _ => None,
        }
    }
}

fn is_blank(character: char) -> bool {
    character.is_whitespace() || character.is_control()
}

fn is_separator(character: char) -> bool {
    matches!(character, ',' | ';')
}

impl FromStr for SubjectAltName {
    type Err = SanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let owned = || text.to_owned();
        if text.is_empty() {
            return Err(SanError::Empty);
        }
        if text.contains(is_separator) {
            return Err(SanError::Several { text: owned() });
        }
        if text.contains(is_blank) {
            return Err(SanError::Blank { text: owned() });
        }
        if let Some(prefix) = prefix(text) {
            return Err(SanError::Prefixed {
                text: owned(),
                prefix: prefix.to_owned(),
            });
        }
        if text.contains("://") {
            return uri(text).map(Self::Uri);
        }
        if text.contains('@') {
            return email(text).map(Self::Email);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        refuse_address_look_alikes(text)?;
        match text.strip_prefix("*.") {
            Some(parent) => {
                let name = format!("*.{}", dns_name(parent, text)?);
                // The parent alone was within the limit.
                if name.len() > LONGEST_NAME {
                    return Err(SanError::NameTooLong {
                        text: owned(),
                        length: name.len(),
                    });
                }
                Ok(Self::Dns(name))
            }
            None => Ok(Self::Dns(dns_name(text, text)?)),
        }
    }
}

impl fmt::Display for SubjectAltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Email(name) | Self::Uri(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl serde::Serialize for SubjectAltName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The kind that `text` starts with, as OpenSSL's configuration and other tools write it.
fn prefix(text: &str) -> Option<&str> {
    const KINDS: [&str; 9] = [
        "dns",
        "ip",
        "ipaddress",
        "email",
        "mailto",
        "uri",
        "url",
        "rid",
        "dirname",
    ];
    let (kind, rest) = text.split_once([':', '='])?;
    let prefix = &text[..=kind.len()];
    // `uri://x` is a URI with an odd scheme, and `dns:53` a host called dns with a port.
    let other = rest.starts_with("//")
        || (prefix.ends_with(':') && !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    (!other && KINDS.contains(&kind.to_ascii_lowercase().as_str())).then_some(prefix)
}

fn uri(text: &str) -> Result<String, SanError> {
    let refuse = |problem| SanError::Uri {
        text: text.to_owned(),
        problem,
    };
    if !text.is_ascii() {
        return Err(refuse("write what is not ASCII percent-encoded"));
    }
    if let Some(character) = text.chars().find(|c| "\"<>\\^`{|}*".contains(*c)) {
        return Err(SanError::Character {
            text: text.to_owned(),
            character,
        });
    }
    // A URL parser passes these over (RFC 3986 section 2.1 has none), and readers differ on them.
    let well_escaped = text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !well_escaped {
        return Err(refuse(
            "a percent-escape in it is not `%` and two hexadecimal digits",
        ));
    }
    let parsed = url::Url::parse(text).map_err(|_| refuse("it does not parse"))?;
    // RFC 5280 section 4.2.1.6: a URI with an authority names a host in it.
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err(refuse("it names no host"));
    }
    if parsed.password().is_some() {
        return Err(refuse("it has a password in it"));
    }
    Ok(text.to_owned())
}

fn email(text: &str) -> Result<String, SanError> {
    let refuse = |problem| SanError::Email {
        text: text.to_owned(),
        problem,
    };
    let (local, domain) = text.split_once('@').unwrap_or((text, ""));
    if domain.contains('@') {
        return Err(refuse("more than one `@`"));
    }
    if local.is_empty() {
        return Err(refuse("nothing before the `@`"));
    }
    if domain.is_empty() {
        return Err(refuse("nothing after the `@`"));
    }
    if local.len() > LONGEST_LOCAL_PART {
        return Err(refuse("more than 64 octets before the `@`"));
    }
    // The dot-atom of RFC 5322: quoted local parts exist, but no certificate here needs one.
    if local.split('.').any(str::is_empty) {
        return Err(refuse("a dot too many before the `@`"));
    }
    if let Some(character) = local
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !".!#$%&'*+-/=?^_`{|}~".contains(*c))
    {
        return Err(SanError::Character {
            text: text.to_owned(),
            character,
        });
    }
    let address = format!("{local}@{}", dns_name(domain, text)?);
    if address.len() > LONGEST_EMAIL {
        return Err(refuse("more than 254 octets"));
    }
    Ok(address)
}

/// Refuses what was meant as an address, or as a host with something around it, and is no name.
fn refuse_address_look_alikes(text: &str) -> Result<(), SanError> {
    let owned = || text.to_owned();
    if let Some(inside) = text.strip_prefix('[') {
        let port = inside
            .split_once("]:")
            .filter(|(_, port)| is_port(port))
            .map(|(host, _)| host.to_owned());
        return Err(match port {
            Some(host) => SanError::Port {
                text: owned(),
                host,
            },
            None => SanError::Brackets { text: owned() },
        });
    }
    if let Some((address, _)) = text.split_once('/')
        && address.parse::<IpAddr>().is_ok()
    {
        return Err(SanError::Network { text: owned() });
    }
    if let Some((address, _)) = text.split_once('%')
        && address.parse::<Ipv6Addr>().is_ok()
    {
        return Err(SanError::Zone { text: owned() });
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        return Err(if !host.contains(':') && is_port(port) {
            SanError::Port {
                text: owned(),
                host: host.to_owned(),
            }
        } else if text
            .chars()
            .all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'))
        {
            SanError::NotAnAddress { text: owned() }
        } else {
            SanError::Character {
                text: owned(),
                character: ':',
            }
        });
    }
    Ok(())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether URLs have a last label like this for a number: decimal, or hexadecimal after `0x`.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// `name` in lower-case A-labels. `text` is what an error quotes.
fn dns_name(name: &str, text: &str) -> Result<String, SanError> {
    let owned = || text.to_owned();
    if name.contains('*') {
        return Err(SanError::Wildcard { text: owned() });
    }
    if name.len() > 1 && name.ends_with('.') && !name.ends_with("..") {
        return Err(SanError::TrailingDot { text: owned() });
    }
    let name = if name.is_ascii() {
        name.to_ascii_lowercase()
    } else {
        // What is wrong with the ASCII in it is better said by the checks below.
        idna::domain_to_ascii(name).map_err(|_| SanError::Idna { text: owned() })?
    };
    if let Some(character) = name
        .chars()
        .find(|c| !c.is_ascii_lowercase() && !c.is_ascii_digit() && !matches!(c, '-' | '.'))
    {
        return Err(SanError::Character {
            text: owned(),
            character,
        });
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(SanError::EmptyLabel { text: owned() });
        }
        if label.len() > LONGEST_LABEL {
            return Err(SanError::LabelTooLong {
                text: owned(),
                length: label.len(),
            });
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(SanError::Hyphen {
                text: owned(),
                label: label.to_owned(),
            });
        }
    }
    if name.len() > LONGEST_NAME {
        return Err(SanError::NameTooLong {
            text: owned(),
            length: name.len(),
        });
    }
    // No top-level domain is a number (RFC 3696), and clients take such a name for an address.
    if name.rsplit('.').next().is_some_and(is_number) {
        return Err(SanError::NotAnAddress { text: owned() });
    }
    let has_a_label = name.split('.').any(|label| label.starts_with("xn--"));
    if has_a_label && idna::domain_to_ascii(&name).ok().as_ref() != Some(&name) {
        return Err(SanError::Idna { text: owned() });
    }
    Ok(name)
}

impl SubjectAltName {
    /// Whether a certificate with this name is valid for `name`, as TLS clients match
    /// (RFC 6125): a wildcard stands for exactly one label, and covers itself.
    #[must_use]
    pub fn covers(&self, name: &Self) -> bool {
        if self == name {
            return true;
        }
        match (self, name) {
            (Self::Dns(pattern), Self::Dns(name)) => pattern
                .strip_prefix("*.")
                .zip(name.split_once('.'))
                .is_some_and(|(parent, (first, rest))| first != "*" && parent == rest),
            _ => false,
        }
    }

    /// Whether this is a DNS name with a wildcard.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.starts_with("*."))
    }

    /// What to warn the operator of though the name is valid; `None` nearly always.
    ///
    /// OpenSSL, NSS and rustls match a wildcard only where at least two labels follow it, so
    /// that `*.lan` works with clients written in Go and with few others.
    #[must_use]
    pub fn caveat(&self) -> Option<String> {
        match self {
            Self::Dns(name) if self.is_wildcard() && name.matches('.').count() == 1 => {
                Some(format!(
                    "most TLS clients (OpenSSL, NSS, rustls) never match `{name}`: they want two \
                     labels after the `*`"
                ))
            }
            _ => None,
        }
    }

    /// This name as a TLS client asks for it; `None` for a wildcard, an e-mail address or a URI,
    /// which no client asks for.
    #[must_use]
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        match self {
            Self::Dns(name) => ServerName::try_from(name.clone()).ok(),
            Self::Ip(address) => Some(ServerName::from(*address)),
            Self::Email(_) | Self::Uri(_) => None,
        }
    }

    /// `names` in their order without repetitions.
    #[must_use]
    pub fn normalize(names: Vec<Self>) -> Vec<Self> {
        names
            .into_iter()
            .collect::<indexmap::IndexSet<_>>()
            .into_iter()
            .collect()
    }
}

/// How two sets of names differ. Shown as `-removed +added`.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct SanDifference {
    /// Names that are there and should not be, sorted.
    pub removed: Vec<SubjectAltName>,
    /// Names that should be there and are not, sorted.
    pub added: Vec<SubjectAltName>,
}

impl SanDifference {
    /// What leads from the set `have` to the set `want`; order and repetition do not matter.
    #[must_use]
    pub fn between(have: &[SubjectAltName], want: &[SubjectAltName]) -> Self {
        let less = |from: &[SubjectAltName], other: &[SubjectAltName]| {
            let mut names: Vec<_> = from
                .iter()
                .filter(|name| !other.contains(name))
                .cloned()
                .collect();
            names.sort();
            names.dedup();
            names
        };
        Self {
            removed: less(have, want),
            added: less(want, have),
        }
    }

    /// Whether the sets are equal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

impl fmt::Display for SanDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = self.removed.iter().map(|name| format!("-{name}"));
        let added = self.added.iter().map(|name| format!("+{name}"));
        f.write_str(&removed.chain(added).collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
#[path = "san_tests.rs"]
mod tests;
