//! The folder of an adapter, opened as one of a checkpoint is.

use std::path::Path;

use crate::model::checkpoint::{Checkpoint, open_file};
use crate::model::place::Place;
use crate::model::{ModelError, json};

/// Says what kind of adapter it is.
pub const CONFIG: &str = "adapter_config.json";

/// What may hold its tensors; the first that is there does.
const TENSORS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// Whether a folder looks like an adapter at all.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(CONFIG).is_file() || TENSORS.iter().any(|name| dir.join(name).is_file())
}

/// Whether an adapter's folder holds its tensors, too.
pub fn is_whole(dir: &Path) -> bool {
    TENSORS.iter().any(|name| dir.join(name).is_file())
}

/// Opens an adapter: its configuration and the names of its tensors. No tensor is read.
///
/// # Errors
/// If a file is missing or damaged.
pub fn open(dir: &Path, place: &dyn Place) -> Result<Checkpoint, ModelError> {
    let config = json::read(&dir.join(CONFIG))?;
    let Some(path) = TENSORS.iter().map(|name| dir.join(name)).find(|path| place.has(path)) else {
        let problem = format!("contains {CONFIG}, but neither {}", TENSORS.join(" nor "));
        return Err(ModelError::Layout { path: dir.to_owned(), problem });
    };
    Ok(Checkpoint::of_file(dir, config, place.open(&path, open_file)?))
}
