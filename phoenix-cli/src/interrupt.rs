//! SIGINT and SIGTERM: the first ends the command in order, the second at once.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Exit;
use crate::printer::Printer;

/// Tells when the process was asked to end.
pub(crate) struct Interrupt {
    caught: watch::Receiver<Option<&'static str>>,
}

impl Interrupt {
    /// Listens from now on. It needs the runtime.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub(crate) fn listen(printer: &Arc<Printer>) -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (say, caught) = watch::channel(None);
        let printer = Arc::clone(printer);
        tracing::debug!("listening for signals");
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                };
                if say.borrow().is_some() {
                    printer.abort(Exit::Interrupted);
                }
                say.send_replace(Some(name));
            }
        });
        Ok(Self { caught })
    }

    /// Waits for the first signal and says which it was.
    pub(crate) async fn caught(&mut self) -> &'static str {
        match self.caught.wait_for(Option::is_some).await {
            Ok(name) => (*name).unwrap_or("a signal"),
            // The listener lives as long as the runtime.
            Err(_) => std::future::pending().await,
        }
    }
}
