//! The compose dialect.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::model::{Condition, ObjectSource};
use super::super::*;

pub(super) struct Project {
    directory: tempfile::TempDir,
    pub(super) options: LoadOptions,
}

impl Project {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let given = [("GIVEN", "given"), ("TOKEN", "s3cret")];
        let variables: BTreeMap<String, String> = given
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        Self {
            directory,
            options: LoadOptions::default()
                .with_dialect(Dialect::Compose)
                .with_variables(variables),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn load(&self) -> Result<ComposeFile, String> {
        ComposeFile::load(&self.path("compose.yaml"), "st", &self.options)
            .map_err(|problems| problems.to_string())
    }

    pub(super) fn service(&self, key: &str) -> Value {
        let file = self.load().unwrap_or_else(|problems| panic!("{problems}"));
        let name = format!("st_{key}");
        let found = file
            .wire()
            .services
            .into_iter()
            .find(|body| body["Name"] == name.as_str());
        found.unwrap_or_else(|| panic!("no service {name}"))
    }
}

pub(super) fn one(text: &str) -> Project {
    Project::new(&[("compose.yaml", text)])
}

#[test]
fn what_docker_compose_config_writes_is_read() {
    let project = one("\
name: st
services:
  db:
    command: null
    entrypoint: null
    image: postgres:16
    networks:
      default: null
  web:
    command: null
    entrypoint: null
    depends_on:
      db:
        condition: service_healthy
        restart: true
        required: true
    deploy:
      replicas: 2
      resources:
        limits:
          cpus: 0.5
          memory: \"52428800\"
          pids: \"10\"
      placement: {}
    environment:
      A: \"1\"
      DEBUG: true
    image: nginx
    networks:
      default: null
    ports:
      - mode: ingress
        target: 80
        published: \"8080\"
        protocol: tcp
    volumes:
      - type: bind
        source: /srv
        target: /srv
        bind:
          create_host_path: true
      - type: volume
        source: data
        target: /data
        volume: {}
    configs:
      - source: c
        target: /c
        mode: \"0440\"
    ulimits:
      nofile: \"7\"
networks:
  default:
    name: st_default
    ipam: {}
volumes:
  data:
    name: st_data
configs:
  c:
    name: st_c
    content: |
      hello
x-note: {a: b}
");
    let web = project.service("web");
    let task = &web["TaskTemplate"];
    assert_eq!(
        task["Resources"]["Limits"],
        json!({"NanoCPUs": 500_000_000, "MemoryBytes": 52_428_800, "Pids": 10})
    );
    assert_eq!(task["ContainerSpec"]["Env"], json!(["A=1", "DEBUG=true"]));
    assert_eq!(task["ContainerSpec"]["Configs"][0]["File"]["Mode"], 0o440);
    assert_eq!(task["ContainerSpec"]["Ulimits"][0]["Hard"], 7);
    assert_eq!(task["ContainerSpec"]["Mounts"][1]["Source"], "st_data");
    assert_eq!(web["EndpointSpec"]["Ports"][0]["PublishedPort"], 8080);
    let file = project.load().unwrap();
    let dependency = &file.services()["web"].depends_on[0];
    assert_eq!(
        (dependency.service.as_str(), dependency.condition),
        ("db", Condition::Healthy)
    );
    let warnings: Vec<String> = file.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(
        warnings[0].contains("must be there on each"),
        "{warnings:#?}"
    );
    assert_eq!(file.wire().configs[0]["Data"], "aGVsbG8K");
}

#[test]
fn variables_come_from_dotenv_and_those_given_win() {
    let project = Project::new(&[
        (
            "compose.yaml",
            "services: {w: {image: \"a:${TAG:-${OTHER}}\", hostname: \"${GIVEN}-${SET:+yes}${NONE+no}\", environment: {FROM_FILE: , N: \"${COMPOSE_PROJECT_NAME}\"}}}",
        ),
        (
            ".env",
            "TAG=\nOTHER='1.2'\nGIVEN=file\nSET=x\nFROM_FILE=\"a b\"\n",
        ),
    ]);
    let container = &project.service("w")["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Image"], "a:1.2");
    assert_eq!(container["Hostname"], "given-yes");
    assert_eq!(container["Env"], json!(["FROM_FILE=a b", "N=st"]));
    // Not read for files of the swarm's dialect.
    let swarm = ComposeFile::load(&project.path("compose.yaml"), "st", &LoadOptions::default());
    assert!(swarm.is_err());
}

#[test]
fn a_variable_that_is_not_set_is_empty_and_told() {
    let project = one("services: {w: {image: \"a${NONE}\"}}");
    let file = project.load().unwrap();
    assert!(file.warnings()[0].to_string().contains("NONE is not set"));
    let broken = Project::new(&[
        ("compose.yaml", "services: {w: {image: a}}"),
        (".env", "A B=1\n"),
    ]);
    let problems = broken.load().unwrap_err();
    assert!(problems.contains("/.env:1:1: $: a blank"), "{problems}");
}

#[test]
fn services_of_other_profiles_are_left_out() {
    let text = "services: {w: {image: a}, d: {image: b, profiles: [debug, all]}, t: {image: c, profiles: [test]}}";
    let mut project = one(text);
    let keys = |project: &Project| -> Vec<String> {
        project.load().unwrap().services().keys().cloned().collect()
    };
    assert_eq!(keys(&project), ["w"]);
    project.options.profiles = vec!["debug".to_owned()];
    assert_eq!(keys(&project), ["w", "d"]);
    project.options.profiles = vec!["*".to_owned()];
    assert_eq!(keys(&project), ["w", "d", "t"]);
}

#[test]
fn services_extend_others() {
    let project = Project::new(&[
        (
            "compose.yaml",
            "services:\n  base: {image: a, environment: {A: '1', B: '1'}, ports: ['80:80']}\n  \
             w: {extends: base, environment: [B=2], ports: ['81:81']}\n  \
             x: {extends: {service: far, file: other/common.yaml}, image: b}\n",
        ),
        (
            "other/common.yaml",
            "services:\n  root: {env_file: far.env, volumes: ['./data:/data'], hostname: h}\n  \
             far: {extends: {service: root}, user: u}\n",
        ),
        ("other/far.env", "FAR=$GIVEN\n"),
    ]);
    let w = project.service("w");
    assert_eq!(w["TaskTemplate"]["ContainerSpec"]["Image"], "a:latest");
    assert_eq!(
        w["TaskTemplate"]["ContainerSpec"]["Env"],
        json!(["A=1", "B=2"])
    );
    assert_eq!(w["EndpointSpec"]["Ports"].as_array().unwrap().len(), 2);
    let container = &project.service("x")["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Image"], "b:latest");
    assert_eq!(container["User"], "u");
    assert_eq!(container["Hostname"], "h");
    assert_eq!(container["Env"], json!(["FAR=given"]));
    let source = container["Mounts"][0]["Source"].as_str().unwrap();
    assert!(
        source.ends_with("/other/data") && !source.contains("./"),
        "{source}"
    );
}

#[test]
fn what_cannot_be_extended_or_included_is_told_at_its_place() {
    let refused = |files: &[(&str, &str)], part: &str| {
        let problems = Project::new(files).load().unwrap_err();
        assert!(problems.contains(part), "{problems} lacks {part}");
    };
    refused(
        &[(
            "compose.yaml",
            "services: {a: {extends: b}, b: {extends: a}}",
        )],
        "compose.yaml:1:25: services.a.extends: these services extend each other",
    );
    refused(
        &[(
            "compose.yaml",
            "services: {web: {extends: wep}, wap: {image: a}}",
        )],
        "did you mean `wap`?",
    );
    refused(
        &[(
            "compose.yaml",
            "services: {a: {extends: {service: x, file: none.yaml}}}",
        )],
        "none.yaml: the file cannot be read",
    );
    refused(
        &[(
            "compose.yaml",
            "include: [compose.yaml]\nservices: {a: {image: a}}",
        )],
        "include each other",
    );
    refused(
        &[
            (
                "compose.yaml",
                "include: [{path: a, pth: b}]\nservices: {a: {image: a}}",
            ),
            ("a", "services: {}"),
        ],
        "include[0].pth: unknown key",
    );
    // In the file that is included.
    refused(
        &[
            (
                "compose.yaml",
                "include: [b.yaml]\nservices: {a: {image: a}}",
            ),
            ("b.yaml", "\nservices: {b: {image: b, privileged: true}}"),
        ],
        "b.yaml:2:26: services.b.privileged: ",
    );
}

#[test]
fn files_are_included_with_their_own_directory_and_variables() {
    let project = Project::new(&[
        (
            "compose.yaml",
            "include:\n  - sub/db.yaml\n  - {path: [sub/cache.yaml, cache.over.yaml], env_file: c.env}\n\
             services: {w: {image: a, depends_on: [db]}, cache: {user: own}}\n",
        ),
        (
            "sub/db.yaml",
            "name: other\nservices: {db: {image: \"db:${V}\", secrets: [s], volumes: ['./d:/d', 'data:/x']}}\nvolumes: {data: }\nsecrets: {s: {file: ./key}}\n",
        ),
        ("sub/.env", "V=16\n"),
        ("sub/key", "k"),
        ("sub/cache.yaml", "services: {cache: {image: \"c:${V}\"}}"),
        ("cache.over.yaml", "services: {cache: {hostname: over}}"),
        ("c.env", "V=7\n"),
    ]);
    let db = &project.service("db")["TaskTemplate"]["ContainerSpec"];
    assert_eq!(db["Image"], "db:16");
    assert_eq!(
        db["Mounts"][0]["Source"].as_str(),
        project.path("sub/d").to_str()
    );
    let file = project.load().unwrap();
    assert!(
        matches!(&file.secrets["s"].source, ObjectSource::File(path) if path.ends_with("sub/key"))
    );
    let cache = &project.service("cache")["TaskTemplate"]["ContainerSpec"];
    assert_eq!(
        (&cache["Image"], &cache["Hostname"], &cache["User"]),
        (&json!("c:7"), &json!("over"), &json!("own"))
    );
}

#[test]
fn files_of_variables_have_a_long_form() {
    let project = Project::new(&[
        (
            "compose.yaml",
            "services: {w: {image: a, env_file: [a.env, {path: none.env, required: false}, {path: raw.env, format: raw}]}}",
        ),
        ("a.env", "A=\"${GIVEN} x\" # note\nB=1\n"),
        ("raw.env", "B=\"${GIVEN}\"\n"),
    ]);
    assert_eq!(
        project.service("w")["TaskTemplate"]["ContainerSpec"]["Env"],
        json!(["A=given x", "B=\"${GIVEN}\""])
    );
    let problems = one("services: {w: {image: a, env_file: {path: none.env}}}")
        .load()
        .unwrap_err();
    assert!(problems.contains("cannot be read"), "{problems}");
}

#[test]
fn secrets_and_configs_come_from_variables() {
    let project = one("services: {w: {image: a, secrets: [t], configs: [c]}}\n\
         secrets: {t: {environment: TOKEN}}\nconfigs: {c: {environment: GIVEN}}\n");
    let file = project.load().unwrap();
    let ObjectSource::Given(content) = &file.secrets["t"].source else {
        panic!("{:?}", file.secrets["t"]);
    };
    assert_eq!(content.expose(), b"s3cret");
    let wire = file.wire();
    assert_eq!(wire.secrets[0]["Data"], Value::Null);
    assert_eq!(wire.configs[0]["Data"], "Z2l2ZW4=");
    assert!(!format!("{file:?}{wire:?}").contains("s3cret"));
    let problems = one("services: {w: {image: a}}\nsecrets: {t: {environment: NOPE}}")
        .load()
        .unwrap_err();
    assert!(
        problems.contains("secrets.t.environment: the variable is not set"),
        "{problems}"
    );
    let problems = one("services: {w: {image: a}}\nconfigs: {c: {content: a, file: b}}")
        .load()
        .unwrap_err();
    assert!(problems.contains("only one of"), "{problems}");
}

#[test]
fn conditions_are_kept() {
    let project = one(
        "services:\n  w: {image: a, depends_on: {a: {condition: service_completed_successfully}, b: , gone: {required: false}}}\n  \
         v: {image: a, depends_on: [a]}\n  a: {image: a}\n  b: {image: a}\n"
            .replace("b: ,", "b: {},")
            .as_str(),
    );
    let file = project.load().unwrap();
    let conditions: Vec<Condition> = file.services()["w"]
        .depends_on
        .iter()
        .map(|dependency| dependency.condition)
        .collect();
    assert_eq!(conditions, [Condition::Completed, Condition::Started]);
    assert_eq!(
        file.services()["v"].depends_on[0].condition,
        Condition::Started
    );
    let services = file.render(&RenderContext::default()).services;
    assert_eq!(services[0].depends_on, file.services()["w"].depends_on);
}

#[test]
fn what_a_swarm_cannot_do_is_refused_here_too() {
    for (lines, part) in [
        ("privileged: true", "cap_add"),
        ("network_mode: host", "external network"),
        (
            "ports: [{target: 80, host_ip: 127.0.0.1}]",
            "never on one alone",
        ),
        (
            "networks: {default: {ipv4_address: 10.0.0.9}}",
            "fixed addresses",
        ),
    ] {
        let problems = one(&format!("services:\n  w:\n    image: a\n    {lines}\n"))
            .load()
            .unwrap_err();
        assert!(problems.contains(part), "{problems}");
    }
}

pub(super) fn two(
    base: &str,
    over: &str,
    variables: &[(&str, &str)],
) -> Result<ComposeFile, String> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let options = LoadOptions::default()
        .with_dialect(Dialect::Compose)
        .with_variables(variables);
    let files = [
        (std::path::Path::new("/x/a.yml"), base),
        (std::path::Path::new("/x/b.yml"), over),
    ];
    ComposeFile::parse_files(&files, "st", &options).map_err(|problems| problems.to_string())
}

#[test]
fn tags_that_take_something_away_are_refused_where_they_stand() {
    let base = "services: {w: {image: a, ports: ['80:80']}}\n";
    let over = "# !reset here is nothing\nservices:\n  w:\n    ports: !override ['81:80']\n    \
                environment: {A: !reset null, B: 'not a !reset'}\n";
    let error = two(base, over, &[]).unwrap_err();
    assert!(
        error.contains("/x/b.yml:4:12: this tag is not supported"),
        "{error}"
    );
    assert!(error.contains("/x/b.yml:5:22: "), "{error}");
    assert_eq!(error.matches("not supported").count(), 2, "{error}");
}

#[test]
fn names_that_begin_like_extensions_are_names() {
    let text = "services:\n  w: {image: a, networks: {x-net: }, depends_on: {x-db: {condition: \
                service_started}}, ulimits: {x-foo: 3}, x-own: 1}\n  x-db: {image: a}\n\
                networks: {x-net: {driver: overlay}}\n";
    let file = two(text, "services: {w: {tty: true}}", &[]).unwrap();
    let service = &file.services()["w"];
    assert_eq!(service.networks[0].network, "x-net");
    assert_eq!(service.depends_on[0].service, "x-db");
    assert_eq!(service.ulimits["x-foo"].soft, 3);
}

#[test]
fn what_is_declared_beside_services_is_merged_key_by_key() {
    let base = "services: {w: {image: a, volumes: ['data:/data'], networks: [n]}}\n\
                volumes: {data: {external: true}}\n\
                networks: {n: {internal: true, driver_opts: {encrypted: 'true'}, labels: {a: b}}}\n";
    let over = "services: {w: {tty: true}}\nvolumes: {data: }\n\
                networks: {n: {labels: {c: d}}}\n";
    let file = two(base, over, &[]).unwrap();
    let rendered = file.render(&RenderContext::default());
    let mount = &rendered.services[0].json["TaskTemplate"]["ContainerSpec"]["Mounts"][0];
    assert_eq!(mount["Source"], "data");
    let network = &rendered.networks[0].json;
    assert_eq!(network["Internal"], true);
    assert_eq!(network["Options"]["encrypted"], "true");
    assert_eq!(network["Labels"]["a"], "b");
    assert_eq!(network["Labels"]["c"], "d");
}

#[test]
fn a_network_that_is_named_again_keeps_its_aliases() {
    let base = "services: {w: {image: a, networks: {n: {aliases: [db]}}}}\nnetworks: {n: }\n";
    let over = "services: {w: {networks: {n: {}}}}\n";
    let file = two(base, over, &[]).unwrap();
    assert_eq!(file.services()["w"].networks[0].aliases, ["db"]);
}

#[test]
fn profiles_are_chosen_by_their_variable_too() {
    let base = "services: {w: {image: a}, d: {image: b, profiles: [debug]}}";
    let over = "services: {w: {tty: true}}";
    let chosen = two(base, over, &[("COMPOSE_PROFILES", "x, debug")]).unwrap();
    assert_eq!(chosen.services().len(), 2);
    assert_eq!(two(base, over, &[]).unwrap().services().len(), 1);
}

#[test]
fn problems_show_the_names_of_variables_and_not_their_values() {
    for lines in [
        "environment: ['X=${PW}', 'X=${PW}']",
        "volumes: ['${PW}:x']",
        "ports: ['$PW']",
        "image: 'A:${PW}'",
        "healthcheck: {test: a, interval: '${PW}'}",
    ] {
        for dialect in [Dialect::Swarm, Dialect::Compose] {
            // A list of variables may repeat one there.
            if dialect == Dialect::Compose && lines.starts_with("environment") {
                continue;
            }
            let text = format!("services:\n  v: {{image: a}}\n  w:\n    image: a\n    {lines}\n");
            let text = if lines.starts_with("image") {
                text.replace("    image: a\n", "")
            } else {
                text
            };
            let options =
                LoadOptions::default()
                    .with_dialect(dialect)
                    .with_variables(BTreeMap::from([(
                        "PW".to_owned(),
                        "hunter2secret".to_owned(),
                    )]));
            let path = std::path::Path::new("/x/a.yml");
            let error = ComposeFile::parse(path, &text, "st", &options).unwrap_err();
            let error = error.to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("${PW}"), "{lines}: {error}");
        }
    }
}

#[test]
fn what_stands_behind_a_quoted_value_is_told() {
    let known = BTreeMap::new();
    for (text, line) in [("A=1\nPW='abc'def\n", 2), ("Q=\"a\"b\"c", 1)] {
        let error = read_variables(text.as_bytes(), Dialect::Compose, &known).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("line {line}: ")),
            "{error}"
        );
    }
    let read = read_variables(b"A='x' # y\nB=\"z\"  \n", Dialect::Compose, &known).unwrap();
    assert_eq!((read["A"].as_str(), read["B"].as_str()), ("x", "z"));
}
