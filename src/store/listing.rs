//! Every blob that there is, in a file of its own or in a pack: listed, counted, checked, removed.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::blob;
use super::error::StoreError;
use super::folder::read_dir;
use super::local::Store;
use super::range::PackRange;
use super::tables::{self, ACTIONS, Table};
use crate::digest::Digest;

/// Bytes of the store under their digest, as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobEntry {
    pub digest: Digest,
    pub n_bytes: u64,
    /// Seconds since the epoch.
    pub modified: u64,
    /// Where they are, if they have no file to themselves.
    pub packed: Option<PackRange>,
}

/// What checking every blob and row came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub blobs: usize,
    pub bytes: u64,
    /// Names of blobs whose bytes are not what they are called after, or that are in no regular files.
    pub damaged: Vec<String>,
    pub damaged_rows: usize,
}

/// What the store takes room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub blobs: u64,
    pub blob_bytes: u64,
    /// Beside them in packs.
    pub dead_bytes: u64,
    pub index_bytes: u64,
    pub actions: u64,
    pub builds: u64,
}

impl Store {
    /// Counts blobs and bytes.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let snapshot = self.index().snapshot()?;
        let mut usage = Usage {
            index_bytes: fs::metadata(self.index().path()).map_or(0, |metadata| metadata.len()),
            actions: snapshot.n_rows(ACTIONS)?,
            builds: snapshot.n_builds()?,
            dead_bytes: self.pack_sizes()?.dead(),
            ..Usage::default()
        };
        for blob in self.blobs()? {
            usage.blobs += 1;
            usage.blob_bytes += blob.n_bytes;
        }
        Ok(usage)
    }

    /// Every blob, in the order of their digests. What has no blob's name is left out.
    pub fn blobs(&self) -> Result<Vec<BlobEntry>, StoreError> {
        let mut blobs = Vec::new();
        for path in self.blob_files()? {
            let Some(digest) = path.file_name().and_then(|name| Digest::from_hex(name.to_str()?)) else {
                continue;
            };
            match fs::symlink_metadata(&path) {
                Ok(found) => {
                    let (n_bytes, modified) = (found.len(), modified(&found));
                    blobs.push(BlobEntry { digest, n_bytes, modified, packed: None });
                }
                // Another process has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("read", &path)(error)),
            }
        }
        for ((digest, range), found) in self.packed()? {
            let (n_bytes, modified) = (range.n_bytes, modified(&found));
            blobs.push(BlobEntry { digest, n_bytes, modified, packed: Some(range) });
        }
        // What has both is found by its file, and what is in the pack is of no use.
        blobs.sort_by_key(|blob| (blob.digest, blob.packed.is_some()));
        blobs.dedup_by_key(|blob| blob.digest);
        Ok(blobs)
    }

    /// Reads every blob and every row; with `repair`, removes what is damaged, so that it is made again
    /// when it is next wanted. `progress` is told of every blob's bytes.
    pub fn check(&self, repair: bool, progress: &dyn Fn(u64)) -> Result<Checked, StoreError> {
        let mut checked = Checked::default();
        for path in self.blob_files()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let n_bytes = fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len());
            progress(n_bytes);
            let is_sound = blob::is_sound(&path, Digest::from_hex(&name));
            let Some(is_sound) = is_sound.map_err(StoreError::io("read", &path))? else { continue };
            checked.blobs += 1;
            checked.bytes += n_bytes;
            if !is_sound {
                if repair {
                    blob::remove(&path)?;
                }
                checked.damaged.push(name);
            }
        }
        for (row, _) in self.packed()? {
            let (digest, range) = row;
            progress(range.n_bytes);
            let Some(is_sound) = self.is_packed_sound(&row)? else { continue };
            checked.blobs += 1;
            checked.bytes += range.n_bytes;
            if !is_sound {
                if repair {
                    self.give_up_packed(&digest)?;
                }
                checked.damaged.push(digest.to_string());
            }
        }
        checked.damaged_rows = self.check_rows(repair)?;
        Ok(checked)
    }

    /// Reads every row of the index and counts those that are damaged; with `repair`, removes them.
    fn check_rows(&self, repair: bool) -> Result<usize, StoreError> {
        let mut damaged: Vec<(Table, Vec<u8>)> = Vec::new();
        let snapshot = self.index().snapshot()?;
        for table in tables::ALL {
            snapshot.rows(table, &[], |key, payload| {
                if payload.is_none() {
                    damaged.push((table, key.to_vec()));
                }
                true
            })?;
        }
        drop(snapshot);
        if repair && !damaged.is_empty() {
            self.index().write(|transaction| {
                for (table, key) in &damaged {
                    transaction.open_table(table.definition())?.remove(&key[..])?;
                }
                Ok(())
            })?;
        }
        Ok(damaged.len())
    }

    /// Removes blobs, and packs that are not worth their room any more. Only for who has the store alone.
    pub fn remove(&self, blobs: &[&BlobEntry]) -> Result<(), StoreError> {
        let (packed, own): (Vec<&BlobEntry>, Vec<&BlobEntry>) =
            blobs.iter().partition(|blob| blob.packed.is_some());
        own.into_iter().try_for_each(|blob| blob::remove(&self.blob_path(&blob.digest)))?;
        if !packed.is_empty() {
            self.index().forget_packed(packed.into_iter().map(|blob| blob.digest))?;
        }
        self.sweep_packs()
    }

    fn blob_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut files = Vec::new();
        for folder in read_dir(&self.root().join("blobs"))? {
            files.extend(read_dir(&folder)?);
        }
        files.sort();
        Ok(files)
    }
}

/// Seconds since the epoch.
fn modified(metadata: &fs::Metadata) -> u64 {
    let modified = metadata.modified().ok();
    let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}
