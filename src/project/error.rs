//! Why something could not be done, whatever layer it failed in.

use std::io;
use std::path::PathBuf;

use crate::build::BuildError;
use crate::error::ErrorClass;
use crate::model::ModelError;
use crate::output::OutputError;
use crate::store::StoreError;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    #[error("cannot read {}", path.display())]
    Recipe { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(
        "build {number} cannot be written out again: stage `{stage}`, tensor `{tensor}` would be made of other bytes than it was then"
    )]
    NotRepeated { number: u64, stage: String, tensor: String },
    #[error("model `{model}` was not found; looked in:{}", lines(tried))]
    NoModel { model: String, tried: Vec<PathBuf> },
    #[error("cannot start {jobs} threads")]
    Threads { jobs: usize, source: rayon::ThreadPoolBuildError },
}

fn lines(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("\n  {}", path.display())).collect()
}

impl From<BuildError> for ProjectError {
    fn from(error: BuildError) -> Self {
        Self::Output(error.into())
    }
}

impl ProjectError {
    /// Whose trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Recipe { .. } => ErrorClass::Recipe,
            Self::Model(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Output(error) => error.class(),
            Self::NotRepeated { .. } | Self::NoModel { .. } => ErrorClass::Data,
            Self::Threads { .. } => ErrorClass::System,
        }
    }

    /// What is wrong with the store's index, if that is the trouble.
    pub fn damage(&self) -> Option<&str> {
        match self {
            Self::Store(error) | Self::Output(OutputError::Build(BuildError::Store(error))) => match error {
                StoreError::Damaged { problem, .. } => Some(problem),
                _ => None,
            },
            _ => None,
        }
    }
}
