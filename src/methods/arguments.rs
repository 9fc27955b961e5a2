//! What a method is given for one output tensor: values of its declared parameters, and its inputs.

use super::spec::Value;
use crate::kernels::stream::Stream;

/// The values of declared parameters, in the order of their names. Absent optional parameters have none.
#[derive(Clone, Debug, Default)]
pub struct Values(Vec<(&'static str, Value)>);

impl Values {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn insert(&mut self, name: &'static str, value: Value) {
        match self.place(name) {
            Ok(there) => self.0[there].1 = value,
            Err(between) => self.0.insert(between, (name, value)),
        }
    }

    pub fn get(&self, name: &str) -> Option<Value> {
        self.place(name).ok().map(|at| self.0[at].1)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by_key(&name, |(param, _)| *param)
    }

    /// Every value, with its parameter.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, Value)> {
        self.0.iter().copied()
    }

    /// A declared number.
    ///
    /// # Panics
    /// If the method declares no such number, or one that may be absent is.
    pub fn number(&self, name: &str) -> f64 {
        self.optional_number(name).unwrap_or_else(|| panic!("the number `{name}` has no value"))
    }

    /// A declared number that may be absent.
    ///
    /// # Panics
    /// If the method declares it as something else.
    pub fn optional_number(&self, name: &str) -> Option<f64> {
        self.get(name).map(|value| match value {
            Value::Number(number) => number,
            other => panic!("`{name}` is declared as a number, not {other:?}"),
        })
    }

    /// A declared whole number.
    ///
    /// # Panics
    /// If the method declares no such whole number, or one that may be absent is.
    pub fn integer(&self, name: &str) -> i64 {
        match self.get(name) {
            Some(Value::Integer(value)) => value,
            other => panic!("`{name}` is declared as a whole number, not {other:?}"),
        }
    }

    /// A declared flag.
    ///
    /// # Panics
    /// If the method declares no such flag.
    pub fn flag(&self, name: &str) -> bool {
        match self.get(name) {
            Some(Value::Flag(value)) => value,
            other => panic!("`{name}` is declared as a flag, not {other:?}"),
        }
    }
}

impl FromIterator<(&'static str, Value)> for Values {
    fn from_iter<I: IntoIterator<Item = (&'static str, Value)>>(values: I) -> Self {
        let mut all = Self::new();
        values.into_iter().for_each(|(name, value)| all.insert(name, value));
        all
    }
}

/// One input of an action, in the order of the recipe.
#[derive(Clone, Debug)]
pub struct InputArguments {
    /// Whether it is the stage's (or slice's) base, and the method works relative to one.
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
    /// The number of the base, if there is one.
    pub fn base(&self) -> Option<usize> {
        self.inputs.iter().position(|input| input.is_base)
    }

    /// The number of the base.
    ///
    /// # Panics
    /// If there is none; methods that ask for it require one.
    pub fn required_base(&self) -> usize {
        self.base().expect("the method requires a base")
    }

    /// The numbers of all inputs but the base, in order.
    pub fn models(&self) -> impl Iterator<Item = usize> {
        (0..self.inputs.len()).filter(|i| !self.inputs[*i].is_base)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_declared() {
        let values: Values =
            [("t", Value::Number(0.5)), ("k", Value::Integer(3)), ("each", Value::Flag(true))]
                .into_iter()
                .collect();
        assert_eq!((values.number("t"), values.integer("k"), values.flag("each")), (0.5, 3, true));
        assert_eq!((values.optional_number("t"), values.optional_number("scale")), (Some(0.5), None));
    }

    #[test]
    fn inputs_are_counted_with_and_without_a_base() {
        let input = |is_base| {
            let stream = Stream::derive(0, "stage", 0, "tensor");
            InputArguments { is_base, stream, values: Values::new() }
        };
        let arguments = |bases: &[bool]| Arguments {
            shared: Values::new(),
            inputs: bases.iter().map(|is_base| input(*is_base)).collect(),
        };
        let with = arguments(&[false, true, false]);
        assert_eq!((with.base(), with.models().collect::<Vec<_>>()), (Some(1), vec![0, 2]));
        let without = arguments(&[false, false]);
        assert_eq!((without.base(), without.models().collect::<Vec<_>>()), (None, vec![0, 1]));
    }
}
