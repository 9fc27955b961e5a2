//! Why something could not be done, whatever layer it failed in.

use std::io;
use std::path::PathBuf;

use crate::build::BuildError;
use crate::error::ErrorClass;
use crate::hub::HubError;
use crate::model::ModelError;
use crate::model::adapter::in_short;
use crate::output::OutputError;
use crate::store::StoreError;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// A recipe's file could not be read.
    #[error("cannot read {}", path.display())]
    Recipe {
        /// As the user named it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A checkpoint could not be read, or cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The store could not be opened, read or written, or others have it locked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A build failed or was stopped, or its output could not be put in place.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// An earlier build was to be written out or looked at again, and would not come out the same.
    #[error(
        "build {number} cannot be repeated: stage `{stage}`, tensor `{tensor}` would now be made from different bytes"
    )]
    NotRepeated {
        /// The earlier build, counted from 1.
        number: u64,
        /// The stage of the first difference, by name.
        stage: String,
        /// The tensor of that stage.
        tensor: String,
    },
    /// What an earlier build made cannot be looked at, for it would be made of other bytes today.
    #[error(
        "build {number} can no longer be compared: stage `{stage}`, tensor `{tensor}` would now be made from different bytes"
    )]
    OtherThanThen {
        /// The earlier build, counted from 1.
        number: u64,
        /// The stage of the first difference, by name.
        stage: String,
        /// The tensor of that stage.
        tensor: String,
    },
    /// Results that were asked for are not in the store: they were never made, or were removed.
    #[error(
        "{side} is not in the cache: there is no `{tensor}`{} made from its current models", and_more(*more)
    )]
    NotBuilt {
        /// What they are results of.
        side: String,
        /// The first tensor that is missing.
        tensor: String,
        /// How many there are beside it.
        more: usize,
        /// What makes them.
        command: String,
    },
    /// A model that was asked for by name is in none of the places.
    #[error("model `{model}` was not found; looked in:{}", lines(tried))]
    NoModel {
        /// The reference, without a `hub:` prefix.
        model: String,
        /// Where it could have been, in the order of looking.
        tried: Vec<PathBuf>,
    },
    /// A model is not on this machine in full, and the hub did not say what it has of it.
    #[error("`{model}` is not on this machine, and the hub cannot be asked")]
    NotAsked {
        /// The reference, without a `hub:` prefix.
        model: String,
        /// Where it could have been, in the order of looking; empty if a part of it is there.
        tried: Vec<PathBuf>,
        /// Why not.
        source: HubError,
    },
    /// An adapter cannot be applied to the model that it was asked for with.
    #[error("the adapter {} cannot be applied: {}", path.display(), in_short(problems))]
    Adapter {
        /// Its folder.
        path: PathBuf,
        /// Everything that is wrong with it.
        problems: Vec<String>,
    },
    /// A build would not fit on the disk.
    #[error(
        "{} has too little space: the build must write {needed} bytes ({}) there, but only {free} bytes ({}) are free",
        folder.display(), in_units(*needed), in_units(*free)
    )]
    NoRoom {
        /// The cache or an output's folder, whichever takes most.
        folder: PathBuf,
        /// Bytes that must be written to its file system.
        needed: u64,
        /// Bytes that can be.
        free: u64,
    },
    /// The system did not start the threads of a build.
    #[error("cannot start {}", threads(*jobs))]
    Threads {
        /// How many were asked for; 0 for one a core.
        jobs: usize,
        /// Why they did not start.
        source: rayon::ThreadPoolBuildError,
    },
}

fn and_more(n: usize) -> String {
    if n == 0 { String::new() } else { format!(" (nor {n} more tensor{})", if n == 1 { "" } else { "s" }) }
}

fn threads(jobs: usize) -> String {
    match jobs {
        0 => "one thread per core".to_owned(),
        1 => "1 thread".to_owned(),
        n => format!("{n} threads"),
    }
}

/// `1.3 GB`.
fn in_units(n_bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.iter().find(|(unit, _)| n_bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", n_bytes as f64 / *unit as f64),
        None => format!("{n_bytes} B"),
    }
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
            Self::NotAsked { source, .. } => source.class(),
            Self::NotRepeated { .. }
            | Self::OtherThanThen { .. }
            | Self::NotBuilt { .. }
            | Self::NoModel { .. }
            | Self::Adapter { .. } => ErrorClass::Data,
            Self::NoRoom { .. } | Self::Threads { .. } => ErrorClass::System,
        }
    }

    /// What the hub did not give, if that is the trouble.
    pub fn of_hub(&self) -> Option<&HubError> {
        match self {
            Self::NotAsked { source, .. } => Some(source),
            Self::Model(ModelError::Hub(error))
            | Self::Output(OutputError::Build(BuildError::Model(ModelError::Hub(error)))) => Some(error),
            _ => None,
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
