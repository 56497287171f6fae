//! Files in a guest, the command that makes the guest use them, and the look at what it serves.
//!
//! Before anything is placed it is remembered that the reload is still due; that is forgotten
//! only after the reload succeeded and, where there is a check, the delivered certificate was
//! seen. Neither a crash in between nor a failed reload is lost, and neither is it by putting the
//! previous files back.

use std::time::Duration;

use time::OffsetDateTime;

use super::served::{Expected, NotServed};
use crate::ground::{Deadline, SecretBytes};
use crate::guest::{File, Guest, Program};
use crate::pki::{Bundle, delivered_differences};
use crate::site::{CertificatePart, Command};
use crate::sync::context::Context;
use crate::sync::failure::chain;
use crate::sync::plan::counted;
use crate::sync::session::local;
use crate::sync::state::{DeliveredRecord, Served, Unfinished};
use crate::sync::step::Progress;
use crate::sync::{Change, Failure, FailureClass, Verb, explain};

/// How long placing the files of one delivery may take.
const PLACING: Duration = Duration::from_secs(60);
/// What is remembered while files are placed.
const BEING_DELIVERED: &str = "the files were being delivered";

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
    /// Whether the previous files are put back when they cannot be put to use.
    pub(super) rollback: bool,
    /// What must be served after the reload.
    pub(super) check: Option<Expected>,
}

/// What was in the place of files before they were delivered.
pub(super) enum Previous {
    /// It is not known: nothing was delivered, or it is not to be put back.
    Unknown,
    /// All of the files.
    Files(Vec<File>),
    /// These were missing.
    Missing(Vec<String>),
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
            let why = match found.map(SecretBytes::new) {
                None => vec!["missing".to_owned()],
                Some(content) if content != file.content => {
                    delivered_differences(&content, &file.content, OffsetDateTime::now_utc())
                        .iter()
                        .map(ToString::to_string)
                        .collect()
                }
                Some(_) => match before {
                    None => vec![
                        "Phoenix has not delivered it, so its owner and mode are not known"
                            .to_owned(),
                    ],
                    Some(record) if *record == file.record() => continue,
                    Some(record) => vec![format!(
                        "delivered as {}:{} {:04o}, declared {}:{} {:04o}",
                        record.owner, record.group, record.mode, file.owner, file.group, file.mode
                    )],
                },
            };
            files.push(Change::because(
                Verb::Deliver,
                format!("{}:{}", self.guest, file.path),
                why,
            ));
        }
        let why = self.why_to_put_to_use(cx, !files.is_empty()).await?;
        let reload = why.and_then(|why| self.use_change(why));
        Ok(Differences { files, reload })
    }

    /// Why the files are not in use, as far as that can be told by one look.
    async fn why_to_put_to_use(
        &self,
        cx: &Context,
        files_change: bool,
    ) -> Result<Option<Vec<String>>, Failure> {
        let unfinished = self.unfinished(cx)?;
        if files_change {
            let mut why = vec!["files change".to_owned()];
            if let Some(Unfinished { last, .. }) = unfinished
                && last != BEING_DELIVERED
            {
                why.push(format!("last time: {last}"));
            }
            return Ok(Some(why));
        }
        match (unfinished, &self.check) {
            (Some(Unfinished { last, served }), _) if served.is_unknown() => {
                Ok(Some(vec![format!("delivered but not reloaded: {last}")]))
            }
            (_, Some(check)) => {
                let seen = check.look(cx, &self.guest, cx.look()).await?;
                Ok(seen.map(|not_served| vec![not_served.to_string()]))
            }
            (_, None) => Ok(None),
        }
    }

    /// What delivering it anew is.
    pub(super) fn unobserved(&self, why: &str) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .files
            .iter()
            .map(|file| Change::new(Verb::Deliver, format!("{}:{}", self.guest, file.path), why))
            .collect();
        changes.extend(self.use_change(vec!["files change".to_owned()]));
        changes
    }

    /// The change that putting the files to use is, if anything has to be done for it.
    fn use_change(&self, why: Vec<String>) -> Option<Change> {
        match (&self.reload, &self.check) {
            (Some(command), _) => Some(self.reload_change(command, why)),
            (None, Some(check)) => {
                let what = format!("{} at {}", self.what, check.address());
                Some(Change::because(Verb::Await, what, why))
            }
            (None, None) => None,
        }
    }

    fn reload_change(&self, command: &Command, why: Vec<String>) -> Change {
        let change = Change::because(
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

    /// Puts what was placed to use. When that fails, the previous files are put back if that is
    /// declared; what was to be delivered stays due.
    pub(super) async fn put_to_use_or_back(
        &self,
        cx: &Context,
        progress: &Progress,
        previous: Previous,
    ) -> Result<(), Failure> {
        let Err(mut failure) = self.put_to_use(cx, progress).await else {
            return Ok(());
        };
        if self.rollback {
            let rolled_back = self.roll_back(cx, progress, previous).await?;
            failure.message = format!("{}; {rolled_back}", failure.message);
        }
        Err(failure)
    }

    /// Places what differs: what was there before. That it must be put to use is remembered
    /// first.
    pub(super) async fn place(
        &self,
        cx: &Context,
        progress: &Progress,
    ) -> Result<Previous, Failure> {
        let differences = self.differences(cx).await?;
        if differences.files.is_empty() {
            return Ok(Previous::Unknown);
        }
        let guest = cx.guest(&self.guest)?;
        let previous = if self.rollback {
            self.previous(guest.as_ref()).await?
        } else {
            Previous::Unknown
        };
        if self.reload.is_some() || self.check.is_some() {
            self.remember(cx, BEING_DELIVERED, Served::Unknown)?;
        }
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
        Ok(previous)
    }

    /// The files as they are now, to be put back.
    async fn previous(&self, guest: &dyn Guest) -> Result<Previous, Failure> {
        let deadline = Deadline::after(PLACING);
        let failed = |error| {
            explain::guest(&self.guest, &error)
                .context(format!("{}: reading the previous files", self.what))
        };
        let mut contents = Vec::new();
        let mut missing = Vec::new();
        for file in &self.files {
            match guest.read(&file.path, deadline).await.map_err(failed)? {
                Some(content) => contents.push((file.path.clone(), SecretBytes::new(content))),
                None => missing.push(file.path.clone()),
            }
        }
        if !missing.is_empty() {
            return Ok(Previous::Missing(missing));
        }
        // What a link leads to is kept, not the link.
        let paths = self.files.iter().map(|file| file.path.as_str());
        let argv: Vec<&str> = ["stat", "-L", "-c", "%u %g %a %n", "--"]
            .into_iter()
            .chain(paths)
            .collect();
        let output = guest
            .run_checked(&Program::new(argv, deadline))
            .await
            .map_err(failed)?;
        let attributes = String::from_utf8_lossy(&output.stdout);
        let files = contents
            .into_iter()
            .map(|(path, content)| {
                owned(&attributes, &path)
                    .map(|(owner, group, mode)| {
                        File::new(&path, content).owner(owner, group).mode(mode)
                    })
                    .ok_or_else(|| {
                        Failure::message(
                            FailureClass::Failed,
                            format!("{}: owner and mode of {path} cannot be told", self.what),
                        )
                        .in_guest(&self.guest)
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Previous::Files(files))
    }

    /// Puts the previous files back, all or none: a key fits its own certificate only. How that
    /// went, in words.
    async fn roll_back(
        &self,
        cx: &Context,
        progress: &Progress,
        previous: Previous,
    ) -> Result<String, Failure> {
        let files = match previous {
            Previous::Files(files) => files,
            Previous::Missing(missing) => {
                return Ok(format!(
                    "nothing was put back: there was no {} before",
                    missing.join(" and no ")
                ));
            }
            Previous::Unknown => {
                return Ok("nothing was put back: the files were in place before".to_owned());
            }
        };
        progress.say(format!("putting the previous files back in {}", self.guest));
        let guest = cx.guest(&self.guest)?;
        if let Err(error) = guest.place_all(&files, Deadline::after(PLACING)).await {
            return Ok(format!(
                "the previous files could not be put back: {}",
                chain(&error)
            ));
        }
        cx.state
            .set_delivered(&self.key, &[])
            .map_err(|error| local("what was delivered", &error))?;
        progress.changed(Change::new(
            Verb::Deliver,
            format!(
                "the previous {} in {}",
                counted(files.len(), "file"),
                self.guest
            ),
            "put back",
        ));
        let Some(command) = &self.reload else {
            return Ok("the previous files were put back".to_owned());
        };
        let noun = self.verb_noun();
        Ok(match self.run(cx, progress, command).await? {
            Ok(()) => format!("the previous files were put back, and the {noun} ran for them"),
            Err(failed) => format!(
                "the previous files were put back, but the {noun} failed for them too: {}",
                failed.end
            ),
        })
    }

    /// Runs the reload command when it is due, and sees to it that the check sees what was
    /// delivered.
    pub(super) async fn put_to_use(
        &self,
        cx: &Context,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let due = self.unfinished(cx)?;
        let why = match (due, &self.check) {
            (Some(Unfinished { last, served }), _) if served.is_unknown() => last,
            (due, Some(check)) => match check.look(cx, &self.guest, cx.look()).await? {
                None => return self.forget(cx),
                Some(not_served) => {
                    let not_served = not_served.to_string();
                    if due.is_none() {
                        self.remember(cx, &not_served, Served::Not)?;
                    }
                    not_served
                }
            },
            (_, None) => return self.forget(cx),
        };
        if let Some(command) = &self.reload {
            if let Err(failed) = self.run(cx, progress, command).await? {
                self.remember(cx, &failed.end, Served::Unknown)?;
                return Err(failed.failure);
            }
            progress.changed(self.reload_change(command, vec![why]));
        }
        if let Some(check) = &self.check {
            progress.say(format!("waiting for {} to serve it", check.address()));
            if let Some(not_served) = check.wait(cx, &self.guest).await? {
                self.remember(cx, &not_served.to_string(), Served::Not)?;
                return Err(self.not_served(check, &not_served));
            }
        }
        self.forget(cx)
    }

    fn not_served(&self, check: &Expected, not_served: &NotServed) -> Failure {
        Failure::message(
            FailureClass::Failed,
            format!(
                "{}: {not_served}, for {} after {}",
                self.what,
                humantime::format_duration(check.check.timeout),
                match self.reload {
                    Some(_) => "the reload",
                    None => "the delivery",
                }
            ),
        )
        .in_guest(&self.guest)
        .hint(match self.reload {
            Some(_) => "does the reload command make that server read its certificate again?",
            None => "that server may need a `reload` command to read its certificate again",
        })
    }

    /// Runs the reload command to its end.
    async fn run(
        &self,
        cx: &Context,
        progress: &Progress,
        command: &Command,
    ) -> Result<Result<(), NotReloaded>, Failure> {
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
        Ok(match ran {
            Ok(output) => {
                let end = output.status.to_string();
                match explain::program(&self.guest, &what, &command.argv, output) {
                    Some(failure) => Err(NotReloaded { end, failure }),
                    None => Ok(()),
                }
            }
            Err(error) => {
                let failure = explain::not_run(&self.guest, &what, &command.argv, &error);
                Err(NotReloaded {
                    end: failure.message.clone(),
                    failure,
                })
            }
        })
    }

    fn verb_noun(&self) -> &'static str {
        if self.verb == Verb::Restart {
            "restart command"
        } else {
            "reload command"
        }
    }

    fn unfinished(&self, cx: &Context) -> Result<Option<Unfinished>, Failure> {
        cx.state
            .unfinished(&self.key)
            .map_err(|error| local("what is unfinished", &error))
    }

    fn remember(&self, cx: &Context, last: &str, served: Served) -> Result<(), Failure> {
        cx.state
            .set_unfinished(&self.key, last, served)
            .map_err(|error| local("what is unfinished", &error))
    }

    fn forget(&self, cx: &Context) -> Result<(), Failure> {
        cx.state
            .clear_unfinished(&self.key)
            .map_err(|error| local("what is unfinished", &error))
    }
}

/// A reload command that did not succeed.
struct NotReloaded {
    /// How it ended, in words.
    end: String,
    failure: Failure,
}

/// Owner, group and permission bits of `path` in what `stat -c "%u %g %a %n"` printed.
fn owned<'a>(attributes: &'a str, path: &str) -> Option<(&'a str, &'a str, u32)> {
    attributes.lines().find_map(|line| {
        let mut fields = line.splitn(4, ' ');
        let (owner, group, mode) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next()? != path {
            return None;
        }
        Some((owner, group, u32::from_str_radix(mode, 8).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_and_mode_are_found_by_the_whole_path() {
        let printed = "0 0 644 /etc/a\n0 4711 4750 /etc/a b\nstat: nothing\n";
        assert_eq!(owned(printed, "/etc/a"), Some(("0", "0", 0o644)));
        assert_eq!(owned(printed, "/etc/a b"), Some(("0", "4711", 0o4750)));
        assert_eq!(owned(printed, "/etc"), None);
        assert_eq!(owned("0 0 9 /etc", "/etc"), None);
    }
}
