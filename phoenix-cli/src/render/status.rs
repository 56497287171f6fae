//! What a site looks like now: nodes, services, certificates, and what could not be looked at.

use anstyle::Style;
use phoenix_core::sync::{CertificateStatus, NodeStatus, ServiceStatus, Status};

use super::table::{Cell, table};
use super::{Layout, failure};

/// Fewer days than this are worth a second look.
const FEW_DAYS: i64 = 14;

/// The whole status.
pub(crate) fn status(layout: &Layout, status: &Status) -> String {
    let mut sections = Vec::new();
    let nodes: Vec<_> = status.nodes.iter().map(node).collect();
    if !nodes.is_empty() {
        let header = ["NAME", "ROLE", "AVAILABILITY", "ENGINE", "ADDRESS", "STATE"];
        sections.push(format!("Nodes\n{}", table(layout, header, &nodes)));
    }
    let services: Vec<_> = status.services.iter().map(service).collect();
    if !services.is_empty() {
        let header = ["STACK", "SERVICE", "IMAGE", "REPLICAS", "STATE"];
        sections.push(format!("Services\n{}", table(layout, header, &services)));
    }
    let certificates: Vec<_> = status.certificates.iter().map(certificate).collect();
    if !certificates.is_empty() {
        let header = [
            "NAME",
            "PROFILE",
            "DAYS LEFT",
            "ENDS",
            "STATE",
            "NAMES, DELIVERED TO",
        ];
        sections.push(format!(
            "Certificates\n{}",
            table(layout, header, &certificates)
        ));
    }
    if !status.failures.is_empty() {
        let mut text = String::from("Could not be looked at\n");
        for one in &status.failures {
            let title = one.guest.as_deref().unwrap_or("site");
            text.push_str(&failure(layout, title, one));
        }
        sections.push(text);
    }
    if sections.is_empty() {
        return String::from("The site has no nodes, services or certificates yet.\n");
    }
    sections.join("\n")
}

fn health(healthy: bool) -> Style {
    if healthy { Layout::GOOD } else { Layout::BAD }
}

fn node(node: &NodeStatus) -> [Cell; 6] {
    [
        Cell::new(&node.name),
        Cell::new(&node.role),
        Cell::new(&node.availability),
        Cell::new(&node.engine),
        Cell::new(&node.address),
        Cell::new(&node.state).styled(health(node.healthy)),
    ]
}

fn service(service: &ServiceStatus) -> [Cell; 5] {
    [
        Cell::new(&service.stack),
        Cell::new(&service.name),
        Cell::new(&service.image),
        Cell::new(&service.replicas),
        Cell::new(&service.state).styled(health(service.healthy)),
    ]
}

fn certificate(certificate: &CertificateStatus) -> [Cell; 6] {
    let days = match certificate.days_left {
        Some(days) if days < 0 => Cell::new(format!("{days} (expired)")).styled(Layout::BAD),
        Some(days) if days < FEW_DAYS => Cell::new(days.to_string()).styled(Layout::WARN),
        Some(days) => Cell::new(days.to_string()),
        None => Cell::new("-"),
    };
    let ends = certificate
        .not_after
        .map_or_else(|| "never issued".to_owned(), |end| end.date().to_string());
    let mut places = certificate.sans.join(", ");
    if !certificate.delivered_to.is_empty() {
        places.push_str(" -> ");
        places.push_str(&certificate.delivered_to.join(", "));
    }
    [
        Cell::new(&certificate.name),
        Cell::new(&certificate.profile),
        days,
        Cell::new(ends),
        Cell::new(&certificate.state).styled(health(certificate.healthy)),
        Cell::new(places),
    ]
}

#[cfg(test)]
mod tests {
    use phoenix_core::sync::{Failure, FailureClass};
    use time::macros::datetime;

    use super::*;

    #[test]
    fn everything_has_its_table() {
        let mut site = Status::default();
        let mut node = NodeStatus::default();
        node.name = "portainer".into();
        node.role = "manager (leader)".into();
        node.state = "ready".into();
        node.availability = "active".into();
        node.engine = "26.1.5".into();
        node.address = "10.0.0.2".into();
        node.healthy = true;
        site.nodes.push(node);
        let mut service = ServiceStatus::default();
        service.stack = "web".into();
        service.name = "web_app".into();
        service.image = "nginx:1".into();
        service.replicas = "0/2".into();
        service.state = "crashing: exit 1\u{1b}[2J".into();
        site.services.push(service);
        let mut certificate = CertificateStatus::default();
        certificate.name = "web".into();
        certificate.profile = "server".into();
        certificate.sans = vec!["web.lan".into(), "10.0.0.2".into()];
        certificate.not_after = Some(datetime!(2030-01-02 03:04 UTC));
        certificate.days_left = Some(3);
        certificate.delivered_to = vec!["portainer".into()];
        certificate.state = "valid".into();
        certificate.healthy = true;
        site.certificates.push(certificate);
        let missing = Failure::message(FailureClass::Unreachable, "no answer").in_guest("web2");
        site.failures.push(missing);
        assert_eq!(
            status(&Layout::default(), &site),
            "Nodes
  NAME       ROLE              AVAILABILITY  ENGINE  ADDRESS   STATE
  portainer  manager (leader)  active        26.1.5  10.0.0.2  ready

Services
  STACK  SERVICE  IMAGE    REPLICAS  STATE
  web    web_app  nginx:1  0/2       crashing: exit 1\\u{1b}[2J

Certificates
  NAME  PROFILE  DAYS LEFT  ENDS        STATE  NAMES, DELIVERED TO
  web   server   3          2030-01-02  valid  web.lan, 10.0.0.2 -> portainer

Could not be looked at
  web2
    no answer
    guest:   web2
"
        );
    }

    #[test]
    fn an_empty_site_is_said_to_be_empty() {
        assert_eq!(
            status(&Layout::default(), &Status::default()),
            "The site has no nodes, services or certificates yet.\n"
        );
    }
}
