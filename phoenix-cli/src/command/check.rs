//! `phoenix check`: the site file alone, offline.

use phoenix_core::site::Site;
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;

use super::{Result, load, site_file};
use crate::arguments::Global;
use crate::error::{self, Listed, listed};
use crate::escape;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render::{self, Layout, Severity, number};

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'a str>,
    valid: bool,
    problems: Vec<Listed<'a>>,
}

/// Checks the site file.
pub(super) fn check(global: &Global, printer: &Printer) -> Result {
    let file = site_file(global)?.display().to_string();
    let document = |site, valid, problems| Document {
        format: FORMAT_VERSION,
        file: file.clone(),
        site,
        valid,
        problems,
    };
    let loaded = match load(global) {
        Ok(loaded) => loaded,
        Err(error) if printer.json() && !error.problems().is_empty() => {
            let problems = listed(Severity::Error, error.problems());
            printer.json_line(&document(None, false, problems));
            return Err(error.said());
        }
        Err(error) => return Err(error),
    };
    let warnings = &loaded.warnings;
    if !warnings.is_empty() {
        let layout = printer.err_layout();
        printer.err(&error::problems(layout, Severity::Warning, warnings, None));
    }
    let site = &loaded.site;
    if printer.json() {
        let problems = listed(Severity::Warning, warnings);
        printer.json_line(&document(Some(&site.name), true, problems));
    } else {
        let mut line = format!("{}: {}", escape::line(&file), contents(site));
        if !warnings.is_empty() {
            line.push_str("; ");
            let count = render::count(0, warnings.len());
            line.push_str(&printer.layout().paint(Layout::WARN, &count));
        }
        line.push('\n');
        printer.out(&line);
    }
    Ok(Exit::Success)
}

fn contents(site: &Site) -> String {
    let parts = [
        (site.guests.len(), "guest"),
        (site.networks.len(), "network"),
        (site.certificates.len(), "certificate"),
        (site.secrets.len(), "secret"),
        (site.stacks.len(), "stack"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .map(|(count, what)| number(*count, what))
        .collect();
    format!(
        "site {} is valid: {}",
        escape::line(&site.name),
        parts.join(", ")
    )
}
