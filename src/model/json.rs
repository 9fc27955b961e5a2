//! JSON files that lie beside tensors.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use super::ModelError;

/// Reads a file.
///
/// # Errors
/// If it is not there, cannot be read or is not JSON.
pub fn read(path: &Path) -> Result<Value, ModelError> {
    let bytes = fs::read(path).map_err(ModelError::io(path))?;
    serde_json::from_slice(&bytes).map_err(|error| ModelError::Layout {
        path: path.to_owned(),
        problem: format!("is not valid JSON: {error}"),
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
