//! Ranges of files outside the store, and what they held.

use std::path::PathBuf;
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

/// A digest, and the checksums of the bytes that it names.
pub type ChecksumsRow = (Digest, Arc<Checksums>);
