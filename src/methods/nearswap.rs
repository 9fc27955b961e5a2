//! `nearswap`: the other model where it is near the base, the base where it is far.

use super::arguments::{ArgumentError, Arguments};
use super::interval::Interval;
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Leaf, Operation};
use super::scratch::Scratch;
use super::spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};
use crate::kernels::elementwise::Elementwise;
use crate::kernels::pairs::{self, Bf16};
use crate::kernels::simd::vectorized;
use crate::manifest::{Sink, SinkExt};

#[derive(Debug)]
pub struct Nearswap;

static SPEC: MethodSpec = MethodSpec {
    name: "nearswap",
    version: 1,
    summary: "Takes the other model where it is within t of the base, and less of it the further away it is.",
    formula: "\
per element: q = t / max(|x - b|, 1e-6), clamped between 0 and 1
r = q x + (1 - q) b",
    reference: "Alchemonaut 2024, QuartetAnemoi-70B, https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: Some(1) },
    missing: MissingRule::MergeRest,
    draws: false,
    params: &[ParamSpec {
        name: "t",
        scope: Scope::Shared,
        kind: Kind::Number(Interval::ALL),
        default: Default::Required,
        example: Value::Number(0.01),
        inert: false,
        doc: "Distance within which the other model is taken as it is; 0 or less keeps the base.",
    }],
};

/// The least distance that t is divided by.
const LEAST_DISTANCE: f64 = 1e-6;

impl Method for Nearswap {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let t = arguments.shared.number("t");
        let base = arguments.required_base();
        if t <= 0.0 {
            return Ok(Simplified::Input(base));
        }
        Ok(Simplified::Operation { operation: Box::new(Near { t }), inputs: vec![base, 1 - base] })
    }
}

#[derive(Clone, Debug)]
struct Near {
    t: f64,
}

impl Operation for Near {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        let Self { t } = self;
        sink.number("t", *t);
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(self.clone())
    }
}

impl Kernel for Near {
    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        swap(leaf.inputs[0], leaf.inputs[1], self, out);
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16]) -> bool {
        pairs::emit(self, &[leaf.inputs[0], leaf.inputs[1]], None, out)
    }
}

impl Elementwise<2> for Near {
    #[inline(always)]
    fn of(&self, inputs: [f32; 2]) -> f32 {
        let [b, x] = inputs.map(f64::from);
        let q = (self.t / (x - b).abs().max(LEAST_DISTANCE)).min(1.0);
        (q * x + (1.0 - q) * b) as f32
    }
}

vectorized! {
    fn swap(base: &[f32], other: &[f32], near: &Near, out: &mut [f32]) {
        for (r, (b, x)) in out.iter_mut().zip(base.iter().zip(other)) {
            *r = near.of([*b, *x]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::testing::{B, Case, X, assert_close};

    #[test]
    fn the_published_vector_holds() {
        let case = Case::new(&[("x", &X), ("base", &B)]).number("t", 0.3);
        assert_close(&case.run(&Nearswap), &[1.3, -2.25, 2.7, -3.95, 0.6, 0.55, -0.8, 2.3]);
    }

    #[test]
    fn what_is_near_is_taken_to_the_bit() {
        let case = |t: f64| Case::new(&[("base", &B), ("x", &X)]).number("t", t);
        assert_eq!(case(10.0).run(&Nearswap), X);
        assert!(matches!(case(0.0).simplify(&Nearswap), Ok(Simplified::Input(0))));
        assert!(matches!(case(-1.0).simplify(&Nearswap), Ok(Simplified::Input(0))));
        let far = Case::of_shape(&[2], &[("base", &[-3e38, 0.0]), ("x", &[3e38, 0.0])]).number("t", 1.0);
        assert_eq!(far.run(&Nearswap), [-3e38, 0.0]);
    }
}
