//! Read-only file maps.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

/// The bytes of a file that nobody changes while it is mapped.
#[derive(Debug)]
pub struct Mapping(Option<memmap2::Mmap>);

impl Mapping {
    /// Maps a whole file.
    ///
    /// Only for the temporary files of this process, which nobody else knows and which are complete when
    /// mapped. Never for sources and blobs: a file that another program truncates under a map kills the process.
    pub fn of_store_file(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the caller maps its own temporary files only. Those are written once, before they are
        // mapped, and from then on only renamed or unlinked, which leaves the mapped pages in place.
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Self(Some(map)))
    }

    /// Maps a range of an output's shard that is still in the making: nobody else has been told of it,
    /// the range is complete, and the map is dropped before the shard gets its place.
    pub fn of_region(file: &File, offset: u64, n_bytes: usize) -> io::Result<Self> {
        if n_bytes == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the file is new and its length was fixed when it was made. Until it is published only
        // this process writes to it, and to ranges other than this one.
        let map = unsafe { memmap2::MmapOptions::new().offset(offset).len(n_bytes).map(file)? };
        Ok(Self(Some(map)))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
