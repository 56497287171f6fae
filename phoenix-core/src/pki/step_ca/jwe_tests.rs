use proptest::prelude::*;

use super::*;

const TEXT: &[u8] = b"{\"kty\":\"EC\"}";

/// A compact JWE of `content`; one that asks for too many rounds is made with a single one.
pub(in crate::pki::step_ca) fn sealed(
    rounds: u64,
    enc: &str,
    key: &[u8],
    password: &[u8],
    content: &[u8],
) -> String {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = serde_json::json!({
        "alg": ALGORITHM, "enc": enc, "p2c": rounds, "p2s": b64(b"salt"),
    });
    let head = b64(header.to_string().as_bytes());
    let salt = [ALGORITHM.as_bytes(), b"\0salt"].concat();
    let rounds = u32::try_from(rounds).ok().filter(|rounds| *rounds <= 1000);
    let rounds = rounds.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let mut kek = [0; 16];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        &salt,
        password,
        &mut kek,
    );
    let mut wrapped = vec![0; key.len() + 8];
    let kek = AesKek::new(&AES_128, &kek).expect("key");
    let wrapped = kek.wrap(key, &mut wrapped).expect("wrapped");
    let algorithm = if key.len() == 32 {
        &aead::AES_256_GCM
    } else {
        &aead::AES_128_GCM
    };
    let mut text = content.to_vec();
    let nonce = Nonce::assume_unique_for_key([7; 12]);
    let tag = LessSafeKey::new(UnboundKey::new(algorithm, key).expect("key"))
        .seal_in_place_separate_tag(nonce, Aad::from(head.as_bytes()), &mut text)
        .expect("sealed");
    [
        head,
        b64(wrapped),
        b64(&[7; 12]),
        b64(&text),
        b64(tag.as_ref()),
    ]
    .join(".")
}

#[test]
fn decrypts_both_content_ciphers_and_tells_a_wrong_password_from_damage() {
    for (enc, key) in [("A256GCM", &[9_u8; 32][..]), ("A128GCM", &[9; 16])] {
        let jwe = sealed(10, enc, key, b"right", TEXT);
        assert_eq!(&decrypt(&jwe, b"right").expect("decrypted")[..], TEXT);
        assert_eq!(decrypt(&jwe, b"wrong"), Err(JweError::WrongPassword));
        let (rest, _) = jwe.rsplit_once('.').expect("parts");
        let damaged = format!("{rest}.{}", URL_SAFE_NO_PAD.encode([0; 16]));
        assert_eq!(decrypt(&damaged, b"right"), Err(JweError::Damaged));
    }
}

#[test]
fn refuses_rounds_out_of_bounds_and_foreign_forms() {
    for rounds in [0, 5_000_001, u64::MAX] {
        let jwe = sealed(rounds, "A256GCM", &[9; 32], b"p", TEXT);
        assert_eq!(decrypt(&jwe, b"p"), Err(JweError::Rounds(rounds)));
    }
    let other = sealed(10, "A192GCM", &[9; 32], b"p", TEXT);
    assert_eq!(
        decrypt(&other, b"p"),
        Err(JweError::Algorithm("A192GCM".to_owned()))
    );
    assert_eq!(decrypt("a.b.c", b"p"), Err(JweError::Malformed));
}

proptest! {
    #[test]
    fn no_text_panics(text in "[A-Za-z0-9_.-]{0,80}|\\PC{0,40}") {
        let _ = decrypt(&text, b"p");
    }

    #[test]
    fn no_change_to_one_goes_unnoticed(at in 0..200_usize, letter in "[A-Za-z0-9_-]") {
        let jwe = sealed(10, "A256GCM", &[9; 32], b"p", TEXT);
        let at = at % jwe.len();
        let mut changed = jwe.clone();
        changed.replace_range(at..=at, &letter);
        if changed != jwe && jwe.as_bytes()[at] != b'.' {
            prop_assert!(decrypt(&changed, b"p").is_err());
        }
    }
}
