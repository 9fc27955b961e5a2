//! The family's operation: its part of the action key, and its arithmetic leaf by leaf.

use super::arithmetic::{
    add, add_difference, add_masked_difference, add_to_base, divide, mask_out, scale, subtract,
};
use super::brackets::{Bracketed, guess, list, settle};
use super::election::{Candidate, FEW, Form, Tally, elect, elect_many};
use super::plain::Plain;
use super::sparsify::Sparsifier;
use super::vectors::{Divisor, TaskVectors, Vector};
use crate::kernels::bracket::Listed;
use crate::kernels::pairs::{self, Bf16, counted};
use crate::kernels::reduce::{l1, over_leaves};
use crate::kernels::select::{BINS, LEAF_COUNTS, Selection};
use crate::manifest::{Sink, SinkExt};
use crate::methods::operation::{Cut, Extent, Kernel, Leaf, Operation, Pass, Ranking, Sample};
use crate::methods::scratch::{Drawing, Scratch};

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
    fn sparsify(&self, vector: usize, leaf: &Leaf<'_>, drawing: &mut Drawing, values: &mut [f32]) {
        if let Some(selection) = &self.selections[vector] {
            return selection.apply(leaf.index, values);
        }
        let sparsifier = &self.operation.vectors[vector].sparsifier;
        if sparsifier.draws() {
            let (drawer, masks) = drawing.take(1);
            sparsifier.draw(leaf, values, drawer, &mut masks[0]);
            mask_out(&masks[0], values);
        }
    }

    fn gather_totals(&self, leaf: &Leaf<'_>, sums: &mut [f64], scratch: &mut Scratch) {
        let (vectors, drawing) = scratch.take(1);
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
    fn weighted(&self, vector: usize, leaf: &Leaf<'_>, drawing: &mut Drawing, values: &mut Vec<f32>) {
        difference(leaf, vector, values);
        self.sparsify(vector, leaf, drawing, values);
        let (factor, weight) = (self.factors[vector], self.operation.vectors[vector].weight as f32);
        // Multiplying by 1 changes nothing, and there is one rounding each.
        scale(values, factor, weight);
    }

    /// What the election looks at.
    fn form(&self) -> Form {
        if self.selections.iter().any(Option::is_some) {
            Form::Differences
        } else if self.operation.vectors.iter().any(|vector| vector.sparsifier.draws()) {
            Form::MaskedModels
        } else {
            Form::Models
        }
    }

    fn elect(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let vectors = &self.operation.vectors;
        let is_mean = self.operation.divisor == Divisor::Elected;
        let tally = Tally { is_mean, lambda: self.operation.lambda as f32 };
        let (deltas, drawing) = scratch.take(vectors.len());
        if vectors.len() > FEW {
            for (i, values) in deltas.iter_mut().enumerate() {
                self.weighted(i, leaf, drawing, values);
            }
            let weights: Vec<f32> = vectors.iter().map(|vector| vector.weight as f32).collect();
            return elect_many(deltas, &weights, leaf.inputs[0], tally, out);
        }
        let form = self.form();
        let (drawer, masks) = drawing.take(vectors.len());
        for (i, (vector, mask)) in vectors.iter().zip(&mut *masks).enumerate() {
            let delta = &mut deltas[if form == Form::Differences { i } else { 0 }];
            if form == Form::Differences || vector.sparsifier.compares() {
                difference(leaf, i, delta);
            }
            if let Some(selection) = &self.selections[i] {
                selection.apply(leaf.index, delta);
            }
            if form == Form::MaskedModels {
                vector.sparsifier.draw(leaf, delta, drawer, mask);
            }
        }
        let candidates: [Candidate<'_>; FEW] = std::array::from_fn(|place| {
            // Places beyond the last vector are not looked at.
            let i = place.min(vectors.len() - 1);
            Candidate {
                values: if form == Form::Differences { &deltas[i] } else { leaf.inputs[i + 1] },
                mask: &masks[i],
                factor: self.factors[i],
                weight: vectors[i].weight as f32,
            }
        });
        elect(&candidates[..vectors.len()], form, leaf.inputs[0], tally, out);
    }

    fn add_up(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let (deltas, drawing) = scratch.take(1);
        let delta = &mut deltas[0];
        out.fill(0.0);
        for (i, Vector { weight, sparsifier }) in self.operation.vectors.iter().enumerate() {
            let (x, base, weight) = (leaf.inputs[i + 1], leaf.inputs[0], *weight as f32);
            if *sparsifier == Sparsifier::Everything {
                add_difference(x, base, weight, out);
            } else if sparsifier.draws() {
                let (drawer, masks) = drawing.take(1);
                if sparsifier.compares() {
                    difference(leaf, i, delta);
                }
                sparsifier.draw(leaf, delta, drawer, &mut masks[0]);
                add_masked_difference(x, base, &masks[0], self.factors[i], weight, out);
            } else {
                self.weighted(i, leaf, drawing, delta);
                add(out, delta);
            }
        }
        if let Divisor::Fixed(total) = self.operation.divisor {
            divide(out, total as f32);
        }
        add_to_base(leaf.inputs[0], self.operation.lambda as f32, out);
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
    }

    fn takes_bf16(&self) -> bool {
        self.operation.is_plain() && self.operation.vectors.len() < pairs::MOST_INPUTS
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16]) -> bool {
        counted!(leaf.inputs, inputs: N => pairs::emit(&Plain::<N>::new(self.operation), inputs, out))
    }
}

/// x_i - b.
fn difference(leaf: &Leaf<'_>, vector: usize, out: &mut Vec<f32>) {
    out.resize(leaf.n_elements(), 0.0);
    subtract(leaf.inputs[vector + 1], leaf.inputs[0], out);
}
