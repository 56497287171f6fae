//! Whether a TLS endpoint presents the certificate that was delivered for it.

use std::time::Duration;

use time::format_description::well_known::Rfc3339;

use crate::ground::Deadline;
use crate::guest::Program;
use crate::pki::{ObservedCertificate, RenewalReason, peer_chain};
use crate::site::{ServedCheck, Viewpoint};
use crate::sync::context::Context;
use crate::sync::failure::chain;
use crate::sync::{Failure, explain};

/// How long a single look at an endpoint may take.
const LOOK: Duration = Duration::from_secs(10);
/// The pauses between looks, while the new certificate is waited for.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A TLS endpoint and the certificate that it must present.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) check: ServedCheck,
    pub(super) leaf: ObservedCertificate,
}

impl Expected {
    /// Host and port, IPv6 addresses in brackets.
    pub(super) fn address(&self) -> String {
        let ServedCheck { host, port, .. } = &self.check;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    /// Looks once: that another one is served, `None` when it is the delivered certificate. Changes
    /// nothing.
    pub(super) async fn look(
        &self,
        cx: &Context,
        guest: &str,
        deadline: Deadline,
    ) -> Result<Option<RenewalReason>, Failure> {
        let deadline = deadline.at_most(LOOK);
        let presented = match self.check.from {
            Viewpoint::Phoenix => self.seen_by_phoenix(deadline).await,
            Viewpoint::Guest => self.seen_in_guest(cx, guest, deadline).await?,
        };
        let instead = match presented {
            Ok(leaf) if leaf.fingerprint == self.leaf.fingerprint => return Ok(None),
            Ok(leaf) => format!("it presents {}", described(&leaf)),
            Err(problem) => problem,
        };
        Ok(Some(RenewalReason::NotServed {
            place: self.place(guest),
            instead,
            wanted: described(&self.leaf),
        }))
    }

    /// Looks until the delivered certificate is served or the check's time is over: that
    /// another one is served then.
    pub(super) async fn wait(
        &self,
        cx: &Context,
        guest: &str,
    ) -> Result<Option<RenewalReason>, Failure> {
        let deadline = Deadline::after(self.check.timeout);
        let mut pause = FIRST_PAUSE;
        loop {
            let last = deadline.is_over();
            // The last look, too, has the time that one takes.
            let seen = self.look(cx, guest, Deadline::after(LOOK)).await?;
            if seen.is_none() || last {
                return Ok(seen);
            }
            // Where less is left, the rest of the time is slept.
            let _ = deadline.pause(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn place(&self, guest: &str) -> String {
        let name = match &self.check.server_name {
            Some(name) => format!(" as {name}"),
            None => String::new(),
        };
        let from = match self.check.from {
            Viewpoint::Phoenix => "Phoenix".to_owned(),
            Viewpoint::Guest => format!("inside {guest}"),
        };
        format!("{}{name}, seen from {from}", self.address())
    }

    async fn seen_by_phoenix(&self, deadline: Deadline) -> Result<ObservedCertificate, String> {
        let ServedCheck {
            host,
            port,
            server_name,
            ..
        } = &self.check;
        let chain_der = peer_chain(host, *port, server_name.as_deref(), deadline)
            .await
            .map_err(|error| chain(&error))?;
        let leaf = chain_der.first().ok_or("it presents no certificate")?;
        ObservedCertificate::from_der(leaf).map_err(|error| chain(&error))
    }

    async fn seen_in_guest(
        &self,
        cx: &Context,
        guest: &str,
        deadline: Deadline,
    ) -> Result<Result<ObservedCertificate, String>, Failure> {
        let argv = self.openssl();
        let output = cx
            .guest(guest)?
            .run(&Program::new(argv.clone(), deadline))
            .await
            .map_err(|error| {
                let what = format!("looking at {} from inside {guest}", self.address());
                let failure = explain::not_run(guest, &what, &argv, &error);
                match failure.hint {
                    Some(_) => failure,
                    None => failure.hint(format!("this check needs openssl in {guest}")),
                }
            })?;
        // Whether openssl trusts the chain, and what became of the connection afterwards, does
        // not matter.
        Ok(ObservedCertificate::from_pem(&output.stdout).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
            format!(
                "no certificate is presented ({}: {})",
                output.status,
                last.unwrap_or("openssl said nothing")
            )
        }))
    }

    /// The program that prints what the endpoint presents.
    fn openssl(&self) -> Vec<String> {
        let address = self.address();
        let mut argv = vec!["openssl", "s_client", "-connect", &address];
        let name = match &self.check.server_name {
            Some(name) => Some(name.as_str()),
            // An address is no server name.
            None => Some(self.check.host.as_str())
                .filter(|host| host.parse::<std::net::IpAddr>().is_err()),
        };
        match name {
            Some(name) => argv.extend(["-servername", name]),
            None => argv.push("-noservername"),
        }
        argv.push("-showcerts");
        argv.into_iter().map(str::to_owned).collect()
    }
}

/// A certificate in the words of a message.
fn described(certificate: &ObservedCertificate) -> String {
    let until = certificate.not_after;
    format!(
        "serial {} of {} until {}",
        certificate.serial,
        certificate.subject,
        until.format(&Rfc3339).unwrap_or_else(|_| until.to_string())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(host: &str, server_name: Option<&str>) -> Expected {
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = rcgen::CertificateParams::default()
            .self_signed(&key)
            .expect("signed");
        Expected {
            check: ServedCheck {
                host: host.to_owned(),
                port: 8443,
                server_name: server_name.map(str::to_owned),
                from: Viewpoint::Guest,
                timeout: Duration::from_secs(1),
            },
            leaf: ObservedCertificate::from_der(certificate.der()).expect("read"),
        }
    }

    #[test]
    fn openssl_asks_for_a_name_and_never_for_an_address() {
        for (host, name, wanted) in [
            ("web.lan", None, "-connect web.lan:8443 -servername web.lan"),
            (
                "10.0.0.1",
                Some("web.lan"),
                "-connect 10.0.0.1:8443 -servername web.lan",
            ),
            ("10.0.0.1", None, "-connect 10.0.0.1:8443 -noservername"),
            ("::1", None, "-connect [::1]:8443 -noservername"),
        ] {
            let argv = expected(host, name).openssl().join(" ");
            assert_eq!(argv, format!("openssl s_client {wanted} -showcerts"));
        }
    }
}
