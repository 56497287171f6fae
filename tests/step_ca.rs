//! The step-ca issuer against a real step-ca (0.19, from Debian's library).

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use phoenix_core::ground::{Deadline, SecretBytes};
use phoenix_core::pki::{
    CertificateRequest, IssueError, Issuer, JweError, KeyType, Profile, RenewalRule, StepCa,
    StepCaError, StepCaSettings, SubjectAltName, renewal_reasons,
};
use phoenix_lab::harness::{self, Run};
use phoenix_lab::place::Places;
use phoenix_lab::step_ca::{BOTH, CLIENT, JwkKind, SERVER, StepCaOptions, StepCaServer};
use serde_json::json;
use time::OffsetDateTime;

const HOUR: Duration = Duration::from_secs(3600);

async fn server(options: StepCaOptions) -> StepCaServer {
    let places = Places::of_this_user().expect("places");
    StepCaServer::start(&places, &options)
        .await
        .expect("step-ca")
}

/// Settings by which each profile is signed by the provisioner that is made for it.
fn settings(server: &StepCaServer) -> StepCaSettings {
    let provisioners = BTreeMap::from([
        (Profile::Client, CLIENT.to_owned()),
        (Profile::Server, SERVER.to_owned()),
        (Profile::Peer, BOTH.to_owned()),
    ]);
    StepCaSettings::new(
        server.url("127.0.0.1").parse().expect("url"),
        server.fingerprint(),
        provisioners,
        SecretBytes::from("correct horse\r\n".to_owned()),
    )
}

fn request_of(
    profile: Profile,
    sans: &[&str],
    lifetime: Duration,
    key: KeyType,
) -> CertificateRequest {
    let sans: Vec<SubjectAltName> = sans.iter().map(|san| san.parse().expect("name")).collect();
    CertificateRequest::new("app", profile, sans, lifetime, key).expect("request")
}

fn request(profile: Profile) -> CertificateRequest {
    request_of(profile, &["app.lan"], HOUR, KeyType::EcdsaP256)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// Why step-ca issued nothing.
fn step_ca(error: IssueError) -> StepCaError {
    match error {
        IssueError::StepCa(error) => error,
        other => panic!("not of step-ca: {other:?}"),
    }
}

async fn refused(ca: &StepCa, request: &CertificateRequest) -> StepCaError {
    step_ca(ca.issue(request, soon()).await.expect_err("refused"))
}

#[tokio::test]
async fn every_profile_and_key_gets_exactly_the_names_it_asked_for() {
    let server = server(StepCaOptions::default()).await;
    let mut strict = settings(&server);
    strict.strict = true;
    let ca = StepCa::new(strict);
    let names = [
        "app.lan",
        "*.app.lan",
        "10.0.0.1",
        "fd00::1",
        "ops@app.lan",
        "spiffe://site/app",
        "bücher.lan",
    ];
    for profile in Profile::ALL {
        for key in KeyType::ALL {
            if key == KeyType::Rsa4096 && profile != Profile::Client {
                continue;
            }
            let wanted = request_of(profile, &names, HOUR, key);
            let bundle = ca.issue(&wanted, soon()).await.expect("issued");
            assert_eq!(bundle.root().fingerprint, server.fingerprint());
            assert_eq!(bundle.intermediates().count(), 1);
            // What was issued is what the next plan asks for: nothing is due.
            let reasons = renewal_reasons(
                Ok(Some(&bundle)),
                &wanted,
                RenewalRule::TwoThirds,
                ca.identity(),
                OffsetDateTime::now_utc(),
            );
            assert_eq!(reasons, [], "{profile} {key}");
        }
    }
}

#[tokio::test]
async fn provisioners_sign_with_every_kind_of_key_that_step_makes() {
    let options = StepCaOptions {
        keys: JwkKind::ALL.to_vec(),
        ..StepCaOptions::default()
    };
    let server = server(options).await;
    for kind in JwkKind::ALL {
        let mut settings = settings(&server);
        settings
            .provisioners
            .insert(Profile::Peer, kind.provisioner());
        let (ca, wanted) = (StepCa::new(settings), request(Profile::Peer));
        let issued = ca.issue(&wanted, soon()).await;
        issued.unwrap_or_else(|error| panic!("{kind:?}: {error}: {}", server.log()));
    }
}

#[tokio::test]
async fn a_wider_certificate_is_accepted_unless_strict() {
    let server = server(StepCaOptions::default()).await;
    let mut settings = settings(&server);
    settings
        .provisioners
        .insert(Profile::Client, BOTH.to_owned());
    let bundle = StepCa::new(settings.clone())
        .issue(&request(Profile::Client), soon())
        .await
        .expect("accepted");
    assert_eq!(bundle.wider_than(Profile::Client), Some(Profile::Peer));
    settings.strict = true;
    let error = refused(&StepCa::new(settings), &request(Profile::Client)).await;
    assert!(
        matches!(
            error,
            StepCaError::Purpose {
                got: Some(Profile::Peer),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_password_fingerprint_or_provisioner_is_told() {
    let server = server(StepCaOptions::default()).await;
    let mut wrong = settings(&server);
    wrong.password = SecretBytes::from("wrong".to_owned());
    match refused(&StepCa::new(wrong), &request(Profile::Client)).await {
        StepCaError::Key { name, source } => {
            assert_eq!((name.as_str(), source), (CLIENT, JweError::WrongPassword));
        }
        other => panic!("{other}"),
    }
    let mut wrong = settings(&server);
    wrong.fingerprint[0] ^= 1;
    let ca = StepCa::new(wrong);
    let error = refused(&ca, &request(Profile::Client)).await;
    assert!(matches!(error, StepCaError::NoSuchRoot { .. }), "{error}");
    assert!(
        !ca.probe(soon())
            .await
            .expect_err("no root")
            .is_unreachable()
    );
    let mut wrong = settings(&server);
    wrong
        .provisioners
        .insert(Profile::Client, "nobody".to_owned());
    let error = StepCa::new(wrong).probe(soon()).await.expect_err("unknown");
    match error {
        StepCaError::UnknownProvisioner { present, .. } => {
            assert_eq!(present, [BOTH, CLIENT, SERVER])
        }
        other => panic!("{other}"),
    }
    StepCa::new(settings(&server))
        .probe(soon())
        .await
        .expect("all there");
}

#[tokio::test]
async fn a_host_that_is_none_of_the_dns_names_is_explained() {
    let options = StepCaOptions {
        dns_names: vec!["ca.lan".to_owned()],
        ..StepCaOptions::default()
    };
    let server = server(options).await;
    let error = refused(&StepCa::new(settings(&server)), &request(Profile::Client)).await;
    assert!(matches!(error, StepCaError::Untrusted { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("`127.0.0.1`") && text.contains("dnsNames"),
        "{text}"
    );
    let cause = error.source().expect("a cause").to_string();
    assert!(cause.contains("ca.lan"), "{cause}");
}

#[tokio::test]
async fn a_bare_401_is_explained_by_the_skew_of_the_clocks() {
    let server = server(StepCaOptions::default()).await;
    for (seconds, word) in [(-90, "behind"), (90, "ahead of")] {
        let mut skewed = settings(&server);
        skewed.clock =
            Arc::new(move || OffsetDateTime::now_utc() + time::Duration::seconds(seconds));
        let error = refused(&StepCa::new(skewed), &request(Profile::Client)).await;
        let StepCaError::Unauthorized(found) = &error else {
            panic!("{error:?}");
        };
        let skew = found.skew_seconds.expect("the server says what time it is");
        assert!((skew - seconds).abs() <= 3, "{skew}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn lifetimes_are_met_before_a_request_is_sent() {
    let server = server(StepCaOptions::default()).await;
    let day_and_more = request_of(Profile::Client, &["a.lan"], 25 * HOUR, KeyType::EcdsaP256);
    let error = refused(&StepCa::new(settings(&server)), &day_and_more).await;
    assert!(matches!(error, StepCaError::TooLong { .. }), "{error}");
    let short = request_of(
        Profile::Client,
        &["a.lan"],
        Duration::from_secs(60),
        KeyType::EcdsaP256,
    );
    let error = refused(&StepCa::new(settings(&server)), &short).await;
    assert!(matches!(error, StepCaError::TooShort { .. }), "{error}");
    let sent = server.requests();
    assert!(
        sent.iter()
            .any(|(path, _)| path.starts_with("/1.0/provisioners"))
    );
    assert!(
        !sent.iter().any(|(path, _)| path == "/1.0/sign"),
        "{sent:?}"
    );

    let mut optimistic = settings(&server);
    optimistic.max_lifetime = 48 * HOUR;
    match refused(&StepCa::new(optimistic), &day_and_more).await {
        StepCaError::Refused {
            status: 403,
            message,
            ..
        } => {
            assert!(message.contains("duration"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    // All of the day is granted, whatever the server adds before it.
    let day = request_of(Profile::Client, &["a.lan"], 24 * HOUR, KeyType::EcdsaP256);
    StepCa::new(settings(&server))
        .issue(&day, soon())
        .await
        .expect("granted");
}

#[tokio::test]
async fn a_ca_that_is_down_is_unreachable() {
    let mut server = server(StepCaOptions::default()).await;
    let ca = StepCa::new(settings(&server));
    server.stop().await.expect("stopped");
    let error = ca.probe(soon()).await.expect_err("down");
    assert!(error.is_unreachable(), "{error}");
    let error = refused(&ca, &request(Profile::Client)).await;
    assert!(
        error.is_unreachable() && error.to_string().contains(&server.url("127.0.0.1")),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_from_before_the_cas_start_is_replaced_by_a_fresh_one() {
    let mut server = server(StepCaOptions::default()).await;
    let mut settings = settings(&server);
    let stale = Arc::new(AtomicBool::new(false));
    let once = Arc::clone(&stale);
    // The next token is as old as one that was made before the restart.
    settings.clock = Arc::new(move || {
        let age = if once.swap(false, Ordering::SeqCst) {
            20
        } else {
            0
        };
        OffsetDateTime::now_utc() - time::Duration::seconds(age)
    });
    let ca = StepCa::new(settings);
    ca.issue(&request(Profile::Client), soon())
        .await
        .expect("issued");
    server.stop().await.expect("stopped");
    server.resume().await.expect("started");
    stale.store(true, Ordering::SeqCst);
    ca.issue(&request(Profile::Client), soon())
        .await
        .expect("issued by a fresh token");
    assert!(!stale.load(Ordering::SeqCst), "the stale token was used");
    let statuses: Vec<u64> = server
        .requests()
        .into_iter()
        .filter_map(|(path, status)| (path == "/1.0/sign").then_some(status))
        .collect();
    assert_eq!(statuses, [201, 401, 201]);
}

#[tokio::test]
async fn a_restart_meanwhile_is_waited_for() {
    let mut server = server(StepCaOptions::default()).await;
    let ca = StepCa::new(settings(&server));
    ca.issue(&request(Profile::Client), soon())
        .await
        .expect("issued");
    server.stop().await.expect("stopped");
    let wanted = request(Profile::Client);
    let (issued, resumed) = tokio::join!(ca.issue(&wanted, soon()), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.resume().await
    });
    resumed.expect("started");
    issued.expect("issued");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_get_twenty_certificates() {
    let server = server(StepCaOptions::default()).await;
    let ca = StepCa::new(settings(&server));
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let ca = ca.clone();
            tokio::spawn(async move {
                let name = format!("n{number}.lan");
                let wanted = request_of(Profile::Client, &[&name], HOUR, KeyType::EcdsaP256);
                ca.issue(&wanted, soon())
                    .await
                    .expect("issued")
                    .leaf()
                    .serial
                    .clone()
            })
        })
        .collect();
    let mut serials = std::collections::BTreeSet::new();
    for task in tasks {
        serials.insert(task.await.expect("task"));
    }
    assert_eq!(serials.len(), 20);
}

#[tokio::test]
async fn clients_renew_by_themselves_and_the_others_by_token() {
    let options = StepCaOptions {
        provisioner_claims: json!({"minTLSCertDuration": "1s"}),
        ..StepCaOptions::default()
    };
    let server = server(options).await;
    let ca = StepCa::new(settings(&server));
    let count = |path: &str| {
        let sent = server.requests();
        sent.iter().filter(|(at, _)| at == path).count()
    };
    let (mut signs, mut rekeys) = (0, 0);
    for (profile, lifetime, by_itself) in [
        (Profile::Client, HOUR, true),
        (Profile::Peer, HOUR, true),
        (Profile::Server, HOUR, false),
        (Profile::Client, Duration::from_secs(2), false),
    ] {
        let wanted = request_of(profile, &["app.lan"], lifetime, KeyType::EcdsaP256);
        let first = ca.issue(&wanted, soon()).await.expect("issued");
        if lifetime < HOUR {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let second = ca.renew(&wanted, &first, soon()).await.expect("renewed");
        assert_ne!(first.leaf().serial, second.leaf().serial);
        assert_ne!(
            first.key_pem().expose(),
            second.key_pem().expose(),
            "a fresh key"
        );
        second
            .check(profile, wanted.sans(), OffsetDateTime::now_utc())
            .expect("fit");
        signs += if by_itself { 1 } else { 2 };
        rekeys += usize::from(by_itself);
        assert_eq!(
            (count("/1.0/sign"), count("/1.0/rekey")),
            (signs, rekeys),
            "{profile}: {}",
            server.log()
        );
    }
}

#[tokio::test]
async fn what_step_ca_would_name_by_itself_is_refused() {
    let server = server(StepCaOptions::default()).await;
    let ca = StepCa::new(settings(&server));
    let nameless = CertificateRequest::new(
        "",
        Profile::Client,
        vec!["a.lan".parse().expect("name")],
        HOUR,
        KeyType::EcdsaP256,
    )
    .expect("request");
    let error = refused(&ca, &nameless).await;
    assert!(matches!(error, StepCaError::Nameless { .. }), "{error}");
    let bare = request_of(Profile::Client, &[], HOUR, KeyType::EcdsaP256);
    let error = refused(&ca, &bare).await;
    assert!(matches!(error, StepCaError::Nameless { .. }), "{error}");
}

/// The program, run on the site in `folder`.
async fn phoenix(folder: &Path, arguments: &[&str]) -> Run {
    let mut command = tokio::process::Command::new(harness::program());
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("PHOENIX_CONFIG")
        .env_remove("PHOENIX_LOG")
        .kill_on_drop(true);
    Run::of(&mut command).await
}

#[tokio::test]
async fn a_site_issues_from_it_changes_nothing_again_and_lives_on_while_it_is_down() {
    let mut server = server(StepCaOptions::default()).await;
    let folder = tempfile::tempdir().expect("folder");
    let password = folder.path().join("password");
    std::fs::write(&password, "correct horse\n").expect("written");
    let site = |more: &str| {
        format!(
            "site: lab\nca:\n  step_ca:\n    url: {}\n    fingerprint: {}\n    provisioner: {BOTH}\n    \
             password: {{ file: password }}\ncertificates:\n  app: {{ common_name: app, profile: \
             client, sans: [app.lan], lifetime: 12h }}\n{more}",
            server.url("127.0.0.1"),
            hex::encode(server.fingerprint()),
        )
    };
    let (first, more) = (
        site(""),
        site(
            "  other: { common_name: other, profile: client, sans: [other.lan], lifetime: 12h }\n",
        ),
    );
    let file = folder.path().join("phoenix.yaml");
    std::fs::write(&file, first).expect("written");

    phoenix(folder.path(), &["sync", "all"]).await.expect(0);
    let signed = server.requests();
    let signs =
        |sent: &[(String, u64)]| sent.iter().filter(|(path, _)| path == "/1.0/sign").count();
    assert_eq!(signs(&signed), 1, "{signed:?}");

    let again = phoenix(folder.path(), &["--json", "sync", "all"])
        .await
        .expect(0);
    assert_eq!(again.report()["changed"], 0, "{again}");
    assert_eq!(signs(&server.requests()), 1);
    assert!(
        again
            .stdout
            .contains("is good for peer, not for client alone"),
        "{again}"
    );

    server.stop().await.expect("stopped");
    let down = phoenix(folder.path(), &["--json", "sync", "all"])
        .await
        .expect(0);
    assert!(down.stdout.contains("cannot be reached"), "{down}");
    std::fs::write(&file, more).expect("written");
    let failed = phoenix(folder.path(), &["--json", "sync", "all"]).await;
    assert!(failed.code.is_some_and(|code| code != 0), "{failed}");
    assert!(failed.stdout.contains("cannot be issued"), "{failed}");
    for run in [again, down, failed] {
        assert!(!run.stdout.contains("correct horse") && !run.stderr.contains("correct horse"));
    }
}
