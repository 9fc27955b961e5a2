//! `della_linear`: a member of the task-arithmetic family.

use super::task_vector::{
    DENSITY, EPSILON, Family, INT8_MASK, LAMBDA, Sparsification, WEIGHT, normalize, rescale,
};
use super::{ArgumentError, Arguments, BaseRule, Count, Method, MethodSpec, MissingRule, Simplified};

#[derive(Debug)]
pub struct DellaLinear;

static SPEC: MethodSpec = MethodSpec {
    name: "della_linear",
    version: 1,
    summary: "Keeps differences by chance, large ones of a row more likely, and adds them.",
    formula: "\
d_i = w_i * (x_i - b, each element kept with probability p)\n\
p = density - epsilon + 2 epsilon (rank - 1) / (n - 1), rank 1 for the smallest of the n magnitudes of a row\n\
r = b + lambda * sum(d_i), the sum divided by sum(w_i) if normalize",
    reference: "Deep et al. 2024, DELLA-Merging, https://arxiv.org/abs/2406.11617",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    params: &[WEIGHT, DENSITY, EPSILON, normalize(false), rescale(true), LAMBDA, INT8_MASK],
};

impl Method for DellaLinear {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        Family { sparsification: Sparsification::Ranked, election: false }.simplify(arguments)
    }
}
