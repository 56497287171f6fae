//! What goes wrong with an ACME server, in words that say what to do.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use instant_acme::{Error, Problem};

use super::responder::ResponderError;
use super::{ChallengeKind, HookError};
use crate::ground::TrustError;
use crate::pki::SubjectAltName;
use crate::pki::times::about;

/// Why an ACME server cannot be used or issued nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeError {
    /// The client cannot be made from the settings.
    #[error("the ACME server at {directory} cannot be asked")]
    Trust {
        /// The server's directory.
        directory: String,
        /// Why not.
        #[source]
        source: TrustError,
    },
    /// There is no root that its certificates could lead to.
    #[error(
        "there are no roots for the certificates from {directory}: set acme.roots to a file \
             with them"
    )]
    NoRoots {
        /// The server's directory.
        directory: String,
        /// Why a given root is none, when one was given.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The external account's key is no base64.
    #[error("the key of the external account {key_id} is not base64url")]
    ExternalAccountKey {
        /// The key's identifier.
        key_id: String,
    },
    /// ACME certifies DNS names and IP addresses only.
    #[error("an ACME server certifies DNS names and IP addresses, not `{name}`")]
    Name {
        /// The name.
        name: SubjectAltName,
    },
    /// The request has a common name only.
    #[error("an ACME server needs a DNS name or an IP address among the subject alternative names")]
    Nameless,
    /// The declared challenge cannot prove the name.
    #[error("`{name}` cannot be proven by {kind}: {}", match .kind {
        ChallengeKind::Http01 => "a wildcard takes dns-01",
        ChallengeKind::Dns01 => "an IP address takes http-01",
    })]
    Unprovable {
        /// The name.
        name: SubjectAltName,
        /// The declared challenge.
        kind: ChallengeKind,
    },
    /// The server offers other challenges for the name.
    #[error("the ACME server offers no {kind} for `{name}`, but {offered}")]
    NotOffered {
        /// The name.
        name: String,
        /// The declared challenge.
        kind: ChallengeKind,
        /// What it offers.
        offered: String,
    },
    /// The file that keeps the account cannot be read or written.
    #[error("the ACME account cannot be kept in {}", .path.display())]
    AccountFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file that keeps the account is broken.
    #[error("{} is no ACME account: remove it and another account is made", .path.display())]
    AccountBroken {
        /// The file.
        path: PathBuf,
    },
    /// The server takes only accounts that are bound to one it knows.
    #[error("the ACME server demands an external account ({problem}): set acme.external_account")]
    ExternalAccountRequired {
        /// What the server said.
        problem: String,
    },
    /// The server wants to be left alone for longer than there was time.
    #[error("the ACME server limits how often it may be asked ({problem}): try again {}",
        .wait.map_or_else(|| "later".to_owned(), |wait| format!("in {}", about(wait))))]
    RateLimited {
        /// What the server said.
        problem: String,
        /// How long it wants to be left alone, when it said so.
        wait: Option<Duration>,
    },
    /// The server refused.
    #[error("{doing}: the ACME server refused: {problem}")]
    Refused {
        /// What was asked for.
        doing: &'static str,
        /// What the server said.
        problem: String,
    },
    /// The server could not be reached, or its answer is not one of ACME.
    #[error("{doing}: no usable answer from the ACME server")]
    Request {
        /// What was asked for.
        doing: &'static str,
        /// Why.
        #[source]
        source: Error,
    },
    /// The server did not accept the proof.
    #[error("`{name}` was not proven by {kind}: {problem}")]
    NotProven {
        /// The name.
        name: String,
        /// How it was to be proven.
        kind: ChallengeKind,
        /// What the server said.
        problem: String,
    },
    /// Nothing can be answered by http-01.
    #[error("the challenge http-01 cannot be answered")]
    Responder(#[source] ResponderError),
    /// The DNS record could not be set.
    #[error("the TXT record {record} could not be set")]
    Hook {
        /// The record's name.
        record: String,
        /// Why.
        #[source]
        source: HookError,
    },
    /// The server changed what was asked for.
    #[error("the ACME server issued other names: {difference}")]
    OtherNames {
        /// How they differ.
        difference: String,
    },
    /// The chain leads to none of the roots.
    #[error(
        "the certificate, issued by {issuer}, leads to none of the {roots} known roots: add its \
         root to the file of acme.roots"
    )]
    UnknownRoot {
        /// Who issued the last certificate of the chain.
        issuer: String,
        /// How many roots are known.
        roots: usize,
    },
}

impl AcmeError {
    /// Sorts what a request ended with.
    pub(super) fn of(doing: &'static str, error: Error, wait: Option<Duration>) -> Self {
        match error {
            Error::Api(problem) => {
                let shown = readable(&problem);
                match kind_of(&problem) {
                    "externalAccountRequired" => Self::ExternalAccountRequired { problem: shown },
                    "rateLimited" => Self::RateLimited {
                        problem: shown,
                        wait,
                    },
                    _ => Self::Refused {
                        doing,
                        problem: shown,
                    },
                }
            }
            source => Self::Request { doing, source },
        }
    }
}

/// The kind of a problem, without the prefix that all of them have.
pub(super) fn kind_of(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or("about:blank");
    kind.strip_prefix("urn:ietf:params:acme:error:")
        .unwrap_or(kind)
}

/// A problem document in one line: what, its kind, and the same of each identifier.
pub(super) fn readable(problem: &Problem) -> String {
    let mut text = one(problem.detail.as_deref(), kind_of(problem));
    for sub in &problem.subproblems {
        let kind = sub.r#type.as_deref().unwrap_or("about:blank");
        let kind = kind
            .strip_prefix("urn:ietf:params:acme:error:")
            .unwrap_or(kind);
        text.push_str("; ");
        if let Some(identifier) = &sub.identifier {
            text.push_str(&format!("{}: ", identifier.authorized(false)));
        }
        text.push_str(&one(sub.detail.as_deref(), kind));
    }
    // It is shown on terminals, and anybody may have written it.
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(2_000)
        .collect()
}

fn one(detail: Option<&str>, kind: &str) -> String {
    match detail {
        Some(detail) => format!("{detail} ({kind})"),
        None => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_readable_line() {
        let problem: Problem = serde_json::from_str(
            r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"no\n\u001b[31mway",
                "status":403,"subproblems":[
                {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"policy",
                 "identifier":{"type":"dns","value":"a.lan"}}]}"#,
        )
        .expect("a problem");
        assert_eq!(
            readable(&problem),
            "no  [31mway (malformed); a.lan: policy (rejectedIdentifier)"
        );
        let bare: Problem = serde_json::from_str("{}").expect("a problem");
        assert_eq!(readable(&bare), "about:blank");
    }

    #[test]
    fn problems_are_sorted_by_their_kind() {
        let of = |kind: &str| {
            let problem: Problem = serde_json::from_str(&format!(
                r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"d"}}"#
            ))
            .expect("a problem");
            AcmeError::of("x", Error::Api(problem), Some(Duration::from_secs(7_200))).to_string()
        };
        assert!(of("externalAccountRequired").contains("set acme.external_account"));
        assert!(
            of("rateLimited").ends_with("try again in 2 hours"),
            "{}",
            of("rateLimited")
        );
        assert_eq!(
            of("unauthorized"),
            "x: the ACME server refused: d (unauthorized)"
        );
    }
}
