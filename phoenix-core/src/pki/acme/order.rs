//! One order: names are proven, a request is signed, a certificate fetched.

use std::collections::BTreeMap;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeStatus, ChallengeType, Error, Identifier, NewOrder,
    Order, OrderStatus, RetryPolicy,
};

use super::error::{AcmeError, kind_of, readable};
use super::responder::Answer;
use super::transport::Transport;
use super::{ChallengeKind, ChallengeSolver, TxtRecord};
use crate::ground::{Deadline, Elapsed};
use crate::pki::SubjectAltName;

/// How long a record may take to be cleared, whatever became of the order.
const CLEARING: Duration = Duration::from_secs(60);

/// The pauses between questions about a proof begin and end with these.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What an order has set up, and what the server last said against a proof. Records are cleared
/// by [`Proofs::clear`], answers end with it.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    answers: Vec<Answer>,
    records: Vec<TxtRecord>,
    /// The problem with each name that is not proven yet.
    pub(super) objections: BTreeMap<String, String>,
}

impl Proofs {
    /// Takes everything back. A record that stays behind proves nothing to anybody, so that is
    /// only logged.
    pub(super) async fn clear(&mut self, solver: &ChallengeSolver) {
        self.answers.clear();
        let ChallengeSolver::Dns01 { hook, .. } = solver else {
            return;
        };
        for record in self.records.drain(..) {
            let deadline = Deadline::after(CLEARING);
            let error: Box<dyn std::error::Error + Send + Sync> =
                match deadline.run(hook.clear(&record, deadline)).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error,
                    Err(elapsed) => elapsed.into(),
                };
            tracing::warn!(record = record.name, error, "a TXT record was not cleared");
        }
    }
}

/// What ends an order.
pub(super) enum Ended {
    /// For good.
    Failed(AcmeError),
    /// In time.
    Elapsed(Elapsed),
    /// The server does not know the account with this URL.
    AccountLost(String),
}

impl From<AcmeError> for Ended {
    fn from(error: AcmeError) -> Self {
        Self::Failed(error)
    }
}

impl From<Elapsed> for Ended {
    fn from(elapsed: Elapsed) -> Self {
        Self::Elapsed(elapsed)
    }
}

/// What ACME calls the names; refuses what the challenge can never prove.
pub(super) fn identifiers(
    names: &[SubjectAltName],
    kind: ChallengeKind,
) -> Result<Vec<Identifier>, AcmeError> {
    if names.is_empty() {
        return Err(AcmeError::Nameless);
    }
    names
        .iter()
        .map(|name| {
            let (identifier, provable) = match name {
                SubjectAltName::Dns(text) => (
                    Identifier::Dns(text.clone()),
                    kind == ChallengeKind::Dns01 || !name.is_wildcard(),
                ),
                SubjectAltName::Ip(address) => {
                    (Identifier::Ip(*address), kind == ChallengeKind::Http01)
                }
                SubjectAltName::Email(_) | SubjectAltName::Uri(_) => {
                    return Err(AcmeError::Name { name: name.clone() });
                }
            };
            if provable {
                return Ok(identifier);
            }
            Err(AcmeError::Unprovable {
                name: name.clone(),
                kind,
            })
        })
        .collect()
}

/// Begins an order. A server that wants to be asked later is, when there is time for that.
pub(super) async fn begin(
    account: &Account,
    transport: &Transport,
    identifiers: &[Identifier],
    deadline: Deadline,
) -> Result<Order, Ended> {
    loop {
        let error = match account.new_order(&NewOrder::new(identifiers)).await {
            Ok(order) => return Ok(order),
            Err(error) => error,
        };
        let kind = match &error {
            Error::Api(problem) => kind_of(problem),
            _ => "",
        };
        let wait = transport.retry_after();
        match (kind, wait) {
            ("accountDoesNotExist", _) => return Err(Ended::AccountLost(account.id().to_owned())),
            ("rateLimited", Some(wait)) if wait < deadline.remaining() => {
                deadline.pause(wait.max(SHORTEST_PAUSE)).await?;
            }
            _ => return Err(AcmeError::of("ordering", error, wait).into()),
        }
    }
}

/// Proves every name that the server does not hold proven already.
pub(super) async fn prove(
    order: &mut Order,
    solver: &ChallengeSolver,
    proofs: &mut Proofs,
    deadline: Deadline,
) -> Result<(), Ended> {
    let kind = solver.kind();
    let mut open = Vec::new();
    let mut index = 0;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization
            .map_err(|error| AcmeError::of("looking up what to prove", error, None))?;
        let name = authorization.identifier().to_string();
        match authorization.status {
            AuthorizationStatus::Valid => {}
            AuthorizationStatus::Pending => {
                let offered: Vec<String> = authorization
                    .challenges
                    .iter()
                    .map(|challenge| shown(&challenge.r#type))
                    .collect();
                let challenge =
                    authorization
                        .challenge(kind.wire())
                        .ok_or_else(|| AcmeError::NotOffered {
                            name: name.clone(),
                            kind,
                            offered: offered.join(", "),
                        })?;
                let authorized = challenge.key_authorization();
                match solver {
                    ChallengeSolver::Http01 { listen } => proofs.answers.push(
                        Answer::new(*listen, &challenge.token, authorized.as_str())
                            .await
                            .map_err(AcmeError::Responder)?,
                    ),
                    ChallengeSolver::Dns01 { hook, .. } => {
                        let record = TxtRecord::new(&name, authorized.dns_value());
                        // Before it is set: one that was set by half is cleared, too.
                        proofs.records.push(record.clone());
                        hook.set(&record, deadline)
                            .await
                            .map_err(|source| AcmeError::Hook {
                                record: record.name.clone(),
                                source,
                            })?;
                    }
                }
                open.push((index, name));
            }
            status => {
                return Err(AcmeError::NotProven {
                    name,
                    kind,
                    problem: format!("the server holds it {status:?} already"),
                }
                .into());
            }
        }
        index += 1;
    }
    if open.is_empty() {
        return Ok(());
    }
    if let ChallengeSolver::Dns01 { propagation, .. } = solver {
        deadline.pause(*propagation).await?;
    }
    for (index, name) in &open {
        announce(order, *index, name, kind, proofs, deadline).await?;
    }
    for (index, name) in &open {
        settle(order, *index, name, kind, proofs, deadline).await?;
    }
    Ok(())
}

/// How a proof stands.
struct Standing {
    status: AuthorizationStatus,
    challenge: Option<ChallengeStatus>,
    objection: Option<String>,
}

async fn standing(
    order: &mut Order,
    index: usize,
    kind: ChallengeKind,
) -> Result<Standing, AcmeError> {
    let failed = |error| AcmeError::of("looking up a proof", error, None);
    let mut authorizations = order.authorizations();
    let mut at = 0;
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed)?;
        if at == index {
            let state = authorization.refresh().await.map_err(failed)?;
            let challenge = state
                .challenges
                .iter()
                .find(|challenge| challenge.r#type == kind.wire());
            return Ok(Standing {
                status: state.status,
                challenge: challenge.map(|challenge| challenge.status),
                objection: challenge
                    .and_then(|challenge| challenge.error.as_ref())
                    .map(readable),
            });
        }
        at += 1;
    }
    Err(failed(Error::Str("the authorization")))
}

/// Tells the server that it may look. A refusal is kept as an objection: whether it is the last
/// word, how the proof stands says.
async fn announce(
    order: &mut Order,
    index: usize,
    name: &str,
    kind: ChallengeKind,
    proofs: &mut Proofs,
    deadline: Deadline,
) -> Result<(), Ended> {
    let failed = |error| AcmeError::of("announcing a proof", error, None);
    let mut authorizations = order.authorizations();
    let mut at = 0;
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed)?;
        if at == index {
            let Some(mut challenge) = authorization.challenge(kind.wire()) else {
                break;
            };
            return match deadline.run(challenge.set_ready()).await? {
                Ok(()) => Ok(()),
                Err(Error::Api(problem)) => {
                    proofs
                        .objections
                        .insert(name.to_owned(), readable(&problem));
                    Ok(())
                }
                Err(error) => Err(failed(error).into()),
            };
        }
        at += 1;
    }
    Err(failed(Error::Str("the challenge")).into())
}

/// Waits until the proof is accepted or refused. A server that could not connect lets the
/// challenge pending and never looks again by itself, so it is told again.
async fn settle(
    order: &mut Order,
    index: usize,
    name: &str,
    kind: ChallengeKind,
    proofs: &mut Proofs,
    deadline: Deadline,
) -> Result<(), Ended> {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let now = standing(order, index, kind).await?;
        if let Some(objection) = &now.objection {
            proofs.objections.insert(name.to_owned(), objection.clone());
        }
        match now.status {
            AuthorizationStatus::Valid => {
                proofs.objections.remove(name);
                return Ok(());
            }
            // Some servers refuse a proof for good and leave the authorization pending until it
            // expires.
            AuthorizationStatus::Pending if now.challenge != Some(ChallengeStatus::Invalid) => {}
            status => {
                let problem = proofs
                    .objections
                    .remove(name)
                    .unwrap_or_else(|| match status {
                        AuthorizationStatus::Pending => "the server refused it".to_owned(),
                        status => format!("it is {status:?}"),
                    });
                return Err(AcmeError::NotProven {
                    name: name.to_owned(),
                    kind,
                    problem,
                }
                .into());
            }
        }
        deadline.pause(pause).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
        // Without an objection it may be looking just now: some servers call that pending, too.
        if now.challenge == Some(ChallengeStatus::Pending) && proofs.objections.contains_key(name) {
            announce(order, index, name, kind, proofs, deadline).await?;
        }
    }
}

/// Hands in the request and fetches the chain (PEM). Asking again after a lost answer would make
/// another certificate, which is harmless; it is left to the caller's next order.
pub(super) async fn finish(
    order: &mut Order,
    request: &[u8],
    deadline: Deadline,
) -> Result<String, Ended> {
    let policy = || {
        RetryPolicy::new()
            .backoff(1.5)
            .timeout(deadline.remaining())
    };
    let status = order
        .poll_ready(&policy())
        .await
        .map_err(|error| timed("waiting for the order", error, deadline))?;
    if status != OrderStatus::Ready {
        return Err(AcmeError::Refused {
            doing: "waiting for the order",
            problem: format!("it is {status:?}"),
        }
        .into());
    }
    order
        .finalize_csr(request)
        .await
        .map_err(|error| AcmeError::of("handing in the request", error, None))?;
    order
        .poll_certificate(&policy())
        .await
        .map_err(|error| timed("fetching the certificate", error, deadline))
}

fn timed(doing: &'static str, error: Error, deadline: Deadline) -> Ended {
    match error {
        Error::Timeout(Some(next)) => AcmeError::RateLimited {
            problem: format!("{doing} takes longer"),
            wait: Some(next.saturating_duration_since(std::time::Instant::now())),
        }
        .into(),
        Error::Timeout(None) => deadline.elapsed().into(),
        error => AcmeError::of(doing, error, None).into(),
    }
}

pub(super) fn shown(kind: &ChallengeType) -> String {
    match kind {
        ChallengeType::Http01 => "http-01".to_owned(),
        ChallengeType::Dns01 => "dns-01".to_owned(),
        ChallengeType::TlsAlpn01 => "tls-alpn-01".to_owned(),
        ChallengeType::Unknown(name) => name.clone(),
        other => format!("{other:?}"),
    }
}
