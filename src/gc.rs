//! Making room in a store: what it holds for whom, and what of it can go.
//!
//! The unit of use is a build: a result was last used when the newest build that has it was. Limits remove
//! bytes alone, and keys stay, so that whatever was made of a removed result is still up to date. Collecting
//! removes records of builds, too, and then what only they have: keys, notes of what files held, blocks.
//!
//! These records stay: those that are tagged; of the newest builds, as many as are asked for; the newest of every variant of a recipe
//! whose file is still there, or that was used in the last 30 days; where limits are given, those of which
//! the limits remove nothing; and those whose actions were the same as of one that stays, which cost next to
//! nothing. Of a record that stays everything stays that spares its next build work.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use crate::digest::{ActionKey, Digest};
use crate::history::{self, Past, Record};
use crate::store::listing::BlobEntry;
use crate::store::packs::PackSizes;
use crate::store::rewrite::Needed;
use crate::store::snapshot::Snapshot;
use crate::store::{Store, StoreError};

/// The last build of a recipe whose file is gone is remembered for this long after its last use, in seconds.
const REMEMBERED: u64 = 30 * 86_400;

/// How much a store may hold. Without any limit nothing is removed but what no build has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub max_bytes: Option<u64>,
    /// Seconds since the last use.
    pub max_age: Option<u64>,
    /// The newest builds whose results stay whatever the other limits say.
    pub keep_builds: usize,
}

impl Limits {
    /// What stays is the same for everyone who asks what is stale.
    pub const UNLIMITED: Self = Self { max_bytes: None, max_age: None, keep_builds: 1 };
}

/// What removing came to, or would come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub removed: usize,
    pub removed_bytes: u64,
    pub kept: usize,
    pub kept_bytes: u64,
    /// Records of builds that go, and that stay.
    pub removed_builds: usize,
    pub kept_builds: usize,
    /// By how much the index has become smaller.
    pub index_bytes: u64,
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
    /// By stage, over the builds that stay if no limit is given.
    pub stages: BTreeMap<String, StageUsage>,
    /// Results that those builds do not have, which is what collecting without a limit removes.
    pub old: usize,
    pub old_bytes: u64,
}

/// The time of a result's last use, the rank of the newest build that has it (0 is the newest), whether a tagged
/// one has it, and whether it is a mask.
#[derive(Clone, Copy)]
struct Use {
    time: u64,
    rank: usize,
    is_tagged: bool,
    /// Whether it is never needed, for whatever uses it.
    is_mask: bool,
}

impl Use {
    /// Whether it stays whatever limits there are.
    fn stays(&self, limits: &Limits) -> bool {
        self.is_tagged || self.rank < limits.keep_builds
    }
}

/// A build, when it was last used, and whether it is the newest of its variant.
struct Build {
    number: u64,
    record: Record,
    time: u64,
    is_newest: bool,
    is_tagged: bool,
    /// Statistics of what it did, as a block of keys.
    attached: Option<Digest>,
}

/// What `usage` calls results that are attached to builds.
const STATISTICS: &str = "statistics";

/// What it calls masks of all stages.
const MASKS: &str = "masks";

impl Build {
    /// The blocks of keys of everything that is its own, by stage.
    fn keys_blocks(&self) -> impl Iterator<Item = (&str, &Digest)> {
        self.record.keys_blocks().chain(self.attached.iter().map(|block| (STATISTICS, block)))
    }

    /// Whether the record stays whatever limits there are.
    fn stays(&self, rank: usize, limits: &Limits, now: u64) -> bool {
        let is_wanted =
            || Path::new(&self.record.variant.recipe).exists() || self.time.saturating_add(REMEMBERED) >= now;
        self.is_tagged || rank < limits.keep_builds || self.is_newest && is_wanted()
    }
}

/// A result that is known.
#[derive(Clone, Copy)]
struct Made {
    key: ActionKey,
    digest: Digest,
    /// Whether it was made beside another, and is never needed.
    is_mask: bool,
}

/// The results that are known, by the block of keys that records share.
struct Results<'a> {
    snapshot: &'a Snapshot<'a>,
    blocks: HashMap<Digest, Vec<Made>>,
}

impl Results<'_> {
    fn of(&mut self, block: &Digest) -> Result<&[Made], StoreError> {
        if !self.blocks.contains_key(block) {
            let mut made = Vec::new();
            for key in history::read_keys(self.snapshot, block)?.unwrap_or_default() {
                let Some((digest, _)) = self.snapshot.action(&key)? else { continue };
                made.push(Made { key, digest, is_mask: false });
                for key in self.snapshot.beside(&key)? {
                    let mask = self.snapshot.action(&key)?;
                    made.extend(mask.map(|(digest, _)| Made { key, digest, is_mask: true }));
                }
            }
            self.blocks.insert(*block, made);
        }
        Ok(&self.blocks[block])
    }
}

/// Which blobs stay and which go.
struct Choice<'a> {
    stay: Vec<&'a BlobEntry>,
    go: Vec<&'a BlobEntry>,
}

/// Removes results that the limits leave no room for, least recently used first. Records stay.
///
/// A crash in the middle leaves a store that holds more than it should, and nothing worse.
pub fn trim(store: &Store, limits: &Limits, now: u64) -> Result<Removed, StoreError> {
    let blobs = store.blobs()?;
    let snapshot = store.index().snapshot()?;
    let builds = builds(&snapshot)?;
    let mut results = Results { snapshot: &snapshot, blocks: HashMap::new() };
    let uses = uses(&mut results, builds.iter().enumerate())?;
    let choice = choose(&blobs, store.pack_sizes()?, &uses, limits, now);
    store.remove(&choice.go)?;
    Ok(Removed { kept_builds: builds.len(), ..choice.sum() })
}

/// Removes what the limits leave no room for, least recently used first, and what is not needed of the index;
/// `dry_run` only counts. The store must have been opened to be alone.
///
/// A crash in the middle leaves a store that holds more than it should, and nothing worse.
pub fn collect(store: Store, limits: &Limits, now: u64, dry_run: bool) -> Result<Removed, StoreError> {
    let blobs = store.blobs()?;
    let snapshot = store.index().snapshot()?;
    let builds = builds(&snapshot)?;
    let is_limited = limits.max_age.is_some() || limits.max_bytes.is_some();
    let always = |(rank, build): &(usize, &Build)| build.stays(*rank, limits, now);
    let using = builds.iter().enumerate().filter(|build| is_limited || always(build));
    let mut results = Results { snapshot: &snapshot, blocks: HashMap::new() };
    let uses = uses(&mut results, using)?;
    let choice = choose(&blobs, store.pack_sizes()?, &uses, limits, now);
    let going: HashSet<Digest> = choice.go.iter().map(|blob| blob.digest).collect();
    let mut needed = Needed::default();
    if is_limited {
        // Within a limit results stay that no record has, and are of use with their keys alone.
        needed.blobs = choice.stay.iter().map(|blob| blob.digest).collect();
    }
    let mut stays = Vec::new();
    for (rank, build) in builds.iter().enumerate() {
        let is_young = limits.max_age.is_none_or(|age| build.time.saturating_add(age) >= now);
        let mut is_whole = || -> Result<bool, StoreError> {
            for (_, block) in build.keys_blocks() {
                if results.of(block)?.iter().any(|made| !made.is_mask && going.contains(&made.digest)) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        stays.push(always(&(rank, build)) || is_limited && is_young && is_whole()?);
    }
    let staying = || builds.iter().zip(&stays).filter(|(_, stays)| **stays).map(|(build, _)| build);
    let keys: HashSet<Digest> =
        staying().flat_map(|build| build.keys_blocks().map(|(_, block)| *block)).collect();
    for build in builds.iter().filter(|build| build.keys_blocks().all(|(_, block)| keys.contains(block))) {
        need(&mut needed, build, &mut results)?;
    }
    let removed = Removed {
        removed_builds: builds.len() - needed.builds.len(),
        kept_builds: needed.builds.len(),
        ..choice.sum()
    };
    if dry_run {
        return Ok(removed);
    }
    store.remove(&choice.go)?;
    drop((builds, snapshot));
    Ok(Removed { index_bytes: store.rewrite_index(&needed)?, ..removed })
}

/// Notes that everything of a build is needed. Builds come newest first.
fn need(needed: &mut Needed, build: &Build, results: &mut Results<'_>) -> Result<(), StoreError> {
    let Build { number, record, is_newest, attached, .. } = build;
    for (_, block) in build.keys_blocks() {
        for Made { key, digest, .. } in results.of(block)? {
            needed.keys.insert(*key);
            needed.digests.insert(*digest);
        }
    }
    let past = Past::new(record.clone(), results.snapshot);
    needed.builds.insert(*number);
    needed.blocks.extend(past.blocks()?);
    needed.blocks.extend(*attached);
    needed.digests.extend(past.sources()?);
    for name in history::names(record) {
        needed.latest.entry(name).or_insert(*number);
    }
    if *is_newest {
        needed.used.insert(history::used_name(record));
    }
    Ok(())
}

/// Tells what each stage takes, over the builds whose results stay if no limit is given.
pub fn usage(store: &Store, now: u64) -> Result<StoreUsage, StoreError> {
    let snapshot = store.index().snapshot()?;
    let sizes: HashMap<Digest, u64> =
        store.blobs()?.into_iter().map(|blob| (blob.digest, blob.n_bytes)).collect();
    let mut stages: BTreeMap<String, HashSet<Digest>> = BTreeMap::new();
    let mut results = Results { snapshot: &snapshot, blocks: HashMap::new() };
    for (rank, build) in builds(&snapshot)?.iter().enumerate() {
        if !build.stays(rank, &Limits::UNLIMITED, now) {
            continue;
        }
        for (stage, block) in build.keys_blocks() {
            for Made { digest, is_mask, .. } in results.of(block)? {
                if sizes.contains_key(digest) {
                    let name = if *is_mask { MASKS } else { stage };
                    stages.entry(name.to_owned()).or_default().insert(*digest);
                }
            }
        }
    }
    stages.retain(|_, digests| !digests.is_empty());
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

/// Every build, newest first.
fn builds(snapshot: &Snapshot<'_>) -> Result<Vec<Build>, StoreError> {
    let tagged: BTreeSet<u64> = history::tags(snapshot)?.into_iter().map(|tag| tag.build).collect();
    let mut variants: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut builds = Vec::new();
    for (number, record) in history::newest(snapshot, usize::MAX)? {
        // A build that found nothing to do leaves no record, but it used what the variant's last one has.
        let name = history::used_name(&record);
        let is_newest = !variants.contains(&name);
        let again = if is_newest { snapshot.used(&name)? } else { None };
        variants.insert(name);
        let time = record.time.max(again.unwrap_or(0));
        let is_tagged = tagged.contains(&number);
        let attached = snapshot.attached(number)?;
        builds.push(Build { number, record, time, is_newest, is_tagged, attached });
    }
    Ok(builds)
}

/// The last use of everything that builds have made.
fn uses<'b>(
    results: &mut Results<'_>,
    builds: impl Iterator<Item = (usize, &'b Build)>,
) -> Result<HashMap<Digest, Use>, StoreError> {
    let last = |uses: &mut HashMap<Digest, Use>, of: &Digest, more: Use| {
        let used = uses.entry(*of).or_insert(more);
        *used = Use {
            time: used.time.max(more.time),
            rank: used.rank.min(more.rank),
            is_tagged: used.is_tagged || more.is_tagged,
            is_mask: used.is_mask && more.is_mask,
        };
    };
    let mut blocks: HashMap<Digest, Use> = HashMap::new();
    for (rank, build) in builds {
        for (_, block) in build.keys_blocks() {
            let is_tagged = build.is_tagged;
            last(&mut blocks, block, Use { time: build.time, rank, is_tagged, is_mask: false });
        }
    }
    let mut uses: HashMap<Digest, Use> = HashMap::new();
    for (block, used) in blocks {
        for Made { digest, is_mask, .. } in results.of(&block)? {
            last(&mut uses, digest, Use { is_mask: *is_mask, ..used });
        }
    }
    Ok(uses)
}

fn choose<'a>(
    blobs: &'a [BlobEntry],
    mut packs: PackSizes,
    uses: &HashMap<Digest, Use>,
    limits: &Limits,
    now: u64,
) -> Choice<'a> {
    let last_use = |blob: &BlobEntry| uses.get(&blob.digest).map_or(blob.modified, |used| used.time);
    // Builds of one second are told apart by their order.
    let rank = |blob: &BlobEntry| uses.get(&blob.digest).map_or(usize::MAX, |used| used.rank);
    // Where room is short, what is never needed goes before all else.
    let is_mask = |blob: &BlobEntry| uses.get(&blob.digest).is_some_and(|used| used.is_mask);
    let mut blobs: Vec<&BlobEntry> = blobs.iter().collect();
    blobs.sort_by_key(|blob| (!is_mask(blob), last_use(blob), Reverse(rank(blob)), blob.digest));
    // What is dead in a pack counts, until the pack goes.
    let own = blobs.iter().filter(|blob| blob.packed.is_none());
    let mut left: u64 = packs.swept() + own.map(|blob| blob.n_bytes).sum::<u64>();
    let (mut stay, mut go) = (Vec::new(), Vec::new());
    for blob in blobs {
        let is_kept = uses.get(&blob.digest).is_some_and(|used| used.stays(limits));
        let is_old = limits.max_age.is_some_and(|age| last_use(blob).saturating_add(age) < now);
        let is_too_much = limits.max_bytes.is_some_and(|most| left > most);
        let is_kept = is_kept && !(is_mask(blob) && is_too_much);
        let is_unlimited = limits.max_age.is_none() && limits.max_bytes.is_none();
        let is_unused = is_unlimited && !uses.contains_key(&blob.digest);
        if !is_kept && (is_old || is_too_much || is_unused) {
            left -= blob.packed.as_ref().map_or(blob.n_bytes, |range| packs.give_up(range));
            go.push(blob);
        } else {
            stay.push(blob);
        }
    }
    Choice { stay, go }
}

impl Choice<'_> {
    fn sum(&self) -> Removed {
        let bytes = |blobs: &[&BlobEntry]| blobs.iter().map(|blob| blob.n_bytes).sum();
        Removed {
            removed: self.go.len(),
            removed_bytes: bytes(&self.go),
            kept: self.stay.len(),
            kept_bytes: bytes(&self.stay),
            ..Removed::default()
        }
    }
}
