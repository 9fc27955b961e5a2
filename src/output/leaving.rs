//! What only the old version of an output holds, and keeping it when that version goes.
//!
//! A file of which at least half is wanted moves into the store as it is, by its name alone. Of any other, and
//! where it cannot move, what is wanted is copied. Both happen when the new version is in its place, so that the
//! old one is whole until then; a crash in between costs what can be made again.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;

use rayon::prelude::*;

use super::content::Output;
use super::error::OutputError;
use super::files::{inode, regular};
use super::format;
use super::format::layout::ShardLayout;
use super::shards::digest_of;
use crate::build::Build;
use crate::digest::Digest;
use crate::identity::Identity;
use crate::model::safetensors;
use crate::store::packs::is_worth_keeping;
use crate::store::range::{FileRange, PackRange, PackedRow, RangeContent};
use crate::store::tier::NewBlob;
use crate::store::{Cas, Store, StoreError};

/// Of every file of the old version, by its name, what it alone holds.
pub(super) struct Leaving<'a> {
    store: &'a Store,
    files: HashMap<String, Lonely>,
    packed: RefCell<Vec<PackedRow>>,
}

/// What one file alone holds.
struct Lonely {
    identity: Identity,
    ranges: Vec<(Digest, FileRange)>,
}

impl<'a> Leaving<'a> {
    /// Looks an old version over, whose shards in `current` stay.
    ///
    /// # Errors
    /// If it or the index cannot be read.
    pub fn of(
        output: &Output<'_>,
        current: &[Option<Identity>],
        build: &Build<'_>,
        store: &'a Store,
    ) -> Result<Self, OutputError> {
        let mut leaving = Self { store, files: HashMap::new(), packed: RefCell::default() };
        if !output.keeps_old || store.is_read_only() || !output.dir.is_dir() {
            return Ok(leaving);
        }
        let snapshot = store.index().snapshot()?;
        let shards = &output.layout.shards;
        let tensors = shards.iter().flat_map(|shard| &shard.tensors);
        let mut held: HashSet<Digest> =
            tensors.map(|tensor| digest_of(output, build, &tensor.name)).collect();
        for entry in fs::read_dir(output.dir).map_err(OutputError::io("read", output.dir))? {
            let path = entry.map_err(OutputError::io("read", output.dir))?.path();
            let Some(name) = path.file_name().and_then(OsStr::to_str) else { continue };
            let stays = |(shard, current): (&ShardLayout, &Option<Identity>)| {
                current.is_some() && name == shard.file.as_str()
            };
            let is_shard = format::is_weights(name) && regular(&path).is_some();
            if !is_shard || shards.iter().zip(current).any(stays) {
                continue;
            }
            let Ok(shard) = safetensors::open(&path) else { continue };
            let mut lonely = Lonely { identity: shard.identity(), ranges: Vec::new() };
            for entry in shard.tensors().values() {
                let n_bytes = entry.spec.n_bytes() as u64;
                let range = FileRange { identity: shard.identity(), offset: entry.offset, n_bytes };
                let Some(RangeContent { digest, .. }) = snapshot.remembered(&range)? else { continue };
                let is_only_here =
                    snapshot.external(&digest)?.is_some_and(|external| external.range == range);
                if is_only_here && !held.contains(&digest) && !store.holds(&digest, n_bytes)? {
                    held.insert(digest);
                    lonely.ranges.push((digest, range));
                }
            }
            leaving.files.insert(name.to_owned(), lonely);
        }
        Ok(leaving)
    }

    /// Keeps what only a file holds, which is about to be removed; says whether it has been moved away.
    pub fn take(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(OsStr::to_str);
        let Some(Lonely { identity, ranges }) = name.and_then(|name| self.files.get(name)) else {
            return false;
        };
        let live = ranges.iter().map(|(_, range)| range.n_bytes).sum();
        if ranges.is_empty() || inode(path) != Some(identity.inode) {
            return false;
        }
        if is_worth_keeping(live, identity.size)
            && let Some(pack) = self.store.take_pack(path)
        {
            let packed = |(digest, FileRange { offset, n_bytes, .. }): &(Digest, FileRange)| {
                (*digest, PackRange { pack, offset: *offset, n_bytes: *n_bytes })
            };
            self.packed.borrow_mut().extend(ranges.iter().map(packed));
            return true;
        }
        // What cannot be kept is made again when it is wanted.
        let _ = self.copy(path, ranges);
        false
    }

    fn copy(&self, path: &Path, ranges: &[(Digest, FileRange)]) -> Result<(), StoreError> {
        let file = File::open(path).map_err(StoreError::io("read", path))?;
        let copies: Vec<Option<NewBlob>> = ranges
            .par_iter()
            .map(|(digest, range)| self.store.copy_range(&file, (range.offset, range.n_bytes), *digest))
            .collect::<Result<_, _>>()?;
        self.store.put(copies.into_iter().flatten().collect())
    }

    /// Where results are now that were in files which moved into the store.
    pub fn into_packed(self) -> Vec<PackedRow> {
        self.packed.into_inner()
    }
}
