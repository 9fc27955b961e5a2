//! `task_arithmetic`: a member of the task-arithmetic family.

use super::task_vector::{Family, INT8_MASK, LAMBDA, Sparsification, WEIGHT, normalize};
use super::{ArgumentError, Arguments, BaseRule, Count, Method, MethodSpec, MissingRule, Simplified};

#[derive(Debug)]
pub struct TaskArithmetic;

static SPEC: MethodSpec = MethodSpec {
    name: "task_arithmetic",
    version: 1,
    summary: "Adds weighted differences of models from a base.",
    formula: "\
d_i = x_i - b\n\
r = b + lambda * sum(w_i d_i), the sum divided by sum(w_i) if normalize",
    reference: "Ilharco et al. 2022, Editing Models with Task Arithmetic, https://arxiv.org/abs/2212.04089",
    base: BaseRule::Required,
    inputs: Count { min: 1, max: None },
    missing: MissingRule::MergeRest,
    params: &[WEIGHT, normalize(false), LAMBDA, INT8_MASK],
};

impl Method for TaskArithmetic {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        Family { sparsification: Sparsification::None, election: false }.simplify(arguments)
    }
}
