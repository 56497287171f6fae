//! Bytes that must not be seen, and the keyed fingerprints by which they are compared.

use std::path::Path;
use std::{fmt, io};

use aws_lc_rs::{constant_time, hmac};
use zeroize::Zeroizing;

use super::files::{read_optional, write_new};

/// Bytes that never appear in `Debug`, logs or events, and are wiped when dropped.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership of `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. The name is long so that a use of it stands out in review.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as UTF-8 text.
    ///
    /// # Errors
    /// When they are not UTF-8.
    pub fn expose_str(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.0)
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for SecretBytes {}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len())
    }
}

/// The key under which a site fingerprints its secrets (HMAC-SHA-256).
///
/// Without the key a fingerprint says nothing about the content, so that it may stand in the
/// name or label of an object that others can read.
#[derive(Clone)]
pub struct FingerprintKey(SecretBytes);

impl FingerprintKey {
    /// The length of a key in bytes.
    pub const LEN: usize = 32;

    /// A fresh random key.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> std::io::Result<Self> {
        let mut key = vec![0; Self::LEN];
        aws_lc_rs::rand::fill(&mut key)
            .map_err(|_| std::io::Error::other("no randomness from the operating system"))?;
        Ok(Self(SecretBytes::new(key)))
    }

    /// A key from its [`Self::LEN`] bytes; `None` when their number is another.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() == Self::LEN).then(|| Self(SecretBytes::new(bytes)))
    }

    /// The key in the file `path`; `None` when there is no such file.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let Some(bytes) = read_optional(path)? else {
            return Ok(None);
        };
        let key = Self::from_bytes(bytes).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is not a fingerprint key", path.display()),
            )
        })?;
        Ok(Some(key))
    }

    /// The key in the file `path`, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn ensure(path: &Path) -> io::Result<Self> {
        if let Some(key) = Self::read(path)? {
            return Ok(key);
        }
        let key = Self::generate()?;
        if write_new(path, key.as_secret().expose(), 0o600)? {
            return Ok(key);
        }
        // Somebody else has made it at the same time.
        Self::read(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The key's bytes, to store.
    #[must_use]
    pub fn as_secret(&self) -> &SecretBytes {
        &self.0
    }

    /// The fingerprint of `content` for the purpose named `domain`.
    #[must_use]
    pub fn fingerprint(&self, domain: &str, content: &[u8]) -> Fingerprint {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose());
        let mut context = hmac::Context::with_key(&key);
        context.update(&(domain.len() as u64).to_be_bytes());
        context.update(domain.as_bytes());
        context.update(content);
        let tag = context.sign();
        Fingerprint(hex::encode(&tag.as_ref()[..Fingerprint::LEN / 2]))
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey")
    }
}

/// A short keyed fingerprint: [`Fingerprint::LEN`] lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The number of digits: 64 bits, enough to tell versions of one secret apart.
    pub const LEN: usize = 16;

    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_content() {
        let secret = SecretBytes::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "SecretBytes(7 bytes)");
    }

    #[test]
    fn fingerprints_depend_on_key_domain_and_content() {
        let key = FingerprintKey::from_bytes(vec![1; 32]).expect("32 bytes");
        let other = FingerprintKey::from_bytes(vec![2; 32]).expect("32 bytes");
        let base = key.fingerprint("secret", b"a");
        assert_eq!(base, key.fingerprint("secret", b"a"));
        assert_ne!(base, key.fingerprint("secret", b"b"));
        assert_ne!(base, key.fingerprint("secre", b"ta"));
        assert_ne!(base, other.fingerprint("secret", b"a"));
        assert_eq!(base.as_str().len(), Fingerprint::LEN);
    }
}
