//! A failure: what, where, how the program in the guest ended, what it said, and what to do.

use std::fmt::Write as _;

use phoenix_core::sync::{Failure, ProgramEnd};

use super::Layout;
use crate::escape;

/// A failure under `title`, each line indented by two, its details by four.
pub(crate) fn failure(layout: &Layout, title: &str, failure: &Failure) -> String {
    format!(
        "  {}\n{}",
        layout.paint(Layout::BAD, &escape::line(title)),
        details(layout, failure)
    )
}

/// A failure without a title, each line indented by four.
pub(crate) fn details(layout: &Layout, failure: &Failure) -> String {
    let mut text = String::new();
    for line in escape::lines(without_stderr(failure)) {
        push(&mut text, "    ", &line);
    }
    if let Some(guest) = &failure.guest {
        let _ = writeln!(text, "    guest:   {}", escape::line(guest));
    }
    if let Some(program) = &failure.program {
        let _ = writeln!(text, "    command: {}", command(&program.command));
        let _ = writeln!(text, "    ended:   {}", end(program));
        if program.stderr.trim().is_empty() {
            text.push_str("    stderr:  (nothing)\n");
        } else {
            text.push_str("    stderr:\n");
            for line in escape::lines(&program.stderr) {
                push(&mut text, "      | ", &line);
            }
        }
    }
    if let Some(hint) = &failure.hint {
        let label = layout.paint(Layout::BOLD, "hint:");
        for (index, line) in escape::lines(hint).enumerate() {
            if index == 0 {
                let _ = writeln!(text, "    {label}    {line}");
            } else {
                push(&mut text, "             ", &line);
            }
        }
    }
    text
}

/// The message, without what the program said at its end: that has a block of its own.
fn without_stderr(failure: &Failure) -> &str {
    let message = failure.message.trim_end();
    let said = match &failure.program {
        Some(program) => program.stderr.trim(),
        None => "",
    };
    match message.strip_suffix(said) {
        Some(rest) if !said.is_empty() => rest.trim_end().trim_end_matches(':'),
        _ => message,
    }
}

/// A failure on one line, for lists.
pub(crate) fn reason(failure: &Failure) -> String {
    let first = failure.message.lines().next().unwrap_or_default();
    escape::line(first).into_owned()
}

fn push(text: &mut String, indent: &str, line: &str) {
    text.push_str(format!("{indent}{line}").trim_end());
    text.push('\n');
}

/// How a program ended: the code or signal, when `end` does not say it itself.
fn end(program: &ProgramEnd) -> String {
    let said = escape::line(&program.end);
    match (program.exit_code, program.signal) {
        (Some(code), _) if !said.contains(&code.to_string()) => {
            format!("{said} (exit code {code})")
        }
        (_, Some(signal)) if !said.contains(&signal.to_string()) => {
            format!("{said} (signal {signal})")
        }
        _ => said.into_owned(),
    }
}

/// A command as it could be typed into a shell.
fn command(argv: &[String]) -> String {
    let words: Vec<String> = argv
        .iter()
        .map(|word| {
            let plain = !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_./:=@,+%^".contains(c));
            if plain {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', "'\\''"))
            }
        })
        .collect();
    escape::line(&words.join(" ")).into_owned()
}

#[cfg(test)]
mod tests {
    use phoenix_core::sync::FailureClass;

    use super::*;

    fn reload() -> Failure {
        let mut program = ProgramEnd::new(
            vec![
                "/bin/sh".into(),
                "-c".into(),
                "systemctl reload 'nginx'".into(),
            ],
            "exited with code 3",
            "nginx: \u{1b}[31mbad\u{1b}[0m config\nline 2\n\n",
        );
        program.exit_code = Some(3);
        let mut failure = Failure::message(FailureClass::Failed, "the reload command failed")
            .in_guest("web1")
            .hint("mend the configuration and sync again");
        failure.program = Some(program);
        failure
    }

    #[test]
    fn everything_about_a_failed_program_is_shown_and_nothing_obeyed() {
        assert_eq!(
            failure(&Layout::default(), "certificate/web", &reload()),
            "  certificate/web
    the reload command failed
    guest:   web1
    command: /bin/sh -c 'systemctl reload '\\''nginx'\\'''
    ended:   exited with code 3
    stderr:
      | nginx: \\u{1b}[31mbad\\u{1b}[0m config
      | line 2
    hint:    mend the configuration and sync again
"
        );
    }

    #[test]
    fn what_the_program_said_is_shown_once() {
        let mut failure = reload();
        failure.message = "reload failed: exit code 3: one\ntwo".into();
        if let Some(program) = &mut failure.program {
            program.stderr = "one\ntwo\n".into();
        }
        assert_eq!(without_stderr(&failure), "reload failed: exit code 3");
        assert_eq!(reason(&failure), "reload failed: exit code 3: one");
        failure.message = "reload failed".into();
        assert_eq!(without_stderr(&failure), "reload failed");
    }

    #[test]
    fn a_code_the_end_does_not_name_is_added() {
        let mut program = ProgramEnd::new(vec!["x".into()], "stopped", "");
        program.exit_code = Some(7);
        assert_eq!(end(&program), "stopped (exit code 7)");
        program.exit_code = None;
        program.signal = Some(9);
        assert_eq!(end(&program), "stopped (signal 9)");
    }

    #[test]
    fn a_failure_without_a_program_is_its_message() {
        let plain = Failure::message(FailureClass::Unreachable, "10.0.0.2:8006: refused\nreally");
        assert_eq!(
            failure(&Layout::default(), "guest/web", &plain),
            "  guest/web\n    10.0.0.2:8006: refused\n    really\n"
        );
        assert_eq!(reason(&plain), "10.0.0.2:8006: refused");
    }
}
