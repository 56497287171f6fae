//! Every profile, kind of key and kind of name by every issuer (the embedded CA, step-ca, ACME by
//! http-01 and by dns-01), as really delivered to a guest: accepted by openssl, by rustls and by a
//! Go program (Docker's own client) for its purpose and names, refused for others. In real
//! handshakes, both ways: with a node's Docker daemon, with TLS servers in the node that present
//! each of the certificates, and between a client and a server of rustls.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use phoenix_lab::Node;
use phoenix_lab::harness::{ALONE, Harness};
use phoenix_lab::pebble::{Pebble, PebbleOptions};
use phoenix_lab::place::Places;
use phoenix_lab::step_ca::{BOTH, CLIENT, SERVER, StepCaOptions, StepCaServer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use webpki::{EndEntityCert, KeyUsage};

const PROFILES: [&str; 3] = ["server", "client", "peer"];

/// Kinds of names, by what is wanted of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dns,
    Wildcard,
    Idn,
    V4,
    V6,
    Email,
    Uri,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Dns,
        Self::Wildcard,
        Self::Idn,
        Self::V4,
        Self::V6,
        Self::Email,
        Self::Uri,
    ];

    /// The name of this kind that is asked for in the certificate of the subject `subject`.
    fn san(self, subject: &str) -> String {
        match self {
            Self::Dns => subject.to_owned(),
            Self::Wildcard => format!("*.{subject}"),
            // No two certificates have one name: clearing a TXT record clears all of its name.
            Self::Idn => format!("bücher.i-{subject}"),
            Self::V4 => "127.0.0.1".to_owned(),
            Self::V6 => "::1".to_owned(),
            Self::Email => "ops@lab.lan".to_owned(),
            Self::Uri => format!("spiffe://lab.lan/{subject}"),
        }
    }
}

/// Who issues, and what may be asked for there.
struct Issuer {
    /// Among the site's issuers; `own` is the site's own.
    name: &'static str,
    keys: &'static [&'static str],
    kinds: &'static [Kind],
    /// Whether it decides itself what its certificates are good for: servers and clients.
    wide: bool,
    /// What its certificates, which are not made by Phoenix, are judged by: pebble's intermediates
    /// are no subject of these tests.
    strict: &'static str,
    /// The first port of its servers in the node.
    port: usize,
}

const ISSUERS: [Issuer; 4] = [
    Issuer {
        name: "own",
        keys: &[
            "ecdsa-p256",
            "ecdsa-p384",
            "ed25519",
            "rsa-2048",
            "rsa-4096",
        ],
        kinds: &Kind::ALL,
        wide: false,
        strict: "-x509_strict",
        port: 7001,
    },
    Issuer {
        name: "step",
        keys: &[
            "ecdsa-p256",
            "ecdsa-p384",
            "ed25519",
            "rsa-2048",
            "rsa-4096",
        ],
        kinds: &Kind::ALL,
        wide: false,
        strict: "-x509_strict",
        port: 7101,
    },
    // Pebble signs no keys of Ed25519, and looks for http-01 at an address of IPv4 only.
    Issuer {
        name: "http",
        keys: &["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096"],
        kinds: &[Kind::Dns, Kind::Idn, Kind::V4],
        wide: true,
        strict: "",
        port: 7201,
    },
    Issuer {
        name: "dns",
        keys: &["ecdsa-p256"],
        kinds: &[Kind::Dns, Kind::Wildcard, Kind::Idn],
        wide: true,
        strict: "",
        port: 7301,
    },
];

/// One certificate of an issuer.
struct Certificate {
    profile: &'static str,
    key: &'static str,
    /// Its files are of this name in the issuer's folder.
    file: String,
    /// Its common name, and the beginning of its other names.
    subject: String,
}

impl Issuer {
    fn certificates(&self) -> impl Iterator<Item = Certificate> + '_ {
        PROFILES.into_iter().flat_map(move |profile| {
            self.keys.iter().map(move |key| {
                let file = format!("{profile}-{key}");
                let subject = format!("{file}.{}.lab.lan", self.name);
                Certificate {
                    profile,
                    key,
                    file,
                    subject,
                }
            })
        })
    }

    /// The folder in the guest.
    fn folder(&self) -> String {
        format!("/etc/t/{}", self.name)
    }

    fn is_server(&self, profile: &str) -> bool {
        self.wide || profile != "client"
    }

    fn is_client(&self, profile: &str) -> bool {
        self.wide || profile != "server"
    }

    /// What is looked for in a certificate: every kind of name, right and wrong. Right ones of kinds
    /// that were not asked for are wrong.
    fn names(&self, subject: &str) -> Vec<Name> {
        let has = |kind| self.kinds.contains(&kind);
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
            dns(subject.to_owned(), has(Kind::Dns)),
            dns(format!("any.{subject}"), has(Kind::Wildcard)),
            dns(format!("xn--bcher-kva.i-{subject}"), has(Kind::Idn)),
            ip("127.0.0.1", has(Kind::V4)),
            ip("::1", has(Kind::V6)),
            email("ops@lab.lan", has(Kind::Email)),
            dns("other.lab.lan".to_owned(), false),
            dns(format!("a.b.{subject}"), false),
            dns(format!("bcher.i-{subject}"), false),
            ip("127.0.0.2", false),
            ip("::2", false),
            email("other@lab.lan", false),
        ]
    }
}

/// The CAs besides the embedded one.
struct Authorities {
    step: StepCaServer,
    pebble: Pebble,
}

impl Authorities {
    async fn start() -> Self {
        let places = Places::of_this_user().expect("places");
        let step = StepCaServer::start(&places, &StepCaOptions::default()).await;
        let pebble = Pebble::start(&PebbleOptions::default()).await;
        Self {
            step: step.expect("step-ca"),
            pebble: pebble.expect("pebble"),
        }
    }

    /// One guest, and in its `/etc/t` a certificate of every issuer, profile and kind of key.
    fn site(&self) -> String {
        let acme = format!(
            "directory: {}, ca: acme-ca.pem, roots: acme-roots.pem",
            self.pebble.url
        );
        let mut text = format!(
            "{ALONE}issuers:
  step:
    step_ca:
      url: {}
      fingerprint: {}
      provisioners: {{ server: {SERVER}, client: {CLIENT}, peer: {BOTH} }}
      password: {{ file: password }}
      strict: true
  http: {{ acme: {{ {acme}, http_01: {{ listen: \"{}\" }} }} }}
  dns:
    acme: {{ {acme}, dns_01: {{ guest: alone, set: [{ZONE}, set], clear: [{ZONE}, clear], propagation: 1s }} }}
certificates:
",
            self.step.url("127.0.0.1"),
            hex::encode(self.step.fingerprint()),
            self.pebble.http,
        );
        for issuer in &ISSUERS {
            for certificate in issuer.certificates() {
                let Certificate {
                    profile,
                    key,
                    file,
                    subject,
                } = certificate;
                let name = format!("{}-{file}", issuer.name);
                let folder = issuer.folder();
                let _ = writeln!(
                    text,
                    "  {name}:
    common_name: {subject}
    profile: {profile}
    key: {key}
    deliver:
      - guest: alone
        files:
          - {{ part: chain, path: {folder}/{file}.pem }}
          - {{ part: key, path: {folder}/{file}.key }}
          - {{ part: ca, path: {folder}/ca-{file}.pem }}"
                );
                if issuer.name != "own" {
                    let _ = writeln!(text, "    issuer: {}", issuer.name);
                }
                if !issuer.wide {
                    text.push_str("    lifetime: 20h\n");
                }
                text.push_str("    sans:\n");
                for kind in issuer.kinds {
                    let _ = writeln!(text, "      - \"{}\"", kind.san(&subject));
                }
            }
        }
        text
    }
}

/// The command in the guest that sets and clears TXT records.
const ZONE: &str = "/usr/local/bin/zone";

/// A name that may be looked for in a certificate, and whether it is in there.
struct Name {
    /// As `verify`'s and `s_client`'s option of openssl has it.
    option: String,
    /// Where a client connects to, for names that clients connect to.
    host: Option<String>,
    covered: bool,
}

/// What the checks of a script in a guest found, by their names.
type Verdicts = BTreeMap<String, bool>;

/// Runs a script in the guest whose lines `yes NAME` and `no NAME` are what it finds.
async fn verdicts(node: &Node, issuer: &Issuer, script: &str) -> Verdicts {
    let path = format!("{}/check.sh", issuer.folder());
    let script = format!("cd {}\n{CHECK}{script}", issuer.folder());
    node.write_file(&path, 0o755, script.as_bytes())
        .await
        .expect("the script written");
    let output = node.exec(&["sh", &path]).await.expect("run");
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
fn assert_verdicts(issuer: &Issuer, found: &Verdicts, expected: &Verdicts) {
    let wrong: Vec<_> = expected
        .iter()
        .filter(|(name, good)| found.get(*name) != Some(good))
        .map(|(name, good)| format!("{name}: {:?} instead of {good}", found.get(name)))
        .collect();
    assert!(wrong.is_empty(), "{}: {wrong:#?}", issuer.name);
    assert_eq!(found.len(), expected.len());
}

/// What the scripts have in common: `check NAME COMMAND…` runs a command and says how it ended.
const CHECK: &str = r#"
set -u
check() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "yes $name"; else echo "no $name"; fi; }
"#;

/// openssl judges every delivered file: chains by purpose and name, keys, intermediate and root.
async fn judged_by_openssl(node: &Node, issuer: &Issuer) {
    let mut script = format!("strict={}\n", issuer.strict);
    script.push_str(
        r#"
verify() { name=$1 file=$2; shift 2; check "$name" openssl verify $strict -CAfile "ca-$file.pem" -untrusted "$file.pem" "$@" "$file.pem"; }
belongs() { test "$(openssl pkey -in "$1.key" -pubout)" = "$(openssl x509 -in "$1.pem" -pubkey -noout)"; }
says() { openssl x509 -in "$1.pem" -noout -ext subjectAltName | grep -qF "$2"; }
"#,
    );
    let mut expected = Verdicts::new();
    for Certificate {
        profile,
        file,
        subject,
        ..
    } in issuer.certificates()
    {
        for (purpose, good) in [
            ("sslserver", issuer.is_server(profile)),
            ("sslclient", issuer.is_client(profile)),
        ] {
            let name = format!("{file} {purpose}");
            let _ = writeln!(script, "verify '{name}' {file} -purpose {purpose}");
            expected.insert(name, good);
            for Name {
                option, covered, ..
            } in issuer.names(&subject)
            {
                let name = format!("{file} {purpose} {option}");
                let _ = writeln!(script, "verify '{name}' {file} -purpose {purpose} {option}");
                expected.insert(name, good && covered);
            }
        }
        let uri = format!("URI:spiffe://lab.lan/{subject}");
        for (check, arguments, good) in [
            ("belongs", "", true),
            ("says", uri.as_str(), issuer.kinds.contains(&Kind::Uri)),
        ] {
            let name = format!("{file} {check}");
            let _ = writeln!(script, "check '{name}' {check} {file} {arguments}");
            expected.insert(name, good);
        }
    }
    // Whoever trusts another root, or sees no intermediate, trusts none of it.
    script.push_str(
        r#"
sed '1,/END CERTIFICATE/d' peer-ecdsa-p256.pem >intermediate.pem
openssl req -x509 -newkey ed25519 -nodes -keyout other.key -subj /CN=other -days 1 -out other.pem 2>/dev/null
check root openssl verify $strict -CAfile ca-peer-ecdsa-p256.pem ca-peer-ecdsa-p256.pem
check intermediate openssl verify $strict -CAfile ca-peer-ecdsa-p256.pem intermediate.pem
check 'no intermediate' openssl verify -CAfile ca-peer-ecdsa-p256.pem peer-ecdsa-p256.pem
check 'another root' openssl verify -CAfile other.pem -untrusted peer-ecdsa-p256.pem peer-ecdsa-p256.pem
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
    assert_verdicts(issuer, &verdicts(node, issuer, &script).await, &expected);
}

/// Docker's client and openssl's speak to a TLS server for each certificate, which asks for a
/// client's certificate itself, and to the node's daemon.
///
/// The servers answer what they are sent line by line and reversed. A client in Go that sees its
/// own request that way has accepted the server, and the server it.
async fn judged_in_handshakes(node: &Node, issuer: &Issuer) {
    let mut script = String::new();
    // Docker makes the file of hosts and switches IPv6 off, on the loopback too.
    script.push_str(
        r#"
sysctl -qw net.ipv6.conf.lo.disable_ipv6=0
docker_client() { ca=$1 as=$2 server=$3; shift 3; env -i PATH="$PATH" HOME=/nonexistent timeout 10 docker --tlsverify --tlscacert "$ca" --tlscert "$as.pem" --tlskey "$as.key" -H "tcp://$server" "$@" 2>&1; }
accepted() { docker_client ca-peer-ecdsa-p256.pem "$1" "$2" ps | grep -q 'nosj/sreniatnoc/'; }
let_in() { docker_client /etc/docker/phoenix/ca.pem "$1" "$2" version | grep -q '^Server'; }
connects() { port=$1; shift; timeout 10 openssl s_client -connect "localhost:$port" -CAfile ca-peer-ecdsa-p256.pem -cert client-ecdsa-p256.pem -cert_chain client-ecdsa-p256.pem -key client-ecdsa-p256.key -verify_return_error "$@" </dev/null; }
"#,
    );
    let mut servers = String::new();
    let mut checks = String::new();
    let mut expected = Verdicts::new();
    for (at, certificate) in issuer.certificates().enumerate() {
        let Certificate {
            profile,
            file,
            subject,
            ..
        } = certificate;
        let port = issuer.port + at;
        let _ = writeln!(
            servers,
            "openssl s_server -accept {port} -rev -cert {file}.pem -cert_chain {file}.pem -key {file}.key -CAfile ca-{file}.pem -Verify 2 -verify_return_error >{file}.log 2>&1 </dev/null & servers=\"$servers $!\" logs=\"$logs {file}.log\""
        );
        for Name {
            option,
            host,
            covered,
        } in issuer.names(&subject)
        {
            let good = issuer.is_server(profile) && covered;
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
            "check '{name}' accepted {file} server-ecdsa-p256.{}.lab.lan:{}",
            issuer.name, issuer.port
        );
        expected.insert(name, issuer.is_client(profile));
        let name = format!("{file} at the daemon");
        let _ = writeln!(checks, "check '{name}' let_in {file} {}:2376", node.ip());
        // It trusts the site's own CA and no other.
        expected.insert(name, issuer.name == "own" && issuer.is_client(profile));
    }
    script.push_str("servers= logs=\n");
    script.push_str(&servers);
    script.push_str("trap 'kill $servers' EXIT\n");
    script.push_str(
        "for log in $logs; do n=0; until grep -qs ACCEPT \"$log\"; do n=$((n+1)); test $n -lt 100 || { cat \"$log\" >&2; exit 1; }; sleep 0.1; done; done\n",
    );
    script.push_str(&checks);
    assert_verdicts(issuer, &verdicts(node, issuer, &script).await, &expected);
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

/// rustls-webpki judges every delivered chain by purpose and name, and rustls each of them as a
/// server and as a client of the issuer's others.
async fn judged_by_rustls(node: &Node, issuer: &Issuer) {
    let folder = issuer.folder();
    let read = async |path: String| node.read_file(&path).await.expect("a delivered file");
    let mut ends = BTreeMap::new();
    for Certificate { file, subject, .. } in issuer.certificates() {
        let end = End {
            chain: certificates(&read(format!("{folder}/{file}.pem")).await),
            key: PrivateKeyDer::from_pem_slice(&read(format!("{folder}/{file}.key")).await)
                .expect("a key"),
            root: certificates(&read(format!("{folder}/ca-{file}.pem")).await).remove(0),
            subject,
        };
        ends.insert(file, end);
    }
    let (server, client) = (&ends["server-ecdsa-p256"], &ends["client-ecdsa-p256"]);
    for Certificate { profile, file, .. } in issuer.certificates() {
        let end = &ends[&file];
        for (usage, good) in [
            (KeyUsage::server_auth(), issuer.is_server(profile)),
            (KeyUsage::client_auth(), issuer.is_client(profile)),
        ] {
            let name = format!("{} {file} {usage:?}", issuer.name);
            assert_eq!(webpki(&end.chain, &end.root, usage), good, "{name}");
        }
        let leaf = EndEntityCert::try_from(&end.chain[0]).expect("a leaf");
        for Name { host, covered, .. } in issuer.names(&end.subject) {
            let Some(host) = host else { continue };
            let name = ServerName::try_from(host.as_str()).expect("a name");
            let valid = leaf.verify_is_valid_for_subject_name(&name).is_ok();
            assert_eq!(valid, covered, "{} {file} {host}", issuer.name);
        }
        let name = format!("{} {file}", issuer.name);
        let served = shake_hands(end, client, &end.subject).await;
        assert_eq!(served, issuer.is_server(profile), "{name} as server");
        let let_in = shake_hands(server, end, &server.subject).await;
        assert_eq!(let_in, issuer.is_client(profile), "{name} as client");
        let elsewhere = shake_hands(end, client, "other.lab.lan").await;
        assert!(!elsewhere, "{name} as another server");
    }
}

/// What one end of a connection has.
struct End {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    root: CertificateDer<'static>,
    subject: String,
}

/// Whether a server and a client of rustls take each other, the client looking for `name`.
async fn shake_hands(server: &End, client: &End, name: &str) -> bool {
    let trusting = |root: &CertificateDer<'static>| {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).expect("a root");
        Arc::new(roots)
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(trusting(&server.root), Arc::clone(&provider))
            .build()
            .expect("a verifier");
    let serving = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(clients)
        .with_single_cert(server.chain.clone(), server.key.clone_key())
        .expect("a server");
    let asking = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(trusting(&client.root))
        .with_client_auth_cert(client.chain.clone(), client.key.clone_key())
        .expect("a client");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let (here, there) = tokio::io::duplex(64 * 1024);
    let served = async {
        let mut stream = TlsAcceptor::from(Arc::new(serving)).accept(here).await?;
        stream.write_all(b"welcome").await?;
        stream.shutdown().await
    };
    // In TLS 1.3 a client learns by its first read whether it was taken.
    let asked = async {
        let connector = TlsConnector::from(Arc::new(asking));
        let mut stream = connector.connect(name, there).await?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await?;
        Ok::<_, std::io::Error>(said)
    };
    let (served, said) = tokio::join!(served, asked);
    served.is_ok() && said.is_ok_and(|said| said == b"welcome")
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

/// Kinds of names that an ACME server can never prove are refused before anything is sent to it.
async fn unprovable_names_are_refused(harness: &Harness) {
    let site = harness.read("phoenix.yaml");
    for issuer in ISSUERS.iter().filter(|issuer| issuer.wide) {
        let first = issuer.certificates().next().expect("a certificate");
        let line = format!("      - \"{}\"\n", Kind::Dns.san(&first.subject));
        // An address of IPv6 is proven as one of IPv4 is.
        let unprovable: &[Kind] = match issuer.name {
            "http" => &[Kind::Wildcard, Kind::Email, Kind::Uri],
            _ => &[Kind::V4, Kind::V6, Kind::Email, Kind::Uri],
        };
        for kind in unprovable {
            let name = kind.san(&first.subject);
            let more = format!("{line}      - \"{name}\"\n");
            harness.edit("phoenix.yaml", &line, &more);
            let run = harness.phoenix(&["sync", "all"]).await.expect(2);
            let said = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                said.contains("an ACME server") && said.contains(&format!("`{name}`")),
                "{run}"
            );
            std::fs::write(harness.path("phoenix.yaml"), &site).expect("written");
        }
    }
}

/// step-ca becomes the site's own CA, with a provisioner whose certificates are good for both
/// purposes: said of the daemon's and of Phoenix's own certificate as well.
async fn another_kind_of_ca_takes_over(harness: &Harness, step: &StepCaServer) {
    let ca = format!(
        "ca:\n  step_ca:\n    url: {}\n    fingerprint: {}\n    provisioner: {BOTH}\n    password: {{ file: \
         password }}\ncertificates:\n",
        step.url("127.0.0.1"),
        hex::encode(step.fingerprint())
    );
    harness.edit("phoenix.yaml", "certificates:\n", &ca);
    harness.phoenix(&["sync", "all"]).await.expect(0);
    let again = harness.phoenix(&["--json", "sync", "all"]).await.expect(0);
    assert_eq!(again.report()["changed"], 0, "{again}");
    for certificate in [
        "the Docker daemon's certificate of alone",
        "Phoenix's client certificate for Docker",
    ] {
        let said = format!("{certificate} is good for peer, not for ");
        assert!(again.stdout.contains(&said), "{said:?} in {again}");
    }
    let root = harness
        .node("alone")
        .read_file("/etc/docker/phoenix/ca.pem");
    let root = certificates(&root.await.expect("the root")).remove(0);
    let expected = CertificateDer::from_pem_slice(step.root_pem().as_bytes()).expect("a root");
    assert_eq!(root, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_certificate_is_good_for_its_purpose_and_its_names_only() {
    let authorities = Authorities::start().await;
    let files = [
        ("phoenix.yaml", &*authorities.site()),
        ("password", "correct horse\n"),
    ];
    let harness = Harness::of_files("certificates", &[("alone", 1101)], &files).await;
    let pebble = &authorities.pebble;
    std::fs::write(harness.path("acme-ca.pem"), &pebble.ca).expect("written");
    std::fs::write(harness.path("acme-roots.pem"), &pebble.root).expect("written");
    let node = harness.node("alone");
    let _zone = pebble
        .serve_zone(harness.lab().gateway(), node)
        .await
        .expect("the hook");
    harness.phoenix(&["sync", "all"]).await.expect(0);
    let again = harness.phoenix(&["--json", "sync", "all"]).await.expect(0);
    assert_eq!(again.report()["changed"], 0, "{again}");

    let judged = ISSUERS.iter().map(async |issuer| {
        judged_by_openssl(node, issuer).await;
        judged_by_rustls(node, issuer).await;
        judged_in_handshakes(node, issuer).await;
    });
    futures_util::future::join_all(judged).await;
    unprovable_names_are_refused(&harness).await;

    let root = node
        .read_file("/etc/docker/phoenix/ca.pem")
        .await
        .expect("the root");
    let identity = async |name: &str| {
        let mut pem = node
            .read_file(&format!("/etc/t/own/{name}.key"))
            .await
            .expect("a key");
        pem.extend(
            node.read_file(&format!("/etc/t/own/{name}.pem"))
                .await
                .expect("a chain"),
        );
        Some(pem)
    };
    for key in ISSUERS[0].keys {
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
    another_kind_of_ca_takes_over(&harness, &authorities.step).await;
    harness.stop().await;
}
