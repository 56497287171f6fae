//! Private keys: generated, read, and wiped when dropped.
//!
//! A key is PKCS#8 version 1 wherever it is stored. Version 2, which some libraries write for
//! Ed25519, has the public key appended, and OpenSSL 3.0 does not read it.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use rcgen::{KeyPair, PublicKeyData, RsaKeySize, SignatureAlgorithm, SigningKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use super::pem::{self, PemError};
use super::request::KeyType;
use crate::ground::SecretBytes;

/// Why a private key cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The cryptographic library made none.
    #[error("no {key_type} key could be generated")]
    Generate {
        /// The kind of key.
        key_type: KeyType,
    },
    /// It is no PKCS#8 PEM.
    #[error("the private key cannot be read")]
    Pem(#[source] PemError),
    /// It is encrypted, and there is no passphrase.
    #[error("the private key is encrypted, and no passphrase is configured for it")]
    PassphraseNeeded,
    /// It is encrypted with another passphrase.
    #[error("the passphrase is not that of the private key")]
    WrongPassphrase,
    /// It is encrypted in a way that is not supported.
    #[error(
        "the private key is encrypted {how}; rewrite it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`"
    )]
    Scheme {
        /// In which way.
        how: &'static str,
    },
    /// The cryptographic library did not encrypt it.
    #[error("the private key could not be encrypted")]
    Encrypt,
    /// It is of a kind, or broken in a way, that cannot be used.
    #[error("the private key is broken or of an unknown kind")]
    Rejected,
}

/// A private key that can sign.
pub(super) struct PrivateKey {
    pair: Zeroizing<KeyPair>,
}

impl PrivateKey {
    /// A fresh key: under a millisecond, but with RSA of 4096 bits up to seconds.
    pub(super) fn generate(key_type: KeyType) -> Result<Self, KeyError> {
        let generated = match key_type {
            KeyType::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyType::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyType::Ed25519 => return Self::generate_ed25519(),
            KeyType::Rsa2048 => {
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)
            }
            KeyType::Rsa4096 => {
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096)
            }
        };
        generated
            .map(|pair| Self {
                pair: Zeroizing::new(pair),
            })
            .map_err(|_| KeyError::Generate { key_type })
    }

    /// rcgen would make a key of PKCS#8 version 2.
    fn generate_ed25519() -> Result<Self, KeyError> {
        let failed = KeyError::Generate {
            key_type: KeyType::Ed25519,
        };
        let Ok(pair) = Ed25519KeyPair::generate() else {
            return Err(failed);
        };
        let der: Result<Pkcs8V1Der<'_>, _> = pair.as_der();
        match der {
            Ok(der) => Self::from_der(der.as_ref()),
            Err(_) => Err(failed),
        }
    }

    /// Reads the one private key in `pem`.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        Self::from_der(pem::key(pem).map_err(KeyError::Pem)?.expose())
    }

    /// Reads a private key in PKCS#8 DER.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        KeyPair::try_from(&PrivatePkcs8KeyDer::from(der))
            .map(|pair| Self {
                pair: Zeroizing::new(pair),
            })
            .map_err(|_| KeyError::Rejected)
    }

    /// The key as PKCS#8 DER.
    pub(super) fn to_der(&self) -> SecretBytes {
        SecretBytes::new(self.pair.serialized_der().to_vec())
    }

    /// The key as PKCS#8 PEM.
    pub(super) fn to_pem(&self) -> SecretBytes {
        pem::encode("PRIVATE KEY", self.pair.serialized_der())
    }

    /// The content of the public key's bit string, as a certificate holds it.
    pub(super) fn public_key(&self) -> &[u8] {
        self.pair.der_bytes()
    }

    /// Its kind, when [`KeyType`] knows it.
    pub(super) fn key_type(&self) -> Option<KeyType> {
        let algorithm = self.pair.algorithm();
        if algorithm == &rcgen::PKCS_ECDSA_P256_SHA256 {
            Some(KeyType::EcdsaP256)
        } else if algorithm == &rcgen::PKCS_ECDSA_P384_SHA384 {
            Some(KeyType::EcdsaP384)
        } else if algorithm == &rcgen::PKCS_ED25519 {
            Some(KeyType::Ed25519)
        } else {
            // The length of an RSAPublicKey with the usual exponent.
            match self.public_key().len() {
                270 => Some(KeyType::Rsa2048),
                526 => Some(KeyType::Rsa4096),
                _ => None,
            }
        }
    }

    /// The pair, to sign with.
    pub(super) fn pair(&self) -> &KeyPair {
        &self.pair
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.pair.algorithm()
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.pair.sign(message)
    }
}

/// A fresh private key that is only to be certified and stored.
///
/// To sign with a key, rcgen reads it back from its DER, which takes about as long as making it.
/// A leaf's key signs nothing here.
pub(super) struct FreshKey {
    der: SecretBytes,
    public_key: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl FreshKey {
    /// A fresh key: as fast as [`PrivateKey::generate`] or faster.
    pub(super) fn generate(key_type: KeyType) -> Result<Self, KeyError> {
        let generated = match key_type {
            KeyType::EcdsaP256 => Self::generate_ecdsa(
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                &rcgen::PKCS_ECDSA_P256_SHA256,
            ),
            KeyType::EcdsaP384 => Self::generate_ecdsa(
                &ECDSA_P384_SHA384_ASN1_SIGNING,
                &rcgen::PKCS_ECDSA_P384_SHA384,
            ),
            KeyType::Ed25519 => Self::generate_ed25519(),
            KeyType::Rsa2048 | KeyType::Rsa4096 => {
                let key = PrivateKey::generate(key_type)?;
                return Ok(Self {
                    der: key.to_der(),
                    public_key: key.public_key().to_vec(),
                    algorithm: key.algorithm(),
                });
            }
        };
        generated.ok_or(KeyError::Generate { key_type })
    }

    fn generate_ecdsa(
        curve: &'static EcdsaSigningAlgorithm,
        algorithm: &'static SignatureAlgorithm,
    ) -> Option<Self> {
        let pair = EcdsaKeyPair::generate(curve).ok()?;
        Some(Self {
            der: SecretBytes::new(pair.to_pkcs8v1().ok()?.as_ref().to_vec()),
            public_key: pair.public_key().as_ref().to_vec(),
            algorithm,
        })
    }

    fn generate_ed25519() -> Option<Self> {
        let pair = Ed25519KeyPair::generate().ok()?;
        let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
        Some(Self {
            der: SecretBytes::new(der.as_ref().to_vec()),
            public_key: pair.public_key().as_ref().to_vec(),
            algorithm: &rcgen::PKCS_ED25519,
        })
    }

    /// The key as PKCS#8 DER, and the content of its public key's bit string.
    pub(super) fn into_parts(self) -> (SecretBytes, Vec<u8>) {
        (self.der, self.public_key)
    }
}

impl PublicKeyData for FreshKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public_key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_are_pkcs8_version_1() {
        for key_type in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Ed25519] {
            let key = PrivateKey::generate(key_type).expect("generated");
            let again = PrivateKey::from_pem(key.to_pem().expose()).expect("read");
            assert_eq!(key.public_key(), again.public_key());
            assert_eq!(key.to_der(), again.to_der());
            assert_eq!(again.key_type(), Some(key_type));
            // SEQUENCE (of under 256 octets), then INTEGER 0: version 1.
            let der = key.to_der();
            let version = der
                .expose()
                .windows(3)
                .find(|window| window[..2] == [2, 1])
                .expect("a version");
            assert_eq!(version[2], 0, "{key_type}");
        }
    }

    #[test]
    fn the_size_of_an_rsa_key_is_told() {
        let key = PrivateKey::generate(KeyType::Rsa2048).expect("generated");
        assert_eq!(key.key_type(), Some(KeyType::Rsa2048));
    }

    #[test]
    fn fresh_keys_read_back_as_what_they_claim_to_be() {
        for key_type in [
            KeyType::EcdsaP256,
            KeyType::EcdsaP384,
            KeyType::Ed25519,
            KeyType::Rsa2048,
        ] {
            let fresh = FreshKey::generate(key_type).expect("generated");
            let algorithm = fresh.algorithm();
            let (der, public_key) = fresh.into_parts();
            let again = PrivateKey::from_der(der.expose()).expect("read");
            assert_eq!(again.public_key(), public_key, "{key_type}");
            assert_eq!(again.algorithm(), algorithm, "{key_type}");
            assert_eq!(again.to_der(), der, "{key_type}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        let broken = pem::encode("PRIVATE KEY", b"hunter2hunter2");
        let error = PrivateKey::from_pem(broken.expose()).expect_err("no key");
        assert!(matches!(error, KeyError::Rejected));
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}
