//! Masks that are kept for the next time: an edit of a weight finds them instead of drawing them.
//!
//! A mask is a result with a key of its own, which holds what it follows from: the two inputs, what is drawn, and the
//! version of the method. It is made beside the merge that needs it, and never needed itself: what is missing is drawn.
//!
//! Masks that are drawn together are kept together, since to a disk a file costs more than its bytes:
//!
//! ```text
//! bytes = the key of each mask (32), then each mask in that order, all of one size
//! ```

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

/// What takes fewer bytes is drawn about as fast as it is kept.
const SMALLEST: usize = 64 << 10;

/// Bytes of a key.
const KEY: usize = size_of::<ActionKey>();

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
        let mut together = Together { shared, read, last: None };
        for (number, mask) in drawn.into_iter().enumerate() {
            let key = (are_kept && mask.is_worth_keeping).then(|| drawing.key(context.plan, number, mask));
            let known = key.map(|key| together.mask(&key, n_bytes)).transpose()?.flatten();
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
        let drawn = self.masks.drawn().filter_map(|(number, mask)| Some((self.keys[number]?, mask)));
        let (drawn, masks): (Vec<ActionKey>, Vec<&Arc<Vec<u8>>>) = drawn.unzip();
        if !drawn.is_empty() {
            let keys = drawn.iter().flat_map(|key| key.0);
            let mut bytes = Vec::with_capacity(masks.iter().map(|mask| KEY + mask.len()).sum());
            bytes.extend(keys);
            masks.iter().for_each(|mask| bytes.extend_from_slice(mask));
            let (digest, n_bytes) = (Digest::from(blake3::hash(&bytes)), bytes.len() as u64);
            if bytes.len() >= Checksums::BLOCK {
                committer.note_checksums((digest, Arc::new(Checksums::of_all(&bytes))))?;
            }
            let mut content = Some(Content::Bytes(Arc::new(bytes)));
            for key in drawn {
                committer.keep(ActionRow { key, digest, n_bytes }, content.take(), None)?;
            }
        }
        let beside: Vec<ActionKey> = self.keys.into_iter().flatten().collect();
        if beside.is_empty() { Ok(()) } else { committer.note_beside((key, beside)) }
    }
}

/// Finds masks among those that are kept together.
struct Together<'a> {
    shared: &'a Shared<'a>,
    read: Read<'a>,
    /// What was read last, since masks of one action are mostly found in one place.
    last: Option<(Digest, Arc<Vec<u8>>)>,
}

impl Together<'_> {
    /// A mask of so many bytes that was drawn before and is still there.
    fn mask(&mut self, key: &ActionKey, n_bytes: usize) -> Result<Option<Arc<Vec<u8>>>, BuildError> {
        let Some((digest, n_together)) = self.shared.snapshot.action(key)? else { return Ok(None) };
        let n_together = n_together as usize;
        if !n_together.is_multiple_of(KEY + n_bytes) {
            return Ok(None);
        }
        if self.last.as_ref().is_none_or(|(last, _)| *last != digest) {
            self.last = self.bytes(&digest, n_together)?.map(|bytes| (digest, bytes));
        }
        let Some((_, bytes)) = &self.last else { return Ok(None) };
        let (keys, masks) = bytes.split_at(n_together / (KEY + n_bytes) * KEY);
        let place = keys.as_chunks().0.iter().position(|found| *found == key.0);
        Ok(place.map(|place| Arc::new(masks[place * n_bytes..(place + 1) * n_bytes].to_vec())))
    }

    fn bytes(&self, digest: &Digest, n_bytes: usize) -> Result<Option<Arc<Vec<u8>>>, BuildError> {
        match (self.read)(digest, n_bytes)? {
            Lookup::Found(Bytes::Memory(bytes)) => Ok(Some(bytes)),
            Lookup::Found(bytes) => Ok(Some(Arc::new(bytes.in_full()?.into_owned()))),
            Lookup::Missing => Ok(None),
            Lookup::Damaged => {
                self.shared.context.events.event(Event::Damaged { digest: *digest });
                Ok(None)
            }
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
