//! `ramplus_tl`: as `ram`, with what a model alone changes made larger, the more so the more it shares.

use std::ops::Bound;

use super::active::{COUNTS, count, merge, merge_bf16, suits_pairs};
use super::arguments::{ArgumentError, Arguments};
use super::interval::Interval;
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Leaf, Operation, Pass};
use super::ram::EPSILON;
use super::scratch::Scratch;
use super::spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};
use crate::kernels::pairs::Bf16;
use crate::manifest::{Sink, SinkExt};

#[derive(Debug)]
pub struct RamplusTl;

static SPEC: MethodSpec = MethodSpec {
    name: "ramplus_tl",
    version: 1,
    summary: "Averages each element over the models that change it, and amplifies what only one model changes.",
    formula: "\
d_i = x_i - b; a model is active where |d_i| > epsilon
U_i, S_i = elements of the tensor where i is active alone, and together with others
lambda_i = 1 + r * (S_i / max(U_i, epsilon), clamped between 0 and alpha)
r = b + lambda_i d_i where i alone is active, else b + the mean of the active d_i",
    reference: "Yuan et al. 2026, Behavior Knowledge Merge in Reinforced Agentic Models, https://arxiv.org/abs/2601.13572",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    draws: false,
    params: &[
        ParamSpec {
            name: "r",
            scope: Scope::Shared,
            kind: Kind::Number(Interval::ALL),
            default: Default::Is(Value::Number(0.1)),
            example: Value::Number(0.5),
            inert: false,
            doc: "How strongly sharing amplifies what only one model changes; 0 gives `ram`.",
        },
        ParamSpec {
            name: "alpha",
            scope: Scope::Shared,
            kind: Kind::Number(Interval { min: Bound::Included(0.0), max: Bound::Unbounded }),
            default: Default::Is(Value::Number(0.2)),
            example: Value::Number(0.3),
            inert: false,
            doc: "Upper limit of the ratio of shared to unique elements.",
        },
        EPSILON,
    ],
};

impl Method for RamplusTl {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let base = arguments.required_base();
        let inputs: Vec<usize> = std::iter::once(base).chain(arguments.models()).collect();
        if inputs.len() == 1 {
            return Ok(Simplified::Input(base));
        }
        let number = |name: &str| arguments.shared.number(name);
        let operation = Strengthened {
            epsilon: number("epsilon"),
            r: number("r"),
            alpha: number("alpha"),
            n: inputs.len() - 1,
        };
        Ok(Simplified::Operation { operation: Box::new(operation), inputs })
    }
}

#[derive(Clone, Debug)]
struct Strengthened {
    epsilon: f64,
    r: f64,
    alpha: f64,
    /// Models, without the base.
    n: usize,
}

impl Operation for Strengthened {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        // The number of models shows in the inputs that every manifest lists.
        let Self { epsilon, r, alpha, n: _ } = self;
        sink.number("epsilon", *epsilon);
        sink.number("r", *r);
        sink.number("alpha", *alpha);
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Active { operation: self, factors: None })
    }
}

struct Active<'a> {
    operation: &'a Strengthened,
    /// What each model's unique changes are multiplied by, once they are counted.
    factors: Option<Vec<f64>>,
}

impl Kernel for Active<'_> {
    fn next_pass(&self) -> Option<Pass> {
        self.factors.is_none().then_some(Pass { sums: 0, counts: COUNTS * self.operation.n })
    }

    fn takes_pieces(&self) -> bool {
        true
    }

    fn gather(&self, leaf: &Leaf<'_>, _sums: &mut [f64], counts: &mut [u64], _scratch: &mut Scratch) {
        count(leaf.inputs[0], &leaf.inputs[1..], self.operation.epsilon as f32, counts);
    }

    fn absorb(&mut self, _sums: &[f64], counts: &[u64]) -> Result<(), String> {
        let Strengthened { epsilon, r, alpha, n: _ } = *self.operation;
        let factor = |[unique, shared]: &[u64; COUNTS]| {
            // With neither, there is nothing to multiply.
            let ratio = if *shared == 0 { 0.0 } else { *shared as f64 / (*unique as f64).max(epsilon) };
            1.0 + r * ratio.clamp(0.0, alpha)
        };
        self.factors = Some(counts.as_chunks().0.iter().map(factor).collect());
        Ok(())
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        let factors = self.factors.as_ref().expect("the pass came first");
        merge(leaf.inputs[0], &leaf.inputs[1..], self.operation.epsilon as f32, factors, out);
    }

    fn takes_bf16(&self) -> bool {
        self.factors.is_some() && suits_pairs(self.operation.n)
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16]) -> bool {
        let factors = self.factors.as_ref().expect("the pass came first");
        merge_bf16(leaf.inputs, self.operation.epsilon as f32, factors, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::ram::Ram;
    use crate::methods::testing::{B, Case, X, Y, assert_close};

    #[test]
    fn the_published_vector_holds() {
        let case = Case::new(&[("base", &B), ("x", &X), ("y", &Y)]).number("epsilon", 0.12);
        let expected = [1.1, -1.85, 2.9, -2.878, 0.347, 0.725, -0.65, 1.775];
        assert_close(&case.clone().run(&RamplusTl), &expected);
        assert_close(&case.clone().leaf(3).run(&RamplusTl), &expected);
        assert_eq!(case.clone().number("r", 0.0).run(&RamplusTl), case.run(&Ram));
    }

    #[test]
    fn ratios_are_of_counts() {
        // x alone changes the first element, both change the other two: lambda = 1 + 0.5 * 2.
        let inputs: [(&str, &[f32]); 3] =
            [("base", &[0.0; 3]), ("x", &[1.0, 1.0, 1.0]), ("y", &[0.0, 3.0, -1.0])];
        let case = Case::of_shape(&[3], &inputs).number("r", 0.5).number("alpha", 9.0);
        assert_eq!(case.run(&RamplusTl), [2.0, 2.0, 0.0]);
        assert_eq!(case.number("alpha", 1.0).run(&RamplusTl), [1.5, 2.0, 0.0]);
    }
}
