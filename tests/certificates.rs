//! Every profile and kind of key, as really delivered to a guest: accepted by openssl and by
//! rustls-webpki for its purpose and names, refused for others; and a client certificate with
//! names in a real handshake with a node's Docker daemon.

use std::fmt::Write as _;
use std::time::Duration;

use phoenix_lab::harness::Harness;
use phoenix_lab::{LabOptions, Node};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

const KEYS: [&str; 4] = ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048"];
const PROFILES: [&str; 3] = ["server", "client", "peer"];

/// One guest, and a certificate of every profile and kind of key in its `/etc/t`.
fn site() -> String {
    let mut text = String::from(
        r#"
site: certificates
proxmox:
  url: @PROXMOX_URL@
  token: { file: proxmox.token }
  ca: pve-root-ca.pem
guests:
  alone:
    vmid: @VMID_ALONE@
    docker:
      address: tcp://@ALONE@:2376
      managed: { restart: [/usr/local/bin/restart-docker] }
    swarm: { role: manager }
swarm: { address_pools: ["@OVERLAY_POOL@"], subnet_size: 24 }
certificates:
"#,
    );
    for profile in PROFILES {
        for key in KEYS {
            let name = format!("{profile}-{key}");
            let more = if profile == "client" {
                "ops@lab.lan"
            } else {
                "spiffe://lab.lan/it"
            };
            let _ = writeln!(
                text,
                r#"  {name}:
    common_name: {name}.lab.lan
    profile: {profile}
    key: {key}
    sans: [{name}.lab.lan, "*.{name}.lab.lan", 10.1.2.3, "{more}"]
    lifetime: 48h
    deliver:
      - guest: alone
        files:
          - {{ part: chain, path: /etc/t/{name}.pem }}
          - {{ part: key, path: /etc/t/{name}.key }}
          - {{ part: ca, path: /etc/t/ca-{name}.pem }}"#
            );
        }
    }
    text
}

/// Whether openssl in the guest accepts the delivered chain for a purpose and a name.
async fn openssl(node: &Node, name: &str, purpose: &str, check: &str) -> bool {
    let line = format!(
        "openssl verify -x509_strict -purpose {purpose} -CAfile /etc/t/ca-{name}.pem -untrusted /etc/t/{name}.pem {check} /etc/t/{name}.pem"
    );
    node.sh(&line).await.expect("openssl").code == 0
}

/// Whether rustls-webpki accepts a chain for a usage.
fn webpki(chain: &[CertificateDer<'_>], root: &CertificateDer<'_>, usage: KeyUsage) -> bool {
    let anchor = webpki::anchor_from_trusted_cert(root).expect("a root");
    let leaf = EndEntityCert::try_from(&chain[0]).expect("a leaf");
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[anchor],
        &chain[1..],
        UnixTime::now(),
        usage,
        None,
        None,
    )
    .is_ok()
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem)
        .map(|found| found.expect("a certificate").into_owned())
        .collect()
}

/// `GET /version` from the guest's daemon, with or without a client identity (key, then chain).
async fn version(
    node: &Node,
    root: &[u8],
    identity: Option<Vec<u8>>,
) -> Result<String, reqwest::Error> {
    let mut client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(root).expect("a root")])
        .timeout(Duration::from_secs(10));
    if let Some(identity) = identity {
        client = client.identity(reqwest::Identity::from_pem(&identity).expect("an identity"));
    }
    let url = format!("https://{}:2376/version", node.ip());
    client
        .build()?
        .get(url)
        .send()
        .await?
        .error_for_status()?
        .text()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_certificate_is_good_for_its_purpose_and_its_names_only() {
    let template = tempfile::tempdir().expect("a folder");
    std::fs::write(template.path().join("phoenix.yaml"), site()).expect("a site file");
    let options = LabOptions::test().with_guests([("alone", 1101)]);
    let harness = Harness::start(options, template.path()).await;
    harness.phoenix(&["sync", "all"]).await.expect(0);
    harness.phoenix(&["sync", "all"]).await.expect(0);
    let node = harness.node("alone");

    for profile in PROFILES {
        for key in KEYS {
            let name = format!("{profile}-{key}");
            for (purpose, usage, good) in [
                ("sslserver", KeyUsage::server_auth(), profile != "client"),
                ("sslclient", KeyUsage::client_auth(), profile != "server"),
            ] {
                assert_eq!(
                    openssl(node, &name, purpose, "").await,
                    good,
                    "{name} {purpose}"
                );
                let chain = certificates(
                    &node
                        .read_file(&format!("/etc/t/{name}.pem"))
                        .await
                        .expect("chain"),
                );
                let root = certificates(
                    &node
                        .read_file(&format!("/etc/t/ca-{name}.pem"))
                        .await
                        .expect("root"),
                );
                assert_eq!(
                    webpki(&chain, &root[0], usage),
                    good,
                    "{name} {purpose} by webpki"
                );
                let leaf = EndEntityCert::try_from(&chain[0]).expect("a leaf");
                for (host, covered) in [
                    (format!("{name}.lab.lan"), true),
                    (format!("any.{name}.lab.lan"), true),
                    ("10.1.2.3".to_owned(), true),
                    ("other.lab.lan".to_owned(), false),
                    (format!("a.b.{name}.lab.lan"), false),
                    ("10.1.2.4".to_owned(), false),
                ] {
                    let check = if host.starts_with("10.") {
                        format!("-verify_ip {host}")
                    } else {
                        format!("-verify_hostname {host}")
                    };
                    assert_eq!(
                        openssl(node, &name, purpose, &check).await,
                        good && covered,
                        "{name} {host}"
                    );
                    let server = ServerName::try_from(host.clone()).expect("a name");
                    let valid = leaf.verify_is_valid_for_subject_name(&server).is_ok();
                    assert_eq!(valid, covered, "{name} {host} by webpki");
                }
            }
            let same_key = format!(
                "test \"$(openssl pkey -in /etc/t/{name}.key -pubout)\" = \"$(openssl x509 -in /etc/t/{name}.pem -pubkey -noout)\""
            );
            assert_eq!(
                node.sh(&same_key).await.expect("openssl").code,
                0,
                "{name}: its key"
            );
        }
    }
    let strict =
        "openssl verify -x509_strict -CAfile /etc/t/ca-peer-ed25519.pem /etc/t/ca-peer-ed25519.pem";
    assert_eq!(node.sh(strict).await.expect("openssl").code, 0, "the root");

    let root = node
        .read_file("/etc/docker/phoenix/ca.pem")
        .await
        .expect("the root");
    let identity = async |name: &str| {
        let mut pem = node
            .read_file(&format!("/etc/t/{name}.key"))
            .await
            .expect("a key");
        pem.extend(
            node.read_file(&format!("/etc/t/{name}.pem"))
                .await
                .expect("a chain"),
        );
        Some(pem)
    };
    for key in KEYS {
        let answer = version(node, &root, identity(&format!("client-{key}")).await).await;
        let answer = answer.unwrap_or_else(|error| panic!("client-{key}: {error:?}"));
        assert!(answer.contains("\"ApiVersion\""), "{answer}");
        let refused = version(node, &root, identity(&format!("server-{key}")).await).await;
        assert!(
            refused.is_err(),
            "a server certificate was taken for a client's"
        );
    }
    assert!(
        version(node, &root, None).await.is_err(),
        "nobody was let in"
    );

    // Another CA in the place of this one: every certificate is issued anew, the daemon's too.
    std::fs::remove_dir_all(harness.path(".phoenix/ca")).expect("the CA removed");
    let old = identity("client-ecdsa-p256").await;
    harness.phoenix(&["sync", "all"]).await.expect(0);
    let root = node
        .read_file("/etc/docker/phoenix/ca.pem")
        .await
        .expect("the new root");
    assert!(
        version(node, &root, old).await.is_err(),
        "a certificate of the old CA opens the daemon"
    );
    version(node, &root, identity("client-ecdsa-p256").await)
        .await
        .expect("one of the new CA opens it");
    harness.stop().await;
}
