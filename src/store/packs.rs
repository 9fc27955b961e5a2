//! Packs: files that were an output's, and came into the store as they are for the results in them that nothing
//! else holds.
//!
//! A new name costs nothing, where a copy would write everything a second time. What the store has of a pack
//! are the ranges that the index lists; the rest is dead. A pack is never written to: whoever mapped the file
//! while it was an output's still reads what was there. So what has died takes room until the pack goes:
//!
//! - A file becomes a pack only if at least half of it is live; of any other the live ranges are copied.
//! - A pack without a live range is removed at once.
//! - Collecting copies the live ranges out of a pack of which less than half is live, and removes it.
//!
//! Ranges have no stamps to be told by; like blobs they are held to their digests when they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::blob::{Content, InFile, Lookup};
use super::error::StoreError;
use super::folder::read_dir;
use super::local::Store;
use super::range::{Pack, PackRange, PackedRow};
use super::tier::NewBlob;
use crate::digest::Digest;
use crate::disk;
use crate::identity::Identity;

/// Whether so much of a file is live that it is kept whole.
pub fn is_worth_keeping(live: u64, n_bytes: u64) -> bool {
    live > 0 && live >= n_bytes / 2
}

/// What the store's packs take, as ranges of them are given up.
#[derive(Clone, Debug, Default)]
pub struct PackSizes(BTreeMap<Pack, Size>);

#[derive(Clone, Copy, Debug, Default)]
struct Size {
    n_bytes: u64,
    live: u64,
}

impl Size {
    /// Bytes that are left once packs were swept: what is copied out of a pack takes no more than it holds.
    fn swept(self) -> u64 {
        if is_worth_keeping(self.live, self.n_bytes) { self.n_bytes } else { self.live }
    }
}

impl PackSizes {
    /// Bytes that all packs take once they were swept.
    pub fn swept(&self) -> u64 {
        self.0.values().map(|size| size.swept()).sum()
    }

    /// Bytes of packs that are not live.
    pub fn dead(&self) -> u64 {
        self.0.values().map(|size| size.n_bytes.saturating_sub(size.live)).sum()
    }

    /// Gives up a live range; says how many bytes that frees once packs were swept.
    pub fn give_up(&mut self, range: &PackRange) -> u64 {
        let Some(size) = self.0.get_mut(&range.pack) else { return 0 };
        let before = size.swept();
        size.live = size.live.saturating_sub(range.n_bytes);
        before - size.swept()
    }
}

impl Store {
    fn packs(&self) -> PathBuf {
        self.root().join("packs")
    }

    fn pack_path(&self, pack: Pack) -> PathBuf {
        self.packs().join(pack.to_string())
    }

    fn pack_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let packs = self.packs();
        if packs.is_dir() { read_dir(&packs) } else { Ok(Vec::new()) }
    }

    /// Moves a file into the store, where it stays as it is; `None` if it has to stay where it is: it is on another
    /// file system, no regular file, protected from being written, or has other names.
    ///
    /// What is in it is of use once its ranges are noted.
    pub fn take_pack(&self, path: &Path) -> Option<Pack> {
        let may_be_taken = |metadata: &fs::Metadata| {
            metadata.is_file() && metadata.nlink() == 1 && metadata.mode() & 0o200 != 0
        };
        if self.is_read_only() || !fs::symlink_metadata(path).is_ok_and(|found| may_be_taken(&found)) {
            return None;
        }
        let take = || -> io::Result<Pack> {
            let file = File::open(path)?;
            let pack = Pack::of(&Identity::of(&file)?);
            let (packs, to) = (self.packs(), self.pack_path(pack));
            fs::create_dir_all(&packs)?;
            disk::fail_point("rename", &to)?;
            renameat_with(CWD, path, CWD, &to, RenameFlags::NOREPLACE)?;
            // Somebody may have given it another name meanwhile, which is no reason to protect it there.
            if may_be_taken(&file.metadata()?) {
                disk::fail_point("protect", &to)?;
                file.set_permissions(Permissions::from_mode(0o444))?;
            }
            disk::fail_point("sync", &to)?;
            file.sync_all()?;
            disk::fail_point("sync", &packs)?;
            File::open(&packs)?.sync_all()?;
            Ok(pack)
        };
        take().ok()
    }

    /// The file and the range in it that hold a digest's bytes, unchecked.
    pub(super) fn open_packed(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<InFile>, StoreError> {
        match self.index().snapshot()?.packed(digest)? {
            Some(range) if range.n_bytes == n_bytes => self.open_range(&range),
            _ => Ok(Lookup::Missing),
        }
    }

    fn open_range(&self, range: &PackRange) -> Result<Lookup<InFile>, StoreError> {
        let path = self.pack_path(range.pack);
        // Opening something else than a regular file, such as a pipe, could wait forever.
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lookup::Missing),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
            Ok(found) if !found.is_file() || found.len() < range.offset.saturating_add(range.n_bytes) => {
                return Ok(Lookup::Damaged);
            }
            Ok(_) => {}
        }
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Lookup::Missing),
            file => {
                let file = file.map_err(StoreError::io("read", &path))?;
                Ok(Lookup::Found(InFile { path, file, offset: range.offset }))
            }
        }
    }

    /// Reads and checks a digest's bytes.
    pub(super) fn read_packed(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<Vec<u8>>, StoreError> {
        let read = match self.open_packed(digest, n_bytes)? {
            Lookup::Found(found) => found.read(n_bytes as usize, |bytes| Digest::of(bytes) == *digest)?,
            Lookup::Missing => return Ok(Lookup::Missing),
            Lookup::Damaged => None,
        };
        match read {
            Some(bytes) => Ok(Lookup::Found(bytes)),
            None => {
                self.give_up_packed(digest)?;
                Ok(Lookup::Damaged)
            }
        }
    }

    /// Forgets where a digest's bytes were, which are others now.
    pub(super) fn give_up_packed(&self, digest: &Digest) -> Result<(), StoreError> {
        if self.is_read_only() || self.index().snapshot()?.packed(digest)?.is_none() {
            return Ok(());
        }
        let left = self.index().forget_packed([*digest])?;
        self.remove_empty(&left)
    }

    /// What packs take.
    pub fn pack_sizes(&self) -> Result<PackSizes, StoreError> {
        let mut sizes = PackSizes::default();
        for path in self.pack_files()? {
            if let (Some(pack), Ok(found)) = (Pack::from_path(&path), fs::symlink_metadata(&path)) {
                sizes.0.insert(pack, Size { n_bytes: found.len(), live: 0 });
            }
        }
        for (_, range) in self.index().snapshot()?.all_packed()? {
            if let Some(size) = sizes.0.get_mut(&range.pack) {
                size.live += range.n_bytes;
            }
        }
        Ok(sizes)
    }

    /// Every range of a pack that is there, with the pack's metadata.
    pub(super) fn packed(&self) -> Result<Vec<(PackedRow, fs::Metadata)>, StoreError> {
        let mut found: BTreeMap<Pack, Option<fs::Metadata>> = BTreeMap::new();
        let mut packed = Vec::new();
        for (digest, range) in self.index().snapshot()?.all_packed()? {
            let look = || fs::symlink_metadata(self.pack_path(range.pack)).ok();
            if let Some(found) = found.entry(range.pack).or_insert_with(look) {
                packed.push(((digest, range), found.clone()));
            }
        }
        Ok(packed)
    }

    /// Whether a range of a pack holds what its digest names; `None` if the pack has just been removed.
    pub(super) fn is_packed_sound(&self, (digest, range): &PackedRow) -> Result<Option<bool>, StoreError> {
        let InFile { path, file, offset } = match self.open_range(range)? {
            Lookup::Found(found) => found,
            Lookup::Damaged => return Ok(Some(false)),
            Lookup::Missing => return Ok(None),
        };
        let failed = |error| StoreError::io("read", &path)(error);
        holds(&file, (offset, range.n_bytes), *digest, failed, |_, _| Ok(())).map(Some)
    }

    /// Removes those of some packs of which nothing is live.
    pub(super) fn remove_empty(&self, packs: &BTreeSet<Pack>) -> Result<(), StoreError> {
        if packs.is_empty() {
            return Ok(());
        }
        let live: BTreeSet<Pack> =
            self.index().snapshot()?.all_packed()?.into_iter().map(|(_, range)| range.pack).collect();
        packs.difference(&live).try_for_each(|pack| super::blob::remove(&self.pack_path(*pack)))
    }

    /// Removes every pack that is not worth its room, what is live in it being copied first. Only for who has the
    /// store alone.
    ///
    /// A crash in the middle leaves a pack that is still in use, or one that the next sweep removes.
    pub fn sweep_packs(&self) -> Result<(), StoreError> {
        let mut live: BTreeMap<Pack, Vec<PackedRow>> = BTreeMap::new();
        for row in self.index().snapshot()?.all_packed()? {
            live.entry(row.1.pack).or_default().push(row);
        }
        for path in self.pack_files()? {
            let rows = Pack::from_path(&path).and_then(|pack| live.remove(&pack)).unwrap_or_default();
            let n_live = rows.iter().map(|(_, range)| range.n_bytes).sum();
            let n_bytes = fs::symlink_metadata(&path).map_or(0, |found| found.len());
            // On a disk that is full the pack stays, and is tried again the next time.
            let goes = !is_worth_keeping(n_live, n_bytes) && self.copy_out(&rows)?;
            if goes {
                if !rows.is_empty() {
                    self.index().forget_packed(rows.iter().map(|(digest, _)| *digest))?;
                }
                super::blob::remove(&path)?;
            }
        }
        // Those of packs that somebody has removed.
        let lost: Vec<Digest> = live.into_values().flatten().map(|(digest, _)| digest).collect();
        if !lost.is_empty() {
            self.index().forget_packed(lost)?;
        }
        Ok(())
    }

    /// Copies ranges into blobs; says whether there was room. What is damaged is left out, to be made again.
    fn copy_out(&self, rows: &[PackedRow]) -> Result<bool, StoreError> {
        let mut blobs = Vec::new();
        for (digest, range) in rows {
            let Lookup::Found(InFile { file, offset, .. }) = self.open_range(range)? else {
                continue;
            };
            match self.copy_range(&file, (offset, range.n_bytes), *digest) {
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {
                    return Ok(false);
                }
                copied => blobs.extend(copied?),
            }
        }
        self.put_blobs(blobs)?;
        Ok(true)
    }

    /// Copies a range of a file into a blob that is yet to be put, if it holds what its digest names.
    pub fn copy_range(
        &self,
        file: &File,
        (offset, n_bytes): (u64, u64),
        digest: Digest,
    ) -> Result<Option<NewBlob>, StoreError> {
        let (blob, mut writer) = (self.new_blob()?, disk::DirectWriter::default());
        let failed = |error| StoreError::io("copy into", blob.path())(error);
        let is_sound = holds(file, (offset, n_bytes), digest, failed, |start, block| {
            blob.write_past_cache(start, block, &mut writer)
        })?;
        if !is_sound {
            return Ok(None);
        }
        Ok(Some(NewBlob { digest, n_bytes, content: Content::File(blob.seal()?) }))
    }
}

/// Hands a range of a file over block by block, each with its place in the range; says whether they are what a digest
/// names.
fn holds(
    file: &File,
    (offset, n_bytes): (u64, u64),
    digest: Digest,
    failed: impl Fn(io::Error) -> StoreError,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), StoreError>,
) -> Result<bool, StoreError> {
    const BLOCK: u64 = 4 << 20;
    let mut hasher = blake3::Hasher::new();
    for start in (0..n_bytes).step_by(BLOCK as usize) {
        let length = BLOCK.min(n_bytes - start) as usize;
        let block = match disk::read_range(file, offset + start, length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            block => block.map_err(&failed)?,
        };
        hasher.update(&block);
        each(start, &block)?;
    }
    Ok(Digest::from(hasher.finalize()) == digest)
}
