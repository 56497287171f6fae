//! Who sits where: the tasks of a service by replica or node, and what they make of it. Pure.
//!
//! What is looked at are the tasks of the spec in place. A seat may have had several tasks, one
//! after another; what counts is whether one of them runs (or, of a job, has completed), whether
//! another is to follow, and how often they have failed.

use std::collections::BTreeMap;

use super::constraint::eligible_nodes;
use super::judge::{TaskFailure, Verdict, hostname, task_name};
use super::node::Node;
use super::service::{ServiceMode, ServiceObserved};
use super::task::{Task, TaskState};
use super::wait::WaitOptions;

/// Where a task belongs among those of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seat<'a> {
    Replica(u64),
    Node(&'a str),
    /// Of a service with one task per node, and no node yet.
    Nowhere,
}

impl<'a> Seat<'a> {
    /// The seat of `task` in a service of this mode.
    pub(crate) fn of(mode: ServiceMode, task: &'a Task) -> Self {
        match (task.replica(mode), &task.node_id) {
            (Some(replica), _) => Self::Replica(replica),
            (None, Some(node)) => Self::Node(node),
            (None, None) => Self::Nowhere,
        }
    }
}

/// The tasks that stand in for one another: all of one seat.
#[derive(Default)]
struct Sitters<'a>(Vec<&'a Task>);

impl<'a> Sitters<'a> {
    fn tasks(&self) -> impl Iterator<Item = &'a Task> {
        self.0.iter().copied()
    }

    fn runs(&self) -> bool {
        self.tasks().any(Task::is_running)
    }

    fn live(&self) -> Option<&'a Task> {
        self.tasks()
            .filter(|task| task.is_live())
            .max_by_key(|task| task.state)
    }

    fn newest(&self) -> Option<&'a Task> {
        self.tasks().max_by_key(|task| task.created_at)
    }

    fn failures(&self) -> impl Iterator<Item = &'a Task> {
        self.tasks()
            .filter(|task| task.state.is_failure() && !task.is_turned_away())
    }

    /// The task that says why no node takes it, or took it away again.
    fn stuck(&self) -> Option<&'a Task> {
        // The scheduler alone writes an error into a task that is pending: that it finds no node,
        // or of a task that belongs to a node only why that one does not fit.
        let waits = |task: &Task| task.state <= TaskState::Pending;
        match self.live() {
            Some(task) if !waits(task) => None,
            Some(task) if !task.error.is_empty() => Some(task),
            _ => {
                let ended = self.tasks().filter(|task| task.state.is_terminal());
                ended
                    .max_by_key(|task| task.created_at)
                    .filter(|task| task.is_turned_away())
            }
        }
    }

    fn last_failure(&self) -> Option<&'a Task> {
        self.failures().max_by_key(|task| task.created_at)
    }

    fn completed(&self) -> bool {
        self.tasks().any(|task| task.state == TaskState::Complete)
    }

    /// Its last task ended well and no other follows.
    fn ended_well(&self) -> bool {
        self.live().is_none()
            && self
                .newest()
                .is_some_and(|task| task.state == TaskState::Complete)
    }
}

/// The seats of a service and who sits there.
pub(super) struct Census<'a> {
    service: &'a ServiceObserved,
    nodes: &'a [Node],
    seats: BTreeMap<Seat<'a>, Sitters<'a>>,
    job: bool,
    done: u64,
    /// Whether no task runs or will, of those that are as they should be.
    over: bool,
    /// `None` when it cannot be told yet.
    wanted: Option<u64>,
    /// Why nothing will ever run, when that is plain from the placement alone.
    nowhere: Option<String>,
}

impl<'a> Census<'a> {
    pub(super) fn take(service: &'a ServiceObserved, tasks: &'a [Task], nodes: &'a [Node]) -> Self {
        let mode = service.mode();
        let job = matches!(
            mode,
            ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob
        );
        let down = |task: &Task| {
            task.node_id
                .as_deref()
                .is_some_and(|id| nodes.iter().any(|node| node.id == id && node.is_down()))
        };
        let mut seats: BTreeMap<Seat<'a>, Sitters<'a>> = BTreeMap::new();
        for task in tasks.iter().filter(|task| task.service_id == service.id) {
            // What a lost node last said of its tasks is worth nothing.
            if (task.is_live() && down(task))
                || (job && task.job_iteration != service.job_iteration)
            {
                continue;
            }
            seats.entry(Seat::of(mode, task)).or_default().0.push(task);
        }
        let mut census = Self {
            service,
            nodes,
            seats,
            job,
            done: 0,
            over: false,
            wanted: None,
            nowhere: None,
        };
        match mode {
            ServiceMode::Replicated { replicas } => census.count_replicas(replicas),
            ServiceMode::ReplicatedJob { completions } => {
                // As the engine counts: it makes no more once so many have completed.
                let tasks = census.seats.values().flat_map(Sitters::tasks);
                let complete = tasks.filter(|task| task.state == TaskState::Complete);
                census.done = number(complete.count());
                census.wanted = Some(completions);
            }
            ServiceMode::Global => census.count_nodes(),
            ServiceMode::GlobalJob => census.count_nodes_of_job(),
        }
        let runs = census.seats.values().any(Sitters::runs);
        census.over = job || (census.once() && census.done > 0 && !runs);
        census
    }

    /// Whether a task that ends well is not replaced.
    fn once(&self) -> bool {
        self.service.restart_condition() != "any"
    }

    fn count(&self, what: impl Fn(&Sitters<'a>) -> bool) -> u64 {
        number(self.seats.values().filter(|seat| what(seat)).count())
    }

    fn settled(&self) -> impl Fn(&Sitters<'a>) -> bool + use<'a> {
        let once = self.once();
        move |seat| seat.runs() || (once && seat.ended_well())
    }

    fn count_replicas(&mut self, replicas: u64) {
        let settled = self.settled();
        let present = self.count(|seat| settled(seat) || seat.live().is_some());
        self.done = self.count(&settled);
        // More than wanted: a scaling down is not over.
        self.wanted = Some(replicas).filter(|replicas| present <= *replicas);
    }

    fn count_nodes(&mut self) {
        let settled = self.settled();
        let Some(eligible) = eligible_nodes(self.service, self.nodes) else {
            self.done = self.count(settled);
            self.wanted = self.counted(|counts| counts.desired_tasks);
            return;
        };
        // What became of the task of a node that has left says nothing of the others.
        self.seats.retain(|seat, _| match seat {
            Seat::Node(id) => eligible.contains(id),
            _ => true,
        });
        if eligible.is_empty() {
            self.nowhere = Some(no_node(self.service));
        }
        // A paused node keeps what it has and gets nothing new.
        let expected = eligible
            .iter()
            .filter(|id| self.seats.contains_key(&Seat::Node(id)) || !self.is_paused(id));
        self.wanted = Some(number(expected.count()));
        self.done = self.count(settled);
    }

    /// A job gets a task on each node that is ready when it is written, all at once. A node that
    /// comes later gets none by that, and what has completed has, wherever its node is now.
    fn count_nodes_of_job(&mut self) {
        let Some(eligible) = eligible_nodes(self.service, self.nodes) else {
            self.done = self.count(Sitters::completed);
            self.wanted = self.counted(|counts| counts.desired_tasks + counts.completed_tasks);
            return;
        };
        self.seats.retain(|seat, tasks| match seat {
            Seat::Node(id) => eligible.contains(id) || tasks.completed(),
            _ => true,
        });
        self.done = self.count(Sitters::completed);
        self.wanted = Some(if self.seats.is_empty() {
            if eligible.is_empty() {
                self.nowhere = Some(no_node(self.service));
            }
            number(eligible.iter().filter(|id| !self.is_paused(id)).count())
        } else {
            number(self.seats.len())
        });
    }

    fn is_paused(&self, id: &str) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| node.id == id && node.availability == "pause")
    }

    /// What the engine counts, where something is left to count.
    fn counted(&self, of: impl Fn(&super::service::ServiceCounts) -> u64) -> Option<u64> {
        self.service.counts.as_ref().map(of).filter(|one| *one > 0)
    }

    pub(super) fn judge(self, options: &WaitOptions) -> Verdict {
        if let Some(reason) = self.nowhere {
            return Verdict::Unschedulable { reason };
        }
        if self.wanted.is_some_and(|wanted| self.done >= wanted) {
            let tasks = self.done;
            return if self.over {
                Verdict::Completed { tasks }
            } else {
                Verdict::Converged { tasks }
            };
        }
        let open: Vec<&Sitters<'_>> = self
            .seats
            .values()
            .filter(|seat| {
                if self.job {
                    !seat.completed()
                } else {
                    !seat.runs() && !seat.ended_well()
                }
            })
            .collect();
        if let Some(task) = open.iter().find_map(|seat| seat.stuck()) {
            let node = task.node_id.as_deref();
            return Verdict::Unschedulable {
                reason: match node {
                    Some(id) => format!("{}: {}", hostname(id, self.nodes), task.error),
                    None => task.error.clone(),
                },
            };
        }
        self.crash(&open, options)
            .unwrap_or_else(|| Verdict::Progressing {
                done: self.done,
                wanted: self.wanted.unwrap_or(self.done),
                detail: self.detail(&open),
            })
    }

    /// The worst of the seats where tasks keep ending.
    fn crash(&self, open: &[&Sitters<'_>], options: &WaitOptions) -> Option<Verdict> {
        let (seat, failures, task) = open
            .iter()
            .filter(|seat| !seat.runs())
            .filter_map(|seat| Some((seat, seat.failures().count(), seat.last_failure()?)))
            .max_by_key(|(seat, failures, _)| (seat.live().is_none(), *failures))?;
        let failures = number(failures);
        let restarting = seat.live().is_some();
        let last = TaskFailure::of(self.service, task, self.nodes);
        let missing = last.is_missing_image();
        let limit = if missing {
            options.image_limit
        } else {
            self.failures_allowed(options)
        };
        if failures < limit && restarting {
            return None;
        }
        Some(if missing {
            Verdict::ImageMissing {
                failures,
                restarting,
                last,
            }
        } else {
            Verdict::Crashing {
                failures,
                restarting,
                last,
            }
        })
    }

    /// So many failed tasks of one seat are too many: where tasks are to end by themselves, one
    /// more than are retried.
    fn failures_allowed(&self, options: &WaitOptions) -> u64 {
        let condition = self.service.restart_condition();
        if condition == "none" {
            return 1;
        }
        match self.service.max_attempts() {
            Some(retries) if self.job || condition != "any" => {
                let all = retries.saturating_add(1);
                // Within a window: what failed before it does not count.
                if self.service.has_restart_window() {
                    all.max(options.crash_limit)
                } else {
                    all
                }
            }
            _ => options.crash_limit,
        }
    }

    fn detail(&self, open: &[&Sitters<'_>]) -> String {
        let mut parts = Vec::new();
        if let Some(wanted) = self.wanted {
            parts.push(format!("{} of {wanted} tasks", self.done));
        } else {
            parts.push("tasks are still being placed or removed".to_owned());
        }
        if let Some(task) = open.iter().find_map(|seat| seat.live()) {
            let replica = task.replica(self.service.mode());
            let name = task_name(self.service.name(), replica, task, self.nodes);
            let mut text = format!("{name} is {}", task.state);
            if !task.error.is_empty() {
                text = format!("{text} ({})", task.error);
            }
            parts.push(text);
        }
        if let Some(task) = open.iter().find_map(|seat| seat.last_failure()) {
            parts.push(TaskFailure::of(self.service, task, self.nodes).to_string());
        }
        parts.join("; ")
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn no_node(service: &ServiceObserved) -> String {
    let constraints = service.constraints();
    if constraints.is_empty() {
        "no node takes tasks".to_owned()
    } else {
        format!("no node satisfies {}", constraints.join(" and "))
    }
}
