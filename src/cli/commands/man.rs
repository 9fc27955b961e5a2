//! `lamarck man`.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anstream::adapter::strip_str;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use serde_json::json;

use crate::cli::args::{Args, ManArgs};
use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::cli::words::plural;

pub fn run(args: &ManArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let dir = &args.dir;
    fs::create_dir_all(dir).map_err(CliError::write(dir))?;
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let mut written: Vec<PathBuf> = Vec::new();
    for command in with_subcommands(&command) {
        let path = dir.join(format!("{}.1", name(command)));
        let text = page(command).map_err(CliError::write(&path))?;
        fs::write(&path, text).map_err(CliError::write(&path))?;
        written.push(path);
    }
    if ui.json {
        let files: Vec<_> = written.iter().map(|path| path.to_string_lossy()).collect();
        ui.print_json(json!({ "files": files }))?;
    } else {
        let n = written.len();
        ui.print(&format!("wrote {n} manual page{} to {}\n", plural(n), dir.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn with_subcommands(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().filter(|command| !command.is_hide_set());
    std::iter::once(command).chain(below.flat_map(with_subcommands)).collect()
}

/// `lamarck-cache-gc`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man =
        Man::new(command.clone()).manual("lamarck").source(concat!("lamarck ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let examples = command.get_after_help().map(|text| strip_str(&text.ansi().to_string()).to_string());
    for part in examples.unwrap_or_default().split("\n\n") {
        match part.strip_prefix("Examples:\n") {
            Some(lines) => write!(page, ".SH EXAMPLES\n.nf\n{}\n.fi\n", escaped(lines))?,
            None => write!(page, ".SH NOTES\n{}\n", escaped(part))?,
        }
    }
    if name(command) != "lamarck" {
        writeln!(page, ".SH SEE ALSO\n\\fBlamarck\\fR(1)")?;
    }
    Ok(page)
}

/// Lines as roff takes them for what they are.
fn escaped(text: &str) -> String {
    let line = |line: &str| {
        let text = line.trim_end().replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        if text.starts_with('.') { format!("\\&{text}") } else { text }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
