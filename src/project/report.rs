//! What a build did to every tensor of every stage, and whose doing it was: statistics, from the store where it has
//! them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;

use super::catalog::Catalog;
use super::error::ProjectError;
use super::planned::Planned;
use super::pledges::check_repeated;
use super::settings::Project;
use super::statistics::table;
use crate::build::Build;
use crate::build::reasons::Reason;
use crate::build::status::Verdict;
use crate::digest::ActionKey;
use crate::event::Events;
use crate::history::{self, Past, Record};
use crate::op::conflicts::Conflict;
use crate::op::statistics::Change;
use crate::plan::{
    Input, Node, NodeId, ParameterValues, Plan, add_ancestry, add_changes, add_conflicts, parameter_values,
};
use crate::recipe::{Recipe, StageId};

/// What a build came to, tensor by tensor.
#[derive(Debug)]
pub struct BuildStatistics {
    /// In the order in which they depend on one another.
    pub stages: Vec<StageStatistics>,
    /// What the build was for.
    pub targets: Vec<TargetStatistics>,
    /// Statistics that had to be made; the others were in the store.
    pub ran: usize,
}

/// What became of a model on the whole.
#[derive(Debug)]
pub struct TargetStatistics {
    /// The stage that makes it.
    pub stage: StageId,
    /// How far each merged tensor is from the model that its base goes back to, and whose doing that is.
    pub moved: BTreeMap<String, Moved>,
    /// The model that each of the others is taken from as it is.
    pub copied: BTreeMap<String, String>,
}

/// What a stage did to its tensors.
#[derive(Debug)]
pub struct StageStatistics {
    /// Which stage.
    pub stage: StageId,
    /// The change of each tensor that is its own work, against the stage's base.
    pub changes: BTreeMap<String, Moved>,
    /// Where its models were at odds; empty for methods that weigh no task vectors.
    pub conflicts: BTreeMap<String, Conflict>,
    /// Its parameters as they were resolved.
    pub parameters: Vec<ParameterValues>,
}

/// How far a tensor moved, and to whom.
#[derive(Clone, Debug)]
pub struct Moved {
    /// What it is compared with.
    pub base: String,
    /// The other models, in the order of the change's shares.
    pub models: Vec<String>,
    /// The numbers.
    pub change: Change,
}

/// A build's plan with the statistics of what it did.
#[derive(Debug)]
pub struct StatisticsPlan {
    plan: Plan,
    catalog: Catalog,
    /// The actions that the build had.
    recorded: BTreeSet<NodeId>,
    stages: Vec<Added>,
    ancestry: Vec<(StageId, BTreeMap<String, NodeId>)>,
}

impl StatisticsPlan {
    /// Adds the statistics to a build's own plan.
    fn new(planned: Planned) -> Self {
        let Planned { mut plan, catalog } = planned;
        let recorded = plan.actions().map(|(node, _)| node).collect();
        let (order, targets) = (plan.order.clone(), plan.targets.clone());
        let stages = (order.into_iter())
            .map(|stage| Added {
                stage,
                changes: add_changes(&mut plan, stage),
                conflicts: add_conflicts(&mut plan, stage),
            })
            .collect();
        let ancestry = targets.iter().map(|target| (*target, add_ancestry(&mut plan, *target))).collect();
        Self { plan, catalog, recorded, stages, ancestry }
    }

    /// How many there are.
    pub fn n_statistics(&self) -> usize {
        self.plan.actions().count() - self.recorded.len()
    }
}

/// The nodes that were added for a stage.
#[derive(Debug)]
struct Added {
    stage: StageId,
    changes: BTreeMap<String, NodeId>,
    conflicts: BTreeMap<String, NodeId>,
}

impl Project {
    /// What it takes to tell what a recorded build did. `planned` is its own recipe for its own targets.
    ///
    /// # Errors
    /// [`ProjectError::NotRepeated`] if its sources have changed since, so that it would be made anew only to be looked
    /// at.
    pub fn plan_statistics(
        &self,
        number: u64,
        recipe: &Recipe,
        planned: Planned,
    ) -> Result<StatisticsPlan, ProjectError> {
        self.check_known(number, recipe, &planned)?;
        Ok(StatisticsPlan::new(planned))
    }

    /// Tells what a recorded build did. Results that the store has lost are made again.
    ///
    /// # Errors
    /// [`ProjectError::NotRepeated`] if its sources have changed since. Else those of a build, which this is but for
    /// the outputs.
    pub fn build_statistics(
        &self,
        (number, record): (u64, &Record),
        recipe: &Recipe,
        planned: StatisticsPlan,
        (events, interrupted): (&dyn Events, &AtomicBool),
    ) -> Result<BuildStatistics, ProjectError> {
        let StatisticsPlan { plan, catalog, recorded, stages: added, ancestry } = planned;
        let parameters = parameter_values(recipe, &catalog.models, &plan.targets);
        let follow = (events, interrupted);
        self.measure((recipe, &plan, &catalog), HashMap::new(), follow, |build| {
            let index = build.store().index();
            let snapshot = index.snapshot()?;
            let actions = recorded.iter().map(|node| (*node, plan.action(*node)));
            check_repeated(number, &Past::new(record.clone(), &snapshot), (recipe, actions), build)?;
            if !build.store().is_read_only() {
                let added = plan.actions().map(|(node, _)| node).filter(|node| !recorded.contains(node));
                let keys: Vec<ActionKey> = added.filter_map(|node| build.resolved(node).key).collect();
                history::attach(index, number, &keys)?;
            }
            let model = |input: &Input| match &plan[input.node] {
                Node::Source(source) => catalog.models[source.model.0].reference.path.clone(),
                Node::Action(_) => input.label.clone(),
            };
            let stages = added.iter().map(|Added { stage, changes, conflicts }| {
                let own = parameters.iter().filter(|values| values.stage == *stage);
                Ok(StageStatistics {
                    stage: *stage,
                    changes: read_changes(build, &plan, changes, &|input| input.label.clone())?,
                    conflicts: read_conflicts(build, conflicts)?,
                    parameters: own.cloned().collect(),
                })
            });
            let stages = stages.collect::<Result<_, ProjectError>>()?;
            let copied = |(tensor, node): (&String, &NodeId)| match &plan[*node] {
                Node::Source(source) => {
                    Some((tensor.clone(), catalog.models[source.model.0].reference.path.clone()))
                }
                Node::Action(_) => None,
            };
            let targets = ancestry.iter().map(|(stage, nodes)| {
                Ok(TargetStatistics {
                    stage: *stage,
                    moved: read_changes(build, &plan, nodes, &model)?,
                    copied: plan.stage(*stage).nodes.iter().filter_map(copied).collect(),
                })
            });
            let targets = targets.collect::<Result<_, ProjectError>>()?;
            Ok(BuildStatistics { stages, targets, ran: build.executed() })
        })
    }

    fn check_known(&self, number: u64, recipe: &Recipe, planned: &Planned) -> Result<(), ProjectError> {
        let status = self.status(recipe, planned)?;
        let is_other = |node: &NodeId| {
            status.verdicts[*node] == Verdict::Run && status.reasons.get(node) != Some(&Reason::Forgotten)
        };
        match planned.plan.actions().find(|(node, _)| is_other(node)) {
            None => Ok(()),
            Some((_, action)) => {
                let stage = recipe.stage(action.owner.stage).name.clone();
                Err(ProjectError::NotRepeated { number, stage, tensor: action.owner.tensor.clone() })
            }
        }
    }
}

fn read_changes(
    build: &Build<'_>,
    plan: &Plan,
    nodes: &BTreeMap<String, NodeId>,
    name: &dyn Fn(&Input) -> String,
) -> Result<BTreeMap<String, Moved>, ProjectError> {
    let read = |(tensor, node): (&String, &NodeId)| {
        let [_, base, models @ ..] = plan[*node].inputs() else {
            unreachable!("statistics read a result and a base")
        };
        let change = Change::read(&table(build, *node)?).expect("a table was checked by its digest");
        let moved = Moved { base: name(base), models: models.iter().map(name).collect(), change };
        Ok((tensor.clone(), moved))
    };
    nodes.iter().map(read).collect()
}

fn read_conflicts(
    build: &Build<'_>,
    nodes: &BTreeMap<String, NodeId>,
) -> Result<BTreeMap<String, Conflict>, ProjectError> {
    let read = |(tensor, node): (&String, &NodeId)| {
        let conflict = Conflict::read(&table(build, *node)?).expect("a table was checked by its digest");
        Ok((tensor.clone(), conflict))
    };
    nodes.iter().map(read).collect()
}
