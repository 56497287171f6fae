//! One site, opened: planned, synced, looked at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use time::OffsetDateTime;

use super::context::{Context, Inputs, OpenError};
use super::explain;
use super::needs;
use super::record::Recorder;
use super::renew::{self, RenewOptions, Scope, UnknownCertificate};
use super::run::{self, Observed, Steps};
use super::state::{LockError, StateLock};
use super::steps;
use super::{
    CertificateStatus, Cycle, Event, EventSink, FORMAT_VERSION, Failure, FailureClass, Graph, Plan,
    PlannedStep, Report, RunOutcome, Status, StepOutcome, status, verify,
};
use crate::deploy::Credentials;
use crate::docker::Engine;
use crate::ground::{Deadline, FingerprintKey};
use crate::guest::{Guest, Output, Program};
use crate::site::Site;

/// What a sync is asked to do beyond converging.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct SyncOptions {
    /// Whether Portainer's stack and data are removed first.
    pub reset_portainer: bool,
    /// Whether what was rolled back before is written once more.
    pub retry_rolled_back: bool,
}

impl SyncOptions {
    /// The same, with Portainer reset or not.
    #[must_use]
    pub fn reset_portainer(mut self, reset: bool) -> Self {
        self.reset_portainer = reset;
        self
    }

    /// The same options, with or without another try of what was rolled back.
    #[must_use]
    pub fn retry_rolled_back(mut self, retry: bool) -> Self {
        self.retry_rolled_back = retry;
        self
    }
}

/// Why a sync could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// Another sync of this site is running on the same state.
    #[error("another sync of this site is running: the lock is held by {holder}")]
    Locked {
        /// The process that holds the lock.
        holder: String,
    },
    /// The state directory cannot be used.
    #[error("the state directory cannot be used")]
    State(#[source] std::io::Error),
}

/// Why a renewal could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// A certificate was named that the site does not have.
    #[error(transparent)]
    Unknown(#[from] UnknownCertificate),
    /// As for any sync.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

/// Held while a site is changed. Dropping it lets others.
#[derive(Debug)]
#[must_use]
pub struct SiteLock(#[expect(dead_code, reason = "held, never read")] StateLock);

/// A site, opened. Nothing has been contacted yet.
pub struct Session {
    context: Arc<Context>,
}

impl Session {
    /// Reads what the site refers to (compose files, tokens, secrets) and checks that it fits
    /// together. No server is contacted, and nothing is written.
    ///
    /// # Errors
    /// [`OpenError`] naming what is wrong and where.
    pub fn open(site: Site, inputs: Inputs) -> Result<Self, OpenError> {
        let context = Context::open(site, inputs)?;
        let session = Self {
            context: Arc::new(context),
        };
        session
            .graph(&SyncOptions::default())
            .map_err(OpenError::Cycle)?;
        Ok(session)
    }

    /// The site.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.context.site
    }

    /// Worth knowing about what the site refers to, found while opening it.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.context.warnings
    }

    /// The graph of the site's resources.
    ///
    /// # Errors
    /// [`Cycle`] when resources need each other.
    pub fn graph(&self, options: &SyncOptions) -> Result<Graph, Cycle> {
        needs::graph(&self.context.site, &self.context.stack_needs, options)
    }

    /// Observes the site and says what a sync would do. Nothing is written, here or there: what is
    /// run in guests (`stat`, and `openssl s_client` for a check from inside one) only looks.
    pub async fn plan(&self, options: &SyncOptions, sink: Arc<dyn EventSink>) -> Plan {
        let (graph, steps) = self.prepare(options);
        self.dry_run(&graph, &steps, sink).await
    }

    /// Makes the site as declared.
    ///
    /// Dropping the future stops it between two requests; another sync then goes on from there.
    ///
    /// # Errors
    /// [`SyncError`] when it could not begin. That steps failed is said by the [`Report`].
    pub async fn sync(
        &self,
        options: &SyncOptions,
        sink: Arc<dyn EventSink>,
    ) -> Result<Report, SyncError> {
        let (graph, steps) = self.prepare(options);
        self.apply(&graph, &steps, None, sink).await
    }

    /// Observes what a renewal would look at and says what it would do, as [`Session::plan`].
    ///
    /// # Errors
    /// When a certificate is named that the site does not have.
    pub async fn plan_renewal(
        &self,
        options: &RenewOptions,
        sink: Arc<dyn EventSink>,
    ) -> Result<Plan, UnknownCertificate> {
        let scope = self.scope(options)?;
        Ok(self.dry_run(&scope.graph, &scope.steps, sink).await)
    }

    /// Renews certificates that are due and brings them where they are used: a sync restricted
    /// to certificates, the secrets made from them, and the stacks that use those. What they
    /// need is checked, and never changed.
    ///
    /// Dropping the future stops it between two requests; another renewal then goes on from
    /// there.
    ///
    /// # Errors
    /// [`RenewError`] when it could not begin. That steps failed is said by the [`Report`].
    pub async fn renew(
        &self,
        options: &RenewOptions,
        sink: Arc<dyn EventSink>,
    ) -> Result<Report, RenewError> {
        let scope = self.scope(options)?;
        let report = self.apply(&scope.graph, &scope.steps, Some(&scope), sink);
        Ok(report.await?)
    }

    /// The first moment at which any certificate of the site is due, from what is stored alone;
    /// `None` when it has none.
    #[must_use]
    pub fn next_due(&self) -> Option<OffsetDateTime> {
        renew::next_due(&self.context, OffsetDateTime::now_utc())
    }

    fn scope(&self, options: &RenewOptions) -> Result<Scope, UnknownCertificate> {
        // `open` has refused cycles.
        let whole = self
            .graph(&SyncOptions::default())
            .unwrap_or_else(|_| Graph::empty());
        renew::scope(&self.context, &whole, options)
    }

    async fn dry_run(&self, graph: &Graph, steps: &Steps, sink: Arc<dyn EventSink>) -> Plan {
        let recorder = Recorder::new(sink, None);
        self.started(&recorder, true);
        let plan = self.observe(graph, steps).await;
        recorder.emit(Event::Planned { plan: plan.clone() });
        plan
    }

    async fn apply(
        &self,
        graph: &Graph,
        steps: &Steps,
        renewal: Option<&Scope>,
        sink: Arc<dyn EventSink>,
    ) -> Result<Report, SyncError> {
        let lock = self.lock()?;
        let state = &self.context.state;
        state.ensure_fingerprint_key().map_err(SyncError::State)?;
        let begun = Instant::now();
        let name = OffsetDateTime::now_utc().unix_timestamp_nanos().to_string();
        let journal = state.journal(&name).map_err(SyncError::State)?;
        let recorder = Arc::new(Recorder::new(sink, Some(journal)));
        self.started(&recorder, false);

        let plan = self.observe(graph, steps).await;
        recorder.emit(Event::Planned { plan: plan.clone() });
        if let Some(scope) = renewal {
            scope
                .begin(&self.context, &plan.steps)
                .map_err(SyncError::State)?;
        }
        let reports = run::apply(graph, steps, &plan.steps, &recorder).await;
        if let Some(scope) = renewal {
            let well = reports
                .iter()
                .filter(|report| report.failure.is_none())
                .filter(|report| !matches!(report.outcome, StepOutcome::Skipped { .. }))
                .map(|report| &report.step);
            scope.end(&self.context, well).map_err(SyncError::State)?;
        }
        let checks = verify::checks(&self.context, &reports, &recorder.milestones());
        let changed = reports
            .iter()
            .filter(|report| report.outcome == StepOutcome::Changed)
            .count();
        let mut outcome =
            RunOutcome::of(reports.iter().filter_map(|report| report.failure.as_ref()));
        if outcome == RunOutcome::Converged && checks.iter().any(|check| !check.holds) {
            outcome = RunOutcome::Failed;
        }
        let report = Report {
            site: self.context.site.name.clone(),
            outcome,
            changed,
            steps: reports,
            checks,
            warnings: plan.warnings,
            elapsed_ms: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        };
        recorder.emit(Event::Finished {
            report: report.clone(),
        });
        drop(lock);
        Ok(report)
    }

    /// The site's lock, for what changes the site in other ways than by a sync: none begins while it
    /// is held.
    ///
    /// # Errors
    /// [`SyncError`] when it is not to be had.
    pub fn lock(&self) -> Result<SiteLock, SyncError> {
        let state = &self.context.state;
        state.create().map_err(SyncError::State)?;
        let lock = state.lock().map_err(|error| match error {
            LockError::Held(holder) => SyncError::Locked { holder },
            LockError::Io(path, error) => SyncError::State(std::io::Error::new(
                error.kind(),
                format!("{}: {error}", path.display()),
            )),
        })?;
        Ok(SiteLock(lock))
    }

    /// What the site looks like now. Nothing is changed.
    pub async fn status(&self) -> Status {
        status::status(&self.context).await
    }

    /// The site's certificates now, and what could not be looked at. Guests are looked into only
    /// with `in_guests`; nothing else is contacted. Nothing is changed.
    pub async fn certificates(&self, in_guests: bool) -> (Vec<CertificateStatus>, Vec<Failure>) {
        let looked = if in_guests {
            status::Looked::InGuestsToo
        } else {
            status::Looked::HereOnly
        };
        status::certificate_states(&self.context, looked).await
    }

    /// Runs a program in the guest named `name`. A program that fails is no failure here: see
    /// its [`Output::status`].
    ///
    /// # Errors
    /// When there is no such guest, it is not reached through its agent, or the program was not
    /// started.
    pub async fn run(&self, name: &str, program: &Program) -> Result<Output, Failure> {
        let guest = self.guest(name)?;
        let ran = guest.run(program).await;
        ran.map_err(|error| explain::guest(name, &error))
    }

    /// The content of a file in the guest named `name`; `None` when there is no such file.
    ///
    /// # Errors
    /// When there is no such guest, it is not reached through its agent, or the file cannot be
    /// read.
    pub async fn read(
        &self,
        name: &str,
        path: &str,
        deadline: Deadline,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let read = self.guest(name)?.read(path, deadline).await;
        read.map_err(|error| explain::guest(name, &error))
    }

    /// The guest named `name`, to run programs in.
    ///
    /// # Errors
    /// When there is none, or it is not reached through its agent.
    pub fn guest(&self, name: &str) -> Result<Arc<dyn Guest>, Failure> {
        self.context.guest(name)
    }

    /// The engines of the declared managers, as far as there is a way to them.
    ///
    /// # Errors
    /// When there is a way to none.
    pub fn managers(&self) -> Result<Vec<Engine>, Failure> {
        let mut engines = Vec::new();
        let mut failed = None;
        for name in needs::managers(&self.context.site) {
            match self.context.engine(name) {
                Ok(engine) => engines.push(engine),
                Err(failure) => failed = Some(failure),
            }
        }
        match failed {
            Some(failure) if engines.is_empty() => Err(failure),
            _ => Ok(engines),
        }
    }

    /// The engines of the declared nodes of the swarm by the names of their guests, or why there is
    /// no way to one.
    #[must_use]
    pub fn node_engines(&self) -> Vec<(String, Result<Engine, Failure>)> {
        let guests = self.context.site.guests.iter();
        guests
            .filter(|(_, guest)| guest.role.is_some())
            .map(|(name, _)| (name.clone(), self.context.engine(name)))
            .collect()
    }

    /// The credentials that the site declares for image registries, if any.
    #[must_use]
    pub fn registries(&self) -> Option<&Credentials> {
        self.context.registries.as_ref()
    }

    /// The key under which the site fingerprints its secrets; `None` before its first sync.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn fingerprint_key(&self) -> std::io::Result<Option<FingerprintKey>> {
        self.context.state.fingerprint_key()
    }

    fn started(&self, recorder: &Recorder, dry_run: bool) {
        recorder.emit(Event::Started {
            format: FORMAT_VERSION,
            site: self.context.site.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            dry_run,
        });
    }

    fn prepare(&self, options: &SyncOptions) -> (Graph, Steps) {
        self.context
            .set_retry_rolled_back(options.retry_rolled_back);
        // `open` has refused cycles, and no option adds one.
        let graph = self.graph(options).unwrap_or_else(|_| Graph::empty());
        let steps = graph
            .order()
            .map(|id| (id.clone(), steps::step(&self.context, id)))
            .collect::<BTreeMap<_, _>>();
        (graph, steps)
    }

    async fn observe(&self, graph: &Graph, steps: &Steps) -> Plan {
        let observed = run::observe(graph, steps).await;
        let mut warnings = self.context.warnings.clone();
        let mut planned = Vec::with_capacity(observed.len());
        for (
            step,
            Observed {
                action,
                warnings: found,
                ..
            },
        ) in observed
        {
            warnings.extend(
                found
                    .into_iter()
                    .map(|warning| format!("{step}: {warning}")),
            );
            planned.push(PlannedStep {
                needs: graph.needs(&step).cloned().collect(),
                step,
                action,
            });
        }
        Plan {
            site: self.context.site.name.clone(),
            steps: planned,
            warnings,
        }
    }
}

impl Plan {
    /// The outcome that the failures met while observing would give a run.
    #[must_use]
    pub fn outcome(&self) -> RunOutcome {
        RunOutcome::of(self.failures())
    }
}

/// The failure of a local file or the machine's own resources.
pub(super) fn local(what: impl std::fmt::Display, error: &dyn std::error::Error) -> Failure {
    Failure::new(FailureClass::Failed, error).context(what)
}
