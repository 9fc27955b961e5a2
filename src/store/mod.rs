//! The store: blobs named by digest, and an index from action keys to digests.
//!
//! The store knows digests and bytes, never recipes or tensors. Invariants:
//!
//! - A blob appears under its name complete and durable, and never changes afterwards.
//! - A key is committed only after the blob it names is durable. A crash at any instant leaves the
//!   old state or the new one, plus temporary files that the next opening removes.
//! - The index is never the truth about bytes: a hit is a key and a blob of the right size, checked
//!   against its digest when it is read. Anything less is a miss.
//! - No bytes are held twice: results that a source or a finished output holds have no blob, only a
//!   note of their place. Where that file is gone or changed, the result is made again.
//!
//! On disk, below the cache directory: `CACHEDIR.TAG`, `.gitignore`, and `v1/` with `index.redb`,
//! `blobs/ab/abcd...` (raw bytes, read-only) and `tmp/` (one locked folder per process).

pub mod blob;
pub mod guard;
pub mod index;
pub mod lock;
mod rows;
pub mod session;
pub mod sweep;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use blob::{BlobFile, Content, Lookup, SealedBlob};
use index::{ActionRow, ChecksumsRow, Index, MemoRow, Place, PlaceRow};
use lock::{StoreLock, Wait};
use session::Session;

use crate::digest::Digest;
use crate::disk::DirectWriter;
use crate::error::ErrorClass;
use crate::identity::Identity;

/// The version of everything below the cache directory; other versions' folders are left alone.
pub const STORE_VERSION: &str = "v1";

/// Marks a folder as a cache for backup programs.
const TAG_FILE: &str = "CACHEDIR.TAG";

/// The index's file.
const INDEX: &str = "index.redb";

/// Why the store cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the cache's index {} cannot be used", path.display())]
    Index { path: PathBuf, source: Box<redb::Error> },
    #[error("{} is locked by another process", path.display())]
    Locked { path: PathBuf },
    #[error("interrupted while waiting for another process")]
    Interrupted,
    #[error("{} is on a read-only file system, and there is something to keep", path.display())]
    ReadOnly { path: PathBuf },
    #[error("the cache's index {} is damaged ({problem})", path.display())]
    Damaged { path: PathBuf, problem: String },
}

impl StoreError {
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whose trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Io { .. } | Self::Index { .. } | Self::ReadOnly { .. } => ErrorClass::System,
            Self::Locked { .. } => ErrorClass::Lock,
            Self::Interrupted => ErrorClass::Interrupt,
            Self::Damaged { .. } => ErrorClass::Damage,
        }
    }
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    index: Index,
    /// Only a store opened for building can take new blobs.
    session: Option<Session>,
    /// Held as long as the store is open for building or for removing.
    _lock: Option<StoreLock>,
}

/// One finished action, ready to be kept.
#[derive(Debug)]
pub struct Finished {
    pub row: ActionRow,
    pub kept: Kept,
}

/// Where a result's bytes are kept.
#[derive(Debug)]
pub enum Kept {
    Blob(SealedBlob),
    /// Some file outside the store holds them already.
    Elsewhere(Place),
    /// Nowhere: the key alone is kept.
    Nowhere,
}

/// What the store takes room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub blobs: u64,
    pub blob_bytes: u64,
    pub index_bytes: u64,
    pub actions: u64,
    pub builds: u64,
}

impl Store {
    /// Opens the store below a cache directory for building, making it if need be. A store on a read-only
    /// file system is opened for looking, and serves what it has. A part of `memory` bytes goes to the index.
    pub fn open(cache: &Path, memory: u64, wait: Wait<'_>) -> Result<Self, StoreError> {
        match Self::open_to_write(cache, memory, wait, StoreLock::shared) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                let path = cache.to_owned();
                Self::open_existing(cache)?.ok_or(StoreError::Io { action: "create", path, source })
            }
            result => result,
        }
    }

    /// Opens an existing store for removing blobs; `None` if there is none yet.
    pub fn open_alone(cache: &Path, wait: Wait<'_>) -> Result<Option<Self>, StoreError> {
        if !is_there(&cache.join(STORE_VERSION))? {
            return Ok(None);
        }
        Self::open_to_write(cache, u64::MAX, wait, StoreLock::exclusive).map(Some)
    }

    fn open_to_write(
        cache: &Path,
        memory: u64,
        wait: Wait<'_>,
        lock: fn(&Path, Wait<'_>) -> Result<StoreLock, StoreError>,
    ) -> Result<Self, StoreError> {
        let root = cache.join(STORE_VERSION);
        let is_new = !cache.exists();
        fs::create_dir_all(root.join("blobs")).map_err(StoreError::io("create", &root))?;
        // A folder that was there before is its user's, who may keep other things in it.
        let is_marked = cache.join(TAG_FILE).exists();
        mark_as_cache(if is_new || is_marked { cache } else { &root })?;
        let lock = lock(&root, wait)?;
        let session = Session::start(&root.join("tmp"))?;
        let path = root.join(INDEX);
        Index::make(&path, session.dir())?;
        let index = Index::open(&path, memory)?;
        Ok(Self { root, index, session: Some(session), _lock: Some(lock) })
    }

    /// Opens an existing store for looking only; `None` if there is none yet.
    pub fn open_existing(cache: &Path) -> Result<Option<Self>, StoreError> {
        let root = cache.join(STORE_VERSION);
        let path = root.join(INDEX);
        if !is_there(&path)? {
            return Ok(None);
        }
        Ok(Some(Self { index: Index::open_for_reading(&path)?, root, session: None, _lock: None }))
    }

    /// Puts a damaged index aside, so that the next opening starts a new one. Blobs stay, and are found
    /// again as soon as the actions that made them have run. Another process may have been faster.
    pub fn set_index_aside(cache: &Path) -> Result<(), StoreError> {
        let path = cache.join(STORE_VERSION).join(INDEX);
        guard::put_aside(&path).map_err(StoreError::io("move away", &path))
    }

    /// Closes the store, and says if its index turns out to be damaged at that.
    pub fn close(self) -> Result<(), StoreError> {
        self.index.close()
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where a digest's blob is or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join("blobs").join(&name[..2]).join(name)
    }

    /// Whether a blob of this size is there; its bytes are not looked at.
    pub fn holds(&self, digest: &Digest, n_bytes: u64) -> bool {
        fs::symlink_metadata(self.blob_path(digest))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == n_bytes)
    }

    /// A blob's bytes, after checking them against the digest. A blob that is damaged is removed, so that
    /// whoever asked can make it again.
    pub fn read(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<Vec<u8>>, StoreError> {
        blob::read(&self.blob_path(digest), digest, n_bytes)
    }

    /// A blob's file, for what is too large for memory. Whoever reads it checks it, and removes it if it is
    /// damaged.
    pub fn open_blob(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<File>, StoreError> {
        blob::open(&self.blob_path(digest), n_bytes)
    }

    /// Removes a blob that was found damaged.
    pub fn remove_damaged<T>(&self, digest: &Digest) -> Result<Lookup<T>, StoreError> {
        blob::remove_damaged(&self.blob_path(digest))
    }

    /// Whether nothing can be kept here.
    pub fn is_read_only(&self) -> bool {
        self.session.is_none()
    }

    /// Makes an empty temporary file for a result.
    ///
    /// # Errors
    /// Also if the store is read-only.
    pub fn new_blob(&self) -> Result<BlobFile, StoreError> {
        BlobFile::create(self.session()?.dir())
    }

    /// Writes a result to a temporary file, unless it is in one.
    ///
    /// # Errors
    /// Also if the store is read-only.
    pub fn seal(&self, content: Content, writer: &mut DirectWriter) -> Result<SealedBlob, StoreError> {
        match content {
            Content::File(blob) => Ok(blob),
            Content::Bytes(bytes) => {
                let blob = self.new_blob()?;
                blob.write_past_cache(0, &bytes, writer)?;
                blob.seal()
            }
        }
    }

    /// Makes results durable, then names them, then commits their keys: in that order. A read-only store
    /// forgets what sources held, which costs another reading of them.
    ///
    /// # Errors
    /// Also if the store is read-only and there are results to keep.
    pub fn commit(
        &self,
        finished: Vec<Finished>,
        memo: Vec<MemoRow>,
        checksums: Vec<ChecksumsRow>,
    ) -> Result<(), StoreError> {
        if self.is_read_only() {
            return if finished.is_empty() { Ok(()) } else { self.session().map(|_| ()) };
        }
        let mut rows = Vec::with_capacity(finished.len());
        let (mut staged, mut places) = (Vec::new(), Vec::new());
        for Finished { row, kept } in finished {
            match kept {
                Kept::Blob(blob) if !self.holds(&row.digest, row.n_bytes) => {
                    staged.push((blob, self.blob_path(&row.digest)));
                }
                Kept::Elsewhere(place) => places.push((row.digest, place)),
                Kept::Blob(_) | Kept::Nowhere => {}
            }
            rows.push(row);
        }
        blob::publish(&self.root, staged)?;
        self.index.commit(&rows, &memo, &places, &checksums)
    }

    /// Forgets what a file held, as it may not hold that any more though its stamps say so.
    pub fn forget(&self, file: &Identity) -> Result<(), StoreError> {
        if self.is_read_only() { Ok(()) } else { self.index.forget(file) }
    }

    /// Makes blobs of finished files.
    pub fn publish(&self, files: Vec<(Digest, SealedBlob)>) -> Result<(), StoreError> {
        let named = files.into_iter().map(|(digest, file)| (file, self.blob_path(&digest)));
        blob::publish(&self.root, named.collect())
    }

    /// Gives up blobs whose bytes are held elsewhere, after noting where; remembers ranges and the actions
    /// that made them.
    pub fn hand_over(
        &self,
        rows: Vec<ActionRow>,
        memo: Vec<MemoRow>,
        places: Vec<PlaceRow>,
    ) -> Result<(), StoreError> {
        if self.is_read_only() {
            return Ok(());
        }
        self.index.commit(&rows, &memo, &places, &[])?;
        for (digest, _) in &places {
            sweep::remove(&self.blob_path(digest))?;
        }
        Ok(())
    }

    /// Counts blobs and bytes.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut usage = self.index.usage()?;
        for blob in self.blobs()? {
            usage.blobs += 1;
            usage.blob_bytes += blob.n_bytes;
        }
        Ok(usage)
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn session(&self) -> Result<&Session, StoreError> {
        self.session.as_ref().ok_or_else(|| StoreError::ReadOnly { path: self.root.clone() })
    }
}

/// Whether there is something at a path. What cannot be looked at is not the same as nothing.
fn is_there(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(StoreError::io("look for", path))
}

fn read_dir(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(StoreError::io("list", dir))
}

/// Tells backup programs and git to pass over the cache.
fn mark_as_cache(cache: &Path) -> Result<(), StoreError> {
    const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache made by lamarck; it can be deleted.\n";
    for (name, text) in [(TAG_FILE, TAG), (".gitignore", "*\n")] {
        let path = cache.join(name);
        if !path.exists() {
            fs::write(&path, text).map_err(StoreError::io("write", &path))?;
        }
    }
    Ok(())
}
