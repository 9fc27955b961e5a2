//! What tells one state of a file from another without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Device, inode, size and stamps of a file. The change stamp (ctime) moves even where a program
/// puts the modification stamp back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Nanoseconds since the epoch.
    pub modified: i64,
    /// Nanoseconds since the epoch.
    pub changed: i64,
}

impl Identity {
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the stamps are old enough, at `now`, that a later write must move them.
    ///
    /// File systems stamp in steps of up to two seconds; a file written within the step could be
    /// written again without a trace. Stamps in the future are never trusted.
    pub fn is_settled(&self, now: i64) -> bool {
        const STEP: i64 = 2_000_000_000;
        now.saturating_sub(self.modified.max(self.changed)) >= STEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn young_and_future_stamps_are_not_trusted() {
        let at = |modified, changed| Identity { device: 1, inode: 1, size: 1, modified, changed };
        let second = 1_000_000_000;
        assert!(at(0, 0).is_settled(2 * second));
        assert!(!at(0, second).is_settled(2 * second));
        assert!(!at(9 * second, 0).is_settled(2 * second));
    }
}
