//! The family's operation: its part of the action key, and its arithmetic leaf by leaf.

use super::arithmetic::{add, add_to_base, divide, mask_out, scale, subtract};
use super::brackets::{Bracketed, guess, list, settle};
use super::election::{Elected, elect_many};
use super::sparsify::{Sparsifier, rows_of};
use super::sum::Sum;
use super::vectors::{Combination, Divisor, TaskVectors, Vector};
use crate::kernels::bracket::Listed;
use crate::kernels::elementwise::{Element, MOST_INPUTS, counted};
use crate::kernels::mask::Mask;
use crate::kernels::pairs::{self, Bf16};
use crate::kernels::reduce::{l1, over_leaves};
use crate::kernels::select::{BINS, LEAF_COUNTS, Selection};
use crate::manifest::{Sink, SinkExt};
use crate::methods::operation::{Cut, DrawnMask, Extent, Kernel, Leaf, Operation, Pass, Ranking, Sample};
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

    fn masks(&self) -> Vec<DrawnMask> {
        let mask = |(i, vector): (usize, &Vector)| {
            let is_worth_keeping = vector.sparsifier.compares();
            DrawnMask { input: i + 1, is_worth_keeping, is_used_twice: self.rescale }
        };
        self.drawn().map(mask).collect()
    }

    fn write_mask(&self, mask: usize, sink: &mut dyn Sink) {
        let (_, vector) = self.drawn().nth(mask).expect("the operation has the mask");
        vector.sparsifier.write_manifest("mask", sink);
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

    /// The mask that decides what a vector keeps, if one does.
    fn mask_of<'m>(&self, vector: usize, masks: &'m [&[Mask]]) -> Option<&'m [Mask]> {
        let mask = self.operation.drawn().position(|(drawn, _)| drawn == vector)?;
        Some(masks[mask])
    }

    /// Zeroes what the rule does not keep.
    fn sparsify(&self, vector: usize, leaf: &Leaf<'_>, values: &mut [f32]) {
        if let Some(selection) = &self.selections[vector] {
            selection.apply(leaf.index, values);
        } else if let Some(mask) = self.mask_of(vector, leaf.masks) {
            mask_out(mask, values);
        }
    }

    fn gather_totals(&self, leaf: &Leaf<'_>, sums: &mut [f64], scratch: &mut Scratch) {
        let delta = &mut scratch.vectors(1)[0];
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
                    self.sparsify(i, leaf, delta);
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

    /// The results of what has more vectors than one loop takes.
    fn emit_many(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let TaskVectors { vectors, election, divisor, lambda, .. } = self.operation;
        let (base, lambda) = (leaf.inputs[0], *lambda as f32);
        let weights: Vec<f32> = vectors.iter().map(|vector| vector.weight as f32).collect();
        let weighted = scratch.vectors(vectors.len());
        for (i, values) in weighted.iter_mut().enumerate() {
            difference(leaf, i, values);
            self.sparsify(i, leaf, values);
            // Multiplying by 1 changes nothing, and there is one rounding each.
            scale(values, self.factors[i], weights[i]);
        }
        if *election {
            return elect_many(weighted, &weights, base, *divisor == Divisor::Elected, lambda, out);
        }
        out.fill(0.0);
        weighted.iter().for_each(|values| add(out, values));
        if let Divisor::Fixed(total) = divisor {
            divide(out, *total as f32);
        }
        add_to_base(base, lambda, out);
    }

    /// The results from a base and models, or sparse differences, of which masks say what they keep.
    fn combine<T: Element, const ARE_MODELS: bool>(
        &self,
        inputs: &[&[T]],
        masks: Option<&[&[Mask]; MOST_INPUTS]>,
        out: &mut [T],
    ) -> bool {
        let TaskVectors { election, divisor, .. } = *self.operation;
        counted!(inputs, inputs: N => {
            let masks = masks.and_then(|masks| masks.first_chunk());
            let combination = Combination::new(self.operation, &self.factors);
            match (election, divisor) {
                (false, divisor) => T::emit(&Sum::<N, ARE_MODELS>::new(combination, divisor), inputs, masks, out),
                (true, Divisor::Elected) => T::emit(&Elected::<N, ARE_MODELS, true>(combination), inputs, masks, out),
                (true, _) => T::emit(&Elected::<N, ARE_MODELS, false>(combination), inputs, masks, out),
            }
        })
    }

    /// The masks of all inputs, behind a place for the base; `all` for vectors that are kept whole.
    fn masks_of<'m>(&self, masks: &'m [&[Mask]], all: &'m [Mask]) -> [&'m [Mask]; MOST_INPUTS] {
        let mut of_inputs = [&[][..]; MOST_INPUTS];
        for i in 0..self.operation.vectors.len() {
            of_inputs[i + 1] = self.mask_of(i, masks).unwrap_or(all);
        }
        of_inputs
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
        let delta = &mut scratch.vectors(1)[0];
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

    fn draw(&self, mask: usize, leaf: &Leaf<'_>, drawn: &mut Vec<u8>, scratch: &mut Scratch) {
        let (i, Vector { sparsifier, .. }) = self.operation.drawn().nth(mask).expect("the mask is asked for");
        let (delta, drawer) = scratch.drawing();
        if sparsifier.compares() {
            difference(leaf, i, delta);
        }
        sparsifier.draw(rows_of(leaf), delta, drawer, drawn);
    }

    fn draw_bf16(&self, mask: usize, leaf: &Leaf<'_, Bf16>, drawn: &mut Vec<u8>, scratch: &mut Scratch) {
        let (i, Vector { sparsifier, .. }) = self.operation.drawn().nth(mask).expect("the mask is asked for");
        let (delta, drawer) = scratch.drawing();
        if sparsifier.compares() {
            delta.resize(leaf.n_elements(), 0.0);
            pairs::subtract(leaf.inputs[i + 1], leaf.inputs[0], delta);
        }
        sparsifier.draw(rows_of(leaf), delta, drawer, drawn);
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let n = self.operation.vectors.len();
        if n >= MOST_INPUTS {
            return self.emit_many(leaf, out, scratch);
        }
        if self.selected().next().is_some() {
            let deltas = scratch.vectors(n);
            for (i, delta) in deltas.iter_mut().enumerate() {
                difference(leaf, i, delta);
                self.sparsify(i, leaf, delta);
            }
            let mut inputs = [leaf.inputs[0]; MOST_INPUTS];
            inputs[1..].iter_mut().zip(&*deltas).for_each(|(input, delta)| *input = delta);
            self.combine::<f32, false>(&inputs[..=n], None, out);
        } else if leaf.masks.is_empty() {
            self.combine::<f32, true>(leaf.inputs, None, out);
        } else {
            let all = scratch.all_kept(leaf.n_elements());
            self.combine::<f32, true>(leaf.inputs, Some(&self.masks_of(leaf.masks, all)), out);
        }
    }

    fn takes_bf16(&self) -> bool {
        let TaskVectors { vectors, .. } = self.operation;
        let are_alike = |is: fn(&Sparsifier) -> bool| vectors.iter().all(|vector| is(&vector.sparsifier));
        self.phase == Phase::Emit
            && vectors.len() < MOST_INPUTS
            && (are_alike(Sparsifier::draws) || are_alike(|rule| *rule == Sparsifier::Everything))
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16]) -> bool {
        match leaf.masks {
            [] => self.combine::<Bf16, true>(leaf.inputs, None, out),
            masks => self.combine::<Bf16, true>(leaf.inputs, Some(&self.masks_of(masks, &[])), out),
        }
    }
}

/// x_i - b.
fn difference(leaf: &Leaf<'_>, vector: usize, out: &mut Vec<f32>) {
    out.resize(leaf.n_elements(), 0.0);
    subtract(leaf.inputs[vector + 1], leaf.inputs[0], out);
}
