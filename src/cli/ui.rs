//! What goes to the terminal: results to standard output, everything else to standard error.

use std::error::Error;
use std::io::{self, IsTerminal, Write};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::args::Args;
use super::error::CliError;
use crate::recipe::{Finding, Recipe, Severity, Span};

/// How much is printed, and how.
pub struct Ui {
    pub json: bool,
    pub quiet: bool,
    pub verbose: bool,
    colour: bool,
}

impl Ui {
    pub fn new(args: &Args) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json: args.json,
            quiet: args.quiet,
            verbose: args.verbose,
            colour: io::stderr().is_terminal() && !plain,
        }
    }

    /// Prints results.
    pub fn print(&self, text: &str) -> Result<(), CliError> {
        Ok(print(text)?)
    }

    /// Prints one JSON document.
    pub fn print_json(&self, value: &serde_json::Value) -> Result<(), CliError> {
        self.print(&format!("{}\n", serde_json::to_string_pretty(value).expect("JSON values serialise")))
    }

    /// Prints progress or a note.
    pub fn status(&self, text: &str) {
        if !self.quiet {
            tell(text);
        }
    }

    /// Prints findings on a recipe, with excerpts.
    pub fn findings(&self, name: &str, text: &str, findings: &[Finding]) {
        for finding in findings {
            let wanted = match finding.severity {
                Severity::Error => true,
                Severity::Warning => !self.quiet,
                Severity::Note => self.verbose,
            };
            if wanted {
                tell(&self.render(name, text, finding));
            }
        }
        let hidden = findings.iter().filter(|finding| finding.severity == Severity::Note).count();
        if hidden > 0 && !self.verbose && !self.quiet {
            tell(&format!(
                "{hidden} note{} on {name}; -v shows {}\n",
                plural(hidden),
                if hidden == 1 { "it" } else { "them" }
            ));
        }
    }

    fn render(&self, name: &str, text: &str, finding: &Finding) -> String {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let title = level.primary_title(finding.message.as_str()).id(finding.code);
        let mut group = match finding.span {
            Some(Span { start, end }) => {
                let end = end.max(start).min(text.len());
                let snippet =
                    Snippet::source(text).path(name).annotation(AnnotationKind::Primary.span(start..end));
                Group::with_title(title).element(snippet)
            }
            None => Group::with_title(title),
        };
        if let Some(help) = &finding.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if self.colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group]).to_string() + "\n"
    }
}

/// The only way to standard output.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints an error with its causes.
pub fn error(error: &CliError) {
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
    tell(&format!("error: {text}"));
    if let Some(help) = error.help() {
        tell(&format!("  help: {help}"));
    }
}

/// Prints a line to standard error; if that is closed, nobody is there to be told.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Findings as JSON.
pub fn findings_json(recipe_text: &str, findings: &[Finding]) -> serde_json::Value {
    findings
        .iter()
        .map(|finding| {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            let place = finding.span.map(|span| span.line_column(recipe_text));
            serde_json::json!({
                "severity": severity,
                "code": finding.code,
                "message": finding.message,
                "help": finding.help,
                "line": place.map(|(line, _)| line),
                "column": place.map(|(_, column)| column),
            })
        })
        .collect()
}

/// `recipe.yaml:6`.
pub fn place(recipe: &Recipe, span: Span) -> String {
    format!("{}:{}", recipe.name, span.line_column(&recipe.text).0)
}

pub fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// `1.3 MB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
