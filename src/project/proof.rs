//! Holds an output directory to its lockfile.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::error::ProjectError;
use crate::build::Bytes;
use crate::model::ModelError;
use crate::model::checkpoint::Checkpoint;
use crate::output::lockfile::reading::{LockedTensor, Lockfile};

/// What in a directory is not as its lockfile says.
///
/// # Errors
/// If a file cannot be read that is there.
pub fn damage(dir: &Path, locked: &Lockfile) -> Result<Vec<String>, ProjectError> {
    let checkpoint = match Checkpoint::open(dir) {
        Ok(checkpoint) => checkpoint,
        Err(ModelError::Io { path, source }) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(ModelError::Io { path, source }.into());
        }
        Err(error) => return Ok(vec![error.to_string()]),
    };
    let mut problems: Vec<String> = checkpoint
        .names()
        .filter(|name| !locked.tensors.contains_key(*name))
        .map(|name| format!("tensor `{name}` is not in the lockfile"))
        .collect();
    let names: Vec<(&String, &LockedTensor)> = locked.tensors.iter().collect();
    let found: Vec<Option<String>> = names
        .par_iter()
        .map(|(name, tensor)| mismatch(&checkpoint, name, tensor))
        .collect::<Result<_, ModelError>>()?;
    problems.extend(found.into_iter().flatten());
    Ok(problems)
}

fn mismatch(
    checkpoint: &Checkpoint,
    name: &str,
    locked: &LockedTensor,
) -> Result<Option<String>, ModelError> {
    let (Some(spec), Some(shard)) = (checkpoint.spec(name), checkpoint.shard_of(name)) else {
        return Ok(Some(format!("tensor `{name}` is missing")));
    };
    if (spec.dtype.name(), &spec.shape.0[..]) != (locked.dtype.as_str(), &locked.shape[..]) {
        return Ok(Some(format!("tensor `{name}` has a different dtype or shape")));
    }
    let digest = Bytes::source(Arc::clone(shard), name).digest()?.to_string();
    Ok((digest != locked.blake3).then(|| format!("tensor `{name}` has different bytes")))
}
