//! Files in a guest, the command that makes the guest use them, and the look at what it serves.
//!
//! Before anything is placed it is remembered that the reload is still due; that is forgotten
//! only after the reload succeeded and, where there is a check, the delivered certificate was
//! seen. Neither a crash in between nor a failed reload is lost, and neither is it by putting the
//! previous files back.
//!
//! Owner and mode are looked at wherever there is a file. Where these alone differ, only the files
//! that they differ of are placed again, whole and renamed into place as ever, so that nothing is
//! done through a link or to a file that somebody holds open; and nothing is reloaded.

use std::time::Duration;

use time::OffsetDateTime;

use super::served::Expected;
use crate::ground::{Deadline, SecretBytes};
use crate::guest::{Attributes, File, Guest, Program};
use crate::pki::{Bundle, RenewalReason, delivered_differences};
use crate::site::{CertificatePart, Command};
use crate::sync::context::Context;
use crate::sync::failure::chain;
use crate::sync::plan::counted;
use crate::sync::session::local;
use crate::sync::state::{Served, Unfinished};
use crate::sync::step::Progress;
use crate::sync::{Change, Failure, FailureClass, Verb, explain};

/// How long placing the files of one delivery may take.
const PLACING: Duration = Duration::from_secs(60);
/// What is remembered while files are placed.
pub(super) const BEING_DELIVERED: &str = "the files were being delivered";

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

    /// How the content that was found differs.
    fn content_reasons(&self, found: Option<&SecretBytes>) -> Vec<RenewalReason> {
        match found {
            None => vec![RenewalReason::Missing],
            Some(found) => delivered_differences(found, &self.content, OffsetDateTime::now_utc()),
        }
    }

    /// How owner and mode that were found differ.
    fn attribute_reasons(&self, found: &Attributes) -> Vec<RenewalReason> {
        let mut reasons = Vec::new();
        if !found.belongs_to(&self.owner, &self.group) {
            reasons.push(RenewalReason::FileOwner {
                path: self.path.clone(),
                have: format!("{}:{}", found.owner, found.group),
                want: format!("{}:{}", self.owner, self.group),
            });
        }
        if found.mode != self.mode {
            reasons.push(RenewalReason::FileMode {
                path: self.path.clone(),
                have: found.mode,
                want: self.mode,
            });
        }
        reasons
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

/// A file that differs in a guest.
#[derive(Debug)]
pub(super) struct Differing {
    pub(super) path: String,
    pub(super) reasons: Vec<RenewalReason>,
    /// What is done about it.
    pub(super) change: Change,
}

impl Differing {
    /// Whether its content differs, or only its owner or mode.
    pub(super) fn in_content(&self) -> bool {
        !self.reasons.iter().all(RenewalReason::is_attribute)
    }
}

/// What differs in a guest.
#[derive(Debug)]
pub(super) struct Differences {
    pub(super) files: Vec<Differing>,
    pub(super) reload: Option<Change>,
}

impl Differences {
    pub(super) fn into_changes(self) -> Vec<Change> {
        let files = self.files.into_iter().map(|file| file.change);
        files.chain(self.reload).collect()
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
    /// Looks at the files in the guest and at whether they are in use, reading only.
    pub(super) async fn differences(&self, cx: &Context) -> Result<Differences, Failure> {
        let files = self.differing(cx).await?;
        let content_changes = files.iter().any(Differing::in_content);
        let why = self.why_to_put_to_use(cx, content_changes).await?;
        let reload = self.use_change(&why);
        Ok(Differences { files, reload })
    }

    /// The files that differ in the guest.
    pub(super) async fn differing(&self, cx: &Context) -> Result<Vec<Differing>, Failure> {
        let guest = cx.guest(&self.guest)?;
        let mut contents = Vec::new();
        for file in &self.files {
            let found = guest
                .read(&file.path, cx.look())
                .await
                .map_err(|error| explain::guest(&self.guest, &error))?;
            contents.push(found.map(SecretBytes::new));
        }
        let there: Vec<&str> = self
            .files
            .iter()
            .zip(&contents)
            .filter(|(_, content)| content.is_some())
            .map(|(file, _)| file.path.as_str())
            .collect();
        let told = self.attributes(guest.as_ref(), &there, cx.look()).await?;
        let mut told = told.iter();
        let mut differing = Vec::new();
        for (file, content) in self.files.iter().zip(contents) {
            let mut reasons = file.content_reasons(content.as_ref());
            let found = content.as_ref().and_then(|_| told.next());
            reasons.extend(
                found
                    .into_iter()
                    .flat_map(|found| file.attribute_reasons(found)),
            );
            if !reasons.is_empty() {
                let place = format!("{}:{}", self.guest, file.path);
                differing.push(Differing {
                    path: file.path.clone(),
                    change: Change::because(Verb::Deliver, place, &reasons),
                    reasons,
                });
            }
        }
        Ok(differing)
    }

    /// Owners and modes of files that are there, in the order of `paths`.
    async fn attributes(
        &self,
        guest: &dyn Guest,
        paths: &[&str],
        deadline: Deadline,
    ) -> Result<Vec<Attributes>, Failure> {
        let told = guest.attributes(paths, deadline).await;
        told.map_err(|error| {
            explain::guest(&self.guest, &error).context(format!(
                "{}: owner and mode of {}",
                self.what,
                paths.join(", ")
            ))
        })
    }

    /// Why the files are not in use, as far as that can be told by one look.
    async fn why_to_put_to_use(
        &self,
        cx: &Context,
        content_changes: bool,
    ) -> Result<Vec<RenewalReason>, Failure> {
        let unfinished = self.unfinished(cx)?;
        if content_changes {
            let mut why = vec![RenewalReason::FilesChange];
            if let Some(Unfinished { last, .. }) = unfinished
                && last != BEING_DELIVERED
            {
                why.push(RenewalReason::LastAttempt { end: last });
            }
            return Ok(why);
        }
        match (unfinished, &self.check) {
            (Some(Unfinished { last, served }), _) if served.is_unknown() => {
                Ok(vec![RenewalReason::NotReloaded { last }])
            }
            (_, Some(check)) => {
                let seen = check.look(cx, &self.guest, cx.look()).await?;
                Ok(seen.into_iter().collect())
            }
            (_, None) => Ok(Vec::new()),
        }
    }

    /// What is still to be done after an earlier run, as far as it is remembered here: nothing is
    /// contacted.
    pub(super) fn left_undone(&self, cx: &Context) -> Result<Option<Change>, Failure> {
        let why = self.unfinished(cx)?.map(|Unfinished { last, served }| {
            if served.is_unknown() {
                RenewalReason::NotReloaded { last }
            } else {
                RenewalReason::LastAttempt { end: last }
            }
        });
        Ok(why.and_then(|why| self.use_change(&[why])))
    }

    /// What delivering it anew is.
    pub(super) fn unobserved(&self) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .files
            .iter()
            .map(|file| {
                let place = format!("{}:{}", self.guest, file.path);
                Change::because(Verb::Deliver, place, [RenewalReason::Issued])
            })
            .collect();
        changes.extend(self.use_change(&[RenewalReason::FilesChange]));
        changes
    }

    /// The change that putting the files to use is, if there is a reason and anything has to be
    /// done for it.
    fn use_change(&self, why: &[RenewalReason]) -> Option<Change> {
        if why.is_empty() {
            return None;
        }
        match (&self.reload, &self.check) {
            (Some(command), _) => Some(self.reload_change(command, why)),
            (None, Some(check)) => {
                let what = format!("{} at {}", self.what, check.address());
                Some(Change::because(Verb::Await, what, why))
            }
            (None, None) => None,
        }
    }

    fn reload_change(&self, command: &Command, why: &[RenewalReason]) -> Change {
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
    /// first. Where a content differs all files are placed, for they belong together.
    pub(super) async fn place(
        &self,
        cx: &Context,
        progress: &Progress,
    ) -> Result<Previous, Failure> {
        let differing = self.differing(cx).await?;
        if differing.is_empty() {
            return Ok(Previous::Unknown);
        }
        let content_changes = differing.iter().any(Differing::in_content);
        let guest = cx.guest(&self.guest)?;
        let previous = if self.rollback && content_changes {
            self.previous(guest.as_ref()).await?
        } else {
            Previous::Unknown
        };
        if content_changes && (self.reload.is_some() || self.check.is_some()) {
            self.remember(cx, BEING_DELIVERED, Served::Unknown)?;
        }
        let differs = |file: &WantedFile| differing.iter().any(|other| other.path == file.path);
        let files: Vec<File> = self
            .files
            .iter()
            .filter(|file| content_changes || differs(file))
            .map(WantedFile::placed)
            .collect();
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
        for file in differing {
            progress.changed(file.change);
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
        // What a link leads to is kept, not the link; and numbers are known in the guest, whatever
        // has become of the names.
        let paths: Vec<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let told = self.attributes(guest, &paths, deadline).await?;
        let files = contents
            .into_iter()
            .zip(told)
            .map(|((path, content), found)| {
                File::new(path, content)
                    .owner(found.uid.to_string(), found.gid.to_string())
                    .mode(found.mode)
            })
            .collect();
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
            (Some(Unfinished { last, served }), _) if served.is_unknown() => {
                if last == BEING_DELIVERED {
                    RenewalReason::FilesChange
                } else {
                    RenewalReason::NotReloaded { last }
                }
            }
            (due, Some(check)) => match check.look(cx, &self.guest, cx.look()).await? {
                None => return self.forget(cx),
                Some(not_served) => {
                    if due.is_none() {
                        self.remember(cx, &not_served.to_string(), Served::Not)?;
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
            progress.changed(self.reload_change(command, &[why]));
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

    fn not_served(&self, check: &Expected, not_served: &RenewalReason) -> Failure {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn file(owner: &str, group: &str, mode: u32) -> WantedFile {
        WantedFile {
            path: "/etc/x/key.pem".to_owned(),
            content: SecretBytes::from("{}".to_owned()),
            owner: owner.to_owned(),
            group: group.to_owned(),
            mode,
        }
    }

    fn differing(reasons: Vec<RenewalReason>) -> Differing {
        Differing {
            path: String::new(),
            change: Change::because(Verb::Deliver, "", &reasons),
            reasons,
        }
    }

    #[test]
    fn owner_group_and_mode_are_compared_by_name_or_number() {
        let found = Attributes {
            owner: "app".to_owned(),
            group: "4711".to_owned(),
            uid: 1000,
            gid: 4711,
            mode: 0o640,
        };
        for (owner, group) in [("app", "4711"), ("1000", "4711")] {
            assert_eq!(file(owner, group, 0o640).attribute_reasons(&found), []);
        }
        let said = |owner, group, mode| {
            let reasons = file(owner, group, mode).attribute_reasons(&found);
            assert!(reasons.iter().all(RenewalReason::is_attribute));
            reasons.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let owner = "owner of /etc/x/key.pem is app:4711, declared root:root";
        let mode = "mode of /etc/x/key.pem is 0640, declared 0600";
        assert_eq!(said("root", "root", 0o600), [owner, mode]);
        assert_eq!(said("app", "4711", 0o600), [mode]);
        assert_eq!(
            said("app", "app", 0o640),
            ["owner of /etc/x/key.pem is app:4711, declared app:app"]
        );
    }

    #[test]
    fn a_content_differs_or_owner_and_mode_alone() {
        let owner = RenewalReason::FileOwner {
            path: String::new(),
            have: "root:root".to_owned(),
            want: "app:app".to_owned(),
        };
        assert!(!differing(vec![owner.clone()]).in_content());
        assert!(differing(vec![RenewalReason::Content, owner]).in_content());
        assert!(differing(vec![RenewalReason::Missing]).in_content());
        let wanted = file("root", "root", 0o600);
        assert_eq!(wanted.content_reasons(Some(&wanted.content)), []);
        assert_eq!(wanted.content_reasons(None), [RenewalReason::Missing]);
    }
}
