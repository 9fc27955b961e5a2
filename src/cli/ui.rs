//! What goes to the terminal: results to standard output, everything else to standard error.
//!
//! With `--json`, standard output holds one document, or, of a build, one line an event. What was found in a
//! recipe is part of it, and so is the error that a command ended with.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};

use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::args::Args;
use super::error::CliError;
use super::findings::{self, Source};
use super::{palette, terminal};
use crate::recipe::{Finding, Recipe, Severity, Span};

/// Raised whenever a key of a document for programs goes or comes to mean something else.
const VERSION: u32 = 1;

/// How much is printed, and how.
pub struct Ui {
    pub json: bool,
    pub quiet: bool,
    pub verbose: bool,
    /// Whether JSON comes line by line, as things happen.
    by_line: bool,
    /// What was found, for the document.
    found: Mutex<Vec<Value>>,
    live: Arc<Live>,
}

/// The lines that are drawn again and again, while there are any.
#[derive(Default)]
pub struct Live(Mutex<Option<ProgressBar>>);

impl Live {
    fn bar(&self) -> Option<ProgressBar> {
        self.0.lock().expect("no thread panics with it").clone()
    }

    /// Prints a line above them.
    pub fn tell(&self, line: &str) {
        match self.bar() {
            Some(bar) => bar.suspend(|| tell(line)),
            None => tell(line),
        }
    }

    /// Takes them away.
    pub fn clear(&self) {
        if let Some(bar) = self.bar() {
            bar.finish_and_clear();
        }
    }
}

/// Which findings a command shows in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    All,
    /// All but notes, which are counted.
    Warnings,
    /// Errors; all else is counted.
    Errors,
    /// Errors, and nothing of all else.
    ErrorsAlone,
}

impl Ui {
    pub fn new(args: &Args) -> Self {
        Self {
            json: args.json,
            quiet: args.quiet,
            verbose: args.verbose,
            by_line: args.command.is_build(),
            found: Mutex::default(),
            live: Arc::default(),
        }
    }

    /// Whether a line on the terminal may be drawn again and again.
    pub fn is_live(&self) -> bool {
        io::stderr().is_terminal() && !self.quiet && !self.json
    }

    /// From here on these are the live lines.
    pub fn show_live(&self, bar: &ProgressBar) {
        *self.live.0.lock().expect("no thread panics with it") = Some(bar.clone());
    }

    /// From here on there are none.
    pub fn hide_live(&self) {
        *self.live.0.lock().expect("no thread panics with it") = None;
    }

    /// Whatever live lines there are at a time.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Whether JSON comes line by line, as things happen.
    pub fn is_by_line(&self) -> bool {
        self.by_line
    }

    /// Prints results for people.
    pub fn print(&self, text: &str) -> Result<(), CliError> {
        if self.quiet { Ok(()) } else { self.print_problems(text) }
    }

    /// Prints results that say that something is wrong.
    pub fn print_problems(&self, text: &str) -> Result<(), CliError> {
        let mut out = anstream::stdout().lock();
        out.write_all(terminal::wrapped(text, terminal::width_of_stdout()).as_bytes())?;
        Ok(out.flush()?)
    }

    /// Prints what programs read, letter for letter, however quiet it is to be.
    pub fn print_as_it_is(&self, text: &str) -> Result<(), CliError> {
        Ok(print(text)?)
    }

    /// Prints the one JSON document of a command, with what was found.
    pub fn print_json(&self, document: Value) -> Result<(), CliError> {
        let found = std::mem::take(&mut *self.found.lock().expect("no thread panics with it"));
        let mut document = versioned(document);
        document.insert("findings".to_owned(), found.into());
        let text = serde_json::to_string_pretty(&document).expect("JSON values serialise");
        self.print_as_it_is(&format!("{text}\n"))
    }

    /// Prints progress or a note.
    pub fn status(&self, text: &str) {
        if !self.quiet {
            self.live.tell(text);
        }
    }

    /// Tells of what was found in a file.
    pub fn findings(&self, source: &Source, findings: &[Finding], show: Show) -> Result<(), CliError> {
        if self.json {
            for mut finding in findings::as_json(source, findings) {
                if self.by_line {
                    finding["event"] = "finding".into();
                    print_event(finding)?;
                } else {
                    self.found.lock().expect("no thread panics with it").push(finding);
                }
            }
            return Ok(());
        }
        let least = match show {
            _ if self.quiet => Severity::Error,
            Show::All => Severity::Note,
            Show::Warnings => Severity::Warning,
            Show::Errors | Show::ErrorsAlone => Severity::Error,
        };
        let (least, groups) = if self.verbose {
            (Severity::Note, findings::single(findings))
        } else {
            (least, findings::grouped(findings))
        };
        let (shown, hidden): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| group.severity() <= least);
        for group in shown {
            tell_as_it_is(&group.render(source, terminal::width_of_stderr()));
        }
        if let Some(count) = findings::count(&hidden).filter(|_| !self.quiet && show != Show::ErrorsAlone) {
            let name = &source.name;
            tell(&format!("{count} on {name}; `lamarck check {name}` shows all"));
        }
        Ok(())
    }

    /// Tells of the error that a command ends with.
    pub fn error(&self, error: &CliError) {
        if let CliError::Settings { file, findings } = error {
            // If standard output is closed, nobody is there to be told.
            let _ = self.findings(file, findings, Show::ErrorsAlone);
        }
        error_text(error);
        if !self.json || error.is_of_stdout() {
            return;
        }
        let mut document = error_json(error);
        // Nobody is left to be told if this fails.
        let _ = if self.by_line {
            document["event"] = "error".into();
            print_event(document).map_err(CliError::from)
        } else {
            self.print_json(document)
        };
    }
}

/// Prints a line of JSON that tells of one event.
pub fn print_event(event: Value) -> io::Result<()> {
    let mut line = versioned(event);
    // What happened comes first.
    if let Some(name) = line.shift_remove("event") {
        line.shift_insert(0, "event".to_owned(), name);
    }
    print(&format!("{}\n", Value::Object(line)))
}

fn versioned(document: Value) -> Map<String, Value> {
    let Value::Object(fields) = document else { panic!("documents for programs are maps") };
    let mut document = Map::from_iter([("version".to_owned(), VERSION.into())]);
    document.extend(fields);
    document
}

/// The document of an error in what was typed, where there is no command yet.
pub fn usage_json(message: &str) -> String {
    let error = error_json(&CliError::Usage(message.to_owned()));
    let mut document = versioned(error);
    document.insert("findings".to_owned(), json!([]));
    format!("{:#}\n", Value::Object(document))
}

fn error_json(error: &CliError) -> Value {
    json!({
        "error": {
            "kind": error.kind(),
            "message": with_causes(error),
            "help": error.help(),
            "exit_code": error.code(),
        }
    })
}

/// Prints to standard output, letter for letter.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints an error with its causes.
fn error_text(error: &CliError) {
    tell(&format!("error: {}", with_causes(error)));
    if let Some(help) = error.help() {
        tell(&format!("  help: {help}"));
    }
}

fn with_causes(error: &CliError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let message = source.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = source.source();
    }
    text
}

/// Prints a line to standard error; if that is closed, nobody is there to be told.
pub fn tell(line: &str) {
    tell_as_it_is(&terminal::wrapped(&palette::with_severity(line), terminal::width_of_stderr()));
}

/// The same, without breaking it.
fn tell_as_it_is(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

/// `recipe.yaml:6`.
pub fn place(recipe: &Recipe, span: Span) -> String {
    format!("{}:{}", recipe.name, span.line_column(&recipe.text).0)
}
