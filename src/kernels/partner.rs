//! Keeps elements of rows by chance: all alike, or large ones more likely than small ones.
//!
//! DELLA keeps the element of rank r among the n of its row, 0 for the smallest magnitude, with probability
//! (d - e) + 2 e r / (n - 1). As it happens r / (n - 1) is the probability that the element beats a partner:
//! another element of its row, drawn uniformly. So no row is ranked. With u a draw from [0, 1), element i is
//!
//! - kept if u < d - |e|,
//! - dropped if u >= d + |e|,
//! - and kept in between if i beats its partner, or for e < 0 if it does not,
//!
//! where i beats j if its magnitude is larger, or equal and i < j. That happens with probability
//! (d - |e|) + 2 |e| r / (n - 1) for e >= 0, and (d - |e|) + 2 |e| (1 - r / (n - 1)) for e < 0, which is the
//! same law. Elements are independent of one another. Since neither u nor the partner depends on d, what is
//! kept at one density is kept at every higher one.
//!
//! Of u the first byte is drawn for all elements. It decides unless it is one of those in which u may lie
//! between the bounds; only for these elements 64 more bits are drawn, which give the rest of u and the
//! partner. The cost hardly depends on what the values are.

use std::hint::select_unpredictable;

use super::simd::vectorized;
use super::stream::Stream;

/// An element that is kept, in a mask as it is drawn; others are 0.
pub const KEPT: u8 = 0xff;

/// Bits of u below its first byte.
const LOW_BITS: u32 = 24;

/// Elements that are looked through at a time for those that need more bits.
const RUN: usize = u64::BITS as usize;

/// Where elements are: rows of vectors, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    pub count: usize,
    pub len: usize,
    /// Flat index in the tensor of the first element.
    pub start: u64,
    /// Flat distance between the first elements of neighbouring rows.
    pub row_step: u64,
    /// Flat distance between neighbouring elements of a row.
    pub col_step: u64,
}

impl Rows {
    fn n_elements(&self) -> usize {
        self.count * self.len
    }

    /// The same elements as one row, if they follow one another in the tensor.
    fn joined(self) -> Self {
        let n = self.n_elements();
        let follows = self.col_step == 1 && (self.count == 1 || self.row_step == self.len as u64);
        if follows { Self { count: 1, len: n, row_step: n as u64, ..self } } else { self }
    }
}

/// Draws masks, in buffers that are used again.
#[derive(Default)]
pub struct Drawer {
    bytes: Vec<u8>,
    column: Vec<u8>,
    listed: Vec<u8>,
}

impl Drawer {
    /// Keeps each element with a probability above 0: sets the elements of `mask` to [`KEPT`] or to 0.
    pub fn evenly(&mut self, stream: &Stream, probability: f64, rows: Rows, mask: &mut Vec<u8>) {
        let bound = bound(probability);
        if let Some(open) = self.classify(stream, [bound; 2], &rows, mask) {
            settle_evenly(stream, bound, &rows.joined(), open, mask);
        }
    }

    /// The same with a probability from density - epsilon for the smallest magnitude of a row to
    /// density + epsilon for the largest, both above 0; density in a row of one element. `values` are those
    /// of the rows, row by row.
    pub fn by_rank(
        &mut self,
        stream: &Stream,
        density: f64,
        epsilon: f64,
        rows: Rows,
        values: &[f32],
        mask: &mut Vec<u8>,
    ) {
        assert_eq!(rows.n_elements(), values.len());
        let (lost, won) = (bound(density - epsilon), bound(density + epsilon));
        if rows.len == 1 || won == lost {
            self.evenly(stream, density, rows, mask);
        } else if let Some(open) = self.classify(stream, [won.min(lost), won.max(lost)], &rows, mask) {
            settle_by_partner(stream, lost, won, &rows, values, open, mask);
        }
    }

    /// Lets first bytes decide, and lists the elements for which they do not, if there can be any.
    fn classify(
        &mut self,
        stream: &Stream,
        [low, high]: [u64; 2],
        rows: &Rows,
        mask: &mut Vec<u8>,
    ) -> Option<Open<'_>> {
        let n = rows.n_elements();
        mask.resize(n, 0);
        let (first, last) = (low >> LOW_BITS, (high - 1) >> LOW_BITS);
        let (Ok(first), Ok(last)) = (u8::try_from(first), u8::try_from(last)) else {
            mask.fill(KEPT);
            return None;
        };
        let Self { bytes, column, listed } = self;
        let bytes = bytes_of(stream, rows, bytes, column);
        listed.resize(n + RUN, 0);
        classify(bytes, first, last.wrapping_sub(first), mask, listed);
        // If the bounds are one, it can be so round that first bytes decide everything.
        (first <= last).then_some(Open { bytes, listed })
    }
}

/// What first bytes leave open.
#[derive(Clone, Copy)]
struct Open<'a> {
    /// The first bytes of all elements.
    bytes: &'a [u8],
    /// 1 for those elements that need more than their first bytes, and 0 for others. Beyond the last element
    /// there is a run more, which is looked into but not at.
    listed: &'a [u8],
}

/// The first bytes of rows, row by row.
fn bytes_of<'a>(stream: &Stream, rows: &Rows, bytes: &'a mut Vec<u8>, column: &mut Vec<u8>) -> &'a [u8] {
    let joined = rows.joined();
    if joined.count == 1 && joined.col_step == 1 {
        return stream.bytes(rows.start, rows.n_elements(), bytes);
    }
    bytes.resize(rows.n_elements(), 0);
    if rows.row_step == 1 {
        // Neighbours in the tensor are drawn together.
        for at in 0..rows.len {
            let drawn = stream.bytes(rows.start + at as u64 * rows.col_step, rows.count, column);
            drawn
                .iter()
                .zip(bytes[at..].iter_mut().step_by(rows.len))
                .for_each(|(drawn, byte)| *byte = *drawn);
        }
    } else {
        for (row, bytes) in bytes.chunks_exact_mut(rows.len).enumerate() {
            let start = rows.start + row as u64 * rows.row_step;
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = stream.bytes(start + at as u64 * rows.col_step, 1, column)[0];
            }
        }
    }
    bytes
}

/// The bound below which a draw of 32 bits must lie to happen with probability `p`; all draws lie below that
/// of 1.
///
/// The bound grows with `p`, so whatever a smaller probability lets happen, a larger one does too.
fn bound(p: f64) -> u64 {
    const ALL: f64 = 4_294_967_296.0;
    (p.clamp(0.0, 1.0) * ALL).ceil() as u64
}

vectorized! {
    /// Keeps what lies below `first`, and lists what lies at most `width` above it.
    fn classify(bytes: &[u8], first: u8, width: u8, mask: &mut [u8], listed: &mut [u8]) {
        for ((byte, kept), listed) in bytes.iter().zip(mask).zip(listed) {
            *kept = if *byte < first { KEPT } else { 0 };
            *listed = if byte.wrapping_sub(first) <= width { 1 } else { 0 };
        }
    }

    fn settle_evenly(stream: &Stream, bound: u64, rows: &Rows, open: Open<'_>, mask: &mut [u8]) {
        for row in 0..rows.count {
            let (at, start) = (row * rows.len, rows.start + row as u64 * rows.row_step);
            let (bytes, mask) = (&open.bytes[at..at + rows.len], &mut mask[at..at + rows.len]);
            each_listed(&open.listed[at..], rows.len, |i| {
                let bits = stream.bits(start + i as u64 * rows.col_step);
                mask[i] = verdict(bytes[i], bits, bound);
            });
        }
    }

    fn settle_by_partner(
        stream: &Stream,
        lost: u64,
        won: u64,
        rows: &Rows,
        values: &[f32],
        open: Open<'_>,
        mask: &mut [u8],
    ) {
        let others = rows.len as u64 - 1;
        for row in 0..rows.count {
            let (at, start) = (row * rows.len, rows.start + row as u64 * rows.row_step);
            let range = at..at + rows.len;
            let (values, bytes, mask) = (&values[range.clone()], &open.bytes[range.clone()], &mut mask[range]);
            each_listed(&open.listed[at..], rows.len, |i| {
                let bits = stream.bits(start + i as u64 * rows.col_step);
                let drawn = ((u128::from(bits) * u128::from(others)) >> 64) as usize;
                let partner = drawn + usize::from(drawn >= i);
                // The sign is shifted out; in its place the lower index wins ties.
                let own = values[i].to_bits() << 1 | u32::from(i < partner);
                let wins = own > values[partner].to_bits() << 1;
                // Most guesses of a branch would be wrong.
                mask[i] = verdict(bytes[i], bits, select_unpredictable(wins, won, lost));
            });
        }
    }
}

/// Whether u lies below a bound, as an element of a mask.
#[inline(always)]
fn verdict(byte: u8, bits: u64, bound: u64) -> u8 {
    let draw = u64::from(byte) << LOW_BITS | bits & ((1 << LOW_BITS) - 1);
    u8::from(draw < bound).wrapping_neg()
}

/// Calls `work` with each of the first `n` elements that is 1 and not 0. There are at least [`RUN`] more.
#[inline(always)]
fn each_listed(listed: &[u8], n: usize, mut work: impl FnMut(usize)) {
    for start in (0..n).step_by(RUN) {
        let mut bits = 0;
        let (eights, _) = listed[start..start + RUN].as_chunks();
        for (eight, bytes) in eights.iter().enumerate() {
            // The product moves each byte's lowest bit to its place in the highest byte.
            let packed = u64::from_le_bytes(*bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            bits |= packed << (8 * eight);
        }
        if n - start < RUN {
            bits &= (1 << (n - start)) - 1;
        }
        while bits != 0 {
            work(start + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::at_every_level;
    use proptest::prelude::*;

    /// The definition: whether an element is kept, from its draws and its row.
    fn is_kept(stream: &Stream, density: f64, epsilon: f64, row: &[f32], i: usize, index: u64) -> bool {
        let (byte, bits) = (stream.bytes(index, 1, &mut Vec::new())[0], stream.bits(index));
        let u = f64::from(u32::from(byte) << 24 | (bits % (1 << 24)) as u32) / 4_294_967_296.0;
        if row.len() == 1 {
            return u < density;
        }
        let others = (0..row.len()).filter(|j| *j != i).collect::<Vec<_>>();
        let partner = others[((u128::from(bits) * others.len() as u128) >> 64) as usize];
        let (own, other) = (row[i].abs(), row[partner].abs());
        let wins = own > other || own == other && i < partner;
        u < density - epsilon.abs() || u < density + epsilon.abs() && wins == (epsilon >= 0.0)
    }

    fn mask_of(stream: &Stream, density: f64, epsilon: f64, rows: Rows, values: &[f32]) -> Vec<u8> {
        let mut mask = vec![7; 3];
        Drawer::default().by_rank(stream, density, epsilon, rows, values, &mut mask);
        mask
    }

    fn contiguous(count: usize, len: usize, start: u64) -> Rows {
        Rows { count, len, start, row_step: len as u64, col_step: 1 }
    }

    #[track_caller]
    fn check(density: f64, epsilon: f64, rows: Rows, values: &[f32], seed: u64) {
        let stream = Stream::derive(seed, "stage", 1, "tensor");
        let mut expected = Vec::new();
        for (number, row) in values.chunks(rows.len).enumerate() {
            for i in 0..row.len() {
                let index = rows.start + number as u64 * rows.row_step + i as u64 * rows.col_step;
                let is_kept = is_kept(&stream, density, epsilon, row, i, index);
                expected.push(if is_kept { KEPT } else { 0 });
            }
        }
        at_every_level(|level| {
            let found = mask_of(&stream, density, epsilon, rows, values);
            assert_eq!(found, expected, "{level:?} {density} {epsilon} {rows:?}");
        });
    }

    /// Values as differences have them: few or many equal magnitudes, zeros, outliers, many powers of two.
    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            (-3i8..=3).prop_map(f32::from),
            -1f32..1.0,
            (-1f32..1.0, -60i32..20).prop_map(|(x, e)| x * 2f32.powi(e)),
            Just(0.0),
            Just(-0.0),
        ]
    }

    fn rows() -> impl Strategy<Value = Rows> {
        (1usize..6, prop_oneof![1usize..4, 1usize..200], 0u64..70, 0usize..3).prop_map(
            |(count, len, start, kind)| match kind {
                0 => contiguous(count, len, start),
                // Vectors side by side, and vectors with gaps everywhere.
                1 => Rows { count, len, start, row_step: 1, col_step: count as u64 + 3 },
                _ => Rows { count, len, start, row_step: 1000, col_step: 3 },
            },
        )
    }

    proptest! {
        #[test]
        fn masks_are_what_the_definition_says(
            rows in rows(),
            values in prop_oneof![
                proptest::collection::vec(value(), 1200),
                proptest::collection::vec((-2i8..=2).prop_map(f32::from), 1200),
            ],
            density in prop_oneof![0.31f64..0.69, Just(0.5), Just(0.375)],
            epsilon in prop_oneof![-0.3f64..0.3, Just(0.0), Just(0.125), -1e-4..1e-4, -1e-9..1e-9, -1e-16..1e-16],
            seed: u64,
        ) {
            check(density, epsilon, rows, &values[..rows.n_elements()], seed);
        }
    }

    #[test]
    fn odds_at_the_edges_are_held() {
        let values: Vec<f32> = (0..4096).map(|i| ((i * 29) % 67 - 33) as f32).collect();
        let beside = |bits: i32| 0.5f64.powi(bits);
        for (density, epsilon) in [
            // One bound, at a multiple of 2^24 and off it; nothing but the first or the last draw in between.
            (0.5, 0.0),
            (0.5, beside(60)),
            (0.5, beside(32)),
            (0.5, -beside(32)),
            (0.5 + beside(9), beside(30)),
            // Both bounds in one byte, on either side of a byte's edge, and one of them on it.
            (0.5 + beside(9), beside(10)),
            (0.5, beside(12)),
            (0.5 + beside(10), beside(10)),
            (0.5 - beside(10), -beside(10)),
            // Near 0 and near 1, where all draws lie below the upper bound.
            (beside(33), 0.0),
            (0.25, 0.25 - beside(40)),
            (0.75, 0.25 - beside(40)),
            (1.0 - beside(40), 0.0),
            (1.0 - beside(40), -beside(50)),
        ] {
            check(density, epsilon, contiguous(4, 1024, 5), &values, 3);
            check(density, epsilon, contiguous(2048, 2, 1), &values, 4);
            check(density, epsilon, contiguous(4096, 1, 9), &values, 5);
        }
        for equal in [0.0, -0.0, 1.0] {
            check(0.5, 0.2, contiguous(1, 4096, 0), &[equal; 4096], 6);
        }
    }

    #[test]
    fn verdicts_are_exact_to_the_last_draw() {
        for bound in [1, 255, 1 << 24, 0x8000_0001, u64::from(u32::MAX), 1 << 32] {
            for draw in [0, bound - 1, bound, bound + 1].into_iter().filter(|draw| *draw < 1 << 32) {
                let bits = 0xabcd_ef12_3400_0000 & !0xff_ffff | draw & 0xff_ffff;
                let expected = if draw < bound { KEPT } else { 0 };
                assert_eq!(verdict((draw >> 24) as u8, bits, bound), expected, "{draw} {bound}");
            }
        }
    }

    #[test]
    fn even_odds_are_those_without_a_rank() {
        let (stream, values) = (Stream::derive(1, "stage", 1, "tensor"), [1.0; 1000]);
        for density in [0.001, 0.25, 0.3, 1.0 - 1e-12] {
            let mut mask = Vec::new();
            let rows = contiguous(1, 1000, 3);
            Drawer::default().evenly(&stream, density, rows, &mut mask);
            assert_eq!(mask, mask_of(&stream, density, 0.0, rows, &values));
        }
    }

    #[test]
    fn rows_alone_and_together_get_the_same() {
        let stream = Stream::derive(2, "stage", 1, "tensor");
        let values: Vec<f32> = (0..3000).map(|i| ((i * 37) % 101) as f32).collect();
        let together = mask_of(&stream, 0.5, 0.3, contiguous(30, 100, 7), &values);
        for (row, values) in values.chunks(100).enumerate() {
            let alone = mask_of(&stream, 0.5, 0.3, contiguous(1, 100, 7 + row as u64 * 100), values);
            assert_eq!(alone, together[row * 100..(row + 1) * 100]);
        }
    }

    #[test]
    fn what_is_kept_stays_kept_at_higher_densities() {
        let stream = Stream::derive(3, "stage", 1, "tensor");
        let values: Vec<f32> = (0..8192).map(|i| ((i * 37) % 1009 - 500) as f32).collect();
        for epsilon in [0.1, -0.1, 0.0, 1e-9] {
            let mut lower = vec![0; values.len()];
            for density in [0.11, 0.3, 0.3001, 0.5, 0.89] {
                let mask = mask_of(&stream, density, epsilon, contiguous(8, 1024, 0), &values);
                assert!(lower.iter().zip(&mask).all(|(lower, higher)| lower <= higher));
                lower = mask;
            }
        }
    }

    #[test]
    fn rates_pairs_and_counts_follow_the_law() {
        // Distinct values; and ties and zeros, of which the lower index ranks higher.
        let distinct: Vec<f32> = (0..33).map(|i| ((i * 7) % 33) as f32 - 40.0).collect();
        let tied: Vec<f32> = (0..33).map(|i| ((i * 7) % 5) as f32 - 2.0).collect();
        for (seed, (row, epsilon)) in
            [(&distinct, 0.3), (&distinct, -0.25), (&tied, 0.3), (&tied, -0.25)].into_iter().enumerate()
        {
            const ROWS: usize = 20_000;
            let (n, density) = (row.len(), 0.45);
            let stream = Stream::derive(seed as u64, "stage", 1, "tensor");
            let mask = mask_of(&stream, density, epsilon, contiguous(ROWS, n, 0), &row.repeat(ROWS));
            let rank = |i: usize| {
                let beats =
                    |j: &usize| row[i].abs() > row[*j].abs() || row[i].abs() == row[*j].abs() && i < *j;
                (0..n).filter(|j| *j != i).filter(beats).count() as f64
            };
            let p: Vec<f64> =
                (0..n).map(|i| density - epsilon + 2.0 * epsilon * rank(i) / (n - 1) as f64).collect();
            let rate = |holds: &dyn Fn(&[u8]) -> bool| {
                mask.chunks(n).filter(|mask| holds(mask)).count() as f64 / ROWS as f64
            };
            let is_near = |found: f64, p: f64| (found - p).abs() < 5.0 * (p * (1.0 - p) / ROWS as f64).sqrt();
            for i in 0..n {
                assert!(is_near(rate(&|mask| mask[i] == KEPT), p[i]), "{seed}: rate of {i}");
                let next = (i + 1) % n;
                let both = rate(&|mask| mask[i] == KEPT && mask[next] == KEPT);
                assert!(is_near(both, p[i] * p[next]), "{seed}: {i} and {next}");
            }
            let counts = mask.chunks(n).map(|mask| mask.iter().filter(|kept| **kept == KEPT).count() as f64);
            let mean = p.iter().sum::<f64>();
            let variance = counts.map(|count| (count - mean).powi(2)).sum::<f64>() / ROWS as f64;
            let expected = p.iter().map(|p| p * (1.0 - p)).sum::<f64>();
            let ratio = variance / expected;
            assert!((ratio - 1.0).abs() < 5.0 * (2.0 / ROWS as f64).sqrt(), "{seed}: {ratio}");
        }
    }
}
