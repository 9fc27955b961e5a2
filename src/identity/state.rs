//! What tells one state of a file from another without reading all of it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::digest::{Checksums, Digest};

/// Device, inode, size and stamps of a file, and a probe of its content. The change stamp (ctime) moves even
/// where a program puts the modification stamp back. The probe tells files apart that agree in all of that, as
/// those of two images with fixed stamps do that are mounted in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Nanoseconds since the epoch.
    pub modified: i64,
    /// Nanoseconds since the epoch.
    pub changed: i64,
    /// Nanoseconds since the epoch; 0 where the file system does not say.
    pub born: i64,
    /// A checksum of blocks spread over the file.
    pub probe: u128,
}

impl Identity {
    /// The identity of a regular file.
    pub fn of(file: &File) -> io::Result<Self> {
        let stamps = Self::without_probe(&file.metadata()?);
        Ok(Self { probe: probe(file, stamps.size)?, ..stamps })
    }

    /// The identity of a file that is elsewhere, by what its server calls its content: no stamps, and no place on a
    /// disk of this machine.
    pub fn of_content(name: &str, size: u64) -> Self {
        let name = Digest::of(name.as_bytes()).0;
        let (probe, rest) = name.split_first_chunk().expect("a digest is longer");
        let (inode, _) = rest.split_first_chunk().expect("a digest is longer");
        Self {
            device: u64::MAX,
            inode: u64::from_le_bytes(*inode),
            size,
            modified: 0,
            changed: 0,
            born: 0,
            probe: u128::from_le_bytes(*probe),
        }
    }

    /// Whether a file with this metadata is the same, as far as can be told without opening it.
    pub fn fits(&self, metadata: &Metadata) -> bool {
        *self == Self { probe: self.probe, ..Self::without_probe(metadata) }
    }

    pub(super) fn without_probe(metadata: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            born: (metadata.created().ok())
                .and_then(|born| i64::try_from(born.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok())
                .unwrap_or(0),
            probe: 0,
        }
    }

    /// Whether the stamps are so young, at `now` (nanoseconds since the epoch), that a later write might not
    /// move them.
    ///
    /// File systems stamp in steps of up to two seconds; a file written within the step could be
    /// written again without a trace. Stamps in the future are never trusted.
    pub fn is_racy(&self, now: i64) -> bool {
        const STEP: i64 = 2_000_000_000;
        now.saturating_sub(self.modified.max(self.changed)) < STEP
    }
}

/// A checksum of a few blocks of a file, the first and the last among them: a handful of small reads, so that
/// a build with nothing to do stays quick.
fn probe(file: &File, size: u64) -> io::Result<u128> {
    const BLOCKS: u64 = 8;
    const BLOCK: u64 = 4096;
    let n_bytes = size.min(BLOCK);
    let mut found = vec![0; (BLOCKS * n_bytes) as usize];
    for (i, block) in (0..BLOCKS).zip(found.chunks_mut(n_bytes.max(1) as usize)) {
        file.read_exact_at(block, (size - n_bytes) / (BLOCKS - 1) * i)?;
    }
    // The steps are rounded down, so the last block is taken from the end.
    if let Some(at) = found.len().checked_sub(n_bytes as usize) {
        file.read_exact_at(&mut found[at..], size - n_bytes)?;
    }
    Ok(Checksums::of(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn young_and_future_stamps_are_not_trusted() {
        let at = |modified, changed| Identity {
            device: 1,
            inode: 1,
            size: 1,
            modified,
            changed,
            born: 0,
            probe: 0,
        };
        let second = 1_000_000_000;
        assert!(!at(0, 0).is_racy(2 * second));
        assert!(at(0, second).is_racy(2 * second));
        assert!(at(9 * second, 0).is_racy(2 * second));
    }

    #[test]
    fn the_probe_sees_another_content_under_the_same_stamps() {
        let file = tempfile::tempfile().unwrap();
        for size in [0, 1, 5000, 1 << 20] {
            file.set_len(size).unwrap();
            let zeros = Identity::of(&file).unwrap();
            assert!(zeros.fits(&file.metadata().unwrap()));
            for at in [0, size / 2, size.saturating_sub(1)].into_iter().filter(|_| (1..=5000).contains(&size))
            {
                file.write_all_at(b"x", at).unwrap();
                assert_ne!(Identity::of(&file).unwrap().probe, zeros.probe);
                file.write_all_at(b"\0", at).unwrap();
                assert_eq!(Identity::of(&file).unwrap().probe, zeros.probe);
            }
            if size > 5000 {
                file.write_all_at(b"x", size - 1).unwrap();
                assert_ne!(Identity::of(&file).unwrap().probe, zeros.probe);
            }
        }
    }
}
