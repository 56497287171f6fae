//! Files of a site, filled with a lab's addresses.
//!
//! A template holds names between at-signs (`@GATEWAY@`). A name that nobody gave a value is an
//! error, so that no file is ever left half filled.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::lab::Lab;
use crate::place;
use crate::{LabError, Result};

/// Values by the name that templates use, without the at-signs.
pub type Values = BTreeMap<String, String>;

/// What a lab itself knows: `LAB`, `GATEWAY`, `SUBNET`, `OVERLAY_POOL`, and for each guest
/// `<NAME>` (its address), `VMID_<NAME>` and `SOCKET_<NAME>` (its Docker engine's, on the host) with
/// its name in capitals and `_` for dashes.
#[must_use]
pub fn values_of(lab: &Lab) -> Values {
    let network = lab.network();
    let mut values = Values::from([
        ("LAB".to_owned(), lab.name().to_owned()),
        ("GATEWAY".to_owned(), network.gateway().to_string()),
        ("SUBNET".to_owned(), network.subnet()),
        ("OVERLAY_POOL".to_owned(), network.overlay_pool()),
    ]);
    for node in lab.nodes() {
        let name = node.name().to_ascii_uppercase().replace('-', "_");
        values.insert(name.clone(), node.ip().to_string());
        values.insert(format!("VMID_{name}"), node.vmid().to_string());
        let socket = node.docker_socket().display().to_string();
        values.insert(format!("SOCKET_{name}"), socket);
    }
    values
}

/// Fills one text. A name is capitals, digits and underscores; other at-signs stay.
///
/// # Errors
/// Where a name has no value.
pub fn fill(text: &str, values: &Values) -> Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        filled.push_str(before);
        let named = after.split_once('@').filter(|(name, _)| {
            name.starts_with(|c: char| c.is_ascii_uppercase())
                && name
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        });
        match named {
            Some((name, tail)) => {
                let value = values
                    .get(name)
                    .ok_or_else(|| LabError::Malformed(format!("no value for @{name}@")))?;
                filled.push_str(value);
                rest = tail;
            }
            None => {
                filled.push('@');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Fills every file below `from` into the same place below `to`, with its mode. What `to` holds
/// beside them stays.
///
/// # Errors
/// Where a file is no text, names an unknown value, or cannot be read or written.
pub fn render(from: &Path, to: &Path, values: &Values) -> Result<()> {
    place::make_dir(to)?;
    for entry in fs::read_dir(from).map_err(LabError::io("read", from))? {
        let entry = entry.map_err(LabError::io("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            render(&source, &target, values)?;
            continue;
        }
        let text = place::read_text(&source)?;
        let filled = fill(&text, values)
            .map_err(|error| LabError::Malformed(format!("{}: {error}", source.display())))?;
        place::write(&target, filled)?;
        let mode = fs::metadata(&source)
            .map_err(LabError::io("read", &source))?
            .permissions();
        fs::set_permissions(&target, mode).map_err(LabError::io("set the mode of", &target))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values::from([("GATEWAY".to_owned(), "10.77.1.1".to_owned())])
    }

    #[test]
    fn names_are_filled_and_other_signs_stay() {
        let filled = fill("a@b: https://@GATEWAY@:8006 root@pam!x @", &values()).expect("fill");
        assert_eq!(filled, "a@b: https://10.77.1.1:8006 root@pam!x @");
    }

    #[test]
    fn a_name_without_a_value_is_an_error() {
        let error = fill("x: @NOBODY@", &values()).expect_err("unknown");
        assert!(error.to_string().contains("@NOBODY@"));
    }

    #[test]
    fn a_tree_is_filled_with_its_modes() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("dir");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("stacks")).expect("dir");
        let file = from.join("stacks/a.sh");
        fs::write(&file, "@GATEWAY@").expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).expect("mode");
        render(&from, &to, &values()).expect("render");
        let target = to.join("stacks/a.sh");
        assert_eq!(fs::read_to_string(&target).expect("read"), "10.77.1.1");
        let mode = fs::metadata(&target).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
