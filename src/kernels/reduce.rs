//! Sums in f64 over a fixed tree, so that they are the same on every machine.

use super::pairs::{Bf16, halves};
use super::simd::{Level, level, vectorized};

/// Partial sums that every sum of a leaf is kept in, side by side. They go on from piece to piece of a
/// leaf, as long as all but the last have a multiple of so many elements.
pub const LANES: usize = 8;

vectorized! {
    /// The sum of absolute values.
    pub fn l1(values: &[f32]) -> f64 {
        let mut lanes = [0.0; LANES];
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] += f64::from(chunk[lane]).abs();
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            lanes[lane] += f64::from(*value).abs();
        }
        tree_sum(&lanes)
    }

    /// Adds to the lanes of the inner products of all pairs of vectors, each with itself too: the upper
    /// triangle, row by row.
    pub fn products<T: Element>(vectors: &[&[T]], lanes: &mut [f64]) {
        every_pair::<false, T>(&[], vectors, lanes.as_chunks_mut().0);
    }

    /// The same for the differences of the vectors from a base, which are taken in f32.
    pub fn products_from<T: Element>(base: &[T], vectors: &[&[T]], lanes: &mut [f64]) {
        every_pair::<true, T>(base, vectors, lanes.as_chunks_mut().0);
    }
}

/// Elements that products are taken of: f32, or bf16 as it is stored.
pub trait Element: Copy {
    const ZERO: Self;
    /// The lane that each of `decoded` belongs to.
    const LANES_OF: [usize; LANES];
    /// One element for each lane, in whatever order costs least.
    fn decoded(elements: &[Self; LANES]) -> [f32; LANES];
}

impl Element for f32 {
    const ZERO: Self = 0.0;
    const LANES_OF: [usize; LANES] = [0, 1, 2, 3, 4, 5, 6, 7];

    #[inline(always)]
    fn decoded(elements: &[Self; LANES]) -> [f32; LANES] {
        *elements
    }
}

impl Element for Bf16 {
    const ZERO: Self = [0; 2];
    /// The lower halves of all words, then the upper ones.
    const LANES_OF: [usize; LANES] = [0, 2, 4, 6, 1, 3, 5, 7];

    #[inline(always)]
    fn decoded(elements: &[Self; LANES]) -> [f32; LANES] {
        let words = elements.as_flattened().as_chunks().0;
        let mut values = [0.0; LANES];
        for i in 0..LANES / 2 {
            values[i] = halves(words[i])[0];
        }
        for i in 0..LANES / 2 {
            values[i + LANES / 2] = halves(words[i])[1];
        }
        values
    }
}

/// Whether products of bf16 as it is stored take less time than decoding it first. Vectors of two f64 are too short
/// to fill with halves of words.
pub fn prefers_bf16() -> bool {
    level() > Level::Baseline
}

/// The lanes of one sum.
type Lanes = [f64; LANES];

#[inline(always)]
fn every_pair<const BASED: bool, T: Element>(base: &[T], vectors: &[&[T]], sums: &mut [Lanes]) {
    // All lanes of a handful of vectors fit into registers, so that every element is read once.
    match vectors.len() {
        1 => triangle::<1, BASED, T>(base, vectors, sums),
        2 => triangle::<2, BASED, T>(base, vectors, sums),
        3 => triangle::<3, BASED, T>(base, vectors, sums),
        4 => triangle::<4, BASED, T>(base, vectors, sums),
        n => {
            let mut at = 0;
            for i in 0..n {
                for j in i..n {
                    let mut three = [[0.0; LANES]; 3];
                    three[1] = sums[at];
                    triangle::<2, BASED, T>(base, &[vectors[i], vectors[j]], &mut three);
                    sums[at] = three[1];
                    at += 1;
                }
            }
        }
    }
}

#[inline(always)]
fn triangle<const N: usize, const BASED: bool, T: Element>(base: &[T], vectors: &[&[T]], sums: &mut [Lanes]) {
    let n = vectors[0].len();
    let n_chunks = n / LANES;
    let chunks: [&[[T; LANES]]; N] = std::array::from_fn(|i| &vectors[i][..n].as_chunks().0[..n_chunks]);
    let base_chunks = if BASED { &base[..n].as_chunks().0[..n_chunks] } else { &[][..] };
    let mut lanes = [[[0.0; LANES]; N]; N];
    let mut at = 0;
    for i in 0..N {
        for j in i..N {
            for place in 0..LANES {
                lanes[i][j][place] = sums[at][T::LANES_OF[place]];
            }
            at += 1;
        }
    }
    for chunk in 0..n_chunks {
        let of_base = if BASED { T::decoded(&base_chunks[chunk]) } else { [0.0; LANES] };
        let mut values = [[0.0; LANES]; N];
        for i in 0..N {
            values[i] = widened::<BASED>(&T::decoded(&chunks[i][chunk]), &of_base);
        }
        add_products(&values, &mut lanes);
    }
    // What is missing of the last lanes counts as zero.
    let rest = |vector: &[T]| {
        let mut lanes = [T::ZERO; LANES];
        lanes[..n % LANES].copy_from_slice(&vector[n_chunks * LANES..n]);
        T::decoded(&lanes)
    };
    let of_base = if BASED { rest(base) } else { [0.0; LANES] };
    let mut values = [[0.0; LANES]; N];
    for i in 0..N {
        values[i] = widened::<BASED>(&rest(vectors[i]), &of_base);
    }
    add_products(&values, &mut lanes);
    let mut at = 0;
    for i in 0..N {
        for j in i..N {
            for place in 0..LANES {
                sums[at][T::LANES_OF[place]] = lanes[i][j][place];
            }
            at += 1;
        }
    }
}

#[inline(always)]
fn widened<const BASED: bool>(values: &[f32; LANES], base: &[f32; LANES]) -> [f64; LANES] {
    let mut wide = [0.0; LANES];
    for lane in 0..LANES {
        wide[lane] = f64::from(if BASED { values[lane] - base[lane] } else { values[lane] });
    }
    wide
}

#[inline(always)]
fn add_products<const N: usize>(values: &[[f64; LANES]; N], lanes: &mut [[[f64; LANES]; N]; N]) {
    for i in 0..N {
        for j in i..N {
            for lane in 0..LANES {
                lanes[i][j][lane] += values[i][lane] * values[j][lane];
            }
        }
    }
}

/// Adds neighbours, then neighbours' sums, and so on.
pub fn tree_sum(values: &[f64]) -> f64 {
    match values {
        [] => 0.0,
        [value] => *value,
        _ => {
            let (left, right) = values.split_at(values.len().next_power_of_two() / 2);
            tree_sum(left) + tree_sum(right)
        }
    }
}

/// Adds up one of the `width` sums that every leaf has; `sums` holds them leaf after leaf.
pub fn over_leaves(sums: &[f64], width: usize, which: usize) -> f64 {
    let own: Vec<f64> = sums.iter().skip(which).step_by(width).copied().collect();
    tree_sum(&own)
}

/// Adds up one of the `width` sums that every leaf has in lanes; `lanes` holds them leaf after leaf.
pub fn over_lanes(lanes: &[f64], width: usize, which: usize) -> f64 {
    let of_leaves = lanes.as_chunks::<LANES>().0.iter().skip(which).step_by(width);
    let own: Vec<f64> = of_leaves.map(|lanes| tree_sum(lanes)).collect();
    tree_sum(&own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::at_every_level;

    #[test]
    fn sums_are_exact_where_f64_can_be() {
        let a: Vec<f32> = (1..=1001).map(|i| i as f32).collect();
        assert_eq!(l1(&a.iter().map(|x| -x).collect::<Vec<_>>()), 501_501.0);
        let mut lanes = [0.0; LANES];
        for piece in a.chunks(64) {
            products(&[piece], &mut lanes);
        }
        assert_eq!(over_lanes(&lanes, 1, 0), (1..=1001u64).map(|i| i * i).sum::<u64>() as f64);
        assert_eq!(over_leaves(&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0], 2, 1), 60.0);
    }

    #[test]
    fn products_of_all_pairs_agree_at_every_level() {
        let value = |i: usize, j: usize| ((i * 31 + j * 17) % 23) as f32 - 11.0;
        let vectors: Vec<Vec<f32>> = (0..6).map(|i| (0..1003).map(|j| value(i, j)).collect()).collect();
        let base: Vec<f32> = (0..1003).map(|j| value(7, j)).collect();
        at_every_level(|_| {
            for n in 1..=6 {
                let vectors: Vec<&[f32]> = vectors[..n].iter().map(Vec::as_slice).collect();
                let width = n * (n + 1) / 2;
                let mut sums = [vec![0.0; width * LANES], vec![0.0; width * LANES]];
                products(&vectors, &mut sums[0]);
                products_from(&base, &vectors, &mut sums[1]);
                for (sums, zeros) in sums.iter().zip([&vec![0.0; 1003], &base]) {
                    let mut at = 0;
                    for i in 0..n {
                        for j in i..n {
                            let term = |k: usize| {
                                f64::from(vectors[i][k] - zeros[k]) * f64::from(vectors[j][k] - zeros[k])
                            };
                            let sum = over_lanes(sums, width, at);
                            assert_eq!(sum, (0..1003).map(term).sum::<f64>(), "{n} {i} {j}");
                            at += 1;
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn products_of_bf16_are_those_of_the_same_numbers_in_f32() {
        let stored = |i: usize, j: usize| {
            ((0x3c00 + (i * 31 + j * 17) % 2001) as u16 ^ (j as u16) << 15).to_le_bytes()
        };
        let vectors: Vec<Vec<Bf16>> = (0..6).map(|i| (0..1003).map(|j| stored(i, j)).collect()).collect();
        let value = |bytes: &Bf16| halves([bytes[0], bytes[1], 0, 0])[0];
        let decoded: Vec<Vec<f32>> =
            vectors.iter().map(|vector| vector.iter().map(value).collect()).collect();
        at_every_level(|level| {
            for n in 1..=5 {
                for len in [0, 1, 7, 8, 9, 1003] {
                    let vectors: Vec<&[Bf16]> = vectors.iter().map(|vector| &vector[..len]).collect();
                    let decoded: Vec<&[f32]> = decoded.iter().map(|vector| &vector[..len]).collect();
                    let mut sums = vec![vec![0.125; n * (n + 1) / 2 * LANES]; 4];
                    products(&vectors[..n], &mut sums[0]);
                    products(&decoded[..n], &mut sums[1]);
                    products_from(vectors[5], &vectors[..n], &mut sums[2]);
                    products_from(decoded[5], &decoded[..n], &mut sums[3]);
                    assert!(sums[0] == sums[1] && sums[2] == sums[3], "{n} {len} {level:?}");
                }
            }
        });
    }

    #[test]
    fn the_tree_keeps_small_terms() {
        let values = [vec![1e16], vec![1.0; 4095]].concat();
        let sequential: f64 = values.iter().sum();
        assert!((tree_sum(&values) - (1e16 + 4095.0)).abs() < (sequential - (1e16 + 4095.0)).abs());
    }
}
