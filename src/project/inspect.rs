//! Looking at single models.

use std::sync::Arc;

use rayon::prelude::*;

use super::error::ProjectError;
use super::settings::Project;
use crate::build::Bytes;
use crate::digest::Digest;
use crate::model::ModelError;
use crate::model::checkpoint::Checkpoint;
use crate::reference::ModelRef;

impl Project {
    /// Finds and opens a model.
    ///
    /// # Errors
    /// [`ProjectError::NoModel`] if it is nowhere, [`ProjectError::Model`] if it cannot be used.
    pub fn model(&self, reference: &ModelRef) -> Result<Checkpoint, ProjectError> {
        let dir = self.places.find(reference).map_err(|missing| {
            let tried = missing.tried;
            ProjectError::NoModel { model: reference.to_string(), tried }
        })?;
        Ok(Checkpoint::open(&dir)?)
    }
}

/// Reads every tensor of a checkpoint: their digests, in the order of its names.
///
/// # Errors
/// If one cannot be read.
pub fn digests(checkpoint: &Checkpoint) -> Result<Vec<Digest>, ProjectError> {
    let names: Vec<&str> = checkpoint.names().collect();
    let digest = |name: &&str| -> Result<Digest, ModelError> {
        let shard = checkpoint.shard_of(name).expect("the name is listed");
        Bytes::source(Arc::clone(shard), name).digest()
    };
    Ok(names.par_iter().map(digest).collect::<Result<_, _>>()?)
}
