//! Several files merged into one stack.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;

fn load(files: &[&str], compat: Compat) -> Result<ComposeFile, String> {
    let names = ["/c/a.yaml", "/c/b.yaml", "/c/c.yaml"];
    let files: Vec<(&Path, &str)> = names
        .iter()
        .map(Path::new)
        .zip(files.iter().copied())
        .collect();
    let options = LoadOptions::default().with_compat(compat);
    ComposeFile::parse_files(&files, "st", &options).map_err(|problems| problems.to_string())
}

fn merged(files: &[&str]) -> Value {
    let file = load(files, Compat::Phoenix).unwrap_or_else(|problems| panic!("{problems}"));
    file.wire().services[0].clone()
}

const BASE: &str = "\
services:
  w:
    image: nginx
    command: [a, b]
    environment: {A: '1', B: '2'}
    labels: [x=1, y=2]
    ports: ['80:80', '53:53', '9000']
    volumes: ['z:/z', 'a:/a', '/b:/b']
    dns: 1.1.1.1
    cap_add: [NET_ADMIN]
    extra_hosts: {b: 10.0.0.2, a: 10.0.0.1}
    ulimits: {nofile: {soft: 1, hard: 2}, nproc: 5}
    logging: {driver: json-file, options: {a: '1', b: '2'}}
    networks: [n, m]
    healthcheck: {test: a, interval: 10s, retries: 3}
    deploy:
      replicas: 3
      labels: {l: '1'}
      placement: {constraints: [node.role == manager]}
      resources: {limits: {cpus: '0.5', memory: 50M}}
      update_config: {parallelism: 2, delay: 10s}
networks: {n: {driver: x, attachable: true}, m: }
volumes: {z: , a: }
";

const OVER: &str = "\
services:
  w:
    command: c
    environment: [B=3, C=4]
    labels: {y: '3'}
    ports: ['80:81', '53:53/udp']
    volumes: ['/other:/a:ro']
    dns: [1.1.1.1]
    cap_add: [SYS_TIME]
    extra_hosts: ['a:10.0.0.3']
    ulimits: {nofile: 7}
    logging: {options: {b: '3'}}
    networks: {n: {aliases: [www]}}
    healthcheck: {retries: 0}
    deploy:
      replicas: 0
      labels: [l=2]
      placement: {constraints: [node.labels.a == b]}
      resources: {limits: {memory: 60M}}
      update_config: {delay: 0s}
  v: {image: redis}
networks: {n: {internal: true}}
";

#[test]
fn a_file_is_laid_over_another() {
    let spec = merged(&[BASE, OVER]);
    let container = &spec["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Args"], json!(["c"]));
    assert_eq!(container["Env"], json!(["A=1", "B=3", "C=4"]));
    assert_eq!(
        container["Labels"],
        json!({"x": "1", "y": "3", STACK_LABEL: "st"})
    );
    assert_eq!(
        container["Hosts"],
        json!(["10.0.0.1 a", "10.0.0.2 b", "10.0.0.3 a"])
    );
    assert_eq!(
        container["DNSConfig"]["Nameservers"],
        json!(["1.1.1.1", "1.1.1.1"])
    );
    assert_eq!(
        container["CapabilityAdd"],
        json!(["CAP_NET_ADMIN", "CAP_SYS_TIME"])
    );
    assert_eq!(
        container["Ulimits"],
        json!([{"Name": "nofile", "Hard": 7, "Soft": 7}, {"Name": "nproc", "Hard": 5, "Soft": 5}])
    );
    let targets: Vec<(&str, &str)> = container["Mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| {
            (
                mount["Target"].as_str().unwrap(),
                mount["Source"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(targets, [("/a", "/other"), ("/b", "/b"), ("/z", "st_z")]);
    assert_eq!(
        container["Healthcheck"],
        json!({"Test": ["CMD-SHELL", "a"], "Interval": 10_000_000_000_i64})
    );
    let ports: Vec<(i64, i64, &str)> = spec["EndpointSpec"]["Ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| {
            (
                port["PublishedPort"].as_i64().unwrap_or(0),
                port["TargetPort"].as_i64().unwrap(),
                port["Protocol"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        ports,
        [
            (0, 9000, "tcp"),
            (53, 53, "tcp"),
            (53, 53, "udp"),
            (80, 81, "tcp")
        ]
    );
    assert_eq!(
        spec["TaskTemplate"]["LogDriver"],
        json!({"Name": "json-file", "Options": {"a": "1", "b": "3"}})
    );
    assert_eq!(
        spec["TaskTemplate"]["Networks"],
        json!([{"Target": "st_m", "Aliases": ["w"]}, {"Target": "st_n", "Aliases": ["www", "w"]}])
    );
    assert_eq!(spec["Mode"], json!({"Replicated": {"Replicas": 0}}));
    assert_eq!(spec["Labels"]["l"], "2");
    assert_eq!(
        spec["TaskTemplate"]["Placement"]["Constraints"],
        json!(["node.role == manager", "node.labels.a == b"])
    );
    assert_eq!(
        spec["TaskTemplate"]["Resources"]["Limits"],
        json!({"NanoCPUs": 500_000_000, "MemoryBytes": 60 << 20})
    );
    assert_eq!(spec["UpdateConfig"]["Parallelism"], 2);
    assert_eq!(spec["UpdateConfig"].get("Delay"), None);
    // What is declared beside services is merged too.
    let file = load(&[BASE, OVER], Compat::Phoenix).unwrap();
    let networks = file.wire().networks;
    let names: Vec<&str> = networks
        .iter()
        .map(|network| network["Name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["st_default", "st_m", "st_n"]);
    let n = networks
        .iter()
        .find(|network| network["Name"] == "st_n")
        .unwrap();
    assert_eq!(
        (&n["Driver"], &n["Internal"], &n["Attachable"]),
        (&json!("x"), &json!(true), &json!(true))
    );
}

/// What is declared beside services, in two files.
const DECLARED: [&str; 2] = [
    "
services: {w: {image: nginx, networks: [n, e], volumes: ['v:/v', 'd:/d'], secrets: [s], configs: [c]}}
networks:
  n:
    attachable: true
    driver_opts: {a: '1', b: '1'}
    labels: {x: '1'}
    ipam: {driver: default, config: [{subnet: 10.9.0.0/16}]}
  e: {external: true, name: lan}
volumes:
  v: {driver: local, driver_opts: {type: nfs}}
  d: {driver: local, driver_opts: {type: nfs}}
secrets: {s: {file: none.txt, labels: {x: '1'}}}
configs: {c: {external: true, name: other}}
",
    "
networks:
  n:
    driver_opts: {b: 2}
    labels: [y=2]
    ipam: {config: [{subnet: 10.8.0.0/16}, {subnet: 10.9.0.0/16}]}
  e: {}
volumes:
  v: {labels: {x: '1'}}
  d: {driver: other}
secrets: {s: {external: true}}
configs: {c: {external: true}}
",
];

#[test]
fn what_is_declared_beside_services_is_merged_key_by_key() {
    let file = load(&DECLARED, Compat::Phoenix).unwrap();
    let wire = file.wire();
    let n = wire.networks.iter().find(|n| n["Name"] == "st_n").unwrap();
    assert_eq!(n["Attachable"], true);
    assert_eq!(n["Options"], json!({"a": "1", "b": "2"}));
    assert_eq!(
        (&n["Labels"]["x"], &n["Labels"]["y"]),
        (&json!("1"), &json!("2"))
    );
    assert_eq!(n["IPAM"]["Driver"], "default");
    let subnets = json!([{"Subnet": "10.8.0.0/16"}, {"Subnet": "10.9.0.0/16"}]);
    assert_eq!(n["IPAM"]["Config"], subnets);
    let targets = &wire.services[0]["TaskTemplate"]["Networks"];
    assert_eq!(targets[0]["Target"], "lan");
    let volume = |index: usize| {
        wire.services[0]["TaskTemplate"]["ContainerSpec"]["Mounts"][index]["VolumeOptions"].clone()
    };
    assert_eq!(
        volume(0)["DriverConfig"],
        json!({"Name": "local", "Options": {"type": "nfs"}})
    );
    assert_eq!(volume(0)["Labels"]["x"], "1");
    // The options were those of another driver.
    assert_eq!(volume(1)["DriverConfig"], json!({"Name": "other"}));
    // Of a declaration that somebody else's takes the place of nothing is left: the file of the
    // first need not be there.
    let secrets = file.secrets();
    assert_eq!((secrets.len(), wire.secrets.len()), (0, 0));
    assert_eq!(file.references().configs[0].name, "other");
    assert_eq!(file.warnings(), []);
}

#[test]
fn what_is_external_in_one_file_only_is_told() {
    let base =
        "services: {w: {image: a, networks: [n]}}\nnetworks: {n: {external: true, name: lan}}";
    // Nothing else can be given beside it…
    let problem = load(&[base, "networks: {n: {internal: true}}"], Compat::Phoenix).unwrap_err();
    assert!(
        problem.starts_with("/c/b.yaml:1:26: networks.n.internal: what is external"),
        "{problem}"
    );
    // …unless it is not external any more, and then it has no longer the name of what was.
    let over = "networks: {n: {external: false, internal: true}}";
    let file = load(&[base, over], Compat::Phoenix).unwrap();
    assert_eq!(file.wire().networks[0]["Name"], "st_n");
    let warning = file.warnings()[0].to_string();
    assert!(
        warning.starts_with("/c/a.yaml:2:32: networks.n.name: a later file says where"),
        "{warning}"
    );
}

#[test]
fn docker_loses_what_is_declared_twice() {
    let file = load(&DECLARED, Compat::Docker).unwrap();
    let network = &file.wire().networks[1];
    assert_eq!(network["Name"], "st_n");
    assert_eq!(network["Attachable"], false);
    let warnings: Vec<String> = file
        .warnings()
        .iter()
        .filter(|warning| warning.message.contains("docker loses this"))
        .map(|warning| warning.path.clone())
        .collect();
    assert_eq!(
        warnings,
        [
            "networks.n.attachable",
            "networks.e.external",
            "networks.e.name",
            "volumes.v.driver",
            "volumes.v.driver_opts",
            "volumes.d.driver_opts",
            "secrets.s.file",
            "secrets.s.labels",
            "configs.c.name",
        ]
    );
}

#[test]
fn docker_loses_options_where_the_earlier_file_has_none() {
    let base = "services: {w: {image: a, logging: {driver: syslog}}}";
    let over = "services: {w: {logging: {options: {tag: x}}}}";
    let log = |compat| {
        let file = load(&[base, over], compat).unwrap();
        let driver = file.wire().services[0]["TaskTemplate"]["LogDriver"].clone();
        (driver["Options"].clone(), file.warnings().len())
    };
    assert_eq!(log(Compat::Phoenix), (json!({"tag": "x"}), 0));
    assert_eq!(log(Compat::Docker), (Value::Null, 1));
}

#[test]
fn problems_name_the_right_file() {
    let place = |files: &[&str]| load(files, Compat::Phoenix).unwrap_err();
    let good = "services:\n  w:\n    image: nginx\n";
    // In either file.
    assert!(
        place(&["services: {w: {image: A}}", good])
            .starts_with("/c/a.yaml:1:23: services.w.image: ")
    );
    assert!(
        place(&[good, "\nservices: {w: {tty: 1}}"]).starts_with("/c/b.yaml:2:21: services.w.tty: ")
    );
    assert!(place(&[good, "a: [\n"]).starts_with("/c/b.yaml:"));
    // Of references, which are looked at in the whole.
    let problem = place(&[good, "services:\n  w:\n    networks:\n      - n\n"]);
    assert!(
        problem.starts_with("/c/b.yaml:4:9: services.w.networks[0]: "),
        "{problem}"
    );
    // Of what neither has.
    let problem = place(&["services: {w: {tty: true}}", "services: {w: {init: true}}"]);
    assert!(problem.contains("the key `image` is missing"), "{problem}");
    // Of versions.
    let problem = place(&[
        "version: '3.8'\nservices: {w: {image: a}}",
        "version: '3.7'\n",
    ]);
    assert!(
        problem.starts_with("/c/b.yaml:1:10: version: "),
        "{problem}"
    );
    // A value that is replaced must be right all the same.
    let problem = place(&[
        "services: {w: {image: a, hostname: 1}}",
        "services: {w: {hostname: b}}",
    ]);
    assert!(problem.starts_with("/c/a.yaml:1:36: "), "{problem}");
    // Places in the model, too.
    let over = "\nservices: {w: {networks: [n]}}\nnetworks: {n: {external: true}}";
    let file = load(&[good, over], Compat::Phoenix).unwrap();
    let place = &file.references().networks[0].place;
    assert_eq!(
        (&*place.source, place.position.line),
        (Path::new("/c/b.yaml"), 2)
    );
}

#[test]
fn files_of_variables_belong_to_the_compose_file_that_names_them() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    write("b.env", "A=file\nB=file\n");
    let a = write(
        "a.yml",
        "services: {w: {image: a, environment: {A: own, C: own}}}",
    );
    let b = write(
        "b.yml",
        "services: {w: {env_file: b.env, environment: [B=over]}}",
    );
    let file = ComposeFile::load_files(&[&a, &b], "st", &LoadOptions::default()).unwrap();
    let env = file.wire().services[0]["TaskTemplate"]["ContainerSpec"]["Env"].clone();
    assert_eq!(env, json!(["A=file", "B=over", "C=own"]));
    let missing = directory.path().join("none.yml");
    let problems = ComposeFile::load_files(&[&a, &missing], "st", &LoadOptions::default());
    assert!(
        problems
            .unwrap_err()
            .to_string()
            .contains("none.yml:1:1: the file cannot be read")
    );
    let none: [&Path; 0] = [];
    assert!(ComposeFile::load_files(&none, "st", &LoadOptions::default()).is_err());
}

#[test]
fn docker_keeps_what_it_keeps() {
    let file = load(&[BASE, OVER], Compat::Docker).unwrap();
    let spec = &file.wire().services[0];
    assert_eq!(spec["UpdateConfig"]["Delay"], 10_000_000_000_i64);
    assert_eq!(spec["EndpointSpec"]["Ports"].as_array().unwrap().len(), 3);
    assert_eq!(spec["Mode"], json!({"Replicated": {"Replicas": 0}}));
}

/// Parts of a service that may stand in any file.
const PARTS: &[&str] = &[
    "command: [a]",
    "command: b c",
    "environment: {A: '1', B: }",
    "environment: [A=2, C]",
    "labels: {a: b}",
    "labels: [a=c, d]",
    "ports: ['80:80', '81-82:81-82', '90']",
    "ports: [{target: 80, published: 80, protocol: udp}, '81:99']",
    "volumes: ['/a:/x', '/b:/y']",
    "volumes: [{type: tmpfs, target: /x}]",
    "dns: 1.1.1.1",
    "dns: [2.2.2.2]",
    "extra_hosts: {a: 10.0.0.1}",
    "extra_hosts: ['b:10.0.0.2']",
    "networks: [n]",
    "networks: {n: {aliases: [x]}, m: }",
    "networks: {n: {driver_opts: {a: b}}}",
    "ulimits: {nofile: 5}",
    "ulimits: {nofile: {soft: 1, hard: 2}, nproc: 7}",
    "healthcheck: {test: a}",
    "healthcheck: {test: [CMD, b], retries: 0}",
    "deploy: {replicas: 2, labels: {a: b}}",
    "deploy: {replicas: 0, resources: {limits: {cpus: '1'}}}",
    "deploy: {resources: {limits: {memory: 50M}}, placement: {constraints: [a.b == c]}}",
    "tty: true",
    "tty: false",
    "secrets: [s]",
    "secrets: [{source: s, target: x}, t]",
    "depends_on: [v]",
    "logging: {options: {a: b}}",
    "logging: {driver: x, options: {b: c}}",
];

const REST: &str =
    "  v: {image: b}\nnetworks: {n: , m: }\nsecrets: {s: {external: true}, t: {external: true}}\n";

fn part() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(PARTS), 0..6).prop_map(|parts| {
        let mut kept: Vec<&str> = Vec::new();
        for part in parts {
            let key = |part: &str| part.split(':').next().unwrap().to_owned();
            if !kept.iter().any(|other| key(other) == key(part)) {
                kept.push(part);
            }
        }
        kept
    })
}

fn text(parts: &[&str], rest: &str) -> String {
    let mut text = "services:\n  w:\n    image: a\n".to_owned();
    for part in parts {
        text.push_str(&format!("    {part}\n"));
    }
    text + rest
}

/// What may stand beside services in any file.
const RESTS: &[&str] = &[
    REST,
    "",
    "networks: {n: {internal: true, labels: [a=b]}}\n",
    "networks: {n: {labels: {a: c}, ipam: {driver: x, config: [{subnet: 10.1.0.0/16}]}}}\n",
    "networks: {n: {ipam: {config: [{subnet: 10.2.0.0/16}, {subnet: 10.0.0.0/16}]}}, m: {}}\n",
    "volumes: {v: {driver: x, driver_opts: {a: b}}}\n",
    "volumes: {v: {driver_opts: {a: c, b: c}}}\nsecrets: {s: {external: true, name: x}}\n",
];

proptest! {
    #[test]
    fn laying_over_is_associative(
        a in part(),
        b in part(),
        c in part(),
        rests in proptest::collection::vec(proptest::sample::select(RESTS), 3),
    ) {
        use crate::stack::findings::Findings;
        use crate::stack::merge::{Rules, merge};
        let mut findings = Findings::default();
        let mut tree = |parts: &[&str], rest| {
            findings.sources.parse("x", &text(parts, rest)).unwrap()
        };
        let (a, b, c) = (tree(&a, rests[0]), tree(&b, rests[1]), tree(&c, rests[2]));
        let findings = &mut findings;
        let left = merge(a.clone(), b.clone(), Rules::Phoenix, findings);
        let left = merge(left, c.clone(), Rules::Phoenix, findings);
        let right = merge(b, c, Rules::Phoenix, findings);
        let right = merge(a, right, Rules::Phoenix, findings);
        let spec = |root| {
            let document = std::mem::take(&mut Findings::default().sources).joined(root);
            format!("{:?}", plain(document.root()))
        };
        prop_assert_eq!(spec(left), spec(right));
    }

    #[test]
    fn a_file_laid_over_itself_changes_nothing_but_appended_lists(a in part()) {
        let once = text(&a, REST);
        let twice = load(&[&once, &once], Compat::Phoenix);
        let once = load(&[&once], Compat::Phoenix);
        if let (Ok(once), Ok(twice)) = (once, twice) {
            let spec = |file: &ComposeFile| {
                let mut spec = file.wire().services[0].clone();
                let container = &mut spec["TaskTemplate"]["ContainerSpec"];
                for list in ["Hosts", "DNSConfig"] {
                    container[list] = Value::Null;
                }
                if let Some(Value::Array(mounts)) = container.get_mut("Mounts") {
                    mounts.sort_by_key(ToString::to_string);
                }
                spec["TaskTemplate"]["Placement"] = Value::Null;
                spec
            };
            prop_assert_eq!(spec(&once), spec(&twice));
        }
    }
}

/// A tree without positions, with the entries of maps in order.
fn plain(node: &crate::ground::document::Node) -> Value {
    use crate::ground::document::Value as Written;
    match &node.value {
        Written::Null => Value::Null,
        Written::Bool(value) => json!(value),
        Written::Integer(value) => json!(value),
        Written::Float(value) => json!(value),
        Written::String(value) => json!(value),
        Written::List(items) => items.iter().map(plain).collect(),
        Written::Map(map) => Value::Object(
            map.iter()
                .map(|entry| (entry.key.clone(), plain(&entry.value)))
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .collect(),
        ),
    }
}
