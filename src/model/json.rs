//! JSON files that lie beside tensors.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use super::ModelError;
use super::download::{absent, has_name, lfs_pointer, unfinished};

/// Reads a file.
///
/// # Errors
/// If it is not there, cannot be read or is not JSON.
pub fn read(path: &Path) -> Result<Value, ModelError> {
    let problem = |problem| ModelError::Layout { path: path.to_owned(), problem };
    // A pipe could be read for ever.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(problem("is not a regular file".to_owned()));
    }
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound if has_name(path) || unfinished(path).is_some() => problem(absent(path)),
        _ => ModelError::io(path)(error),
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        problem(lfs_pointer(&bytes).unwrap_or_else(|| format!("is not valid JSON: {error}")))
    })
}

/// Reads a file that may be missing.
///
/// # Errors
/// If it is there and cannot be read or is not JSON.
pub fn read_if_there(path: &Path) -> Result<Option<Value>, ModelError> {
    match read(path) {
        Ok(value) => Ok(Some(value)),
        Err(ModelError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
