//! Plans what a recipe asks for from a catalog.

use super::catalog::Catalog;
use crate::plan::{self, Plan};
use crate::recipe::{Finding, Recipe, StageId};

/// A plan with the models it was made from.
#[derive(Debug)]
pub struct Planned {
    /// The graph of actions, from sources to targets.
    pub plan: Plan,
    /// The models that the plan's numbers stand for.
    pub catalog: Catalog,
}

impl Catalog {
    /// Plans the targets that the catalog was opened for; without targets, every final stage. `None`, with
    /// findings, if the recipe asks for what the models do not have.
    pub fn plan(self, recipe: &Recipe, targets: &[StageId]) -> (Option<Planned>, Vec<Finding>) {
        let (plan, findings) = plan::plan(recipe, &self.models, targets);
        (plan.map(|plan| Planned { plan, catalog: self }), findings)
    }
}
