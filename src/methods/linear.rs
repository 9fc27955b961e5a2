//! `linear`: a weighted mean or sum.

use super::arguments::{ArgumentError, Arguments};
use super::interval::Interval;
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Leaf, Operation};
use super::scratch::Scratch;
use super::spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};
use crate::kernels::elementwise::{Elementwise, MOST_INPUTS, counted};
use crate::kernels::pairs::{self, Bf16};
use crate::kernels::simd::{short_runs, vectorized};
use crate::manifest::{Sink, SinkExt};

#[derive(Debug)]
pub struct Linear;

static SPEC: MethodSpec = MethodSpec {
    name: "linear",
    version: 1,
    summary: "Computes the weighted average of models.",
    formula: "r = sum(w_i * x_i), divided by sum(w_i) if normalize",
    reference: "Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482",
    base: BaseRule::Ordinary,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    draws: false,
    params: &[
        ParamSpec {
            name: "weight",
            scope: Scope::EachInput,
            kind: Kind::Number(Interval::ALL),
            default: Default::Required,
            example: Value::Number(0.7),
            inert: false,
            doc: "The model's weight.",
        },
        ParamSpec {
            name: "normalize",
            scope: Scope::Shared,
            kind: Kind::Flag,
            default: Default::Is(Value::Flag(true)),
            example: Value::Flag(false),
            inert: false,
            doc: "Whether to divide by the sum of the weights.",
        },
    ],
};

impl Method for Linear {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let weights: Vec<f64> = arguments.inputs.iter().map(|input| input.values.number("weight")).collect();
        let total: f64 = weights.iter().sum();
        let normalize = arguments.shared.flag("normalize");
        if normalize && total == 0.0 {
            let message =
                "the weights add up to zero, so they have no mean; change them or set `normalize: false`";
            return Err(ArgumentError { param: "weight", input: None, message: message.to_owned() });
        }
        let mut inputs: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] != 0.0).collect();
        if let [only] = inputs[..]
            && (normalize || weights[only] == 1.0)
        {
            return Ok(Simplified::Input(only));
        }
        if inputs.is_empty() {
            // Zero times the first input keeps the shape of the result.
            inputs.push(0);
        }
        let operation = Sum {
            weights: inputs.iter().map(|i| weights[*i]).collect(),
            divisor: (normalize && total != 1.0).then_some(total),
        };
        Ok(Simplified::Operation { operation: Box::new(operation), inputs })
    }
}

#[derive(Clone, Debug)]
struct Sum {
    weights: Vec<f64>,
    divisor: Option<f64>,
}

impl Operation for Sum {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        let Self { weights, divisor } = self;
        for (i, weight) in weights.iter().enumerate() {
            sink.number(&format!("inputs[{i}].weight"), *weight);
        }
        if let Some(divisor) = divisor {
            sink.number("divisor", *divisor);
        }
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(self.clone())
    }
}

impl Kernel for Sum {
    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        weighted_sum(&self.weights, self.divisor, leaf.inputs, out);
    }

    fn takes_bf16(&self) -> bool {
        self.weights.len() <= MOST_INPUTS
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16]) -> bool {
        counted!(leaf.inputs, inputs: N => {
            let weights = std::array::from_fn(|k| self.weights[k] as f32);
            match self.divisor {
                None => pairs::emit(&WeightedSum(weights), inputs, None, out),
                Some(divisor) => pairs::emit(&WeightedMean(WeightedSum(weights), divisor as f32), inputs, None, out),
            }
        })
    }
}

struct WeightedSum<const N: usize>([f32; N]);

impl<const N: usize> Elementwise<N> for WeightedSum<N> {
    #[inline(always)]
    fn of(&self, x: [f32; N]) -> f32 {
        let Self(weights) = self;
        let mut sum = 0.0;
        for k in 0..N {
            sum += weights[k] * x[k];
        }
        sum
    }
}

/// A sum, and what it is divided by.
struct WeightedMean<const N: usize>(WeightedSum<N>, f32);

impl<const N: usize> Elementwise<N> for WeightedMean<N> {
    #[inline(always)]
    fn of(&self, x: [f32; N]) -> f32 {
        let Self(sum, divisor) = self;
        sum.of(x) / divisor
    }
}

vectorized! {
    fn weighted_sum(weights: &[f64], divisor: Option<f64>, inputs: &[&[f32]], out: &mut [f32]) {
        for (range, out) in short_runs(out) {
            out.fill(0.0);
            for (weight, input) in weights.iter().zip(inputs) {
                let weight = *weight as f32;
                for (r, x) in out.iter_mut().zip(&input[range.clone()]) {
                    *r += weight * x;
                }
            }
            if let Some(divisor) = divisor {
                let divisor = divisor as f32;
                for r in out {
                    *r /= divisor;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::testing::{B, Case, X2, Y2, assert_close};

    #[test]
    fn the_published_vector_holds() {
        let case = Case::new(&[("x", &X2), ("y", &Y2)]).each("weight", &[0.6, 0.4]);
        assert_close(&case.run(&Linear), &[1.2, -1.95, 2.8, -3.6, 0.4, 0.65, -1.0, 1.9]);
    }

    #[test]
    fn inputs_without_weight_are_not_read() {
        let case = Case::new(&[("x", &X2), ("y", &Y2)]).each("weight", &[0.0, 0.4]);
        assert!(matches!(case.simplify(&Linear), Ok(Simplified::Input(1))));
        let case = case.each("weight", &[0.0, 0.4]).flag("normalize", false);
        assert_close(&case.run(&Linear), &Y2.map(|y| y * 0.4));
        let case = Case::new(&[("b", &B), ("y", &Y2)]).each("weight", &[0.0, 0.0]).flag("normalize", false);
        assert_eq!(case.run(&Linear), [0.0; 8]);
    }

    #[test]
    fn weights_that_cancel_are_refused() {
        let case = Case::new(&[("x", &X2), ("y", &Y2)]).each("weight", &[0.5, -0.5]);
        assert_eq!(case.simplify(&Linear).unwrap_err().param, "weight");
    }
}
