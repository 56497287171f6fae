//! Walks the graph: once to observe, once to apply.
//!
//! Both walks start a resource as soon as everything it needs has ended, and run what does not
//! depend on each other at the same time.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use indexmap::IndexMap;

use super::record::Recorder;
use super::step::{Observation, Progress, Step, View};
use super::{
    Change, Event, Failure, FailureClass, Graph, PlannedAction, PlannedStep, ResourceId,
    StepOutcome, StepReport,
};

/// How many resources are worked on at the same time.
const CONCURRENCY: usize = 16;

/// The steps of a site by what they are about.
pub(super) type Steps = BTreeMap<ResourceId, Arc<dyn Step>>;

/// The results of the resources that have ended so far.
type Done<T> = Arc<Mutex<BTreeMap<ResourceId, T>>>;

fn locked<T>(done: &Mutex<T>) -> MutexGuard<'_, T> {
    done.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` for every resource after all that it needs, at most [`CONCURRENCY`] at a time.
///
/// Each need is looked at once, when it has ended: a site of many resources is walked in time
/// that grows with its needs, not with their square.
async fn walk<T, F>(
    graph: &Graph,
    work: impl Fn(ResourceId, Done<T>) -> F,
) -> IndexMap<ResourceId, T>
where
    T: Clone,
    F: Future<Output = T>,
{
    let mut open: BTreeMap<&ResourceId, usize> = BTreeMap::new();
    let mut dependants: BTreeMap<&ResourceId, Vec<&ResourceId>> = BTreeMap::new();
    let mut ready: VecDeque<&ResourceId> = VecDeque::new();
    for id in graph.order() {
        let mut count = 0;
        for need in graph.needs(id) {
            dependants.entry(need).or_default().push(id);
            count += 1;
        }
        if count == 0 {
            ready.push_back(id);
        } else {
            open.insert(id, count);
        }
    }
    let done: Done<T> = Arc::default();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < CONCURRENCY
            && let Some(id) = ready.pop_front()
        {
            let started = work(id.clone(), Arc::clone(&done));
            running.push(async move { (id, started.await) });
        }
        let Some((id, result)) = running.next().await else {
            break;
        };
        locked(&done).insert(id.clone(), result);
        for dependant in dependants.remove(id).unwrap_or_default() {
            if let Some(count) = open.get_mut(dependant) {
                *count -= 1;
                if *count == 0 {
                    ready.push_back(dependant);
                }
            }
        }
    }
    let done = locked(&done);
    graph
        .order()
        .filter_map(|id| done.get(id).map(|result| (id.clone(), result.clone())))
        .collect()
}

/// What observing one resource gave.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) action: PlannedAction,
    pub(super) warnings: Vec<String>,
    usable: bool,
}

/// Observes every resource once. Nothing is changed and nothing waited for.
pub(super) async fn observe(graph: &Graph, steps: &Steps) -> IndexMap<ResourceId, Observed> {
    walk(graph, |id, done| observe_one(graph, steps, id, done)).await
}

async fn observe_one(
    graph: &Graph,
    steps: &Steps,
    id: ResourceId,
    done: Done<Observed>,
) -> Observed {
    let without = |action| Observed {
        action,
        warnings: Vec::new(),
        usable: false,
    };
    let Some(step) = steps.get(&id) else {
        return without(PlannedAction::Failed {
            failure: Failure::message(FailureClass::Failed, format!("{id} has no step")),
        });
    };
    let view = {
        let done = locked(&done);
        let blocker = graph
            .needs(&id)
            .find_map(|need| match &done.get(need)?.action {
                PlannedAction::Failed { .. } => Some(need.clone()),
                PlannedAction::Blocked { by } => Some(by.clone()),
                PlannedAction::Unchanged { .. } | PlannedAction::Change { .. } => None,
            });
        if let Some(by) = blocker {
            return without(PlannedAction::Blocked { by });
        }
        let unusable = step
            .seen_through()
            .into_iter()
            .find(|through| done.get(through).is_some_and(|observed| !observed.usable));
        if unusable.is_some() {
            return without(PlannedAction::Change {
                changes: step.unobserved(),
                after: unusable,
            });
        }
        View {
            pending: graph
                .needs(&id)
                .filter_map(|need| match &done.get(need)?.action {
                    PlannedAction::Change { changes, .. } => Some((need.clone(), changes.clone())),
                    _ => None,
                })
                .collect(),
        }
    };
    match step.observe(&view).await {
        Ok(Observation {
            changes,
            evidence,
            warnings,
            usable,
        }) => Observed {
            usable,
            warnings,
            action: if changes.is_empty() {
                PlannedAction::Unchanged { evidence }
            } else {
                PlannedAction::Change {
                    changes,
                    after: None,
                }
            },
        },
        Err(failure) => without(PlannedAction::Failed { failure }),
    }
}

/// Applies what was planned, along the graph.
pub(super) async fn apply(
    graph: &Graph,
    steps: &Steps,
    planned: &[PlannedStep],
    recorder: &Arc<Recorder>,
) -> Vec<StepReport> {
    let unchanged: BTreeMap<&ResourceId, &str> = planned
        .iter()
        .filter_map(|step| match &step.action {
            PlannedAction::Unchanged { evidence } => Some((&step.step, evidence.as_str())),
            _ => None,
        })
        .collect();
    let reports = walk(graph, |id, done| {
        let known = unchanged.get(&id).map(|evidence| (*evidence).to_owned());
        apply_one(graph, steps, id, known, done, recorder)
    })
    .await;
    reports.into_values().collect()
}

async fn apply_one(
    graph: &Graph,
    steps: &Steps,
    id: ResourceId,
    known: Option<String>,
    done: Done<StepReport>,
    recorder: &Arc<Recorder>,
) -> StepReport {
    let begun = Instant::now();
    let because_of = blocker(graph, &id, &locked(&done));
    let ended = match because_of {
        Some(because_of) => Ended::skipped(because_of),
        None => {
            let needs_changed = graph.needs(&id).any(|need| {
                locked(&done)
                    .get(need)
                    .is_some_and(|report| report.outcome == StepOutcome::Changed)
            });
            match (known, steps.get(&id)) {
                (Some(evidence), _) if !needs_changed => Ended {
                    outcome: StepOutcome::Unchanged,
                    evidence: Some(evidence),
                    failure: None,
                },
                (_, Some(step)) => converge(&id, step.as_ref(), recorder).await,
                (_, None) => Ended::failed(Failure::message(
                    FailureClass::Failed,
                    format!("{id} has no step"),
                )),
            }
        }
    };
    let report = StepReport {
        step: id,
        outcome: ended.outcome,
        evidence: ended.evidence,
        failure: ended.failure,
        elapsed_ms: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
    };
    recorder.emit(Event::StepFinished {
        step: report.step.clone(),
        outcome: report.outcome.clone(),
        elapsed_ms: report.elapsed_ms,
        evidence: report.evidence.clone(),
        failure: report.failure.clone(),
    });
    report
}

/// The step whose failure keeps `id` from being begun.
fn blocker(
    graph: &Graph,
    id: &ResourceId,
    done: &BTreeMap<ResourceId, StepReport>,
) -> Option<ResourceId> {
    graph
        .needs(id)
        .find_map(|need| match &done.get(need)?.outcome {
            StepOutcome::Failed => Some(need.clone()),
            StepOutcome::Skipped { because_of } => Some(because_of.clone()),
            StepOutcome::Unchanged | StepOutcome::Changed => None,
        })
}

struct Ended {
    outcome: StepOutcome,
    evidence: Option<String>,
    failure: Option<Failure>,
}

impl Ended {
    fn failed(failure: Failure) -> Self {
        Self {
            outcome: StepOutcome::Failed,
            evidence: None,
            failure: Some(failure),
        }
    }

    fn skipped(because_of: ResourceId) -> Self {
        Self {
            outcome: StepOutcome::Skipped { because_of },
            evidence: None,
            failure: None,
        }
    }
}

/// Observes, acts where something differs, and observes again.
async fn converge(id: &ResourceId, step: &dyn Step, recorder: &Arc<Recorder>) -> Ended {
    let view = View::default();
    let before = match step.observe(&view).await {
        Ok(observation) => observation,
        Err(failure) => return Ended::failed(failure),
    };
    if before.changes.is_empty() {
        return Ended {
            outcome: StepOutcome::Unchanged,
            evidence: Some(before.evidence),
            failure: None,
        };
    }
    recorder.emit(Event::StepStarted {
        step: id.clone(),
        changes: before.changes,
    });
    let progress = Progress {
        step: id.clone(),
        recorder: Arc::clone(recorder),
    };
    if let Err(failure) = step.apply(&progress).await {
        return Ended::failed(failure);
    }
    match step.observe(&view).await {
        Ok(after) if after.changes.is_empty() => Ended {
            outcome: StepOutcome::Changed,
            evidence: Some(after.evidence),
            failure: None,
        },
        Ok(after) => Ended::failed(Failure::message(
            FailureClass::Failed,
            format!(
                "still not as declared after it was applied: {}",
                list(&after.changes)
            ),
        )),
        Err(failure) => Ended::failed(failure.context("applied, but it cannot be verified")),
    }
}

fn list(changes: &[Change]) -> String {
    changes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use async_trait::async_trait;
    use proptest::prelude::*;

    use super::*;
    use crate::sync::{Record, Verb};

    /// A step that converges once applied, unless it is told to fail.
    struct Fake {
        done: AtomicBool,
        fails: bool,
    }

    #[async_trait]
    impl Step for Fake {
        async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
            let changes = if self.done.load(Ordering::SeqCst) {
                Vec::new()
            } else {
                self.unobserved()
            };
            Ok(Observation::of(changes, "done"))
        }

        async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
            tokio::task::yield_now().await;
            if self.fails {
                return Err(Failure::message(FailureClass::Failed, "told to"));
            }
            self.done.store(true, Ordering::SeqCst);
            progress.changed(Change::new(Verb::Create, "it", "missing"));
            Ok(())
        }

        fn unobserved(&self) -> Vec<Change> {
            vec![Change::new(Verb::Create, "it", "missing")]
        }
    }

    fn node(number: usize) -> ResourceId {
        ResourceId::Stack(format!("s{number:02}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_failure_blocks_what_needs_it_and_nothing_else(
            edges in prop::collection::vec((0usize..16, 0usize..16), 0..40),
            failing in prop::collection::btree_set(0usize..16, 0..4),
        ) {
            let mut needs: BTreeMap<usize, BTreeSet<usize>> = (0..16).map(|n| (n, BTreeSet::new())).collect();
            for (a, b) in edges {
                if a != b {
                    needs.entry(a.max(b)).or_default().insert(a.min(b));
                }
            }
            let graph = Graph::new(needs.iter().map(|(id, required)| {
                (node(*id), required.iter().map(|n| node(*n)).collect())
            })).expect("no cycle");
            let steps: Steps = (0..16)
                .map(|n| {
                    let step: Arc<dyn Step> = Arc::new(Fake { done: AtomicBool::new(false), fails: failing.contains(&n) });
                    (node(n), step)
                })
                .collect();
            let mut blocked: BTreeMap<usize, bool> = BTreeMap::new();
            for (id, required) in &needs {
                let is_blocked = required.iter().any(|n| failing.contains(n) || blocked[n]);
                blocked.insert(*id, is_blocked);
            }
            let log: Arc<Mutex<Vec<Record>>> = Arc::default();
            let sink_log = Arc::clone(&log);
            let recorder = Arc::new(Recorder::new(
                Arc::new(move |record: &Record| sink_log.lock().expect("log").push(record.clone())),
                None,
            ));
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
            let reports = runtime.block_on(apply(&graph, &steps, &[], &recorder));
            prop_assert_eq!(reports.len(), 16);
            for report in &reports {
                let number: usize = report.step.name().expect("named")[1..].parse().expect("number");
                match &report.outcome {
                    StepOutcome::Skipped { because_of } => {
                        prop_assert!(blocked[&number]);
                        let root: usize = because_of.name().expect("named")[1..].parse().expect("number");
                        prop_assert!(failing.contains(&root));
                    }
                    StepOutcome::Failed => prop_assert!(!blocked[&number] && failing.contains(&number)),
                    StepOutcome::Changed => prop_assert!(!blocked[&number] && !failing.contains(&number)),
                    StepOutcome::Unchanged => prop_assert!(false, "nothing was done before"),
                }
            }
            let log = log.lock().expect("log");
            let finished = |id: &ResourceId| log.iter().position(|record| matches!(&record.event, Event::StepFinished { step, .. } if step == id));
            for (place, record) in log.iter().enumerate() {
                if let Event::StepStarted { step, .. } = &record.event {
                    for need in graph.needs(step) {
                        prop_assert!(finished(need).expect("ended") < place, "{} began before {} ended", step, need);
                    }
                }
            }
        }
    }

    #[test]
    fn a_wide_graph_is_walked_whole_and_bounded() {
        let graph = Graph::new((0..2_000_usize).map(|n| {
            let needs = if n == 0 {
                BTreeSet::new()
            } else {
                BTreeSet::from([node(0), node(n.saturating_sub(1_usize + n % 2))])
            };
            (node(n), needs)
        }))
        .expect("no cycle");
        let running = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        let results = runtime.block_on(walk(&graph, |id, done: Done<()>| {
            let missing = graph
                .needs(&id)
                .filter(|need| !locked(&done).contains_key(*need))
                .count();
            let (running, most) = (&running, &most);
            async move {
                assert_eq!(missing, 0, "{id} began before all it needs had ended");
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
            }
        }));
        assert!(results.keys().eq(graph.order()));
        let most = most.into_inner();
        assert!((2..=CONCURRENCY).contains(&most), "{most} at a time");
    }

    #[test]
    fn a_second_run_changes_nothing() {
        let graph = Graph::new([
            (node(0), BTreeSet::new()),
            (node(1), BTreeSet::from([node(0)])),
        ])
        .expect("no cycle");
        let steps: Steps = (0..2)
            .map(|n| {
                let step: Arc<dyn Step> = Arc::new(Fake {
                    done: AtomicBool::new(false),
                    fails: false,
                });
                (node(n), step)
            })
            .collect();
        let recorder = Arc::new(Recorder::new(Arc::new(|_: &Record| {}), None));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let first = apply(&graph, &steps, &[], &recorder).await;
            assert!(
                first
                    .iter()
                    .all(|report| report.outcome == StepOutcome::Changed)
            );
            let observed = observe(&graph, &steps).await;
            assert!(
                observed
                    .values()
                    .all(|seen| matches!(seen.action, PlannedAction::Unchanged { .. }))
            );
            let second = apply(&graph, &steps, &[], &recorder).await;
            assert!(
                second
                    .iter()
                    .all(|report| report.outcome == StepOutcome::Unchanged)
            );
        });
    }
}
