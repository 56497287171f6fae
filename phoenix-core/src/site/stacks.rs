//! The sections `stacks` and `portainer`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;

use super::files::Holds;
use super::model::{
    CertificateDeclaration, ComposeSource, EnvironmentKind, EnvironmentTls, Portainer,
    PortainerEnvironment, SecretSource, ServerTrust, Stack,
};
use super::read::{Context, PlacedSecret, known, labels, maybe, or, section};
use super::{format, names, values};
use crate::ground::document::{Cursor, Fields, Value};
use crate::stack::{Compat, Dialect};

type ServiceLabels = BTreeMap<String, BTreeMap<String, String>>;

/// The chosen environment, which at least one stack must know.
#[allow(clippy::option_option)]
pub(super) fn environment(root: &Fields<'_>) -> Option<Option<String>> {
    maybe(root, "environment", |chosen| {
        let name = chosen.nonempty()?;
        let mut known: BTreeSet<&str> = BTreeSet::new();
        if let Some(Value::Map(stacks)) = root.get("stacks").map(|stacks| &stacks.node().value) {
            for stack in stacks {
                if let Value::Map(stack) = &stack.value.value
                    && let Some(Value::Map(environments)) =
                        stack.get("environments").map(|node| &node.value)
                {
                    known.extend(environments.iter().map(|entry| entry.key.as_str()));
                }
            }
        }
        if !known.contains(name) {
            chosen.refuse_unknown("environment of any stack", known);
            return None;
        }
        Some(name.to_owned())
    })
}

/// The stacks that are right, with the chosen environment applied.
pub(super) fn read<'d>(
    root: &Fields<'d>,
    context: &Context<'d>,
    converge: Option<Duration>,
) -> IndexMap<String, Stack> {
    let chosen = root
        .get("environment")
        .and_then(|chosen| chosen.node().text());
    let mut order: BTreeMap<&str, Vec<(&str, Cursor<'d>)>> = BTreeMap::new();
    let mut stacks = IndexMap::new();
    for (name, _, cursor) in section(root, "stacks", &names::STACK_NAME) {
        let Some(fields) = format::STACK.open(&cursor) else {
            continue;
        };
        let after = or(&fields, "after", Vec::new(), |list| after(list, context));
        order.insert(name, after.clone().unwrap_or_default());
        stacks.extend(
            stack(&fields, context, chosen, converge, after).map(|stack| (name.to_owned(), stack)),
        );
    }
    refuse_cycles(&order);
    stacks
}

fn stack<'d>(
    fields: &Fields<'d>,
    context: &Context<'d>,
    chosen: Option<&str>,
    converge: Option<Duration>,
    after: Option<Vec<(&'d str, Cursor<'d>)>>,
) -> Option<Stack> {
    let compose = fields.get("compose").and_then(|at| compose(&at, context));
    let dialect = or(fields, "dialect", Dialect::Swarm, |word| {
        word.word(format::DIALECTS)
    });
    let compat = or(fields, "compat", Compat::Phoenix, |word| {
        word.word(format::COMPATS)
    });
    let profiles = or(fields, "profiles", Vec::new(), |list| {
        list.each(|item| item.nonempty().map(str::to_owned))
    });
    if dialect == Some(Dialect::Compose)
        && compat == Some(Compat::Docker)
        && let Some(at) = fields.get("compat")
    {
        at.refuse("docker's ways are those of `docker stack deploy`, which reads `dialect: swarm`");
    }
    if dialect == Some(Dialect::Swarm)
        && let Some(at) = fields.get("profiles")
    {
        at.refuse("only files of `dialect: compose` have profiles");
    }
    let keep = or(fields, "keep", 1, |count| count.integer(0_usize..=100));
    let prune = or(fields, "prune", false, |value| value.boolean());
    let timeout = match fields.get("timeout") {
        Some(timeout) => values::wait(&timeout),
        None => converge,
    };
    let mut variables = or(fields, "variables", BTreeMap::new(), variables);
    let mut labels = or(fields, "labels", BTreeMap::new(), service_labels);
    // All are read, so that a mistake shows before its environment is chosen.
    let environments = or(fields, "environments", Vec::new(), |environments| {
        environments.entries()
    });
    for (name, _, value) in environments.unwrap_or_default() {
        if value.is_null() {
            continue;
        }
        let fields = format::STACK_ENVIRONMENT.open(&value)?;
        let more = or(&fields, "variables", BTreeMap::new(), self::variables);
        let over = or(&fields, "labels", BTreeMap::new(), service_labels);
        if chosen == Some(name) {
            if let (Some(variables), Some(more)) = (&mut variables, more) {
                variables.extend(more);
            }
            for (service, over) in over.unwrap_or_default() {
                if let Some(labels) = &mut labels {
                    labels.entry(service).or_default().extend(over);
                }
            }
        }
    }
    Some(Stack {
        compose: ComposeSource { paths: compose? },
        dialect: dialect?,
        compat: compat?,
        profiles: profiles?,
        variables: variables?,
        service_labels: labels?,
        after: after?
            .into_iter()
            .map(|(name, _)| name.to_owned())
            .collect(),
        keep: keep?,
        prune: prune?,
        timeout: timeout?,
    })
}

/// One path, or a list of them.
fn compose<'d>(at: &Cursor<'d>, context: &Context<'d>) -> Option<Vec<PathBuf>> {
    let Value::List(items) = &at.node().value else {
        let path = context.files.file(at, Holds::Public)?;
        return Some(vec![path]);
    };
    if items.is_empty() {
        at.refuse("at least one compose file is needed here");
        return None;
    }
    let paths = at.each(|item| context.files.file(&item, Holds::Public))?;
    (paths.len() == items.len()).then_some(paths)
}

fn variables(cursor: &Cursor<'_>) -> Option<BTreeMap<String, String>> {
    for (name, position, value) in cursor.entries()? {
        if !names::VARIABLE_NAME.allows(name) {
            value.reader().report(
                position,
                value.path(),
                Some(name),
                format!("a variable's name is {}", names::VARIABLE_NAME.words),
                values::mend(name, &names::VARIABLE_NAME),
            );
        }
    }
    cursor.texts().map(|texts| texts.into_iter().collect())
}

fn service_labels(cursor: &Cursor<'_>) -> Option<ServiceLabels> {
    let entries = cursor.entries()?;
    let count = entries.len();
    let read: ServiceLabels = entries
        .into_iter()
        .filter_map(|(service, _, value)| Some((service.to_owned(), labels(&value)?)))
        .collect();
    (read.len() == count).then_some(read)
}

fn after<'d>(list: &Cursor<'d>, context: &Context<'d>) -> Option<Vec<(&'d str, Cursor<'d>)>> {
    let mut named: Vec<(&str, Cursor<'_>)> = Vec::new();
    for item in list.items()? {
        let Some(name) = known(&item, "stack", &context.declared.stacks) else {
            continue;
        };
        if let Some((_, first)) = named.iter().find(|(other, _)| *other == name) {
            item.refuse(format!("the stack is also at {}", first.position()));
            continue;
        }
        named.push((name, item));
    }
    Some(named)
}

/// Reports each cycle once, at the reference that closes it.
fn refuse_cycles(order: &BTreeMap<&str, Vec<(&str, Cursor<'_>)>>) {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in order.keys() {
        // The way from `start`: each stack with how many of its references were followed.
        let mut way: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((name, followed)) = way.last_mut() {
            let name = *name;
            let next = (!done.contains(name))
                .then(|| order.get(name).and_then(|after| after.get(*followed)))
                .flatten();
            *followed += 1;
            match next {
                None => {
                    done.insert(name);
                    way.pop();
                }
                Some((next, at)) => match way.iter().position(|(on, _)| on == next) {
                    Some(first) => {
                        let mut names: Vec<&str> =
                            way[first..].iter().map(|(name, _)| *name).collect();
                        names.push(next);
                        at.refuse(format!("stacks wait for each other: {}", names.join(" → ")));
                    }
                    None => way.push((next, 0)),
                },
            }
        }
    }
}

/// The section `portainer`.
pub(super) fn portainer<'d>(
    section: &Cursor<'d>,
    context: &Context<'d>,
    secrets: &IndexMap<&'d str, PlacedSecret<'d>>,
    certificates: &IndexMap<String, CertificateDeclaration>,
) -> Option<Portainer> {
    let fields = format::PORTAINER.open(section)?;
    let stack = fields
        .get("stack")
        .and_then(|stack| known(&stack, "stack", &context.declared.stacks));
    let url = fields.get("url").and_then(|url| values::https(&url, true));
    let trust = values::trust(&fields, &context.files, ServerTrust::SiteCa);
    let admin_password = fields
        .get("admin_password")
        .and_then(|name| admin_password(&name, secrets));
    let environments = or(&fields, "environments", IndexMap::new(), |environments| {
        let entries = environments.entries()?;
        let count = entries.len();
        let read: IndexMap<String, PortainerEnvironment> = entries
            .into_iter()
            .filter_map(|(name, position, value)| {
                if name.trim() != name || name.is_empty() {
                    value.reader().report(
                        position,
                        value.path(),
                        Some(name),
                        "a name that is not empty and has no outer spaces is expected here",
                        None,
                    );
                }
                Some((
                    name.to_owned(),
                    environment_of(&value, context, certificates)?,
                ))
            })
            .collect();
        (read.len() == count).then_some(read)
    });
    let ready_timeout = or(
        &fields,
        "ready_timeout",
        Duration::from_secs(120),
        values::wait,
    );
    Some(Portainer {
        stack: stack?.to_owned(),
        url: url?,
        trust: trust?,
        admin_password: admin_password?,
        environments: environments?,
        ready_timeout: ready_timeout?,
    })
}

fn admin_password<'d>(
    cursor: &Cursor<'d>,
    secrets: &IndexMap<&'d str, PlacedSecret<'d>>,
) -> Option<String> {
    let name = cursor.nonempty()?;
    // Neither case quotes the text unless it names a secret: people paste the password here.
    match secrets.get(name) {
        None => {
            let meant = crate::ground::document::nearest(name, secrets.keys().copied());
            cursor.reader().report(
                cursor.position(),
                cursor.path(),
                None,
                "the name of a declared secret is expected here (never the password itself)",
                meant.map(str::to_owned),
            );
            None
        }
        Some(secret) => {
            let from_certificate = secret
                .declaration
                .as_ref()
                .is_some_and(|secret| matches!(secret.source, SecretSource::Certificate { .. }));
            if from_certificate {
                cursor.refuse("this secret holds part of a certificate, not a password");
                return None;
            }
            Some(name.to_owned())
        }
    }
}

fn environment_of<'d>(
    cursor: &Cursor<'d>,
    context: &Context<'d>,
    certificates: &IndexMap<String, CertificateDeclaration>,
) -> Option<PortainerEnvironment> {
    let fields = format::ENVIRONMENT.open(cursor)?;
    let kind = fields.get("kind").and_then(|kind| kind.word(format::KINDS));
    let url = fields.get("url").and_then(|url| {
        let tls = fields.get("tls").is_some();
        environment_url(&url, kind, tls)
    });
    let tls = maybe(&fields, "tls", |tls| {
        if kind == Some(EnvironmentKind::Agent) {
            tls.refuse("an agent brings its own TLS; `tls` belongs to `kind: docker`");
        }
        let fields = format::ENVIRONMENT_TLS.open(tls)?;
        let at = fields.get("certificate")?;
        let name = known(&at, "certificate", &context.declared.certificates)?;
        if certificates
            .get(name)
            .is_some_and(|certificate| !certificate.profile.is_client())
        {
            at.refuse(
                "Portainer is a client here: the certificate needs the profile `client` or `peer`",
            );
            return None;
        }
        Some(EnvironmentTls {
            certificate: name.to_owned(),
        })
    });
    Some(PortainerEnvironment {
        kind: kind?,
        url: url?,
        tls: tls?,
    })
}

fn environment_url(
    cursor: &Cursor<'_>,
    kind: Option<EnvironmentKind>,
    tls: bool,
) -> Option<String> {
    let text = cursor.nonempty()?;
    let port = match kind {
        Some(EnvironmentKind::Agent) => 9001,
        _ => 2376,
    };
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    match scheme {
        "unix" if kind == Some(EnvironmentKind::Agent) => {
            cursor.refuse("an agent answers at `tcp://HOST:9001`");
            None
        }
        "unix" if Path::new(rest).is_absolute() && rest.len() > 1 => {
            if tls {
                cursor.refuse("`tls` belongs to a TCP address, not to a unix socket");
                return None;
            }
            Some(text.to_owned())
        }
        "unix" => {
            cursor.refuse("a socket has an absolute path: `unix:///var/run/docker.sock`");
            None
        }
        "tcp" => {
            if values::host_and_port(rest, None).is_none() {
                let meant =
                    values::host_and_port(rest, Some(port)).map(|_| format!("{text}:{port}"));
                cursor.refuse_suggesting(
                    format!("a host and a port are expected here: `tcp://HOST:{port}`"),
                    meant,
                );
                return None;
            }
            if kind == Some(EnvironmentKind::Docker) && !tls {
                cursor.refuse(
                    "a Docker engine at a TCP address needs `tls`: without it, whoever reaches it \
                     owns the machine",
                );
                return None;
            }
            Some(text.to_owned())
        }
        _ => {
            let meant = values::host_and_port(rest, Some(port))
                .filter(|_| matches!(scheme, "" | "http" | "https"))
                .map(|_| format!("tcp://{rest}"));
            cursor.refuse_suggesting(
                "`unix:///PATH` or `tcp://HOST:PORT` is expected here",
                meant,
            );
            None
        }
    }
}
