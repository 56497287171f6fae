//! Relative paths in a file from elsewhere.

use std::path::Path;

use crate::ground::document::{Map, Node, Value};

use super::super::findings::{children, items, map_mut};
use super::super::volumes::without_dots;

/// Makes the paths in the tree at `root` absolute, which are relative to `directory`.
pub(super) fn absolute(root: &mut Node, directory: &Path) {
    for section in ["configs", "secrets"] {
        for (_, declared) in children(root, section) {
            if let Some(file) = map_mut(declared).and_then(|map| map.get_mut("file")) {
                join(file, directory);
            }
        }
    }
    of_volumes(root, directory);
    for (_, service) in children(root, "services") {
        if let Some(service) = map_mut(service) {
            of_service(service, directory);
        }
    }
}

/// Makes the directories absolute that volumes of the tree at `root` are made of.
pub(super) fn of_volumes(root: &mut Node, directory: &Path) {
    for (_, volume) in children(root, "volumes") {
        let Some(volume) = map_mut(volume) else {
            continue;
        };
        let driver = volume.get("driver").and_then(Node::text);
        if driver.is_some_and(|driver| driver != "local") {
            continue;
        }
        let Some(options) = volume.get_mut("driver_opts").and_then(map_mut) else {
            continue;
        };
        let ways = options.get("o").and_then(Node::text).unwrap_or_default();
        if ways
            .split(',')
            .any(|way| matches!(way.trim(), "bind" | "rbind"))
            && let Some(device) = options.get_mut("device")
        {
            join(device, directory);
        }
    }
}

pub(super) fn of_service(service: &mut Map, directory: &Path) {
    if let Some(files) = service.get_mut("env_file") {
        match &mut files.value {
            Value::List(items) => items.iter_mut().for_each(|item| env_file(item, directory)),
            _ => env_file(files, directory),
        }
    }
    for (_, mount) in items(service, "volumes") {
        if let Some(long) = map_mut(mount) {
            let bind = long.get("type").and_then(Node::text) == Some("bind");
            if let Some(source) = long.get_mut("source").filter(|_| bind) {
                join(source, directory);
            }
        } else if let Value::String(text) = &mut mount.value
            && text.starts_with('.')
            && let Some((source, rest)) = text.split_once(':')
        {
            *text = format!("{}:{rest}", without_dots(&directory.join(source)).display());
        }
    }
}

fn env_file(item: &mut Node, directory: &Path) {
    match &mut item.value {
        Value::Map(long) => {
            if let Some(path) = long.get_mut("path") {
                join(path, directory);
            }
        }
        _ => join(item, directory),
    }
}

fn join(node: &mut Node, directory: &Path) {
    if let Value::String(text) = &mut node.value
        && !text.starts_with('~')
    {
        let path = without_dots(&directory.join(text.as_str()));
        *text = path.display().to_string();
    }
}
