//! `phoenix stack logs --follow` that runs, read line by line.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use super::fixture::Swarm;

/// How long a line may take: far longer than it does.
const LONG: Duration = Duration::from_secs(120);

/// A command that goes on until it is told to end.
pub(crate) struct Followed {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Swarm {
    /// Starts `phoenix stack …` at the first manager.
    pub(crate) fn follow(&self, arguments: &[&str]) -> Followed {
        let mut child = self
            .phoenix(arguments, &[self.manager()])
            .spawn()
            .expect("phoenix");
        let out = child.stdout.take().expect("its output");
        Followed {
            child,
            lines: BufReader::new(out).lines(),
        }
    }
}

impl Followed {
    /// The next line that has `text` in it.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let found = async {
            loop {
                let line = self.lines.next_line().await.expect("a line");
                let line = line.unwrap_or_else(|| panic!("it ended before it said {text:?}"));
                if line.contains(text) {
                    return line;
                }
            }
        };
        let found = timeout(LONG, found).await;
        found.unwrap_or_else(|_| panic!("it never said {text:?}"))
    }

    /// Sends SIGINT and demands an exit code.
    pub(crate) async fn interrupt(self, code: i32) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::INT).expect("a signal");
        ended(self.child, code).await;
    }

    /// Reads no more, and demands an exit code.
    pub(crate) async fn close(self, code: i32) {
        drop(self.lines);
        ended(self.child, code).await;
    }
}

async fn ended(mut child: Child, code: i32) {
    let ended = timeout(LONG, child.wait()).await;
    let status = ended.expect("it does not end").expect("its end");
    assert_eq!(status.code(), Some(code));
}
