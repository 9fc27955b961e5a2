//! Buffers that a thread's kernels use again from leaf to leaf.

use crate::kernels::mask::{KEPT, Mask};
use crate::kernels::partner::Drawer;

/// The buffers of one thread, which hold whatever was left in them.
#[derive(Default)]
pub struct Scratch {
    vectors: Vec<Vec<f32>>,
    drawer: Drawer,
    kept: Vec<Mask>,
}

impl Scratch {
    /// So many vectors of values, of any length.
    pub(super) fn vectors(&mut self, n: usize) -> &mut [Vec<f32>] {
        self.vectors.resize_with(self.vectors.len().max(n), Vec::new);
        &mut self.vectors[..n]
    }

    /// A vector of values of any length, and what draws masks.
    pub(super) fn drawing(&mut self) -> (&mut Vec<f32>, &mut Drawer) {
        self.vectors(1);
        (&mut self.vectors[0], &mut self.drawer)
    }

    /// A mask that keeps all of so many elements.
    pub(super) fn all_kept(&mut self, n_elements: usize) -> &[Mask] {
        self.kept.resize(n_elements, KEPT);
        &self.kept
    }
}
