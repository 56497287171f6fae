//! Certificates from real ACME servers (pebble, step-ca), by http-01 and dns-01, and what goes
//! wrong.

use std::error::Error as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use phoenix_core::ground::{Deadline, SecretBytes, Trust};
use phoenix_core::pki::{
    Acme, AcmeSettings, Bundle, CertificateRequest, ChallengeSolver, DnsHook, HookError,
    IssueError, Issuer, KeyType, Profile, RenewalRule, TxtRecord, renewal_reasons,
};
use phoenix_lab::harness::Harness;
use phoenix_lab::pebble::{Pebble, PebbleOptions};
use phoenix_lab::place::Places;
use phoenix_lab::step_ca::{ACME, StepCaOptions, StepCaServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

const HOUR: Duration = Duration::from_secs(3_600);

fn request(names: &[&str], profile: Profile, key_type: KeyType) -> CertificateRequest {
    let names = names.iter().map(|name| name.parse().expect("a name"));
    CertificateRequest::new("The Portal", profile, names.collect(), HOUR, key_type)
        .expect("a request")
}

fn server(names: &[&str]) -> CertificateRequest {
    request(names, Profile::Server, KeyType::EcdsaP256)
}

struct Lab {
    pebble: Arc<Pebble>,
    state: tempfile::TempDir,
}

impl Lab {
    async fn start(options: PebbleOptions) -> Self {
        Self {
            pebble: Arc::new(Pebble::start(&options).await.expect("pebble")),
            state: tempfile::tempdir().expect("a folder"),
        }
    }

    fn settings(&self) -> AcmeSettings {
        let account = self.state.path().join("issuers/test/account.json");
        let trust = Trust::CaPem(self.pebble.ca.clone());
        let mut settings = AcmeSettings::new(self.pebble.url.clone(), trust, account);
        settings.roots = Some(self.pebble.root.clone());
        settings
    }

    fn http(&self) -> Acme {
        let listen = self.pebble.http;
        Acme::new(self.settings(), ChallengeSolver::Http01 { listen }).expect("an issuer")
    }

    fn dns(&self, hook: Arc<Records>) -> Acme {
        let propagation = Duration::from_millis(100);
        let solver = ChallengeSolver::Dns01 { hook, propagation };
        Acme::new(self.settings(), solver).expect("an issuer")
    }
}

async fn issue(acme: &Acme, request: &CertificateRequest) -> Result<Bundle, IssueError> {
    acme.issue(request, Deadline::after(Duration::from_secs(60)))
        .await
}

fn told(error: &IssueError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Sets records at pebble's DNS server, or fails.
#[derive(Debug)]
struct Records {
    pebble: Arc<Pebble>,
    wrong: bool,
    fail: bool,
    calls: Mutex<Vec<String>>,
}

impl Records {
    fn new(lab: &Lab) -> Self {
        Self {
            pebble: Arc::clone(&lab.pebble),
            wrong: false,
            fail: false,
            calls: Mutex::default(),
        }
    }

    fn call(&self, what: &str, record: &TxtRecord) {
        self.calls
            .lock()
            .expect("lock")
            .push(format!("{what} {}", record.name));
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("lock").clone()
    }
}

#[async_trait]
impl DnsHook for Records {
    async fn set(&self, record: &TxtRecord, _: Deadline) -> Result<(), HookError> {
        self.call("set", record);
        if self.fail {
            return Err("the zone is locked".into());
        }
        let value = if self.wrong { "wrong" } else { &record.value };
        let body = serde_json::json!({"host": format!("{}.", record.name), "value": value});
        Ok(self.pebble.tell_dns("set-txt", &body).await?)
    }

    async fn clear(&self, record: &TxtRecord, _: Deadline) -> Result<(), HookError> {
        self.call("clear", record);
        let body = serde_json::json!({"host": format!("{}.", record.name)});
        Ok(self.pebble.tell_dns("clear-txt", &body).await?)
    }
}

#[tokio::test]
async fn http_01_gives_a_server_certificate_with_names_and_addresses_and_renews_it() {
    let lab = Lab::start(PebbleOptions::default()).await;
    let acme = lab.http();
    let wanted = server(&["a.lab.lan", "b.lab.lan", "127.0.0.1"]);
    let first = issue(&acme, &wanted).await.expect("issued");
    let now = time::OffsetDateTime::now_utc();
    let reasons = |bundle: &Bundle| {
        renewal_reasons(
            Ok(Some(bundle)),
            &wanted,
            RenewalRule::TwoThirds,
            acme.identity(),
            now,
        )
    };
    assert_eq!(reasons(&first), []);
    assert_eq!(
        first.root_pem().trim(),
        String::from_utf8_lossy(&lab.pebble.root).trim()
    );
    // The account is reused, the key is not.
    let path = lab.settings().account;
    let account = std::fs::read(&path).expect("an account");
    let again = lab.http();
    let second = again
        .renew(&wanted, &first, Deadline::after(Duration::from_secs(60)))
        .await
        .expect("renewed");
    assert_ne!(first.leaf().serial, second.leaf().serial);
    assert_ne!(first.key_pem(), second.key_pem());
    assert_eq!(std::fs::read(&path).expect("an account"), account);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&path).expect("stat").permissions(),
    );
    assert_eq!(mode & 0o7777, 0o600);
    // Nothing listens any more once no order is pending.
    tokio::time::sleep(Duration::from_millis(200)).await;
    std::net::TcpListener::bind(lab.pebble.http).expect("the address is free");
}

#[tokio::test]
async fn ten_orders_at_once_share_the_address_and_the_account() {
    let lab = Lab::start(PebbleOptions {
        bad_nonces: 10,
        ..Default::default()
    })
    .await;
    let acme = lab.http();
    let orders = (0..10).map(|index| {
        let acme = acme.clone();
        async move {
            let name = format!("n{index}.lab.lan");
            issue(&acme, &server(&[&name])).await
        }
    });
    for bundle in futures_util::future::join_all(orders).await {
        bundle.map_err(|error| told(&error)).expect("issued");
    }
    let said = lab.pebble.said();
    assert_eq!(said.matches("accounts in memory").count(), 1, "{said}");
}

#[tokio::test]
async fn every_kind_of_key_is_issued_or_refused_by_name() {
    let lab = Lab::start(PebbleOptions::default()).await;
    let acme = lab.http();
    for key_type in [
        KeyType::EcdsaP256,
        KeyType::EcdsaP384,
        KeyType::Rsa2048,
        KeyType::Ed25519,
    ] {
        match issue(&acme, &request(&["k.lab.lan"], Profile::Server, key_type)).await {
            Ok(bundle) => assert_eq!(bundle.leaf().key_type, Some(key_type)),
            Err(error) => {
                assert_eq!(key_type, KeyType::Ed25519, "{}", told(&error));
                assert!(
                    told(&error).contains("handing in the request"),
                    "{}",
                    told(&error)
                );
            }
        }
    }
}

#[tokio::test]
async fn dns_01_proves_a_wildcard_and_clears_its_records() {
    let lab = Lab::start(PebbleOptions::default()).await;
    let hook = Arc::new(Records::new(&lab));
    let acme = lab.dns(Arc::clone(&hook));
    let bundle = issue(&acme, &server(&["*.w.lab.lan", "other.lab.lan"]))
        .await
        .map_err(|error| told(&error))
        .expect("issued");
    assert!(bundle.leaf().sans.iter().any(|name| name.is_wildcard()));
    let mut calls = hook.calls();
    calls.sort();
    assert_eq!(
        calls,
        [
            "clear _acme-challenge.other.lab.lan",
            "clear _acme-challenge.w.lab.lan",
            "set _acme-challenge.other.lab.lan",
            "set _acme-challenge.w.lab.lan",
        ]
    );
}

#[tokio::test]
async fn a_wrong_record_and_a_failing_hook_end_the_order_and_are_cleared() {
    let lab = Lab::start(PebbleOptions::default()).await;
    let mut wrong = Records::new(&lab);
    wrong.wrong = true;
    let mut failing = Records::new(&lab);
    failing.fail = true;
    for (hook, name, expected) in [
        (wrong, "w1.lab.lan", "`w1.lab.lan` was not proven by dns-01"),
        (
            failing,
            "w2.lab.lan",
            "could not be set: the zone is locked",
        ),
    ] {
        let hook = Arc::new(hook);
        let error = issue(&lab.dns(Arc::clone(&hook)), &server(&[name]))
            .await
            .expect_err("refused");
        assert!(told(&error).contains(expected), "{}", told(&error));
        assert_eq!(
            hook.calls(),
            [
                format!("set _acme-challenge.{name}"),
                format!("clear _acme-challenge.{name}")
            ]
        );
    }
}

#[tokio::test]
async fn an_address_in_use_is_told_before_the_server_looks() {
    let lab = Lab::start(PebbleOptions::default()).await;
    let _taken = std::net::TcpListener::bind(lab.pebble.http).expect("bound");
    let error = issue(&lab.http(), &server(&["a.lab.lan"]))
        .await
        .expect_err("in use");
    assert!(
        told(&error).contains("is in use by another program"),
        "{}",
        told(&error)
    );
}

#[tokio::test]
async fn an_answer_that_does_not_arrive_is_told_with_what_the_server_saw() {
    let lab = Lab::start(PebbleOptions::default()).await;
    // Listening elsewhere than where the server looks.
    let listen = ([127, 0, 0, 1], 0).into();
    let acme = Acme::new(lab.settings(), ChallengeSolver::Http01 { listen }).expect("an issuer");
    let error = issue(&acme, &server(&["a.lab.lan"]))
        .await
        .expect_err("not proven");
    let text = told(&error);
    assert!(
        text.contains("`a.lab.lan` was not proven by http-01"),
        "{text}"
    );
    assert!(text.contains("(connection)"), "{text}");
}

#[tokio::test]
async fn an_external_account_is_demanded_checked_and_used() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let external_account = Some(("kid-1".to_owned(), KEY.to_owned()));
    let lab = Lab::start(PebbleOptions {
        external_account,
        ..Default::default()
    })
    .await;
    let with = |account: Option<(&str, &str)>| {
        let mut settings = lab.settings();
        settings.external_account =
            account.map(|(id, key)| (id.to_owned(), SecretBytes::from(key.to_owned())));
        let listen = lab.pebble.http;
        Acme::new(settings, ChallengeSolver::Http01 { listen }).expect("an issuer")
    };
    let wanted = server(&["a.lab.lan"]);
    let error = issue(&with(None), &wanted).await.expect_err("missing");
    assert!(
        told(&error).contains("set acme.external_account"),
        "{}",
        told(&error)
    );
    for wrong in [("kid-2", KEY), ("kid-1", "aGVsbG8")] {
        let error = issue(&with(Some(wrong)), &wanted).await.expect_err("wrong");
        assert!(
            told(&error).contains("making an account"),
            "{}",
            told(&error)
        );
        assert!(!told(&error).contains(wrong.1), "{}", told(&error));
    }
    issue(&with(Some(("kid-1", KEY))), &wanted)
        .await
        .map_err(|error| told(&error))
        .expect("issued");
}

#[tokio::test]
async fn a_server_that_is_down_is_told_and_a_lost_account_is_made_again() {
    let lab = Lab::start(PebbleOptions::default()).await;
    let wanted = server(&["a.lab.lan"]);
    issue(&lab.http(), &wanted).await.expect("issued");
    // Another server, which does not know the account, in the place of the first.
    let other = Lab::start(PebbleOptions::default()).await;
    let path = other.settings().account;
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::set_permissions(
        path.parent().expect("a folder"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .expect("chmod");
    let (from, to) = (lab.pebble.url.port(), other.pebble.url.port());
    let (from, to) = (
        from.expect("port").to_string(),
        to.expect("port").to_string(),
    );
    let stored = std::fs::read_to_string(lab.settings().account).expect("an account");
    std::fs::write(&path, stored.replace(&from, &to)).expect("written");
    issue(&other.http(), &wanted)
        .await
        .map_err(|error| told(&error))
        .expect("issued with another account");
    let down = lab.http();
    let look = || Deadline::after(Duration::from_secs(5));
    down.probe(look()).await.expect("a directory");
    drop(lab.pebble);
    let error = down.probe(look()).await.expect_err("down");
    assert!(
        told(&error).contains("no usable answer"),
        "{}",
        told(&error)
    );
    let error = issue(&down, &wanted).await.expect_err("down");
    assert!(
        told(&error).contains("no usable answer"),
        "{}",
        told(&error)
    );
}

/// A step-ca with an ACME provisioner. It looks at port 80 of the names and nowhere else, so each
/// test has an address of the loopback of its own, and opening that port takes root.
struct StepCaLab {
    server: StepCaServer,
    state: tempfile::TempDir,
}

impl StepCaLab {
    async fn start() -> Self {
        let places = Places::of_this_user().expect("places");
        let options = StepCaOptions::default();
        let server = StepCaServer::start(&places, &options).await;
        Self {
            server: server.expect("step-ca"),
            state: tempfile::tempdir().expect("a folder"),
        }
    }

    fn http(&self, listen: SocketAddr) -> Acme {
        let directory = format!("{}/acme/{ACME}/directory", self.server.url("127.0.0.1"));
        let settings = AcmeSettings::new(
            directory.parse().expect("a URL"),
            Trust::CaPem(self.server.root_pem().as_bytes().to_vec()),
            self.state.path().join("issuers/test/account.json"),
        );
        Acme::new(settings, ChallengeSolver::Http01 { listen }).expect("an issuer")
    }

    /// How often the server was told that it may look.
    fn announced(&self) -> usize {
        let path = format!("/acme/{ACME}/challenge/");
        let requests = self.server.requests();
        requests
            .iter()
            .filter(|(at, _)| at.starts_with(&path))
            .count()
    }
}

#[tokio::test]
async fn step_ca_gives_clients_a_wider_certificate_with_exactly_their_names() {
    let lab = StepCaLab::start().await;
    let acme = lab.http((Ipv4Addr::LOCALHOST, 80).into());
    for key_type in [KeyType::EcdsaP256, KeyType::Rsa2048, KeyType::Ed25519] {
        let wanted = request(&["localhost", "127.0.0.1"], Profile::Client, key_type);
        let first = issue(&acme, &wanted)
            .await
            .map_err(|error| told(&error))
            .expect("issued");
        assert_eq!(first.wider_than(Profile::Client), Some(Profile::Peer));
        assert_eq!(first.root().fingerprint, lab.server.fingerprint());
        let second = acme
            .renew(&wanted, &first, Deadline::after(Duration::from_secs(60)))
            .await
            .map_err(|error| told(&error))
            .expect("renewed");
        assert_ne!(first.leaf().serial, second.leaf().serial);
        let reasons = renewal_reasons(
            Ok(Some(&second)),
            &wanted,
            RenewalRule::TwoThirds,
            acme.identity(),
            time::OffsetDateTime::now_utc(),
        );
        assert_eq!(reasons, [], "{key_type}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_connect_at_first_is_told_again() {
    let lab = StepCaLab::start().await;
    let address = IpAddr::from([127, 0, 80, 1]);
    let free = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let listen = free.local_addr().expect("an address");
    drop(free);
    let acme = lab.http(listen);
    let name = address.to_string();
    let wanted = request(&[&name], Profile::Server, KeyType::EcdsaP256);
    // What passes port 80 on comes up only after the server has looked in vain.
    let forwarding = async {
        while lab.announced() < 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let port_80 = TcpListener::bind((address, 80)).await.expect("port 80");
        loop {
            let (mut from, _) = port_80.accept().await.expect("a connection");
            let mut to = TcpStream::connect(listen).await.expect("Phoenix listens");
            // Whoever closes first ends it.
            let _ = copy_bidirectional(&mut from, &mut to).await;
        }
    };
    tokio::select! {
        issued = issue(&acme, &wanted) => {
            issued.map_err(|error| told(&error)).expect("issued");
        }
        () = forwarding => unreachable!("it never ends"),
    }
    assert!(lab.announced() > 1, "{}", lab.server.log());
}

#[tokio::test]
async fn somebody_elses_answer_ends_the_order_at_once() {
    let lab = StepCaLab::start().await;
    let address = IpAddr::from([127, 0, 80, 2]);
    let port_80 = TcpListener::bind((address, 80)).await.expect("port 80");
    let other = tokio::spawn(async move {
        loop {
            let (mut stream, _) = port_80.accept().await.expect("a connection");
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
            stream.write_all(answer).await.expect("answered");
        }
    });
    let acme = lab.http((Ipv4Addr::LOCALHOST, 0).into());
    let name = address.to_string();
    let begun = std::time::Instant::now();
    let error = issue(
        &acme,
        &request(&[&name], Profile::Server, KeyType::EcdsaP256),
    )
    .await
    .expect_err("not proven");
    other.abort();
    let text = told(&error);
    assert!(
        text.contains("`127.0.80.2` was not proven by http-01")
            && text.contains("(rejectedIdentifier)"),
        "{text}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20), "{text}");
    assert_eq!(lab.announced(), 1);
}

const SITE: &str = r#"
issuers:
  public:
    acme:
      directory: DIRECTORY
      ca: acme-ca.pem
      roots: acme-roots.pem
      dns_01:
        guest: alone
        set: [/usr/local/bin/zone, set]
        clear: [/usr/local/bin/zone, clear]
        propagation: 1s
guests:
  alone: { vmid: @VMID_ALONE@ }
certificates:
  web:
    common_name: web.lab.lan
    profile: server
    sans: [web.lab.lan, "*.web.lab.lan"]
    issuer: public
    deliver:
      - guest: alone
        files:
          - { part: chain, path: /etc/web/tls.pem }
          - { part: key, path: /etc/web/tls.key }
          - { part: ca, path: /etc/web/ca.pem }
"#;

#[tokio::test]
async fn a_site_proves_a_wildcard_by_commands_in_a_guest_and_delivers_it() {
    let lab = Lab::start(PebbleOptions::default()).await;
    let site = SITE.replace("DIRECTORY", lab.pebble.url.as_str());
    let harness = Harness::of_files("acme", &[("alone", 1101)], &[("phoenix.yaml", &*site)]).await;
    std::fs::write(harness.path("acme-ca.pem"), &lab.pebble.ca).expect("written");
    std::fs::write(harness.path("acme-roots.pem"), &lab.pebble.root).expect("written");
    let node = harness.node("alone");
    let _zone = lab
        .pebble
        .serve_zone(harness.lab().gateway(), node)
        .await
        .expect("the hook");

    harness.phoenix(&["sync", "all"]).await.expect(0);
    let script = "openssl verify -verify_hostname any.web.lab.lan -CAfile /etc/web/ca.pem \
                  -untrusted /etc/web/tls.pem /etc/web/tls.pem && sort /run/zone";
    let said = node.sh(script).await.and_then(phoenix_lab::Output::success);
    // Both names have their record at the same place.
    assert_eq!(
        said.unwrap_or_else(|error| panic!("{}", error.chain())),
        "/etc/web/tls.pem: OK\n\
         clear _acme-challenge.web.lab.lan\nclear _acme-challenge.web.lab.lan\n\
         set _acme-challenge.web.lab.lan\nset _acme-challenge.web.lab.lan\n"
    );
    let again = harness.phoenix(&["--json", "sync", "all"]).await.expect(0);
    assert_eq!(again.report()["changed"], 0, "{again}");
    // Neither is anything to do, nor does anything fail, while the server is down.
    drop(lab);
    let down = harness.phoenix(&["--json", "sync", "all"]).await.expect(0);
    assert_eq!(down.report()["changed"], 0, "{down}");
    assert!(
        down.stdout
            .contains("Nothing can be issued until it answers"),
        "{down}"
    );
    let calls = node.sh("wc -l </run/zone").await.expect("counted").text();
    assert_eq!(calls.trim(), "4");
    harness.stop().await;
}
