//! Masks that are kept for the next time: an edit of a weight finds them instead of drawing them.
//!
//! A mask is a result with a key of its own, which holds what it follows from: the two inputs, what is drawn, and the
//! version of the method. It is made beside the merge that needs it, and never needed itself: what is missing is drawn.

use std::sync::Arc;

use super::bytes::Bytes;
use super::committer::Committer;
use super::error::BuildError;
use super::geometry::Geometry;
use super::masks::{Masks, Wanted};
use super::shared::Shared;
use crate::digest::{ActionKey, Checksums, Digest};
use crate::event::Event;
use crate::manifest::{KeyHasher, Sink, SinkExt};
use crate::methods::{DrawnMask, Operation};
use crate::plan::{Action, Plan};
use crate::store::blob::{Content, Lookup};
use crate::store::tier::ActionRow;
use crate::tensor::{Dtype, Shape};

/// Raised when the same fields come to mean other bytes.
const FORMAT: u64 = 1;

/// What takes fewer bytes is drawn about as fast as it is read.
const SMALLEST: usize = 32 << 10;

/// Arithmetic that draws masks, on inputs with these digests.
pub struct Drawing<'a> {
    pub action: &'a Action,
    pub operation: &'a dyn Operation,
    /// What inputs are rounded to first.
    pub compute: Option<Dtype>,
    pub shape: &'a Shape,
    pub digests: &'a [Digest],
}

/// Reads a result of so many bytes from the store, and checks it.
type Read<'a> = &'a dyn Fn(&Digest, usize) -> Result<Lookup<Bytes>, BuildError>;

/// The masks of one action.
#[derive(Default)]
pub struct ActionMasks {
    pub masks: Masks,
    /// The keys of those that are kept, by their numbers.
    keys: Vec<Option<ActionKey>>,
}

impl ActionMasks {
    /// What an action draws, with the masks that are kept from earlier builds.
    pub fn find(shared: &Shared<'_>, drawing: &Drawing<'_>, read: Read<'_>) -> Result<Self, BuildError> {
        let drawn = drawing.operation.masks();
        if drawn.is_empty() {
            return Ok(Self::default());
        }
        let context = &shared.context;
        let n_bytes = Geometry::new(drawing.shape, drawing.operation.cut()).mask_bytes();
        let fits = (drawn.len() * n_bytes) as u64 <= context.budget() / 4;
        let are_kept = fits
            && n_bytes >= SMALLEST
            && !context.store.is_read_only()
            && context.storing.keeps_masks(drawing.action.owner.stage);
        let (mut keys, mut wanted) = (Vec::new(), Vec::new());
        for (number, mask) in drawn.into_iter().enumerate() {
            let key = (are_kept && mask.is_worth_keeping).then(|| drawing.key(context.plan, number, mask));
            let known = key.map(|key| known(shared, &key, n_bytes, read)).transpose()?.flatten();
            wanted.push(match known {
                Some(mask) => Wanted::Known(mask),
                None if key.is_some() || fits && mask.is_used_twice => Wanted::Whole,
                None => Wanted::Piecewise,
            });
            keys.push(key);
        }
        Ok(Self { masks: Masks::new(n_bytes, wanted), keys })
    }

    /// Keeps what was drawn, beside the result of the action with a key.
    pub fn keep(self, committer: &Committer, key: ActionKey) -> Result<(), BuildError> {
        for (number, mask) in self.masks.drawn() {
            let Some(key) = self.keys[number] else { continue };
            let digest = Digest::from(blake3::hash(mask));
            if mask.len() >= Checksums::BLOCK {
                committer.note_checksums((digest, Arc::new(Checksums::of_all(mask))))?;
            }
            let row = ActionRow { key, digest, n_bytes: mask.len() as u64 };
            committer.keep(row, Some(Content::Bytes(Arc::clone(mask))), None)?;
        }
        let beside: Vec<ActionKey> = self.keys.into_iter().flatten().collect();
        if beside.is_empty() { Ok(()) } else { committer.note_beside((key, beside)) }
    }
}

/// A mask that was drawn before and is still there.
fn known(
    shared: &Shared<'_>,
    key: &ActionKey,
    n_bytes: usize,
    read: Read<'_>,
) -> Result<Option<Arc<Vec<u8>>>, BuildError> {
    let Some((digest, _)) = shared.snapshot.action(key)?.filter(|(_, n)| *n == n_bytes as u64) else {
        return Ok(None);
    };
    match read(&digest, n_bytes)? {
        Lookup::Found(Bytes::Memory(mask)) => Ok(Some(mask)),
        Lookup::Found(mask) => Ok(Some(Arc::new(mask.in_full()?.into_owned()))),
        Lookup::Missing => Ok(None),
        Lookup::Damaged => {
            shared.context.events.event(Event::Damaged { digest });
            Ok(None)
        }
    }
}

impl Drawing<'_> {
    fn key(&self, plan: &Plan, number: usize, mask: DrawnMask) -> ActionKey {
        let Self { action, operation, compute, digests, .. } = self;
        let mut hasher = KeyHasher::default();
        hasher.integer("mask", FORMAT);
        hasher.text("method", action.op.name());
        hasher.integer("method.version", action.op.version().into());
        hasher.text("compute", compute.map_or("", Dtype::name));
        for (role, input) in [("base", 0), ("model", mask.input)] {
            let spec = plan[action.inputs[input].node].spec();
            hasher.text(&format!("{role}.dtype"), spec.dtype.name());
            hasher.text(&format!("{role}.shape"), &spec.shape.to_string());
            hasher.digest(&format!("{role}.digest"), &digests[input]);
        }
        operation.write_mask(number, &mut hasher);
        hasher.finish()
    }
}
