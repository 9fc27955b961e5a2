//! Why an output directory could not be written.

use std::io;
use std::path::{Path, PathBuf};

use super::names::LOCKFILE;
use crate::build::BuildError;
use crate::error::ErrorClass;
use crate::model::ModelError;
use crate::store::StoreError;

/// Why an output directory could not be written. What was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} would differ from its lockfile: {}", path.display(), shorten(differences))]
    NotLocked { path: PathBuf, differences: Vec<String> },
    #[error("cannot use {}: {problem}", path.display())]
    Lockfile { path: PathBuf, problem: String },
    #[error("{}: {problem}", path.display())]
    Tokenizer { path: PathBuf, problem: String },
    #[error("{} contains files that lamarck did not write; it was left unchanged", path.display())]
    Occupied { path: PathBuf },
    #[error("{} is neither a file nor a link, but the model needs a file of that name", path.display())]
    InTheWay { path: PathBuf },
    #[error("{} is also read by this build, as the model {}", path.display(), model.display())]
    IsSource { path: PathBuf, model: PathBuf },
    #[error("{} is inside the cache {}", path.display(), cache.display())]
    InCache { path: PathBuf, cache: PathBuf },
    #[error("cannot write a model to {}: {problem}", path.display())]
    Unusable { path: PathBuf, problem: &'static str },
}

/// The first differences, and how many more there are.
fn shorten(differences: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = differences.len().saturating_sub(SHOWN);
    let shown = differences[..differences.len().min(SHOWN)].join("; ");
    if more > 0 { format!("{shown}; and {more} more") } else { shown }
}

impl OutputError {
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whose trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Build(error) => error.class(),
            // Without its lockfile a folder is no output.
            Self::Io { path, source, .. }
                if source.kind() == io::ErrorKind::NotFound && path.ends_with(LOCKFILE) =>
            {
                ErrorClass::Data
            }
            Self::Io { .. } => ErrorClass::System,
            Self::NotLocked { .. }
            | Self::Lockfile { .. }
            | Self::Tokenizer { .. }
            | Self::Occupied { .. }
            | Self::InTheWay { .. }
            | Self::IsSource { .. }
            | Self::InCache { .. }
            | Self::Unusable { .. } => ErrorClass::Data,
        }
    }
}

impl From<ModelError> for OutputError {
    fn from(error: ModelError) -> Self {
        Self::Build(error.into())
    }
}

impl From<StoreError> for OutputError {
    fn from(error: StoreError) -> Self {
        Self::Build(error.into())
    }
}
