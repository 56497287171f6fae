//! The command line of `phoenix ca`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use phoenix_core::pki::{KeyType, RevocationReason};

use super::cert::lifetime;
use crate::exit;

/// What to do with a CA.
#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Make a CA: a root, and an intermediate that signs
    #[command(after_help = exit::HELP)]
    Init(CaInit),
    /// Show the root, the intermediates, what they need, and what was issued
    #[command(after_help = exit::HELP)]
    Show(CaShow),
    /// Bring in a CA that was made elsewhere; nothing is written over
    #[command(after_help = exit::HELP)]
    Import(CaImport),
    /// Print the root's certificate, for others to trust
    #[command(after_help = exit::HELP)]
    Export(CaExport),
    /// Make another intermediate below the same root, which signs from then on
    ///
    /// What earlier ones have signed stays valid. A site's certificates are renewed below the new
    /// one with the next sync.
    #[command(after_help = exit::HELP)]
    Rotate(CaRotate),
    /// Encrypt the keys with another passphrase, or leave them in the clear
    #[command(after_help = exit::HELP)]
    Reencrypt(CaReencrypt),
    /// Revoke a certificate, for the lists of `phoenix ca crl`
    ///
    /// A certificate of a site is issued anew with the next sync. Nobody else learns of it but
    /// from a list.
    #[command(after_help = exit::HELP)]
    Revoke(CaRevoke),
    /// Print what was revoked, signed: a list of each intermediate that has issued something
    #[command(after_help = exit::HELP)]
    Crl(CaCrl),
}

/// Which CA.
#[derive(Debug, Args)]
pub(crate) struct CaPlace {
    /// The directory of the CA [default: that of the site's own, with the site's passphrase]
    #[arg(long = "ca", value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// What a CA's keys are encrypted with.
#[derive(Debug, Args)]
pub(crate) struct PassphraseSource {
    /// The file that holds the passphrase of the CA's keys
    #[arg(
        long = "passphrase-file",
        value_name = "FILE",
        conflicts_with = "passphrase_variable"
    )]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// The environment variable that holds it
    #[arg(long = "passphrase-env", value_name = "VAR")]
    pub(crate) passphrase_variable: Option<String>,
}

/// Arguments of `ca init`.
#[derive(Debug, Args)]
pub(crate) struct CaInit {
    #[command(flatten)]
    pub(crate) place: CaPlace,

    /// The root's common name [default: the site's, or Phoenix CA]
    #[arg(long, value_name = "NAME")]
    pub(crate) cn: Option<String>,

    /// How long the root is valid [default: the site's, or 3650d]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    pub(crate) root_lifetime: Option<Duration>,

    /// How long the intermediate is valid [default: the site's, or 1825d]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    pub(crate) intermediate_lifetime: Option<Duration>,

    /// The kind of both keys: ecdsa-p256, ecdsa-p384, ed25519, rsa-2048 or rsa-4096 [default: the
    /// site's, or ecdsa-p256]
    #[arg(long, value_name = "TYPE")]
    pub(crate) key: Option<KeyType>,

    #[command(flatten)]
    pub(crate) passphrase: PassphraseSource,
}

/// Arguments of `ca show`.
#[derive(Debug, Args)]
pub(crate) struct CaShow {
    #[command(flatten)]
    pub(crate) place: CaPlace,

    /// List what was issued, too
    #[arg(long)]
    pub(crate) inventory: bool,
}

/// Arguments of `ca import`.
#[derive(Debug, Args)]
pub(crate) struct CaImport {
    #[command(flatten)]
    pub(crate) place: CaPlace,

    /// The root's certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) root: PathBuf,

    /// The root's key; without it no further intermediate can be made
    #[arg(long, value_name = "FILE")]
    pub(crate) root_key: Option<PathBuf>,

    /// The certificate of the intermediate that is to sign
    #[arg(long, value_name = "FILE")]
    pub(crate) intermediate: PathBuf,

    /// The intermediate's key
    #[arg(long, value_name = "FILE")]
    pub(crate) intermediate_key: PathBuf,

    /// The file that holds the passphrase of the given keys
    #[arg(long, value_name = "FILE", conflicts_with = "input_passphrase_env")]
    pub(crate) input_passphrase_file: Option<PathBuf>,

    /// The environment variable that holds it
    #[arg(long, value_name = "VAR")]
    pub(crate) input_passphrase_env: Option<String>,

    #[command(flatten)]
    pub(crate) passphrase: PassphraseSource,
}

/// Arguments of `ca export`.
#[derive(Debug, Args)]
pub(crate) struct CaExport {
    #[command(flatten)]
    pub(crate) place: CaPlace,

    /// The current intermediate's certificate first, then the root's
    #[arg(long)]
    pub(crate) chain: bool,
}

/// Arguments of `ca rotate`.
#[derive(Debug, Args)]
pub(crate) struct CaRotate {
    #[command(flatten)]
    pub(crate) place: CaPlace,

    /// How long the new intermediate is valid [default: as the current one, within the root]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    pub(crate) lifetime: Option<Duration>,

    #[command(flatten)]
    pub(crate) passphrase: PassphraseSource,
}

/// Arguments of `ca reencrypt`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("new").required(true)))]
pub(crate) struct CaReencrypt {
    #[command(flatten)]
    pub(crate) place: CaPlace,

    #[command(flatten)]
    pub(crate) passphrase: PassphraseSource,

    /// The file that holds the new passphrase
    #[arg(long, value_name = "FILE", group = "new")]
    pub(crate) new_passphrase_file: Option<PathBuf>,

    /// The environment variable that holds it
    #[arg(long, value_name = "VAR", group = "new")]
    pub(crate) new_passphrase_env: Option<String>,

    /// Leave the keys in the clear
    #[arg(long, group = "new")]
    pub(crate) in_the_clear: bool,
}

/// Arguments of `ca revoke`.
#[derive(Debug, Args)]
pub(crate) struct CaRevoke {
    /// A serial number in hexadecimal digits, or a file whose first certificate it is; a file
    /// that exists wins
    #[arg(value_name = "SERIAL|FILE")]
    pub(crate) what: String,

    #[command(flatten)]
    pub(crate) place: CaPlace,

    /// Why: unspecified, keyCompromise, CACompromise, affiliationChanged, superseded,
    /// cessationOfOperation, certificateHold, privilegeWithdrawn or AACompromise
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(crate) reason: RevocationReason,
}

/// Arguments of `ca crl`.
#[derive(Debug, Args)]
pub(crate) struct CaCrl {
    #[command(flatten)]
    pub(crate) place: CaPlace,

    /// DER instead of PEM, which holds one list only
    #[arg(long)]
    pub(crate) der: bool,

    /// Only that of the intermediate with this number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) intermediate: Option<u32>,

    /// Where to write it [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// After how many days there should be another
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,

    #[command(flatten)]
    pub(crate) passphrase: PassphraseSource,
}
