//! Buffers that a thread's kernels use again from leaf to leaf.

use crate::kernels::partner::Drawer;

/// The buffers of one thread, which hold whatever was left in them.
#[derive(Default)]
pub struct Scratch {
    vectors: Vec<Vec<f32>>,
    drawing: Drawing,
}

/// What draws masks, and room for them.
#[derive(Default)]
pub(super) struct Drawing {
    pub drawer: Drawer,
    masks: Vec<Vec<u8>>,
}

impl Drawing {
    /// What draws, and so many masks of any length.
    pub(super) fn take(&mut self, n_masks: usize) -> (&mut Drawer, &mut [Vec<u8>]) {
        let Self { drawer, masks } = self;
        masks.resize_with(masks.len().max(n_masks), Vec::new);
        (drawer, &mut masks[..n_masks])
    }
}

impl Scratch {
    /// So many vectors of values, of any length, and what draws masks.
    pub(super) fn take(&mut self, n_vectors: usize) -> (&mut [Vec<f32>], &mut Drawing) {
        let Self { vectors, drawing } = self;
        vectors.resize_with(vectors.len().max(n_vectors), Vec::new);
        (&mut vectors[..n_vectors], drawing)
    }
}
