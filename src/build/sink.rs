//! Where final results go: straight into the files that will hold them, instead of through the store.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::bytes::FilePart;
use super::error::BuildError;
use crate::digest::Digest;
use crate::disk::{self, DirectWriter};
use crate::plan::NodeId;
use crate::store::Store;
use crate::store::blob::SealedBlob;

/// Whoever writes the outputs of a build, as the build sees it.
pub trait OutputSink: Sync {
    /// The place that waits for a node's bytes, if there is one.
    fn slice(&self, node: NodeId) -> Result<Option<FileSlice>, BuildError>;
}

/// A range of a file that nobody else has been told of yet.
#[derive(Clone, Debug)]
pub struct FileSlice {
    pub path: PathBuf,
    /// For blocks that come from several threads.
    pub file: Arc<File>,
    /// The same file, for whole results that one thread writes past the page cache.
    pub direct: Arc<File>,
    pub offset: u64,
    pub n_bytes: usize,
}

impl FileSlice {
    /// Writes bytes at an offset from the slice's start. Writers of separate ranges may run at the same
    /// time.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), BuildError> {
        let write = || {
            disk::fail_point("write", &self.path)?;
            self.file.write_all_at(bytes, self.offset + offset)
        };
        write().map_err(self.failed("write"))
    }

    /// Writes the whole slice. Only for one thread of the process.
    pub fn write_all(&self, bytes: &[u8], writer: &mut DirectWriter) -> Result<(), BuildError> {
        let mut write = || {
            disk::fail_point("write", &self.path)?;
            writer.write_all_at(&self.direct, bytes, self.offset)
        };
        write().map_err(self.failed("write"))
    }

    /// The slice, to be read; it must not be written any more.
    pub fn part(&self) -> FilePart {
        let Self { path, file, offset, n_bytes, direct: _ } = self;
        FilePart {
            path: path.clone(),
            file: Arc::clone(file),
            offset: *offset,
            n_bytes: *n_bytes,
            is_own: true,
        }
    }

    /// Copies the slice's bytes into the store, if they are those of a digest.
    pub fn rescue(&self, digest: Digest, store: &Store) -> Result<Option<SealedBlob>, BuildError> {
        const BLOCK: usize = 1 << 20;
        let blob = store.new_blob()?;
        let (mut hasher, mut block) = (blake3::Hasher::new(), vec![0; BLOCK.min(self.n_bytes)]);
        for start in (0..self.n_bytes).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(self.n_bytes - start)];
            let at = start as u64;
            self.file.read_exact_at(block, self.offset + at).map_err(self.failed("read"))?;
            hasher.update(block);
            blob.write_at(at, block)?;
        }
        if Digest::from(hasher.finalize()) == digest { Ok(Some(blob.seal()?)) } else { Ok(None) }
    }

    fn failed<'s>(&'s self, action: &'static str) -> impl FnOnce(io::Error) -> BuildError + 's {
        BuildError::io(action, &self.path)
    }
}
