//! Why something could not be had from the hub.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::ErrorClass;

/// Why something could not be had from the hub. Every message names the model or the address.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error(
        "{model} is not completely on this machine, and {because} prevents lamarck from contacting the hub"
    )]
    Offline { model: String, because: &'static str },
    #[error("the hub at {endpoint} has no model `{model}`, or it is private")]
    NoModel { model: String, endpoint: String },
    #[error("`{model}` has no revision `{revision}` on the hub")]
    NoRevision { model: String, revision: String },
    #[error("the hub provides `{model}` only to users who have been granted access{}", told(message))]
    Gated { model: String, message: String },
    #[error("the hub refuses access to `{model}`{}", told(message))]
    Refused { model: String, message: String },
    #[error("`{model}` has no file {file} on the hub")]
    NoFile { model: String, file: String },
    #[error("{address} could not be reached: {problem}")]
    Unreachable { address: String, problem: String },
    #[error("{address} answered with status {status}{}", told(message))]
    Answer { address: String, status: u16, message: String },
    #[error("{address} sent an invalid answer: {problem}")]
    Malformed { address: String, problem: String },
    #[error(
        "`{model}`: the hub lists {file} with {said} bytes, but its answer has {got}; nothing of it was kept"
    )]
    Length { model: String, file: String, said: u64, got: u64 },
    #[error(
        "`{model}`: the downloaded bytes of {file} do not match the hub's {by}; nothing of them was kept"
    )]
    Digest { model: String, file: String, by: &'static str },
    /// Something else failed for good before, and said this.
    #[error("{0}")]
    GivenUp(String),
    #[error("{} more bytes must be downloaded into {}, which has room for {free}", needed, dir.display())]
    Space { dir: PathBuf, needed: u64, free: u64 },
    #[error("cannot read the certificates in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("interrupted; what was downloaded is kept, and the next run continues from there")]
    Interrupted,
}

fn told(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl HubError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }

    /// Whose trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Offline { .. }
            | Self::NoModel { .. }
            | Self::NoRevision { .. }
            | Self::Gated { .. }
            | Self::Refused { .. }
            | Self::NoFile { .. } => ErrorClass::Data,
            Self::Unreachable { .. }
            | Self::Answer { .. }
            | Self::Malformed { .. }
            | Self::Length { .. }
            | Self::Digest { .. }
            | Self::GivenUp(_) => ErrorClass::Remote,
            Self::Space { .. } | Self::Read { .. } | Self::Io { .. } => ErrorClass::System,
            Self::Interrupted => ErrorClass::Interrupt,
        }
    }

    /// What can be done about it, where that is known.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Offline { .. } => "run once without it, or download the models with `lamarck fetch`".to_owned(),
            Self::NoModel { .. } => {
                "check the name; for a private model, set HF_TOKEN or run `hf auth login`".to_owned()
            }
            Self::Gated { model, .. } => format!(
                "request access on the model's page (https://huggingface.co/{model}), then set HF_TOKEN or run `hf auth login`"
            ),
            Self::Refused { .. } => "check HF_TOKEN, or run `hf auth login` again".to_owned(),
            Self::Unreachable { .. } => {
                "check the connection (HTTPS_PROXY sets a proxy, HF_ENDPOINT another hub); what was downloaded is kept"
                    .to_owned()
            }
            Self::Digest { .. } | Self::Length { .. } => {
                "run again; if the error persists, the hub or something between it and this machine alters the data".to_owned()
            }
            Self::Space { .. } => {
                "make room, set HF_HUB_CACHE to a larger disk, or build with --stream, which keeps no model".to_owned()
            }
            _ => return None,
        })
    }
}
