//! Writing to disks: the steps at which they can fail us, and how they are kept busy.
//!
//! Whatever changes a file of the store or of an output announces it here first. Outside of tests that is
//! nothing; in tests any step can be made to fail, or everything from a step on, as if the process had
//! died there.

mod direct;
#[cfg(test)]
pub mod faults;
mod read;
mod space;

use std::fs::File;
use std::io;
use std::path::Path;

pub use direct::DirectWriter;
pub use read::read_range;
pub use space::{Space, space};

/// Announces a change of `path`; an error stands for the change having failed.
#[cfg(not(test))]
#[inline(always)]
pub fn fail_point(_what: &'static str, _path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub use faults::fail_point;

/// Tells the system that a range of a file will be read soon, so that the disk can begin. Only a hint.
#[cfg(target_os = "linux")]
pub fn will_read(file: &File, offset: u64, n_bytes: u64) {
    // No length at all would mean all of the file.
    if let Some(n_bytes) = std::num::NonZeroU64::new(n_bytes) {
        let _ = rustix::fs::fadvise(file, offset, Some(n_bytes), rustix::fs::Advice::WillNeed);
    }
}

#[cfg(not(target_os = "linux"))]
pub fn will_read(_file: &File, _offset: u64, _n_bytes: u64) {}
