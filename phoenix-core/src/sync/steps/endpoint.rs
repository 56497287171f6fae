//! A guest's Docker engine that Phoenix can use; for a managed one also its certificates and its
//! configuration.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::delivery::{BEING_DELIVERED, Differing, Target, WantedFile};
use super::issued::{Issued, Stored};
use crate::docker::{DaemonTls, daemon_json, drop_in};
use crate::ground::{Deadline, SecretBytes};
use crate::guest::{File, Program};
use crate::pki::{Bundle, CertificateRequest, KeyType, Profile, SubjectAltName};
use crate::site::{Command, DaemonSettings, DockerAddress, DockerEndpoint, DockerTls};
use crate::sync::context::Context;
use crate::sync::session::local;
use crate::sync::state::Served;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, FailureClass, ResourceId, Verb, explain};

/// Where systemd units are looked for, in systemd's order.
const UNIT_DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The name of the program that is PID 1.
const INIT: &str = "/proc/1/comm";
/// How long `dockerd --validate` and `systemctl daemon-reload` may take.
const SHORT_COMMAND: Duration = Duration::from_secs(30);
/// What a dockerd before 23 says of `--validate`. It exits with 125, and as Debian builds it with 1.
const CANNOT_VALIDATE: &[u8] = b"unknown flag: --validate";

pub(in crate::sync) struct EndpointStep {
    cx: Arc<Context>,
    name: String,
}

/// A managed daemon as it must be.
struct Wanted {
    target: Target,
    changes: Vec<String>,
    drop_in: bool,
    /// Where the daemon keeps its data.
    data_root: String,
}

impl EndpointStep {
    pub(in crate::sync) fn new(cx: Arc<Context>, name: String) -> Self {
        Self { cx, name }
    }

    fn endpoint(&self) -> Option<&DockerEndpoint> {
        self.cx.site.guests.get(&self.name)?.docker.as_ref()
    }

    fn managed(&self) -> Option<(&DaemonSettings, &str, u16)> {
        let endpoint = self.endpoint()?;
        match (&endpoint.tls, &endpoint.address) {
            (Some(DockerTls::Managed(settings)), DockerAddress::Tcp { host, port }) => {
                Some((settings, host, *port))
            }
            _ => None,
        }
    }

    async fn ping(&self) -> Result<String, Failure> {
        let engine = self.cx.engine(&self.name)?;
        let info = engine.info(self.cx.look()).await.map_err(|error| {
            explain::engine(&self.name, &error)
                .context(format!("the Docker engine of {}", self.name))
        })?;
        Ok(format!("Docker {} answers", info.server_version))
    }

    /// The daemon's certificate.
    pub(in crate::sync) fn issued(&self) -> Result<Option<Issued>, Failure> {
        let Some((settings, host, _)) = self.managed() else {
            return Ok(None);
        };
        let what = format!("the Docker daemon's certificate of {}", self.name);
        let invalid = |error: &dyn std::error::Error| local(&what, error);
        let mut sans = Vec::new();
        for name in [host, self.name.as_str()] {
            let san: SubjectAltName = name
                .parse()
                .map_err(|error: crate::pki::SanError| invalid(&error))?;
            sans.push(san);
        }
        sans.extend(settings.sans.iter().cloned());
        let request = CertificateRequest::new(
            &self.name,
            Profile::Server,
            SubjectAltName::normalize(sans),
            settings.lifetime,
            KeyType::EcdsaP256,
        )
        .map_err(|error| invalid(&error))?;
        Ok(Some(Issued {
            what,
            path: self.cx.state.daemon(&self.name),
            request,
            rule: settings.rule,
            issuer: None,
        }))
    }

    /// What the guest must hold for `bundle`, given what is in it.
    async fn wanted(
        &self,
        settings: &DaemonSettings,
        port: u16,
        bundle: &Bundle,
    ) -> Result<Wanted, Failure> {
        let guest = self.cx.guest(&self.name)?;
        let read = |path: String| {
            let guest = Arc::clone(&guest);
            async move {
                let content = guest
                    .read(&path, self.cx.look())
                    .await
                    .map_err(|error| explain::guest(&self.name, &error))?;
                content
                    .map(|bytes| {
                        String::from_utf8(bytes).map_err(|_| {
                            Failure::message(
                                FailureClass::Failed,
                                format!("{path} in {} is not text", self.name),
                            )
                            .in_guest(&self.name)
                        })
                    })
                    .transpose()
            }
        };
        let file = |path: String, content: SecretBytes, mode: u32| WantedFile {
            path,
            content,
            owner: "root".to_owned(),
            group: "root".to_owned(),
            mode,
        };
        let directory = settings.certificates.trim_end_matches('/');
        let tls = DaemonTls::new(
            port,
            format!("{directory}/ca.pem"),
            format!("{directory}/server.pem"),
            format!("{directory}/server-key.pem"),
        );

        // A package may bring a unit to a guest that another init runs: only systemd reads it.
        let init = read(INIT.to_owned()).await?;
        let mut unit = None;
        if init.as_deref().map(str::trim) == Some("systemd") {
            for place in UNIT_DIRECTORIES {
                unit = read(format!("{place}/{}", settings.unit)).await?;
                if unit.is_some() {
                    break;
                }
            }
        }
        let drop_in = unit.as_deref().and_then(drop_in);
        let hosts = drop_in.as_ref().map_or(&[][..], |drop_in| &drop_in.hosts);
        let present = read(settings.daemon_json.clone()).await?;
        let merged = daemon_json(present.as_deref(), hosts, &tls).map_err(|error| {
            local(format!("{} in {}", settings.daemon_json, self.name), &error).in_guest(&self.name)
        })?;

        let mut files = vec![
            file(tls.ca.clone(), SecretBytes::from(bundle.root_pem()), 0o644),
            file(
                tls.certificate.clone(),
                SecretBytes::from(bundle.chain_pem()),
                0o644,
            ),
            file(tls.key.clone(), bundle.key_pem(), 0o600),
            file(
                settings.daemon_json.clone(),
                SecretBytes::from(merged.text),
                0o644,
            ),
        ];
        if let Some(drop_in) = &drop_in {
            files.push(file(
                format!("/etc/systemd/system/{}.d/phoenix.conf", settings.unit),
                SecretBytes::from(drop_in.text.clone()),
                0o644,
            ));
        }
        Ok(Wanted {
            data_root: merged.data_root,
            target: self.target(settings, files),
            changes: merged.changes,
            drop_in: drop_in.is_some(),
        })
    }

    fn target(&self, settings: &DaemonSettings, files: Vec<WantedFile>) -> Target {
        Target {
            guest: self.name.clone(),
            key: format!("docker-{}", self.name),
            what: "the Docker daemon".to_owned(),
            files,
            reload: Some(settings.restart.clone()),
            verb: Verb::Restart,
            rollback: false,
            check: None,
        }
    }

    async fn observe_managed(
        &self,
        settings: &DaemonSettings,
        port: u16,
        issued: &Issued,
        stored: &Stored,
    ) -> Result<Observation, Failure> {
        let Some(bundle) = stored.current() else {
            let mut changes = vec![issued.change(&stored.reasons)];
            changes.extend(self.target(settings, Vec::new()).unobserved());
            let observation = Observation::differs(changes);
            let usable = stored.still_works() && self.ping().await.is_ok();
            return Ok(if usable {
                observation.usable()
            } else {
                observation
            });
        };
        let wanted = self.wanted(settings, port, bundle).await?;
        let mut differences = wanted.target.differences(&self.cx).await?;
        for file in &mut differences.files {
            if file.path == settings.daemon_json && !wanted.changes.is_empty() {
                // Which settings change says more than that the content does.
                let attributes = file.reasons.iter().filter(|reason| reason.is_attribute());
                let attributes = attributes.map(ToString::to_string);
                file.change.why = wanted.changes.iter().cloned().chain(attributes).collect();
            }
        }
        let changes = differences.into_changes();
        if changes.is_empty() {
            return Ok(Observation::converged(self.ping().await?));
        }
        let observation = Observation::differs(changes);
        Ok(if self.ping().await.is_ok() {
            observation.usable()
        } else {
            observation
        })
    }

    /// Lets dockerd judge the new configuration before it takes the place of the old one.
    async fn validate(
        &self,
        wanted: &Wanted,
        settings: &DaemonSettings,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let Some(new) = wanted
            .target
            .files
            .iter()
            .find(|file| file.path == settings.daemon_json)
        else {
            return Ok(());
        };
        let guest = self.cx.guest(&self.name)?;
        let staged = format!(
            "{}/daemon.json.proposed",
            settings.certificates.trim_end_matches('/')
        );
        let deadline = Deadline::after(SHORT_COMMAND);
        // The certificates that the proposed configuration names must be there to be judged.
        let mut files: Vec<File> = wanted
            .target
            .files
            .iter()
            .filter(|file| {
                file.path
                    .starts_with(settings.certificates.trim_end_matches('/'))
            })
            .map(WantedFile::placed)
            .collect();
        files.push(
            File::new(&staged, new.content.clone())
                .owner("root", "root")
                .mode(0o600),
        );
        progress.say("letting dockerd validate its new configuration");
        guest
            .place_all(&files, deadline)
            .await
            .map_err(|error| explain::guest(&self.name, &error))?;
        let argv = ["dockerd", "--validate", "--config-file", &staged]
            .map(str::to_owned)
            .to_vec();
        let output = guest
            .run(&Program::new(argv.clone(), deadline))
            .await
            .map_err(|error| explain::guest(&self.name, &error))?;
        // Judged, it is of no use any more; what the judgement was does not change that.
        let remove = Command::new(
            ["rm", "-f", &staged].map(str::to_owned).to_vec(),
            SHORT_COMMAND,
        );
        self.run(&remove, "removing the proposed configuration")
            .await?;
        let cannot = cannot_validate(&output.stderr);
        let failure = explain::program(
            &self.name,
            &format!("the new {} was refused: validation", settings.daemon_json),
            &argv,
            output,
        );
        match failure {
            Some(failure) if !cannot => Err(failure),
            _ => Ok(()),
        }
    }

    async fn apply_managed(
        &self,
        settings: &DaemonSettings,
        port: u16,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let Some(issued) = self.issued()? else {
            return Ok(());
        };
        let bundle = issued.ensure(&self.cx, progress).await?;
        let wanted = self.wanted(settings, port, &bundle).await?;
        let differing = wanted.target.differing(&self.cx).await?;
        if differing.iter().any(Differing::in_content) {
            // Placing the certificates for validation may change files the daemon uses: from
            // here on a restart is due.
            self.cx
                .state
                .set_unfinished(&wanted.target.key, BEING_DELIVERED, Served::Unknown)
                .map_err(|error| local("what is unfinished", &error))?;
            self.validate(&wanted, settings, progress).await?;
        }
        if !differing.is_empty() {
            wanted.target.place(&self.cx, progress).await?;
            issued
                .delivered(&self.cx, progress, &bundle, &wanted.target.place_name())
                .await;
        }
        if wanted.drop_in {
            let argv = ["systemctl", "daemon-reload"].map(str::to_owned).to_vec();
            let command = Command::new(argv, SHORT_COMMAND);
            self.run(&command, "the systemd drop-in").await?;
        }
        // One daemon of a swarm at a time: several managers at once would cost it its leader,
        // several workers the services that they run.
        let turn = if self.is_in_swarm(&wanted).await? {
            Some(self.cx.restarts.lock().await)
        } else {
            None
        };
        wanted.target.put_to_use(&self.cx, progress).await?;
        progress.say("waiting for the daemon to answer");
        let engine = self.cx.engine(&self.name)?;
        engine
            .await_answer(Deadline::after(self.cx.site.timeouts.node))
            .await
            .map_err(|error| {
                explain::engine(&self.name, &error).context(format!(
                    "the Docker daemon of {} does not answer after its restart",
                    self.name
                ))
            })?;
        drop(turn);
        Ok(())
    }

    /// Whether the guest's engine belongs to a swarm, known from what it keeps on disk: it may
    /// not be reachable yet.
    async fn is_in_swarm(&self, wanted: &Wanted) -> Result<bool, Failure> {
        let data = wanted.data_root.trim_end_matches('/');
        let found = self
            .cx
            .guest(&self.name)?
            .read(&format!("{data}/swarm/docker-state.json"), self.cx.look())
            .await
            .map_err(|error| explain::guest(&self.name, &error))?;
        Ok(found.is_some())
    }

    async fn run(&self, command: &Command, what: &str) -> Result<(), Failure> {
        let guest = self.cx.guest(&self.name)?;
        let output = guest
            .run(&Program::new(
                command.argv.clone(),
                Deadline::after(command.timeout),
            ))
            .await
            .map_err(|error| explain::guest(&self.name, &error).context(what))?;
        match explain::program(&self.name, what, &command.argv, output) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

/// Whether a dockerd said on standard error that it cannot judge a configuration.
fn cannot_validate(stderr: &[u8]) -> bool {
    stderr
        .windows(CANNOT_VALIDATE.len())
        .any(|part| part == CANNOT_VALIDATE)
}

#[async_trait]
impl Step for EndpointStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        match self.managed() {
            Some((settings, _, port)) => {
                let Some(issued) = self.issued()? else {
                    return Ok(Observation::default());
                };
                let stored = issued.look(&self.cx).await?;
                let observation = self
                    .observe_managed(settings, port, &issued, &stored)
                    .await?;
                let wider = issued.wider(&self.cx, &stored);
                Ok(observation.warn(wider.into_iter().collect()))
            }
            None => Ok(Observation::converged(self.ping().await?)),
        }
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        match self.managed() {
            Some((settings, _, port)) => self.apply_managed(settings, port, progress).await,
            None => Ok(()),
        }
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        let mut through = Vec::new();
        if self.managed().is_some() {
            through.push(ResourceId::Guest(self.name.clone()));
            through.push(ResourceId::DockerClient);
        }
        through
    }

    fn unobserved(&self) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .issued()
            .ok()
            .flatten()
            .iter()
            .map(Issued::unobserved)
            .collect();
        if let Some((settings, _, _)) = self.managed() {
            changes.extend(self.target(settings, Vec::new()).unobserved());
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_cannot_validate_is_told_from_one_that_refuses() {
        // Debian's 20.10, which exits with 1, and Docker's own, which exits with 125.
        for said in [
            "Status: unknown flag: --validate\nSee 'dockerd --help'., Code: 125\n",
            "unknown flag: --validate\nSee 'dockerd --help'.\n",
        ] {
            assert!(cannot_validate(said.as_bytes()), "{said}");
        }
        for said in [
            "",
            "unable to configure the Docker daemon with file d.json: the following directives don't match any configuration option: validate\n",
            "unknown flag: --config-file\n",
        ] {
            assert!(!cannot_validate(said.as_bytes()), "{said}");
        }
    }
}
