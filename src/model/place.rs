//! Where the files of a checkpoint are: in its folder, or elsewhere.

use std::path::Path;
use std::sync::Arc;

use super::source_file::SourceFile;
use super::{ModelError, download};

/// Opens a file of tensors on a local disk.
pub type OpenFile = fn(&Path) -> Result<Arc<dyn SourceFile>, ModelError>;

/// Where the files of a checkpoint are. Small ones, config.json and the index among them, are always in its folder.
pub trait Place: Sync {
    /// Whether there is such a file of tensors, or such an index.
    fn has(&self, path: &Path) -> bool;

    /// Opens a file of tensors; `local` does for one that is in the folder.
    fn open(&self, path: &Path, local: OpenFile) -> Result<Arc<dyn SourceFile>, ModelError>;
}

/// All of them are in the checkpoint's folder.
pub struct OnDisk;

impl Place for OnDisk {
    fn has(&self, path: &Path) -> bool {
        download::has_name(path)
    }

    fn open(&self, path: &Path, local: OpenFile) -> Result<Arc<dyn SourceFile>, ModelError> {
        local(path)
    }
}
