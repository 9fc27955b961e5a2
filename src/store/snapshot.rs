//! A consistent view of the index.

use std::sync::OnceLock;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableError};

use super::error::StoreError;
use super::index::Index;
use super::range::{ExternalRange, FileRange, PackRange, PackedRow, RangeContent};
use super::rows;
use super::tables::{
    ACTIONS, ATTACHED, BESIDE, BLOCKS, BUILDS, CHECKSUMS, COSTS, EXTERNAL, FINGERPRINTS, LATEST, MEMO,
    PACKED, TAGS, Table, USED, build_key, build_number,
};
use crate::digest::{ActionKey, Checksums, Digest};

impl Index {
    /// A view of the index as it is now; later commits do not show in it.
    pub fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        Ok(Snapshot { index: self, transaction: self.begin()?, opened: Default::default() })
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

    /// The keys of what was made beside an action's output.
    pub fn beside(&self, key: &ActionKey) -> Result<Vec<ActionKey>, StoreError> {
        Ok(self.get(BESIDE, &key.0, rows::read_keys)?.unwrap_or_default())
    }

    /// What a range of a file held, if the file is still in the state in which it was read.
    pub fn remembered(&self, range: &FileRange) -> Result<Option<RangeContent>, StoreError> {
        self.get(MEMO, &rows::range_key(range), |payload| rows::read_range(payload, &range.identity))
    }

    /// A range outside the store that held a digest's bytes when it was last looked at.
    pub fn external(&self, digest: &Digest) -> Result<Option<ExternalRange>, StoreError> {
        self.get(EXTERNAL, &digest.0, rows::read_external)
    }

    /// The range of a pack that holds a digest's bytes.
    pub(super) fn packed(&self, digest: &Digest) -> Result<Option<PackRange>, StoreError> {
        self.get(PACKED, &digest.0, rows::read_packed)
    }

    /// Every range of every pack that is in use, in the order of their digests.
    pub(super) fn all_packed(&self) -> Result<Vec<PackedRow>, StoreError> {
        let mut packed = Vec::new();
        self.rows(PACKED, &[], |key, payload| {
            let digest = key.try_into().ok().map(Digest);
            packed.extend(digest.zip(payload.and_then(rows::read_packed)));
            true
        })?;
        Ok(packed)
    }

    /// The checksums of a digest's bytes, if they were ever taken.
    pub fn checksums(&self, digest: &Digest) -> Result<Option<Checksums>, StoreError> {
        self.get(CHECKSUMS, &digest.0, rows::read_checksums)
    }

    /// When something was last noted to be used, in seconds since the epoch.
    pub fn used(&self, name: &[u8]) -> Result<Option<u64>, StoreError> {
        self.get(USED, name, rows::read_number)
    }

    /// The number of the last build that has a name.
    pub fn latest(&self, name: &[u8]) -> Result<Option<u64>, StoreError> {
        self.get(LATEST, name, rows::read_number)
    }

    /// A build's record.
    pub fn build(&self, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(BUILDS, &build_key(number), |record| Some(record.to_vec()))
    }

    /// The numbers and records of the newest builds, at most so many, newest first.
    pub fn builds(&self, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let mut builds = Vec::new();
        self.index.call(|| {
            let Some(open) = self.table(BUILDS)? else { return Ok(()) };
            for row in open.iter()?.rev().take(limit) {
                let (key, row) = row?;
                let record = rows::unseal(BUILDS.0, key.value(), row.value());
                match (build_number(key.value()), record) {
                    (Some(number), Some(record)) => builds.push((number, record.to_vec())),
                    _ => self.index.note_damage(),
                }
            }
            Ok(())
        })?;
        Ok(builds)
    }

    /// The tagged build's number, and what was noted with the tag.
    pub fn tag(&self, name: &str) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.get(TAGS, name.as_bytes(), rows::read_tag)
    }

    /// Every tag, in the order of their names.
    pub fn tags(&self) -> Result<Vec<(String, u64, Vec<u8>)>, StoreError> {
        let mut tags = Vec::new();
        self.rows(TAGS, &[], |name, payload| {
            let name = String::from_utf8(name.to_vec()).ok();
            tags.extend(
                name.zip(payload.and_then(rows::read_tag)).map(|(name, (number, note))| (name, number, note)),
            );
            true
        })?;
        Ok(tags)
    }

    /// What every kind of work took so far, by its name.
    pub fn costs(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut costs = Vec::new();
        self.rows(COSTS, &[], |kind, payload| {
            let kind = String::from_utf8(kind.to_vec()).ok();
            costs.extend(kind.zip(payload.map(<[u8]>::to_vec)));
            true
        })?;
        Ok(costs)
    }

    /// The block that belongs to a build and is no part of its record, by its digest.
    pub fn attached(&self, build: u64) -> Result<Option<Digest>, StoreError> {
        self.get(ATTACHED, &build_key(build), |digest| Some(Digest(digest.try_into().ok()?)))
    }

    /// How all was found and left by the build that did what was asked for.
    pub fn fingerprint(&self, asked: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(FINGERPRINTS, &asked.0, |row| Some(row.to_vec()))
    }

    /// How many builds are recorded.
    pub fn n_builds(&self) -> Result<u64, StoreError> {
        self.n_rows(BUILDS)
    }

    /// What records have in common under a digest.
    pub fn block(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let mut block = Vec::new();
        for piece in 0.. {
            match self.get(BLOCKS, &rows::block_key(digest, piece), |piece| Some(piece.to_vec()))? {
                Some(piece) => block.extend(piece),
                None => break,
            }
        }
        // An empty one has no pieces; of one that is damaged some may be missing.
        Ok((Digest::of(&block) == *digest).then_some(block))
    }

    pub(super) fn n_rows(&self, table: Table) -> Result<u64, StoreError> {
        self.index.call(|| self.table(table)?.map_or(Ok(0), |table| Ok(table.len()?)))
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
        self.index.call(get)
    }

    /// Calls `visit` with the key of every row from `start` on and, if the row is sound, its payload, in the
    /// order of the keys, until it says no.
    pub(super) fn rows(
        &self,
        table: Table,
        start: &[u8],
        mut visit: impl FnMut(&[u8], Option<&[u8]>) -> bool,
    ) -> Result<(), StoreError> {
        self.index.call(|| {
            let Some(open) = self.table(table)? else { return Ok(()) };
            for row in open.range(start..)? {
                let (key, row) = row?;
                if !visit(key.value(), rows::unseal(table.0, key.value(), row.value())) {
                    break;
                }
            }
            Ok(())
        })
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
