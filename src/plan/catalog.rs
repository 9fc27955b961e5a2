//! The catalog: the checkpoints that a recipe refers to, with what is known of each without reading a tensor.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::experts::Apart;
use crate::model::layout::Layout;
use crate::model::tokenizer::Vocabulary;
use crate::model::view::View;
use crate::op::Access;
use crate::reference::ModelRef;
use crate::tensor::TensorSpec;

/// The number of a checkpoint in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub usize);

/// A checkpoint that the recipe refers to.
#[derive(Clone, Debug)]
pub struct Model {
    pub reference: ModelRef,
    /// The commit of a model in a Hugging Face cache.
    pub commit: Option<String>,
    pub inventory: Inventory,
}

/// What is known of a checkpoint, or of a stage's result, without reading a tensor.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Every tensor by the name that recipes know it by.
    pub tensors: BTreeMap<String, TensorSpec>,
    /// Where tensors come from that are not stored under that name.
    pub views: BTreeMap<String, View>,
    pub layout: Layout,
    /// How it stores experts, if one by one; tensors are named as if it stored them together.
    pub apart: Option<Apart>,
    /// Null for a bare state dict.
    pub config: Value,
    /// The tokens, if any stage asks for a tokenizer.
    pub vocabulary: Option<Vocabulary>,
    /// generation_config.json, if an id in it may change.
    pub generation: Option<Value>,
    /// The model's chat template, if any stage asks for the most common one.
    pub chat_template: Option<String>,
}

impl Inventory {
    /// Whether it is a bare state dict: tensors of any names, which only meet tensors of the same names.
    pub fn is_bare(&self) -> bool {
        self.config.is_null()
    }

    /// What the tensors are called in files that are seen as one; none if it is stored as it is.
    pub fn pieces(&self, tensor: &str) -> Vec<String> {
        match (self.views.get(tensor), self.apart) {
            (Some(view @ View::Made { op, .. }), _) if matches!(op.access(), Access::Rows(_)) => {
                view.stored().into_iter().map(str::to_owned).collect()
            }
            (None, Some(apart)) => apart
                .stored(tensor, &self.tensors[tensor], &self.tensors)
                .into_iter()
                .flatten()
                .map(|(name, _)| name)
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// The number of a model in the list that the plan is made from.
///
/// # Panics
/// If the caller did not list every model of the recipe.
pub fn model_id(models: &[Model], reference: &ModelRef) -> ModelId {
    ModelId(models.iter().position(|model| model.reference == *reference).expect("every model is listed"))
}
