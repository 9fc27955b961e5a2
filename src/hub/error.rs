//! Why something could not be had from the hub.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::ErrorClass;

/// Why something could not be had from the hub. Every message names the model or the address.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("{model} is not on this machine in full, and {because} keeps lamarck from asking the hub")]
    Offline { model: String, because: &'static str },
    #[error("the hub at {endpoint} has no model `{model}`, or keeps it private")]
    NoModel { model: String, endpoint: String },
    #[error("`{model}` has no revision `{revision}` on the hub")]
    NoRevision { model: String, revision: String },
    #[error("the hub gives `{model}` only to those who have been granted access to it{}", told(message))]
    Gated { model: String, message: String },
    #[error("the hub refuses `{model}`{}", told(message))]
    Refused { model: String, message: String },
    #[error("`{model}` has no file {file} on the hub")]
    NoFile { model: String, file: String },
    #[error("{address} could not be reached: {problem}")]
    Unreachable { address: String, problem: String },
    #[error("{address} answered with status {status}{}", told(message))]
    Answer { address: String, status: u16, message: String },
    #[error("{address} gave an answer that makes no sense: {problem}")]
    Malformed { address: String, problem: String },
    #[error(
        "`{model}`: {file} has {said} bytes by the hub's list, and {got} by the answer; nothing of it was kept"
    )]
    Length { model: String, file: String, said: u64, got: u64 },
    #[error(
        "`{model}`: the bytes that came of {file} are not those that the hub names (by their {by}); nothing of them was kept"
    )]
    Digest { model: String, file: String, by: &'static str },
    /// Something else failed for good before, and said this.
    #[error("{0}")]
    GivenUp(String),
    #[error("{} more bytes are to be fetched into {}, which has room for {free}", needed, dir.display())]
    Space { dir: PathBuf, needed: u64, free: u64 },
    #[error("cannot read the certificates in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("interrupted; what was fetched is kept, and the next run goes on from there")]
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
            Self::Offline { .. } => "run once without it, or fetch the models with `lamarck fetch`".to_owned(),
            Self::NoModel { .. } => {
                "look at the name; for a private model, set HF_TOKEN or run `hf auth login`".to_owned()
            }
            Self::Gated { model, .. } => format!(
                "ask for access on the model's page (https://huggingface.co/{model}), then set HF_TOKEN or run `hf auth login`"
            ),
            Self::Refused { .. } => "look at HF_TOKEN, or run `hf auth login` anew".to_owned(),
            Self::Unreachable { .. } => {
                "look at the connection (proxies are taken from HTTPS_PROXY, HF_ENDPOINT names another hub); what was fetched is kept"
                    .to_owned()
            }
            Self::Digest { .. } | Self::Length { .. } => {
                "run again; if it stays so, the hub or something between it and this machine changes what is sent".to_owned()
            }
            Self::Space { .. } => {
                "make room, set HF_HUB_CACHE to a larger disk, or build with --stream, which keeps no model".to_owned()
            }
            _ => return None,
        })
    }
}
