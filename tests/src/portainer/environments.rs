//! Environments ("endpoints"): created only after the target was reached.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::answer::{Answer, Refusal, empty, json_answer};
use super::api::{Instance, field};
use super::flags::Options;
use super::store::{Environment, Store, Tls, write_private};
use super::target;

const NOT_FOUND: &str =
    "Unable to find an environment with the specified identifier inside the database";

/// Fields and files of a form.
type Form = HashMap<String, Bytes>;

async fn read_form(headers: &HeaderMap, body: Bytes) -> Result<Form, String> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default();
    if kind.starts_with("application/x-www-form-urlencoded") {
        let pairs = url::form_urlencoded::parse(&body);
        return Ok(pairs
            .map(|(key, value)| (key.into_owned(), value.into_owned().into()))
            .collect());
    }
    let boundary = multer::parse_boundary(kind)
        .map_err(|_| "request Content-Type isn't multipart/form-data".to_owned())?;
    let stream = futures_util::stream::once(async { Ok::<_, std::io::Error>(body) });
    let mut parts = multer::Multipart::new(stream, boundary);
    let mut form = Form::new();
    while let Some(part) = parts
        .next_field()
        .await
        .map_err(|error| error.to_string())?
    {
        let Some(name) = part.name().map(str::to_owned) else {
            continue;
        };
        let content = part.bytes().await.map_err(|error| error.to_string())?;
        form.insert(name, content);
    }
    Ok(form)
}

fn value(form: &Form, name: &str) -> String {
    form.get(name)
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .unwrap_or_default()
}

/// Only the literal `true` is true.
fn flag(form: &Form, name: &str) -> bool {
    value(form, name) == "true"
}

/// `POST /api/endpoints`.
pub(super) async fn create(
    instance: &Instance,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Answer, Refusal> {
    let form = read_form(headers, body).await.map_err(Refusal::payload)?;
    let name = value(&form, "Name");
    if name.is_empty() {
        return Err(Refusal::payload("invalid environment name"));
    }
    let kind: u8 = value(&form, "EndpointCreationType").parse().unwrap_or(0);
    if !(1..=5).contains(&kind) {
        return Err(Refusal::payload(
            "invalid environment type value. Value must be one of: 1 (Docker environment), 2 \
             (Agent environment), 3 (Azure environment), 4 (Edge Agent environment) or 5 (Local \
             Kubernetes environment)",
        ));
    }
    if kind > 2 {
        let text = "the stand-in knows Docker and agent environments only";
        return Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Not supported",
            text,
        ));
    }
    let files = Files::read(&form)?;
    let tags = match value(&form, "TagIds") {
        text if text.is_empty() => Vec::new(),
        text => {
            serde_json::from_str(&text).map_err(|_| Refusal::payload("invalid TagIds parameter"))?
        }
    };
    let mut environment = Environment {
        id: 0,
        name,
        kind,
        url: value(&form, "URL"),
        public_url: value(&form, "PublicURL"),
        group: value(&form, "GroupID")
            .parse()
            .ok()
            .filter(|group| *group != 0)
            .unwrap_or(1),
        tags,
        status: 1,
        tls: Tls::default(),
        agent_version: String::new(),
        snapshot: None,
    };
    // One at a time, so that a name stays free while its target is looked at.
    let _turn = instance.creating.lock().await;
    check_name(&instance.store, &environment.name, 0)?;
    let id = instance
        .store
        .change(|data| {
            data.last_environment += 1;
            data.last_environment
        })
        .map_err(|error| Refusal::broken("Unable to persist", &error))?;
    environment.id = id;
    if files.enabled {
        environment.tls = files.write(&instance.store, id)?;
    } else if environment.kind == 1 && environment.url.is_empty() {
        environment.url = "unix:///var/run/docker.sock".to_owned();
    }
    if let Err(refusal) = look(&mut environment).await {
        // Nothing is stored of what cannot be reached.
        let _ = fs::remove_dir_all(instance.store.folder("tls").join(id.to_string()));
        return Err(refusal);
    }
    let shown = show(&environment, false);
    instance
        .store
        .change(|data| data.environments.push(environment))
        .map_err(|error| Refusal::broken("Unable to persist", &error))?;
    Ok(json_answer(StatusCode::OK, &shown))
}

/// Reaches the target and notes what it says of itself.
async fn look(environment: &mut Environment) -> Result<(), Refusal> {
    let failed =
        |message, error: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message, error);
    if environment.kind == 2 {
        if !environment.tls.enabled {
            // The ping goes by https without any configuration, so with full verification.
            let error = "tls: failed to verify certificate: x509: certificate signed by unknown \
                         authority";
            return Err(failed("Unable to get environment type", error.to_owned()));
        }
        environment.agent_version = target::ping_agent(&environment.url, &environment.tls)
            .await
            .map_err(|error| failed("Unable to get environment type", error))?;
        return Ok(());
    }
    let snapshot = target::snapshot(&environment.url, &environment.tls)
        .await
        .map_err(|error| failed("Unable to initiate communications with environment", error))?;
    environment.snapshot = Some(snapshot);
    Ok(())
}

/// TLS settings of a form.
struct Files {
    enabled: bool,
    skip_verify: bool,
    ca: Option<Bytes>,
    certificate: Option<Bytes>,
    key: Option<Bytes>,
}

impl Files {
    fn read(form: &Form) -> Result<Self, Refusal> {
        let enabled = flag(form, "TLS");
        let skip_verify = flag(form, "TLSSkipVerify");
        let skip_client = flag(form, "TLSSkipClientVerify");
        let file = |wanted: bool, name: &str, what: &str| match form.get(name) {
            _ if !enabled || !wanted => Ok(None),
            Some(content) => Ok(Some(content.clone())),
            None => Err(Refusal::payload(format!(
                "invalid {what} file. Ensure that the file is uploaded correctly"
            ))),
        };
        Ok(Self {
            enabled,
            skip_verify,
            ca: file(!skip_verify, "TLSCACertFile", "CA certificate")?,
            certificate: file(!skip_client, "TLSCertFile", "certificate")?,
            key: file(!skip_client, "TLSKeyFile", "key")?,
        })
    }

    fn write(&self, store: &Store, id: u32) -> Result<Tls, Refusal> {
        let folder = store.folder("tls").join(id.to_string());
        let write = |content: &Option<Bytes>, name: &str| -> Result<Option<PathBuf>, Refusal> {
            let Some(content) = content else {
                return Ok(None);
            };
            let path = folder.join(name);
            write_private(&path, content)
                .map_err(|error| Refusal::broken("Unable to persist TLS file on disk", &error))?;
            Ok(Some(path))
        };
        Ok(Tls {
            enabled: true,
            skip_verify: self.skip_verify,
            ca: write(&self.ca, "ca.pem")?,
            certificate: write(&self.certificate, "cert.pem")?,
            key: write(&self.key, "key.pem")?,
        })
    }
}

fn check_name(store: &Store, name: &str, but: u32) -> Result<(), Refusal> {
    let environments = store.read().environments;
    if environments
        .iter()
        .any(|other| other.name == name && other.id != but)
    {
        let text = "Name is not unique";
        return Err(Refusal::new(StatusCode::CONFLICT, text, text));
    }
    Ok(())
}

fn show(environment: &Environment, snapshots: bool) -> Value {
    let mut tls = json!({
        "TLS": environment.tls.enabled, "TLSSkipVerify": environment.tls.skip_verify,
    });
    let paths = [
        ("TLSCACert", &environment.tls.ca),
        ("TLSCert", &environment.tls.certificate),
        ("TLSKey", &environment.tls.key),
    ];
    for (name, path) in paths {
        if let Some(path) = path {
            tls[name] = json!(path);
        }
    }
    let snapshots: Vec<_> = environment.snapshot.iter().filter(|_| snapshots).collect();
    json!({
        "Id": environment.id, "Name": environment.name, "Type": environment.kind,
        "URL": environment.url, "GroupId": environment.group, "PublicURL": environment.public_url,
        "Gpus": [], "TLSConfig": tls, "TagIds": environment.tags, "Status": environment.status,
        "Snapshots": snapshots, "UserAccessPolicies": {}, "TeamAccessPolicies": {}, "EdgeKey": "",
        "EdgeCheckinInterval": 0, "ComposeSyntaxMaxVersion": "", "LastCheckInDate": 0,
        "Agent": {"Version": environment.agent_version},
    })
}

/// `GET /api/endpoints`.
pub(super) fn list(instance: &Instance, query: &HashMap<String, String>) -> Answer {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let snapshots = query.get("excludeSnapshots").map(String::as_str) != Some("true");
    let mut environments = instance.store.read().environments;
    let available = environments.len();
    if let Some(name) = query.get("name").filter(|name| !name.is_empty()) {
        environments.retain(|environment| environment.name == *name);
    }
    let found = environments.len();
    let shown: Vec<_> = environments
        .iter()
        .skip(number("start").unwrap_or(0).saturating_sub(1))
        .take(
            number("limit")
                .filter(|limit| *limit > 0)
                .unwrap_or(usize::MAX),
        )
        .map(|environment| show(environment, snapshots))
        .collect();
    let mut answer = json_answer(StatusCode::OK, &Value::Array(shown));
    answer.headers_mut().insert("x-total-count", found.into());
    answer
        .headers_mut()
        .insert("x-total-available", available.into());
    answer
}

fn find(store: &Store, id: u32) -> Result<Environment, Refusal> {
    let missing = "object not found inside the database";
    let environments = store.read().environments;
    let found = environments
        .into_iter()
        .find(|environment| environment.id == id);
    found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, NOT_FOUND, missing))
}

/// `GET /api/endpoints/{id}`.
pub(super) fn inspect(instance: &Instance, id: u32) -> Result<Answer, Refusal> {
    Ok(json_answer(
        StatusCode::OK,
        &show(&find(&instance.store, id)?, true),
    ))
}

/// `PUT /api/endpoints/{id}`: only what is given changes, and nothing is contacted.
pub(super) fn update(instance: &Instance, id: u32, payload: &Value) -> Result<Answer, Refusal> {
    let mut environment = find(&instance.store, id)?;
    let text = |name| field(payload, name).as_str().map(str::to_owned);
    if let Some(name) = text("Name") {
        check_name(&instance.store, &name, id)?;
        environment.name = name;
    }
    environment.url = text("URL").unwrap_or(environment.url);
    environment.public_url = text("PublicURL").unwrap_or(environment.public_url);
    let group = field(payload, "GroupID")
        .as_u64()
        .and_then(|group| u32::try_from(group).ok());
    environment.group = group.unwrap_or(environment.group);
    if let Ok(tags) = serde_json::from_value(field(payload, "TagIDs").clone()) {
        environment.tags = tags;
    }
    if let Some(status @ (1 | 2)) = field(payload, "Status").as_u64() {
        environment.status = if status == 1 { 1 } else { 2 };
    }
    let folder = instance.store.folder("tls").join(id.to_string());
    let tls = &mut environment.tls;
    match field(payload, "TLS").as_bool() {
        Some(true) => {
            tls.enabled = true;
            if let Some(skip) = field(payload, "TLSSkipVerify").as_bool() {
                tls.skip_verify = skip;
                tls.ca = (!skip).then(|| folder.join("ca.pem"));
            }
            if let Some(skip) = field(payload, "TLSSkipClientVerify").as_bool() {
                tls.certificate = (!skip).then(|| folder.join("cert.pem"));
                tls.key = (!skip).then(|| folder.join("key.pem"));
            }
        }
        Some(false) => {
            *tls = Tls::default();
            let _ = fs::remove_dir_all(&folder);
        }
        None => {}
    }
    let shown = show(&environment, true);
    instance
        .store
        .change(|data| {
            data.environments
                .iter_mut()
                .filter(|old| old.id == id)
                .for_each(|old| *old = environment.clone());
        })
        .map_err(|error| Refusal::broken("Unable to persist environment changes", &error))?;
    Ok(json_answer(StatusCode::OK, &shown))
}

/// `DELETE /api/endpoints/{id}`.
pub(super) fn delete(instance: &Instance, id: u32) -> Result<Answer, Refusal> {
    find(&instance.store, id)?;
    instance
        .store
        .change(|data| data.environments.retain(|environment| environment.id != id))
        .map_err(|error| Refusal::broken("Unexpected error", &error))?;
    let _ = fs::remove_dir_all(instance.store.folder("tls").join(id.to_string()));
    Ok(empty())
}

/// `POST /api/upload/tls/{ca|cert|key}`.
pub(super) async fn upload(
    instance: &Instance,
    kind: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Answer, Refusal> {
    let form = read_form(headers, body).await.map_err(Refusal::payload)?;
    let bad = |message, details: &str| Refusal::new(StatusCode::BAD_REQUEST, message, details);
    let folder = value(&form, "folder");
    // The original joins any text into a path; a stand-in need not.
    if folder.parse::<u32>().is_err() {
        return Err(bad(
            "Invalid query parameter: folder",
            "Missing request parameter",
        ));
    }
    let Some(file) = form.get("file") else {
        let text =
            "Invalid certificate file. Ensure that the certificate file is uploaded correctly";
        return Err(bad(text, "http: no such file"));
    };
    if !matches!(kind, "ca" | "cert" | "key") {
        let text = "Invalid certificate route value. Value must be one of: ca, cert or key";
        return Err(bad(text, "undefined TLS file type"));
    }
    let path = instance
        .store
        .folder("tls")
        .join(folder)
        .join(format!("{kind}.pem"));
    write_private(&path, file)
        .map_err(|error| Refusal::broken("Unable to persist certificate file on disk", &error))?;
    Ok(empty())
}

/// What `-H` asks for, once there is an administrator. An error ends the process.
pub(super) async fn create_primary(instance: &Instance, options: &Options) -> Result<(), String> {
    let Some(url) = options.host.clone() else {
        return Ok(());
    };
    let _turn = instance.creating.lock().await;
    if !instance.store.read().environments.is_empty() {
        tracing::info!("instance already has defined environments");
        return Ok(());
    }
    let tls = Tls {
        enabled: options.tlsverify || options.tlsskipverify,
        skip_verify: options.tlsskipverify,
        ca: options.tlsverify.then(|| options.tlscacert.clone()),
        certificate: options.tlsverify.then(|| options.tlscert.clone()),
        key: options.tlsverify.then(|| options.tlskey.clone()),
    };
    let mut kind = 1;
    if url.starts_with("tcp://") && target::ping(&url, &tls).await? {
        kind = 2;
    }
    let mut environment = Environment {
        id: 0,
        name: "primary".to_owned(),
        kind,
        url,
        public_url: String::new(),
        group: 1,
        tags: Vec::new(),
        status: 1,
        tls,
        agent_version: String::new(),
        snapshot: None,
    };
    if look(&mut environment).await.is_err() {
        tracing::error!("environment snapshot error");
    }
    let stored = instance.store.change(|data| {
        data.last_environment += 1;
        data.environments.push(Environment {
            id: data.last_environment,
            ..environment
        });
    });
    stored.map_err(|error| error.to_string())
}
