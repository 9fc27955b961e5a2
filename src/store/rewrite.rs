//! Rewriting the index with what is needed alone, which also gives back the room of what is not.
//!
//! The new index is made beside the old one, made durable and then renamed over it: a crash leaves the one or
//! the other. Only who has the store to himself may do it, since what another process commits to the old
//! one would be lost.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};

use super::error::StoreError;
use super::index::Index;
use super::local::Store;
use super::rows;
use super::tables::{
    self, ACTIONS, ATTACHED, BESIDE, BLOCKS, BUILDS, CHECKSUMS, COSTS, EXTERNAL, FILES, LATEST, MEMO, PACKED,
    TAGS, Table, USED, build_number,
};
use crate::digest::{ActionKey, Digest};
use crate::disk;

/// What must stay in the index.
#[derive(Debug, Default)]
pub struct Needed {
    pub builds: BTreeSet<u64>,
    /// What the records of those builds refer to.
    pub blocks: HashSet<Digest>,
    /// The actions of those builds.
    pub keys: HashSet<ActionKey>,
    /// What those builds read and made.
    pub digests: HashSet<Digest>,
    /// Blobs that stay; the actions that made them do, too.
    pub blobs: HashSet<Digest>,
    /// Every name, with the number of the last build that stays and has it.
    pub latest: BTreeMap<Vec<u8>, u64>,
    /// The names whose times of use stay.
    pub used: HashSet<Vec<u8>>,
}

impl Needed {
    fn has(&self, table: Table, key: &[u8], payload: &[u8]) -> bool {
        let digest_key = || Some(Digest(key.try_into().ok()?));
        match table {
            ACTIONS => {
                let key = key.try_into().ok().map(ActionKey);
                key.is_some_and(|key| self.keys.contains(&key))
                    || rows::read_action(payload).is_some_and(|(digest, _)| self.blobs.contains(&digest))
            }
            BESIDE => key.try_into().is_ok_and(|key| self.keys.contains(&ActionKey(key))),
            MEMO => rows::read_range_digest(payload).is_some_and(|digest| self.digests.contains(&digest)),
            CHECKSUMS => digest_key().is_some_and(|digest| self.digests.contains(&digest)),
            EXTERNAL => {
                let is_needed = digest_key().is_some_and(|digest| self.digests.contains(&digest));
                is_needed
                    && rows::read_external(payload).is_some_and(|there| {
                        fs::metadata(&there.path).is_ok_and(|metadata| there.range.identity.fits(&metadata))
                    })
            }
            FILES => fs::symlink_metadata(rows::read_path_key(key)).is_ok(),
            BUILDS | ATTACHED => build_number(key).is_some_and(|number| self.builds.contains(&number)),
            BLOCKS => rows::read_block_key(key).is_some_and(|digest| self.blocks.contains(&digest)),
            USED => self.used.contains(key),
            TAGS => rows::read_tag(payload).is_some_and(|(number, _)| self.builds.contains(&number)),
            // What is not in use any more has been removed.
            COSTS | PACKED => true,
            // Written anew, by this or by the next build.
            _ => false,
        }
    }
}

impl Store {
    /// Leaves in the index what is needed, and says by how many bytes its file has become smaller.
    ///
    /// # Errors
    /// Also if the store was not opened to be alone.
    pub fn rewrite_index(self, needed: &Needed) -> Result<u64, StoreError> {
        let path = self.index().path().to_owned();
        let size = |path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let before = size(&path);
        let made = self.new_index()?;
        disk::fail_point("create", &made).map_err(StoreError::io("create", &made))?;
        let mut new = Index::open(&made, 0)?;
        copy(self.index(), &new, needed)?;
        new.compact()?;
        new.close()?;
        let sync = || {
            disk::fail_point("sync", &made)?;
            File::open(&made)?.sync_all()
        };
        sync().map_err(StoreError::io("sync", &made))?;
        let name = || {
            disk::fail_point("rename", &path)?;
            fs::rename(&made, &path)?;
            disk::fail_point("sync", self.root())?;
            File::open(self.root())?.sync_all()
        };
        name().map_err(StoreError::io("name", &path))?;
        Ok(before.saturating_sub(size(&path)))
    }
}

/// Copies what is needed, table by table; rows that are damaged stay behind.
fn copy(old: &Index, new: &Index, needed: &Needed) -> Result<(), StoreError> {
    let snapshot = old.snapshot()?;
    for table in tables::ALL {
        let mut kept: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        snapshot.rows(table, &[], |key, payload| {
            if let Some(payload) = payload.filter(|payload| needed.has(table, key, payload)) {
                kept.push((key.to_vec(), payload.to_vec()));
            }
            true
        })?;
        if table == LATEST {
            kept.extend(
                needed.latest.iter().map(|(name, number)| (name.clone(), number.to_le_bytes().to_vec())),
            );
        }
        new.write(|transaction| {
            let mut open = transaction.open_table(table.definition())?;
            for (key, payload) in &kept {
                open.insert(&key[..], &rows::seal(table.0, key, payload)[..])?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
