//! What an operation says of itself: its name, its fields, its result, and how it reaches its inputs.

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Range;

use crate::manifest::Sink;
use crate::methods::Operation;
use crate::tensor::{Dtype, Shape, TensorSpec};

/// A kind of work with all its parameters: tensors in, one result out.
pub trait Op: Send + Sync + Debug {
    /// Its name in keys and traces, which no other operation has.
    fn name(&self) -> &'static str;

    /// Part of every key: raised whenever the bytes that it makes change.
    fn version(&self) -> u32;

    /// Writes every field that can change the result's bytes, by name; those of one input as
    /// `inputs[i].name`, with i counting the action's inputs.
    fn write_fields(&self, sink: &mut dyn Sink);

    /// The dtype and shape of the result of such inputs.
    ///
    /// # Errors
    /// Says what about the inputs it cannot work with.
    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String>;

    /// How it reaches its inputs.
    fn access(&self) -> Access<'_>;
}

/// What is said of a result that is not finite where it is stored.
pub fn not_finite(dtype: Dtype) -> String {
    format!("the result is infinite or not a number as {dtype}")
}

/// How an operation reaches its inputs, which decides how it is carried out in bounded memory.
#[derive(Debug)]
pub enum Access<'a> {
    /// Leaf by leaf, all inputs side by side, which have one number of elements.
    Streaming(Streaming<'a>),
    /// Leaf by leaf over the first input, with the others in full beside it, from which the arithmetic is made.
    Beside(Beside<'a>),
    /// The result is rows of inputs, one run behind the other. No bytes are made: whoever reads the result
    /// reads its inputs.
    Rows(Cow<'a, [RowRun]>),
    /// All inputs in full, in memory.
    Whole(&'a dyn Whole),
    /// By digest alone: all inputs must hold the same bytes, which are the result.
    Digests,
}

/// Arithmetic on leaves.
#[derive(Clone, Copy, Debug)]
pub struct Streaming<'a> {
    pub operation: &'a dyn Operation,
    /// What inputs are rounded to before the arithmetic; `None` leaves them as stored.
    pub compute: Option<Dtype>,
}

/// Arithmetic on the leaves of one input that others, small ones, are needed for in full.
#[derive(Clone, Debug)]
pub struct Beside<'a> {
    pub prepare: &'a dyn Prepare,
    /// The shape in which the first input is cut into leaves; it has as many elements.
    pub shape: Shape,
}

/// Makes arithmetic from inputs.
pub trait Prepare: Sync + Debug {
    /// The arithmetic on the first input, given the others in their order. It holds no more than each of their
    /// elements as f32.
    fn prepare(&self, beside: &[Tensor<'_>]) -> Box<dyn Operation>;
}

/// Some neighbouring rows of an input, along its first axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRun {
    pub input: usize,
    pub rows: Range<usize>,
}

/// A tensor with its bytes, as stored.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    pub spec: &'a TensorSpec,
    pub bytes: &'a [u8],
}

/// Arithmetic that needs whole inputs.
pub trait Whole: Sync + Debug {
    /// Makes the result's bytes, of which `out` has room for just as many. All threads may share in it.
    ///
    /// # Errors
    /// Says what makes the result undefined.
    fn run(&self, inputs: &[Tensor<'_>], out: &mut [u8]) -> Result<(), String>;
}

/// What an input is to its operation, by a name that keys hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role(pub &'static str);

impl Role {
    /// What a method works relative to.
    pub const BASE: Self = Self("base");
    pub const MODEL: Self = Self("model");
    /// A part of what a checkpoint stores in several tensors.
    pub const PART: Self = Self("part");
    /// What quantised numbers are multiplied by.
    pub const SCALE: Self = Self("scale");
}
