//! `phoenix renew`: a sync restricted to certificates, once or whenever one is due.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_core::sync::{
    EventSink, RenewError, RenewOptions, RunOutcome, Session, SyncError, Watch,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::sync::could_not_begin;
use super::{Result, open, site_file, until_interrupted};
use crate::arguments::{Global, Renew};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::render;

/// How often a watch looks whether the site file has changed.
const GLANCE: Duration = Duration::from_secs(2);

/// Renews what is due.
pub(super) fn renew(global: &Global, printer: &Arc<Printer>, arguments: &Renew) -> Result {
    if arguments.print_systemd {
        return print_systemd(global, printer);
    }
    if arguments.watch {
        return watch(global, printer);
    }
    let session = open(global, printer, |_| Ok(()))?;
    let options = RenewOptions::default()
        .names(arguments.names.iter().cloned())
        .force(arguments.force);
    let progress = Arc::new(Progress::new(printer).quiet());
    let sink: Arc<dyn EventSink> = progress.clone();
    if arguments.dry_run {
        return match until_interrupted(printer, session.plan_renewal(&options, sink))? {
            Err(signal) => Ok(progress.interrupted(signal)),
            Ok(Err(error)) => Err(CommandError::from_error(Exit::Usage, &error)),
            Ok(Ok(plan)) => {
                progress.close();
                if !printer.json() {
                    printer.out(&render::plan(printer.layout(), &plan));
                }
                Ok(Exit::of(RunOutcome::of(plan.failures())))
            }
        };
    }
    match until_interrupted(printer, session.renew(&options, sink))? {
        Err(signal) => Ok(progress.interrupted(signal)),
        Ok(Err(error)) => Err(could_not_renew(&error)),
        Ok(Ok(report)) => {
            progress.close();
            let quiet = report.changed == 0 && report.outcome == RunOutcome::Converged;
            if printer.json() {
                // The last event said it all.
            } else if !quiet {
                printer.out(&render::report(printer.layout(), &report));
            } else if printer.layout().width.is_some() || printer.layout().verbose {
                printer.out(&format!("{}\n", nothing_due(&session)));
            }
            Ok(Exit::of(report.outcome))
        }
    }
}

fn could_not_renew(error: &RenewError) -> CommandError {
    match error {
        RenewError::Sync(error) => could_not_begin(error),
        other => CommandError::from_error(Exit::Usage, other),
    }
}

fn nothing_due(session: &Session) -> String {
    match session.next_due() {
        Some(due) => format!("Nothing is due before {}", moment(due)),
        None => "The site has no certificates".to_owned(),
    }
}

fn moment(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_else(|_| whole.to_string())
}

/// Renews whenever a certificate is due, until a signal comes: that is how it is meant to end.
fn watch(global: &Global, printer: &Arc<Printer>) -> Result {
    let file = site_file(global)?;
    // A site file that is wrong from the start is told at once.
    let session = open(global, printer, |_| Ok(()))?;
    match until_interrupted(printer, watching(global, printer, &file, session))? {
        Ok(never) => match never {},
        Err(signal) => {
            say(printer, &format!("stopped by {signal}"));
            Ok(Exit::Success)
        }
    }
}

async fn watching(
    global: &Global,
    printer: &Arc<Printer>,
    file: &Path,
    mut session: Session,
) -> std::convert::Infallible {
    let mut watch = Watch::new();
    let mut known = std::fs::read(file).ok();
    loop {
        let pause = once(printer, &session, &mut watch).await;
        let end = Instant::now() + pause;
        while Instant::now() < end {
            tokio::time::sleep(GLANCE.min(end.saturating_duration_since(Instant::now()))).await;
            let now = std::fs::read(file).ok();
            if now == known || now.is_none() {
                continue;
            }
            known = now;
            match open(global, printer, |_| Ok(())) {
                Ok(changed) => {
                    say(printer, "the site file has changed");
                    session = changed;
                    break;
                }
                Err(error) => {
                    printer.error(&error);
                    say(printer, "the site file as it was is kept");
                }
            }
        }
    }
}

/// One renewal; how long to pause afterwards.
async fn once(printer: &Arc<Printer>, session: &Session, watch: &mut Watch) -> Duration {
    let progress = Arc::new(Progress::new(printer).quiet());
    let sink: Arc<dyn EventSink> = progress.clone();
    let ended = session.renew(&RenewOptions::default(), sink).await;
    progress.close();
    let well = match ended {
        Ok(report) => {
            let well = report.outcome == RunOutcome::Converged;
            if !printer.json() && (report.changed > 0 || !well) {
                printer.out(&render::report(printer.layout(), &report));
            }
            well
        }
        // Whoever holds the lock may be renewing.
        Err(RenewError::Sync(error @ SyncError::Locked { .. })) => {
            say(printer, &error.to_string());
            false
        }
        Err(error) => {
            printer.error(&could_not_renew(&error));
            false
        }
    };
    let now = OffsetDateTime::now_utc();
    let pause = if well {
        watch.after_success(now, session.next_due())
    } else {
        watch.after_failure(random(now))
    };
    let next = moment(now + pause);
    if well {
        say(
            printer,
            &format!("{}; next look at {next}", nothing_due(session)),
        );
    } else {
        say(printer, &format!("renewing failed; next attempt at {next}"));
    }
    pause
}

/// A number between 0 and 1 that differs between watchers.
fn random(now: OffsetDateTime) -> f64 {
    f64::from(now.nanosecond()) / 1e9
}

/// A line about the watch itself, for people; programs read the events.
fn say(printer: &Printer, line: &str) {
    printer.err(&format!("{}: {line}\n", moment(OffsetDateTime::now_utc())));
}

/// Prints a service and a timer.
fn print_systemd(global: &Global, printer: &Printer) -> Result {
    let file = site_file(global)?;
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| {
            CommandError::new(Exit::Failed, format!("{}: {error}", path.display()))
        })
    };
    let file = absolute(&file)?;
    let program = std::env::current_exe().map_err(|error| {
        CommandError::new(
            Exit::Failed,
            format!("the place of this program is not known: {error}"),
        )
    })?;
    let directory = file.parent().unwrap_or(Path::new("/"));
    printer.out(&units(&program, &file, directory));
    Ok(Exit::Success)
}

/// The text of both units.
fn units(program: &Path, file: &Path, directory: &Path) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "\
# /etc/systemd/system/phoenix-renew.service
[Unit]
Description=Renew the certificates of a Phoenix site
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={program} --config {file} renew
# Variables that the site file refers to (`env:`); mode 0600.
EnvironmentFile=-/etc/phoenix/environment
TimeoutStartSec=30min
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ReadWritePaths={directory}
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
LockPersonality=yes
MemoryDenyWriteExecute=yes

# /etc/systemd/system/phoenix-renew.timer
[Unit]
Description=Renew the certificates of a Phoenix site every hour

[Timer]
OnCalendar=hourly
RandomizedDelaySec=10min
Persistent=yes

[Install]
WantedBy=timers.target
",
        program = quoted(program),
        file = quoted(file),
        directory = quoted(directory),
    );
    text
}

/// A path as a word of a unit file.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,=".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('$', "$$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_name_the_program_and_the_site_file_and_nothing_else_of_the_machine() {
        let text = units(
            Path::new("/usr/bin/phoenix"),
            Path::new("/srv/my site/phoenix.yaml"),
            Path::new("/srv/my site"),
        );
        assert!(
            text.contains(
                "ExecStart=/usr/bin/phoenix --config \"/srv/my site/phoenix.yaml\" renew\n"
            ),
            "{text}"
        );
        assert!(text.contains("ReadWritePaths=\"/srv/my site\"\n"), "{text}");
        assert!(text.contains("[Timer]\nOnCalendar=hourly\n"), "{text}");
    }

    #[test]
    fn a_word_of_a_unit_is_quoted_where_it_must_be() {
        assert_eq!(quoted(Path::new("/a/b%c")), "/a/b%%c");
        assert_eq!(quoted(Path::new("/a $b")), "\"/a $$b\"");
        assert_eq!(quoted(Path::new("/a\"b")), "\"/a\\\"b\"");
    }
}
