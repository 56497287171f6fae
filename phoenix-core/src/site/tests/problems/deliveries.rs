//! Certificates and where they go, stacks, Portainer; and what is only suspicious.

use super::super::{good, load};
use super::{certificate, guest, one, problems, warnings};

#[test]
fn certificates() {
    let server = |sans: &str| certificate(&format!("profile: server, sans: {sans}"));
    for (san, parts) in [
        (
            "'a,b'",
            &["lists several names", "did you mean `a, b`?"][..],
        ),
        (
            "'DNS:x'",
            &["starts with `DNS:`", "got `DNS:x`; did you mean `x`?"],
        ),
        ("'host:8443'", &["has a port", "did you mean `host`?"]),
        ("''", &["an empty subject alternative name"]),
        ("'a.*.lan'", &["`*`"]),
        ("'*'", &["`*`"]),
        ("[]", &["a text is expected here, not a list"]),
    ] {
        let mut all = vec!["certificates.c.sans[1]: ", "6:"];
        all.extend(parts);
        one(&server(&format!("[c.lan, {san}]")), &all);
    }
    one(&server("c.lan"), &["a list is expected here, not a text"]);
    one(
        &server("[c.lan, 10.0.0.1, C.lan]"),
        &["sans[2]: the name is also at 6:52"],
    );
    one(&server("[]"), &["needs at least one name in `sans`"]);
    one(
        &certificate("profile: peer"),
        &["needs at least one name in `sans`"],
    );
    one(&certificate("profile: cleint"), &["did you mean `client`"]);
    one(
        &certificate("profile: client, lifetime: 1826d"),
        &["no certificate outlives the CA's intermediate, which lives 1825d"],
    );
    one(
        &certificate("profile: client, renew_before: 90d"),
        &["must be shorter than the lifetime, which is 90d"],
    );
    one(
        &certificate("profile: client, lifetime: 90"),
        &["got `90`; did you mean `90s`?"],
    );
    one(
        &certificate("profile: client, renew-before: 9d"),
        &["did you mean `renew_before`?"],
    );
    one(
        "certificates: { c: { common_name: ' c', profile: client } }",
        &["white space"],
    );
    one(
        &format!(
            "certificates: {{ c: {{ common_name: {}, profile: client }} }}",
            "c".repeat(65)
        ),
        &["more than 64"],
    );
    one(
        "certificates: { c: { profile: client } }",
        &["5:20: certificates.c: the key `common_name` is missing"],
    );
}

#[test]
fn deliveries() {
    let deliver =
        |delivery: &str| certificate(&format!("profile: client, deliver: [ {{ {delivery} }} ]"));
    let file = |fields: &str| deliver(&format!("guest: m, files: [ {{ {fields} }} ]"));
    one(
        &deliver("guest: n, files: [ { part: key, path: /a } ]"),
        &["no guest of this name; there are: `m` (got `n`)"],
    );
    one(&deliver("guest: m"), &["the key `files` is missing"]);
    one(&deliver("guest: m, files: []"), &["at least one file"]);
    one(
        &deliver("files: []"),
        &["one of the keys `guest`, `secrets` is needed"],
    );
    one(
        &deliver("secrets: { key: s }, reload: x"),
        &["`reload` belongs to a delivery to a `guest`"],
    );
    one(&deliver("secrets: {}"), &["at least one part"]);
    one(&deliver("secrets: { keys: s }"), &["did you mean `key`"]);
    one(
        &deliver("secrets: { key: s, chain: s }"),
        &["has its content from certificates.c.deliver[0].secrets.key at 6:"],
    );
    one(
        &file("part: key, path: etc/key.pem"),
        &["an absolute path is expected here"],
    );
    one(
        &file("part: key, path: /etc/ü.pem"),
        &["a path in a guest is ASCII"],
    );
    one(
        &file("part: key, path: /etc//k.pem/"),
        &["did you mean `/etc/k.pem`"],
    );
    one(
        &file("part: key, path: /etc/../k.pem"),
        &["without empty parts, `.` and `..`"],
    );
    one(&file("path: /k"), &["the key `part` is missing"]);
    one(
        &file("part: key, path: /k, mode: 640"),
        &["did you mean `0640`?"],
    );
    one(
        &file("part: key, path: /k, mode: 0999"),
        &["permission bits in octal"],
    );
    one(
        &file("part: key, path: /k, mode: '0040'"),
        &["the owner must be able to read"],
    );
    one(
        &file("part: key, path: /k, mode: '4755'"),
        &["permission bits in octal"],
    );
    one(
        &file("part: key, path: /k, owner: 'a b'"),
        &["a user's or group's name"],
    );
    one(
        &deliver(
            "guest: m, files: [ { part: key, path: /k } ], reload: { command: x, timeot: 1s }",
        ),
        &["did you mean"],
    );
    one(
        &deliver("guest: m, files: [ { part: key, path: /k }, { part: ca, path: /k } ]"),
        &[
            "files[1].path: this path in guest `m` is also written by certificates.c.deliver[0].files[0].path at 6:",
        ],
    );

    let managed =
        guest("vmid: 102, docker: { address: 'tcp://10.0.0.2', managed: { restart: r } }");
    let clash = format!(
        "{managed}{}",
        deliver("guest: w, files: [ { part: ca, path: /etc/docker/phoenix/ca.pem } ]")
    );
    let shown = load(&clash).expect_err("clash").to_string();
    assert!(
        shown.contains("is also written by guests.w.docker.managed at 4:"),
        "{shown}"
    );

    let remote = guest("docker: { address: 'unix:///x' }");
    let unreachable = format!(
        "{remote}{}",
        deliver("guest: w, files: [ { part: ca, path: /ca.pem } ]")
    );
    let shown = load(&unreachable).expect_err("no agent").to_string();
    assert!(
        shown.contains("deliver[0].guest: files are delivered through the guest agent"),
        "{shown}"
    );
}

#[test]
fn stacks() {
    one("stacks: { a: {} }", &["the key `compose` is missing"]);
    one(
        "stacks: { a: { compose: a.yml, after: [b] } }",
        &["no stack of this name; there are: `a` (got `b`)"],
    );
    one(
        "stacks: { web: { compose: a.yml }, b: { compose: a.yml, after: [wep] } }",
        &["did you mean `web`?"],
    );
    one(
        "stacks: { a: { compose: a.yml, after: [a] } }",
        &["stacks wait for each other: a → a"],
    );
    one(
        "stacks: { a: { compose: a.yml }, b: { compose: a.yml, after: [a, a] } }",
        &["the stack is also at 5:63"],
    );
    one(
        "stacks: { a: { compose: [] } }",
        &["at least one compose file is needed here"],
    );
    one(
        "stacks: { a: { compose: [a.yml, 5: b] } }",
        &["stacks.a.compose[1]: a text is expected here, not a map"],
    );
    one(
        "stacks: { a: { compose: a.yml, dialect: composer } }",
        &["did you mean `compose`?"],
    );
    one(
        "stacks: { a: { compose: a.yml, compat: dockr } }",
        &["did you mean `docker`?"],
    );
    one(
        "stacks: { a: { compose: a.yml, dialect: compose, compat: docker } }",
        &["stacks.a.compat: docker's ways are those of `docker stack deploy`"],
    );
    one(
        "stacks: { a: { compose: a.yml, profiles: [x] } }",
        &["only files of `dialect: compose` have profiles"],
    );
    let cycle = "stacks:\n  a: { compose: a, after: [b] }\n  b: { compose: b, after: [c] }\n  c: { compose: c, after: [d, a] }\n  d: { compose: d }\n";
    one(
        cycle,
        &["8:31: stacks.c.after[1]: stacks wait for each other: a → b → c → a (got `a`)"],
    );
    one(
        "stacks: { a: { compose: a, variables: { 1x: y } } }",
        &["a variable's name is"],
    );
    one(
        "stacks: { a: { compose: a, variables: { x: } } }",
        &["variables.x: a text is expected here, and nothing is written"],
    );
    one(
        "stacks: { a: { compose: a, labels: { web: x } } }",
        &["a map is expected here, not a text"],
    );
    one(
        "stacks: { a: { compose: a, timeout: 8d } }",
        &["too long: at most 7d"],
    );
    one(
        "environment: prod\nstacks: { a: { compose: a, environments: { production: } } }",
        &[
            "5:14: environment: no environment of any stack of this name (got `prod`; did you mean `production`?)",
        ],
    );
    one("environment: prod\n", &["none is declared"]);
    one(
        "stacks: { a.b: { compose: a } }",
        &["the name must be at most 48"],
    );
    one(
        "stacks: { a: { compose: a, environments: { p: { variables: [] } } } }",
        &["environments.p.variables: a map is expected"],
    );
}

#[test]
fn portainer() {
    const NEEDS: &str = "secrets: { password: { env: P }, leaf: { certificate: s, part: ca } }
stacks: { portainer: { compose: p.yml } }
certificates: { s: { common_name: s.lan, profile: server, sans: [s.lan] } }
";
    let refuse =
        |fields: &str, parts: &[&str]| one(&format!("{NEEDS}portainer: {{ {fields} }}"), parts);
    let rest = "url: 'https://p:9443', admin_password: password";
    refuse(
        &format!("stack: portaner, {rest}"),
        &["did you mean `portainer`?"],
    );
    refuse(
        "stack: portainer, admin_password: password, url: 'http://p:9000'",
        &["`http:` sends credentials"],
    );
    refuse(
        "stack: portainer, url: 'https://p', admin_password: pasword",
        &[
            "the name of a declared secret is expected",
            "did you mean `password`",
        ],
    );
    refuse(
        "stack: portainer, url: 'https://p', admin_password: hunter2",
        &["never the password itself"],
    );
    assert!(
        !problems(&format!(
            "{NEEDS}portainer: {{ stack: portainer, url: 'https://p', admin_password: hunter2 }}"
        ))
        .concat()
        .contains("hunter2")
    );
    refuse(
        "stack: portainer, url: 'https://p', admin_password: leaf",
        &["holds part of a certificate"],
    );
    let environment = |fields: &str, parts: &[&str]| {
        refuse(
            &format!("stack: portainer, {rest}, environments: {{ e: {{ {fields} }} }}"),
            parts,
        );
    };
    environment("kind: docker, url: 'tcp://h:2376'", &["needs `tls`"]);
}

#[test]
fn environments_of_portainer() {
    const NEEDS: &str = "secrets: { password: { env: P } }
stacks: { portainer: { compose: p.yml } }
certificates:
  s: { common_name: s.lan, profile: server, sans: [s.lan] }
  c: { common_name: c.lan, profile: client }
";
    let refuse = |fields: &str, parts: &[&str]| {
        one(
            &format!(
                "{NEEDS}portainer: {{ stack: portainer, url: 'https://p:9443', admin_password: password, environments: {{ e: {{ {fields} }} }} }}"
            ),
            parts,
        );
    };
    refuse(
        "kind: docker, url: 'tcp://h', tls: { certificate: c }",
        &["did you mean `tcp://h:2376`?"],
    );
    refuse(
        "kind: docker, url: 'h:2376', tls: { certificate: c }",
        &["did you mean `tcp://h:2376`?"],
    );
    refuse(
        "kind: docker, url: 'http://h:2375', tls: { certificate: c }",
        &["did you mean `tcp://h:2375`?"],
    );
    refuse(
        "kind: docker, url: 'tcp://h:2376', tls: { certificate: s }",
        &["needs the profile `client` or `peer`"],
    );
    refuse(
        "kind: docker, url: 'tcp://h:2376', tls: { certificate: d }",
        &["no certificate of this name"],
    );
    refuse(
        "kind: docker, url: 'unix:///x', tls: { certificate: c }",
        &["`tls` belongs to a TCP address"],
    );
    refuse(
        "kind: docker, url: 'unix://x'",
        &["a socket has an absolute path"],
    );
    refuse("kind: agent, url: 'unix:///x'", &["an agent answers at"]);
    refuse(
        "kind: agent, url: 'tcp://h:9001', tls: { certificate: c }",
        &["an agent brings its own TLS"],
    );
    refuse(
        "kind: edge, url: 'tcp://h:9001'",
        &["one of `docker`, `agent` is expected"],
    );
}

#[test]
fn suspicions_are_warnings() {
    assert_eq!(warnings(""), Vec::<String>::new());
    assert_eq!(
        warnings(&certificate("profile: server, sans: [other.lan]")),
        [
            "certificates.c.common_name: no name in `sans` covers the common name, which clients ignore (got `c.lan`)"
        ]
    );
    assert_eq!(
        warnings(&certificate("profile: server, sans: ['*.example.lan']")).len(),
        1
    );
    assert_eq!(
        warnings(
            "certificates: { c: { common_name: a.example.lan, profile: server, sans: ['*.example.lan'] } }"
        ),
        Vec::<String>::new()
    );
    assert_eq!(
        warnings(&certificate("profile: client")),
        Vec::<String>::new()
    );
    let key = certificate(
        "profile: client, deliver: [ { guest: m, files: [ { part: key, path: /k, mode: '0644' } ] } ]",
    );
    assert!(warnings(&key)[0].contains("every user of the guest can access this private key"));
    let managers = guest("docker: { address: 'unix:///x' }, swarm: { role: manager }");
    let found = good(&managers).warnings;
    assert!(found[0].message.starts_with("2 managers: "), "{found:?}");
    let idle = good(
        "site: x\nswarm: { heartbeat: 5s }\nguests: { a: { docker: { address: 'unix:///x' } } }",
    )
    .warnings;
    assert!(idle[0].message.contains("apply to nothing"), "{idle:?}");
}
