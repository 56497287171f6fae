//! Shows the events of a run as they come: as JSON, as plain lines, or as lines that change at
//! the bottom of the terminal while finished ones scroll away above.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use phoenix_core::sync::{
    Event, EventSink, FORMAT_VERSION, Failure, Record, ResourceId, StepOutcome,
};
use serde::Serialize;

use crate::escape;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render::{self, Layout};

/// How often the changing lines are drawn.
const TICK: Duration = Duration::from_millis(100);

/// Shows the events of one run.
pub(crate) struct Progress {
    printer: Arc<Printer>,
    lines: Option<MultiProgress>,
    /// Whether the changing lines are drawn anew as time passes, and not by events alone.
    ticks: bool,
    /// Whether the site's name is held back until there is something to say about it.
    quiet: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    dry_run: bool,
    /// The line with the site's name while it is held back.
    held: Option<String>,
    observing: Option<ProgressBar>,
    running: Vec<Running>,
    failed: Vec<(ResourceId, Failure)>,
    begun: bool,
    changed: bool,
}

/// A step that has begun and not ended.
struct Running {
    step: ResourceId,
    since: Instant,
    doing: String,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Shows events through `printer`.
    pub(crate) fn new(printer: &Arc<Printer>) -> Self {
        Self::with_lines(printer, printer.animate(), true)
    }

    fn with_lines(printer: &Arc<Printer>, lines: Option<MultiProgress>, ticks: bool) -> Self {
        Self {
            printer: Arc::clone(printer),
            lines,
            ticks,
            quiet: false,
            state: Mutex::default(),
        }
    }

    /// The same, silent for a run that finds nothing to do, as timers want it.
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = !self.printer.layout().verbose && self.printer.layout().width.is_none();
        self
    }

    /// Says what `signal` interrupted.
    pub(crate) fn interrupted(&self, signal: &'static str) -> Exit {
        self.close();
        let state = self.state();
        let exit = Exit::Interrupted;
        if self.printer.json() {
            self.printer.json_line(&Interrupted {
                event: "interrupted",
                format: FORMAT_VERSION,
                exit_code: exit.code(),
                signal,
                running: state.running.iter().map(|running| &running.step).collect(),
            });
        }
        let layout = self.printer.err_layout();
        let mut text = layout.paint(Layout::WARN, "interrupted").into_owned();
        text.push_str(&format!(" by {signal}"));
        if state.running.is_empty() {
            text.push_str(match (state.begun, state.changed) {
                (false, _) | (true, false) => "; nothing had been changed\n",
                (true, true) => "; no step was running\n",
            });
        } else {
            text.push_str(" while running:\n");
            for running in &state.running {
                text.push_str(&format!(
                    "  {} ({}): {}\n",
                    escape::line(&running.step.to_string()),
                    render::duration(running.since.elapsed()),
                    running.doing
                ));
            }
        }
        if !state.failed.is_empty() {
            text.push_str("Failed before that\n");
            for (step, failure) in &state.failed {
                text.push_str(&render::failure(layout, &step.to_string(), failure));
            }
        }
        if state.begun && !state.dry_run {
            text.push_str("Run the same command again to go on.\n");
        }
        self.printer.err(&text);
        exit
    }

    /// Takes the changing lines away; nothing is drawn any more.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        self.take_away(state.observing.take());
        for running in &mut state.running {
            self.take_away(running.bar.take());
        }
        self.printer.settle();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bar(&self, message: String) -> Option<ProgressBar> {
        let lines = self.lines.as_ref()?;
        let bar = lines.add(ProgressBar::new_spinner().with_style(style()));
        bar.set_message(message);
        if self.ticks {
            bar.enable_steady_tick(TICK);
        } else {
            bar.tick();
        }
        Some(bar)
    }

    fn take_away(&self, bar: Option<ProgressBar>) {
        if let (Some(bar), Some(lines)) = (bar, &self.lines) {
            bar.finish_and_clear();
            lines.remove(&bar);
        }
    }

    fn say(&self, text: &str) {
        if !self.printer.json() {
            self.printer.out(text);
        }
    }

    fn show(&self, state: &mut State, event: &Event) {
        let layout = self.printer.layout();
        match event {
            Event::Started {
                site,
                version,
                dry_run,
                ..
            } => {
                state.dry_run = *dry_run;
                let site = escape::line(site);
                if !dry_run {
                    let line = format!("Site {site} (phoenix {version})");
                    let line = format!("{}\n", layout.paint(Layout::BOLD, &line));
                    if self.quiet {
                        state.held = Some(line);
                    } else {
                        self.say(&line);
                    }
                }
                state.observing = self.bar(format!("looking at site {site}"));
            }
            Event::Planned { plan } => {
                self.take_away(state.observing.take());
                if !state.dry_run && (plan.has_changes() || plan.failures().next().is_some()) {
                    if let Some(line) = state.held.take() {
                        self.say(&line);
                    }
                    self.say(&render::plan_line(layout, plan));
                }
            }
            Event::StepStarted { step, changes } => {
                state.begun = true;
                let listed = |layout: &Layout| {
                    let changes: Vec<String> = changes
                        .iter()
                        .map(|change| render::change(layout, change))
                        .collect();
                    changes.join("; ")
                };
                if self.lines.is_none() {
                    self.say(&line(layout, Layout::BOLD, "start", step, &listed(layout)));
                }
                let changes = listed(&Layout::default());
                let bar = self.bar(format!("{}: {changes}", escape::line(&step.to_string())));
                state.running.push(Running {
                    step: step.clone(),
                    since: Instant::now(),
                    doing: changes,
                    bar,
                });
            }
            Event::StepProgress { step, message } => {
                let message = escape::line(message).into_owned();
                if layout.verbose {
                    self.say(&line(layout, Layout::DIM, "", step, &message));
                }
                self.doing(state, step, message);
            }
            Event::Changed { step, change } => {
                state.changed = true;
                if layout.verbose {
                    let change = format!("did {}", render::change(layout, change));
                    self.say(&line(layout, Layout::DIM, "", step, &change));
                }
            }
            Event::StepFinished {
                step,
                outcome,
                elapsed_ms,
                evidence,
                failure,
            } => {
                if let Some(at) = state.running.iter().position(|one| one.step == *step) {
                    let ended = state.running.remove(at);
                    self.take_away(ended.bar);
                }
                state.changed |= *outcome == StepOutcome::Changed;
                let time = render::duration(Duration::from_millis(*elapsed_ms));
                let evidence = evidence.as_deref().map(escape::line).unwrap_or_default();
                let (style, word, text) = match outcome {
                    StepOutcome::Unchanged if !layout.verbose => return,
                    StepOutcome::Unchanged => (Layout::DIM, "same", evidence.into_owned()),
                    StepOutcome::Changed => {
                        (Layout::GOOD, "changed", format!("in {time}: {evidence}"))
                    }
                    StepOutcome::Failed => {
                        let why = failure.as_ref().map(render::reason).unwrap_or_default();
                        (Layout::BAD, "failed", format!("after {time}: {why}"))
                    }
                    StepOutcome::Skipped { because_of } => {
                        let cause = because_of.to_string();
                        let why = format!("because {} failed", escape::line(&cause));
                        (Layout::WARN, "skipped", why)
                    }
                    _ => (Layout::DIM, "ended", evidence.into_owned()),
                };
                if let Some(failure) = failure {
                    state.failed.push((step.clone(), failure.clone()));
                }
                self.say(&line(
                    layout,
                    style,
                    word,
                    step,
                    text.trim_end_matches([':', ' ']),
                ));
            }
            Event::Finished { .. } if state.held.is_some() => {}
            Event::Finished { .. } => self.say("\n"),
            _ => {}
        }
    }

    fn doing(&self, state: &mut State, step: &ResourceId, message: String) {
        if let Some(running) = state.running.iter_mut().find(|one| one.step == *step) {
            if let Some(bar) = &running.bar {
                bar.set_message(format!("{}: {message}", escape::line(&step.to_string())));
                if !self.ticks {
                    bar.tick();
                }
            }
            running.doing = message;
        }
    }
}

impl EventSink for Progress {
    fn record(&self, record: &Record) {
        if self.printer.json() {
            self.printer.json_line(record);
        }
        let mut state = self.state();
        self.show(&mut state, &record.event);
    }
}

#[derive(Serialize)]
struct Interrupted<'a> {
    event: &'static str,
    format: u32,
    exit_code: u8,
    signal: &'static str,
    running: Vec<&'a ResourceId>,
}

/// What happened to a step, on one line.
fn line(
    layout: &Layout,
    style: anstyle::Style,
    word: &str,
    step: &ResourceId,
    text: &str,
) -> String {
    let word = format!("{word:<7}");
    let step = step.to_string();
    let mut line = format!("{}  {}", layout.paint(style, &word), escape::line(&step));
    if !text.is_empty() {
        if !text.starts_with("in ") && !text.starts_with("after ") {
            line.push(':');
        }
        line.push(' ');
        line.push_str(text);
    }
    line.push('\n');
    line
}

fn style() -> ProgressStyle {
    let elapsed = |state: &ProgressState, writer: &mut dyn std::fmt::Write| {
        // Writing into a line that is being put together does not fail.
        let _ = write!(writer, "{:>5}", render::duration(state.elapsed()));
    };
    ProgressStyle::with_template("{spinner} {time} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .tick_chars("|/-\\ ")
        .with_key("time", elapsed)
}

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, ProgressDrawTarget, TermLike};
    use phoenix_core::sync::{Change, FailureClass, Plan, PlannedAction, PlannedStep, Verb};
    use time::macros::datetime;

    use super::*;
    use crate::printer::Written;

    /// A terminal that is written to as to stdout.
    struct Screen(InMemoryTerm);

    impl std::io::Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).replace('\n', "\r\n");
            self.0.write_str(&text)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn web() -> ResourceId {
        ResourceId::Certificate("web".into())
    }

    fn engine() -> ResourceId {
        ResourceId::Endpoint("portainer".into())
    }

    fn issue() -> Change {
        Change::new(Verb::Issue, "certificate\u{1b}[2J", "missing")
    }

    fn script() -> Vec<Event> {
        let change = |step| {
            let changes = vec![issue()];
            PlannedStep::new(
                step,
                vec![],
                PlannedAction::Change {
                    changes,
                    after: None,
                },
            )
        };
        vec![
            Event::Started {
                format: FORMAT_VERSION,
                site: "lab".into(),
                version: "0.1.0",
                dry_run: false,
            },
            Event::Planned {
                plan: Plan::new("lab", vec![change(engine()), change(web())]),
            },
            Event::StepFinished {
                step: ResourceId::Authority,
                outcome: StepOutcome::Unchanged,
                elapsed_ms: 1,
                evidence: Some("valid".into()),
                failure: None,
            },
            Event::StepStarted {
                step: engine(),
                changes: vec![
                    issue(),
                    Change::new(Verb::Restart, "docker", "new").disruptive(),
                ],
            },
            Event::StepStarted {
                step: web(),
                changes: vec![issue()],
            },
            Event::StepProgress {
                step: web(),
                message: "waiting for \u{1b}[31mthe guest".into(),
            },
            Event::Changed {
                step: engine(),
                change: issue(),
            },
            Event::StepFinished {
                step: engine(),
                outcome: StepOutcome::Changed,
                elapsed_ms: 3_200,
                evidence: Some("answers with TLS".into()),
                failure: None,
            },
            Event::StepFinished {
                step: web(),
                outcome: StepOutcome::Failed,
                elapsed_ms: 61_000,
                evidence: None,
                failure: Some(Failure::message(
                    FailureClass::Failed,
                    "reload failed\nreally",
                )),
            },
            Event::StepFinished {
                step: ResourceId::Stack("web".into()),
                outcome: StepOutcome::Skipped { because_of: web() },
                elapsed_ms: 0,
                evidence: None,
                failure: None,
            },
        ]
    }

    fn play(progress: &Progress, events: impl IntoIterator<Item = Event>) {
        for (sequence, event) in events.into_iter().enumerate() {
            // A record is made by the engine alone; what it looks like is part of its interface.
            progress.record(&Record::new(
                sequence as u64,
                datetime!(2030-01-02 03:04:05 UTC),
                event,
            ));
        }
    }

    struct Stage {
        progress: Progress,
        out: Written,
        err: Written,
    }

    fn stage(json: bool, layout: Layout) -> Stage {
        let (out, err) = (Written::default(), Written::default());
        let printer = Arc::new(Printer::to(json, layout, out.clone(), err.clone(), None));
        Stage {
            progress: Progress::with_lines(&printer, None, false),
            out,
            err,
        }
    }

    #[test]
    fn piped_every_start_and_end_is_a_plain_line() {
        let Stage { progress, out, err } = stage(false, Layout::default());
        play(&progress, script());
        assert_eq!(
            out.take(),
            "\
Site lab (phoenix 0.1.0)
Plan: 2 to change, 0 unchanged
start    docker/portainer: issue certificate\\u{1b}[2J (missing); restart docker (new) [disruptive]
start    certificate/web: issue certificate\\u{1b}[2J (missing)
changed  docker/portainer in 3.2s: answers with TLS
failed   certificate/web after 1m01s: reload failed
skipped  stack/web: because certificate/web failed
"
        );
        assert_eq!(err.take(), "");
    }

    #[test]
    fn verbose_shows_what_is_unchanged_and_what_is_being_done() {
        let layout = Layout {
            verbose: true,
            ..Layout::default()
        };
        let Stage { progress, out, .. } = stage(false, layout);
        play(&progress, script());
        let text = out.take();
        for line in [
            "same     authority: valid\n",
            "         certificate/web: waiting for \\u{1b}[31mthe guest\n",
            "         docker/portainer: did issue certificate\\u{1b}[2J (missing)\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
    }

    #[test]
    fn json_is_one_record_per_line_and_the_format_comes_first() {
        let Stage { progress, out, err } = stage(true, Layout::default());
        play(&progress, script());
        let text = out.take();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), script().len());
        assert_eq!(lines[0]["format"], 1);
        assert_eq!(lines[0]["event"], "started");
        assert_eq!(lines[8]["failure"]["message"], "reload failed\nreally");
        assert!(!text.contains('\u{1b}'));
        assert_eq!(err.take(), "");
    }

    #[test]
    fn an_interruption_names_what_was_running_and_what_had_failed() {
        let Stage { progress, out, err } = stage(true, Layout::default());
        play(&progress, script().into_iter().take(6));
        out.take();
        assert_eq!(progress.interrupted("SIGINT"), Exit::Interrupted);
        assert_eq!(
            out.take(),
            "{\"event\":\"interrupted\",\"format\":1,\"exit_code\":130,\"signal\":\"SIGINT\",\
             \"running\":[\"docker/portainer\",\"certificate/web\"]}\n"
        );
        let text = err.take();
        assert!(
            text.starts_with("interrupted by SIGINT while running:\n"),
            "{text}"
        );
        assert!(text.contains("  docker/portainer ("), "{text}");
        assert!(
            text.contains("): waiting for \\u{1b}[31mthe guest\n"),
            "{text}"
        );
        assert!(
            text.ends_with("Run the same command again to go on.\n"),
            "{text}"
        );

        let Stage { progress, err, .. } = stage(false, Layout::default());
        play(&progress, script());
        progress.interrupted("SIGTERM");
        assert_eq!(
            err.take(),
            "\
interrupted by SIGTERM; no step was running
Failed before that
  certificate/web
    reload failed
    really
Run the same command again to go on.
"
        );
    }

    #[test]
    fn before_any_step_nothing_had_been_changed() {
        let Stage { progress, err, .. } = stage(false, Layout::default());
        play(&progress, script().into_iter().take(1));
        progress.interrupted("SIGINT");
        assert_eq!(
            err.take(),
            "interrupted by SIGINT; nothing had been changed\n"
        );
    }

    #[test]
    fn on_a_terminal_running_steps_stay_below_finished_ones() {
        let term = InMemoryTerm::new(20, 72);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let lines = MultiProgress::with_draw_target(target);
        let printer = Arc::new(Printer::to(
            false,
            Layout::default(),
            Screen(term.clone()),
            std::io::sink(),
            Some(lines.clone()),
        ));
        let progress = Progress::with_lines(&printer, Some(lines), false);
        let screen = |events: std::ops::Range<usize>| {
            play(&progress, script().drain(events));
            let shown = term.contents();
            shown
                .lines()
                .map(str::trim_end)
                .collect::<Vec<_>>()
                .join("\n")
        };

        let looking = screen(0..1);
        assert!(
            looking.starts_with("Site lab (phoenix 0.1.0)\n"),
            "{looking}"
        );
        assert!(looking.ends_with("looking at site lab"), "{looking}");

        let planned = screen(1..3);
        assert!(
            planned.ends_with("\nPlan: 2 to change, 0 unchanged"),
            "{planned}"
        );

        let running = screen(3..6);
        let rows: Vec<&str> = running.lines().collect();
        assert_eq!(rows.len(), 4, "{running}");
        assert!(
            rows[2].contains("s docker/portainer: issue certificate\\u{1b}[2J"),
            "{running}"
        );
        assert!(
            rows[3].ends_with("s certificate/web: waiting for \\u{1b}[31mthe guest"),
            "{running}"
        );

        let one_done = screen(6..8);
        let rows: Vec<&str> = one_done.lines().collect();
        assert_eq!(
            rows[2],
            "changed  docker/portainer in 3.2s: answers with TLS"
        );
        assert!(rows[3].contains("s certificate/web: waiting"), "{one_done}");

        let all_done = screen(8..10);
        assert!(
            all_done.ends_with(
                "\nfailed   certificate/web after 1m01s: reload failed\n\
                 skipped  stack/web: because certificate/web failed"
            ),
            "{all_done}"
        );
    }
}
