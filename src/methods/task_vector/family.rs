//! From a member's choices and its arguments to the least work.

use super::sparsify::Sparsifier;
use super::vectors::{Divisor, TaskVectors, Vector};
use crate::kernels::stream::Stream;
use crate::methods::arguments::{ArgumentError, Arguments, Values};
use crate::methods::method::Simplified;

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

impl Family {
    /// Resolves arguments to the least work: what has no weight or no density is not read.
    pub(super) fn simplify(self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        let base = arguments.required_base();
        let lambda = arguments.shared.number("lambda");
        let mut total = 0.0;
        let mut inputs = vec![base];
        let mut vectors = Vec::new();
        for i in arguments.models() {
            let input = &arguments.inputs[i];
            let weight = input.values.number("weight");
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
        let divisor = match (arguments.shared.flag("normalize"), self.election) {
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
        let rescale = sparse && arguments.shared.flag("rescale");
        let operation = TaskVectors { vectors, election: self.election, divisor, rescale, lambda };
        Ok(Simplified::Operation { operation: Box::new(operation), inputs })
    }

    fn sparsifier(self, values: &Values, stream: Stream) -> Result<Sparsifier, (&'static str, String)> {
        if self.sparsification == Sparsification::None {
            return Ok(Sparsifier::Everything);
        }
        let density = values.number("density");
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
                Ok(Sparsifier::LargestButOutliers { density, gamma: values.number("gamma") })
            }
            Sparsification::Random => Ok(Sparsifier::Random { density, stream }),
            Sparsification::Ranked => {
                let epsilon = values.number("epsilon");
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
