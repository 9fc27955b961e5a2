//! `slerp`: along the arc between two tensors.

use super::arguments::{ArgumentError, Arguments};
use super::interval::Interval;
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Leaf, Operation, Pass};
use super::scratch::Scratch;
use super::spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};
use crate::kernels::elementwise::Elementwise;
use crate::kernels::pairs::{self, Bf16};
use crate::kernels::reduce::{LANES, over_lanes, prefers_bf16, products};
use crate::kernels::simd::vectorized;
use crate::manifest::{Sink, SinkExt};

#[derive(Debug)]
pub struct Slerp;

static SPEC: MethodSpec = MethodSpec {
    name: "slerp",
    version: 1,
    summary: "Blends a base and one other model along the arc between them.",
    formula: "\
c = <b, x> / (|b| |x|) over the whole tensor, theta = arccos c
r = (sin((1 - t) theta) b + sin(t theta) x) / sin theta
r = (1 - t) b + t x where |c| > 0.9995
t = 0 is the base, t = 1 the other model, whichever is listed first",
    reference: "Shoemake 1985, Animating rotation with quaternion curves, https://doi.org/10.1145/325165.325242",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: Some(1) },
    missing: MissingRule::CopySingle,
    draws: false,
    params: &[ParamSpec {
        name: "t",
        scope: Scope::Shared,
        kind: Kind::Number(Interval::ALL),
        default: Default::Required,
        example: Value::Number(0.3),
        inert: false,
        doc: "Position on the arc: 0 is the base, 1 the other model.",
    }],
};

/// Above this cosine (of either sign) the arc is too short, or too ambiguous, to follow.
const PARALLEL: f64 = 0.9995;

/// Norms up to this count as zero.
const ZERO_NORM: f64 = 1e-8;

impl Method for Slerp {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let t = arguments.shared.number("t");
        let base = arguments.required_base();
        let other = 1 - base;
        if t == 0.0 {
            Ok(Simplified::Input(base))
        } else if t == 1.0 {
            Ok(Simplified::Input(other))
        } else {
            Ok(Simplified::Operation { operation: Box::new(Arc { t }), inputs: vec![base, other] })
        }
    }
}

#[derive(Debug)]
struct Arc {
    t: f64,
}

impl Operation for Arc {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        let Self { t } = self;
        sink.number("t", *t);
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Blend { t: self.t, factors: None })
    }
}

struct Blend {
    t: f64,
    /// What base and other are multiplied by, once the angle is known.
    factors: Option<[f32; 2]>,
}

impl Kernel for Blend {
    fn next_pass(&self) -> Option<Pass> {
        self.factors.is_none().then_some(Pass { sums: 3 * LANES, counts: 0 })
    }

    fn gather(&self, leaf: &Leaf<'_>, sums: &mut [f64], _counts: &mut [u64], _scratch: &mut Scratch) {
        products(leaf.inputs, sums);
    }

    fn absorb(&mut self, sums: &[f64], _counts: &[u64]) -> Result<(), String> {
        let norm = |which| {
            let norm = over_lanes(sums, 3, which).sqrt();
            if norm <= ZERO_NORM { 1.0 } else { norm }
        };
        let cosine = (over_lanes(sums, 3, 1) / (norm(0) * norm(2))).clamp(-1.0, 1.0);
        let factors = if cosine.abs() > PARALLEL {
            [1.0 - self.t, self.t]
        } else {
            let theta = libm::acos(cosine);
            [libm::sin((1.0 - self.t) * theta), libm::sin(self.t * theta)].map(|sine| sine / libm::sin(theta))
        };
        self.factors = Some(factors.map(|factor| factor as f32));
        Ok(())
    }

    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        let [of_base, of_other] = self.factors.expect("the pass came first");
        blend(leaf.inputs[0], leaf.inputs[1], &Blended { of_base, of_other }, out);
    }

    fn takes_bf16(&self) -> bool {
        self.factors.is_some() || prefers_bf16()
    }

    fn gather_bf16(&self, leaf: &Leaf<'_, Bf16>, sums: &mut [f64]) {
        products(leaf.inputs, sums);
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16]) -> bool {
        let [of_base, of_other] = self.factors.expect("the pass came first");
        pairs::emit(&Blended { of_base, of_other }, &[leaf.inputs[0], leaf.inputs[1]], None, out)
    }
}

struct Blended {
    of_base: f32,
    of_other: f32,
}

impl Elementwise<2> for Blended {
    #[inline(always)]
    fn of(&self, [b, x]: [f32; 2]) -> f32 {
        self.of_base * b + self.of_other * x
    }
}

vectorized! {
    fn blend(base: &[f32], other: &[f32], blended: &Blended, out: &mut [f32]) {
        for (r, (b, x)) in out.iter_mut().zip(base.iter().zip(other)) {
            *r = blended.of([*b, *x]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::testing::{B, Case, X2, assert_close};

    #[test]
    fn the_published_vectors_hold_in_either_order() {
        let expected =
            [1.1568136, -2.0868063, 2.8655849, -4.0223985, 0.5027998, 0.4026139, -0.8052278, 2.1624134];
        for inputs in [[("base", &B), ("x", &X2)], [("x", &X2), ("base", &B)]] {
            assert_close(&Case::new(&inputs).number("t", 0.3).run(&Slerp), &expected);
        }
        let case = Case::of_shape(&[2, 2], &[("base", &[1.0, 0.0, 0.0, 2.0]), ("x", &[0.0, 3.0, 1.0, 0.0])]);
        let expected = [0.8910065, 1.3619716, 0.4539905, 1.782_013];
        assert_close(&case.number("t", 0.3).run(&Slerp), &expected);
    }

    #[test]
    fn the_ends_are_the_inputs() {
        let case = Case::new(&[("x", &X2), ("base", &B)]);
        let simplified = |t| case.clone().number("t", t).simplify(&Slerp);
        assert!(matches!(simplified(0.0), Ok(Simplified::Input(1))));
        assert!(matches!(simplified(1.0), Ok(Simplified::Input(0))));
    }

    #[test]
    fn parallel_and_zero_tensors_are_blended_straight() {
        let case = Case::of_shape(&[2], &[("base", &[1.0, 1.0]), ("x", &[3.0, 3.0])]).number("t", 0.25);
        assert_close(&case.run(&Slerp), &[1.5, 1.5]);
        let case = Case::of_shape(&[2], &[("base", &[0.0, 0.0]), ("x", &[1.0, 2.0])]).number("t", 0.5);
        let half = libm::sin(std::f64::consts::FRAC_PI_4) as f32;
        assert_close(&case.run(&Slerp), &[half, 2.0 * half]);
    }
}
