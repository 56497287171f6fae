//! `phoenix ca` as a user runs it: the life of a CA, with what differs from run to run replaced.
#![allow(clippy::unwrap_used, missing_docs)]

mod program;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use program::{Ended, phoenix};
use regex::Regex;

/// Runs `phoenix` with the words of `line`: exit status, stdout, stderr.
fn run(directory: &Path, line: &str) -> (i32, String, String) {
    let mut command = phoenix(directory);
    let output = command.env("PW", "secret").args(line.split(' ')).output();
    let Ended { code, out, err } = output.unwrap().into();
    (code.unwrap(), same(&out), same(&err))
}

/// `text` without what differs from run to run, nor from day to day.
fn same(text: &str) -> String {
    Regex::new(r"\b\d+ days left")
        .unwrap()
        .replace_all(&program::same(text), "DAYS left")
        .into_owned()
}

fn done(directory: &Path, line: &str) -> String {
    let (code, out, err) = run(directory, line);
    assert_eq!((code, err.as_str()), (0, ""), "{line}: {out}");
    out
}

fn refused(directory: &Path, line: &str) -> (i32, String) {
    let (code, out, err) = run(directory, line);
    assert_eq!(out, "", "{line}");
    (code, err)
}

fn private(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

const ISSUE: &str = "cert issue --profile server --cn web --san web --ca ca --passphrase-env PW";

#[test]
fn a_ca_lives_from_its_making_to_its_lists() {
    let here = tempfile::tempdir().unwrap();
    let here = here.path();
    private(&here.join("bad"), "wrong\n");
    assert_eq!(
        refused(here, "ca show --ca ca"),
        (
            1,
            "error: there is no CA in ca\nhint: `phoenix ca init` makes one, `phoenix ca import` \
             brings one from elsewhere\n"
                .to_owned()
        )
    );
    assert_eq!(
        done(here, "ca init --ca ca --passphrase-env PW"),
        "Made a CA in ca: it holds the root's key, so back it up and keep it to yourself.

CN=Phoenix CA (root)
    valid:            TIME to TIME (DAYS left)
    key:              ecdsa-p256, encrypted
    serial:           SERIAL
    SHA-256:          FINGERPRINT
    key id:           KEY-ID
CN=Phoenix CA Intermediate (intermediate 1, which signs)
    valid:            TIME to TIME (DAYS left)
    key:              ecdsa-p256, encrypted
    serial:           SERIAL
    SHA-256:          FINGERPRINT
    key id:           KEY-ID

0 certificates issued: 0 valid, 0 expired, 0 revoked
"
    );
    let (code, err) = refused(here, "ca init --ca ca --passphrase-env PW");
    assert_eq!(code, 1);
    assert!(err.starts_with("error: ca holds a CA already"), "{err}");

    done(here, &format!("{ISSUE} --out t1"));
    let out = done(here, "ca rotate --ca ca --passphrase-env PW");
    assert!(out.starts_with("CN=Phoenix CA Intermediate 2 signs from now on"));
    done(here, &format!("{ISSUE} --out t2"));
    assert_eq!(
        done(here, "ca revoke t1/cert.pem --ca ca --reason keyCompromise"),
        "Revoked SERIAL (web): keyCompromise.\nOthers learn of it from `phoenix ca crl`.\n"
    );
    let (code, err) = refused(here, "ca revoke t1/cert.pem --ca ca");
    assert_eq!(
        (code, err.as_str()),
        (
            1,
            "error: SERIAL was revoked on TIME already (keyCompromise)\n"
        )
    );
    let shown = done(here, "ca show --ca ca --inventory");
    assert!(
        shown.contains("2 certificates issued: 1 valid, 0 expired, 1 revoked"),
        "{shown}"
    );
    assert!(shown.contains("revoked DATE (keyCompromise)"), "{shown}");

    let lists = done(here, "ca crl --ca ca --passphrase-env PW");
    assert_eq!(lists.matches("-----BEGIN X509 CRL-----").count(), 2);
    let (code, err) = refused(here, "ca crl --ca ca --passphrase-env PW --der");
    assert_eq!(code, 2);
    assert!(err.contains("--intermediate NUMBER"), "{err}");
    let written = done(
        here,
        "ca crl --ca ca --passphrase-env PW --der --intermediate 1 --out one.crl",
    );
    assert!(written.contains(", 1 revoked, next on DATE"), "{written}");
    assert_eq!(fs::read(here.join("one.crl")).unwrap()[0], 0x30);

    let (code, err) = refused(here, "ca crl --ca ca --passphrase-file bad");
    assert_eq!(code, 1);
    assert!(err.contains("not that of the private key"), "{err}");
    let (code, err) = refused(here, "ca crl --ca ca");
    assert_eq!(code, 1);
    assert!(err.contains("--passphrase-file"), "{err}");

    done(
        here,
        "ca import --ca other --root ca/root.pem \
         --intermediate ca/intermediates/0002/certificate.pem \
         --intermediate-key ca/intermediates/0002/key.pem --input-passphrase-env PW",
    );
    assert!(done(here, "ca show --ca other").contains("ecdsa-p256, kept elsewhere"));
    assert_eq!(
        done(here, "ca export --ca other"),
        fs::read_to_string(here.join("ca/root.pem")).unwrap()
    );
    let document = done(here, "ca show --ca ca --json");
    assert!(document.starts_with("{\"format\":1,"), "{document}");
    assert!(!document.contains("PRIVATE"));

    fs::set_permissions(here.join("ca"), Permissions::from_mode(0o755)).unwrap();
    let (code, err) = refused(here, "ca show --ca ca");
    assert_eq!(code, 1);
    assert!(err.contains("chmod go="), "{err}");
}
