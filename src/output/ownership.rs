//! Which files of an output directory lamarck wrote, and is free to replace or remove: those that its lock
//! file lists and that are, byte for byte, as they were written. Everything else is somebody else's.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::OutputError;
use super::files::regular;
use super::lockfile::reading::Lockfile;
use super::names::{CARD_FILE, LOCKFILE};
use super::{card, format};
use crate::build::Bytes;
use crate::digest::Digest;
use crate::model::safetensors;
use crate::store::StoreError;
use crate::store::range::FileRange;
use crate::store::snapshot::Snapshot;

/// Lamarck's own files in a directory, each as it was when it was found to be lamarck's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned(BTreeMap<String, Stamp>);

/// What tells one state of a file from another, but for links being made to it. Not the device, whose number may
/// be another after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Owned {
    /// Looks a directory over. Shards that the store remembers are not read.
    ///
    /// # Errors
    /// If the index cannot be read. A file that cannot be read is taken for somebody else's.
    pub fn of(dir: &Path, snapshot: &Snapshot<'_>) -> Result<Self, OutputError> {
        let mut owned = Self::default();
        let Ok(locked) = Lockfile::read(dir) else { return Ok(owned) };
        owned.note(dir, LOCKFILE);
        for (name, written) in &locked.files {
            // The lockfile is a file, too: a name that leads elsewhere is none of an output's.
            if Path::new(name).components().count() != 1 {
                continue;
            }
            let path = dir.join(name);
            let Some(before) = regular(&path) else { continue };
            let is_as_written = if format::is_weights(name) {
                is_shard_as_written(&path, written, &locked, snapshot)?
            } else {
                fs::read(&path).is_ok_and(|bytes| digest_of(name, &bytes).to_string() == *written)
            };
            if is_as_written {
                owned.0.insert(name.clone(), Stamp::of(&before));
            }
        }
        Ok(owned)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether a file in `dir` is lamarck's still: it has not changed since it was looked at.
    pub fn holds(&self, dir: &Path, name: &str) -> bool {
        let stamp = regular(&dir.join(name)).map(|metadata| Stamp::of(&metadata));
        stamp.is_some() && self.0.get(name).copied() == stamp
    }

    fn note(&mut self, dir: &Path, name: &str) {
        if let Some(metadata) = regular(&dir.join(name)) {
            self.0.insert(name.to_owned(), Stamp::of(&metadata));
        }
    }

    /// Takes all files of the given names for lamarck's, which wrote them just now.
    pub fn assume<'a>(dir: &Path, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut owned = Self::default();
        names.into_iter().for_each(|name| owned.note(dir, name));
        owned
    }
}

/// The digest by which a lockfile lists a file, a shard aside. Of the card it covers the generated parts.
pub(super) fn digest_of(name: &str, bytes: &[u8]) -> Digest {
    match std::str::from_utf8(bytes) {
        Ok(text) if name == CARD_FILE => Digest::of(card::generated(text).as_bytes()),
        _ => Digest::of(bytes),
    }
}

/// Whether a shard has the header that the lockfile lists and its tensors are the lockfile's, by the store's memory
/// or by reading them.
fn is_shard_as_written(
    path: &Path,
    header: &str,
    locked: &Lockfile,
    snapshot: &Snapshot<'_>,
) -> Result<bool, OutputError> {
    let Ok(shard) = safetensors::open(path) else { return Ok(false) };
    let start = shard.tensors().values().map(|entry| entry.offset).min().unwrap_or(shard.identity().size);
    let mut found = vec![0; usize::try_from(start).unwrap_or(0)];
    if shard.read_at(0, &mut found).is_err() || Digest::of(&found).to_string() != *header {
        return Ok(false);
    }
    for (tensor, entry) in shard.tensors() {
        let wanted = locked.tensors.get(tensor).and_then(|tensor| Digest::from_hex(&tensor.blake3));
        let (identity, n_bytes) = (shard.identity(), entry.spec.n_bytes() as u64);
        let range = FileRange { identity, offset: entry.offset, n_bytes };
        let remembered = snapshot.remembered(&range).map_err(|error: StoreError| OutputError::from(error))?;
        let digest = match remembered {
            Some(content) => Some(content.digest),
            None => Bytes::source(Arc::clone(&shard), tensor).digest().ok(),
        };
        if wanted.is_none() || digest != wanted {
            return Ok(false);
        }
    }
    Ok(true)
}
