mod generated;
mod problems;
mod schema;

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::ground::document::Problems;
use crate::pki::{KeyType, Profile, RenewalRule};
use crate::stack::{Compat, Dialect};

/// Every kind of issuer.
pub(super) const ISSUERS: &str = r#"
site: many
proxmox: { url: "https://pve:8006", token: { env: TOKEN } }
ca:
  step_ca:
    url: https://ca.lan:9000
    fingerprint: abababababababababababababababababababababababababababababababab
    provisioners: { client: clients, server: servers, peer: peers }
    password: { file: password }
    max_lifetime: 24h
    strict: true
issuers:
  public:
    acme:
      directory: https://acme.lan/directory
      contact: ["mailto:ops@lan.lan"]
      ca: acme-ca.pem
      roots: roots.pem
      external_account: { key_id: kid, key: { env: EAB } }
      dns_01: { guest: dns, set: [/bin/set], clear: [/bin/clear], propagation: 30s }
  near: { acme: { directory: "https://near.lan/acme", http_01: { listen: "127.0.0.1:8080" } } }
  other:
    step_ca:
      url: https://other.lan
      fingerprint: "CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD:CD"
      provisioner: phoenix
      password: { env: PASSWORD }
  own: { embedded: { passphrase: { env: PASSPHRASE } } }
guests:
  dns: { vmid: 100 }
certificates:
  a: { common_name: a, profile: client }
  b: { common_name: b.lan, profile: server, sans: [b.lan, "*.b.lan"], issuer: public }
  c:
    common_name: c.lan
    profile: server
    sans: [c.lan]
    issuer: own
    deliver:
      - guest: dns
        files: [{ part: bundle, path: /etc/c.pem }]
        reload: [/bin/true]
        rollback: true
        check: { address: "[::1]:443", server_name: c.lan, from: guest, timeout: 5s }
"#;

pub(super) const EXAMPLE: &str = include_str!("example.yaml");

pub(super) fn load(text: &str) -> Result<Loaded, Problems> {
    Site::parse(Path::new("/site/phoenix.yaml"), text)
}

pub(super) fn good(text: &str) -> Loaded {
    match load(text) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems}"),
    }
}

fn embedded(site: &Site) -> &EmbeddedAuthority {
    match &site.ca {
        CertificateAuthority::Embedded(ca) => ca,
        other => panic!("{other:?}"),
    }
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

#[test]
fn the_example_is_read_completely() {
    let Loaded { site, warnings } = good(EXAMPLE);
    assert!(
        warnings
            .iter()
            .all(|w| w.path == "certificates.portainer-client.common_name"),
        "{warnings:?}"
    );
    assert_eq!(site.name, "example");
    assert_eq!(site.directory, Path::new("/site"));
    assert_eq!(site.state, Path::new("/site/.phoenix"));
    assert_eq!(site.environment.as_deref(), Some("production"));

    let proxmox = site.proxmox.as_ref().expect("proxmox");
    assert_eq!(proxmox.url.as_str(), "https://pve.example.lan:8006/");
    assert_eq!(
        proxmox.token,
        ValueSource::Environment("PHOENIX_PROXMOX_TOKEN".into())
    );
    assert_eq!(
        proxmox.trust,
        ServerTrust::CaFile("/site/pve-root-ca.pem".into())
    );

    let login = &site.registries["registry.example.lan:5000"];
    assert_eq!(login.username, "phoenix");
    assert_eq!(
        login.password,
        ValueSource::File("/site/registry.password".into())
    );

    let ca = embedded(&site);
    assert_eq!(ca.directory, Path::new("/site/.phoenix/ca"));
    assert_eq!(ca.common_name, "Example Root CA");
    assert_eq!(ca.root_lifetime, days(3650));

    assert_eq!(
        site.guests.keys().collect::<Vec<_>>(),
        ["portainer", "drphoenix", "edge"]
    );
    let guest = &site.guests["portainer"];
    assert_eq!(
        (guest.vmid, guest.reach, guest.role),
        (Some(1001), Reach::Agent, Some(SwarmRole::Manager))
    );
    assert_eq!(guest.labels["data"], "portainer");
    let docker = guest.docker.as_ref().expect("docker");
    assert_eq!(
        docker.address,
        DockerAddress::Tcp {
            host: "10.0.0.11".into(),
            port: 2376
        }
    );
    let Some(DockerTls::Managed(daemon)) = &docker.tls else {
        panic!("not managed")
    };
    assert_eq!(
        daemon.restart.argv,
        ["systemctl", "restart", "docker.service"]
    );
    assert_eq!(daemon.restart.timeout, Duration::from_secs(60));
    assert_eq!(
        (daemon.lifetime, daemon.rule),
        (days(90), RenewalRule::Before(days(30)))
    );
    assert_eq!(daemon.sans.len(), 1);
    let second = site.guests["drphoenix"].docker.as_ref().expect("docker");
    let Some(DockerTls::Managed(daemon)) = &second.tls else {
        panic!("not managed")
    };
    assert_eq!(
        daemon.restart.argv,
        ["/bin/sh", "-c", "systemctl restart docker.service"]
    );
    assert_eq!(daemon.restart.timeout, Duration::from_secs(120));
    assert_eq!(daemon.unit, "docker.service");
    assert_eq!(daemon.certificates, "/etc/docker/phoenix");
    assert_eq!(site.guests["edge"].reach, Reach::DockerOnly);

    assert_eq!(site.swarm.address_pools, ["10.20.0.0/16"]);
    assert!(site.networks["traefik-public"].attachable);
    assert_eq!(site.networks["backend"].driver, "overlay");
    let secrets: Vec<_> = site.secrets.keys().map(String::as_str).collect();
    assert_eq!(
        secrets,
        [
            "portainer_admin_password",
            "api_token",
            "edge_ca",
            "portainer_tls_cert",
            "portainer_tls_key",
            "portainer_tls_ca",
            "portainer_client_leaf",
            "portainer_client",
        ]
    );
    assert_eq!(
        site.secrets["portainer_tls_key"].source,
        SecretSource::Certificate {
            name: "portainer".into(),
            part: CertificatePart::Key
        }
    );

    let certificate = &site.certificates["edge"];
    assert_eq!(
        (certificate.profile, certificate.key_type),
        (Profile::Peer, KeyType::EcdsaP384)
    );
    let files = &certificate.deliveries[0].files;
    let modes: Vec<_> = files.iter().map(|file| file.mode).collect();
    assert_eq!(modes, [0o644, 0o640, 0o644]);
    assert_eq!(files[1].group, "ssl-cert");

    let web = &site.stacks["web"];
    assert_eq!(
        (
            web.variables["DOMAIN"].as_str(),
            web.variables["REPLICAS"].as_str()
        ),
        ("example.lan", "4")
    );
    assert_eq!(web.service_labels["front"].len(), 2);
    assert_eq!(
        site.stacks["portainer"].variables["PORTAINER_VERSION"],
        "2.21.4"
    );
    assert_eq!(
        (web.timeout, site.stacks["reports"].timeout),
        (Duration::from_secs(600), Duration::from_secs(300))
    );
    assert_eq!(site.stacks["reports"].after, ["web"]);
    assert_eq!(web.compose.paths, [Path::new("/site/stacks/web.yml")]);
    assert_eq!((web.dialect, web.compat), (Dialect::Swarm, Compat::Phoenix));
    let reports = &site.stacks["reports"];
    assert_eq!(
        reports.compose.paths,
        ["stacks/reports.yml", "stacks/reports.example.yml"]
            .map(|path| Path::new("/site").join(path))
    );
    assert_eq!(reports.compat, Compat::Docker);
    assert_eq!((web.keep, web.prune), (1, false));
    assert_eq!((reports.keep, reports.prune), (3, true));
    let wiki = site.stacks["wiki"].load_options();
    assert_eq!(
        (wiki.dialect, wiki.profiles),
        (Dialect::Compose, vec!["search".to_owned()])
    );

    let portainer = site.portainer.expect("portainer");
    assert_eq!(portainer.trust, ServerTrust::SiteCa);
    assert_eq!(
        portainer.environments["agents"].kind,
        EnvironmentKind::Agent
    );
    assert!(portainer.environments["drphoenix"].tls.is_some());
}

#[test]
fn a_name_is_enough() {
    let Loaded { site, warnings } = good("site: alone\n");
    assert_eq!(warnings, []);
    assert_eq!(site.state, Path::new("/site/.phoenix"));
    let ca = embedded(&site);
    assert_eq!(ca.directory, Path::new("/site/.phoenix/ca"));
    assert_eq!(ca.common_name, "alone CA");
    assert_eq!(ca.intermediate_lifetime, days(1825));
}

#[test]
fn defaults_shrink_with_a_short_lived_ca() {
    let Loaded { site, .. } = good(
        "site: short\nca: { embedded: { root_lifetime: 30d } }\n\
         certificates: { a: { common_name: a.lan, profile: server, sans: [a.lan] } }\n",
    );
    assert_eq!(site.certificates["a"].lifetime, days(30));
    assert_eq!(site.certificates["a"].rule, RenewalRule::TwoThirds);
}

#[test]
fn a_fingerprint_is_read_with_and_without_colons() {
    let plain = "ab".repeat(32);
    let colons = vec!["AB"; 32].join(":");
    for digits in [plain, colons] {
        let text = format!(
            "site: x\nproxmox: {{ url: 'https://pve:8006', token: {{ file: t }}, fingerprint: '{digits}' }}\n"
        );
        let proxmox = good(&text).site.proxmox.expect("proxmox");
        assert_eq!(proxmox.trust, ServerTrust::Fingerprint([0xab; 32]));
    }
}

#[test]
fn docker_addresses_are_read() {
    let address = |text: &str| {
        let site = good(&format!(
            "site: x\nguests: {{ a: {{ docker: {{ address: '{text}', tls: {{ ca: c, cert: d, key: e }} }} }} }}\n"
        ));
        site.site.guests["a"]
            .docker
            .as_ref()
            .expect("docker")
            .address
            .clone()
    };
    let tcp = |host: &str, port| DockerAddress::Tcp {
        host: host.into(),
        port,
    };
    assert_eq!(address("tcp://10.0.0.1"), tcp("10.0.0.1", 2376));
    assert_eq!(address("tcp://[fd00::1]:1234"), tcp("fd00::1", 1234));
    assert_eq!(address("tcp://[fd00::1]"), tcp("fd00::1", 2376));
    assert_eq!(address("tcp://Docker.LAN:2377/"), tcp("docker.lan", 2377));
    let unix = good("site: x\nguests: { a: { docker: { address: 'unix:///run/docker.sock' } } }\n");
    assert_eq!(
        unix.site.guests["a"]
            .docker
            .as_ref()
            .expect("docker")
            .address,
        DockerAddress::Unix("/run/docker.sock".into())
    );
}

#[test]
fn the_nearest_site_file_is_found_upward() {
    let directory = tempfile::tempdir().expect("directory");
    let deep = directory.path().join("a/b");
    std::fs::create_dir_all(&deep).expect("directories");
    let path = directory.path().join("phoenix.yml");
    std::fs::write(&path, "site: x\n").expect("file");
    assert_eq!(Site::find(&deep), Some(path));
    let nearer = directory.path().join("a/phoenix.json");
    std::fs::write(&nearer, "{\"site\": \"y\"}").expect("file");
    assert_eq!(Site::find(&deep).as_ref(), Some(&nearer));
    assert_eq!(Site::load(&nearer).expect("loads").site.name, "y");
}

#[test]
fn unreadable_files_and_other_encodings_are_errors() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("phoenix.yaml");
    let error = Site::load(&path).expect_err("missing");
    assert!(matches!(error, LoadError::Unreadable { .. }));
    assert!(error.to_string().contains("phoenix.yaml"));
    std::fs::write(&path, b"site: x\nstate: \xff\n").expect("file");
    let error = Site::load(&path).expect_err("not UTF-8");
    assert!(
        error
            .to_string()
            .contains(":2:8: the site file is not UTF-8"),
        "{error}"
    );
}

#[test]
fn files_that_are_referred_to_are_looked_at() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("directory");
    let write = |name: &str, mode| {
        let path = directory.path().join(name);
        std::fs::write(&path, "x").expect("file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
    };
    let site = directory.path().join("phoenix.yaml");
    std::fs::write(
        &site,
        "site: x\n\
         proxmox: { url: 'https://pve:8006', token: { file: token }, ca: ca.pem }\n\
         guests: { m: { docker: { address: 'unix:///run/docker.sock' }, swarm: { role: manager } } }\n\
         secrets: { open: { file: open }, closed: { file: closed }, absent: { file: absent } }\n\
         stacks: { web: { compose: web.yml } }\n",
    )
    .expect("file");
    write("token", 0o644);
    write("open", 0o640);
    write("closed", 0o600);
    let error = Site::load(&site)
        .expect_err("files are missing")
        .to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(
        lines[0].contains("phoenix.yaml:2:65: proxmox.ca: there is no file "),
        "{error}"
    );
    assert!(
        lines[1].contains("phoenix.yaml:5:27: stacks.web.compose: there is no file "),
        "{error}"
    );
    assert!(lines[1].ends_with("(got `web.yml`)"), "{error}");

    write("ca.pem", 0o644);
    write("web.yml", 0o644);
    let warnings = Site::load(&site).expect("loads").warnings;
    let paths: Vec<_> = warnings.iter().map(|w| w.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "proxmox.token.file",
            "secrets.open.file",
            "secrets.absent.file"
        ]
    );
    assert!(warnings[0].message.contains("mode 0644"));
}

#[test]
fn issuers_are_read_and_certificates_name_theirs() {
    let Loaded { site, warnings } = good(ISSUERS);
    assert_eq!(warnings, []);
    let CertificateAuthority::StepCa(ca) = &site.ca else {
        panic!("{:?}", site.ca);
    };
    assert_eq!(ca.provisioners[&Profile::Client], "clients");
    assert_eq!(ca.provisioners[&Profile::Peer], "peers");
    assert_eq!(ca.max_lifetime, days(1));
    assert_eq!(site.certificates["a"].lifetime, days(1));
    let CertificateAuthority::Acme(acme) = &site.issuers["public"] else {
        panic!("{:?}", site.issuers["public"]);
    };
    assert!(matches!(&acme.challenge, AcmeChallenge::Dns01 { guest, .. } if guest == "dns"));
    assert_eq!(site.certificates["b"].issuer.as_deref(), Some("public"));
    let CertificateAuthority::Embedded(own) = &site.issuers["own"] else {
        panic!("{:?}", site.issuers["own"]);
    };
    assert_eq!(own.directory, Path::new("/site/.phoenix/issuers/own/ca"));
    assert_eq!(own.common_name, "many own CA");
    assert_eq!(
        own.passphrase,
        Some(ValueSource::Environment("PASSPHRASE".into()))
    );
    let delivery = &site.certificates["c"].deliveries[0];
    assert!(delivery.rollback);
    assert_eq!(
        delivery.check,
        Some(ServedCheck {
            host: "::1".into(),
            port: 443,
            server_name: Some("c.lan".into()),
            from: Viewpoint::Guest,
            timeout: Duration::from_secs(5),
        })
    );
}
