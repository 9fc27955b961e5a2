//! Writes past the page cache.
//!
//! A build writes more than it will soon read again. Copying all of it into the page cache costs more than
//! most of the arithmetic, drives the sources out of memory, and leaves the disk idle until the pages are
//! written back. So long runs of bytes go straight to the disk, where the file system allows it.

use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// File systems ask for offsets, lengths and addresses that are multiples of at most this.
const ALIGNMENT: usize = 4096;

/// Bytes handed over at a time.
const BLOCK: usize = 1 << 20;

/// Less than this is left to the page cache, which can wait for company.
const LEAST: usize = 1 << 18;

/// A thread's means to write to one file after the other. Only files that nobody else writes to through
/// the same handle at the time.
#[derive(Debug, Default)]
pub struct DirectWriter {
    /// A block, and as much as it takes to find an aligned start in it.
    buffer: Vec<u8>,
}

impl DirectWriter {
    /// Writes all bytes at an offset.
    pub fn write_all_at(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let is_aligned = offset.is_multiple_of(ALIGNMENT as u64);
        let direct = if bytes.len() >= LEAST && is_aligned && set_direct(file, true) {
            let whole = bytes.len() / ALIGNMENT * ALIGNMENT;
            let written = self.write_blocks(file, &bytes[..whole], offset);
            // Whatever else is written through this handle is none of this function's business.
            set_direct(file, false);
            written?
        } else {
            0
        };
        // The end of a page, or all that could not go the straight way.
        file.write_all_at(&bytes[direct..], offset + direct as u64)
    }

    /// Writes whole pages; returns how many bytes of them the file system was willing to take this way.
    fn write_blocks(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.buffer.resize(BLOCK + ALIGNMENT, 0);
        let start = self.buffer.as_ptr().align_offset(ALIGNMENT);
        let mut written = 0;
        while written < bytes.len() {
            let n = BLOCK.min(bytes.len() - written);
            let block = &mut self.buffer[start..start + n];
            block.copy_from_slice(&bytes[written..written + n]);
            match file.write_at(block, offset + written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                // Where less than a page was taken, the rest goes the other way.
                Ok(n) if n < ALIGNMENT => break,
                Ok(n) => written += n / ALIGNMENT * ALIGNMENT,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Refused for its alignment, or because the file system cannot do it.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

/// Switches a file's way past the page cache on or off; says whether that was possible.
#[cfg(target_os = "linux")]
fn set_direct(file: &File, on: bool) -> bool {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let set = || {
        let mut flags = fcntl_getfl(file.as_fd())?;
        flags.set(OFlags::DIRECT, on);
        fcntl_setfl(file.as_fd(), flags)
    };
    set().is_ok()
}

#[cfg(not(target_os = "linux"))]
fn set_direct(_file: &File, _on: bool) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn files_hold_what_was_written_whatever_its_length_and_place() {
        // The project's own file system, which mostly can; one in memory, which mostly cannot.
        for dir in [env!("CARGO_MANIFEST_DIR"), "/dev/shm"] {
            let Ok(mut file) = tempfile::tempfile_in(dir) else { continue };
            let mut writer = DirectWriter::default();
            let mut expected = Vec::new();
            for (n, offset) in
                [(3 * BLOCK + 5000, 0), (BLOCK, 4 << 20), (LEAST, 6 << 20), (700_000, 7_000_001)]
            {
                let bytes: Vec<u8> = (0..n).map(|i| (i * 31 + offset) as u8).collect();
                writer.write_all_at(&file, &bytes, offset as u64).unwrap();
                expected.resize(offset + n, 0);
                expected[offset..].copy_from_slice(&bytes);
            }
            let mut found = Vec::new();
            file.read_to_end(&mut found).unwrap();
            assert!(found == expected, "{dir}");
        }
    }
}
