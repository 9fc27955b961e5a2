//! `breadcrumbs`: a member of the task-arithmetic family.

use super::task_vector::{
    DENSITY, Family, GAMMA, INT8_MASK, LAMBDA, Sparsification, WEIGHT, normalize, rescale,
};
use super::{ArgumentError, Arguments, BaseRule, Count, Method, MethodSpec, MissingRule, Simplified};

#[derive(Debug)]
pub struct Breadcrumbs;

static SPEC: MethodSpec = MethodSpec {
    name: "breadcrumbs",
    version: 1,
    summary: "Keeps the largest differences but the very largest, and adds them.",
    formula: "\
d_i = w_i * (x_i - b, without the floor(gamma * n) largest, the next floor(density * n) kept)\n\
r = b + lambda * sum(d_i), the sum divided by sum(w_i) if normalize",
    reference: "Davari and Belilovsky 2023, Model Breadcrumbs, https://arxiv.org/abs/2312.06795",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    params: &[WEIGHT, DENSITY, GAMMA, normalize(false), rescale(false), LAMBDA, INT8_MASK],
};

impl Method for Breadcrumbs {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        Family { sparsification: Sparsification::Outliers, election: false }.simplify(arguments)
    }
}
