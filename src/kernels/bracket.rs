//! Ranks of magnitudes found in one pass: a sample tells between which magnitudes a rank will be found, and the pass
//! counts what lies above them, lists what lies between, and counts in each leaf what equals either.
//!
//! What is found is exact whatever the sample. If the rank is not between, or too much is, nothing is found.
//! Tie groups make no list longer: those that the sample sees are the bracket's ends.

use std::ops::RangeInclusive;

use super::select::{Found, bin_of, magnitude};
use super::simd::vectorized;

/// Elements of a sample that ranks of many elements are guessed from.
const SAMPLE: u64 = 1 << 14;

/// A tensor has so many times more elements than its sample.
const SPARSE: u64 = 16;

/// With this many elements or fewer no sample is needed: everything is listed.
const FEW: u64 = 1 << 14;

/// Elements that a list may have at most; so many take 32 MiB.
pub const LONGEST: usize = 1 << 23;

/// No magnitude's bits are above these.
const LARGEST: u32 = 0x7fff_ffff;

/// Distance of a bracket's ends from the wanted rank in the sample, in standard deviations of that rank.
const DEVIATIONS: f64 = 4.0;

/// How many elements to guess from.
pub fn sample_size(n_elements: u64) -> u64 {
    if n_elements <= FEW {
        return 0;
    }
    // So many that the lists of the largest tensors do not outgrow their limit.
    SAMPLE.max((n_elements >> 20).pow(2)).min(n_elements / SPARSE)
}

/// The fixed places of a sample: one somewhere in each of as many equal parts.
pub fn places(n_elements: u64, sample_size: u64) -> impl Iterator<Item = u64> {
    let start = move |i: u64| (u128::from(n_elements) * u128::from(i) / u128::from(sample_size)) as u64;
    (0..sample_size).map(move |i| {
        // Not at equal distances, which could be those of a tensor's columns.
        let hash = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let hash = (hash ^ (hash >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let part = start(i)..start(i + 1);
        let offset = u128::from(hash) * u128::from(part.end - part.start);
        part.start + (offset >> 64) as u64
    })
}

/// Magnitudes among which the one of some rank is expected, as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bracket(RangeInclusive<u32>);

/// What a bracket found in some neighbouring leaves.
#[derive(Debug, Default)]
pub struct Listed {
    /// How many magnitudes lie above the bracket.
    above: u64,
    /// Those strictly within, in the order of their elements.
    within: Vec<u32>,
    /// Elements of the leaf at hand that equal the bracket's least and its largest magnitude.
    equal: [u32; 2],
    leaves: Vec<ListedLeaf>,
}

#[derive(Debug)]
struct ListedLeaf {
    /// How many are listed of this leaf and those before it.
    n_within: usize,
    equal: [u32; 2],
}

impl Listed {
    /// Ends a leaf, all of which was looked through.
    pub fn end_leaf(&mut self) {
        self.leaves.push(ListedLeaf { n_within: self.within.len(), equal: std::mem::take(&mut self.equal) });
    }

    /// How many elements are listed.
    pub fn n_within(&self) -> usize {
        self.within.len()
    }
}

/// How many magnitudes lie above the bracket in all that was looked through.
pub fn above(listed: &[&Listed]) -> u64 {
    listed.iter().map(|listed| listed.above).sum()
}

impl Bracket {
    /// Of one magnitude only.
    pub fn at(bits: u32) -> Self {
        Self(bits..=bits)
    }

    /// Expects the magnitude above which this part of all lies. Without a sample it holds everything.
    pub fn around(part: f64, sample: &mut [u32]) -> Self {
        let n = sample.len() as f64;
        let (rank, spread) = (part * n, DEVIATIONS * (n * part * (1.0 - part)).max(1.0).sqrt() + DEVIATIONS);
        let mut at = |rank: f64| {
            // Ranks count from the largest.
            let (_, value, _) = sample.select_nth_unstable_by(rank as usize, |a, b| b.cmp(a));
            *value
        };
        let most = if rank - spread < 0.0 { LARGEST } else { at(rank - spread) };
        let least = if rank + spread >= n { 0 } else { at(rank + spread) };
        Self(least..=most)
    }

    /// Looks through a leaf's next values.
    pub fn list(&self, values: &[f32], listed: &mut Listed) {
        let [above, least, most] = list(values, *self.0.start(), *self.0.end(), &mut listed.within);
        listed.above += u64::from(above);
        listed.equal[0] += least;
        listed.equal[1] += most;
    }

    /// Finds the element that has this rank, from 1 for the largest, in what was found in all leaves, in their order.
    pub fn find(&self, rank: u64, listed: &[&Listed]) -> Option<Found> {
        let (least, most) = (*self.0.start(), *self.0.end());
        let end = |which: usize, magnitude: u32, wanted: u64| {
            let equal =
                listed.iter().flat_map(|listed| &listed.leaves).map(|leaf| leaf.equal[which]).collect();
            Found { magnitude, wanted, equal }
        };
        let mut wanted = rank.checked_sub(above(listed)).filter(|wanted| *wanted > 0)?;
        let at_most = end(1, most, wanted);
        if wanted <= at_most.n_equal() {
            return Some(at_most);
        }
        wanted -= at_most.n_equal();
        let n_within: u64 = listed.iter().map(|listed| listed.within.len() as u64).sum();
        if wanted <= n_within {
            return Some(self.find_within(wanted, listed));
        }
        let at_least = end(0, least, wanted - n_within);
        (least < most && at_least.wanted <= at_least.n_equal()).then_some(at_least)
    }

    /// The same for an element that is in the lists.
    fn find_within(&self, mut wanted: u64, listed: &[&Listed]) -> Found {
        // One histogram leaves few to choose from.
        let least = *self.0.start();
        let spread = self.0.end() - least;
        let shift = (u32::BITS - spread.leading_zeros()).saturating_sub(12);
        let mut counts = vec![0_u64; (spread >> shift) as usize + 1];
        for bits in listed.iter().flat_map(|listed| &listed.within) {
            counts[((bits - least) >> shift) as usize] += 1;
        }
        let (bin, left) = bin_of(&counts, wanted);
        wanted = left;
        let all = listed.iter().flat_map(|listed| &listed.within).copied();
        let mut few: Vec<u32> = all.filter(|bits| (bits - least) >> shift == bin).collect();
        let (larger, found, _) = few.select_nth_unstable_by(wanted as usize - 1, |a, b| b.cmp(a));
        let magnitude = *found;
        wanted -= larger.iter().filter(|bits| **bits > magnitude).count() as u64;
        let mut equal = Vec::new();
        for Listed { within, leaves, .. } in listed {
            let mut start = 0;
            for leaf in leaves {
                let own = &within[start..leaf.n_within];
                equal.push(own.iter().filter(|bits| **bits == magnitude).count() as u32);
                start = leaf.n_within;
            }
        }
        Found { magnitude, wanted, equal }
    }
}

vectorized! {
    /// Appends the magnitudes between two others, and returns how many lie above, and equal the least and the largest.
    fn list(values: &[f32], least: u32, most: u32, within: &mut Vec<u32>) -> [u32; 3] {
        let mut counts = [0; 3];
        let (chunks, rest) = values.as_chunks::<64>();
        for chunk in chunks {
            list_chunk(chunk, least, most, within, &mut counts);
        }
        for value in rest {
            list_chunk(&[*value], least, most, within, &mut counts);
        }
        counts
    }
}

#[inline(always)]
fn list_chunk<const N: usize>(
    values: &[f32; N],
    least: u32,
    most: u32,
    within: &mut Vec<u32>,
    counts: &mut [u32; 3],
) {
    let mut flags = [0; 64];
    let [mut above, mut equal_to_least, mut equal_to_most] = [0; 3];
    for i in 0..N {
        let bits = magnitude(values[i]) as i32;
        above += u32::from(bits > most as i32);
        equal_to_least += u32::from(bits == least as i32);
        equal_to_most += u32::from(bits == most as i32);
        flags[i] = u8::from((bits > least as i32) & (bits < most as i32));
    }
    counts[0] += above;
    counts[1] += equal_to_least;
    counts[2] += equal_to_most;
    // Eight flags become eight bits by one product.
    let mut mask = 0;
    for (i, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        mask |= u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * i);
    }
    while mask != 0 {
        within.push(magnitude(values[mask.trailing_zeros() as usize]));
        mask &= mask - 1;
    }
}
