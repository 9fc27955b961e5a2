//! `ties`: a member of the task-arithmetic family.

use super::task_vector::{DENSITY, Family, INT8_MASK, LAMBDA, Sparsification, WEIGHT, normalize, rescale};
use super::{ArgumentError, Arguments, BaseRule, Count, Method, MethodSpec, MissingRule, Simplified};

#[derive(Debug)]
pub struct Ties;

static SPEC: MethodSpec = MethodSpec {
    name: "ties",
    version: 1,
    summary: "Keeps the largest differences, elects signs, and averages what agrees.",
    formula: "\
d_i = w_i * (x_i - b, the floor(density * n) largest of the tensor kept)\n\
per element: sign = the sign of sum(d_i); delta = the sum of the d_i of that sign, divided by their w_i if normalize\n\
r = b + lambda * delta",
    reference: "Yadav et al. 2023, TIES-Merging, https://arxiv.org/abs/2306.01708",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    params: &[WEIGHT, DENSITY, normalize(true), rescale(false), LAMBDA, INT8_MASK],
};

impl Method for Ties {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        Family { sparsification: Sparsification::Magnitude, election: true }.simplify(arguments)
    }
}
