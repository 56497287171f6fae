//! An in-process guest agent on a unix socket, for tests of what stands in front of agents.
//!
//! Like `qemu-ga`: one client at a time, a parser that goes on counting braces from one message to
//! the next and is reset by 0xFF, results of processes given once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// What the agent knows and was asked.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    pub(crate) commands: Vec<String>,
    pub(crate) files: HashMap<String, Vec<u8>>,
    handles: HashMap<i64, (String, usize)>,
    processes: HashMap<i64, Value>,
    next: i64,
    parsed: String,
}

pub(crate) struct ScriptedAgent {
    pub(crate) socket: PathBuf,
    pub(crate) guest: Arc<Mutex<Guest>>,
    serving: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl ScriptedAgent {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let socket = directory.path().join("qga.sock");
        let guest = Arc::<Mutex<Guest>>::default();
        let serving = tokio::spawn(serve(listen(&socket), Arc::clone(&guest)));
        Self {
            socket,
            guest,
            serving,
            _directory: directory,
        }
    }

    /// Ends the process; its socket stays behind.
    pub(crate) async fn kill(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
        self.guest.lock().expect("lock").parsed.clear();
    }

    pub(crate) async fn restart(&mut self) {
        if !self.serving.is_finished() {
            self.kill().await;
        }
        std::fs::remove_file(&self.socket).expect("stale socket");
        self.serving = tokio::spawn(serve(listen(&self.socket), Arc::clone(&self.guest)));
    }

    /// How often a command was executed.
    pub(crate) fn count(&self, command: &str) -> usize {
        let guest = self.guest.lock().expect("lock");
        guest
            .commands
            .iter()
            .filter(|name| *name == command)
            .count()
    }
}

impl Drop for ScriptedAgent {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn listen(socket: &Path) -> UnixListener {
    UnixListener::bind(socket).expect("socket")
}

async fn serve(listener: UnixListener, guest: Arc<Mutex<Guest>>) {
    while let Ok((stream, _)) = listener.accept().await {
        talk(stream, &guest).await;
    }
}

async fn talk(mut stream: UnixStream, guest: &Mutex<Guest>) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        for byte in &chunk[..count] {
            let message = guest.lock().expect("lock").parse(*byte);
            let Some(message) = message else { continue };
            let (pause, answer) = guest.lock().expect("lock").answer(&message);
            if pause {
                // A guest that sleeps: the agent is alive and says nothing.
                std::future::pending::<()>().await;
            }
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

impl Guest {
    fn parse(&mut self, byte: u8) -> Option<Value> {
        if byte == 0xff {
            self.parsed.clear();
            return None;
        }
        // Only the structure matters: bytes of one character may come as several here.
        self.parsed.push(char::from(byte));
        let mut depth = 0_i32;
        let (mut quoted, mut escaped) = (false, false);
        for character in self.parsed.chars() {
            match character {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '{' if !quoted => depth += 1,
                '}' if !quoted => depth -= 1,
                _ => {}
            }
        }
        if byte != b'}' || depth != 0 {
            return None;
        }
        let text = std::mem::take(&mut self.parsed);
        let bytes: Vec<u8> = text
            .chars()
            .map(|c| u8::try_from(u32::from(c)).expect("a byte"))
            .collect();
        serde_json::from_slice(&bytes).ok()
    }

    fn answer(&mut self, message: &Value) -> (bool, Vec<u8>) {
        let name = message["execute"].as_str().unwrap_or_default().to_owned();
        let arguments = &message["arguments"];
        if name == "guest-sync-delimited" {
            let line = format!("\u{0}{}\n", json!({"return": arguments["id"]}));
            let mut line = line.into_bytes();
            line[0] = 0xff;
            return (false, line);
        }
        self.commands.push(name.clone());
        let result = match name.as_str() {
            "guest-ping" => Ok(json!({})),
            "guest-get-host-name" => Ok(json!({"host-name": "tür"})),
            "guest-exec" => self.exec(arguments),
            "guest-exec-status" => self
                .processes
                .remove(&arguments["pid"].as_i64().unwrap_or_default())
                .ok_or_else(|| "Invalid parameter 'pid'".to_owned()),
            "guest-file-open" => self.open(arguments),
            "guest-file-seek" | "guest-file-read" | "guest-file-write" => {
                self.file(&name, arguments)
            }
            "guest-file-close" => Ok(json!({})),
            "guest-suspend-ram" => return (true, Vec::new()),
            _ => Err(format!("Command {name} has been disabled")),
        };
        let answer = match result {
            Ok(value) => json!({"return": value}),
            Err(text) => json!({"error": {"class": "GenericError", "desc": text}}),
        };
        (false, format!("{answer}\n").into_bytes())
    }

    fn number(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    /// Programs: `echo` (its arguments), `cat` (its input), `killed`, `big` (so many bytes).
    fn exec(&mut self, arguments: &Value) -> Result<Value, String> {
        let input = arguments["input-data"]
            .as_str()
            .map(|text| STANDARD.decode(text).expect("base64"));
        let words: Vec<&str> = arguments["arg"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let output = match arguments["path"].as_str() {
            Some("echo") => words.join(" ").into_bytes(),
            Some("cat") => input.unwrap_or_default(),
            Some("big") => vec![b'x'; words[0].parse().expect("size")],
            Some("killed") => Vec::new(),
            Some(other) => {
                return Err(format!(
                    "Guest agent command failed, error was 'Failed to execute child process \
                     “{other}” (No such file or directory)'"
                ));
            }
            None => return Err("Invalid parameter type for 'path', expected: string".to_owned()),
        };
        let mut status = json!({"exited": true});
        if arguments["path"] == "killed" {
            status["signal"] = json!(9);
        } else {
            status["exitcode"] = json!(3);
        }
        if !output.is_empty() {
            status["out-data"] = json!(STANDARD.encode(output));
            status["out-truncated"] = json!(false);
        }
        let pid = self.number();
        self.processes.insert(pid, status);
        Ok(json!({"pid": pid}))
    }

    fn open(&mut self, arguments: &Value) -> Result<Value, String> {
        let path = arguments["path"].as_str().unwrap_or_default().to_owned();
        if arguments["mode"] == "wb" {
            self.files.insert(path.clone(), Vec::new());
        } else if !self.files.contains_key(&path) {
            return Err(format!(
                "failed to open file '{path}' (mode: 'r'): No such file or directory"
            ));
        }
        let handle = self.number();
        self.handles.insert(handle, (path, 0));
        Ok(json!(handle))
    }

    fn file(&mut self, name: &str, arguments: &Value) -> Result<Value, String> {
        let handle = arguments["handle"].as_i64().unwrap_or_default();
        let (path, at) = self.handles.get_mut(&handle).ok_or("handle")?;
        let content = self.files.get_mut(path).ok_or("file")?;
        match name {
            "guest-file-seek" => {
                *at = usize::try_from(arguments["offset"].as_i64().unwrap_or_default())
                    .expect("offset");
                Ok(json!({"position": *at, "eof": false}))
            }
            "guest-file-read" => {
                let count = usize::try_from(arguments["count"].as_i64().unwrap_or_default())
                    .expect("count");
                let rest = content.get(*at..).unwrap_or_default();
                let part = &rest[..rest.len().min(count)];
                *at += part.len();
                let eof = part.len() < count;
                Ok(json!({"count": part.len(), "buf-b64": STANDARD.encode(part), "eof": eof}))
            }
            _ => {
                let text: String = arguments["buf-b64"]
                    .as_str()
                    .unwrap_or_default()
                    .split_whitespace()
                    .collect();
                let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
                content.extend(&bytes);
                Ok(json!({"count": bytes.len(), "eof": false}))
            }
        }
    }
}
