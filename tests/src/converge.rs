//! The converge benchmark: how long a first sync of a site takes on a fresh lab, how long a second
//! one that finds nothing to change, and which steps took longest.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{self, Lab, LabOptions};
use crate::{LabError, Result, process, site};

/// One sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// Wall time of the whole program.
    pub wall: Duration,
    /// Every step with its own time, the slowest first.
    pub steps: Vec<(String, Duration)>,
}

/// Syncs the site of this template twice, on a lab of its own that is gone afterwards.
///
/// # Errors
/// Where the lab does not come up, or a sync ends otherwise than with 0.
pub async fn measure(template: &Path) -> Result<[Sync; 2]> {
    let phoenix = lab::built("phoenix")?;
    let lab = Lab::start(LabOptions::test()).await?;
    let dir = tempfile::tempdir().map_err(LabError::io("create", Path::new("a folder")))?;
    let to = dir.path().join("site");
    let (server, access) = site::serve(site::server_options(&lab)?).await?;
    site::write(&lab, &access, template, &to)?;
    let sync = async || {
        let mut command = Command::new(&phoenix);
        command.arg("--config").arg(to.join("phoenix.yaml"));
        command.args(["--json", "sync", "all"]);
        let begun = Instant::now();
        let events = process::run(command).await?;
        Ok::<_, LabError>(Sync {
            wall: begun.elapsed(),
            steps: slowest(&events),
        })
    };
    let first = sync().await?;
    let second = sync().await?;
    server.shutdown().await;
    lab.down().await?;
    Ok([first, second])
}

/// The steps that ended, out of one event per line.
fn slowest(events: &str) -> Vec<(String, Duration)> {
    let mut steps: Vec<(String, Duration)> = events
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["event"] == "step-finished")
        .filter_map(|event| {
            let elapsed = event["elapsed_ms"].as_u64()?;
            let step = match &event["step"] {
                Value::String(name) => name.clone(),
                other => other.to_string(),
            };
            Some((step, Duration::from_millis(elapsed)))
        })
        .collect();
    steps.sort_by_key(|(_, elapsed)| std::cmp::Reverse(*elapsed));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_step_comes_first() {
        let events = "{\"event\":\"started\",\"format\":1}\n{\"event\":\"step-finished\",\"step\":\"swarm\",\"elapsed_ms\":5}\n{\"event\":\"step-finished\",\"step\":\"stack/web\",\"elapsed_ms\":900}\n";
        assert_eq!(
            slowest(events),
            [
                ("stack/web".to_owned(), Duration::from_millis(900)),
                ("swarm".to_owned(), Duration::from_millis(5))
            ]
        );
    }
}
