//! The read side of checkpoints: finding them, their headers, their layers, their bytes.

pub mod adapter;
pub mod checkpoint;
pub mod companions;
pub mod download;
pub mod experts;
pub mod gguf;
pub mod index;
pub mod json;
pub mod kinds;
pub mod layer_keys;
pub mod layout;
pub mod local_file;
pub mod locate;
pub mod naming;
pub mod nearby;
pub mod on_hub;
pub mod pickled;
pub mod place;
pub mod quantised;
pub mod safetensors;
pub mod source_file;
pub mod streamed_file;
pub mod tokenizer;
pub mod view;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::ErrorClass;
use crate::hub::HubError;

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
    #[error("the contents of {} are known only once all of it is on this machine; run `lamarck fetch` first", path.display())]
    Afar { path: PathBuf },
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error("{} changed while it was being read; nothing read from it was kept; build again", path.display())]
    Changed { path: PathBuf },
    #[error(
        "{}: tensor `{tensor}` changed since it was hashed; nothing computed from it was kept; build again", path.display()
    )]
    Differs { path: PathBuf, tensor: String },
    #[error(
        "a result that this build has just written reads back with different bytes; the memory or the disk is faulty"
    )]
    OwnFile,
}

impl ModelError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }

    /// Whose trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            // A file that a checkpoint should have and has not, or that is no text, is the checkpoint's fault.
            Self::Io { source, .. }
                if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) =>
            {
                ErrorClass::Data
            }
            Self::Io { .. } => ErrorClass::System,
            Self::Header { .. }
            | Self::Layout { .. }
            | Self::Tensor { .. }
            | Self::Afar { .. }
            | Self::Changed { .. }
            | Self::Differs { .. } => ErrorClass::Data,
            Self::Hub(error) => error.class(),
            Self::OwnFile => ErrorClass::Internal,
        }
    }
}
