//! One-time tokens: JWTs (RFC 7519) signed with the private key of a JWK provisioner.

use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use time::OffsetDateTime;
use zeroize::{Zeroize, Zeroizing};

use crate::pki::SubjectAltName;

/// How long a token is good for; it is used at once.
const LIFETIME_SECONDS: i64 = 5 * 60;

/// Why a provisioner's decrypted key cannot sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum JwkError {
    #[error("it is not a private JWK")]
    Malformed,
    #[error(
        "keys of type {0} are not supported: use EC (P-256, P-384, P-521), OKP (Ed25519) or RSA \
         (RS256 to PS512)"
    )]
    Unsupported(String),
    #[error("its parts do not belong together")]
    Rejected,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    alg: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    d: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    p: String,
    #[serde(default)]
    q: String,
    #[serde(default)]
    dp: String,
    #[serde(default)]
    dq: String,
    #[serde(default)]
    qi: String,
}

impl Drop for Jwk {
    fn drop(&mut self) {
        for private in [
            &mut self.d,
            &mut self.p,
            &mut self.q,
            &mut self.dp,
            &mut self.dq,
            &mut self.qi,
        ] {
            private.zeroize();
        }
    }
}

/// What a part of a JWK stands for.
fn bytes(text: &str) -> Result<Zeroizing<Vec<u8>>, JwkError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map(Zeroizing::new)
        .map_err(|_| JwkError::Malformed)
}

fn unsupported(kind: &str, which: &str) -> JwkError {
    let shown = format!("{kind} {which}");
    JwkError::Unsupported(shown.trim().chars().take(64).collect())
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
}

/// A provisioner's private key. The library wipes it when it is dropped.
pub(super) struct Signer {
    pair: Pair,
    algorithm: &'static str,
}

/// What a token says.
pub(super) struct Claims<'a> {
    /// The provisioner's name.
    pub(super) issuer: &'a str,
    /// The URL that the token is for.
    pub(super) audience: &'a str,
    /// The common name.
    pub(super) subject: &'a str,
    pub(super) sans: &'a [SubjectAltName],
    /// The SHA-256 of the root.
    pub(super) root: &'a [u8; 32],
    /// The SHA-256 of the certificate request (DER).
    pub(super) csr: &'a [u8; 32],
    pub(super) now: OffsetDateTime,
}

impl Signer {
    /// The signer of a private JWK (RFC 7517).
    pub(super) fn from_jwk(json: &[u8]) -> Result<Self, JwkError> {
        let jwk: Jwk = serde_json::from_slice(json).map_err(|_| JwkError::Malformed)?;
        let (curve, algorithm) = match (jwk.kty.as_str(), jwk.crv.as_str()) {
            ("EC", "P-256") => (&ECDSA_P256_SHA256_FIXED_SIGNING, "ES256"),
            ("EC", "P-384") => (&ECDSA_P384_SHA384_FIXED_SIGNING, "ES384"),
            ("EC", "P-521") => (&ECDSA_P521_SHA512_FIXED_SIGNING, "ES512"),
            ("OKP", "Ed25519") => {
                let pair =
                    Ed25519KeyPair::from_seed_and_public_key(&bytes(&jwk.d)?, &bytes(&jwk.x)?)
                        .map_err(|_| JwkError::Rejected)?;
                return Ok(Self {
                    pair: Pair::Ed25519(pair),
                    algorithm: "EdDSA",
                });
            }
            ("RSA", _) => return Self::from_rsa(&jwk),
            (kind, curve) => return Err(unsupported(kind, curve)),
        };
        let mut point = vec![4];
        point.extend_from_slice(&bytes(&jwk.x)?);
        point.extend_from_slice(&bytes(&jwk.y)?);
        let pair = EcdsaKeyPair::from_private_key_and_public_key(curve, &bytes(&jwk.d)?, &point)
            .map_err(|_| JwkError::Rejected)?;
        Ok(Self {
            pair: Pair::Ecdsa(pair),
            algorithm,
        })
    }

    /// The signer of an RSA key, by the algorithm that it is declared for; RS256 where it is for
    /// none, as step-ca's own client does.
    fn from_rsa(jwk: &Jwk) -> Result<Self, JwkError> {
        let (encoding, algorithm): (&'static dyn RsaEncoding, _) = match jwk.alg.as_str() {
            "" | "RS256" => (&RSA_PKCS1_SHA256, "RS256"),
            "RS384" => (&RSA_PKCS1_SHA384, "RS384"),
            "RS512" => (&RSA_PKCS1_SHA512, "RS512"),
            "PS256" => (&RSA_PSS_SHA256, "PS256"),
            "PS384" => (&RSA_PSS_SHA384, "PS384"),
            "PS512" => (&RSA_PSS_SHA512, "PS512"),
            other => return Err(unsupported("RSA", other)),
        };
        let pair = RsaKeyPair::from_components(&KeyPairComponents {
            public_key: PublicKeyComponents {
                n: bytes(&jwk.n)?,
                e: bytes(&jwk.e)?,
            },
            d: bytes(&jwk.d)?,
            p: bytes(&jwk.p)?,
            q: bytes(&jwk.q)?,
            dP: bytes(&jwk.dp)?,
            dQ: bytes(&jwk.dq)?,
            qInv: bytes(&jwk.qi)?,
        })
        .map_err(|_| JwkError::Rejected)?;
        Ok(Self {
            pair: Pair::Rsa(Box::new(pair), encoding),
            algorithm,
        })
    }

    /// A token that has never been used. `key_id` is what the server calls the provisioner's key;
    /// `None` when the operating system gives no randomness.
    pub(super) fn token(&self, key_id: &str, claims: &Claims<'_>) -> Option<String> {
        let mut id = [0; 32];
        rand::fill(&mut id).ok()?;
        let now = claims.now.unix_timestamp();
        let header = serde_json::json!({"alg": self.algorithm, "typ": "JWT", "kid": key_id});
        let payload = serde_json::json!({
            "iss": claims.issuer,
            "aud": claims.audience,
            "sub": claims.subject,
            "sans": claims.sans,
            "sha": hex::encode(claims.root),
            "jti": hex::encode(id),
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME_SECONDS,
            "cnf": {"x5rt#S256": URL_SAFE_NO_PAD.encode(claims.csr)},
        });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(payload.to_string())
        );
        let signature = match &self.pair {
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
                URL_SAFE_NO_PAD.encode(signature)
            }
            Pair::Ed25519(pair) => URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())),
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    *encoding,
                    &SystemRandom::new(),
                    signed.as_bytes(),
                    &mut signature,
                )
                .ok()?;
                URL_SAFE_NO_PAD.encode(signature)
            }
        };
        Some(format!("{signed}.{signature}"))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    /// The key of RFC 7515, appendix A.3.
    const KEY: &str = r#"{"kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        "d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;

    #[test]
    fn a_token_verifies_and_no_two_are_alike() {
        let signer = Signer::from_jwk(KEY.as_bytes()).expect("key");
        let sans = [
            "a.lan".parse().expect("name"),
            "10.0.0.1".parse().expect("name"),
        ];
        let claims = Claims {
            issuer: "ops",
            audience: "https://ca.lan/1.0/sign",
            subject: "a",
            sans: &sans,
            root: &[1; 32],
            csr: &[2; 32],
            now: OffsetDateTime::UNIX_EPOCH,
        };
        let token = signer.token("kid", &claims).expect("token");
        assert_ne!(token, signer.token("kid", &claims).expect("token"));
        let (signed, signature) = token.rsplit_once('.').expect("parts");
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
        let jwk: serde_json::Value = serde_json::from_str(KEY).expect("JSON");
        let mut point = vec![4];
        point.extend(part(jwk["x"].as_str().expect("x")));
        point.extend(part(jwk["y"].as_str().expect("y")));
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &part(signature))
            .expect("raw r and s");
        let (header, payload) = signed.split_once('.').expect("parts");
        let header: serde_json::Value = serde_json::from_slice(&part(header)).expect("JSON");
        let payload: serde_json::Value = serde_json::from_slice(&part(payload)).expect("JSON");
        assert_eq!(header["kid"], "kid");
        assert_eq!(header["alg"], "ES256");
        assert_eq!(payload["sans"], serde_json::json!(["a.lan", "10.0.0.1"]));
        assert_eq!(payload["exp"], 300);
    }

    #[test]
    fn what_cannot_sign_is_refused() {
        let refused = |json: &str| Signer::from_jwk(json.as_bytes()).err();
        assert_eq!(refused("{}"), Some(JwkError::Malformed));
        for (json, named) in [
            (r#"{"kty":"oct"}"#, "oct"),
            (r#"{"kty":"EC","crv":"secp256k1"}"#, "EC secp256k1"),
            (r#"{"kty":"OKP","crv":"X25519"}"#, "OKP X25519"),
            (r#"{"kty":"RSA","alg":"RSA-OAEP"}"#, "RSA RSA-OAEP"),
        ] {
            let named = JwkError::Unsupported(named.to_owned());
            assert_eq!(refused(json), Some(named));
        }
        assert_eq!(refused(r#"{"kty":"RSA"}"#), Some(JwkError::Rejected));
        let public = KEY.replace("\"d\"", "\"e\"");
        assert_eq!(refused(&public), Some(JwkError::Rejected));
    }
}
