//! Keeps the elements whose magnitudes rank within bounds, without sorting a tensor.
//!
//! Ranks count from 0 for the largest magnitude; of equal magnitudes the lower index ranks first. A rank
//! is bounded by a magnitude and by how many elements equal to it still belong: found by a histogram of
//! the upper bits of all magnitudes, one of the lower bits of those that share the bound's upper bits,
//! and a count of equal elements in each leaf. Or by [brackets](super::bracket), in one pass.
//!
//! The former takes three passes over all values: with [`Selection::count`], as long as the selection
//! [needs counts](Selection::needs_counts), and then with [`Selection::count_equal`]. After them
//! [`Selection::apply`] works leaf by leaf.

use std::ops::Range;

use super::simd::vectorized;

/// Bins of either histogram.
pub const BINS: usize = 1 << 16;

pub(super) const LOW_BITS: u32 = 15;
pub(super) const LOW_BINS: usize = 1 << LOW_BITS;

/// Whole numbers that each leaf counts in the last pass: elements equal to either bound.
pub const LEAF_COUNTS: usize = 2;

/// The bits of a magnitude, in the order of magnitudes.
#[inline(always)]
pub fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// The first `rank` elements in rank order: those above a magnitude, and some that equal it.
#[derive(Clone, Debug, PartialEq)]
enum Bound {
    /// Rank 0: no element comes before it.
    Start,
    /// All elements come before it.
    End,
    /// The magnitude of the last element before it has these upper bits; so many more are to be found there.
    Coarse { high: u32, wanted: u64 },
    /// All elements above `magnitude` and the first `wanted` that equal it. `before_leaf` has as many equal
    /// ones as come before each leaf, and at last all of them.
    Exact { magnitude: u32, wanted: u64, before_leaf: Vec<u64> },
}

/// Where a rank was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of the element that has the rank.
    pub magnitude: u32,
    /// How many of its equals belong to the ranks up to this one, this one included.
    pub wanted: u64,
    /// The elements of each leaf that equal it.
    pub equal: Vec<u32>,
}

impl Found {
    /// How many elements equal it.
    pub fn n_equal(&self) -> u64 {
        self.equal.iter().copied().map(u64::from).sum()
    }
}

/// What a selection is to be told next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    UpperBits,
    LowerBits,
    Leaves,
    Nothing,
}

/// A range of ranks being narrowed down.
#[derive(Clone, Debug)]
pub struct Selection {
    ranks: Range<u64>,
    n_elements: u64,
    bounds: [Bound; 2],
    step: Step,
}

impl Selection {
    /// Wants the elements of these ranks among `n_elements`.
    pub fn new(ranks: Range<u64>, n_elements: u64) -> Self {
        let bound = |rank: u64| if rank == 0 { Bound::Start } else { Bound::End };
        let ranks = ranks.start.min(n_elements)..ranks.end.min(n_elements);
        // A bound inside is a coarse one as soon as the first histogram is there.
        let bounds = [bound(ranks.start), bound(ranks.end)];
        Self { ranks, n_elements, bounds, step: Step::UpperBits }
    }

    pub fn n_elements(&self) -> u64 {
        self.n_elements
    }

    /// The ranks that must be found, from 1 for the largest magnitude: of the last element before the start, and of the
    /// last before the end.
    pub fn open_ranks(&self) -> [Option<u64>; 2] {
        let is_open = |rank: &u64| (1..self.n_elements).contains(rank);
        [self.ranks.start, self.ranks.end].map(|rank| Some(rank).filter(is_open))
    }

    /// Takes what was found of the open ranks. No pass is needed any more.
    pub fn settle(&mut self, found: [Option<Found>; 2]) {
        for (bound, found) in self.bounds.iter_mut().zip(found) {
            if let Some(Found { magnitude, wanted, equal }) = found {
                let before_leaf = before_each(equal.into_iter().map(u64::from));
                *bound = Bound::Exact { magnitude, wanted, before_leaf };
            }
        }
        self.step = Step::Nothing;
    }

    /// Whether a pass that counts comes next, and not yet the one over leaves.
    pub fn needs_counts(&self) -> bool {
        matches!(self.step, Step::UpperBits | Step::LowerBits)
    }

    /// Whether all is known, and the pass over leaves is only needed for sums of magnitudes.
    pub fn is_settled(&self) -> bool {
        self.step == Step::Nothing
    }

    /// A pass that counts: adds to `BINS` counts.
    pub fn count(&self, values: &[f32], counts: &mut [u64]) {
        match self.step {
            Step::UpperBits => count_upper_bits(values, counts),
            Step::LowerBits => self.count_lower_bits(values, counts),
            Step::Leaves | Step::Nothing => unreachable!("all is counted"),
        }
    }

    /// Ends a pass that counts; `counts` are those of all values.
    pub fn absorb(&mut self, counts: &[u64]) {
        self.step = match self.step {
            Step::UpperBits => {
                self.absorb_upper_bits(counts);
                Step::LowerBits
            }
            Step::LowerBits => {
                self.absorb_lower_bits(counts);
                Step::Leaves
            }
            Step::Leaves | Step::Nothing => unreachable!("all is counted"),
        };
    }

    fn absorb_upper_bits(&mut self, counts: &[u64]) {
        let total: u64 = counts.iter().sum();
        for (bound, rank) in self.bounds.iter_mut().zip([self.ranks.start, self.ranks.end]) {
            if rank > 0 && rank < total {
                let (high, wanted) = bin_of(counts, rank);
                *bound = Bound::Coarse { high, wanted };
            }
        }
    }

    /// Counts lower bits, for each bound into half of the bins.
    fn count_lower_bits(&self, values: &[f32], counts: &mut [u64]) {
        for (bound, counts) in self.bounds.iter().zip(counts.chunks_exact_mut(LOW_BINS)) {
            if let Bound::Coarse { high, .. } = bound {
                for value in values {
                    let bits = magnitude(*value);
                    if bits >> LOW_BITS == *high {
                        counts[bits as usize & (LOW_BINS - 1)] += 1;
                    }
                }
            }
        }
    }

    fn absorb_lower_bits(&mut self, counts: &[u64]) {
        for (bound, counts) in self.bounds.iter_mut().zip(counts.chunks_exact(LOW_BINS)) {
            if let Bound::Coarse { high, wanted } = bound {
                let (low, wanted) = bin_of(counts, *wanted);
                *bound = Bound::Exact { magnitude: *high << LOW_BITS | low, wanted, before_leaf: Vec::new() };
            }
        }
    }

    /// The pass over leaves: counts elements equal to the bounds.
    pub fn count_equal(&self, values: &[f32], equal: &mut [f64]) {
        let [upper, lower] = self.edges();
        let counts = equal_to(values, upper, lower);
        equal.iter_mut().zip(counts).for_each(|(equal, count)| *equal += f64::from(count));
    }

    /// The same pass: adds up the magnitudes strictly between the bounds.
    pub fn add_between(&self, values: &[f32]) -> f64 {
        let [upper, lower] = self.edges();
        let to_the_end = self.bounds[1] == Bound::End;
        let mut between = 0.0;
        for value in values {
            let bits = magnitude(*value);
            if bits < upper && (bits > lower || to_the_end) {
                between += f64::from(value.abs());
            }
        }
        between
    }

    /// The magnitudes at the bounds.
    fn edges(&self) -> [u32; 2] {
        self.bounds.each_ref().map(|bound| match bound {
            Bound::Start => u32::MAX,
            // Below every magnitude; wrapped so that zero itself lies above.
            Bound::End => 0,
            Bound::Exact { magnitude, .. } => *magnitude,
            Bound::Coarse { .. } => unreachable!("bounds are exact by the pass over leaves"),
        })
    }

    /// Ends the pass over leaves. `equal` yields each leaf's two counts.
    pub fn absorb_equal(&mut self, equal: impl Iterator<Item = [f64; LEAF_COUNTS]>) {
        let equal: Vec<[f64; LEAF_COUNTS]> = equal.collect();
        for (which, bound) in self.bounds.iter_mut().enumerate() {
            if let Bound::Exact { before_leaf, .. } = bound {
                *before_leaf = before_each(equal.iter().map(|counts| counts[which] as u64));
            }
        }
        self.step = Step::Nothing;
    }

    /// The sum of the magnitudes that are kept although they equal a bound.
    pub fn kept_equal(&self) -> f64 {
        let mut kept = [0.0; 2];
        for (which, bound) in self.bounds.iter().enumerate() {
            if let Bound::Exact { magnitude, wanted, before_leaf } = bound {
                let total = before_leaf.last().expect("it ends with the count of all");
                let value = f64::from(f32::from_bits(*magnitude));
                // The upper bound keeps the equal elements behind it, the lower one those before it.
                let count = if which == 0 { total - wanted } else { *wanted };
                kept[which] = count as f64 * value;
            }
        }
        match &self.bounds {
            [
                Bound::Exact { magnitude: upper, wanted: skipped, .. },
                Bound::Exact { magnitude: lower, wanted, .. },
            ] if upper == lower => (wanted - skipped) as f64 * f64::from(f32::from_bits(*lower)),
            _ => kept[0] + kept[1],
        }
    }

    /// Zeroes the elements of a leaf that are not wanted.
    pub fn apply(&self, leaf: usize, values: &mut [f32]) {
        let mut sides = self.bounds.each_ref().map(|bound| Side::new(bound, leaf));
        // Mostly all elements of a leaf that equal a bound lie on the same side of it.
        if let [Some(start), Some(end)] = sides.each_ref().map(Side::least) {
            return keep_between(values, start, end);
        }
        for value in values {
            let bits = magnitude(*value);
            let [before_start, before_end] = [sides[0].is_before(bits), sides[1].is_before(bits)];
            if before_start || !before_end {
                *value = 0.0;
            }
        }
    }
}

/// How many come before each leaf, and at last all of them.
fn before_each(counts: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut before = vec![0];
    before.extend(counts.scan(0, |total, count| {
        *total += count;
        Some(*total)
    }));
    before
}

/// Counts upper bits. Runs of equal ones, zeros above all, count at once, since counting in one place twice
/// in a row waits.
pub(super) fn count_upper_bits(values: &[f32], counts: &mut [u64]) {
    let counts = &mut counts[..BINS];
    let (mut last, mut run) = (0, 0);
    for value in values {
        let bin = (magnitude(*value) >> LOW_BITS) as usize;
        if bin == last {
            run += 1;
        } else {
            counts[last] += run;
            (last, run) = (bin, 1);
        }
    }
    counts[last] += run;
}

vectorized! {
    /// Counts the elements equal to either magnitude.
    fn equal_to(values: &[f32], upper: u32, lower: u32) -> [u32; 2] {
        let mut counts = [0; 2];
        for value in values {
            let bits = magnitude(*value);
            counts[0] += u32::from(bits == upper);
            counts[1] += u32::from(bits == lower);
        }
        counts
    }

    /// Zeroes all elements but those from the magnitude `end` up to, but not with, the magnitude `start`.
    fn keep_between(values: &mut [f32], start: u32, end: u32) {
        for value in values {
            let bits = magnitude(*value);
            *value = if (bits >= end) & (bits < start) { *value } else { 0.0 };
        }
    }
}

/// One bound on its way through a leaf.
struct Side {
    magnitude: u32,
    /// Elements equal to the bound that still come before it.
    left: u64,
    /// How many of those are in this leaf.
    in_leaf: u64,
    /// The answer where there is no magnitude to compare with.
    always: Option<bool>,
}

impl Side {
    fn new(bound: &Bound, leaf: usize) -> Self {
        match bound {
            Bound::Start => Self { magnitude: 0, left: 0, in_leaf: 0, always: Some(false) },
            Bound::End => Self { magnitude: 0, left: 0, in_leaf: 0, always: Some(true) },
            Bound::Exact { magnitude, wanted, before_leaf } => Self {
                magnitude: *magnitude,
                left: wanted.saturating_sub(before_leaf[leaf]),
                in_leaf: before_leaf[leaf + 1] - before_leaf[leaf],
                always: None,
            },
            Bound::Coarse { .. } => unreachable!("bounds are exact once all passes are done"),
        }
    }

    /// The least magnitude before the bound, if the magnitude alone decides in this leaf.
    fn least(&self) -> Option<u32> {
        match self.always {
            Some(true) => Some(0),
            Some(false) => Some(u32::MAX),
            None if self.in_leaf <= self.left => Some(self.magnitude),
            None if self.left == 0 => Some(self.magnitude + 1),
            None => None,
        }
    }

    #[inline(always)]
    fn is_before(&mut self, bits: u32) -> bool {
        if let Some(always) = self.always {
            return always;
        }
        if bits == self.magnitude && self.left > 0 {
            self.left -= 1;
            return true;
        }
        bits > self.magnitude
    }
}

/// The bin in which the `wanted`-th largest falls, and how many are wanted of that bin.
pub(super) fn bin_of(counts: &[u64], wanted: u64) -> (u32, u64) {
    let mut left = wanted;
    for (bin, count) in counts.iter().enumerate().rev() {
        if *count >= left {
            return (bin as u32, left);
        }
        left -= count;
    }
    unreachable!("the bins hold at least as many as are wanted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::bracket::{Bracket, Listed};
    use proptest::prelude::*;

    fn select(values: &[f32], ranks: Range<u64>, leaf: usize) -> (Vec<f32>, f64) {
        let mut selection = Selection::new(ranks, values.len() as u64);
        while selection.needs_counts() {
            let mut counts = vec![0; BINS];
            values.chunks(leaf).for_each(|values| selection.count(values, &mut counts));
            selection.absorb(&counts);
        }
        let (mut between, mut equal) = (0.0, Vec::new());
        for values in values.chunks(leaf) {
            let mut counts = [0.0; LEAF_COUNTS];
            selection.count_equal(values, &mut counts);
            between += selection.add_between(values);
            equal.push(counts);
        }
        selection.absorb_equal(equal.into_iter());
        let sum = between + selection.kept_equal();
        let mut kept = values.to_vec();
        kept.chunks_mut(leaf).enumerate().for_each(|(leaf, values)| selection.apply(leaf, values));
        (kept, sum)
    }

    /// The same by brackets around guesses from a sample.
    fn select_by_brackets(
        values: &[f32],
        ranks: Range<u64>,
        leaf: usize,
        sample: &[f32],
    ) -> Option<(Vec<f32>, f64)> {
        let mut selection = Selection::new(ranks, values.len() as u64);
        let mut found = [None, None];
        for (found, rank) in found.iter_mut().zip(selection.open_ranks()) {
            let Some(rank) = rank else { continue };
            let mut sample: Vec<u32> = sample.iter().map(|value| magnitude(*value)).collect();
            let bracket = Bracket::around(rank as f64 / values.len() as f64, &mut sample);
            // Two runs of leaves, each leaf in pieces.
            let mut runs = [Listed::default(), Listed::default()];
            let leaves = values.chunks(leaf);
            let half = leaves.len() / 2;
            for (i, values) in leaves.enumerate() {
                let listed = &mut runs[usize::from(i >= half)];
                values.chunks(70).for_each(|values| bracket.list(values, listed));
                listed.end_leaf();
            }
            *found = Some(bracket.find(rank, &runs.each_ref())?);
        }
        selection.settle(found);
        let sums = values.chunks(leaf).map(|values| selection.add_between(values));
        let sum = sums.sum::<f64>() + selection.kept_equal();
        let mut kept = values.to_vec();
        kept.chunks_mut(leaf).enumerate().for_each(|(leaf, values)| selection.apply(leaf, values));
        Some((kept, sum))
    }

    fn by_sorting(values: &[f32], ranks: Range<u64>) -> Vec<f32> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()).then(a.cmp(b)));
        let mut kept = vec![0.0; values.len()];
        for (rank, index) in order.into_iter().enumerate() {
            if ranks.contains(&(rank as u64)) {
                kept[index] = values[index];
            }
        }
        kept
    }

    proptest! {
        #[test]
        fn selecting_is_sorting(
            values in proptest::collection::vec(prop_oneof![(-4i8..4).prop_map(f32::from), -1e3f32..1e3], 0..200),
            start in 0u64..210,
            len in 0u64..210,
            leaf in 1usize..50,
        ) {
            let (kept, sum) = select(&values, start..start + len, leaf);
            let expected = by_sorting(&values, start..start + len);
            prop_assert_eq!(&kept, &expected);
            let exact: f64 = expected.iter().map(|value| f64::from(value.abs())).sum();
            prop_assert!((sum - exact).abs() <= 1e-9 * exact.max(1.0), "{} {}", sum, exact);
        }

        #[test]
        fn brackets_find_what_sorting_finds_or_nothing(
            values in proptest::collection::vec(prop_oneof![(-4i8..4).prop_map(f32::from), -4f32..4.0], 0..400),
            start in 0u64..420,
            len in 0u64..420,
            leaf in 1usize..150,
            step in 1usize..40,
            times in prop_oneof![Just(1usize), Just(30)],
            is_fair: bool,
        ) {
            // An unfair sample sees only large elements. A large one makes narrow brackets.
            let sample = values.iter().copied().filter(|value| is_fair || value.abs() > 2.0).step_by(step);
            let sample: Vec<f32> = sample.flat_map(|value| vec![value; times]).collect();
            let ranks = start..start + len;
            let found = select_by_brackets(&values, ranks.clone(), leaf, &sample);
            if is_fair && step == 1 || sample.is_empty() {
                prop_assert!(found.is_some());
            }
            if let Some(found) = found {
                let (_, sum) = select(&values, ranks.clone(), leaf);
                prop_assert_eq!(found.0, by_sorting(&values, ranks));
                prop_assert!((found.1 - sum).abs() <= 1e-9 * sum.max(1.0));
            }
        }
    }
}
