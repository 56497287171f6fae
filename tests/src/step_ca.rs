//! A real step-ca on loopback: Debian's library with a main of our own (`tests/step-ca`), which
//! is built once and kept in the lab's cache.
//!
//! Debian bookworm packages version 0.19.0 of the library. `$PHOENIX_LAB_STEP_CA` names a program
//! that was built from another in its place, such as sid's 0.30.2, which takes sid's Go.

use std::fs;
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsBigEndian, AsDer, Curve25519SeedBin, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::key_wrap::{AES_128, AesKek, KeyWrap};
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::packages::{self, Tool};
use crate::place::{self, Places};
use crate::process::{self, Running};
use crate::{LabError, Result};

const MAIN: &str = include_str!("../step-ca/main.go");
const LIBRARY: &str = "golang-github-smallstep-certificates-dev";

/// What building it takes.
pub const TOOLS: &[Tool] = &[
    Tool {
        probe: "go",
        package: "golang-go",
    },
    Tool {
        probe: "/usr/share/gocode/src/github.com/smallstep/certificates",
        package: LIBRARY,
    },
];

/// A JWK provisioner whose certificates are good for servers and clients, as is step-ca's default.
pub const BOTH: &str = "both";
/// A JWK provisioner of client certificates, with a template.
pub const CLIENT: &str = "client";
/// A JWK provisioner of server certificates, with a template.
pub const SERVER: &str = "server";
/// An ACME provisioner: its directory is at `/acme/acme/directory`.
pub const ACME: &str = "acme";

/// A kind of key that a JWK provisioner may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwkKind {
    /// ES256, as `step` makes them by default.
    P256,
    /// ES384.
    P384,
    /// ES512.
    P521,
    /// EdDSA.
    Ed25519,
    /// RS256.
    Rsa,
}

impl JwkKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::P256, Self::P384, Self::P521, Self::Ed25519, Self::Rsa];

    /// The name of the provisioner with a key of this kind.
    #[must_use]
    pub fn provisioner(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// A fresh private key, and what of it is public.
    fn generate(self) -> std::result::Result<(Value, Value), aws_lc_rs::error::Unspecified> {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (private, mut public) = match self {
            Self::P256 => elliptic("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::P384 => elliptic("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::P521 => elliptic("P-521", &ECDSA_P521_SHA512_FIXED_SIGNING),
            Self::Ed25519 => {
                let pair = Ed25519KeyPair::generate()?;
                let seed: Curve25519SeedBin<'_> = pair.seed()?.as_be_bytes()?;
                let x = b64(pair.public_key().as_ref());
                let public = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
                Ok((json!({"d": b64(seed.as_ref())}), public))
            }
            Self::Rsa => {
                let pkcs8: Pkcs8V1Der<'_> = RsaKeyPair::generate(KeySize::Rsa2048)?.as_der()?;
                let parts = rsa_parts(pkcs8.as_ref()).ok_or(aws_lc_rs::error::Unspecified)?;
                let [n, e, private @ ..] = &parts[..] else {
                    return Err(aws_lc_rs::error::Unspecified);
                };
                let names = ["d", "p", "q", "dp", "dq", "qi"];
                let private = names.into_iter().zip(private);
                let private: serde_json::Map<_, _> = private
                    .map(|(name, part)| (name.to_owned(), b64(part).into()))
                    .collect();
                Ok((
                    private.into(),
                    json!({"kty": "RSA", "n": b64(n), "e": b64(e)}),
                ))
            }
        }?;
        // RFC 7638: the members in order, without white space.
        let id = b64(digest(&SHA256, public.to_string().as_bytes()).as_ref());
        public["kid"] = id.into();
        public["use"] = "sig".into();
        public["alg"] = match self {
            Self::P256 => "ES256",
            Self::P384 => "ES384",
            Self::P521 => "ES512",
            Self::Ed25519 => "EdDSA",
            Self::Rsa => "RS256",
        }
        .into();
        let mut whole = public.clone();
        for (name, part) in private.as_object().into_iter().flatten() {
            whole[name] = part.clone();
        }
        Ok((whole, public))
    }
}

/// What is private and what is public of a fresh key on a curve.
fn elliptic(
    curve: &str,
    algorithm: &'static EcdsaSigningAlgorithm,
) -> std::result::Result<(Value, Value), aws_lc_rs::error::Unspecified> {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let pair = EcdsaKeyPair::generate(algorithm)?;
    let private: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes()?;
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let public = json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)});
    Ok((json!({"d": b64(private.as_ref())}), public))
}

/// The numbers of an RSA key (PKCS #8, RFC 8017 A.1.2) behind its version.
fn rsa_parts(pkcs8: &[u8]) -> Option<Vec<Vec<u8>>> {
    use x509_parser::der_parser::ber::BerObject;
    use x509_parser::der_parser::der::parse_der;
    fn items(der: &[u8]) -> Option<Vec<BerObject<'_>>> {
        Some(parse_der(der).ok()?.1.as_sequence().ok()?.clone())
    }
    let outer = items(pkcs8)?;
    let numbers = items(outer.get(2)?.as_slice().ok()?)?;
    let numbers = numbers.iter().skip(1);
    numbers
        .map(|number| Some(number.as_biguint().ok()?.to_bytes_be()))
        .collect()
}

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct StepCaOptions {
    /// The names under which it is reached.
    pub dns_names: Vec<String>,
    /// With which the keys of its provisioners are encrypted.
    pub password: String,
    /// What authority-wide claims say; an object.
    pub claims: Value,
    /// What the claims of each JWK provisioner say; an object.
    pub provisioner_claims: Value,
    /// A further provisioner for each of these.
    pub keys: Vec<JwkKind>,
}

impl Default for StepCaOptions {
    fn default() -> Self {
        Self {
            dns_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            password: "correct horse".to_owned(),
            claims: json!({}),
            provisioner_claims: json!({}),
            keys: Vec::new(),
        }
    }
}

/// A step-ca with a root, an intermediate and a database of its own. Dropping it ends it.
#[derive(Debug)]
pub struct StepCaServer {
    program: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    root_pem: String,
    fingerprint: [u8; 32],
    process: Option<Running>,
}

impl StepCaServer {
    /// Builds the program where that has not been done, and starts a server.
    ///
    /// # Errors
    /// Where a package is missing and cannot be installed, or the server does not start.
    pub async fn start(places: &Places, options: &StepCaOptions) -> Result<Self> {
        let program = program(places).await?;
        let dir = tempfile::tempdir().map_err(LabError::io("create", Path::new("a folder")))?;
        let authority = Authority::make(dir.path())?;
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(LabError::io("bind", Path::new("127.0.0.1")))?
            .port();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut provisioners = Vec::new();
        for (name, usage) in [
            (BOTH, None),
            (CLIENT, Some("clientAuth")),
            (SERVER, Some("serverAuth")),
        ] {
            provisioners.push(provisioner(name, JwkKind::P256, usage, options)?);
        }
        for kind in &options.keys {
            provisioners.push(provisioner(&kind.provisioner(), *kind, None, options)?);
        }
        provisioners.push(json!({"type": "ACME", "name": ACME}));
        let configuration = json!({
            "root": path("root.pem"),
            "crt": path("intermediate.pem"),
            "key": path("intermediate-key.pem"),
            "address": format!("127.0.0.1:{port}"),
            "dnsNames": options.dns_names,
            "db": {"type": "bbolt", "dataSource": path("db")},
            "logger": {"format": "json"},
            "authority": {"claims": options.claims, "provisioners": provisioners},
        });
        place::write(&dir.path().join("ca.json"), configuration.to_string())?;
        let mut server = Self {
            program,
            dir,
            port,
            root_pem: authority.root_pem,
            fingerprint: authority.fingerprint,
            process: None,
        };
        server.resume().await?;
        Ok(server)
    }

    /// Its URL by this host name or address of loopback.
    #[must_use]
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    /// The root (PEM).
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The SHA-256 of the root (DER).
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The API path and the status of every request so far, as it logged them.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, u64)> {
        self.log()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|entry| {
                let path = entry["path"].as_str()?.to_owned();
                Some((path, entry["status"].as_u64()?))
            })
            .collect()
    }

    /// Ends it. What it knows stays, so that it can be resumed.
    ///
    /// # Errors
    /// Where it does not end.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.end(Duration::from_secs(5)).await,
            None => Ok(()),
        }
    }

    /// Starts it again after a stop, and waits until it answers.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn resume(&mut self) -> Result<()> {
        let log = self.dir.path().join("log");
        let mut command = Command::new(&self.program);
        command.arg(self.dir.path().join("ca.json"));
        let process = process::start_detached(command, &log)?;
        self.process = Some(process);
        // Readiness only: what answers is recognised by the tests.
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .build()
            .map_err(|error| LabError::Malformed(error.to_string()))?;
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let health = client.get(format!("{}/health", self.url("127.0.0.1")));
            if health
                .send()
                .await
                .is_ok_and(|answer| answer.status() == 200)
            {
                return Ok(());
            }
            if !process.alive() || tokio::time::Instant::now() > until {
                return Err(LabError::Program {
                    what: "step-ca".into(),
                    status: "its start".into(),
                    stderr: process::tail(&self.log(), 5),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for StepCaServer {
    fn drop(&mut self) {
        if let Some(process) = self.process.take().filter(|process| process.alive())
            && let Some(pid) = Pid::from_raw(process.pid)
        {
            // One that ends meanwhile is what is wanted.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// The built program, from the cache where it is there, or the one that is named.
async fn program(places: &Places) -> Result<PathBuf> {
    if let Some(other) = std::env::var_os("PHOENIX_LAB_STEP_CA") {
        return Ok(other.into());
    }
    packages::ensure_tools(TOOLS).await?;
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f=${Version} ", LIBRARY, "golang-go"]);
    let versions = process::run(query).await?;
    let hash = place::short_hash(&[MAIN.as_bytes(), versions.as_bytes()]);
    let program = places.cache.join(format!("step-ca-{hash}"));
    let _lock = places.lock(&places.cache, "step-ca").await?;
    if program.exists() {
        return Ok(program);
    }
    let source = places.cache.join(format!("step-ca-{hash}.source"));
    place::make_dir(&source)?;
    place::write(&source.join("main.go"), MAIN)?;
    let partial = source.join("step-ca");
    let mut build = Command::new("go");
    build
        .args(["build", "-o"])
        .arg(&partial)
        .arg(".")
        .current_dir(&source)
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", source.join("cache"))
        .env("CGO_ENABLED", "0");
    process::run(build).await?;
    fs::rename(&partial, &program).map_err(LabError::io("rename", &partial))?;
    fs::remove_dir_all(&source).map_err(LabError::io("remove", &source))?;
    Ok(program)
}

struct Authority {
    root_pem: String,
    fingerprint: [u8; 32],
}

impl Authority {
    /// Makes a root and an intermediate in `dir`.
    fn make(dir: &Path) -> Result<Self> {
        let broken = |error: rcgen::Error| LabError::Malformed(error.to_string());
        let params = |name: &str, below: u8| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.use_authority_key_identifier_extension = true;
            params.not_before = OffsetDateTime::now_utc() - time::Duration::hours(1);
            params.not_after = OffsetDateTime::now_utc() + time::Duration::days(30);
            params
        };
        let (root_params, root_key) = (params("Lab Root", 1), KeyPair::generate().map_err(broken)?);
        let root = root_params.self_signed(&root_key).map_err(broken)?;
        let issuer = Issuer::new(root_params, root_key);
        let key = KeyPair::generate().map_err(broken)?;
        let intermediate = params("Lab Intermediate", 0)
            .signed_by(&key, &issuer)
            .map_err(broken)?;
        place::write(&dir.join("root.pem"), root.pem())?;
        place::write(&dir.join("intermediate.pem"), intermediate.pem())?;
        place::write(&dir.join("intermediate-key.pem"), key.serialize_pem())?;
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, root.der()).as_ref());
        Ok(Self {
            root_pem: root.pem(),
            fingerprint,
        })
    }
}

/// A JWK provisioner with a fresh key; `usage` is the only one of its certificates.
fn provisioner(
    name: &str,
    kind: JwkKind,
    usage: Option<&str>,
    options: &StepCaOptions,
) -> Result<Value> {
    let broken = |_| LabError::Malformed("a provisioner's key".to_owned());
    let (secret, public) = kind.generate().map_err(broken)?;
    let encrypted =
        encrypt(secret.to_string().into_bytes(), options.password.as_bytes()).map_err(broken)?;
    let mut made = json!({
        "type": "JWK",
        "name": name,
        "key": public,
        "encryptedKey": encrypted,
        "claims": options.provisioner_claims,
    });
    if let Some(usage) = usage {
        let template = format!(
            r#"{{"subject": {{{{ toJson .Subject }}}}, "sans": {{{{ toJson .SANs }}}}, "keyUsage": ["digitalSignature"], "extKeyUsage": ["{usage}"]}}"#
        );
        made["options"] = json!({"x509": {"template": template}});
    }
    Ok(made)
}

/// A compact JWE under a password, as `step` makes one.
fn encrypt(
    mut content: Vec<u8>,
    password: &[u8],
) -> std::result::Result<String, aws_lc_rs::error::Unspecified> {
    const ALGORITHM: &str = "PBES2-HS256+A128KW";
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (mut salt, mut key, mut iv) = ([0; 16], [0; 32], [0; 12]);
    for random in [&mut salt[..], &mut key, &mut iv] {
        aws_lc_rs::rand::fill(random)?;
    }
    let rounds = NonZeroU32::new(100_000).ok_or(aws_lc_rs::error::Unspecified)?;
    let header = json!({
        "alg": ALGORITHM, "cty": "jwk+json", "enc": "A256GCM", "p2c": rounds, "p2s": b64(&salt),
    });
    let header = b64(header.to_string().as_bytes());
    let salt = [ALGORITHM.as_bytes(), &[0], &salt].concat();
    let mut kek = [0; 16];
    pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, &salt, password, &mut kek);
    let mut wrapped = [0; 40];
    let wrapped = AesKek::new(&AES_128, &kek)?.wrap(&key, &mut wrapped)?;
    let tag = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key)?).seal_in_place_separate_tag(
        Nonce::assume_unique_for_key(iv),
        Aad::from(header.as_bytes()),
        &mut content,
    )?;
    Ok([
        header,
        b64(wrapped),
        b64(&iv),
        b64(&content),
        b64(tag.as_ref()),
    ]
    .join("."))
}
