//! Compose files made at random.
//!
//! Most are files that docker takes; a few values in a hundred are none that it takes, so that
//! refusals are compared too. Every key of the format occurs, and (in files of which several are
//! given together) the same keys in several files.

use proptest::prelude::*;
use proptest::strategy::Union;

use super::services::{keys, service};
use super::values::{
    Made, boolean, map_of, mostly, odd_scalar, pairs, plain, plains, scalar, some, text, with,
    woven,
};
use super::yaml::Yaml;

/// The environment in which they are read.
pub(crate) const ENVIRONMENT: [(&str, &str); 6] = [
    ("V", "value"),
    ("N", "3"),
    ("B", "Yes"),
    ("EMPTY", ""),
    ("PORT", "7000"),
    ("AA", "from the shell"),
];

const SECRETS: &[&str] = &["./files/secret.txt", "files/other-secret.txt"];
const CONFIGS: &[&str] = &["./files/config.txt", "files/secret.txt"];

/// The declaration of a secret or config with these files, and names of its own.
fn object(files: &'static [&'static str], names: &'static [&'static str]) -> Made {
    prop_oneof![
        8 => with(vec![("file", plains(files))], 0.3, vec![
            ("name", plains(names)),
            ("labels", pairs()),
            ("template_driver", plains(&["golang"])),
            ("x-extension", scalar()),
            ("external", plains(&["false"])),
        ]),
        1 => mostly(
            plains(&[
                "{external: true, name: outside, file: none.txt, labels: {a: b}}",
                "{external: true, name: outside, template_driver: golang}",
            ]),
            plains(&[
                "{driver: vault, driver_opts: {a: b}}",
                "{driver: vault, file: x}",
                "{external: true, labels: {a: true}}",
                "{external: true, a: b}",
                "{external: true}",
                "{file: files/secret.txt, driver_opts: {a: b}}",
                "{file: files/secret.txt, driver_opts: {a: true}}",
                "{}",
                "~",
            ]),
        ),
        1 => plains(&["{external: true, name: outside}", "{external: {name: outside}}"]),
    ]
    .boxed()
}

/// A network that may have one of these names.
fn network(names: &'static [&'static str]) -> Made {
    prop_oneof![
        2 => plains(&["~", "{}"]),
        6 => some(0.35, vec![
            ("driver", plains(&["overlay"])),
            ("driver_opts", map_of(&["com.docker.network.driver.mtu", "a"], mostly(plains(&["1400", "\"x\"", "\"\""]), plains(&["true", "~"])))),
            ("attachable", boolean()),
            ("internal", boolean()),
            ("labels", pairs()),
            ("name", plains(names)),
            ("external", plains(&["false"])),
            ("ipam", mostly(
                plains(&[
                    "{}",
                    "{driver: default}",
                    "{config: []}",
                    "{driver: default, config: []}",
                    "{config: [{subnet: 10.201.1.0/24}]}",
                    "{driver: default, config: [{subnet: 10.202.1.0/24}, {subnet: 10.202.2.0/24}]}",
                ]),
                plains(&["{config: [{}]}", "{config: [{subnet: x}]}", "{config: {}}", "~"]),
            )),
            ("x-extension", scalar()),
        ]),
        1 => mostly(
            plains(&[
                "{external: true, name: outside}",
                "{external: {name: outside}}",
                "{external: true, name: host}",
                "{external: true, name: outside, driver: x, internal: true, labels: [a]}",
            ]),
            plains(&[
                "{external: true, name: outside, driver: 5}",
                "{external: true, name: outside, a: b}",
            ]),
        ),
    ]
    .boxed()
}

fn volume() -> Made {
    prop_oneof![
        2 => plains(&["~", "{}"]),
        6 => some(0.4, vec![
            ("name", plains(&["real", "${V}-volume"])),
            ("driver", plains(&["local", "other"])),
            ("driver_opts", map_of(&["type", "o", "n"], mostly(plains(&["nfs", "\"addr=10.0.0.1,rw\"", "5", "1.5"]), plains(&["true", "~"])))),
            ("labels", pairs()),
            ("external", plains(&["false"])),
            ("x-extension", scalar()),
            ("x-cluster-spec", plains(&["{group: g}", "{}"])),
        ]),
        2 => mostly(
            plains(&["{external: true}", "{external: true, name: outside}", "{external: {name: outside}}"]),
            plains(&["{external: true, driver: local}", "{external: true, labels: [a=b]}"]),
        ),
    ]
    .boxed()
}

/// What may stand beside services, of which each section is there with this probability.
fn file(services: Made, top: f64) -> Made {
    let declared = |entries: [(&'static str, Made); 2]| {
        mostly(with(entries.to_vec(), 0.5, vec![]), plains(&["~", "[]"]))
    };
    let objects = |names: [&'static str; 2], files| {
        with(
            vec![
                (names[0], object(files, &["real_one"])),
                (names[1], object(files, &["another.one"])),
            ],
            0.5,
            vec![],
        )
    };
    let rest = vec![
        (
            "networks",
            declared([
                ("front", network(&["named", "${V}_net"])),
                ("back", network(&["other"])),
            ]),
        ),
        (
            "volumes",
            declared([("data", volume()), ("logs", volume())]),
        ),
        ("secrets", objects(["secret_one", "secret_two"], SECRETS)),
        ("configs", objects(["config_one", "config_two"], CONFIGS)),
        ("x-top", scalar()),
    ];
    with(vec![("services", services)], top, rest)
}

/// One service, or another one beside it.
fn services(web: Made, db: Made) -> Made {
    with(
        vec![("web", web)],
        0.25,
        vec![("db", db.clone()), ("Other-1", db)],
    )
}

fn image() -> Made {
    mostly(
        plains(&[
            "nginx",
            "nginx:1.27",
            "a/b:c",
            "registry.example.com:5000/a:1",
            "docker.io/library/x",
            "\"nginx:${V}\"",
            "localhost/x",
            "a.b/c",
            "index.docker.io/x/y",
            "x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "x:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ]),
        plains(&["Nginx", "~", "\"\"", "a b", "\"a:b:c\"", "5", "x@sha256:1"]),
    )
}

/// One file with anything in it.
fn one() -> BoxedStrategy<Vec<Yaml>> {
    let service = || service(image(), 0.1, keys());
    let version = mostly(
        plains(&["\"3.13\"", "\"3\"", "\"\"", "\"3.12\""]),
        plains(&[
            "\"3.0\"", "\"3.3\"", "\"3.6\"", "\"3.8\"", "\"3.9\"", "\"2\"", "3.8", "\"3.14\"",
        ]),
    );
    let version = proptest::option::weighted(0.1, version);
    (version, file(services(service(), service()), 0.98))
        .prop_map(|(version, file)| {
            let mut entries = match file {
                Yaml::Map(entries) => entries,
                _ => Vec::new(),
            };
            if let Some(version) = version {
                entries.insert(0, ("version".to_owned(), version));
            }
            vec![Yaml::Map(entries)]
        })
        .boxed()
}

/// Two files or three, with the same few keys in most.
fn several() -> BoxedStrategy<Vec<Yaml>> {
    let all: Vec<usize> = (0..keys().len()).collect();
    proptest::sample::subsequence(all, 1..=4)
        .prop_flat_map(|chosen| {
            let all = keys();
            let keys: Vec<_> = chosen.into_iter().map(|index| all[index].clone()).collect();
            let of = |needed: bool| {
                let service = || match needed {
                    true => service(image(), 0.85, keys.clone()),
                    false => {
                        let mut keys = keys.clone();
                        keys.push(("image", image()));
                        some(0.7, keys)
                    }
                };
                let other = crate::services::service(image(), 0.85, keys.clone());
                services(service(), other)
            };
            let first = file(of(true), 0.95);
            let second = file(of(false), 0.5);
            let third = proptest::option::weighted(0.2, file(of(false), 0.3));
            (first, second, third).prop_map(|(first, second, third)| {
                [Some(first), Some(second), third]
                    .into_iter()
                    .flatten()
                    .collect()
            })
        })
        .boxed()
}

/// One file with one odd value.
fn small() -> BoxedStrategy<Vec<Yaml>> {
    let maps = proptest::sample::select(&["labels", "environment", "sysctls"][..]);
    let value = prop_oneof![odd_scalar(), woven()];
    (maps, value)
        .prop_map(|(map, value)| {
            let entry = |key: &str, value| Yaml::Map(vec![(key.to_owned(), value)]);
            let service = Yaml::Map(vec![
                ("image".to_owned(), plain("nginx")),
                (map.to_owned(), entry("AA", value)),
            ]);
            vec![entry("services", entry("web", service))]
        })
        .boxed()
}

/// One file in which aliases and merge keys bring things in.
fn shared() -> BoxedStrategy<Vec<Yaml>> {
    let service = || some(0.1, keys());
    let merged = proptest::sample::select(&["*a", "*b", "[*a, *b]", "[*b, *a]", "[*a]"][..]);
    let merging = move || {
        (service(), merged.clone(), any::<bool>()).prop_map(|(service, merged, first)| {
            let mut entries = match service {
                Yaml::Map(entries) => entries,
                _ => Vec::new(),
            };
            let at = if first { 0 } else { entries.len() };
            entries.insert(at, ("<<".to_owned(), plain(merged)));
            Yaml::Map(entries)
        })
    };
    let common = || crate::services::service(image(), 0.1, keys());
    let anchored = |name: &str, value| Yaml::Anchored(name.to_owned(), Box::new(value));
    let files = (
        common(),
        common(),
        file(services(merging().boxed(), merging().boxed()), 0.98),
    );
    files
        .prop_map(move |(a, b, file)| {
            let mut entries = vec![
                ("x-a".to_owned(), anchored("a", a)),
                ("x-b".to_owned(), anchored("b", b)),
            ];
            if let Yaml::Map(rest) = file {
                entries.extend(rest);
            }
            vec![Yaml::Map(entries)]
        })
        .boxed()
}

/// Files that are given together, for a docker CLI of this version.
pub(crate) fn files(version: (u32, u32)) -> BoxedStrategy<Vec<Yaml>> {
    let files = Union::new_weighted(vec![
        (6, one()),
        (5, several()),
        (2, small()),
        (1, shared()),
    ]);
    files
        .prop_map(move |mut files| {
            if version < (28, 0) {
                files
                    .iter_mut()
                    .for_each(|file| without_news(file, &mut Vec::new()));
            }
            files
        })
        .boxed()
}

/// Takes away what CLIs before 28 do not know, and writes what they read in another way so that they
/// do not: words that are booleans in YAML 1.1, times, and merge keys behind others.
fn without_news(value: &mut Yaml, way: &mut Vec<String>) {
    match value {
        Yaml::Text(_) => {}
        Yaml::Plain(scalar) => {
            let word = ["y", "yes", "n", "no", "on", "off"]
                .iter()
                .any(|word| scalar.eq_ignore_ascii_case(word));
            let digits = scalar.bytes().take_while(u8::is_ascii_digit).count();
            if word || digits == 4 && scalar[4..].starts_with('-') {
                *value = text(scalar.clone());
            }
        }
        Yaml::Anchored(_, inner) => without_news(inner, way),
        Yaml::List(items) => items.iter_mut().for_each(|item| without_news(item, way)),
        Yaml::Map(entries) => {
            let of_network = way.len() >= 2 && way[way.len() - 2] == "networks" && way.len() > 2;
            entries.retain(|(key, _)| match key.as_str() {
                "oom_score_adj" | "subpath" => false,
                "version" => !way.is_empty(),
                "driver_opts" => !of_network,
                _ => true,
            });
            // There what is merged later wins.
            entries.sort_by_key(|(key, _)| key != "<<");
            for (key, value) in entries {
                way.push(key.clone());
                without_news(value, way);
                way.pop();
            }
        }
    }
}
