//! `ram`: the mean of those changes that are changes at all.

use std::ops::Bound;

use super::active::{merge, merge_bf16, suits_pairs};
use super::arguments::{ArgumentError, Arguments};
use super::interval::Interval;
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Leaf, Operation};
use super::scratch::Scratch;
use super::spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};
use crate::kernels::pairs::Bf16;
use crate::manifest::{Sink, SinkExt};

#[derive(Debug)]
pub struct Ram;

static SPEC: MethodSpec = MethodSpec {
    name: "ram",
    version: 1,
    summary: "Averages each element over the models that change it.",
    formula: "\
d_i = x_i - b; a model is active where |d_i| > epsilon
r = b + the mean of the active d_i, element by element; a single active d_i is kept whole",
    reference: "Yuan et al. 2026, Behavior Knowledge Merge in Reinforced Agentic Models, https://arxiv.org/abs/2601.13572",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    draws: false,
    params: &[EPSILON],
};

pub(super) const EPSILON: ParamSpec = ParamSpec {
    name: "epsilon",
    scope: Scope::Shared,
    kind: Kind::Number(Interval { min: Bound::Included(0.0), max: Bound::Unbounded }),
    default: Default::Is(Value::Number(1e-5)),
    example: Value::Number(0.25),
    inert: false,
    doc: "Differences from the base up to this size count as none.",
};

impl Method for Ram {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let base = arguments.required_base();
        let inputs: Vec<usize> = std::iter::once(base).chain(arguments.models()).collect();
        if inputs.len() == 1 {
            return Ok(Simplified::Input(base));
        }
        let operation = MeanOfActive { epsilon: arguments.shared.number("epsilon"), n: inputs.len() - 1 };
        Ok(Simplified::Operation { operation: Box::new(operation), inputs })
    }
}

#[derive(Clone, Debug)]
struct MeanOfActive {
    epsilon: f64,
    /// Models, without the base.
    n: usize,
}

impl Operation for MeanOfActive {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        // The number of models shows in the inputs that every manifest lists.
        let Self { epsilon, n: _ } = self;
        sink.number("epsilon", *epsilon);
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Active { threshold: self.epsilon as f32, factors: vec![1.0; self.n] })
    }
}

struct Active {
    threshold: f32,
    factors: Vec<f64>,
}

impl Kernel for Active {
    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        merge(leaf.inputs[0], &leaf.inputs[1..], self.threshold, &self.factors, out);
    }

    fn takes_bf16(&self) -> bool {
        suits_pairs(self.factors.len())
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16]) -> bool {
        merge_bf16(leaf.inputs, self.threshold, &self.factors, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::testing::{B, Case, X, Y, assert_close};

    #[test]
    fn the_published_vector_holds() {
        let case = Case::new(&[("base", &B), ("x", &X), ("y", &Y)]).number("epsilon", 0.12);
        assert_close(&case.run(&Ram), &[1.1, -1.85, 2.9, -2.9, 0.35, 0.725, -0.65, 1.775]);
    }

    #[test]
    fn one_change_is_kept_to_the_bit() {
        let case = Case::new(&[("base", &B), ("x", &X)]).number("epsilon", 0.0);
        assert_eq!(case.run(&Ram), X);
        let case = Case::new(&[("base", &B), ("x", &X), ("y", &B)]).number("epsilon", 1e9);
        assert_eq!(case.run(&Ram), B);
        assert!(matches!(Case::new(&[("base", &B)]).simplify(&Ram), Ok(Simplified::Input(0))));
    }
}
