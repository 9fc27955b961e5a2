//! What an adapter does to one tensor.

use crate::op::{Role, Rows, Update};
use crate::tensor::TensorSpec;

/// A tensor that an adapter changes, or adds.
#[derive(Debug)]
pub struct Changed {
    /// The shape of the result. Its dtype is that of what it takes the place of.
    pub spec: TensorSpec,
    pub change: Change,
}

/// How a tensor comes to be. Names of the adapter's tensors are those of its file.
#[derive(Debug)]
pub enum Change {
    /// The adapter holds it, as it is.
    Whole { key: String, stored: TensorSpec },
    /// It is what the model has under another name.
    OfModel(String),
    /// An update of a tensor by others, which are inputs 1 and up.
    Updated { base: BaseTensor, update: Update, beside: Vec<(Role, String)> },
    /// A tensor with some rows from another.
    Rows { base: String, rows: Rows, from: String },
}

/// The tensor beneath an update.
#[derive(Clone, Debug)]
pub enum BaseTensor {
    OfModel(String),
    /// The adapter brings its own.
    OfAdapter(String),
}
