//! Models and stages with an adapter applied: which of their tensors change, and what those read as.
//!
//! An update is arithmetic in f32 and rounded once, to the `dtype` of the stage that reads it, or else to the dtype of
//! the tensor that it changes. Every other tensor is that of the model or stage.

use std::collections::BTreeMap;

use super::catalog::Inventory;
use crate::model::adapter::{Base, Change, Changed, apply};
use crate::model::layout::Layout;
use crate::tensor::{Dtype, TensorSpec};

/// What is known of a model or stage with an adapter.
#[derive(Debug)]
pub struct AdaptedInventory {
    pub inventory: Inventory,
    /// The tensors that are not those of the model or stage.
    pub changes: BTreeMap<String, Changed>,
}

impl AdaptedInventory {
    /// Applies an adapter, whose configuration and tensors are given as those of a model.
    ///
    /// # Errors
    /// Everything about it that is wrong, not understood, or made for another model.
    pub fn new(base: &Inventory, adapter: &Inventory) -> Result<Self, Vec<String>> {
        let Inventory { tensors, views, config, .. } = base;
        let mut changes = apply(Base { tensors, views, config }, &adapter.config, &adapter.tensors)?;
        let mut inventory = base.clone();
        for (name, changed) in &mut changes {
            if changed.spec.dtype.is_eight_bits() {
                changed.spec.dtype = Dtype::Bf16;
            }
            inventory.tensors.insert(name.clone(), changed.spec.clone());
        }
        // A head of its own may have come.
        if !inventory.is_bare() {
            inventory.layout = Layout::infer(inventory.tensors.keys().map(String::as_str), &inventory.config);
        }
        Ok(Self { inventory, changes })
    }

    /// What a tensor is when a stage of this dtype reads it.
    pub fn spec(&self, tensor: &str, asked: Option<Dtype>) -> TensorSpec {
        let spec = self.inventory.tensors[tensor].clone();
        match (self.changes.get(tensor).map(|changed| &changed.change), asked) {
            (Some(Change::Whole { stored, .. }), Some(_)) => stored.clone(),
            (Some(Change::Updated { .. } | Change::Rows { .. }), Some(dtype)) => TensorSpec { dtype, ..spec },
            _ => spec,
        }
    }
}
