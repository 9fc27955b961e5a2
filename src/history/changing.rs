//! Which stages of a recipe keep changing.

use std::collections::HashSet;

use super::builds::newest_of_recipe;
use super::past::read_keys;
use super::record::Record;
use crate::digest::{ActionKey, Digest};
use crate::store::StoreError;
use crate::store::snapshot::Snapshot;

/// So many builds of a recipe that have a stage tell whether it keeps changing.
const BUILDS: usize = 3;

/// Those of some stages of which each of the recipe's last two builds made most results anew: of the keys of its actions, fewer
/// than half were those of the build before. A stage that fewer than three builds have is not known to change.
pub fn changing(
    snapshot: &Snapshot<'_>,
    recipe: &str,
    stages: &[&str],
) -> Result<HashSet<String>, StoreError> {
    let builds: Vec<Record> =
        newest_of_recipe(snapshot, recipe, usize::MAX)?.into_iter().map(|(_, record)| record).collect();
    let mut changing = HashSet::new();
    for stage in stages {
        let blocks = builds.iter().filter_map(|build| {
            let mut blocks = build.keys_blocks();
            blocks.find(|(name, _)| name == stage).map(|(_, block)| block)
        });
        let blocks: Vec<&Digest> = blocks.take(BUILDS).collect();
        let mut changes = blocks.len() == BUILDS;
        for pair in blocks.windows(2) {
            changes = changes && is_mostly_new(snapshot, pair[0], pair[1])?;
        }
        if changes {
            changing.insert((*stage).to_owned());
        }
    }
    Ok(changing)
}

/// Whether fewer than half of the keys in a block are in another.
fn is_mostly_new(snapshot: &Snapshot<'_>, new: &Digest, old: &Digest) -> Result<bool, StoreError> {
    if new == old {
        return Ok(false);
    }
    let keys = |block| Ok::<_, StoreError>(read_keys(snapshot, block)?.unwrap_or_default());
    let old: HashSet<ActionKey> = keys(old)?.into_iter().collect();
    let new = keys(new)?;
    let same = new.iter().filter(|key| old.contains(key)).count();
    Ok(same * 2 < new.len())
}
