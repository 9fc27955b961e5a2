//! Findings about a recipe, with the place they are about. Rendering is the command line's.

use super::span::Span;

/// How bad a finding is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The recipe cannot be built as it is.
    Error,
    /// It can be built, but is likely not what was meant.
    Warning,
    /// Worth knowing, and no reason to change anything.
    Note,
}

impl Severity {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the recipe can be built all the same.
    pub severity: Severity,
    /// A stable name, such as `unknown-key`, one of [`codes`](super::codes).
    pub code: &'static str,
    /// Lower case, no final full stop; says what is wrong.
    pub message: String,
    /// What it is about; absent where that is no one place in the text.
    pub span: Option<Span>,
    /// What to do about it, one sentence or list each.
    pub help: Vec<String>,
}

impl Finding {
    /// A finding that keeps the recipe from being built; it has no help yet.
    pub fn error(code: &'static str, span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, span, message)
    }

    /// A finding about what is likely a mistake; it has no help yet.
    pub fn warning(code: &'static str, span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, span, message)
    }

    /// A finding that asks for nothing; it has no help yet.
    pub fn note(code: &'static str, span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, span, message)
    }

    /// Whether it keeps the recipe from being built.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Adds what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    fn new(
        severity: Severity,
        code: &'static str,
        span: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> Self {
        Self { severity, code, message: message.into(), span: span.into(), help: Vec::new() }
    }
}
