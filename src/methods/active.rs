//! Which models change an element by more than a threshold, and their mean change: what `ram` and
//! `ramplus_tl` have in common.
//!
//! Yuan et al. 2026, Behavior Knowledge Merge in Reinforced Agentic Models, <https://arxiv.org/abs/2601.13572>.

use crate::kernels::elementwise::{Elementwise, MOST_INPUTS, counted};
use crate::kernels::pairs::{self, Bf16};
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

/// Whether `merge_bf16` takes so many models.
pub(super) fn suits_pairs(n_models: usize) -> bool {
    n_models < MOST_INPUTS
}

/// As `merge` of a base and models, from bf16 to bf16. Tells whether all of the result is finite.
pub(super) fn merge_bf16(inputs: &[&[Bf16]], threshold: f32, factors: &[f64], out: &mut [Bf16]) -> bool {
    counted!(inputs, inputs: N => {
        let mut own = [0.0; N];
        own[1..].copy_from_slice(factors);
        pairs::emit(&Merged { threshold, factors: own }, inputs, None, out)
    })
}

struct Merged<const N: usize> {
    threshold: f32,
    /// Of all inputs; that of the base is not used.
    factors: [f64; N],
}

impl<const N: usize> Elementwise<N> for Merged<N> {
    #[inline(always)]
    fn of(&self, x: [f32; N]) -> f32 {
        let base = f64::from(x[0]);
        let (mut sum, mut factor_sum, mut count) = (0.0, 0.0, 0.0);
        for k in 1..N {
            let is_active = (x[k] - x[0]).abs() > self.threshold;
            sum += if is_active { f64::from(x[k]) - base } else { 0.0 };
            count += if is_active { 1.0 } else { 0.0 };
            factor_sum += if is_active { self.factors[k] } else { 0.0 };
        }
        // Where one alone is active, its change is not divided, and that of none is zero.
        let factor = if count > 1.0 { 1.0 } else { factor_sum };
        let divisor = if count > 1.0 { count } else { 1.0 };
        (base + sum * factor / divisor) as f32
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
