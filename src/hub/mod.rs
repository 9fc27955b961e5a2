//! The Hugging Face hub: what a model holds there, its files fetched into the cache that Python's tools share, and
//! parts of them without fetching all.
//!
//! | file | is about |
//! | --- | --- |
//! | `settings` | where the hub is, who asks it, and what may be asked |
//! | `cache` | the folder that fetched files are kept in |
//! | `client` | the hub, ready to be asked |
//! | `file`, `want` | a file that the hub lists; one that is wanted, and whether what comes can be it |
//! | `snapshot` | what a model holds at one commit |
//! | `http` | requests: tokens, redirections, what is tried again |
//! | `download` | many files at once, in segments, each checked and put in place |
//! | `part` | one file while it is fetched |
//! | `ranges` | some bytes of a file, kept nowhere |
//!
//! The layout of the cache and the answers of the server are those of `huggingface_hub` 2.

mod cache;
mod client;
mod download;
mod error;
mod file;
mod http;
mod part;
mod ranges;
mod settings;
mod snapshot;
mod want;

pub use cache::{ModelFolder, commit_of, is_commit};
pub use client::Hub;
pub use error::HubError;
pub use file::HubFile;
pub use settings::{Settings, Token};
pub use snapshot::Snapshot;
pub use want::Want;
