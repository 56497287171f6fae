//! The habits of `docker stack deploy`: what it drops or changes in the tree of a file, dropped
//! and changed here in the same way, each with a warning. Only where docker's ways are asked for;
//! otherwise the reader refuses these things or does what was meant.

use std::path::Path;

use crate::ground::document::{Map, Node, Position, Value, child_path};

use super::findings::{Findings, children, entry, items, map_mut, text_node};
use super::interpolate::Variables;
use super::options::LoadOptions;
use super::ports;

/// Keys of a service that docker names as unsupported or deprecated, and goes on.
const IGNORED: &[&str] = &[
    "build",
    "cgroup_parent",
    "cgroupns_mode",
    "container_name",
    "devices",
    "domainname",
    "expose",
    "external_links",
    "ipc",
    "links",
    "mac_address",
    "network_mode",
    "pid",
    "privileged",
    "security_opt",
    "shm_size",
    "userns_mode",
];
/// Keys of a service that docker reads and forgets.
const FORGOTTEN: &[&str] = &["tmpfs", "oom_score_adj"];

const PROPAGATIONS: &[&str] = &[
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// Changes the tree at `root` as docker does.
pub(super) fn apply(root: &mut Node, options: &LoadOptions, findings: &mut Findings) {
    for (key, service) in children(root, "services") {
        let path = child_path("services", key);
        if let Some(service) = map_mut(service) {
            Habits {
                findings,
                path: &path,
            }
            .service(service, options);
        }
    }
    for (key, volume) in children(root, "volumes") {
        let path = child_path("volumes", key);
        if let Some(volume) = map_mut(volume) {
            let mut habits = Habits {
                findings,
                path: &path,
            };
            habits.drop(
                volume,
                "",
                "x-cluster-spec",
                "`docker stack deploy` makes no cluster volumes, and drops this key without a word",
            );
        }
    }
}

struct Habits<'a> {
    findings: &'a mut Findings,
    path: &'a str,
}

impl Habits<'_> {
    fn warn(&mut self, position: Position, rest: &str, text: Option<&str>, message: &str) {
        let path = format!("{}{rest}", self.path);
        self.findings.warn(position, &path, text, message);
    }

    /// Takes `key` out of `map`, which is at `rest` below the path.
    fn drop(&mut self, map: &mut Map, rest: &str, key: &str, message: &str) {
        if let Some(entry) = map.remove(key) {
            let rest = format!("{rest}.{key}");
            self.warn(entry.key_position, &rest, Some(key), message);
        }
    }

    /// Takes every key but `known` out of `map`.
    fn keep(&mut self, map: &mut Map, rest: &str, known: &[&str], message: &str) {
        let others: Vec<String> = map
            .iter()
            .map(|entry| entry.key.clone())
            .filter(|key| !known.contains(&key.as_str()))
            .collect();
        for key in others {
            self.drop(map, rest, &key, message);
        }
    }

    fn service(&mut self, service: &mut Map, options: &LoadOptions) {
        for key in IGNORED {
            if service.get(key).is_some_and(|node| is_taken(key, node)) {
                self.drop(service, "", key, "`docker stack deploy` ignores this key");
            }
        }
        for key in FORGOTTEN {
            if !service.get(key).is_some_and(|node| is_taken(key, node)) {
                continue;
            }
            self.drop(
                service,
                "",
                key,
                "`docker stack deploy` drops this key without a word",
            );
        }
        // In long form docker refuses it, and so does the reader.
        if matches!(
            service.get("depends_on").map(|node| &node.value),
            Some(Value::List(_))
        ) {
            self.drop(
                service,
                "",
                "depends_on",
                "`docker stack deploy` starts all services at once: the order is lost",
            );
        }
        self.networks(service);
        for (index, port) in items(service, "ports") {
            self.port(index, port);
        }
        for (index, mount) in items(service, "volumes") {
            self.mount(index, mount, options);
        }
        for list in ["secrets", "configs"] {
            for (index, file) in items(service, list) {
                if let Some(file) = map_mut(file) {
                    self.keep(
                        file,
                        &format!(".{list}[{index}]"),
                        &["source", "target", "uid", "gid", "mode"],
                        "`docker stack deploy` drops this key without a word",
                    );
                }
            }
        }
        if let Some(Value::Map(check)) = service.get_mut("healthcheck").map(|node| &mut node.value)
            && let Some(retries) = check.get_mut("retries")
            && let Value::Float(number) = retries.value
            && number.abs() < f64::from(i32::MAX)
        {
            #[allow(clippy::cast_possible_truncation)]
            let whole = number as i64;
            retries.value = Value::Integer(whole);
            let message = format!("docker takes {whole} for this");
            let text = retries.written.take();
            self.warn(
                retries.position,
                ".healthcheck.retries",
                text.as_deref(),
                &message,
            );
        }
        self.texts(
            service,
            "dns",
            "docker drops what is no IP address",
            |text| text.parse::<std::net::IpAddr>().is_ok(),
        );
        for key in ["cap_add", "cap_drop"] {
            self.texts(service, key, "docker drops this word", |text| {
                !text.eq_ignore_ascii_case("RESET")
            });
        }
        self.texts(
            service,
            "extra_hosts",
            "docker drops an entry without an address",
            |text| text.contains(['=', ':']),
        );
    }

    /// Takes the texts out of the list (or one text) under `key` that docker does not keep.
    fn texts(&mut self, service: &mut Map, key: &str, message: &str, kept: impl Fn(&str) -> bool) {
        let Some(node) = service.get_mut(key) else {
            return;
        };
        match &mut node.value {
            Value::List(list) => {
                let mut index = 0;
                list.retain(|item| {
                    let Value::String(text) = &item.value else {
                        return true;
                    };
                    let keep = kept(text);
                    if !keep {
                        self.warn(
                            item.position,
                            &format!(".{key}[{index}]"),
                            Some(text),
                            message,
                        );
                    }
                    index += 1;
                    keep
                });
            }
            Value::String(text) if !kept(text) => {
                let (position, text) = (node.position, text.clone());
                service.remove(key);
                self.warn(position, &format!(".{key}"), Some(&text), message);
            }
            _ => {}
        }
    }

    fn networks(&mut self, service: &mut Map) {
        let Some(Value::Map(networks)) = service.get_mut("networks").map(|node| &mut node.value)
        else {
            return;
        };
        for (network, attachment) in networks.values_mut() {
            let Some(attachment) = map_mut(attachment) else {
                continue;
            };
            let rest = child_path(".networks", network);
            for key in ["ipv4_address", "ipv6_address"] {
                self.drop(
                    attachment,
                    &rest,
                    key,
                    "`docker stack deploy` drops this key without a word",
                );
            }
        }
    }

    /// Takes the address, and a published port 0, out of a port in short form.
    fn port(&mut self, index: usize, port: &mut Node) {
        if let Value::String(text) = &port.value
            && let Some(without) = text.strip_suffix('/')
        {
            let (text, without) = (text.clone(), without.to_owned());
            let message = "docker takes an empty protocol for `tcp`";
            let rest = format!(".ports[{index}]");
            self.warn(port.position, &rest, Some(&text), message);
            port.value = Value::String(without);
        }
        let Value::String(text) = &port.value else {
            return;
        };
        let Some((before, target)) = text.rsplit_once(':') else {
            return;
        };
        let (address, published) = match before.rsplit_once(':') {
            Some((address, published)) => (Some(address), published),
            None => (None, before),
        };
        if let Some(address) = address {
            let bare = address.trim_start_matches('[').trim_end_matches(']');
            // What is no address docker refuses, and so does the reader.
            if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
                return;
            }
        }
        let everywhere = address.is_some_and(ports::is_everywhere);
        let zero = published.bytes().all(|byte| byte == b'0');
        let message = match address {
            Some(_) if !everywhere => {
                Some("docker drops the address: the port is open at every address of every node")
            }
            Some(_) if published.is_empty() => None,
            _ if zero => Some("docker takes a published port 0 for any port that is free"),
            Some(_) => None,
            None => return,
        };
        let without = if published.is_empty() || zero {
            target.to_owned()
        } else {
            format!("{published}:{target}")
        };
        if let Some(message) = message {
            let text = text.clone();
            self.warn(
                port.position,
                &format!(".ports[{index}]"),
                Some(&text),
                message,
            );
        }
        port.value = Value::String(without);
    }

    fn mount(&mut self, index: usize, mount: &mut Node, options: &LoadOptions) {
        let rest = format!(".volumes[{index}]");
        if let Value::String(text) = &mount.value {
            let text = text.clone();
            if let Some(long) = self.short_mount(&text, mount.position, &rest) {
                mount.value = Value::Map(long);
            }
        }
        let position = mount.position;
        let Some(mount) = map_mut(mount) else {
            return;
        };
        for (key, known) in [
            ("bind", &["propagation"][..]),
            ("volume", &["nocopy", "subpath"]),
            ("tmpfs", &["size"]),
        ] {
            if let Some(Value::Map(inner)) = mount.get_mut(key).map(|node| &mut node.value) {
                let rest = format!("{rest}.{key}");
                self.keep(
                    inner,
                    &rest,
                    known,
                    "`docker stack deploy` drops this key without a word",
                );
            }
        }
        let kind = match mount.get("type").map(|node| &node.value) {
            Some(Value::String(kind)) => kind.clone(),
            _ => return,
        };
        if matches!(kind.as_str(), "" | "volume") && is_empty(mount.get("source")) {
            self.drop(
                mount,
                &rest,
                "volume",
                "docker drops the options of a volume without a name",
            );
        }
        if kind == "bind"
            && let Some(source) = mount.get_mut("source")
            && let Value::String(text) = &source.value
            && let Some(after) = text.strip_prefix('~')
        {
            let home = options
                .home
                .as_deref()
                .or_else(|| options.variables().get("HOME").map(Path::new));
            let (message, replaced) = match home {
                Some(home) => (
                    "docker replaces `~` by the home directory here, and not on the nodes",
                    format!("{}{after}", home.display()),
                ),
                None => ("docker does not know a home directory here", text.clone()),
            };
            let text = text.clone();
            source.value = Value::String(replaced);
            self.warn(position, &rest, Some(&text), message);
        }
    }

    /// A mount in short form as docker reads it, in long form. `None` where docker reads it like
    /// everybody else, or refuses it as the reader will.
    fn short_mount(&mut self, text: &str, position: Position, rest: &str) -> Option<Map> {
        let sections = sections(text);
        let plain = sections.iter().map(String::as_str).eq(text.split(':'));
        let (source, target, words) = match sections.as_slice() {
            [target] => (None, target, ""),
            [source, target] => (Some(source), target, ""),
            [source, target, words] => (Some(source), target, words.as_str()),
            _ => return None,
        };
        if sections.iter().any(String::is_empty) {
            return None;
        }
        let known =
            |word: &&str| matches!(*word, "ro" | "rw" | "nocopy") || PROPAGATIONS.contains(word);
        let strange: Vec<&str> = words.split(',').filter(|word| !known(word)).collect();
        let strange = !words.is_empty() && !strange.is_empty();
        if plain && !strange && !text.starts_with('~') {
            return None;
        }
        if !plain {
            self.warn(
                position,
                rest,
                Some(text),
                "docker takes the letter before the colon for a Windows drive",
            );
        }
        if strange {
            self.warn(
                position,
                rest,
                Some(text),
                "`docker stack deploy` drops the options it does not know",
            );
        }
        let mut long = Map::default();
        let mut put = |key: &str, value: Node| long.put(entry(key, value));
        let bind = source.is_some_and(|source| is_path(source));
        put(
            "type",
            text_node(if bind { "bind" } else { "volume" }, position),
        );
        if let Some(source) = source {
            put("source", text_node(source.as_str(), position));
        }
        put("target", text_node(target.as_str(), position));
        let truth = |value: bool| Node::new(Value::Bool(value), position);
        for word in words.split(',').filter(|word| known(word)) {
            let mut inner = Map::default();
            let key = match word {
                "ro" | "rw" => {
                    put("read_only", truth(word == "ro"));
                    continue;
                }
                "nocopy" => {
                    inner.put(entry("nocopy", truth(true)));
                    "volume"
                }
                word => {
                    inner.put(entry("propagation", text_node(word, position)));
                    "bind"
                }
            };
            put(key, Node::new(Value::Map(inner), position));
        }
        Some(long)
    }
}

/// Whether docker takes the value `node` for `key`, which it ignores then. (One that it does not
/// take is left to the reader, who refuses the key.)
fn is_taken(key: &str, node: &Node) -> bool {
    let text = |node: &Node| matches!(node.value, Value::String(_));
    let brought_in = text(node) && node.written.is_some();
    match (key, &node.value) {
        ("build", Value::Map(_)) | ("pid", Value::Null) => true,
        ("privileged", value) => matches!(value, Value::Bool(_)) || brought_in,
        ("oom_score_adj", value) => matches!(value, Value::Integer(_)) || brought_in,
        ("expose", Value::List(items)) => items
            .iter()
            .all(|item| text(item) || matches!(item.value, Value::Integer(_))),
        ("devices" | "external_links" | "links" | "security_opt" | "tmpfs", Value::List(items)) => {
            items.iter().all(text)
        }
        ("devices" | "expose" | "external_links" | "links" | "security_opt", _) => false,
        _ => text(node),
    }
}

fn is_empty(node: Option<&Node>) -> bool {
    node.is_none_or(|node| node.text().is_none_or(str::is_empty))
}

/// The sections of a mount in short form, between colons that do not follow a lone letter.
fn sections(text: &str) -> Vec<String> {
    if text.len() <= 2 {
        return vec![text.to_owned()];
    }
    let mut sections = vec![String::new()];
    for character in text.chars() {
        let Some(section) = sections.last_mut() else {
            continue;
        };
        let mut letters = section.chars();
        let lone = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
        if character == ':' && !lone {
            sections.push(String::new());
        } else {
            section.push(character);
        }
    }
    sections
}

/// Whether docker takes the source of a mount for a path.
fn is_path(source: &str) -> bool {
    let mut letters = source.chars();
    source.starts_with(['.', '/', '~'])
        || source.starts_with("\\\\")
        || letters.next().is_some_and(char::is_alphabetic) && letters.next() == Some(':')
}

/// What docker makes of an environment variable with the value `value`: one without a value, or
/// with an empty one, takes the value of the variable of that name.
pub(super) fn environment_value(
    name: &str,
    value: Option<String>,
    variables: &Variables,
) -> Option<String> {
    match value {
        Some(value) if !value.is_empty() => Some(value),
        value => variables.get(name).cloned().or(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_split_as_docker_splits_them() {
        for (text, expected) in [
            ("v:/data", &["v:/data"][..]),
            ("v:/data:ro", &["v:/data", "ro"]),
            ("/a:b:/c", &["/a", "b:/c"]),
            ("data:/data:ro", &["data", "/data", "ro"]),
            ("a:", &["a:"]),
            ("/x", &["/x"]),
            ("a::b", &["a:", "b"]),
        ] {
            assert_eq!(sections(text), expected, "{text}");
        }
    }
}
