//! How builds are found again.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::history::Variant;
use crate::plan::Plan;
use crate::recipe::Recipe;

/// Seconds since the epoch.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A recipe as it is set to be built.
pub(super) fn variant(recipe: &Recipe, plan: &Plan) -> Variant {
    Variant {
        recipe: file_id(Path::new(&recipe.name)),
        sets: recipe.sets.clone(),
        seed: recipe.seed,
        targets: plan.targets.iter().map(|target| recipe.stage(*target).name.clone()).collect(),
    }
}

/// What a recipe's builds are found by: its file, wherever the command is run from.
pub(super) fn file_id(recipe: &Path) -> String {
    let path = fs::canonicalize(recipe).unwrap_or_else(|_| recipe.to_owned());
    path.to_string_lossy().into_owned()
}

pub(super) fn stage_names<'a>(recipe: &'a Recipe, plan: &Plan) -> Vec<&'a str> {
    plan.order.iter().map(|stage| recipe.stage(*stage).name.as_str()).collect()
}
