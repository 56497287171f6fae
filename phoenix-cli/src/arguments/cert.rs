//! The command line of `phoenix cert`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use phoenix_core::pki::{KeyType, Profile, SubjectAltName};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::PassphraseSource;
use crate::exit;

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum Cert {
    /// List the site's certificates: names, issuer, days left, where, state
    #[command(after_help = exit::HELP)]
    List,
    /// Show what a file, a file in a guest or a TLS server holds, and what it is good for
    #[command(after_help = exit::HELP)]
    Show(CertShow),
    /// Verify a file: its key, chain, purpose and names; exit with 1 when one does not hold
    #[command(after_help = exit::HELP)]
    Verify(CertVerify),
    /// Tell whether certificates are valid for some days more; exit with 3 when one is not
    #[command(after_help = exit::HELP)]
    Check(CertCheck),
    /// Issue a certificate from a CA in a directory, without any site
    #[command(after_help = exit::HELP)]
    Issue(CertIssue),
}

/// Arguments of `cert show`.
#[derive(Debug, Args)]
pub(crate) struct CertShow {
    /// A PEM or DER file, GUEST:/PATH of the site, or HOST:PORT of a TLS server; a file that
    /// exists wins
    #[arg(value_name = "FILE|GUEST:PATH|HOST:PORT")]
    pub(crate) what: String,

    /// The roots to trust [default: those that come with it]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// The name to ask a server for, and to look for in its certificate [default: HOST]
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
}

/// Arguments of `cert verify`.
#[derive(Debug, Args)]
pub(crate) struct CertVerify {
    /// A PEM or DER file: the certificate, then what issued it; a private key in it is looked at,
    /// too
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// What it has to be good for: server, client or peer [default: what it says itself]
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<Profile>,

    /// A name that it has to be valid for; may be repeated
    #[arg(long = "name", value_name = "NAME", value_parser = name)]
    pub(crate) names: Vec<SubjectAltName>,

    /// The roots to trust [default: those in FILE, which prove nothing about who issued it]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// The time at which it has to be valid, as 2030-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) at: Option<OffsetDateTime>,
}

/// Arguments of `cert check`.
#[derive(Debug, Args)]
pub(crate) struct CertCheck {
    /// How many days a certificate has to be valid for
    #[arg(long, value_name = "N")]
    pub(crate) days: u32,

    /// PEM or DER files, each of which counts as the certificate in it that ends first [default:
    /// the site's certificates, as they are stored here]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Arguments of `cert issue`.
#[derive(Debug, Args)]
pub(crate) struct CertIssue {
    /// What it is for: server, client or peer (both)
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Profile,

    /// The common name
    #[arg(long, value_name = "NAME")]
    pub(crate) cn: String,

    /// A subject alternative name: DNS name, IP address, e-mail address or URI; may be repeated
    #[arg(long = "san", value_name = "NAME", value_parser = name)]
    pub(crate) sans: Vec<SubjectAltName>,

    /// The directory of the CA, which is made on first use; it holds the CA's keys
    #[arg(long, value_name = "DIR")]
    pub(crate) ca: PathBuf,

    #[command(flatten)]
    pub(crate) passphrase: PassphraseSource,

    /// Where to write cert.pem (the certificate, then the intermediate), key.pem and ca.pem (the
    /// root)
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// How long it is valid
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = lifetime)]
    pub(crate) lifetime: Duration,

    /// The kind of its key: ecdsa-p256, ecdsa-p384, ed25519, rsa-2048 or rsa-4096
    #[arg(long, value_name = "TYPE", default_value_t)]
    pub(crate) key: KeyType,

    /// Replace what is in the way
    #[arg(long)]
    pub(crate) force: bool,
}

fn name(text: &str) -> Result<SubjectAltName, String> {
    text.parse().map_err(
        |error: phoenix_core::pki::SanError| match error.suggestion() {
            Some(meant) => format!("{error}; did you mean {meant}?"),
            None => error.to_string(),
        },
    )
}

pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 90d or 12h"))
}

fn instant(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| format!("{error}; write it like 2030-01-31T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_comes_with_what_was_meant() {
        assert_eq!(
            name("DNS:web.lan").expect_err("prefixed"),
            "`DNS:web.lan` starts with `DNS:`: write the name alone, its kind follows from it; \
             did you mean web.lan?"
        );
        assert!(name("").is_err());
        assert!(name("web.lan").is_ok());
    }

    #[test]
    fn times_and_lifetimes_say_how_to_be_written() {
        assert!(instant("2030-01-31T12:00:00Z").is_ok());
        let error = instant("2030-01-31").expect_err("no time");
        assert!(error.contains("T12:00:00Z"), "{error}");
        assert_eq!(lifetime("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert!(lifetime("90").is_err());
    }
}
