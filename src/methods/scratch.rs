//! Buffers that a thread's kernels use again from leaf to leaf.

use crate::kernels::sample::Sampler;

/// The buffers of one thread. A kernel takes those that it needs, finds anything in them, and leaves
/// anything.
#[derive(Default)]
pub struct Scratch {
    /// Values of leaves.
    pub(super) vectors: Vec<Vec<f32>>,
    pub(super) sampler: Sampler,
}
