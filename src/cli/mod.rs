//! The command line: the only layer that prints, reads the environment or ends the process.

mod args;
mod candidates;
mod commands;
mod completion;
mod config;
mod error;
mod examples;
mod fetching;
mod findings;
mod hub;
mod keys;
mod machine;
mod mergekit;
mod pace;
mod palette;
mod progress;
mod saves;
mod settings;
mod signals;
mod templates;
mod terminal;
mod trace;
mod ui;
mod version;
mod words;

use std::env;
use std::io::Write;
use std::process::ExitCode;

use args::{Args, Command, is_version};
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
            ui::tell(&format!("error: the cache's index {index} is damaged; it was set aside; build again"));
            keys::restore();
            std::process::exit(error::DAMAGED.into());
        }
    }));
    terminal::colour(terminal::asked(env::args_os().skip(1)));
    if completion::answered() {
        return ExitCode::SUCCESS;
    }
    let args = match Args::read() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            ui::tell(error.render().ansi().to_string().trim_end());
            // What was typed could not be read, but that it asks for JSON can be seen.
            if env::args_os().any(|arg| arg == "--json") {
                let message = error.render().to_string();
                let message = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
                let _ = ui::print(&ui::usage_json(message));
            }
            return ExitCode::from(error::USAGE);
        }
        // Help and version are results.
        Err(asked) => {
            let text = match is_version(&asked) {
                true if version::is_verbose(env::args_os().skip(1)) => version::verbose(),
                true => version::line(),
                false => asked.render().ansi().to_string(),
            };
            let mut out = anstream::stdout().lock();
            let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
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
        Command::Watch(command) => commands::watch::run(command, ui),
        Command::Explain(command) => commands::explain::run(command, ui),
        Command::Check(command) => commands::check::run(command, ui),
        Command::Graph(command) => commands::graph::run(command, ui),
        Command::Inspect(command) => commands::inspect::run(command, ui),
        Command::Diff(command) => commands::diff::run(command, ui),
        Command::Log(command) => commands::log::run(command, ui),
        Command::Report(command) => commands::report::run(command, ui),
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
        Command::New(command) => commands::new::run(command, ui),
        Command::Completions(command) => commands::completions::run(command, ui),
        Command::Man(command) => commands::man::run(command, ui),
    }
}
