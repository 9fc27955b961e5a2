//! The product of two thin factors, added to a matrix: `d = sum over k of l_k * r_k`, in the order of k, in f32; then
//! `d + w`.
//!
//! It is worked out in tiles whose sums stay in registers. An element's sum has its own order and nobody else's, so
//! every way to tile it, and every width of vectors, gives the same bits; products are rounded before they are added.

use super::simd::vectorized;

/// Rows of a tile.
const HEIGHT: usize = 4;

/// Columns of a tile.
const WIDTH: usize = 16;

/// Bytes of the right factor that all rows are multiplied with before the next ones, so that a core's second cache
/// has them.
const STRIP_BYTES: usize = 64 << 10;

/// The right factor, some columns after the other: of each run of `WIDTH` columns first all of the first row.
#[derive(Debug)]
pub struct Panels {
    rank: usize,
    /// How many columns there are; the last panel is filled up with zeros.
    columns: usize,
    values: Vec<[f32; WIDTH]>,
}

impl Panels {
    /// Takes the numbers by their row, below `rank`, and their column.
    pub fn new(rank: usize, columns: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let mut values = vec![[0.0; WIDTH]; columns.div_ceil(WIDTH) * rank];
        for (i, row) in values.iter_mut().enumerate() {
            let (k, first) = (i % rank, i / rank * WIDTH);
            for (column, value) in (first..columns).zip(row) {
                *value = at(k, column);
            }
        }
        Self { rank, columns, values }
    }

    /// Writes `left` times this factor, added to `own`. `left` has `rank` numbers for each row of the result, one row
    /// after the other.
    pub fn add_product(&self, left: &[f32], own: &[f32], out: &mut [f32]) {
        if self.rank == 0 || self.columns == 0 {
            return add_nothing(own, out);
        }
        debug_assert!(left.len() / self.rank == out.len() / self.columns);
        let Self { rank, columns, ref values } = *self;
        // Of some rows at a time the numbers of one rank stand together; rows that are missing count as zeros.
        let mut groups = vec![[0.0; HEIGHT]; (left.len() / rank).div_ceil(HEIGHT) * rank];
        for (row, left) in left.chunks_exact(rank).enumerate() {
            let group = &mut groups[row / HEIGHT * rank..][..rank];
            group.iter_mut().zip(left).for_each(|(group, value)| group[row % HEIGHT] = *value);
        }
        add_product(values, rank, columns, &groups, own, out);
    }
}

vectorized! {
    fn add_product(
        panels: &[[f32; WIDTH]],
        rank: usize,
        columns: usize,
        groups: &[[f32; HEIGHT]],
        own: &[f32],
        out: &mut [f32],
    ) {
        let strip = (STRIP_BYTES / size_of::<[f32; WIDTH]>()).div_ceil(rank);
        for (i, panels) in panels.chunks(strip * rank).enumerate() {
            let first = i * strip * WIDTH;
            let rows = own.chunks(HEIGHT * columns).zip(out.chunks_mut(HEIGHT * columns));
            for (group, (own, out)) in groups.chunks_exact(rank).zip(rows) {
                for (i, panel) in panels.chunks_exact(rank).enumerate() {
                    let sums = tile(panel, group);
                    let column = first + i * WIDTH;
                    let n = WIDTH.min(columns - column);
                    let rows = own.chunks_exact(columns).zip(out.chunks_exact_mut(columns));
                    for (sums, (own, out)) in sums.iter().zip(rows) {
                        add(sums, &own[column..column + n], &mut out[column..column + n]);
                    }
                }
            }
        }
    }

    /// What is left of an update without factors.
    fn add_nothing(own: &[f32], out: &mut [f32]) {
        for (sum, value) in out.iter_mut().zip(own) {
            *sum = 0.0 + value;
        }
    }
}

/// The sums of one tile.
#[inline(always)]
fn tile(panel: &[[f32; WIDTH]], group: &[[f32; HEIGHT]]) -> [[f32; WIDTH]; HEIGHT] {
    let mut sums = [[0.0; WIDTH]; HEIGHT];
    for (left, right) in group.iter().zip(panel) {
        for row in 0..HEIGHT {
            for i in 0..WIDTH {
                sums[row][i] += left[row] * right[i];
            }
        }
    }
    sums
}

#[inline(always)]
fn add(sums: &[f32; WIDTH], own: &[f32], out: &mut [f32]) {
    // A constant length keeps all of a tile in registers.
    if let (Some(own), Some(out)) = (own.first_chunk::<WIDTH>(), out.first_chunk_mut::<WIDTH>()) {
        for i in 0..WIDTH {
            out[i] = sums[i] + own[i];
        }
    } else {
        for (out, (sum, own)) in out.iter_mut().zip(sums.iter().zip(own)) {
            *out = sum + own;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::at_every_level;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_tiling_gives_the_bits_of_plain_sums(
            rows in 0usize..11,
            columns in 0usize..70,
            rank in 0usize..9,
            long: bool,
            seed: u32,
        ) {
            // Long enough for a second strip.
            let rank = if long { rank + 1200 } else { rank };
            let value = |i: usize| {
                let bits = (i as u32).wrapping_mul(0x9E37_79B9).wrapping_add(seed).wrapping_mul(0x85EB_CA6B);
                (bits >> 8) as f32 / 8e6 - 1.0
            };
            let left: Vec<f32> = (0..rows * rank).map(value).collect();
            let right: Vec<f32> = (0..rank * columns).map(|i| value(i + 77_777)).collect();
            let own: Vec<f32> = (0..rows * columns).map(|i| value(i + 999_999)).collect();
            let plain = |i: usize| {
                let (row, column) = (i / columns, i % columns);
                let product = |k: usize| left[row * rank + k] * right[k * columns + column];
                ((0..rank).fold(0.0, |sum, k| sum + product(k)) + own[i]).to_bits()
            };
            let expected: Vec<u32> = (0..rows * columns).map(plain).collect();
            let panels = Panels::new(rank, columns, |k, i| right[k * columns + i]);
            at_every_level(|level| {
                let mut out = vec![f32::NAN; rows * columns];
                panels.add_product(&left, &own, &mut out);
                let found: Vec<u32> = out.iter().map(|value| value.to_bits()).collect();
                assert_eq!(found, expected, "{level:?} {rows} {columns} {rank}");
            });
        }
    }
}
