//! Which task made the engine stop an update, or take it back.
//!
//! The engine names it in its message (`… due to failure or early termination of task ID`), until
//! the rollback is over: then the message is another. What is not named is told by times and
//! specs: the task failed while the update went on, and is not of the spec that was restored.

use std::collections::BTreeSet;

use super::engine::Engine;
use super::error::EngineError;
use super::judge::TaskFailure;
use super::service::{ServiceObserved, UpdateStatus};
use super::task::{Task, TaskState};
use crate::ground::Deadline;

/// The task that the engine's message names.
pub(super) fn named(message: &str) -> Option<&str> {
    let (_, id) = message.rsplit_once(" of task ")?;
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_id.then_some(id)
}

/// The newest failed task, but what was cut short says nothing: it comes after all others.
pub(super) fn newest<'a>(tasks: impl Iterator<Item = &'a Task>) -> Option<&'a Task> {
    tasks
        .filter(|task| task.state.is_failure())
        .max_by_key(|task| (!task.error.contains("context canceled"), task.created_at))
}

/// Of all tasks of a service, the one that ended its update. `in_place`: those of the spec that is
/// in place; `past`: those that had failed before the update; `blamed`: the one that the engine
/// named before, where it did.
pub(super) fn cause<'a>(
    status: &UpdateStatus,
    tasks: &'a [Task],
    in_place: &BTreeSet<&str>,
    past: &BTreeSet<String>,
    blamed: Option<&str>,
) -> Option<&'a Task> {
    let blamed = named(&status.message).or(blamed);
    if let Some(task) = tasks.iter().find(|task| Some(task.id.as_str()) == blamed) {
        return Some(task);
    }
    let restored = status.state.is_rollback();
    let during = |task: &Task| {
        task.created_at.is_none_or(|made| {
            status.started_at.is_none_or(|start| made >= start)
                && status.ended_at.is_none_or(|end| made <= end)
        })
    };
    let suspects = || {
        tasks.iter().filter(|task| {
            let of_it = in_place.contains(task.id.as_str());
            of_it != restored && !past.contains(&task.id) && during(task)
        })
    };
    // One that has ended well has ended too early for the engine all the same.
    let ended = || {
        let complete = suspects().filter(|task| task.state == TaskState::Complete);
        complete.max_by_key(|task| task.created_at)
    };
    newest(suspects()).or_else(|| status.started_at.and_then(|_| ended()))
}

impl Engine {
    /// The task for whose end the engine took back the last update of `service`, as far as the
    /// swarm remembers it.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn rollback_cause(
        &self,
        service: &ServiceObserved,
        deadline: Deadline,
    ) -> Result<Option<TaskFailure>, EngineError> {
        let Some(status) = &service.update_status else {
            return Ok(None);
        };
        let (tasks, in_place, nodes) = tokio::try_join!(
            self.tasks(&service.id, deadline),
            self.current_tasks([service.id.as_str()], deadline),
            self.nodes(deadline),
        )?;
        let in_place = in_place.iter().map(|task| task.id.as_str()).collect();
        let task = cause(status, &tasks, &in_place, &BTreeSet::new(), None);
        Ok(task.map(|task| TaskFailure::of(service, task, &nodes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const MESSAGE: &str =
        "update rolled back due to failure or early termination of task kx2v8q0c1z";

    fn status(state: &str, message: &str) -> UpdateStatus {
        let service = ServiceObserved::from_json(json!({
            "ID": "s", "UpdateStatus": {
                "State": state, "Message": message,
                "StartedAt": "2024-01-01T00:00:10Z", "CompletedAt": "2024-01-01T00:00:30Z",
            },
        }));
        service.expect("service").update_status.expect("a status")
    }

    fn task(id: &str, second: u32, state: &str, error: &str) -> Task {
        Task::from_json(json!({
            "ID": id, "ServiceID": "s", "CreatedAt": format!("2024-01-01T00:00:{second:02}Z"),
            "Status": {"State": state, "Err": error},
        }))
        .expect("task")
    }

    fn told(status: &UpdateStatus, tasks: &[Task], blamed: Option<&str>) -> Option<String> {
        let in_place = BTreeSet::from(["restored"]);
        let past = BTreeSet::from(["past".to_owned()]);
        cause(status, tasks, &in_place, &past, blamed).map(|task| task.id.clone())
    }

    #[test]
    fn the_engine_names_the_task() {
        assert_eq!(named(MESSAGE), Some("kx2v8q0c1z"));
        assert_eq!(
            named("update paused due to failure or early termination of task a1"),
            Some("a1")
        );
        for message in [
            "rollback completed",
            "update in progress",
            "",
            "of task ",
            "x of task a b",
        ] {
            assert_eq!(named(message), None, "{message}");
        }
        let tasks = [
            task("kx2v8q0c1z", 12, "complete", ""),
            task("another", 20, "failed", "exit"),
        ];
        let started = status("rollback_started", MESSAGE);
        assert_eq!(told(&started, &tasks, None).as_deref(), Some("kx2v8q0c1z"));
        let over = status("rollback_completed", "rollback completed");
        let blamed = Some("kx2v8q0c1z");
        assert_eq!(told(&over, &tasks, blamed).as_deref(), Some("kx2v8q0c1z"));
        // The swarm has forgotten it.
        assert_eq!(
            told(&over, &tasks, Some("gone")).as_deref(),
            Some("another")
        );
    }

    #[test]
    fn a_failure_of_another_time_or_spec_is_not_the_cause() {
        let over = status("rollback_completed", "rollback completed");
        let good = task("good", 12, "failed", "task: non-zero exit (3)");
        let others = [
            task("before", 9, "failed", "exit"),
            task("past", 11, "failed", "exit"),
            task("restored", 25, "failed", "exit"),
            task("after", 31, "rejected", "exit"),
            task("cut", 20, "rejected", "context canceled"),
            task("stopped", 21, "shutdown", ""),
        ];
        let mut tasks = others.to_vec();
        assert_eq!(told(&over, &tasks[..4], None), None);
        tasks.push(good);
        assert_eq!(told(&over, &tasks, None).as_deref(), Some("good"));
        // What an update that was stopped has left is in place.
        let paused = status("paused", "");
        assert_eq!(told(&paused, &tasks, None).as_deref(), Some("restored"));
    }

    proptest! {
        /// What is told as the cause of a rollback is never of the spec that was restored, of
        /// before the update or of after it, but where the engine says so itself.
        #[test]
        fn only_what_can_have_been_the_cause_is_told(
            rows in proptest::collection::vec((0u32..40, 0usize..4, any::<bool>(), any::<bool>()), 0..9),
        ) {
            const STATES: [&str; 4] = ["failed", "rejected", "complete", "running"];
            let tasks: Vec<Task> = rows
                .iter()
                .zip(0..)
                .map(|((second, state, ..), id)| task(&format!("t{id}"), *second, STATES[*state], ""))
                .collect();
            let marked = |which: fn(&(u32, usize, bool, bool)) -> bool| {
                let marked = tasks.iter().zip(&rows).filter(move |(_, row)| which(row));
                marked.map(|(task, _)| task.id.as_str()).collect::<BTreeSet<&str>>()
            };
            let in_place = marked(|row| row.2);
            let past: BTreeSet<String> = marked(|row| row.3).into_iter().map(str::to_owned).collect();
            let over = status("rollback_completed", "rollback completed");
            let fits = |row: &(u32, usize, bool, bool)| {
                (10..=30).contains(&row.0) && row.1 < 3 && !row.2 && !row.3
            };
            let failed = |row: &(u32, usize, bool, bool)| fits(row) && row.1 < 2;
            match cause(&over, &tasks, &in_place, &past, None) {
                Some(told) => {
                    let at = tasks.iter().position(|task| task.id == told.id).expect("one of them");
                    prop_assert!(fits(&rows[at]));
                    prop_assert!(failed(&rows[at]) || !rows.iter().any(failed));
                }
                None => prop_assert!(!rows.iter().any(fits)),
            }
        }
    }
}
