//! The parameters of the family. A density of 1 or more keeps a difference whole, one of 0 or less nothing
//! of it, so that neither it nor any other number but gamma is held to an interval.

use std::ops::Bound;

use crate::methods::interval::Interval;
use crate::methods::spec::{Default, Kind, ParamSpec, Scope, Value};

const fn number_param(
    name: &'static str,
    scope: Scope,
    default: Default,
    example: f64,
    doc: &'static str,
) -> ParamSpec {
    let (kind, example) = (Kind::Number(Interval::ALL), Value::Number(example));
    ParamSpec { name, scope, kind, default, example, inert: false, doc }
}

const fn flag_param(name: &'static str, default: bool, inert: bool, doc: &'static str) -> ParamSpec {
    ParamSpec {
        name,
        scope: Scope::Shared,
        kind: Kind::Flag,
        default: Default::Is(Value::Flag(default)),
        example: Value::Flag(!default),
        inert,
        doc,
    }
}

pub(super) const WEIGHT: ParamSpec = number_param(
    "weight",
    Scope::EachModel,
    Default::Required,
    0.7,
    "Factor for the model's difference from the base; it also counts when signs are elected.",
);
pub(super) const DENSITY: ParamSpec = number_param(
    "density",
    Scope::EachModel,
    Default::Is(Value::Number(1.0)),
    0.5,
    "Fraction of the model's difference to keep; 1 keeps all of it.",
);
pub(super) const LAMBDA: ParamSpec = number_param(
    "lambda",
    Scope::Shared,
    Default::Is(Value::Number(1.0)),
    1.1,
    "Factor for the combined difference before it is added to the base.",
);
pub(super) const GAMMA: ParamSpec = ParamSpec {
    kind: Kind::Number(Interval { min: Bound::Included(0.0), max: Bound::Included(1.0) }),
    ..number_param(
        "gamma",
        Scope::EachModel,
        Default::Is(Value::Number(0.01)),
        0.05,
        "Fraction of the elements, largest magnitudes first, to drop as outliers.",
    )
};
pub(super) const EPSILON: ParamSpec = number_param(
    "epsilon",
    Scope::EachModel,
    Default::Is(Value::Number(0.15)),
    0.1,
    "Keep probabilities range from density - epsilon to density + epsilon; both must be inside (0, 1).",
);
pub(super) const INT8_MASK: ParamSpec = flag_param(
    "int8_mask",
    false,
    true,
    "Accepted for compatibility with mergekit; it never changes a number.",
);

pub(super) const fn normalize(default: bool) -> ParamSpec {
    flag_param("normalize", default, false, "Whether to divide by the sum of the weights that took part.")
}

pub(super) const fn rescale(default: bool) -> ParamSpec {
    flag_param("rescale", default, false, "Whether a sparse difference is rescaled to its original L1 norm.")
}
