//! Logical tensors: what a recipe calls a tensor of a model, made of what the checkpoint stores.
//!
//! Most are stored as they are. Others are an operation on stored ones: experts that lie apart and belong
//! together, a weight with a low-rank update.

use std::sync::Arc;

use crate::op::{Op, Role};
use crate::tensor::TensorSpec;

/// A tensor of a model, stored or made.
#[derive(Clone, Debug)]
pub struct LogicalTensor {
    pub spec: TensorSpec,
    pub view: View,
}

/// Where a logical tensor's bytes come from.
#[derive(Clone, Debug)]
pub enum View {
    /// The checkpoint stores it, under this name.
    Stored(String),
    /// An operation on others gives it.
    Made { op: Arc<dyn Op>, inputs: Vec<(Role, LogicalTensor)> },
}

impl View {
    /// The names of all stored tensors that it takes, in order.
    pub fn stored(&self) -> Vec<&str> {
        match self {
            Self::Stored(name) => vec![name],
            Self::Made { inputs, .. } => inputs.iter().flat_map(|(_, input)| input.view.stored()).collect(),
        }
    }
}
