//! Putting a new version of an output directory in its place.
//!
//! Where the directory holds nothing but lamarck's own files, the two versions trade places in one step
//! (`renameat2` with `RENAME_EXCHANGE`): a reader, or whoever comes after a crash, finds the old model, whole,
//! or the new one.
//!
//! Where it holds other things too, is a mount point or the working directory, or cannot trade places, it
//! stays where it is, and files are renamed into it one by one. config.json goes first and comes back last, so
//! that a mixture of two versions never loads as a model.
//!
//! Either way a journal is written before anything is touched. After a kill at any moment it tells the next
//! build which files are of which version, and the change is finished.
//!
//! Only regular files that are lamarck's ([`Owned`]) are removed or replaced. Whatever else has the name of
//! one is kept beside as `NAME.yours`; what appears in an old version while it goes moves to the new one.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::ownership::{Aside, Owned, regular, rename_if_free, rename_to_free, set_aside};
use super::sharding::{INDEX, SINGLE};
use super::staging::{is_mount_point, parent_of};
use super::workbench::{Workbench, clear_scratch, left_behind};
use super::{CONFIG_FILE as CONFIG, LOCK_FILE};
use crate::disk;

/// The folder on a workbench that is the new version, or the old one after the two traded places.
pub(super) const MODEL: &str = "model";

const JOURNAL: &str = "journal.json";

/// A change that was begun.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    way: Way,
    /// The files of the old version that may go.
    old: Owned,
}

#[derive(Debug, Serialize, Deserialize)]
enum Way {
    /// The versions trade places; the new one is the folder of this inode.
    Exchange { new: u64 },
    /// The new version's files are renamed into the old one, in this order.
    MoveIn { files: Vec<String> },
}

/// Puts the version on the bench in the target's place.
pub(super) fn publish(target: &Path, bench: Workbench, owned: &Owned) -> io::Result<Vec<Aside>> {
    let model = bench.path().join(MODEL);
    if let Err(error) = sync_folder(&model).and_then(|()| disk::step("exchange", target)) {
        // Whatever cannot be removed now is removed by the next build.
        let _ = give_up(bench);
        return Err(error);
    }
    let is_inside = bench.path().parent() == Some(target);
    let mut aside = Vec::new();
    if !target.exists() && fs::rename(&model, target).is_ok() {
        sync_folder(parent_of(target))?;
    } else if !is_inside && may_trade(target, owned) && trade(&bench, &model, target, owned)? {
        sync_folder(parent_of(target))?;
        remove_old(&model, target, owned)?;
    } else {
        let files = in_order(&model)?;
        let journal = Journal { way: Way::MoveIn { files }, old: owned.clone() };
        write_journal(&bench, &journal)?;
        move_in(&model, target, &journal, &mut aside)?;
    }
    end(bench)?;
    Ok(aside)
}

/// Removes what was made on a bench for a version that nobody wants any more.
pub(super) fn give_up(bench: Workbench) -> io::Result<()> {
    remove_files(&bench.path().join(MODEL))?;
    end(bench)
}

/// Finishes or undoes what killed builds of `target` left, and clears what nobody needs beside it.
///
/// # Errors
/// If something of it can neither be moved nor removed.
pub fn recover(target: &Path) -> io::Result<()> {
    let target = &fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
    let parent = parent_of(target);
    let mut left = left_behind(target, None)?;
    left.extend(left_behind(parent, target.file_name())?);
    clear_scratch(parent)?;
    for bench in left {
        let model = bench.path().join(MODEL);
        match read_journal(&bench) {
            Some(Journal { way: Way::Exchange { new }, old })
                if inode(&model).is_some_and(|at| at != new) =>
            {
                remove_old(&model, target, &old)?;
            }
            Some(journal @ Journal { way: Way::MoveIn { .. }, .. }) if target.is_dir() => {
                move_in(&model, target, &journal, &mut Vec::new())?;
            }
            _ => remove_files(&model)?,
        }
        end(bench)?;
    }
    Ok(())
}

/// Whether an update of a directory was begun and never finished, so that its files are of two versions.
pub fn is_half_published(target: &Path) -> bool {
    let Ok(target) = fs::canonicalize(target) else { return false };
    let begun = |folder: &Path, name: Option<&OsStr>| {
        left_behind(folder, name).is_ok_and(|left| {
            left.iter()
                .any(|bench| matches!(read_journal(bench), Some(Journal { way: Way::MoveIn { .. }, .. })))
        })
    };
    begun(&target, None) || begun(parent_of(&target), target.file_name())
}

/// Whether a directory may be replaced as a whole: nobody else has anything in it or on it.
fn may_trade(target: &Path, owned: &Owned) -> bool {
    let is_here = inode(Path::new(".")).is_some() && inode(Path::new(".")) == inode(target);
    let is_ours = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(|name| owned.holds(target, name)))
    };
    !is_here
        && !is_mount_point(target, parent_of(target))
        && fs::read_dir(target).is_ok_and(|mut entries| entries.all(is_ours))
}

/// Has the two versions trade places, where the system can.
fn trade(bench: &Workbench, model: &Path, target: &Path, owned: &Owned) -> io::Result<bool> {
    let Some(new) = inode(model) else { return Ok(false) };
    write_journal(bench, &Journal { way: Way::Exchange { new }, old: owned.clone() })?;
    Ok(renameat_with(CWD, model, CWD, target, RenameFlags::EXCHANGE).is_ok())
}

/// Removes an old version that has been replaced. What is not lamarck's, which came when it was too late to
/// leave the folder where it is, moves to the new one.
fn remove_old(old: &Path, target: &Path, owned: &Owned) -> io::Result<()> {
    disk::step("remove", old)?;
    // Somebody may put things there until the folder is gone, but not for ever.
    for _ in 0..100 {
        for entry in entries(old)? {
            let name = entry.file_name().unwrap_or_default();
            if name.to_str().is_some_and(|name| owned.holds(old, name)) {
                fs::remove_file(&entry)?;
                continue;
            }
            let place = target.join(name);
            match rename_if_free(&entry, &place) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    rename_to_free(&entry, &place)?;
                }
                result => result?,
            }
        }
        match fs::remove_dir(old) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            result => return result,
        }
    }
    Err(io::ErrorKind::DirectoryNotEmpty.into())
}

/// Renames the new version's files into the target, those that are not there yet, and removes what only the
/// old version had.
fn move_in(model: &Path, target: &Path, journal: &Journal, aside: &mut Vec<Aside>) -> io::Result<()> {
    let Journal { way: Way::MoveIn { files }, old } = journal else { return Ok(()) };
    let is_new = |name: &str| files.iter().any(|file| file == name);
    let is_weights = |name: &str| name.ends_with(".safetensors");
    let is_there =
        |name: &str| inode(&model.join(name)).is_some_and(|new| inode(&target.join(name)) == Some(new));
    let changes_weights = files.iter().any(|name| is_weights(name) && !is_there(name))
        || old.names().any(|name| is_weights(name) && !is_new(name));
    if changes_weights && model.join(CONFIG).exists() {
        if is_there(CONFIG) {
            // One of two names of the file, which comes back.
            fs::remove_file(target.join(CONFIG))?;
        } else {
            clear_place(target, CONFIG, old, aside)?;
        }
        sync_folder(target)?;
    }
    for name in files.iter().filter(|name| *name != CONFIG && *name != LOCK_FILE) {
        place(model, target, name, old, aside)?;
    }
    for name in old.names().filter(|name| !is_new(name)) {
        clear_own(target, name, old)?;
    }
    if is_new(INDEX) && !is_new(SINGLE) {
        // Loaders would take a file of this name for the whole model.
        clear_place(target, SINGLE, old, aside)?;
    }
    sync_folder(target)?;
    place(model, target, CONFIG, old, aside)?;
    sync_folder(target)?;
    place(model, target, LOCK_FILE, old, aside)?;
    sync_folder(target)
}

/// Renames a file of the new version to its place.
fn place(model: &Path, target: &Path, name: &str, old: &Owned, aside: &mut Vec<Aside>) -> io::Result<()> {
    let (from, to) = (model.join(name), target.join(name));
    let Some(new) = inode(&from) else { return Ok(()) };
    if inode(&to) == Some(new) {
        // Kept as it is: the other name of the same file.
        return fs::remove_file(&from);
    }
    disk::step("rename", &to)?;
    if !old.holds(target, name) && fs::symlink_metadata(&to).is_ok() {
        aside.push(set_aside(&to)?);
    }
    fs::rename(&from, &to)
}

/// Makes sure that there is nothing at a place, without losing anything.
fn clear_place(target: &Path, name: &str, old: &Owned, aside: &mut Vec<Aside>) -> io::Result<()> {
    clear_own(target, name, old)?;
    if fs::symlink_metadata(target.join(name)).is_ok() {
        aside.push(set_aside(&target.join(name))?);
    }
    Ok(())
}

fn clear_own(target: &Path, name: &str, old: &Owned) -> io::Result<()> {
    if old.holds(target, name) { fs::remove_file(target.join(name)) } else { Ok(()) }
}

/// The new version's files: weights, everything else, config.json, the lock file.
fn in_order(model: &Path) -> io::Result<Vec<String>> {
    let mut files: Vec<String> = entries(model)?
        .iter()
        .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .collect();
    files.sort_by_key(|name| {
        (name == LOCK_FILE, name == CONFIG, !name.ends_with(".safetensors"), name.clone())
    });
    Ok(files)
}

/// Removes the files of a folder that nobody but lamarck has written to, and the folder.
fn remove_files(folder: &Path) -> io::Result<()> {
    if fs::symlink_metadata(folder).is_err() {
        return Ok(());
    }
    for path in entries(folder)? {
        if regular(&path).is_some() {
            fs::remove_file(path)?;
        }
    }
    fs::remove_dir(folder)
}

/// Ends a bench whose version is in its place, or gone.
fn end(bench: Workbench) -> io::Result<()> {
    let model = bench.path().join(MODEL);
    if model.exists() {
        fs::remove_dir(model)?;
    }
    let journal = bench.path().join(JOURNAL);
    if journal.exists() {
        fs::remove_file(journal)?;
    }
    bench.end()
}

fn write_journal(bench: &Workbench, journal: &Journal) -> io::Result<()> {
    let (half, whole) = (bench.path().join("journal"), bench.path().join(JOURNAL));
    disk::step("write", &half)?;
    let mut file = File::create(&half)?;
    file.write_all(&serde_json::to_vec(journal)?)?;
    file.sync_all()?;
    fs::rename(half, &whole)?;
    sync_folder(bench.path())
}

fn read_journal(bench: &Workbench) -> Option<Journal> {
    // A kill may have left a half of one, which says that nothing was touched.
    let _ = fs::remove_file(bench.path().join("journal"));
    serde_json::from_slice(&fs::read(bench.path().join(JOURNAL)).ok()?).ok()
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|metadata| metadata.ino())
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    disk::step("sync", folder)?;
    File::open(folder)?.sync_all()
}
