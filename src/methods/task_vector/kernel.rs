//! The family's operation: its part of the action key, and its arithmetic leaf by leaf.

use super::arithmetic::{add, add_difference, add_to_base, divide, elected, scale, subtract};
use super::brackets::{Bracketed, guess, list, settle};
use super::plain::Plain;
use super::sparsify::{Sparsifier, keep_random, keep_ranked};
use super::vectors::{Divisor, TaskVectors, Vector};
use crate::kernels::bracket::Listed;
use crate::kernels::pairs::{self, Bf16, counted};
use crate::kernels::reduce::{l1, over_leaves};
use crate::kernels::sample::Sampler;
use crate::kernels::select::{BINS, LEAF_COUNTS, Selection};
use crate::manifest::{Sink, SinkExt};
use crate::methods::operation::{Cut, Extent, Kernel, Leaf, Operation, Pass, Ranking, Sample};
use crate::methods::scratch::Scratch;

/// Sums below this leave a difference as it is instead of scaling it back.
const LEAST_L1: f64 = 1e-7;

/// Sums that each input has in the last pass: the whole difference's L1 norm, the kept part's, and the
/// counts of elements equal to the bounds of a selection.
const SUMS: usize = 2 + LEAF_COUNTS;

impl Operation for TaskVectors {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        let Self { vectors, election, divisor, rescale, lambda } = self;
        for (i, Vector { weight, sparsifier }) in vectors.iter().enumerate() {
            let i = i + 1;
            sink.number(&format!("inputs[{i}].weight"), *weight);
            sparsifier.write_manifest(&format!("inputs[{i}]"), sink);
        }
        sink.flag("election", *election);
        match divisor {
            Divisor::One => sink.flag("normalize", false),
            Divisor::Elected => sink.flag("normalize", true),
            Divisor::Fixed(total) => {
                sink.flag("normalize", true);
                sink.number("divisor", *total);
            }
        }
        sink.flag("rescale", *rescale);
        sink.number("lambda", *lambda);
    }

    fn cut(&self) -> Cut {
        let ranked = |vector: &Vector| matches!(vector.sparsifier, Sparsifier::Ranked { .. });
        if self.vectors.iter().any(ranked) { Cut::SecondAxis } else { Cut::Elements }
    }

    fn kernel(&self, extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(TaskKernel::new(self, extent.n_elements))
    }
}

/// What must be known before results can be emitted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The ranks of selections, by a sample and one pass.
    Ranking,
    /// Counts for selections, in as many passes as those need, where that did not find them.
    Selections,
    /// Sums of magnitudes, and of each leaf what selections need to know.
    Totals,
    Emit,
}

pub(super) struct TaskKernel<'a> {
    operation: &'a TaskVectors,
    phase: Phase,
    /// For each vector whose rule goes by rank in the tensor.
    selections: Vec<Option<Selection>>,
    /// Where their open ranks are expected, once a sample has been seen.
    brackets: Vec<Bracketed>,
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
            Phase::Ranking
        } else if operation.rescale {
            Phase::Totals
        } else {
            Phase::Emit
        };
        let factors = vec![1.0; operation.vectors.len()];
        Self { operation, phase, selections, brackets: Vec::new(), factors }
    }

    /// Each selection with its vector's number.
    fn selected(&self) -> impl Iterator<Item = (usize, &Selection)> {
        self.selections.iter().enumerate().filter_map(|(i, selection)| Some((i, selection.as_ref()?)))
    }

    /// Zeroes what the rule does not keep.
    fn sparsify(&self, vector: usize, leaf: &Leaf<'_>, sampler: &mut Sampler, values: &mut [f32]) {
        match &self.operation.vectors[vector].sparsifier {
            Sparsifier::Everything | Sparsifier::Nothing => {}
            Sparsifier::Random { density, stream } => keep_random(stream, *density, leaf, sampler, values),
            Sparsifier::Ranked { density, epsilon, stream } => {
                keep_ranked(stream, *density, *epsilon, leaf, sampler, values);
            }
            Sparsifier::Largest { .. } | Sparsifier::LargestButOutliers { .. } => {
                let selection = self.selections[vector].as_ref().expect("rules by rank have a selection");
                selection.apply(leaf.index, values);
            }
        }
    }

    fn gather_totals(&self, leaf: &Leaf<'_>, sums: &mut [f64], scratch: &mut Scratch) {
        let (vectors, sampler) = scratch.take(1);
        let delta = &mut vectors[0];
        for (i, vector) in self.operation.vectors.iter().enumerate() {
            if vector.sparsifier == Sparsifier::Everything {
                continue;
            }
            difference(leaf, i, delta);
            let [whole, kept, equal @ ..] = &mut sums[i * SUMS..(i + 1) * SUMS] else {
                unreachable!("every vector has its sums")
            };
            if let Some(selection) = self.selections[i].as_ref().filter(|selection| !selection.is_settled()) {
                selection.count_equal(delta, equal);
            }
            if !self.operation.rescale {
                continue;
            }
            *whole = l1(delta);
            match &self.selections[i] {
                Some(selection) => *kept = selection.add_between(delta),
                None => {
                    self.sparsify(i, leaf, sampler, delta);
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
                if !selection.is_settled() {
                    let at = i * SUMS + 2;
                    selection.absorb_equal(sums.chunks_exact(width).map(|leaf| [leaf[at], leaf[at + 1]]));
                }
                kept += selection.kept_equal();
            }
            if self.operation.rescale && whole >= LEAST_L1 && kept >= LEAST_L1 {
                self.factors[i] = (whole / kept) as f32;
            }
        }
    }

    /// The weighted sparse difference of one vector.
    fn weighted(&self, vector: usize, leaf: &Leaf<'_>, sampler: &mut Sampler, values: &mut Vec<f32>) {
        difference(leaf, vector, values);
        self.sparsify(vector, leaf, sampler, values);
        let (factor, weight) = (self.factors[vector], self.operation.vectors[vector].weight as f32);
        // Multiplying by 1 changes nothing, and there is one rounding each.
        scale(values, factor, weight);
    }

    fn elect(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let vectors = &self.operation.vectors;
        let (weighted, sampler) = scratch.take(vectors.len());
        for (i, values) in weighted.iter_mut().enumerate() {
            self.weighted(i, leaf, sampler, values);
        }
        let weights: Vec<f32> = vectors.iter().map(|vector| vector.weight as f32).collect();
        elected(weighted, &weights, self.operation.divisor == Divisor::Elected, out);
    }

    fn add_up(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let (vectors, sampler) = scratch.take(1);
        out.fill(0.0);
        for (i, vector) in self.operation.vectors.iter().enumerate() {
            if vector.sparsifier == Sparsifier::Everything {
                add_difference(leaf.inputs[i + 1], leaf.inputs[0], vector.weight as f32, out);
            } else {
                self.weighted(i, leaf, sampler, &mut vectors[0]);
                add(out, &vectors[0]);
            }
        }
        if let Divisor::Fixed(total) = self.operation.divisor {
            divide(out, total as f32);
        }
    }
}

impl Ranking for TaskKernel<'_> {
    fn see(&mut self, sample: &Sample<'_>) -> usize {
        self.brackets = guess(&self.selections, sample);
        self.brackets.len()
    }

    fn list(&self, leaf: &Leaf<'_>, lists: &mut [Listed], scratch: &mut Scratch) {
        list(&self.brackets, leaf, lists, scratch);
    }

    fn absorb(&mut self, runs: Option<&[Vec<Listed>]>) {
        let is_found = runs.is_some_and(|runs| settle(&self.brackets, runs, &mut self.selections));
        self.phase = match is_found {
            false => Phase::Selections,
            true if self.operation.rescale => Phase::Totals,
            true => Phase::Emit,
        };
    }
}

impl Kernel for TaskKernel<'_> {
    fn ranking(&mut self) -> Option<&mut dyn Ranking> {
        (self.phase == Phase::Ranking).then_some(self)
    }

    fn next_pass(&self) -> Option<Pass> {
        match self.phase {
            Phase::Ranking => unreachable!("ranks are searched first"),
            Phase::Selections => Some(Pass { sums: 0, counts: self.selected().count() * BINS }),
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
        let (vectors, _) = scratch.take(1);
        let delta = &mut vectors[0];
        for ((i, selection), counts) in self.selected().zip(counts.chunks_exact_mut(BINS)) {
            difference(leaf, i, delta);
            selection.count(delta, counts);
        }
    }

    fn absorb(&mut self, sums: &[f64], counts: &[u64]) -> Result<(), String> {
        match self.phase {
            Phase::Selections => {
                let selections = self.selections.iter_mut().flatten();
                selections
                    .zip(counts.chunks_exact(BINS))
                    .for_each(|(selection, counts)| selection.absorb(counts));
                // All go through the same passes.
                if !self.selected().any(|(_, selection)| selection.needs_counts()) {
                    self.phase = Phase::Totals;
                }
            }
            Phase::Totals => {
                self.absorb_totals(sums);
                self.phase = Phase::Emit;
            }
            Phase::Ranking | Phase::Emit => unreachable!("no pass is asked for"),
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

    fn takes_bf16(&self) -> bool {
        self.operation.is_plain() && self.operation.vectors.len() < pairs::MOST_INPUTS
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16], _scratch: &mut Scratch) -> bool {
        counted!(leaf.inputs, inputs: N => pairs::emit(&Plain::<N>::new(self.operation), inputs, out))
    }
}

/// x_i - b.
fn difference(leaf: &Leaf<'_>, vector: usize, out: &mut Vec<f32>) {
    out.resize(leaf.n_elements(), 0.0);
    subtract(leaf.inputs[vector + 1], leaf.inputs[0], out);
}
