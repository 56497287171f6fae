//! The account at an ACME server: made once, kept, and made again when the server lost it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::error::AcmeError;
use super::transport::Transport;
use crate::ground::{SecretBytes, create_private_directory, read_optional, write_atomic};

/// What the file holds: mode 0600, written whole or not at all.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// The directory of the server that knows the account.
    directory: String,
    credentials: AccountCredentials,
}

/// Where the account is kept, and what it is made from. Orders that begin at once make one.
pub(super) struct Accounts {
    pub(super) directory: String,
    pub(super) contact: Vec<String>,
    pub(super) external: Option<Arc<ExternalAccountKey>>,
    pub(super) path: PathBuf,
    /// Held while an account is looked up or made.
    making: Mutex<()>,
}

impl Accounts {
    pub(super) fn new(
        directory: String,
        contact: Vec<String>,
        external: Option<Arc<ExternalAccountKey>>,
        path: PathBuf,
    ) -> Self {
        Self {
            directory,
            contact,
            external,
            path,
            making: Mutex::new(()),
        }
    }

    /// The account that is kept, or a new one when there is none, when it is another server's or
    /// when it is `lost` (the URL of an account that the server no longer knows).
    pub(super) async fn open(
        &self,
        transport: &Transport,
        lost: Option<&str>,
    ) -> Result<Account, AcmeError> {
        let _making = self.making.lock().await;
        let builder = Account::builder_with_http(Box::new(transport.clone()));
        if let Some(stored) = read(&self.path)?
            && stored.directory == self.directory
        {
            let account = builder
                .from_credentials(stored.credentials)
                .await
                .map_err(|error| AcmeError::of("looking up its directory", error, None))?;
            if lost != Some(account.id()) {
                return Ok(account);
            }
        }
        self.make(transport).await
    }

    async fn make(&self, transport: &Transport) -> Result<Account, AcmeError> {
        let contact: Vec<&str> = self.contact.iter().map(String::as_str).collect();
        let (account, credentials) = Account::builder_with_http(Box::new(transport.clone()))
            .create(
                &NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                },
                self.directory.clone(),
                self.external.as_deref(),
            )
            .await
            .map_err(|error| AcmeError::of("making an account", error, transport.retry_after()))?;
        write(
            &self.path,
            &Stored {
                directory: self.directory.clone(),
                credentials,
            },
        )?;
        Ok(account)
    }
}

fn read(path: &Path) -> Result<Option<Stored>, AcmeError> {
    let content = read_optional(path).map_err(|source| AcmeError::AccountFile {
        path: path.to_owned(),
        source,
    })?;
    let Some(content) = content.map(SecretBytes::new) else {
        return Ok(None);
    };
    // The parser's message could quote the key.
    serde_json::from_slice(content.expose())
        .map(Some)
        .map_err(|_| AcmeError::AccountBroken {
            path: path.to_owned(),
        })
}

fn write(path: &Path, stored: &Stored) -> Result<(), AcmeError> {
    let failed = |source| AcmeError::AccountFile {
        path: path.to_owned(),
        source,
    };
    let content = serde_json::to_vec(stored)
        .map(SecretBytes::new)
        .map_err(|error| failed(error.into()))?;
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        create_private_directory(parent).map_err(failed)?;
    }
    write_atomic(path, content.expose(), 0o600).map_err(failed)
}

/// The key of an external account, as CAs hand it out: base64url, some with the other alphabet
/// or with padding.
pub(super) fn external_key(
    key_id: &str,
    key: &SecretBytes,
) -> Result<ExternalAccountKey, AcmeError> {
    let text = key.expose().trim_ascii();
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let text = &text[..text.len() - padding];
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| BASE64_STANDARD_NO_PAD.decode(text))
        .ok()
        .filter(|decoded| !decoded.is_empty())
        .map(SecretBytes::new)
        .map(|decoded| ExternalAccountKey::new(key_id.to_owned(), decoded.expose()))
        .ok_or_else(|| AcmeError::ExternalAccountKey {
            key_id: key_id.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_keys_are_base64_of_either_alphabet() {
        let made = |text: &str| external_key("kid", &SecretBytes::from(text.to_owned()));
        for good in ["aGVsbG8", "aGVsbG8=\n", "-_-_", "+/+/"] {
            assert!(made(good).is_ok(), "{good}");
        }
        for bad in ["", "=", "hunter2!"] {
            let error = made(bad).err().expect("refused");
            assert!(!format!("{error:?} {error}").contains("hunter2"));
        }
    }

    #[test]
    fn a_broken_account_file_is_told_without_its_content() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("account.json");
        assert!(read(&path).expect("none").is_none());
        std::fs::write(&path, r#"{"directory":"hunter2"}"#).expect("written");
        let error = read(&path).err().expect("broken");
        assert!(matches!(error, AcmeError::AccountBroken { .. }));
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}
