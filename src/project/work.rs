//! What a build would do with each stage, counted by tensors.

use std::collections::BTreeMap;

use super::planned::Planned;
use super::status::Status;
use crate::build::status::Verdict;
use crate::draw::graph::Work;
use crate::plan::{Node, NodeId};
use crate::recipe::{Recipe, StageId};

/// What a build would do with one stage.
#[derive(Clone, Debug, Default)]
pub struct StageWork {
    /// All that the stage has.
    pub tensors: usize,
    /// Of all of them.
    pub bytes: u64,
    /// Tensors to compute.
    pub run: usize,
    /// Tensors to compute if what they read comes out with other bytes.
    pub if_changed: usize,
    /// Tensors whose results are there.
    pub reuse: usize,
    /// Tensors that come down to one of another stage or model, by its name.
    pub same_as: BTreeMap<String, usize>,
    /// Tensors that no target needs.
    pub not_needed: usize,
}

impl StageWork {
    /// Counts a stage's tensors.
    pub fn of(recipe: &Recipe, planned: &Planned, status: &Status, id: StageId) -> Self {
        let Planned { plan, catalog } = planned;
        let stage = plan.stage(id);
        let mut work = Self {
            tensors: stage.tensors.len(),
            bytes: stage.tensors.values().map(|spec| spec.n_bytes() as u64).sum(),
            not_needed: stage.tensors.len() - stage.nodes.len(),
            ..Self::default()
        };
        let name_of = |node: NodeId| match &plan[node] {
            Node::Source(source) => catalog.models[source.model.0].reference.path.clone(),
            Node::Action(action) => recipe.stage(action.owner.stage).name.clone(),
        };
        for (tensor, node) in &stage.nodes {
            // Rows that are laid in a new order are this stage's work, too.
            let is_of = |owner: &str| {
                let rest = owner.strip_prefix(tensor.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(", "))
            };
            let own = matches!(&plan[*node], Node::Action(action)
                if action.owner.stage == id && is_of(&action.owner.tensor));
            match status.verdicts[*node] {
                _ if !own => *work.same_as.entry(name_of(*node)).or_default() += 1,
                Verdict::Run => work.run += 1,
                Verdict::RunIfChanged => work.if_changed += 1,
                Verdict::Reuse => work.reuse += 1,
                Verdict::Read => unreachable!("actions are not read"),
            }
        }
        work
    }

    /// As pictures show it.
    pub fn drawn(&self) -> Work {
        let Self { tensors, bytes, run, if_changed, reuse, .. } = *self;
        Work { is_done: false, tensors, bytes, run, if_changed, reuse }
    }
}
