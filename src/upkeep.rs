//! Looking after a store: what it holds for whom, and what of it can go.
//!
//! The unit of use is a build: a result was last used when the newest build that has it was. What is
//! removed is only bytes; keys stay, so that whatever was made of a removed result is still up to date.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::digest::Digest;
use crate::history::{self, Record};
use crate::store::index::Snapshot;
use crate::store::listing::BlobEntry;
use crate::store::{Store, StoreError};

/// How much a store may hold. Without any limit nothing is removed but what no build has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub max_bytes: Option<u64>,
    /// Seconds since the last use.
    pub max_age: Option<u64>,
    /// The newest builds whose results stay whatever the other limits say.
    pub keep_builds: usize,
}

/// What removing came to, or would come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub removed: usize,
    pub removed_bytes: u64,
    pub kept: usize,
    pub kept_bytes: u64,
}

/// What a stage's results of the newest builds take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageUsage {
    pub results: usize,
    pub bytes: u64,
    /// Of these, what other stages have too.
    pub shared_bytes: u64,
}

/// Who uses what of a store.
#[derive(Debug, Default)]
pub struct StoreUsage {
    /// By stage, over the newest build of every recipe.
    pub stages: BTreeMap<String, StageUsage>,
    /// Results that those builds do not have.
    pub old: usize,
    pub old_bytes: u64,
}

/// The time of a result's last use, and the rank of the newest build that has it (0 is the newest).
#[derive(Clone, Copy)]
struct Use {
    time: u64,
    rank: usize,
}

/// Removes what the limits leave no room for, least recently used first; `dry_run` only counts.
///
/// A crash in the middle leaves a store that holds more than it should, and nothing worse.
pub fn sweep(store: &Store, limits: &Limits, now: u64, dry_run: bool) -> Result<Swept, StoreError> {
    let uses = uses(&store.index().snapshot()?)?;
    let last_use = |blob: &BlobEntry| uses.get(&blob.digest).map_or(blob.modified, |used| used.time);
    let mut blobs = store.blobs()?;
    blobs.sort_by_key(|blob| (last_use(blob), blob.digest));
    let mut left: u64 = blobs.iter().map(|blob| blob.n_bytes).sum();
    let mut swept = Swept::default();
    for blob in &blobs {
        let is_kept = uses.get(&blob.digest).is_some_and(|used| used.rank < limits.keep_builds);
        let is_old = limits.max_age.is_some_and(|age| last_use(blob).saturating_add(age) < now);
        let is_too_much = limits.max_bytes.is_some_and(|most| left > most);
        let is_unlimited = limits.max_age.is_none() && limits.max_bytes.is_none();
        let is_unused = is_unlimited && !uses.contains_key(&blob.digest);
        if !is_kept && (is_old || is_too_much || is_unused) {
            left -= if dry_run { blob.n_bytes } else { store.remove(blob)? };
            swept.removed += 1;
            swept.removed_bytes += blob.n_bytes;
        } else {
            swept.kept += 1;
            swept.kept_bytes += blob.n_bytes;
        }
    }
    Ok(swept)
}

/// Tells what each stage takes.
pub fn usage(store: &Store) -> Result<StoreUsage, StoreError> {
    let snapshot = store.index().snapshot()?;
    let sizes: HashMap<Digest, u64> =
        store.blobs()?.into_iter().map(|blob| (blob.digest, blob.n_bytes)).collect();
    let mut recipes: HashSet<String> = HashSet::new();
    let mut stages: BTreeMap<String, HashSet<Digest>> = BTreeMap::new();
    for (_, record) in history::builds(&snapshot)? {
        if recipes.insert(record.recipe.clone()) {
            for (stage, digest) in digests(&snapshot, &record)? {
                if sizes.contains_key(&digest) {
                    stages.entry(stage.to_owned()).or_default().insert(digest);
                }
            }
        }
    }
    let mut owners: HashMap<Digest, usize> = HashMap::new();
    for digest in stages.values().flatten() {
        *owners.entry(*digest).or_default() += 1;
    }
    let mut usage = StoreUsage::default();
    for (stage, digests) in stages {
        let of = usage.stages.entry(stage).or_default();
        for digest in digests {
            of.results += 1;
            of.bytes += sizes[&digest];
            of.shared_bytes += if owners[&digest] > 1 { sizes[&digest] } else { 0 };
        }
    }
    for (_, n_bytes) in sizes.iter().filter(|(digest, _)| !owners.contains_key(*digest)) {
        usage.old += 1;
        usage.old_bytes += n_bytes;
    }
    Ok(usage)
}

fn uses(snapshot: &Snapshot<'_>) -> Result<HashMap<Digest, Use>, StoreError> {
    let mut uses: HashMap<Digest, Use> = HashMap::new();
    let mut recipes: HashSet<String> = HashSet::new();
    for (rank, (_, record)) in history::builds(snapshot)?.iter().enumerate() {
        // A build that found nothing to do leaves no record, but it used what the recipe's last one has.
        let is_newest = recipes.insert(record.recipe.clone());
        let again = if is_newest { snapshot.used(&record.recipe)? } else { None };
        let time = record.time.max(again.unwrap_or(0));
        for (_, digest) in digests(snapshot, record)? {
            let used = uses.entry(digest).or_insert(Use { time, rank });
            used.time = used.time.max(time);
        }
    }
    Ok(uses)
}

/// The results that a build has, with their stages.
fn digests<'r>(snapshot: &Snapshot<'_>, record: &'r Record) -> Result<Vec<(&'r str, Digest)>, StoreError> {
    let mut digests = Vec::new();
    for (stage, tensors) in &record.actions {
        for tensor in tensors.keys() {
            if let Some(key) = record.key_of(stage, tensor)
                && let Some((digest, _)) = snapshot.action(&key)?
            {
                digests.push((stage.as_str(), digest));
            }
        }
    }
    Ok(digests)
}
