//! `breadcrumbs_ties`: a member of the task-arithmetic family.

use super::task_vector::{
    DENSITY, Family, GAMMA, INT8_MASK, LAMBDA, Sparsification, WEIGHT, normalize, rescale,
};
use super::{ArgumentError, Arguments, BaseRule, Count, Method, MethodSpec, MissingRule, Simplified};

#[derive(Debug)]
pub struct BreadcrumbsTies;

static SPEC: MethodSpec = MethodSpec {
    name: "breadcrumbs_ties",
    version: 1,
    summary: "Keeps the largest differences but the very largest, elects signs, and adds what agrees.",
    formula: "\
d_i = w_i * (x_i - b, without the floor(gamma * n) largest, the next floor(density * n) kept)\n\
per element: sign = the sign of sum(d_i); delta = the sum of the d_i of that sign, divided by their w_i if normalize\n\
r = b + lambda * delta",
    reference: "Davari and Belilovsky 2023, Model Breadcrumbs, https://arxiv.org/abs/2312.06795; signs after TIES",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    params: &[WEIGHT, DENSITY, GAMMA, normalize(false), rescale(false), LAMBDA, INT8_MASK],
};

impl Method for BreadcrumbsTies {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        Family { sparsification: Sparsification::Outliers, election: true }.simplify(arguments)
    }
}
