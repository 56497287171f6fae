//! The stand-in for Portainer as a program: the entry point of the lab's `portainer/portainer-ce`.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use phoenix_lab::portainer::{Options, start};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// Runs until told to end. As PID 1 it must not count on a signal's default effect.
async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut portainer = start(options).await?;
    tokio::select! {
        reason = portainer.failed() => Err(reason.into()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// An error with its causes, where the container's log has it.
#[allow(clippy::print_stderr)]
fn complain(error: &dyn Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    eprintln!("FTL {text}");
}
