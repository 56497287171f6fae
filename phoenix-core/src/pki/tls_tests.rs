use std::time::Duration;

use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::ServerName;

use super::*;
use crate::pki::{CaParameters, CertificateRequest, EmbeddedCa, KeyType, Profile, SubjectAltName};

const DAY: Duration = Duration::from_secs(86_400);

fn ca() -> EmbeddedCa {
    let parent = tempfile::tempdir().expect("directory");
    let parameters =
        CaParameters::new("Test", 3650 * DAY, 1825 * DAY, KeyType::default()).expect("valid");
    let (ca, _) =
        EmbeddedCa::open_or_create(&parent.path().join("ca"), &parameters).expect("created");
    ca
}

fn issue(ca: &EmbeddedCa, profile: Profile, sans: &[&str], key_type: KeyType) -> Bundle {
    let sans: Vec<SubjectAltName> = sans.iter().map(|san| san.parse().expect("name")).collect();
    let request =
        CertificateRequest::new("test", profile, sans, 30 * DAY, key_type).expect("valid");
    ca.sign_at(&request, time::OffsetDateTime::now_utc())
        .expect("issued")
}

fn roots(ca: &EmbeddedCa) -> RootCertStore {
    root_store(ca.root_pem().as_bytes()).expect("roots")
}

/// A whole handshake in memory, without a socket.
fn handshake(client: ClientConfig, server: ServerConfig, name: &str) -> Result<(), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).expect("name");
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("memory");
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory");
            client.process_new_packets()?;
        }
    }
    Ok(())
}

#[test]
fn both_sides_recognise_each_other_with_every_kind_of_key() {
    let ca = ca();
    for key_type in [
        KeyType::EcdsaP256,
        KeyType::EcdsaP384,
        KeyType::Ed25519,
        KeyType::Rsa2048,
    ] {
        let server = issue(&ca, Profile::Server, &["*.site.lan", "10.0.0.1"], key_type);
        let client = issue(&ca, Profile::Client, &["ops@site.lan"], key_type);
        for name in ["a.site.lan", "10.0.0.1"] {
            handshake(
                client_config(roots(&ca), Some((&client).into())).expect("client"),
                server_config((&server).into(), Some(roots(&ca))).expect("server"),
                name,
            )
            .expect("recognised");
        }
    }
}

#[test]
fn a_wrong_purpose_name_root_or_no_certificate_ends_the_handshake() {
    let ca = ca();
    let other = self::ca();
    let p256 = KeyType::EcdsaP256;
    let server = issue(&ca, Profile::Server, &["a.lan"], p256);
    let client = issue(&ca, Profile::Client, &["a.lan"], p256);
    let peer = issue(&ca, Profile::Peer, &["a.lan"], p256);
    let foreign = issue(&other, Profile::Peer, &["a.lan"], p256);
    let meet = |client: Option<&Bundle>, server: &Bundle, name: &str| {
        handshake(
            client_config(roots(&ca), client.map(TlsIdentity::from)).expect("client"),
            server_config(server.into(), Some(roots(&ca))).expect("server"),
            name,
        )
    };
    meet(Some(&client), &server, "a.lan").expect("as meant");
    meet(Some(&peer), &peer, "a.lan").expect("as meant");
    for (client, server, name) in [
        (Some(&server), &server, "a.lan"),
        (Some(&client), &client, "a.lan"),
        (Some(&client), &server, "b.lan"),
        (Some(&foreign), &server, "a.lan"),
        (Some(&client), &foreign, "a.lan"),
        (None, &server, "a.lan"),
    ] {
        assert!(matches!(
            meet(client, server, name),
            Err(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
        ));
    }
}

#[test]
fn an_identity_from_files_is_checked_when_used() {
    let ca = ca();
    let one = issue(&ca, Profile::Client, &["a.lan"], KeyType::EcdsaP256);
    let two = issue(&ca, Profile::Client, &["a.lan"], KeyType::EcdsaP256);
    let identity = |key: &Bundle| {
        TlsIdentity::from_pem(one.chain_pem().as_bytes(), &key.key_pem()).expect("read")
    };
    client_config(roots(&ca), Some(identity(&one))).expect("matches");
    assert!(matches!(
        client_config(roots(&ca), Some(identity(&two))),
        Err(TlsError::Identity(_))
    ));
    assert!(matches!(
        server_config(identity(&two), None),
        Err(TlsError::Identity(_))
    ));
    assert!(matches!(
        TlsIdentity::from_pem(b"", &one.key_pem()),
        Err(TlsError::Chain(PemError::NoCertificate))
    ));
    let no_key = SecretBytes::from(one.chain_pem());
    assert!(matches!(
        TlsIdentity::from_pem(one.chain_pem().as_bytes(), &no_key),
        Err(TlsError::Key)
    ));
    assert_eq!(
        format!("{:?}", identity(&one)),
        "TlsIdentity(2 certificates)"
    );
}

#[test]
fn roots_are_all_taken_or_refused() {
    let (first, second) = (ca(), ca());
    let both = format!("{}{}", first.root_pem(), second.root_pem());
    assert_eq!(root_store(both.as_bytes()).expect("roots").len(), 2);
    assert!(matches!(
        root_store(b"nothing"),
        Err(TlsError::Roots(PemError::NoCertificate))
    ));
    let broken = format!("{}{}", first.root_pem(), pem::encode_certificate(b"x"));
    assert!(matches!(
        root_store(broken.as_bytes()),
        Err(TlsError::Root(_))
    ));
    assert!(matches!(
        server_config(
            (&issue(&first, Profile::Server, &["a.lan"], KeyType::EcdsaP256)).into(),
            Some(RootCertStore::empty())
        ),
        Err(TlsError::Setup(_))
    ));
}
