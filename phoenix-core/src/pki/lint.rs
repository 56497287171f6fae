//! Whether a certificate keeps to the rules that clients may hold it to.
//!
//! The rules are those of RFC 5280 for the certificate alone, and those of the CA/Browser
//! Forum's Baseline Requirements that make sense for a private CA. Nothing is verified here: a
//! chain, a signature, a purpose at a time are for [`Bundle::check`](super::Bundle::check). Each
//! finding names the clause that it follows from, so that an operator can look it up.

use std::fmt;
use std::net::IpAddr;

use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{
    BasicConstraints, ExtendedKeyUsage, GeneralName, KeyUsage, ParsedExtension,
    SubjectAlternativeName,
};
use x509_parser::oid_registry::{self, Oid};
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use super::observed::{self, CertificateError};
use super::request::LONGEST_COMMON_NAME;
use super::san::SubjectAltName;

/// Octets of the longest serial number.
const LONGEST_SERIAL: usize = 20;
/// Octets that a serial number of 64 random bits has, or one more.
const SHORTEST_SERIAL: usize = 8;
/// Bits of the smallest RSA key.
const SMALLEST_RSA: usize = 2048;
/// The longest that Apple's clients let a server's certificate be valid, under a private root
/// too.
const LONGEST_SERVER_LIFETIME: time::Duration = time::Duration::days(825);

/// How bad it is to break a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LintSeverity {
    /// What RFC 5280 only advises, or asks of public CAs only; some clients care.
    Warning,
    /// What RFC 5280 demands, or without which clients refuse the certificate.
    Error,
}

impl fmt::Display for LintSeverity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Lists the rules: what they say, their severity, name and clause.
macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $rule:ident: $severity:ident, $name:literal, $clause:literal;)+) => {
        /// A rule that a certificate may break.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum LintRule {
            $($(#[doc = $doc])+ $rule,)+
        }

        impl LintRule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$rule),+];

            /// Its name, in lower case with hyphens.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$rule => $name,)+ }
            }

            /// Where it is written: a section of RFC 5280 unless something else is named.
            #[must_use]
            pub fn clause(self) -> &'static str {
                match self { $(Self::$rule => $clause,)+ }
            }

            /// How bad it is to break it.
            #[must_use]
            pub fn severity(self) -> LintSeverity {
                match self { $(Self::$rule => LintSeverity::$severity,)+ }
            }
        }
    };
}

rules! {
    /// The certificate is of version 3, as one with extensions must be.
    Version: Error, "version", "RFC 5280 section 4.1.2.1";
    /// The serial number is positive.
    SerialPositive: Error, "serial-positive", "RFC 5280 section 4.1.2.2";
    /// The serial number has at most 20 octets.
    SerialLength: Error, "serial-length", "RFC 5280 section 4.1.2.2";
    /// The serial number has room for 64 random bits.
    SerialEntropy: Warning, "serial-entropy", "CA/B BR section 7.1";
    /// The algorithms within and beside what is signed are the same.
    SignatureAlgorithmsEqual: Error, "signature-algorithms-equal", "RFC 5280 section 4.1.1.2";
    /// It is signed by ECDSA or RSA with SHA-256, SHA-384 or SHA-512, or by Ed25519.
    SignatureAlgorithm: Error, "signature-algorithm", "CA/B BR section 7.1.3.2";
    /// The issuer has a name.
    IssuerNamed: Error, "issuer-named", "RFC 5280 section 4.1.2.4";
    /// Validity does not end before it begins.
    ValidityOrder: Error, "validity-order", "RFC 5280 section 4.1.2.5";
    /// Times are UTCTime through 2049 and GeneralizedTime from then on.
    ValidityEncoding: Error, "validity-encoding", "RFC 5280 section 4.1.2.5";
    /// A server's certificate is valid for at most 825 days.
    ServerLifetime: Warning, "server-lifetime", "Apple HT210176";
    /// The common name has at most 64 characters.
    CommonNameLength: Error, "common-name-length", "RFC 5280 appendix A.1";
    /// The common name of a server is one of its subject alternative names.
    CommonNameAmongSans: Warning, "common-name-among-sans", "CA/B BR section 7.1.4.3";
    /// RSA keys have at least 2048 bits, and elliptic ones are on P-256, P-384, P-521 or
    /// Ed25519's curve.
    KeyStrength: Error, "key-strength", "CA/B BR section 6.1.5";
    /// No extension is there twice.
    ExtensionOnce: Error, "extension-once", "RFC 5280 section 4.2";
    /// Extensions that RFC 5280 defines have the content that it defines.
    ExtensionContent: Error, "extension-content", "RFC 5280 section 4.2.1";
    /// No extension that clients do not know is critical: they would refuse the certificate.
    ExtensionUnknownCritical: Error, "extension-unknown-critical", "RFC 5280 section 4.2";
    /// A CA says that it is one in a critical extension.
    BasicConstraintsCritical: Error, "basic-constraints-critical", "RFC 5280 section 4.2.1.9";
    /// Only a CA limits the length of the path below it.
    PathLengthOnCa: Error, "path-length-on-ca", "RFC 5280 section 4.2.1.9";
    /// A CA, and a leaf too, says what its key is for.
    KeyUsagePresent: Error, "key-usage-present", "RFC 5280 section 4.2.1.3";
    /// The key usage is critical.
    KeyUsageCritical: Warning, "key-usage-critical", "RFC 5280 section 4.2.1.3";
    /// The key of a CA signs certificates, and no other key does.
    KeyUsageOfCa: Error, "key-usage-of-ca", "RFC 5280 section 4.2.1.3";
    /// The key of a leaf signs, or, where it is RSA, deciphers keys: TLS needs it.
    KeyUsageForTls: Error, "key-usage-for-tls", "RFC 5280 section 4.2.1.12";
    /// A key is not for what its algorithm cannot do: only RSA deciphers keys.
    KeyUsageOfAlgorithm: Error, "key-usage-of-algorithm", "RFC 8813 section 3, RFC 8410 section 5";
    /// A leaf says which purposes it is for.
    ExtendedKeyUsagePresent: Error, "extended-key-usage-present", "CA/B BR section 7.1.2.7.10";
    /// No purpose is just any.
    ExtendedKeyUsageAny: Warning, "extended-key-usage-any", "CA/B BR section 7.1.2.7.10";
    /// The purposes are not critical.
    ExtendedKeyUsageCritical: Warning, "extended-key-usage-critical", "CA/B BR section 7.1.2.7.6";
    /// A server, and a leaf without a subject, has subject alternative names.
    SansPresent: Error, "sans-present", "RFC 5280 section 4.1.2.6, RFC 9525 section 2";
    /// The names are critical where there is no subject: they are all there is.
    SansCritical: Error, "sans-critical", "RFC 5280 section 4.2.1.6";
    /// The names are not critical where there is a subject.
    SansNotCritical: Warning, "sans-not-critical", "RFC 5280 section 4.2.1.6";
    /// DNS names are in the preferred syntax, in A-labels, with at most a leading wildcard.
    DnsNameSyntax: Error, "dns-name-syntax", "RFC 5280 section 4.2.1.6";
    /// Addresses have 4 or 16 octets; e-mail addresses and URIs are some.
    SanSyntax: Error, "san-syntax", "RFC 5280 section 4.2.1.6";
    /// The key that signed is identified, except where it is the certificate's own.
    AuthorityKeyIdPresent: Error, "authority-key-id-present", "RFC 5280 section 4.2.1.1";
    /// The identifier of the key that signed is not critical.
    AuthorityKeyIdNotCritical: Error, "authority-key-id-not-critical", "RFC 5280 section 4.2.1.1";
    /// A CA identifies its key.
    SubjectKeyIdPresent: Error, "subject-key-id-present", "RFC 5280 section 4.2.1.2";
    /// A leaf identifies its key.
    SubjectKeyIdOfLeaf: Warning, "subject-key-id-of-leaf", "RFC 5280 section 4.2.1.2";
    /// The identifier of the key is not critical.
    SubjectKeyIdNotCritical: Error, "subject-key-id-not-critical", "RFC 5280 section 4.2.1.2";
}

impl fmt::Display for LintRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A rule that a certificate breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LintFinding {
    /// The rule.
    pub rule: LintRule,
    /// What is there instead of what should be, readable.
    pub problem: String,
}

impl fmt::Display for LintFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} ({}, {})",
            self.rule.severity(),
            self.problem,
            self.rule,
            self.rule.clause()
        )
    }
}

/// The rules that the certificate with this DER breaks, in the order of [`LintRule`]; none for a
/// good one. Whether it is a CA, a server or a client follows from what it says.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use phoenix_core::pki::{LintRule, lint};
///
/// # let key = rcgen::KeyPair::generate()?;
/// # let der = rcgen::CertificateParams::new(["my_host.lan".to_owned()])?.self_signed(&key)?;
/// let findings = lint(der.der())?;
/// assert!(findings.iter().any(|finding| finding.rule == LintRule::DnsNameSyntax));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`CertificateError::Malformed`] when it is no certificate at all.
pub fn lint(der: &[u8]) -> Result<Vec<LintFinding>, CertificateError> {
    let certificate = observed::parse(der)?;
    let mut lint = Lint {
        extensions: Extensions::of(&certificate),
        certificate: &certificate,
        findings: Vec::new(),
    };
    lint.fields();
    lint.names();
    lint.key();
    lint.extensions();
    lint.constraints();
    lint.key_usage();
    lint.purposes();
    lint.sans();
    lint.key_ids();
    let mut findings = lint.findings;
    findings.sort_by_key(|finding| finding.rule);
    Ok(findings)
}

/// An extension that has been read, and whether it is critical.
type Read<'a, T> = Option<(&'a T, bool)>;

/// The first of each extension that the rules are about.
#[derive(Default)]
struct Extensions<'a> {
    constraints: Read<'a, BasicConstraints>,
    key_usage: Read<'a, KeyUsage>,
    purposes: Read<'a, ExtendedKeyUsage<'a>>,
    sans: Read<'a, SubjectAlternativeName<'a>>,
    /// Whether it holds a key identifier.
    authority_key_id: Read<'a, Option<x509_parser::extensions::KeyIdentifier<'a>>>,
    subject_key_id: Read<'a, x509_parser::extensions::KeyIdentifier<'a>>,
}

impl<'a> Extensions<'a> {
    fn of(certificate: &'a X509Certificate<'a>) -> Self {
        let mut all = Self::default();
        for extension in certificate.extensions() {
            let critical = extension.critical;
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(value) => {
                    all.constraints.get_or_insert((value, critical));
                }
                ParsedExtension::KeyUsage(value) => {
                    all.key_usage.get_or_insert((value, critical));
                }
                ParsedExtension::ExtendedKeyUsage(value) => {
                    all.purposes.get_or_insert((value, critical));
                }
                ParsedExtension::SubjectAlternativeName(value) => {
                    all.sans.get_or_insert((value, critical));
                }
                ParsedExtension::AuthorityKeyIdentifier(value) => {
                    all.authority_key_id
                        .get_or_insert((&value.key_identifier, critical));
                }
                ParsedExtension::SubjectKeyIdentifier(value) => {
                    all.subject_key_id.get_or_insert((value, critical));
                }
                _ => {}
            }
        }
        all
    }
}

struct Lint<'a> {
    certificate: &'a X509Certificate<'a>,
    extensions: Extensions<'a>,
    findings: Vec<LintFinding>,
}

impl Lint<'_> {
    fn find(&mut self, rule: LintRule, problem: impl Into<String>) {
        self.findings.push(LintFinding {
            rule,
            problem: problem.into(),
        });
    }

    fn is_ca(&self) -> bool {
        self.extensions
            .constraints
            .is_some_and(|(constraints, _)| constraints.ca)
    }

    fn is_server(&self) -> bool {
        !self.is_ca()
            && self
                .extensions
                .purposes
                .is_some_and(|(purposes, _)| purposes.server_auth || purposes.any)
    }

    fn has_subject(&self) -> bool {
        self.certificate.subject().iter_rdn().next().is_some()
    }

    /// Version, serial number, signature algorithms and validity.
    fn fields(&mut self) {
        let certificate = self.certificate;
        if certificate.version() != X509Version::V3 {
            self.find(
                LintRule::Version,
                format!("its version is {}, not 3", certificate.version().0 + 1),
            );
        }
        let serial = certificate.raw_serial();
        let negative = serial.first().is_some_and(|first| first & 0x80 != 0);
        if negative || serial.iter().all(|octet| *octet == 0) {
            let kind = if negative { "negative" } else { "zero" };
            self.find(
                LintRule::SerialPositive,
                format!("its serial number is {kind}"),
            );
        }
        let length = serial.len();
        if length > LONGEST_SERIAL {
            self.find(
                LintRule::SerialLength,
                format!("its serial number has {length} octets; {LONGEST_SERIAL} are allowed"),
            );
        }
        if length < SHORTEST_SERIAL {
            self.find(
                LintRule::SerialEntropy,
                format!("its serial number has {length} octets, too few for 64 random bits"),
            );
        }
        let (outer, inner) = (
            &certificate.signature_algorithm,
            &certificate.tbs_certificate.signature,
        );
        if outer != inner {
            self.find(
                LintRule::SignatureAlgorithmsEqual,
                format!(
                    "it says that it is signed by {}, and is by {}",
                    inner.algorithm, outer.algorithm
                ),
            );
        }
        if !is_strong(&outer.algorithm) {
            self.find(
                LintRule::SignatureAlgorithm,
                format!(
                    "it is signed by {}, which is weak or unknown",
                    outer.algorithm
                ),
            );
        }
        self.validity();
    }

    fn validity(&mut self) {
        let validity = self.certificate.validity();
        let (first, last) = (validity.not_before, validity.not_after);
        for (time, which) in [(first, "beginning"), (last, "end")] {
            let late = time.to_datetime().year() >= 2050;
            if late != time.is_generalizedtime() {
                let encoding = if late { "UTCTime" } else { "GeneralizedTime" };
                self.find(
                    LintRule::ValidityEncoding,
                    format!("the {which} of its validity is a {encoding}"),
                );
            }
        }
        if last < first {
            self.find(
                LintRule::ValidityOrder,
                "its validity ends before it begins",
            );
        }
        let lifetime = span(first, last);
        if self.is_server() && lifetime > LONGEST_SERVER_LIFETIME {
            self.find(
                LintRule::ServerLifetime,
                format!(
                    "a server's certificate is valid for {} days; some clients allow {}",
                    lifetime.whole_days(),
                    LONGEST_SERVER_LIFETIME.whole_days()
                ),
            );
        }
    }

    /// Issuer and subject.
    fn names(&mut self) {
        if self.certificate.issuer().iter_rdn().next().is_none() {
            self.find(LintRule::IssuerNamed, "its issuer has no name");
        }
        for name in self.certificate.subject().iter_common_name() {
            let Ok(name) = name.as_str() else {
                continue;
            };
            let length = name.chars().count();
            if length > LONGEST_COMMON_NAME {
                self.find(
                    LintRule::CommonNameLength,
                    format!(
                        "its common name has {length} characters; {LONGEST_COMMON_NAME} are \
                         allowed"
                    ),
                );
            }
            if self.is_server() && !self.names_contain(name) {
                self.find(
                    LintRule::CommonNameAmongSans,
                    format!(
                        "its common name {name:?} is none of its subject alternative names, which \
                         alone clients look at"
                    ),
                );
            }
        }
    }

    fn names_contain(&self, common_name: &str) -> bool {
        let Some((sans, _)) = self.extensions.sans else {
            // That there are none is a finding of its own.
            return true;
        };
        sans.general_names.iter().any(|name| match name {
            GeneralName::DNSName(name) => name.eq_ignore_ascii_case(common_name),
            GeneralName::RFC822Name(name) | GeneralName::URI(name) => *name == common_name,
            GeneralName::IPAddress(octets) => common_name
                .parse::<IpAddr>()
                .is_ok_and(|address| observed::address(octets) == Some(address)),
            _ => false,
        })
    }

    fn key(&mut self) {
        if let Some(problem) = weakness(self.certificate.public_key()) {
            self.find(LintRule::KeyStrength, problem);
        }
    }

    /// What holds for every extension.
    fn extensions(&mut self) {
        let mut seen: Vec<&Oid<'_>> = Vec::new();
        for extension in self.certificate.extensions() {
            if seen.contains(&&extension.oid) {
                self.find(
                    LintRule::ExtensionOnce,
                    format!("its extension {} is there twice", extension.oid),
                );
            }
            seen.push(&extension.oid);
            match extension.parsed_extension() {
                ParsedExtension::ParseError { .. } => self.find(
                    LintRule::ExtensionContent,
                    format!("its extension {} is malformed", extension.oid),
                ),
                ParsedExtension::SubjectAlternativeName(names)
                    if names.general_names.is_empty() =>
                {
                    self.find(
                        LintRule::ExtensionContent,
                        "its subject alternative names are an empty list",
                    );
                }
                ParsedExtension::UnsupportedExtension { .. } if extension.critical => self.find(
                    LintRule::ExtensionUnknownCritical,
                    format!("its critical extension {} is unknown", extension.oid),
                ),
                _ => {}
            }
        }
    }

    fn constraints(&mut self) {
        let Some((constraints, critical)) = self.extensions.constraints else {
            return;
        };
        if constraints.ca && !critical {
            self.find(
                LintRule::BasicConstraintsCritical,
                "it is a CA, but its basic constraints are not critical",
            );
        }
        if !constraints.ca && constraints.path_len_constraint.is_some() {
            self.find(
                LintRule::PathLengthOnCa,
                "it is no CA, but limits the length of a path",
            );
        }
    }

    fn key_usage(&mut self) {
        let is_ca = self.is_ca();
        let Some((usage, critical)) = self.extensions.key_usage else {
            self.find(LintRule::KeyUsagePresent, "it has no key usage");
            return;
        };
        if !critical {
            self.find(LintRule::KeyUsageCritical, "its key usage is not critical");
        }
        match (is_ca, usage.key_cert_sign()) {
            (true, false) => self.find(
                LintRule::KeyUsageOfCa,
                "it is a CA, but its key usage does not let it sign certificates",
            ),
            (false, true) => self.find(
                LintRule::KeyUsageOfCa,
                "it is no CA, but its key usage lets it sign certificates",
            ),
            _ => {}
        }
        let is_rsa = is_rsa(self.certificate.public_key());
        let signs = usage.digital_signature() || (is_rsa && usage.key_encipherment());
        if !is_ca && !signs {
            self.find(
                LintRule::KeyUsageForTls,
                "its key usage does not let it sign, which TLS needs",
            );
        }
        if !is_rsa && (usage.key_encipherment() || usage.data_encipherment()) {
            self.find(
                LintRule::KeyUsageOfAlgorithm,
                "its key usage lets it encipher, which its kind of key cannot",
            );
        }
    }

    fn purposes(&mut self) {
        let Some((purposes, critical)) = self.extensions.purposes else {
            if !self.is_ca() {
                self.find(
                    LintRule::ExtendedKeyUsagePresent,
                    "it has no extended key usage",
                );
            }
            return;
        };
        if purposes.any {
            self.find(
                LintRule::ExtendedKeyUsageAny,
                "its extended key usage is for any purpose",
            );
        }
        if critical {
            self.find(
                LintRule::ExtendedKeyUsageCritical,
                "its extended key usage is critical",
            );
        }
    }

    fn sans(&mut self) {
        let has_subject = self.has_subject();
        let Some((sans, critical)) = self.extensions.sans else {
            if self.is_server() || !has_subject {
                self.find(
                    LintRule::SansPresent,
                    if has_subject {
                        "it is for a server and has no subject alternative name"
                    } else {
                        "it has neither a subject nor a subject alternative name"
                    },
                );
            }
            return;
        };
        match (has_subject, critical) {
            (false, false) => self.find(
                LintRule::SansCritical,
                "it has no subject, but its subject alternative names are not critical",
            ),
            (true, true) => self.find(
                LintRule::SansNotCritical,
                "it has a subject, but its subject alternative names are critical",
            ),
            _ => {}
        }
        for name in &sans.general_names {
            if let Some((rule, problem)) = misspelt(name) {
                self.find(rule, problem);
            }
        }
    }

    fn key_ids(&mut self) {
        let is_self_issued = self.certificate.subject() == self.certificate.issuer();
        match self.extensions.authority_key_id {
            Some((id, critical)) => {
                if id.is_none() && !is_self_issued {
                    self.find(
                        LintRule::AuthorityKeyIdPresent,
                        "its authority key identifier names no key",
                    );
                }
                if critical {
                    self.find(
                        LintRule::AuthorityKeyIdNotCritical,
                        "its authority key identifier is critical",
                    );
                }
            }
            None if !is_self_issued => self.find(
                LintRule::AuthorityKeyIdPresent,
                "it has no authority key identifier",
            ),
            None => {}
        }
        match self.extensions.subject_key_id {
            Some((_, true)) => self.find(
                LintRule::SubjectKeyIdNotCritical,
                "its subject key identifier is critical",
            ),
            Some((_, false)) => {}
            None => {
                let rule = if self.is_ca() {
                    LintRule::SubjectKeyIdPresent
                } else {
                    LintRule::SubjectKeyIdOfLeaf
                };
                self.find(rule, "it has no subject key identifier");
            }
        }
    }
}

/// From the first second of validity to the last, which counts.
fn span(first: ASN1Time, last: ASN1Time) -> time::Duration {
    let end: OffsetDateTime = last.to_datetime();
    end - first.to_datetime()
}

fn is_strong(algorithm: &Oid<'_>) -> bool {
    [
        oid_registry::OID_SIG_ECDSA_WITH_SHA256,
        oid_registry::OID_SIG_ECDSA_WITH_SHA384,
        oid_registry::OID_SIG_ECDSA_WITH_SHA512,
        oid_registry::OID_SIG_ED25519,
        oid_registry::OID_PKCS1_SHA256WITHRSA,
        oid_registry::OID_PKCS1_SHA384WITHRSA,
        oid_registry::OID_PKCS1_SHA512WITHRSA,
    ]
    .contains(algorithm)
}

fn is_rsa(key: &SubjectPublicKeyInfo<'_>) -> bool {
    key.algorithm.algorithm == oid_registry::OID_PKCS1_RSAENCRYPTION
}

/// What is wrong with the strength of a key.
fn weakness(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    if key.algorithm.algorithm == oid_registry::OID_SIG_ED25519 {
        return None;
    }
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let bits = bits(rsa.modulus);
            let problem = if bits < SMALLEST_RSA {
                format!("its RSA key has {bits} bits; {SMALLEST_RSA} are needed")
            } else if !bits.is_multiple_of(8) {
                format!("its RSA key has {bits} bits, which 8 does not divide")
            } else {
                return None;
            };
            Some(problem)
        }
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref()?.as_oid();
            let known = curve.as_ref().is_ok_and(|curve| {
                [
                    oid_registry::OID_EC_P256,
                    oid_registry::OID_NIST_EC_P384,
                    oid_registry::OID_NIST_EC_P521,
                ]
                .contains(curve)
            });
            (!known).then(|| {
                "its elliptic key is on none of the curves P-256, P-384 and P-521".to_owned()
            })
        }
        _ => Some("its key is of an unknown kind".to_owned()),
    }
}

/// The bits of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    let number = &number[zeros..];
    number.first().map_or(0, |first| {
        number.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or_default()
    })
}

/// The rule that a name breaks by how it is written, and how.
fn misspelt(name: &GeneralName<'_>) -> Option<(LintRule, String)> {
    let broken = |rule, what: &dyn fmt::Display| Some((rule, what.to_string()));
    match name {
        GeneralName::DNSName(name) => match name.parse::<SubjectAltName>() {
            Ok(SubjectAltName::Dns(_)) if name.is_ascii() => None,
            Ok(_) => broken(
                LintRule::DnsNameSyntax,
                &format_args!("{name:?} is no DNS name in A-labels"),
            ),
            Err(error) => broken(LintRule::DnsNameSyntax, &error),
        },
        GeneralName::RFC822Name(address) => match address.parse::<SubjectAltName>() {
            Ok(SubjectAltName::Email(_)) if address.is_ascii() => None,
            Ok(_) => broken(
                LintRule::SanSyntax,
                &format_args!("{address:?} is no e-mail address in A-labels"),
            ),
            Err(error) => broken(LintRule::SanSyntax, &error),
        },
        GeneralName::URI(uri) => match url::Url::parse(uri) {
            Ok(_) => None,
            Err(_) => broken(
                LintRule::SanSyntax,
                &format_args!("{uri:?} is no absolute URI"),
            ),
        },
        GeneralName::IPAddress(octets) if observed::address(octets).is_none() => broken(
            LintRule::SanSyntax,
            &format_args!("an IP address of {} octets", octets.len()),
        ),
        GeneralName::Invalid(..) => broken(
            LintRule::SanSyntax,
            &"a subject alternative name is malformed",
        ),
        _ => None,
    }
}

#[cfg(test)]
#[path = "lint_tests.rs"]
mod tests;
