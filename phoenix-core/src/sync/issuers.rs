//! The issuers of a site, made from what is declared.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::context::{Context, Inputs, OpenError, trust, value};
use super::dns_hook::GuestHook;
use super::session::local;
use super::{Failure, FailureClass, explain};
use crate::ground::SecretBytes;
use crate::pki::{
    Acme, AcmeSettings, CaParameters, ChallengeSolver, EmbeddedCa, Issuer, StepCa, StepCaSettings,
};
use crate::site::{
    AcmeAuthority, AcmeChallenge, CertificateAuthority, EmbeddedAuthority, ServerTrust, Site,
    StepCaAuthority,
};

/// The secret that each issuer needs, by the issuer's name; that of the site's own under `None`.
pub(super) type IssuerSecrets = BTreeMap<Option<String>, SecretBytes>;

/// Reads what the issuers need: passphrases, passwords, keys of accounts.
pub(super) fn secrets(site: &Site, inputs: &Inputs) -> Result<IssuerSecrets, OpenError> {
    let mut secrets = BTreeMap::new();
    let named = site
        .issuers
        .iter()
        .map(|(name, issuer)| (Some(name.clone()), issuer));
    for (name, issuer) in std::iter::once((None, &site.ca)).chain(named) {
        let (source, key) = match issuer {
            CertificateAuthority::Embedded(declared) => {
                (declared.passphrase.as_ref(), "embedded.passphrase")
            }
            CertificateAuthority::StepCa(declared) => {
                (Some(&declared.password), "step_ca.password")
            }
            CertificateAuthority::Acme(declared) => (
                declared
                    .external_account
                    .as_ref()
                    .map(|account| &account.key),
                "acme.external_account.key",
            ),
        };
        if let Some(source) = source {
            let section = match &name {
                None => "ca".to_owned(),
                Some(name) => format!("issuers.{name}"),
            };
            let secret = value(&format!("{section}.{key}"), source, inputs)?;
            secrets.insert(name, secret);
        }
    }
    Ok(secrets)
}

impl Context {
    /// How the embedded CA of the issuer of this name is made.
    pub(super) fn ca_parameters(
        &self,
        name: Option<&str>,
        declared: &EmbeddedAuthority,
    ) -> Result<CaParameters, Failure> {
        CaParameters::new(
            &declared.common_name,
            declared.root_lifetime,
            declared.intermediate_lifetime,
            declared.key_type,
        )
        .map(|parameters| parameters.with_passphrase(self.issuer_secret(name).cloned()))
        .map_err(|error| local("ca.embedded", &error))
    }

    /// The embedded CA of the issuer of this name as its files are now, when it has been created.
    /// From here on it is what is issued with.
    pub(super) fn read_embedded(
        &self,
        name: Option<&str>,
        declared: &EmbeddedAuthority,
    ) -> Result<Option<EmbeddedCa>, Failure> {
        let found = EmbeddedCa::observe_with(&declared.directory, self.issuer_secret(name))
            .map_err(|error| local("the certificate authority cannot be used", &error));
        let mut authorities = self.authorities();
        let key = name.map(str::to_owned);
        match &found {
            Ok(Some(authority)) => authorities.insert(key, authority.clone()),
            _ => authorities.remove(&key),
        };
        found
    }

    /// The embedded CA of the issuer of this name, when it has been created; its files are read
    /// once, not for every certificate.
    fn embedded(
        &self,
        name: Option<&str>,
        declared: &EmbeddedAuthority,
    ) -> Result<Option<EmbeddedCa>, Failure> {
        let known = self.authorities().get(&name.map(str::to_owned)).cloned();
        match known {
            Some(authority) => Ok(Some(authority)),
            None => self.read_embedded(name, declared),
        }
    }

    fn issuer_secret(&self, name: Option<&str>) -> Option<&SecretBytes> {
        self.issuer_secrets.get(&name.map(str::to_owned))
    }

    /// What is declared of the issuer of this name, or of the site's own.
    pub(super) fn declared_issuer(&self, name: Option<&str>) -> &CertificateAuthority {
        name.and_then(|name| self.site.issuers.get(name))
            .unwrap_or(&self.site.ca)
    }

    /// The issuer of this name, or the site's own; `None` when it is an embedded CA that has not
    /// been created yet. Contacts nobody.
    pub(super) fn issuer(&self, name: Option<&str>) -> Result<Option<Arc<dyn Issuer>>, Failure> {
        match self.declared_issuer(name) {
            CertificateAuthority::Embedded(declared) => Ok(self
                .embedded(name, declared)?
                .map(|authority| -> Arc<dyn Issuer> { Arc::new(authority) })),
            CertificateAuthority::Acme(declared) => {
                let acme = self.acme(name, declared)?;
                Ok(Some(Arc::new(acme)))
            }
            CertificateAuthority::StepCa(declared) => {
                Ok(Some(Arc::new(self.step_ca(name, declared)?)))
            }
        }
    }

    /// The ACME issuer of this name, made once.
    pub(super) fn acme(
        &self,
        name: Option<&str>,
        declared: &AcmeAuthority,
    ) -> Result<Acme, Failure> {
        let name = name.filter(|name| self.site.issuers.contains_key(*name));
        let key = name.map(str::to_owned);
        let mut made = self.acme.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(acme) = made.get(&key) {
            return Ok(acme.clone());
        }
        let section = match name {
            None => "ca.acme".to_owned(),
            Some(name) => format!("issuers.{name}.acme"),
        };
        let unusable = |error: &dyn std::error::Error| local(&section, error);
        let solver = match &declared.challenge {
            AcmeChallenge::Http01 { listen } => ChallengeSolver::Http01 { listen: *listen },
            AcmeChallenge::Dns01 {
                guest,
                set,
                clear,
                propagation,
            } => ChallengeSolver::Dns01 {
                hook: Arc::new(GuestHook::new(
                    self.guest(guest)?,
                    set.clone(),
                    clear.clone(),
                )),
                propagation: *propagation,
            },
        };
        let trust =
            trust(&format!("{section}.ca"), &declared.trust).map_err(|error| unusable(&error))?;
        let account = self.state.acme_account(name);
        let mut settings = AcmeSettings::new(declared.directory.clone(), trust, account);
        settings.roots = declared
            .roots
            .as_ref()
            .map(std::fs::read)
            .transpose()
            .map_err(|error| unusable(&error))?;
        settings.contact.clone_from(&declared.contact);
        if let Some(external) = &declared.external_account {
            let secret = self.issuer_secrets.get(&key).ok_or_else(|| {
                Failure::message(
                    FailureClass::Failed,
                    format!("{section}.external_account.key was not read"),
                )
            })?;
            settings.external_account = Some((external.key_id.clone(), secret.clone()));
        }
        let acme = Acme::new(settings, solver).map_err(|error| unusable(&error))?;
        made.insert(key, acme.clone());
        Ok(acme)
    }

    /// The step-ca that `declared` of this name is. The same one every time, so that its root and
    /// its provisioners' keys are fetched once. Contacts nobody.
    pub(super) fn step_ca(
        &self,
        name: Option<&str>,
        declared: &StepCaAuthority,
    ) -> Result<StepCa, Failure> {
        let name = name
            .filter(|name| self.site.issuers.contains_key(*name))
            .map(str::to_owned);
        let mut known = self.step_cas();
        if let Some(ca) = known.get(&name) {
            return Ok(ca.clone());
        }
        let password = self.issuer_secrets.get(&name).cloned().ok_or_else(|| {
            Failure::message(FailureClass::Failed, "step_ca.password has not been read")
        })?;
        let mut settings = StepCaSettings::new(
            declared.url.clone(),
            declared.fingerprint,
            declared.provisioners.clone(),
            password,
        );
        settings.max_lifetime = declared.max_lifetime;
        settings.strict = declared.strict;
        let ca = StepCa::new(settings);
        known.insert(name, ca.clone());
        Ok(ca)
    }

    /// The root (PEM) of the site's own CA.
    pub(super) async fn site_root(&self) -> Result<Vec<u8>, Failure> {
        match &self.site.ca {
            CertificateAuthority::Embedded(declared) => match self.embedded(None, declared)? {
                Some(authority) => Ok(authority.root_pem().as_bytes().to_vec()),
                None => Err(Failure::message(
                    FailureClass::Failed,
                    "the certificate authority has not been created",
                )),
            },
            CertificateAuthority::Acme(declared) => {
                let path = match (&declared.roots, &declared.trust) {
                    (Some(path), _) | (None, ServerTrust::CaFile(path)) => path,
                    _ => {
                        return Err(Failure::message(
                            FailureClass::Failed,
                            "the root of the site's own CA is not known: set ca.acme.roots",
                        ));
                    }
                };
                std::fs::read(path).map_err(|error| local(path.display(), &error))
            }
            CertificateAuthority::StepCa(declared) => self
                .step_ca(None, declared)?
                .root_pem(self.look())
                .await
                .map(String::into_bytes)
                .map_err(|error| explain::step_ca(&error)),
        }
    }
}
