//! Which stages' results are stored.

use std::collections::HashSet;

use crate::recipe::{Recipe, StageId};

/// Which stages' results are stored where the recipe does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Those of all.
    #[default]
    All,
    /// Those of none: only stages with `cache: true` are stored.
    Named,
    /// Those of all but the ones that keep changing.
    Auto,
}

/// Why a stage's results are not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The recipe says so.
    Said,
    /// The recipe does not say that they are, and only named stages are.
    Unnamed,
    /// They keep changing.
    Changing,
}

/// What becomes of the results of a recipe's stages.
#[derive(Clone, Debug)]
pub struct Storing {
    /// By stage number.
    unstored: Vec<Option<Why>>,
    with_masks: bool,
}

impl Storing {
    /// A stage's results are stored in any case up to this size: statistics, biases, norms.
    pub const SMALL: u64 = 64 << 10;

    /// Decides for every stage; `changing` are those that keep changing.
    pub fn new(recipe: &Recipe, policy: Policy, changing: &HashSet<StageId>) -> Self {
        let why = |(number, said): (usize, Option<bool>)| match (said, policy) {
            (Some(true), _) | (None, Policy::All) => None,
            (Some(false), _) => Some(Why::Said),
            (None, Policy::Named) => Some(Why::Unnamed),
            (None, Policy::Auto) => changing.contains(&StageId(number)).then_some(Why::Changing),
        };
        let said = recipe.stages.iter().map(|stage| stage.cache);
        Self { unstored: said.enumerate().map(why).collect(), with_masks: true }
    }

    /// The same where there is too little room for what is never needed.
    pub fn without_masks(self) -> Self {
        Self { with_masks: false, ..self }
    }

    /// Why the results of a stage are not stored, if they are not.
    pub fn why_not(&self, stage: StageId) -> Option<Why> {
        self.unstored[stage.0]
    }

    /// Whether a stage's result of so many bytes is stored. `again` says that it was known, wanted, and kept nowhere:
    /// where nobody has decided for the stage, that shows that it is better stored.
    pub fn holds(&self, stage: StageId, n_bytes: u64, again: bool) -> bool {
        match self.why_not(stage) {
            None => true,
            Some(Why::Said) => false,
            Some(Why::Unnamed) => n_bytes <= Self::SMALL,
            Some(Why::Changing) => again || n_bytes <= Self::SMALL,
        }
    }

    /// Whether the masks of a stage's merges are stored. They are of the most use where results keep changing.
    pub fn keeps_masks(&self, stage: StageId) -> bool {
        self.with_masks && matches!(self.why_not(stage), None | Some(Why::Changing))
    }

    /// Whether anything may be noted of a stage's results, wherever they are.
    pub fn notes(&self, stage: StageId) -> bool {
        self.why_not(stage) != Some(Why::Said)
    }
}
