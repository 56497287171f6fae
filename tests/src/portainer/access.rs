//! Who may do what: passwords, sessions, API keys, the limit on attempts.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::store::{User, random};

/// Fewer characters make a password weak.
pub(super) const REQUIRED_PASSWORD_LENGTH: usize = 12;
/// Bytes beyond which bcrypt, which the original uses, refuses a password.
const LONGEST_PASSWORD: usize = 72;
/// How long a session lasts, in seconds.
const SESSION: i64 = 8 * 3600;
const BAN: Duration = Duration::from_secs(3600);
const ROUNDS: NonZeroU32 = NonZeroU32::new(10_000).expect("not zero");

/// Salt and key derived from a password, in one text.
pub(super) fn hash_password(password: &str) -> io::Result<String> {
    if password.len() > LONGEST_PASSWORD {
        return Err(io::Error::other("bcrypt: password length exceeds 72 bytes"));
    }
    let salt: [u8; 16] = random()?;
    let mut key = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ROUNDS,
        &salt,
        password.as_bytes(),
        &mut key,
    );
    Ok(format!("{}${}", hex::encode(salt), hex::encode(key)))
}

/// Whether a password is the one that was hashed.
pub(super) fn password_is(password: &str, hash: &str) -> bool {
    let parts = hash.split_once('$');
    let parts =
        parts.and_then(|(salt, key)| Some((hex::decode(salt).ok()?, hex::decode(key).ok()?)));
    parts.is_some_and(|(salt, key)| {
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::verify(algorithm, ROUNDS, &salt, password.as_bytes(), &key).is_ok()
    })
}

/// `ptr_` and random base64.
pub(super) fn new_api_key() -> io::Result<String> {
    Ok(format!("ptr_{}", STANDARD.encode(random::<32>()?)))
}

/// What is kept of an API key.
pub(super) fn key_digest(key: &str) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, key.as_bytes()))
}

/// Signs sessions with a key that lives as long as the process.
#[derive(Debug)]
pub(super) struct Sessions {
    key: hmac::Key,
}

impl Sessions {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?),
        })
    }

    pub(super) fn issue(&self, user: &User, force_change: bool) -> String {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let claims = json!({
            "id": user.id, "username": user.name, "role": 1, "scope": "default",
            "forceChangePassword": force_change, "exp": now + SESSION, "iat": now,
        });
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let body = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = hmac::sign(&self.key, body.as_bytes());
        format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The user's id in a session that is ours and not over.
    pub(super) fn verify(&self, token: &str) -> Option<u32> {
        let (body, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.key, body.as_bytes(), &signature).ok()?;
        let claims = URL_SAFE_NO_PAD.decode(body.split_once('.')?.1).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        let now = OffsetDateTime::now_utc().unix_timestamp();
        (claims["exp"].as_i64()? > now).then_some(())?;
        claims["id"].as_u64().and_then(|id| u32::try_from(id).ok())
    }
}

/// Bans addresses that try too often in one second.
#[derive(Debug)]
pub(super) struct Attempts {
    allowed: usize,
    seen: Mutex<HashMap<IpAddr, Caller>>,
}

#[derive(Debug)]
struct Caller {
    since: Instant,
    count: usize,
    banned: Option<Instant>,
}

impl Attempts {
    pub(super) fn new(allowed: usize) -> Self {
        Self {
            allowed,
            seen: Mutex::default(),
        }
    }

    /// Counts an attempt; false when it must be refused.
    pub(super) fn admit(&self, address: IpAddr) -> bool {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Caller {
            since: now,
            count: 0,
            banned: None,
        };
        let caller = seen.entry(address).or_insert_with(new);
        if caller.banned.is_some_and(|since| now - since < BAN) {
            return false;
        }
        if now - caller.since >= Duration::from_secs(1) {
            *caller = new();
        }
        caller.count += 1;
        if caller.count > self.allowed {
            caller.banned = Some(now);
        }
        caller.banned.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_sessions() {
        let hash = hash_password("correct horse").expect("hash");
        assert!(password_is("correct horse", &hash));
        assert!(!password_is("correct horse ", &hash));
        hash_password(&"x".repeat(73)).expect_err("too long for bcrypt");
        let user = User {
            id: 7,
            name: "admin".to_owned(),
            password: hash,
        };
        let (one, other) = (Sessions::new().expect("key"), Sessions::new().expect("key"));
        let token = one.issue(&user, false);
        assert_eq!(one.verify(&token), Some(7));
        assert_eq!(other.verify(&token), None, "another process");
        assert_eq!(one.verify("a.b.c"), None);
    }

    #[test]
    fn an_eager_address_is_banned() {
        let attempts = Attempts::new(2);
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        assert!(attempts.admit(here) && attempts.admit(here));
        assert!(!attempts.admit(here));
        assert!(!attempts.admit(here));
        assert!(attempts.admit(there));
    }
}
