//! Blob files: made under a temporary name, made durable, then named by their digest.

use std::borrow::Cow;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::StoreError;
use crate::digest::Digest;
use crate::disk::{self, DirectWriter};

/// The outcome of looking for a blob.
#[derive(Debug)]
pub enum Lookup<T> {
    Found(T),
    Missing,
    /// The blob did not match its digest and was removed.
    Damaged,
}

impl<T> Lookup<T> {
    pub fn map<U>(self, found: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Self::Found(value) => Lookup::Found(found(value)),
            Self::Missing => Lookup::Missing,
            Self::Damaged => Lookup::Damaged,
        }
    }
}

/// Bytes of the store in an open file, which may hold other things, too.
#[derive(Debug)]
pub struct InFile {
    pub path: PathBuf,
    pub file: File,
    pub offset: u64,
}

impl InFile {
    /// So many bytes; `None` if there are fewer, or they do not pass a check.
    pub fn read(
        &self,
        n_bytes: usize,
        is_sound: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        match disk::read_range(&self.file, self.offset, n_bytes) {
            Ok(bytes) => Ok(is_sound(&bytes).then_some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(StoreError::io("read", &self.path)(error)),
        }
    }
}

/// A result on its way into the store.
#[derive(Debug)]
pub enum Content {
    Bytes(Arc<Vec<u8>>),
    File(SealedBlob),
}

impl Content {
    /// The result's bytes, read from its file if they are in one.
    pub fn bytes(&self) -> io::Result<Cow<'_, [u8]>> {
        Ok(match self {
            Self::Bytes(bytes) => Cow::Borrowed(bytes),
            Self::File(SealedBlob(path)) => Cow::Owned(fs::read(path)?),
        })
    }
}

/// A temporary file that is to become a blob. Removed when dropped.
#[derive(Debug)]
pub struct BlobFile {
    path: tempfile::TempPath,
    file: File,
}

/// A temporary file that is complete. Removed when dropped, unless it was published.
#[derive(Debug)]
pub struct SealedBlob(tempfile::TempPath);

impl BlobFile {
    pub(super) fn create(dir: &Path) -> Result<Self, StoreError> {
        let create = || {
            disk::fail_point("create", dir)?;
            tempfile::Builder::new().prefix("blob-").tempfile_in(dir)
        };
        let temporary = create().map_err(StoreError::io("create a file in", dir))?;
        let (file, path) = temporary.into_parts();
        Ok(Self { path, file })
    }

    /// Writes bytes at an offset. Writers of separate ranges may run at the same time.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let write = || {
            disk::fail_point("write", &self.path)?;
            self.file.write_all_at(bytes, offset)
        };
        write().map_err(StoreError::io("write", &self.path))
    }

    /// Writes bytes at an offset, long runs past the page cache. Only for one thread at a time.
    pub fn write_past_cache(
        &self,
        offset: u64,
        bytes: &[u8],
        writer: &mut DirectWriter,
    ) -> Result<(), StoreError> {
        let mut write = || {
            disk::fail_point("write", &self.path)?;
            writer.write_all_at(&self.file, bytes, offset)
        };
        write().map_err(StoreError::io("write", &self.path))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A handle to read what was written, which stays good when the file gets its name.
    pub fn handle(&self) -> Result<Arc<File>, StoreError> {
        Ok(Arc::new(self.file.try_clone().map_err(StoreError::io("open", &self.path))?))
    }

    /// Ends writing.
    pub fn seal(self) -> Result<SealedBlob, StoreError> {
        let Self { path, file } = self;
        let protect = || {
            disk::fail_point("protect", &path)?;
            file.set_permissions(Permissions::from_mode(0o444))
        };
        protect().map_err(StoreError::io("protect", &path))?;
        Ok(SealedBlob(path))
    }
}

/// Opens the blob at `path`, which whoever reads it must check.
pub(super) fn open(path: &Path, n_bytes: u64) -> Result<Lookup<InFile>, StoreError> {
    // Opening something else than a regular file, such as a pipe, could wait forever.
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lookup::Missing),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    if metadata.is_file() && metadata.len() == n_bytes {
        let file = File::open(path).map_err(StoreError::io("read", path))?;
        Ok(Lookup::Found(InFile { path: path.to_owned(), file, offset: 0 }))
    } else {
        remove_damaged(path)
    }
}

/// Reads and checks the blob at `path`.
pub(super) fn read(path: &Path, digest: &Digest, n_bytes: u64) -> Result<Lookup<Vec<u8>>, StoreError> {
    let found = match open(path, n_bytes)? {
        Lookup::Found(found) => found,
        Lookup::Missing => return Ok(Lookup::Missing),
        Lookup::Damaged => return Ok(Lookup::Damaged),
    };
    disk::will_read(&found.file, 0, n_bytes);
    match found.read(n_bytes as usize, |bytes| Digest::of(bytes) == *digest)? {
        Some(bytes) => Ok(Lookup::Found(bytes)),
        None => remove_damaged(path),
    }
}

/// Removes a blob that is not what its digest names, so that whoever looked for it can make it again.
pub(super) fn remove_damaged<T>(path: &Path) -> Result<Lookup<T>, StoreError> {
    match remove_any(path) {
        Err(error) if error.kind() != io::ErrorKind::ReadOnlyFilesystem => {
            Err(StoreError::io("remove the damaged", path)(error))
        }
        _ => Ok(Lookup::Damaged),
    }
}

/// Removes whatever stands where a blob should.
pub(super) fn remove_any(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Removes a blob, or whatever stands where one should; another process may have been faster.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match disk::fail_point("remove", path).and_then(|()| remove_any(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Whether the file at `path` is one, and holds the bytes that the digest names; `None` if there is none,
/// as after a build beside us has handed it over.
pub(super) fn is_sound(path: &Path, digest: Option<Digest>) -> io::Result<Option<bool>> {
    let check = || -> io::Result<bool> {
        // Opening something else than a regular file, such as a pipe, could wait forever.
        if digest.is_none() || !fs::symlink_metadata(path)?.is_file() {
            return Ok(false);
        }
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut File::open(path)?, &mut hasher)?;
        Ok(digest == Some(Digest::from(hasher.finalize())))
    };
    match check() {
        Ok(is_sound) => Ok(Some(is_sound)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Above this many files, one sync of the whole file system is cheaper than one for each file.
const SYNC_ALL_FROM: usize = 8;

/// Makes files durable, gives each its name, and makes the names durable.
pub(super) fn publish(root: &Path, files: Vec<(SealedBlob, PathBuf)>) -> Result<(), StoreError> {
    if files.is_empty() {
        return Ok(());
    }
    let many = cfg!(target_os = "linux") && files.len() > SYNC_ALL_FROM;
    if many {
        sync_file_system(root)?;
    } else {
        for (SealedBlob(blob), _) in &files {
            let sync = || {
                disk::fail_point("sync", blob)?;
                File::open(blob)?.sync_all()
            };
            sync().map_err(StoreError::io("sync", blob))?;
        }
    }
    let mut folders: Vec<&Path> = Vec::new();
    for (SealedBlob(blob), path) in &files {
        let folder = path.parent().expect("a blob's path has a folder");
        if !folder.is_dir() {
            fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
            folders.push(root);
        }
        // Replacing a blob of the same name is harmless: it has the same bytes.
        let name = || {
            disk::fail_point("rename", path)?;
            fs::rename(blob, path)
        };
        name().map_err(StoreError::io("name", path))?;
        folders.push(folder);
    }
    if many {
        return sync_file_system(root);
    }
    folders.push(root);
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        let sync = || {
            disk::fail_point("sync", folder)?;
            File::open(folder)?.sync_all()
        };
        sync().map_err(StoreError::io("sync", folder))?;
    }
    Ok(())
}

/// Makes everything written to the store's file system durable.
#[cfg(target_os = "linux")]
fn sync_file_system(root: &Path) -> Result<(), StoreError> {
    let sync = || {
        disk::fail_point("sync all", root)?;
        Ok(rustix::fs::syncfs(File::open(root)?)?)
    };
    sync().map_err(StoreError::io("sync the file system of", root))
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_root: &Path) -> Result<(), StoreError> {
    unreachable!("files are synced one by one where a file system cannot be")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let file = BlobFile::create(root).unwrap();
        file.write_at(0, bytes).unwrap();
        let path = root.join("blobs/ab").join(name);
        publish(root, vec![(file.seal().unwrap(), path.clone())]).unwrap();
        path
    }

    #[test]
    fn a_published_blob_reads_back_and_a_damaged_one_is_removed() {
        let space = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"bytes");
        let path = put(space.path(), "a", b"bytes");
        let lookup = read(&path, &digest, 5).unwrap();
        assert!(matches!(lookup, Lookup::Found(bytes) if *bytes == *b"bytes"));
        assert!(matches!(read(&space.path().join("b"), &digest, 5).unwrap(), Lookup::Missing));
        for damaged in [&b"bytez"[..], b"byte", b""] {
            let path = put(space.path(), "c", damaged);
            assert!(matches!(read(&path, &digest, 5).unwrap(), Lookup::Damaged));
            assert!(!path.exists());
        }
    }

    #[test]
    fn nothing_is_left_of_a_blob_that_was_not_published() {
        let space = tempfile::tempdir().unwrap();
        let blob = BlobFile::create(space.path()).unwrap();
        blob.write_at(3, b"x").unwrap();
        drop(blob);
        assert_eq!(fs::read_dir(space.path()).unwrap().count(), 0);
    }
}
