//! References to images: `nginx`, `registry.example:5000/team/app:1.2`, with or without a digest.
//!
//! Invariant: an [`Image`] has a tag or a digest, and is written in the short form that engines
//! store in specs (without `docker.io/` and `library/`).

use std::fmt;

/// A parsed reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Image {
    raw: String,
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// What is wrong with a reference to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Nothing is written.
    #[error("an image needs a name")]
    Empty,
    /// The repository part has letters in upper case.
    #[error("the name of an image is written in lower case")]
    Uppercase,
    /// The registry or repository part is malformed or longer than 255 characters.
    #[error("no name of an image; one is written like `registry.example:5000/team/app:1.2`")]
    Name,
    /// The part after the colon is no tag.
    #[error(
        "the tag of an image is up to 128 letters, digits, `_`, `.` and `-`, beginning with neither of the last two"
    )]
    Tag,
    /// The part after `@` is no digest.
    #[error("the digest of an image is written like `sha256:` and 64 hexadecimal digits")]
    Digest,
}

/// What a registry says of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvedImage {
    /// `sha256:…` of its manifest or index.
    pub digest: String,
    /// The platforms it is built for, as the registry lists them.
    pub platforms: Vec<Platform>,
}

/// A platform that an image is built for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
}

impl Image {
    /// Parses a reference.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(raw: &str) -> Result<Self, ImageError> {
        let (rest, digest) = match raw.split_once('@') {
            Some((rest, digest)) => (rest, Some(checked_digest(digest)?)),
            None => (raw, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(checked_tag(tag)?)),
            _ => (rest, None),
        };
        if rest.is_empty() {
            return Err(ImageError::Empty);
        }
        let (domain, path) = match rest.split_once('/') {
            Some((first, path)) if is_domain(first) => (Some(first), path),
            _ => (None, rest),
        };
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(ImageError::Uppercase);
        }
        let in_hub = matches!(domain, None | Some("docker.io" | "index.docker.io"));
        let path = match path.strip_prefix("library/") {
            Some(short) if in_hub && !short.contains('/') => short,
            _ => path,
        };
        let name = match domain {
            Some(domain) if !in_hub => format!("{domain}/{path}"),
            _ => path.to_owned(),
        };
        let is_id = path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit());
        if name.len() > 255
            || is_id && domain.is_none()
            || !path.split('/').all(is_component)
            || !domain.is_none_or(is_host)
        {
            return Err(ImageError::Name);
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self {
            raw: raw.to_owned(),
            name,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// The reference as it was written.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The short form, with `:latest` where neither tag nor digest were written: `nginx:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.to_string()
    }

    /// Whether a digest was written.
    #[must_use]
    pub fn has_digest(&self) -> bool {
        self.digest.is_some()
    }

    /// The short form pinned to `digest`, unless a digest was written already.
    #[must_use]
    pub fn pinned(&self, digest: &str) -> String {
        if self.has_digest() {
            self.familiar()
        } else {
            format!("{self}@{digest}")
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl ResolvedImage {
    /// The platforms as the docker CLI writes them into a placement: in the registry's order, each
    /// once, without those of attestations, and without the architecture of `arm` images, which
    /// nodes report under another name.
    #[must_use]
    pub fn placement_platforms(&self) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in &self.platforms {
            if platform.os == "unknown" || platform.architecture == "unknown" {
                continue;
            }
            let mut platform = platform.clone();
            if platform.architecture.eq_ignore_ascii_case("arm") {
                platform.architecture.clear();
            }
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        platforms
    }
}

fn checked_digest(digest: &str) -> Result<&str, ImageError> {
    let (algorithm, hex) = digest.split_once(':').ok_or(ImageError::Digest)?;
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(ImageError::Digest),
    };
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if hex.len() == length && hex.bytes().all(is_hex) {
        Ok(digest)
    } else {
        Err(ImageError::Digest)
    }
}

fn checked_tag(tag: &str) -> Result<&str, ImageError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if valid { Ok(tag) } else { Err(ImageError::Tag) }
}

/// Whether the part before the first slash names a registry: it could not be a directory of
/// Docker's hub, or is `localhost`.
fn is_domain(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase)
}

fn is_host(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => return host.parse::<std::net::Ipv6Addr>().is_ok(),
            Some((host, port)) => {
                return host.parse::<std::net::Ipv6Addr>().is_ok()
                    && port.strip_prefix(':').is_some_and(is_port);
            }
            None => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    port.is_none_or(is_port)
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(alphanumeric)
        && component.ends_with(alphanumeric)
        && component.split(alphanumeric).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn images_are_written_in_short_form() {
        for (raw, familiar) in [
            ("nginx", "nginx:latest"),
            ("nginx:1.27", "nginx:1.27"),
            ("library/nginx", "nginx:latest"),
            ("docker.io/library/nginx:1", "nginx:1"),
            ("index.docker.io/library/nginx", "nginx:latest"),
            ("docker.io/portainer/agent", "portainer/agent:latest"),
            ("portainer/agent:2.21.0", "portainer/agent:2.21.0"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b__c:x", "localhost:5000/a/b__c:x"),
            (
                "registry.example/library/nginx",
                "registry.example/library/nginx:latest",
            ),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("Upper/app", "Upper/app:latest"),
        ] {
            let image = Image::parse(raw).expect(raw);
            assert_eq!(image.familiar(), familiar);
            assert_eq!(image.raw(), raw);
            assert!(!image.has_digest());
        }
    }

    #[test]
    fn a_written_digest_stays() {
        let image = Image::parse(&format!("nginx@{DIGEST}")).unwrap();
        assert!(image.has_digest());
        assert_eq!(image.familiar(), format!("nginx@{DIGEST}"));
        assert_eq!(image.pinned("sha256:other"), format!("nginx@{DIGEST}"));
        let image = Image::parse(&format!("nginx:1@{DIGEST}")).unwrap();
        assert_eq!(image.familiar(), format!("nginx:1@{DIGEST}"));
        let image = Image::parse("nginx").unwrap();
        assert_eq!(image.pinned(DIGEST), format!("nginx:latest@{DIGEST}"));
    }

    #[test]
    fn malformed_images_say_why() {
        for (raw, expected) in [
            ("", ImageError::Empty),
            (":1", ImageError::Empty),
            ("Nginx", ImageError::Uppercase),
            ("a/B", ImageError::Uppercase),
            ("nginx:", ImageError::Tag),
            ("nginx:a b", ImageError::Tag),
            ("nginx@sha256:12", ImageError::Digest),
            ("nginx@", ImageError::Digest),
            ("a//b", ImageError::Name),
            ("a..b", ImageError::Name),
            ("-a", ImageError::Name),
            ("a___b", ImageError::Name),
            ("x y", ImageError::Name),
            ("-host.example/a", ImageError::Name),
            ("https://registry.example/a", ImageError::Name),
        ] {
            assert_eq!(Image::parse(raw).err(), Some(expected), "{raw}");
        }
    }

    #[test]
    fn platforms_are_cleaned_as_the_docker_cli_does() {
        let platform = |os: &str, architecture: &str| Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
        };
        let resolved = ResolvedImage {
            digest: DIGEST.to_owned(),
            platforms: vec![
                platform("linux", "amd64"),
                platform("unknown", "unknown"),
                platform("linux", "arm"),
                platform("linux", "arm"),
                platform("linux", "arm64"),
                platform("linux", "amd64"),
            ],
        };
        assert_eq!(
            resolved.placement_platforms(),
            [
                platform("linux", "amd64"),
                platform("linux", ""),
                platform("linux", "arm64")
            ]
        );
    }

    proptest! {
        #[test]
        fn the_short_form_is_a_fixed_point(
            raw in "(docker\\.io/|r\\.example:5000/)?([a-z0-9]{1,5}/)?[a-z0-9]{1,5}(:[A-Za-z0-9_][a-z0-9.-]{0,5})?"
        ) {
            let image = Image::parse(&raw).unwrap();
            let again = Image::parse(&image.familiar()).unwrap();
            prop_assert_eq!(again.familiar(), image.familiar());
        }

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,24}") {
            let _ = Image::parse(&text);
        }
    }
}
