//! `phoenix stack render`: what would be sent.

use super::load;
use crate::arguments::StackRender;
use crate::command::Result;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

/// Prints what would be sent.
pub(super) fn render(printer: &Printer, arguments: &StackRender) -> Result {
    let wire = load(&arguments.source, printer)?.wire();
    if printer.json() {
        printer.json_line(&wire);
    } else {
        printer.out(&render::stack(printer.layout(), &wire));
    }
    Ok(Exit::Success)
}
