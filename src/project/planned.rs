//! Plans what a recipe asks for from a catalog.

use super::catalog::Catalog;
use crate::build::status::{Verdict, Verdicts};
use crate::plan::{self, Node, NodeId, Plan, Source};
use crate::recipe::{Finding, Recipe, StageId};

/// A plan with the models it was made from.
#[derive(Debug)]
pub struct Planned {
    /// The graph of actions, from sources to targets.
    pub plan: Plan,
    /// The models that the plan's numbers stand for.
    pub catalog: Catalog,
}

impl Planned {
    /// Bytes of tensors on the hub that a build would read where they are, by its verdicts: those that nobody has
    /// read before, and those that something reads that runs for sure.
    pub fn to_stream(&self, verdicts: &Verdicts) -> u64 {
        let Self { plan, catalog } = self;
        let is_afar = |source: &Source| {
            let shard = catalog.checkpoints[source.model.0].shard_of(&source.tensor);
            shard.is_some_and(|shard| !shard.is_local())
        };
        let is_wanted = |node: NodeId| {
            verdicts[node] == Verdict::Read
                || plan.readers(node).any(|reader| verdicts[reader] == Verdict::Run)
        };
        let nodes = plan.nodes().filter_map(|node| match &plan[node] {
            Node::Source(source) if is_afar(source) && is_wanted(node) => Some(source.spec.n_bytes() as u64),
            _ => None,
        });
        nodes.sum()
    }
}

impl Catalog {
    /// Plans the targets that the catalog was opened for; without targets, every final stage. `None`, with
    /// findings, if the recipe asks for what the models do not have.
    pub fn plan(self, recipe: &Recipe, targets: &[StageId]) -> (Option<Planned>, Vec<Finding>) {
        let (plan, findings) = plan::plan(recipe, &self.models, targets);
        (plan.map(|plan| Planned { plan, catalog: self }), findings)
    }
}
