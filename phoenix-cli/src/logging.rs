//! The log on stderr: chosen by `-v` and `PHOENIX_LOG`.
//!
//! Invariant: nothing but Phoenix's own crates logs below `info`, whatever is asked for. HTTP and
//! Docker clients write whole request bodies at `debug`, and these hold secrets and keys. For the
//! same reason the `log` facade, which those crates use, is not connected at all.

use std::io::{self, Write};
use std::sync::Arc;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::printer::Printer;

/// Starts the log. `chosen` is what `PHOENIX_LOG` says.
///
/// # Errors
/// When `chosen` cannot be understood.
pub(crate) fn start(
    printer: &Arc<Printer>,
    verbose: u8,
    chosen: Option<&str>,
) -> Result<(), String> {
    let color = printer.err_layout().color;
    let subscriber = subscriber(ToPrinter(Arc::clone(printer)), verbose, chosen, color)?;
    // It fails only when there is a subscriber already, which then logs.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

fn subscriber<W>(
    writer: W,
    verbose: u8,
    chosen: Option<&str>,
    color: bool,
) -> Result<impl Subscriber + Send + Sync, String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let default = match verbose {
        0 => "warn",
        1 => "warn,phoenix=debug,phoenix_core=debug",
        _ => "info,phoenix=trace,phoenix_core=trace",
    };
    let filter = EnvFilter::builder()
        .parse(chosen.filter(|text| !text.is_empty()).unwrap_or(default))
        .map_err(|error| format!("PHOENIX_LOG: {error}"))?;
    Ok(Registry::default().with(
        tracing_subscriber::fmt::layer()
            .with_ansi(color)
            .with_writer(writer)
            .with_filter(filter.and(filter_fn(may_be_logged))),
    ))
}

fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let room = metadata.target().split("::").next().unwrap_or_default();
    matches!(room, "phoenix" | "phoenix_core") || *metadata.level() <= Level::INFO
}

struct ToPrinter(Arc<Printer>);

impl Write for &ToPrinter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.err_bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for ToPrinter {
    type Writer = &'a ToPrinter;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::Written;

    fn logged(verbose: u8, chosen: Option<&str>) -> String {
        let written = Written::default();
        let copy = written.clone();
        let subscriber = subscriber(move || copy.clone(), verbose, chosen, false).expect("filter");
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "bollard::docker", "body-bollard");
            tracing::trace!(target: "hyper::proto", "body-hyper");
            tracing::debug!(target: "rustls::client", "body-rustls");
            tracing::debug!(target: "phoenix_coreless", "body-coreless");
            let span = tracing::debug_span!(target: "h2::codec", "frame", data = "body-h2");
            span.in_scope(|| {
                tracing::info!(target: "hyper::proto", "info-hyper");
                tracing::debug!(target: "phoenix_core::sync", "own\u{1b}[2J-debug");
            });
            tracing::warn!(target: "rustls::client", "warn-rustls");
        });
        written.take()
    }

    #[test]
    fn bodies_are_never_logged() {
        for chosen in [
            "trace",
            "bollard=trace,hyper=trace,rustls=trace,h2=trace,phoenix_core=trace",
            "off,bollard=debug",
            "[frame]=trace",
        ] {
            let text = logged(2, Some(chosen));
            assert!(!text.contains("body-"), "{chosen}: {text}");
        }
    }

    #[test]
    fn what_may_be_logged_is_logged_and_escaped() {
        let text = logged(0, Some("trace"));
        assert!(text.contains("info-hyper"), "{text}");
        assert!(text.contains("-debug"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(logged(1, None).contains("-debug"));
        let quiet = logged(0, None);
        assert!(
            !quiet.contains("-debug") && quiet.contains("warn-rustls"),
            "{quiet}"
        );
    }

    #[test]
    fn a_wrong_filter_is_refused() {
        assert!(subscriber(io::sink, 0, Some("a=b=c"), false).is_err());
    }
}
