//! `phoenix stack render`: what would be sent.

use phoenix_core::stack::Wire;
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;

use super::source::load;
use crate::arguments::StackRender;
use crate::command::Result;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    #[serde(flatten)]
    wire: &'a Wire,
}

/// Prints what would be sent.
pub(super) fn render(printer: &Printer, arguments: &StackRender) -> Result {
    let wire = load(&arguments.source, printer)?.wire();
    if printer.json() {
        printer.json_line(&Document {
            format: FORMAT_VERSION,
            wire: &wire,
        });
    } else {
        printer.out(&render::bodies(printer.layout(), &wire));
    }
    Ok(Exit::Success)
}
