//! What `docker compose` does for a service and a swarm has no place for, where the service is the
//! same without: left out with a word, or done in another way. Everything else is left for the
//! reader to refuse.

use crate::ground::document::{Entry, Map, Node, Position, Value, child_path};

use super::super::findings::{Findings, children, entry, items, map, map_mut, text_node};

/// Networks that the engine has by itself, in which there are no aliases.
const PREDEFINED: &[&str] = &["bridge", "host", "none"];
/// Options of a mount that say how an engine labels files or, on some machines, how it copies them.
const OPTIONS: &[&str] = &["z", "Z", "cached", "consistent", "delegated"];

/// Changes the services of the tree at `root`.
pub(super) fn apply(root: &mut Node, findings: &mut Findings) {
    let predefined = predefined(root);
    for (key, service) in children(root, "services") {
        let path = child_path("services", key);
        let key = key.to_owned();
        let Some(service) = map_mut(service) else {
            continue;
        };
        let mut service = Service {
            map: service,
            key: &key,
            path: &path,
            findings,
        };
        service.expose();
        service.build();
        service.links();
        service.container_name(&predefined);
        service.mounts();
        service.shared_memory();
    }
}

/// The keys of networks that the engine has by itself.
fn predefined(root: &Node) -> Vec<String> {
    let networks = map(root)
        .and_then(|root| root.get("networks"))
        .and_then(map);
    let networks = networks.into_iter().flatten();
    networks
        .filter(|entry| {
            let of = |key: &str| map(&entry.value).and_then(|network| network.get(key));
            let external = of("external").filter(|node| node.value != Value::Bool(false));
            let inner = external.and_then(map).and_then(|map| map.get("name"));
            let name = of("name").or(inner).and_then(Node::text);
            external.is_some() && PREDEFINED.contains(&name.unwrap_or(&entry.key))
        })
        .map(|entry| entry.key.clone())
        .collect()
}

struct Service<'a> {
    map: &'a mut Map,
    key: &'a str,
    path: &'a str,
    findings: &'a mut Findings,
}

impl Service<'_> {
    fn warn(&mut self, position: Position, rest: &str, text: Option<&str>, message: &str) {
        let path = format!("{}.{rest}", self.path);
        self.findings.warn(position, &path, text, message);
    }

    fn expose(&mut self) {
        if let Some(entry) = self.map.remove("expose") {
            self.warn(
                entry.key_position,
                "expose",
                None,
                "this does nothing: every port of a service is open to its networks",
            );
        }
    }

    /// An image that is named is there to be pulled.
    fn build(&mut self) {
        if self
            .map
            .get("image")
            .and_then(Node::text)
            .is_some_and(|image| !image.is_empty())
            && let Some(entry) = self.map.remove("build")
        {
            self.warn(
                entry.key_position,
                "build",
                None,
                "a swarm builds no images: the one under `image` is pulled, and must have been \
                 built and pushed",
            );
        }
    }

    fn links(&mut self) {
        if !matches!(
            self.map.get("links").map(|node| &node.value),
            Some(Value::List(_))
        ) {
            return;
        }
        let Some(Entry { value, .. }) = self.map.remove("links") else {
            return;
        };
        let Value::List(links) = value.value else {
            return;
        };
        for (index, link) in links.iter().enumerate() {
            let text = link.text().unwrap_or_default();
            let (service, name) = text.split_once(':').unwrap_or((text, text));
            let message = if service == name {
                format!(
                    "a swarm has no links: {service} is reached by its name in a common network, \
                     and is not waited for (`depends_on` does that)"
                )
            } else {
                format!(
                    "a swarm has no links: {service} is reached by its name in a common network, \
                     and not by `{name}` (an alias of its network does that), nor is it waited \
                     for (`depends_on` does that)"
                )
            };
            self.warn(
                link.position,
                &format!("links[{index}]"),
                Some(text),
                &message,
            );
        }
    }

    /// The name of the one container becomes an alias, so that others find the service by it.
    fn container_name(&mut self, predefined: &[String]) {
        let name = self.map.get("container_name").and_then(Node::text);
        let Some(name) = name.map(str::to_owned) else {
            return;
        };
        let Some(removed) = self.map.remove("container_name") else {
            return;
        };
        let position = removed.value.position;
        self.warn(
            position,
            "container_name",
            Some(&name),
            "a swarm names the containers of a service itself: this one becomes an alias of the \
             service in its networks",
        );
        if name == self.key || self.map.get("network_mode").is_some() {
            return;
        }
        let networks = self
            .map
            .remove("networks")
            .map(|removed| removed.value.value);
        let mut named = match networks {
            Some(Value::Map(map)) => map,
            Some(Value::List(items)) => items
                .iter()
                .filter_map(|item| {
                    let nothing = Node::new(Value::Null, item.position);
                    Some(entry(item.text()?, nothing))
                })
                .collect(),
            _ => Map::default(),
        };
        if named.is_empty() {
            named.put(entry("default", Node::new(Value::Null, position)));
        }
        for (network, attachment) in named.values_mut() {
            if !predefined.iter().any(|own| own == network) {
                add_alias(attachment, &name, position);
            }
        }
        self.map
            .put(entry("networks", Node::new(Value::Map(named), position)));
    }

    /// Shared memory of another size is a mount of that size.
    fn shared_memory(&mut self) {
        let size = self.map.get("shm_size").and_then(Node::text);
        let Some(size) = size.map(str::to_owned) else {
            return;
        };
        let Some(removed) = self.map.remove("shm_size") else {
            return;
        };
        let position = removed.value.position;
        let mount = text_node(format!("/dev/shm:size={size},mode=1777"), position);
        match self.map.get_mut("tmpfs") {
            Some(Node {
                value: Value::List(mounts),
                ..
            }) => mounts.push(mount),
            Some(one) => {
                let own = std::mem::replace(one, Node::new(Value::Null, position));
                one.value = match own.value {
                    Value::Null => Value::List(vec![mount]),
                    _ => Value::List(vec![own, mount]),
                };
            }
            None => self.map.put(entry(
                "tmpfs",
                Node::new(Value::List(vec![mount]), position),
            )),
        }
    }

    fn mounts(&mut self) {
        let mut left_out = Vec::new();
        for (index, mount) in items(self.map, "volumes") {
            let position = mount.position;
            match &mut mount.value {
                Value::String(text) => {
                    let Some((rest, options)) = text.rsplit_once(':') else {
                        continue;
                    };
                    let (dropped, kept): (Vec<&str>, Vec<&str>) = options
                        .split(',')
                        .partition(|option| OPTIONS.contains(option));
                    if dropped.is_empty() || !rest.contains(':') {
                        continue;
                    }
                    left_out.push((position, format!("volumes[{index}]"), dropped.join(",")));
                    *text = match kept.is_empty() {
                        true => rest.to_owned(),
                        false => format!("{rest}:{}", kept.join(",")),
                    };
                }
                Value::Map(long) => {
                    if let Some(bind) = long.get_mut("bind").and_then(map_mut)
                        && let Some(entry) = bind.remove("selinux")
                    {
                        let option = entry.value.text().unwrap_or_default().to_owned();
                        let rest = format!("volumes[{index}].bind.selinux");
                        left_out.push((entry.key_position, rest, option));
                    }
                }
                _ => {}
            }
        }
        for (position, rest, option) in left_out {
            self.warn(
                position,
                &rest,
                Some(&option),
                "a swarm knows no such option of a mount, and it is left out: nothing is labelled \
                 for SELinux, nor cached in another way",
            );
        }
    }
}

fn add_alias(attachment: &mut Node, alias: &str, position: Position) {
    if attachment.value == Value::Null {
        attachment.value = Value::Map(Map::default());
    }
    let Some(attachment) = map_mut(attachment) else {
        return;
    };
    let alias = text_node(alias, position);
    match attachment.get_mut("aliases").map(|node| &mut node.value) {
        Some(Value::List(aliases)) => {
            if !aliases.iter().any(|own| own.text() == alias.text()) {
                aliases.push(alias);
            }
        }
        _ => attachment.put(entry(
            "aliases",
            Node::new(Value::List(vec![alias]), position),
        )),
    }
}
