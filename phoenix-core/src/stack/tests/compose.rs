//! Files that were written for `docker compose`: what it makes of them is what is meant.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::super::model::Condition;
use super::super::*;
use super::dialect::{Project, one, two};

fn warnings(file: &ComposeFile) -> String {
    let warnings: Vec<String> = file.warnings().iter().map(ToString::to_string).collect();
    warnings.join("\n")
}

fn loaded(text: &str) -> ComposeFile {
    one(text)
        .load()
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

/// The first service's body of a file of the compose dialect.
fn body(file: &ComposeFile) -> Value {
    file.wire().services[0].clone()
}

fn merged(base: &str, over: &str) -> Value {
    body(&two(base, over, &[]).unwrap_or_else(|problems| panic!("{problems}\n{base}\n{over}")))
}

const CONTAINER: &str = "/TaskTemplate/ContainerSpec";

#[test]
fn a_service_that_others_want_ended_is_not_started_again() {
    let file = loaded(
        "services:\n  migrate: {image: a}\n  kept: {image: a, restart: always}\n  \
         given: {image: a, deploy: {restart_policy: {condition: on-failure}}}\n  \
         job: {image: a, deploy: {mode: replicated-job}}\n  plain: {image: a}\n  \
         w:\n    image: a\n    depends_on:\n      \
         migrate: {condition: service_completed_successfully}\n      \
         kept: {condition: service_completed_successfully}\n      \
         given: {condition: service_completed_successfully}\n      \
         job: {condition: service_completed_successfully}\n      \
         plain: {condition: service_started}\n",
    );
    let condition = |key: &str| {
        let policy = file.services()[key].deploy.restart_policy.as_ref();
        policy.and_then(|policy| policy.condition)
    };
    assert_eq!(condition("migrate"), Some("none"));
    assert_eq!(condition("kept"), Some("any"));
    assert_eq!(condition("given"), Some("on-failure"));
    assert_eq!(condition("job"), None);
    assert_eq!(condition("plain"), None);
    assert_eq!(condition("w"), None);
    assert_eq!(
        file.services()["w"].depends_on[0].condition,
        Condition::Completed
    );
    let migrate = &file.wire().services[0];
    assert_eq!(
        migrate["TaskTemplate"]["RestartPolicy"],
        json!({"Condition": "none"})
    );
}

#[test]
fn an_empty_key_in_a_later_file_takes_nothing_away() {
    let base = "services:\n  w:\n    image: a\n    user: u\n    hostname: h\n    \
                stop_signal: SIGINT\n    command: [x]\n    entrypoint: [y]\n    dns: 10.0.0.1\n    \
                deploy: {replicas: 2}\n    healthcheck: {test: t, interval: 5s}\n";
    let over = "services:\n  w:\n    image:\n    user:\n    hostname:\n    stop_signal:\n    \
                command:\n    entrypoint:\n    dns:\n    deploy: {replicas: }\n    \
                healthcheck: {test: , interval: }\n";
    let body = merged(base, over);
    let container = body.pointer(CONTAINER).unwrap();
    assert_eq!(container["User"], "u");
    assert_eq!(container["Hostname"], "h");
    assert_eq!(container["StopSignal"], "SIGINT");
    assert_eq!(container["DNSConfig"]["Nameservers"], json!(["10.0.0.1"]));
    assert_eq!(body["Mode"]["Replicated"]["Replicas"], 2);
    assert_eq!(container["Healthcheck"]["Interval"], 5_000_000_000_u64);
    // These are the image's own again.
    assert_eq!(container.get("Command"), None);
    assert_eq!(container.get("Args"), None);
    assert_eq!(container["Healthcheck"].get("Test"), None);
    // A service that extends another one is such a later file.
    let body = body_of_extended("user:");
    assert_eq!(body.pointer(CONTAINER).unwrap()["User"], "u");
}

fn body_of_extended(lines: &str) -> Value {
    let text =
        format!("services:\n  w:\n    extends: base\n    {lines}\n  base: {{image: a, user: u}}\n");
    body(&loaded(&text))
}

#[test]
fn aliases_and_options_of_a_network_are_joined() {
    let base = "services: {w: {image: a, networks: {n: {aliases: [db, x], driver_opts: {a: b}}}}}\n\
                networks: {n: }\n";
    let over = "services: {w: {networks: {n: {aliases: [x, db2], driver_opts: {c: d}}}}}\n";
    let network = merged(base, over)["TaskTemplate"]["Networks"][0].clone();
    assert_eq!(network["Aliases"], json!(["db", "x", "db2", "w"]));
    assert_eq!(network["DriverOpts"], json!({"a": "b", "c": "d"}));
}

#[test]
fn files_are_joined_by_where_they_are_mounted() {
    let base = "services: {w: {image: a, secrets: [s, {source: s, target: other}, {source: t, target: /run/secrets/u}], configs: [c]}}\n\
                secrets: {s: {external: true}, t: {external: true}, u: {external: true}}\n\
                configs: {c: {external: true}, d: {external: true}}\n";
    let over = "services: {w: {secrets: [{source: t, target: s}, u], configs: [{source: d, target: /c}]}}\n";
    let file = two(base, over, &[]).unwrap();
    let service = &file.services()["w"];
    let mut secrets: Vec<(&str, &str)> = service
        .secrets
        .iter()
        .map(|file| (file.source.as_str(), file.target.as_str()))
        .collect();
    secrets.sort_unstable();
    assert_eq!(secrets, [("s", "other"), ("t", "s"), ("u", "u")]);
    assert_eq!(service.configs.len(), 1);
    assert_eq!(service.configs[0].source, "d");
}

#[test]
fn profiles_hosts_and_name_servers_are_joined_once() {
    let base = "services: {w: {image: a, dns: [10.0.0.1], dns_search: x, extra_hosts: ['a:10.0.0.1']}, d: {image: b, profiles: [debug]}}";
    let over = "services: {w: {dns: [10.0.0.2, 10.0.0.1], dns_search: [x, y], extra_hosts: {a: 10.0.0.1, b: 10.0.0.2}}, d: {profiles: [test]}}";
    let chosen = |profile: &str| {
        let file = two(base, over, &[("COMPOSE_PROFILES", profile)]).unwrap();
        file.services().len()
    };
    assert_eq!((chosen("debug"), chosen("test"), chosen("x")), (2, 2, 1));
    let body = merged(base, over);
    let container = body.pointer(CONTAINER).unwrap();
    assert_eq!(
        container["DNSConfig"],
        json!({"Nameservers": ["10.0.0.1", "10.0.0.2"], "Search": ["x", "y"]})
    );
    assert_eq!(container["Hosts"], json!(["10.0.0.1 a", "10.0.0.2 b"]));
}

#[test]
fn a_wrong_port_is_not_lost_when_files_are_merged() {
    let base = "services: {w: {image: a, ports: ['abc:80']}}";
    let error = two(base, "services: {w: {ports: ['81:81']}}", &[]).unwrap_err();
    assert!(
        error.contains("services.w.ports[") && error.contains("no port"),
        "{error}"
    );
}

#[test]
fn a_volume_that_is_a_directory_of_the_project_is_an_absolute_path() {
    let project = Project::new(&[
        (
            "compose.yaml",
            "include: [sub/compose.yaml]\n\
             services: {w: {image: a, volumes: ['d:/d', 'e:/e', 'f:/f', 'g:/g']}}\nvolumes:\n  \
             d: {driver: local, driver_opts: {type: none, o: bind, device: ./data}}\n  \
             e: {driver: local, driver_opts: {type: none, o: 'rw,bind', device: /srv}}\n  \
             f: {driver: local, driver_opts: {type: nfs, o: addr=10.0.0.1, device: ':/x'}}\n",
        ),
        (
            "sub/compose.yaml",
            "services: {}\n\
             volumes: {g: {driver: local, driver_opts: {o: bind, device: data}}}\n",
        ),
    ]);
    let file = project.load().unwrap();
    let device = |key: &str| {
        let options = file.volumes[key].driver_opts.as_ref().unwrap();
        options["device"].clone()
    };
    assert_eq!(Some(device("d").as_str()), project.path("data").to_str());
    assert_eq!(device("e"), "/srv");
    assert_eq!(device("f"), ":/x");
    assert_eq!(
        Some(device("g").as_str()),
        project.path("sub/data").to_str()
    );
}

#[test]
fn a_range_that_leads_to_one_port_is_a_choice() {
    let file = loaded(
        "services: {w: {image: a, ports: ['8000-8002:80', '0.0.0.0:9000-9001:90/udp', \
         {target: 70, published: '8100-8102'}]}}",
    );
    let ports = &file.services()["w"].ports;
    let published: Vec<Option<u16>> = ports.iter().map(|port| port.published).collect();
    assert_eq!(published, [Some(8000), Some(9000), Some(8100)]);
    let warnings = warnings(&file);
    assert_eq!(
        warnings.matches("one of these ports").count(),
        3,
        "{warnings}"
    );
    // Also where files are merged.
    let body = merged(
        "services: {w: {image: a, ports: ['8000-8002:80', {target: 70, published: '8100-8102'}]}}",
        "services: {w: {ports: ['8001:81']}}",
    );
    let ports = body["EndpointSpec"]["Ports"].as_array().unwrap().clone();
    assert_eq!(ports.len(), 3, "{ports:?}");
    // Ranges of one length are pairs.
    let file = loaded("services: {w: {image: a, ports: ['8000-8002:80-82']}}");
    assert_eq!(file.services()["w"].ports.len(), 3);
}

#[test]
fn every_address_is_what_a_swarm_publishes_on() {
    let file = loaded(
        "services: {w: {image: a, ports: ['0.0.0.0:80:80', '[::]:81:81', ':82', '0.0.0.0::83', \
         {target: 84, published: '84', host_ip: 0.0.0.0}, {target: 85, published: '85', host_ip: '::'}]}}",
    );
    let ports: Vec<(Option<u16>, u16)> = file.services()["w"]
        .ports
        .iter()
        .map(|port| (port.published, port.target))
        .collect();
    assert_eq!(
        ports,
        [
            (Some(80), 80),
            (Some(81), 81),
            (None, 82),
            (None, 83),
            (Some(84), 84),
            (Some(85), 85)
        ]
    );
    for port in ["'127.0.0.1:80:80'", "{target: 80, host_ip: 127.0.0.1}"] {
        let problems = one(&format!("services: {{w: {{image: a, ports: [{port}]}}}}"))
            .load()
            .unwrap_err();
        assert!(problems.contains("never on one alone"), "{problems}");
    }
    // In the swarm's dialect, too.
    let options = LoadOptions::default();
    let text = "services: {w: {image: a, ports: ['0.0.0.0:80:80', '[::]:81:81', '0.0.0.0::83']}}";
    let file = ComposeFile::parse(Path::new("/x/a.yml"), text, "st", &options).unwrap();
    assert_eq!(file.services()["w"].ports.len(), 3);
    assert_eq!(file.services()["w"].ports[2].published, None);
    let options = options.with_compat(Compat::Docker);
    let file = ComposeFile::parse(Path::new("/x/a.yml"), text, "st", &options).unwrap();
    assert_eq!(file.warnings(), []);
}

#[test]
fn times_have_days_and_weeks() {
    let file = loaded(
        "services: {w: {image: a, stop_grace_period: 1w, healthcheck: {test: t, start_period: 1d2h, \
         interval: 90s}, deploy: {update_config: {delay: 0.5d}, restart_policy: {window: 2d}}}}",
    );
    let service = &file.services()["w"];
    let hours = |duration: Option<std::time::Duration>| duration.unwrap().as_secs() / 3600;
    let check = service.healthcheck.as_ref().unwrap();
    assert_eq!(hours(check.start_period), 26);
    assert_eq!(check.interval.unwrap().as_secs(), 90);
    assert_eq!(hours(service.stop_grace_period), 168);
    let update = service.deploy.update_config.as_ref().unwrap();
    assert_eq!(hours(Some(update.delay)), 12);
    let policy = service.deploy.restart_policy.as_ref().unwrap();
    assert_eq!(hours(policy.window), 48);
    let swarm = "services: {w: {image: a, stop_grace_period: 1d}}";
    let options = LoadOptions::default();
    assert!(ComposeFile::parse(Path::new("/x/a.yml"), swarm, "st", &options).is_err());
}

#[test]
fn a_bridge_becomes_an_overlay() {
    let file = loaded(
        "services: {w: {image: a, networks: [web]}}\n\
         networks: {web: {driver: bridge, driver_opts: {com.docker.network.bridge.name: br9, encrypted: ''}}}\n",
    );
    let network = &file.wire().networks[0];
    assert_eq!(network["Driver"], "overlay");
    assert_eq!(network["Options"], json!({"encrypted": ""}));
    let warnings = warnings(&file);
    assert!(
        warnings.contains("an overlay network of all nodes"),
        "{warnings}"
    );
    assert!(warnings.contains("networks.web.driver_opts"), "{warnings}");
    for driver in ["host", "macvlan", "none"] {
        let problems = one(&format!(
            "services: {{w: {{image: a, networks: [web]}}}}\nnetworks: {{web: {{driver: {driver}}}}}\n"
        ))
        .load()
        .unwrap_err();
        assert!(problems.contains("networks.web.driver: "), "{problems}");
    }
}

#[test]
fn a_check_that_is_disabled_is_disabled() {
    let base = "services: {w: {image: a, healthcheck: {test: t, interval: 5s}}}";
    let over = "services: {w: {healthcheck: {disable: true}}}";
    let file = two(base, over, &[]).unwrap();
    let check = &body(&file)["TaskTemplate"]["ContainerSpec"]["Healthcheck"];
    assert_eq!(*check, json!({"Test": ["NONE"]}));
    assert!(warnings(&file).contains("disabled"), "{}", warnings(&file));
    let enabled = two(base, "services: {w: {healthcheck: {disable: false}}}", &[]).unwrap();
    assert_eq!(
        body(&enabled)["TaskTemplate"]["ContainerSpec"]["Healthcheck"]["Test"],
        json!(["CMD-SHELL", "t"])
    );
}

#[test]
fn the_name_of_a_container_is_an_alias() {
    let file = loaded(
        "services:\n  w: {image: a, container_name: web}\n  \
         v: {image: a, container_name: api, networks: [one, two]}\n  \
         u: {image: a, container_name: far, networks: {one: {aliases: [x]}, net: }}\n  \
         s: {image: a, container_name: s}\n\
         networks: {one: , two: , net: {external: true, name: host}}\n",
    );
    let aliases = |key: &str| -> Vec<(String, Vec<String>)> {
        let networks = file.services()[key].networks.iter();
        networks
            .map(|network| (network.network.clone(), network.aliases.clone()))
            .collect()
    };
    let own = |name: &str, aliases: &[&str]| {
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        (name.to_owned(), aliases)
    };
    assert_eq!(aliases("w"), [own("default", &["web"])]);
    assert_eq!(aliases("v"), [own("one", &["api"]), own("two", &["api"])]);
    assert_eq!(aliases("u"), [own("one", &["x", "far"]), own("net", &[])]);
    assert_eq!(aliases("s"), []);
    let warnings = warnings(&file);
    assert_eq!(
        warnings.matches("container_name: ").count(),
        4,
        "{warnings}"
    );
}

#[test]
fn what_does_nothing_in_a_swarm_is_left_out_with_a_word() {
    let file = loaded(
        "services:\n  w:\n    image: a\n    build: .\n    links: [v, 'v:database']\n    volumes: \
         ['/a:/b:z', '/c:/d:ro,Z', 'n:/e:cached', {type: bind, source: /f, target: /g, bind: {selinux: z}}]\n  \
         v: {image: a}\nvolumes: {n: }\n",
    );
    let mounts = &file.services()["w"].mounts;
    assert_eq!(mounts.len(), 4);
    assert!(mounts[1].read_only && !mounts[0].read_only);
    let warnings = warnings(&file);
    for part in [
        "services.w.build: ",
        "services.w.links[1]: ",
        "`database`",
        "services.w.volumes[0]: ",
        "services.w.volumes[1]: ",
        "services.w.volumes[2]: ",
        "services.w.volumes[3].bind.selinux: ",
    ] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    let problems = one("services: {w: {build: .}}").load().unwrap_err();
    assert!(problems.contains("does not build"), "{problems}");
}

#[test]
fn shared_memory_is_a_mount() {
    for tmpfs in ["", ", tmpfs: /run", ", tmpfs: [/run]"] {
        let file = loaded(&format!(
            "services: {{w: {{image: a, shm_size: 128mb{tmpfs}}}}}"
        ));
        let body = body(&file);
        let mounts = body.pointer(CONTAINER).unwrap()["Mounts"]
            .as_array()
            .unwrap();
        assert_eq!(
            *mounts.last().unwrap(),
            json!({"Type": "tmpfs", "Target": "/dev/shm",
                   "TmpfsOptions": {"SizeBytes": 134_217_728, "Mode": 0o1777}})
        );
        assert_eq!(mounts.len(), 1 + usize::from(!tmpfs.is_empty()));
    }
    let problems = one("services: {w: {image: a, shm_size: much}}")
        .load()
        .unwrap_err();
    assert!(problems.contains("an amount of memory"), "{problems}");
}

#[test]
fn a_dollar_sign_before_no_name_is_one() {
    let file = loaded(
        "services: {w: {image: a, hostname: end$, environment: {A: 'pa$1word', B: 'grep x$', C: '$(x)'}}}",
    );
    let container = &body(&file)["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Hostname"], "end$");
    assert_eq!(
        container["Env"],
        json!(["A=pa$1word", "B=grep x$", "C=$(x)"])
    );
    let warnings = warnings(&file);
    assert_eq!(warnings.matches("`$$`").count(), 4, "{warnings}");
}

#[test]
fn what_is_odd_in_a_file_of_variables_is_told_there() {
    let project = Project::new(&[
        (
            "compose.yaml",
            "services: {w: {image: a, env_file: own.env, environment: {P: }}}",
        ),
        (".env", "A=1\nP=pa$1word\nQ=$NONE\n"),
        ("own.env", "\nR=${LOST}\n"),
    ]);
    let file = project.load().unwrap();
    let container = &body(&file)["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Env"], json!(["P=pa$1word", "R="]));
    let warnings = warnings(&file);
    assert!(warnings.contains("/.env:2:1: $P: "), "{warnings}");
    assert!(
        warnings.contains("/.env:3:1: $Q: the variable NONE is not set"),
        "{warnings}"
    );
    // The line may be secret.
    let mut warnings_there = file.warnings().iter().filter(|one| one.is_of_variables());
    let warning = warnings_there.next().unwrap();
    assert_eq!(warning.excerpt("A=1\nP=pa$1word\n"), None);
    assert_eq!(warnings_there.count(), 1);
    assert!(
        warnings.contains("in own.env: line 2: the variable LOST is not set"),
        "{warnings}"
    );
    let broken = Project::new(&[
        ("compose.yaml", "services: {w: {image: a}}"),
        (".env", "A=1\nB=${C:?no}\n"),
    ]);
    let problems = broken.load().unwrap_err();
    assert!(
        problems.contains("/.env:2:1: $: the required variable C"),
        "{problems}"
    );
    let path = broken.path("compose.yaml");
    let error = ComposeFile::declared_name(&[(&path, "name: x")], &broken.options).unwrap_err();
    assert!(error.to_string().contains("/.env:2:1: "), "{error}");
}

#[test]
fn files_that_are_included_again_and_again_come_to_an_end() {
    let mut files: Vec<(String, String)> = (0..15)
        .map(|level| {
            let next = format!("level{}.yaml", level + 1);
            (
                format!("level{level}.yaml"),
                format!("include: [{next}, {next}, {next}]\nservices: {{}}\n"),
            )
        })
        .collect();
    files.push(("level15.yaml".to_owned(), "services: {}\n".to_owned()));
    files.push((
        "compose.yaml".to_owned(),
        "include: [level0.yaml]\nservices: {w: {image: a}}\n".to_owned(),
    ));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let problems = Project::new(&files).load().unwrap_err();
    assert!(problems.contains("files are included"), "{problems}");
    assert_eq!(problems.lines().count(), 1, "{problems}");
}

#[test]
fn a_file_that_includes_itself_by_another_way_is_found_at_once() {
    let project = Project::new(&[
        (
            "compose.yaml",
            "include: [sub/a.yaml]\nservices: {w: {image: a}}\n",
        ),
        ("sub/a.yaml", "include: [../compose.yaml]\nservices: {}\n"),
    ]);
    let problems = project.load().unwrap_err();
    assert!(
        problems.contains("sub/a.yaml:1:11: include[0]: the files include each other"),
        "{problems}"
    );
}

#[test]
fn many_services_extend_one_of_another_file() {
    let mut text = "services:\n".to_owned();
    for index in 0..1500 {
        text.push_str(&format!(
            "  s{index}: {{extends: {{service: base, file: common.yaml}}, hostname: h{index}}}\n"
        ));
    }
    let project = Project::new(&[
        ("compose.yaml", &text),
        ("common.yaml", "services: {base: {image: a, user: u}}\n"),
    ]);
    let file = project.load().unwrap();
    assert_eq!(file.services().len(), 1500);
    assert_eq!(file.services()["s7"].user.as_deref(), Some("u"));
}

fn chain(length: usize) -> String {
    let mut text = "services:\n".to_owned();
    for index in 0..length {
        let needs = match index + 1 {
            next if next < length => format!(", depends_on: [s{next}]"),
            _ => String::new(),
        };
        text.push_str(&format!("  s{index}: {{image: a{needs}}}\n"));
    }
    text
}

#[test]
fn a_chain_of_twenty_thousand_services_is_read() {
    let options = LoadOptions::default();
    let text = chain(20_000);
    let file = ComposeFile::parse(Path::new("/x/a.yml"), &text, "st", &options).unwrap();
    assert_eq!(file.services().len(), 20_000);
}

#[test]
fn a_long_cycle_is_told_once() {
    let options = LoadOptions::default();
    let text = chain(3_000).replace("s2999: {image: a", "s2999: {image: a, depends_on: [s1]");
    let error = ComposeFile::parse(Path::new("/x/a.yml"), &text, "st", &options).unwrap_err();
    let error = error.to_string();
    assert_eq!(error.lines().count(), 1);
    assert!(error.starts_with("/x/a.yml:3:"), "{}", &error[..60]);
    assert!(
        error.contains("services.s1.depends_on: these services wait for each other: s1 -> s2 -> ")
    );
    assert!(error.ends_with("s2999 -> s1"));
}

#[test]
fn every_port_of_a_protocol_can_be_published() {
    let options = LoadOptions::default();
    let load = |ports: &str, over: Option<&str>| {
        let text = format!("services: {{w: {{image: a, ports: [{ports}]}}}}");
        let over = over.map(|over| format!("services: {{w: {{ports: [{over}]}}}}"));
        let path = Path::new("/x/a.yml");
        let mut files = vec![(path, text.as_str())];
        files.extend(over.as_deref().map(|over| (path, over)));
        ComposeFile::parse_files(&files, "st", &options).map_err(|error| error.to_string())
    };
    let file = load("'1-65535:1-65535'", None).unwrap();
    assert_eq!(file.services()["w"].ports.len(), 65_535);
    let file = load("'1-65535:1-65535'", Some("'1-65535:1-65535'")).unwrap();
    assert_eq!(file.services()["w"].ports.len(), 65_535);
    let error = load("'1-65535:1-65535', '1-65535:2'", None).unwrap_err();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("listed twice"), "{error}");
    let error = load("'1-65535:1-65535', '1-65535:1-65535/udp'", None).unwrap_err();
    assert!(error.contains("at most 65535 ports"), "{error}");
}

#[test]
fn a_tag_within_a_text_is_text() {
    let base = "services: {w: {image: a, ports: ['80:80']}}\n";
    let over = "services:\n  w:\n    command: |\n      - !reset me\n      x: !override\n    \
                labels: {a: \"b: !reset c\", d: 'x\n      !reset y'}\n    hostname: h\n";
    let body = merged(base, over);
    assert_eq!(
        body["TaskTemplate"]["ContainerSpec"]["Args"],
        json!(["-", "!reset", "me", "x:", "!override"])
    );
    for over in [
        "services:\n  w:\n    ports: !reset null\n",
        "services:\n  w:\n    ports: !reset\n",
        "services:\n  w:\n    ports: &x !reset []\n",
        "services:\n  w: !reset {tty: true}\n",
        "services:\n  w:\n    ports:\n      - !reset '80:80'\n",
        "services:\n  w:\n    ports: !override\n      - '81:80'\n",
    ] {
        let error = two(base, over, &[]).unwrap_err();
        assert!(
            error.contains("this tag is not supported"),
            "{over}: {error}"
        );
    }
}

#[test]
fn variables_with_braces_in_their_defaults() {
    let set = |text: &str| {
        let variables = BTreeMap::from([("HOME".to_owned(), "/h".to_owned())]);
        let options = LoadOptions::default()
            .with_dialect(Dialect::Compose)
            .with_variables(variables);
        let text = format!("services: {{w: {{image: a, hostname: '{text}'}}}}");
        let file = ComposeFile::parse(Path::new("/x/a.yml"), &text, "st", &options).unwrap();
        file.services()["w"].hostname.clone().unwrap()
    };
    assert_eq!(set("${HOME:-{a}}z"), "/hz");
    assert_eq!(set("${NO:-{a}}z"), "{a}z");
}
