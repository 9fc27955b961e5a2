//! Holds a build to what it must repeat: an earlier build, or the lockfiles in the places of its outputs.

use std::path::{Path, PathBuf};

use super::error::ProjectError;
use crate::build::Build;
use crate::digest::Digest;
use crate::history::Past;
use crate::output::OutputError;
use crate::output::lockfile::reading::{Lockfile, differences};
use crate::output::lockfile::writing as lockfile;
use crate::plan::{Action, NodeId, Plan};
use crate::recipe::Recipe;

/// The lockfiles in the places of all targets, none of which was made with other stages or parameters.
pub(super) fn locks(recipe: &Recipe, plan: &Plan, dirs: &[PathBuf]) -> Result<Vec<Lockfile>, OutputError> {
    let locks: Vec<Lockfile> = dirs.iter().map(|dir| Lockfile::read(dir)).collect::<Result<_, _>>()?;
    for ((target, dir), locked) in plan.targets.iter().zip(dirs).zip(&locks) {
        let found = differences(&locked.stages, &lockfile::stages(recipe, plan, *target));
        let as_written = || lockfile::stages_as_written(recipe, plan, *target);
        if !found.is_empty() && !differences(&locked.stages, &as_written()).is_empty() {
            return Err(OutputError::NotLocked { path: dir.clone(), differences: found });
        }
    }
    Ok(locks)
}

/// Holds a build to an earlier one, whose actions it must have under the same keys.
pub(super) fn check_repeated<'p>(
    number: u64,
    past: &Past<'_>,
    (recipe, actions): (&Recipe, impl Iterator<Item = (NodeId, &'p Action)>),
    build: &Build<'_>,
) -> Result<(), ProjectError> {
    for (node, action) in actions {
        let stage = &recipe.stage(action.owner.stage).name;
        if past.key_of(stage, &action.owner.tensor)? != build.resolved(node).key {
            let (stage, tensor) = (stage.clone(), action.owner.tensor.clone());
            return Err(ProjectError::NotRepeated { number, stage, tensor });
        }
    }
    Ok(())
}

/// Holds an output's tensors to its lockfile.
pub(super) fn check_results(
    dir: &Path,
    locked: &Lockfile,
    digest: impl Fn(&str) -> Option<Digest>,
) -> Result<(), OutputError> {
    let differences: Vec<String> = (locked.tensors.iter())
        .filter_map(|(name, tensor)| {
            let now = digest(name).map_or_else(|| "nothing".to_owned(), |digest| digest.to_string());
            (now != tensor.blake3).then(|| format!("tensor {name}: {} -> {now}", tensor.blake3))
        })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(OutputError::NotLocked { path: dir.to_owned(), differences })
}
