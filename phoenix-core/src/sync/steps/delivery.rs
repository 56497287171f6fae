//! Files in a guest, and the command that makes the guest use them.
//!
//! Before anything is placed it is remembered that the reload is still due; that is forgotten
//! only after the reload succeeded. Neither a crash in between nor a failed reload is lost.

use std::time::Duration;

use crate::ground::{Deadline, SecretBytes};
use crate::guest::{File, Program};
use crate::pki::Bundle;
use crate::site::{CertificatePart, Command};
use crate::sync::context::Context;
use crate::sync::plan::counted;
use crate::sync::session::local;
use crate::sync::state::DeliveredRecord;
use crate::sync::step::Progress;
use crate::sync::{Change, Failure, Verb, explain};

/// How long placing the files of one delivery may take.
const PLACING: Duration = Duration::from_secs(60);

/// A file as it must be in a guest.
#[derive(Debug, Clone)]
pub(super) struct WantedFile {
    pub(super) path: String,
    pub(super) content: SecretBytes,
    pub(super) owner: String,
    pub(super) group: String,
    pub(super) mode: u32,
}

impl WantedFile {
    /// The file, to be placed.
    pub(super) fn placed(&self) -> File {
        File::new(&self.path, self.content.clone())
            .owner(&self.owner, &self.group)
            .mode(self.mode)
    }

    fn record(&self) -> DeliveredRecord {
        DeliveredRecord {
            path: self.path.clone(),
            owner: self.owner.clone(),
            group: self.group.clone(),
            mode: self.mode,
        }
    }
}

/// The files of one delivery and what comes after them.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) guest: String,
    /// Under which it is remembered: unique in the site.
    pub(super) key: String,
    /// What is delivered, in words.
    pub(super) what: String,
    pub(super) files: Vec<WantedFile>,
    pub(super) reload: Option<Command>,
    /// What the reload is: a reload, or a restart that interrupts.
    pub(super) verb: Verb,
}

/// What differs in a guest.
#[derive(Debug, Default)]
pub(super) struct Differences {
    pub(super) files: Vec<Change>,
    pub(super) reload: Option<Change>,
}

impl Differences {
    pub(super) fn into_changes(self) -> Vec<Change> {
        self.files.into_iter().chain(self.reload).collect()
    }
}

/// The part of `bundle` that a file or secret holds.
pub(super) fn part(bundle: &Bundle, part: CertificatePart) -> SecretBytes {
    match part {
        CertificatePart::Certificate => SecretBytes::from(bundle.certificate_pem()),
        CertificatePart::Chain => SecretBytes::from(bundle.chain_pem()),
        CertificatePart::Key => bundle.key_pem(),
        CertificatePart::Ca => SecretBytes::from(bundle.root_pem()),
        CertificatePart::Bundle => bundle.combined_pem(),
    }
}

impl Target {
    /// Looks at the files in the guest, reading only.
    pub(super) async fn differences(&self, cx: &Context) -> Result<Differences, Failure> {
        let guest = cx.guest(&self.guest)?;
        let delivered = cx
            .state
            .delivered(&self.key)
            .map_err(|error| local("what was delivered", &error))?;
        let mut files = Vec::new();
        for file in &self.files {
            let found = guest
                .read(&file.path, cx.look())
                .await
                .map_err(|error| explain::guest(&self.guest, &error))?;
            let before = delivered.iter().find(|record| record.path == file.path);
            let why = match found {
                None => "missing".to_owned(),
                Some(content) if content != file.content.expose() => {
                    "its content differs".to_owned()
                }
                Some(_) => match before {
                    None => "Phoenix has not delivered it, so its owner and mode are not known"
                        .to_owned(),
                    Some(record) if *record == file.record() => continue,
                    Some(record) => format!(
                        "delivered as {}:{} {:04o}, declared {}:{} {:04o}",
                        record.owner, record.group, record.mode, file.owner, file.group, file.mode
                    ),
                },
            };
            files.push(Change::new(
                Verb::Deliver,
                format!("{}:{}", self.guest, file.path),
                why,
            ));
        }
        let unfinished = cx
            .state
            .unfinished(&self.key)
            .map_err(|error| local("what is unfinished", &error))?;
        let reload = match (unfinished, &self.reload) {
            (_, None) => None,
            (Some(unfinished), Some(command)) => Some(self.reload_change(
                command,
                format!("delivered but not reloaded: {}", unfinished.last),
            )),
            (None, Some(command)) if !files.is_empty() => {
                Some(self.reload_change(command, "files change".to_owned()))
            }
            (None, Some(_)) => None,
        };
        Ok(Differences { files, reload })
    }

    /// What delivering it anew is.
    pub(super) fn unobserved(&self, why: &str) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .files
            .iter()
            .map(|file| Change::new(Verb::Deliver, format!("{}:{}", self.guest, file.path), why))
            .collect();
        if let Some(command) = &self.reload {
            changes.push(self.reload_change(command, "files change".to_owned()));
        }
        changes
    }

    fn reload_change(&self, command: &Command, why: String) -> Change {
        let change = Change::new(
            self.verb,
            format!(
                "{} in {}: {}",
                self.what,
                self.guest,
                command.argv.join(" ")
            ),
            why,
        );
        if self.verb == Verb::Restart {
            change.disruptive()
        } else {
            change
        }
    }

    /// Where it is delivered, readable.
    pub(super) fn place_name(&self) -> String {
        let paths: Vec<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        format!("{}:{}", self.guest, paths.join(", "))
    }

    /// Places what differs. That the reload is due is remembered first.
    pub(super) async fn place(&self, cx: &Context, progress: &Progress) -> Result<(), Failure> {
        let differences = self.differences(cx).await?;
        if differences.files.is_empty() {
            return Ok(());
        }
        if self.reload.is_some() {
            self.remember(cx, "the files were being delivered")?;
        }
        let guest = cx.guest(&self.guest)?;
        let files: Vec<File> = self.files.iter().map(|file| file.placed()).collect();
        progress.say(format!(
            "placing {} in {}",
            counted(files.len(), "file"),
            self.guest
        ));
        guest
            .place_all(&files, Deadline::after(PLACING))
            .await
            .map_err(|error| {
                explain::guest(&self.guest, &error).context(format!("{}: delivery", self.what))
            })?;
        let records: Vec<_> = self.files.iter().map(WantedFile::record).collect();
        cx.state
            .set_delivered(&self.key, &records)
            .map_err(|error| local("what was delivered", &error))?;
        for change in differences.files {
            progress.changed(change);
        }
        Ok(())
    }

    /// Runs the reload command, when it is due.
    pub(super) async fn reload(&self, cx: &Context, progress: &Progress) -> Result<(), Failure> {
        let Some(command) = &self.reload else {
            return Ok(());
        };
        let due = cx
            .state
            .unfinished(&self.key)
            .map_err(|error| local("what is unfinished", &error))?;
        let Some(due) = due else {
            return Ok(());
        };
        let guest = cx.guest(&self.guest)?;
        progress.say(format!(
            "running {} in {}",
            command.argv.join(" "),
            self.guest
        ));
        let ran = guest
            .run(&Program::new(
                command.argv.clone(),
                Deadline::after(command.timeout),
            ))
            .await;
        let what = format!("{}: {}", self.what, self.verb_noun());
        let failed = match ran {
            Ok(output) => {
                let end = output.status.to_string();
                explain::program(&self.guest, &what, &command.argv, output)
                    .map(|failure| (end, failure))
            }
            Err(error) => {
                let failure = explain::not_run(&self.guest, &what, &command.argv, &error);
                Some((failure.message.clone(), failure))
            }
        };
        match failed {
            Some((last, failure)) => {
                self.remember(cx, &last)?;
                Err(failure)
            }
            None => {
                cx.state
                    .clear_unfinished(&self.key)
                    .map_err(|error| local("what is unfinished", &error))?;
                progress.changed(self.reload_change(command, due.last));
                Ok(())
            }
        }
    }

    fn verb_noun(&self) -> &'static str {
        if self.verb == Verb::Restart {
            "restart command"
        } else {
            "reload command"
        }
    }

    fn remember(&self, cx: &Context, last: &str) -> Result<(), Failure> {
        cx.state
            .set_unfinished(&self.key, last)
            .map_err(|error| local("what is unfinished", &error))
    }
}
