//! Why a build stops.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::ErrorClass;
use crate::model::ModelError;
use crate::store::StoreError;

/// Why a build stopped. What had been finished by then is kept.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("stage `{stage}`, tensor `{tensor}`: {problem}")]
    Arithmetic { stage: String, tensor: String, problem: String },
    #[error("{}: tensor `{tensor}` holds NaN or infinity, which cannot be merged", path.display())]
    NotFinite { path: PathBuf, tensor: String },
    #[error("{}: tensor `{tensor}` differs from the lockfile", path.display())]
    NotLocked { path: PathBuf, tensor: String },
    #[error(
        "stage `{stage}`, tensor `{tensor}`: the computed bytes differ from those of an earlier build with the same inputs; the memory, the processor or the cache is faulty"
    )]
    NotReproducible { stage: String, tensor: String },
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("interrupted; finished results are kept; build again to continue")]
    Interrupted,
    #[error("a thread that stores results panicked; results finished before are kept")]
    Panicked,
}

impl BuildError {
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whose trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            // What was there when the headers were read is the system's to keep.
            Self::Io { .. } | Self::Model(ModelError::Io { .. }) => ErrorClass::System,
            Self::Model(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Arithmetic { .. } | Self::NotFinite { .. } | Self::NotLocked { .. } => ErrorClass::Data,
            Self::Interrupted => ErrorClass::Interrupt,
            Self::NotReproducible { .. } | Self::Panicked => ErrorClass::Internal,
        }
    }
}
