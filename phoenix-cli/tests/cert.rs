//! `phoenix cert` as a user runs it: stdout, stderr and exit status together, with what differs
//! from run to run (dates, serial numbers, fingerprints) replaced.
#![allow(clippy::unwrap_used, missing_docs)]

mod program;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use program::{Ended, ended, phoenix, same};

fn run(directory: &Path, arguments: &[&str]) -> Ended {
    let mut command = phoenix(directory);
    let output = command.arg("cert").args(arguments).output();
    output.unwrap().into()
}

fn json(text: &str) -> serde_json::Value {
    assert!(text.starts_with("{\"format\":1,"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

fn issue(directory: &Path, profile: &str, more: &[&str]) -> Ended {
    let mut arguments = vec![
        "issue",
        "--profile",
        profile,
        "--cn",
        "web",
        "--ca",
        "ca",
        "--out",
        "tls",
    ];
    arguments.extend(more);
    run(directory, &arguments)
}

/// A directory with a CA in `ca` and a certificate for a server in `tls`.
fn issued() -> tempfile::TempDir {
    let here = tempfile::tempdir().unwrap();
    let done = issue(
        here.path(),
        "server",
        &["--san", "web", "--san", "10.0.0.1", "--lifetime", "30d"],
    );
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    here
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_certificate_is_issued_without_a_site() {
    let here = tempfile::tempdir().unwrap();
    let first = issue(
        here.path(),
        "client",
        &["--san", "a.lan", "--san", "ops@a.lan"],
    );
    assert_eq!(
        ended(0, &same(&first.out), &first.err),
        ended(
            0,
            "Made a CA in ca: it holds the root's key, so back it up and keep it to yourself.
CN=web
    issuer:           CN=Phoenix CA Intermediate
    valid:            TIME to TIME (90 days left)
    names (DNS):      a.lan
    names (e-mail):   ops@a.lan
    key:              ecdsa-p256, signed with ecdsa-with-SHA256
    key usage:        digitalSignature
    extended usage:   clientAuth
    CA:               no
    serial:           SERIAL
    SHA-256:          FINGERPRINT
    key id:           KEY-ID
    issuer's key id:  KEY-ID
tls/cert.pem  the certificate, then the intermediate
tls/key.pem   its private key
tls/ca.pem    the root, for peers to trust
",
            ""
        )
    );
    let tls = here.path().join("tls");
    assert_eq!(mode(&tls.join("key.pem")), 0o600);
    assert_eq!(mode(&tls.join("cert.pem")), 0o644);
    assert_eq!(mode(&tls.join("ca.pem")), 0o644);
    assert_eq!(mode(&here.path().join("ca")), 0o700);
    assert_eq!(std::fs::read_dir(&tls).unwrap().count(), 3);
    let content = |name| std::fs::read_to_string(tls.join(name)).unwrap();
    assert_eq!(content("cert.pem").matches("BEGIN CERTIFICATE").count(), 2);
    let root = content("ca.pem");
    let before = content("cert.pem");

    assert_eq!(
        issue(here.path(), "client", &[]),
        ended(
            2,
            "",
            "error: tls holds cert.pem, key.pem, ca.pem already\nhint: --force replaces them\n"
        )
    );
    assert_eq!(content("cert.pem"), before);
    let again = issue(here.path(), "client", &["--force", "--json"]);
    assert_eq!((again.code, again.err.as_str()), (Some(0), ""));
    let document = json(&again.out);
    assert_eq!(document["ca_created"], false);
    assert_eq!(document["key"], "tls/key.pem");
    assert!(!again.out.contains("PRIVATE"));
    assert_eq!(content("ca.pem"), root);
    assert_ne!(content("cert.pem"), before);
}

#[test]
fn what_cannot_be_issued_is_refused_before_anything_is_made() {
    let here = tempfile::tempdir().unwrap();
    let wrong = issue(here.path(), "server", &["--san", "a.lan,b.lan"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""));
    assert!(
        wrong.err.contains("did you mean a.lan, b.lan?"),
        "{}",
        wrong.err
    );
    assert_eq!(
        issue(here.path(), "server", &[]),
        ended(
            2,
            "",
            "error: a certificate of profile server needs a subject alternative name: clients \
             ignore the common name\n\
             hint: name what it is valid for with --san; it may be repeated\n"
        )
    );
    let unknown = issue(here.path(), "srever", &["--san", "a.lan"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.err.contains("server, client, peer"),
        "{}",
        unknown.err
    );
    let arguments = [
        "issue",
        "--profile",
        "client",
        "--cn",
        "x",
        "--ca",
        "d",
        "--out",
        "./d",
    ];
    let same = run(here.path(), &arguments);
    assert_eq!((same.code, same.out.as_str()), (Some(2), ""));
    assert!(same.err.contains("one of its own"), "{}", same.err);
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0);
}

#[test]
fn a_run_that_was_killed_half_way_is_noticed() {
    let here = issued();
    std::fs::remove_file(here.path().join("tls/cert.pem")).unwrap();
    let noticed = issue(here.path(), "client", &[]);
    assert_eq!(
        noticed,
        ended(
            2,
            "",
            "error: tls holds key.pem, ca.pem already, but no cert.pem: an earlier run was \
             stopped half-way\nhint: --force replaces them\n"
        )
    );
}

#[test]
fn killed_at_any_moment_no_certificate_is_beside_the_key_of_another() {
    let here = issued();
    let tls = here.path().join("tls");
    let mut whole = 0;
    for milliseconds in 0..40 {
        let mut child = phoenix(here.path())
            .args(["cert", "issue", "--profile", "client", "--cn", "x"])
            .args(["--ca", "ca", "--out", "tls", "--force"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        let Ok(cert) = std::fs::read(tls.join("cert.pem")) else {
            continue;
        };
        whole += 1;
        let key = std::fs::read(tls.join("key.pem")).unwrap();
        std::fs::write(here.path().join("both.pem"), [key, cert].concat()).unwrap();
        let verified = run(here.path(), &["verify", "both.pem", "--ca", "tls/ca.pem"]);
        assert_eq!(verified.code, Some(0), "{milliseconds} ms: {verified:?}");
        assert!(verified.out.contains("  key "), "{verified:?}");
    }
    assert!(whole > 0, "there was never a certificate");
    let mended = issue(here.path(), "client", &["--force"]);
    assert_eq!((mended.code, mended.err.as_str()), (Some(0), ""));
    assert_eq!(std::fs::read_dir(&tls).unwrap().count(), 3);
}

#[test]
fn a_server_is_shown_with_the_name_that_it_was_asked_for() {
    use phoenix_core::ground::SecretBytes;
    use phoenix_core::pki::{TlsIdentity, root_store, server_config};

    let here = issued();
    let content = |name: &str| std::fs::read(here.path().join("tls").join(name)).unwrap();
    let identity =
        TlsIdentity::from_pem(&content("cert.pem"), &SecretBytes::new(content("key.pem"))).unwrap();
    // It lets in nobody without a certificate of its own.
    let clients = root_store(&content("ca.pem")).unwrap();
    let config = std::sync::Arc::new(server_config(identity, Some(clients)).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            tls.complete_io(&mut stream).unwrap_err();
        }
    });
    let shown = run(
        here.path(),
        &[
            "show",
            &address,
            "--server-name",
            "web",
            "--ca",
            "tls/ca.pem",
        ],
    );
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert!(
        shown.out.ends_with(
            "
    order:            each was issued by the next
    name:             valid for web
    as a TLS server:  good
    as a TLS client:  no: its extended key usage does not allow it
"
        ),
        "{}",
        shown.out
    );
    let document = json(&run(here.path(), &["show", &address, "--json"]).out);
    assert_eq!(document["name"]["name"], "127.0.0.1");
    assert_eq!(document["name"]["holds"], false);
    server.join().unwrap();
}

#[test]
fn a_file_is_shown_with_its_chain_and_what_it_is_good_for() {
    let here = issued();
    let shown = run(here.path(), &["show", "tls/cert.pem", "--ca", "tls/ca.pem"]);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    let out = same(&shown.out);
    assert!(
        out.starts_with("tls/cert.pem: 2 certificates\n\n1. CN=web\n"),
        "{out}"
    );
    assert!(
        out.ends_with(
            "
    order:            each was issued by the next
    as a TLS server:  good
    as a TLS client:  no: its extended key usage does not allow it
"
        ),
        "{out}"
    );
    for part in [
        "    names (DNS):      web\n    names (IP):       10.0.0.1\n",
        "2. CN=Phoenix CA Intermediate\n    issuer:           CN=Phoenix CA\n",
        "    key usage:        keyCertSign, cRLSign\n",
        "    CA:               yes, for leaves alone\n",
    ] {
        assert!(out.contains(part), "{part:?} in {out}");
    }
    let alone = run(here.path(), &["show", "--json", "tls/cert.pem"]);
    let document = json(&alone.out);
    assert_eq!(document["key"], "none");
    assert_eq!(document["out_of_order"], serde_json::Value::Null);
    assert_eq!(document["certificates"][0]["names"][1]["kind"], "IP");
    assert_eq!(document["certificates"][1]["path_len"], 0);
    assert_eq!(document["verdicts"][0]["holds"], false);
    assert_eq!(
        document["verdicts"][0]["reason"],
        "there is no root to check it against: name one with --ca"
    );
}

#[test]
fn what_cannot_be_shown_says_why() {
    let here = issued();
    assert_eq!(
        run(here.path(), &["show", "no.pem"]),
        ended(
            1,
            "",
            "error: no.pem: No such file or directory (os error 2)\n\
             hint: a PEM or DER file is expected, or GUEST:/PATH of the site, or HOST:PORT of a \
             TLS server\n"
        )
    );
    let keyless = run(here.path(), &["show", "tls/key.pem"]);
    assert_eq!((keyless.code, keyless.out.as_str()), (Some(1), ""));
    assert!(
        keyless.err.contains("no PEM certificate"),
        "{}",
        keyless.err
    );
    assert!(!keyless.err.contains("BEGIN"), "{}", keyless.err);
    let guest = run(here.path(), &["show", "web:/etc/tls/a.pem"]);
    assert_eq!((guest.code, guest.out.as_str()), (Some(2), ""));
    assert!(guest.err.contains("no phoenix.yaml"), "{}", guest.err);
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let nobody = run(
        here.path(),
        &["show", "--json", &format!("127.0.0.1:{port}")],
    );
    assert_eq!(nobody.code, Some(4));
    assert!(nobody.err.contains("cannot connect to"), "{}", nobody.err);
    assert!(nobody.out.contains("\"exit_code\":4"), "{}", nobody.out);
}

#[test]
fn a_server_that_speaks_no_tls_is_told() {
    let here = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        stream
    });
    let told = run(here.path(), &["show", &address]);
    drop(server.join().unwrap());
    assert_eq!((told.code, told.out.as_str()), (Some(1), ""));
    assert!(
        told.err.ends_with(
            "\nhint: does it speak TLS, and know the name? --server-name asks for another\n"
        ),
        "{}",
        told.err
    );
}

#[test]
fn every_check_of_a_file_has_its_verdict() {
    let here = issued();
    let verify = |more: &[&str]| {
        let mut arguments = vec!["verify", "tls/cert.pem"];
        arguments.extend(more);
        run(here.path(), &arguments)
    };
    assert_eq!(
        verify(&["--ca", "tls/ca.pem", "--profile", "server", "--name", "web"]),
        ended(
            0,
            "tls/cert.pem: valid
  CHECK     VERDICT  BECAUSE
  readable  holds    CN=web
  order     holds    2 certificates, in order
  server    holds    good as a TLS server, below a root of --ca
  name web  holds    the certificate is valid for it
",
            ""
        )
    );
    assert_eq!(
        verify(&["--profile", "peer", "--name", "b.lan"]),
        ended(
            1,
            "tls/cert.pem: not valid: 3 checks failed
  CHECK       VERDICT  BECAUSE
  readable    holds    CN=web
  order       holds    2 certificates, in order
  server      fails    there is no root to check it against: name one with --ca
  client      fails    there is no root to check it against: name one with --ca
  name b.lan  fails    the certificate is valid for web, 10.0.0.1 only
",
            ""
        )
    );
    let late = verify(&[
        "--ca",
        "tls/ca.pem",
        "--at",
        "2200-01-01T00:00:00Z",
        "--json",
    ]);
    let document = json(&late.out);
    assert_eq!((late.code, &document["valid"]), (Some(1), &false.into()));
    assert_eq!(document["at"], "2200-01-01T00:00:00Z");
    let wrong = verify(&["--ca", "tls/key.pem"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""));
    let key = std::fs::read(here.path().join("tls/key.pem")).unwrap();
    let cert = std::fs::read(here.path().join("tls/cert.pem")).unwrap();
    std::fs::write(here.path().join("tls/both.pem"), [key, cert].concat()).unwrap();
    let both = run(
        here.path(),
        &["verify", "tls/both.pem", "--ca", "tls/ca.pem"],
    );
    assert_eq!(both.code, Some(0), "{both:?}");
    assert!(
        both.out
            .contains("  key       holds    the private key is that of the certificate\n"),
        "{}",
        both.out
    );
}

#[test]
fn every_file_is_checked_although_one_is_unreadable() {
    let here = issued();
    std::fs::write(here.path().join("x.pem"), "nothing").unwrap();
    assert_eq!(
        run(here.path(), &["check", "--days", "20", "tls/cert.pem"]),
        ended(0, "tls/cert.pem: CN=web, 29 days left: fine\n", "")
    );
    assert_eq!(
        run(
            here.path(),
            &["check", "--days", "31", "tls/cert.pem", "tls/ca.pem"]
        ),
        ended(
            3,
            "tls/cert.pem: CN=web, 29 days left: due\n\
             tls/ca.pem: CN=Phoenix CA, 3649 days left: fine\n",
            ""
        )
    );
    let broken = run(
        here.path(),
        &["check", "--days", "31", "x.pem", "tls/cert.pem"],
    );
    assert_eq!((broken.code, broken.out.lines().count()), (Some(1), 1));
    assert!(broken.err.starts_with("error: x.pem: "), "{}", broken.err);
    let broken = run(
        here.path(),
        &["check", "--days", "31", "--json", "x.pem", "tls/cert.pem"],
    );
    let document = json(&broken.out);
    assert_eq!(document["certificates"][0]["due"], true);
    assert_eq!(document["unreadable"][0]["file"], "x.pem");
}

#[test]
fn an_intermediate_that_ends_sooner_counts() {
    let here = issued();
    let join = |names: &[&str]| -> Vec<u8> {
        names
            .iter()
            .flat_map(|name| std::fs::read(here.path().join(name)).unwrap())
            .collect()
    };
    // The root first, so that what ends first is not what comes first.
    let text = join(&["tls/ca.pem", "tls/cert.pem"]);
    std::fs::write(here.path().join("all.pem"), text).unwrap();
    assert_eq!(
        run(here.path(), &["check", "--days", "31", "all.pem"]),
        ended(
            3,
            "all.pem: CN=web (number 2 in it), 29 days left: due\n",
            ""
        )
    );
}

const SITE: &str = "\
site: lab
proxmox:
  url: https://127.0.0.1:1
  token: { env: LAB_TOKEN }
  fingerprint: \"00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff\"
guests:
  web:
    vmid: 100
certificates:
  backup:
    common_name: backup.lan
    profile: client
    sans: [backup.lan]
";

#[test]
fn the_sites_certificates_are_listed_and_checked() {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("phoenix.yaml"), SITE).unwrap();
    let with_token = |arguments: &[&str]| {
        let mut command = phoenix(here.path());
        command.env(
            "LAB_TOKEN",
            "phoenix@pve!lab=00000000-0000-0000-0000-000000000000",
        );
        let output = command.arg("cert").args(arguments).output();
        Ended::from(output.unwrap())
    };
    let listed = with_token(&["list"]);
    assert_eq!((listed.code, listed.err.as_str()), (Some(1), ""));
    assert!(
        listed
            .out
            .starts_with("  NAME    PROFILE  ISSUER  DAYS LEFT  DUE  STATE"),
        "{}",
        listed.out
    );
    assert!(
        listed
            .out
            .contains("\n  backup  client   ca      -          now  "),
        "{}",
        listed.out
    );
    let document = json(&with_token(&["list", "--json"]).out);
    assert_eq!(document["certificates"][0]["name"], "backup");
    assert_eq!(document["certificates"][0]["issuer"], "ca");
    let checked = with_token(&["check", "--days", "5"]);
    assert_eq!((checked.code, checked.err.as_str()), (Some(3), ""));
    assert!(
        checked.out.starts_with("backup: never issued: due ("),
        "{}",
        checked.out
    );
    let unknown = with_token(&["show", "wbe:/etc/a.pem"]);
    assert_eq!(
        unknown,
        ended(
            2,
            "",
            "error: there is no guest `wbe`\nhint: did you mean `web`?\n"
        )
    );
}
