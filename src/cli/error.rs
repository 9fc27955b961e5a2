//! Errors of the command line, and the exit code of each.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::findings::Source;
use super::words::{listed, plural};
use crate::build::BuildError;
use crate::error::ErrorClass;
use crate::hub::HubError;
use crate::output::OutputError;
use crate::project::ProjectError;
use crate::recipe::Finding;
use crate::store::StoreError;

/// The recipe or the data is wrong.
pub const WRONG: u8 = 1;
/// The command was typed wrongly.
pub const USAGE: u8 = 2;
/// The cache is damaged.
pub const DAMAGED: u8 = 3;
/// No space, or reading or writing failed.
pub const IO: u8 = 4;
/// Another process holds a lock, and waiting was not wanted.
pub const LOCKED: u8 = 5;
/// The hub could not be reached, or gave what cannot be used.
pub const UNREACHABLE: u8 = 6;
/// `plan --exit-code` found work, or `diff --exit-code` a difference.
pub const WORK: u8 = 10;
/// Ctrl-C; other signals end with codes of their own.
pub const INTERRUPTED: u8 = 130;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Findings were printed already.
    #[error("{0}")]
    Findings(String),
    #[error("{0}")]
    Usage(String),
    /// The findings are yet to be told.
    #[error("{} has {} error{}", file.name, findings.len(), plural(findings.len()))]
    Settings { file: Source, findings: Vec<Finding> },
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// A signal stopped the work.
    #[error("{message}")]
    Interrupted { message: String, code: u8 },
    #[error("cannot read {path}")]
    Config { path: String, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write the trace {}", path.display())]
    Trace { path: PathBuf, source: io::Error },
    /// Whoever read our output has had enough.
    #[error("the output was closed")]
    Pipe,
    #[error("cannot write to standard output")]
    Print(#[source] io::Error),
}

impl From<io::Error> for CliError {
    /// Only printing to standard output goes through here.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Pipe } else { Self::Print(error) }
    }
}

impl CliError {
    pub fn write(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Write { path: path.to_owned(), source }
    }

    pub fn trace(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Trace { path: path.to_owned(), source }
    }

    /// In one word, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::Findings(_) => "recipe",
            Self::Settings { .. } => "settings",
            Self::Config { .. } | Self::Write { .. } | Self::Trace { .. } | Self::Print(_) | Self::Pipe => {
                "system"
            }
            Self::Interrupted { .. } => "interrupt",
            Self::Project(error) => match error.class() {
                ErrorClass::Recipe => "recipe",
                ErrorClass::Data => "data",
                ErrorClass::Damage => "damage",
                ErrorClass::System => "system",
                ErrorClass::Remote => "remote",
                ErrorClass::Lock => "lock",
                ErrorClass::Interrupt => "interrupt",
                ErrorClass::Internal => "internal",
            },
        }
    }

    /// Whether it is about standard output, where nothing more can be said then.
    pub fn is_of_stdout(&self) -> bool {
        matches!(self, Self::Print(_) | Self::Pipe)
    }

    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Findings(_) | Self::Settings { .. } => WRONG,
            Self::Config { .. } | Self::Write { .. } | Self::Trace { .. } | Self::Print(_) => IO,
            Self::Pipe => 0,
            Self::Interrupted { code, .. } => *code,
            Self::Project(error) => code_of(error.class()),
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        if is_full(self) && !matches!(self, Self::Print(_)) {
            return Some("free some space and build again; finished work is kept".to_owned());
        }
        match self {
            Self::Project(ProjectError::NoRoom { .. }) => Some(
                "free some space, or choose folders on other disks with --cache and --out; `lamarck cache gc` lists what could go"
                    .to_owned(),
            ),
            Self::Project(ProjectError::Output(OutputError::Occupied { .. })) => {
                Some("choose another folder with --out, or move the files away".to_owned())
            }
            Self::Project(ProjectError::Output(OutputError::InTheWay { .. })) => {
                Some("move it away, or choose another folder with --out".to_owned())
            }
            Self::Project(ProjectError::Output(
                OutputError::IsSource { .. } | OutputError::InCache { .. },
            )) => Some("choose another folder with --out".to_owned()),
            Self::Project(ProjectError::NotAsked { tried, source, .. }) if !tried.is_empty() => {
                let places: Vec<String> = tried.iter().map(|dir| dir.display().to_string()).collect();
                let or = source.help().map_or_else(String::new, |help| format!("; or {help}"));
                Some(format!(
                    "looked for {}; name the folder that holds org/name with --models DIR or in lamarck.toml{or}",
                    listed(&places)
                ))
            }
            Self::Project(error) if error.of_hub().is_some() => error.of_hub().and_then(HubError::help),
            Self::Project(error) if error.damage().is_some() => {
                Some("the next build sets it aside and starts a new one".to_owned())
            }
            Self::Project(ProjectError::Store(StoreError::Locked { .. })) => {
                Some("without --no-wait, lamarck waits for it".to_owned())
            }
            Self::Project(
                ProjectError::Store(StoreError::Io { .. } | StoreError::ReadOnly { .. })
                | ProjectError::Output(OutputError::Build(BuildError::Store(StoreError::ReadOnly { .. }))),
            ) => Some("choose another cache with --cache or LAMARCK_CACHE".to_owned()),
            Self::Project(ProjectError::NotBuilt { command, .. }) => {
                Some(format!("`{command}` builds it; only what is in the cache is compared"))
            }
            Self::Project(ProjectError::Recipe { .. }) => Some("name a recipe file".to_owned()),
            _ => None,
        }
    }
}

/// The exit code of every class of errors.
fn code_of(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::Recipe | ErrorClass::Data | ErrorClass::Internal => WRONG,
        ErrorClass::Damage => DAMAGED,
        ErrorClass::System => IO,
        ErrorClass::Lock => LOCKED,
        ErrorClass::Remote => UNREACHABLE,
        ErrorClass::Interrupt => INTERRUPTED,
    }
}

/// Whether a full disk is at the bottom of an error.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        cause = error.source();
    }
    false
}
