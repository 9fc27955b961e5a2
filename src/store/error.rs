//! Why the store cannot go on.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::ErrorClass;

/// Why the store cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the cache's index {} cannot be used", path.display())]
    Index { path: PathBuf, source: Box<redb::Error> },
    #[error("{} is locked by another process", path.display())]
    Locked { path: PathBuf },
    #[error("interrupted while waiting for another process")]
    Interrupted,
    #[error("{} is on a read-only file system, so results cannot be kept there", path.display())]
    ReadOnly { path: PathBuf },
    #[error("the cache's index {} is damaged ({problem})", path.display())]
    Damaged { path: PathBuf, problem: String },
}

impl StoreError {
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whose trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Io { .. } | Self::Index { .. } | Self::ReadOnly { .. } => ErrorClass::System,
            Self::Locked { .. } => ErrorClass::Lock,
            Self::Interrupted => ErrorClass::Interrupt,
            Self::Damaged { .. } => ErrorClass::Damage,
        }
    }
}
