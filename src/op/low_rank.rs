//! A low-rank update of a tensor: `w + s * B * A`, and with magnitudes `m / |w + s * B * A| * (w + s * B * A)`.
//!
//! LoRA (Hu et al. 2021, <https://arxiv.org/abs/2106.09685>) and DoRA (Liu et al. 2024, <https://arxiv.org/abs/2402.09353>).
//! The tensor is seen as vectors, rows or columns, each of which gets a sum of the rows of one factor, with the other
//! factor's numbers as coefficients: `d = sum over k of (s * l_k) * r_k`, in the order of k, in f32; then `w + d`. A norm
//! is a sum of squares in f64, and its quotient with the magnitude is rounded to f32. The result is rounded once.
//! Stacked matrices, as of experts, have a block of vectors each.

use std::ops::Range;

use super::contract::{Access, Beside, Op, Prepare, Tensor};
use crate::kernels::convert;
use crate::kernels::reduce::{LANES, over_lanes, products};
use crate::kernels::simd::vectorized;
use crate::kernels::thin::Panels;
use crate::manifest::{Sink, SinkExt};
use crate::methods::{Cut, Extent, Kernel, Leaf, Operation, Scratch};
use crate::tensor::{Dtype, Shape, TensorSpec};

/// Rows that are worked on together at least, so that all of them share in what is fetched of the factors.
const TOGETHER: usize = 8;

/// An update that is rounded to a dtype.
#[derive(Debug)]
pub struct LowRank {
    pub update: Update,
    pub dtype: Dtype,
}

/// What changes in a tensor, which is the first input.
#[derive(Clone, Debug)]
pub struct Update {
    pub vectors: Vectors,
    /// In the order of their vectors; those of no block stay as they are.
    pub blocks: Vec<Block>,
}

/// How a tensor is seen as vectors of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// Neighbouring elements.
    Rows { count: usize, len: usize },
    /// Elements as far apart as there are columns.
    Columns { count: usize, len: usize },
}

/// The update of some neighbouring vectors.
#[derive(Clone, Debug)]
pub struct Block {
    pub vectors: Range<usize>,
    /// Has the coefficients of each vector; without it there is one of 1.
    pub left: Option<Factor>,
    /// Has the rows that are added up.
    pub right: Factor,
    pub rank: usize,
    /// Of the product.
    pub scale: f64,
    /// The input that has the norm of each vector's result.
    pub magnitude: Option<usize>,
}

/// Where the numbers of a factor stand in an input: `first + i * step + k * rank_step`, for the i-th vector or
/// element and the k-th rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    pub input: usize,
    pub first: usize,
    pub step: usize,
    pub rank_step: usize,
}

impl Vectors {
    fn count_and_len(self) -> (usize, usize) {
        match self {
            Self::Rows { count, len } | Self::Columns { count, len } => (count, len),
        }
    }
}

impl Factor {
    /// The last place that is looked at for so many vectors or elements and ranks.
    fn last(&self, n: usize, rank: usize) -> usize {
        self.first + n.saturating_sub(1) * self.step + rank.saturating_sub(1) * self.rank_step
    }

    /// As text, for keys.
    fn text(&self) -> String {
        let Self { input, first, step, rank_step } = self;
        format!("inputs[{input}] {first} {step} {rank_step}")
    }
}

impl Op for LowRank {
    fn name(&self) -> &'static str {
        "low rank"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, sink: &mut dyn Sink) {
        // The dtype is in the output.
        let Self { update: Update { vectors, blocks }, dtype: _ } = self;
        let (kind, (count, len)) = match vectors {
            Vectors::Rows { .. } => ("rows", vectors.count_and_len()),
            Vectors::Columns { .. } => ("columns", vectors.count_and_len()),
        };
        sink.text("vectors", &format!("{count} {kind} of {len}"));
        let mut scaled: Option<(usize, f64)> = None;
        for (i, Block { vectors, left, right, rank, scale, magnitude }) in blocks.iter().enumerate() {
            let left = left.map_or_else(|| "1".to_owned(), |left| left.text());
            let Range { start, end } = vectors;
            sink.text(
                &format!("blocks[{i}]"),
                &format!("{start}..{end} rank {rank}: {left}; {}", right.text()),
            );
            // Blocks of one adapter's matrices share a scale.
            if scaled != Some((right.input, *scale)) {
                sink.number(&format!("inputs[{}].scale", right.input), *scale);
                scaled = Some((right.input, *scale));
            }
            if let Some(input) = magnitude {
                sink.integer(&format!("blocks[{i}].magnitude"), *input as u64);
            }
        }
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [base, ..] = inputs else { return Err("has no inputs".to_owned()) };
        let (count, len) = self.update.vectors.count_and_len();
        if base.shape.elements() != count * len {
            return Err(format!("of shape {} is seen as {count} vectors of {len}", base.shape));
        }
        if let Some(other) = inputs.iter().find(|input| !input.dtype.is_float()) {
            return Err(format!("computes with {}, which is not a floating-point type", other.dtype));
        }
        let holds = |factor: &Factor, n: usize, rank: usize| {
            inputs.get(factor.input).is_some_and(|spec| factor.last(n, rank) < spec.shape.elements())
        };
        let fits = |Block { vectors, left, right, rank, magnitude, .. }: &Block| {
            left.is_none_or(|left| holds(&left, vectors.len(), *rank))
                && holds(right, len, *rank)
                && magnitude.is_none_or(|input| {
                    inputs.get(input).is_some_and(|spec| spec.shape.elements() == vectors.len())
                })
        };
        if !self.update.blocks.iter().all(fits) {
            return Err("has an update that reaches past its factors".to_owned());
        }
        Ok(TensorSpec { dtype: self.dtype, shape: base.shape.clone() })
    }

    fn access(&self) -> Access<'_> {
        let shape = match self.update.vectors {
            Vectors::Rows { count, len } => vec![count, len],
            Vectors::Columns { count, len } => vec![len, count],
        };
        Access::Beside(Beside { prepare: &self.update, shape: Shape(shape) })
    }
}

impl Prepare for Update {
    fn prepare(&self, beside: &[Tensor<'_>]) -> Box<dyn Operation> {
        let decoded: Vec<Vec<f32>> = beside
            .iter()
            .map(|Tensor { spec, bytes }| {
                let mut values = vec![0.0; spec.shape.elements()];
                convert::decode(spec.dtype, bytes, &mut values);
                values
            })
            .collect();
        let (_, len) = self.vectors.count_and_len();
        let block = |Block { vectors, left, right, rank, scale, magnitude }: &Block| {
            let scale = *scale as f32;
            let at = |factor: &Factor, i: usize, k: usize| {
                decoded[factor.input - 1][factor.first + i * factor.step + k * factor.rank_step]
            };
            let left = (0..vectors.len()).flat_map(|i| {
                (0..*rank).map(move |k| scale * left.as_ref().map_or(1.0, |left| at(left, i, k)))
            });
            Ready {
                vectors: vectors.clone(),
                rank: *rank,
                left: left.collect(),
                right: Panels::new(*rank, len, |k, i| at(right, i, k)),
                magnitude: magnitude.map(|input| decoded[input - 1].clone()),
            }
        };
        Box::new(Updating { vectors: self.vectors, blocks: self.blocks.iter().map(block).collect() })
    }
}

/// An update with its factors at hand.
#[derive(Debug)]
struct Updating {
    vectors: Vectors,
    blocks: Vec<Ready>,
}

#[derive(Debug)]
struct Ready {
    vectors: Range<usize>,
    rank: usize,
    /// The coefficients of one vector after the other, scaled.
    left: Vec<f32>,
    /// The rows that are added up.
    right: Panels,
    /// Of each vector.
    magnitude: Option<Vec<f32>>,
}

impl Operation for Updating {
    // What it is made from writes its fields.
    fn write_manifest(&self, _sink: &mut dyn Sink) {}

    fn cut(&self) -> Cut {
        match self.vectors {
            Vectors::Rows { .. } => Cut::Rows { at_least: TOGETHER },
            Vectors::Columns { .. } => Cut::FirstAxis,
        }
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(InRows(self))
    }
}

struct InRows<'a>(&'a Updating);

impl Kernel for InRows<'_> {
    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        let Updating { vectors, blocks } = self.0;
        let len = leaf.row_len;
        // The number of the leaf's first vector.
        let first = match vectors {
            Vectors::Rows { .. } => leaf.start as usize / len.max(1),
            Vectors::Columns { .. } => leaf.start as usize,
        };
        let mut row = 0;
        while row < leaf.rows {
            let vector = first + row;
            let number = blocks.partition_point(|block| block.vectors.end <= vector);
            let block = blocks.get(number);
            let is_updated = block.is_some_and(|block| block.vectors.start <= vector);
            // Neighbours that the same becomes of.
            let end = block
                .map_or(usize::MAX, |block| if is_updated { block.vectors.end } else { block.vectors.start });
            let rows = row..leaf.rows.min(end - first);
            row = rows.end;
            let elements = rows.start * len..rows.end * len;
            let (own, out) = (&leaf.inputs[0][elements.clone()], &mut out[elements]);
            match block.filter(|_| is_updated) {
                Some(block) => block.update(vector - block.vectors.start, rows.len(), own, out),
                None => out.copy_from_slice(own),
            }
        }
    }
}

impl Ready {
    /// Updates so many vectors from the block's `first` on, which lie one behind the other.
    fn update(&self, first: usize, n: usize, own: &[f32], out: &mut [f32]) {
        let Self { vectors: _, rank, left, right, magnitude } = self;
        right.add_product(&left[first * rank..(first + n) * rank], own, out);
        let Some(magnitude) = magnitude else { return };
        for (magnitude, out) in magnitude[first..].iter().zip(out.chunks_mut(out.len() / n)) {
            let mut lanes = [0.0; LANES];
            products(&[out], &mut lanes);
            let factor = f64::from(*magnitude) / over_lanes(&lanes, 1, 0).sqrt();
            scale(factor as f32, out);
        }
    }
}

vectorized! {
    fn scale(factor: f32, out: &mut [f32]) {
        for value in out {
            *value *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::at_every_level;

    fn value(i: usize, seed: usize) -> f32 {
        ((i * 37 + seed * 11) % 23) as f32 / 7.0 - 1.4
    }

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| value(i, seed)).collect()
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn spec(dims: &[usize]) -> TensorSpec {
        TensorSpec { dtype: Dtype::F32, shape: Shape(dims.to_vec()) }
    }

    /// The result of an update of a matrix, all vectors in one leaf.
    fn run(update: &Update, base: &[f32], beside: &[(Vec<usize>, Vec<f32>)]) -> Vec<f32> {
        let held: Vec<(TensorSpec, Vec<u8>)> =
            beside.iter().map(|(dims, values)| (spec(dims), bytes(values))).collect();
        let tensors: Vec<Tensor<'_>> = held.iter().map(|(spec, bytes)| Tensor { spec, bytes }).collect();
        let operation = update.prepare(&tensors);
        let (count, len) = update.vectors.count_and_len();
        let is_rows = matches!(update.vectors, Vectors::Rows { .. });
        let seen: Vec<f32> = if is_rows {
            base.to_vec()
        } else {
            (0..count * len).map(|i| base[i % len * count + i / len]).collect()
        };
        let leaf = Leaf {
            index: 0,
            inputs: &[&seen],
            masks: &[],
            rows: count,
            row_len: len,
            start: 0,
            row_step: if is_rows { len as u64 } else { 1 },
            col_step: if is_rows { 1 } else { count as u64 },
        };
        let mut out = vec![0.0; seen.len()];
        operation.kernel(Extent { n_elements: seen.len(), rows: 1 }).emit(
            &leaf,
            &mut out,
            &mut Scratch::default(),
        );
        if is_rows { out } else { (0..count * len).map(|i| out[i % count * len + i / count]).collect() }
    }

    #[track_caller]
    fn assert_near(found: &[f32], expected: impl Fn(usize) -> f64) {
        for (i, found) in found.iter().enumerate() {
            let expected = expected(i);
            assert!(
                (f64::from(*found) - expected).abs() < 1e-5 * expected.abs().max(1.0),
                "{i}: {found} {expected}"
            );
        }
    }

    #[test]
    fn a_matrix_gets_the_product_of_its_factors() {
        let (rows, columns, rank) = (5, 2061, 6);
        let (w, a, b) = (values(rows * columns, 1), values(rank * columns, 2), values(rows * rank, 3));
        let update = Update {
            vectors: Vectors::Rows { count: rows, len: columns },
            blocks: vec![Block {
                vectors: 0..rows,
                left: Some(Factor { input: 2, first: 0, step: rank, rank_step: 1 }),
                right: Factor { input: 1, first: 0, step: 1, rank_step: columns },
                rank,
                scale: 0.75,
                magnitude: None,
            }],
        };
        let beside = [(vec![rank, columns], a.clone()), (vec![rows, rank], b.clone())];
        let expected = |i: usize| {
            let (row, column) = (i / columns, i % columns);
            let product = |k: usize| f64::from(b[row * rank + k]) * f64::from(a[k * columns + column]);
            f64::from(w[i]) + 0.75 * (0..rank).map(product).sum::<f64>()
        };
        let mut first = None;
        at_every_level(|_| {
            let found = run(&update, &w, &beside);
            assert_near(&found, expected);
            assert!(*first.get_or_insert(found.clone()) == found, "all levels give the same bits");
        });
    }

    #[test]
    fn magnitudes_are_the_norms_of_columns_of_a_transposed_matrix() {
        // Stored as inputs by outputs; the magnitudes are those of outputs.
        let (inputs, outputs, rank) = (7, 3, 2);
        let (w, a, b) = (values(inputs * outputs, 4), values(rank * inputs, 5), values(outputs * rank, 6));
        let m: Vec<f32> = values(outputs, 7).iter().map(|m| m.abs() + 0.5).collect();
        let update = Update {
            vectors: Vectors::Columns { count: outputs, len: inputs },
            blocks: vec![Block {
                vectors: 0..outputs,
                left: Some(Factor { input: 2, first: 0, step: rank, rank_step: 1 }),
                right: Factor { input: 1, first: 0, step: 1, rank_step: inputs },
                rank,
                scale: 2.0,
                magnitude: Some(3),
            }],
        };
        let beside =
            [(vec![rank, inputs], a.clone()), (vec![outputs, rank], b.clone()), (vec![outputs], m.clone())];
        let sum = |input: usize, output: usize| {
            let product = |k: usize| f64::from(b[output * rank + k]) * f64::from(a[k * inputs + input]);
            f64::from(w[input * outputs + output]) + 2.0 * (0..rank).map(product).sum::<f64>()
        };
        assert_near(&run(&update, &w, &beside), |i| {
            let (input, output) = (i / outputs, i % outputs);
            let norm = (0..inputs).map(|input| sum(input, output).powi(2)).sum::<f64>().sqrt();
            f64::from(m[output]) / norm * sum(input, output)
        });
    }

    #[test]
    fn vectors_of_no_block_stay_and_each_block_has_its_own_factors() {
        let (w, row, b, m) = (values(36, 8), values(4, 9), values(6, 10), vec![2.5; 3]);
        let right = Factor { input: 1, first: 0, step: 1, rank_step: 0 };
        let blocks = vec![
            Block { vectors: 1..2, left: None, right, rank: 1, scale: -1.0, magnitude: None },
            Block {
                vectors: 5..8,
                left: Some(Factor { input: 2, first: 0, step: 2, rank_step: 1 }),
                right,
                rank: 2,
                scale: 0.5,
                magnitude: Some(3),
            },
        ];
        let update = Update { vectors: Vectors::Rows { count: 9, len: 4 }, blocks };
        let beside = [(vec![4], row.clone()), (vec![3, 2], b.clone()), (vec![3], m)];
        let found = run(&update, &w, &beside);
        for stays in [0..4, 8..20, 32..36] {
            assert_eq!(found[stays.clone()], w[stays]);
        }
        assert_near(&found[4..8], |i| f64::from(w[4 + i]) - f64::from(row[i]));
        let sum = |vector: usize, i: usize| {
            let left = f64::from(b[2 * vector]) + f64::from(b[2 * vector + 1]);
            f64::from(w[20 + 4 * vector + i]) + 0.5 * left * f64::from(row[i])
        };
        assert_near(&found[20..32], |i| {
            let norm = (0..4).map(|column| sum(i / 4, column).powi(2)).sum::<f64>().sqrt();
            2.5 / norm * sum(i / 4, i % 4)
        });
    }

    #[test]
    fn updates_that_reach_past_their_factors_are_refused() {
        let op = |rank: usize| LowRank {
            update: Update {
                vectors: Vectors::Rows { count: 2, len: 3 },
                blocks: vec![Block {
                    vectors: 0..2,
                    left: Some(Factor { input: 2, first: 0, step: rank, rank_step: 1 }),
                    right: Factor { input: 1, first: 0, step: 1, rank_step: 3 },
                    rank,
                    scale: 1.0,
                    magnitude: None,
                }],
            },
            dtype: Dtype::Bf16,
        };
        let (base, a, b) = (spec(&[2, 3]), spec(&[4, 3]), spec(&[2, 4]));
        assert_eq!(op(4).output(&[&base, &a, &b]).map(|spec| spec.to_string()), Ok("BF16 [2, 3]".to_owned()));
        assert!(op(5).output(&[&base, &a, &b]).is_err());
        assert!(op(4).output(&[&spec(&[3, 3]), &a, &b]).is_err());
    }
}
