//! Private keys as they are stored: in the clear, or encrypted with a passphrase.
//!
//! What is written encrypted is PKCS#8 with PBES2 (PBKDF2-HMAC-SHA256, AES-256-CBC), which
//! `openssl pkey` reads. What is read may be that, other PBES2 of PBKDF2 and AES-CBC, or a key in
//! the clear as PKCS#8, SEC1 or PKCS#1.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
};
use aws_lc_rs::{pbkdf2, rand};
use pkcs8::EncryptedPrivateKeyInfo;
use pkcs8::der::Encode;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{self, Kdf, Pbkdf2Prf};
use zeroize::Zeroizing;

use super::key::{KeyError, PrivateKey};
use super::pem::{self, KeyEncoding};
use crate::ground::SecretBytes;

/// With which a passphrase is stretched when a key is written.
const ITERATIONS: u32 = 600_000;

/// The most that is done for a key that somebody else wrote: some seconds.
const MOST_ITERATIONS: u32 = 10_000_000;

/// Whether the key in the PEM `text` is encrypted.
pub(super) fn is_encrypted(text: &SecretBytes) -> bool {
    matches!(pem::any_key(text.expose()), Ok((KeyEncoding::Encrypted, _)))
}

/// The one private key in the PEM `text`, which may be encrypted with `passphrase`.
pub(super) fn read(
    text: &SecretBytes,
    passphrase: Option<&SecretBytes>,
) -> Result<PrivateKey, KeyError> {
    let (encoding, der) = pem::any_key(text.expose()).map_err(KeyError::Pem)?;
    match encoding {
        KeyEncoding::Pkcs8 => from_pkcs8(der.expose()),
        KeyEncoding::Sec1 => from_sec1(der.expose()),
        KeyEncoding::Pkcs1 => {
            from_pair(&RsaKeyPair::from_der(der.expose()).map_err(|_| KeyError::Rejected)?)
        }
        KeyEncoding::Encrypted => {
            let passphrase = passphrase.ok_or(KeyError::PassphraseNeeded)?;
            let decrypted = decrypt(der.expose(), passphrase)?;
            // A wrong passphrase sometimes leaves something that looks padded.
            from_pkcs8(decrypted.expose()).map_err(|_| KeyError::WrongPassphrase)
        }
    }
}

/// `key` as PEM, encrypted when there is a passphrase.
pub(super) fn write(
    key: &PrivateKey,
    passphrase: Option<&SecretBytes>,
) -> Result<SecretBytes, KeyError> {
    match passphrase {
        None => Ok(key.to_pem()),
        Some(passphrase) => Ok(pem::encode(
            "ENCRYPTED PRIVATE KEY",
            encrypt(&key.to_der(), passphrase)?.expose(),
        )),
    }
}

/// A key in PKCS#8 of any version, to be kept as version 1.
fn from_pkcs8(der: &[u8]) -> Result<PrivateKey, KeyError> {
    match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        Ok(pair) => from_pair(&pair),
        Err(_) => PrivateKey::from_der(der),
    }
}

fn from_sec1(der: &[u8]) -> Result<PrivateKey, KeyError> {
    let pair = [
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &ECDSA_P384_SHA384_ASN1_SIGNING,
        &ECDSA_P521_SHA512_ASN1_SIGNING,
    ]
    .into_iter()
    .find_map(|algorithm| EcdsaKeyPair::from_private_key_der(algorithm, der).ok())
    .ok_or(KeyError::Rejected)?;
    let der = pair.to_pkcs8v1().map_err(|_| KeyError::Rejected)?;
    PrivateKey::from_der(der.as_ref())
}

fn from_pair(pair: &impl AsDer<Pkcs8V1Der<'static>>) -> Result<PrivateKey, KeyError> {
    let der = pair.as_der().map_err(|_| KeyError::Rejected)?;
    PrivateKey::from_der(der.as_ref())
}

fn encrypt(der: &SecretBytes, passphrase: &SecretBytes) -> Result<SecretBytes, KeyError> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    let failed = |_: Unspecified| KeyError::Encrypt;
    rand::fill(&mut salt).map_err(failed)?;
    rand::fill(&mut iv).map_err(failed)?;
    let parameters = pbes2::Parameters::pbkdf2_sha256_aes256cbc(ITERATIONS, &salt, &iv)
        .map_err(|_| KeyError::Encrypt)?;
    let key = derive(&parameters, passphrase)?;
    let mut data = Zeroizing::new(der.expose().to_vec());
    let key = UnboundCipherKey::new(&AES_256, &key).map_err(failed)?;
    PaddedBlockEncryptingKey::cbc_pkcs7(key)
        .and_then(|key| {
            key.less_safe_encrypt(&mut *data, EncryptionContext::Iv128(FixedLength::from(iv)))
        })
        .map_err(failed)?;
    EncryptedPrivateKeyInfo {
        encryption_algorithm: parameters.into(),
        encrypted_data: &data,
    }
    .to_der()
    .map(SecretBytes::new)
    .map_err(|_| KeyError::Encrypt)
}

fn decrypt(der: &[u8], passphrase: &SecretBytes) -> Result<SecretBytes, KeyError> {
    let info = EncryptedPrivateKeyInfo::try_from(der).map_err(|_| KeyError::Rejected)?;
    let EncryptionScheme::Pbes2(parameters) = &info.encryption_algorithm else {
        return Err(unsupported("with PBES1"));
    };
    let (algorithm, iv) = match parameters.encryption {
        pbes2::EncryptionScheme::Aes128Cbc { iv } => (&AES_128, iv),
        pbes2::EncryptionScheme::Aes192Cbc { iv } => (&AES_192, iv),
        pbes2::EncryptionScheme::Aes256Cbc { iv } => (&AES_256, iv),
        _ => return Err(unsupported("with another cipher than AES in CBC mode")),
    };
    let key = derive(parameters, passphrase)?;
    let wrong = |_: Unspecified| KeyError::WrongPassphrase;
    let key = UnboundCipherKey::new(algorithm, &key).map_err(wrong)?;
    let mut data = Zeroizing::new(info.encrypted_data.to_vec());
    PaddedBlockDecryptingKey::cbc_pkcs7(key)
        .and_then(|key| {
            let context = DecryptionContext::Iv128(FixedLength::from(iv));
            key.decrypt(&mut data, context)
                .map(|plain| SecretBytes::new(plain.to_vec()))
        })
        .map_err(wrong)
}

/// The key for the cipher of `parameters`.
fn derive(
    parameters: &pbes2::Parameters<'_>,
    passphrase: &SecretBytes,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let Kdf::Pbkdf2(kdf) = &parameters.kdf else {
        return Err(unsupported("with scrypt"));
    };
    let algorithm = match kdf.prf {
        Pbkdf2Prf::HmacWithSha1 => pbkdf2::PBKDF2_HMAC_SHA1,
        Pbkdf2Prf::HmacWithSha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        Pbkdf2Prf::HmacWithSha384 => pbkdf2::PBKDF2_HMAC_SHA384,
        Pbkdf2Prf::HmacWithSha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => {
            return Err(unsupported(
                "with another hash than SHA-1, -256, -384 or -512",
            ));
        }
    };
    let length = parameters.encryption.key_size();
    if kdf
        .key_length
        .is_some_and(|declared| usize::from(declared) != length)
    {
        return Err(unsupported(
            "with a key of another length than its cipher's",
        ));
    }
    let iterations = NonZeroU32::new(kdf.iteration_count)
        .filter(|iterations| iterations.get() <= MOST_ITERATIONS)
        .ok_or_else(|| unsupported("with no iteration, or over ten million"))?;
    let mut key = Zeroizing::new(vec![0; length]);
    pbkdf2::derive(
        algorithm,
        iterations,
        kdf.salt,
        passphrase.expose(),
        &mut key,
    );
    Ok(key)
}

fn unsupported(how: &'static str) -> KeyError {
    KeyError::Scheme { how }
}

#[cfg(test)]
#[path = "stored_key_tests.rs"]
mod tests;
