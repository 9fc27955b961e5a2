//! Whether the bytes of a result that is known are kept anywhere: as a blob, in a source or in a finished output.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use super::settings::Project;
use crate::build::source_range;
use crate::digest::Digest;
use crate::history::Record;
use crate::model::checkpoint::Checkpoint;
use crate::plan::{Node, NodeId, Plan};
use crate::recipe::Recipe;
use crate::store::range::ExternalRange;
use crate::store::snapshot::Snapshot;
use crate::store::{Store, StoreError};

/// Everything that may hold the results of a plan.
pub(super) struct Kept<'a> {
    plan: &'a Plan,
    store: &'a Store,
    snapshot: &'a Snapshot<'a>,
    /// What sources hold that were read before.
    sources: HashSet<Digest>,
    /// Of every node that a target's output holds, the output's number and the tensor's name.
    held: HashMap<NodeId, (usize, &'a str)>,
    outputs: Vec<LastOutput>,
    /// Files that results are said to be in, as far as they were looked at.
    files: Mutex<HashMap<PathBuf, Option<Metadata>>>,
}

/// The folder that the last build wrote for a target, opened when it is first asked.
struct LastOutput {
    dir: PathBuf,
    opened: OnceLock<Option<Checkpoint>>,
}

impl<'a> Kept<'a> {
    /// `digest` gives what is known of nodes, `last` is the build whose outputs are looked at.
    pub fn new(
        project: &Project,
        (recipe, plan): (&Recipe, &'a Plan),
        (store, snapshot): (&'a Store, &'a Snapshot<'a>),
        digest: &dyn Fn(NodeId) -> Option<Digest>,
        last: Option<&Record>,
    ) -> Self {
        let source = |node: NodeId| digest(node).filter(|_| matches!(plan[node], Node::Source(_)));
        let mut sources = HashSet::with_capacity(plan.len());
        sources.extend(plan.nodes().filter_map(source));
        let (mut held, mut outputs) = (HashMap::new(), Vec::new());
        for (number, target) in plan.targets.iter().enumerate() {
            let name = &recipe.stage(*target).name;
            let written = last.and_then(|last| last.outputs.iter().find(|output| output.stage == *name));
            let dir = written.map_or_else(
                || project.output_dir(recipe, *target, None),
                |output| PathBuf::from(&output.dir),
            );
            outputs.push(LastOutput { dir, opened: OnceLock::new() });
            let nodes = plan.stage(*target).nodes.iter();
            held.extend(nodes.map(|(tensor, node)| (*node, (number, tensor.as_str()))));
        }
        Self { plan, store, snapshot, sources, held, outputs, files: Mutex::default() }
    }

    /// Whether a node's result, of which the digest is known, can be had without running anything.
    pub fn holds(&self, node: NodeId, digest: &Digest) -> Result<bool, StoreError> {
        let n_bytes = self.plan[node].spec().n_bytes() as u64;
        Ok(self.sources.contains(digest)
            || self.is_outside(digest)?
            || self.store.holds(digest, n_bytes)?
            || self.is_in_output(node, digest)?)
    }

    /// Whether some finished output still holds a digest's bytes for the store.
    fn is_outside(&self, digest: &Digest) -> Result<bool, StoreError> {
        let Some(ExternalRange { path, range }) = self.snapshot.external(digest)? else { return Ok(false) };
        let mut files = self.files.lock().expect("no thread panics with it");
        // A file holds hundreds of results.
        if !files.contains_key(&path) {
            files.insert(path.clone(), fs::metadata(&path).ok());
        }
        Ok(files[&path].as_ref().is_some_and(|metadata| range.identity.fits(metadata)))
    }

    /// Whether the target's own output holds them, also where the store keeps no results of its stage.
    fn is_in_output(&self, node: NodeId, digest: &Digest) -> Result<bool, StoreError> {
        let Some((number, tensor)) = self.held.get(&node) else { return Ok(false) };
        let LastOutput { dir, opened } = &self.outputs[*number];
        let output = opened.get_or_init(|| Checkpoint::open(dir).ok());
        let Some(output) = output.as_ref().filter(|output| output.spec(tensor).is_some()) else {
            return Ok(false);
        };
        let content = self.snapshot.remembered(&source_range(output, tensor))?;
        Ok(content.is_some_and(|content| content.digest == *digest))
    }
}
