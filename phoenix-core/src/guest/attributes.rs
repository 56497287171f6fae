//! Owners and modes of files in a guest, as `stat` there tells them.
//!
//! One fixed program for any number of files, which changes nothing:
//! `stat -L -c FORMAT -- PATH...`, of coreutils or busybox. An answer is complete or an error:
//! what is not told is never taken for right.

use std::collections::BTreeMap;

use super::{Guest, GuestError, Program};
use crate::ground::Deadline;

/// What is asked for of each file, with what cannot be part of a name between: the mode in octal
/// digits, the numbers and the names of owner and group, and the path.
const FORMAT: &str = "%a:%u:%g:%U:%G:%n";
/// What `stat` prints for an owner or a group that has no name in the guest.
const NAMELESS: &str = "UNKNOWN";

/// Owner, group and mode of a file; of what a link leads to, where it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes {
    /// The owner's name in the guest; its number where it has none.
    pub owner: String,
    /// The group's name in the guest; its number where it has none.
    pub group: String,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The permission bits.
    pub mode: u32,
}

impl Attributes {
    /// Whether the file belongs to this owner and this group, each a name or a number.
    #[must_use]
    pub fn belongs_to(&self, owner: &str, group: &str) -> bool {
        let is = |wanted: &str, name: &str, number: u32| {
            wanted == name || wanted.parse::<u32>() == Ok(number)
        };
        is(owner, &self.owner, self.uid) && is(group, &self.group, self.gid)
    }

    /// A line that `stat` printed: the path, and what is told of it.
    fn of_line(line: &str) -> Option<(String, Self)> {
        let mut fields = line.splitn(6, ':');
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        let uid: u32 = fields.next()?.parse().ok()?;
        let gid: u32 = fields.next()?.parse().ok()?;
        let named = |name: &str, number: u32| match name {
            NAMELESS | "" => number.to_string(),
            name => name.to_owned(),
        };
        let owner = named(fields.next()?, uid);
        let group = named(fields.next()?, gid);
        let path = fields.next()?.to_owned();
        let attributes = Self {
            owner,
            group,
            uid,
            gid,
            mode,
        };
        Some((path, attributes))
    }
}

/// The program that tells owners and modes of `paths`.
fn program(paths: &[&str], deadline: Deadline) -> Program {
    let fixed = ["stat", "-L", "-c", FORMAT, "--"];
    Program::new(fixed.iter().chain(paths).copied(), deadline)
}

/// What the program printed, by path. Lines that it does not print are passed over.
fn parse(printed: &str) -> BTreeMap<String, Attributes> {
    printed.lines().filter_map(Attributes::of_line).collect()
}

pub(super) async fn attributes<G: Guest + ?Sized>(
    guest: &G,
    paths: &[&str],
    deadline: Deadline,
) -> Result<Vec<Attributes>, GuestError> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let output = guest.run_checked(&program(paths, deadline)).await?;
    let told = parse(&String::from_utf8_lossy(&output.stdout));
    paths
        .iter()
        .map(|path| {
            told.get(*path).cloned().ok_or_else(|| GuestError::Untold {
                guest: guest.name().to_owned(),
                path: (*path).to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use proptest::prelude::*;

    use super::*;
    use crate::guest::{Exit, Output, UnknownReason};

    /// Keeps what it was to run and gives prepared answers. A fake.
    #[derive(Debug)]
    struct Prepared {
        answer: Output,
        asked: Mutex<Vec<Vec<String>>>,
    }

    impl Prepared {
        fn new(status: Exit, stdout: &str) -> Self {
            Self {
                answer: Output {
                    status,
                    stdout: stdout.as_bytes().to_vec(),
                    stderr: b"stat: cannot statx '/etc/b'\n".to_vec(),
                    stdout_truncated: false,
                    stderr_truncated: false,
                },
                asked: Mutex::default(),
            }
        }
    }

    #[async_trait]
    impl Guest for Prepared {
        fn name(&self) -> &'static str {
            "prepared"
        }

        async fn run(&self, program: &Program) -> Result<Output, GuestError> {
            assert!(program.stdin.is_none());
            self.asked.lock().expect("lock").push(program.argv.clone());
            Ok(self.answer.clone())
        }

        async fn read(&self, path: &str, _: Deadline) -> Result<Option<Vec<u8>>, GuestError> {
            panic!("{path} is read");
        }
    }

    async fn ask(guest: &Prepared, paths: &[&str]) -> Result<Vec<Attributes>, GuestError> {
        let deadline = Deadline::after(std::time::Duration::from_secs(5));
        guest.attributes(paths, deadline).await
    }

    #[tokio::test]
    async fn one_fixed_program_tells_of_all_files_in_their_order() {
        let printed = "600:0:0:root:root:/etc/a b\n4750:0:4711:root:UNKNOWN:/etc/c:d\n";
        let guest = Prepared::new(Exit::Exited(0), printed);
        let told = ask(&guest, &["/etc/c:d", "/etc/a b"]).await.expect("told");
        let [second, first] = told.as_slice() else {
            panic!("{told:?}")
        };
        assert_eq!(first.mode, 0o600);
        assert!(first.belongs_to("root", "root") && first.belongs_to("0", "root"));
        assert!(!first.belongs_to("root", "daemon") && !first.belongs_to("1", "root"));
        assert_eq!((second.mode, second.group.as_str()), (0o4750, "4711"));
        assert!(second.belongs_to("root", "4711") && !second.belongs_to("root", "UNKNOWN"));
        let asked = guest.asked.lock().expect("lock").clone();
        let words = ["stat", "-L", "-c", "%a:%u:%g:%U:%G:%n", "--"];
        assert_eq!(asked, [[&words[..], &["/etc/c:d", "/etc/a b"]].concat()]);
    }

    #[tokio::test]
    async fn nothing_is_asked_about_no_file() {
        let guest = Prepared::new(Exit::Exited(1), "");
        assert_eq!(ask(&guest, &[]).await.expect("told"), []);
        assert!(guest.asked.lock().expect("lock").is_empty());
    }

    #[tokio::test]
    async fn what_is_not_told_for_certain_is_an_error() {
        let line = "600:0:0:root:root:/etc/a\n";
        for status in [
            Exit::Exited(1),
            Exit::Signaled(9),
            Exit::Unknown(UnknownReason::ResultLost),
        ] {
            let guest = Prepared::new(status.clone(), line);
            let error = ask(&guest, &["/etc/a"]).await.expect_err("no success");
            let GuestError::Failed(failed) = error else {
                panic!("{error}")
            };
            assert_eq!(failed.status, status);
        }
        let guest = Prepared::new(Exit::Exited(0), line);
        let error = ask(&guest, &["/etc/a", "/etc/b"])
            .await
            .expect_err("untold");
        assert_eq!(
            error.to_string(),
            "`stat` in guest prepared does not tell owner and mode of /etc/b"
        );
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "",
            "stat: nothing",
            "9:0:0:root:root:/etc/a",
            "600:0:root:root:/etc/a",
            "600:-1:0:root:root:/etc/a",
            "600:0:0:root:root",
        ] {
            assert!(parse(line).is_empty(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(printed in any::<String>()) {
            parse(&printed);
        }

        #[test]
        fn what_is_printed_is_read(
            mode in 0u32..=0o7777,
            uid in any::<u32>(),
            gid in any::<u32>(),
            owner in "[a-z_][a-z0-9 _.@\\\\-]{0,12}",
            path in "(/[ -.0-~]{1,8}){1,3}",
        ) {
            let told = parse(&format!("{mode:o}:{uid}:{gid}:{owner}:UNKNOWN:{path}\n"));
            let found = &told[&path];
            prop_assert_eq!((found.mode, found.uid, found.gid), (mode, uid, gid));
            prop_assert_eq!(&found.group, &gid.to_string());
            prop_assert!(found.belongs_to(&owner, &gid.to_string()));
        }
    }
}
