//! The encrypted private key of a JWK provisioner: a compact JWE (RFC 7516) under a password
//! (PBES2 with AES key wrap, RFC 7518 4.8) with AES-GCM content.
//!
//! The header comes from a server: the work it asks for is bounded before any is done.

use std::num::NonZeroU32;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::key_wrap::{AES_128, AesKek, KeyWrap};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

/// The most rounds of PBKDF2 that a header may ask for.
const MAX_ROUNDS: u32 = 5_000_000;

const ALGORITHM: &str = "PBES2-HS256+A128KW";

/// Why an encrypted key was not decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JweError {
    /// Not five parts of base64url, or a header that is not what RFC 7516 says.
    #[error("the provisioner's encrypted key is not a compact JWE")]
    Malformed,
    /// An algorithm that is not supported.
    #[error("the provisioner's encrypted key uses {0:?}, which is not supported")]
    Algorithm(String),
    /// More rounds than are acceptable, or none.
    #[error(
        "the provisioner's encrypted key asks for {0} rounds of PBKDF2; 1 to {MAX_ROUNDS} are accepted"
    )]
    Rounds(u64),
    /// The password does not unwrap the key.
    #[error("the password does not decrypt the provisioner's key")]
    WrongPassword,
    /// The password is right, but the content was changed.
    #[error("the provisioner's encrypted key is damaged")]
    Damaged,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    enc: String,
    p2c: u64,
    p2s: String,
}

/// A compact JWE taken apart. The work that it asks for is acceptable, and none is done yet.
pub(super) struct Sealed<'a> {
    algorithm: &'static aead::Algorithm,
    pub(super) rounds: NonZeroU32,
    salt: Vec<u8>,
    /// As it was sent: it is authenticated along with the content.
    head: &'a str,
    wrapped: Vec<u8>,
    nonce: Nonce,
    /// Content and tag.
    content: Zeroizing<Vec<u8>>,
}

/// Decrypts a compact JWE. Takes a fraction of a second of CPU: not for an async task.
///
/// # Errors
/// [`JweError`].
pub(super) fn decrypt(compact: &str, password: &[u8]) -> Result<Zeroizing<Vec<u8>>, JweError> {
    Sealed::parse(compact)?.open(password)
}

/// An algorithm that is not supported. The server may name it at any length; it is shown.
fn unsupported(name: &str) -> JweError {
    JweError::Algorithm(name.chars().take(64).collect())
}

impl<'a> Sealed<'a> {
    /// Takes a compact JWE apart.
    pub(super) fn parse(compact: &'a str) -> Result<Self, JweError> {
        let parts: Vec<&str> = compact.trim().split('.').collect();
        let [head, wrapped, iv, content, tag] = parts[..] else {
            return Err(JweError::Malformed);
        };
        let bytes = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| JweError::Malformed)
        };
        let header: Header =
            serde_json::from_slice(&bytes(head)?).map_err(|_| JweError::Malformed)?;
        if header.alg != ALGORITHM {
            return Err(unsupported(&header.alg));
        }
        let algorithm = match header.enc.as_str() {
            "A256GCM" => &aead::AES_256_GCM,
            "A128GCM" => &aead::AES_128_GCM,
            _ => return Err(unsupported(&header.enc)),
        };
        let rounds = u32::try_from(header.p2c)
            .ok()
            .filter(|rounds| *rounds <= MAX_ROUNDS)
            .and_then(NonZeroU32::new)
            .ok_or(JweError::Rounds(header.p2c))?;
        let (wrapped, iv) = (bytes(wrapped)?, bytes(iv)?);
        let nonce = Nonce::try_assume_unique_for_key(&iv).map_err(|_| JweError::Malformed)?;
        if wrapped.len() != algorithm.key_len() + 8 {
            return Err(JweError::Malformed);
        }
        let mut sealed = Zeroizing::new(bytes(content)?);
        sealed.extend(bytes(tag)?);
        let mut salt = ALGORITHM.as_bytes().to_vec();
        salt.push(0);
        salt.extend(bytes(&header.p2s)?);
        Ok(Self {
            algorithm,
            rounds,
            salt,
            head,
            wrapped,
            nonce,
            content: sealed,
        })
    }

    /// What is in it.
    pub(super) fn open(self, password: &[u8]) -> Result<Zeroizing<Vec<u8>>, JweError> {
        let mut kek = Zeroizing::new([0_u8; 16]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            self.rounds,
            &self.salt,
            password,
            &mut kek[..],
        );
        let kek = AesKek::new(&AES_128, &kek[..]).map_err(|_| JweError::Malformed)?;
        let mut room = Zeroizing::new(vec![0_u8; self.wrapped.len()]);
        let key = kek
            .unwrap(&self.wrapped, &mut room)
            .map_err(|_| JweError::WrongPassword)?;
        let key = UnboundKey::new(self.algorithm, key).map_err(|_| JweError::Malformed)?;
        let mut content = self.content;
        let length = LessSafeKey::new(key)
            .open_in_place(self.nonce, Aad::from(self.head.as_bytes()), &mut content)
            .map_err(|_| JweError::Damaged)?
            .len();
        content.truncate(length);
        Ok(content)
    }
}

#[cfg(test)]
#[path = "jwe_tests.rs"]
pub(super) mod tests;
