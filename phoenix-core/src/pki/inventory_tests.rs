use std::collections::BTreeSet;
use std::fs;
use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use aws_lc_rs::rand;
use proptest::prelude::*;
use time::macros::datetime;

use super::*;
use crate::pki::{CaError, CaParameters, EmbeddedCa, IssueError, Issuer};

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);
const DAY: Duration = Duration::from_secs(86_400);

/// The child process of the crash test finds the CA's directory in it.
const CHILD: &str = "PHOENIX_TEST_INVENTORY_CA";

fn issued(number: u64) -> Record {
    Record::Issued(IssuedRecord {
        serial: format!("4a{number:016x}").parse().expect("a serial number"),
        common_name: format!("\"host\" {number}\n"),
        sans: [
            "a.lan",
            "*.b.lan",
            "10.0.0.1",
            "fe80::1",
            "a@b.lan",
            "spiffe://a.lan/x",
        ]
        .iter()
        .map(|name| name.parse().expect("a name"))
        .collect(),
        profile: Profile::Peer,
        key_type: KeyType::Rsa4096,
        not_before: NOW,
        not_after: NOW + DAY,
        issuer_key_id: "00ff".into(),
        fingerprint: "ab".repeat(32),
    })
}

fn all(inventory: &Inventory) -> Vec<Record> {
    let records = inventory.issued.records().expect("readable");
    records
        .chain(inventory.revoked.records().expect("readable"))
        .collect::<Result<_, _>>()
        .expect("readable")
}

fn serials(inventory: &Inventory) -> Vec<Serial> {
    let entries = inventory.entries().expect("readable");
    entries
        .into_iter()
        .map(|entry| entry.issued.serial)
        .collect()
}

fn ca(parent: &Path) -> EmbeddedCa {
    let parameters =
        CaParameters::new("Test", 3650 * DAY, 1825 * DAY, KeyType::default()).expect("valid");
    let (ca, _) = EmbeddedCa::open_or_create(&parent.join("ca"), &parameters).expect("created");
    ca
}

fn request() -> CertificateRequest {
    CertificateRequest::new(
        "a.lan",
        Profile::Client,
        vec!["a.lan".parse().expect("a name")],
        90 * DAY,
        KeyType::EcdsaP256,
    )
    .expect("valid")
}

#[test]
fn what_is_recorded_is_read_back() {
    let directory = tempfile::tempdir().expect("directory");
    let inventory = Inventory::of(directory.path());
    assert_eq!(all(&inventory), []);
    assert!(!directory.path().join(INVENTORY).exists(), "reading wrote");
    let serial: Serial = "4a0000000000000001".parse().expect("a serial number");
    let delivered = |serial: &Serial, place: &str, at| Record::Delivered {
        serial: serial.clone(),
        place: place.into(),
        at,
    };
    let revoked = |at, reason| Record::Revoked {
        serial: serial.clone(),
        reason,
        at,
    };
    let unknown: Serial = "99".parse().expect("a serial number");
    let records = vec![
        issued(1),
        issued(2),
        delivered(&serial, "web:/etc/tls", NOW),
        delivered(&serial, "db:/etc/tls", NOW),
        delivered(&unknown, "db:/etc/tls", NOW),
        delivered(&serial, "web:/etc/tls", NOW + DAY),
        revoked(NOW, RevocationReason::CaCompromise),
        revoked(NOW + DAY, RevocationReason::Superseded),
        Record::Crl {
            issuer_key_id: "00ff".into(),
            number: 7,
            at: NOW,
        },
    ];
    // Those of either file keep their order.
    for record in records[6..].iter().chain(&records[..6]) {
        inventory.append(record).expect("appended");
    }
    assert_eq!(all(&inventory), records);
    let mode = fs::metadata(directory.path().join(INVENTORY)).expect("stat");
    assert_eq!(mode.permissions().mode() & 0o7777, 0o600);

    let entries = inventory.entries().expect("readable");
    assert_eq!(entries.len(), 2);
    assert_eq!(Record::Issued(entries[0].issued.clone()), records[0]);
    let place = |place: &str, at| Placement {
        place: place.into(),
        at,
    };
    assert_eq!(
        entries[0].delivered,
        [place("web:/etc/tls", NOW + DAY), place("db:/etc/tls", NOW)]
    );
    assert_eq!(
        entries[0].revoked,
        Some(Revocation {
            reason: RevocationReason::CaCompromise,
            at: NOW
        })
    );
    assert_eq!(
        (&entries[1].delivered[..], entries[1].revoked),
        (&[][..], None)
    );
    assert_eq!(
        inventory.revoked().expect("readable"),
        BTreeMap::from([(serial, NOW)])
    );
}

#[test]
fn whatever_byte_the_file_ends_at_only_the_unfinished_line_is_lost() {
    let directory = tempfile::tempdir().expect("directory");
    let inventory = Inventory::of(directory.path());
    let file = directory.path().join(INVENTORY);
    for number in 0..4 {
        inventory.append(&issued(number)).expect("appended");
    }
    let whole = fs::read(&file).expect("read");
    let records = all(&inventory);
    for length in 0..=whole.len() {
        fs::write(&file, &whole[..length]).expect("cut");
        let finished = whole[..length]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        assert_eq!(all(&inventory), records[..finished], "cut at {length}");
        inventory.append(&issued(99)).expect("appended");
        let expected = [&records[..finished], &[issued(99)]].concat();
        assert_eq!(all(&inventory), expected, "cut at {length}, then appended");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What a crash leaves behind the last line end may be anything, and longer than a block.
    #[test]
    fn any_unfinished_line_is_passed_over_and_cut_off(
        tail in prop::collection::vec(any::<u8>(), 0..9000),
        records in 0_u64..3,
    ) {
        let tail: Vec<u8> = tail.into_iter().filter(|byte| *byte != b'\n').collect();
        let directory = tempfile::tempdir().expect("directory");
        let inventory = Inventory::of(directory.path());
        let expected: Vec<_> = (0..records).map(issued).collect();
        let mut content: Vec<u8> =
            expected.iter().flat_map(|record| line(record).expect("json")).collect();
        content.extend(&tail);
        fs::write(directory.path().join(INVENTORY), content).expect("written");
        prop_assert_eq!(all(&inventory), expected.clone());
        prop_assert!(inventory.revoked().expect("readable").is_empty());
        inventory.append(&issued(99)).expect("appended");
        prop_assert_eq!(all(&inventory), [&expected[..], &[issued(99)]].concat());
    }

    #[test]
    fn damage_before_the_end_is_an_error_with_its_line(
        damage in "[^\n]{0,200}",
        position in 0_usize..3,
    ) {
        let directory = tempfile::tempdir().expect("directory");
        let inventory = Inventory::of(directory.path());
        let mut lines: Vec<_> =
            (0..3).map(|number| line(&issued(number)).expect("json")).collect();
        lines[position] = format!("{damage}\n").into_bytes();
        fs::write(directory.path().join(INVENTORY), lines.concat()).expect("written");
        let error = inventory.entries().expect_err("damaged");
        prop_assert!(
            matches!(error, InventoryError::Damaged { line, .. } if line == position as u64 + 1),
            "{error}"
        );
    }
}

#[test]
fn threads_that_append_at_once_lose_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    // Two of them, so that the file's lock is needed and not only the turns within one.
    let inventories: Vec<_> = (0..2)
        .map(|_| Arc::new(Inventory::of(directory.path())))
        .collect();
    let threads: Vec<_> = (0..8_u64)
        .map(|thread| {
            let inventory = Arc::clone(&inventories[thread as usize % 2]);
            std::thread::spawn(move || {
                for number in 0..25 {
                    inventory
                        .append(&issued(thread * 100 + number))
                        .expect("appended");
                    inventory.entries().expect("readable meanwhile");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    let mut found = serials(&inventories[0]);
    assert_eq!(found.len(), 200);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 200);
}

#[test]
fn what_cannot_be_recorded_is_not_issued() {
    let parent = tempfile::tempdir().expect("directory");
    let ca = ca(parent.path());
    let directory = parent.path().join("ca");
    fs::create_dir(directory.join(INVENTORY)).expect("in its place");
    let error = ca
        .issue_at(&request(), OffsetDateTime::now_utc())
        .expect_err("refused");
    assert!(matches!(error, IssueError::Unrecorded(_)), "{error:?}");
    fs::remove_dir(directory.join(INVENTORY)).expect("removed");

    fs::write(directory.join(REVOKED), "nonsense\n").expect("written");
    let error = EmbeddedCa::observe(&directory).expect_err("refused");
    assert!(matches!(error, CaError::Inventory(_)), "{error:?}");
}

#[tokio::test]
async fn a_ca_records_what_it_issues_and_where_that_lies() {
    let parent = tempfile::tempdir().expect("directory");
    let ca = ca(parent.path());
    assert_eq!(ca.inventory().expect("none yet"), []);
    let deadline = crate::ground::Deadline::after(Duration::from_secs(60));
    let bundle = ca.issue(&request(), deadline).await.expect("issued");
    ca.delivered(&bundle.leaf().serial, "web:/etc/tls/cert.pem")
        .await
        .expect("recorded");
    ca.delivered("no number", "web").await.expect_err("refused");
    let entries = ca.inventory().expect("readable");
    let [entry] = &entries[..] else {
        panic!("{entries:?}");
    };
    let leaf = bundle.leaf();
    assert_eq!(entry.issued.serial.as_str(), leaf.serial);
    assert_eq!(entry.issued.fingerprint, leaf.fingerprint_hex());
    assert_eq!(entry.issued.not_after, leaf.not_after);
    assert_eq!(entry.issued.profile, Profile::Client);
    assert_eq!(entry.issued.sans, leaf.sans);
    assert_eq!(
        Some(&entry.issued.issuer_key_id),
        ca.intermediate()
            .subject_key_id
            .as_ref()
            .map(hex::encode)
            .as_ref()
    );
    assert_eq!(entry.delivered[0].place, "web:/etc/tls/cert.pem");
}

/// Not a test: the process that [`killed_at_any_moment_nothing_that_was_issued_is_lost`] kills.
#[test]
#[ignore = "issues until it is killed; started by the crash test as a process of its own"]
fn child_that_issues_until_it_is_killed() {
    let directory = std::env::var_os(CHILD).expect("started by the crash test only");
    let ca = EmbeddedCa::observe(Path::new(&directory))
        .expect("a CA after every crash")
        .expect("there");
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let ca = ca.clone();
            std::thread::spawn(move || {
                loop {
                    let bundle = ca
                        .issue_at(&request(), OffsetDateTime::now_utc())
                        .expect("issued");
                    // One write for a line: standard output is line-buffered.
                    if writeln!(io::stdout(), "serial {}", bundle.leaf().serial).is_err() {
                        break;
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
}

#[test]
fn killed_at_any_moment_nothing_that_was_issued_is_lost() {
    let parent = tempfile::tempdir().expect("directory");
    let ca = ca(parent.path());
    let directory = parent.path().join("ca");
    let mut told = BTreeSet::new();
    for round in 0..40 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("pki::inventory::tests::child_that_issues_until_it_is_killed")
            .env(CHILD, &directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut random = [0; 3];
        rand::fill(&mut random).expect("randomness");
        let mut wait_for = u32::from(random[0] % 8);
        let mut line = String::new();
        let mut heard = 0;
        while output.read_line(&mut line).expect("read") > 0 {
            if let Some(serial) = line
                .strip_suffix('\n')
                .and_then(|l| l.strip_prefix("serial "))
            {
                heard += 1;
                assert!(told.insert(serial.parse::<Serial>().expect("a serial number")));
                if wait_for == 0 {
                    // Up to 6.5 ms, which is longer than one issue takes.
                    let pause = u64::from(u16::from_be_bytes([random[1], random[2]])) / 10;
                    std::thread::sleep(Duration::from_micros(pause));
                    child.kill().expect("killed");
                }
                wait_for = wait_for.wrapping_sub(1);
            }
            line.clear();
        }
        child.wait().expect("reaped");
        assert!(heard > 0, "round {round}: the child issued nothing");
        let found: BTreeSet<_> = ca
            .inventory()
            .expect("readable after every crash")
            .into_iter()
            .map(|entry| entry.issued.serial)
            .collect();
        let lost: Vec<_> = told.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}");
    }
    ca.issue_at(&request(), OffsetDateTime::now_utc())
        .expect("the next run issues");
}
