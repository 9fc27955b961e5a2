//! `arcee_fusion`: takes from the other model the elements whose change matters most.

use super::arguments::{ArgumentError, Arguments};
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Leaf, Operation, Pass};
use super::scratch::Scratch;
use super::spec::{BaseRule, Count, MethodSpec, MissingRule};
use crate::kernels::exponential;
use crate::kernels::quantile::Quantiles;
use crate::kernels::reduce::{LANES, tree_sum};
use crate::kernels::simd::vectorized;
use crate::manifest::Sink;

#[derive(Debug)]
pub struct ArceeFusion;

static SPEC: MethodSpec = MethodSpec {
    name: "arcee_fusion",
    version: 1,
    summary: "Takes the elements of the other model that stand out by how much they and their rows change.",
    formula: "\
per vector along the last axis: p = softmax(x) + 1e-8, q = softmax(b) + 1e-8, K = sum(p ln(p / q))
per element: I = |x - b| K
T = median + 1.5 (q3 - q1), quartiles of I over the whole tensor at ranks floor(q (n - 1))
r = x where I >= T, else b",
    reference: "Arcee AI 2024, Arcee Fusion, https://arcee.ai, after mergekit, https://github.com/arcee-ai/mergekit",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: Some(1) },
    missing: MissingRule::CopySingle,
    draws: false,
    params: &[],
};

/// Added to every probability, so that none is zero.
const LEAST_PROBABILITY: f64 = 1e-8;

/// How many times the distance of the quartiles a change stands above the median to be taken.
const SPREADS: f64 = 1.5;

impl Method for ArceeFusion {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let base = arguments.required_base();
        Ok(Simplified::Operation { operation: Box::new(Fusion), inputs: vec![base, 1 - base] })
    }
}

#[derive(Clone, Debug)]
struct Fusion;

impl Operation for Fusion {
    fn write_manifest(&self, _sink: &mut dyn Sink) {
        // There is nothing to set.
    }

    fn cut(&self) -> Cut {
        Cut::LastAxis
    }

    fn kernel(&self, extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Fusing { extent, divergences: Vec::new(), step: Step::Divergences })
    }
}

/// What is to be known next.
#[derive(Clone, Debug)]
enum Step {
    Divergences,
    Quartiles(Quantiles),
    /// The least importance that is taken.
    Emit(f64),
}

struct Fusing {
    extent: Extent,
    /// Of every row, once they are summed up.
    divergences: Vec<f64>,
    step: Step,
}

impl Fusing {
    /// Hands every row of a leaf to `work`: its range in the leaf and its divergence.
    fn each_row(&self, leaf: &Leaf<'_>, mut work: impl FnMut(std::ops::Range<usize>, f64)) {
        let first = leaf.index * self.extent.rows;
        for (row, divergence) in self.divergences[first..first + leaf.rows].iter().enumerate() {
            work(row * leaf.row_len..(row + 1) * leaf.row_len, *divergence);
        }
    }
}

impl Kernel for Fusing {
    fn next_pass(&self) -> Option<Pass> {
        match &self.step {
            Step::Divergences => Some(Pass { sums: self.extent.rows, counts: 0 }),
            Step::Quartiles(quartiles) => Some(Pass { sums: 0, counts: quartiles.n_counts() }),
            Step::Emit(_) => None,
        }
    }

    fn gather(&self, leaf: &Leaf<'_>, sums: &mut [f64], counts: &mut [u64], scratch: &mut Scratch) {
        let [base, other] = leaf.inputs else { unreachable!("there are two inputs") };
        match &self.step {
            Step::Divergences => {
                let mut buffers = [Vec::new(), Vec::new(), Vec::new()];
                for (row, sum) in sums[..leaf.rows].iter_mut().enumerate() {
                    let range = row * leaf.row_len..(row + 1) * leaf.row_len;
                    *sum = divergence(&other[range.clone()], &base[range], &mut buffers);
                }
            }
            Step::Quartiles(quartiles) => {
                let values = &mut scratch.vectors(1)[0];
                values.resize(leaf.n_elements(), 0.0);
                self.each_row(leaf, |range, divergence| {
                    importance(&base[range.clone()], &other[range.clone()], divergence, &mut values[range]);
                });
                quartiles.count(values, counts);
            }
            Step::Emit(_) => unreachable!("nothing is left to gather"),
        }
    }

    fn absorb(&mut self, sums: &[f64], counts: &[u64]) -> Result<(), String> {
        match &mut self.step {
            Step::Divergences => {
                self.divergences = sums.to_vec();
                let n = self.extent.n_elements as u64;
                self.step = if n == 0 {
                    Step::Emit(0.0)
                } else {
                    // In f64 as mergekit does; a quarter of a whole number below 2^53 is exact.
                    let rank = |part: f64| (part * (n - 1) as f64).floor() as u64;
                    Step::Quartiles(Quantiles::new(&[0.25, 0.5, 0.75].map(rank), n))
                };
            }
            Step::Quartiles(quartiles) => {
                if let Some(found) = quartiles.absorb(counts) {
                    let [lower, median, upper] = [0, 1, 2].map(|which: usize| f64::from(found[which]));
                    self.step = Step::Emit(median + SPREADS * (upper - lower));
                }
            }
            Step::Emit(_) => unreachable!("nothing is left to absorb"),
        }
        Ok(())
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        let Step::Emit(least) = self.step else { unreachable!("all passes came first") };
        let [base, other] = leaf.inputs else { unreachable!("there are two inputs") };
        self.each_row(leaf, |range, divergence| {
            let (base, other) = (&base[range.clone()], &other[range.clone()]);
            take_important(base, other, divergence, least, &mut out[range]);
        });
    }
}

/// The Kullback-Leibler divergence of the softmax of `b` from that of `x`, nowhere below zero.
fn divergence(x: &[f32], b: &[f32], buffers: &mut [Vec<f64>; 3]) -> f64 {
    let [of_x, of_b, ratios] = buffers;
    let totals = [exponentials(x, of_x), exponentials(b, of_b)];
    ratios.resize(x.len(), 0.0);
    to_probabilities(of_x, of_b, totals, ratios);
    exponential::ln(ratios);
    tree_sum(&product(of_x, ratios)).max(0.0)
}

/// Writes e to the power of all values less the largest; returns their sum.
fn exponentials(values: &[f32], out: &mut Vec<f64>) -> f64 {
    out.resize(values.len(), 0.0);
    less_largest(values, out);
    exponential::exp(out);
    tree_sum(&sum(out))
}

#[inline(always)]
fn importance_of(base: f32, other: f32, divergence: f64) -> f32 {
    let importance = (f64::from(other) - f64::from(base)).abs() * divergence;
    importance.min(f64::from(f32::MAX)) as f32
}

vectorized! {
    fn less_largest(values: &[f32], out: &mut [f64]) {
        // Lanes, since a single maximum would be waited for.
        let mut largest = [f32::NEG_INFINITY; LANES];
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                largest[lane] = if chunk[lane] > largest[lane] { chunk[lane] } else { largest[lane] };
            }
        }
        let largest = f64::from(largest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max));
        for (r, value) in out.iter_mut().zip(values) {
            *r = f64::from(*value) - largest;
        }
    }

    /// Makes probabilities of the exponentials of `x`, and writes what they are to those of `b`.
    fn to_probabilities(of_x: &mut [f64], of_b: &[f64], totals: [f64; 2], ratios: &mut [f64]) {
        for (ratio, (p, b)) in ratios.iter_mut().zip(of_x.iter_mut().zip(of_b)) {
            *p = *p / totals[0] + LEAST_PROBABILITY;
            *ratio = *p / (b / totals[1] + LEAST_PROBABILITY);
        }
    }

    /// The lanes of a sum.
    fn sum(values: &[f64]) -> [f64; LANES] {
        let mut lanes = [0.0; LANES];
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] += chunk[lane];
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane += value;
        }
        lanes
    }

    /// The lanes of a sum of products.
    fn product(a: &[f64], b: &[f64]) -> [f64; LANES] {
        let mut lanes = [0.0; LANES];
        let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            for lane in 0..LANES {
                lanes[lane] += a[lane] * b[lane];
            }
        }
        for (lane, (a, b)) in lanes.iter_mut().zip(rest_a.iter().zip(rest_b)) {
            *lane += a * b;
        }
        lanes
    }

    fn importance(base: &[f32], other: &[f32], divergence: f64, out: &mut [f32]) {
        for (r, (b, x)) in out.iter_mut().zip(base.iter().zip(other)) {
            *r = importance_of(*b, *x, divergence);
        }
    }

    fn take_important(base: &[f32], other: &[f32], divergence: f64, least: f64, out: &mut [f32]) {
        for (r, (b, x)) in out.iter_mut().zip(base.iter().zip(other)) {
            *r = if f64::from(importance_of(*b, *x, divergence)) >= least { *x } else { *b };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::testing::{B, Case, Y, assert_close};

    #[test]
    fn the_published_vector_holds() {
        let case = Case::new(&[("y", &Y), ("base", &B)]);
        let expected = [1.0, -2.0, 3.0, -4.0, 0.5, 0.25, 0.2, 1.1];
        assert_close(&case.run(&ArceeFusion), &expected);
        assert_close(&case.leaf(1).run(&ArceeFusion), &expected);
    }

    #[test]
    fn rows_that_do_not_diverge_are_the_other_model_if_none_does() {
        // A softmax does not see a constant; of one element it is 1.
        let case = Case::of_shape(&[1, 2], &[("base", &[0.0, 1.0]), ("x", &[2.0, 3.0])]);
        assert_eq!(case.run(&ArceeFusion), [2.0, 3.0]);
        let case = Case::of_shape(&[2, 1], &[("base", &[0.0, 1.0]), ("x", &[5.0, -3.0])]);
        assert_eq!(case.run(&ArceeFusion), [5.0, -3.0]);
        let case = Case::of_shape(&[], &[("base", &[0.5]), ("x", &[5.0])]);
        assert_eq!(case.run(&ArceeFusion), [5.0]);
        let case = Case::of_shape(&[2, 0], &[("base", &[]), ("x", &[])]);
        assert!(case.run(&ArceeFusion).is_empty());
    }

    #[test]
    fn quartiles_are_those_of_a_sorted_list() {
        let values = |seed: u64, n: usize| -> Vec<f32> {
            (0..n as u64).map(|i| ((i * seed % 1009) as f32 / 504.5 - 1.0).powi(3)).collect()
        };
        let (rows, len) = (40, 25);
        let (base, other) = (values(17, rows * len), values(23, rows * len));
        let mut expected = Vec::new();
        let mut all = Vec::new();
        for (b, x) in base.chunks(len).zip(other.chunks(len)) {
            let softmax = |values: &[f32]| -> Vec<f64> {
                let total: f64 = values.iter().map(|value| f64::from(*value).exp()).sum();
                values.iter().map(|value| f64::from(*value).exp() / total + 1e-8).collect()
            };
            let k: f64 = softmax(x).iter().zip(softmax(b)).map(|(p, q)| p * (p / q).ln()).sum();
            all.extend(x.iter().zip(b).map(|(x, b)| (f64::from(*x) - f64::from(*b)).abs() * k));
        }
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| sorted[(part * (all.len() - 1) as f64) as usize];
        let least = at(0.5) + 1.5 * (at(0.75) - at(0.25));
        expected.extend(
            all.iter().enumerate().map(|(i, value)| if *value >= least { other[i] } else { base[i] }),
        );
        let case = Case::of_shape(&[rows, len], &[("base", &base), ("x", &other)]);
        for leaf in [1, 7, usize::MAX] {
            assert_eq!(case.clone().leaf(leaf).run(&ArceeFusion), expected);
        }
        assert!(expected != base && expected != other);
    }
}
