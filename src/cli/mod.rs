//! The command line: the only layer that prints, reads the environment or ends the process.

mod args;
mod commands;
mod config;
mod error;
mod progress;
mod trace;
mod ui;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use error::CliError;
use ui::Ui;

use crate::store::guard::is_guarded;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !is_guarded() {
            report(info);
        }
    }));
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are results; everything else is a usage error.
            let code = if error.use_stderr() { error::USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let ui = Ui::new(&args);
    let result = config::limit_vectors().and_then(|()| run(&args, &ui));
    match result {
        Ok(code) => code,
        Err(CliError::Pipe) => ExitCode::SUCCESS,
        Err(error) => {
            ui.error(&error);
            ExitCode::from(error.code())
        }
    }
}

fn run(args: &Args, ui: &Ui) -> Result<ExitCode, CliError> {
    match &args.command {
        Command::Build(command) => commands::build::run(command, ui),
        Command::Plan(command) => commands::plan::run(command, ui),
        Command::Explain(command) => commands::explain::run(command, ui),
        Command::Check(command) => commands::check::run(command, ui),
        Command::Graph(command) => commands::graph::run(command, ui),
        Command::Inspect(command) => commands::inspect::run(command, ui),
        Command::Log(command) => commands::log::run(command, ui),
        Command::Verify(command) => commands::verify::run(command, ui),
        Command::Cache(command) => commands::cache::run(command, ui),
        Command::Methods(command) => commands::methods::run(command, ui),
    }
}
