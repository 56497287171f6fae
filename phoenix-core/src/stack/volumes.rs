//! Mounts of a service: `data:/var/lib/data:ro`, `/srv:/srv`, `/cache`, the long form, and the
//! service's own `tmpfs`.
//!
//! Invariants: a target is absolute and occurs once; a bind source is absolute (a relative one is
//! below the compose file's directory); a named volume is looked up among the declared ones by
//! whoever reads the service. A name of one letter is a volume, not a Windows drive.

use std::path::{Component, Path, PathBuf};

use crate::ground::document::{Cursor, Fields, Value};

use super::model::{Mount, MountKind};
use super::quantity;
use super::reading::{boolean, fields, filled, integer, text};
use super::service::{Declared, place};

const PROPAGATIONS: &[&str] = &[
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// What is wrong with a mount in short form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MountError {
    #[error("no mount; one is written like `data:/var/lib/data`, `/srv:/srv:ro` or `/cache`")]
    Malformed,
    #[error("a part between the colons is empty")]
    EmptyPart,
    #[error("a mount has at most three parts: source, target and options")]
    TooManyParts,
    #[error("the target in the container must be an absolute path")]
    RelativeTarget,
    #[error("`~` has no meaning on the nodes of a swarm: write the path out")]
    Home,
    #[error(
        "the option `{0}` does nothing in a swarm, where only `ro`, `rw`, `nocopy` and the propagations of a bind are known"
    )]
    UnknownOption(String),
    #[error("the option `{0}` does not go with this kind of mount")]
    Misplaced(String),
    #[error("the size must be an amount of memory such as `64m`")]
    Size,
    #[error("the mode must be octal permission bits such as `1777`")]
    Mode,
}

/// A mount in short form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShortMount {
    pub(super) kind: MountKind,
    pub(super) target: String,
    pub(super) read_only: bool,
}

/// Reads the list under `volumes`; relative sources are below the file's directory.
pub(super) fn volumes(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Vec<Mount>> {
    at.each(|item| match item.node().text() {
        Some(text) => match short(text, declared.directory) {
            Ok(mount) => Some(placed(mount, &item)),
            // Docker looks at this when files are merged, and another may stand there then.
            Err(MountError::Misplaced(_)) if passes(declared) => None,
            Err(error) => {
                item.refuse(error.to_string());
                None
            }
        },
        None => long(&item, declared),
    })
}

/// Whether this is one of several files, of which docker looks at some things only together.
fn passes(declared: &Declared<'_>) -> bool {
    declared.as_docker() && !declared.whole
}

/// Reads what is under `tmpfs`: one text or a list of them.
pub(super) fn tmpfs(at: &Cursor<'_>) -> Option<Vec<Mount>> {
    let read = |item: Cursor<'_>| match short_tmpfs(text(&item)?) {
        Ok(mount) => Some(placed(mount, &item)),
        Err(error) => {
            item.refuse(error.to_string());
            None
        }
    };
    match at.node().text() {
        Some(_) => Some(read(at.clone()).into_iter().collect()),
        None => at.each(read),
    }
}

/// Reports every mount whose target another one has.
pub(super) fn refuse_shared_targets(service: &Fields<'_>, mounts: &[Mount]) {
    let lists = ["volumes", "tmpfs"].map(|key| service.get(key));
    let items: Vec<Cursor<'_>> = lists
        .into_iter()
        .flatten()
        .flat_map(|list| match list.node().value {
            Value::List(_) => list.items().unwrap_or_default(),
            _ => vec![list],
        })
        .collect();
    for (index, mount) in mounts.iter().enumerate() {
        if mounts[..index]
            .iter()
            .any(|other| other.target == mount.target)
            && let Some(item) = items.iter().find(|item| item.path() == mount.place.path)
        {
            item.reader().report(
                item.position(),
                item.path(),
                Some(&mount.target),
                "another mount has this target already",
                None,
            );
        }
    }
}

fn placed(mount: ShortMount, at: &Cursor<'_>) -> Mount {
    Mount {
        kind: mount.kind,
        target: mount.target,
        read_only: mount.read_only,
        consistency: None,
        place: place(at),
    }
}

fn checked_target(target: &str) -> Result<String, MountError> {
    if target.starts_with('/') {
        Ok(target.to_owned())
    } else {
        Err(MountError::RelativeTarget)
    }
}

/// Parses the short form.
pub(super) fn short(text: &str, directory: &Path) -> Result<ShortMount, MountError> {
    if text.is_empty() {
        return Err(MountError::Malformed);
    }
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(MountError::EmptyPart);
    }
    let (source, target, options) = match *parts.as_slice() {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(MountError::TooManyParts),
    };
    let target = checked_target(target)?;
    let mut read_only = false;
    let mut no_copy = false;
    let mut propagation = None;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "nocopy" => no_copy = true,
            other if PROPAGATIONS.contains(&other) => propagation = Some(other.to_owned()),
            other => return Err(MountError::UnknownOption(other.to_owned())),
        }
    }
    let kind = match source {
        Some(source) if source.starts_with(['.', '/', '~']) => {
            if no_copy {
                return Err(MountError::Misplaced("nocopy".to_owned()));
            }
            MountKind::Bind {
                source: bind_source(source, directory)?,
                propagation,
            }
        }
        source => {
            if let Some(propagation) = propagation {
                return Err(MountError::Misplaced(propagation));
            }
            MountKind::Volume {
                key: source.map(str::to_owned),
                no_copy,
                subpath: None,
            }
        }
    };
    Ok(ShortMount {
        kind,
        target,
        read_only,
    })
}

/// Parses an entry of a service's `tmpfs`: `/run`, `/run:size=64m,mode=1777`.
pub(super) fn short_tmpfs(text: &str) -> Result<ShortMount, MountError> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let target = checked_target(target)?;
    let (mut size, mut mode, mut read_only) = (None, None, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => {
                size = Some(quantity::bytes(value).map_err(|_| MountError::Size)?);
            }
            Some(("mode", value)) => {
                let bits = u32::from_str_radix(value, 8)
                    .ok()
                    .filter(|bits| *bits <= 0o7777);
                mode = Some(bits.ok_or(MountError::Mode)?);
            }
            None if option == "ro" => read_only = true,
            None if option == "rw" => read_only = false,
            // What an engine does with every tmpfs mount anyway.
            None if matches!(option, "noexec" | "nosuid" | "nodev") => {}
            _ => return Err(MountError::UnknownOption(option.to_owned())),
        }
    }
    Ok(ShortMount {
        kind: MountKind::Tmpfs { size, mode },
        target,
        read_only,
    })
}

/// `path` without `.` and `..`, whatever the file system says of it.
pub(super) fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// An absolute source stays as it is written; a relative one is joined to `directory`.
fn bind_source(source: &str, directory: &Path) -> Result<String, MountError> {
    if source.starts_with('~') {
        return Err(MountError::Home);
    }
    if source.starts_with('/') {
        return Ok(source.to_owned());
    }
    let path = without_dots(&directory.join(source));
    path.into_os_string()
        .into_string()
        .map_err(|_| MountError::Malformed)
}

const KINDS: &[&str] = &["bind", "volume", "tmpfs", "npipe", "cluster", "image"];
/// Those that have a key of their own for their options.
const WITH_OPTIONS: &[&str] = &["bind", "volume", "tmpfs", "image"];

fn long(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Mount> {
    let mut keys = vec!["type", "source", "target", "read_only", "consistency"];
    keys.extend(WITH_OPTIONS);
    let map = fields(at, &keys, &[])?;
    let kind_at = map.required("type")?;
    let words: Vec<(&str, &'static str)> = KINDS.iter().map(|kind| (*kind, *kind)).collect();
    let kind = match text(&kind_at)? {
        "" => "volume",
        _ => kind_at.word(&words)?,
    };
    let own = if kind == "npipe" { "bind" } else { kind };
    for other in WITH_OPTIONS {
        if *other != own
            && !passes(declared)
            && let Some(misplaced) = map.get(other)
        {
            misplaced.refuse(format!(
                "options of `{other}` do not go with a mount of type `{kind}`"
            ));
        }
    }
    let target = map.required("target");
    let read_only = match map.get("read_only") {
        Some(at) => boolean(&at)?,
        None => false,
    };
    let consistency = match map.get("consistency") {
        Some(at) => Some(text(&at)?.to_owned()),
        None => None,
    };
    let source = match map.get("source") {
        Some(at) => Some((text(&at)?, at)).filter(|(text, _)| !text.is_empty()),
        None => None,
    };
    let options = map.get(own);
    let needed = || {
        if source.is_none() {
            at.refuse(format!("a mount of type `{kind}` needs a `source`"));
        }
        source.as_ref().map(|(text, _)| (*text).to_owned())
    };
    let kind = match kind {
        "bind" => {
            let source_text = needed()?;
            let (_, source_at) = source.as_ref()?;
            // Without a leading `.` a source in long form is a path all the same.
            let kept = declared.as_docker()
                && (source_text.starts_with('~') || is_windows_path(&source_text));
            let source = if kept {
                source_text
            } else {
                match bind_source(&source_text, declared.directory) {
                    Ok(source) => source,
                    Err(error) => {
                        source_at.refuse(error.to_string());
                        return None;
                    }
                }
            };
            MountKind::Bind {
                source,
                propagation: propagation(options)?,
            }
        }
        "npipe" => MountKind::Npipe {
            source: needed()?,
            propagation: propagation(options)?,
        },
        "cluster" => MountKind::Cluster { source: needed()? },
        "image" => MountKind::Image {
            source: needed()?,
            subpath: match options {
                Some(options) => subpath(&fields(&options, &["subpath"], &[])?)?,
                None => None,
            },
        },
        "volume" => {
            let (mut no_copy, mut inner) = (false, None);
            if let Some(options) = options {
                let options = fields(&options, &["nocopy", "subpath"], &[])?;
                if let Some(at) = options.get("nocopy") {
                    no_copy = boolean(&at)?;
                }
                inner = subpath(&options)?;
            }
            MountKind::Volume {
                key: source.map(|(source, _)| source.to_owned()),
                no_copy,
                subpath: inner,
            }
        }
        _ => {
            if let Some((_, source)) = source {
                source.refuse("a tmpfs has no source");
                return None;
            }
            let (mut size, mut mode) = (None, None);
            if let Some(options) = options {
                let options = fields(&options, &["size", "mode"], &[])?;
                size = Some(match options.get("size") {
                    Some(at) => integer(&at, 0..=i64::MAX)?,
                    None => 0,
                });
                if let Some(at) = options.get("mode") {
                    mode = Some(integer(&at, 0..=0o7777)?);
                }
            }
            MountKind::Tmpfs { size, mode }
        }
    };
    let target_at = target?;
    let target = filled(&target_at)?;
    // A letter before a colon is a drive, on Windows nodes.
    let windows = matches!(kind, MountKind::Npipe { .. }) || is_windows_path(target);
    let target = if declared.as_docker() || windows {
        Ok(target.to_owned())
    } else {
        checked_target(target)
    };
    match target {
        Ok(target) => Some(Mount {
            consistency,
            ..placed(
                ShortMount {
                    kind,
                    target,
                    read_only,
                },
                at,
            )
        }),
        Err(error) => {
            target_at.refuse(error.to_string());
            None
        }
    }
}

fn propagation(options: Option<Cursor<'_>>) -> Option<Option<String>> {
    let Some(options) = options else {
        return Some(None);
    };
    match fields(&options, &["propagation"], &[])?.get("propagation") {
        Some(at) if at.node().text() != Some("") => {
            let words: Vec<_> = PROPAGATIONS.iter().map(|word| (*word, *word)).collect();
            Some(Some(at.word(&words)?.to_owned()))
        }
        // Options without any are written all the same.
        _ => Some(Some(String::new())),
    }
}

fn subpath(options: &Fields<'_>) -> Option<Option<String>> {
    match options.get("subpath") {
        Some(at) => filled(&at).map(|text| Some(text.to_owned())),
        None => Some(None),
    }
}

/// Whether `path` begins with a drive and a separator.
fn is_windows_path(path: &str) -> bool {
    matches!(path.as_bytes(), [letter, b':', b'/' | b'\\', ..] if letter.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<ShortMount, MountError> {
        short(text, Path::new("/srv/stacks/web"))
    }

    fn volume(key: Option<&str>, target: &str) -> ShortMount {
        ShortMount {
            kind: MountKind::Volume {
                key: key.map(str::to_owned),
                no_copy: false,
                subpath: None,
            },
            target: target.to_owned(),
            read_only: false,
        }
    }

    fn bind(source: &str, target: &str) -> ShortMount {
        ShortMount {
            kind: MountKind::Bind {
                source: source.to_owned(),
                propagation: None,
            },
            target: target.to_owned(),
            read_only: false,
        }
    }

    #[test]
    fn short_mounts_are_read() {
        assert_eq!(parsed("/cache"), Ok(volume(None, "/cache")));
        assert_eq!(parsed("data:/data"), Ok(volume(Some("data"), "/data")));
        assert_eq!(parsed("v:/data"), Ok(volume(Some("v"), "/data")));
        assert_eq!(parsed("/a/../b:/c"), Ok(bind("/a/../b", "/c")));
        assert_eq!(parsed("./a/../b:/c"), Ok(bind("/srv/stacks/web/b", "/c")));
        assert_eq!(parsed("../x:/c:rw"), Ok(bind("/srv/stacks/x", "/c")));
        assert_eq!(parsed(".:/c"), Ok(bind("/srv/stacks/web", "/c")));
        let read_only = parsed("data:/data:ro,nocopy").unwrap();
        assert!(read_only.read_only);
        assert!(matches!(
            read_only.kind,
            MountKind::Volume { no_copy: true, .. }
        ));
        let MountKind::Bind { propagation, .. } = parsed("/a:/b:rslave").unwrap().kind else {
            panic!("no bind")
        };
        assert_eq!(propagation.as_deref(), Some("rslave"));
    }

    #[test]
    fn malformed_short_mounts_say_why() {
        for (text, expected) in [
            ("", MountError::Malformed),
            ("data", MountError::RelativeTarget),
            ("a:b", MountError::RelativeTarget),
            (":/a", MountError::EmptyPart),
            ("a:/b:", MountError::EmptyPart),
            ("a:/b:ro:x", MountError::TooManyParts),
            ("~/a:/b", MountError::Home),
            ("/a:/b:Z", MountError::UnknownOption("Z".to_owned())),
            ("a:/b:rslave", MountError::Misplaced("rslave".to_owned())),
            ("/a:/b:nocopy", MountError::Misplaced("nocopy".to_owned())),
        ] {
            assert_eq!(parsed(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn tmpfs_entries_are_read() {
        let mount = short_tmpfs("/run:size=64m,mode=1770,noexec,ro").unwrap();
        assert_eq!(
            mount.kind,
            MountKind::Tmpfs {
                size: Some(64 << 20),
                mode: Some(0o1770),
            }
        );
        assert!(mount.read_only);
        assert!(short_tmpfs("/run").is_ok());
        assert_eq!(short_tmpfs("run"), Err(MountError::RelativeTarget));
        assert_eq!(short_tmpfs("/run:size=x"), Err(MountError::Size));
        assert_eq!(short_tmpfs("/run:mode=9"), Err(MountError::Mode));
        assert_eq!(
            short_tmpfs("/run:uid=5"),
            Err(MountError::UnknownOption("uid=5".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn every_name_is_a_volume(name in "[A-Za-z0-9][A-Za-z0-9_-]{0,8}", target in "/[a-z/]{0,8}") {
            prop_assert_eq!(parsed(&format!("{name}:{target}")), Ok(volume(Some(&name), &target)));
        }

        #[test]
        fn a_mount_comes_back(
            source in proptest::option::of("/?[a-z][a-z0-9/]{0,8}"),
            target in "/[a-z/]{0,8}",
            read_only in any::<bool>(),
        ) {
            let mount = match &source {
                Some(source) if source.starts_with('/') => bind(source, &target),
                source => volume(source.as_deref(), &target),
            };
            let text = match (&source, read_only) {
                (None, _) => target.clone(),
                (Some(source), false) => format!("{source}:{target}"),
                (Some(source), true) => format!("{source}:{target}:ro"),
            };
            let mount = ShortMount {
                read_only: read_only && source.is_some(),
                ..mount
            };
            prop_assert_eq!(parsed(&text), Ok(mount));
        }

        #[test]
        fn bind_sources_are_absolute(source in "\\.{1,2}(/[a-z.]{1,4}){0,4}") {
            let MountKind::Bind { source, .. } = parsed(&format!("{source}:/t")).unwrap().kind else {
                panic!("no bind")
            };
            prop_assert!(source.starts_with('/'));
            prop_assert!(Path::new(&source).components().all(|c| c != Component::ParentDir));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[a-z~./:,=-]{0,16}") {
            let _ = parsed(&text);
            let _ = short_tmpfs(&text);
        }
    }
}
