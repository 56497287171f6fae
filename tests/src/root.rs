//! The nodes' root file systems: one for each release of Debian whose engine is wanted, unpacked
//! by mmdebstrap without running maintainer scripts, from the mirror that the host itself uses.
//!
//! A root is kept in the cache under a hash of everything that shaped it, and in the outer engine
//! as an image of the same tag. What a lab writes into its nodes (scripts, the daemon's settings)
//! is not part of it. A root is not made again when the mirror has newer packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::Engine;
use crate::packages::{self, TOOLS, UNPRIVILEGED_TOOLS};
use crate::place::{self, Places, short_hash};
use crate::release::EngineRelease;
use crate::{LabError, Result, process};

const FIXUP: &str = include_str!("../node/fixup.sh");
const REPOSITORY: &str = "phoenix-lab-node";

/// What every node has, beside what these need.
const PACKAGES: &[&str] = &[
    "base-files",
    "docker.io",
    "qemu-guest-agent",
    "iptables",
    "iproute2",
    "busybox",
    "openssl",
    "ca-certificates",
    "mount",
    "util-linux",
    "procps",
    "coreutils",
    "grep",
    "sed",
    "dash",
];

/// A root in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    release: EngineRelease,
    dir: PathBuf,
    hash: String,
}

impl Root {
    /// The root as a tar.
    #[must_use]
    pub fn tar(&self) -> PathBuf {
        self.dir.join("root.tar")
    }

    /// A folder with busybox, its libraries and the list of its applets (`applets`).
    #[must_use]
    pub fn busybox(&self) -> PathBuf {
        self.dir.join("busybox")
    }

    /// The name of the image made of it.
    #[must_use]
    pub fn image(&self) -> String {
        format!("{REPOSITORY}:{}", self.hash)
    }
}

/// What a node of this release has, beside what these need.
fn packages_of(release: EngineRelease) -> Vec<&'static str> {
    [PACKAGES, release.packages()].concat()
}

/// Has the root of a release, made where the cache lacks it.
///
/// # Errors
/// Where packages are missing, or mmdebstrap fails.
pub async fn ensure(places: &Places, release: EngineRelease) -> Result<Root> {
    let architecture = std::env::consts::ARCH;
    let hash = short_hash(&[
        release.suite().as_bytes(),
        architecture.as_bytes(),
        FIXUP.as_bytes(),
        packages_of(release).join(" ").as_bytes(),
    ]);
    let root = Root {
        release,
        dir: places.cache.join(format!("root-{hash}")),
        hash,
    };
    let lock = format!("root-{release}");
    let _lock = places.lock(&places.cache, &lock).await?;
    if !root.dir.exists() {
        let unprivileged = if place::is_root() {
            &[]
        } else {
            UNPRIVILEGED_TOOLS
        };
        packages::ensure_tools(&[TOOLS, unprivileged].concat()).await?;
        make(&root).await?;
    }
    Ok(root)
}

/// Has the image of a root in an engine.
///
/// # Errors
/// Where the engine refuses it.
pub async fn ensure_image(places: &Places, root: &Root, engine: &Engine) -> Result<()> {
    let _lock = places.lock(&places.cache, "image").await?;
    if engine.has_image(&root.image()).await? {
        return Ok(());
    }
    engine
        .import_image(&root.tar(), REPOSITORY, &root.hash)
        .await
}

/// Removes the images of all roots from an engine, but for those in use.
///
/// # Errors
/// Where the engine refuses for another reason.
pub async fn remove_images(engine: &Engine) -> Result<()> {
    let filter: String = url::form_urlencoded::byte_serialize(
        format!("{{\"reference\":[\"{REPOSITORY}\"]}}").as_bytes(),
    )
    .collect();
    let images = engine
        .get(&format!("/images/json?filters={filter}"))
        .await?;
    for image in images.as_array().into_iter().flatten() {
        for tag in image["RepoTags"].as_array().into_iter().flatten() {
            let path = format!("/images/{}", tag.as_str().unwrap_or_default());
            match engine.delete(&path).await {
                Err(error) if error.status() != Some(409) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

async fn make(root: &Root) -> Result<()> {
    let codename = packages::debian_codename()?;
    let mut text = String::new();
    for path in source_files() {
        text.push_str(&deb822(&path)?);
        text.push('\n');
    }
    let suite = root.release.suite();
    let sources = sources_of(&text, &codename, suite).ok_or_else(|| {
        LabError::Unsuitable(format!(
            "apt's sources have no entry for Debian's '{codename}' with the component 'main'"
        ))
    })?;
    let partial = root.dir.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(LabError::io("remove", &partial))?;
    }
    let busybox = partial.join("busybox");
    place::make_dir(&busybox)?;
    let fixup = partial.join("fixup.sh");
    place::write(&fixup, FIXUP)?;
    let list = partial.join("lab.sources");
    place::write(&list, sources)?;
    let settings = partial.join("apt.conf");
    let mut config = Command::new("apt-config");
    config.arg("dump");
    let config = process::run(config).await?;
    place::write(&settings, apt_settings(&config))?;

    let mut command = Command::new("mmdebstrap");
    command
        .env("LC_ALL", "C.UTF-8")
        .arg("--variant=extract")
        .arg(format!("--include={}", packages_of(root.release).join(",")))
        .arg(format!("--aptopt={}", settings.display()))
        .arg("--aptopt=Apt::Install-Recommends \"false\"")
        .arg(format!(
            "--extract-hook=sh '{}' \"$1\" '{}'",
            fixup.display(),
            busybox.display()
        ))
        .arg("--format=tar")
        .arg(suite)
        .arg(partial.join("root.tar"))
        .arg(&list);
    process::run(command).await?;
    fs::rename(&partial, &root.dir).map_err(LabError::io("rename", &partial))
}

fn source_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let parts = fs::read_dir("/etc/apt/sources.list.d");
    let mut parts: Vec<PathBuf> = parts
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    parts.sort();
    files.extend(parts);
    files
}

/// A file of apt's sources in the stanza format. What is no such file is empty.
fn deb822(path: &Path) -> Result<String> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("sources") => place::read_text(path),
        Some("list") if path.exists() => Ok(place::read_text(path)?
            .lines()
            .filter_map(one_line_source)
            .collect::<Vec<_>>()
            .join("\n")),
        _ => Ok(String::new()),
    }
}

/// `deb [options] URI suite component…` as a stanza.
fn one_line_source(line: &str) -> Option<String> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let components = words.collect::<Vec<_>>().join(" ");
    let signed = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="));
    let mut stanza =
        format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {components}\n");
    if let Some(signed) = signed {
        stanza.push_str(&format!("Signed-By: {signed}\n"));
    }
    Some(stanza)
}

/// The stanza of the host's Debian archive, with the suite replaced by `suite`.
///
/// Other archives use Debian's suite names as well; Debian's own end in `debian` by convention.
fn sources_of(stanzas: &str, codename: &str, suite: &str) -> Option<String> {
    let field = |stanza: &str, name: &str| {
        stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim()
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let has = |list: Option<String>, word: &str| {
        list.is_some_and(|list| list.split_whitespace().any(|item| item == word))
    };
    let aliases = [codename, "stable", "testing", "unstable", "sid"];
    let candidates = stanzas.split("\n\n").filter(|stanza| {
        has(field(stanza, "Types"), "deb")
            && has(field(stanza, "Components"), "main")
            && aliases
                .iter()
                .any(|name| has(field(stanza, "Suites"), name))
            && !field(stanza, "Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"))
    });
    let mut found: Vec<(String, Option<String>)> = candidates
        .filter_map(|stanza| Some((field(stanza, "URIs")?, field(stanza, "Signed-By"))))
        .filter(|(_, signed)| !signed.as_deref().is_some_and(str::is_empty))
        .collect();
    found.sort_by_key(|(uri, _)| !uri.trim_end_matches('/').ends_with("debian"));
    let (uri, signed) = found.into_iter().next()?;
    let mut stanza = format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n");
    if let Some(signed) = signed {
        stanza.push_str(&format!("Signed-By: {signed}\n"));
    }
    Some(stanza)
}

/// How this host reaches its mirror, out of `apt-config dump`: mmdebstrap takes nothing from the
/// host's configuration by itself.
fn apt_settings(dump: &str) -> String {
    let wanted = ["Proxy", "CAInfo", "CAPath", "Verify-Peer", "Timeout"];
    // A mirror that stands still has lists that are out of date; whether they do is the host's say.
    let dates = ["acquire::check-valid-until ", "acquire::check-date "];
    let mut settings = String::from("Acquire::Languages \"none\";\n");
    for line in dump.lines() {
        let lower = line.to_ascii_lowercase();
        let names_one = wanted
            .iter()
            .any(|name| lower.contains(&name.to_ascii_lowercase()));
        let reaches = lower.starts_with("acquire::http") && names_one;
        let dated = dates.iter().any(|name| lower.starts_with(name));
        if (reaches || dated) && !line.contains("\"\"") {
            settings.push_str(line);
            settings.push('\n');
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_of_the_host_is_found_among_others() {
        let stanzas = "Types: deb\nURIs: https://third.example/repo\nSuites: bookworm\nComponents: main\n\nTypes: deb\n# a comment\nURIs: https://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /keys.gpg\n\nTypes: deb\nURIs: https://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n";
        assert_eq!(
            sources_of(stanzas, "bookworm", "trixie").as_deref(),
            Some(
                "Types: deb\nURIs: https://mirror.example/debian\nSuites: trixie\nComponents: main\nSigned-By: /keys.gpg\n"
            )
        );
    }

    #[test]
    fn a_vendor_archive_alone_is_not_the_archive() {
        let stanzas =
            "Types: deb\nURIs: https://vendor.example/debian\nSuites: bookworm\nComponents: stable";
        assert_eq!(sources_of(stanzas, "bookworm", "trixie"), None);
    }

    #[test]
    fn one_line_sources_become_stanzas() {
        let line = "deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian bookworm main contrib # x";
        assert_eq!(
            one_line_source(line).as_deref(),
            Some(
                "Types: deb\nURIs: https://mirror.example/debian\nSuites: bookworm\nComponents: main contrib\nSigned-By: /k.gpg\n"
            )
        );
        assert_eq!(
            one_line_source("deb-src https://m.example/debian b main"),
            None
        );
        assert_eq!(
            one_line_source("# deb https://m.example/debian b main"),
            None
        );
    }

    #[test]
    fn how_the_host_reaches_its_mirror_is_kept() {
        let dump = "APT \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://proxy.example:3128\";\nAcquire::Check-Valid-Until \"false\";\nAcquire::GzipIndexes \"true\";\n";
        assert_eq!(
            apt_settings(dump),
            "Acquire::Languages \"none\";\nAcquire::http::Proxy \"http://proxy.example:3128\";\nAcquire::Check-Valid-Until \"false\";\n"
        );
    }
}
