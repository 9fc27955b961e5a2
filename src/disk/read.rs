//! Reading into memory that nobody has cleared first.

use std::fs::File;
use std::io;

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

/// A range of a file, in a vector of just this length.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the file ends before.
pub fn read_range(file: &File, offset: u64, n_bytes: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(n_bytes);
    while bytes.len() < n_bytes {
        let at = offset + bytes.len() as u64;
        match pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    bytes.truncate(n_bytes);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_range_comes_whole_or_not_at_all() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i * 7) as u8).collect();
        file.write_all(&bytes).unwrap();
        for (offset, n_bytes) in [(0, 0), (0, 100_000), (7, 99_993), (99_999, 1), (100_000, 0)] {
            assert!(read_range(&file, offset as u64, n_bytes).unwrap() == bytes[offset..offset + n_bytes]);
        }
        let error = read_range(&file, 99_999, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
