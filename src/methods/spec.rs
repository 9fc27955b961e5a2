//! How a method declares itself: its inputs, its parameters, its documentation.

/// Which inputs of an action a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Resolved once per output tensor; settings of single models do not reach it.
    Shared,
    /// Resolved for every input, the base included.
    EachInput,
    /// Resolved for every input that is not the base.
    EachModel,
}

/// The type of a parameter's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    Flag,
}

/// A parameter's value for one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Always finite.
    Number(f64),
    Flag(bool),
}

impl Value {
    pub fn kind(self) -> Kind {
        match self {
            Self::Number(_) => Kind::Number,
            Self::Flag(_) => Kind::Flag,
        }
    }
}

/// What happens when no level of the recipe gives a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// The recipe must give one.
    Required,
    /// This value holds.
    Is(Value),
    /// The parameter stays without a value, and its step is left out.
    Absent,
}

/// One declared parameter.
#[derive(Debug)]
pub struct ParamSpec {
    pub name: &'static str,
    pub scope: Scope,
    pub kind: Kind,
    pub default: Default,
    /// Whether it can never change a byte (`int8_mask`): accepted without a warning, left out of keys.
    pub inert: bool,
    /// One sentence, shown by `lamarck methods NAME`.
    pub doc: &'static str,
}

/// Whether a method works relative to a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseRule {
    /// A base is needed; where it is listed among the models too, it is not an input of its own.
    Required,
    /// A base, if given, is an ordinary input.
    Ordinary,
}

/// How many inputs that are not the base a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub min: usize,
    pub max: Option<usize>,
}

/// What a method does when an input lacks an optional tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingRule {
    /// Merge the inputs that have it; the base must.
    MergeRest,
    /// A tensor that a single input has is copied from it.
    CopySingle,
    /// With fewer inputs than the method needs, the base's tensor is copied, or none is written.
    CopyBaseOrSkip,
}

/// Everything that is known of a method without running it.
#[derive(Debug)]
pub struct MethodSpec {
    /// The name in recipes, such as `della`.
    pub name: &'static str,
    /// Part of every action key: raised whenever the bytes that the method writes change.
    pub version: u32,
    /// One line for lists.
    pub summary: &'static str,
    /// The arithmetic in a few plain-text lines.
    pub formula: &'static str,
    /// The paper or page that it comes from.
    pub reference: &'static str,
    pub base: BaseRule,
    pub inputs: Count,
    pub missing: MissingRule,
    pub params: &'static [ParamSpec],
}

impl MethodSpec {
    pub fn param(&self, name: &str) -> Option<&'static ParamSpec> {
        self.params.iter().find(|param| param.name == name)
    }
}
