//! `lamarck schema`.

use std::process::ExitCode;

use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::recipe::schema;

pub fn run(ui: &Ui) -> Result<ExitCode, CliError> {
    let text = serde_json::to_string_pretty(&schema::schema()).expect("JSON values serialise");
    // A schema is a document of a version of its own, which stands in it.
    ui.print_as_it_is(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}
