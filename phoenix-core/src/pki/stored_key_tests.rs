use aws_lc_rs::encoding::EcPrivateKeyRfc5915Der;
use aws_lc_rs::signature::KeyPair;
use proptest::prelude::*;

use super::*;
use crate::pki::KeyType;

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.to_owned())
}

/// `openssl pkcs8 -topk8 -v2 aes-128-cbc -v2prf hmacWithSHA512 -iter 2048`, passphrase `hunter2`.
const BY_OPENSSL: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjUJODCc0VNIgICCAAw\n\
DAYIKoZIhvcNAgsFADAdBglghkgBZQMEAQIEENS6/1bJXVxtgh3Q/kyccc8EgZDQ\n\
ffDMbcVYS0vphIFtv/Y7HQIFY5zu4/O95kq04Poyh+fOkOiU3ZfOqBz0GeDCfaJh\n\
ZEqCRiLZvJqhkF0zClDA+99pAJckPbfW6eCG+ioJnpny0tp0yk4ZlEJT6/OqPHev\n\
9j3b1QmfmfluvVEQUDsDFotCKvqU9B43mWLgCgFitZPSoTnWYhVEWE5IGVqAPlI=\n\
-----END ENCRYPTED PRIVATE KEY-----\n\
";

/// Its public key.
const ITS_PUBLIC_KEY: &str = "04486e913c1e13d1f12976204f3e4435e6eb77a5b37c87d3f60adde72227ecb7c7\
    77426990e6ec4089cf9802aa66df5cd8a6ff32ff3b8435539e789de50827ce8e";

#[test]
fn an_encrypted_key_reads_back_with_its_passphrase_only() {
    let passphrase = secret("correct horse");
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        let key = PrivateKey::generate(key_type).expect("key");
        let text = write(&key, Some(&passphrase)).expect("encrypted");
        assert!(is_encrypted(&text));
        let again = read(&text, Some(&passphrase)).expect("read");
        assert_eq!(again.to_der(), key.to_der());
        assert!(matches!(read(&text, None), Err(KeyError::PassphraseNeeded)));
        for wrong in ["correct horse ", "correct hors", ""] {
            assert!(matches!(
                read(&text, Some(&secret(wrong))),
                Err(KeyError::WrongPassphrase)
            ));
        }
    }
    let key = PrivateKey::generate(KeyType::EcdsaP256).expect("key");
    let clear = write(&key, None).expect("written");
    assert!(!is_encrypted(&clear));
    read(&clear, Some(&passphrase)).expect("needs none");
}

#[test]
fn what_is_written_says_how_it_is_encrypted() {
    let key = PrivateKey::generate(KeyType::EcdsaP256).expect("key");
    let text = write(&key, Some(&secret("x"))).expect("encrypted");
    let (_, der) = pem::any_key(text.expose()).expect("PEM");
    let info = EncryptedPrivateKeyInfo::try_from(der.expose()).expect("PKCS#8");
    let parameters = info.encryption_algorithm.pbes2().expect("PBES2");
    let kdf = parameters.kdf.pbkdf2().expect("PBKDF2");
    assert_eq!(kdf.iteration_count, 600_000);
    assert_eq!(kdf.prf, Pbkdf2Prf::HmacWithSha256);
    assert_eq!(kdf.salt.len(), 16);
    assert_eq!(parameters.encryption.key_size(), 32);
    let again = write(&key, Some(&secret("x"))).expect("encrypted");
    assert_ne!(text, again, "salt and IV are fresh");
}

#[test]
fn a_key_that_openssl_encrypted_is_read() {
    let key = read(&secret(BY_OPENSSL), Some(&secret("hunter2"))).expect("read");
    assert_eq!(hex::encode(key.public_key()), ITS_PUBLIC_KEY);
}

#[test]
fn keys_of_older_encodings_become_pkcs8() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).expect("key");
    let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().expect("SEC1");
    let key = read(&pem::encode("EC PRIVATE KEY", der.as_ref()), None).expect("read");
    assert_eq!(key.public_key(), pair.public_key().as_ref());
    let again = PrivateKey::from_pem(key.to_pem().expose()).expect("PKCS#8");
    assert_eq!(again.to_der(), key.to_der());

    let rsa = PrivateKey::generate(KeyType::Rsa2048).expect("key");
    // PKCS#1 is what PKCS#8 has in its octet string.
    let der = rsa.to_der();
    let info = pkcs8::PrivateKeyInfo::try_from(der.expose()).expect("PKCS#8");
    let pkcs1 = pem::encode("RSA PRIVATE KEY", info.private_key);
    let again = read(&pkcs1, None).expect("read");
    assert_eq!(again.public_key(), rsa.public_key());
}

#[test]
fn what_others_encrypted_too_hard_or_otherwise_is_refused_at_once() {
    let (salt, iv) = ([1; 16], [2; 16]);
    for iterations in [0, MOST_ITERATIONS + 1, u32::MAX] {
        let Ok(parameters) = pbes2::Parameters::pbkdf2_sha256_aes256cbc(iterations, &salt, &iv)
        else {
            continue;
        };
        let der = EncryptedPrivateKeyInfo {
            encryption_algorithm: parameters.into(),
            encrypted_data: &[0; 32],
        }
        .to_der()
        .expect("encoded");
        assert!(matches!(
            decrypt(&der, &secret("x")),
            Err(KeyError::Scheme { .. })
        ));
    }
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(der in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decrypt(&der, &secret("x")).is_err());
        let text = pem::encode("EC PRIVATE KEY", &der);
        prop_assert!(read(&text, None).is_err());
        let text = pem::encode("RSA PRIVATE KEY", &der);
        prop_assert!(read(&text, None).is_err());
    }
}
