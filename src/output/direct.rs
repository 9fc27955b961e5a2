//! Shards in the making while a build still runs: final results are written where they will stay.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::error::OutputError;
use super::format::layout::{OutputLayout, ShardLayout};
use super::shards::create;
use super::staging::Staging;
use crate::build::{BuildError, FileSlice, OutputSink};
use crate::plan::{NodeId, Plan};

/// The new versions of all output directories of a build.
pub struct DirectOutput<'a> {
    outputs: Vec<Mutex<Incoming<'a>>>,
    /// For every node that exactly one output holds: the output, the shard in it and the tensor's place.
    places: HashMap<NodeId, Place>,
}

#[derive(Clone, Copy)]
struct Place {
    output: usize,
    shard: usize,
    offset: u64,
    n_bytes: usize,
}

/// The new version of one directory.
struct Incoming<'a> {
    dir: &'a Path,
    shards: &'a [ShardLayout],
    staging: Option<Staging>,
    /// Whether it is being finished: what is computed from then on is not expected any more.
    closed: bool,
    /// Of every shard, the handles that its slices are written through.
    files: Vec<Option<[Arc<File>; 2]>>,
}

impl<'a> DirectOutput<'a> {
    /// Expects the results of the plan's targets, each for its directory with its layout. Nothing is made before the first
    /// of them comes.
    pub fn new(plan: &Plan, dirs: &'a [PathBuf], layouts: &'a [OutputLayout]) -> Self {
        let (mut outputs, mut places, mut shared) = (Vec::new(), HashMap::new(), HashSet::new());
        for (output, (target, (dir, layout))) in plan.targets.iter().zip(dirs.iter().zip(layouts)).enumerate()
        {
            let nodes = &plan.stage(*target).nodes;
            let shards = layout.shards.as_slice();
            for (shard, laid_out) in shards.iter().enumerate() {
                for tensor in &laid_out.tensors {
                    let (offset, n_bytes) = (tensor.offset, tensor.spec.n_bytes());
                    let node = nodes[&tensor.name];
                    if places.insert(node, Place { output, shard, offset, n_bytes }).is_some() {
                        shared.insert(node);
                    }
                }
            }
            let files = shards.iter().map(|_| None).collect();
            outputs.push(Mutex::new(Incoming { dir, shards, staging: None, closed: false, files }));
        }
        // What is wanted in two places goes through the store.
        places.retain(|node, _| !shared.contains(node));
        Self { outputs, places }
    }

    /// Expects nothing.
    pub fn none() -> Self {
        Self { outputs: Vec::new(), places: HashMap::new() }
    }

    /// Ends the expecting for one output: its new version, if any of it came.
    pub(super) fn staging(&self, output: usize) -> Option<Staging> {
        let mut incoming = self.outputs.get(output)?.lock().expect("no thread panics with it");
        incoming.closed = true;
        incoming.files.fill(None);
        incoming.staging.take()
    }
}

impl OutputSink for DirectOutput<'_> {
    fn slice(&self, node: NodeId) -> Result<Option<FileSlice>, BuildError> {
        let Some(Place { output, shard, offset, n_bytes }) = self.places.get(&node).copied() else {
            return Ok(None);
        };
        let mut incoming = self.outputs[output].lock().expect("no thread panics with it");
        if incoming.closed {
            return Ok(None);
        }
        let Incoming { dir, shards, staging, files, .. } = &mut *incoming;
        let staging = match staging {
            Some(staging) => staging,
            None => staging.insert(Staging::start(dir).map_err(flatten)?),
        };
        let path = staging.path(&shards[shard].file);
        let [file, direct] = match &files[shard] {
            Some(files) => files.clone(),
            None => {
                let open = open(&shards[shard], &path).map_err(BuildError::io("write", &path))?;
                files[shard].insert(open).clone()
            }
        };
        Ok(Some(FileSlice { path, file, direct, offset, n_bytes }))
    }
}

fn open(shard: &ShardLayout, path: &Path) -> io::Result<[Arc<File>; 2]> {
    let file = create(shard, path)?;
    let direct = File::options().write(true).open(path)?;
    Ok([Arc::new(file), Arc::new(direct)])
}

fn flatten(error: OutputError) -> BuildError {
    match error {
        OutputError::Build(error) => error,
        OutputError::Io { action, path, source } => BuildError::Io { action, path, source },
        _ => unreachable!("folders and files fail to be made by I/O alone"),
    }
}
