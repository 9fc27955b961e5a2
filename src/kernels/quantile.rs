//! Values at given ranks, found exactly and without sorting a tensor: by a histogram of the upper bits of all
//! values, and one of the lower bits of those that share the upper bits of a rank's value.
//!
//! For values that are not negative.

use super::select::{BINS, LOW_BINS, LOW_BITS, bin_of, count_upper_bits, magnitude};

/// Ranks on the way to their values. Ranks count from 0 for the smallest value.
#[derive(Clone, Debug)]
pub struct Quantiles {
    places: Vec<Place>,
    knows_upper_bits: bool,
}

/// Where a rank's value is, as far as that is known.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The upper bits of the value.
    high: u32,
    /// The value has this rank from above, from 1, among those with its upper bits; at first among all.
    wanted: u64,
}

impl Quantiles {
    /// # Panics
    /// If a rank is not below the number of elements.
    pub fn new(ranks: &[u64], n_elements: u64) -> Self {
        let place = |rank: &u64| {
            assert!(*rank < n_elements);
            Place { high: 0, wanted: n_elements - rank }
        };
        Self { places: ranks.iter().map(place).collect(), knows_upper_bits: false }
    }

    /// How many counts the next pass over all values adds to.
    pub fn n_counts(&self) -> usize {
        if self.knows_upper_bits { LOW_BINS * self.places.len() } else { BINS }
    }

    pub fn count(&self, values: &[f32], counts: &mut [u64]) {
        if !self.knows_upper_bits {
            return count_upper_bits(values, counts);
        }
        for (place, counts) in self.places.iter().zip(counts.chunks_exact_mut(LOW_BINS)) {
            for value in values {
                let bits = magnitude(*value);
                if bits >> LOW_BITS == place.high {
                    counts[bits as usize & (LOW_BINS - 1)] += 1;
                }
            }
        }
    }

    /// Ends a pass with the counts of all values: the first of two with nothing, the second with the values.
    pub fn absorb(&mut self, counts: &[u64]) -> Option<Vec<f32>> {
        if !self.knows_upper_bits {
            for place in &mut self.places {
                (place.high, place.wanted) = bin_of(counts, place.wanted);
            }
            self.knows_upper_bits = true;
            return None;
        }
        let value = |(place, counts): (&Place, &[u64])| {
            let (low, _) = bin_of(counts, place.wanted);
            f32::from_bits(place.high << LOW_BITS | low)
        };
        Some(self.places.iter().zip(counts.chunks_exact(LOW_BINS)).map(value).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_are_those_of_a_sorted_list(
            values in proptest::collection::vec(prop_oneof![(0u8..4).prop_map(f32::from), 0f32..1e3], 1..200),
            ranks in proptest::collection::vec(0.0f64..1.0, 1..4),
        ) {
            let n = values.len() as u64;
            let ranks: Vec<u64> = ranks.iter().map(|rank| (rank * n as f64) as u64).collect();
            let mut quantiles = Quantiles::new(&ranks, n);
            let found = loop {
                let mut counts = vec![0; quantiles.n_counts()];
                values.chunks(7).for_each(|values| quantiles.count(values, &mut counts));
                if let Some(found) = quantiles.absorb(&counts) {
                    break found;
                }
            };
            let mut sorted = values.clone();
            sorted.sort_by(f32::total_cmp);
            let expected: Vec<f32> = ranks.iter().map(|rank| sorted[*rank as usize]).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
