//! Every profile, kind of key and kind of name, as really delivered to a guest: accepted by
//! openssl, by rustls-webpki and by a Go program (Docker's own client) for its purpose and names,
//! refused for others. In real handshakes, both ways: with a node's Docker daemon, and with TLS
//! servers in the node that present each of the certificates.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use phoenix_lab::harness::Harness;
use phoenix_lab::{LabOptions, Node};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

const KEYS: [&str; 5] = [
    "ecdsa-p256",
    "ecdsa-p384",
    "ed25519",
    "rsa-2048",
    "rsa-4096",
];
const PROFILES: [&str; 3] = ["server", "client", "peer"];

/// One guest, and a certificate of every profile and kind of key in its `/etc/t`.
fn site() -> String {
    let mut text = String::from(
        r#"
site: certificates
proxmox:
  url: @PROXMOX_URL@
  token: { file: proxmox.token }
  ca: pve-root-ca.pem
guests:
  alone:
    vmid: @VMID_ALONE@
    docker:
      address: tcp://@ALONE@:2376
      managed: { restart: [/usr/local/bin/restart-docker] }
    swarm: { role: manager }
swarm: { address_pools: ["@OVERLAY_POOL@"], subnet_size: 24 }
certificates:
"#,
    );
    for profile in PROFILES {
        for key in KEYS {
            let name = format!("{profile}-{key}");
            let _ = writeln!(
                text,
                r#"  {name}:
    common_name: {name}.lab.lan
    profile: {profile}
    key: {key}
    sans:
      - {name}.lab.lan
      - "*.{name}.lab.lan"
      - 127.0.0.1
      - ::1
      - ops@lab.lan
      - spiffe://lab.lan/{name}
      - bücher.lab.lan
    lifetime: 48h
    deliver:
      - guest: alone
        files:
          - {{ part: chain, path: /etc/t/{name}.pem }}
          - {{ part: key, path: /etc/t/{name}.key }}
          - {{ part: ca, path: /etc/t/ca-{name}.pem }}"#
            );
        }
    }
    text
}

/// A name that may be looked for in a certificate, and whether it is in there.
struct Name {
    /// As `verify`'s and `s_client`'s option of openssl has it.
    option: String,
    /// Where a client connects to, for names that clients connect to.
    host: Option<String>,
    covered: bool,
}

/// What is looked for in the certificate `certificate`: every kind of name, right and wrong.
fn names(certificate: &str) -> Vec<Name> {
    let dns = |host: String, covered| Name {
        option: format!("-verify_hostname {host}"),
        host: Some(host),
        covered,
    };
    let ip = |host: &str, covered| Name {
        option: format!("-verify_ip {host}"),
        host: Some(host.to_owned()),
        covered,
    };
    let email = |address: &str, covered| Name {
        option: format!("-verify_email {address}"),
        host: None,
        covered,
    };
    vec![
        dns(format!("{certificate}.lab.lan"), true),
        dns(format!("any.{certificate}.lab.lan"), true),
        dns("xn--bcher-kva.lab.lan".to_owned(), true),
        ip("127.0.0.1", true),
        ip("::1", true),
        email("ops@lab.lan", true),
        dns("other.lab.lan".to_owned(), false),
        dns(format!("a.b.{certificate}.lab.lan"), false),
        dns("bcher.lab.lan".to_owned(), false),
        ip("127.0.0.2", false),
        ip("::2", false),
        email("other@lab.lan", false),
    ]
}

/// What the checks of a script in a guest found, by their names.
type Verdicts = BTreeMap<String, bool>;

/// Runs a script in the guest whose lines `yes NAME` and `no NAME` are what it finds.
async fn verdicts(node: &Node, script: &str) -> Verdicts {
    node.write_file("/etc/t/check.sh", 0o755, script.as_bytes())
        .await
        .expect("the script written");
    let output = node.exec(&["sh", "/etc/t/check.sh"]).await.expect("run");
    let text = output.text();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.code, 0, "{text}{error}");
    text.lines()
        .map(|line| match line.split_once(' ') {
            Some(("yes", name)) => (name.to_owned(), true),
            Some(("no", name)) => (name.to_owned(), false),
            _ => panic!("{line:?} is no verdict: {error}"),
        })
        .collect()
}

/// Exactly the checks in `expected` were made, and each ended as expected there.
fn assert_verdicts(found: &Verdicts, expected: &Verdicts) {
    let wrong: Vec<_> = expected
        .iter()
        .filter(|(name, good)| found.get(*name) != Some(good))
        .map(|(name, good)| format!("{name}: {:?} instead of {good}", found.get(name)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(found.len(), expected.len());
}

/// What the scripts have in common: `check NAME COMMAND…` runs a command and says how it ended.
const CHECK: &str = r#"
set -u
cd /etc/t
check() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "yes $name"; else echo "no $name"; fi; }
"#;

fn certificate_names() -> impl Iterator<Item = (&'static str, String)> {
    PROFILES
        .into_iter()
        .flat_map(|profile| KEYS.map(|key| (profile, format!("{profile}-{key}"))))
}

fn is_server(profile: &str) -> bool {
    profile != "client"
}

fn is_client(profile: &str) -> bool {
    profile != "server"
}

/// openssl judges every delivered file: chains by purpose and name, keys, intermediate and root.
async fn judged_by_openssl(node: &Node) {
    let mut script = CHECK.to_owned();
    script.push_str(
        r#"
verify() { name=$1 file=$2; shift 2; check "$name" openssl verify -x509_strict -CAfile "ca-$file.pem" -untrusted "$file.pem" "$@" "$file.pem"; }
belongs() { test "$(openssl pkey -in "$1.key" -pubout)" = "$(openssl x509 -in "$1.pem" -pubkey -noout)"; }
says() { openssl x509 -in "$1.pem" -noout -ext subjectAltName | grep -qF "$2"; }
"#,
    );
    let mut expected = Verdicts::new();
    for (profile, file) in certificate_names() {
        for (purpose, good) in [
            ("sslserver", is_server(profile)),
            ("sslclient", is_client(profile)),
        ] {
            let name = format!("{file} {purpose}");
            let _ = writeln!(script, "verify '{name}' {file} -purpose {purpose}");
            expected.insert(name, good);
            for Name {
                option, covered, ..
            } in names(&file)
            {
                let name = format!("{file} {purpose} {option}");
                let _ = writeln!(script, "verify '{name}' {file} -purpose {purpose} {option}");
                expected.insert(name, good && covered);
            }
        }
        let uri = format!("URI:spiffe://lab.lan/{file}");
        for (check, arguments) in [("belongs", ""), ("says", uri.as_str())] {
            let name = format!("{file} {check}");
            let _ = writeln!(script, "check '{name}' {check} {file} {arguments}");
            expected.insert(name, true);
        }
    }
    // Whoever trusts another root, or sees no intermediate, trusts none of it.
    script.push_str(
        r#"
sed '1,/END CERTIFICATE/d' peer-ed25519.pem >intermediate.pem
openssl req -x509 -newkey ed25519 -nodes -keyout other.key -subj /CN=other -days 1 -out other.pem 2>/dev/null
check root openssl verify -x509_strict -CAfile ca-peer-ed25519.pem ca-peer-ed25519.pem
check intermediate openssl verify -x509_strict -CAfile ca-peer-ed25519.pem intermediate.pem
check 'no intermediate' openssl verify -CAfile ca-peer-ed25519.pem peer-ed25519.pem
check 'another root' openssl verify -CAfile other.pem -untrusted peer-ed25519.pem peer-ed25519.pem
"#,
    );
    for (name, good) in [
        ("root", true),
        ("intermediate", true),
        ("no intermediate", false),
        ("another root", false),
    ] {
        expected.insert(name.to_owned(), good);
    }
    assert_verdicts(&verdicts(node, &script).await, &expected);
}

/// Docker's client and openssl's speak to a TLS server for each certificate, which asks for a
/// client's certificate itself, and to the node's daemon.
///
/// The servers answer what they are sent line by line and reversed. A client in Go that sees its
/// own request that way has accepted the server, and the server it.
async fn judged_in_handshakes(node: &Node) {
    let mut script = CHECK.to_owned();
    // Docker makes the file of hosts and switches IPv6 off, on the loopback too.
    script.push_str(
        r#"
sysctl -qw net.ipv6.conf.lo.disable_ipv6=0
docker_client() { as=$1 server=$2; shift 2; env -i PATH="$PATH" HOME=/nonexistent timeout 10 docker --tlsverify --tlscacert ca-peer-ed25519.pem --tlscert "$as.pem" --tlskey "$as.key" -H "tcp://$server" "$@" 2>&1; }
accepted() { docker_client "$1" "$2" ps | grep -q 'nosj/sreniatnoc/'; }
let_in() { docker_client "$1" "$2" version | grep -q '^Server'; }
connects() { port=$1; shift; timeout 10 openssl s_client -connect "localhost:$port" -CAfile ca-peer-ed25519.pem -cert client-ed25519.pem -cert_chain client-ed25519.pem -key client-ed25519.key -verify_return_error "$@" </dev/null; }
"#,
    );
    let mut servers = String::new();
    let mut checks = String::new();
    let mut expected = Verdicts::new();
    for (at, (profile, file)) in certificate_names().enumerate() {
        let port = 7001 + at;
        let _ = writeln!(
            servers,
            "openssl s_server -accept {port} -rev -cert {file}.pem -cert_chain {file}.pem -key {file}.key -CAfile ca-{file}.pem -Verify 2 -verify_return_error >{file}.log 2>&1 </dev/null & servers=\"$servers $!\" logs=\"$logs {file}.log\""
        );
        for Name {
            option,
            host,
            covered,
        } in names(&file)
        {
            let good = is_server(profile) && covered;
            let name = format!("{file} s_client {option}");
            let _ = writeln!(checks, "check '{name}' connects {port} {option}");
            expected.insert(name, good);
            // Nothing listens at an address that the node does not have.
            let Some(host) = host.filter(|host| host != "::2") else {
                continue;
            };
            let address = if host.contains(':') {
                format!("[{host}]")
            } else {
                let _ = writeln!(
                    script,
                    "grep -qF ' {host}' /etc/hosts || echo '127.0.0.1 {host}' >>/etc/hosts"
                );
                host
            };
            let name = format!("{file} docker {address}");
            let _ = writeln!(
                checks,
                "check '{name}' accepted client-ecdsa-p256 {address}:{port}"
            );
            expected.insert(name, good);
        }
        // The first server with a certificate for servers, and the daemon.
        let name = format!("{file} as client");
        let _ = writeln!(
            checks,
            "check '{name}' accepted {file} server-ecdsa-p256.lab.lan:7001"
        );
        expected.insert(name, is_client(profile));
        let name = format!("{file} at the daemon");
        let _ = writeln!(checks, "check '{name}' let_in {file} {}:2376", node.ip());
        expected.insert(name, is_client(profile));
    }
    script.push_str("servers= logs=\n");
    script.push_str(&servers);
    script.push_str("trap 'kill $servers' EXIT\n");
    script.push_str(
        "for log in $logs; do n=0; until grep -qs ACCEPT \"$log\"; do n=$((n+1)); test $n -lt 100 || { cat \"$log\" >&2; exit 1; }; sleep 0.1; done; done\n",
    );
    script.push_str(&checks);
    assert_verdicts(&verdicts(node, &script).await, &expected);
}

/// Whether rustls-webpki accepts a chain for a usage.
fn webpki(chain: &[CertificateDer<'_>], root: &CertificateDer<'_>, usage: KeyUsage) -> bool {
    let anchor = webpki::anchor_from_trusted_cert(root).expect("a root");
    let leaf = EndEntityCert::try_from(&chain[0]).expect("a leaf");
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[anchor],
        &chain[1..],
        UnixTime::now(),
        usage,
        None,
        None,
    )
    .is_ok()
}

/// rustls-webpki judges every delivered chain by purpose and name.
async fn judged_by_webpki(node: &Node) {
    for (profile, file) in certificate_names() {
        let read = async |path: String| {
            certificates(&node.read_file(&path).await.expect("a delivered file"))
        };
        let chain = read(format!("/etc/t/{file}.pem")).await;
        let root = read(format!("/etc/t/ca-{file}.pem")).await;
        for (usage, good) in [
            (KeyUsage::server_auth(), is_server(profile)),
            (KeyUsage::client_auth(), is_client(profile)),
        ] {
            assert_eq!(webpki(&chain, &root[0], usage), good, "{file} {usage:?}");
        }
        let leaf = EndEntityCert::try_from(&chain[0]).expect("a leaf");
        for Name { host, covered, .. } in names(&file) {
            let Some(host) = host else { continue };
            let server = ServerName::try_from(host.as_str()).expect("a name");
            let valid = leaf.verify_is_valid_for_subject_name(&server).is_ok();
            assert_eq!(valid, covered, "{file} {host}");
        }
    }
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem)
        .map(|found| found.expect("a certificate").into_owned())
        .collect()
}

/// `GET /version` from the guest's daemon, with or without a client identity (key, then chain).
async fn version(
    node: &Node,
    root: &[u8],
    identity: Option<Vec<u8>>,
) -> Result<String, reqwest::Error> {
    let mut client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(root).expect("a root")])
        .timeout(Duration::from_secs(10));
    if let Some(identity) = identity {
        client = client.identity(reqwest::Identity::from_pem(&identity).expect("an identity"));
    }
    let url = format!("https://{}:2376/version", node.ip());
    client
        .build()?
        .get(url)
        .send()
        .await?
        .error_for_status()?
        .text()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_certificate_is_good_for_its_purpose_and_its_names_only() {
    let template = tempfile::tempdir().expect("a folder");
    std::fs::write(template.path().join("phoenix.yaml"), site()).expect("a site file");
    let options = LabOptions::test().with_guests([("alone", 1101)]);
    let harness = Harness::start(options, template.path()).await;
    harness.phoenix(&["sync", "all"]).await.expect(0);
    harness.phoenix(&["sync", "all"]).await.expect(0);
    let node = harness.node("alone");

    judged_by_openssl(node).await;
    judged_by_webpki(node).await;
    judged_in_handshakes(node).await;

    let root = node
        .read_file("/etc/docker/phoenix/ca.pem")
        .await
        .expect("the root");
    let identity = async |name: &str| {
        let mut pem = node
            .read_file(&format!("/etc/t/{name}.key"))
            .await
            .expect("a key");
        pem.extend(
            node.read_file(&format!("/etc/t/{name}.pem"))
                .await
                .expect("a chain"),
        );
        Some(pem)
    };
    for key in KEYS {
        let answer = version(node, &root, identity(&format!("client-{key}")).await).await;
        let answer = answer.unwrap_or_else(|error| panic!("client-{key}: {error:?}"));
        assert!(answer.contains("\"ApiVersion\""), "{answer}");
        let refused = version(node, &root, identity(&format!("server-{key}")).await).await;
        assert!(
            refused.is_err(),
            "a server certificate was taken for a client's"
        );
        version(node, &root, identity(&format!("peer-{key}")).await)
            .await
            .expect("a peer is a client too");
    }
    assert!(
        version(node, &root, None).await.is_err(),
        "nobody was let in"
    );

    // Another CA in the place of this one: every certificate is issued anew, the daemon's too.
    std::fs::remove_dir_all(harness.path(".phoenix/ca")).expect("the CA removed");
    let old = identity("client-ecdsa-p256").await;
    harness.phoenix(&["sync", "all"]).await.expect(0);
    let root = node
        .read_file("/etc/docker/phoenix/ca.pem")
        .await
        .expect("the new root");
    assert!(
        version(node, &root, old).await.is_err(),
        "a certificate of the old CA opens the daemon"
    );
    version(node, &root, identity("client-ecdsa-p256").await)
        .await
        .expect("one of the new CA opens it");
    harness.stop().await;
}
