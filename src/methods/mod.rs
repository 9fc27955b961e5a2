//! Merge methods: arithmetic on slices of f32. One file a method, with its declared parameters, its
//! documentation, its arithmetic and its tests.
//!
//! Methods know no names, no files and no threads. A method turns resolved arguments into an
//! [`Operation`], which is first simplified (an input that cannot matter is not read); the operation
//! writes its own part of the action key and makes a [`Kernel`], which a caller feeds leaf by leaf.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::kernels::philox::Stream;
use crate::manifest::Sink;

mod breadcrumbs;
mod breadcrumbs_ties;
pub mod convert;
mod dare_linear;
mod dare_ties;
mod della;
mod della_linear;
mod linear;
mod model_stock;
mod passthrough;
mod slerp;
mod spec;
mod task_arithmetic;
mod task_vector;
#[cfg(test)]
mod testing;
mod ties;

pub use spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};

/// Every method, simple ones first.
pub fn all() -> &'static [&'static dyn Method] {
    &[
        &passthrough::Passthrough,
        &linear::Linear,
        &slerp::Slerp,
        &task_arithmetic::TaskArithmetic,
        &ties::Ties,
        &dare_linear::DareLinear,
        &dare_ties::DareTies,
        &della::Della,
        &della_linear::DellaLinear,
        &breadcrumbs::Breadcrumbs,
        &breadcrumbs_ties::BreadcrumbsTies,
        &model_stock::ModelStock,
    ]
}

/// Looks a method up by its name in recipes.
pub fn find(name: &str) -> Option<&'static dyn Method> {
    all().iter().copied().find(|method| method.spec().name == name)
}

/// The values of declared parameters, by name. Absent optional parameters have no entry.
pub type Values = BTreeMap<&'static str, Value>;

/// One input of an action, in the order of the recipe.
#[derive(Clone, Debug)]
pub struct InputArguments {
    /// Whether it is the stage's (or slice's) base.
    pub is_base: bool,
    /// The random stream of this input, fixed by seed, stage, position and tensor name.
    pub stream: Stream,
    /// Per-input values: `EachInput` ones for every input, `EachModel` ones for all but the base.
    pub values: Values,
}

/// Everything a method needs to know to become an operation.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub shared: Values,
    pub inputs: Vec<InputArguments>,
}

impl Arguments {
    /// The number of the base.
    ///
    /// # Panics
    /// If there is none; methods that ask for it require one.
    fn base(&self) -> usize {
        self.inputs.iter().position(|input| input.is_base).expect("the method requires a base")
    }

    /// The numbers of all inputs, the base first, the others in order.
    fn base_first(&self) -> Vec<usize> {
        let base = self.base();
        std::iter::once(base).chain((0..self.inputs.len()).filter(|i| *i != base)).collect()
    }
}

/// A declared number.
///
/// # Panics
/// If the method declares no such number, or one that may be absent is.
fn number(values: &Values, name: &str) -> f64 {
    match values.get(name) {
        Some(Value::Number(value)) => *value,
        other => panic!("`{name}` is declared as a number, not {other:?}"),
    }
}

/// A declared flag.
///
/// # Panics
/// If the method declares no such flag.
fn flag(values: &Values, name: &str) -> bool {
    match values.get(name) {
        Some(Value::Flag(value)) => *value,
        other => panic!("`{name}` is declared as a flag, not {other:?}"),
    }
}

/// What an action comes down to once everything that cannot change its bytes is gone.
#[derive(Debug)]
pub enum Simplified {
    /// The result is this input's tensor (an index into [`Arguments::inputs`]).
    Input(usize),
    /// The result is computed from these inputs, in this order.
    Operation { operation: Box<dyn Operation>, inputs: Vec<usize> },
}

/// A merge method.
pub trait Method: Sync + Debug {
    fn spec(&self) -> &'static MethodSpec;

    /// Resolves arguments to the least work that gives the method's result.
    ///
    /// # Errors
    /// Says which parameter has a value that the method cannot work with, and why.
    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError>;
}

/// A parameter value, or a combination of them, that a method refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentError {
    /// The parameter at fault.
    pub param: &'static str,
    /// The input at fault (an index into [`Arguments::inputs`]), if it is one input's.
    pub input: Option<usize>,
    pub message: String,
}

/// Resolved arithmetic of one action.
pub trait Operation: Send + Sync + Debug {
    /// Writes every field that can change the bytes, by name; per-input fields as `inputs[i].name`,
    /// with i counting the operation's own inputs.
    fn write_manifest(&self, sink: &mut dyn Sink);

    /// How a tensor must be cut so that each leaf can be worked on alone.
    fn cut(&self) -> Cut;

    /// Starts work on one tensor of `n_elements` elements.
    fn kernel(&self, n_elements: usize) -> Box<dyn Kernel + '_>;
}

/// How a tensor is cut into leaves. The cut depends on the shape alone, never on memory or threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Anywhere: elements (or reductions over them) do not look at their neighbours.
    Elements,
    /// Into whole vectors along the last axis; a 1-D tensor is one vector.
    LastAxis,
    /// Into whole vectors along axis 1; a 1-D tensor is one vector.
    SecondAxis,
}

/// What a pass over all inputs collects before the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// f64 sums wanted of each leaf.
    pub sums: usize,
    /// Exact integer counts, added up over all leaves in any order.
    pub counts: usize,
}

/// A run of whole vectors (or elements) of all inputs, as f32.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<'a> {
    /// The number of this leaf in its tensor.
    pub index: usize,
    /// One slice per operation input, each of `rows * row_len` values, row by row.
    pub inputs: &'a [&'a [f32]],
    /// Under [`Cut::Elements`] 1; otherwise the number of whole vectors.
    pub rows: usize,
    /// Under [`Cut::Elements`] the number of elements; otherwise the length of a vector.
    pub row_len: usize,
    /// Flat index in the tensor of the leaf's first element.
    pub start: u64,
    /// Flat distance between the first elements of neighbouring rows.
    pub row_step: u64,
    /// Flat distance between neighbouring elements of a row; 1 unless vectors are strided.
    pub col_step: u64,
}

impl Leaf<'_> {
    /// Number of elements in the leaf.
    pub fn n_elements(&self) -> usize {
        self.rows * self.row_len
    }
}

/// Buffers that a thread's kernels use again from leaf to leaf.
#[derive(Default)]
pub struct Scratch {
    vectors: Vec<Vec<f32>>,
    drawing: task_vector::Drawing,
}

/// Arithmetic in progress on one tensor: zero or more passes that gather, then one that emits.
///
/// The caller may work on leaves in any order and on any number of threads; results are the same,
/// since sums come back in leaf order and counts are exact.
pub trait Kernel: Sync {
    /// What the next pass must collect, or `None` when `emit` may be called.
    fn next_pass(&self) -> Option<Pass> {
        None
    }

    /// Whether leaves may come in pieces of whole rows, first to last: `gather` then adds to the sums of
    /// the pieces before, and `emit` does not care. A piece ends at a multiple of 8 elements, or of a row,
    /// or with its leaf.
    fn takes_pieces(&self) -> bool {
        false
    }

    /// Adds what a leaf holds. `sums` arrive zeroed and are the leaf's own; `counts` are shared by
    /// many leaves and must only be added to.
    fn gather(&self, _leaf: &Leaf<'_>, _sums: &mut [f64], _counts: &mut [u64], _scratch: &mut Scratch) {}

    /// Ends a pass. `sums` holds `Pass::sums` values a leaf, leaf after leaf.
    ///
    /// # Errors
    /// Says what makes the result undefined, such as weights that add up to zero.
    fn absorb(&mut self, _sums: &[f64], _counts: &[u64]) -> Result<(), String> {
        Ok(())
    }

    /// Computes the leaf's result, before rounding to the output dtype.
    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], scratch: &mut Scratch);
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
        for param in all_params() {
            assert!(all_params().all(|other| other.name != param.name || other.kind == param.kind));
        }
    }
}
