//! Rendering beside the docker CLI: every file of a corpus, and files made at random, deployed by
//! `docker stack deploy` through a recording proxy in front of a real engine. What it sends to
//! create networks, secrets, configs and services is compared, as JSON, with what
//! `phoenix_core::stack` renders; a file that it refuses must be refused.
//!
//! The engine's swarm runs no task: its one node is drained. Each stack is removed again before
//! the next.
//!
//! The CLI is that of the machine, or Debian's, or (where it is older than 26, which reads YAML in
//! other ways) that of the lab's nodes; `PHOENIX_PARITY_DOCKER` names another.
//! `PHOENIX_PARITY_ONLY` keeps the cases with a text in their names, `PHOENIX_PARITY_GENERATED` says
//! how many files are made at random. They are the same in every run; `PHOENIX_PARITY_SEED` makes
//! others of 64 hexadecimal digits, or of `random`, which says what it took.
//!
//! CLIs before 28 read YAML 1.1 and know fewer keys: cases that need a later one say `since`, and
//! files made at random have nothing then that such a CLI lacks or reads in another way
//! (`generated::without_news`).
//!
//! These are all the normalisations before bodies are compared:
//!
//! | where | what | why |
//! | --- | --- | --- |
//! | networks | `CheckDuplicate` is left out | the CLI sends it to engines before API 1.44 only |
//! | networks | `Scope: ""`, `EnableIPv6: false`, `Ingress: false`, `ConfigOnly: false`, `ConfigFrom: null`, `IPAM: null`, `Options: null` or `{}`, and `Options: null` and `Config: null` in `IPAM` are left out | each says nothing, and which of them are written depends on the CLI's version |
//! | services | `Privileges.NoNewPrivileges: false` is left out | as above: written since 24 |
//! | name servers of a service | written in the shortest form | up to 28 the CLI sends addresses as they are written, later in that form |
//! | ports of a service | sorted by published port, target, protocol and mode | up to 28 the CLI sorts by published port alone, later by all four |
//! | references to secrets and configs of one service | sorted by name and target | the CLI sorts by name alone, so that two references to one object come in an order that changes from run to run |
//! | ids of secrets and configs, digests of images | given to rendering as a client looks them up | they are the engine's and the registry's |

#[path = "parity/case.rs"]
mod case;
#[path = "parity/compare.rs"]
mod compare;
#[path = "parity/docker.rs"]
mod docker;
#[path = "parity/generated.rs"]
mod generated;
#[path = "parity/ours.rs"]
mod ours;
#[path = "parity/services.rs"]
mod services;
#[path = "parity/values.rs"]
mod values;
#[path = "parity/yaml.rs"]
mod yaml;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::{Case, Difference, Expected};
use compare::{Bodies, differences};
use docker::{Docker, End, Told};
use phoenix_core::stack::Compat;
use phoenix_lab::docker_cli::DockerCli;
use phoenix_lab::{Lab, LabOptions};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Engines that are asked at once.
const ENGINES: [(&str, u32); 2] = [("first", 1101), ("second", 1102)];

/// Says something in a run that succeeds, too: the runner hides only what is printed by macros.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A lab of engines for the docker CLI.
struct Bench {
    lab: Lab,
    engines: Vec<Docker>,
    version: (u32, u32),
    /// Of what the CLI may be made of.
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let lab = Lab::start(LabOptions::test().with_guests(ENGINES))
            .await
            .unwrap_or_else(|error| panic!("{}", error.chain()));
        let folder = tempfile::tempdir().expect("a folder");
        let named = std::env::var_os("PHOENIX_PARITY_DOCKER").map(PathBuf::from);
        let program = DockerCli::find(named, &lab.nodes()[0], folder.path()).await;
        let program = program.unwrap_or_else(|error| panic!("{}", error.chain()));
        say(program.told());
        let mut engines = Vec::new();
        for node in lab.nodes() {
            let docker = Docker::on(node, &program).await;
            engines.push(docker.unwrap_or_else(|error| panic!("{}", error.chain())));
        }
        Self {
            engines,
            version: program.version(),
            lab,
            _folder: folder,
        }
    }

    /// Has every case deployed, on whichever engine is free, and gives what docker did to `look`.
    async fn deploy_all(&self, cases: &[Case], look: impl Fn(&Case, Told)) {
        let next = AtomicUsize::new(0);
        let (next, look) = (&next, &look);
        let workers = self.engines.iter().map(async |docker| {
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                let told = docker.deploy(case).await;
                let told = told.unwrap_or_else(|error| panic!("{}: {}", case.name, error.chain()));
                look(case, told);
            }
        });
        futures_util::future::join_all(workers).await;
    }

    async fn stop(self) {
        drop(self.engines);
        self.lab
            .down()
            .await
            .unwrap_or_else(|error| panic!("{}", error.chain()));
    }
}

/// How a case came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Equal,
    EqualAndRejected,
    RefusedByBoth,
    RejectedAndRefused,
    EqualAndLacking,
    LackingAndRefused,
    DifferentOnPurpose,
    NewerThanTheCli,
}

/// Compares a case in docker's way.
fn as_docker(case: &Case, told: &Told) -> Result<Outcome, String> {
    let expected = match &case.expected {
        Expected::Deployed => (End::Deployed, ""),
        Expected::Refused(text) | Expected::Lacking(text) => (End::Refused, text.as_str()),
        Expected::Rejected(text) => (End::Rejected, text.as_str()),
    };
    if (
        told.end,
        expected
            .1
            .split(" | ")
            .any(|text| told.stderr.contains(text)),
    ) != (expected.0, true)
    {
        return Err(format!(
            "expected of docker {expected:?}, but it {:?} and said {:?}",
            told.end,
            told.stderr.trim()
        ));
    }
    if case.always {
        return differs(case, told, Compat::Docker).map(|_| Outcome::DifferentOnPurpose);
    }
    let ours = ours::ours(case, &told.environment, &told.context, Compat::Docker);
    match (&case.expected, ours) {
        (Expected::Refused(_), Ok(_)) => Err(format!(
            "docker refuses it and we do not: {}",
            told.stderr.trim()
        )),
        (Expected::Refused(_), Err(_)) => Ok(Outcome::RefusedByBoth),
        (Expected::Rejected(_), Err(_)) => Ok(Outcome::RejectedAndRefused),
        (Expected::Deployed | Expected::Lacking(_), Err(why)) => Err(format!(
            "we refuse what docker takes: {why}\nit sends {:?}",
            told.bodies
        )),
        (expected, Ok(mut ours)) => {
            if *expected != Expected::Deployed {
                // It stopped somewhere.
                ours.retain(|key, _| told.bodies.contains_key(key));
            }
            let outcome = match expected {
                Expected::Rejected(_) => Outcome::EqualAndRejected,
                Expected::Lacking(_) => Outcome::EqualAndLacking,
                _ => Outcome::Equal,
            };
            same(&told.bodies, &ours).map(|()| outcome)
        }
    }
}

fn same(docker: &Bodies, ours: &Bodies) -> Result<(), String> {
    let differences = differences(docker, ours);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(differences),
    }
}

/// Compares a case with what it says about differences. Whether it differs.
fn differs(case: &Case, told: &Told, compat: Compat) -> Result<bool, String> {
    let ours = ours::ours(case, &told.environment, &told.context, compat);
    match (&case.differs, ours) {
        (Some(Difference::Refused(text)), Err(why)) if why.contains(text) => Ok(true),
        (Some(Difference::Refused(text)), Err(why)) => {
            Err(format!("refused as it should, but not for {text:?}: {why}"))
        }
        (Some(Difference::Refused(_)), Ok(_)) => Err("it should be refused, and is not".into()),
        (Some(Difference::Mended(_)), Err(why)) => {
            Err(format!("it should be mended, and is refused: {why}"))
        }
        // What docker refuses and Phoenix takes differs, whatever docker sent before.
        (Some(Difference::Mended(_)), Ok(_)) if told.end == End::Refused => Ok(true),
        (Some(Difference::Mended(_)), Ok(ours)) => match same(&told.bodies, &ours) {
            Ok(()) => Err("it should be mended, and is as docker makes it".into()),
            Err(_) => Ok(true),
        },
        (None, Ok(_)) if matches!(case.expected, Expected::Refused(_)) => {
            Err("docker refuses it and we do not".into())
        }
        (None, Ok(mut ours)) => {
            ours.retain(|key, _| {
                case.expected == Expected::Deployed || told.bodies.contains_key(key)
            });
            same(&told.bodies, &ours).map(|()| false)
        }
        (None, Err(why)) => match case.expected {
            Expected::Refused(_) | Expected::Rejected(_) => Ok(false),
            _ => Err(format!("refused without a word about it: {why}")),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_is_rendered_as_docker_sends_it() {
    let mut cases = case::cases();
    if let Ok(only) = std::env::var("PHOENIX_PARITY_ONLY") {
        cases.retain(|case| case.name.contains(&only));
    }
    assert!(!cases.is_empty());
    let bench = Bench::start().await;
    let newer = |case: &Case| case.since.is_some_and(|since| since > bench.version);
    let outcomes: Mutex<BTreeMap<Outcome, usize>> = Mutex::default();
    let failures: Mutex<BTreeMap<String, String>> = Mutex::default();
    let on_purpose = AtomicUsize::new(0);
    let count = |outcome| *outcomes.lock().unwrap().entry(outcome).or_default() += 1;
    bench
        .deploy_all(&cases, |case, told| {
            if newer(case) {
                count(Outcome::NewerThanTheCli);
                return;
            }
            let fail = |how: &str, why: String| {
                let key = format!("{} ({how})", case.name);
                failures.lock().unwrap().insert(key, why);
            };
            match as_docker(case, &told) {
                Ok(outcome) => count(outcome),
                Err(why) => fail("as docker", why),
            }
            match differs(case, &told, Compat::Phoenix) {
                Ok(differs) => drop(on_purpose.fetch_add(differs.into(), Ordering::Relaxed)),
                Err(why) => fail("as Phoenix", why),
            }
        })
        .await;
    bench.stop().await;
    let failures = failures.into_inner().unwrap();
    let told: String = failures
        .iter()
        .map(|(name, why)| format!("--- {name}\n{}\n", why.trim_end()))
        .collect();
    let counts = format!(
        "{} cases: {:?}; {} differ on purpose by default; {} failures",
        cases.len(),
        outcomes.into_inner().unwrap(),
        on_purpose.into_inner(),
        failures.len(),
    );
    say(&counts);
    assert!(failures.is_empty(), "{counts}\n{told}");
}

/// Files made for one run unless `PHOENIX_PARITY_GENERATED` says how many.
const GENERATED: usize = 256;
/// A difference is shrunk with at most this many runs of docker.
const SHRINKING: usize = 150;

/// Writes files made at random below a folder, as a case.
fn written(files: &[yaml::Yaml], folder: &Path) -> Case {
    std::fs::create_dir_all(folder).expect("a folder");
    let link = folder.join("files");
    if !link.exists() {
        std::os::unix::fs::symlink(case::corpus().join("files"), link).expect("a link");
    }
    let paths = files.iter().enumerate().map(|(index, file)| {
        let path = folder.join(format!("{index}.yaml"));
        std::fs::write(&path, file.to_string()).expect("write");
        path
    });
    let environment = generated::ENVIRONMENT;
    Case {
        name: folder.display().to_string(),
        files: paths.collect(),
        environment: environment
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        exists: ["network", "secret", "config"]
            .map(|kind| (kind.to_owned(), "outside".to_owned()))
            .into(),
        ..Case::default()
    }
}

/// Compares a file made at random, of which nothing is known beforehand.
fn compare(case: &Case, told: &Told) -> Result<Outcome, String> {
    let said = told.stderr.trim().to_owned();
    let lacking = [
        "secret not found: ",
        "config not found: ",
        "no such config can be found",
    ];
    let expected = match told.end {
        End::Deployed => Expected::Deployed,
        End::Rejected => Expected::Rejected(said),
        End::Refused if lacking.iter().any(|text| said.contains(text)) => Expected::Lacking(said),
        End::Refused => Expected::Refused(said),
    };
    let case = Case {
        expected,
        ..case.clone()
    };
    // What Phoenix makes of it in its own way is its own affair, but it comes to an end.
    let _ = ours::ours(&case, &told.environment, &told.context, Compat::Phoenix);
    if let Expected::Lacking(_) = case.expected {
        // The engine was not asked about what we refuse for its sake.
        let ours = ours::ours(&case, &told.environment, &told.context, Compat::Docker);
        if ours.is_err() {
            return Ok(Outcome::LackingAndRefused);
        }
    }
    as_docker(&case, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_made_at_random_are_rendered_as_docker_sends_them() {
    let count: usize = match std::env::var("PHOENIX_PARITY_GENERATED") {
        Ok(count) => count.parse().expect("a number"),
        Err(_) => GENERATED,
    };
    let mut seed = [4; 32];
    match std::env::var("PHOENIX_PARITY_SEED").as_deref() {
        Ok("random") => aws_lc_rs::rand::fill(&mut seed).expect("random bytes"),
        Ok(given) => hex::decode_to_slice(given, &mut seed).expect("64 hexadecimal digits"),
        Err(_) => {}
    }
    say(&format!("PHOENIX_PARITY_SEED={}", hex::encode(seed)));
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let bench = Bench::start().await;
    let strategy = generated::files(bench.version);
    let mut trees: Vec<_> = (0..count)
        .map(|_| strategy.new_tree(&mut runner).expect("a file"))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let cases: Vec<Case> = trees
        .iter()
        .enumerate()
        .map(|(index, tree)| written(&tree.current(), &folder.path().join(index.to_string())))
        .collect();

    let outcomes: Mutex<BTreeMap<Outcome, usize>> = Mutex::default();
    let failed: Mutex<BTreeMap<String, String>> = Mutex::default();
    bench
        .deploy_all(&cases, |case, told| match compare(case, &told) {
            Ok(outcome) => *outcomes.lock().unwrap().entry(outcome).or_default() += 1,
            Err(why) => drop(failed.lock().unwrap().insert(case.name.clone(), why)),
        })
        .await;
    let failed = failed.into_inner().unwrap();
    let mut told = String::new();
    let failing = cases
        .iter()
        .position(|case| failed.contains_key(&case.name));
    if let Some(index) = failing {
        let folder = folder.path().join("shrunk");
        told = shrunk(&bench, &mut trees[index], &folder).await;
        for why in failed.values() {
            told.push_str("\nalso: ");
            // What docker said last is why it refused.
            let shown = match why.contains("docker refuses it") {
                true => why.lines().last(),
                false => why.lines().next(),
            };
            told.extend(shown.unwrap_or_default().chars().take(400));
        }
    }
    bench.stop().await;
    let counts = format!(
        "{count} files made at random: {:?}; {} differ",
        outcomes.into_inner().unwrap(),
        failed.len()
    );
    say(&counts);
    assert!(
        failed.is_empty(),
        "{counts}; the first of them, shrunk:\n{told}"
    );
}

/// The smallest file found that still differs, and how.
async fn shrunk(
    bench: &Bench,
    tree: &mut impl ValueTree<Value = Vec<yaml::Yaml>>,
    folder: &Path,
) -> String {
    let mut smallest = String::from("it came out equal when it was looked at again");
    for _ in 0..SHRINKING {
        let files = tree.current();
        let case = written(&files, folder);
        let told = bench.engines[0].deploy(&case).await;
        let told = told.unwrap_or_else(|error| panic!("{}", error.chain()));
        let more = match compare(&case, &told) {
            Ok(_) => tree.complicate(),
            Err(why) => {
                let files: Vec<String> = files.iter().map(ToString::to_string).collect();
                smallest = format!("{}\n{why}", files.join("---\n"));
                tree.simplify()
            }
        };
        if !more {
            break;
        }
    }
    smallest
}
