//! What a merge did, tensor by tensor: the statistics of an output, from the store where it has them.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::builder::check_results;
use super::catalog::Catalog;
use super::error::ProjectError;
use super::planned::Planned;
use super::settings::Project;
use crate::build::{BuildError, Context, Measured, with_build};
use crate::event::Events;
use crate::op::statistics::Change;
use crate::output::direct::DirectOutput;
use crate::output::lockfile::reading::Lockfile;
use crate::plan::{Input, add_statistics};
use crate::recipe::Recipe;
use crate::store::tiered::Tiered;

/// How a merge changed one tensor.
#[derive(Clone, Debug)]
pub struct TensorChange {
    /// By its name in the output.
    pub tensor: String,
    /// The stage whose merge gives it.
    pub stage: String,
    /// What it is compared with: the base, or the first model where the method has none.
    pub base: String,
    /// The other models, in the order of the change's shares.
    pub models: Vec<String>,
    /// How far the result is from what it is compared with, and each model's share in that.
    pub change: Change,
}

/// The statistics of an output.
#[derive(Clone, Debug)]
pub struct OutputStatistics {
    /// Tensors that are merged, by name.
    pub tensors: Vec<TensorChange>,
    /// Tensors that are a model's own.
    pub copied: usize,
    /// Statistics that had to be made; the others were in the store.
    pub ran: usize,
}

impl Project {
    /// Tells what the merge behind each tensor of an output did, against the base and by model. `planned` is the
    /// output's own recipe for its one target. Sources and results must be those that its lockfile names.
    ///
    /// # Errors
    /// Those of a build, which this is but for an output.
    pub fn statistics(
        &self,
        recipe: &Recipe,
        planned: Planned,
        (dir, locked): (&Path, &Lockfile),
        (events, interrupted): (&dyn Events, &AtomicBool),
    ) -> Result<OutputStatistics, ProjectError> {
        let Planned { mut plan, catalog: Catalog { models, checkpoints, .. } } = planned;
        let target = plan.targets[0];
        let added = add_statistics(&mut plan, target);
        let store = self.open_to_build(events, interrupted)?;
        let (tiers, threads, sink) = (Tiered::new(&store), self.threads()?, DirectOutput::none());
        let context = Context {
            recipe,
            plan: &plan,
            models: &models,
            checkpoints: &checkpoints,
            store: &store,
            tiers: &tiers,
            sink: &sink,
            memory: self.memory,
            rehash: false,
            locked: locked.source_digests(),
            threads: &threads,
            measured: &Measured::default(),
            interrupted,
            events,
        };
        let nodes = &plan.stage(target).nodes;
        let statistics = with_build(context, |build| {
            build.resolve_all()?;
            check_results(dir, locked, |tensor| nodes.get(tensor).map(|node| build.resolved(*node).digest))?;
            let read = |(tensor, node): (&String, &_)| {
                let [_, base, models @ ..] = plan[*node].inputs() else {
                    unreachable!("statistics read a result and a base")
                };
                let bytes = build.bytes(*node)?.in_full().map_err(BuildError::from)?.into_owned();
                let label = |input: &Input| input.label.clone();
                Ok::<_, ProjectError>(TensorChange {
                    tensor: tensor.clone(),
                    stage: recipe.stage(plan.action(*node).owner.stage).name.clone(),
                    base: label(base),
                    models: models.iter().map(label).collect(),
                    change: Change::read(&bytes).expect("a table was checked by its digest"),
                })
            };
            let tensors: Vec<TensorChange> = added.iter().map(read).collect::<Result<_, _>>()?;
            Ok::<_, ProjectError>(OutputStatistics {
                copied: nodes.len() - tensors.len(),
                tensors,
                ran: build.executed(),
            })
        });
        let closed = store.close();
        let statistics = statistics?;
        closed?;
        Ok(statistics)
    }
}
