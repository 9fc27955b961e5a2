//! The masks of one tensor while it is computed: at hand, or drawn piece by piece.

use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use super::geometry::Geometry;
use crate::kernels::mask::{Mask, pack, unpack, widen};
use crate::methods::{DrawnMask, Operation};
use crate::tensor::Shape;

/// What an operation draws for one tensor. By default it draws nothing.
#[derive(Default)]
pub struct Masks(Vec<Slot>);

/// One mask.
struct Slot {
    /// All of it, packed.
    at_hand: OnceLock<Arc<Vec<u8>>>,
    /// What was drawn of it in the pass that is under way; empty if it is drawn again whenever it is needed.
    drawn: Mutex<Vec<u8>>,
    /// Whether it was at hand from the beginning.
    is_known: bool,
}

/// A thread's buffers.
#[derive(Default)]
pub struct MaskBuffers {
    drawn: Vec<u8>,
    packed: Vec<u8>,
    /// The masks of a piece.
    pub masks: Vec<Vec<Mask>>,
}

/// How a mask is come by.
pub enum Wanted {
    /// It is packed in full.
    Known(Arc<Vec<u8>>),
    /// It is drawn once, and stays in memory.
    Whole,
    /// It is drawn piece by piece, whenever that is needed.
    Piecewise,
}

impl Masks {
    /// Masks that take so many bytes each.
    pub fn new(n_bytes: usize, wanted: Vec<Wanted>) -> Self {
        let slot = |wanted: Wanted| match wanted {
            Wanted::Known(mask) => {
                assert_eq!(mask.len(), n_bytes);
                Slot { at_hand: OnceLock::from(mask), drawn: Mutex::default(), is_known: true }
            }
            Wanted::Whole => {
                let drawn = Mutex::new(vec![0; n_bytes]);
                Slot { at_hand: OnceLock::new(), drawn, is_known: false }
            }
            Wanted::Piecewise => Slot { at_hand: OnceLock::new(), drawn: Mutex::default(), is_known: false },
        };
        Self(wanted.into_iter().map(slot).collect())
    }

    /// The masks of an operation on tensors of a shape, where none is known.
    pub fn unknown(operation: &dyn Operation, shape: &Shape) -> Self {
        let wanted = |mask: DrawnMask| if mask.is_used_twice { Wanted::Whole } else { Wanted::Piecewise };
        Self::of(operation, shape, wanted)
    }

    /// The same, all of which stay in memory once they are drawn.
    pub fn staying(operation: &dyn Operation, shape: &Shape) -> Self {
        Self::of(operation, shape, |_| Wanted::Whole)
    }

    fn of(operation: &dyn Operation, shape: &Shape, wanted: fn(DrawnMask) -> Wanted) -> Self {
        let n_bytes = Geometry::new(shape, operation.cut()).mask_bytes();
        Self::new(n_bytes, operation.masks().into_iter().map(wanted).collect())
    }

    /// Makes the masks of a piece of rows, which has a place in the masks of the tensor. What is not at hand is
    /// drawn.
    pub fn of_piece(
        &self,
        place: Range<usize>,
        row_len: usize,
        buffers: &mut MaskBuffers,
        mut draw: impl FnMut(usize, &mut Vec<u8>),
    ) {
        let MaskBuffers { drawn, packed, masks } = buffers;
        masks.resize_with(self.0.len(), Vec::new);
        for (number, (slot, mask)) in self.0.iter().zip(masks).enumerate() {
            if let Some(all) = slot.at_hand.get() {
                unpack(&all[place.clone()], row_len, mask);
                continue;
            }
            draw(number, drawn);
            widen(drawn, mask);
            let mut all = slot.drawn.lock().expect("no thread panics with it");
            if !all.is_empty() {
                pack(drawn, row_len, packed);
                all[place.clone()].copy_from_slice(packed);
            }
        }
    }

    /// Ends a pass over the whole tensor.
    pub fn end_pass(&self) {
        for slot in &self.0 {
            let drawn = mem::take(&mut *slot.drawn.lock().expect("no thread panics with it"));
            if !drawn.is_empty() {
                slot.at_hand.set(Arc::new(drawn)).expect("what is at hand is not drawn");
            }
        }
    }

    /// Those that were drawn and have stayed in memory, by their numbers.
    pub fn drawn(&self) -> impl Iterator<Item = (usize, &Arc<Vec<u8>>)> {
        let drawn = self.0.iter().enumerate().filter(|(_, slot)| !slot.is_known);
        drawn.filter_map(|(number, slot)| Some((number, slot.at_hand.get()?)))
    }
}
