//! Where models pull a tensor in opposite directions.
//!
//! With b the base, x_i the models, all as stored and widened to f32, and d_i = x_i - b, an element is moved if any
//! d_i is not zero, and contested if some are above and some below zero. With P the sum of an element's positive
//! d_i and N that of its negative ones, without sign, both in f32 and in the order of the models, |P + N| summed is
//! the pull, and 2 min(P, N) summed is what the models take from one another. The result is a table of f64: the
//! numbers of elements, of moved and of contested ones, the pull, and what is cancelled. Nothing of it depends on
//! weights, densities or signs that were elected, so that editing these makes no table anew.

use super::compared::{ratio, table};
use super::contract::{Access, Op, Streaming};
use crate::kernels::reduce::{LANES, over_lanes};
use crate::kernels::simd::vectorized;
use crate::manifest::Sink;
use crate::methods::{Cut, Extent, Kernel, Leaf, Operation, Pass, Scratch};
use crate::tensor::TensorSpec;

/// Numbers of a table.
const COLUMNS: usize = 5;

/// The pull and what is cancelled of it.
const SUMS: usize = 2;

/// Compares what models changed of their base, which is the first input.
#[derive(Debug)]
pub struct Conflicts;

impl Op for Conflicts {
    fn name(&self) -> &'static str {
        "conflicts"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, _sink: &mut dyn Sink) {}

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [_, models @ ..] = inputs else { return Err("has no base".to_owned()) };
        if models.is_empty() {
            return Err("has no models to compare".to_owned());
        }
        table(inputs, COLUMNS)
    }

    fn access(&self) -> Access<'_> {
        Access::Streaming(Streaming { operation: self, compute: None })
    }
}

impl Operation for Conflicts {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        self.write_fields(sink);
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Counting { n_elements: extent.n_elements, table: None })
    }
}

struct Counting {
    n_elements: usize,
    table: Option<Vec<f64>>,
}

impl Kernel for Counting {
    fn next_pass(&self) -> Option<Pass> {
        self.table.is_none().then_some(Pass { sums: SUMS * LANES, counts: 2 })
    }

    fn takes_pieces(&self) -> bool {
        true
    }

    fn gather(&self, leaf: &Leaf<'_>, sums: &mut [f64], counts: &mut [u64], _scratch: &mut Scratch) {
        let [base, models @ ..] = leaf.inputs else { unreachable!("inputs were counted") };
        let [moved, contested] = compare(base, models, sums);
        counts[0] += moved;
        counts[1] += contested;
    }

    fn absorb(&mut self, sums: &[f64], counts: &[u64]) -> Result<(), String> {
        let sum = |which| over_lanes(sums, SUMS, which);
        self.table = Some(vec![self.n_elements as f64, counts[0] as f64, counts[1] as f64, sum(0), sum(1)]);
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
    /// Adds to the lanes of the sums; returns how many elements are moved and contested.
    fn compare(base: &[f32], models: &[&[f32]], sums: &mut [f64]) -> [u64; 2] {
        let (mut moved, mut contested) = (0, 0);
        let (pull, cancelled) = sums.split_at_mut(LANES);
        for start in (0..base.len()).step_by(LANES) {
            let n = LANES.min(base.len() - start);
            let (mut above, mut below) = ([0.0_f32; LANES], [0.0_f32; LANES]);
            for model in models {
                for lane in 0..n {
                    let change = model[start + lane] - base[start + lane];
                    above[lane] += change.max(0.0);
                    below[lane] += (-change).max(0.0);
                }
            }
            for lane in 0..n {
                pull[lane] += f64::from(above[lane]) + f64::from(below[lane]);
                cancelled[lane] += 2.0 * f64::from(above[lane].min(below[lane]));
                moved += u64::from(above[lane] > 0.0 || below[lane] > 0.0);
                contested += u64::from(above[lane] > 0.0 && below[lane] > 0.0);
            }
        }
        [moved, contested]
    }
}

/// A table, read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conflict {
    pub elements: f64,
    pub moved: f64,
    contested: f64,
    pull: f64,
    cancelled: f64,
}

impl Conflict {
    /// Reads a table's bytes; `None` if they are none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let numbers: &[[u8; 8]; COLUMNS] = bytes.as_chunks::<8>().0.try_into().ok()?;
        if bytes.len() != 8 * COLUMNS {
            return None;
        }
        let [elements, moved, contested, pull, cancelled] = numbers.map(f64::from_le_bytes);
        Some(Self { elements, moved, contested, pull, cancelled })
    }

    /// The part of the moved elements that models move in opposite directions; 0 where nothing is moved.
    pub fn contested(&self) -> f64 {
        ratio(self.contested, self.moved)
    }

    /// The part of all movement that cancels out; 0 where nothing is moved.
    pub fn cancelled(&self) -> f64 {
        ratio(self.cancelled, self.pull)
    }

    /// Adds another tensor.
    pub fn add(&mut self, other: &Self) {
        self.elements += other.elements;
        self.moved += other.moved;
        self.contested += other.contested;
        self.pull += other.pull;
        self.cancelled += other.cancelled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Dtype, Shape};

    fn counted(inputs: &[Vec<f32>]) -> Conflict {
        let n = inputs[0].len();
        let mut kernel = Conflicts.kernel(Extent { n_elements: n, rows: 1 });
        let pass = kernel.next_pass().unwrap();
        let starts: Vec<usize> = (0..n).step_by(24).collect();
        let (mut sums, mut counts) = (vec![0.0; starts.len() * pass.sums], vec![0; pass.counts]);
        for (index, start) in starts.into_iter().enumerate() {
            let range = start..(start + 24).min(n);
            let slices: Vec<&[f32]> = inputs.iter().map(|input| &input[range.clone()]).collect();
            let (row_len, start) = (range.len(), start as u64);
            let leaf = Leaf {
                index,
                inputs: &slices,
                masks: &[],
                rows: 1,
                row_len,
                start,
                row_step: 0,
                col_step: 1,
            };
            let own = &mut sums[index * pass.sums..(index + 1) * pass.sums];
            kernel.gather(&leaf, own, &mut counts, &mut Scratch::default());
        }
        kernel.absorb(&sums, &counts).unwrap();
        let bytes: Vec<u8> = kernel.table().unwrap().iter().flat_map(|number| number.to_le_bytes()).collect();
        Conflict::read(&bytes).unwrap()
    }

    #[test]
    fn numbers_are_those_of_their_definitions() {
        // Eighths, so that sums are exact, and many of them equal to the base.
        let value = |i: usize, k: usize| ((i * 37 + k * 11) % 5) as f32 / 8.0 - 0.25;
        for models in 1..=6 {
            let inputs: Vec<Vec<f32>> =
                (0..=models).map(|i| (0..101).map(|k| value(i, k)).collect()).collect();
            let change = |i: usize, k: usize| f64::from(inputs[i][k]) - f64::from(inputs[0][k]);
            let sides = |k: usize| {
                (1..=models).fold((0.0, 0.0), |(above, below), i| {
                    (above + change(i, k).max(0.0), below + (-change(i, k)).max(0.0))
                })
            };
            let count = |is: &dyn Fn((f64, f64)) -> bool| (0..101).filter(|k| is(sides(*k))).count() as f64;
            let sum = |of: &dyn Fn((f64, f64)) -> f64| (0..101).map(|k| of(sides(k))).sum::<f64>();
            let found = counted(&inputs);
            let moved = count(&|(above, below)| above + below > 0.0);
            let contested = count(&|(above, below)| above > 0.0 && below > 0.0);
            assert_eq!((found.elements, found.moved), (101.0, moved));
            assert_eq!(found.contested(), contested / moved);
            let (pull, cancelled) = (sum(&|(a, b)| a + b), sum(&|(a, b)| 2.0 * f64::min(a, b)));
            assert_eq!(found.cancelled(), cancelled / pull);
            assert!(models == 1 || contested > 0.0);
        }
    }

    #[test]
    fn where_nothing_moves_nothing_is_divided_by_zero() {
        let found = counted(&[vec![1.0; 9], vec![1.0; 9]]);
        assert_eq!((found.contested(), found.cancelled()), (0.0, 0.0));
        assert_eq!(Conflict::read(&[0; 39]), None);
        assert_eq!(Conflict::read(&[0; 48]), None);
    }

    #[test]
    fn tables_are_for_floating_point_tensors_of_one_shape() {
        let spec = |dtype, n| TensorSpec { dtype, shape: Shape(vec![n]) };
        let (a, b, c) = (spec(Dtype::Bf16, 4), spec(Dtype::F32, 4), spec(Dtype::Bf16, 5));
        assert!(Conflicts.output(&[&a, &b]).is_ok());
        for wrong in [&[&a][..], &[&a, &c], &[&a, &spec(Dtype::I64, 4)]] {
            assert!(Conflicts.output(wrong).is_err());
        }
    }
}
