//! Looking at single models.

use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use super::catalog::inventory;
use super::error::ProjectError;
use super::settings::Project;
use crate::build::Bytes;
use crate::digest::Digest;
use crate::model::ModelError;
use crate::model::checkpoint::Checkpoint;
use crate::model::view::{LogicalTensor, View};
use crate::op::{Access, RowRun, Tensor};
use crate::plan::AdaptedInventory;
use crate::reference::ModelRef;

impl Project {
    /// Finds and opens a model.
    ///
    /// # Errors
    /// [`ProjectError::NoModel`] if it is nowhere, [`ProjectError::Model`] if it cannot be used.
    pub fn model(&self, reference: &ModelRef) -> Result<Arc<Checkpoint>, ProjectError> {
        self.find_and_open(reference, false)
    }

    /// Finds an adapter and applies it to a model: its folder, and what is known of the result.
    ///
    /// # Errors
    /// [`ProjectError::NoModel`] if it is nowhere, [`ProjectError::Adapter`] if it does not fit the model.
    pub fn adapted(
        &self,
        model: &Checkpoint,
        adapter: &ModelRef,
    ) -> Result<(PathBuf, AdaptedInventory), ProjectError> {
        let opened = self.find_and_open(adapter, true)?;
        let path = opened.dir.clone();
        let (model, _) = inventory(model)?;
        let (opened, _) = inventory(&opened)?;
        match AdaptedInventory::new(&model, &opened) {
            Ok(found) => Ok((path, found)),
            Err(problems) => Err(ProjectError::Adapter { path, problems }),
        }
    }
}

/// Reads every tensor of a checkpoint: their digests, in the order of its names.
///
/// # Errors
/// If one cannot be read.
pub fn digests(checkpoint: &Checkpoint) -> Result<Vec<Digest>, ProjectError> {
    let names: Vec<&str> = checkpoint.names().collect();
    let stored = |name: &str| {
        let shard = checkpoint.shard_of(name).expect("the name is listed");
        Bytes::source(Arc::clone(shard), name)
    };
    let digest = |name: &&str| -> Result<Digest, ModelError> {
        match checkpoint.view(name) {
            None => stored(name).digest(),
            Some(view) => {
                let spec = checkpoint.spec(name).expect("the name is listed").clone();
                Ok(Digest::of(&made(&LogicalTensor { spec, view: view.clone() }, &stored)?))
            }
        }
    };
    Ok(names.par_iter().map(digest).collect::<Result<_, _>>()?)
}

/// A tensor's bytes as they are meant.
fn made(tensor: &LogicalTensor, stored: &dyn Fn(&str) -> Bytes) -> Result<Vec<u8>, ModelError> {
    let (op, inputs) = match &tensor.view {
        View::Stored(name) => return Ok(stored(name).in_full()?.into_owned()),
        View::Made { op, inputs } => (op, inputs),
    };
    let read: Vec<Vec<u8>> = inputs.iter().map(|(_, input)| made(input, stored)).collect::<Result<_, _>>()?;
    let inputs: Vec<Tensor<'_>> =
        inputs.iter().zip(&read).map(|((_, input), bytes)| Tensor { spec: &input.spec, bytes }).collect();
    match op.access() {
        Access::Whole(whole) => {
            let mut bytes = vec![0; tensor.spec.n_bytes()];
            whole.run(&inputs, &mut bytes).expect("the file's headers were checked");
            Ok(bytes)
        }
        Access::Rows(runs) => {
            let run = |RowRun { input, rows }: &RowRun| {
                let Tensor { spec, bytes } = inputs[*input];
                let row = bytes.len() / spec.shape.0[0].max(1);
                &bytes[rows.start * row..rows.end * row]
            };
            Ok(runs.iter().flat_map(run).copied().collect())
        }
        _ => unreachable!("files' own views are made of whole tensors or of rows"),
    }
}
