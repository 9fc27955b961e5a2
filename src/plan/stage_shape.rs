//! What shaping gives: for each stage its tensors, of which dtype and shape, made of which tensors of its
//! inputs.

use std::collections::{BTreeMap, HashMap};
use std::ops::Index;
use std::sync::Arc;

use super::adapted::AdaptedInventory;
use super::catalog::{Inventory, Model, ModelId, model_id};
use super::rows::{Alignment, RowCount};
use super::segments::Segment;
use crate::model::tokenizer::Tokens;
use crate::recipe::Reference;
use crate::tensor::{Dtype, TensorSpec};

/// A stage with its tensors named and typed.
#[derive(Debug)]
pub struct StageShape<'r> {
    pub segments: Vec<Segment<'r>>,
    pub outputs: BTreeMap<String, OutputTensor<'r>>,
    /// What the stage looks like to a stage that reads it.
    pub inventory: Inventory,
    pub donor: ModelId,
    pub tokenizer: ModelId,
    /// The output's tokens, where the tokenizer's files must be rewritten for them.
    pub remade: Option<Arc<Tokens>>,
    /// What becomes of the rows of embeddings and heads that are remapped.
    pub rows: BTreeMap<String, Vec<RowCount>>,
    /// Replaces the tokenizer's own chat template.
    pub chat_template: Option<String>,
}

/// One output tensor and where it comes from.
#[derive(Clone, Debug)]
pub struct OutputTensor<'r> {
    pub spec: TensorSpec,
    /// The number of the segment that governs it.
    pub segment: usize,
    /// Position in the segment's layers, from 0 to 1.
    pub t: f64,
    pub parts: Vec<Part>,
    /// Copied from its single part, because the other inputs lack it.
    pub copied: bool,
    /// Where the rows of its parts come from, where they are remapped.
    pub alignment: Option<Alignment<'r>>,
}

/// An input's tensor that an output tensor is made of.
#[derive(Clone, Debug)]
pub struct Part {
    /// The source's number in its segment, which is its position in the recipe.
    pub source: usize,
    pub tensor: String,
    /// Its dtype and shape, after its rows are remapped.
    pub spec: TensorSpec,
}

/// Shapes by stage number; stages that are not needed have none.
#[derive(Debug)]
pub struct Shapes<'r> {
    pub stages: Vec<Option<StageShape<'r>>>,
    /// Every reference to a model or stage with an adapter.
    pub adapted: HashMap<&'r Reference, AdaptedInventory>,
}

impl<'r> Index<usize> for Shapes<'r> {
    type Output = Option<StageShape<'r>>;

    fn index(&self, stage: usize) -> &Self::Output {
        &self.stages[stage]
    }
}

/// What is known of a reference's tensors.
pub fn inventory_of<'a>(models: &'a [Model], shapes: &'a Shapes<'_>, reference: &Reference) -> &'a Inventory {
    match reference {
        Reference::Model(model) => &models[model_id(models, model).0].inventory,
        Reference::Stage(stage) => {
            &shapes[stage.0].as_ref().expect("stages are shaped behind those they read").inventory
        }
        Reference::Adapted(_) => &shapes.adapted[reference].inventory,
    }
}

/// Whether reading a tensor as `compute` and writing it as `output` keeps its bytes.
pub fn keeps_bytes(stored: Dtype, compute: Option<Dtype>, output: Dtype) -> bool {
    output == stored && compute.is_none_or(|compute| stored.fits_in(compute))
}
