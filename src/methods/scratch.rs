//! Buffers that a thread's kernels use again from leaf to leaf.

use crate::kernels::sample::Sampler;

/// The buffers of one thread, which hold whatever was left in them.
#[derive(Default)]
pub struct Scratch {
    vectors: Vec<Vec<f32>>,
    sampler: Sampler,
}

impl Scratch {
    /// So many vectors of values, of any length, and a sampler.
    pub(super) fn take(&mut self, n_vectors: usize) -> (&mut [Vec<f32>], &mut Sampler) {
        let Self { vectors, sampler } = self;
        vectors.resize_with(vectors.len().max(n_vectors), Vec::new);
        (&mut vectors[..n_vectors], sampler)
    }
}
