//! What a method makes of its arguments: an operation, which works on a tensor leaf by leaf.

use std::fmt::Debug;

use super::scratch::Scratch;
use crate::kernels::bracket::Listed;
use crate::kernels::mask::Mask;
use crate::kernels::pairs::Bf16;
use crate::manifest::Sink;

/// Resolved arithmetic of one action.
pub trait Operation: Send + Sync + Debug {
    /// Writes every field that can change the bytes, by name; per-input fields as `inputs[i].name`,
    /// with i counting the operation's own inputs.
    fn write_manifest(&self, sink: &mut dyn Sink);

    /// How a tensor must be cut so that each leaf can be worked on alone.
    fn cut(&self) -> Cut;

    /// Starts work on one tensor.
    fn kernel(&self, extent: Extent) -> Box<dyn Kernel + '_>;

    /// The masks that it draws, in their order.
    fn masks(&self) -> Vec<DrawnMask> {
        Vec::new()
    }

    /// Writes every field that a mask follows from, by name, beside the two inputs that it looks at.
    fn write_mask(&self, _mask: usize, _sink: &mut dyn Sink) {
        unreachable!("the operation draws no masks")
    }
}

/// A mask that an operation draws: which elements an input's difference from the first input keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrawnMask {
    /// The input's number.
    pub input: usize,
    /// Whether to draw it takes longer than to read it from a disk, a bit an element.
    pub is_worth_keeping: bool,
    /// Whether more than one pass looks at it.
    pub is_used_twice: bool,
}

/// The size of a tensor and of its leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub n_elements: usize,
    /// The rows of every leaf but the last, which may have fewer.
    pub rows: usize,
}

/// How a tensor is cut into leaves. The cut depends on the shape alone, never on memory or threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Anywhere: elements (or reductions over them) do not look at their neighbours.
    Elements,
    /// Into whole vectors along the last axis; a 1-D tensor is one vector.
    LastAxis,
    /// The same, at least so many vectors to a leaf, but for the last.
    Rows { at_least: usize },
    /// Into whole vectors along axis 1; a 1-D tensor is one vector.
    SecondAxis,
    /// Into whole vectors along axis 0; a 1-D tensor is one vector.
    FirstAxis,
}

/// What a pass over all inputs collects before the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// f64 sums wanted of each leaf.
    pub sums: usize,
    /// Exact integer counts, added up over all leaves in any order.
    pub counts: usize,
}

/// A run of whole vectors (or elements) of all inputs, as f32 or as stored.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<'a, T = f32> {
    /// The number of this leaf in its tensor.
    pub index: usize,
    /// One slice per operation input, each of `rows * row_len` values, row by row.
    pub inputs: &'a [&'a [T]],
    /// One slice per mask that the operation draws, in the order of the elements; none while masks are drawn.
    pub masks: &'a [&'a [Mask]],
    /// Under [`Cut::Elements`] 1; otherwise the number of whole vectors.
    pub rows: usize,
    /// Under [`Cut::Elements`] the number of elements; otherwise the length of a vector.
    pub row_len: usize,
    /// Flat index in the tensor of the leaf's first element.
    pub start: u64,
    /// Flat distance between the first elements of neighbouring rows.
    pub row_step: u64,
    /// Flat distance between neighbouring elements of a row; 1 unless vectors are strided.
    pub col_step: u64,
}

impl<T> Leaf<'_, T> {
    /// Number of elements in the leaf.
    pub fn n_elements(&self) -> usize {
        self.rows * self.row_len
    }
}

/// Arithmetic in progress on one tensor: zero or more passes that gather, then one that emits.
///
/// The caller may work on leaves in any order and on any number of threads; results are the same,
/// since sums come back in leaf order and counts are exact.
pub trait Kernel: Sync {
    /// Ranks in the whole tensor that are wanted now, before the next pass.
    fn ranking(&mut self) -> Option<&mut dyn Ranking> {
        None
    }

    /// What the next pass must collect, or `None` when `emit` may be called.
    fn next_pass(&self) -> Option<Pass> {
        None
    }

    /// Whether leaves may come in pieces of whole rows, first to last: `gather` then adds to the sums of
    /// the pieces before, and `emit` does not care. A piece ends at a multiple of 8 elements, or of a row,
    /// or with its leaf.
    fn takes_pieces(&self) -> bool {
        false
    }

    /// Draws a mask for a piece of whole rows: for each of its elements [`KEPT`] or 0.
    ///
    /// [`KEPT`]: crate::kernels::partner::KEPT
    fn draw(&self, _mask: usize, _leaf: &Leaf<'_>, _drawn: &mut Vec<u8>, _scratch: &mut Scratch) {
        unreachable!("the operation draws no masks")
    }

    /// Adds what a leaf holds. `sums` arrive zeroed and are the leaf's own; `counts` are shared by
    /// many leaves and must only be added to.
    fn gather(&self, _leaf: &Leaf<'_>, _sums: &mut [f64], _counts: &mut [u64], _scratch: &mut Scratch) {}

    /// Ends a pass. `sums` holds `Pass::sums` values a leaf, leaf after leaf.
    ///
    /// # Errors
    /// Says what makes the result undefined, such as weights that add up to zero.
    fn absorb(&mut self, _sums: &[f64], _counts: &[u64]) -> Result<(), String> {
        Ok(())
    }

    /// The whole result, where it is a small table that the passes have gathered; nothing is emitted then.
    fn table(&self) -> Option<&[f64]> {
        None
    }

    /// Computes the leaf's result, before rounding to the output dtype.
    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch);

    /// Whether the next pass, or `emit` if none is left, has a faster loop for inputs that are all bf16. It gives
    /// the same bits. Leaves come in pieces only to kernels that take them.
    fn takes_bf16(&self) -> bool {
        false
    }

    /// As `draw`, from bf16 as it is stored. Only for kernels that take it.
    fn draw_bf16(&self, _mask: usize, _leaf: &Leaf<'_, Bf16>, _drawn: &mut Vec<u8>, _scratch: &mut Scratch) {
        unreachable!("the kernel takes no bf16")
    }

    /// As `gather`, from bf16 as it is stored. Only for kernels that take it, and passes without counts.
    fn gather_bf16(&self, _leaf: &Leaf<'_, Bf16>, _sums: &mut [f64]) {
        unreachable!("the kernel takes no bf16")
    }

    /// As `emit`, from bf16 to bf16. Tells whether all of the result is finite; if not, what is written means
    /// nothing. Only for kernels that take it.
    fn emit_bf16(&self, _leaf: &Leaf<'_, Bf16>, _out: &mut [Bf16]) -> bool {
        unreachable!("the kernel takes no bf16")
    }
}

/// A search for ranks in a whole tensor by a sample and one pass, which lists what the sample has left open.
///
/// Nothing of a result may depend on the sample.
pub trait Ranking: Sync {
    /// Sees the sample. Returns how many lists are to be made.
    fn see(&mut self, sample: &Sample<'_>) -> usize;

    /// Looks through a piece of a leaf. Pieces come from first to last, as for [`Kernel::takes_pieces`].
    fn list(&self, leaf: &Leaf<'_>, lists: &mut [Listed], scratch: &mut Scratch);

    /// Ends the search with what was listed of each run of leaves, in their order. With nothing, because no sample
    /// could be taken or the lists grew too long, the kernel goes on without.
    fn absorb(&mut self, runs: Option<&[Vec<Listed>]>);
}

/// Elements at fixed places; none of a tensor so small that all of it may be listed.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Their flat indices in the tensor.
    pub places: &'a [u64],
    /// One slice per operation input.
    pub inputs: &'a [&'a [f32]],
}
