//! Steps on files and folders that others may be changing, too.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::disk;

/// Takes a file of an old version, at whatever path it is now, before it is removed; says whether it has been moved
/// away.
pub(super) type Take<'a> = &'a dyn Fn(&Path) -> bool;

/// Takes nothing.
pub(super) fn take_nothing(_: &Path) -> bool {
    false
}

/// A file's metadata, if it is a regular one: nothing else is opened, since that could take for ever.
pub(super) fn regular(path: &Path) -> Option<Metadata> {
    fs::symlink_metadata(path).ok().filter(Metadata::is_file)
}

/// The inode of whatever stands at a path, links not followed: two names of one file have the same.
pub(super) fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|metadata| metadata.ino())
}

/// Renames `from` to the first of `to.yours`, `to.yours2`, ... that is free.
pub(super) fn rename_to_free(from: &Path, to: &Path) -> io::Result<PathBuf> {
    for number in 1_u32.. {
        let mut name = to.as_os_str().to_owned();
        name.push(".yours");
        if number > 1 {
            name.push(number.to_string());
        }
        let free = PathBuf::from(name);
        match rename_if_free(from, &free) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|()| free),
        }
    }
    unreachable!("some number is free")
}

/// Renames, but never onto something.
pub(super) fn rename_if_free(from: &Path, to: &Path) -> io::Result<()> {
    disk::fail_point("rename", to)?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if fs::symlink_metadata(to).is_err() => {
            fs::rename(from, to)
        }
        result => Ok(result?),
    }
}

/// The paths of everything in a folder.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    disk::fail_point("sync", folder)?;
    File::open(folder)?.sync_all()
}

/// The folder that a directory is in.
pub(super) fn parent_of(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a folder lies on another mount than its parent, where there is such a thing also one of the same file system.
pub(super) fn is_mount_point(target: &Path, parent: &Path) -> bool {
    let place = |path: &Path| Some((mount_id(path)?, fs::metadata(path).ok()?.dev()));
    place(target).is_some_and(|of_target| place(parent) != Some(of_target))
}

/// The number of the mount that a path lies on, which tells apart what `mount --bind` shows twice.
#[cfg(target_os = "linux")]
fn mount_id(path: &Path) -> Option<u64> {
    use rustix::fs::{AtFlags, StatxFlags, statx};

    statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok().map(|found| found.stx_mnt_id)
}

/// Elsewhere a file system is mounted once.
#[cfg(not(target_os = "linux"))]
fn mount_id(_path: &Path) -> Option<u64> {
    Some(0)
}
