//! What a merge did to a tensor: how far it moved from its base, and which model moved it there.
//!
//! With r the result, b the base, x_i the models, all as stored and widened to f32, D = r - b and d_i = x_i - b,
//! the result is a table of f64: the number of elements, of elements whose sign in r is opposite to that in b,
//! <r, r>, <r, b>, <b, b>, <D, D>, and for each model <D, d_i> and <d_i, d_i>. Sums follow a tree fixed by the
//! shape. Everything that is shown follows from the table, so another reading of it makes nothing anew.

use super::compared::{ratio, table};
use super::contract::{Access, Op, Role, Streaming};
use crate::kernels::reduce::{LANES, over_lanes, products, products_from};
use crate::kernels::simd::vectorized;
use crate::manifest::Sink;
use crate::methods::{Cut, Extent, Kernel, Leaf, Operation, Pass, Scratch};
use crate::tensor::TensorSpec;

/// What the merged tensor is to this operation; it comes first, the base second.
pub const RESULT: Role = Role("result");

/// Numbers before those of the models.
const HEAD: usize = 6;

#[derive(Debug)]
pub struct Statistics {
    /// Models beside the base.
    pub models: usize,
}

impl Op for Statistics {
    fn name(&self) -> &'static str {
        "statistics"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, _sink: &mut dyn Sink) {
        // The number of models shows in the inputs.
        let Self { models: _ } = self;
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        if inputs.len() != self.models + 2 {
            return Err(format!("is compared with {} tensors, not {}", inputs.len(), self.models + 1));
        }
        table(inputs, HEAD + 2 * self.models)
    }

    fn access(&self) -> Access<'_> {
        Access::Streaming(Streaming { operation: self, compute: None })
    }
}

impl Operation for Statistics {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        self.write_fields(sink);
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Gathering { n_elements: extent.n_elements, vectors: self.models + 1, table: None })
    }
}

/// Sums of <r, r>, <r, b> and <b, b>.
const PAIR: usize = 3;

struct Gathering {
    n_elements: usize,
    /// The result and the models.
    vectors: usize,
    table: Option<Vec<f64>>,
}

impl Gathering {
    /// Sums of a leaf: those of the pair, and of all differences with one another.
    fn width(&self) -> usize {
        PAIR + self.vectors * (self.vectors + 1) / 2
    }
}

impl Kernel for Gathering {
    fn next_pass(&self) -> Option<Pass> {
        self.table.is_none().then(|| Pass { sums: self.width() * LANES, counts: 1 })
    }

    fn takes_pieces(&self) -> bool {
        true
    }

    fn gather(&self, leaf: &Leaf<'_>, sums: &mut [f64], counts: &mut [u64], _scratch: &mut Scratch) {
        let [result, base, models @ ..] = leaf.inputs else { unreachable!("inputs were counted") };
        let (of_pair, of_differences) = sums.split_at_mut(PAIR * LANES);
        products(&[result, base], of_pair);
        let vectors: Vec<&[f32]> = [*result].into_iter().chain(models.iter().copied()).collect();
        products_from(base, &vectors, of_differences);
        counts[0] += opposite_signs(result, base);
    }

    fn absorb(&mut self, sums: &[f64], counts: &[u64]) -> Result<(), String> {
        let width = self.width();
        let sum = |which| over_lanes(sums, width, which);
        let mut table = vec![self.n_elements as f64, counts[0] as f64, sum(0), sum(1), sum(2), sum(PAIR)];
        // The triangle's first row holds <D, d_i>; the rows behind it begin with <d_i, d_i>.
        let mut row = PAIR;
        for model in 1..self.vectors {
            row += self.vectors - (model - 1);
            table.extend([sum(PAIR + model), sum(row)]);
        }
        self.table = Some(table);
        Ok(())
    }

    fn table(&self) -> Option<&[f64]> {
        self.table.as_deref()
    }

    fn emit(&self, _leaf: &Leaf<'_>, _out: &mut [f32], _scratch: &mut Scratch) {
        unreachable!("the result is a table");
    }
}

vectorized! {
    /// Elements that are above zero in one and below in the other.
    fn opposite_signs(a: &[f32], b: &[f32]) -> u64 {
        let mut n = 0;
        for (a, b) in a.iter().zip(b) {
            n += u64::from((*a > 0.0 && *b < 0.0) || (*a < 0.0 && *b > 0.0));
        }
        n
    }
}

/// A table, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub elements: f64,
    /// Elements whose sign is opposite to the base's.
    pub flipped: f64,
    result: f64,
    result_base: f64,
    base: f64,
    change: f64,
    /// <D, d_i> and <d_i, d_i> of every model.
    models: Vec<[f64; 2]>,
}

impl Change {
    /// Reads a table's bytes; `None` if they are none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let numbers: Vec<f64> = numbers.iter().map(|number| f64::from_le_bytes(*number)).collect();
        let (head, models) = numbers.split_first_chunk::<HEAD>()?;
        let (models, odd) = models.as_chunks::<2>();
        let [elements, flipped, result, result_base, base, change] = *head;
        let models = models.to_vec();
        (rest.is_empty() && odd.is_empty()).then_some(Self {
            elements,
            flipped,
            result,
            result_base,
            base,
            change,
            models,
        })
    }

    /// The L2 norm of r - b.
    pub fn norm(&self) -> f64 {
        self.change.sqrt()
    }

    /// The norm of r - b as a part of that of b; 0 where nothing changed.
    pub fn relative(&self) -> f64 {
        ratio(self.norm(), self.base.sqrt())
    }

    /// The cosine between r and b; 1 where nothing changed.
    pub fn cosine(&self) -> f64 {
        if self.change == 0.0 {
            return 1.0;
        }
        ratio(self.result_base, self.result.sqrt() * self.base.sqrt()).clamp(-1.0, 1.0)
    }

    /// The part of all elements whose sign is opposite to the base's.
    pub fn flipped(&self) -> f64 {
        ratio(self.flipped, self.elements)
    }

    /// For each model, how much of the change goes its way: <D, d_i> as a part of the sum of all models', which
    /// is 1. Below zero where the result moved away from a model; 0 for all where nothing changed.
    pub fn shares(&self) -> Vec<f64> {
        let total: f64 = self.models.iter().map(|[along, _]| along).sum();
        self.models.iter().map(|[along, _]| ratio(*along, total)).collect()
    }

    /// The squared norms of r - b and of b, which add up over tensors.
    pub fn squares(&self) -> [f64; 2] {
        [self.change, self.base]
    }

    /// <D, d_i> of every model, which add up over tensors: what [`Self::shares`] are parts of.
    pub fn along(&self) -> impl Iterator<Item = f64> {
        self.models.iter().map(|[along, _]| *along)
    }

    /// Adds another tensor of the same stage, made of the same models.
    ///
    /// # Panics
    /// If it is made of more or fewer.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.models.len(), other.models.len());
        self.elements += other.elements;
        self.flipped += other.flipped;
        self.result += other.result;
        self.result_base += other.result_base;
        self.base += other.base;
        self.change += other.change;
        for (sums, more) in self.models.iter_mut().zip(&other.models) {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(inputs: &[Vec<f32>], leaf: usize) -> Change {
        let op = Statistics { models: inputs.len() - 2 };
        let n = inputs[0].len();
        let mut kernel = op.kernel(Extent { n_elements: n, rows: 1 });
        let pass = kernel.next_pass().unwrap();
        let leaves: Vec<usize> = (0..n).step_by(leaf).collect();
        let (mut sums, mut counts) = (vec![0.0; leaves.len() * pass.sums], vec![0]);
        for (index, start) in leaves.iter().copied().enumerate() {
            let range = start..(start + leaf).min(n);
            let slices: Vec<&[f32]> = inputs.iter().map(|input| &input[range.clone()]).collect();
            let leaf = Leaf {
                index,
                inputs: &slices,
                masks: &[],
                rows: 1,
                row_len: range.len(),
                start: start as u64,
                row_step: 0,
                col_step: 1,
            };
            let own = &mut sums[index * pass.sums..(index + 1) * pass.sums];
            kernel.gather(&leaf, own, &mut counts, &mut Scratch::default());
        }
        kernel.absorb(&sums, &counts).unwrap();
        assert!(kernel.next_pass().is_none());
        let bytes: Vec<u8> = kernel.table().unwrap().iter().flat_map(|number| number.to_le_bytes()).collect();
        Change::read(&bytes).unwrap()
    }

    #[test]
    fn numbers_are_those_of_their_definitions() {
        let value = |i: usize, k: usize| ((i * 37 + k * 11) % 19) as f32 / 4.0 - 2.0;
        for models in 1..=5 {
            let inputs: Vec<Vec<f32>> =
                (0..models + 2).map(|i| (0..100).map(|k| value(i, k)).collect()).collect();
            let wide = |i: usize, k: usize| f64::from(inputs[i][k]);
            let sum = |term: &dyn Fn(usize) -> f64| (0..100).map(term).sum::<f64>();
            let change = |k: usize| wide(0, k) - wide(1, k);
            let norm = sum(&|k| change(k).powi(2)).sqrt();
            let of_base = sum(&|k| wide(1, k).powi(2)).sqrt();
            let of_result = sum(&|k| wide(0, k).powi(2)).sqrt();
            let along = |i: usize| sum(&|k| change(k) * (wide(i + 2, k) - wide(1, k)));
            let total: f64 = (0..models).map(along).sum();
            for leaf in [100, 24] {
                let found = gathered(&inputs, leaf);
                let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
                assert!(near(found.norm(), norm) && near(found.relative(), norm / of_base));
                assert!(near(found.cosine(), sum(&|k| wide(0, k) * wide(1, k)) / (of_result * of_base)));
                let flips = (0..100).filter(|k| wide(0, *k) * wide(1, *k) < 0.0).count();
                assert!(near(found.flipped(), flips as f64 / 100.0));
                assert!(found.shares().iter().enumerate().all(|(i, share)| near(*share, along(i) / total)));
                let own = |i: usize| sum(&|k| (wide(i + 2, k) - wide(1, k)).powi(2));
                assert!(found.models.iter().enumerate().all(|(i, [_, square])| near(*square, own(i))));
            }
        }
    }

    #[test]
    fn where_nothing_changed_nothing_is_divided_by_zero() {
        let base = vec![0.0, 1.0, -1.0];
        let found = gathered(&[base.clone(), base.clone(), base.iter().map(|x| x + 1.0).collect()], 3);
        assert_eq!((found.norm(), found.relative(), found.cosine(), found.flipped()), (0.0, 0.0, 1.0, 0.0));
        assert_eq!(found.shares(), [0.0]);
        assert_eq!(gathered(&[vec![1.0], vec![0.0], vec![1.0]], 1).relative(), 0.0);
    }

    #[test]
    fn totals_are_those_of_all_elements_at_once() {
        let value = |i: usize, k: usize| ((i * 5 + k * 3) % 7) as f32 - 3.0;
        let whole: Vec<Vec<f32>> = (0..4).map(|i| (0..40).map(|k| value(i, k)).collect()).collect();
        let part = |range: std::ops::Range<usize>| -> Vec<Vec<f32>> {
            whole.iter().map(|values| values[range.clone()].to_vec()).collect()
        };
        let mut sum = gathered(&part(0..24), 24);
        sum.add(&gathered(&part(24..40), 16));
        assert_eq!(sum, gathered(&whole, 40));
    }
}
