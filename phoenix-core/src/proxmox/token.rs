//! API tokens: `USER@REALM!ID=SECRET`.

use std::fmt;
use std::str::FromStr;

use crate::ground::SecretBytes;

/// An API token of a Proxmox VE user. Its secret shows in no output.
#[derive(Clone)]
pub struct ApiToken {
    identity: String,
    secret: SecretBytes,
}

/// A text is not an API token. The text itself is not repeated: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// There is no `=` between the token's name and its secret.
    #[error("an API token has the form USER@REALM!ID=SECRET; this one has no '='")]
    NoSecret,
    /// The part before `=` is not `USER@REALM!ID`.
    #[error("an API token has the form USER@REALM!ID=SECRET; the part before '=' is not that")]
    Identity,
    /// The secret is empty or holds other characters than letters, digits, `-`, `_` and `.`.
    #[error("the secret of an API token is a UUID; this one is empty or holds other characters")]
    Secret,
}

impl ApiToken {
    /// `USER@REALM!ID`, which is no secret.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The value of the `Authorization` header.
    pub(super) fn header(&self) -> Result<http::HeaderValue, http::header::InvalidHeaderValue> {
        let mut value = b"PVEAPIToken=".to_vec();
        value.extend_from_slice(self.identity.as_bytes());
        value.push(b'=');
        value.extend_from_slice(self.secret.expose());
        let value = SecretBytes::new(value);
        let mut header = http::HeaderValue::from_bytes(value.expose())?;
        header.set_sensitive(true);
        Ok(header)
    }
}

impl FromStr for ApiToken {
    type Err = TokenError;

    /// Reads `USER@REALM!ID=SECRET`; white space around it is dropped, as a file ends with a
    /// newline.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (identity, secret) = text.trim().split_once('=').ok_or(TokenError::NoSecret)?;
        let (user, id) = identity.rsplit_once('!').ok_or(TokenError::Identity)?;
        let (name, realm) = user.rsplit_once('@').ok_or(TokenError::Identity)?;
        // The server percent-decodes the header and cuts it at the first ';'.
        let plain = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !matches!(b, b';' | b'%' | b'!' | b'/' | b':'))
        };
        if !(plain(name) && plain(realm) && plain(id)) {
            return Err(TokenError::Identity);
        }
        let uuid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if secret.is_empty() || !secret.bytes().all(uuid) {
            return Err(TokenError::Secret);
        }
        Ok(Self {
            identity: identity.to_owned(),
            secret: SecretBytes::new(secret.as_bytes().to_vec()),
        })
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiToken({}=…)", self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_and_its_secret_never_shown() {
        let token: ApiToken = "root@pam!phoenix=9f1e-22\n".parse().expect("token");
        assert_eq!(token.identity(), "root@pam!phoenix");
        assert_eq!(
            token.header().expect("header").as_bytes(),
            b"PVEAPIToken=root@pam!phoenix=9f1e-22"
        );
        assert!(!format!("{token:?} {:?}", token.header()).contains("9f1e"));
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_repeated() {
        for (text, expected) in [
            ("", TokenError::NoSecret),
            ("9f1e-22", TokenError::NoSecret),
            ("root@pam=9f1e-22", TokenError::Identity),
            ("root!phoenix=9f1e-22", TokenError::Identity),
            ("@pam!x=9f1e-22", TokenError::Identity),
            ("root@pam!a;b=9f1e-22", TokenError::Identity),
            ("root@pam!phoenix=", TokenError::Secret),
            ("root@pam!phoenix=9f1e;22", TokenError::Secret),
            ("root@pam!phoenix=9f1e\r\nX: 1", TokenError::Secret),
        ] {
            let error = text.parse::<ApiToken>().expect_err(text);
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("9f1e"));
        }
    }
}
