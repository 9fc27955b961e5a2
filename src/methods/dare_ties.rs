//! `dare_ties`: a member of the task-arithmetic family.

use super::task_vector::{DENSITY, Family, INT8_MASK, LAMBDA, Sparsification, WEIGHT, normalize, rescale};
use super::{ArgumentError, Arguments, BaseRule, Count, Method, MethodSpec, MissingRule, Simplified};

#[derive(Debug)]
pub struct DareTies;

static SPEC: MethodSpec = MethodSpec {
    name: "dare_ties",
    version: 1,
    summary: "Keeps differences by chance, scales them back, elects signs, and adds what agrees.",
    formula: "\
d_i = w_i * (x_i - b, each element kept with probability density, scaled to its L1 norm before if rescale)\n\
per element: sign = the sign of sum(d_i); delta = the sum of the d_i of that sign, divided by their w_i if normalize\n\
r = b + lambda * delta",
    reference: "Yu et al. 2023, Language Models are Super Mario (DARE), https://arxiv.org/abs/2311.03099; signs after TIES",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    params: &[WEIGHT, DENSITY, normalize(false), rescale(true), LAMBDA, INT8_MASK],
};

impl Method for DareTies {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        Family { sparsification: Sparsification::Random, election: true }.simplify(arguments)
    }
}
