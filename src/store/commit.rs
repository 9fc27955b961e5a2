//! What is written to the index, each time in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use redb::{ReadableTable, WriteTransaction};

use super::error::StoreError;
use super::index::Index;
use super::range::{ChecksumsRow, ExternalRow, MemoRow, Pack, PackedRow};
use super::rows;
use super::tables::{
    ACTIONS, ATTACHED, BESIDE, BLOCKS, BUILDS, CHECKSUMS, COSTS, EXTERNAL, FILES, FINGERPRINTS, LATEST, MEMO,
    PACKED, TAGS, Table, USED, build_key, build_number,
};
use super::tier::{ActionRow, BesideRow};
use crate::digest::Digest;
use crate::identity::Identity;

/// The most bytes of a block that go into one row. With its key it fills a page of the database, which would
/// round anything larger up to the next power of two.
const PIECE: usize = 3900;

/// A build to be recorded.
pub struct NewBuild {
    pub record: Vec<u8>,
    /// What the record refers to; those that are there already are left as they are.
    pub blocks: Vec<(Digest, Vec<u8>)>,
    /// The names by which it is found as the last one.
    pub names: Vec<Vec<u8>>,
    /// What was used, and when (seconds since the epoch).
    pub used: Vec<u8>,
    pub time: u64,
}

/// What becomes known while a build goes on.
#[derive(Clone, Copy, Default)]
pub(super) struct NewRows<'a> {
    pub actions: &'a [ActionRow],
    pub memo: &'a [MemoRow],
    pub external: &'a [ExternalRow],
    pub checksums: &'a [ChecksumsRow],
    pub beside: &'a [BesideRow],
}

/// What a finished output holds.
#[derive(Default)]
pub struct NewOutput {
    /// The actions whose results went straight into it.
    pub rows: Vec<ActionRow>,
    pub memo: Vec<MemoRow>,
    pub external: Vec<ExternalRow>,
    /// Where results are now that its last version held alone.
    pub packed: Vec<PackedRow>,
    /// Its files, by their absolute paths. What is remembered of files that were there before is forgotten.
    pub files: Vec<(PathBuf, Identity)>,
}

impl Index {
    pub(super) fn commit(&self, new: &NewRows<'_>) -> Result<(), StoreError> {
        let NewRows { actions, memo, external, checksums, beside } = *new;
        if actions.is_empty()
            && memo.is_empty()
            && external.is_empty()
            && checksums.is_empty()
            && beside.is_empty()
        {
            return Ok(());
        }
        let mut put = Rows::default();
        put.results(actions, memo, external);
        for (digest, checksums) in checksums {
            put.row(CHECKSUMS, &digest.0, &rows::checksums(checksums));
        }
        for (key, beside) in beside {
            put.row(BESIDE, &key.0, &rows::keys(beside));
        }
        self.write(|transaction| put.write(transaction))
    }

    /// Notes what an output holds, in place of what stood at its paths. Gives the packs of which less is in use
    /// than before.
    pub(super) fn commit_output(&self, output: &NewOutput) -> Result<BTreeSet<Pack>, StoreError> {
        let NewOutput { rows: actions, memo, external, packed, files } = output;
        let mut left = BTreeSet::new();
        if actions.is_empty() && memo.is_empty() && external.is_empty() && files.is_empty() {
            return Ok(left);
        }
        let mut put = Rows::default();
        put.results(actions, memo, external);
        for (digest, range) in packed {
            put.row(PACKED, &digest.0, &rows::packed(range));
        }
        self.write(|transaction| {
            for (path, identity) in files {
                let (key, row) = (rows::path_key(path), rows::file(identity));
                let before = {
                    let files = transaction.open_table(FILES.definition())?;
                    let before = files.get(&key[..])?;
                    before.and_then(|row| rows::read_file(rows::unseal(FILES.0, &key, row.value())?))
                };
                if let Some(before) = before.filter(|before| before != identity) {
                    forget_output(transaction, &before)?;
                }
                put.row(FILES, &key, &row);
            }
            left = remove_packed(transaction, external.iter().map(|(digest, _)| *digest))?;
            put.write(transaction)
        })?;
        Ok(left)
    }

    /// Forgets that packs hold these digests' bytes. Gives the packs of which less is in use now.
    pub(super) fn forget_packed(
        &self,
        digests: impl IntoIterator<Item = Digest>,
    ) -> Result<BTreeSet<Pack>, StoreError> {
        let mut left = BTreeSet::new();
        self.write(|transaction| {
            left = remove_packed(transaction, digests)?;
            Ok(())
        })?;
        Ok(left)
    }

    /// Forgets what every range of a file held, whatever state it was in.
    pub(super) fn forget(&self, file: &Identity) -> Result<(), StoreError> {
        let (first, last) = rows::range_keys_of(file);
        self.write(|transaction| {
            let mut memo = transaction.open_table(MEMO.definition())?;
            Ok(memo.retain_in(&first[..]..=&last[..], |_, _| false)?)
        })
    }

    /// Adds a build's record and returns its number.
    pub fn add_build(&self, build: &NewBuild) -> Result<u64, StoreError> {
        let mut number = 0;
        self.write(|transaction| {
            {
                let builds = transaction.open_table(BUILDS.definition())?;
                let last = builds.last()?.and_then(|(last, _)| build_number(last.value()));
                number = last.map_or(1, |last| last + 1);
            }
            let mut put = Rows::default();
            put.row(BUILDS, &build_key(number), &build.record);
            put.row(USED, &build.used, &build.time.to_le_bytes());
            for name in &build.names {
                put.row(LATEST, name, &number.to_le_bytes());
            }
            put_blocks(transaction, &build.blocks, &mut put)?;
            put.write(transaction)
        })?;
        Ok(number)
    }

    /// Notes that something was used at a time (seconds since the epoch).
    pub fn set_used(&self, name: &[u8], time: u64) -> Result<(), StoreError> {
        let mut put = Rows::default();
        put.row(USED, name, &time.to_le_bytes());
        self.write(|transaction| put.write(transaction))
    }

    /// Attaches a block to a build, in the place of the one that is.
    pub fn attach(&self, build: u64, block: (Digest, Vec<u8>)) -> Result<(), StoreError> {
        let mut put = Rows::default();
        put.row(ATTACHED, &build_key(build), &block.0.0);
        self.write(|transaction| {
            put_blocks(transaction, &[block], &mut put)?;
            put.write(transaction)
        })
    }

    /// Gives a build a name, with whatever the caller notes; one that has the name loses it.
    pub fn set_tag(&self, name: &str, build: u64, note: &[u8]) -> Result<(), StoreError> {
        let mut put = Rows::default();
        put.row(TAGS, name.as_bytes(), &rows::tag(build, note));
        self.write(|transaction| put.write(transaction))
    }

    /// Notes what kinds of work took so far, each by its name, in place of what was noted before.
    pub fn set_costs(&self, costs: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        let mut put = Rows::default();
        for (kind, cost) in costs {
            put.row(COSTS, kind.as_bytes(), cost);
        }
        self.write(|transaction| put.write(transaction))
    }

    /// Notes how all was found and left by the build that did what was asked for.
    pub fn set_fingerprint(&self, asked: &Digest, row: &[u8]) -> Result<(), StoreError> {
        let mut put = Rows::default();
        put.row(FINGERPRINTS, &asked.0, row);
        self.write(|transaction| put.write(transaction))
    }

    /// Takes a name away.
    pub fn remove_tag(&self, name: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(TAGS.definition())?.remove(name.as_bytes())?;
            Ok(())
        })
    }
}

/// Adds the blocks that are not there.
fn put_blocks(
    transaction: &WriteTransaction,
    blocks: &[(Digest, Vec<u8>)],
    put: &mut Rows,
) -> Result<(), redb::Error> {
    let there = transaction.open_table(BLOCKS.definition())?;
    for (digest, block) in blocks {
        if there.get(&rows::block_key(digest, 0)[..])?.is_none() {
            for (i, piece) in block.chunks(PIECE).enumerate() {
                put.row(BLOCKS, &rows::block_key(digest, i as u32), piece);
            }
        }
    }
    Ok(())
}

fn remove_packed(
    transaction: &WriteTransaction,
    digests: impl IntoIterator<Item = Digest>,
) -> Result<BTreeSet<Pack>, redb::Error> {
    let mut left = BTreeSet::new();
    let mut packed = transaction.open_table(PACKED.definition())?;
    for digest in digests {
        let row = packed.remove(&digest.0[..])?;
        let range = row.and_then(|row| rows::read_packed(rows::unseal(PACKED.0, &digest.0, row.value())?));
        left.extend(range.map(|range| range.pack));
    }
    Ok(left)
}

/// Forgets what a file of an output held that has been replaced: its ranges, and that results are in them.
fn forget_output(transaction: &WriteTransaction, file: &Identity) -> Result<(), redb::Error> {
    let (first, last) = rows::range_keys_of(file);
    let mut held: Vec<Digest> = Vec::new();
    let mut memo = transaction.open_table(MEMO.definition())?;
    memo.retain_in(&first[..]..=&last[..], |key, row| {
        held.extend(rows::unseal(MEMO.0, key, row).and_then(rows::read_range_digest));
        false
    })?;
    let mut external = transaction.open_table(EXTERNAL.definition())?;
    for digest in held {
        let is_there = external
            .get(&digest.0[..])?
            .and_then(|row| rows::read_external(rows::unseal(EXTERNAL.0, &digest.0, row.value())?))
            .is_some_and(|there| there.range.identity == *file);
        if is_there {
            external.remove(&digest.0[..])?;
        }
    }
    Ok(())
}

/// Rows of one transaction, written table by table in the order of their keys, which redb is fastest at.
#[derive(Default)]
struct Rows(BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>);

impl Rows {
    fn row(&mut self, table: Table, key: &[u8], payload: &[u8]) {
        self.0.entry(table).or_default().insert(key.to_vec(), rows::seal(table.0, key, payload));
    }

    fn results(&mut self, actions: &[ActionRow], memo: &[MemoRow], external: &[ExternalRow]) {
        for ActionRow { key, digest, n_bytes } in actions {
            self.row(ACTIONS, &key.0, &rows::action(digest, *n_bytes));
        }
        for (range, content) in memo {
            self.row(MEMO, &rows::range_key(range), &rows::range(&range.identity, content));
        }
        for (digest, range) in external {
            self.row(EXTERNAL, &digest.0, &rows::external(range));
        }
    }

    fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        for (table, rows) in &self.0 {
            let mut open = transaction.open_table(table.definition())?;
            for (key, row) in rows {
                open.insert(&key[..], &row[..])?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::range::{ExternalRange, FileRange, RangeContent};
    use super::*;
    use crate::digest::{ActionKey, Checksums};

    fn range(modified: i64) -> FileRange {
        let identity = Identity { device: 1, inode: 2, size: 30, modified, changed: 5, born: 6, probe: 7 };
        FileRange { identity, offset: 8, n_bytes: 4 }
    }

    #[test]
    fn rows_come_back_and_stale_memo_rows_do_not() {
        let space = tempfile::tempdir().unwrap();
        let path = space.path().join("index.redb");
        let index = Index::open(&path, 0).unwrap();
        let row = ActionRow { key: ActionKey([1; 32]), digest: Digest([2; 32]), n_bytes: 7 };
        let content = RangeContent { digest: Digest([3; 32]), mark: true };
        let sums = Checksums(vec![1, u128::MAX]);
        let summed = (row.digest, Arc::new(sums.clone()));
        let (actions, memo, checksums) = ([row], [(range(4), content)], [summed]);
        let beside = [(row.key, vec![ActionKey([8; 32]), ActionKey([7; 32])])];
        let (actions, memo, checksums, beside) = (&actions[..], &memo[..], &checksums[..], &beside[..]);
        index.commit(&NewRows { actions, memo, external: &[], checksums, beside }).unwrap();
        // A second handle, as another process would have it.
        let reader = Index::open_for_reading(&path).unwrap();
        let snapshot = reader.snapshot().unwrap();
        assert_eq!(snapshot.action(&row.key).unwrap(), Some((row.digest, 7)));
        assert_eq!(snapshot.action(&ActionKey([9; 32])).unwrap(), None);
        assert_eq!(snapshot.beside(&row.key).unwrap(), beside[0].1);
        assert_eq!(snapshot.beside(&ActionKey([8; 32])).unwrap(), []);
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
    fn what_a_replaced_file_held_is_forgotten() {
        let space = tempfile::tempdir().unwrap();
        let index = Index::open(&space.path().join("index.redb"), 0).unwrap();
        let path = space.path().join("model.safetensors");
        let output = |modified, digest, offset| {
            let range = FileRange { offset, ..range(modified) };
            let external = ExternalRange { path: path.clone(), range };
            NewOutput {
                rows: Vec::new(),
                memo: vec![(range, RangeContent { digest, mark: true })],
                external: vec![(digest, external)],
                packed: Vec::new(),
                files: vec![(path.clone(), range.identity)],
            }
        };
        let (old, new) = (Digest([1; 32]), Digest([2; 32]));
        index.commit_output(&output(4, old, 8)).unwrap();
        // The new file has the inode of the old one.
        index.commit_output(&output(5, new, 9)).unwrap();
        let snapshot = index.snapshot().unwrap();
        assert!(snapshot.external(&old).unwrap().is_none() && snapshot.external(&new).unwrap().is_some());
        assert_eq!(snapshot.n_rows(MEMO).unwrap(), 1);
        // A file that stayed is left as it is.
        index.commit_output(&output(5, new, 9)).unwrap();
        assert!(index.snapshot().unwrap().external(&new).unwrap().is_some());
    }

    #[test]
    fn builds_are_numbered_and_found_by_what_they_are_called() {
        let space = tempfile::tempdir().unwrap();
        let index = Index::open(&space.path().join("index.redb"), 0).unwrap();
        assert_eq!(index.snapshot().unwrap().builds(9).unwrap(), []);
        let block: Vec<u8> = (0..10_000_u32).map(|i| (i * 7) as u8).collect();
        let add = |record: &[u8], name: &[u8], time| {
            let blocks = vec![(Digest::of(&block), block.clone())];
            let names = vec![name.to_vec(), b"recipe".to_vec()];
            let record = record.to_vec();
            index.add_build(&NewBuild { record, blocks, names, used: b"recipe".to_vec(), time }).unwrap()
        };
        assert_eq!(add(b"one", b"a", 7), 1);
        assert_eq!(add(b"two", b"b", 8), 2);
        let snapshot = index.snapshot().unwrap();
        assert_eq!(snapshot.builds(9).unwrap(), [(2, b"two".to_vec()), (1, b"one".to_vec())]);
        assert_eq!(snapshot.builds(1).unwrap(), [(2, b"two".to_vec())]);
        assert_eq!(snapshot.build(1).unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!((snapshot.n_builds().unwrap(), snapshot.build(3).unwrap()), (2, None));
        assert_eq!(snapshot.latest(b"a").unwrap(), Some(1));
        assert_eq!(snapshot.latest(b"recipe").unwrap(), Some(2));
        assert_eq!(snapshot.latest(b"b").unwrap(), Some(2));
        assert_eq!(snapshot.used(b"recipe").unwrap(), Some(8));
        assert_eq!(snapshot.block(&Digest::of(&block)).unwrap(), Some(block.clone()));
        assert_eq!(snapshot.block(&Digest([3; 32])).unwrap(), None);
        assert_eq!(snapshot.n_rows(BLOCKS).unwrap(), 3);
    }
}
