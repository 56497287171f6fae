//! `phoenix exec`: a program in a guest, as if it ran here.

use std::io::{IsTerminal, Read};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use phoenix_core::ground::{Deadline, SecretBytes};
use phoenix_core::guest::{self, Output, Program};
use phoenix_core::site::Site;
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;

use super::{Result, interrupted, open, until_interrupted, warn};
use crate::arguments::{Exec, Global};
use crate::error::CommandError;
use crate::escape;
use crate::exit::Exit;
use crate::printer::Printer;

/// What the guest agent takes as stdin of a program, in bytes.
const STDIN_LIMIT: usize = 64 * 1024;

/// Runs the program, passes on what it wrote, and ends as it ended.
pub(super) fn exec(global: &Global, printer: &Arc<Printer>, exec: &Exec) -> Result {
    let name = exec.guest.as_str();
    let session = open(global, printer, |site| known(site, name))?;
    warn(&session, printer);
    // Before stdin is read: a guest that cannot run programs needs none.
    let what = format!("the program could not be run in guest {name}");
    let not_run = |failure| CommandError::of_failure(what.clone(), failure);
    session.guest(name).map_err(not_run)?;
    let work = async {
        let mut program = Program::new(&exec.argv, Deadline::after(exec.timeout));
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            let bytes = read(stdin, exec.timeout).await?;
            program = program.stdin(SecretBytes::new(bytes));
            // What stdin took is not taken from the program.
            program.deadline = Deadline::after(exec.timeout);
        }
        session.run(name, &program).await.map_err(not_run)
    };
    let output = until_interrupted(printer, work)?.map_err(|signal| {
        interrupted(signal).hint("the program may go on running in the guest")
    })??;
    if printer.json() {
        printer.json_line(&document(name, &output));
    } else {
        printer.out_bytes(&output.stdout);
        printer.err_bytes(&output.stderr);
    }
    let (exit, notices) = end(&output);
    for notice in notices {
        printer.err(&format!("phoenix: {notice}\n"));
    }
    Ok(exit)
}

/// Refuses a guest that the site does not have.
pub(super) fn known(site: &Site, name: &str) -> std::result::Result<(), CommandError> {
    if site.guests.contains_key(name) {
        return Ok(());
    }
    let names: Vec<&str> = site.guests.keys().map(String::as_str).collect();
    let error = CommandError::new(Exit::Usage, format!("there is no guest `{name}`"));
    let nearest = names
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min();
    Err(match nearest {
        Some((distance, meant)) if distance <= 2 => error.hint(format!("did you mean `{meant}`?")),
        Some(_) => error.hint(format!("the site has {}", names.join(", "))),
        None => error.hint("the site has no guests"),
    })
}

/// Reads stdin to its end, which must come in time: a pipe may stay open for ever.
async fn read(
    from: impl Read + Send + 'static,
    timeout: Duration,
) -> std::result::Result<Vec<u8>, CommandError> {
    let (say, done) = tokio::sync::oneshot::channel();
    // A thread of its own: a read that does not return must not hold up the end of the runtime.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let limit = STDIN_LIMIT as u64 + 1;
        let read = from.take(limit).read_to_end(&mut bytes).map(|_| bytes);
        // Nobody waits for it any more when the command has ended.
        let _ = say.send(read);
    });
    let error = |message: String| CommandError::new(Exit::Usage, message);
    match tokio::time::timeout(timeout, done).await {
        Ok(Ok(Ok(bytes))) if bytes.len() > STDIN_LIMIT => Err(error(format!(
            "stdin is longer than {STDIN_LIMIT} bytes, the most a guest agent takes"
        ))),
        Ok(Ok(Ok(bytes))) => Ok(bytes),
        Ok(Ok(Err(problem))) => Err(error(format!("stdin cannot be read: {problem}"))),
        Ok(Err(_)) => Err(error("stdin cannot be read".into())),
        Err(_) => Err(error(format!(
            "stdin did not end within {}",
            humantime::format_duration(timeout)
        ))
        .hint("give it an end: `</dev/null`")),
    }
}

/// How this process ends, and what is to be said where its code does not say it all.
fn end(output: &Output) -> (Exit, Vec<String>) {
    let mut notices = Vec::new();
    for (cut, name) in [
        (output.stdout_truncated, "stdout"),
        (output.stderr_truncated, "stderr"),
    ] {
        if cut {
            notices.push(format!("the guest agent cut the program's {name}"));
        }
    }
    let exit = match &output.status {
        guest::Exit::Exited(code) => u8::try_from(*code).ok(),
        guest::Exit::Signaled(signal) => u8::try_from(*signal)
            .ok()
            .and_then(|signal| signal.checked_add(128)),
        guest::Exit::Unknown(_) => None,
    }
    .map(Exit::Program);
    if exit.is_none() || output.status.code().is_none() {
        notices.push(escape::line(&output.status.to_string()).into_owned());
    }
    (exit.unwrap_or(Exit::Failed), notices)
}

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    guest: &'a str,
    end: String,
    exit_code: Option<i64>,
    signal: Option<i64>,
    #[serde(flatten)]
    stdout: Written<'a>,
    #[serde(flatten)]
    stderr: Errors<'a>,
}

/// What the program wrote: as text where it is UTF-8, else as Base64.
#[derive(Serialize)]
enum Written<'a> {
    #[serde(rename = "stdout")]
    Text(&'a str),
    #[serde(rename = "stdout_base64")]
    Bytes(String),
}

#[derive(Serialize)]
enum Errors<'a> {
    #[serde(rename = "stderr")]
    Text(&'a str),
    #[serde(rename = "stderr_base64")]
    Bytes(String),
}

fn document<'a>(guest: &'a str, output: &'a Output) -> Document<'a> {
    let stdout = &output.stdout;
    let stderr = &output.stderr;
    Document {
        format: FORMAT_VERSION,
        guest,
        end: output.status.to_string(),
        exit_code: output.status.code(),
        signal: match output.status {
            guest::Exit::Signaled(signal) => Some(signal),
            _ => None,
        },
        stdout: std::str::from_utf8(stdout)
            .map_or_else(|_| Written::Bytes(STANDARD.encode(stdout)), Written::Text),
        stderr: std::str::from_utf8(stderr)
            .map_or_else(|_| Errors::Bytes(STANDARD.encode(stderr)), Errors::Text),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use phoenix_core::guest::UnknownReason;

    use super::*;

    fn ended(status: guest::Exit) -> Output {
        Output {
            status,
            stdout: b"out".to_vec(),
            stderr: vec![0xff],
            stdout_truncated: false,
            stderr_truncated: false,
        }
    }

    #[test]
    fn the_process_ends_as_the_program_did() {
        let quiet = |code| end(&ended(guest::Exit::Exited(code)));
        assert_eq!(quiet(0), (Exit::Program(0), vec![]));
        assert_eq!(quiet(255), (Exit::Program(255), vec![]));
        for strange in [256, -1] {
            let (exit, notices) = quiet(strange);
            assert_eq!(exit, Exit::Failed);
            assert!(notices[0].contains(&strange.to_string()), "{notices:?}");
        }
        let (exit, notices) = end(&ended(guest::Exit::Signaled(9)));
        assert_eq!(exit.code(), 137);
        assert!(notices[0].contains("signal 9"), "{notices:?}");
        assert_eq!(
            end(&ended(guest::Exit::Signaled(3_221_225_477))).0,
            Exit::Failed
        );
    }

    #[test]
    fn an_unknown_end_is_no_success_and_is_explained() {
        let lost = UnknownReason::Refused("no\u{1b}[2J".into());
        let (exit, notices) = end(&ended(guest::Exit::Unknown(lost)));
        assert_eq!(exit, Exit::Failed);
        assert!(notices[0].contains("no\\u{1b}[2J"), "{notices:?}");
    }

    #[test]
    fn what_was_cut_is_said() {
        let mut output = ended(guest::Exit::Exited(0));
        output.stderr_truncated = true;
        let (exit, notices) = end(&output);
        assert_eq!(exit, Exit::Program(0));
        assert_eq!(notices, ["the guest agent cut the program's stderr"]);
    }

    #[test]
    fn in_json_what_is_no_text_is_base64() {
        let output = ended(guest::Exit::Exited(3));
        let json = serde_json::to_value(document("web", &output)).expect("JSON");
        assert_eq!(json["exit_code"], 3);
        assert_eq!(json["stdout"], "out");
        assert_eq!(json["stderr_base64"], "/w==");
        assert_eq!(json["signal"], serde_json::Value::Null);
    }

    #[tokio::test]
    async fn stdin_is_taken_whole_or_not_at_all() {
        let hour = Duration::from_secs(3600);
        let most = vec![7; STDIN_LIMIT];
        assert_eq!(
            read(Cursor::new(most.clone()), hour).await.expect("read"),
            most
        );
        let error = read(Cursor::new(vec![7; STDIN_LIMIT + 1]), hour)
            .await
            .expect_err("too long");
        assert_eq!(error.exit, Exit::Usage);
    }

    #[tokio::test]
    async fn stdin_that_does_not_end_is_given_up() {
        let (reader, writer) = std::io::pipe().expect("pipe");
        let error = read(reader, Duration::from_millis(20))
            .await
            .expect_err("open");
        assert_eq!(error.exit, Exit::Usage);
        drop(writer);
    }
}
