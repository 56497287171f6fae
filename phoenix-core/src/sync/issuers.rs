//! The issuers of a site, made from what is declared.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::{Context, Inputs, OpenError, value};
use super::session::local;
use super::{Failure, FailureClass};
use crate::ground::SecretBytes;
use crate::pki::{CaParameters, EmbeddedCa, Issuer};
use crate::site::{CertificateAuthority, EmbeddedAuthority, Site};

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
            CertificateAuthority::StepCa(_) | CertificateAuthority::Acme(_) => {
                Err(Failure::message(
                    FailureClass::Failed,
                    "this kind of issuer cannot be used yet",
                ))
            }
        }
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
            CertificateAuthority::StepCa(_) | CertificateAuthority::Acme(_) => {
                Err(Failure::message(
                    FailureClass::Failed,
                    "this kind of issuer cannot be used yet",
                ))
            }
        }
    }
}
