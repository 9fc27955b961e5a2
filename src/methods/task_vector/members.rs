//! The members of the family, each a row of choices with its own documentation.

use super::family::{Family, Sparsification};
use super::params::{DENSITY, EPSILON, GAMMA, INT8_MASK, LAMBDA, WEIGHT, normalize, rescale};
use crate::methods::arguments::{ArgumentError, Arguments};
use crate::methods::method::{Method, Simplified};
use crate::methods::spec::{BaseRule, Count, MethodSpec, MissingRule, ParamSpec};

/// A method of the family.
#[derive(Debug)]
pub struct Member {
    spec: MethodSpec,
    family: Family,
}

impl Method for Member {
    fn spec(&'static self) -> &'static MethodSpec {
        &self.spec
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        self.family.simplify(arguments)
    }
}

/// What a member says of itself.
struct About {
    name: &'static str,
    version: u32,
    summary: &'static str,
    formula: &'static str,
    reference: &'static str,
}

/// What all members have in common: any number of models, measured from a base.
const fn member(about: About, family: Family, params: &'static [ParamSpec]) -> Member {
    let About { name, version, summary, formula, reference } = about;
    let draws = matches!(family.sparsification, Sparsification::Random | Sparsification::Ranked);
    let spec = MethodSpec {
        name,
        version,
        summary,
        formula,
        reference,
        base: BaseRule::Required,
        inputs: Count { min: 1, max: None },
        missing: MissingRule::MergeRest,
        draws,
        params,
    };
    Member { spec, family }
}

pub static TASK_ARITHMETIC: Member = member(
    About {
        name: "task_arithmetic",
        version: 1,
        summary: "Adds weighted differences of models from a base to that base.",
        formula: "\
d_i = x_i - b\n\
r = b + lambda * sum(w_i d_i), the sum divided by sum(w_i) if normalize",
        reference: "Ilharco et al. 2022, Editing Models with Task Arithmetic, https://arxiv.org/abs/2212.04089",
    },
    Family { sparsification: Sparsification::None, election: false },
    &[WEIGHT, normalize(false), LAMBDA, INT8_MASK],
);

pub static TIES: Member = member(
    About {
        name: "ties",
        version: 1,
        summary: "Keeps the largest differences, elects signs, and averages the differences that agree.",
        formula: "\
d_i = w_i * (x_i - b, the floor(density * n) largest of the tensor kept)\n\
per element: sign = the sign of sum(d_i); delta = the sum of the d_i of that sign, divided by their w_i if normalize\n\
r = b + lambda * delta",
        reference: "Yadav et al. 2023, TIES-Merging, https://arxiv.org/abs/2306.01708",
    },
    Family { sparsification: Sparsification::Magnitude, election: true },
    &[WEIGHT, DENSITY, normalize(true), rescale(false), LAMBDA, INT8_MASK],
);

pub static DARE_LINEAR: Member = member(
    About {
        name: "dare_linear",
        version: 2,
        summary: "Keeps differences at random, rescales them, and adds them.",
        formula: "\
d_i = w_i * (x_i - b, each element kept with probability density, rescaled to its original L1 norm if rescale)\n\
r = b + lambda * sum(d_i), the sum divided by sum(w_i) if normalize",
        reference: "Yu et al. 2023, Language Models are Super Mario (DARE), https://arxiv.org/abs/2311.03099",
    },
    Family { sparsification: Sparsification::Random, election: false },
    &[WEIGHT, DENSITY, normalize(false), rescale(true), LAMBDA, INT8_MASK],
);

pub static DARE_TIES: Member = member(
    About {
        name: "dare_ties",
        version: 2,
        summary: "Keeps differences at random, rescales them, elects signs, and adds those that agree.",
        formula: "\
d_i = w_i * (x_i - b, each element kept with probability density, rescaled to its original L1 norm if rescale)\n\
per element: sign = the sign of sum(d_i); delta = the sum of the d_i of that sign, divided by their w_i if normalize\n\
r = b + lambda * delta",
        reference: "Yu et al. 2023, Language Models are Super Mario (DARE), https://arxiv.org/abs/2311.03099; signs after TIES",
    },
    Family { sparsification: Sparsification::Random, election: true },
    &[WEIGHT, DENSITY, normalize(false), rescale(true), LAMBDA, INT8_MASK],
);

pub static DELLA: Member = member(
    About {
        name: "della",
        version: 2,
        summary: "Keeps differences at random, larger ones in a row more often, elects signs, and averages those that agree.",
        formula: "\
d_i = w_i * (x_i - b, each element kept with probability p)\n\
p = density - epsilon + 2 epsilon (rank - 1) / (n - 1), rank 1 for the smallest of the n magnitudes of a row\n\
per element: sign = the sign of sum(d_i); delta = the sum of the d_i of that sign, divided by their w_i if normalize\n\
r = b + lambda * delta",
        reference: "Deep et al. 2024, DELLA-Merging, https://arxiv.org/abs/2406.11617",
    },
    Family { sparsification: Sparsification::Ranked, election: true },
    &[WEIGHT, DENSITY, EPSILON, normalize(true), rescale(true), LAMBDA, INT8_MASK],
);

pub static DELLA_LINEAR: Member = member(
    About {
        name: "della_linear",
        version: 2,
        summary: "Keeps differences at random, larger ones in a row more often, and adds them.",
        formula: "\
d_i = w_i * (x_i - b, each element kept with probability p)\n\
p = density - epsilon + 2 epsilon (rank - 1) / (n - 1), rank 1 for the smallest of the n magnitudes of a row\n\
r = b + lambda * sum(d_i), the sum divided by sum(w_i) if normalize",
        reference: "Deep et al. 2024, DELLA-Merging, https://arxiv.org/abs/2406.11617",
    },
    Family { sparsification: Sparsification::Ranked, election: false },
    &[WEIGHT, DENSITY, EPSILON, normalize(false), rescale(true), LAMBDA, INT8_MASK],
);

pub static BREADCRUMBS: Member = member(
    About {
        name: "breadcrumbs",
        version: 1,
        summary: "Keeps the largest differences except the very largest, and adds them.",
        formula: "\
d_i = w_i * (x_i - b, without the floor(gamma * n) largest, the next floor(density * n) kept)\n\
r = b + lambda * sum(d_i), the sum divided by sum(w_i) if normalize",
        reference: "Davari and Belilovsky 2023, Model Breadcrumbs, https://arxiv.org/abs/2312.06795",
    },
    Family { sparsification: Sparsification::Outliers, election: false },
    &[WEIGHT, DENSITY, GAMMA, normalize(false), rescale(false), LAMBDA, INT8_MASK],
);

pub static BREADCRUMBS_TIES: Member = member(
    About {
        name: "breadcrumbs_ties",
        version: 1,
        summary: "Keeps the largest differences except the very largest, elects signs, and adds those that agree.",
        formula: "\
d_i = w_i * (x_i - b, without the floor(gamma * n) largest, the next floor(density * n) kept)\n\
per element: sign = the sign of sum(d_i); delta = the sum of the d_i of that sign, divided by their w_i if normalize\n\
r = b + lambda * delta",
        reference: "Davari and Belilovsky 2023, Model Breadcrumbs, https://arxiv.org/abs/2312.06795; signs after TIES",
    },
    Family { sparsification: Sparsification::Outliers, election: true },
    &[WEIGHT, DENSITY, GAMMA, normalize(false), rescale(false), LAMBDA, INT8_MASK],
);
