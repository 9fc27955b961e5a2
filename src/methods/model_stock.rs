//! `model_stock`: as far from the base as the angles between fine-tunes suggest.

use super::arguments::{ArgumentError, Arguments};
use super::gram::Gram;
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Leaf, Operation, Pass};
use super::scratch::Scratch;
use super::spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};
use crate::kernels::elementwise::{Elementwise, MOST_INPUTS, counted};
use crate::kernels::pairs::{self, Bf16};
use crate::kernels::reduce::{LANES, prefers_bf16, products_from};
use crate::kernels::simd::{short_runs, vectorized};
use crate::manifest::{Sink, SinkExt};

#[derive(Debug)]
pub struct ModelStock;

static SPEC: MethodSpec = MethodSpec {
    name: "model_stock",
    version: 1,
    summary: "Averages fine-tunes of a base and pulls the mean towards the base by their angles.",
    formula: "\
d_i = x_i - b, n = number of models, c = mean over pairs of cos(d_i, d_j)
t = n c / (1 + (n - 1) c), or 0 where the divisor is below 1e-6
r = t mean(x_i) + (1 - t) b
over the whole tensor, or over each row if filter_wise",
    reference: "Jang et al. 2024, Model Stock, https://arxiv.org/abs/2403.19522",
    base: BaseRule::Required,
    inputs: Count { min: 2, max: None },
    missing: MissingRule::CopyBaseOrSkip,
    draws: false,
    params: &[ParamSpec {
        name: "filter_wise",
        scope: Scope::Shared,
        kind: Kind::Flag,
        default: Default::Is(Value::Flag(false)),
        example: Value::Flag(true),
        inert: false,
        doc: "Whether each vector along the last axis gets its own ratio.",
    }],
};

/// The least that a product of norms is taken for.
const LEAST_NORMS: f64 = 1e-6;

/// Divisors closer to zero than this make the ratio 0.
const LEAST_DIVISOR: f64 = 1e-6;

impl Method for ModelStock {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let inputs: Vec<usize> =
            std::iter::once(arguments.required_base()).chain(arguments.models()).collect();
        let operation = Stock { filter_wise: arguments.shared.flag("filter_wise"), n: inputs.len() - 1 };
        Ok(Simplified::Operation { operation: Box::new(operation), inputs })
    }
}

#[derive(Debug)]
struct Stock {
    filter_wise: bool,
    /// Models, without the base.
    n: usize,
}

impl Operation for Stock {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        // The number of models shows in the inputs that every manifest lists.
        let Self { filter_wise, n: _ } = self;
        sink.flag("filter_wise", *filter_wise);
    }

    fn cut(&self) -> Cut {
        if self.filter_wise { Cut::LastAxis } else { Cut::Elements }
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        if self.filter_wise { Box::new(EachRow) } else { Box::new(Whole { ratio: None, n: self.n }) }
    }
}

/// The interpolation ratio t.
fn ratio(gram: &Gram) -> f64 {
    let n = gram.n();
    let mut total = 0.0;
    for i in 0..n {
        for j in i + 1..n {
            let norms = (gram.norm(i) * gram.norm(j)).max(LEAST_NORMS);
            total += (gram.product(i, j) / norms).clamp(-1.0, 1.0);
        }
    }
    let n_pairs = (n * (n - 1) / 2) as f64;
    let n = n as f64;
    let cosine = total / n_pairs;
    let divisor = 1.0 + (n - 1.0) * cosine;
    if divisor.abs() < LEAST_DIVISOR { 0.0 } else { n * cosine / divisor }
}

vectorized! {
    fn blend(base: &[f32], models: &[&[f32]], ratio: f64, out: &mut [f32]) {
        let n = models.len() as f32;
        let (of_mean, of_base) = (ratio as f32, (1.0 - ratio) as f32);
        for (range, out) in short_runs(out) {
            out.fill(0.0);
            for model in models {
                for (r, x) in out.iter_mut().zip(&model[range.clone()]) {
                    *r += x;
                }
            }
            for (r, b) in out.iter_mut().zip(&base[range]) {
                *r = of_mean * (*r / n) + of_base * b;
            }
        }
    }
}

struct Whole {
    ratio: Option<f64>,
    n: usize,
}

impl Kernel for Whole {
    fn next_pass(&self) -> Option<Pass> {
        self.ratio.is_none().then_some(Pass { sums: Gram::n_products(self.n) * LANES, counts: 0 })
    }

    fn gather(&self, leaf: &Leaf<'_>, sums: &mut [f64], _counts: &mut [u64], _scratch: &mut Scratch) {
        products_from(leaf.inputs[0], &leaf.inputs[1..], sums);
    }

    fn absorb(&mut self, sums: &[f64], _counts: &[u64]) -> Result<(), String> {
        self.ratio = Some(ratio(&Gram::new(self.n, sums)));
        Ok(())
    }

    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        let ratio = self.ratio.expect("the pass came first");
        blend(leaf.inputs[0], &leaf.inputs[1..], ratio, out);
    }

    fn takes_bf16(&self) -> bool {
        self.n < MOST_INPUTS && (self.ratio.is_some() || prefers_bf16())
    }

    fn gather_bf16(&self, leaf: &Leaf<'_, Bf16>, sums: &mut [f64]) {
        products_from(leaf.inputs[0], &leaf.inputs[1..], sums);
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16]) -> bool {
        let blended = Blended::new(self.ratio.expect("the pass came first"), self.n);
        counted!(leaf.inputs, inputs: N => pairs::emit(&blended, inputs, None, out))
    }
}

/// What becomes of the elements of the base and of all models.
struct Blended {
    n: f32,
    of_mean: f32,
    of_base: f32,
}

impl Blended {
    fn new(ratio: f64, n: usize) -> Self {
        Self { n: n as f32, of_mean: ratio as f32, of_base: (1.0 - ratio) as f32 }
    }
}

impl<const N: usize> Elementwise<N> for Blended {
    #[inline(always)]
    fn of(&self, x: [f32; N]) -> f32 {
        let mut sum = 0.0;
        for k in 1..N {
            sum += x[k];
        }
        self.of_mean * (sum / self.n) + self.of_base * x[0]
    }
}

struct EachRow;

impl Kernel for EachRow {
    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        let n = leaf.inputs.len() - 1;
        let mut lanes = vec![0.0; Gram::n_products(n) * LANES];
        for (row, out) in out.chunks_mut(leaf.row_len).enumerate() {
            let range = row * leaf.row_len..(row + 1) * leaf.row_len;
            let rows: Vec<&[f32]> = leaf.inputs.iter().map(|input| &input[range.clone()]).collect();
            lanes.fill(0.0);
            products_from(rows[0], &rows[1..], &mut lanes);
            blend(rows[0], &rows[1..], ratio(&Gram::new(n, &lanes)), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::testing::{B, Case, X, X2, Y, Z2, assert_close};

    #[test]
    fn the_published_vectors_hold() {
        let case = Case::new(&[("base", &B), ("x", &X), ("y", &Y)]);
        let expected = [0.810728, -2.283908, 3.189272, -5.088315, 0.547318, -0.649043, -0.216092, 2.425862];
        assert_close(&case.run(&ModelStock), &expected);
        let case = Case::new(&[("x", &X2), ("z", &Z2), ("base", &B)]);
        let expected = [1.1449744, -2.1449742, 3.0, -4.0966496, 0.5966496, 0.3466496, -0.741624, 2.1449742];
        assert_close(&case.run(&ModelStock), &expected);
        let expected = [1.0, -2.0, 3.0, -4.0, 0.6666666, 0.4166667, -0.9166666, 2.25];
        assert_close(&case.flag("filter_wise", true).run(&ModelStock), &expected);
    }

    #[test]
    fn a_vanishing_divisor_gives_the_base() {
        let case = Case::of_shape(&[2], &[("base", &[1.0, 1.0]), ("x", &[2.0, 1.0]), ("y", &[0.0, 1.0])]);
        assert_close(&case.run(&ModelStock), &[1.0, 1.0]);
    }
}
