//! Records of builds, kept in the store's index: what was built from what, and how it went.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::ActionKey;
use crate::store::StoreError;
use crate::store::index::{Index, Snapshot};

/// One build. Fields are only ever added.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since the epoch.
    pub time: u64,
    /// The recipe's file, as an absolute path.
    pub recipe: String,
    pub recipe_text: String,
    pub sets: Vec<(String, String)>,
    /// The seed of the command line.
    pub seed: Option<u64>,
    pub seconds: f64,
    pub outputs: Vec<OutputRecord>,
    /// Actions executed, over all stages.
    pub ran: usize,
    /// Why, in short; empty for a first build.
    pub reasons: Vec<String>,
    /// Stage, then tensor, then the key of the action that made it.
    pub actions: BTreeMap<String, BTreeMap<String, String>>,
}

/// One directory that was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutputRecord {
    pub stage: String,
    pub dir: String,
    pub tensors: usize,
    pub reused: usize,
    pub cut_off: usize,
    pub rebuilt: usize,
}

impl Record {
    /// The key of the action that made a tensor in this build.
    pub fn key_of(&self, stage: &str, tensor: &str) -> Option<ActionKey> {
        ActionKey::from_hex(self.actions.get(stage)?.get(tensor)?)
    }
}

/// Every build with its number, newest first. Records that cannot be read are left out.
pub fn builds(snapshot: &Snapshot<'_>) -> Result<Vec<(u64, Record)>, StoreError> {
    let rows = snapshot.builds()?;
    Ok(rows
        .into_iter()
        .filter_map(|(number, bytes)| Some((number, serde_json::from_slice(&bytes).ok()?)))
        .collect())
}

/// The build to compare with: the recipe's last one, or else the last that had one of its stages.
pub fn last_of(snapshot: &Snapshot<'_>, recipe: &str, stages: &[&str]) -> Result<Option<Record>, StoreError> {
    let builds = builds(snapshot)?;
    let own = builds.iter().position(|(_, record)| record.recipe == recipe);
    let shares = |record: &Record| stages.iter().any(|stage| record.actions.contains_key(*stage));
    let at = own.or_else(|| builds.iter().position(|(_, record)| shares(record)));
    Ok(at.and_then(|at| builds.into_iter().nth(at)).map(|(_, record)| record))
}

/// Adds a record and returns its number.
pub fn add(index: &Index, record: &Record) -> Result<u64, StoreError> {
    index.add_build(&serde_json::to_vec(record).expect("a record serialises"), &record.recipe, record.time)
}

/// A note of use is not renewed before it is this many seconds old.
const USE_STEP: u64 = 3600;

/// Notes that a recipe's last build was used again, as by a build that found nothing to do.
pub fn note_use(index: &Index, recipe: &str, now: u64) -> Result<(), StoreError> {
    let last = index.snapshot()?.used(recipe)?;
    if last.is_some_and(|last| last <= now && now - last < USE_STEP) {
        return Ok(());
    }
    index.set_used(recipe, now)
}
