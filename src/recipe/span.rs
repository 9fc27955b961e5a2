//! Places in a recipe's text.

/// A half-open range of byte offsets into the recipe's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte, counted from 0.
    pub start: usize,
    /// The byte behind the last.
    pub end: usize,
}

impl Span {
    /// The 1-based line and column (in characters) where the span starts in `text`.
    pub fn line_column(self, text: &str) -> (usize, usize) {
        let before = &text[..self.start.min(text.len())];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// A value with the place in the recipe that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// What was read.
    pub value: T,
    /// Where it was read.
    pub span: Span,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let text = "a: 1\n\u{e9}: x\n";
        let at = text.find('x').unwrap();
        assert_eq!(Span { start: at, end: at + 1 }.line_column(text), (2, 4));
        assert_eq!(Span { start: 0, end: 1 }.line_column(text), (1, 1));
    }
}
