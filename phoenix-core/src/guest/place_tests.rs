//! The script is run by this machine's own shell, in a directory of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::proxmox::{Exit, Output, UnknownReason};

/// Runs programs here, with `tools` before the rest of `PATH`.
#[derive(Debug)]
struct Local {
    tools: tempfile::TempDir,
    files: tempfile::TempDir,
    runs: Mutex<Vec<Vec<String>>>,
    /// The number of the run whose result is lost.
    lose: Option<usize>,
}

impl Local {
    fn new() -> Self {
        Self {
            tools: tempfile::tempdir().expect("directory"),
            files: tempfile::tempdir().expect("directory"),
            runs: Mutex::default(),
            lose: None,
        }
    }

    /// Puts a shell script before the real tool `name`.
    fn tool(&self, name: &str, script: &str) {
        let path = self.tools.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("tool");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    }

    fn path(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    fn file(&self, name: &str, content: &[u8]) -> File {
        let owner = fs::metadata(self.files.path()).expect("stat");
        File::new(self.path(name), content.to_vec())
            .owner(owner.uid().to_string(), owner.gid().to_string())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.files.path())
            .expect("list")
            .map(|entry| entry.expect("entry").file_name().display().to_string())
            .collect();
        names.sort();
        names
    }

    fn runs(&self) -> usize {
        self.runs.lock().expect("lock").len()
    }
}

#[async_trait]
impl Guest for Local {
    fn name(&self) -> &str {
        "here"
    }

    async fn run(&self, program: &Program) -> Result<Output, GuestError> {
        let number = {
            let mut runs = self.runs.lock().expect("lock");
            runs.push(program.argv.clone());
            runs.len()
        };
        let path = format!("{}:/usr/bin:/bin", self.tools.path().display());
        let mut child = tokio::process::Command::new(&program.argv[0])
            .args(&program.argv[1..])
            .env_clear()
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        let mut stdin = child.stdin.take().expect("stdin");
        if let Some(bytes) = &program.stdin {
            // The script may have failed before it read all.
            let _ = stdin.write_all(bytes.expose()).await;
        }
        drop(stdin);
        let ended = child.wait_with_output().await.expect("wait");
        let status = match ended.status.code() {
            _ if self.lose == Some(number) => Exit::Unknown(UnknownReason::ResultLost),
            Some(code) => Exit::Exited(code.into()),
            None => Exit::Signaled(9),
        };
        Ok(Output {
            status,
            stdout: ended.stdout,
            stderr: ended.stderr,
            stdout_truncated: false,
            stderr_truncated: false,
        })
    }

    async fn read(&self, path: &str, _deadline: Deadline) -> Result<Option<Vec<u8>>, GuestError> {
        Ok(fs::read(path).ok())
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).expect("stat").permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_file_is_placed_in_one_run_with_its_mode_and_parents() {
    let guest = Local::new();
    let file = guest.file("etc/app/a key's.pem", b"one").mode(0o640);
    guest.place(&file, soon()).await.expect("placed");
    assert_eq!(guest.runs(), 1);
    assert_eq!(fs::read(&file.path).expect("read"), b"one");
    assert_eq!(mode(&file.path), 0o640);
    assert_eq!(mode(&guest.path("etc/app")), 0o755);
    guest
        .place(&guest.file("etc/app/a key's.pem", b""), soon())
        .await
        .expect("replaced");
    assert_eq!(fs::read(&file.path).expect("read"), b"");
    assert_eq!(mode(&file.path), 0o600);
    let left = fs::read_dir(guest.path("etc/app")).expect("list").count();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn content_never_has_another_mode_than_0600_before_its_owner_is_set() {
    let guest = Local::new();
    let log = guest.tools.path().join("log").display().to_string();
    // Their last argument is the file.
    for tool in ["chown", "chmod"] {
        guest.tool(
            tool,
            &format!(
                "for f in \"$@\"; do :; done\n\
                 echo \"{tool} $(stat -c '%a %s' \"$f\")\" >>'{log}'\n\
                 exec /bin/{tool} \"$@\""
            ),
        );
    }
    guest
        .place(&guest.file("key", b"12345").mode(0o644), soon())
        .await
        .expect("placed");
    assert_eq!(
        fs::read_to_string(&log).expect("log"),
        "chown 600 5\nchmod 600 5\n"
    );
    assert_eq!(mode(&guest.path("key")), 0o644);
}

#[tokio::test]
async fn large_and_binary_content_arrives_whole() {
    let guest = Local::new();
    let content: Vec<u8> = (0..200_000_u32).map(|n| (n * 7 % 256) as u8).collect();
    guest
        .place(&guest.file("blob", &content), soon())
        .await
        .expect("placed");
    assert!(guest.runs() > 1);
    assert_eq!(fs::read(guest.path("blob")).expect("read"), content);
    assert_eq!(guest.names(), ["blob"]);
}

#[tokio::test]
async fn a_failure_leaves_every_target_as_it_was_and_nothing_else() {
    let guest = Local::new();
    fs::write(guest.path("cert"), b"old").expect("old");
    guest.tool(
        "chown",
        "case $3 in *key*) echo no such user >&2; exit 9;; esac",
    );
    let files = [
        guest.file("cert", b"new"),
        guest.file("key", &[b'k'; 50_000]),
    ];
    let error = guest.place_all(&files, soon()).await.expect_err("failed");
    let GuestError::Place { source, .. } = &error else {
        panic!("{error}");
    };
    let GuestError::Failed(failed) = &**source else {
        panic!("{source}");
    };
    assert_eq!(failed.status, Exit::Exited(9));
    assert!(failed.stderr.contains("no such user"), "{failed}");
    assert!(failed.stderr.contains("failed at: chown"), "{failed}");
    assert_eq!(guest.names(), ["cert"]);
    assert_eq!(fs::read(guest.path("cert")).expect("read"), b"old");
}

#[tokio::test]
async fn what_did_not_arrive_whole_is_not_placed() {
    let guest = Local::new();
    guest.tool("cat", "head -c 3");
    let error = guest
        .place(&guest.file("key", b"12345"), soon())
        .await
        .expect_err("failed");
    let source = std::error::Error::source(&error).expect("source");
    assert!(source.to_string().contains("5 bytes were sent, 3 arrived"));
    assert!(guest.names().is_empty());
}

#[tokio::test]
async fn several_files_are_renamed_in_the_last_run_only() {
    let guest = Local::new();
    let log = guest.tools.path().join("log").display().to_string();
    guest.tool(
        "mv",
        &format!("echo \"$PPID\" >>'{log}'; exec /bin/mv \"$@\""),
    );
    let files = [
        guest.file("a", b"1"),
        guest.file("b", b"2"),
        guest.file("c", b"3"),
    ];
    guest.place_all(&files, soon()).await.expect("placed");
    assert_eq!(guest.runs(), 3);
    let parents: HashSet<String> = fs::read_to_string(&log)
        .expect("log")
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(parents.len(), 1);
    assert_eq!(guest.names(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_lost_result_is_a_failure_and_is_tidied_up() {
    let mut guest = Local::new();
    guest.lose = Some(1);
    let files = [guest.file("a", b"1"), guest.file("b", b"2")];
    guest.place_all(&files, soon()).await.expect_err("unknown");
    assert!(guest.names().is_empty(), "{:?}", guest.names());
}

#[tokio::test]
async fn a_directory_in_the_targets_place_is_kept() {
    let guest = Local::new();
    fs::create_dir(guest.path("conf")).expect("directory");
    let error = guest
        .place(&guest.file("conf", b"1"), soon())
        .await
        .expect_err("refused");
    let source = std::error::Error::source(&error).expect("source");
    assert!(source.to_string().contains("is a directory"), "{source}");
    assert_eq!(guest.names(), ["conf"]);
    assert_eq!(fs::read_dir(guest.path("conf")).expect("list").count(), 0);
}

#[tokio::test]
async fn leftovers_of_an_interrupted_placing_go_and_other_files_stay() {
    let guest = Local::new();
    for name in [".key.phoenix.00ff", ".key2.phoenix.00ff", "key.phoenix.1"] {
        fs::write(guest.path(name), b"left").expect("leftover");
    }
    guest
        .place(&guest.file("key", b"1"), soon())
        .await
        .expect("placed");
    assert_eq!(
        guest.names(),
        [".key2.phoenix.00ff", "key", "key.phoenix.1"]
    );
}

#[tokio::test]
async fn a_link_in_the_temporary_files_place_is_not_followed() {
    let guest = Local::new();
    let victim = guest.path("victim");
    fs::write(&victim, b"kept").expect("victim");
    let temporary = guest.path(".key.phoenix.aa");
    let linked = format!("ln -s '{victim}' '{temporary}'; exec /bin/mkdir \"$@\"");
    guest.tool("mkdir", &linked);
    // A link that appears after leftovers were removed meets `set -C`.
    guest.tool(
        "rm",
        &format!("/bin/rm \"$@\"; ln -s '{victim}' '{temporary}'"),
    );
    let step = Step {
        action: "create",
        temporary: &temporary,
        content: b"secret",
        commit: &[],
    };
    run(&guest, &step, soon()).await.expect_err("refused");
    assert_eq!(fs::read(&victim).expect("read"), b"kept");
}

#[tokio::test]
async fn what_cannot_be_placed_is_refused_before_anything_runs() {
    let guest = Local::new();
    let good = || File::new("/etc/x", b"1".to_vec());
    let cases = [
        (File::new("etc/x", vec![]), FileProblem::NotAbsolute),
        (File::new("/etc/../x", vec![]), FileProblem::Unclean),
        (File::new("/etc/", vec![]), FileProblem::Unclean),
        (File::new("/", vec![]), FileProblem::Unclean),
        (File::new("/é", vec![]), FileProblem::Character('é')),
        (File::new("/a\nb", vec![]), FileProblem::Character('\n')),
        (good().mode(0o100_600), FileProblem::Mode(0o100_600)),
        (
            good().owner("a:b", "root"),
            FileProblem::Owner("a:b".into()),
        ),
        (good().owner("root", "-x"), FileProblem::Owner("-x".into())),
        (good().owner("", "root"), FileProblem::Owner(String::new())),
    ];
    for (file, expected) in cases {
        let error = guest.place(&file, soon()).await.expect_err("refused");
        let GuestError::File { source, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(source.problem, expected);
    }
    let error = guest.place_all(&[good(), good()], soon()).await;
    assert!(matches!(error, Err(GuestError::File { .. })));
    assert_eq!(guest.runs(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn steps_carry_every_byte_once_and_commit_last(
        contents in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..70_000), 1..4),
    ) {
        let files: Vec<File> = contents
            .iter()
            .enumerate()
            .map(|(n, content)| File::new(format!("/f{n}"), content.clone()))
            .collect();
        let temporaries: Vec<String> = files.iter().map(|f| f.temporary("t")).collect();
        let commit = vec!["x".to_owned()];
        let steps = steps(&files, &temporaries, &commit);
        for (file, temporary) in files.iter().zip(&temporaries) {
            let own: Vec<_> = steps.iter().filter(|s| s.temporary == temporary).collect();
            prop_assert_eq!(own[0].action, "create");
            prop_assert!(own[1..].iter().all(|s| s.action == "append"));
            let joined: Vec<u8> = own.iter().flat_map(|s| s.content.to_vec()).collect();
            prop_assert_eq!(joined, file.content.expose());
        }
        let committing = steps.iter().filter(|s| !s.commit.is_empty()).count();
        prop_assert_eq!(committing, 1);
        prop_assert!(!steps.last().expect("steps").commit.is_empty());
    }

    #[test]
    fn content_is_never_in_argv(secret in "[a-z]{20,40}") {
        let files = [File::new("/x", secret.clone().into_bytes())];
        let temporaries = [files[0].temporary("t")];
        let step = &steps(&files, &temporaries, &[])[0];
        let shown = format!("{:?}", step.program(soon()));
        prop_assert!(!shown.contains(&secret));
    }
}

#[test]
fn the_temporary_file_is_beside_its_target() {
    let temporary = File::new("/etc/app/key.pem", vec![]).temporary("00");
    assert_eq!(temporary, "/etc/app/.key.pem.phoenix.00");
    assert_eq!(Path::new(&temporary).parent(), Some(Path::new("/etc/app")));
    assert_eq!(
        File::new("/key", vec![]).temporary("00"),
        "/.key.phoenix.00"
    );
}
