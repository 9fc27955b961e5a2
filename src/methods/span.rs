//! Results that lie in the span of their inputs: a sum of all inputs, each multiplied by a number that follows
//! from their inner products. One pass gathers those, for whole tensors; `combine` alone does for single rows.

use std::fmt::Debug;

use super::gram::Gram;
use super::operation::{Kernel, Leaf, Pass};
use super::scratch::Scratch;
use crate::kernels::elementwise::{Elementwise, MOST_INPUTS, counted};
use crate::kernels::pairs::{self, Bf16};
use crate::kernels::reduce::{Element, LANES, prefers_bf16, products, products_from};
use crate::kernels::simd::vectorized;

/// From inner products to the numbers that vectors are multiplied by.
pub(super) trait Combination: Sync + Debug {
    /// One number for each vector. Where there is a base, vectors are differences from it.
    ///
    /// # Errors
    /// Says what leaves the result without meaning.
    fn factors(&self, gram: &Gram) -> Result<Vec<f64>, String>;
}

/// Combines whole tensors. The first input is the base, if there is one.
pub(super) struct Combined<'a> {
    combination: &'a dyn Combination,
    has_base: bool,
    n_vectors: usize,
    /// Known once the pass is done.
    factors: Option<Vec<f64>>,
}

impl<'a> Combined<'a> {
    pub fn new(combination: &'a dyn Combination, has_base: bool, n_vectors: usize) -> Self {
        Self { combination, has_base, n_vectors, factors: None }
    }
}

impl Kernel for Combined<'_> {
    fn next_pass(&self) -> Option<Pass> {
        let pass = Pass { sums: Gram::n_products(self.n_vectors) * LANES, counts: 0 };
        self.factors.is_none().then_some(pass)
    }

    fn takes_pieces(&self) -> bool {
        true
    }

    fn gather(&self, leaf: &Leaf<'_>, sums: &mut [f64], _counts: &mut [u64], _scratch: &mut Scratch) {
        add_products(self.has_base, leaf.inputs, sums);
    }

    fn absorb(&mut self, sums: &[f64], _counts: &[u64]) -> Result<(), String> {
        self.factors = Some(self.combination.factors(&Gram::new(self.n_vectors, sums))?);
        Ok(())
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        combine(self.has_base, leaf.inputs, self.factors.as_ref().expect("the pass came first"), out);
    }

    fn takes_bf16(&self) -> bool {
        suits_pairs(self.has_base, self.n_vectors) && (self.factors.is_some() || prefers_bf16())
    }

    fn gather_bf16(&self, leaf: &Leaf<'_, Bf16>, sums: &mut [f64]) {
        add_products(self.has_base, leaf.inputs, sums);
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16]) -> bool {
        combine_bf16(self.has_base, leaf.inputs, self.factors.as_ref().expect("the pass came first"), out)
    }
}

/// Adds to the lanes of all inner products of inputs, or of their differences from the first.
pub(super) fn add_products<T: Element>(has_base: bool, inputs: &[&[T]], lanes: &mut [f64]) {
    match inputs {
        [base, vectors @ ..] if has_base => products_from(base, vectors, lanes),
        vectors => products(vectors, lanes),
    }
}

/// Writes the sum of all inputs, each multiplied by its factor; with a base, the first input plus the sum
/// of differences from it. Adds up in f64 and rounds once.
pub(super) fn combine(has_base: bool, inputs: &[&[f32]], factors: &[f64], out: &mut [f32]) {
    match inputs {
        [base, vectors @ ..] if has_base => sum_from(base, vectors, factors, out),
        vectors => sum(vectors, factors, out),
    }
}

/// Whether `combine_bf16` takes so many vectors.
pub(super) fn suits_pairs(has_base: bool, n_vectors: usize) -> bool {
    usize::from(has_base) + n_vectors <= MOST_INPUTS
}

/// As `combine`, from bf16 to bf16. Tells whether all of the result is finite.
pub(super) fn combine_bf16(has_base: bool, inputs: &[&[Bf16]], factors: &[f64], out: &mut [Bf16]) -> bool {
    counted!(inputs, inputs: N => {
        let mut own = [0.0; N];
        own[usize::from(has_base)..].copy_from_slice(factors);
        if has_base {
            pairs::emit(&SumFrom(own), inputs, None, out)
        } else {
            pairs::emit(&Sum(own), inputs, None, out)
        }
    })
}

/// The factors of all inputs.
struct Sum<const N: usize>([f64; N]);

impl<const N: usize> Elementwise<N> for Sum<N> {
    #[inline(always)]
    fn of(&self, x: [f32; N]) -> f32 {
        let mut sum = 0.0;
        for k in 0..N {
            sum += self.0[k] * f64::from(x[k]);
        }
        sum as f32
    }
}

/// The factors of all inputs; that of the base is not used.
struct SumFrom<const N: usize>([f64; N]);

impl<const N: usize> Elementwise<N> for SumFrom<N> {
    #[inline(always)]
    fn of(&self, x: [f32; N]) -> f32 {
        let base = f64::from(x[0]);
        let mut sum = 0.0;
        for k in 1..N {
            sum += self.0[k] * (f64::from(x[k]) - base);
        }
        (base + sum) as f32
    }
}

/// Elements that are added up at a time.
const RUN: usize = 512;

vectorized! {
    fn sum(vectors: &[&[f32]], factors: &[f64], out: &mut [f32]) {
        for (run, out) in out.chunks_mut(RUN).enumerate() {
            let mut sums = [0.0; RUN];
            for (vector, factor) in vectors.iter().zip(factors) {
                for (sum, x) in sums.iter_mut().zip(&vector[run * RUN..][..out.len()]) {
                    *sum += factor * f64::from(*x);
                }
            }
            for (r, sum) in out.iter_mut().zip(&sums) {
                *r = *sum as f32;
            }
        }
    }

    fn sum_from(base: &[f32], vectors: &[&[f32]], factors: &[f64], out: &mut [f32]) {
        for (run, out) in out.chunks_mut(RUN).enumerate() {
            let base = &base[run * RUN..][..out.len()];
            let mut sums = [0.0; RUN];
            for (vector, factor) in vectors.iter().zip(factors) {
                for ((sum, x), b) in sums.iter_mut().zip(&vector[run * RUN..][..out.len()]).zip(base) {
                    *sum += factor * (f64::from(*x) - f64::from(*b));
                }
            }
            for ((r, sum), b) in out.iter_mut().zip(&sums).zip(base) {
                *r = (f64::from(*b) + sum) as f32;
            }
        }
    }
}
