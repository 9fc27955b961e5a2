//! Replaces files so that a reader sees the old one or the new one, whole, also after a crash.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// Permissions of a file that everyone may read, less what the umask takes; tempfile alone makes 0600.
fn readable() -> Permissions {
    Permissions::from_mode(0o666)
}

/// Makes a temporary file beside where it will go, with the permissions of an ordinary new file.
pub fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    Builder::new().prefix(".lamarck-").suffix(".tmp").permissions(readable()).tempfile_in(folder)
}

/// Makes a finished temporary file durable and gives it its name; [`sync_folder`] makes the name durable.
pub fn publish(temporary: NamedTempFile, path: &Path) -> io::Result<()> {
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    Ok(())
}

/// Writes a file unless it already has these bytes; says whether it wrote.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    if std::fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(false);
    }
    let folder = path.parent().expect("a file's path has a folder");
    let mut temporary = temporary_in(folder)?;
    temporary.write_all(bytes)?;
    publish(temporary, path)?;
    Ok(true)
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_file_is_not_touched() {
        let space = tempfile::tempdir().unwrap();
        let path = space.path().join("config.json");
        assert!(write_if_changed(&path, b"{}").unwrap());
        let before = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert!(!write_if_changed(&path, b"{}").unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert!(write_if_changed(&path, b"[]").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"[]");
        assert_eq!(std::fs::read_dir(space.path()).unwrap().count(), 1);
    }
}
