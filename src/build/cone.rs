//! Settles one cone: its nodes in order, inputs first, each result dropped once nothing needs it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use super::ahead::announce;
use super::bytes::{Blob, READ_BYTES, Run};
use super::committer::Delivered;
use super::compute::{Computation, Failure, Target, run_whole};
use super::status::source_range;
use super::{Build, BuildError, Bytes, Context, Outcome, Settled};
use crate::digest::{Checksums, Digest};
use crate::event::{Event, spanned};
use crate::kernels::convert;
use crate::model::ModelError;
use crate::op::{Access, RowRun, Streaming};
use crate::plan::{Action, Node, NodeId, Source, key};
use crate::store::Cas;
use crate::store::blob::Lookup;
use crate::store::range::RangeContent;
use crate::store::tier::ActionRow;
use crate::tensor::Dtype;

/// Results up to this size are made in memory; larger ones in the file that is to hold them, which is then
/// mapped.
const IN_MEMORY: u64 = 16 << 20;

pub struct Cone<'b, 'a> {
    build: &'b Build<'a>,
    nodes: &'b [NodeId],
    parallel: bool,
    /// The cone that this thread will probably take next.
    next: &'b [NodeId],
    /// Whether the disk was told what that one reads.
    announced: bool,
    /// Results that later nodes of the cone may still read.
    warm: HashMap<NodeId, Bytes>,
}

impl<'b, 'a> Cone<'b, 'a> {
    pub fn new(build: &'b Build<'a>, nodes: &'b [NodeId], next: &'b [NodeId], parallel: bool) -> Self {
        Self { build, nodes, parallel, next, announced: false, warm: HashMap::new() }
    }

    /// Finds the digest of every node.
    pub fn settle(mut self) -> Result<(), BuildError> {
        let plan = self.build.context.plan;
        let mut last_reader: HashMap<NodeId, usize> = HashMap::new();
        for (position, node) in self.nodes.iter().enumerate() {
            for input in plan[*node].inputs() {
                last_reader.insert(input.node, position);
            }
        }
        for (position, node) in self.nodes.iter().enumerate() {
            self.build.check_interrupted()?;
            let settled = match &plan[*node] {
                Node::Source(source) => self.settle_source(*node, source)?,
                Node::Action(action) => self.settle_action(*node, action)?,
            };
            self.build.settled[node.index()].set(settled).expect("a cone is settled once");
            self.warm.retain(|warm, _| last_reader.get(warm).is_some_and(|last| *last > position));
        }
        Ok(())
    }

    /// The bytes of a settled node: warm, in the store, or computed again.
    pub fn bytes(&mut self, node: NodeId) -> Result<Bytes, BuildError> {
        let Build { context, .. } = self.build;
        if let Some(bytes) = self.warm.get(&node) {
            return Ok(bytes.clone());
        }
        let action = match &context.plan[node] {
            Node::Source(source) => {
                let bytes = self.read_again(source, self.build.settled(node).digest)?;
                self.warm.insert(node, bytes.clone());
                return Ok(bytes);
            }
            Node::Action(action) => action,
        };
        let digest = self.build.settled(node).digest;
        let read = || self.read_blob(&digest, action.output.n_bytes());
        match spanned(context.events, "read blob", &action.owner.tensor, read)? {
            Lookup::Found(bytes) => {
                self.warm.insert(node, bytes.clone());
                return Ok(bytes);
            }
            Lookup::Damaged => context.events.event(Event::Damaged { digest }),
            Lookup::Missing => {}
        }
        if let Some(bytes) = self.bytes_elsewhere(&digest)? {
            self.warm.insert(node, bytes.clone());
            return Ok(bytes);
        }
        self.build.made_again.lock().expect("no thread panics with it").insert(node);
        let again = self.run(node, action)?;
        if again != digest {
            return Err(BuildError::NotReproducible {
                stage: self.stage_name(action),
                tensor: action.owner.tensor.clone(),
            });
        }
        Ok(self.warm[&node].clone())
    }

    /// Reads bytes of a checkpoint: all of them into memory, unless the cone is too large for that.
    fn read(&self, bytes: Bytes, tensor: &str) -> Result<Bytes, BuildError> {
        if self.parallel {
            return Ok(bytes);
        }
        Ok(spanned(self.build.context.events, "read source", tensor, || bytes.into_memory())?)
    }

    /// The bytes of a source whose digest is known. They may have changed without a trace since they were
    /// hashed, so they are held to their checksums as they are read, or to the digest where there are none.
    fn read_again(&self, source: &Source, digest: Digest) -> Result<Bytes, BuildError> {
        let bytes = self.build.source_bytes(source);
        let checksums = self.build.snapshot.checksums(&digest)?;
        if let Some(checksums) = checksums.filter(|checksums| checksums.cover(bytes.n_bytes())) {
            return self.read(bytes.checked(Arc::new(checksums)), &source.tensor);
        }
        let bytes = self.read(bytes, &source.tensor)?;
        let examined = self.examine(&bytes, None)?;
        if examined.digest != digest {
            return Err(self.build.source_bytes(source).differs(0).into());
        }
        self.build.committer.note_checksums((digest, Arc::clone(&examined.checksums)))?;
        Ok(bytes.checked(examined.checksums))
    }

    /// A digest's blob: in memory, unless the cone is too large for that.
    fn read_blob(&self, digest: &Digest, n_bytes: usize) -> Result<Lookup<Bytes>, BuildError> {
        let Context { store, tiers, .. } = self.build.context;
        if !self.parallel {
            return Ok(tiers.get(digest, n_bytes as u64)?.map(|bytes| Bytes::Memory(Arc::new(bytes))));
        }
        let file = match tiers.open(digest, n_bytes as u64)? {
            Lookup::Found(file) => file,
            Lookup::Missing => return Ok(Lookup::Missing),
            Lookup::Damaged => return Ok(Lookup::Damaged),
        };
        let bytes = Bytes::Blob(Arc::new(Blob { path: store.blob_path(digest), file, n_bytes }));
        match self.examine(&bytes, None) {
            Ok(found) if found.digest == *digest => Ok(Lookup::Found(bytes.checked(found.checksums))),
            Ok(_) | Err(BuildError::Model(ModelError::Changed { .. })) => Ok(store.remove_damaged(digest)?),
            Err(error) => Err(error),
        }
    }

    /// A digest's bytes from a source or a finished output, if some still holds them.
    fn bytes_elsewhere(&self, digest: &Digest) -> Result<Option<Bytes>, BuildError> {
        let Some(place) = self.build.bytes_outside(digest)? else { return Ok(None) };
        let read = || {
            let bytes = self.read(place.clone(), &digest.short())?;
            let examined = self.examine(&bytes, None)?;
            if examined.digest != *digest {
                return Err(BuildError::Model(place.differs(0)));
            }
            Ok(bytes.checked(examined.checksums))
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            // What cannot be had from there is made again.
            Err(BuildError::Model(_)) => {
                self.build.context.events.event(Event::Damaged { digest: *digest });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn settle_source(&mut self, node: NodeId, source: &Source) -> Result<Settled, BuildError> {
        let Build { context, snapshot, .. } = self.build;
        let checkpoint = &context.checkpoints[source.model.0];
        let range = source_range(checkpoint, &source.tensor);
        let remembered = if context.rehash { None } else { snapshot.remembered(&range)? };
        let is_trusted = remembered.is_some() || !range.identity.is_racy(now());
        let content = match remembered {
            Some(content) => content,
            None => {
                let started = now();
                self.announce_next()?;
                // What is read to be hashed is at hand for computing; large tensors are read again, block
                // by block, and each block is checked.
                let bytes = self.read(self.build.source_bytes(source), &source.tensor)?;
                let examine = || self.examine(&bytes, Some(source.spec.dtype));
                let Examined { digest, finite, checksums } =
                    spanned(context.events, "hash source", &source.tensor, examine)?;
                context.events.event(Event::Hashed {
                    model: &checkpoint.dir.to_string_lossy(),
                    tensor: &source.tensor,
                    bytes: bytes.n_bytes() as u64,
                });
                self.warm.insert(node, bytes.checked(Arc::clone(&checksums)));
                self.build.committer.note_checksums((digest, checksums))?;
                let content = RangeContent { digest, mark: finite };
                if !range.identity.is_racy(started) {
                    self.build.committer.remember((range, content))?;
                }
                content
            }
        };
        if is_trusted {
            self.build.note_source(content.digest, source, range);
        }
        if !context.locked.is_empty() {
            let reference = context.models[source.model.0].reference.to_string();
            let locked = context.locked.get(&(reference.as_str(), source.tensor.as_str()));
            if locked != Some(&Some(content.digest)) {
                let path = checkpoint.dir.clone();
                return Err(BuildError::NotLocked { path, tensor: source.tensor.clone() });
            }
        }
        // What is read is marked if it is fit for computing with.
        if !content.mark {
            let shard =
                checkpoint.shard_of(&source.tensor).expect("the source is a tensor of the checkpoint");
            return Err(BuildError::NotFinite { path: shard.path.clone(), tensor: source.tensor.clone() });
        }
        Ok(Settled { digest: content.digest, key: None, outcome: Outcome::Reused })
    }

    /// Has the disk begin to read what the next cone needs, as soon as this one turns out to need anything:
    /// where nothing changed, nothing is read.
    fn announce_next(&mut self) -> Result<(), BuildError> {
        if self.announced || self.parallel {
            return Ok(());
        }
        self.announced = true;
        announce(self.build, self.next)
    }

    /// Hashes bytes and takes their checksums in one pass, and looks for NaN and infinity if they are of a
    /// type that has them.
    fn examine(&self, bytes: &Bytes, dtype: Option<Dtype>) -> Result<Examined, BuildError> {
        let float = dtype.filter(|dtype| dtype.is_float());
        let is_finite = |piece: &[u8]| float.is_none_or(|dtype| convert::is_finite(dtype, piece));
        let mut hasher = blake3::Hasher::new();
        let mut finite = true;
        let mut checksums = Checksums::default();
        if self.parallel {
            bytes.large_blocks(|block| {
                self.build.check_interrupted()?;
                finite &= block.par_chunks(READ_BYTES).all(is_finite);
                checksums.0.par_extend(block.par_chunks(Checksums::BLOCK).map(Checksums::of));
                hasher.update_rayon(block);
                Ok::<(), BuildError>(())
            })?;
        } else {
            bytes.blocks(|_, block| {
                self.build.check_interrupted()?;
                // All three look at a piece while it is in the core's cache.
                for piece in block.chunks(Checksums::BLOCK) {
                    finite &= is_finite(piece);
                    checksums.0.push(Checksums::of(piece));
                    hasher.update(piece);
                }
                Ok::<(), BuildError>(())
            })?;
        }
        let checksums = Arc::new(checksums);
        Ok(Examined { digest: hasher.finalize().into(), finite, checksums })
    }

    fn settle_action(&mut self, node: NodeId, action: &Action) -> Result<Settled, BuildError> {
        let Build { context, snapshot, .. } = self.build;
        let inputs: Vec<Settled> = action.inputs.iter().map(|input| self.build.settled(input.node)).collect();
        let key = key::action_key(context.plan, node, &digests(&inputs));
        if let Some((digest, _)) = snapshot.action(&key)? {
            context
                .events
                .event(Event::Reused { stage: &self.stage_name(action), tensor: &action.owner.tensor });
            let something_ran = inputs.iter().any(|input| input.outcome != Outcome::Reused);
            let outcome = if something_ran { Outcome::CutOff } else { Outcome::Reused };
            return Ok(Settled { digest, key: Some(key), outcome });
        }
        let digest = self.run(node, action)?;
        Ok(Settled { digest, key: Some(key), outcome: Outcome::Ran })
    }

    /// Runs an action whose inputs are settled, hands its result to the committer and keeps it warm.
    fn run(&mut self, node: NodeId, action: &Action) -> Result<Digest, BuildError> {
        let build = self.build;
        let context = &build.context;
        let plan = context.plan;
        let settled: Vec<Settled> =
            action.inputs.iter().map(|input| self.build.settled(input.node)).collect();
        let digests = digests(&settled);
        let stage = self.stage_name(action);
        let cached = context.recipe.stage(action.owner.stage).cache;
        let undefined = |problem| BuildError::Arithmetic {
            stage: stage.clone(),
            tensor: action.owner.tensor.clone(),
            problem,
        };
        let failed = |failure| match failure {
            Failure::Build(error) => error,
            Failure::Undefined(problem) => undefined(problem),
        };
        self.announce_next()?;
        let (mut slice, mut held) = (None, false);
        let (digest, bytes, content) = match action.op.access() {
            Access::Digests => {
                if let Some(other) = digests.iter().position(|digest| *digest != digests[0]) {
                    let problem = format!(
                        "{} and {} hold different {} values, which cannot be merged",
                        action.inputs[0].label, action.inputs[other].label, action.output.dtype
                    );
                    return Err(undefined(problem));
                }
                // The result is a source's bytes, found through the key whenever they are wanted.
                (digests[0], self.bytes(action.inputs[0].node)?, None)
            }
            Access::Rows(runs) => {
                let parts = runs.into_iter().map(|run| self.rows(action, run)).collect::<Result<_, _>>()?;
                let bytes = Bytes::Joined(Arc::new(parts));
                let Examined { digest, checksums, .. } = self.examine(&bytes, None)?;
                (digest, bytes.checked(checksums), None)
            }
            Access::Whole(whole) => {
                let mut inputs = Vec::with_capacity(action.inputs.len());
                for input in &action.inputs {
                    inputs.push((self.bytes(input.node)?, plan[input.node].spec()));
                }
                let run = || run_whole(whole, &inputs, &action.output);
                let what = format!("{stage}: {}", action.owner.tensor);
                let (bytes, content) =
                    spanned(context.events, action.op.name(), &what, run).map_err(failed)?;
                (bytes.digest()?, bytes, content)
            }
            Access::Streaming(Streaming { operation, compute }) => {
                let mut inputs = Vec::with_capacity(action.inputs.len());
                for input in &action.inputs {
                    inputs.push((self.bytes(input.node)?, plan[input.node].spec().dtype));
                }
                let proceed = || self.build.check_interrupted();
                let computation = Computation {
                    operation,
                    inputs,
                    compute,
                    output: &action.output,
                    parallel: self.parallel,
                    proceed: &proceed,
                };
                let large = action.output.n_bytes() as u64 > IN_MEMORY.min(context.memory / 16);
                slice = context.sink.slice(node)?;
                held = !cached && slice.is_none() && self.build.is_output(node);
                let target = match &slice {
                    Some(slice) if large => Target::Slice(slice),
                    None if large || held => Target::File(context.store),
                    _ => Target::Memory,
                };
                let run = || computation.run(target);
                let (bytes, content) = spanned(
                    context.events,
                    action.op.name(),
                    &format!("{stage}: {}", action.owner.tensor),
                    run,
                )
                .map_err(|failure| match failure {
                    Failure::Build(error) => error,
                    Failure::Undefined(problem) => undefined(problem),
                })?;
                let hash = || match &bytes {
                    Bytes::Memory(all) => Ok((Digest::of(all), bytes.clone())),
                    _ => {
                        let Examined { digest, checksums, .. } = self.examine(&bytes, None)?;
                        Ok::<_, BuildError>((digest, bytes.clone().checked(checksums)))
                    }
                };
                let (digest, bytes) = spanned(context.events, "hash result", &action.owner.tensor, hash)?;
                (digest, bytes, content)
            }
        };
        self.build.executed.fetch_add(1, Ordering::Relaxed);
        context.events.event(Event::Ran {
            stage: &stage,
            tensor: &action.owner.tensor,
            bytes: bytes.n_bytes() as u64,
        });
        self.warm.insert(node, bytes.clone());
        if held {
            self.build.held.lock().expect("no thread panics with it").insert(node, bytes.clone());
        }
        let key = key::action_key(plan, node, &digests);
        let manifest = key::action_manifest(plan, node, &digests);
        let row = ActionRow { key, digest, n_bytes: action.output.n_bytes() as u64, manifest };
        let external = if cached { self.build.source_range(&digest) } else { None };
        match slice {
            Some(slice) if external.is_none() => {
                self.build.committer.deliver(node, bytes, Delivered { row, slice })?;
            }
            _ => self.build.committer.keep(row, content.filter(|_| cached), external)?,
        }
        Ok(digest)
    }

    /// Rows of an input, which are neighbouring bytes.
    fn rows(&mut self, action: &Action, RowRun { input, rows }: RowRun) -> Result<Run, BuildError> {
        let node = action.inputs[input].node;
        let spec = self.build.context.plan[node].spec();
        let row = spec.n_bytes() / spec.shape.0.first().copied().unwrap_or(1).max(1);
        Ok(Run { bytes: self.bytes(node)?, range: rows.start * row..rows.end * row })
    }

    fn stage_name(&self, action: &Action) -> String {
        self.build.context.recipe.stage(action.owner.stage).name.clone()
    }
}

/// What one pass over some bytes tells of them.
struct Examined {
    digest: Digest,
    finite: bool,
    checksums: Arc<Checksums>,
}

fn digests(settled: &[Settled]) -> Vec<Digest> {
    settled.iter().map(|settled| settled.digest).collect()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
