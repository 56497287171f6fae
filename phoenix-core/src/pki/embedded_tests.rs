use time::macros::datetime;

use super::*;
use crate::pki::Profile;

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
    assert_eq!(
        names(&directory),
        [INTERMEDIATE_KEY, INTERMEDIATE, ROOT_KEY, ROOT]
    );
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
        fs::read_to_string(directory.join(INTERMEDIATE)).expect("intermediate.pem")
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
    for (der, path_length) in [
        (&ca.inner.root_der, None),
        (&ca.inner.intermediate_der, Some(0)),
    ] {
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

#[test]
fn what_a_killed_run_left_is_cleared_and_the_next_one_ends_with_a_ca() {
    let now = OffsetDateTime::now_utc();
    let content = generate(&parameters(), now).expect("content");
    // Killed after any number of files, and in the midst of one.
    for files in 0..=content.len() {
        for torn in [false, true] {
            let (_parent, directory) = place();
            let parent = directory.parent().expect("parent");
            fs::create_dir_all(parent).expect("parent");
            let left = parent.join(".ca.0123456789abcdef.creating");
            fs::create_dir(&left).expect("left");
            for (name, content, mode) in &content[..files] {
                write_atomic(&left.join(name), content.expose(), *mode).expect("written");
            }
            if torn {
                fs::write(left.join("root-key.pem.00.tmp"), "-----BEG").expect("torn");
            }
            // Of another CA beside it, which may well be being made.
            let other = parent.join(".cab.0123456789abcdef.creating");
            fs::create_dir(&other).expect("other");

            assert!(observed(&directory).expect("observed").is_none());
            create_ca(&directory);
            assert_eq!(
                names(parent),
                [".cab.0123456789abcdef.creating".to_owned(), "ca".to_owned()]
            );
        }
    }
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
    for name in FILES {
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
            "intermediate-key.pem is not the key of intermediate.pem",
        ),
        (INTERMEDIATE, "intermediate.pem is not signed by root.pem"),
        (ROOT, "intermediate.pem is not signed by root.pem"),
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
