//! The calls below `/nodes/{node}/qemu/{vmid}/agent` (`PVE/API2/Qemu/Agent.pm`).

use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::answer::ApiError;
use super::faults::Faults;
use super::guests::Guest;
use super::schema::{Parameters, boolean, integer, text};
use super::wire::code_points;

/// Most that file-read returns.
pub(super) const MAXIMUM_READ: i64 = 16 * 1024 * 1024;
/// What file-read asks the agent for at once.
const READ_STEP: i64 = 1024 * 1024;

/// Takes base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Time limits of the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) ping: Duration,
    pub(super) command: Duration,
}

impl Limits {
    fn of(self, execute: &str) -> Duration {
        match execute {
            "guest-fsfreeze-freeze" => Duration::from_secs(3600),
            "guest-fsfreeze-thaw" => Duration::from_secs(180),
            "guest-fstrim" | "guest-shutdown" => Duration::from_secs(600),
            _ => self.command,
        }
    }
}

/// One call's way to a guest's agent.
#[derive(Debug)]
pub(super) struct AgentCall<'a> {
    pub(super) guest: &'a Guest,
    pub(super) limits: Limits,
    pub(super) faults: &'a Faults,
    /// The path called, for faults that wait for a result.
    pub(super) path: &'a str,
    pub(super) agent_off: bool,
    pub(super) vm_off: bool,
}

impl AgentCall<'_> {
    /// `assert_agent_available`.
    async fn available(&self) -> Result<(), ApiError> {
        if !self.guest.agent_enabled() {
            return Err(ApiError::died("No QEMU guest agent configured"));
        }
        if self.vm_off || !self.guest.is_running().await {
            return Err(ApiError::died(format!(
                "VM {} is not running",
                self.guest.vm.vmid
            )));
        }
        let silent = self.agent_off || self.faults.agent_is_silent(self.guest.vm.vmid);
        if silent {
            tokio::time::sleep(self.limits.ping).await;
        }
        if silent
            || self
                .guest
                .agent
                .command("guest-ping", json!({}), self.limits.ping)
                .await
                .is_err()
        {
            return Err(ApiError::died("QEMU guest agent is not running"));
        }
        Ok(())
    }

    /// `mon_cmd`: the result, with the agent's own errors inside.
    async fn monitor(&self, execute: &str, arguments: Value) -> Result<Value, ApiError> {
        let limit = self.limits.of(execute);
        let deadline = Instant::now() + limit;
        match self.guest.agent.command(execute, arguments, limit).await {
            Ok(result) => Ok(result),
            Err(error) => Err(self.guest.no_answer(error, execute, deadline).await),
        }
    }

    /// `agent_cmd`: available, done, and not refused by the agent.
    async fn agent(&self, execute: &str, arguments: Value, what: &str) -> Result<Value, ApiError> {
        self.available().await?;
        checked(self.monitor(execute, arguments).await?, what)
    }

    /// A command without parameters. An agent's refusal is a result.
    pub(super) async fn simple(&self, command: &str) -> Result<Value, ApiError> {
        self.available().await?;
        let result = self.monitor(&format!("guest-{command}"), json!({})).await?;
        Ok(json!({"result": result}))
    }

    pub(super) async fn exec(&self, parameters: &Parameters) -> Result<Value, ApiError> {
        let mut arguments = Map::new();
        let words = parameters.get("command").and_then(Value::as_array);
        let words: Vec<String> = words
            .into_iter()
            .flatten()
            .map(|word| super::schema::scalar_text(word).unwrap_or_default())
            .collect();
        let input = text(parameters, "input-data");
        arguments.insert("capture-output".to_owned(), json!(true));
        arguments.insert("path".to_owned(), json!(words.first()));
        arguments.insert("arg".to_owned(), json!(words.get(1..).unwrap_or_default()));
        if let Some(input) = &input {
            let bytes = octets(input, "/usr/share/perl5/PVE/QemuServer/Agent.pm line 151")?;
            arguments.insert("input-data".to_owned(), json!(BASE64.encode(bytes)));
        }
        if words.is_empty() && input.is_none() {
            return Err(ApiError::died("command or input-data (or both) required"));
        }
        let started = self
            .agent(
                "guest-exec",
                Value::Object(arguments),
                "can't execute command",
            )
            .await?;
        if let (Some(pid), Some(program)) = (started["pid"].as_i64(), words.first()) {
            self.faults.started(self.guest.vm.vmid, pid, program);
        }
        Ok(started)
    }

    pub(super) async fn exec_status(&self, parameters: &Parameters) -> Result<Value, ApiError> {
        let pid = integer(parameters, "pid").unwrap_or_default();
        let what = format!("can't get exec status for '{pid}'");
        let mut status = self
            .agent("guest-exec-status", json!({"pid": pid}), &what)
            .await?;
        if status["exited"] == json!(true) && self.faults.take_lost_result(self.path, pid) {
            return Err(ApiError::died(format!(
                "VM {} qga command 'guest-exec-status' failed - got timeout",
                self.guest.vm.vmid
            )));
        }
        for (name, value) in status.as_object_mut().into_iter().flatten() {
            if let Value::Bool(truth) = value {
                *value = json!(u8::from(*truth));
            } else if matches!(name.as_str(), "out-data" | "err-data") {
                let encoded = value.as_str().unwrap_or_default();
                if let Ok(bytes) = BASE64.decode(encoded) {
                    *value = json!(code_points(&bytes));
                }
            }
        }
        Ok(status)
    }

    pub(super) async fn file_read(&self, parameters: &Parameters) -> Result<Value, ApiError> {
        let count = integer(parameters, "count").unwrap_or(MAXIMUM_READ);
        let decode = boolean(parameters, "decode").unwrap_or(true);
        let offset = integer(parameters, "offset").unwrap_or(0);
        let path = json!({"path": text(parameters, "file")});
        let handle = self
            .agent("guest-file-open", path, "can't open file")
            .await?;
        if offset > 0 {
            let seek = json!({"handle": handle, "offset": offset, "whence": "set"});
            let result = self.monitor("guest-file-seek", seek).await?;
            checked(result, "can't seek to offset position")?;
        }
        let mut content = String::new();
        let mut read = 0;
        let mut at_end = false;
        while read < count && !at_end {
            let step = json!({"handle": handle, "count": (count - read).min(READ_STEP)});
            let result = self.monitor("guest-file-read", step).await?;
            let result = checked(result, "can't read from file")?;
            let encoded = result["buf-b64"].as_str().unwrap_or_default();
            if decode {
                content.push_str(&code_points(&BASE64.decode(encoded).unwrap_or_default()));
            } else {
                content.push_str(encoded);
            }
            read += result["count"].as_i64().unwrap_or_default();
            at_end = result["eof"] == json!(true);
        }
        // An error of closing is only a line in the host's log.
        self.monitor("guest-file-close", json!({"handle": handle}))
            .await?;
        let mut result = json!({"content": content, "bytes-read": read});
        if !at_end {
            result["truncated"] = json!(1);
        }
        Ok(result)
    }

    pub(super) async fn file_write(&self, parameters: &Parameters) -> Result<Value, ApiError> {
        let content = text(parameters, "content").unwrap_or_default();
        let encoded = if boolean(parameters, "encode").unwrap_or(true) {
            encode_lines(&octets(
                &content,
                "/usr/share/perl5/PVE/API2/Qemu/Agent.pm line 496",
            )?)
        } else {
            content
        };
        let open = json!({"path": text(parameters, "file"), "mode": "wb"});
        let handle = self
            .agent("guest-file-open", open, "can't open file")
            .await?;
        let write = json!({"handle": handle, "buf-b64": encoded});
        self.agent("guest-file-write", write, "can't write to file")
            .await?;
        self.agent(
            "guest-file-close",
            json!({"handle": handle}),
            "can't close file",
        )
        .await?;
        Ok(Value::Null)
    }

    pub(super) async fn set_user_password(
        &self,
        parameters: &Parameters,
    ) -> Result<Value, ApiError> {
        let password = text(parameters, "password").unwrap_or_default();
        let password = octets(
            &password,
            "/usr/share/perl5/PVE/API2/Qemu/Agent.pm line 266",
        )?;
        let arguments = json!({
            "username": text(parameters, "username"),
            "password": encode_lines(&password),
            "crypted": boolean(parameters, "crypted").unwrap_or(false),
        });
        let what = "cannot set user password";
        let result = self
            .agent("guest-set-user-password", arguments, what)
            .await?;
        Ok(json!({"result": result}))
    }
}

/// `check_agent_error`.
fn checked(result: Value, what: &str) -> Result<Value, ApiError> {
    match result.pointer("/error/desc").and_then(Value::as_str) {
        Some(description) => Err(ApiError::died(format!("Agent error: {description}"))),
        None if result.is_null() => Err(ApiError::died(format!("Agent error: {what}"))),
        None => Ok(result),
    }
}

/// Characters as bytes of equal value, which is all that `encode_base64` takes.
fn octets(text: &str, place: &str) -> Result<Vec<u8>, ApiError> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)))
        .collect::<Result<_, _>>()
        .map_err(|_| ApiError::died(format!("Wide character in subroutine entry at {place}.")))
}

/// `encode_base64` with its line ends.
fn encode_lines(bytes: &[u8]) -> String {
    let encoded = BASE64.encode(bytes);
    let mut lines = String::with_capacity(encoded.len() + encoded.len() / 76 + 1);
    for line in encoded.as_bytes().chunks(76) {
        lines.extend(line.iter().copied().map(char::from));
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perls_base64() {
        assert_eq!(encode_lines(b""), "");
        assert_eq!(
            encode_lines(&[0xff; 60])
                .lines()
                .map(str::len)
                .collect::<Vec<_>>(),
            [76, 4]
        );
        assert_eq!(octets("\u{e9}\0", "x").expect("bytes"), [0xe9, 0]);
        let error = octets("€", "there").expect_err("wide");
        assert_eq!(
            error.message,
            "Wide character in subroutine entry at there.\n"
        );
    }
}
