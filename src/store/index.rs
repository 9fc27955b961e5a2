//! The redb index: what each action made, what each file held, and which builds there were.
//!
//! Several processes may have it open at once; redb lets one write at a time. Losing it costs time,
//! never correctness: blobs check themselves, rows check themselves, and everything else is computed
//! again.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redb::{
    Builder, CompactionError, ConcurrencyMode, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase,
};

use super::catch_panic::catch_panic;
use super::error::StoreError;
use super::folder::is_there;
use crate::disk;

/// redb keeps so many bytes of the index in memory at most; the least is what a commit is still fast with.
const CACHE_BYTES: RangeInclusive<u64> = 1 << 20..=64 << 20;

/// The part of a memory limit that the index's pages may take.
const CACHE_PART: u64 = 8;

/// The file is compacted when it has grown by this many bytes.
const GROWTH: u64 = 2 << 20;

#[derive(Debug)]
pub struct Index {
    path: Arc<Path>,
    /// There until it is closed.
    database: Option<Handle>,
    /// The bytes of the file when it was opened.
    opened_bytes: u64,
    /// Rows found damaged since it was opened.
    damaged: AtomicUsize,
}

enum Handle {
    Write(Database),
    Read(ReadOnlyDatabase),
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Write(_)) { "Write" } else { "Read" })
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let _ = self.shut();
    }
}

impl Index {
    /// Makes an empty index where there is none. It is made in a folder for temporary files and then
    /// gets its name, so that nobody ever finds half of one; another process may have been faster.
    pub(super) fn make(path: &Path, temporary: &Path) -> Result<(), StoreError> {
        if is_there(path)? {
            return Ok(());
        }
        let make = || {
            disk::fail_point("create", temporary)?;
            tempfile::Builder::new().prefix("index-").tempfile_in(temporary)
        };
        let made = make().map_err(StoreError::io("create a file in", temporary))?.into_temp_path();
        Self::open(&made, 0)?.close()?;
        disk::fail_point("rename", path).map_err(StoreError::io("name", path))?;
        match made.persist_noclobber(path) {
            Err(refused) if refused.error.kind() != io::ErrorKind::AlreadyExists => {
                Err(StoreError::io("name", path)(refused.error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn open(path: &Path, memory: u64) -> Result<Self, StoreError> {
        let path: Arc<Path> = path.into();
        let open = || Ok(builder(memory).create(&path)?);
        let database = catch_panic(&path, open).map_err(|error| failed(&path, error))?;
        Ok(Self::new(path, Handle::Write(database)))
    }

    pub(super) fn open_for_reading(path: &Path) -> Result<Self, StoreError> {
        let path: Arc<Path> = path.into();
        let open = || catch_panic(&path, || Ok(builder(u64::MAX).open_read_only(&path)?));
        let database = match open() {
            // After a power cut somebody must open it for writing once, which mends it.
            Err(redb::Error::RepairAborted) => {
                drop(Self::open(&path, u64::MAX)?);
                open()
            }
            result => result,
        };
        let database = database.map_err(|error| failed(&path, error))?;
        Ok(Self::new(path, Handle::Read(database)))
    }

    fn new(path: Arc<Path>, database: Handle) -> Self {
        let opened_bytes = n_bytes(&path);
        Self { path, database: Some(database), opened_bytes, damaged: AtomicUsize::new(0) }
    }

    /// Closes the database, which may come upon damage as late as then. What its file grew by meanwhile and
    /// does not need is given back: it doubles when it is full, and it is full of old pages while somebody looks
    /// at them.
    pub(super) fn close(mut self) -> Result<(), StoreError> {
        let compacted =
            if n_bytes(&self.path) >= self.opened_bytes + GROWTH { self.compact() } else { Ok(()) };
        self.shut()?;
        compacted
    }

    /// Makes the file as small as it can be, unless another process is using it.
    pub(super) fn compact(&mut self) -> Result<(), StoreError> {
        let Some(Handle::Write(database)) = &mut self.database else { return Ok(()) };
        let path = &self.path;
        let compact = || {
            disk::fail_point("compact", path)?;
            match database.compact() {
                Err(CompactionError::Storage(error)) => Err(error.into()),
                _ => Ok(()),
            }
        };
        catch_panic(path, compact).map_err(|error| failed(path, error))
    }

    fn shut(&mut self) -> Result<(), StoreError> {
        let database = self.database.take();
        catch_panic(&self.path, || {
            drop(database);
            Ok(())
        })
        .map_err(|error| failed(&self.path, error))
    }

    fn database(&self) -> &Handle {
        self.database.as_ref().expect("whoever closes it has it to himself")
    }

    /// The number of rows found damaged so far. A damaged row counts as missing.
    pub fn damaged_rows(&self) -> usize {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(super) fn note_damage(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to look at the index as it is now.
    pub(super) fn begin(&self) -> Result<ReadTransaction, StoreError> {
        self.call(|| match self.database() {
            Handle::Write(database) => Ok(database.begin_read()?),
            Handle::Read(database) => Ok(database.begin_read()?),
        })
    }

    /// Runs a call into the database.
    pub(super) fn call<T>(&self, call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
        catch_panic(&self.path, call).map_err(|error| failed(&self.path, error))
    }

    /// Runs a call that writes, and commits what it wrote.
    pub(super) fn write(
        &self,
        body: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let Handle::Write(database) = self.database() else {
            unreachable!("a store opened for reading is not written to");
        };
        self.call(|| {
            disk::fail_point("commit", &self.path)?;
            let transaction = database.begin_write()?;
            body(&transaction)?;
            Ok(transaction.commit()?)
        })
    }
}

fn n_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn builder(memory: u64) -> Builder {
    let mut builder = Builder::new();
    let cache = (memory / CACHE_PART).clamp(*CACHE_BYTES.start(), *CACHE_BYTES.end());
    builder.set_cache_size(cache as usize).set_concurrency_mode(ConcurrencyMode::MultiWriter);
    builder
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        // So redb tells of a file that is no database, that ends too early, or in which a page is said to
        // be where no file can have one.
        redb::Error::Io(source)
            if matches!(
                source.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput
            ) =>
        {
            StoreError::Damaged { path: path.to_owned(), problem: source.to_string() }
        }
        redb::Error::Io(source) => StoreError::io("use the index", path)(source),
        redb::Error::Corrupted(problem) => StoreError::Damaged { path: path.to_owned(), problem },
        // Tables are always opened with the types that they were made with, locks are poisoned by panics
        // alone, and redb has never had another format here than today's. What it could not read or write is
        // told of when it happens; an earlier failure that nobody was told of was one of closing a transaction
        // over a file that ends too early.
        error @ (redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::UpgradeRequired(_)
        | redb::Error::PreviousIo
        | redb::Error::LockPoisoned(_)) => {
            StoreError::Damaged { path: path.to_owned(), problem: error.to_string() }
        }
        error => StoreError::Index { path: path.to_owned(), source: Box::new(error) },
    }
}
