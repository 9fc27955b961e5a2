//! The task-arithmetic family: a base plus a combination of differences from it.
//!
//! Ilharco et al. 2022, Editing Models with Task Arithmetic, <https://arxiv.org/abs/2212.04089>. Every
//! member is a row of choices: how a difference is made sparse, whether signs are elected, and defaults.
//!
//! With x_i the inputs but the base b, and d_i = w_i * sparse(x_i - b):
//!
//! - without election: D = sum(w_i), replaced by 1 below 1e-8; delta = sum(d_i)
//! - with election, element by element: the sign of sum(d_i), + for an exact zero, is elected; delta sums
//!   the d_i of that sign, D their w_i, replaced by 1 where exactly 0
//! - delta is divided by D if `normalize`, multiplied by lambda, and added to b

mod kernel;
mod sparsify;

use super::{
    ArgumentError, Arguments, Cut, Default, Kernel, Kind, Operation, ParamSpec, Scope, Simplified, Value,
    flag, number,
};
use crate::kernels::philox::Stream;
use crate::manifest::{Sink, SinkExt};
use kernel::TaskKernel;
pub(super) use sparsify::Drawing;
use sparsify::Sparsifier;

/// How the differences of a family member are made sparse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sparsification {
    /// Not at all.
    None,
    /// The largest magnitudes of the tensor are kept.
    Magnitude,
    /// The largest magnitudes but the very largest are kept.
    Outliers,
    /// Elements are kept by chance.
    Random,
    /// Elements are kept by chance, large ones of a row more likely than small ones.
    Ranked,
}

/// A member of the family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub sparsification: Sparsification,
    /// Whether elements whose sign loses the election are dropped.
    pub election: bool,
}

const fn number_param(name: &'static str, scope: Scope, default: Default, doc: &'static str) -> ParamSpec {
    ParamSpec { name, scope, kind: Kind::Number, default, inert: false, doc }
}

const fn flag_param(name: &'static str, default: bool, inert: bool, doc: &'static str) -> ParamSpec {
    ParamSpec {
        name,
        scope: Scope::Shared,
        kind: Kind::Flag,
        default: Default::Is(Value::Flag(default)),
        inert,
        doc,
    }
}

pub(super) const WEIGHT: ParamSpec = number_param(
    "weight",
    Scope::EachModel,
    Default::Required,
    "Multiplies the model's difference from the base; takes part in electing signs.",
);
pub(super) const DENSITY: ParamSpec = number_param(
    "density",
    Scope::EachModel,
    Default::Is(Value::Number(1.0)),
    "Fraction of the model's difference that is kept; 1 keeps all.",
);
pub(super) const LAMBDA: ParamSpec = number_param(
    "lambda",
    Scope::Shared,
    Default::Is(Value::Number(1.0)),
    "Multiplies the combined difference before it is added to the base.",
);
pub(super) const GAMMA: ParamSpec = number_param(
    "gamma",
    Scope::EachModel,
    Default::Is(Value::Number(0.01)),
    "Fraction of the largest magnitudes that is dropped as outliers.",
);
pub(super) const EPSILON: ParamSpec = number_param(
    "epsilon",
    Scope::EachModel,
    Default::Is(Value::Number(0.15)),
    "Keep probabilities spread from density - epsilon to density + epsilon; both must lie inside (0, 1).",
);
pub(super) const INT8_MASK: ParamSpec =
    flag_param("int8_mask", false, true, "Accepted for mergekit's sake; it never changes a number.");

pub(super) const fn normalize(default: bool) -> ParamSpec {
    flag_param("normalize", default, false, "Whether to divide by the weights that took part.")
}

pub(super) const fn rescale(default: bool) -> ParamSpec {
    flag_param("rescale", default, false, "Whether a sparse difference is scaled back to its L1 norm.")
}

/// What the combined difference is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Divisor {
    One,
    /// The sum of all weights.
    Fixed(f64),
    /// The sum of the weights that won the election, element by element.
    Elected,
}

/// One input but the base.
#[derive(Clone, Debug)]
struct Vector {
    weight: f64,
    sparsifier: Sparsifier,
}

/// The resolved arithmetic of one tensor. Its inputs are the base and then the vectors.
#[derive(Clone, Debug)]
struct TaskVectors {
    vectors: Vec<Vector>,
    election: bool,
    divisor: Divisor,
    rescale: bool,
    lambda: f64,
}

impl Family {
    /// Resolves arguments to the least work: what has no weight or no density is not read.
    pub(super) fn simplify(self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let base = arguments.base();
        let lambda = number(&arguments.shared, "lambda");
        let mut total = 0.0;
        let mut inputs = vec![base];
        let mut vectors = Vec::new();
        for (i, input) in arguments.inputs.iter().enumerate().filter(|(i, _)| *i != base) {
            let weight = number(&input.values, "weight");
            total += weight;
            let sparsifier = self
                .sparsifier(&input.values, input.stream)
                .map_err(|(param, message)| ArgumentError { param, input: Some(i), message })?;
            if weight != 0.0 && sparsifier != Sparsifier::Nothing {
                inputs.push(i);
                vectors.push(Vector { weight, sparsifier });
            }
        }
        if vectors.is_empty() || lambda == 0.0 {
            return Ok(Simplified::Input(base));
        }
        let divisor = match (flag(&arguments.shared, "normalize"), self.election) {
            (false, _) => Divisor::One,
            (true, true) => Divisor::Elected,
            (true, false) if total.abs() < 1e-8 || total == 1.0 => Divisor::One,
            (true, false) => Divisor::Fixed(total),
        };
        if let [Vector { weight: 1.0, sparsifier: Sparsifier::Everything }] = vectors[..]
            && lambda == 1.0
            && !matches!(divisor, Divisor::Fixed(_))
        {
            // b + (x - b) is x; taking it so also spares the rounding of the detour.
            return Ok(Simplified::Input(inputs[1]));
        }
        let sparse = vectors.iter().any(|vector| vector.sparsifier != Sparsifier::Everything);
        let rescale = sparse && flag(&arguments.shared, "rescale");
        let operation = TaskVectors { vectors, election: self.election, divisor, rescale, lambda };
        Ok(Simplified::Operation { operation: Box::new(operation), inputs })
    }

    fn sparsifier(
        self,
        values: &super::Values,
        stream: Stream,
    ) -> Result<Sparsifier, (&'static str, String)> {
        if self.sparsification == Sparsification::None {
            return Ok(Sparsifier::Everything);
        }
        let density = number(values, "density");
        if density >= 1.0 {
            return Ok(Sparsifier::Everything);
        }
        if density <= 0.0 {
            return Ok(Sparsifier::Nothing);
        }
        match self.sparsification {
            Sparsification::None => unreachable!("returned above"),
            Sparsification::Magnitude => Ok(Sparsifier::Largest { density }),
            Sparsification::Outliers => {
                let gamma = number(values, "gamma");
                if !(0.0..=1.0).contains(&gamma) {
                    return Err(("gamma", format!("gamma {gamma} is not between 0 and 1")));
                }
                Ok(Sparsifier::LargestButOutliers { density, gamma })
            }
            Sparsification::Random => Ok(Sparsifier::Random { density, stream }),
            Sparsification::Ranked => {
                let epsilon = number(values, "epsilon");
                if density - epsilon.abs() <= 0.0 || density + epsilon.abs() >= 1.0 {
                    let message = format!(
                        "density {density} with epsilon {epsilon} gives keep probabilities outside (0, 1); lower epsilon or move density away from 0 and 1"
                    );
                    return Err(("epsilon", message));
                }
                Ok(Sparsifier::Ranked { density, epsilon, stream })
            }
        }
    }
}

impl Operation for TaskVectors {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        let Self { vectors, election, divisor, rescale, lambda } = self;
        for (i, Vector { weight, sparsifier }) in vectors.iter().enumerate() {
            let i = i + 1;
            sink.number(&format!("inputs[{i}].weight"), *weight);
            sparsifier.write_manifest(&format!("inputs[{i}]"), sink);
        }
        sink.flag("election", *election);
        match divisor {
            Divisor::One => sink.flag("normalize", false),
            Divisor::Elected => sink.flag("normalize", true),
            Divisor::Fixed(total) => {
                sink.flag("normalize", true);
                sink.number("divisor", *total);
            }
        }
        sink.flag("rescale", *rescale);
        sink.number("lambda", *lambda);
    }

    fn cut(&self) -> Cut {
        let ranked = |vector: &Vector| matches!(vector.sparsifier, Sparsifier::Ranked { .. });
        if self.vectors.iter().any(ranked) { Cut::SecondAxis } else { Cut::Elements }
    }

    fn kernel(&self, n_elements: usize) -> Box<dyn Kernel + '_> {
        Box::new(TaskKernel::new(self, n_elements))
    }
}

#[cfg(test)]
mod tests;
