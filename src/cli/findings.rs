//! Findings, for people and for programs: those of a kind are told as one.

use annotate_snippets::{AnnotationKind, Group as Block, Level, Renderer, Snippet, normalize_untrusted_str};
use serde_json::{Value, json};

use super::palette::{ERROR, HELP, NOTE, WARNING};
use super::terminal::fill;
use super::words::{listed, plural};
use crate::recipe::{Finding, Severity, Span, codes};

/// The file that findings are about.
#[derive(Debug)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// Findings of one severity and code that are told as one; at least one.
pub struct Group<'a> {
    findings: Vec<&'a Finding>,
}

/// Excerpts shown of an error that several places have.
const EXCERPTS: usize = 8;
/// As annotate-snippets has it without a terminal.
const UNLIMITED: usize = 140;
/// Further lines named of what several places have.
const LINES: usize = 12;
/// Columns that a text has at least.
const MIN_COLUMNS: usize = 20;
/// Different pieces of advice shown for findings of a kind.
const ADVICE: usize = 5;

/// Puts findings together that are of one kind, in the order of the first of each.
pub fn grouped(findings: &[Finding]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for finding in findings {
        let is_of = |group: &&mut Group<'_>| {
            let first = group.findings[0];
            let is_one_kind = first.severity == finding.severity && first.code == finding.code;
            is_one_kind && (first.message == finding.message || many(finding).is_some())
        };
        match groups.iter_mut().find(is_of) {
            Some(group) => group.findings.push(finding),
            None => groups.push(Group { findings: vec![finding] }),
        }
    }
    groups
}

/// Each finding by itself.
pub fn single(findings: &[Finding]) -> Vec<Group<'_>> {
    findings.iter().map(|finding| Group { findings: vec![finding] }).collect()
}

/// How several findings of a kind are told as one. Errors of most kinds each need a change of their own.
fn many(finding: &Finding) -> Option<&'static str> {
    let code = codes::find(finding.code)?;
    let is_main = code.severities.len() == 1 || finding.severity != Severity::Error;
    code.many.filter(|_| is_main)
}

/// `2 warnings and 1 note`, of the groups below errors.
pub fn count(groups: &[Group<'_>]) -> Option<String> {
    let parts = [Severity::Warning, Severity::Note].map(|severity| {
        let n = groups.iter().filter(|group| group.severity() == severity).count();
        (n > 0).then(|| format!("{n} {}{}", severity.name(), plural(n)))
    });
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| listed(&parts))
}

impl Group<'_> {
    pub fn severity(&self) -> Severity {
        self.findings[0].severity
    }

    /// With an excerpt of the file, and the lines of all places; coloured, and of a width if there is one.
    pub fn render(&self, source: &Source, width: Option<usize>) -> String {
        let level = match self.severity() {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let code = self.findings[0].code;
        let before = self.severity().name().len() + code.len() + "[]: ".len();
        let title = level.primary_title(filled(&self.title(), width, before)).id(code);
        let mut block = Block::with_title(title);
        let places = self.places();
        let last_line = places.last().map_or(1, |span| span.line_column(&source.text).0);
        let margin = last_line.to_string().len() + 1;
        let n_excerpts = if self.severity() == Severity::Error { EXCERPTS } else { 1 };
        let (shown, further) = places.split_at(places.len().min(n_excerpts));
        let annotations = shown.iter().map(|span| {
            let Span { start, end } = *span;
            let label = self.label(*span).map(str::to_owned);
            AnnotationKind::Primary.span(start..end.max(start).min(source.text.len())).label(label)
        });
        if !shown.is_empty() {
            let snippet = Snippet::source(source.text.as_str()).path(source.name.as_str());
            block = block.element(snippet.annotations(annotations));
        }
        if let Some(lines) = lines(further, &source.text) {
            block = block.element(Level::NOTE.no_name().message(lines));
        }
        for help in self.help() {
            let help = normalize_untrusted_str(help);
            block = block.element(Level::HELP.message(filled(&help, width, margin + "= help: ".len())));
        }
        let renderer = Renderer::styled().error(ERROR).warning(WARNING).note(NOTE).help(HELP);
        let renderer = renderer.term_width(width.unwrap_or(UNLIMITED));
        renderer.render(&[block]).to_string() + "\n"
    }

    fn title(&self) -> String {
        let (first, n) = (self.findings[0], self.findings.len());
        match many(first) {
            _ if self.findings.iter().all(|finding| finding.message == first.message) => {
                first.message.clone()
            }
            Some(many) => format!("{n} {many}"),
            None => first.message.clone(),
        }
    }

    /// What is said of one place, if the title says less.
    fn label(&self, span: Span) -> Option<&str> {
        let is_general = self.findings.iter().any(|finding| finding.message != self.findings[0].message);
        let of_place = self.findings.iter().find(|finding| finding.span == Some(span));
        of_place.filter(|_| is_general && self.severity() == Severity::Error).map(|of| of.message.as_str())
    }

    /// Every place, each once, in the order of the file.
    fn places(&self) -> Vec<Span> {
        let mut places: Vec<Span> = self.findings.iter().filter_map(|finding| finding.span).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    fn help(&self) -> Vec<&str> {
        let mut help: Vec<&str> = Vec::new();
        for advice in self.findings.iter().flat_map(|finding| &finding.help) {
            if !help.contains(&advice.as_str()) && help.len() < ADVICE {
                help.push(advice);
            }
        }
        help
    }
}

/// Text that begins behind so many columns, with its lines broken at a width.
fn filled(text: &str, width: Option<usize>, before: usize) -> String {
    match width {
        // Lines but the first begin behind as many columns, which the renderer adds.
        Some(width) => fill(text, width.saturating_sub(before).max(MIN_COLUMNS), "", ""),
        None => text.to_owned(),
    }
}

/// `also in lines 7, 9 and 12`, or how many there are if they are many.
fn lines(places: &[Span], text: &str) -> Option<String> {
    let mut lines: Vec<usize> = places.iter().map(|span| span.line_column(text).0).collect();
    lines.dedup();
    let n_more = lines.len().saturating_sub(LINES);
    let mut named: Vec<String> = lines.iter().take(LINES).map(usize::to_string).collect();
    if n_more > 0 {
        named.push(format!("{n_more} more"));
    }
    (!lines.is_empty()).then(|| format!("also in line{} {}", plural(lines.len()), listed(&named)))
}

/// Each finding, for programs.
pub fn as_json(source: &Source, findings: &[Finding]) -> Vec<Value> {
    let one = |finding: &Finding| {
        let place = |at: usize| Span { start: at, end: at }.line_column(&source.text);
        let start = finding.span.map(|span| place(span.start));
        let end = finding.span.map(|span| place(span.end.max(span.start)));
        json!({
            "severity": finding.severity.name(),
            "code": finding.code,
            "message": finding.message,
            "help": if finding.help.is_empty() { None } else { Some(finding.help.join("\n")) },
            "file": source.name,
            "line": start.map(|(line, _)| line),
            "column": start.map(|(_, column)| column),
            "end": end.map(|(line, column)| json!({ "line": line, "column": column })),
        })
    };
    findings.iter().map(one).collect()
}
