//! Writing to disks: the steps at which they can fail us, and how they are kept busy.
//!
//! Whatever changes a file of the store or of an output announces it here first. Outside of tests that is
//! nothing; in tests any step can be made to fail, or everything from a step on, as if the process had
//! died there.

mod direct;
#[cfg(test)]
pub mod faults;

use std::io;
use std::path::Path;

pub use direct::DirectWriter;

/// Announces a change of `path`; an error stands for the change having failed.
#[cfg(not(test))]
#[inline(always)]
pub fn step(_what: &'static str, _path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub use faults::step;
