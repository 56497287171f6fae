//! One client's connection: from its bytes to calls, and back.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

use super::access::{Token, auth_value};
use super::answer::{ApiError, Format, Outcome, Rendered, render};
use super::cluster::{Call, Cluster};
use super::faults::Fault;
use super::record::redact;
use super::routes;
use super::schema::{Parameters, decode_form, unescape};
use super::wire::{Answer, Connection, Head, Incoming};

/// Requests a connection carries.
const KEEP_ALIVE: usize = 100;
/// Bytes a body may have.
const MAXIMUM_BODY: usize = 512 * 1024;
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];

/// What becomes of a request.
enum Reply {
    Answer(Answer),
    /// The connection ends without a word.
    Nothing,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// Serves a TLS connection until either side has had enough.
pub(super) async fn serve<S>(cluster: Arc<Cluster>, stream: S, number: usize)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut connection = Connection::new(stream, cluster.idle);
    for left in (0..KEEP_ALIVE).rev() {
        let head = match connection.next().await {
            Incoming::Request(head) => head,
            Incoming::Gone => return connection.close().await,
            Incoming::TooLarge => return connection.ignore().await,
            Incoming::Malformed => {
                connection
                    .answer(Answer::text(400, "bad request"), false)
                    .await;
                return connection.close().await;
            }
        };
        let path = head.target.split('?').next().unwrap_or_default();
        let path = unescape(path.as_bytes(), false);
        let entry = cluster
            .log
            .add(number, &head.method, api_path(&path).unwrap_or(&path));
        let keep_alive = left > 0 && wants_keep_alive(&head);
        let reply = exchange(&cluster, &mut connection, &head, &path, entry).await;
        let Reply::Answer(answer) = reply else {
            // Dropping the stream closes it without a goodbye.
            return;
        };
        cluster
            .log
            .update(entry, |request| request.status = Some(answer.status));
        if !connection.answer(answer, keep_alive).await {
            return connection.close().await;
        }
    }
}

/// Serves a connection that does not begin with a TLS handshake: everything is moved to https.
pub(super) async fn redirect<S: AsyncRead + AsyncWrite + Unpin>(cluster: Arc<Cluster>, stream: S) {
    let mut connection = Connection::new(stream, cluster.idle);
    if let Incoming::Request(head) = connection.next().await
        && let Some(host) = head.header("host")
    {
        let (status, reason) = match head.method.as_str() {
            "GET" | "HEAD" => (301, "Moved Permanently"),
            _ => (308, "Permanent Redirect"),
        };
        let location = Some(format!("https://{host}{}", head.target));
        connection
            .answer(
                Answer {
                    location,
                    ..Answer::text(status, reason)
                },
                false,
            )
            .await;
    }
    connection.close().await;
}

fn wants_keep_alive(head: &Head) -> bool {
    match head.header("connection") {
        Some(value) => !value.to_ascii_lowercase().contains("close"),
        None => head.minor_version > 0,
    }
}

/// `/api2/<format>/<path>` without its first two parts.
fn api_path(path: &str) -> Option<&str> {
    let (format, _) = path.strip_prefix("/api2/")?.split_once('/')?;
    path.get("/api2/".len() + format.len()..)
}

/// Reads the rest of a request, checks it as the outer hop does, and has it executed.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    cluster: &Arc<Cluster>,
    connection: &mut Connection<S>,
    head: &Head,
    path: &str,
    entry: usize,
) -> Reply {
    let arrived = Instant::now();
    let method = head.method.as_str();
    if !METHODS.contains(&method) {
        return Answer::bare(501, format!("method '{method}' not available")).into();
    }
    match head.header("transfer-encoding") {
        Some(encoding) if encoding.eq_ignore_ascii_case("chunked") => {
            return Answer::text(501, "chunked transfer encoding not supported").into();
        }
        Some(encoding) => {
            return Answer::text(501, format!("Unknown transfer encoding '{encoding}'")).into();
        }
        None => {}
    }
    let Some(rest) = path.strip_prefix("/api2") else {
        return Answer::text(404, "No such file").into();
    };
    let Some((word, _)) = rest.strip_prefix('/').and_then(|rest| rest.split_once('/')) else {
        return Answer::text(501, "no such uri").into();
    };
    let path = api_path(path).unwrap_or_default();
    let token = match authenticate(cluster, head) {
        Ok(token) => token,
        Err(reason) => {
            sleep_until(arrived + cluster.unauthorized_delay).await;
            return Answer::bare(401, reason).into();
        }
    };
    cluster
        .log
        .update(entry, |request| request.token = Some(token.id.clone()));
    let (body, json) = match read_body(connection, head, method).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    let format = match word {
        "json" => Format::Json,
        "extjs" => Format::ExtJs,
        _ => return Answer::text(501, format!("no formatter for uri {path}, {word}")).into(),
    };
    let given = match parameters(head, method, &body, json) {
        Ok(given) => given,
        Err(text) => return Answer::text(500, text).into(),
    };
    cluster
        .log
        .update(entry, |request| request.parameters = redact(&given));
    perform(
        cluster,
        format,
        Asked {
            method,
            path,
            given,
            token,
        },
        entry,
    )
    .await
}

/// `Err` is the reason phrase.
fn authenticate(cluster: &Cluster, head: &Head) -> Result<Token, &'static str> {
    let authorization = head.header("authorization");
    // Tickets are not issued here, so none is good; a cookie wins over a token all the same.
    if auth_value(head.header("cookie"), "PVEAuthCookie").is_some()
        || auth_value(authorization, "PVEAuthCookie").is_some()
    {
        return Err("Authentication failed!");
    }
    let Some(value) = auth_value(authorization, "PVEAPIToken") else {
        return Err("No ticket");
    };
    let known = value.split_once('=').and_then(|(id, secret)| {
        cluster
            .tokens
            .iter()
            .find(|token| token.id == id && token.secret == secret)
    });
    known.cloned().ok_or("Authentication failed!")
}

/// The body, and whether it is JSON.
async fn read_body<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S>,
    head: &Head,
    method: &str,
) -> Result<(Vec<u8>, bool), Reply> {
    let kind = head.header("content-type");
    let word = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let json = word.is_some_and(|word| word.eq_ignore_ascii_case("application/json"));
    let length = head
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    if length == 0 {
        return Ok((Vec::new(), json));
    }
    if !matches!(method, "PUT" | "POST") {
        return Err(Answer::text(501, format!("Unexpected content for method '{method}'")).into());
    }
    if length > MAXIMUM_BODY {
        return Err(Answer::text(501, "for data too large").into());
    }
    let form =
        word.is_none_or(|word| word.eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    if !json && !form {
        let kind = kind.unwrap_or_default();
        let text = format!("upload 'Content-Type '{kind}' not implemented");
        return Err(Answer::text(506, text).into());
    }
    match connection.body(length).await {
        Some(body) => Ok((body, json)),
        None => Err(Reply::Nothing),
    }
}

/// Body, then query over it. `Err` is Perl's complaint about JSON.
fn parameters(head: &Head, method: &str, body: &[u8], json: bool) -> Result<Parameters, String> {
    let place = "at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line";
    let mut given = match (method, json) {
        ("PUT" | "POST", true) => match serde_json::from_slice(body) {
            Ok(Value::Object(given)) => given,
            Ok(_) => return Err(format!("Not a HASH reference {place} 945.\n")),
            Err(_) => {
                let text = String::from_utf8_lossy(body);
                let shown: String = text.chars().take(20).collect();
                let shown = if text.is_empty() {
                    "(end of string)"
                } else {
                    &shown
                };
                return Err(format!(
                    "malformed JSON string, neither tag, array, object, number, string or atom, \
                     at character offset 0 (before \"{shown}\") {place} 936.\n"
                ));
            }
        },
        ("PUT" | "POST", false) => decode_form(body),
        _ => Parameters::new(),
    };
    let query = head.target.split_once('?').map_or("", |(_, query)| query);
    given.extend(decode_form(query.as_bytes()));
    given.remove("_dc");
    Ok(given)
}

/// A request that has been read and whose sender is known.
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    given: Parameters,
    token: Token,
}

async fn perform(cluster: &Arc<Cluster>, format: Format, asked: Asked<'_>, entry: usize) -> Reply {
    let Asked {
        method,
        path,
        given,
        token,
    } = asked;
    let program = match given.get("command") {
        Some(Value::Array(words)) => words.first().and_then(Value::as_str),
        other => other.and_then(Value::as_str),
    };
    let faults = cluster.faults.take(method, path, program);
    for fault in &faults {
        match fault {
            Fault::DropBefore => return Reply::Nothing,
            Fault::AnswerBefore(status, reason) => {
                return Answer::bare(*status, reason.clone()).into();
            }
            _ => {}
        }
    }
    let finish = |result: Result<Outcome, ApiError>| {
        let status = result.as_ref().map_or_else(|error| error.status, |_| 200);
        cluster
            .log
            .update(entry, |request| request.outcome = Some(status));
        render(format, result)
    };
    let Some((route, in_path)) = routes::find(&cluster.routes, method, path) else {
        return shown(
            cluster,
            finish(Err(ApiError::not_implemented(method, path))),
            false,
        )
        .await;
    };
    let parameters = match cluster.admit(route, in_path, given, &token) {
        Ok(parameters) => parameters,
        Err(error) => return shown(cluster, finish(Err(error)), false).await,
    };
    let after = faults.iter().find_map(|fault| match fault {
        Fault::DropAfter => Some(Reply::Nothing),
        Fault::AnswerAfter(status, reason) => Some(Answer::bare(*status, reason.clone()).into()),
        _ => None,
    });
    let call = Call {
        operation: route.operation,
        path: path.to_owned(),
        parameters,
        token,
        faults,
    };
    // Once begun, a call runs to its end, whatever becomes of the connection.
    let (running, route, protected) = (Arc::clone(cluster), route.clone(), route.protected);
    let work = tokio::spawn(async move {
        let node = call
            .parameters
            .get("node")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let turn = match running.nodes.get(node).filter(|_| protected) {
            Some(workers) => workers.acquire().await.ok(),
            None => None,
        };
        let result = Arc::clone(&running).execute(call, &route).await;
        drop(turn);
        result
    });
    let result = match timeout(cluster.proxy_timeout, work).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => return Reply::Nothing,
        Err(_) => return Answer::bare(596, "Connection timed out").into(),
    };
    let rendered = finish(result);
    match after {
        Some(reply) => reply,
        None => shown(cluster, rendered, protected).await,
    }
}

/// A rendered answer on its way through one hop or two.
async fn shown(cluster: &Cluster, rendered: Rendered, proxied: bool) -> Reply {
    match rendered {
        Rendered::Answer(answer) => Answer { proxied, ..answer }.into(),
        Rendered::Crash => {
            tokio::time::sleep(cluster.crash_delay).await;
            if proxied {
                Answer::bare(596, "Broken pipe").into()
            } else {
                Reply::Nothing
            }
        }
    }
}
