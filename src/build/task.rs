//! Works on one node: finds a source's digest, or runs an action, with whatever bytes that takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::bytes::{Bytes, Run};
use super::committer::Delivered;
use super::compute::{Computation, Computed, Failure, Target, run_whole, with_tensors};
use super::context::{Outcome, Resolved};
use super::error::BuildError;
use super::examine::Examined;
use super::kept_masks::{ActionMasks, Drawing};
use super::masks::Masks;
use super::shared::Shared;
use super::sink::FileSlice;
use crate::digest::{ActionKey, Checksums, Digest};
use crate::event::{Event, spanned};
use crate::methods::Operation;
use crate::op::{Access, Beside, RowRun, Streaming};
use crate::plan::{Action, Node, NodeId};
use crate::store::blob::{Content, Lookup};
use crate::store::tier::ActionRow;
use crate::tensor::{Dtype, Shape, TensorSpec};

pub struct Task<'t, 'a> {
    pub(super) shared: &'t Shared<'a>,
    /// Whether the node is too large for memory, so that it is worked on in blocks, by all threads.
    pub(super) wide: bool,
    /// The bytes that may be kept in memory while a wide node is worked on, its result aside.
    pub(super) room: u64,
    /// What had to be made again for it.
    again: HashMap<NodeId, Bytes>,
}

impl<'t, 'a> Task<'t, 'a> {
    pub fn new(shared: &'t Shared<'a>, wide: bool, room: u64) -> Self {
        Self { shared, wide, room, again: HashMap::new() }
    }

    /// Finds the digest of a node that is missing; `key` is that of an action.
    pub fn resolve(mut self, node: NodeId, key: Option<ActionKey>) -> Result<Resolved, BuildError> {
        self.shared.context.check_interrupted()?;
        match (&self.shared.context.plan[node], key) {
            (Node::Source(source), _) => self.hash(node, source),
            (Node::Action(action), Some(key)) => {
                let digest = self.run(node, action, key)?;
                Ok(Resolved { digest, key: Some(key), outcome: Outcome::Ran })
            }
            (Node::Action(_), None) => unreachable!("a missing action has a key"),
        }
    }

    /// The bytes of a resolved node: warm, in the store, or computed again.
    pub fn bytes(&mut self, node: NodeId) -> Result<Bytes, BuildError> {
        if let Some(bytes) = self.again.get(&node) {
            return Ok(bytes.clone());
        }
        let shared = self.shared;
        shared.warm.get(node, || self.load(node))
    }

    fn load(&mut self, node: NodeId) -> Result<Bytes, BuildError> {
        let Shared { context, committer, .. } = self.shared;
        let Resolved { digest, key, outcome } = self.shared.resolved(node);
        let action = match &context.plan[node] {
            Node::Source(source) => {
                return match self.instead_of(source, &digest)? {
                    Some(bytes) => Ok(bytes),
                    None => self.read_again(node, source, digest),
                };
            }
            Node::Action(action) => action,
        };
        if outcome == Outcome::Ran {
            // It was made in this build, and made room for others since.
            committer.flush()?;
            let part = committer.delivered().get(&node).map(|delivered| delivered.slice.part());
            if let Some(part) = part {
                let bytes = Bytes::File(Arc::new(part));
                let checksums = self.examine(&bytes, None)?.checksums;
                return Ok(bytes.checked(checksums));
            }
        }
        let read = || self.read_blob(&digest, action.output.n_bytes());
        match spanned(context.events, "read blob", &action.owner.tensor, read)? {
            Lookup::Found(bytes) => return Ok(bytes),
            Lookup::Damaged => context.events.event(Event::Damaged { digest }),
            Lookup::Missing => {}
        }
        if let Some(bytes) = self.bytes_outside(&digest)? {
            return Ok(bytes);
        }
        self.shared.made_again.lock().expect("no thread panics with it").insert(node);
        let again = self.run(node, action, key.expect("actions have keys"))?;
        if again != digest {
            let (stage, tensor) = (context.stage_name(action).to_owned(), action.owner.tensor.clone());
            return Err(BuildError::NotReproducible { stage, tensor });
        }
        Ok(self.again[&node].clone())
    }

    /// Runs an action whose inputs are resolved, hands its result to the committer and keeps it warm.
    fn run(&mut self, node: NodeId, action: &Action, key: ActionKey) -> Result<Digest, BuildError> {
        let Shared { context, committer, outside, warm, .. } = self.shared;
        let digests = self.shared.inputs(node);
        let stage = context.stage_name(action);
        let again = self.shared.resolved[node.index()].get().is_some();
        let n_bytes = action.output.n_bytes() as u64;
        let cached = context.storing.holds(action.owner.stage, n_bytes, again);
        let undefined = |problem| {
            let (stage, tensor) = (stage.to_owned(), action.owner.tensor.clone());
            BuildError::Arithmetic { stage, tensor, problem }
        };
        let failed = |failure| match failure {
            Failure::Build(error) => error,
            Failure::Undefined(problem) => undefined(problem),
        };
        let what = format!("{stage}: {}", action.owner.tensor);
        let (mut slice, mut held) = (None, false);
        let mut masks = ActionMasks::default();
        let (digest, bytes, content) = match action.op.access() {
            Access::Digests => {
                if let Some(other) = digests.iter().position(|digest| *digest != digests[0]) {
                    let problem = format!(
                        "{} and {} hold different {} values, which cannot be merged",
                        action.inputs[0].label, action.inputs[other].label, action.output.dtype
                    );
                    return Err(undefined(problem));
                }
                // The result is an input's bytes, found through the key whenever they are wanted.
                (digests[0], self.bytes(action.inputs[0].node)?, None)
            }
            Access::Rows(runs) => {
                let runs = runs.iter().map(|run| self.rows(action, run)).collect::<Result<_, _>>()?;
                let bytes = Bytes::joined(runs);
                let Examined { digest, checksums, .. } = self.examine(&bytes, None)?;
                let bytes = bytes.checked(checksums);
                // What lies in memory now would have to be read again, in full for each of its pieces.
                let is_at_hand = !self.wide && self.is_made_of_results(action);
                slice = if is_at_hand { context.sink.slice(node)? } else { None };
                let bytes = if slice.is_some() {
                    Bytes::Memory(Arc::new(bytes.in_full()?.into_owned()))
                } else {
                    bytes
                };
                (digest, bytes, None)
            }
            Access::Whole(whole) => {
                let inputs = self.all_inputs(action)?;
                slice = context.sink.slice(node)?;
                let run = || run_whole(whole, &inputs, &action.output);
                let computed = spanned(context.events, action.op.name(), &what, run).map_err(failed)?;
                self.hashed(action, computed)?
            }
            Access::Streaming(Streaming { operation, compute }) => {
                (slice, held) = self.place(node, cached)?;
                let target = self.target(node, cached, held, slice.as_ref());
                let inputs = self.all_inputs(action)?;
                let shape = inputs.first().map_or(&action.output.shape, |(_, spec)| &spec.shape);
                let drawing = Drawing { action, operation, compute, shape, digests: &digests };
                let read = |digest: &Digest, n_bytes| self.read_blob(digest, n_bytes);
                masks = ActionMasks::find(self.shared, &drawing, &read)?;
                let arithmetic = (operation, compute, &masks.masks);
                let run = || self.stream(action, target, arithmetic, shape, &inputs);
                let computed = spanned(context.events, action.op.name(), &what, run).map_err(failed)?;
                self.hashed(action, computed)?
            }
            Access::Beside(Beside { prepare, shape }) => {
                (slice, held) = self.place(node, cached)?;
                let target = self.target(node, cached, held, slice.as_ref());
                let inputs = self.all_inputs(action)?;
                let run = || {
                    let (streamed, beside) = inputs.split_at(1);
                    let operation = with_tensors(beside, |beside| prepare.prepare(beside))?;
                    self.stream(action, target, (&*operation, None, &masks.masks), &shape, streamed)
                };
                let computed = spanned(context.events, action.op.name(), &what, run).map_err(failed)?;
                self.hashed(action, computed)?
            }
        };
        masks.keep(committer, key)?;
        self.shared.executed.fetch_add(1, Ordering::Relaxed);
        let n_bytes = bytes.n_bytes() as u64;
        context.events.event(Event::Ran { stage, tensor: &action.owner.tensor, bytes: n_bytes });
        if again {
            self.again.insert(node, bytes.clone());
        }
        if held {
            self.shared.held.lock().expect("no thread panics with it").insert(node, bytes.clone());
        }
        warm.put(node, &bytes, !cached && content.is_some() && slice.is_none());
        let is_stored = cached && content.is_some() && slice.is_none();
        if is_stored && let Some(checksums) = self.checksums(&bytes) {
            committer.note_checksums((digest, checksums))?;
        }
        let row = ActionRow { key, digest, n_bytes };
        let external = if context.storing.notes(action.owner.stage) { outside.source(&digest) } else { None };
        match slice {
            Some(slice) if external.is_none() => committer.deliver(node, bytes, Delivered { row, slice })?,
            _ => committer.keep(row, content.filter(|_| cached), external)?,
        }
        Ok(digest)
    }

    /// Where a result is made: in memory if it can be, else in the file that is to hold it, or in a temporary one.
    fn target<'s>(
        &mut self,
        node: NodeId,
        cached: bool,
        held: bool,
        slice: Option<&'s FileSlice>,
    ) -> Target<'s>
    where
        't: 's,
    {
        let Shared { context, .. } = self.shared;
        let n_bytes = context.plan[node].spec().n_bytes() as u64;
        // What is to be written must not be so large that others wait for it.
        let is_small = n_bytes <= context.written_from_memory();
        let is_written = cached || slice.is_some();
        match slice {
            _ if !held && (is_small || !is_written) && self.takes_room(node, n_bytes) => Target::Memory,
            Some(slice) => Target::Slice(slice),
            None => Target::File(context.store),
        }
    }

    /// Whether a result can be held in memory while others read it. For a wide node room is made, at the cost of
    /// nothing that would have to be written to a file instead.
    fn takes_room(&mut self, node: NodeId, n_bytes: u64) -> bool {
        if !self.wide {
            return true;
        }
        let Some(left) = self.room.checked_sub(n_bytes) else { return false };
        let is_there = !self.shared.is_gathered_from(node) && self.shared.warm.make_room(left);
        if is_there {
            self.room = left;
        }
        is_there
    }

    /// The slice that will hold a result, or whether it is held in a file until it is written out.
    fn place(&self, node: NodeId, cached: bool) -> Result<(Option<FileSlice>, bool), BuildError> {
        let slice = self.shared.context.sink.slice(node)?;
        let held = !cached && slice.is_none() && self.shared.is_output(node);
        Ok((slice, held))
    }

    /// Carries out arithmetic on leaves of inputs.
    fn stream(
        &self,
        action: &Action,
        target: Target<'_>,
        (operation, compute, masks): (&dyn Operation, Option<Dtype>, &Masks),
        shape: &Shape,
        inputs: &[(Bytes, &TensorSpec)],
    ) -> Result<Computed, Failure> {
        let context = &self.shared.context;
        let proceed = || context.check_interrupted();
        let computation = Computation {
            operation,
            shape,
            inputs: inputs.iter().map(|(bytes, spec)| (bytes.clone(), spec.dtype)).collect(),
            masks,
            compute,
            output: &action.output,
            parallel: self.wide,
            proceed: &proceed,
        };
        computation.run(target)
    }

    fn all_inputs(&mut self, action: &Action) -> Result<Vec<(Bytes, &'a TensorSpec)>, BuildError> {
        let plan = self.shared.context.plan;
        action.inputs.iter().map(|input| Ok((self.bytes(input.node)?, plan[input.node].spec()))).collect()
    }

    /// A result with its digest.
    fn hashed(
        &self,
        action: &Action,
        (bytes, content): Computed,
    ) -> Result<(Digest, Bytes, Option<Content>), BuildError> {
        let hash = || match &bytes {
            Bytes::Memory(all) if self.wide => Ok((Digest::of(all), None)),
            // Threads that work side by side hash side by side.
            Bytes::Memory(all) => Ok((Digest::from(blake3::hash(all)), None)),
            // What is in a file is read again to compute with it, and held to its checksums.
            _ => {
                let Examined { digest, checksums, .. } = self.examine(&bytes, None)?;
                Ok::<_, BuildError>((digest, Some(checksums)))
            }
        };
        let (digest, checksums) =
            spanned(self.shared.context.events, "hash result", &action.owner.tensor, hash)?;
        let bytes = match checksums {
            Some(checksums) => bytes.checked(checksums),
            None => bytes,
        };
        Ok((digest, bytes, content))
    }

    /// The checksums to which a stored result is held when it is computed with. Small ones are hashed as fast.
    fn checksums(&self, bytes: &Bytes) -> Option<Arc<Checksums>> {
        match bytes {
            Bytes::Checked(_, checksums) => Some(Arc::clone(checksums)),
            Bytes::Memory(all) if all.len() >= Checksums::BLOCK && self.wide => {
                Some(Arc::new(Checksums(all.par_chunks(Checksums::BLOCK).map(Checksums::of).collect())))
            }
            Bytes::Memory(all) if all.len() >= Checksums::BLOCK => Some(Arc::new(Checksums::of_all(all))),
            _ => None,
        }
    }

    /// Whether all that an action reads was computed.
    fn is_made_of_results(&self, action: &Action) -> bool {
        let plan = self.shared.context.plan;
        action.inputs.iter().all(|input| match &plan[input.node] {
            Node::Source(_) => false,
            Node::Action(beneath) => {
                !matches!(beneath.op.access(), Access::Rows(_)) || self.is_made_of_results(beneath)
            }
        })
    }

    /// Rows of an input, which are neighbouring bytes.
    fn rows(&mut self, action: &Action, RowRun { input, rows }: &RowRun) -> Result<Run, BuildError> {
        let node = action.inputs[*input].node;
        let spec = self.shared.context.plan[node].spec();
        let row = spec.n_bytes() / spec.shape.0.first().copied().unwrap_or(1).max(1);
        Ok(Run { bytes: self.bytes(node)?, range: rows.start * row..rows.end * row })
    }
}
