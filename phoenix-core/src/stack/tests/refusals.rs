//! What is refused, and where: every case is a file with one fault.

use super::{parse, service_text};

/// Asserts that the file has exactly one problem, at `place` (`line:column path`), which says
/// `part`.
fn refused(text: &str, place: &str, part: &str) {
    let problems = match parse(text) {
        Err(problems) => problems.0,
        Ok(_) => panic!("accepted:\n{text}"),
    };
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{shown:#?}\n{text}");
    let problem = &problems[0];
    let at = format!("{} {}", problem.position, problem.path);
    assert_eq!(at.trim(), place, "{shown:#?}\n{text}");
    assert!(shown[0].contains(part), "{shown:#?} lacks {part:?}\n{text}");
}

/// As [`refused`], for a service with `lines`, of which the first is line 4 of the file.
fn service_refused(lines: &str, place: &str, part: &str) {
    refused(&service_text(lines), place, part);
}

#[test]
fn keys_that_a_swarm_has_no_use_for() {
    for (key, part) in [
        ("build: .", "does not build"),
        ("container_name: x", "names of containers"),
        ("privileged: true", "cap_add"),
        ("network_mode: host", "external network"),
        ("links: [a]", "links"),
        ("expose: [80]", "does nothing"),
        ("mem_limit: 5m", "deploy.resources.limits.memory"),
        ("devices: [/dev/x]", "devices"),
        ("profiles: [x]", "profiles"),
        ("extends: x", "anchors"),
    ] {
        let name = key.split(':').next().unwrap();
        service_refused(key, &format!("4:5 services.w.{name}"), part);
    }
    service_refused(
        "imagee: x",
        "4:5 services.w.imagee",
        "unknown key; allowed here: `image`",
    );
    service_refused(
        "comand: x",
        "4:5 services.w.comand",
        "did you mean `command`?",
    );
    refused(
        "services: {w: {image: a}}\nname: x\n",
        "2:1 name",
        "where it is declared",
    );
    refused(
        "services: {w: {image: a}}\nvolume: {}\n",
        "2:1 volume",
        "did you mean `volumes`?",
    );
}

#[test]
fn files_that_describe_no_stack() {
    refused("", "1:1", "a map is expected");
    refused("- a\n", "1:1", "a map is expected");
    refused("services: {}\n", "1:11 services", "at least one service");
    refused("networks: {}\n", "1:1", "the key `services` is missing");
    refused(
        "version: '2.4'\nservices: {w: {image: a}}\n",
        "1:10 version",
        "3.13",
    );
    refused(
        "version: 3.8\nservices: {w: {image: a}}\n",
        "1:10 version",
        "quote it",
    );
    refused(
        "services: {w: {}}\n",
        "1:15 services.w",
        "the key `image` is missing",
    );
    refused("services:\n  w:\n", "2:4 services.w", "nothing is written");
    refused(
        "services: {a.b: {image: a}}\n",
        "1:12 services[\"a.b\"]",
        "letters, digits",
    );
    refused(
        &format!("services: {{{}: {{image: a}}}}\n", "a".repeat(61)),
        &format!("1:12 services.{}", "a".repeat(61)),
        "63 are allowed",
    );
}

#[test]
fn images_and_commands() {
    refused(
        "services: {w: {image: Nginx}}\n",
        "1:23 services.w.image",
        "lower case",
    );
    refused(
        "services: {w: {image: 7}}\n",
        "1:23 services.w.image",
        "quote it",
    );
    refused(
        "services: {w: {image: \"a:${NOPE}\"}}\n",
        "1:23 services.w.image",
        "NOPE is not set",
    );
    refused(
        "services: {w: {image: \"\"}}\n",
        "1:23 services.w.image",
        "needs a name",
    );
    service_refused(
        "command: \"sh -c 'x\"",
        "4:14 services.w.command",
        "not closed",
    );
    service_refused("command: [a, 1]", "4:18 services.w.command[1]", "quote it");
    service_refused(
        "entrypoint:",
        "4:15 services.w.entrypoint",
        "nothing is written",
    );
}

#[test]
fn environment_and_labels() {
    service_refused(
        "environment: {A: true}",
        "4:22 services.w.environment.A",
        "quote it",
    );
    service_refused(
        "environment: [\"=x\"]",
        "4:19 services.w.environment[0]",
        "key=value",
    );
    service_refused(
        "labels: {a: [b]}",
        "4:17 services.w.labels.a",
        "a text is expected",
    );
    service_refused(
        "env_file: none.env",
        "4:15 services.w.env_file",
        "cannot be read",
    );
}

#[test]
fn ports_of_a_service() {
    let first = "4:13 services.w.ports[0]";
    service_refused("ports: [\"127.0.0.1:80:80\"]", first, "every address");
    service_refused("ports: [\"80:80/x\"]", first, "protocol");
    service_refused("ports: [99999]", first, "1 to 65535");
    service_refused(
        "ports: [80, \"80/tcp\"]",
        "4:17 services.w.ports[1]",
        "twice",
    );
    service_refused(
        "ports: [\"1:80\", \"1:81\"]",
        "4:21 services.w.ports[1]",
        "twice",
    );
    service_refused("ports: [{published: 80}]", first, "`target` is missing");
    service_refused(
        "ports: [{target: 80, published: \"80\"}]",
        "4:37 services.w.ports[0].published",
        "a whole number",
    );
    service_refused(
        "ports: [{target: 80, host_ip: 1.1.1.1}]",
        "4:26 services.w.ports[0].host_ip",
        "never on one alone",
    );
    service_refused(
        "ports: [80]\ndeploy: {endpoint_mode: dnsrr}",
        "4:12 services.w.ports",
        "mode: host",
    );
}

#[test]
fn mounts_of_a_service() {
    let first = "4:15 services.w.volumes[0]";
    service_refused("volumes: [\"v:/v\"]", first, "no volume of this name");
    service_refused("volumes: [\"~/a:/v\"]", first, "no meaning");
    service_refused("volumes: [\"/a:/v:z\"]", first, "does nothing");
    service_refused(
        "volumes: [/a, \"/b:/a\"]",
        "4:19 services.w.volumes[1]",
        "this target already",
    );
    service_refused(
        "volumes: [/a]\ntmpfs: [/a]",
        "5:13 services.w.tmpfs[0]",
        "this target already",
    );
    service_refused("volumes: [{target: /a}]", first, "`type` is missing");
    service_refused(
        "volumes: [{type: npip, source: a, target: /a}]",
        "4:22 services.w.volumes[0].type",
        "did you mean `npipe`?",
    );
    service_refused(
        "volumes: [{type: tmpfs, target: /a, bind: {}}]",
        "4:47 services.w.volumes[0].bind",
        "do not go with",
    );
    service_refused(
        "volumes: [{type: bind, source: /a, target: a}]",
        "4:48 services.w.volumes[0].target",
        "absolute",
    );
    service_refused(
        "volumes: [{type: bind, source: /a, target: /a, bind: {create_host_path: true}}]",
        "4:59 services.w.volumes[0].bind.create_host_path",
        "unknown key",
    );
    service_refused(
        "tmpfs: [\"/a:uid=1\"]",
        "4:13 services.w.tmpfs[0]",
        "does nothing",
    );
}

#[test]
fn references_within_the_file() {
    service_refused(
        "networks: [n]",
        "4:16 services.w.networks[0]",
        "under `networks`",
    );
    service_refused(
        "networks: {n: {}}",
        "4:19 services.w.networks.n",
        "under `networks`",
    );
    service_refused(
        "secrets: [s]",
        "4:15 services.w.secrets[0]",
        "under `secrets`",
    );
    service_refused(
        "configs: [{source: c}]",
        "4:24 services.w.configs[0].source",
        "under `configs`",
    );
    service_refused(
        "depends_on: [x]",
        "4:18 services.w.depends_on[0]",
        "under `services`",
    );
    service_refused("depends_on: [w]", "3:12 services.w.depends_on", "w -> w");
    refused(
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [c]}\n  c: {image: x, depends_on: [b]}\n",
        "3:14 services.b.depends_on",
        "b -> c -> b",
    );
    refused(
        "services: {w: {image: a, secrets: [tls_key]}}\nsecrets: {tls-key: {external: true}}\n",
        "1:36 services.w.secrets[0]",
        "did you mean `tls-key`?",
    );
    refused(
        "services: {w: {image: a, secrets: [{source: s, target: x}, {source: t, target: x}]}}\nsecrets: {s: {external: true}, t: {external: true}}\n",
        "1:60 services.w.secrets[1]",
        "target `x`",
    );
    service_refused(
        "networks: {default: {ipv4_address: 10.0.0.1}}",
        "4:26 services.w.networks.default.ipv4_address",
        "fixed addresses",
    );
}

#[test]
fn the_deploy_part() {
    for (lines, place, part) in [
        (
            "deploy: {mode: globl}",
            "4:20 services.w.deploy.mode",
            "did you mean `global`?",
        ),
        (
            "deploy: {mode: global, replicas: 1}",
            "4:38 services.w.deploy.replicas",
            "remove",
        ),
        (
            "deploy: {replicas: -1}",
            "4:24 services.w.deploy.replicas",
            "from 0",
        ),
        (
            "deploy: {placement: {constraints: [node.role]}}",
            "4:40 services.w.deploy.placement.constraints[0]",
            "node.role == manager",
        ),
        (
            "deploy: {resources: {limits: {cpus: 0.5}}}",
            "4:41 services.w.deploy.resources.limits.cpus",
            "did you mean `\"0.5\"`?",
        ),
        (
            "deploy: {resources: {limits: {memory: 50X}}}",
            "4:43 services.w.deploy.resources.limits.memory",
            "unit",
        ),
        (
            "deploy: {resources: {limits: {memory: 1M}}}",
            "4:43 services.w.deploy.resources.limits.memory",
            "4 MiB",
        ),
        (
            "deploy: {resources: {reservations: {devices: []}}}",
            "4:41 services.w.deploy.resources.reservations.devices",
            "generic_resources",
        ),
        (
            "deploy: {restart_policy: {condition: always}}",
            "4:42 services.w.deploy.restart_policy.condition",
            "on-failure",
        ),
        (
            "deploy: {update_config: {monitor: 10}}",
            "4:39 services.w.deploy.update_config.monitor",
            "quote it",
        ),
        (
            "deploy: {update_config: {delay: 1d}}",
            "4:37 services.w.deploy.update_config.delay",
            "unit",
        ),
        (
            "deploy: {update_config: {max_failure_ratio: 2}}",
            "4:49 services.w.deploy.update_config.max_failure_ratio",
            "from 0 to 1",
        ),
        (
            "deploy: {rollback_config: {failure_action: rollback}}",
            "4:48 services.w.deploy.rollback_config.failure_action",
            "continue",
        ),
        (
            "deploy: {mode: global-job, update_config: {}}",
            "4:47 services.w.deploy.update_config",
            "run again",
        ),
        (
            "restart: always\ndeploy: {restart_policy: {condition: any}}",
            "4:14 services.w.restart",
            "says the same",
        ),
        (
            "restart: never",
            "4:14 services.w.restart",
            "unless-stopped",
        ),
    ] {
        service_refused(lines, place, part);
    }
}

#[test]
fn what_a_container_is_given() {
    for (lines, place, part) in [
        (
            "healthcheck: {test: [curl, x]}",
            "4:25 services.w.healthcheck.test",
            "CMD-SHELL",
        ),
        (
            "healthcheck: {test: x, disable: true}",
            "4:25 services.w.healthcheck.test",
            "disabled",
        ),
        (
            "stop_grace_period: 10",
            "4:24 services.w.stop_grace_period",
            "quote it",
        ),
        (
            "extra_hosts: [\"a:b\"]",
            "4:19 services.w.extra_hosts[0]",
            "IP address",
        ),
        ("dns: [example.org]", "4:11 services.w.dns[0]", "IP address"),
        (
            "cap_add: [\"x y\"]",
            "4:15 services.w.cap_add[0]",
            "NET_ADMIN",
        ),
        (
            "ulimits: {nofile: {soft: 1}}",
            "4:23 services.w.ulimits.nofile",
            "`hard` is missing",
        ),
        (
            "ulimits: {nofile: {soft: 2, hard: 1}}",
            "4:23 services.w.ulimits.nofile",
            "above the hard",
        ),
        ("tty: yes", "4:10 services.w.tty", "did you mean `true`?"),
        ("hostname: 1.5", "4:15 services.w.hostname", "quote it"),
        (
            "depends_on: {w: {condition: service_started}}",
            "4:17 services.w.depends_on",
            "only a list",
        ),
    ] {
        service_refused(lines, place, part);
    }
}

#[test]
fn declarations_at_the_top() {
    let with = |lines: &str| format!("services: {{w: {{image: a}}}}\n{lines}\n");
    for (lines, place, part) in [
        (
            "networks: {n: {external: true, driver: x}}",
            "2:40 networks.n.driver",
            "not made by this stack",
        ),
        (
            "networks: {n: {external: {name: a}, name: b}}",
            "2:33 networks.n.external.name",
            "remove one",
        ),
        (
            "networks: {n: {ipam: {config: [{subnet: x}]}}}",
            "2:41 networks.n.ipam.config[0].subnet",
            "10.20.0.0/24",
        ),
        (
            "networks: {n: {ipam: {config: [{subnet: 10.0.0.0/8, gateway: 10.0.0.1}]}}}",
            "2:53 networks.n.ipam.config[0].gateway",
            "gateway",
        ),
        (
            "networks: {a.b: {}}",
            "2:12 networks[\"a.b\"]",
            "letters, digits",
        ),
        (
            "volumes: {v: {external: 1}}",
            "2:25 volumes.v.external",
            "did you mean `true`?",
        ),
        ("secrets: {s: {}}", "2:14 secrets.s", "`file` is missing"),
        ("secrets: {s: }", "2:12 secrets.s", "nothing is written"),
        (
            "secrets: {s: {file: none.pem}}",
            "2:21 secrets.s.file",
            "cannot be read",
        ),
        (
            "secrets: {s: {driver: vault, file: x}}",
            "2:36 secrets.s.file",
            "makes the content up",
        ),
        (
            "configs: {c: {file: none.conf}}",
            "2:21 configs.c.file",
            "cannot be read",
        ),
        (
            "configs: {c: {content: x}}",
            "2:15 configs.c.content",
            "a config comes from",
        ),
    ] {
        let text = with(lines);
        // A declaration without a file is refused twice when its key is refused as well.
        if lines.contains("content: x") {
            let problems = parse(&text).unwrap_err().0;
            assert!(problems[0].message.contains(part) || problems[1].message.contains(part));
        } else {
            refused(&text, place, part);
        }
    }
}

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
    let text = "services:\n  a: {image: A, tty: 1}\n  b: {build: .}\n  c: {image: x, ports: [0]}\n";
    let problems = parse(text).unwrap_err().0;
    let lines: Vec<u32> = problems
        .iter()
        .map(|problem| problem.position.line)
        .collect();
    assert_eq!(lines, [2, 2, 3, 3, 4]);
}

#[test]
fn what_is_wrong_beside_variables_is_told_in_the_same_run() {
    let lines = |text: &str| -> Vec<String> {
        let problems = parse(text).unwrap_err().0;
        problems
            .iter()
            .map(|problem| format!("{} {}", problem.position, problem.path))
            .collect()
    };
    assert_eq!(
        lines(&service_text(
            "tty: 5\nhostname: a${NONE}\nuser: 7\nsecrets: [s]"
        )),
        [
            "4:10 services.w.tty",
            "5:15 services.w.hostname",
            "6:11 services.w.user",
            "7:15 services.w.secrets[0]",
        ]
    );
}

#[test]
fn a_variable_that_cannot_be_replaced_is_one_problem() {
    for line in [
        "image: ${NONE}",
        "tty: ${NONE}",
        "ports: [\"${NONE}:80\"]",
        "ports: [{target: \"${NONE}\", published: 80}]",
        "volumes: [\"${NONE}:/x\"]",
        "volumes: [{type: volume, source: \"${NONE}\", target: /x}]",
        "networks: [\"${NONE}\"]",
        "secrets: [\"${NONE}\"]",
        "configs: [{source: \"${NONE}\", target: x}]",
        "depends_on: [\"${NONE}\"]",
        "env_file: ${NONE}",
        "environment: [\"A=${NONE}\"]",
        "stop_grace_period: ${NONE}",
        "dns: [\"${NONE}\"]",
        "cap_add: [\"${NONE}\"]",
        "extra_hosts: {a: \"${NONE}\"}",
        "ulimits: {nofile: {soft: \"${NONE}\", hard: 5}}",
        "restart: ${NONE}",
        "healthcheck: {test: x, interval: \"${NONE}\"}",
        "deploy: {mode: \"${NONE}\", replicas: 2}",
        "deploy: {replicas: \"${NONE}\"}",
        "deploy: {resources: {limits: {memory: \"${NONE}\", cpus: \"1\"}}}",
        "deploy: {placement: {constraints: [\"${NONE}\"]}}",
        "deploy: {update_config: {order: \"${NONE}\"}}",
    ] {
        let text = match line.strip_prefix("image") {
            Some(rest) => format!("services:\n  w:\n    image{rest}\n"),
            None => service_text(line),
        };
        let problems = parse(&text).unwrap_err();
        assert_eq!(problems.0.len(), 1, "{line}\n{problems}");
        assert!(
            problems.to_string().contains("NONE is not set"),
            "{problems}"
        );
    }
}
