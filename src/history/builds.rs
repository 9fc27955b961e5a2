//! Adding builds, and finding them: by number, newest first, or as the last of a recipe or a variant of it.
//!
//! None of it reads more records than it gives, however many there are, but for listing those of one recipe.

use super::past::Past;
use super::record::{Draft, Record, Variant};
use super::recorder::Recorder;
use super::sheet::block;
use crate::store::StoreError;
use crate::store::commit::NewBuild;
use crate::store::index::Index;
use crate::store::snapshot::Snapshot;

/// How the names begin by which the last build of something is found.
const VARIANT: u8 = b'v';
const RECIPE: u8 = b'r';
const STAGE: u8 = b's';

fn name(kind: u8, of: &[u8]) -> Vec<u8> {
    [&[kind], of].concat()
}

/// The name under which it is noted when a variant was last used.
pub fn name_of_variant(variant: &Variant) -> Vec<u8> {
    name(VARIANT, &variant.id().0)
}

/// The names by which a build is found while it is the last one that has them.
pub fn names(record: &Record) -> Vec<Vec<u8>> {
    let stages = record.stages.iter().map(|stage| name(STAGE, stage.name.as_bytes()));
    let recipe = name(RECIPE, record.variant.recipe.as_bytes());
    [name_of_variant(&record.variant), recipe].into_iter().chain(stages).collect()
}

/// The same of a record's variant.
pub fn used_name(record: &Record) -> Vec<u8> {
    name_of_variant(&record.variant)
}

/// A build's record, unless it cannot be read.
pub fn find(snapshot: &Snapshot<'_>, number: u64) -> Result<Option<Record>, StoreError> {
    Ok(snapshot.build(number)?.and_then(|row| Record::decode(&row)))
}

/// The newest builds with their numbers, newest first, at most so many. Records that cannot be read are left
/// out.
pub fn newest(snapshot: &Snapshot<'_>, limit: usize) -> Result<Vec<(u64, Record)>, StoreError> {
    let rows = snapshot.builds(limit)?;
    Ok(rows.into_iter().filter_map(|(number, row)| Some((number, Record::decode(&row)?))).collect())
}

/// The newest builds of a recipe with their numbers, newest first, at most so many.
pub fn newest_of_recipe(
    snapshot: &Snapshot<'_>,
    recipe: &str,
    limit: usize,
) -> Result<Vec<(u64, Record)>, StoreError> {
    // Links to the build before may lead to one that was forgotten, with others behind it that were not.
    let builds = newest(snapshot, usize::MAX)?.into_iter();
    Ok(builds.filter(|(_, record)| record.variant.recipe == recipe).take(limit).collect())
}

/// The build to compare with: the last of this variant, or else of its recipe, or else the last that had one of
/// the stages.
pub fn last_of<'a>(
    snapshot: &'a Snapshot<'a>,
    variant: &Variant,
    stages: &[&str],
) -> Result<Option<Past<'a>>, StoreError> {
    for name in [name_of_variant(variant), name(RECIPE, variant.recipe.as_bytes())] {
        if let Some(number) = snapshot.latest(&name)?
            && let Some(record) = find(snapshot, number)?
        {
            return Ok(Some(Past::new(record, snapshot)));
        }
    }
    let mut last = None;
    for stage in stages {
        last = last.max(snapshot.latest(&name(STAGE, stage.as_bytes()))?);
    }
    let record = last.map(|number| find(snapshot, number)).transpose()?.flatten();
    Ok(record.map(|record| Past::new(record, snapshot)))
}

/// Adds a build and returns its number.
pub fn add(index: &Index, draft: Draft, actions: Recorder) -> Result<u64, StoreError> {
    let Draft { time, variant, recipe_text, seconds, outputs, ran, reasons, account } = draft;
    let previous = index.snapshot()?.latest(&name(RECIPE, variant.recipe.as_bytes()))?;
    let (stages, mut blocks) = actions.finish();
    let (text, bytes) = block(recipe_text.into_bytes());
    blocks.push((text, bytes));
    let record = Record { time, variant, previous, text, seconds, outputs, ran, reasons, account, stages };
    let (names, used) = (names(&record), used_name(&record));
    index.add_build(&NewBuild { record: record.encode(), blocks, names, used, time })
}

/// A note of use is not renewed before it is this many seconds old.
const USE_STEP: u64 = 3600;

/// Notes that a variant's last build was used again, as by a build that found nothing to do.
pub fn note_use(index: &Index, variant: &Variant, now: u64) -> Result<(), StoreError> {
    let name = name_of_variant(variant);
    if is_noted(&index.snapshot()?, &name, now)? {
        return Ok(());
    }
    index.set_used(&name, now)
}

/// Whether a use of what has the name is noted that is young enough to stand for one now.
pub fn is_noted(snapshot: &Snapshot<'_>, name: &[u8], now: u64) -> Result<bool, StoreError> {
    let last = snapshot.used(name)?;
    Ok(last.is_some_and(|last| last <= now && now - last < USE_STEP))
}
