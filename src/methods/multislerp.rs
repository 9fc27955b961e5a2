//! `multislerp`: the direction of a weighted sum of directions, at the weighted length.

use std::ops::Bound;

use super::arguments::{ArgumentError, Arguments};
use super::gram::{CANCELLED, Gram};
use super::interval::Interval;
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Operation};
use super::span::{Combination, Combined};
use super::spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};
use crate::manifest::{Sink, SinkExt};

#[derive(Debug)]
pub struct Multislerp;

static SPEC: MethodSpec = MethodSpec {
    name: "multislerp",
    version: 1,
    summary: "Averages the directions of models, or of their differences from a base, and their lengths.",
    formula: "\
v_i = x_i, or x_i - b with a base; w_i divided by sum(w_i) if normalize_weights
u_i = v_i / (|v_i| + eps), m = sum(w_i u_i)
r = cos(eps) * m / |m| * sum(w_i |v_i|), plus b with a base
r = sum(w_i v_i), plus b with a base, where all v_i are practically zero, or where two cancel out
a single model is returned as it is; three or more models whose directions cancel out are an error",
    reference: "Goddard 2025, MultiSLERP, https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
    base: BaseRule::Optional,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    draws: false,
    params: &[
        ParamSpec {
            name: "weight",
            scope: Scope::EachModel,
            kind: Kind::Number(Interval::ALL),
            default: Default::Required,
            example: Value::Number(0.7),
            inert: false,
            doc: "The weight of the model's direction and length.",
        },
        ParamSpec {
            name: "normalize_weights",
            scope: Scope::Shared,
            kind: Kind::Flag,
            default: Default::Is(Value::Flag(true)),
            example: Value::Flag(false),
            inert: false,
            doc: "Whether to divide by the sum of the weights.",
        },
        ParamSpec {
            name: "eps",
            scope: Scope::Shared,
            kind: Kind::Number(Interval { min: Bound::Included(0.0), max: Bound::Unbounded }),
            default: Default::Is(Value::Number(1e-8)),
            example: Value::Number(0.1),
            inert: false,
            doc: "Added to lengths before dividing by them; shorter sums of directions count as zero.",
        },
    ],
};

impl Method for Multislerp {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let models: Vec<usize> = arguments.models().collect();
        if let [only] = models[..] {
            return Ok(Simplified::Input(only));
        }
        let weight = |i: &usize| arguments.inputs[*i].values.number("weight");
        let total: f64 = models.iter().map(weight).sum();
        let normalize = arguments.shared.flag("normalize_weights");
        if normalize && total == 0.0 {
            let message = "the weights add up to zero, so they cannot be normalised; change them or set `normalize_weights: false`";
            return Err(ArgumentError { param: "weight", input: None, message: message.to_owned() });
        }
        let mut read: Vec<usize> = models.iter().copied().filter(|i| weight(i) != 0.0).collect();
        if read.is_empty() {
            match arguments.base() {
                Some(base) => return Ok(Simplified::Input(base)),
                // Zero times the first model keeps the shape of the result.
                None => read.push(models[0]),
            }
        }
        let weights = read.iter().map(weight).collect();
        let base = arguments.base();
        let operation = Directions {
            weights,
            total: normalize.then_some(total),
            eps: arguments.shared.number("eps"),
            has_base: base.is_some(),
        };
        let inputs = base.into_iter().chain(read).collect();
        Ok(Simplified::Operation { operation: Box::new(operation), inputs })
    }
}

#[derive(Clone, Debug)]
struct Directions {
    weights: Vec<f64>,
    /// What weights are divided by.
    total: Option<f64>,
    eps: f64,
    has_base: bool,
}

impl Operation for Directions {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        // The base shows in the roles that every manifest lists.
        let Self { weights, total, eps, has_base } = self;
        for (i, weight) in weights.iter().enumerate() {
            sink.number(&format!("inputs[{}].weight", i + usize::from(*has_base)), *weight);
        }
        if let Some(total) = total {
            sink.number("divisor", *total);
        }
        sink.number("eps", *eps);
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Combined::new(self, self.has_base, self.weights.len()))
    }
}

impl Combination for Directions {
    fn factors(&self, gram: &Gram) -> Result<Vec<f64>, String> {
        let n = gram.n();
        let weights: Vec<f64> = self.weights.iter().map(|w| w / self.total.unwrap_or(1.0)).collect();
        let norms: Vec<f64> = (0..n).map(|i| gram.norm(i)).collect();
        let to_unit = |i: usize| 1.0 / (norms[i] + self.eps);
        // Lengths of the terms of m, and that of m itself.
        let terms: Vec<f64> =
            (0..n).map(|i| if norms[i] == 0.0 { 0.0 } else { weights[i] * norms[i] * to_unit(i) }).collect();
        let longest: f64 = terms.iter().map(|term| term.abs()).sum();
        if longest < self.eps || longest == 0.0 {
            return Ok(weights);
        }
        let along = |i: usize| -> f64 { (0..n).map(|j| terms[j] * gram.cosine(i, j, 0.0)).sum() };
        let squared: f64 = (0..n).map(|i| terms[i] * along(i)).sum();
        let length = squared.max(0.0).sqrt();
        if length < self.eps.max(CANCELLED * longest) {
            return if n == 2 {
                Ok(weights)
            } else {
                Err("the directions of its inputs cancel out, so their mean has no direction; change a weight"
                    .to_owned())
            };
        }
        let at_length: f64 = weights.iter().zip(&norms).map(|(w, norm)| w * norm).sum();
        let scale = libm::cos(self.eps) * at_length / length;
        Ok((0..n).map(|i| if norms[i] == 0.0 { 0.0 } else { scale * weights[i] * to_unit(i) }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::testing::{B, Case, X2, Y2, Z2, assert_close};

    #[test]
    fn the_published_vectors_hold() {
        let inputs: [(&str, &[f32; 8]); 4] = [("x", &X2), ("y", &Y2), ("z", &Z2), ("base", &B)];
        let case = |n: usize| Case::new(&inputs[..n]).each("weight", &[0.5, 0.3, 0.2]);
        let expected =
            [1.2274653, -2.0911236, 3.0404887, -3.851_477, 0.5120925, 0.5941038, -0.9530526, 1.982096];
        assert_close(&case(3).run(&Multislerp), &expected);
        let expected =
            [1.5226476, -2.2569356, 2.892942, -3.7112381, 0.6356043, 0.9170285, -1.5482208, 2.0982814];
        assert_close(&case(4).run(&Multislerp), &expected);
    }

    #[test]
    fn models_without_weight_are_not_read() {
        let case = Case::new(&[("x", &X2), ("y", &Y2), ("z", &Z2)]);
        let two = case.clone().each("weight", &[0.5, 0.0, 0.2]);
        let Ok(Simplified::Operation { inputs, .. }) = two.simplify(&Multislerp) else {
            panic!("it is work")
        };
        assert_eq!(inputs, [0, 2]);
        let none = case.clone().each("weight", &[0.0; 3]);
        assert_eq!(none.simplify(&Multislerp).unwrap_err().param, "weight");
        assert_eq!(none.flag("normalize_weights", false).run(&Multislerp), [0.0; 8]);
        let alone = Case::new(&[("base", &B), ("x", &X2)]).each("weight", &[3.0]);
        assert!(matches!(alone.simplify(&Multislerp), Ok(Simplified::Input(1))));
        let based = Case::new(&[("base", &B), ("x", &X2), ("y", &Y2)]).each("weight", &[0.0; 2]);
        let based = based.flag("normalize_weights", false);
        assert!(matches!(based.simplify(&Multislerp), Ok(Simplified::Input(0))));
    }

    #[test]
    fn models_that_are_the_base_give_the_base() {
        let case =
            Case::new(&[("x", &B), ("y", &B), ("z", &B), ("base", &B)]).each("weight", &[0.5, 0.3, 0.2]);
        assert_eq!(case.run(&Multislerp), B);
    }

    #[test]
    fn directions_that_cancel_are_added_or_refused() {
        let inputs: [(&str, &[f32]); 3] = [("x", &[1.0, 3.0]), ("y", &[-2.0, -6.0]), ("z", &[-0.5, -1.5])];
        let two = Case::of_shape(&[2], &inputs[..2]).each("weight", &[0.5, 0.5]);
        assert_eq!(two.run(&Multislerp), [-0.5, -1.5]);
        let three = Case::of_shape(&[2], &inputs).each("weight", &[0.5, 0.25, 0.25]);
        assert!(three.undefined(&Multislerp).contains("cancel"));
    }
}
