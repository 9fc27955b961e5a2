//! `karcher`: the mean of directions on the sphere, at the mean length.

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
pub struct Karcher;

static SPEC: MethodSpec = MethodSpec {
    name: "karcher",
    version: 1,
    summary: "Averages the directions of models on the sphere, and separately their lengths.",
    formula: "\
u_i = x_i / |x_i|, except x_i not longer than tol; u = sum(u_i) / |sum(u_i)|, or u_0 where the sum is zero
at most max_iter times: theta_i = the angle between u and u_i
  T = mean(theta_i / sin(theta_i) * (u_i - cos(theta_i) u)), except u_i within tol of u or of -u
  u = cos|T| u + sin|T| T / |T|, until |T| < tol
r = u * mean(|x_i|), the mean over all x_i",
    reference: "Karcher 1977, Riemannian center of mass and mollifier smoothing, \
                https://doi.org/10.1002/cpa.3160300502",
    base: BaseRule::Ordinary,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    draws: false,
    params: &[
        ParamSpec {
            name: "max_iter",
            scope: Scope::Shared,
            kind: Kind::Integer(Interval { min: Bound::Included(0.0), max: Bound::Included(100_000.0) }),
            default: Default::Is(Value::Integer(10)),
            example: Value::Integer(1),
            inert: false,
            doc: "Maximum number of steps towards the mean.",
        },
        ParamSpec {
            name: "tol",
            scope: Scope::Shared,
            kind: Kind::Number(Interval { min: Bound::Included(0.0), max: Bound::Unbounded }),
            default: Default::Is(Value::Number(1e-5)),
            example: Value::Number(1e-3),
            inert: false,
            doc: "Lengths and angles, in radians, that count as zero.",
        },
    ],
};

impl Method for Karcher {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let n = arguments.inputs.len();
        if n == 1 {
            return Ok(Simplified::Input(0));
        }
        let operation =
            Mean { max_iter: arguments.shared.integer("max_iter"), tol: arguments.shared.number("tol"), n };
        Ok(Simplified::Operation { operation: Box::new(operation), inputs: (0..n).collect() })
    }
}

#[derive(Clone, Debug)]
struct Mean {
    max_iter: i64,
    tol: f64,
    n: usize,
}

impl Operation for Mean {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        // The number of models shows in the inputs that every manifest lists.
        let Self { max_iter, tol, n: _ } = self;
        sink.number("max_iter", *max_iter as f64);
        sink.number("tol", *tol);
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Combined::new(self, false, self.n))
    }
}

impl Combination for Mean {
    fn factors(&self, gram: &Gram) -> Result<Vec<f64>, String> {
        let n = gram.n();
        let norms: Vec<f64> = (0..n).map(|i| gram.norm(i)).collect();
        let length = norms.iter().sum::<f64>() / n as f64;
        let taken: Vec<usize> = (0..n).filter(|i| norms[*i] > self.tol).collect();
        let mut factors = vec![0.0; n];
        if taken.is_empty() {
            return Ok(factors);
        }
        let cosines = |i: usize, j: usize| gram.cosine(taken[i], taken[j], 0.0);
        for (i, factor) in taken.iter().zip(self.direction(taken.len(), &cosines)) {
            factors[*i] = length * factor / norms[*i];
        }
        Ok(factors)
    }
}

impl Mean {
    /// The mean direction of n unit vectors, by what each is multiplied by.
    fn direction(&self, n: usize, cosine: &dyn Fn(usize, usize) -> f64) -> Vec<f64> {
        // Of a combination of the unit vectors: its products with each of them, and its length.
        let products = |factors: &[f64]| -> Vec<f64> {
            (0..n).map(|i| factors.iter().enumerate().map(|(j, f)| f * cosine(i, j)).sum()).collect()
        };
        let length = |factors: &[f64]| -> f64 {
            let squared: f64 = factors.iter().zip(products(factors)).map(|(f, product)| f * product).sum();
            squared.max(0.0).sqrt()
        };
        let share = 1.0 / n as f64;
        let least_angle = self.tol.max(CANCELLED);
        let mut u = vec![share; n];
        let norm = length(&u);
        if norm < least_angle {
            u.fill(0.0);
            u[0] = 1.0;
        } else {
            u.iter_mut().for_each(|factor| *factor /= norm);
        }
        for _ in 0..self.max_iter {
            let mut step = vec![0.0; n];
            let mut along = 0.0;
            for (i, product) in products(&u).into_iter().enumerate() {
                let product = product.clamp(-1.0, 1.0);
                let angle = libm::acos(product);
                // From the opposite of u every way to u_i is as short as any other, so that none is taken.
                if angle >= self.tol && angle <= std::f64::consts::PI - least_angle && angle > 0.0 {
                    let factor = share * angle / libm::sin(angle);
                    step[i] += factor;
                    along += factor * product;
                }
            }
            step.iter_mut().zip(&u).for_each(|(step, u)| *step -= along * u);
            let distance = length(&step);
            if distance < self.tol || distance == 0.0 {
                break;
            }
            let (ahead, aside) = (libm::cos(distance), libm::sin(distance) / distance);
            u.iter_mut().zip(&step).for_each(|(u, step)| *u = ahead * *u + aside * step);
            let norm = length(&u);
            u.iter_mut().for_each(|factor| *factor /= norm);
        }
        u
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::testing::{Case, X2, Y2, Z2, assert_close};

    #[test]
    fn the_published_vector_holds() {
        let case = Case::new(&[("x", &X2), ("y", &Y2), ("z", &Z2)]);
        let expected =
            [1.1689513, -2.0937607, 3.198_954, -3.8775225, 0.561428, 0.5261427, -0.8133313, 1.8931403];
        assert_close(&case.run(&Karcher), &expected);
    }

    #[test]
    fn two_directions_meet_half_way() {
        let case = |x: &[f32], y: &[f32]| Case::of_shape(&[2], &[("x", x), ("y", y)]).run(&Karcher);
        let half = libm::sin(std::f64::consts::FRAC_PI_4) as f32;
        assert_close(&case(&[1.0, 0.0], &[0.0, 3.0]), &[2.0 * half, 2.0 * half]);
        assert_close(&case(&[1.0, 2.0], &[1.0, 2.0]), &[1.0, 2.0]);
        // The second takes no part but in the length.
        assert_close(&case(&[0.0, 2.0], &[0.0, 0.0]), &[0.0, 1.0]);
        assert_eq!(case(&[0.0, 0.0], &[0.0, 0.0]), [0.0, 0.0]);
        let huge = case(&[1e30, 0.0], &[0.0, 1e30]).iter().map(|r| r / 1e30).collect::<Vec<_>>();
        assert_close(&huge, &[half, half]);
    }

    #[test]
    fn opposite_directions_leave_the_first() {
        let case = |scale: f32| {
            let (x, y) = ([0.1, 0.7], [-0.1 * scale, -0.7 * scale]);
            Case::of_shape(&[2], &[("x", &x), ("y", &y)]).number("tol", 0.0)
        };
        assert_close(&case(1.0).run(&Karcher), &[0.1, 0.7]);
        assert_close(&case(3.0).run(&Karcher), &[0.2, 1.4]);
        let three = Case::of_shape(&[1], &[("x", &[1.0]), ("y", &[-4.0]), ("z", &[1.0])]);
        assert_close(&three.run(&Karcher), &[2.0]);
    }

    #[test]
    fn steps_are_bounded() {
        let case = Case::new(&[("x", &X2), ("y", &Y2), ("z", &Z2)]);
        let steps = |n: i64| case.clone().integer("max_iter", n).run(&Karcher);
        assert_ne!(steps(0), steps(1));
        assert_eq!(steps(10), steps(1000));
    }
}
