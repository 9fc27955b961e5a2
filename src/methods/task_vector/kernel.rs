//! The arithmetic of the family, leaf by leaf.

use super::sparsify::{Drawing, Sparsifier};
use super::{Divisor, TaskVectors};
use crate::kernels::reduce::{l1, over_leaves};
use crate::kernels::select::{BINS, LEAF_COUNTS, Selection};
use crate::kernels::simd::vectorized;
use crate::methods::{Kernel, Leaf, Pass, Scratch};

/// Sums below this leave a difference as it is instead of scaling it back.
const LEAST_L1: f64 = 1e-7;

/// Sums that each input has in the last pass: the whole difference's L1 norm, the kept part's, and the
/// counts of elements equal to the bounds of a selection.
const SUMS: usize = 2 + LEAF_COUNTS;

/// What must be known before results can be emitted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    CountHigh,
    CountLow,
    Totals,
    Emit,
}

pub(super) struct TaskKernel<'a> {
    operation: &'a TaskVectors,
    phase: Phase,
    /// For each vector whose rule goes by rank in the tensor.
    selections: Vec<Option<Selection>>,
    /// What each sparse difference is multiplied by.
    factors: Vec<f32>,
}

impl<'a> TaskKernel<'a> {
    pub(super) fn new(operation: &'a TaskVectors, n_elements: usize) -> Self {
        let n = n_elements as u64;
        let selections: Vec<Option<Selection>> = operation
            .vectors
            .iter()
            .map(|vector| Some(Selection::new(vector.sparsifier.ranks(n)?, n)))
            .collect();
        let phase = if selections.iter().any(Option::is_some) {
            Phase::CountHigh
        } else if operation.rescale {
            Phase::Totals
        } else {
            Phase::Emit
        };
        let factors = vec![1.0; operation.vectors.len()];
        Self { operation, phase, selections, factors }
    }

    /// Each selection with its number among the selections and its vector's number.
    fn selected(&self) -> impl Iterator<Item = (usize, usize, &Selection)> {
        let of_vector = self.selections.iter().enumerate();
        of_vector
            .filter_map(|(i, selection)| Some((i, selection.as_ref()?)))
            .enumerate()
            .map(|(n, (i, s))| (n, i, s))
    }

    /// Zeroes what the rule does not keep.
    fn sparsify(&self, vector: usize, leaf: &Leaf<'_>, drawing: &mut Drawing, values: &mut [f32]) {
        match &self.operation.vectors[vector].sparsifier {
            Sparsifier::Everything | Sparsifier::Nothing => {}
            Sparsifier::Random { density, stream } => drawing.keep_random(stream, *density, leaf, values),
            Sparsifier::Ranked { density, epsilon, stream } => {
                drawing.keep_ranked(stream, *density, *epsilon, leaf, values);
            }
            Sparsifier::Largest { .. } | Sparsifier::LargestButOutliers { .. } => {
                let selection = self.selections[vector].as_ref().expect("rules by rank have a selection");
                selection.apply(leaf.index, values);
            }
        }
    }

    fn gather_totals(&self, leaf: &Leaf<'_>, sums: &mut [f64], scratch: &mut Scratch) {
        let Scratch { vectors, drawing } = scratch;
        vectors.resize_with(vectors.len().max(1), Vec::new);
        let delta = &mut vectors[0];
        for (i, vector) in self.operation.vectors.iter().enumerate() {
            if vector.sparsifier == Sparsifier::Everything {
                continue;
            }
            difference(leaf, i, delta);
            let [whole, kept, equal @ ..] = &mut sums[i * SUMS..(i + 1) * SUMS] else {
                unreachable!("every vector has its sums")
            };
            if let Some(selection) = &self.selections[i] {
                selection.count_equal(delta, equal);
            }
            if !self.operation.rescale {
                continue;
            }
            *whole = l1(delta);
            match &self.selections[i] {
                Some(selection) => *kept = selection.add_between(delta),
                None => {
                    self.sparsify(i, leaf, drawing, delta);
                    *kept = l1(delta);
                }
            }
        }
    }

    fn absorb_totals(&mut self, sums: &[f64]) {
        let n = self.operation.vectors.len();
        let width = n * SUMS;
        for i in 0..n {
            let whole = over_leaves(sums, width, i * SUMS);
            let mut kept = over_leaves(sums, width, i * SUMS + 1);
            if let Some(selection) = &mut self.selections[i] {
                let at = i * SUMS + 2;
                kept += selection.absorb_equal(sums.chunks_exact(width).map(|leaf| [leaf[at], leaf[at + 1]]));
            }
            if self.operation.rescale && whole >= LEAST_L1 && kept >= LEAST_L1 {
                self.factors[i] = (whole / kept) as f32;
            }
        }
    }

    /// The weighted sparse difference of one vector.
    fn weighted(&self, vector: usize, leaf: &Leaf<'_>, drawing: &mut Drawing, values: &mut Vec<f32>) {
        difference(leaf, vector, values);
        self.sparsify(vector, leaf, drawing, values);
        let (factor, weight) = (self.factors[vector], self.operation.vectors[vector].weight as f32);
        // Multiplying by 1 changes nothing, and there is one rounding each.
        scale(values, factor, weight);
    }

    fn elect(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let vectors = &self.operation.vectors;
        let Scratch { vectors: weighted, drawing } = scratch;
        weighted.resize_with(weighted.len().max(vectors.len()), Vec::new);
        let weighted = &mut weighted[..vectors.len()];
        for (i, values) in weighted.iter_mut().enumerate() {
            self.weighted(i, leaf, drawing, values);
        }
        let weights: Vec<f32> = vectors.iter().map(|vector| vector.weight as f32).collect();
        elected(weighted, &weights, self.operation.divisor == Divisor::Elected, out);
    }

    fn add_up(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let Scratch { vectors, drawing } = scratch;
        vectors.resize_with(vectors.len().max(1), Vec::new);
        out.fill(0.0);
        for (i, vector) in self.operation.vectors.iter().enumerate() {
            if vector.sparsifier == Sparsifier::Everything {
                add_difference(leaf.inputs[i + 1], leaf.inputs[0], vector.weight as f32, out);
            } else {
                self.weighted(i, leaf, drawing, &mut vectors[0]);
                add(out, &vectors[0]);
            }
        }
        if let Divisor::Fixed(total) = self.operation.divisor {
            divide(out, total as f32);
        }
    }
}

impl Kernel for TaskKernel<'_> {
    fn next_pass(&self) -> Option<Pass> {
        let counts = self.selected().count() * BINS;
        match self.phase {
            Phase::CountHigh | Phase::CountLow => Some(Pass { sums: 0, counts }),
            Phase::Totals => Some(Pass { sums: self.operation.vectors.len() * SUMS, counts: 0 }),
            Phase::Emit => None,
        }
    }

    fn takes_pieces(&self) -> bool {
        // Ranks in a tensor are told by leaves, and so are sums of kept magnitudes.
        self.phase == Phase::Emit && self.selections.iter().all(Option::is_none)
    }

    fn gather(&self, leaf: &Leaf<'_>, sums: &mut [f64], counts: &mut [u64], scratch: &mut Scratch) {
        if self.phase == Phase::Totals {
            return self.gather_totals(leaf, sums, scratch);
        }
        scratch.vectors.resize_with(scratch.vectors.len().max(1), Vec::new);
        let delta = &mut scratch.vectors[0];
        for (n, i, selection) in self.selected() {
            difference(leaf, i, delta);
            let counts = &mut counts[n * BINS..(n + 1) * BINS];
            if self.phase == Phase::CountHigh {
                Selection::count_high(delta, counts);
            } else {
                selection.count_low(delta, counts);
            }
        }
    }

    fn absorb(&mut self, sums: &[f64], counts: &[u64]) -> Result<(), String> {
        match self.phase {
            Phase::CountHigh => {
                for (selection, counts) in self.selections.iter_mut().flatten().zip(counts.chunks_exact(BINS))
                {
                    selection.absorb_high(counts);
                }
                self.phase = Phase::CountLow;
            }
            Phase::CountLow => {
                for (selection, counts) in self.selections.iter_mut().flatten().zip(counts.chunks_exact(BINS))
                {
                    selection.absorb_low(counts);
                }
                self.phase = Phase::Totals;
            }
            Phase::Totals => {
                self.absorb_totals(sums);
                self.phase = Phase::Emit;
            }
            Phase::Emit => unreachable!("no pass is asked for"),
        }
        Ok(())
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch) {
        if self.operation.election {
            self.elect(leaf, out, scratch);
        } else {
            self.add_up(leaf, out, scratch);
        }
        add_to_base(leaf.inputs[0], self.operation.lambda as f32, out);
    }
}

/// x_i - b.
fn difference(leaf: &Leaf<'_>, vector: usize, out: &mut Vec<f32>) {
    out.resize(leaf.n_elements(), 0.0);
    subtract(leaf.inputs[vector + 1], leaf.inputs[0], out);
}

/// Elements for which signs are elected at a time.
const RUN: usize = 512;

vectorized! {
    fn subtract(x: &[f32], base: &[f32], out: &mut [f32]) {
        for (d, (x, b)) in out.iter_mut().zip(x.iter().zip(base)) {
            *d = x - b;
        }
    }

    fn add_difference(x: &[f32], base: &[f32], weight: f32, out: &mut [f32]) {
        for (sum, (x, b)) in out.iter_mut().zip(x.iter().zip(base)) {
            *sum += (x - b) * weight;
        }
    }

    fn scale(values: &mut [f32], factor: f32, weight: f32) {
        for value in values {
            *value = *value * factor * weight;
        }
    }

    fn add(out: &mut [f32], values: &[f32]) {
        for (sum, d) in out.iter_mut().zip(values) {
            *sum += d;
        }
    }

    fn divide(out: &mut [f32], total: f32) {
        for delta in out {
            *delta /= total;
        }
    }

    fn add_to_base(base: &[f32], lambda: f32, out: &mut [f32]) {
        for (r, b) in out.iter_mut().zip(base) {
            *r = b + *r * lambda;
        }
    }

    /// The sum of those weighted differences that have the elected sign, divided by their weights' sum
    /// if asked for.
    fn elected(weighted: &[Vec<f32>], weights: &[f32], is_mean: bool, out: &mut [f32]) {
        for (run, out) in out.chunks_mut(RUN).enumerate() {
            let (start, n) = (run * RUN, out.len());
            let (mut sums, mut divisors) = ([0.0; RUN], [0.0; RUN]);
            for values in weighted {
                for (sum, d) in sums.iter_mut().zip(&values[start..start + n]) {
                    *sum += d;
                }
            }
            out.fill(0.0);
            for (values, weight) in weighted.iter().zip(weights.iter().copied()) {
                let values = &values[start..start + n];
                for (((delta, divisor), sum), d) in out.iter_mut().zip(&mut divisors).zip(&sums).zip(values) {
                    let agrees = if *sum >= 0.0 { *d > 0.0 } else { *d < 0.0 };
                    *delta += if agrees { *d } else { 0.0 };
                    *divisor += if agrees { weight } else { 0.0 };
                }
            }
            if is_mean {
                for (delta, divisor) in out.iter_mut().zip(&divisors) {
                    *delta /= if *divisor == 0.0 { 1.0 } else { *divisor };
                }
            }
        }
    }
}
