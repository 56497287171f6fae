//! How a CA is made.

use std::path::Path;
use std::time::Duration;

use rcgen::BasicConstraints;
use time::OffsetDateTime;

use super::error::CaError;
use super::files::{NewFile, Place, ROOT, ROOT_KEY, put_directory};
use crate::ground::SecretBytes;
use crate::pki::issuer::IssueError;
use crate::pki::key::PrivateKey;
use crate::pki::request::{
    KeyType, LONGEST_COMMON_NAME, RequestError, check_common_name, check_lifetime,
};
use crate::pki::stored_key;
use crate::pki::template::ca_params;

/// Added to the root's common name for the intermediate's.
const INTERMEDIATE_SUFFIX: &str = " Intermediate";

/// How the CA is made on first use. Later only [`EmbeddedCa::departures`](super::EmbeddedCa::departures) looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaParameters {
    /// Common name of the root; the intermediate's is this with ` Intermediate` appended.
    pub common_name: String,
    /// How long the root is valid, in whole seconds.
    pub root_lifetime: Duration,
    /// How long the intermediate is valid, in whole seconds; never longer than the root.
    pub intermediate_lifetime: Duration,
    /// Of both keys.
    pub key_type: KeyType,
    /// What both keys are encrypted with; in the clear when absent.
    pub passphrase: Option<SecretBytes>,
}

impl CaParameters {
    /// Validated parameters.
    ///
    /// # Errors
    /// [`CaError::Parameters`] when the name is empty or over 51 characters, or a lifetime out of
    /// bounds; [`CaError::IntermediateOutlivesRoot`].
    pub fn new(
        common_name: impl Into<String>,
        root_lifetime: Duration,
        intermediate_lifetime: Duration,
        key_type: KeyType,
    ) -> Result<Self, CaError> {
        let common_name = common_name.into();
        if common_name.is_empty() {
            return Err(CaError::Parameters(RequestError::Nameless));
        }
        check_common_name(
            &common_name,
            LONGEST_COMMON_NAME - INTERMEDIATE_SUFFIX.len(),
        )
        .map_err(CaError::Parameters)?;
        let root_lifetime = check_lifetime(root_lifetime).map_err(CaError::Parameters)?;
        let intermediate_lifetime =
            check_lifetime(intermediate_lifetime).map_err(CaError::Parameters)?;
        if intermediate_lifetime > root_lifetime {
            return Err(CaError::IntermediateOutlivesRoot {
                intermediate: intermediate_lifetime,
                root: root_lifetime,
            });
        }
        Ok(Self {
            common_name,
            root_lifetime,
            intermediate_lifetime,
            key_type,
            passphrase: None,
        })
    }

    /// The same, with keys that are encrypted with `passphrase` when there is one.
    #[must_use]
    pub fn with_passphrase(mut self, passphrase: Option<SecretBytes>) -> Self {
        self.passphrase = passphrase;
        self
    }
}

/// The content of a new CA's files.
pub(super) fn generate(
    parameters: &CaParameters,
    now: OffsetDateTime,
) -> Result<Vec<NewFile>, IssueError> {
    let root_key = PrivateKey::generate(parameters.key_type).map_err(IssueError::Key)?;
    let mut root_params = ca_params(
        &parameters.common_name,
        BasicConstraints::Unconstrained,
        now,
        parameters.root_lifetime,
    )?;
    // A self-signed certificate needs none (RFC 5280 section 4.2.1.1).
    root_params.use_authority_key_identifier_extension = false;
    let root = root_params
        .self_signed(root_key.pair())
        .map_err(IssueError::Sign)?;

    let key = PrivateKey::generate(parameters.key_type).map_err(IssueError::Key)?;
    let intermediate = ca_params(
        &intermediate_name(&parameters.common_name, 1),
        BasicConstraints::Constrained(0),
        now,
        parameters.intermediate_lifetime,
    )?
    .signed_by(
        key.pair(),
        &rcgen::Issuer::from_params(&root_params, root_key.pair()),
    )
    .map_err(IssueError::Sign)?;
    let place = Place::new(1);
    let stored =
        |key| stored_key::write(key, parameters.passphrase.as_ref()).map_err(IssueError::Key);
    Ok(vec![
        (ROOT_KEY.to_owned(), stored(&root_key)?, 0o600),
        (ROOT.to_owned(), root.pem().into(), 0o644),
        (place.key, stored(&key)?, 0o600),
        (place.certificate, intermediate.pem().into(), 0o644),
    ])
}

/// The common name of the intermediate with this number below the root that is called `root`.
pub(super) fn intermediate_name(root: &str, number: u32) -> String {
    let suffix = if number > 1 {
        format!("{INTERMEDIATE_SUFFIX} {number}")
    } else {
        INTERMEDIATE_SUFFIX.to_owned()
    };
    let room = LONGEST_COMMON_NAME.saturating_sub(suffix.len());
    let root: String = root.chars().take(room).collect();
    root + &suffix
}

/// Makes a CA in `directory`, which does not exist or is empty. `false` when another process was
/// faster.
pub(super) fn create(
    directory: &Path,
    parameters: &CaParameters,
    now: OffsetDateTime,
) -> Result<bool, CaError> {
    put_directory(
        directory,
        &generate(parameters, now).map_err(CaError::Create)?,
    )
}
