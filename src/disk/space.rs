//! How much room file systems have.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The same for all folders of one file system.
    pub device: u64,
    /// Bytes that this user can still write.
    pub free: u64,
    /// Whether nothing can be written there at all.
    pub read_only: bool,
}

/// The room that there is for a folder, which need not be there yet.
///
/// # Errors
/// If the system does not tell.
pub fn space(folder: &Path) -> io::Result<Space> {
    let full = std::path::absolute(folder)?;
    let is_not_there =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    for folder in full.ancestors() {
        match std::fs::metadata(folder) {
            Ok(metadata) => {
                let found = rustix::fs::statvfs(folder)?;
                return Ok(Space {
                    device: metadata.dev(),
                    free: found.f_bavail.saturating_mul(found.f_frsize),
                    read_only: found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
                });
            }
            Err(error) if is_not_there(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_room_of_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let there = space(folder.path()).unwrap();
        let below = space(&folder.path().join("not/yet")).unwrap();
        assert!(there.free > 0);
        assert_eq!(there.device, below.device);
    }
}
