//! The redb index: what each action made, what each file held, and which builds there were.
//!
//! Several processes may have it open at once; redb lets one write at a time. Losing it costs time,
//! never correctness: blobs check themselves, and everything else is computed again.

use std::path::{Path, PathBuf};

use redb::{
    Builder, ConcurrencyMode, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, TableError,
};

use super::{StoreError, Usage};
use crate::digest::{ActionKey, Digest};
use crate::identity::Identity;

type Bytes32 = [u8; 32];
type MemoKey = (u64, u64, u64, u64);
type MemoValue = (u64, i64, i64, Bytes32, bool);

/// Action key -> digest and size of its output.
const ACTIONS: TableDefinition<Bytes32, (Bytes32, u64)> = TableDefinition::new("actions");
/// Action key -> the readable form of what was hashed into it.
const MANIFESTS: TableDefinition<Bytes32, &str> = TableDefinition::new("manifests");
/// Device, inode, offset, length -> size, stamps, then what the range held.
const MEMO: TableDefinition<MemoKey, MemoValue> = TableDefinition::new("memo");
/// Build number -> its record, as the caller wrote it.
const BUILDS: TableDefinition<u64, &[u8]> = TableDefinition::new("builds");

/// redb keeps this many bytes of the index in memory.
const CACHE_BYTES: usize = 64 << 20;

/// What an action made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionRow {
    pub key: ActionKey,
    pub digest: Digest,
    pub n_bytes: u64,
    pub manifest: String,
}

/// A range of a file in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileRange {
    pub identity: Identity,
    pub offset: u64,
    pub n_bytes: u64,
}

/// What a range of a file held when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeContent {
    pub digest: Digest,
    /// Whether the caller found its contents fit for computing with.
    pub finite: bool,
}

/// A row of the memo.
pub type MemoRow = (FileRange, RangeContent);

#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    database: Handle,
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

impl Index {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_concurrency_mode(ConcurrencyMode::MultiWriter)
            .create(path)
            .map_err(|error| failed(path, error))?;
        Ok(Self { path: path.to_owned(), database: Handle::Write(database) })
    }

    pub(super) fn open_for_reading(path: &Path) -> Result<Self, StoreError> {
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_concurrency_mode(ConcurrencyMode::MultiWriter)
            .open_read_only(path)
            .map_err(|error| failed(path, error))?;
        Ok(Self { path: path.to_owned(), database: Handle::Read(database) })
    }

    /// A view of the index as it is now; later commits do not show in it.
    pub fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        let transaction = match &self.database {
            Handle::Write(database) => database.begin_read(),
            Handle::Read(database) => database.begin_read(),
        };
        let transaction = transaction.map_err(|error| failed(&self.path, error))?;
        Ok(Snapshot { index: self, transaction })
    }

    pub(super) fn commit(&self, actions: &[ActionRow], memo: &[MemoRow]) -> Result<(), StoreError> {
        if actions.is_empty() && memo.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            let mut digests = transaction.open_table(ACTIONS)?;
            let mut manifests = transaction.open_table(MANIFESTS)?;
            for row in actions {
                digests.insert(row.key.0, (row.digest.0, row.n_bytes))?;
                manifests.insert(row.key.0, row.manifest.as_str())?;
            }
            let mut ranges = transaction.open_table(MEMO)?;
            for (range, content) in memo {
                let Identity { size, modified, changed, .. } = range.identity;
                ranges
                    .insert(memo_key(range), (size, modified, changed, content.digest.0, content.finite))?;
            }
            Ok(())
        })
    }

    /// Adds a build's record and returns its number.
    pub fn add_build(&self, record: &[u8]) -> Result<u64, StoreError> {
        let mut number = 0;
        self.write(|transaction| {
            let mut builds = transaction.open_table(BUILDS)?;
            number = builds.last()?.map_or(1, |(last, _)| last.value() + 1);
            builds.insert(number, record)?;
            Ok(())
        })?;
        Ok(number)
    }

    pub(super) fn usage(&self) -> Result<Usage, StoreError> {
        let snapshot = self.snapshot()?;
        let count = |table: Option<u64>| table.unwrap_or(0);
        Ok(Usage {
            index_bytes: std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len()),
            actions: count(
                snapshot
                    .table(ACTIONS)?
                    .map(|table| table.len())
                    .transpose()
                    .map_err(|error| failed(&self.path, error))?,
            ),
            builds: count(
                snapshot
                    .table(BUILDS)?
                    .map(|table| table.len())
                    .transpose()
                    .map_err(|error| failed(&self.path, error))?,
            ),
            ..Usage::default()
        })
    }

    fn write(
        &self,
        body: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let Handle::Write(database) = &self.database else {
            unreachable!("a store opened for reading is not written to");
        };
        let run = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            body(&transaction)?;
            Ok(transaction.commit()?)
        };
        run().map_err(|error| failed(&self.path, error))
    }
}

/// A consistent view of the index.
pub struct Snapshot<'a> {
    index: &'a Index,
    transaction: ReadTransaction,
}

impl Snapshot<'_> {
    /// The digest and size of an action's output.
    pub fn action(&self, key: &ActionKey) -> Result<Option<(Digest, u64)>, StoreError> {
        let Some(table) = self.table(ACTIONS)? else { return Ok(None) };
        let row = table.get(key.0).map_err(|error| failed(&self.index.path, error))?;
        Ok(row.map(|row| (Digest(row.value().0), row.value().1)))
    }

    /// The readable form of an action's key.
    pub fn manifest(&self, key: &ActionKey) -> Result<Option<String>, StoreError> {
        let Some(table) = self.table(MANIFESTS)? else { return Ok(None) };
        let row = table.get(key.0).map_err(|error| failed(&self.index.path, error))?;
        Ok(row.map(|row| row.value().to_owned()))
    }

    /// What a range of a file held, if the file is still in the state in which it was read.
    pub fn remembered(&self, range: &FileRange) -> Result<Option<RangeContent>, StoreError> {
        let Some(table) = self.table(MEMO)? else { return Ok(None) };
        let row = table.get(memo_key(range)).map_err(|error| failed(&self.index.path, error))?;
        Ok(row.and_then(|row| {
            let (size, modified, changed, digest, finite) = row.value();
            let Identity { size: now, modified: modified_now, changed: changed_now, .. } = range.identity;
            ((size, modified, changed) == (now, modified_now, changed_now))
                .then_some(RangeContent { digest: Digest(digest), finite })
        }))
    }

    /// Every build's number and record, newest first.
    pub fn builds(&self) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let Some(table) = self.table(BUILDS)? else { return Ok(Vec::new()) };
        let collect = || -> Result<_, redb::Error> {
            let mut builds = Vec::new();
            for row in table.iter()?.rev() {
                let (number, record) = row?;
                builds.push((number.value(), record.value().to_vec()));
            }
            Ok(builds)
        };
        collect().map_err(|error| failed(&self.index.path, error))
    }

    /// A table, or `None` while nothing was ever written to it.
    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: TableDefinition<K, V>,
    ) -> Result<Option<redb::ReadOnlyTable<K, V>>, StoreError> {
        match self.transaction.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(failed(&self.index.path, error)),
        }
    }
}

fn memo_key(range: &FileRange) -> MemoKey {
    (range.identity.device, range.identity.inode, range.offset, range.n_bytes)
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(source) => StoreError::io("use the index", path)(source),
        error => StoreError::Index { path: path.to_owned(), source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(modified: i64) -> FileRange {
        let identity = Identity { device: 1, inode: 2, size: 30, modified, changed: 5 };
        FileRange { identity, offset: 8, n_bytes: 4 }
    }

    #[test]
    fn rows_come_back_and_stale_memo_rows_do_not() {
        let space = tempfile::tempdir().unwrap();
        let path = space.path().join("index.redb");
        let index = Index::open(&path).unwrap();
        let row = ActionRow {
            key: ActionKey([1; 32]),
            digest: Digest([2; 32]),
            n_bytes: 7,
            manifest: "a = 1\n".to_owned(),
        };
        let content = RangeContent { digest: Digest([3; 32]), finite: true };
        index.commit(std::slice::from_ref(&row), &[(range(4), content)]).unwrap();
        // A second handle, as another process would have it.
        let reader = Index::open_for_reading(&path).unwrap();
        let snapshot = reader.snapshot().unwrap();
        assert_eq!(snapshot.action(&row.key).unwrap(), Some((row.digest, 7)));
        assert_eq!(snapshot.manifest(&row.key).unwrap().as_deref(), Some("a = 1\n"));
        assert_eq!(snapshot.action(&ActionKey([9; 32])).unwrap(), None);
        assert_eq!(snapshot.remembered(&range(4)).unwrap(), Some(content));
        assert_eq!(snapshot.remembered(&range(6)).unwrap(), None);
    }

    #[test]
    fn builds_are_numbered_and_listed_newest_first() {
        let space = tempfile::tempdir().unwrap();
        let index = Index::open(&space.path().join("index.redb")).unwrap();
        assert_eq!(index.snapshot().unwrap().builds().unwrap(), []);
        assert_eq!(index.add_build(b"one").unwrap(), 1);
        assert_eq!(index.add_build(b"two").unwrap(), 2);
        assert_eq!(index.snapshot().unwrap().builds().unwrap(), [(2, b"two".to_vec()), (1, b"one".to_vec())]);
    }
}
