//! `della`: a member of the task-arithmetic family.

use super::task_vector::{
    DENSITY, EPSILON, Family, INT8_MASK, LAMBDA, Sparsification, WEIGHT, normalize, rescale,
};
use super::{ArgumentError, Arguments, BaseRule, Count, Method, MethodSpec, MissingRule, Simplified};

#[derive(Debug)]
pub struct Della;

static SPEC: MethodSpec = MethodSpec {
    name: "della",
    version: 1,
    summary: "Keeps differences by chance, large ones of a row more likely, elects signs, and averages what agrees.",
    formula: "\
d_i = w_i * (x_i - b, each element kept with probability p)\n\
p = density - epsilon + 2 epsilon (rank - 1) / (n - 1), rank 1 for the smallest of the n magnitudes of a row\n\
per element: sign = the sign of sum(d_i); delta = the sum of the d_i of that sign, divided by their w_i if normalize\n\
r = b + lambda * delta",
    reference: "Deep et al. 2024, DELLA-Merging, https://arxiv.org/abs/2406.11617",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    params: &[WEIGHT, DENSITY, EPSILON, normalize(true), rescale(true), LAMBDA, INT8_MASK],
};

impl Method for Della {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        Family { sparsification: Sparsification::Ranked, election: true }.simplify(arguments)
    }
}
