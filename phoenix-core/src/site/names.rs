//! What names in the site file may look like.

use crate::ground::Fingerprint;

/// What a name may look like.
pub(super) struct NameRule {
    /// The rule in words, completing "must be".
    pub(super) words: &'static str,
    /// The rule as a regular expression (ECMA-262).
    pub(super) pattern: &'static str,
    /// The most characters.
    pub(super) longest: usize,
    /// Characters allowed beside ASCII letters and digits, anywhere but at the ends.
    pub(super) inside: &'static str,
    /// Of the former, those that may be at the beginning.
    pub(super) first: &'static str,
    /// Of the former, those that may be at the end.
    pub(super) last: &'static str,
    /// Whether upper-case letters are allowed.
    pub(super) upper: bool,
    /// Whether a digit may be at the beginning.
    pub(super) digit_first: bool,
}

impl NameRule {
    /// Whether `name` follows the rule.
    pub(super) fn allows(&self, name: &str) -> bool {
        let letter = |c: char| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || (self.upper && c.is_ascii_uppercase())
        };
        let (Some(first), Some(last)) = (name.chars().next(), name.chars().next_back()) else {
            return false;
        };
        name.len() <= self.longest
            && name.chars().all(|c| letter(c) || self.inside.contains(c))
            && (letter(first) || self.first.contains(first))
            && (letter(last) || self.last.contains(last))
            && (self.digit_first || !first.is_ascii_digit())
    }
}

/// Lower case, so that it can stand in labels, names and domains alike; short enough for the
/// default common name of the site's CA.
pub(super) static SITE_NAME: NameRule = NameRule {
    words: "at most 48 lower-case letters, digits and inner `-`",
    pattern: "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
    longest: 48,
    inside: "-",
    first: "",
    last: "",
    upper: false,
    digit_first: true,
};
pub(super) static HOST_NAME: NameRule = NameRule {
    words: "at most 63 letters, digits and inner `-` and `.`",
    pattern: "^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$",
    longest: 63,
    inside: "-.",
    first: "",
    last: "",
    upper: true,
    digit_first: true,
};
pub(super) static PLAIN_NAME: NameRule = NameRule {
    words: "at most 63 letters, digits and inner `-`, `_` and `.`",
    pattern: "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
    longest: 63,
    inside: "-_.",
    first: "",
    last: "",
    upper: true,
    digit_first: true,
};
/// The real name in Docker, at most 64 characters, also carries `-` and a fingerprint.
pub(super) static SECRET_NAME: NameRule = NameRule {
    words: "at most 47 letters, digits and inner `-`, `_` and `.`",
    pattern: "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
    longest: 64 - 1 - Fingerprint::LEN,
    inside: "-_.",
    first: "",
    last: "",
    upper: true,
    digit_first: true,
};
pub(super) static STACK_NAME: NameRule = NameRule {
    words: "at most 48 letters, digits, `-` and `_`, beginning with a letter or digit",
    pattern: "^[A-Za-z0-9][A-Za-z0-9_-]*$",
    longest: 48,
    inside: "-_",
    first: "",
    last: "-_",
    upper: true,
    digit_first: true,
};
pub(super) static REGISTRY_NAME: NameRule = NameRule {
    words: "a registry's host, with its port where it has one",
    pattern: "^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$",
    longest: 255,
    inside: "-.:",
    first: "",
    last: "",
    upper: true,
    digit_first: true,
};
pub(super) static VARIABLE_NAME: NameRule = NameRule {
    words: "letters, digits and `_`, not beginning with a digit",
    pattern: "^[A-Za-z_][A-Za-z0-9_]*$",
    longest: 255,
    inside: "_",
    first: "_",
    last: "_",
    upper: true,
    digit_first: false,
};
pub(super) static ACCOUNT_NAME: NameRule = NameRule {
    words: "a user's or group's name or number",
    pattern: "^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_-])?$",
    longest: 32,
    inside: "-_.",
    first: "_",
    last: "_-",
    upper: true,
    digit_first: true,
};
