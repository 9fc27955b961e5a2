//! What a build must write, and whether there is room for it.
//!
//! Only what cannot be avoided counts: results of actions that run for sure, and shards that hold some. What may turn out
//! to be there already, or not to be needed, does not, so that no build is refused that would fit.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::ProjectError;
use super::planned::Planned;
use super::settings::Project;
use super::stored::for_store;
use crate::build::Storing;
use crate::build::status::{Verdict, Verdicts};
use crate::disk::Space;
use crate::kernels::mask;
use crate::op::{Access, Streaming};
use crate::output::format::layout::OutputLayout;
use crate::output::workbench;
use crate::plan::{Action, NodeId, Plan};
use crate::recipe::Recipe;
use crate::store::Store;

/// What a build must write into a folder, and the room for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The cache, or an output's folder.
    pub folder: PathBuf,
    /// Bytes that the build must write there.
    pub needed: u64,
    /// Bytes that can be written to its file system, what builds that were killed left there included.
    pub free: u64,
    /// The same for folders of one file system.
    pub device: u64,
}

/// Who tells how much room there is for a folder.
pub(super) type Ask = fn(&Path) -> io::Result<Space>;

/// What is asked about: a plan, and the folder and layout of every target.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub storing: &'a Storing,
    /// Whether masks count, which a build can do without.
    pub with_masks: bool,
    pub plan: &'a Plan,
    pub outputs: &'a [(PathBuf, OutputLayout)],
}

/// What must be written, and where: the cache first, then the outputs. Folders whose room cannot be told, or in
/// which nothing can be written, are left out.
pub(super) fn rooms(cache: &Path, wanted: Wanted<'_>, runs: &dyn Fn(NodeId) -> bool, ask: Ask) -> Vec<Room> {
    let mut folders = vec![(cache.to_owned(), to_store(wanted, runs), Store::temporary(cache))];
    for (target, (dir, layout)) in wanted.plan.targets.iter().zip(wanted.outputs) {
        let nodes = &wanted.plan.stage(*target).nodes;
        let is_there = |file: &str, n_bytes: u64| {
            fs::metadata(dir.join(file)).is_ok_and(|metadata| metadata.is_file() && metadata.len() == n_bytes)
        };
        let must = layout.shards.iter().filter(|shard| {
            !is_there(&shard.file, shard.n_bytes)
                || shard.tensors.iter().any(|tensor| runs(nodes[&tensor.name]))
        });
        folders.push((dir.clone(), must.map(|shard| shard.n_bytes).sum(), workbench::folders_of(dir)));
    }
    let room = |(folder, needed, left): (PathBuf, u64, Vec<PathBuf>)| {
        let Space { device, free, read_only } = ask(&folder).ok()?;
        let left: u64 = left.iter().map(|folder| allocated(folder)).sum();
        (!read_only).then_some(Room { folder, needed, free: free.saturating_add(left), device })
    };
    folders.into_iter().filter_map(room).collect()
}

/// Bytes of results that the store must take.
fn to_store(Wanted { storing, with_masks, plan, .. }: Wanted<'_>, runs: &dyn Fn(NodeId) -> bool) -> u64 {
    let n_bytes = |node: NodeId| plan[node].spec().n_bytes() as u64;
    let is_stored =
        |node: &NodeId| runs(*node) && storing.holds(plan.action(*node).owner.stage, n_bytes(*node), false);
    let results: u64 = for_store(plan).filter(is_stored).map(n_bytes).sum();
    results + if with_masks { plan.actions().map(|(_, action)| masks(action)).sum() } else { 0 }
}

/// Bytes of the masks that an action may keep.
fn masks(action: &Action) -> u64 {
    let Access::Streaming(Streaming { operation, .. }) = action.op.access() else { return 0 };
    let n_kept = operation.masks().iter().filter(|mask| mask.is_worth_keeping).count();
    (n_kept * mask::n_bytes(1, action.output.shape.elements())) as u64
}

/// Bytes that the files below a folder take.
fn allocated(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => allocated(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Refuses what does not fit, file system by file system.
///
/// # Errors
/// [`ProjectError::NoRoom`], of the folder that needs the most on the first that is too small.
pub(super) fn check(rooms: &[Room]) -> Result<(), ProjectError> {
    let mut devices: BTreeMap<u64, Vec<&Room>> = BTreeMap::new();
    for room in rooms {
        devices.entry(room.device).or_default().push(room);
    }
    for rooms in devices.values() {
        let needed = rooms.iter().map(|room| room.needed).sum();
        let free = rooms.iter().map(|room| room.free).max().unwrap_or(0);
        if needed > free {
            let most = rooms.iter().max_by_key(|room| room.needed).expect("a device has a folder");
            return Err(ProjectError::NoRoom { folder: most.folder.clone(), needed, free });
        }
    }
    Ok(())
}

impl Project {
    /// What a build must write into the cache and into each target's folder, by its verdicts, and the room there.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the store cannot be read.
    pub fn rooms(
        &self,
        recipe: &Recipe,
        planned: &Planned,
        verdicts: &Verdicts,
    ) -> Result<Vec<Room>, ProjectError> {
        let plan = &planned.plan;
        let outputs: Vec<(PathBuf, OutputLayout)> = (plan.targets.iter())
            .map(|target| (self.output_dir(recipe, *target, None), self.lay_out(plan, *target)))
            .collect();
        let wanted =
            Wanted { storing: &self.storing_now(recipe)?, with_masks: false, plan, outputs: &outputs };
        Ok(rooms(&self.cache, wanted, &|node| verdicts[node] == Verdict::Run, crate::disk::space))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(folder: &str, device: u64, needed: u64, free: u64) -> Room {
        Room { folder: folder.into(), needed, free, device }
    }

    #[test]
    fn folders_of_one_file_system_share_its_room() {
        assert!(check(&[room("cache", 1, 60, 100), room("out", 1, 40, 100)]).is_ok());
        assert!(check(&[room("cache", 1, 60, 60), room("out", 2, 70, 70)]).is_ok());
        let error = check(&[room("cache", 1, 60, 100), room("out", 1, 41, 100)]).unwrap_err();
        assert!(
            matches!(&error, ProjectError::NoRoom { folder, needed: 101, free: 100 } if folder == Path::new("cache")),
            "{error}"
        );
        let error = check(&[room("cache", 1, 60, 100), room("out", 2, 71, 70)]).unwrap_err();
        assert!(error.to_string().starts_with("out"), "{error}");
    }
}
