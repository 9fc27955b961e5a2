//! Merge methods: arithmetic on slices of f32. One file a method, with its declared parameters, its
//! documentation, its arithmetic and its tests.
//!
//! Methods know no names, no files and no threads. A method turns resolved arguments into an
//! [`Operation`], which is first simplified (an input that cannot matter is not read); the operation
//! writes its own part of the action key and makes a [`Kernel`], which a caller feeds leaf by leaf.
//!
//! A new method is a file and a line in `METHODS`; one of the task-arithmetic family is a row of its table
//! and a line. Recipes, keys, the command line and the tests that hold for every method follow from what it
//! declares.

mod active;
mod arcee_fusion;
mod arguments;
pub mod elsewhere;
mod gram;
mod interval;
mod karcher;
mod linear;
mod method;
mod model_stock;
mod multislerp;
mod nearswap;
mod nuslerp;
mod operation;
mod passthrough;
mod ram;
mod ramplus_tl;
mod sce;
mod scratch;
mod slerp;
mod span;
mod spec;
mod task_vector;
#[cfg(test)]
mod testing;

pub use arguments::{ArgumentError, Arguments, InputArguments, Values};
pub use interval::Interval;
pub use method::{Method, Simplified};
pub use operation::{Cut, DrawnMask, Extent, Kernel, Leaf, Operation, Pass, Ranking, Sample};
pub use scratch::Scratch;
pub use spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};

use task_vector::members;

/// Every method, simple ones first.
static METHODS: &[&dyn Method] = &[
    &passthrough::Passthrough,
    &linear::Linear,
    &slerp::Slerp,
    &nuslerp::Nuslerp,
    &multislerp::Multislerp,
    &karcher::Karcher,
    &members::TASK_ARITHMETIC,
    &members::TIES,
    &members::DARE_LINEAR,
    &members::DARE_TIES,
    &members::DELLA,
    &members::DELLA_LINEAR,
    &members::BREADCRUMBS,
    &members::BREADCRUMBS_TIES,
    &model_stock::ModelStock,
    &sce::Sce,
    &ram::Ram,
    &ramplus_tl::RamplusTl,
    &nearswap::Nearswap,
    &arcee_fusion::ArceeFusion,
];

/// Every method, in the order in which lists show them.
pub fn all() -> &'static [&'static dyn Method] {
    METHODS
}

/// Looks a method up by its name in recipes.
pub fn find(name: &str) -> Option<&'static dyn Method> {
    all().iter().copied().find(|method| method.spec().name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_everything_is_documented() {
        let names: BTreeSet<&str> = all().iter().map(|method| method.spec().name).collect();
        assert_eq!(names.len(), all().len());
        for method in all() {
            let spec = method.spec();
            assert!(find(spec.name).is_some());
            assert!(spec.summary.ends_with('.') && !spec.formula.is_empty() && !spec.reference.is_empty());
            let params: BTreeSet<&str> = spec.params.iter().map(|param| param.name).collect();
            assert_eq!(params.len(), spec.params.len(), "{}", spec.name);
            assert!(spec.params.iter().all(|param| param.doc.ends_with('.')), "{}", spec.name);
        }
    }

    #[test]
    fn parameters_of_one_name_have_one_type() {
        let all_params = || all().iter().flat_map(|method| method.spec().params);
        let one_type = |a: Kind, b: Kind| std::mem::discriminant(&a) == std::mem::discriminant(&b);
        for param in all_params() {
            assert!(all_params().all(|other| other.name != param.name || one_type(other.kind, param.kind)));
        }
    }

    #[test]
    fn defaults_and_examples_are_taken_and_differ() {
        for param in all().iter().flat_map(|method| method.spec().params) {
            assert_eq!(param.check(param.example), Ok(()));
            if let Default::Is(default) = param.default {
                assert_eq!(param.check(default), Ok(()));
                assert_ne!(default, param.example, "{}", param.name);
            }
        }
    }
}
