//! Where digests' bytes are held outside the store: in sources, and in outputs of earlier builds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::bytes::Bytes;
use super::error::BuildError;
use crate::digest::Digest;
use crate::identity::Identity;
use crate::model::checkpoint::{Checkpoint, open_file};
use crate::model::source_file::SourceFile;
use crate::store::range::{ExternalRange, FileRange};
use crate::store::snapshot::Snapshot;

/// What a build has come to know of files outside the store.
#[derive(Default)]
pub struct Outside {
    /// Source tensors by digest: a result that equals one is not kept a second time.
    sources: Mutex<HashMap<Digest, ExternalRange>>,
    /// Their files' absolute paths, by the paths that they were opened by.
    paths: Mutex<HashMap<PathBuf, PathBuf>>,
    /// Checkpoints that results are read from, by path.
    opened: Mutex<HashMap<PathBuf, Arc<dyn SourceFile>>>,
}

impl Outside {
    /// Notes that a range of a source holds a digest's bytes.
    pub fn note_source(&self, digest: Digest, shard: &dyn SourceFile, range: FileRange) {
        let mut paths = self.paths.lock().expect("no thread panics with it");
        if !paths.contains_key(shard.path()) {
            let Ok(path) = std::path::absolute(shard.path()) else { return };
            paths.insert(shard.path().to_owned(), path);
        }
        let mut sources = self.sources.lock().expect("no thread panics with it");
        sources.entry(digest).or_insert_with(|| ExternalRange { path: paths[shard.path()].clone(), range });
    }

    /// The source that holds a digest's bytes, if there is one whose stamps can be trusted.
    pub fn source(&self, digest: &Digest) -> Option<ExternalRange> {
        self.sources.lock().expect("no thread panics with it").get(digest).cloned()
    }

    /// Where a source or a finished output holds a digest's bytes, if the file is still in the state in which
    /// it did. Whoever reads them must check them.
    pub fn bytes(&self, digest: &Digest, snapshot: &Snapshot<'_>) -> Result<Option<Bytes>, BuildError> {
        let external = match self.source(digest) {
            Some(external) => Some(external),
            None => snapshot.external(digest)?,
        };
        let Some(ExternalRange { path, range }) = external else { return Ok(None) };
        let Some(shard) = self.open(&path).filter(|shard| shard.identity() == range.identity) else {
            return Ok(None);
        };
        Ok(Some(Bytes::Source { shard, offset: range.offset, n_bytes: range.n_bytes as usize }))
    }

    /// Of the shards that were opened here, those that were found to hold other bytes than the index
    /// remembers of them.
    pub fn suspects(&self) -> Vec<Identity> {
        let opened = self.opened.lock().expect("no thread panics with it");
        opened.values().filter(|shard| shard.is_suspect()).map(|shard| shard.identity()).collect()
    }

    /// `None` if it cannot be read.
    fn open(&self, path: &Path) -> Option<Arc<dyn SourceFile>> {
        let mut opened = self.opened.lock().expect("no thread panics with it");
        if let Some(shard) = opened.get(path) {
            return Some(Arc::clone(shard));
        }
        let shard = open_file(path).ok()?;
        opened.insert(path.to_owned(), Arc::clone(&shard));
        Some(shard)
    }
}

/// The range of a file that holds a checkpoint's tensor.
///
/// # Panics
/// If the checkpoint has no such tensor.
pub fn source_range(checkpoint: &Checkpoint, tensor: &str) -> FileRange {
    let shard = checkpoint.shard_of(tensor).expect("the tensor is one of the checkpoint's");
    let entry = &shard.tensors()[tensor];
    FileRange { identity: shard.identity(), offset: entry.offset, n_bytes: entry.spec.n_bytes() as u64 }
}
