//! Ranges of files, and what they held.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::{Checksums, Digest};
use crate::identity::Identity;

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
    /// A mark that the caller made when it read the bytes; the store only keeps it.
    pub mark: bool,
}

/// A row of the memo.
pub type MemoRow = (FileRange, RangeContent);

/// Bytes outside the store: a range of a file in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalRange {
    /// Absolute.
    pub path: PathBuf,
    pub range: FileRange,
}

/// A digest, and a range outside the store that holds its bytes.
pub type ExternalRow = (Digest, ExternalRange);

/// A file that came into the store as it was, with results in it; named by all that told it from other files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pack(pub(super) u128);

impl fmt::Display for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Pack {
    pub(super) fn of(identity: &Identity) -> Self {
        let Identity { device, inode, size, modified, changed, born, probe } = identity;
        let numbers = [*device, *inode, *size].map(u64::to_le_bytes);
        let stamps = [*modified, *changed, *born].map(i64::to_le_bytes);
        Self(Checksums::of(&[numbers.as_flattened(), stamps.as_flattened(), &probe.to_le_bytes()].concat()))
    }

    /// The pack that a path names, if it has a pack's name.
    pub(super) fn from_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let pack = Self(u128::from_str_radix(name, 16).ok()?);
        (pack.to_string() == name).then_some(pack)
    }
}

/// A range of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRange {
    pub pack: Pack,
    pub offset: u64,
    pub n_bytes: u64,
}

/// A digest, and the range of a pack that holds its bytes.
pub type PackedRow = (Digest, PackRange);

/// A digest, and the checksums of the bytes that it names.
pub type ChecksumsRow = (Digest, Arc<Checksums>);
