//! Which models change an element by more than a threshold, and their mean change: what `ram` and
//! `ramplus_tl` have in common.
//!
//! Yuan et al. 2026, Behavior Knowledge Merge in Reinforced Agentic Models, <https://arxiv.org/abs/2601.13572>.

use crate::kernels::simd::vectorized;

/// Elements that are looked at together.
const RUN: usize = 512;

vectorized! {
    /// Writes the base plus, for each element, the mean change of the models that change it by more than
    /// `threshold`; the change of one alone is multiplied by its factor.
    pub(super) fn merge(base: &[f32], models: &[&[f32]], threshold: f32, factors: &[f64], out: &mut [f32]) {
        for (run, out) in out.chunks_mut(RUN).enumerate() {
            let base = &base[run * RUN..][..out.len()];
            let (mut sums, mut counts, mut factor_sums) = ([0.0; RUN], [0.0; RUN], [0.0; RUN]);
            for (model, own) in models.iter().zip(factors) {
                let values = &model[run * RUN..][..out.len()];
                for i in 0..out.len() {
                    let change = f64::from(values[i]) - f64::from(base[i]);
                    let is_active = (values[i] - base[i]).abs() > threshold;
                    sums[i] += if is_active { change } else { 0.0 };
                    counts[i] += if is_active { 1.0 } else { 0.0 };
                    factor_sums[i] += if is_active { *own } else { 0.0 };
                }
            }
            for i in 0..out.len() {
                let change = if counts[i] > 1.0 { sums[i] / counts[i] } else { sums[i] * factor_sums[i] };
                out[i] = (f64::from(base[i]) + change) as f32;
            }
        }
    }

    fn add_active(base: &[f32], model: &[f32], threshold: f32, n_active: &mut [u32]) {
        for (n, (x, b)) in n_active.iter_mut().zip(model.iter().zip(base)) {
            *n += u32::from((x - b).abs() > threshold);
        }
    }

    /// Elements that the model alone changes, and those that it changes along with others.
    fn unique_and_shared(base: &[f32], model: &[f32], threshold: f32, n_active: &[u32]) -> [u32; 2] {
        let (mut unique, mut shared) = (0, 0);
        for ((x, b), n) in model.iter().zip(base).zip(n_active) {
            let is_active = (x - b).abs() > threshold;
            unique += u32::from(is_active & (*n == 1));
            shared += u32::from(is_active & (*n > 1));
        }
        [unique, shared]
    }
}

/// Counts that every model has: elements that it alone changes, and those that it changes along with others.
pub(super) const COUNTS: usize = 2;

/// Adds to the [`COUNTS`] of every model.
pub(super) fn count(base: &[f32], models: &[&[f32]], threshold: f32, counts: &mut [u64]) {
    let mut n_active = [0; RUN];
    for (run, base) in base.chunks(RUN).enumerate() {
        let range = run * RUN..run * RUN + base.len();
        let n_active = &mut n_active[..base.len()];
        n_active.fill(0);
        for model in models {
            add_active(base, &model[range.clone()], threshold, n_active);
        }
        for (model, counts) in models.iter().zip(counts.as_chunks_mut::<COUNTS>().0) {
            let found = unique_and_shared(base, &model[range.clone()], threshold, n_active);
            counts.iter_mut().zip(found).for_each(|(count, more)| *count += u64::from(more));
        }
    }
}
