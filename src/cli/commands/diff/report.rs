//! What there is to tell of two models.

use super::sums::Sums;
use crate::project::{Comparison, Edits};

/// Two models and how they differ.
pub struct Report<'a> {
    /// As they were typed.
    pub names: [&'a str; 2],
    pub what: [&'a str; 2],
    pub kinds: [&'static str; 2],
    pub comparison: &'a Comparison,
    /// What was edited, where both have a recipe.
    pub edits: Option<Edits>,
    pub sums: Sums,
}

impl Report<'_> {
    /// Whether there is any difference between the models.
    pub fn differ(&self) -> bool {
        let Comparison { only, unlike, .. } = self.comparison;
        self.sums.total.differ() > 0 || only.iter().any(|only| !only.is_empty()) || !unlike.is_empty()
    }
}
