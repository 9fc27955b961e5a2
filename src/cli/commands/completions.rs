//! `lamarck completions`.

use std::process::ExitCode;

use crate::cli::args::CompletionsArgs;
use crate::cli::completion;
use crate::cli::error::CliError;
use crate::cli::ui::Ui;

pub fn run(args: &CompletionsArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    ui.print_as_it_is(&completion::script(args.shell)?)?;
    Ok(ExitCode::SUCCESS)
}
