//! The one place that writes to the terminal and ends the process.
//!
//! Invariants: what goes to stdout under `--json` is JSON and nothing else; a reader that went
//! away is no error, and a sync is not stopped by it; any other failure to write to stdout fails
//! the command.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use crate::arguments::Color;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::render::Layout;

/// Writes to stdout and stderr.
pub(crate) struct Printer {
    json: bool,
    out: Stream,
    err: Stream,
    out_layout: Layout,
    err_layout: Layout,
    animate: bool,
    /// The running lines, which make way for what is written.
    lines: Mutex<Option<MultiProgress>>,
}

struct Stream {
    inner: Mutex<Inner>,
}

struct Inner {
    to: Box<dyn Write + Send>,
    /// Why nothing is written any more.
    broken: Option<io::Error>,
}

impl Stream {
    fn new(to: Box<dyn Write + Send>) -> Self {
        Self {
            inner: Mutex::new(Inner { to, broken: None }),
        }
    }

    fn write(&self, bytes: &[u8]) {
        let mut inner = lock(&self.inner);
        if inner.broken.is_none()
            && let Err(error) = inner.to.write_all(bytes).and_then(|()| inner.to.flush())
        {
            inner.broken = Some(error);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Printer {
    /// A printer to stdout and stderr of this process.
    pub(crate) fn new(json: bool, color: Color, verbose: bool) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let environment = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = environment("TERM").is_some_and(|term| term == "dumb");
        let layout = |terminal: bool, width: Option<usize>| Layout {
            color: color.applies(terminal && !dumb, environment("NO_COLOR").is_some()),
            width,
            verbose,
        };
        let animate = stdout.is_terminal() && !dumb && !json;
        Self {
            json,
            out_layout: layout(stdout.is_terminal(), width(&stdout)),
            err_layout: layout(stderr.is_terminal(), width(&stderr)),
            out: Stream::new(Box::new(stdout)),
            err: Stream::new(Box::new(stderr)),
            animate,
            lines: Mutex::new(None),
        }
    }

    /// Whether stdout is for programs.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// How text for stdout is laid out.
    pub(crate) fn layout(&self) -> &Layout {
        &self.out_layout
    }

    /// How text for stderr is laid out.
    pub(crate) fn err_layout(&self) -> &Layout {
        &self.err_layout
    }

    /// Lines at the bottom of the terminal that change while something runs; `None` where stdout
    /// is no terminal. They make way for what is written until [`Printer::settle`].
    pub(crate) fn animate(&self) -> Option<MultiProgress> {
        self.animate.then(|| {
            let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            *lock(&self.lines) = Some(lines.clone());
            lines
        })
    }

    /// Takes the changing lines away.
    pub(crate) fn settle(&self) {
        if let Some(lines) = lock(&self.lines).take() {
            // They are ornament: if they cannot be cleared, nothing is lost.
            let _ = lines.clear();
            lines.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Writes to stdout.
    pub(crate) fn out(&self, text: &str) {
        self.out_bytes(text.as_bytes());
    }

    /// Writes to stdout, byte for byte.
    pub(crate) fn out_bytes(&self, bytes: &[u8]) {
        self.beside_lines(|| self.out.write(bytes));
    }

    /// Whether nothing that is written to stdout arrives any more.
    pub(crate) fn is_broken(&self) -> bool {
        lock(&self.out.inner).broken.is_some()
    }

    /// Writes to stderr.
    pub(crate) fn err(&self, text: &str) {
        self.err_bytes(text.as_bytes());
    }

    /// Writes to stderr, byte for byte.
    pub(crate) fn err_bytes(&self, bytes: &[u8]) {
        self.beside_lines(|| self.err.write(bytes));
    }

    fn beside_lines(&self, write: impl FnOnce()) {
        let lines = lock(&self.lines);
        match &*lines {
            Some(lines) => lines.suspend(write),
            None => write(),
        }
    }

    /// Writes `document` to stdout as one line of JSON.
    pub(crate) fn json_line(&self, document: &impl Serialize) {
        let mut line = Vec::new();
        let mut writer = serde_json::Serializer::with_formatter(&mut line, Careful);
        match document.serialize(&mut writer) {
            Ok(()) => {
                line.push(b'\n');
                self.out_bytes(&line);
            }
            Err(error) => {
                lock(&self.out.inner).broken.get_or_insert(error.into());
            }
        }
    }

    /// Says why a command was not carried out, and how the process ends because of it.
    pub(crate) fn error(&self, error: &CommandError) -> Exit {
        self.settle();
        if self.json && !error.said {
            self.json_line(&error.document());
        }
        self.err(&error.text(&self.err_layout));
        error.exit
    }

    /// How the process ends: as `exit`, unless what it had to say could not be written.
    pub(crate) fn finish(&self, exit: Exit) -> Exit {
        self.settle();
        let inner = lock(&self.out.inner);
        match &inner.broken {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                self.err
                    .write(format!("error: cannot write to stdout: {error}\n").as_bytes());
                if exit == Exit::Success {
                    Exit::Failed
                } else {
                    exit
                }
            }
            _ => exit,
        }
    }

    /// Ends the process at once.
    #[allow(clippy::exit)]
    pub(crate) fn abort(&self, exit: Exit) -> ! {
        std::process::exit(i32::from(exit.code()))
    }
}

fn width(stream: &impl std::os::fd::AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(stream)
        .map(|(width, _)| usize::from(width.0))
        .filter(|width| *width > 0)
}

/// JSON in which every character that could do something to a terminal is an escape: JSON asks
/// for that only below U+0020.
struct Careful;

impl Formatter for Careful {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(crate::escape::is_active) {
            let (plain, from) = rest.split_at(at);
            CompactFormatter.write_string_fragment(writer, plain)?;
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = chars.as_str();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

/// Where a printer of a test writes.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Written(std::sync::Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Written {
    /// What was written, and forgets it.
    pub(crate) fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *lock(&self.0))).expect("UTF-8")
    }
}

#[cfg(test)]
impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
impl Printer {
    /// A printer to anywhere; with `lines` as if stdout were a terminal.
    pub(crate) fn to(
        json: bool,
        layout: Layout,
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
        lines: Option<MultiProgress>,
    ) -> Self {
        Self {
            json,
            out: Stream::new(Box::new(out)),
            err: Stream::new(Box::new(err)),
            out_layout: layout,
            err_layout: layout,
            animate: false,
            lines: Mutex::new(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Full(ErrorKind);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ended_after_writing_to(kind: ErrorKind, exit: Exit) -> (Exit, String) {
        let err = Written::default();
        let printer = Printer::to(false, Layout::default(), Full(kind), err.clone(), None);
        printer.out("something\n");
        printer.out("more\n");
        (printer.finish(exit), err.take())
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let (exit, said) = ended_after_writing_to(ErrorKind::BrokenPipe, Exit::Success);
        assert_eq!((exit, said.as_str()), (Exit::Success, ""));
    }

    #[test]
    fn a_full_disk_is_an_error_that_hides_no_other() {
        let (exit, said) = ended_after_writing_to(ErrorKind::StorageFull, Exit::Success);
        assert_eq!(exit, Exit::Failed);
        assert!(
            said.starts_with("error: cannot write to stdout: "),
            "{said}"
        );
        let (exit, _) = ended_after_writing_to(ErrorKind::StorageFull, Exit::Unreachable);
        assert_eq!(exit, Exit::Unreachable);
    }

    #[test]
    fn json_holds_nothing_that_acts_and_loses_nothing() {
        let out = Written::default();
        let printer = Printer::to(true, Layout::default(), out.clone(), io::sink(), None);
        let text = "a\u{1b}[2J\u{9b}b\u{202e}\"\\ü\u{7f}漢";
        printer.json_line(&text);
        let written = out.take();
        assert!(
            !written.trim_end().contains(crate::escape::is_active),
            "{written:?}"
        );
        assert_eq!(
            serde_json::from_str::<String>(&written).expect("JSON"),
            text
        );
        assert_eq!(written.matches('\n').count(), 1);
    }
}
