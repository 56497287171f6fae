//! What is attached to a service: networks, and configs and secrets as files.
//!
//! Invariants: what is attached is declared in the file; no two files of a kind have one target.

use std::collections::BTreeMap;

use crate::ground::document::{Cursor, Value};

use super::model::{Attachment, FileReference, Place};
use super::reading::{fields, filled, integer, optional, options, text, texts};
use super::service::{Declared, Names, place};

pub(super) fn attachments(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Vec<Attachment>> {
    let mut attachments: Vec<Attachment> = Vec::new();
    let known = |item: &Cursor<'_>, name: &str| {
        name == "default" || declared.knows(item, "network", name, declared.networks)
    };
    if let Value::List(_) = at.node().value {
        for item in at.items()? {
            let Some(name) = text(&item) else { continue };
            if attachments.iter().any(|other| other.network == name) {
                item.refuse("the network is listed twice");
            } else if known(&item, name) {
                attachments.push(Attachment {
                    network: name.to_owned(),
                    aliases: Vec::new(),
                    driver_opts: BTreeMap::new(),
                    place: place(&item),
                });
            }
        }
        return Some(attachments);
    }
    for (name, position, value) in at.entries()? {
        if !known(&value, name) {
            continue;
        }
        let mut attachment = Attachment {
            network: name.to_owned(),
            aliases: Vec::new(),
            driver_opts: BTreeMap::new(),
            place: Place {
                position: value.reader().locate(position).1,
                ..place(&value)
            },
        };
        if !value.is_null() {
            const ADDRESS: &str = "a swarm does not support fixed addresses of services";
            let map = fields(
                &value,
                &["aliases", "driver_opts"],
                &[("ipv4_address", ADDRESS), ("ipv6_address", ADDRESS)],
            )?;
            attachment.aliases = optional(&map, "aliases", texts)?;
            attachment.driver_opts = optional(&map, "driver_opts", options)?;
        }
        attachments.push(attachment);
    }
    Some(attachments)
}

pub(super) fn files(
    at: &Cursor<'_>,
    declared: &Declared<'_>,
    what: &str,
    known: &Names<'_>,
) -> Option<Vec<FileReference>> {
    let mut files: Vec<FileReference> = Vec::new();
    for item in at.items()? {
        let Some((file, source_at)) = file(&item) else {
            continue;
        };
        if !declared.knows(&source_at, what, &file.source, known) {
        } else if files.iter().any(|other| other.target == file.target)
            // Of one of several files docker keeps the last of a source, when it merges them.
            && !declared.is_docker_part()
        {
            item.refuse(format!("another {what} has the target `{}`", file.target));
        } else {
            files.push(file);
        }
    }
    Some(files)
}

fn file<'d>(at: &Cursor<'d>) -> Option<(FileReference, Cursor<'d>)> {
    let reference = |source: &str| FileReference {
        source: source.to_owned(),
        target: source.to_owned(),
        uid: "0".to_owned(),
        gid: "0".to_owned(),
        mode: 0o444,
        place: place(at),
    };
    if let Value::Map(_) = at.node().value {
        let map = fields(at, &["source", "target", "uid", "gid", "mode"], &[])?;
        let source_at = map.required("source")?;
        let mut file = reference(filled(&source_at)?);
        for (key, field) in [
            ("target", &mut file.target),
            ("uid", &mut file.uid),
            ("gid", &mut file.gid),
        ] {
            if let Some(at) = map.get(key) {
                // An empty text is as good as none.
                let text = text(&at)?;
                if !text.is_empty() {
                    *field = text.to_owned();
                }
            }
        }
        if let Some(at) = map.get("mode") {
            file.mode = mode(&at)?;
        }
        Some((file, source_at))
    } else {
        Some((reference(filled(at)?), at.clone()))
    }
}

/// Permission bits. A decimal number is legal and nearly always an octal one without its `0`.
fn mode(at: &Cursor<'_>) -> Option<u32> {
    let written = at.node().written.as_deref().unwrap_or_default();
    if let Value::String(_) = at.node().value
        && written.starts_with('0')
        && let Ok(bits) = u32::from_str_radix(written.trim_start_matches("0o"), 8)
        && bits <= 0o7777
    {
        return Some(bits);
    }
    let bits = integer(at, 0..=0o7777)?;
    if bits > 0 && !written.starts_with('0') {
        at.warn(format!(
            "this decimal number stands for the mode {bits:04o}; octal ones begin with `0`"
        ));
    }
    Some(bits)
}
