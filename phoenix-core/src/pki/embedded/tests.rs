use std::fs;
use std::os::unix::fs::PermissionsExt;

use time::macros::datetime;

use super::create::generate;
use super::*;
use crate::ground::mortal::with_steps;
use crate::ground::write_atomic;
use crate::pki::key::KeyError;
use crate::pki::key::PrivateKey;
use crate::pki::request::RequestError;
use crate::pki::template::ca_params;
use crate::pki::{Profile, RenewalReason, RenewalRule, renewal_reasons};

const INTERMEDIATE: &str = "intermediates/0001/certificate.pem";
const INTERMEDIATE_KEY: &str = "intermediates/0001/key.pem";

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00:00.75 UTC);
const DAY: Duration = Duration::from_secs(86_400);

fn parameters() -> CaParameters {
    CaParameters::new("Phoenix Test", 3650 * DAY, 1825 * DAY, KeyType::EcdsaP256).expect("valid")
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("directory");
    let directory = parent.path().join("state").join("ca");
    (parent, directory)
}

fn create_ca(directory: &Path) -> EmbeddedCa {
    let (ca, created) =
        EmbeddedCa::open_or_create_at(directory, &parameters(), NOW).expect("created");
    assert!(created);
    ca
}

fn observed(directory: &Path) -> Result<Option<EmbeddedCa>, CaError> {
    EmbeddedCa::observe_at(directory, NOW)
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .expect("list")
        .map(|entry| {
            let name = entry.expect("entry").file_name();
            name.to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("stat").permissions().mode() & 0o7777
}

fn request(profile: Profile, sans: &[&str], lifetime: Duration) -> CertificateRequest {
    let sans = sans.iter().map(|san| san.parse().expect("name")).collect();
    CertificateRequest::new("a.lan", profile, sans, lifetime, KeyType::EcdsaP256).expect("valid")
}

#[test]
fn a_ca_is_made_once_and_then_found() {
    let (_parent, directory) = place();
    assert!(observed(&directory).expect("nothing there").is_none());
    let ca = create_ca(&directory);
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(names(&directory), ["intermediates", ROOT_KEY, ROOT]);
    assert_eq!(
        names(&directory.join("intermediates/0001")),
        ["certificate.pem", "key.pem"]
    );
    for folder in ["intermediates", "intermediates/0001"] {
        assert_eq!(mode(&directory.join(folder)), 0o700);
    }
    assert_eq!(names(directory.parent().expect("parent")), ["ca"]);
    for key in [ROOT_KEY, INTERMEDIATE_KEY] {
        assert_eq!(mode(&directory.join(key)), 0o600);
    }
    let (again, created) =
        EmbeddedCa::open_or_create_at(&directory, &parameters(), NOW).expect("opened");
    assert!(!created);
    assert_eq!(again.identity(), ca.identity());
    let found = observed(&directory).expect("observed").expect("there");
    assert_eq!(found.identity(), ca.identity());
    assert_eq!(
        found.root_pem(),
        fs::read_to_string(directory.join(ROOT)).expect("root.pem")
    );
    assert_eq!(
        found.intermediate_pem(),
        fs::read_to_string(directory.join(INTERMEDIATE)).expect("certificate.pem")
    );
}

#[test]
fn the_certificates_of_a_ca_say_what_they_must() {
    let (_parent, directory) = place();
    let ca = create_ca(&directory);
    assert_eq!(ca.root().common_name.as_deref(), Some("Phoenix Test"));
    assert_eq!(
        ca.intermediate().common_name.as_deref(),
        Some("Phoenix Test Intermediate")
    );
    assert_eq!(ca.root().not_before, datetime!(2026-03-01 11:55 UTC));
    assert_eq!(
        ca.root().not_after,
        datetime!(2026-03-01 12:00 UTC) + 3650 * DAY
    );
    assert_eq!(
        ca.latest_not_after(),
        Some(datetime!(2026-03-01 12:00 UTC) + 1825 * DAY)
    );
    for (der, path_length) in [(&ca.inner.root_der, None), (&ca.inner.current.der, Some(0))] {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).expect("parses");
        let constraints = certificate
            .basic_constraints()
            .expect("parses")
            .expect("there");
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, path_length);
        let usage = certificate.key_usage().expect("parses").expect("there");
        assert!(usage.critical);
        // Bits 5 and 6: keyCertSign and cRLSign.
        assert_eq!(usage.value.flags, 0b110_0000);
        assert!(certificate.extended_key_usage().expect("parses").is_none());
        assert_eq!(certificate.raw_serial().len(), 16);
    }
    assert_ne!(ca.root().serial, ca.intermediate().serial);
    assert!(ca.intermediate().names_issuer(ca.root()));
}

#[test]
fn parameters_have_limits() {
    let new = |name: &str, root, intermediate| {
        CaParameters::new(name, root, intermediate, KeyType::default())
    };
    new(&"a".repeat(51), DAY, DAY).expect("51 characters fit");
    assert!(matches!(
        new(&"a".repeat(52), DAY, DAY),
        Err(CaError::Parameters(RequestError::CommonNameTooLong {
            limit: 51,
            ..
        }))
    ));
    assert!(matches!(new("", DAY, DAY), Err(CaError::Parameters(_))));
    assert!(matches!(
        new("a", Duration::ZERO, DAY),
        Err(CaError::Parameters(RequestError::Lifetime { .. }))
    ));
    assert!(matches!(
        new("a", DAY, 2 * DAY),
        Err(CaError::IntermediateOutlivesRoot { .. })
    ));
}

/// Does `work` again and again, each time in a fresh place and dying one step later, until it
/// lives; `check` sees what each left.
fn at_every_step<T>(
    prepare: impl Fn(&Path),
    work: impl Fn(&Path) -> Result<T, CaError>,
    check: impl Fn(&Path, Result<T, CaError>),
) -> u32 {
    for steps in 0..200 {
        let (_parent, directory) = place();
        prepare(&directory);
        let (result, died) = with_steps(steps, || work(&directory));
        assert_eq!(died, result.is_err(), "after {steps} steps");
        check(&directory, result);
        if !died {
            return steps;
        }
    }
    panic!("it never ends");
}

#[test]
fn killed_at_any_step_a_creation_leaves_a_whole_ca_or_none_and_the_next_ends_with_one() {
    let steps = at_every_step(
        |directory| {
            // Of another CA beside it, which may well be being made.
            let other = directory.with_file_name(".cab.0123456789abcdef.creating");
            fs::create_dir_all(other).expect("other");
        },
        |directory| EmbeddedCa::open_or_create_at(directory, &parameters(), NOW),
        |directory, _| {
            let left = observed(directory).expect("whole or not there");
            let (ca, created) =
                EmbeddedCa::open_or_create_at(directory, &parameters(), NOW).expect("a CA");
            assert_eq!(created, left.is_none());
            if let Some(left) = left {
                assert_eq!(left.identity(), ca.identity());
            } else {
                assert_eq!(
                    names(directory.parent().expect("parent")),
                    [".cab.0123456789abcdef.creating", "ca"]
                );
            }
        },
    );
    // Four files of four steps each, and more around them.
    assert!(steps > 16, "{steps}");
}

#[test]
fn what_a_torn_write_left_is_cleared() {
    let content = generate(&parameters(), NOW).expect("content");
    for files in 0..=content.len() {
        let (_parent, directory) = place();
        let parent = directory.parent().expect("parent");
        let left = parent.join(".ca.0123456789abcdef.creating");
        fs::create_dir_all(left.join("intermediates/0001")).expect("left");
        for (name, content, mode) in &content[..files] {
            write_atomic(&left.join(name), content.expose(), *mode).expect("written");
        }
        fs::write(left.join("root-key.pem.00.tmp"), "-----BEG").expect("torn");
        assert!(observed(&directory).expect("observed").is_none());
        create_ca(&directory);
        assert_eq!(names(parent), ["ca"]);
    }
}

/// Turns the CA in `directory` into one as they were made before there could be several
/// intermediates.
fn make_old(directory: &Path) {
    for (from, to) in [
        (INTERMEDIATE, "intermediate.pem"),
        (INTERMEDIATE_KEY, "intermediate-key.pem"),
    ] {
        fs::rename(directory.join(from), directory.join(to)).expect("moved");
    }
    fs::remove_dir_all(directory.join("intermediates")).expect("removed");
}

fn numbers(ca: &EmbeddedCa) -> Vec<u32> {
    ca.intermediates().map(Intermediate::number).collect()
}

#[test]
fn a_ca_of_the_first_layout_goes_on() {
    let (_parent, directory) = place();
    let ca = create_ca(&directory);
    make_old(&directory);
    let (old, created) =
        EmbeddedCa::open_or_create_at(&directory, &parameters(), NOW).expect("opened");
    assert!(!created);
    assert_eq!(old.identity(), ca.identity());
    assert_eq!(numbers(&old), [0]);
    let bundle = old
        .issue_at(&request(Profile::Server, &["a.lan"], DAY), NOW)
        .expect("issued");
    assert!(ca.identity().issued(&bundle));
    let rotated = EmbeddedCa::rotate_at(&directory, None, None, NOW).expect("rotated");
    assert_eq!(numbers(&rotated), [0, 1]);
    assert_eq!(rotated.root(), ca.root());
    assert_ne!(rotated.identity(), ca.identity());
    for name in ["intermediate.pem", "intermediate-key.pem"] {
        fs::rename(directory.join(name), directory.join("away")).expect("moved");
        let result = observed(&directory);
        fs::rename(directory.join("away"), directory.join(name)).expect("back");
        // The key of an earlier one signs nothing that is needed.
        assert_eq!(result.is_ok(), name == "intermediate-key.pem");
    }
}

#[test]
fn what_an_earlier_intermediate_signed_stays_valid_and_is_renewed() {
    let (_parent, directory) = place();
    let ca = create_ca(&directory);
    let request = request(Profile::Peer, &["a.lan"], DAY);
    let bundle = ca.issue_at(&request, NOW).expect("issued");
    let rotated = EmbeddedCa::rotate_at(&directory, None, None, NOW).expect("rotated");
    assert_eq!(numbers(&rotated), [1, 2]);
    assert_eq!(rotated.root(), ca.root());
    assert_eq!(
        rotated.intermediate().not_after,
        ca.intermediate().not_after
    );
    assert_eq!(
        rotated.intermediate().common_name.as_deref(),
        Some("Phoenix Test Intermediate 2")
    );
    assert_eq!(rotated.intermediate().path_length, Some(0));
    assert_eq!(
        rotated.intermediates().next().expect("first").certificate(),
        ca.intermediate()
    );
    bundle
        .check(Profile::Peer, request.sans(), NOW)
        .expect("still good");
    let reasons = |bundle: &Bundle| {
        renewal_reasons(
            Ok(Some(bundle)),
            &request,
            RenewalRule::TwoThirds,
            rotated.identity(),
            NOW,
        )
    };
    assert!(matches!(
        reasons(&bundle)[..],
        [RenewalReason::IssuerChanged { .. }]
    ));
    let renewed = rotated.issue_at(&request, NOW).expect("issued");
    assert_eq!(reasons(&renewed), []);
    // The earlier one's key is still there for revocations.
    let first = rotated.intermediates().next().expect("first");
    first.signer().expect("its key");
}

#[test]
fn killed_at_any_step_a_rotation_leaves_the_old_intermediate_or_a_whole_new_one() {
    for old in [false, true] {
        let steps = at_every_step(
            |directory| {
                create_ca(directory);
                if old {
                    make_old(directory);
                }
            },
            |directory| EmbeddedCa::rotate_at(directory, None, None, NOW),
            |directory, result| {
                let before = u32::from(!old);
                let left = observed(directory).expect("usable").expect("there");
                let now = numbers(&left);
                if result.is_ok() {
                    assert_eq!(now, [before, before + 1]);
                } else {
                    assert!(now == [before] || now == [before, before + 1], "{now:?}");
                }
                left.issue_at(&request(Profile::Server, &["a.lan"], DAY), NOW)
                    .expect("issued");
                let next = EmbeddedCa::rotate_at(directory, None, None, NOW).expect("rotated");
                assert_eq!(numbers(&next).len(), now.len() + 1);
                let made: Vec<_> = numbers(&next)
                    .into_iter()
                    .filter(|number| *number > 0)
                    .map(|number| format!("{number:04}"))
                    .collect();
                assert_eq!(names(&directory.join("intermediates")), made);
            },
        );
        assert!(steps > 8, "{steps}");
    }
}

#[test]
fn a_rotation_needs_the_roots_key_and_time_below_the_root() {
    let (_parent, directory) = place();
    let ca = create_ca(&directory);
    let rotate = |lifetime, now| EmbeddedCa::rotate_at(&directory, lifetime, None, now);
    let end = ca.intermediate().not_after;
    assert!(matches!(
        rotate(Some(3651 * DAY), NOW),
        Err(CaError::IntermediateOutlivesRoot { .. })
    ));
    assert!(matches!(
        rotate(None, ca.root().not_after + DAY),
        Err(CaError::Expired { path, .. }) if path.ends_with(ROOT)
    ));
    // After the intermediate has expired, and with less left below the root than it had.
    let late = end + 100 * DAY;
    let error = EmbeddedCa::observe_at(&directory, late).expect_err("expired");
    assert!(error.to_string().contains("phoenix ca rotate"), "{error}");
    let rotated = rotate(None, late).expect("rotated");
    assert_eq!(rotated.intermediate().not_after, ca.root().not_after);
    let short = rotate(Some(DAY), late).expect("rotated");
    assert_eq!(
        short.intermediate().not_after,
        datetime!(2026-03-01 12:00 UTC) + 1925 * DAY + DAY
    );
    assert_eq!(numbers(&short), [1, 2, 3]);

    fs::remove_file(directory.join(ROOT_KEY)).expect("taken away");
    let offline = EmbeddedCa::observe_at(&directory, late)
        .expect("usable")
        .expect("there");
    assert!(!offline.has_root_key());
    offline
        .issue_at(&request(Profile::Server, &["a.lan"], DAY / 2), late)
        .expect("issued");
    assert!(matches!(
        rotate(None, late),
        Err(CaError::NoRootKey { path }) if path.ends_with(ROOT_KEY)
    ));
    assert_eq!(numbers(&offline), [1, 2, 3]);
}

#[test]
fn an_intermediate_that_lacks_a_file_is_refused_and_other_names_are_passed_over() {
    let (_parent, directory) = place();
    create_ca(&directory);
    let folder = directory.join("intermediates");
    for name in ["2", "00002", "0000", "+002", ".0002.ab.creating", "notes"] {
        fs::create_dir(folder.join(name)).expect("made");
    }
    let ca = observed(&directory).expect("usable").expect("there");
    assert_eq!(numbers(&ca), [1]);
    fs::create_dir(folder.join("0002")).expect("made");
    let error = observed(&directory).expect_err("damaged");
    assert!(
        matches!(&error, CaError::Incomplete { missing, .. }
            if missing[..] == ["intermediates/0002/certificate.pem", "intermediates/0002/key.pem"]),
        "{error}"
    );
}

#[test]
fn an_empty_directory_is_filled_and_one_with_other_things_refused() {
    let (_parent, directory) = place();
    fs::create_dir_all(&directory).expect("directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("chmod");
    assert!(observed(&directory).expect("empty").is_none());
    create_ca(&directory);
    assert_eq!(mode(&directory), 0o700);

    let (_parent, directory) = place();
    fs::create_dir_all(&directory).expect("directory");
    fs::write(directory.join("notes.txt"), "").expect("file");
    for result in [
        observed(&directory).map(|_| ()),
        EmbeddedCa::open_or_create_at(&directory, &parameters(), NOW).map(|_| ()),
    ] {
        assert!(matches!(
            result,
            Err(CaError::Foreign { found, .. }) if found == "notes.txt"
        ));
    }

    let (_parent, directory) = place();
    fs::create_dir_all(directory.parent().expect("parent")).expect("parent");
    fs::write(&directory, "").expect("file");
    assert!(matches!(
        observed(&directory),
        Err(CaError::NotADirectory { .. })
    ));
}

#[test]
fn the_faster_of_two_creators_wins() {
    let (_parent, directory) = place();
    let first = create_ca(&directory);
    assert!(!create(&directory, &parameters(), NOW).expect("lost"));
    assert_eq!(names(directory.parent().expect("parent")), ["ca"]);
    let found = observed(&directory).expect("observed").expect("there");
    assert_eq!(found.identity(), first.identity());
}

#[test]
fn a_damaged_ca_is_refused_and_left_as_it_is() {
    for name in [ROOT, INTERMEDIATE, INTERMEDIATE_KEY] {
        let (_parent, directory) = place();
        create_ca(&directory);
        fs::remove_file(directory.join(name)).expect("removed");
        for result in [
            observed(&directory).map(|_| ()),
            EmbeddedCa::open_or_create_at(&directory, &parameters(), NOW).map(|_| ()),
        ] {
            assert!(matches!(
                result,
                Err(CaError::Incomplete { missing, .. }) if missing == [name]
            ));
        }
        assert!(!directory.join(name).exists());

        let (_parent, directory) = place();
        create_ca(&directory);
        let path = directory.join(name);
        // Written in place, so that the mode stays.
        fs::write(&path, "garbage").expect("overwritten");
        let error = observed(&directory).expect_err("refused");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn exposed_keys_are_refused() {
    for (name, exposed) in [("", 0o750), (ROOT_KEY, 0o640), (INTERMEDIATE_KEY, 0o604)] {
        let (_parent, directory) = place();
        create_ca(&directory);
        let path = directory.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).expect("chmod");
        let error = observed(&directory).expect_err("refused");
        assert!(
            matches!(error, CaError::Exposed { mode, .. } if mode == exposed),
            "{error}"
        );
        assert!(error.to_string().contains("chmod go="));
    }
}

#[test]
fn files_of_two_cas_do_not_mix() {
    let (_parent, directory) = place();
    create_ca(&directory);
    let (_other_parent, other) = place();
    create_ca(&other);
    for (name, expected) in [
        (ROOT_KEY, "root-key.pem is not the key of root.pem"),
        (
            INTERMEDIATE_KEY,
            "intermediates/0001/key.pem is not the key of intermediates/0001/certificate.pem",
        ),
        (INTERMEDIATE, "certificate.pem is not signed by root.pem"),
        (ROOT, "root-key.pem is not the key of root.pem"),
    ] {
        let path = directory.join(name);
        let own = fs::read(&path).expect("read");
        fs::copy(other.join(name), &path).expect("mixed");
        let error = observed(&directory).expect_err("refused");
        assert!(error.to_string().ends_with(expected), "{error}");
        fs::write(&path, own).expect("restored");
        assert!(observed(&directory).expect("usable").is_some());
    }
}

#[test]
fn a_leaf_is_no_intermediate() {
    let (_parent, directory) = place();
    let ca = create_ca(&directory);
    let bundle = ca
        .issue_at(&request(Profile::Server, &["a.lan"], DAY), NOW)
        .expect("issued");
    fs::write(directory.join(INTERMEDIATE), bundle.certificate_pem()).expect("written");
    fs::write(directory.join(INTERMEDIATE_KEY), bundle.key_pem().expose()).expect("written");
    let error = observed(&directory).expect_err("refused");
    assert!(
        error.to_string().ends_with("is no CA's certificate"),
        "{error}"
    );
    fs::write(directory.join(INTERMEDIATE), bundle.chain_pem()).expect("written");
    let error = observed(&directory).expect_err("refused");
    assert!(error.to_string().contains("more than one"), "{error}");
}

#[test]
fn validity_is_exact_to_the_second() {
    let (_parent, directory) = place();
    let ca = create_ca(&directory);
    let end = ca.intermediate().not_after;
    let begin = ca.intermediate().not_before;
    let second = time::Duration::SECOND;
    for usable in [begin, end] {
        EmbeddedCa::observe_at(&directory, usable).expect("valid");
    }
    assert!(matches!(
        EmbeddedCa::observe_at(&directory, end + second),
        Err(CaError::Expired { path, .. }) if path.ends_with(INTERMEDIATE)
    ));
    let error = EmbeddedCa::observe_at(&directory, begin - second).expect_err("not yet");
    assert!(error.to_string().contains("is the clock right?"), "{error}");
    assert!(matches!(
        EmbeddedCa::observe_at(&directory, ca.root().not_after + second),
        Err(CaError::Expired { path, .. }) if path.ends_with(ROOT)
    ));
}

#[test]
fn a_leaf_never_outlives_its_ca() {
    let (_parent, directory) = place();
    let ca = create_ca(&directory);
    let end = ca.intermediate().not_after;
    let request = request(Profile::Server, &["a.lan"], 90 * DAY);
    let bundle = ca.issue_at(&request, end - 90 * DAY).expect("just fits");
    assert_eq!(bundle.leaf().not_after, end);
    let error = ca
        .issue_at(&request, end - 90 * DAY + time::Duration::SECOND)
        .expect_err("a second too long");
    assert_eq!(
        error.to_string(),
        "a lifetime of 90 days ends on 2031-02-28T12:00:01Z, but the CA's own \
         certificate ends on 2031-02-28T12:00:00Z"
    );
    for now in [end + time::Duration::SECOND, NOW - DAY] {
        assert!(matches!(
            ca.issue_at(&request, now),
            Err(IssueError::CaNotValidNow { .. })
        ));
    }
}

#[test]
fn departures_from_the_parameters_are_told() {
    let (_parent, directory) = place();
    let ca = create_ca(&directory);
    assert_eq!(ca.departures(&parameters()), Vec::<String>::new());
    let other = CaParameters::new("Other", 3650 * DAY, DAY, KeyType::Ed25519).expect("valid");
    assert_eq!(
        ca.departures(&other),
        [
            "common name is `Phoenix Test`, not `Other`",
            "root key is ecdsa-p256, not ed25519",
            "intermediate key is ecdsa-p256, not ed25519",
        ]
    );
}

#[tokio::test]
async fn an_issuer_issues_within_its_deadline() {
    let (_parent, directory) = place();
    let (ca, _) = EmbeddedCa::open_or_create(&directory, &parameters()).expect("created");
    let issuer: &dyn Issuer = &ca;
    let request = request(Profile::Peer, &["a.lan"], DAY);
    let bundle = issuer
        .issue(&request, Deadline::after(Duration::from_secs(60)))
        .await
        .expect("issued");
    assert!(issuer.identity().issued(&bundle));
    assert_eq!(ca.root_pem(), bundle.root_pem());
    let slow = CertificateRequest::new("a", Profile::Client, vec![], DAY, KeyType::Rsa2048);
    let error = issuer
        .issue(&slow.expect("valid"), Deadline::after(Duration::ZERO))
        .await
        .expect_err("no time");
    assert!(matches!(error, IssueError::Elapsed(_)));
}

#[test]
fn debug_shows_no_key() {
    let (_parent, directory) = place();
    let shown = format!("{:?}", create_ca(&directory));
    assert_eq!(
        shown,
        "EmbeddedCa { root: \"CN=Phoenix Test\", intermediate: \"CN=Phoenix Test Intermediate\", \
         .. }"
    );
}

#[test]
fn keys_are_encrypted_at_rest_and_needed_only_to_sign() {
    let (_parent, directory) = place();
    let passphrase = SecretBytes::from("correct horse".to_owned());
    let sealed = parameters().with_passphrase(Some(passphrase.clone()));
    let (ca, created) = EmbeddedCa::open_or_create_at(&directory, &sealed, NOW).expect("created");
    assert!(created);
    assert_eq!(ca.warnings(NOW, DAY), Vec::<String>::new());
    for name in [ROOT_KEY, INTERMEDIATE_KEY] {
        let text = fs::read_to_string(directory.join(name)).expect("read");
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        assert_eq!(mode(&directory.join(name)), 0o600);
    }
    let request = request(Profile::Server, &["a.lan"], DAY);
    ca.issue_at(&request, NOW).expect("issued");

    let locked = observed(&directory).expect("observed").expect("there");
    assert_eq!(locked.identity(), ca.identity());
    let with = |passphrase: &str| {
        EmbeddedCa::observe_with_at(&directory, Some(&passphrase.to_owned().into()), NOW)
            .expect("observed")
            .expect("there")
    };
    for (ca, expected) in [
        (locked, KeyError::PassphraseNeeded.to_string()),
        (with("correct"), KeyError::WrongPassphrase.to_string()),
    ] {
        let Err(IssueError::CaKey(error)) = ca.issue_at(&request, NOW) else {
            panic!("signed");
        };
        assert!(
            matches!(&*error, CaError::Key { source, path }
                if source.to_string() == expected && path.ends_with(INTERMEDIATE_KEY)),
            "{error:?}"
        );
    }
    let before = names(&directory.join("intermediates"));
    for wrong in [None, Some(SecretBytes::from("wrong".to_owned()))] {
        EmbeddedCa::rotate_at(&directory, None, wrong.as_ref(), NOW).expect_err("locked");
        EmbeddedCa::reencrypt(&directory, wrong.as_ref(), None).expect_err("locked");
    }
    assert_eq!(names(&directory.join("intermediates")), before);
    let rotated = EmbeddedCa::rotate_at(&directory, None, Some(&passphrase), NOW).expect("rotated");
    assert_eq!(numbers(&rotated), [1, 2]);
    rotated.issue_at(&request, NOW).expect("issued");
    rotated
        .intermediates()
        .next()
        .expect("first")
        .signer()
        .expect("its key");
}

#[test]
fn keys_in_the_clear_are_warned_of_and_encrypted_by_the_next_rotation() {
    let (_parent, directory) = place();
    create_ca(&directory);
    let passphrase = SecretBytes::from("correct horse".to_owned());
    let ca = EmbeddedCa::observe_with_at(&directory, Some(&passphrase), NOW)
        .expect("observed")
        .expect("there");
    let warnings = ca.warnings(NOW, DAY);
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("root-key.pem and intermediates/0001/key.pem are not encrypted"),
        "{warnings:?}"
    );
    let ca = EmbeddedCa::rotate_at(&directory, None, Some(&passphrase), NOW).expect("rotated");
    assert_eq!(ca.warnings(NOW, DAY), Vec::<String>::new());
    for name in [ROOT_KEY, INTERMEDIATE_KEY, "intermediates/0002/key.pem"] {
        let text = fs::read_to_string(directory.join(name)).expect("read");
        assert!(text.contains("ENCRYPTED"), "{name}");
    }
}

#[test]
fn killed_at_any_step_a_change_of_passphrase_can_be_gone_on_with() {
    let old = SecretBytes::from("old".to_owned());
    for (from, to) in [(None, Some(&old)), (Some(&old), None)] {
        at_every_step(
            |directory| {
                create_ca(directory);
                EmbeddedCa::reencrypt(directory, None, from).expect("prepared");
            },
            |directory| EmbeddedCa::reencrypt(directory, from, to),
            |directory, _| {
                EmbeddedCa::reencrypt(directory, from, to).expect("gone on with");
                EmbeddedCa::rotate_at(directory, None, to, NOW).expect("all keys open");
            },
        );
    }
}

#[test]
fn the_end_of_a_ca_is_told_long_before() {
    let (_parent, directory) = place();
    let ca = create_ca(&directory);
    let end = ca.intermediate().not_after;
    let warnings = |before: Duration, leaf| ca.warnings(end - before, leaf);
    assert_eq!(warnings(200 * DAY, 90 * DAY), Vec::<String>::new());
    let told = warnings(179 * DAY, 90 * DAY);
    assert!(told[0].contains("in 179 days") && told[0].contains("phoenix ca rotate"));
    assert_eq!(told.len(), 1);
    // Earlier for long-lived leaves.
    assert_eq!(warnings(700 * DAY, 365 * DAY).len(), 1);
    let told = ca.warnings(ca.root().not_after - 300 * DAY, DAY);
    assert!(
        told[0].starts_with("the root ends on 2036-02-27, in 300 days"),
        "{told:?}"
    );
}

/// The parts of the CA in `directory`.
fn parts(directory: &Path) -> ImportedCa {
    let read = |name| fs::read(directory.join(name)).expect("read");
    ImportedCa {
        root_pem: read(ROOT),
        root_key: Some(read(ROOT_KEY).into()),
        intermediate_pem: read(INTERMEDIATE),
        intermediate_key: read(INTERMEDIATE_KEY).into(),
        passphrase: None,
    }
}

#[test]
fn a_ca_is_imported_whole_with_its_keys_encrypted_anew() {
    let (_from, source) = place();
    let ca = create_ca(&source);
    let outer = SecretBytes::from("theirs".to_owned());
    EmbeddedCa::reencrypt(&source, None, Some(&outer)).expect("encrypted");
    let (_to, directory) = place();
    let import = |imported: &ImportedCa, passphrase| {
        EmbeddedCa::import_at(&directory, imported, passphrase, NOW)
    };
    let mut given = parts(&source);
    assert!(matches!(
        import(&given, None),
        Err(CaError::Key { source: KeyError::PassphraseNeeded, path })
            if path.ends_with("the given intermediate's key")
    ));
    given.passphrase = Some(outer.clone());
    let inner = SecretBytes::from("ours".to_owned());
    let imported = import(&given, Some(&inner)).expect("imported");
    assert_eq!(imported.identity(), ca.identity());
    assert_eq!(imported.warnings(NOW, DAY), Vec::<String>::new());
    imported
        .issue_at(&request(Profile::Peer, &["a.lan"], DAY), NOW)
        .expect("issued");
    let rotated = EmbeddedCa::rotate_at(&directory, None, Some(&inner), NOW).expect("rotated");
    assert_eq!(numbers(&rotated), [1, 2]);
    assert!(matches!(
        import(&given, Some(&inner)),
        Err(CaError::Occupied { .. })
    ));

    // Without the root's key it signs all the same.
    given.root_key = None;
    let (_to, directory) = place();
    let offline = EmbeddedCa::import_at(&directory, &given, Some(&inner), NOW).expect("imported");
    assert!(!offline.has_root_key());
    offline
        .issue_at(&request(Profile::Peer, &["a.lan"], DAY), NOW)
        .expect("issued");
    EmbeddedCa::rotate_at(&directory, None, Some(&inner), NOW).expect_err("no root's key");
}

#[test]
fn what_does_not_fit_together_is_not_imported() {
    let (_one, one) = place();
    let ca = create_ca(&one);
    let (_two, two) = place();
    create_ca(&two);
    let (good, other) = (parts(&one), parts(&two));
    let leaf = ca
        .issue_at(&request(Profile::Server, &["a.lan"], DAY), NOW)
        .expect("issued");
    let cases: [(ImportedCa, &str); 6] = [
        (
            ImportedCa {
                root_key: other.root_key.clone(),
                ..good.clone()
            },
            "the given root's key is not the key of the given root",
        ),
        (
            ImportedCa {
                intermediate_key: other.intermediate_key.clone(),
                ..good.clone()
            },
            "the given intermediate's key is not the key of the given intermediate",
        ),
        (
            ImportedCa {
                root_pem: other.root_pem.clone(),
                ..good.clone()
            },
            "is not signed by the given root",
        ),
        (
            ImportedCa {
                intermediate_pem: good.root_pem.clone(),
                intermediate_key: good.root_key.clone().expect("key"),
                ..good.clone()
            },
            "is the root",
        ),
        (
            ImportedCa {
                intermediate_pem: leaf.certificate_pem().into(),
                intermediate_key: leaf.key_pem(),
                ..good.clone()
            },
            "is no CA's certificate",
        ),
        (
            ImportedCa {
                root_pem: good.intermediate_pem.clone(),
                ..good.clone()
            },
            "is not signed with its own key",
        ),
    ];
    let (_to, directory) = place();
    for (imported, expected) in cases {
        let error = EmbeddedCa::import_at(&directory, &imported, None, NOW).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!directory.exists());
    }
    for now in [NOW - DAY, ca.intermediate().not_after + DAY] {
        EmbeddedCa::import_at(&directory, &good, None, now).expect_err("not valid then");
        assert!(!directory.exists());
    }
}

#[test]
fn killed_at_any_step_an_import_leaves_a_whole_ca_or_none() {
    let (_from, source) = place();
    let ca = create_ca(&source);
    let given = parts(&source);
    let steps = at_every_step(
        |_| {},
        |directory| EmbeddedCa::import_at(directory, &given, None, NOW),
        |directory, _| {
            let there = match observed(directory).expect("whole or not there") {
                Some(there) => there,
                None => EmbeddedCa::import_at(directory, &given, None, NOW).expect("imported"),
            };
            assert_eq!(there.identity(), ca.identity());
            assert!(there.has_root_key());
        },
    );
    assert!(steps > 16, "{steps}");
}

#[test]
fn a_root_that_allows_no_intermediate_is_not_imported() {
    let params = |name| {
        ca_params(name, rcgen::BasicConstraints::Constrained(0), NOW, 10 * DAY).expect("params")
    };
    let key = || PrivateKey::generate(KeyType::EcdsaP256).expect("key");
    let (root_key, intermediate_key) = (key(), key());
    let root_params = params("Root");
    let root = root_params.self_signed(root_key.pair()).expect("signed");
    let issuer = rcgen::Issuer::from_params(&root_params, root_key.pair());
    let given = ImportedCa {
        root_pem: root.pem().into(),
        root_key: Some(root_key.to_pem()),
        intermediate_pem: params("Intermediate")
            .signed_by(intermediate_key.pair(), &issuer)
            .expect("signed")
            .pem()
            .into(),
        intermediate_key: intermediate_key.to_pem(),
        passphrase: None,
    };
    let (_to, directory) = place();
    let error = EmbeddedCa::import_at(&directory, &given, None, NOW).expect_err("refused");
    assert!(
        error.to_string().contains("allows no intermediate"),
        "{error}"
    );
}
