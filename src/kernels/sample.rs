//! Keeps elements of a row by chance: all alike, or large ones more likely than small ones.
//!
//! A schedule goes by rank, but no row is sorted. Most draws are kept or dropped whatever the rank of their element, and need none; nor does an element
//! that is zero anyway. For the others a histogram of the row's magnitudes bounds the rank, which mostly lies
//! on one side of the draw's threshold. What is still open is counted exactly, or, where equal magnitudes
//! abound, found by sorting its bins.

use std::hint::select_unpredictable;

use super::philox::bound;
use super::schedule::KeepSchedule;
use super::select::magnitude;
use super::simd::vectorized;

/// Bins that a histogram has at most, for long rows.
const MOST_BINS: usize = 4096;

/// The histogram covers so many powers of two below the largest magnitude; what is smaller shares a bin.
const OCTAVES: u32 = 8;

/// Copies of the histogram that take turns, since counting in one place twice in a row waits.
const COPIES: usize = 4;

/// Up to so many open elements of a row are counted one by one.
const FEW: usize = 16;

/// Samples rows, in buffers that are used again from row to row.
pub struct Sampler {
    draws: Vec<u32>,
    magnitudes: Vec<u32>,
    undecided: Vec<u32>,
    /// Of every undecided element, its draw's threshold.
    thresholds: Vec<u32>,
    bins: Vec<u16>,
    counts: Box<[[u32; MOST_BINS]; COPIES]>,
    /// The first rank of each bin, and the row's length.
    starts: Vec<u32>,
    /// Undecided elements that their bins do not decide, with their thresholds.
    open: Vec<(u32, u32)>,
    order: Vec<u32>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            draws: Vec::new(),
            magnitudes: Vec::new(),
            undecided: Vec::new(),
            thresholds: Vec::new(),
            bins: Vec::new(),
            counts: Box::new([[0; MOST_BINS]; COPIES]),
            starts: Vec::new(),
            open: Vec::new(),
            order: Vec::new(),
        }
    }
}

impl Sampler {
    /// Keeps each element of a row with a probability above 0. `draw` fills a slice with the draws of all
    /// elements.
    pub fn sample_evenly(&mut self, probability: f64, values: &mut [f32], draw: impl FnOnce(&mut [u32])) {
        let last = u32::try_from(bound(probability) - 1).expect("no bound lies above 2^32");
        self.draws.resize(values.len(), 0);
        draw(&mut self.draws);
        drop_above(values, &self.draws, last);
    }

    /// Zeroes the elements of a row that the schedule drops. `draw` fills a slice with the draws of all
    /// elements; it is not called for a row of zeros.
    pub fn sample(&mut self, schedule: &KeepSchedule, values: &mut [f32], draw: impl FnOnce(&mut [u32])) {
        let n = values.len();
        assert_eq!(n, schedule.row_len as usize);
        self.magnitudes.resize(n, 0);
        let largest = magnitudes(values, &mut self.magnitudes);
        if largest == 0 {
            return;
        }
        self.draws.resize(n, 0);
        draw(&mut self.draws);
        drop_above(values, &self.draws, schedule.last);
        if schedule.surely > schedule.last {
            return;
        }
        self.undecided.resize(n, 0);
        let found = find_undecided(
            &self.magnitudes,
            &self.draws,
            schedule.surely,
            schedule.last,
            &mut self.undecided,
        );
        self.undecided.truncate(found);
        if found > 0 {
            self.thresholds.clear();
            self.thresholds.extend(self.undecided.iter().map(|i| self.draws[*i as usize]));
            schedule.find_thresholds(&mut self.thresholds);
            self.count(largest);
            if schedule.rises() {
                self.decide_by_bins::<true>(values);
            } else {
                self.decide_by_bins::<false>(values);
            }
            if self.open.len() <= FEW {
                self.decide_by_counting(schedule, values);
            } else {
                self.decide_by_sorting(schedule, values);
            }
        }
    }

    /// Sorts the row's magnitudes into bins; zero has one of its own.
    fn count(&mut self, largest: u32) {
        let n = self.magnitudes.len();
        let n_bins = (n / 2).next_power_of_two().clamp(64, MOST_BINS);
        let least = largest.saturating_sub(OCTAVES << 23);
        let mut shift = 0;
        while (largest - least) >> shift >= n_bins as u32 - 1 {
            shift += 1;
        }
        self.bins.resize(n, 0);
        find_bins(&self.magnitudes, least, shift, &mut self.bins);
        self.counts.iter_mut().for_each(|counts| counts[..n_bins].fill(0));
        let (fours, rest) = self.bins.as_chunks::<COPIES>();
        for four in fours {
            for (counts, bin) in self.counts.iter_mut().zip(four) {
                counts[*bin as usize % MOST_BINS] += 1;
            }
        }
        for bin in rest {
            self.counts[0][*bin as usize % MOST_BINS] += 1;
        }
        add_copies(&mut self.counts, n_bins);
        self.starts.clear();
        self.starts.push(0);
        let mut end = 0;
        self.starts.extend(self.counts[0][..n_bins].iter().map(|count| {
            end += count;
            end
        }));
    }

    fn decide_by_bins<const RISES: bool>(&mut self, values: &mut [f32]) {
        let (bins, starts) = (&self.bins[..values.len()], &self.starts[..]);
        self.open.clear();
        for (i, threshold) in self.undecided.iter().zip(&self.thresholds) {
            let at = *i as usize;
            let bin = usize::from(bins[at]);
            let (first, end) = (starts[bin], starts[bin + 1]);
            // Half of the guesses of a branch would be wrong, and one comparison tells of first < threshold < end.
            let is_dropped = if RISES { end <= *threshold } else { first >= *threshold };
            values[at] = f32::from_bits(select_unpredictable(is_dropped, 0, values[at].to_bits()));
            if threshold.wrapping_sub(first + 1) < end - first - 1 {
                self.open.push((*i, *threshold));
            }
        }
    }

    fn decide_by_counting(&self, schedule: &KeepSchedule, values: &mut [f32]) {
        for (i, threshold) in &self.open {
            let at = *i as usize;
            if (rank_of(&self.magnitudes, at) >= *threshold) != schedule.rises() {
                values[at] = 0.0;
            }
        }
    }

    /// Puts the elements of all bins that hold open elements in order.
    fn decide_by_sorting(&mut self, schedule: &KeepSchedule, values: &mut [f32]) {
        // The counts have done their work; now they are the next free places of the bins at issue.
        let [next, wanted, ..] = &mut *self.counts;
        let n_bins = self.starts.len() - 1;
        wanted[..n_bins].fill(0);
        next[..n_bins].copy_from_slice(&self.starts[..n_bins]);
        for (i, _) in &self.open {
            wanted[self.bins[*i as usize] as usize] = 1;
        }
        self.order.resize(self.bins.len(), 0);
        for (i, bin) in self.bins.iter().enumerate().rev() {
            let bin = *bin as usize % MOST_BINS;
            if wanted[bin] != 0 {
                self.order[next[bin] as usize] = i as u32;
                next[bin] += 1;
            }
        }
        // From here on a bin's elements stand in the order of their indices, highest first; a stable sort
        // by magnitude makes that the order of ranks. Then ranks take the places of the bins' numbers.
        let ranks = &mut self.undecided;
        ranks.resize(self.bins.len(), 0);
        for bin in (0..n_bins).filter(|bin| wanted[*bin] != 0) {
            let (first, end) = (self.starts[bin], self.starts[bin + 1]);
            let members = &mut self.order[first as usize..end as usize];
            members.sort_by_key(|i| self.magnitudes[*i as usize]);
            for (rank, i) in (first..end).zip(members) {
                ranks[*i as usize] = rank;
            }
        }
        for (i, threshold) in &self.open {
            let at = *i as usize;
            if (ranks[at] >= *threshold) != schedule.rises() {
                values[at] = 0.0;
            }
        }
    }
}

vectorized! {
    /// Takes magnitudes and returns the largest.
    fn magnitudes(values: &[f32], out: &mut [u32]) -> u32 {
        let mut largest = 0;
        for (out, value) in out.iter_mut().zip(values) {
            *out = magnitude(*value);
            largest = largest.max(*out);
        }
        largest
    }

    /// Zeroes the elements whose draw lies above `last`.
    fn drop_above(values: &mut [f32], draws: &[u32], last: u32) {
        for (value, draw) in values.iter_mut().zip(draws) {
            *value = if *draw > last { 0.0 } else { *value };
        }
    }

    /// Lists the elements that are not zero and whose draw is one of `first..=last`; returns how many.
    fn find_undecided(magnitudes: &[u32], draws: &[u32], first: u32, last: u32, out: &mut [u32]) -> usize {
        const BITS: usize = u64::BITS as usize;
        let width = last - first;
        let mut found = 0;
        for (run, (magnitudes, draws)) in magnitudes.chunks(BITS).zip(draws.chunks(BITS)).enumerate() {
            let mut mask = 0;
            for (bit, (magnitude, draw)) in magnitudes.iter().zip(draws).enumerate() {
                let is_undecided = (draw.wrapping_sub(first) <= width) & (*magnitude != 0);
                mask |= u64::from(is_undecided) << bit;
            }
            while mask != 0 {
                out[found] = (run * BITS) as u32 + mask.trailing_zeros();
                found += 1;
                mask &= mask - 1;
            }
        }
        found
    }

    /// Adds up the copies of a histogram into the first.
    fn add_copies(counts: &mut [[u32; MOST_BINS]; COPIES], n_bins: usize) {
        let [sums, copies @ ..] = counts;
        for copy in copies {
            for (sum, count) in sums[..n_bins].iter_mut().zip(copy) {
                *sum += *count;
            }
        }
    }

    /// The bin of every element: 0 for zeros, 1 for magnitudes up to `least`, then in steps of a shift.
    fn find_bins(magnitudes: &[u32], least: u32, shift: u32, out: &mut [u16]) {
        for (bin, magnitude) in out.iter_mut().zip(magnitudes) {
            let above = magnitude.saturating_sub(least) >> shift;
            *bin = if *magnitude == 0 { 0 } else { above as u16 + 1 };
        }
    }

    /// The exact rank of one element.
    fn rank_of(magnitudes: &[u32], i: usize) -> u32 {
        let own = magnitudes[i];
        let mut rank = 0;
        for other in &magnitudes[..i] {
            rank += u32::from(*other < own);
        }
        for other in &magnitudes[i + 1..] {
            rank += u32::from(*other <= own);
        }
        rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::philox::Stream;
    use crate::kernels::simd::at_every_level;
    use proptest::prelude::*;

    /// The definition, by sorting.
    fn by_sorting(values: &[f32], draws: &[u32], density: f64, epsilon: f64) -> Vec<f32> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*a].abs().total_cmp(&values[*b].abs()).then(b.cmp(a)));
        let mut kept = vec![0.0; values.len()];
        for (rank, i) in order.into_iter().enumerate() {
            let p = density - epsilon + 2.0 * epsilon / (values.len() - 1) as f64 * rank as f64;
            if u64::from(draws[i]) < bound(p) {
                kept[i] = values[i];
            }
        }
        kept
    }

    fn check(values: &[f32], draws: &[u32], density: f64, epsilon: f64) {
        let expected = by_sorting(values, draws, density, epsilon);
        at_every_level(|level| {
            let schedule = KeepSchedule::new(density, epsilon, values.len());
            let (mut sampler, mut kept) = (Sampler::default(), values.to_vec());
            // Twice, since buffers are used again.
            for _ in 0..2 {
                kept.copy_from_slice(values);
                sampler.sample(&schedule, &mut kept, |out| out.copy_from_slice(draws));
            }
            assert_eq!(kept, expected, "{level:?}, density {density}, epsilon {epsilon}");
        });
    }

    fn draws(n: usize, seed: u64) -> Vec<u32> {
        let mut draws = vec![0; n];
        Stream::derive(seed, "stage", 0, "tensor").fill(0, &mut draws);
        draws
    }

    /// Rows as merges have them: few or many equal magnitudes, zeros, outliers, many powers of two.
    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            (-3i8..=3).prop_map(f32::from),
            -1f32..1.0,
            (-1f32..1.0, -60i32..20).prop_map(|(x, e)| x * 2f32.powi(e)),
            Just(0.0),
            Just(-0.0),
        ]
    }

    proptest! {
        #[test]
        fn sampling_is_sorting(
            values in prop_oneof![
                proptest::collection::vec(value(), 2..700),
                proptest::collection::vec((-2i8..=2).prop_map(f32::from), 2..700),
                proptest::collection::vec(1f32..1.0001, 2..700),
            ],
            density in 0.31f64..0.69,
            epsilon in prop_oneof![-0.3f64..0.3, Just(0.0), -1e-9..1e-9, -1e-16..1e-16],
            seed: u64,
        ) {
            check(&values, &draws(values.len(), seed), density, epsilon);
        }
    }

    #[test]
    fn long_rows_are_sampled_by_the_same_schedule() {
        let random = draws(13_824, 1);
        let noise: Vec<f32> = random.iter().map(|draw| *draw as f32 / 4e9 - 0.5).collect();
        let steps: Vec<f32> = noise.iter().map(|x| (x * 12.0).round()).collect();
        for values in [noise, steps, vec![1.0; 13_824]] {
            for epsilon in [0.08, -0.2] {
                check(&values, &draws(values.len(), 2), 0.5, epsilon);
            }
        }
    }

    #[test]
    fn bounds_are_exact_to_the_last_draw() {
        // Draws at, below and above every bound.
        let values: Vec<f32> = (0..64).map(|i| ((i * 29) % 64) as f32).collect();
        let (density, epsilon) = (0.5, 0.25);
        for off in -1..=1i64 {
            let at = |i: usize| bound(density - epsilon + 2.0 * epsilon / 63.0 * f64::from(values[i]));
            let draws: Vec<u32> = (0..64).map(|i| (at(i) as i64 + off) as u32).collect();
            check(&values, &draws, density, epsilon);
        }
    }
}
