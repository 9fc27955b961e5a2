//! Looking at the store's folders.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// Whether there is something at a path. What cannot be looked at is not the same as nothing.
pub(super) fn is_there(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(StoreError::io("look for", path))
}

/// The paths of everything in a folder.
pub(super) fn read_dir(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(StoreError::io("list", dir))
}
