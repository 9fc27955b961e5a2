//! The tables of the index, all of checked rows (see [`super::rows`]).

use redb::TableDefinition;

/// A table of checked rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Table(pub &'static str);

/// Action key -> digest and size of its output.
pub(super) const ACTIONS: Table = Table("actions");
/// Action key -> the keys of what was made beside its output.
pub(super) const BESIDE: Table = Table("beside");
/// Where a range of a file is -> the file's state, and what the range held.
pub(super) const MEMO: Table = Table("memo");
/// Digest -> a range outside the store that holds its bytes.
pub(super) const EXTERNAL: Table = Table("external");
/// Digest -> the range of a pack that holds its bytes.
pub(super) const PACKED: Table = Table("packed");
/// The path of an output's file -> the file whose ranges are remembered.
pub(super) const FILES: Table = Table("files");
/// Digest -> checksums of the blocks of the bytes that it names.
pub(super) const CHECKSUMS: Table = Table("checksums");
/// Build number -> its record, as the caller wrote it.
pub(super) const BUILDS: Table = Table("builds");
/// Digest and number of a piece -> a piece of what records have in common.
pub(super) const BLOCKS: Table = Table("blocks");
/// A name -> the number of the last build that has it.
pub(super) const LATEST: Table = Table("latest");
/// A name -> a time at which whatever has the name was used.
pub(super) const USED: Table = Table("used");
/// A name that somebody gave to a build -> the build's number, and what the caller noted.
pub(super) const TAGS: Table = Table("tags");
/// A kind of work -> what it took so far, as the caller wrote it.
pub(super) const COSTS: Table = Table("costs");
/// Build number -> the digest of a block that belongs to the build and is no part of its record.
pub(super) const ATTACHED: Table = Table("attached");
/// What was asked for -> how all was found and left by the build that did it, as the caller wrote it.
pub(super) const FINGERPRINTS: Table = Table("fingerprints");

pub(super) const ALL: [Table; 15] = [
    ACTIONS,
    BESIDE,
    MEMO,
    EXTERNAL,
    PACKED,
    FILES,
    CHECKSUMS,
    BUILDS,
    BLOCKS,
    LATEST,
    USED,
    TAGS,
    COSTS,
    ATTACHED,
    FINGERPRINTS,
];

impl Table {
    pub fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.0)
    }
}

/// The key of a build.
pub(super) fn build_key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

pub(super) fn build_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}
