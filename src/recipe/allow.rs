//! What a recipe allows: kinds of findings that its author knows of, and need not be told again.

use std::ops::Range;

use super::codes;
use super::fields::{Fields, did_you_mean};
use super::finding::{Finding, Severity};
use super::span::Span;
use super::yaml::{Node, Value};

/// The key that lists codes.
pub const KEY: &str = "allow";

/// One code that a document allows.
#[derive(Clone, Debug)]
pub struct Allowed {
    code: &'static str,
    span: Span,
    /// The bytes of the text that it holds for: a stage's document, or all of the text.
    scope: Range<usize>,
}

/// Reads the codes that a document allows in a stretch of the text.
pub(super) fn read(fields: &Fields<'_>, scope: Range<usize>, findings: &mut Vec<Finding>) -> Vec<Allowed> {
    let Some(node) = fields.get(KEY) else { return Vec::new() };
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    items.iter().filter_map(|item| one(item, scope.clone(), findings)).collect()
}

fn one(item: &Node, scope: Range<usize>, findings: &mut Vec<Finding>) -> Option<Allowed> {
    let Value::Scalar { text, .. } = &item.value else {
        let message = "`allow` must be a list of codes, which findings show in brackets";
        findings.push(Finding::error("wrong-type", item.span, message));
        return None;
    };
    match code(text) {
        Ok(code) => Some(Allowed { code, span: item.span, scope }),
        Err(Refusal { message, help }) => {
            findings.push(Finding::error("unknown-code", item.span, message).help(help));
            None
        }
    }
}

/// Why something cannot be allowed, and what can.
#[derive(Debug)]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// The code of a name.
///
/// # Errors
/// If there is none, or if all findings of the code are errors.
pub fn code(name: &str) -> Result<&'static str, Refusal> {
    let allowable = || codes::all().iter().filter(|code| code.can_be_allowed()).map(|code| code.name);
    match codes::find(name) {
        Some(code) if code.can_be_allowed() => Ok(code.name),
        Some(_) => Err(Refusal {
            message: format!("`{name}` is an error, and errors cannot be allowed"),
            help: "remove it from `allow`, and correct what it reports".to_owned(),
        }),
        None => Err(Refusal {
            message: format!("no finding has the code `{name}`"),
            help: match did_you_mean(name, allowable()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the codes are: {}", allowable().collect::<Vec<_>>().join(", ")),
            },
        }),
    }
}

/// Takes away findings that the recipe allows where they stand, or the project everywhere. Errors stay.
///
/// Where everything was looked at, codes of the recipe that no finding has are told of.
pub fn apply(
    findings: Vec<Finding>,
    allowed: &[Allowed],
    everywhere: &[&'static str],
    is_complete: bool,
) -> Vec<Finding> {
    let mut used = vec![false; allowed.len()];
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings {
        let mut is_allowed = everywhere.contains(&finding.code);
        for (allowed, used) in allowed.iter().zip(&mut used) {
            let is_within = match finding.span {
                Some(span) => allowed.scope.contains(&span.start),
                None => allowed.scope == (0..usize::MAX),
            };
            if finding.code == allowed.code && is_within && !finding.is_error() {
                (is_allowed, *used) = (true, true);
            }
        }
        if finding.severity == Severity::Error || !is_allowed {
            kept.push(finding);
        }
    }
    if is_complete {
        for (Allowed { code, span, .. }, _) in allowed.iter().zip(used).filter(|(_, used)| !used) {
            let message = format!("`{code}` is allowed, but nothing of its kind was found");
            kept.push(Finding::note("unused-allow", *span, message));
        }
    }
    kept
}
