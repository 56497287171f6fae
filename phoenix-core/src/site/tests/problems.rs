//! What is refused, where, and in which words.

mod deliveries;

use super::{good, load};

/// A swarm of one manager, to which a case adds what it is about.
const BASE: &str = "site: x
guests:
  m: { vmid: 101, docker: { address: 'unix:///run/docker.sock' }, swarm: { role: manager } }
proxmox: { url: 'https://pve:8006', token: { env: TOKEN } }
";

/// The problems of `text` after the base, one per line, without the file's name.
fn problems(text: &str) -> Vec<String> {
    let text = format!("{BASE}{text}");
    let lines = text.lines().count() as u32;
    match load(&text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .0
            .iter()
            .map(|problem| {
                assert!(
                    (1..=lines + 1).contains(&problem.position.line),
                    "{problem}"
                );
                let shown = problem.to_string();
                let shown = shown
                    .strip_prefix("/site/phoenix.yaml:")
                    .expect("the file's name");
                shown.to_owned()
            })
            .collect(),
    }
}

fn warnings(text: &str) -> Vec<String> {
    good(&format!("{BASE}{text}"))
        .warnings
        .iter()
        .map(|w| w.to_string().split_once(": ").expect("path").1.to_owned())
        .collect()
}

/// `text` is refused with exactly one problem, which has all of `parts`.
fn one(text: &str, parts: &[&str]) {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{text}\n{problems:#?}");
    for part in parts {
        assert!(
            problems[0].contains(part),
            "{text}\n{:?} is not in {}",
            part,
            problems[0]
        );
    }
}

/// A guest `w` with `fields`.
fn guest(fields: &str) -> String {
    let line = format!("  w: {{ {fields} }}\n");
    let (before, after) = BASE.split_at(BASE.find("proxmox:").expect("proxmox"));
    format!("{before}{line}{after}")
}

fn one_guest(fields: &str, parts: &[&str]) {
    let text = guest(fields);
    let problems = match load(&text) {
        Ok(_) => panic!("{text} loads"),
        Err(problems) => problems.0,
    };
    assert_eq!(problems.len(), 1, "{text}\n{problems:#?}");
    let shown = problems[0].to_string();
    for part in parts {
        assert!(shown.contains(part), "{text}\n{part:?} is not in {shown}");
    }
}

fn certificate(fields: &str) -> String {
    format!("certificates:\n  c: {{ common_name: c.lan, {fields} }}\n")
}

#[test]
fn the_file_as_a_whole() {
    for text in [
        "\u{feff}site: x\n",
        "site: x\r\nstate: y\r\n",
        "{\"site\": \"x\"}",
    ] {
        good(text);
    }
    for (text, part) in [
        ("", "a map is expected here, and nothing is written"),
        ("[]", "a map is expected here, not a list"),
        ("{}", "the key `site` is missing"),
        ("site: Demo Site", "did you mean `demo-site`"),
        (
            "site: x\nsite: y",
            ":2:1: the key occurs twice in its map (got `site`)",
        ),
        (
            "site: x\nguest: {}",
            ":2:1: guest: unknown key; allowed here: `site`, `state`",
        ),
        ("site: x\nguest: {}", "did you mean `guests`?"),
        ("site: x\nstate: ~/p", "`~` is not expanded"),
        ("site: x\n y: z", ":2:"),
        (
            "site: x\nproxmox:",
            "a map is expected here, and nothing is written",
        ),
    ] {
        let shown = load(text).expect_err(text).to_string();
        assert!(shown.contains(part), "{text:?}: {shown}");
        assert_eq!(shown.lines().count(), 1, "{shown}");
    }
}

#[test]
fn proxmox() {
    let refuse = |fields: &str, parts: &[&str]| {
        let text = format!("site: x\nproxmox: {{ {fields} }}\n");
        let shown = load(&text).expect_err(&text).to_string();
        for part in parts {
            assert!(shown.contains(part), "{text}: {part:?} is not in {shown}");
        }
        assert_eq!(shown.lines().count(), 1, "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    };
    let token = "token: { env: T }";
    refuse(
        &format!("url: 'http://pve:8006', {token}"),
        &[
            ":2:17: proxmox.url: `http:` sends",
            "got `http://pve:8006`; did you mean `https://pve:8006`?",
        ],
    );
    refuse(
        &format!("url: 'pve:8006', {token}"),
        &["did you mean `https://pve:8006`?"],
    );
    refuse(
        &format!("url: 'https://pve:8006/api2', {token}"),
        &["without a path", "did you mean `https://pve:8006`"],
    );
    refuse(
        &format!("url: 'https://root:hunter2@pve:8006', {token}"),
        &["credentials do not belong in a URL"],
    );
    refuse(
        &format!("url: 'https://pve', fingerprint: abcd, {token}"),
        &["64 hexadecimal digits; these are 4"],
    );
    refuse(
        &format!(
            "url: 'https://pve', fingerprint: '{}', {token}",
            "a".repeat(40)
        ),
        &["this is a SHA-1"],
    );
    refuse(
        &format!(
            "url: 'https://pve', fingerprint: '{}', ca: x, {token}",
            "a".repeat(64)
        ),
        &["`fingerprint` cannot be together with `ca`"],
    );
    refuse(
        "url: 'https://pve'",
        &["2:10: proxmox: the key `token` is missing"],
    );
    refuse(
        "url: 'https://pve', token: 'root@pam!x=hunter2'",
        &["a token is never written in the site file"],
    );
    refuse(
        "url: 'https://pve', token: { env: 'root@pam!x=hunter2' }",
        &["the name of an environment variable is expected"],
    );
    refuse(
        "url: 'https://pve', token: {}",
        &["one of the keys `env`, `file` is needed"],
    );
    refuse(
        "url: 'https://pve', token: { env: A, file: b }",
        &["only one of the keys `env`, `file`"],
    );
    let shown = load("site: x\nguests: { a: { vmid: 100 } }")
        .expect_err("no proxmox")
        .to_string();
    assert!(
        shown.contains("the key `proxmox` is missing: guest `a`"),
        "{shown}"
    );
}

#[test]
fn authority() {
    one(
        "ca: { embedded: { root_lifetime: 10d, intermediate_lifetime: 11d } }",
        &[
            "5:62: ca.embedded.intermediate_lifetime: the intermediate cannot outlive the root, which lives 10d (got `11d`)",
        ],
    );
    one(
        "ca: {}",
        &["one of the keys `embedded`, `step_ca` is needed"],
    );
    one(
        "ca: { embedded: { key: rsa2048 } }",
        &["did you mean `rsa-2048`"],
    );
    one(
        "ca: { embedded: { root_lifetime: 3650 } }",
        &["the duration has no unit"],
    );
    one(
        "ca: { embedded: { root_lifetime: 30s } }",
        &["too short: at least 1m"],
    );
    one(
        "ca: { embedded: { root_lifetime: 200years } }",
        &["too long: at most 36525d"],
    );
    one(
        &format!("ca: {{ embedded: {{ common_name: {} }} }}", "x".repeat(52)),
        &["more than 51 characters"],
    );
}

#[test]
fn guests() {
    one_guest(
        "vmid: 101",
        &[":4:14: guests.w.vmid: the VMID is also at 3:14 (guests.m.vmid) (got `101`)"],
    );
    one_guest("vmid: 99", &["a number from 100 to 999999999"]);
    one_guest(
        "vmid: many",
        &["a whole number is expected here, not a text (got `many`)"],
    );
    one_guest("reach: agent", &["needs a `vmid`"]);
    one_guest(
        "reach: ssh, vmid: 102",
        &["one of `agent`, `docker` is expected here (got `ssh`)"],
    );
    one_guest("reach: docker, vmid: 102", &["the guest cannot be reached"]);
    one_guest("", &[":4:6: guests.w: the guest cannot be reached"]);
    one_guest(
        "vimd: 102, reach: docker, docker: { address: 'unix:///x' }",
        &["did you mean `vmid`?"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'unix:///run/docker.sock' }",
        &[
            ":4:38: guests.w.docker.address: the Docker address is also at 3:38 (guests.m.docker.address)",
        ],
    );
    one_guest(
        "vmid: 102, docker: { address: 'tcp://h:2376' }",
        &["needs `managed` or `tls`"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'http://h:2375' }",
        &["did you mean `tcp://h:2375`"],
    );
    one_guest(
        "vmid: 102, docker: { address: '/run/docker.sock' }",
        &["did you mean `unix:///run/docker.sock`"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'h:2376' }",
        &["did you mean `tcp://h:2376`"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'tcp://h:port', managed: { restart: r } }",
        &["a host and a port"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'unix:///x', managed: { restart: r } }",
        &["`managed` belongs to a TCP address"],
    );
    one_guest(
        "docker: { address: 'tcp://h', managed: { restart: r } }",
        &["needs a `vmid` and `reach: agent`"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'tcp://h', managed: { restart: r }, tls: { ca: a, cert: b, key: c } }",
        &["`managed` cannot be together with `tls`"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'tcp://h', managed: {} }",
        &["the key `restart` is missing"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'tcp://h', managed: { restart: [] } }",
        &["at least the program's name"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'tcp://h', managed: { restart: [echo, ü] } }",
        &["restart[1]: arguments are ASCII"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'tcp://h', managed: { restart: r, certificates: etc } }",
        &["an absolute path is expected"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'tcp://h', managed: { restart: r, unit: docker } }",
        &["did you mean `docker.service`"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'tcp://h', managed: { restart: r, sans: ['a,b'] } }",
        &["lists several names"],
    );
    one_guest(
        "vmid: 102, swarm: { role: worker }",
        &["needs a `docker` endpoint"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'unix:///x' }, swarm: { role: boss }",
        &["one of `manager`, `worker`"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'tcp://h.lan', managed: { restart: r } }, swarm: { role: worker }",
        &["the key `advertise` is missing", "`h.lan`"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'unix:///x' }, swarm: { role: worker, advertise: portainer.example.lan }",
        &["an IP address or a network interface"],
    );
    one_guest(
        "vmid: 102, docker: { address: 'unix:///x' }, swarm: { role: worker, advertise: 0.0.0.0 }",
        &["cannot reach"],
    );
    let shown = load("site: x\nguests:\n  Web: { vmid: 101 }\n  web: { vmid: 102 }\n  b_c: { vmid: 103 }\nproxmox: { url: 'https://p', token: { env: T } }").expect_err("names").to_string();
    assert!(
        shown.contains(":4:3: guests.web: the name differs only in case from `Web` at 3:3"),
        "{shown}"
    );
    assert!(
        shown.contains(":5:3: guests.b_c: the name must be at most 63 letters"),
        "{shown}"
    );
    assert!(shown.contains("did you mean `b-c`?"), "{shown}");
}

#[test]
fn swarm_and_networks() {
    let workers =
        "site: x\nguests: { w: { docker: { address: 'unix:///x' }, swarm: { role: worker } } }\n";
    let shown = load(workers).expect_err("no manager").to_string();
    assert!(
        shown.contains(":2:9: guests: the swarm has workers and no manager"),
        "{shown}"
    );
    let shown = load("site: x\nnetworks: { a: }\nsecrets: { b: { env: B } }")
        .expect_err("no swarm")
        .to_string();
    assert!(
        shown.contains(":2:11: networks: these need a swarm"),
        "{shown}"
    );
    one("swarm: { subnet_size: 30 }", &["a number from 1 to 29"]);
    one(
        "swarm: { address_pools: [10.0.0.1/8] }",
        &["did you mean `10.0.0.0/8`"],
    );
    one(
        "swarm: { address_pools: [10.0.0.0/8, 10.1.0.0/16] }",
        &["overlaps the subnet at 5:26"],
    );
    one(
        "swarm: { address_pools: [10.0.0.0/26] }",
        &["subnets of /24 are larger than the pool"],
    );
    one(
        "swarm: { address_pools: [10.0.0.0] }",
        &["a subnet such as"],
    );
    one("swarm: { heartbeat: 100ms }", &["whole seconds"]);
    one(
        "networks: { ingress: }",
        &["Docker has a network of this name already"],
    );
    one(
        "networks: { a: { atachable: true } }",
        &["did you mean `attachable`"],
    );
    one(
        "networks: { a: { attachable: yes } }",
        &["did you mean `true`"],
    );
    one(
        "networks: { a: { labels: { x: [] } } }",
        &["networks.a.labels.x: a text is expected"],
    );
    one(
        "networks: { a: { subnets: [10.0.0.0/24, 10.0.0.0/24] } }",
        &["overlaps the subnet at"],
    );
}

#[test]
fn secrets() {
    one(
        "secrets: { a: hunter }",
        &["5:15: secrets.a: a secret is never written in the site file"],
    );
    assert!(!problems("secrets: { a: hunter2 }")[0].contains("hunter2"));
    one(
        "secrets: { a: { value: hunter2, env: A } }",
        &["unknown key"],
    );
    assert!(!problems("secrets: { a: { value: hunter2, env: A } }")[0].contains("hunter2"));
    one(
        "secrets: { a: {} }",
        &["one of the keys `file`, `env`, `certificate` is needed"],
    );
    one("secrets: { a: { env: A, file: b } }", &["only one of"]);
    one(
        "secrets: { a: { env: A, part: key } }",
        &["`part` belongs to a `certificate`"],
    );
    one(
        "secrets: { a: { env: '1A' } }",
        &["the name of an environment variable"],
    );
    one("secrets: { a-: { env: A } }", &["did you mean `a`"]);
    one(
        &format!("secrets: {{ {}: {{ env: A }} }}", "a".repeat(48)),
        &["at most 47"],
    );
    let cert = certificate("profile: client");
    one(
        &format!("{cert}secrets: {{ a: {{ certificate: d, part: key }} }}"),
        &["no certificate of this name; there are: `c` (got `d`)"],
    );
    one(
        &format!("{cert}secrets: {{ a: {{ certificate: c }} }}"),
        &["the key `part` is missing"],
    );
    one(
        &format!("{cert}secrets: {{ a: {{ certificate: c, part: keys }} }}"),
        &["did you mean `key`"],
    );
    let twice = format!(
        "{}secrets: {{ s: {{ env: A }} }}",
        certificate("profile: client, deliver: [ { secrets: { key: s } } ]")
    );
    one(
        &twice,
        &[
            "6:74: certificates.c.deliver[0].secrets.key: the secret has its content from secrets.s at 7:12 already (got `s`)",
        ],
    );
}

#[test]
fn one_mistake_is_one_problem_and_many_are_all_shown() {
    let text = "site: x
guests:
  w: { vmid: broken, docker: { address: 'unix:///x' }, swarm: { role: manager } }
certificates:
  c: { common_name: c, profile: client, deliver: [ { guest: w, files: [ { part: key, path: /k } ] } ] }
stacks: { a: { compose: a, variables: [], after: [nope], timeout: 0s } }
secrets: { s: { env: A, labels: [] } }
timeouts: { gest: 1s, node: 5 }
";
    let shown = load(text).expect_err("is refused").to_string();
    let paths: Vec<_> = shown
        .lines()
        .map(|line| line.split(": ").nth(1).expect("path"))
        .collect();
    assert_eq!(
        paths,
        [
            "guests.w.vmid",
            "stacks.a.variables",
            "stacks.a.after[0]",
            "stacks.a.timeout",
            "secrets.s.labels",
            "timeouts.gest",
            "timeouts.node"
        ],
        "{shown}"
    );
}
