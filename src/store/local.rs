//! The local store: the first tier, in the cache directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::blob::{self, BlobFile, Content, InFile, Lookup, SealedBlob};
use super::catch_panic;
use super::commit::{NewOutput, NewRows};
use super::error::StoreError;
use super::folder::{is_there, read_dir};
use super::index::Index;
use super::lock::{StoreLock, Wait};
use super::range::{ChecksumsRow, ExternalRow, MemoRow};
use super::session::Session;
use super::tier::{ActionCache, ActionRow, BesideRow, Cas, NewBlob};
use crate::digest::{ActionKey, Digest};
use crate::disk::DirectWriter;
use crate::identity::Identity;

/// The version of everything below the cache directory; other versions' folders are left alone.
pub const STORE_VERSION: &str = "v2";

/// Marks a folder as a cache for backup programs.
const TAG_FILE: &str = "CACHEDIR.TAG";

/// The index's file.
const INDEX: &str = "index.redb";

/// So many rows at least are looked up by one thread.
const MANY: usize = 64;

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

    /// Makes the cache's folder if there is none, marked as a cache, for what stands beside the store in it.
    pub fn make_folder(cache: &Path) -> Result<(), StoreError> {
        if cache.exists() {
            return Ok(());
        }
        fs::create_dir_all(cache).map_err(StoreError::io("create", cache))?;
        mark_as_cache(cache)
    }

    /// Where processes keep files in the making; those of processes that are gone are removed by the next one.
    pub fn temporary(cache: &Path) -> Vec<PathBuf> {
        vec![cache.join(STORE_VERSION).join("tmp")]
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

    /// The same, if nobody removes anything from it, which nobody begins to do as long as it is open.
    pub fn open_undisturbed(cache: &Path) -> Result<Option<Self>, StoreError> {
        if !is_there(&cache.join(STORE_VERSION).join(INDEX))? {
            return Ok(None);
        }
        let lock = match StoreLock::shared(&cache.join(STORE_VERSION), Wait::Refuse) {
            Err(StoreError::Locked { .. }) => return Ok(None),
            lock => lock?,
        };
        Ok(Self::open_existing(cache)?.map(|store| Self { _lock: Some(lock), ..store }))
    }

    /// Folders of earlier versions of the format below a cache directory. Nothing uses them any more.
    pub fn older_versions(cache: &Path) -> Result<Vec<PathBuf>, StoreError> {
        if !is_there(cache)? {
            return Ok(Vec::new());
        }
        let number = |name: &str| name.strip_prefix('v')?.parse::<u32>().ok();
        let is_older = |path: &PathBuf| {
            let version = path.file_name().and_then(|name| number(name.to_str()?));
            version.is_some_and(|version| Some(version) < number(STORE_VERSION)) && path.is_dir()
        };
        let mut older: Vec<PathBuf> = read_dir(cache)?.into_iter().filter(is_older).collect();
        older.sort();
        Ok(older)
    }

    /// Puts a damaged index aside, so that the next opening starts a new one. Blobs stay, and are found
    /// again as soon as the actions that made them have run. Another process may have been faster.
    pub fn set_index_aside(cache: &Path) -> Result<(), StoreError> {
        let path = cache.join(STORE_VERSION).join(INDEX);
        catch_panic::put_aside(&path).map_err(StoreError::io("move away", &path))
    }

    /// Closes the store, and says if its index turns out to be damaged at that.
    pub fn close(self) -> Result<(), StoreError> {
        self.index.close()
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where a digest's blob is or would be.
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join("blobs").join(&name[..2]).join(name)
    }

    /// Whether bytes of this digest and size are there; they are not looked at.
    pub fn holds(&self, digest: &Digest, n_bytes: u64) -> Result<bool, StoreError> {
        Ok(self.has_blob(digest, n_bytes) || matches!(self.open_packed(digest, n_bytes)?, Lookup::Found(_)))
    }

    fn has_blob(&self, digest: &Digest, n_bytes: u64) -> bool {
        fs::symlink_metadata(self.blob_path(digest))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == n_bytes)
    }

    /// Makes blobs that have no file yet durable, then names them: in that order.
    pub(super) fn put_blobs(&self, blobs: Vec<NewBlob>) -> Result<(), StoreError> {
        let mut staged = Vec::new();
        let mut writer = DirectWriter::default();
        for NewBlob { digest, n_bytes, content } in blobs {
            let sealed = self.seal(content, &mut writer)?;
            if !self.has_blob(&digest, n_bytes) {
                staged.push((sealed, self.blob_path(&digest)));
            }
        }
        blob::publish(&self.root, staged)
    }

    /// Removes bytes that were found damaged.
    pub fn remove_damaged<T>(&self, digest: &Digest) -> Result<Lookup<T>, StoreError> {
        let path = self.blob_path(digest);
        if fs::symlink_metadata(&path).is_ok() {
            return blob::remove_damaged(&path);
        }
        self.give_up_packed(digest)?;
        Ok(Lookup::Damaged)
    }

    /// Whether nothing can be kept here.
    pub fn is_read_only(&self) -> bool {
        self.session.is_none()
    }

    /// A place for a new index, in this process's folder.
    pub(super) fn new_index(&self) -> Result<PathBuf, StoreError> {
        Ok(self.session()?.dir().join("rewritten.redb"))
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

    /// Notes what files outside the store held, and what was made beside results. A read-only store forgets it, which
    /// costs another reading of them.
    pub fn note(
        &self,
        memo: &[MemoRow],
        external: &[ExternalRow],
        checksums: &[ChecksumsRow],
        beside: &[BesideRow],
    ) -> Result<(), StoreError> {
        if self.is_read_only() {
            return Ok(());
        }
        self.index.commit(&NewRows { memo, external, checksums, beside, ..NewRows::default() })
    }

    /// Forgets what a file held, as it may not hold that any more though its stamps say so.
    pub fn forget(&self, file: &Identity) -> Result<(), StoreError> {
        if self.is_read_only() { Ok(()) } else { self.index.forget(file) }
    }

    /// Notes what an output holds, and gives up what the store has of it.
    pub fn hand_over(&self, output: &NewOutput) -> Result<(), StoreError> {
        if self.is_read_only() {
            return Ok(());
        }
        let left = self.index.commit_output(output)?;
        self.remove_empty(&left)?;
        for (digest, _) in &output.external {
            blob::remove(&self.blob_path(digest))?;
        }
        Ok(())
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn session(&self) -> Result<&Session, StoreError> {
        self.session.as_ref().ok_or_else(|| StoreError::ReadOnly { path: self.root.clone() })
    }
}

impl ActionCache for Store {
    fn get_many(&self, keys: &[ActionKey]) -> Result<Vec<Option<(Digest, u64)>>, StoreError> {
        let snapshot = self.index.snapshot()?;
        keys.par_iter().with_min_len(MANY).map(|key| snapshot.action(key)).collect()
    }

    fn put(&self, rows: &[ActionRow]) -> Result<(), StoreError> {
        if !rows.is_empty() {
            self.session()?;
        }
        self.index.commit(&NewRows { actions: rows, ..NewRows::default() })
    }
}

impl Cas for Store {
    fn contains_many(&self, blobs: &[(Digest, u64)]) -> Result<Vec<bool>, StoreError> {
        blobs.iter().map(|(digest, n_bytes)| self.holds(digest, *n_bytes)).collect()
    }

    /// A digest's bytes, after checking them. Those that are damaged are removed, so that
    /// whoever asked can make it again.
    fn get(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<Vec<u8>>, StoreError> {
        match blob::read(&self.blob_path(digest), digest, n_bytes)? {
            Lookup::Missing => self.read_packed(digest, n_bytes),
            lookup => Ok(lookup),
        }
    }

    fn open(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<InFile>, StoreError> {
        match blob::open(&self.blob_path(digest), n_bytes)? {
            Lookup::Missing => self.open_packed(digest, n_bytes),
            lookup => Ok(lookup),
        }
    }

    fn put(&self, blobs: Vec<NewBlob>) -> Result<(), StoreError> {
        if !blobs.is_empty() {
            self.session()?;
        }
        let mut new = Vec::new();
        for blob in blobs {
            if !self.holds(&blob.digest, blob.n_bytes)? {
                new.push(blob);
            }
        }
        self.put_blobs(new)
    }
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
