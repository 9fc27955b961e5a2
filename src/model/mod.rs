//! The read side of checkpoints: finding them, their headers, their layers, their bytes.

pub mod checkpoint;
pub mod experts;
pub mod header;
pub mod layout;
pub mod locate;
pub mod shard;
pub mod tokenizer;

use std::path::{Path, PathBuf};

/// Why a checkpoint cannot be used. Every message names the file and, where there is one, the tensor.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {problem}", path.display())]
    Header { path: PathBuf, problem: String },
    #[error("{}: {problem}", path.display())]
    Layout { path: PathBuf, problem: String },
    #[error("{}: tensor `{tensor}` {problem}", path.display())]
    Tensor { path: PathBuf, tensor: String, problem: String },
    #[error("{} changed while it was being read; nothing read from it was kept, build again", path.display())]
    Changed { path: PathBuf },
    #[error(
        "{}: tensor `{tensor}` changed since it was hashed; nothing computed from it was kept, build again", path.display()
    )]
    Differs { path: PathBuf, tensor: String },
    #[error(
        "a result that this build has just written holds other bytes when it is read; the memory or the disk is damaged"
    )]
    OwnFile,
}

impl ModelError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }
}
