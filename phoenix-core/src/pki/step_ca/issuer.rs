//! The issuer: provisioners, tokens and certificates.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::sync::{Mutex, OnceCell};

use super::errors::{StepCaError, Unauthorized};
use super::jwe;
use super::limits::Claims as Limits;
use super::settings::StepCaSettings;
use super::token::{Claims, Signer};
use super::wire::{Answer, Wire};
use crate::ground::Deadline;
use crate::pki::bundle::Bundle;
use crate::pki::issuer::{IssueError, Issuer, IssuerIdentity};
use crate::pki::key::PrivateKey;
use crate::pki::observed::fingerprint;
use crate::pki::pem;
use crate::pki::request::{CertificateRequest, Profile};
use crate::pki::san::SanDifference;
use crate::pki::tls::TlsIdentity;

/// Provisioners on one page: as many as the server gives.
const PAGE: usize = 100;

/// Pages that are read before the server is taken to be going in circles.
const MOST_PAGES: usize = 100;

/// Attempts to sign while the server cannot be reached at all, as while it restarts.
const CONNECTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// How near its end a certificate no longer vouches for its own renewal: the server's clock may
/// be ahead.
const NEAR_END: time::Duration = time::Duration::seconds(120);

/// How far the new certificate's end may be from what was asked for.
const TOLERANCE: time::Duration = time::Duration::seconds(120);

/// A step-ca server. Cheap to clone; the root, the provisioners and their keys are fetched when
/// first needed and kept until the last clone is dropped.
///
/// A certificate whose answer was lost is issued again by the next call, with a fresh key and a
/// fresh token: the lost one is of no use to anybody, since its key never left this process.
#[derive(Clone)]
pub struct StepCa {
    inner: Arc<Inner>,
}

struct Inner {
    settings: StepCaSettings,
    identity: IssuerIdentity,
    server: OnceCell<Server>,
    provisioners: Mutex<BTreeMap<String, Arc<Provisioner>>>,
}

pub(super) struct Server {
    pub(super) root: CertificateDer<'static>,
    pub(super) root_pem: String,
    pub(super) wire: Wire,
}

/// A provisioner whose key has been decrypted.
struct Provisioner {
    name: String,
    key_id: String,
    limits: Limits,
    signer: Signer,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    #[serde(rename = "type")]
    kind: String,
    pub(super) name: String,
    key: Option<Key>,
    pub(super) encrypted_key: Option<String>,
    pub(super) claims: Option<Limits>,
}

#[derive(Debug, Clone, Deserialize)]
struct Key {
    kid: String,
}

#[derive(Deserialize)]
pub(super) struct Encrypted {
    pub(super) key: String,
}

/// A list as Go's JSON has it: `null` where it is empty.
fn list<'de, D, T>(json: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(json).map(Option::unwrap_or_default)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    #[serde(deserialize_with = "list")]
    pub(super) provisioners: Vec<Listed>,
    #[serde(default)]
    next_cursor: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    crt: String,
    ca: String,
    #[serde(default, deserialize_with = "list")]
    cert_chain: Vec<String>,
}

impl fmt::Debug for StepCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StepCa").field(&self.inner.settings).finish()
    }
}

impl StepCa {
    /// The server of these settings. Contacts nobody.
    #[must_use]
    pub fn new(settings: StepCaSettings) -> Self {
        let host = settings.url.host_str().unwrap_or_default();
        let mut identity =
            IssuerIdentity::new(format!("step-ca at {host}"), vec![settings.fingerprint]);
        identity.wider_profiles = !settings.strict;
        Self {
            inner: Arc::new(Inner {
                settings,
                identity,
                server: OnceCell::new(),
                provisioners: Mutex::default(),
            }),
        }
    }

    /// The root (PEM), fetched and compared with the fingerprint when first asked for.
    ///
    /// # Errors
    /// [`StepCaError`].
    pub async fn root_pem(&self, deadline: Deadline) -> Result<String, StepCaError> {
        Ok(self.server(deadline).await?.root_pem.clone())
    }

    /// Whether the server answers, has the root and has every declared provisioner. Decrypts
    /// nothing and issues nothing.
    ///
    /// # Errors
    /// [`StepCaError`]; [`StepCaError::is_unreachable`] tells a server that is down.
    pub async fn probe(&self, deadline: Deadline) -> Result<(), StepCaError> {
        let server = self.server(deadline).await?;
        let health = server.wire.get("health", deadline).await?;
        if health.status != 200 {
            return Err(health.refused("say that it is healthy"));
        }
        let listed = provisioners(&server.wire, deadline).await?;
        for name in self.inner.settings.provisioners.values() {
            chosen(&listed, name)?;
        }
        Ok(())
    }

    async fn server(&self, deadline: Deadline) -> Result<&Server, StepCaError> {
        let settings = &self.inner.settings;
        self.inner
            .server
            .get_or_try_init(|| async {
                let (root, wire) =
                    Wire::bootstrap(&settings.url, &settings.fingerprint, deadline).await?;
                Ok(Server {
                    root_pem: pem::encode_certificate(&root),
                    root,
                    wire,
                })
            })
            .await
    }

    async fn provisioner(
        &self,
        profile: Profile,
        deadline: Deadline,
    ) -> Result<Arc<Provisioner>, StepCaError> {
        let settings = &self.inner.settings;
        let name = settings
            .provisioners
            .get(&profile)
            .ok_or(StepCaError::NoProvisioner { profile })?;
        // Held meanwhile, so that many requests at once decrypt a key once.
        let mut known = self.inner.provisioners.lock().await;
        if let Some(provisioner) = known.get(name) {
            return Ok(Arc::clone(provisioner));
        }
        let wire = &self.server(deadline).await?.wire;
        let listed = provisioners(wire, deadline).await?;
        let (listed, key_id) = chosen(&listed, name)?;
        let encrypted = match listed.encrypted_key.clone().filter(|key| !key.is_empty()) {
            Some(key) => key,
            None => encrypted_key(wire, name, &key_id, deadline).await?,
        };
        let password = settings.password.clone();
        let decrypting = tokio::task::spawn_blocking(move || {
            jwe::decrypt(&encrypted, password.expose().trim_ascii_end())
        });
        let jwk = deadline
            .run(decrypting)
            .await
            .map_err(|source| StepCaError::Elapsed {
                url: settings.url.to_string(),
                source,
            })?
            .map_err(|_| wire.malformed("a key whose decryption was cancelled"))?
            .map_err(|source| StepCaError::Key {
                name: name.clone(),
                source,
            })?;
        let provisioner = Arc::new(Provisioner {
            name: name.clone(),
            key_id,
            limits: listed.claims.clone().unwrap_or_default(),
            signer: Signer::from_jwk(&jwk).map_err(|error| StepCaError::signer(name, &error))?,
        });
        known.insert(name.clone(), Arc::clone(&provisioner));
        Ok(provisioner)
    }

    fn check_lifetime(
        &self,
        lifetime: Duration,
        provisioner: &Provisioner,
    ) -> Result<(), StepCaError> {
        let declared = self.inner.settings.max_lifetime;
        let (limit, limited_by) = match provisioner.limits.longest() {
            Some(longest) if longest < declared => (
                longest,
                format!("the provisioner `{}` grants", provisioner.name),
            ),
            _ => (declared, "`max_lifetime` declares".to_owned()),
        };
        if lifetime > limit {
            return Err(StepCaError::TooLong {
                lifetime,
                limit,
                limited_by,
            });
        }
        let limit = provisioner.limits.shortest();
        if lifetime < limit {
            return Err(StepCaError::TooShort {
                lifetime,
                limit,
                name: provisioner.name.clone(),
            });
        }
        Ok(())
    }

    /// Signs with a fresh token per attempt. A 401 means that nothing was issued; it is answered
    /// with one more token, since the server refuses those that are older than its own start.
    async fn sign(
        &self,
        server: &Server,
        provisioner: &Provisioner,
        request: &CertificateRequest,
        csr: &Csr,
        deadline: Deadline,
    ) -> Result<Answer, IssueError> {
        let settings = &self.inner.settings;
        let audience = server.wire.at("sign");
        let (mut connects, mut refused) = (0, false);
        loop {
            let now = (settings.clock)();
            let claims = Claims {
                issuer: &provisioner.name,
                audience: &audience,
                subject: request.common_name(),
                sans: request.sans(),
                root: &settings.fingerprint,
                csr: &csr.fingerprint,
                now,
            };
            let token = provisioner
                .signer
                .token(&provisioner.key_id, &claims)
                .ok_or(IssueError::Randomness)?;
            let body = serde_json::json!({
                "csr": csr.pem,
                "ott": token,
                // Go knows no days.
                "notAfter": format!("{}s", request.lifetime().as_secs()),
            });
            match server.wire.post("sign", &body, deadline).await {
                Err(StepCaError::Unreachable { .. }) if connects + 1 < CONNECTS => {
                    connects += 1;
                    deadline.pause(PAUSE).await?;
                }
                Err(error) => return Err(error.into()),
                Ok(answer) if answer.status == 401 && !refused => refused = true,
                Ok(answer) if answer.status == 401 => {
                    let skew = answer
                        .date
                        .map(|there| ((settings.clock)() - there).whole_seconds());
                    return Err(StepCaError::Unauthorized(Box::new(Unauthorized {
                        request_id: answer.request_id,
                        skew_seconds: skew,
                        provisioner: provisioner.name.clone(),
                        key_id: provisioner.key_id.clone(),
                        audience,
                    }))
                    .into());
                }
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// Makes a bundle of an answer, and holds it against what was asked for.
    pub(super) fn bundle(
        &self,
        server: &Server,
        provisioner: &str,
        request: &CertificateRequest,
        key: &PrivateKey,
        answer: &Answer,
    ) -> Result<Bundle, IssueError> {
        let signed: Signed = server.wire.parse(answer)?;
        let chain = if signed.cert_chain.is_empty() {
            format!("{}\n{}", signed.crt, signed.ca)
        } else {
            signed.cert_chain.join("\n")
        };
        let mut chain = pem::certificates(chain.as_bytes())
            .map_err(|_| server.wire.malformed("a chain that cannot be read"))?;
        let leaf = chain.remove(0);
        let bundle =
            Bundle::new(key, leaf, chain, server.root.clone()).map_err(IssueError::Unreadable)?;
        let now = OffsetDateTime::now_utc();
        let (wanted, got) = (request.profile(), bundle.leaf().profile);
        let wider = !self.inner.settings.strict && bundle.wider_than(wanted).is_some();
        if got != Some(wanted) && !wider {
            return Err(StepCaError::Purpose {
                wanted,
                got,
                name: provisioner.to_owned(),
            }
            .into());
        }
        let difference = SanDifference::between(&bundle.leaf().sans, request.sans());
        if !difference.is_empty() {
            return Err(StepCaError::Names {
                difference: difference.to_string(),
            }
            .into());
        }
        bundle
            .check(wanted, request.sans(), now)
            .map_err(IssueError::Unfit)?;
        Ok(bundle)
    }

    /// Renews by the certificate itself; `None` when the server will not have it, and nothing was
    /// issued.
    async fn rekey(
        &self,
        request: &CertificateRequest,
        current: &Bundle,
        deadline: Deadline,
    ) -> Result<Option<Bundle>, IssueError> {
        let server = self.server(deadline).await?;
        let (key, csr) = key_and_csr(request, deadline).await?;
        let wire = server
            .wire
            .with_identity(&server.root_pem, TlsIdentity::from(current))?;
        let body = serde_json::json!({"csr": csr.pem});
        let answer = wire.post("rekey", &body, deadline).await?;
        match answer.status {
            201 => {
                let provisioner = self.inner.settings.provisioners.get(&request.profile());
                let name = provisioner.map_or("", String::as_str);
                self.bundle(server, name, request, &key, &answer).map(Some)
            }
            400..500 => Ok(None),
            _ => Err(answer.refused("renew the certificate").into()),
        }
    }

    /// Whether the server would make of `current` what `request` asks for: it copies everything
    /// but the key.
    fn vouches(&self, request: &CertificateRequest, current: &Bundle) -> bool {
        let leaf = current.leaf();
        let now = OffsetDateTime::now_utc();
        let life = leaf.not_after - leaf.not_before;
        let lifetime = time::Duration::try_from(request.lifetime()).unwrap_or(time::Duration::MAX);
        let profile_fits = leaf.profile == Some(request.profile())
            || (!self.inner.settings.strict && current.wider_than(request.profile()).is_some());
        leaf.profile.is_some_and(Profile::is_client)
            && profile_fits
            && self.inner.identity.issued(current)
            && current.key_matches()
            && leaf.not_before <= now
            && now + NEAR_END < leaf.not_after
            && (life - lifetime).abs() <= TOLERANCE
            && leaf.common_name.as_deref() == Some(request.common_name())
            && SanDifference::between(&leaf.sans, request.sans()).is_empty()
    }
}

/// A certificate request (PKCS #10) with the subject alone: the server takes the names from the
/// token, and lets one without names pass.
struct Csr {
    pem: String,
    fingerprint: [u8; 32],
}

async fn key_and_csr(
    request: &CertificateRequest,
    deadline: Deadline,
) -> Result<(PrivateKey, Csr), IssueError> {
    let (key_type, common_name) = (request.key_type(), request.common_name().to_owned());
    let making = tokio::task::spawn_blocking(move || {
        let key = PrivateKey::generate(key_type).map_err(IssueError::Key)?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, common_name);
        let made = params
            .serialize_request(key.pair())
            .map_err(IssueError::Sign)?;
        let csr = Csr {
            pem: made.pem().map_err(IssueError::Sign)?,
            fingerprint: fingerprint(made.der()),
        };
        Ok((key, csr))
    });
    deadline
        .run(making)
        .await?
        .map_err(|_| IssueError::Cancelled)?
}

async fn provisioners(wire: &Wire, deadline: Deadline) -> Result<Vec<Listed>, StepCaError> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    for _ in 0..MOST_PAGES {
        let path = format!("provisioners?limit={PAGE}&cursor={cursor}");
        let answer = wire.get(&path, deadline).await?;
        if answer.status != 200 {
            return Err(answer.refused("list its provisioners"));
        }
        let page: Page = wire.parse(&answer)?;
        all.extend(page.provisioners);
        if page.next_cursor.is_empty() {
            return Ok(all);
        }
        if !page
            .next_cursor
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric())
        {
            break;
        }
        cursor = page.next_cursor;
    }
    Err(wire.malformed("a list of provisioners without an end"))
}

/// The JWK provisioner of this name, and the identifier of its key.
pub(super) fn chosen<'a>(
    listed: &'a [Listed],
    name: &str,
) -> Result<(&'a Listed, String), StepCaError> {
    let jwk = || listed.iter().filter(|one| one.kind == "JWK");
    jwk()
        .find(|one| one.name == name)
        .and_then(|one| Some((one, one.key.as_ref()?.kid.clone())))
        .ok_or_else(|| StepCaError::UnknownProvisioner {
            name: name.to_owned(),
            present: jwk().map(|one| one.name.clone()).collect(),
        })
}

async fn encrypted_key(
    wire: &Wire,
    name: &str,
    key_id: &str,
    deadline: Deadline,
) -> Result<String, StepCaError> {
    let key_id = percent_encoding::utf8_percent_encode(key_id, percent_encoding::NON_ALPHANUMERIC);
    let answer = wire
        .get(&format!("provisioners/{key_id}/encrypted-key"), deadline)
        .await?;
    match answer.status {
        200 => Ok(wire.parse::<Encrypted>(&answer)?.key),
        404 => Err(StepCaError::NoEncryptedKey {
            name: name.to_owned(),
        }),
        _ => Err(answer.refused("hand out a provisioner's encrypted key")),
    }
}

#[async_trait]
impl Issuer for StepCa {
    async fn issue(
        &self,
        request: &CertificateRequest,
        deadline: Deadline,
    ) -> Result<Bundle, IssueError> {
        if request.common_name().is_empty() {
            let missing = "a common name";
            return Err(StepCaError::Nameless { missing }.into());
        }
        if request.sans().is_empty() {
            return Err(StepCaError::Nameless { missing: "SANs" }.into());
        }
        let provisioner = self.provisioner(request.profile(), deadline).await?;
        self.check_lifetime(request.lifetime(), &provisioner)?;
        let server = self.server(deadline).await?;
        let (key, csr) = key_and_csr(request, deadline).await?;
        let answer = self
            .sign(server, &provisioner, request, &csr, deadline)
            .await?;
        if answer.status != 201 {
            return Err(answer.refused("sign a certificate").into());
        }
        self.bundle(server, &provisioner.name, request, &key, &answer)
    }

    /// Renews with the certificate itself (`/rekey`, not `/renew`, which would keep the old key)
    /// where that gives what is asked for, and with a token otherwise: a certificate that is for
    /// servers only or has expired opens no connection, and one that was declared anew is copied
    /// as it was.
    async fn renew(
        &self,
        request: &CertificateRequest,
        current: &Bundle,
        deadline: Deadline,
    ) -> Result<Bundle, IssueError> {
        if self.vouches(request, current)
            && let Some(bundle) = self.rekey(request, current, deadline).await?
        {
            return Ok(bundle);
        }
        self.issue(request, deadline).await
    }

    fn identity(&self) -> &IssuerIdentity {
        &self.inner.identity
    }

    fn latest_not_after(&self) -> Option<OffsetDateTime> {
        None
    }
}

#[cfg(test)]
#[path = "issuer_tests.rs"]
mod tests;
