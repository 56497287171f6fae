//! Keys that are rarely used, with the bodies that docker sends for them.

use serde_json::{Value, json};

use super::super::*;
use super::{CONTAINER, of_container, of_service, parse, service_text};

fn wire(text: &str) -> Wire {
    parse(text)
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
        .wire()
}

#[test]
fn windows_containers() {
    assert_eq!(of_container("isolation: hyperv", "Isolation"), "hyperv");
    assert_eq!(
        of_container("credential_spec: {file: spec.json}", "Privileges"),
        json!({"CredentialSpec": {"Config": "", "File": "spec.json", "Registry": ""},
               "SELinuxContext": null, "NoNewPrivileges": false})
    );
    assert_eq!(
        of_container(
            "credential_spec: {registry: r}",
            "Privileges/CredentialSpec/Registry"
        ),
        "r"
    );
    assert_eq!(
        of_container("credential_spec: {file: \"\"}", "Privileges/CredentialSpec"),
        Value::Null
    );
    let lines = "volumes:\n  - {type: npipe, source: '\\\\.\\pipe\\a', target: '\\\\.\\pipe\\a'}";
    assert_eq!(
        of_container(lines, "Mounts"),
        json!([{"Type": "npipe", "Source": "\\\\.\\pipe\\a", "Target": "\\\\.\\pipe\\a"}])
    );
}

#[test]
fn a_credential_spec_from_a_config_refers_to_it_without_a_file() {
    let text = "services: {w: {image: a, credential_spec: {config: c}, configs: [z, c, b]}}\n\
                configs: {b: {external: true}, c: {external: true}, z: {external: true}}\n";
    let file = parse(text).unwrap();
    let object = |name: &str| {
        let id = Some(format!("id-{name}"));
        let name = name.to_owned();
        (name.clone(), ResolvedObject { name, id })
    };
    let context = RenderContext {
        configs: [object("b"), object("c"), object("z")].into(),
        ..RenderContext::default()
    };
    let service = &file.render(&context).services[0];
    assert!(service.unresolved.is_empty());
    let container = service.json.pointer(CONTAINER).unwrap();
    assert_eq!(
        container["Privileges"]["CredentialSpec"],
        json!({"Config": "id-c", "File": "", "Registry": ""})
    );
    let names: Vec<(&str, bool)> = container["Configs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|config| {
            let runtime = config.get("Runtime").is_some();
            assert_ne!(runtime, config.get("File").is_some());
            (config["ConfigName"].as_str().unwrap(), runtime)
        })
        .collect();
    assert_eq!(
        names,
        [("b", false), ("c", false), ("c", true), ("z", false)]
    );
    let alone = &file.wire().services[0];
    let spec = alone.pointer(CONTAINER).unwrap()["Privileges"]["CredentialSpec"].clone();
    assert_eq!(spec, json!({"File": "", "Registry": ""}));
    assert_eq!(file.references().configs.len(), 3);
}

#[test]
fn mounts_of_every_type() {
    let text = "services:\n  w:\n    image: a\n    volumes:\n\
                \x20     - {type: cluster, source: c, target: /c}\n\
                \x20     - {type: cluster, source: named, target: /n}\n\
                \x20     - {type: cluster, source: 'group:g', target: /g}\n\
                \x20     - {type: image, source: 'nginx:1', target: /i, image: {subpath: etc}}\n\
                \x20     - {type: bind, source: /b, target: /b, bind: {}}\n\
                \x20     - {type: '', source: v, target: /v, volume: {subpath: s}}\n\
                volumes: {c: , named: {name: real}, v: }\n";
    let mounts = wire(text).services[0]
        .pointer("/TaskTemplate/ContainerSpec/Mounts")
        .unwrap()
        .clone();
    assert_eq!(
        mounts,
        json!([
            {"Type": "cluster", "Source": "st_c", "Target": "/c", "ClusterOptions": {}},
            {"Type": "cluster", "Source": "real", "Target": "/n", "ClusterOptions": {}},
            {"Type": "cluster", "Source": "group:g", "Target": "/g", "ClusterOptions": {}},
            {"Type": "image", "Source": "nginx:1", "Target": "/i", "ImageOptions": {"Subpath": "etc"}},
            {"Type": "bind", "Source": "/b", "Target": "/b", "BindOptions": {}},
            {"Type": "volume", "Source": "st_v", "Target": "/v",
             "VolumeOptions": {"Subpath": "s", "Labels": {STACK_LABEL: "st"}}},
        ])
    );
}

#[test]
fn secrets_and_configs_as_they_are_made() {
    let text = "services: {w: {image: a}}\n\
                secrets:\n\
                \x20 plain: {file: Cargo.toml, labels: {a: b}, template_driver: golang}\n\
                \x20 made: {driver: vault, driver_opts: {path: x, n: 1}, name: other}\n\
                \x20 outside: {external: true}\n\
                configs:\n  c: {file: Cargo.toml, template_driver: golang}\n  out: {external: true}\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("stack.yaml");
    let file = ComposeFile::parse(&path, text, "st", &LoadOptions::default()).unwrap();
    let wire = file.wire();
    assert_eq!(
        wire.secrets,
        [
            json!({"Name": "st_plain", "Labels": {"a": "b", STACK_LABEL: "st"}, "Data": null,
                   "Templating": {"Name": "golang"}}),
            json!({"Name": "other", "Labels": {STACK_LABEL: "st"},
                   "Driver": {"Name": "vault", "Options": {"path": "x", "n": "1"}}}),
        ]
    );
    assert_eq!(wire.configs.len(), 1);
    assert_eq!(wire.configs[0]["Name"], "st_c");
    assert_eq!(wire.configs[0]["Templating"], json!({"Name": "golang"}));
    assert!(wire.configs[0]["Data"].as_str().unwrap().len() > 100);
}

#[test]
fn configs_of_the_stack_are_referred_to_by_the_names_that_docker_gives() {
    let text = "services: {w: {image: a, configs: [c]}}\nconfigs: {c: {file: Cargo.toml}}\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("stack.yaml");
    let wire = ComposeFile::parse(&path, text, "st", &LoadOptions::default())
        .unwrap()
        .wire();
    let configs = wire.services[0]
        .pointer("/TaskTemplate/ContainerSpec/Configs")
        .unwrap();
    assert_eq!(configs[0]["ConfigName"], "st_c");
}

#[test]
fn what_a_port_does_not_say_is_not_sent() {
    let lines = "ports: [{target: 80, published: 8080}, \"81:81\"]";
    assert_eq!(
        of_service(lines, "/EndpointSpec/Ports"),
        json!([
            {"TargetPort": 81, "PublishedPort": 81, "Protocol": "tcp", "PublishMode": "ingress"},
            {"TargetPort": 80, "PublishedPort": 8080},
        ])
    );
}

#[test]
fn an_empty_text_is_as_good_as_no_key() {
    let lines = "user: \"${EMPTY}\"\nhostname: \"\"\nlogging: {driver: \"\", options: {a: }}";
    assert_eq!(of_container(lines, "User"), Value::Null);
    assert_eq!(
        of_service(lines, "/TaskTemplate/LogDriver"),
        json!({"Options": {"a": ""}})
    );
}

#[test]
fn numbers_are_written_as_go_writes_them() {
    let lines = "environment: {A: 1.10, B: 1000000.0, C: 0x10, D: 010, E: 1_000, F: 18446744073709551615, G: 12:30}";
    let env = of_container(lines, "Env");
    assert_eq!(
        env,
        json!([
            "A=1.1",
            "B=1e+06",
            "C=16",
            "D=8",
            "E=1000",
            "F=18446744073709551615",
            "G=12:30"
        ])
    );
}

#[test]
fn keys_have_versions() {
    for (version, lines, since) in [
        ("3.8", "deploy: {resources: {limits: {pids: 5}}}", "3.9"),
        ("3.0", "ports: [{target: 80}]", "3.2"),
        ("3.1", "volumes: [{type: tmpfs, target: /a}]", "3.2"),
        ("3.5", "init: true", "3.7"),
        ("3.6", "x-note: a", "3.7"),
        ("3.11", "healthcheck: {test: a, start_interval: 1s}", "3.12"),
        ("3.12", "networks: {default: {driver_opts: {a: b}}}", "3.13"),
        ("3.7", "credential_spec: {config: a}", "3.8"),
    ] {
        let text = format!("version: \"{version}\"\n{}", service_text(lines));
        let problems = parse(&text).unwrap_err().to_string();
        let part = format!("since version {since}, and this file has {version}");
        assert!(problems.contains(&part), "{problems}");
        let newer = text.replace(&format!("\"{version}\""), "\"3.13\"");
        if !lines.contains("credential_spec") {
            parse(&newer).unwrap_or_else(|problems| panic!("{problems}"));
        }
    }
}

#[test]
fn lists_hold_an_entry_once() {
    for lines in [
        "cap_add: [NET_ADMIN, NET_ADMIN]",
        "environment: [A=1, A=1]",
        "dns: [1.1.1.1, 1.1.1.1]",
    ] {
        let problems = parse(&service_text(lines)).unwrap_err().to_string();
        assert!(problems.contains("in the list already"), "{problems}");
    }
    parse(&service_text("command: [a, a]\nenvironment: [A=1, A=2]")).unwrap();
}
