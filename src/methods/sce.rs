//! `sce`: selects elements that vary, computes weights from squares, erases minorities.

use super::arguments::{ArgumentError, Arguments};
use super::interval::Interval;
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Leaf, Operation, Pass, Ranking, Sample};
use super::scratch::Scratch;
use super::spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};
use crate::kernels::bracket::{Bracket, Listed, above};
use crate::kernels::elementwise::{Elementwise, MOST_INPUTS, counted};
use crate::kernels::pairs::{self, Bf16};
use crate::kernels::reduce::{LANES, over_lanes, prefers_bf16, products_from};
use crate::kernels::select::{BINS, LEAF_COUNTS, Selection, magnitude};
use crate::kernels::simd::vectorized;
use crate::manifest::{Sink, SinkExt};

#[derive(Debug)]
pub struct Sce;

static SPEC: MethodSpec = MethodSpec {
    name: "sce",
    version: 1,
    summary: "Keeps the elements in which models vary most, elects signs, and weights models by their squared differences.",
    formula: "\
d_i = x_i - b; below select_topk 1, zero except for the floor(select_topk * m) elements in which they vary most,
  of the m in which they vary
w_i = mean(d_i^2) / sum(mean(d_i^2)), all equal where the sum is below 1e-6
per element: sign = the sign of sum(d_i)
r = b + sum(w_i d_i) / max(sum(w_i), 1e-6), over the d_i of that sign
`weight` is not used: weights follow from the differences alone",
    reference: "Wan et al. 2024, FuseChat, https://arxiv.org/abs/2408.07990",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    draws: false,
    params: &[
        ParamSpec {
            name: "select_topk",
            scope: Scope::Shared,
            kind: Kind::Number(Interval::ALL),
            default: Default::Is(Value::Number(1.0)),
            example: Value::Number(0.5),
            inert: false,
            doc: "Fraction of the elements to keep; 1 or more keeps all, 0 or less keeps the base.",
        },
        ParamSpec {
            name: "int8_mask",
            scope: Scope::Shared,
            kind: Kind::Flag,
            default: Default::Is(Value::Flag(false)),
            example: Value::Flag(true),
            inert: true,
            doc: "Accepted for compatibility with mergekit; it never changes a number.",
        },
    ],
};

/// Mean squares that add up to less make all models weigh alike.
const LEAST_SQUARES: f64 = 1e-6;

/// The least that weights of one sign are taken for.
const LEAST_WEIGHT: f64 = 1e-6;

impl Method for Sce {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let base = arguments.required_base();
        let models: Vec<usize> = arguments.models().collect();
        let topk = arguments.shared.number("select_topk");
        Ok(match models[..] {
            [] => Simplified::Input(base),
            _ if topk <= 0.0 => Simplified::Input(base),
            // One model varies in nothing.
            [_] if topk < 1.0 => Simplified::Input(base),
            [only] => Simplified::Input(only),
            _ => {
                let operation = Varying { topk: (topk < 1.0).then_some(topk), n: models.len() };
                let inputs = std::iter::once(base).chain(models).collect();
                Simplified::Operation { operation: Box::new(operation), inputs }
            }
        })
    }
}

#[derive(Clone, Debug)]
struct Varying {
    /// The fraction of elements that is kept, unless all are.
    topk: Option<f64>,
    /// Models, without the base.
    n: usize,
}

impl Operation for Varying {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        // The number of models shows in the inputs that every manifest lists.
        let Self { topk, n: _ } = self;
        if let Some(topk) = topk {
            sink.number("select_topk", *topk);
        }
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, extent: Extent) -> Box<dyn Kernel + '_> {
        let step = if self.topk.is_some() { Step::Ranking } else { Step::Squares };
        Box::new(Electing {
            operation: self,
            n_elements: extent.n_elements,
            step,
            brackets: None,
            kept: None,
            weights: Vec::new(),
        })
    }
}

/// What is to be known next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The bound of the deviations that are kept, and how many are not zero, by a sample and one pass.
    Ranking,
    /// Where that did not find them: upper bits of deviations, and how many are not zero.
    UpperBits,
    LowerBits,
    Leaves,
    /// Squares of the differences that are kept.
    Squares,
    Emit,
}

struct Electing<'a> {
    operation: &'a Varying,
    n_elements: usize,
    step: Step,
    /// Where the last deviation that is kept is expected, and zero.
    brackets: Option<[Bracket; 2]>,
    /// Which deviations are kept, once it is known how many.
    kept: Option<Selection>,
    weights: Vec<f64>,
}

impl Electing<'_> {
    /// Deviations of the elements, those that are not kept as zero; nothing where all are kept.
    fn mask<'s>(&self, leaf: &Leaf<'_>, scratch: &'s mut Scratch) -> &'s [f32] {
        let Some(kept) = &self.kept else { return &[] };
        let values = deviations_of(leaf, scratch);
        kept.apply(leaf.index, values);
        values
    }
}

/// Deviations of all elements of a leaf.
fn deviations_of<'s>(leaf: &Leaf<'_>, scratch: &'s mut Scratch) -> &'s mut Vec<f32> {
    let values = &mut scratch.vectors(1)[0];
    values.resize(leaf.n_elements(), 0.0);
    deviations(leaf.inputs[0], &leaf.inputs[1..], values);
    values
}

impl Electing<'_> {
    /// How many are kept of so many deviations that are not zero.
    fn wanted(&self, n_varying: u64) -> u64 {
        let topk = self.operation.topk.expect("nothing is selected if all are kept");
        (topk * n_varying as f64).floor() as u64
    }

    /// The selection, by what was listed.
    fn find(&self, runs: &[Vec<Listed>]) -> Option<Selection> {
        let brackets = self.brackets.as_ref().expect("the sample came first");
        let [largest, zero] = [0, 1].map(|which| runs.iter().map(|lists| &lists[which]).collect::<Vec<_>>());
        let mut kept = Selection::new(0..self.wanted(above(&zero)), self.n_elements as u64);
        let [_, end] = kept.open_ranks();
        let found = match end {
            Some(rank) => Some(brackets[0].find(rank, &largest)?),
            None => None,
        };
        kept.settle([None, found]);
        Some(kept)
    }
}

impl Ranking for Electing<'_> {
    fn see(&mut self, sample: &Sample<'_>) -> usize {
        let mut values = vec![0.0; sample.places.len()];
        deviations(sample.inputs[0], &sample.inputs[1..], &mut values);
        let varying = values.iter().filter(|value| **value != 0.0).count() as f64;
        let topk = self.operation.topk.expect("nothing is selected if all are kept");
        let part = topk * varying / values.len().max(1) as f64;
        let mut magnitudes: Vec<u32> = values.into_iter().map(magnitude).collect();
        self.brackets.insert([Bracket::around(part, &mut magnitudes), Bracket::at(0)]).len()
    }

    fn list(&self, leaf: &Leaf<'_>, lists: &mut [Listed], scratch: &mut Scratch) {
        let values = deviations_of(leaf, scratch);
        for (bracket, listed) in self.brackets.iter().flatten().zip(lists) {
            bracket.list(values, listed);
        }
    }

    fn absorb(&mut self, runs: Option<&[Vec<Listed>]>) {
        self.kept = runs.and_then(|runs| self.find(runs));
        self.step = if self.kept.is_some() { Step::Squares } else { Step::UpperBits };
    }
}

impl Kernel for Electing<'_> {
    fn ranking(&mut self) -> Option<&mut dyn Ranking> {
        (self.step == Step::Ranking).then_some(self)
    }

    fn next_pass(&self) -> Option<Pass> {
        match self.step {
            Step::Ranking => unreachable!("ranks are searched first"),
            Step::UpperBits => Some(Pass { sums: 0, counts: BINS + 1 }),
            Step::LowerBits => Some(Pass { sums: 0, counts: BINS }),
            Step::Leaves => Some(Pass { sums: LEAF_COUNTS, counts: 0 }),
            Step::Squares => Some(Pass { sums: self.operation.n * LANES, counts: 0 }),
            Step::Emit => None,
        }
    }

    fn takes_pieces(&self) -> bool {
        // Ranks in a tensor are told by leaves.
        self.operation.topk.is_none()
    }

    fn gather(&self, leaf: &Leaf<'_>, sums: &mut [f64], counts: &mut [u64], scratch: &mut Scratch) {
        let kept = || self.kept.as_ref().expect("the first pass tells how many are kept");
        match self.step {
            Step::UpperBits => {
                let values = deviations_of(leaf, scratch);
                counts[BINS] += values.iter().filter(|value| **value != 0.0).count() as u64;
                all_of(self.n_elements).count(values, &mut counts[..BINS]);
            }
            Step::LowerBits => kept().count(deviations_of(leaf, scratch), counts),
            Step::Leaves => kept().count_equal(deviations_of(leaf, scratch), sums),
            Step::Squares => {
                let mask = self.mask(leaf, scratch);
                for (model, lanes) in leaf.inputs[1..].iter().zip(sums.as_chunks_mut().0) {
                    if self.kept.is_none() {
                        products_from(leaf.inputs[0], &[model], lanes);
                    } else {
                        add_squares(leaf.inputs[0], model, mask, lanes);
                    }
                }
            }
            Step::Ranking | Step::Emit => unreachable!("nothing is left to gather"),
        }
    }

    fn absorb(&mut self, sums: &[f64], counts: &[u64]) -> Result<(), String> {
        self.step = match self.step {
            Step::UpperBits => {
                let mut kept = Selection::new(0..self.wanted(counts[BINS]), self.n_elements as u64);
                kept.absorb(&counts[..BINS]);
                self.kept = Some(kept);
                Step::LowerBits
            }
            Step::LowerBits => {
                self.kept.as_mut().expect("the first pass made it").absorb(counts);
                Step::Leaves
            }
            Step::Leaves => {
                let leaves = sums.as_chunks::<LEAF_COUNTS>().0;
                self.kept.as_mut().expect("the first pass made it").absorb_equal(leaves.iter().copied());
                Step::Squares
            }
            Step::Squares => {
                let n = self.operation.n;
                let mean = |model| over_lanes(sums, n, model) / self.n_elements as f64;
                let means: Vec<f64> = (0..n).map(mean).collect();
                let total: f64 = means.iter().sum();
                let weight = |mean: &f64| if total < LEAST_SQUARES { 1.0 / n as f64 } else { mean / total };
                self.weights = means.iter().map(weight).collect();
                Step::Emit
            }
            Step::Ranking | Step::Emit => unreachable!("nothing is left to absorb"),
        };
        Ok(())
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let mask = self.mask(leaf, scratch);
        elect(leaf.inputs[0], &leaf.inputs[1..], &self.weights, mask, out);
    }

    fn takes_bf16(&self) -> bool {
        self.operation.topk.is_none()
            && self.operation.n < MOST_INPUTS
            && (self.step == Step::Emit || prefers_bf16())
    }

    fn gather_bf16(&self, leaf: &Leaf<'_, Bf16>, sums: &mut [f64]) {
        for (model, lanes) in leaf.inputs[1..].iter().zip(sums.as_chunks_mut::<LANES>().0) {
            products_from(leaf.inputs[0], &[model], lanes);
        }
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16]) -> bool {
        counted!(leaf.inputs, inputs: N => {
            let mut weights = [0.0; N];
            weights[1..].copy_from_slice(&self.weights);
            pairs::emit(&Elected(weights), inputs, None, out)
        })
    }
}

/// The weights of all inputs; that of the base is not used.
struct Elected<const N: usize>([f64; N]);

impl<const N: usize> Elementwise<N> for Elected<N> {
    #[inline(always)]
    fn of(&self, x: [f32; N]) -> f32 {
        let mut differences = [0.0; N];
        let mut sum = 0.0;
        for k in 1..N {
            differences[k] = f64::from(x[k] - x[0]);
            sum += differences[k];
        }
        let (mut mean, mut total) = (0.0, 0.0);
        for k in 1..N {
            let agrees = has_sign(sum, differences[k]);
            mean += if agrees { self.0[k] * differences[k] } else { 0.0 };
            total += if agrees { self.0[k] } else { 0.0 };
        }
        (f64::from(x[0]) + mean / total.max(LEAST_WEIGHT)) as f32
    }
}

/// Whether a difference has the sign that is elected by a sum: + for zero.
#[inline(always)]
fn has_sign(sum: f64, difference: f64) -> bool {
    let is_plus = sum >= 0.0;
    is_plus & (difference > 0.0) | !is_plus & (difference < 0.0)
}

/// Every element, for the first pass, which does not depend on how many are wanted.
fn all_of(n_elements: usize) -> Selection {
    Selection::new(0..n_elements as u64, n_elements as u64)
}

/// Elements that are looked at together.
const RUN: usize = 512;

vectorized! {
    /// Writes the standard deviation of the differences, which ranks as their variance does and has more room
    /// in f32.
    fn deviations(base: &[f32], models: &[&[f32]], out: &mut [f32]) {
        let n = models.len() as f64;
        for (run, out) in out.chunks_mut(RUN).enumerate() {
            let base = &base[run * RUN..][..out.len()];
            let (mut means, mut squares) = ([0.0; RUN], [0.0; RUN]);
            for model in models {
                for ((mean, x), b) in means.iter_mut().zip(&model[run * RUN..][..out.len()]).zip(base) {
                    *mean += f64::from(x - b);
                }
            }
            for mean in &mut means {
                *mean /= n;
            }
            for model in models {
                let values = &model[run * RUN..][..out.len()];
                for (((square, mean), x), b) in squares.iter_mut().zip(&means).zip(values).zip(base) {
                    let off = f64::from(x - b) - mean;
                    *square += off * off;
                }
            }
            for (r, square) in out.iter_mut().zip(&squares) {
                *r = (square / n).sqrt() as f32;
            }
        }
    }

    /// Adds the squares of a model's differences to lanes, where the mask is not zero.
    fn add_squares(base: &[f32], model: &[f32], mask: &[f32], lanes: &mut [f64; LANES]) {
        let square = |i: usize| {
            let difference = f64::from(model[i] - base[i]);
            if mask[i] != 0.0 { difference * difference } else { 0.0 }
        };
        let n = base.len();
        for at in (0..n - n % LANES).step_by(LANES) {
            for lane in 0..LANES {
                lanes[lane] += square(at + lane);
            }
        }
        for i in n - n % LANES..n {
            lanes[i % LANES] += square(i);
        }
    }

    /// The base plus the weighted mean of the differences that have the elected sign.
    fn elect(base: &[f32], models: &[&[f32]], weights: &[f64], mask: &[f32], out: &mut [f32]) {
        for (run, out) in out.chunks_mut(RUN).enumerate() {
            let start = run * RUN;
            let base = &base[start..][..out.len()];
            let (mut sums, mut means, mut totals) = ([0.0; RUN], [0.0; RUN], [0.0; RUN]);
            for model in models {
                for ((sum, x), b) in sums.iter_mut().zip(&model[start..][..out.len()]).zip(base) {
                    *sum += f64::from(x - b);
                }
            }
            for (model, weight) in models.iter().zip(weights) {
                let values = &model[start..][..out.len()];
                for i in 0..out.len() {
                    let difference = f64::from(values[i] - base[i]);
                    let agrees = has_sign(sums[i], difference);
                    means[i] += if agrees { weight * difference } else { 0.0 };
                    totals[i] += if agrees { *weight } else { 0.0 };
                }
            }
            for i in 0..out.len() {
                let is_kept = mask.is_empty() || mask[start + i] != 0.0;
                let change = if is_kept { means[i] / totals[i].max(LEAST_WEIGHT) } else { 0.0 };
                out[i] = (f64::from(base[i]) + change) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::testing::{B, Case, X, Y, assert_close};

    #[test]
    fn the_published_vectors_hold() {
        let case = Case::new(&[("base", &B), ("x", &X), ("y", &Y)]);
        let expected = [1.5, -1.45, 2.6, -3.318671, 0.35, 0.699684, -1.5, 1.1];
        assert_close(&case.run(&Sce), &expected);
        let expected = [1.5, -2.0, 3.0, -3.276757, 0.5, 0.25, -1.5, 1.1];
        for leaf in [1, 3, usize::MAX] {
            assert_close(&case.clone().number("select_topk", 0.5).leaf(leaf).run(&Sce), &expected);
        }
    }

    #[test]
    fn every_search_keeps_the_same() {
        // Deviations from 0 to 40, some of them many times.
        let x: Vec<f32> = (0..500).map(|i| (i * 37 % 101 - 20).max(0) as f32).collect();
        let base = vec![0.0; x.len()];
        let y: Vec<f32> = (0..500).map(|i| -(i % 7) as f32).collect();
        let case = Case::of_shape(&[500], &[("base", &base), ("x", &x), ("y", &y)]);
        for topk in [0.001, 0.1, 0.5, 0.9, 0.999] {
            let case = case.clone().number("select_topk", topk);
            let expected = case.clone().sample(None).run(&Sce);
            for (sample, leaf) in [(0, 100), (20, 64), (100, 7), (500, 500)] {
                assert_eq!(
                    case.clone().leaf(leaf).sample(Some(sample)).run(&Sce),
                    expected,
                    "{topk} {sample}"
                );
            }
        }
    }

    #[test]
    fn small_squares_weigh_alike() {
        let case = |scale: f32| {
            let (x, y) = ([scale, scale], [3.0 * scale, -scale]);
            Case::of_shape(&[2], &[("base", &[0.0, 0.0]), ("x", &x), ("y", &y)]).run(&Sce)
        };
        // x and y weigh 1 and 5; the sum of the second is zero, which elects +.
        assert_close(&case(1.0), &[(1.0 + 15.0) / 6.0, 1.0]);
        assert_eq!(case(1.0 / 4096.0), [2.0 / 4096.0, 1.0 / 4096.0]);
    }

    #[test]
    fn what_does_not_vary_is_not_selected() {
        let inputs: [(&str, &[f32]); 3] =
            [("base", &[0.0; 4]), ("x", &[1.0, 1.0, 2.0, 5.0]), ("y", &[1.0, 2.0, 5.0, 5.0])];
        let case = |topk: f64| Case::of_shape(&[4], &inputs).number("select_topk", topk).run(&Sce);
        // Two elements vary: floor(0.9 * 2) is one, floor(0.4 * 2) is none.
        let found = case(0.9);
        assert_eq!([found[0], found[1], found[3]], [0.0; 3]);
        assert_close(&found[2..3], &[(4.0 * 2.0 + 25.0 * 5.0) / 29.0]);
        assert_eq!(case(0.4), [0.0; 4]);
        let simplified = |n: usize, topk: f64| {
            Case::of_shape(&[4], &inputs[..n]).number("select_topk", topk).simplify(&Sce)
        };
        for (n, topk, input) in [(1, 1.0, 0), (2, 1.0, 1), (2, 0.9, 0), (3, 0.0, 0)] {
            assert!(matches!(simplified(n, topk), Ok(Simplified::Input(i)) if i == input), "{n} {topk}");
        }
    }
}
