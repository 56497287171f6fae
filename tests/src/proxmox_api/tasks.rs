//! Worker tasks: what a UPID stands for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::answer::{ApiError, Outcome};
use super::guests::latin1_text;

/// The workers that were ever started.
#[derive(Debug)]
pub(super) struct Tasks {
    booted: Instant,
    next_pid: Mutex<u32>,
    by_upid: Mutex<BTreeMap<String, Arc<Task>>>,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Task {
    upid: String,
    node: String,
    pid: u32,
    pstart: u64,
    starttime: u64,
    kind: String,
    id: String,
    /// The whole token id.
    pub(super) owner: String,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    log: Vec<String>,
    exit: Option<String>,
}

impl Task {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to the log.
    pub(super) fn print(&self, line: impl Into<String>) {
        self.progress().log.push(line.into());
    }

    /// Ends the task with what its worker returned.
    pub(super) fn finish(&self, result: Result<(), String>) {
        let mut progress = self.progress();
        let (line, exit) = match result {
            Ok(()) => ("TASK OK".to_owned(), "OK".to_owned()),
            Err(error) => (format!("TASK ERROR: {error}"), error),
        };
        progress.log.push(line);
        progress.exit = Some(exit);
    }

    /// `GET .../tasks/{upid}/status`.
    pub(super) fn status(&self) -> Value {
        let (user, token) = self.owner.split_once('!').unwrap_or((&self.owner, ""));
        let mut status = json!({
            "upid": self.upid, "node": self.node, "pid": self.pid, "pstart": self.pstart,
            "starttime": self.starttime, "type": self.kind, "id": self.id, "user": user,
            "tokenid": token, "status": "running",
        });
        if let Some(exit) = &self.progress().exit {
            status["status"] = json!("stopped");
            status["exitstatus"] = json!(latin1_text(exit));
        }
        status
    }

    /// `GET .../tasks/{upid}/log`; a limit of 0 means all.
    pub(super) fn log(&self, start: usize, limit: usize) -> Outcome {
        let progress = self.progress();
        let total = progress.log.len();
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut lines: Vec<Value> = progress
            .log
            .iter()
            .enumerate()
            .skip(start)
            .take(limit)
            .map(|(index, line)| json!({"n": index + 1, "t": latin1_text(line)}))
            .collect();
        if total == 0 {
            lines.push(json!({"n": 1, "t": "no content"}));
        }
        Outcome {
            data: Value::Array(lines),
            total: total.max(1),
        }
    }
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self {
            booted: Instant::now(),
            next_pid: Mutex::new(0x0001_0000),
            by_upid: Mutex::default(),
        }
    }

    /// Registers a worker of `node` that acts on guest `id` for `owner`.
    pub(super) fn start(&self, node: &str, kind: &str, id: u32, owner: &str) -> Arc<Task> {
        let pid = {
            let mut next = self.next_pid.lock().unwrap_or_else(PoisonError::into_inner);
            *next += 1;
            *next
        };
        // Clock ticks since boot, a hundred a second.
        let pstart = 0x1000 + u64::try_from(self.booted.elapsed().as_millis() / 10).unwrap_or(0);
        let starttime = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let upid =
            format!("UPID:{node}:{pid:08X}:{pstart:08X}:{starttime:08X}:{kind}:{id}:{owner}:");
        let task = Arc::new(Task {
            upid: upid.clone(),
            node: node.to_owned(),
            pid,
            pstart,
            starttime,
            kind: kind.to_owned(),
            id: id.to_string(),
            owner: owner.to_owned(),
            progress: Mutex::default(),
        });
        let mut tasks = self.by_upid.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.insert(upid, Arc::clone(&task));
        task
    }

    /// The task of `node` with that UPID.
    pub(super) fn find(&self, node: &str, upid: &str) -> Result<Arc<Task>, ApiError> {
        let parts: Vec<&str> = upid.split(':').collect();
        if parts.len() != 9 || parts[0] != "UPID" || !parts[8].is_empty() {
            return Err(ApiError::parameter("upid", "unable to parse worker upid"));
        }
        let tasks = self.by_upid.lock().unwrap_or_else(PoisonError::into_inner);
        tasks
            .get(upid)
            .filter(|task| task.node == node)
            .cloned()
            .ok_or_else(|| ApiError::parameter("upid", "no such task"))
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.upid)
    }
}
