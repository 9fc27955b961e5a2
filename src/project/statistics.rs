//! What a merge did, tensor by tensor: the statistics of an output, from the store where it has them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::catalog::Catalog;
use super::error::ProjectError;
use super::planned::Planned;
use super::pledges::check_results;
use super::settings::Project;
use crate::build::{Build, BuildError, Context, Measured, Storing, with_build};
use crate::digest::Digest;
use crate::event::Events;
use crate::op::statistics::Change;
use crate::output::direct::DirectOutput;
use crate::output::lockfile::reading::Lockfile;
use crate::plan::{Input, ModelId, NodeId, Plan, add_statistics};
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
        let Planned { mut plan, catalog } = planned;
        let target = plan.targets[0];
        let added = add_statistics(&mut plan, target);
        let nodes = &plan.stage(target).nodes;
        let measured = (recipe, &plan, &catalog);
        self.measure(
            measured,
            locked.source_digests(recipe, &catalog.models),
            (events, interrupted),
            |build| {
                check_results(dir, locked, |tensor| {
                    nodes.get(tensor).map(|node| build.resolved(*node).digest)
                })?;
                let read = |(tensor, node): (&String, &_)| {
                    let [_, base, models @ ..] = plan[*node].inputs() else {
                        unreachable!("statistics read a result and a base")
                    };
                    let table = table(build, *node)?;
                    let label = |input: &Input| input.label.clone();
                    Ok::<_, ProjectError>(TensorChange {
                        tensor: tensor.clone(),
                        stage: recipe.stage(plan.action(*node).owner.stage).name.clone(),
                        base: label(base),
                        models: models.iter().map(label).collect(),
                        change: Change::read(&table).expect("a table was checked by its digest"),
                    })
                };
                let tensors: Vec<TensorChange> = added.iter().map(read).collect::<Result<_, _>>()?;
                Ok::<_, ProjectError>(OutputStatistics {
                    copied: nodes.len() - tensors.len(),
                    tensors,
                    ran: build.executed(),
                })
            },
        )
    }

    /// Carries out a plan that statistics were added to, and reads them.
    pub(super) fn measure<T>(
        &self,
        (recipe, plan, catalog): (&Recipe, &Plan, &Catalog),
        locked: HashMap<(ModelId, &str), Option<Digest>>,
        (events, interrupted): (&dyn Events, &AtomicBool),
        read: impl FnOnce(&Build<'_>) -> Result<T, ProjectError>,
    ) -> Result<T, ProjectError> {
        let Catalog { models, checkpoints, .. } = catalog;
        let store = self.open_to_build(events, interrupted)?;
        let (tiers, threads, sink) = (Tiered::new(&store), self.threads()?, DirectOutput::none());
        let context = Context {
            recipe,
            plan,
            models,
            checkpoints,
            store: &store,
            tiers: &tiers,
            storing: &Storing::new(recipe, self.policy, &Default::default()),
            sink: &sink,
            memory: self.memory,
            rehash: false,
            locked,
            threads: &threads,
            measured: &Measured::default(),
            interrupted,
            events,
        };
        let result = with_build(context, |build| {
            build.resolve_all()?;
            read(build)
        });
        let closed = store.close();
        let result = result?;
        closed?;
        Ok(result)
    }
}

/// The bytes of a table of statistics.
pub(super) fn table(build: &Build<'_>, node: NodeId) -> Result<Vec<u8>, ProjectError> {
    Ok(build.bytes(node)?.in_full().map_err(BuildError::from)?.into_owned())
}
