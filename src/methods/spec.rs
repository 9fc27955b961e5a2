//! How a method declares itself: its inputs, its parameters, its documentation.

use std::fmt;

use serde::Serialize;

use super::interval::Interval;

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

/// The type of a parameter's value, and which values of the type it takes.
///
/// Recipes are held to both when they are read. A gradient's values lie between those that it lists, to
/// within the rounding of an interpolation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Number(Interval),
    /// A whole number of at most 53 bits; gradients are rounded to the nearest one.
    Integer(Interval),
    Flag,
}

/// A parameter's value for one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Always finite.
    Number(f64),
    Integer(i64),
    Flag(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
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
    /// A value other than the default that shows in the result, whatever the examples of the method's other
    /// parameters do.
    pub example: Value,
    /// Whether it can never change a byte (`int8_mask`): accepted without a warning, left out of keys.
    pub inert: bool,
    /// One sentence, shown by `lamarck methods NAME`.
    pub doc: &'static str,
}

impl ParamSpec {
    /// Whether the parameter takes a value of its type.
    ///
    /// # Errors
    /// Says which values it takes.
    pub fn check(&self, value: Value) -> Result<(), String> {
        let (number, interval) = match (self.kind, value) {
            (Kind::Number(interval), Value::Number(number)) => (number, interval),
            (Kind::Integer(interval), Value::Integer(number)) => (number as f64, interval),
            (Kind::Flag, Value::Flag(_)) => return Ok(()),
            (kind, value) => panic!("`{}` is declared as {kind:?}, not {value:?}", self.name),
        };
        if interval.contains(number) {
            Ok(())
        } else {
            Err(format!("`{}` must be {interval}, not {value}", self.name))
        }
    }
}

/// What the base is to a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseRule {
    /// A base is needed; where it is listed among the models too, it is not an input of its own.
    Required,
    /// As if required where one is given; there may be none.
    Optional,
    /// A base, if given, is an ordinary input.
    Ordinary,
}

impl BaseRule {
    /// Whether there must be a base.
    pub fn is_required(self) -> bool {
        matches!(self, Self::Required)
    }

    /// Whether a base that is given stands apart from the models: what they are measured from, with no
    /// settings of its own.
    pub fn is_relative(self) -> bool {
        matches!(self, Self::Required | Self::Optional)
    }
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
    /// Whether it draws at random, so that the seed tells in its results.
    pub draws: bool,
    pub params: &'static [ParamSpec],
}

impl MethodSpec {
    pub fn param(&self, name: &str) -> Option<&'static ParamSpec> {
        self.params.iter().find(|param| param.name == name)
    }
}
