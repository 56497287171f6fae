//! Where certificates are to be looked at.

use std::path::{Path, PathBuf};

/// Where certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// In a file here.
    File(PathBuf),
    /// In a file of a guest of the site.
    Guest {
        /// The guest's name.
        guest: String,
        /// The absolute path there.
        path: String,
    },
    /// On a TLS server.
    Endpoint {
        /// Its name or address, without brackets.
        host: String,
        /// Its port.
        port: u16,
    },
}

impl Source {
    /// What `text` means: a file that exists comes before anything else it could be.
    pub(super) fn new(text: &str) -> Self {
        if !Path::new(text).exists()
            && let Some((before, after)) = text.rsplit_once(':')
            && let Some(source) = Self::remote(text, before, after)
        {
            return source;
        }
        Self::File(text.into())
    }

    fn remote(text: &str, before: &str, after: &str) -> Option<Self> {
        // The path may hold colons, the guest's name none.
        if let Some((guest, path)) = text.split_once(':')
            && path.starts_with('/')
            && !guest.is_empty()
            && !guest.contains(['/', '['])
        {
            return Some(Self::Guest {
                guest: guest.to_owned(),
                path: path.to_owned(),
            });
        }
        let digits = after.bytes().all(|byte| byte.is_ascii_digit());
        let port = after.parse().ok().filter(|port| digits && *port > 0)?;
        let host = match before.strip_prefix('[') {
            Some(inside) => inside.strip_suffix(']')?,
            None if before.contains(':') => return None,
            None => before,
        };
        (!host.is_empty() && !host.contains('/')).then(|| Self::Endpoint {
            host: host.to_owned(),
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, port: u16) -> Source {
        Source::Endpoint {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn files_guests_and_servers_are_told_apart() {
        assert_eq!(Source::new("web.lan:443"), endpoint("web.lan", 443));
        assert_eq!(Source::new("10.0.0.1:8443"), endpoint("10.0.0.1", 8443));
        assert_eq!(Source::new("[::1]:443"), endpoint("::1", 443));
        let guest = |path: &str| Source::Guest {
            guest: "web".to_owned(),
            path: path.to_owned(),
        };
        assert_eq!(Source::new("web:/etc/tls/a.pem"), guest("/etc/tls/a.pem"));
        assert_eq!(Source::new("web:/etc/a:443"), guest("/etc/a:443"));
        for file in [
            "web.pem",
            "web:",
            ":443",
            "web:0",
            "web:65536",
            "web:+443",
            "a/b:443",
            "::1:443",
            "web:etc/a.pem",
        ] {
            assert_eq!(Source::new(file), Source::File(file.into()), "{file}");
        }
    }

    #[test]
    fn a_file_that_exists_wins() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("web:443");
        std::fs::write(&path, "").expect("written");
        let text = path.to_str().expect("UTF-8");
        assert_eq!(Source::new(text), Source::File(path.clone()));
    }
}
