//! A Docker engine's API over its unix socket, as far as the lab needs it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::node::Output;
use crate::wire::{Answer, Endpoint, Payload};
use crate::{LabError, Result};

/// A program run by an engine may take this long.
const EXEC_PATIENCE: Duration = Duration::from_secs(120);

/// An engine behind a unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    endpoint: Endpoint,
    socket: PathBuf,
}

impl Engine {
    /// The engine behind this socket.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        let socket = socket.into();
        Self {
            endpoint: Endpoint::Unix(socket.clone()),
            socket,
        }
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether it answers.
    pub async fn answers(&self) -> bool {
        let ping = self.endpoint.send_within(
            "GET",
            "/_ping",
            Payload::Empty,
            Duration::from_millis(2_000),
        );
        ping.await.is_ok_and(|answer| answer.status == 200)
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// [`LabError::Late`].
    pub async fn wait(&self, allowed: Duration) -> Result<()> {
        let until = tokio::time::Instant::now() + allowed;
        while !self.answers().await {
            if tokio::time::Instant::now() > until {
                return Err(LabError::Late {
                    what: format!("an answer of the engine at {}", self.endpoint),
                    allowed,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// `GET`, with the answer's JSON.
    ///
    /// # Errors
    /// As [`Endpoint::ask`].
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.endpoint.ask("GET", path, Payload::Empty).await?;
        Ok(answer.json())
    }

    /// `POST` of a JSON document, with the answer's JSON.
    ///
    /// # Errors
    /// As [`Endpoint::ask`].
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        let answer = self.endpoint.ask("POST", path, Payload::Json(body)).await?;
        Ok(answer.json())
    }

    /// `POST` without a document.
    ///
    /// # Errors
    /// As [`Endpoint::ask`].
    pub async fn command(&self, path: &str) -> Result<()> {
        let asked = self.endpoint.ask("POST", path, Payload::Empty).await;
        asked.map(drop)
    }

    /// `DELETE`; what is not there counts as deleted.
    ///
    /// # Errors
    /// As [`Endpoint::ask`], but for 404.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let answer = self.endpoint.send("DELETE", path, Payload::Empty).await?;
        if answer.status == 404 {
            return Ok(());
        }
        self.endpoint.accept("DELETE", path, answer).map(drop)
    }

    /// Removes the containers, with their volumes, and the networks that have a label.
    ///
    /// # Errors
    /// Where the engine refuses.
    pub async fn clear(&self, label: &str) -> Result<()> {
        let filter = json!({ "label": [label] }).to_string();
        let filter: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        let containers = self
            .get(&format!("/containers/json?all=1&filters={filter}"))
            .await?;
        let removals = containers
            .as_array()
            .into_iter()
            .flatten()
            .map(async |container| {
                let id = text(container, "Id")?;
                self.delete(&format!("/containers/{id}?force=1&v=1")).await
            });
        join_all(removals)
            .await
            .into_iter()
            .collect::<Result<()>>()?;
        let networks = self.get(&format!("/networks?filters={filter}")).await?;
        for network in networks.as_array().into_iter().flatten() {
            let id = text(network, "Id")?;
            self.delete(&format!("/networks/{id}")).await?;
        }
        Ok(())
    }

    /// Any request.
    ///
    /// # Errors
    /// As [`Endpoint::send`].
    pub async fn send(&self, method: &str, path: &str, payload: Payload) -> Result<Answer> {
        self.endpoint.send(method, path, payload).await
    }

    /// Whether there is such an image.
    ///
    /// # Errors
    /// Where the engine does not say.
    pub async fn has_image(&self, name: &str) -> Result<bool> {
        let path = format!("/images/{name}/json");
        let answer = self.endpoint.send("GET", &path, Payload::Empty).await?;
        if answer.status == 404 {
            return Ok(false);
        }
        self.endpoint.accept("GET", &path, answer).map(|_| true)
    }

    /// Makes an image of a root file system in a tar.
    ///
    /// # Errors
    /// Where the engine refuses it.
    pub async fn import_image(&self, tar: &Path, repository: &str, tag: &str) -> Result<()> {
        let path = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}");
        let payload = Payload::File("application/x-tar", tar.to_owned());
        let answer = self
            .endpoint
            .send_within("POST", &path, payload, Duration::from_secs(300))
            .await?;
        let answer = self.endpoint.accept("POST", &path, answer)?;
        // Its progress is a line of JSON after another, and a failure is one of them.
        for line in answer.body.split(|byte| *byte == b'\n') {
            let event: Value = serde_json::from_slice(line).unwrap_or(Value::Null);
            if let Some(message) = event["error"].as_str() {
                return Err(LabError::Refused {
                    what: format!("import of {}", tar.display()),
                    status: answer.status,
                    message: message.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Unpacks a tar at a container's root. The container need not run.
    ///
    /// # Errors
    /// Where the engine refuses it.
    pub async fn put_archive(&self, container: &str, tar: Vec<u8>) -> Result<()> {
        let path = format!("/containers/{container}/archive?path=/");
        let payload = Payload::Bytes("application/x-tar", Bytes::from(tar));
        self.endpoint.ask("PUT", &path, payload).await.map(drop)
    }

    /// A tar of one path in a container.
    ///
    /// # Errors
    /// Where there is no such path.
    pub async fn get_archive(&self, container: &str, file: &str) -> Result<Bytes> {
        let encoded: String = url::form_urlencoded::byte_serialize(file.as_bytes()).collect();
        let path = format!("/containers/{container}/archive?path={encoded}");
        let answer = self.endpoint.ask("GET", &path, Payload::Empty).await?;
        Ok(answer.body)
    }

    /// Runs a program in a container and returns what it wrote and how it ended.
    ///
    /// # Errors
    /// Where the engine cannot start it. A program that ends otherwise than with 0 is no error.
    pub async fn exec(&self, container: &str, argv: &[&str]) -> Result<Output> {
        let created = self
            .post(
                &format!("/containers/{container}/exec"),
                json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": argv }),
            )
            .await?;
        let id = text(&created, "Id")?;
        let path = format!("/exec/{id}/start");
        let body = Payload::Json(json!({ "Detach": false, "Tty": false }));
        let answer = self
            .endpoint
            .send_within("POST", &path, body, EXEC_PATIENCE)
            .await?;
        let answer = self.endpoint.accept("POST", &path, answer)?;
        let (stdout, stderr) = demultiplex(&answer.body)?;
        let state = self.get(&format!("/exec/{id}/json")).await?;
        let code = state["ExitCode"].as_i64().ok_or_else(|| {
            LabError::Malformed(format!("exec in {container} ended without an exit code"))
        })?;
        Ok(Output {
            code,
            stdout,
            stderr,
        })
    }
}

/// A text field of an answer.
pub(crate) fn text(value: &Value, field: &str) -> Result<String> {
    value[field]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| LabError::Malformed(format!("an answer without '{field}': {value}")))
}

/// Splits an attached stream: frames of one byte of stream number, three of nothing, four of
/// length (big endian), then the content.
fn demultiplex(mut stream: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((head, rest)) = stream.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let content = rest.get(..length).ok_or_else(|| {
            LabError::Malformed("an attached stream ended within a frame".to_owned())
        })?;
        if head[0] == 2 { &mut err } else { &mut out }.extend_from_slice(content);
        stream = &rest[length..];
    }
    Ok((out, err))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attached_stream_is_taken_apart() {
        let mut stream = vec![1, 0, 0, 0, 0, 0, 0, 2, b'o', b'u'];
        stream.extend([2, 0, 0, 0, 0, 0, 0, 1, b'e', 1, 0, 0, 0, 0, 0, 0, 1, b't']);
        let (out, err) = demultiplex(&stream).expect("frames");
        assert_eq!((out, err), (b"out".to_vec(), b"e".to_vec()));
        assert!(demultiplex(&stream[..9]).is_err());
    }
}
