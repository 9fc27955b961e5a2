//! The command line: the only layer that prints, reads the environment or ends the process.

mod args;
mod commands;
mod config;
mod error;
mod fetching;
mod findings;
mod hub;
mod mergekit;
mod progress;
mod settings;
mod trace;
mod ui;
mod words;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use error::CliError;
use ui::Ui;

use crate::store::catch_panic::{Panic, note_panic};

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match note_panic() {
        Panic::Elsewhere => report(info),
        Panic::Caught => {}
        Panic::Fatal(index) => {
            let index = index.display();
            ui::tell(&format!("error: the cache's index {index} is damaged; it is put aside, build again"));
            std::process::exit(error::DAMAGED.into());
        }
    }));
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            let _ = error.print();
            // What was typed could not be read, but that it asks for JSON can be seen.
            if std::env::args_os().any(|arg| arg == "--json") {
                let message = error.render().to_string();
                let message = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
                let _ = ui::print(&ui::usage_json(message));
            }
            return ExitCode::from(error::USAGE);
        }
        // Help and version are results.
        Err(help) => {
            let printed = help.print().and_then(|()| io::stdout().flush());
            return match printed.map_err(CliError::from) {
                Ok(()) | Err(CliError::Pipe) => ExitCode::SUCCESS,
                Err(error) => ExitCode::from(error.code()),
            };
        }
    };
    let ui = Ui::new(&args);
    match config::limit_vectors().and_then(|()| run(&args, &ui)) {
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
        Command::Fetch(command) => commands::fetch::run(command, ui),
        Command::Plan(command) => commands::plan::run(command, ui),
        Command::Explain(command) => commands::explain::run(command, ui),
        Command::Check(command) => commands::check::run(command, ui),
        Command::Graph(command) => commands::graph::run(command, ui),
        Command::Inspect(command) => commands::inspect::run(command, ui),
        Command::Log(command) => commands::log::run(command, ui),
        Command::Show(command) => commands::show::run(command, ui),
        Command::Tag(command) => commands::tag::run(command, ui),
        Command::Verify(command) => commands::verify::run(command, ui),
        Command::Cache(command) => commands::cache::run(command, ui),
        Command::Methods(command) => commands::methods::run(command, ui),
        Command::MergekitYaml(command) | Command::MergekitPytorch(command) => {
            commands::mergekit::yaml(command, ui)
        }
        Command::MergekitMulti(command) => commands::mergekit::multi(command, ui),
        Command::Schema => commands::schema::run(ui),
    }
}
