//! The redb index: what each action made, what each file held, and which builds there were.
//!
//! Several processes may have it open at once; redb lets one write at a time. Losing it costs time,
//! never correctness: blobs check themselves, rows check themselves, and everything else is computed
//! again.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use redb::{
    Builder, ConcurrencyMode, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, TableError,
};

use super::catch_panic::catch_panic;
use super::error::StoreError;
use super::folder::is_there;
use super::range::{ChecksumsRow, ExternalRange, ExternalRow, FileRange, MemoRow, RangeContent};
use super::rows;
use super::tier::ActionRow;
use crate::digest::{ActionKey, Checksums, Digest};
use crate::disk;
use crate::identity::Identity;

/// A table of checked rows.
#[derive(Clone, Copy)]
struct Table(&'static str);

/// Action key -> digest and size of its output.
const ACTIONS: Table = Table("actions");
/// Action key -> the readable form of what was hashed into it.
const MANIFESTS: Table = Table("manifests");
/// Where a range of a file is -> the file's state, and what the range held.
const MEMO: Table = Table("memo");
/// Build number -> its record, as the caller wrote it.
const BUILDS: Table = Table("builds");
/// Digest -> a range outside the store that holds its bytes.
const EXTERNAL: Table = Table("places");
/// Digest -> checksums of the blocks of the bytes that it names.
const CHECKSUMS: Table = Table("checksums");
/// A name -> a time at which whatever has the name was used.
const USED: Table = Table("used");

impl Table {
    fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.0)
    }
}

/// redb keeps so many bytes of the index in memory at most; the least is what a commit is still fast with.
const CACHE_BYTES: RangeInclusive<u64> = 1 << 20..=64 << 20;

/// The part of a memory limit that the index's pages may take.
const CACHE_PART: u64 = 8;

/// What the index takes room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexUsage {
    pub bytes: u64,
    pub actions: u64,
    pub builds: u64,
}

#[derive(Debug)]
pub struct Index {
    path: Arc<Path>,
    /// There until it is closed.
    database: Option<Handle>,
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
        Self { path, database: Some(database), damaged: AtomicUsize::new(0) }
    }

    /// Closes the database, which may come upon damage as late as then.
    pub(super) fn close(mut self) -> Result<(), StoreError> {
        self.shut()
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

    fn note_damage(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    /// A view of the index as it is now; later commits do not show in it.
    pub fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        let begin = || match self.database() {
            Handle::Write(database) => Ok(database.begin_read()?),
            Handle::Read(database) => Ok(database.begin_read()?),
        };
        let transaction = catch_panic(&self.path, begin).map_err(|error| failed(&self.path, error))?;
        Ok(Snapshot { index: self, transaction, opened: Default::default() })
    }

    pub(super) fn commit(
        &self,
        actions: &[ActionRow],
        memo: &[MemoRow],
        external: &[ExternalRow],
        checksums: &[ChecksumsRow],
    ) -> Result<(), StoreError> {
        if actions.is_empty() && memo.is_empty() && external.is_empty() && checksums.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            let mut put = Writer::default();
            for ActionRow { key, digest, n_bytes, manifest } in actions {
                put.row(ACTIONS, &key.0, &rows::action(digest, *n_bytes));
                if !manifest.is_empty() {
                    put.row(MANIFESTS, &key.0, manifest.as_bytes());
                }
            }
            for (range, content) in memo {
                put.row(MEMO, &rows::range_key(range), &rows::range(&range.identity, content));
            }
            for (digest, range) in external {
                put.row(EXTERNAL, &digest.0, &rows::external(range));
            }
            for (digest, checksums) in checksums {
                put.row(CHECKSUMS, &digest.0, &rows::checksums(checksums));
            }
            put.finish(transaction)
        })
    }

    /// Forgets what every range of a file held, whatever state it was in.
    pub(super) fn forget(&self, file: &Identity) -> Result<(), StoreError> {
        let (first, last) = rows::range_keys_of(file);
        self.write(|transaction| {
            let mut memo = transaction.open_table(MEMO.definition())?;
            Ok(memo.retain_in(&first[..]..=&last[..], |_, _| false)?)
        })
    }

    /// Adds a build's record and returns its number; notes that `name` was used at `time`.
    pub fn add_build(&self, record: &[u8], name: &str, time: u64) -> Result<u64, StoreError> {
        let mut number = 0;
        self.write(|transaction| {
            put_used(transaction, name, time)?;
            let mut builds = transaction.open_table(BUILDS.definition())?;
            number =
                builds.last()?.and_then(|(last, _)| build_number(last.value())).map_or(1, |last| last + 1);
            let key = number.to_be_bytes();
            builds.insert(&key[..], &rows::seal(BUILDS.0, &key, record)[..])?;
            Ok(())
        })?;
        Ok(number)
    }

    /// Notes that something was used at a time.
    pub fn set_used(&self, name: &str, time: u64) -> Result<(), StoreError> {
        self.write(|transaction| put_used(transaction, name, time))
    }

    pub(super) fn usage(&self) -> Result<IndexUsage, StoreError> {
        let snapshot = self.snapshot()?;
        let count = |table: Table| {
            let count = || snapshot.table(table)?.map_or(Ok(0), |table| Ok(table.len()?));
            catch_panic(&self.path, count).map_err(|error| failed(&self.path, error))
        };
        Ok(IndexUsage {
            bytes: std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len()),
            actions: count(ACTIONS)?,
            builds: count(BUILDS)?,
        })
    }

    /// Reads every row and counts those that are damaged; with `repair`, removes them.
    pub(super) fn check(&self, repair: bool) -> Result<usize, StoreError> {
        let mut damaged: Vec<(Table, Vec<u8>)> = Vec::new();
        let snapshot = self.snapshot()?;
        for table in [ACTIONS, MANIFESTS, MEMO, EXTERNAL, CHECKSUMS, BUILDS, USED] {
            snapshot.rows(table, |key, payload| {
                if payload.is_none() {
                    damaged.push((table, key.to_vec()));
                }
            })?;
        }
        drop(snapshot);
        if repair && !damaged.is_empty() {
            self.write(|transaction| {
                for (table, key) in &damaged {
                    transaction.open_table(table.definition())?.remove(&key[..])?;
                }
                Ok(())
            })?;
        }
        Ok(damaged.len())
    }

    fn write(
        &self,
        body: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let Handle::Write(database) = self.database() else {
            unreachable!("a store opened for reading is not written to");
        };
        let run = || -> Result<(), redb::Error> {
            disk::fail_point("commit", &self.path)?;
            let transaction = database.begin_write()?;
            body(&transaction)?;
            Ok(transaction.commit()?)
        };
        catch_panic(&self.path, run).map_err(|error| failed(&self.path, error))
    }
}

fn put_used(transaction: &redb::WriteTransaction, name: &str, time: u64) -> Result<(), redb::Error> {
    let row = rows::seal(USED.0, name.as_bytes(), &time.to_le_bytes());
    transaction.open_table(USED.definition())?.insert(name.as_bytes(), &row[..])?;
    Ok(())
}

/// Rows of one transaction, written table by table in the order of their keys, which redb is fastest at.
#[derive(Default)]
struct Writer {
    rows: std::collections::BTreeMap<(&'static str, Vec<u8>), Vec<u8>>,
}

impl Writer {
    fn row(&mut self, table: Table, key: &[u8], payload: &[u8]) {
        self.rows.insert((table.0, key.to_vec()), rows::seal(table.0, key, payload));
    }

    fn finish(self, transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
        for table in [ACTIONS, MANIFESTS, MEMO, EXTERNAL, CHECKSUMS] {
            let mut open = transaction.open_table(table.definition())?;
            for ((_, key), row) in self.rows.iter().filter(|((name, _), _)| *name == table.0) {
                open.insert(&key[..], &row[..])?;
            }
        }
        Ok(())
    }
}

/// A consistent view of the index.
pub struct Snapshot<'a> {
    index: &'a Index,
    transaction: ReadTransaction,
    /// The tables that are looked into again and again.
    opened: [OnceLock<Option<OpenTable>>; OPENED.len()],
}

const OPENED: [Table; 4] = [ACTIONS, MEMO, EXTERNAL, CHECKSUMS];

type OpenTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

impl Snapshot<'_> {
    /// The digest and size of an action's output.
    pub fn action(&self, key: &ActionKey) -> Result<Option<(Digest, u64)>, StoreError> {
        self.get(ACTIONS, &key.0, rows::read_action)
    }

    /// The readable form of an action's key.
    pub fn manifest(&self, key: &ActionKey) -> Result<Option<String>, StoreError> {
        self.get(MANIFESTS, &key.0, |payload| String::from_utf8(payload.to_vec()).ok())
    }

    /// What a range of a file held, if the file is still in the state in which it was read.
    pub fn remembered(&self, range: &FileRange) -> Result<Option<RangeContent>, StoreError> {
        self.get(MEMO, &rows::range_key(range), |payload| rows::read_range(payload, &range.identity))
    }

    /// A range outside the store that held a digest's bytes when it was last looked at.
    pub fn external(&self, digest: &Digest) -> Result<Option<ExternalRange>, StoreError> {
        self.get(EXTERNAL, &digest.0, rows::read_external)
    }

    /// The checksums of a digest's bytes, if they were ever taken.
    pub fn checksums(&self, digest: &Digest) -> Result<Option<Checksums>, StoreError> {
        self.get(CHECKSUMS, &digest.0, rows::read_checksums)
    }

    /// When something was last noted to be used.
    pub fn used(&self, name: &str) -> Result<Option<u64>, StoreError> {
        self.get(USED, name.as_bytes(), |time| Some(u64::from_le_bytes(time.try_into().ok()?)))
    }

    /// Every build's number and record, newest first.
    pub fn builds(&self) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let mut builds = Vec::new();
        self.rows(BUILDS, |key, record| match (build_number(key), record) {
            (Some(number), Some(record)) => builds.push((number, record.to_vec())),
            _ => self.index.note_damage(),
        })?;
        builds.reverse();
        Ok(builds)
    }

    fn get<T>(
        &self,
        table: Table,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let get = || {
            let own;
            let open = match OPENED.iter().zip(&self.opened).find(|(opened, _)| opened.0 == table.0) {
                Some((_, opened)) => match opened.get() {
                    Some(open) => open,
                    None => {
                        let open = self.table(table)?;
                        opened.get_or_init(|| open)
                    }
                },
                None => {
                    own = self.table(table)?;
                    &own
                }
            };
            let Some(row) = open.as_ref().map(|open| open.get(key)).transpose()?.flatten() else {
                return Ok(None);
            };
            match rows::unseal(table.0, key, row.value()) {
                Some(payload) => Ok(read(payload)),
                None => {
                    self.index.note_damage();
                    Ok(None)
                }
            }
        };
        catch_panic(&self.index.path, get).map_err(|error| failed(&self.index.path, error))
    }

    /// Calls `visit` with the key of every row and, if the row is sound, its payload, in the order of the
    /// keys.
    fn rows(&self, table: Table, mut visit: impl FnMut(&[u8], Option<&[u8]>)) -> Result<(), StoreError> {
        let run = || -> Result<(), redb::Error> {
            let Some(open) = self.table(table)? else { return Ok(()) };
            for row in open.iter()? {
                let (key, row) = row?;
                visit(key.value(), rows::unseal(table.0, key.value(), row.value()));
            }
            Ok(())
        };
        catch_panic(&self.index.path, run).map_err(|error| failed(&self.index.path, error))
    }

    /// A table, or `None` while nothing was ever written to it.
    fn table(&self, table: Table) -> Result<Option<OpenTable>, redb::Error> {
        match self.transaction.open_table(table.definition()) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn builder(memory: u64) -> Builder {
    let mut builder = Builder::new();
    let cache = (memory / CACHE_PART).clamp(*CACHE_BYTES.start(), *CACHE_BYTES.end());
    builder.set_cache_size(cache as usize).set_concurrency_mode(ConcurrencyMode::MultiWriter);
    builder
}

fn build_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn range(modified: i64) -> FileRange {
        let identity = Identity { device: 1, inode: 2, size: 30, modified, changed: 5, born: 6, probe: 7 };
        FileRange { identity, offset: 8, n_bytes: 4 }
    }

    #[test]
    fn rows_come_back_and_stale_memo_rows_do_not() {
        let space = tempfile::tempdir().unwrap();
        let path = space.path().join("index.redb");
        let index = Index::open(&path, 0).unwrap();
        let row = ActionRow {
            key: ActionKey([1; 32]),
            digest: Digest([2; 32]),
            n_bytes: 7,
            manifest: "a = 1\n".to_owned(),
        };
        let content = RangeContent { digest: Digest([3; 32]), mark: true };
        let sums = Checksums(vec![1, u128::MAX]);
        let summed = (row.digest, Arc::new(sums.clone()));
        index.commit(std::slice::from_ref(&row), &[(range(4), content)], &[], &[summed]).unwrap();
        // A second handle, as another process would have it.
        let reader = Index::open_for_reading(&path).unwrap();
        let snapshot = reader.snapshot().unwrap();
        assert_eq!(snapshot.action(&row.key).unwrap(), Some((row.digest, 7)));
        assert_eq!(snapshot.manifest(&row.key).unwrap().as_deref(), Some("a = 1\n"));
        assert_eq!(snapshot.action(&ActionKey([9; 32])).unwrap(), None);
        assert_eq!(snapshot.remembered(&range(4)).unwrap(), Some(content));
        assert_eq!(snapshot.remembered(&range(6)).unwrap(), None);
        let mut probed = range(4);
        probed.identity.probe += 1;
        assert_eq!(snapshot.remembered(&probed).unwrap(), None);
        assert_eq!(snapshot.checksums(&row.digest).unwrap(), Some(sums));
        assert_eq!(snapshot.checksums(&content.digest).unwrap(), None);
        index.forget(&Identity { inode: 3, ..range(4).identity }).unwrap();
        assert_eq!(index.snapshot().unwrap().remembered(&range(4)).unwrap(), Some(content));
        index.forget(&range(9).identity).unwrap();
        assert_eq!(index.snapshot().unwrap().remembered(&range(4)).unwrap(), None);
    }

    #[test]
    fn builds_are_numbered_and_listed_newest_first() {
        let space = tempfile::tempdir().unwrap();
        let index = Index::open(&space.path().join("index.redb"), 0).unwrap();
        assert_eq!(index.snapshot().unwrap().builds().unwrap(), []);
        assert_eq!(index.add_build(b"one", "recipe", 7).unwrap(), 1);
        assert_eq!(index.add_build(b"two", "recipe", 8).unwrap(), 2);
        assert_eq!(index.snapshot().unwrap().builds().unwrap(), [(2, b"two".to_vec()), (1, b"one".to_vec())]);
        assert_eq!(index.snapshot().unwrap().used("recipe").unwrap(), Some(8));
    }
}
