//! One file of a model on the hub, as the hub lists it.

use std::path::{Component, Path};

/// One file of a model on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// Its place in the model's folder.
    pub path: String,
    pub size: u64,
    /// The SHA-1 of git's blob: of the file, or of what stands for a large one.
    pub git: String,
    /// The SHA-256 of a large file.
    pub sha256: Option<String>,
}

impl HubFile {
    /// What its blob is called in the cache, and what its bytes are checked against.
    pub fn etag(&self) -> &str {
        self.sha256.as_deref().unwrap_or(&self.git)
    }

    /// Whether it stays in the model's folder, and its blob in the cache.
    pub fn is_sound(&self) -> bool {
        let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
        is_inside(&self.path)
            && !self.path.chars().any(|c| c.is_control() || c == '\\')
            && is_hex(&self.git, 40)
            && self.sha256.as_deref().is_none_or(|sha256| is_hex(sha256, 64))
    }
}

/// Whether a path leads to something below the folder that it starts from.
pub fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}
