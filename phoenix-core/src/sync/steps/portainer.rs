//! Portainer: the reset of its stack, its API with its admin, and the environments it manages.
//!
//! Reading Portainer's API needs an identity. Logging in is a write, so an API key is made once
//! and kept in the state directory; observing uses only the key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use crate::ground::{Deadline, Fingerprint, SecretBytes, Trust};
use crate::pki::Bundle;
use crate::portainer::{
    Client, Environment, EnvironmentKind as Kind, EnvironmentTls as Tls, NewEnvironment,
    PortainerError, Session,
};
use crate::site::{EnvironmentKind, Portainer, PortainerEnvironment, ServerTrust};
use crate::sync::context::{Context, trust};
use crate::sync::session::local;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, FailureClass, ResourceId, Verb, explain};

use super::secret::SecretVersion;
use crate::stack::STACK_LABEL;

/// Portainer's own admin: `--admin-password-file` names it so.
const ADMIN: &str = "admin";
/// How long tasks of a removed stack may take to end, and their volumes to be free.
const GONE: Duration = Duration::from_secs(120);

/// The step that removes Portainer's stack and data, once in a run.
pub(super) struct ResetStep {
    cx: Arc<Context>,
    done: AtomicBool,
}

impl ResetStep {
    pub(super) fn new(cx: Arc<Context>) -> Self {
        Self {
            cx,
            done: AtomicBool::new(false),
        }
    }

    fn stack(&self) -> &str {
        self.cx
            .site
            .portainer
            .as_ref()
            .map_or("", |portainer| portainer.stack.as_str())
    }

    fn volumes(&self) -> Vec<String> {
        self.cx.stacks[self.stack()]
            .references()
            .volumes
            .into_iter()
            .filter(|volume| !volume.external)
            .map(|volume| volume.name)
            .collect()
    }
}

#[async_trait]
impl Step for ResetStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        Ok(if self.done.load(Ordering::SeqCst) {
            Observation::converged("its stack and data were removed in this run")
        } else {
            Observation::differs(self.unobserved()).usable()
        })
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let (manager, engine) = self.cx.manager().await?;
        let services = engine
            .services(&[(STACK_LABEL, Some(self.stack()))], self.cx.act())
            .await
            .map_err(explain::at(&manager))?;
        let mut ids = Vec::new();
        for service in services {
            engine
                .remove_service(&service.id, self.cx.act())
                .await
                .map_err(explain::at(&manager))?;
            progress.changed(
                Change::new(
                    Verb::Remove,
                    format!("service {}", service.name()),
                    "asked for",
                )
                .disruptive(),
            );
            ids.push(service.id);
        }
        progress.say("waiting for its tasks to end");
        let deadline = Deadline::after(GONE);
        let lost = engine
            .await_tasks_gone(&ids, deadline)
            .await
            .map_err(explain::at(&manager))?;
        for node in lost {
            progress.say(format!("{node} is down: its tasks end when it comes back"));
        }

        let volumes = self.volumes();
        let members = self
            .cx
            .site
            .guests
            .iter()
            .filter(|(_, guest)| guest.role.is_some());
        let removed = join_all(members.map(|(name, _)| {
            let volumes = &volumes;
            async move {
                let engine = self.cx.engine(name)?;
                let mut removed = Vec::new();
                for volume in volumes {
                    if engine
                        .remove_volume(volume, deadline)
                        .await
                        .map_err(explain::at(name))?
                    {
                        removed.push(format!("volume {volume} on {name}"));
                    }
                }
                Ok::<_, Failure>(removed)
            }
        }))
        .await;
        for volumes in removed {
            for volume in volumes? {
                progress.changed(Change::new(Verb::Remove, volume, "asked for").disruptive());
            }
        }
        self.cx
            .state
            .clear_portainer_key()
            .map_err(|error| local("Portainer's API key", &error))?;
        self.done.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        vec![ResourceId::Swarm]
    }

    fn unobserved(&self) -> Vec<Change> {
        let mut changes = vec![
            Change::new(Verb::Remove, format!("stack {}", self.stack()), "asked for").disruptive(),
        ];
        for volume in self.volumes() {
            changes.push(
                Change::new(Verb::Remove, format!("volume {volume}"), "asked for").disruptive(),
            );
        }
        changes
    }
}

/// A client of the declared Portainer.
async fn client(cx: &Context, portainer: &Portainer) -> Result<Client, Failure> {
    let trust = match &portainer.trust {
        ServerTrust::SiteCa => Trust::CaPem(cx.site_root().await?),
        other => trust("portainer.ca", other).map_err(|error| local("portainer", &error))?,
    };
    Client::new(&portainer.url, &trust).map_err(|error| local("portainer", &error))
}

fn failed(error: &PortainerError) -> Failure {
    explain::portainer(error)
}

/// The session that the stored API key gives; `None` when there is none or it is refused.
async fn stored_session(cx: &Context, client: &Client) -> Result<Option<Session>, Failure> {
    let key = cx
        .state
        .portainer_key()
        .map_err(|error| local("Portainer's API key", &error))?;
    let Some(key) = key else {
        return Ok(None);
    };
    let session = client.with_api_key(&key).map_err(|error| failed(&error))?;
    match session.user_id(cx.look()).await {
        Ok(_) => Ok(Some(session)),
        Err(error) if error.is_unauthorized() => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// Portainer answering, with its admin.
pub(super) struct PortainerStep {
    cx: Arc<Context>,
}

impl PortainerStep {
    pub(super) fn new(cx: Arc<Context>) -> Self {
        Self { cx }
    }

    fn declared(&self) -> Result<&Portainer, Failure> {
        declared(&self.cx)
    }
}

fn declared(cx: &Context) -> Result<&Portainer, Failure> {
    cx.site
        .portainer
        .as_ref()
        .ok_or_else(|| Failure::message(FailureClass::Failed, "the site declares no Portainer"))
}

async fn password(cx: &Arc<Context>, portainer: &Portainer) -> Result<SecretBytes, Failure> {
    SecretVersion::of(cx, &portainer.admin_password)
        .await?
        .map(|version| version.content)
        .ok_or_else(|| {
            Failure::message(
                FailureClass::Failed,
                format!("secret {} has no content yet", portainer.admin_password),
            )
        })
}

#[async_trait]
impl Step for PortainerStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        let portainer = self.declared()?;
        let client = client(&self.cx, portainer).await?;
        let status = match client.status(self.cx.look()).await {
            Ok(status) => status,
            Err(error) if error.is_unreachable() => {
                return Ok(Observation::differs(vec![Change::new(
                    Verb::Await,
                    format!("Portainer at {}", portainer.url),
                    error.to_string(),
                )]));
            }
            Err(error) => return Err(failed(&error)),
        };
        Ok(match stored_session(&self.cx, &client).await? {
            Some(_) => Observation::converged(format!(
                "Portainer {} answers at {}",
                status.version, portainer.url
            )),
            None => Observation::differs(self.unobserved()),
        })
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let portainer = self.declared()?;
        let client = client(&self.cx, portainer).await?;
        progress.say(format!("waiting for {} to answer", portainer.url));
        client
            .await_ready(Deadline::after(portainer.ready_timeout))
            .await
            .map_err(|error| failed(&error))?;
        if stored_session(&self.cx, &client).await?.is_some() {
            return Ok(());
        }
        let password = password(&self.cx, portainer).await?;
        let text = password
            .expose_str()
            .map_err(|error| local("the admin's password", &error))?;
        // `--admin-password-file` takes one trailing newline off.
        let password = SecretBytes::from(text.strip_suffix('\n').unwrap_or(text).to_owned());
        if !client
            .admin_exists(self.cx.act())
            .await
            .map_err(|error| failed(&error))?
        {
            client
                .init_admin(ADMIN, &password, None, self.cx.act())
                .await
                .map_err(|error| failed(&error))?;
            progress.changed(Change::new(Verb::Create, "Portainer's admin", "missing"));
        }
        let session = client
            .login(ADMIN, &password, self.cx.act())
            .await
            .map_err(|error| {
                let failure = failed(&error);
                if error.is_unauthorized() {
                    failure.hint(format!(
                        "Portainer keeps the password it was first started with: secret {} has another one now. Change it in Portainer, or reset it with `phoenix sync all --reset-portainer`",
                        portainer.admin_password
                    ))
                } else {
                    failure
                }
            })?;
        let key = session
            .create_api_key(
                &password,
                &format!("phoenix {}", self.cx.site.name),
                self.cx.act(),
            )
            .await
            .map_err(|error| failed(&error))?;
        self.cx
            .state
            .set_portainer_key(&key)
            .map_err(|error| local("Portainer's API key", &error))?;
        for change in self.unobserved() {
            progress.changed(change);
        }
        Ok(())
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        self.declared()
            .map(|portainer| vec![ResourceId::Stack(portainer.stack.clone())])
            .unwrap_or_default()
    }

    fn unobserved(&self) -> Vec<Change> {
        vec![Change::new(
            Verb::Create,
            "an API key of Portainer's admin",
            "none that Portainer accepts",
        )]
    }
}

/// An environment registered in Portainer.
pub(super) struct EnvironmentStep {
    cx: Arc<Context>,
    name: String,
}

impl EnvironmentStep {
    pub(super) fn new(cx: Arc<Context>, name: String) -> Self {
        Self { cx, name }
    }

    fn environment(&self) -> Result<&PortainerEnvironment, Failure> {
        declared(&self.cx)?
            .environments
            .get(&self.name)
            .ok_or_else(|| {
                Failure::message(
                    FailureClass::Failed,
                    format!("environment {} is not declared", self.name),
                )
            })
    }

    /// What Portainer presents to the engine: CA, chain and key of the declared certificate.
    fn tls(&self) -> Result<Option<Tls>, Failure> {
        let Some(declared) = &self.environment()?.tls else {
            return Ok(None);
        };
        let path = self.cx.state.certificate(&declared.certificate);
        let what = format!("certificate {}", declared.certificate);
        let bundle = Bundle::load(&path)
            .map_err(|error| local(&what, &error))?
            .ok_or_else(|| {
                Failure::message(FailureClass::Failed, format!("{what} has not been issued"))
            })?;
        Ok(Some(Tls::new(
            bundle.root_pem().into_bytes(),
            bundle.chain_pem().into_bytes(),
            bundle.key_pem(),
        )))
    }

    /// By which it is known whether Portainer has the current TLS material.
    fn fingerprint(&self, tls: Option<&Tls>) -> Result<Option<Fingerprint>, Failure> {
        let Some(tls) = tls else {
            return Ok(None);
        };
        let key = self
            .cx
            .state
            .fingerprint_key()
            .map_err(|error| local("the key of the fingerprints", &error))?;
        Ok(key.map(|key| {
            let mut all = tls.ca.clone();
            all.extend_from_slice(&tls.certificate);
            all.extend_from_slice(tls.key.expose());
            key.fingerprint(&format!("environment {}", self.name), &all)
        }))
    }

    fn note(&self) -> String {
        format!("environment-{}", self.name)
    }

    async fn session(&self) -> Result<Session, Failure> {
        let client = client(&self.cx, declared(&self.cx)?).await?;
        stored_session(&self.cx, &client).await?.ok_or_else(|| {
            Failure::message(
                FailureClass::Failed,
                "Portainer does not accept the stored API key",
            )
        })
    }

    async fn find(&self, session: &Session) -> Result<Option<Environment>, Failure> {
        let all = session
            .environments(self.cx.look())
            .await
            .map_err(|error| failed(&error))?;
        Ok(all
            .into_iter()
            .find(|environment| environment.name == self.name))
    }

    /// The environment as declared.
    fn wanted(&self) -> Result<NewEnvironment, Failure> {
        let declared = self.environment()?;
        let kind = match declared.kind {
            EnvironmentKind::Docker => Kind::Docker,
            EnvironmentKind::Agent => Kind::Agent,
        };
        let mut wanted = NewEnvironment::new(&self.name, kind, &declared.url);
        wanted.tls = self.tls()?;
        Ok(wanted)
    }

    /// What differs between the registered and the declared environment.
    fn reasons(&self, found: &Environment) -> Result<Vec<String>, Failure> {
        let wanted = self.wanted()?;
        let mut why = Vec::new();
        if found.url != wanted.url {
            why.push(format!("URL {} -> {}", found.url, wanted.url));
        } else if !found.matches(&wanted) {
            why.push("its kind or its use of TLS differs".to_owned());
        }
        let current = self.fingerprint(wanted.tls.as_ref())?;
        let given = self
            .cx
            .state
            .note(&self.note())
            .map_err(|error| local("what Portainer was given", &error))?;
        let expected = current.map(|current| format!("{} {current}", found.id));
        if expected != given {
            why.push("its TLS material is not the current one".to_owned());
        }
        Ok(why)
    }
}

#[async_trait]
impl Step for EnvironmentStep {
    async fn observe(&self, view: &View) -> Result<Observation, Failure> {
        if let Some(tls) = &self.environment()?.tls {
            let id = ResourceId::Certificate(tls.certificate.clone());
            let renewed = view
                .pending(&id)
                .is_some_and(|changes| changes.iter().any(|change| change.verb == Verb::Issue));
            if renewed {
                return Ok(Observation::differs(vec![Change::new(
                    Verb::Update,
                    format!("environment {}", self.name),
                    format!("certificate {} is issued", tls.certificate),
                )]));
            }
        }
        let session = self.session().await?;
        let Some(found) = self.find(&session).await? else {
            return Ok(Observation::differs(self.unobserved()));
        };
        let why = self.reasons(&found)?;
        Ok(if why.is_empty() {
            Observation::converged(format!("registered as {} ({})", found.id, found.url))
        } else {
            Observation::differs(vec![Change::because(
                Verb::Update,
                format!("environment {}", self.name),
                why,
            )])
        })
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let session = self.session().await?;
        let new = self.wanted()?;
        let fingerprint = self.fingerprint(new.tls.as_ref())?;
        let deadline = Deadline::after(self.cx.site.timeouts.node);
        let (id, change) = match self.find(&session).await? {
            None => {
                progress.say("registering it");
                let created = session
                    .create_environment(&new, deadline)
                    .await
                    .map_err(|error| failed(&error))?;
                let change = Change::new(
                    Verb::Create,
                    format!("environment {}", self.name),
                    "missing",
                );
                (created.id, change)
            }
            Some(found) => {
                let why = self.reasons(&found)?;
                session
                    .update_environment(found.id, &new, deadline)
                    .await
                    .map_err(|error| failed(&error))?;
                let change =
                    Change::because(Verb::Update, format!("environment {}", self.name), why);
                (found.id, change)
            }
        };
        if let Some(fingerprint) = fingerprint {
            self.cx
                .state
                .set_note(&self.note(), &format!("{id} {fingerprint}"))
                .map_err(|error| local("what Portainer was given", &error))?;
        }
        progress.changed(change);
        Ok(())
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        vec![ResourceId::Portainer]
    }

    fn unobserved(&self) -> Vec<Change> {
        vec![Change::new(
            Verb::Create,
            format!("environment {}", self.name),
            "missing",
        )]
    }
}
