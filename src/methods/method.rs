//! What a merge method is to those who plan with it.

use std::fmt::Debug;

use super::arguments::{ArgumentError, Arguments};
use super::operation::Operation;
use super::spec::MethodSpec;

/// A merge method, of which there is one value for as long as the program runs.
pub trait Method: Sync + Debug {
    /// What the method declares.
    fn spec(&'static self) -> &'static MethodSpec;

    /// Resolves arguments to the least work that gives the method's result.
    ///
    /// # Errors
    /// Says which parameter has a value that the method cannot work with, and why.
    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError>;
}

/// What an action comes down to once everything that cannot change its bytes is gone.
#[derive(Debug)]
pub enum Simplified {
    /// The result is this input's tensor (an index into [`Arguments::inputs`]).
    Input(usize),
    /// The result is computed from these inputs, in this order.
    Operation { operation: Box<dyn Operation>, inputs: Vec<usize> },
}
