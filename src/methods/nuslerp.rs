//! `nuslerp`: along the arc between two models, or between their differences from a base.

use super::arguments::{ArgumentError, Arguments};
use super::gram::Gram;
use super::interval::Interval;
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Leaf, Operation};
use super::scratch::Scratch;
use super::span::{Combination, Combined, add_products, combine, combine_bf16};
use super::spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};
use crate::kernels::pairs::Bf16;
use crate::kernels::reduce::{Element, LANES, prefers_bf16};
use crate::manifest::{Sink, SinkExt};

#[derive(Debug)]
pub struct Nuslerp;

static SPEC: MethodSpec = MethodSpec {
    name: "nuslerp",
    version: 1,
    summary: "Blends two models along the arc between them, or between their differences from a base.",
    formula: "\
v_i = x_i, or x_i - b with a base; t = w_1 / (w_0 + w_1), 0.5 where |w_0 + w_1| < 1e-6
c = <v_0, v_1> / (|v_0| |v_1|), theta = arccos c
r = (sin((1 - t) theta) v_0 + sin(t theta) v_1) / sin theta, plus b with a base
r = (1 - t) v_0 + t v_1 where the two are parallel or opposite
over the whole tensor, or over each vector along an axis if nuslerp_flatten is false",
    reference: "Shoemake 1985, Animating rotation with quaternion curves, https://doi.org/10.1145/325165.325242; \
                weights and base after mergekit, https://github.com/arcee-ai/mergekit",
    base: BaseRule::Optional,
    inputs: Count { min: 2, max: Some(2) },
    missing: MissingRule::CopySingle,
    draws: false,
    params: &[
        ParamSpec {
            name: "weight",
            scope: Scope::EachModel,
            kind: Kind::Number(Interval::ALL),
            default: Default::Required,
            example: Value::Number(0.7),
            inert: false,
            doc: "The model's weight relative to the other's.",
        },
        ParamSpec {
            name: "nuslerp_flatten",
            scope: Scope::Shared,
            kind: Kind::Flag,
            default: Default::Is(Value::Flag(true)),
            example: Value::Flag(false),
            inert: false,
            doc: "Whether the whole tensor is treated as one vector.",
        },
        ParamSpec {
            name: "nuslerp_row_wise",
            scope: Scope::Shared,
            kind: Kind::Flag,
            default: Default::Is(Value::Flag(false)),
            example: Value::Flag(true),
            inert: false,
            doc: "If the tensor is not treated as one vector: whether vectors run along its first axis instead of its last.",
        },
    ],
};

/// Weights that add up to less count alike.
const LEAST_TOTAL: f64 = 1e-6;

/// What shorter vectors count as when their angle is measured.
const LEAST_NORM: f64 = 1e-7;

/// Arcs whose sine has a smaller square are straight, or lead anywhere. Products in f64 leave some 1e-15 of it.
const LEAST_SINE_SQUARED: f64 = 1e-13;

impl Method for Nuslerp {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let models: Vec<usize> = arguments.models().collect();
        let weights = [0, 1].map(|which| arguments.inputs[models[which]].values.number("weight"));
        let has_total = (weights[0] + weights[1]).abs() >= LEAST_TOTAL;
        if let Some(zero) = weights.iter().position(|weight| *weight == 0.0).filter(|_| has_total) {
            return Ok(Simplified::Input(models[1 - zero]));
        }
        let vectors =
            match (arguments.shared.flag("nuslerp_flatten"), arguments.shared.flag("nuslerp_row_wise")) {
                (true, _) => Vectors::Whole,
                (false, false) => Vectors::LastAxis,
                (false, true) => Vectors::FirstAxis,
            };
        let base = arguments.base();
        let operation = Box::new(Arcs { weights, vectors, has_base: base.is_some() });
        Ok(Simplified::Operation { operation, inputs: base.into_iter().chain(models).collect() })
    }
}

/// What has an arc of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vectors {
    Whole,
    LastAxis,
    FirstAxis,
}

#[derive(Clone, Debug)]
struct Arcs {
    weights: [f64; 2],
    vectors: Vectors,
    has_base: bool,
}

impl Operation for Arcs {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        // The base shows in the roles that every manifest lists.
        let Self { weights, vectors, has_base } = self;
        for (i, weight) in weights.iter().enumerate() {
            sink.number(&format!("inputs[{}].weight", i + usize::from(*has_base)), *weight);
        }
        sink.flag("nuslerp_flatten", *vectors == Vectors::Whole);
        if *vectors != Vectors::Whole {
            sink.flag("nuslerp_row_wise", *vectors == Vectors::FirstAxis);
        }
    }

    fn cut(&self) -> Cut {
        match self.vectors {
            Vectors::Whole => Cut::Elements,
            Vectors::LastAxis => Cut::LastAxis,
            Vectors::FirstAxis => Cut::FirstAxis,
        }
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        match self.vectors {
            Vectors::Whole => Box::new(Combined::new(self, self.has_base, 2)),
            Vectors::LastAxis | Vectors::FirstAxis => Box::new(EachVector(self)),
        }
    }
}

impl Arcs {
    fn on_arc(&self, gram: &Gram) -> [f64; 2] {
        let total = self.weights[0] + self.weights[1];
        let t = if total.abs() < LEAST_TOTAL { 0.5 } else { self.weights[1] / total };
        let cosine = gram.cosine(0, 1, LEAST_NORM);
        if 1.0 - cosine * cosine <= LEAST_SINE_SQUARED {
            return [1.0 - t, t];
        }
        let theta = libm::acos(cosine);
        [(1.0 - t) * theta, t * theta].map(|angle| libm::sin(angle) / libm::sin(theta))
    }
}

impl Combination for Arcs {
    fn factors(&self, gram: &Gram) -> Result<Vec<f64>, String> {
        Ok(self.on_arc(gram).to_vec())
    }
}

struct EachVector<'a>(&'a Arcs);

impl Kernel for EachVector<'_> {
    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        for (row, out) in out.chunks_mut(leaf.row_len).enumerate() {
            self.on_arc(leaf, row, |rows, factors| combine(self.0.has_base, rows, factors, out));
        }
    }

    fn takes_bf16(&self) -> bool {
        prefers_bf16()
    }

    fn emit_bf16(&self, leaf: &Leaf<'_, Bf16>, out: &mut [Bf16]) -> bool {
        let mut rows = out.chunks_mut(leaf.row_len).enumerate();
        rows.all(|(row, out)| {
            self.on_arc(leaf, row, |rows, factors| combine_bf16(self.0.has_base, rows, factors, out))
        })
    }
}

impl EachVector<'_> {
    /// Hands over a row of all inputs, and what its vectors are multiplied by.
    fn on_arc<T: Element, R>(
        &self,
        leaf: &Leaf<'_, T>,
        row: usize,
        work: impl FnOnce(&[&[T]], &[f64]) -> R,
    ) -> R {
        let range = row * leaf.row_len..(row + 1) * leaf.row_len;
        // A base and two vectors at most.
        let mut rows: [&[T]; 3] = [&[]; 3];
        rows.iter_mut().zip(leaf.inputs).for_each(|(row, input)| *row = &input[range.clone()]);
        let rows = &rows[..leaf.inputs.len()];
        let mut lanes = [0.0; 3 * LANES];
        add_products(self.0.has_base, rows, &mut lanes);
        work(rows, &self.0.on_arc(&Gram::new(2, &lanes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::testing::{B, Case, X2, Y2, assert_close};

    #[test]
    fn the_published_vectors_hold() {
        let case = Case::new(&[("x", &X2), ("y", &Y2)]).each("weight", &[0.6, 0.4]);
        let based = Case::new(&[("x", &X2), ("y", &Y2), ("base", &B)]).each("weight", &[0.6, 0.4]);
        for (case, expected) in [
            (
                case.clone(),
                [1.2223195, -1.9868795, 2.8553333, -3.6685858, 0.4074398, 0.6622931, -1.0177858, 1.9349321],
            ),
            (
                based,
                [1.3192474, -1.8584658, 2.6807525, -3.1969123, 0.2992281, 0.9707913, -1.3392668, 1.7169316],
            ),
            (
                case.clone().flag("nuslerp_flatten", false),
                [1.2119269, -1.9697064, 2.8295639, -3.6366477, 0.4053411, 0.6588252, -1.0127697, 1.9250789],
            ),
            (
                case.flag("nuslerp_flatten", false).flag("nuslerp_row_wise", true),
                [1.2, -1.95, 2.8751998, -3.6239228, 0.4, 0.65, -1.0241659, 1.9121864],
            ),
        ] {
            assert_close(&case.run(&Nuslerp), &expected);
        }
    }

    #[test]
    fn a_model_without_weight_is_not_read() {
        let case = Case::new(&[("base", &B), ("x", &X2), ("y", &Y2)]);
        let simplified = |weights: [f64; 2]| case.clone().each("weight", &weights).simplify(&Nuslerp);
        assert!(matches!(simplified([0.0, 2.0]), Ok(Simplified::Input(2))));
        assert!(matches!(simplified([-0.1, 0.0]), Ok(Simplified::Input(1))));
        // Both count alike.
        assert!(matches!(simplified([0.0, 0.0]), Ok(Simplified::Operation { .. })));
    }

    #[test]
    fn parallel_opposite_and_zero_vectors_have_an_outcome() {
        let run = |x: [f32; 2], y: [f32; 2]| {
            let case = Case::of_shape(&[2], &[("x", &x), ("y", &y)]);
            case.each("weight", &[0.75, 0.25]).run(&Nuslerp)
        };
        assert_eq!(run([1.0, 3.0], [3.0, 9.0]), [1.5, 4.5]);
        assert_eq!(run([1.0, 3.0], [-1.0, -3.0]), [0.5, 1.5]);
        assert_close(&run([0.1, 0.3], [-0.3, -0.900_000_04]), &[0.0, 0.0]);
        assert_eq!(run([0.0, 0.0], [0.0, 0.0]), [0.0, 0.0]);
        let sine = libm::sin(std::f64::consts::FRAC_PI_8) as f32;
        assert_close(&run([0.0, 0.0], [0.0, 2.0]), &[0.0, 2.0 * sine]);
        // The squares of these do not fit into f32.
        let huge = run([3e30, 0.0], [0.0, 3e30]).iter().map(|r| r / 3e30).collect::<Vec<_>>();
        assert_close(&huge, &[libm::cos(std::f64::consts::FRAC_PI_8) as f32, sine]);
    }

    #[test]
    fn vectors_run_along_the_first_or_the_last_axis() {
        let (x, y) = ([1.0, 0.0, 0.0, 1.0, 1.0, 0.0], [0.0, 2.0, 1.0, 0.0, 0.0, 3.0]);
        let case = |shape: &[usize]| {
            let case = Case::of_shape(shape, &[("x", &x), ("y", &y)]).each("weight", &[0.5, 0.5]);
            case.flag("nuslerp_flatten", false)
        };
        // Zero is at right angles to everything, and so are all of these vectors.
        let half = libm::sin(std::f64::consts::FRAC_PI_4) as f32;
        let right: Vec<f32> = x.iter().zip(&y).map(|(x, y)| half * (x + y)).collect();
        assert_close(&case(&[3, 1, 2]).run(&Nuslerp), &right);
        assert_close(&case(&[6, 1]).run(&Nuslerp), &right);
        for shape in [&[1, 6][..], &[1, 2, 3]] {
            assert_close(&case(shape).flag("nuslerp_row_wise", true).run(&Nuslerp), &right);
        }
        // Along the first axis: (1, 0, 1) with (0, 1, 0), and (0, 1, 0) with (2, 0, 3).
        assert_close(&case(&[3, 2]).flag("nuslerp_row_wise", true).run(&Nuslerp), &right);
        // (1, 1) with (0, 0), (0, 1) with (2, 0), (0, 0) with (1, 3).
        assert_close(&case(&[2, 3]).flag("nuslerp_row_wise", true).run(&Nuslerp), &right);
    }

    #[test]
    fn vectors_of_a_matrix_are_merged_as_if_alone() {
        let expected = |x: [f32; 2], y: [f32; 2]| -> Vec<f32> {
            Case::of_shape(&[2], &[("x", &x), ("y", &y)]).each("weight", &[0.3, 0.6]).run(&Nuslerp)
        };
        let (x, y) = ([1.0, 2.0, 3.0, -4.0], [0.5, -1.0, 2.0, 2.5]);
        let case = Case::of_shape(&[2, 2], &[("x", &x), ("y", &y)]).each("weight", &[0.3, 0.6]);
        let rows = case.clone().flag("nuslerp_flatten", false);
        let [upper, lower] = [expected([1.0, 2.0], [0.5, -1.0]), expected([3.0, -4.0], [2.0, 2.5])];
        assert_eq!(rows.run(&Nuslerp), [upper, lower].concat());
        let [left, right] = [expected([1.0, 3.0], [0.5, 2.0]), expected([2.0, -4.0], [-1.0, 2.5])];
        let columns = rows.flag("nuslerp_row_wise", true);
        assert_eq!(columns.run(&Nuslerp), [left[0], right[0], left[1], right[1]]);
    }
}
