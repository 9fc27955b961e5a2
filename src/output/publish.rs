//! Putting a new version of an output directory in its place.
//!
//! Where the directory holds nothing but lamarck's own files, the two versions trade places in one step
//! (`renameat2` with `RENAME_EXCHANGE`): a reader, or whoever comes after a crash, finds the old model, whole,
//! or the new one.
//!
//! Where it holds other things too, is a mount point or the working directory, or cannot trade places, it
//! stays where it is, and files are renamed into it one by one ([`MoveIn`]).
//!
//! Either way a journal is written before anything is touched. After a kill at any moment it tells the next
//! build which files are of which version, and the change is finished.
//!
//! Only regular files that are lamarck's ([`Owned`]) are removed or replaced. Whatever else has the name of
//! one is kept beside as `NAME.yours`; what appears in an old version while it goes moves to the new one.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::error::OutputError;
use super::files::{
    Take, entries, inode, is_mount_point, parent_of, regular, rename_if_free, rename_to_free, sync_folder,
    take_nothing,
};
use super::format;
use super::move_in::{MoveIn, Progress, in_order};
use super::names::LOCKFILE;
use super::ownership::Owned;
use super::workbench::{Workbench, clear_scratch, is_any_in, left_behind, take_turn};
use crate::digest::Digest;
use crate::disk;
use crate::event::{Event, Events};
use crate::model::companions;

/// The folder on a workbench that is the new version, or the old one after the two traded places.
pub(super) const MODEL: &str = "model";

/// The folder on a workbench for what makes room in the target.
const DISPLACED: &str = "displaced";

const JOURNAL: &str = "journal.json";
const HALF_JOURNAL: &str = "journal";

/// A change that was begun.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    way: Way,
    /// The files of the old version that may go.
    old: Owned,
    /// Those of the new one.
    new: Owned,
}

#[derive(Debug, Serialize, Deserialize)]
enum Way {
    /// The versions trade places; the new one is known by its lockfile, and by the folder's inode.
    Exchange { lock: String, inode: u64 },
    /// The new version's files are renamed into the old one, in this order.
    /// Those of `kept` were the old version's, too.
    MoveIn { files: Vec<String>, kept: Vec<String> },
}

/// What the journal of a bench says.
enum Found {
    /// Nothing was touched yet.
    Nothing,
    Journal(Journal),
    /// It cannot be read, so nothing can be said.
    Unreadable,
}

/// Puts the version on the bench in the target's place; gives what was kept of somebody else's under new names.
/// Files of the old version are offered before they are removed.
pub(super) fn publish(
    target: &Path,
    bench: Workbench,
    kept: &[String],
    (owned, take): (&Owned, Take<'_>),
    events: &dyn Events,
) -> io::Result<Vec<PathBuf>> {
    let model = bench.path().join(MODEL);
    if let Err(error) = sync_folder(&model).and_then(|()| disk::fail_point("exchange", target)) {
        // Whatever cannot be removed now is removed by the next build.
        let _ = give_up(bench);
        return Err(error);
    }
    let is_inside = bench.path().parent() == Some(target);
    let mut kept_aside = Vec::new();
    if !target.exists() && fs::rename(&model, target).is_ok() {
        sync_folder(parent_of(target))?;
    } else if !is_inside && may_trade(target, owned) && trade(&bench, &model, target, owned)? {
        sync_folder(parent_of(target))?;
        // The new version is in its place: what is left of the old one is for the next build, if need be.
        if remove_old(&model, target, (owned, take), &mut kept_aside).is_err() {
            events.event(Event::NotRemoved { path: bench.path() });
        }
    } else {
        let files = in_order(&model)?;
        let new = Owned::assume(&model, files.iter().map(String::as_str));
        let journal = Journal { way: Way::MoveIn { files, kept: kept.to_vec() }, old: owned.clone(), new };
        write_journal(&bench, &journal)?;
        move_in(&bench, target, (&journal, take), &mut kept_aside)?;
    }
    tell(events, &kept_aside);
    // As above.
    let _ = end(bench);
    Ok(kept_aside)
}

/// Removes what was made on a bench for a version that nobody wants any more.
pub(super) fn give_up(bench: Workbench) -> io::Result<()> {
    remove_files(&bench.path().join(MODEL))?;
    end(bench)
}

/// Whether there may be anything to recover from.
pub(super) fn is_anything_left(target: &Path) -> bool {
    is_any_in(parent_of(target)) || is_any_in(target)
}

/// Finishes or undoes what killed builds of `target` left, and clears what nobody needs beside it. What cannot
/// be removed is told of, and tried again by the next build.
///
/// # Errors
/// If an update file by file can neither be finished nor undone: the directory is a mixture.
pub(super) fn recover(target: &Path, events: &dyn Events) -> Result<(), OutputError> {
    let failed = OutputError::io("finish what was begun in", target);
    recover_all(target, events).map_err(failed)
}

fn recover_all(target: &Path, events: &dyn Events) -> io::Result<()> {
    let parent = parent_of(target);
    clear_scratch(parent)?;
    let mut left = left_behind(target, None)?;
    let n_inside = left.len();
    left.extend(left_behind(parent, None)?);
    for (i, bench) in left.into_iter().enumerate() {
        let is_targets = i < n_inside || bench.is_for(target.file_name());
        let path = bench.path().to_owned();
        let mut kept_aside = Vec::new();
        let ended = match read_journal(&bench) {
            Found::Nothing => give_up(bench),
            Found::Journal(journal) if is_targets => {
                let done = resume(&bench, target, &journal, &mut kept_aside)?;
                tell(events, &kept_aside);
                done.and_then(|()| end(bench))
            }
            // Another output's, which its next build will finish.
            Found::Journal(_) => continue,
            Found::Unreadable => Err(io::ErrorKind::InvalidData.into()),
        };
        if ended.is_err() {
            events.event(Event::NotRemoved { path: &path });
        }
    }
    Ok(())
}

/// Goes on where a change was cut short. The outer error is a mixture that stays one; the inner, things that
/// could not be cleared.
fn resume(
    bench: &Workbench,
    target: &Path,
    journal: &Journal,
    kept_aside: &mut Vec<PathBuf>,
) -> io::Result<io::Result<()>> {
    let model = bench.path().join(MODEL);
    match &journal.way {
        Way::Exchange { lock, inode: new } => {
            let is_new = lockfile_digest(&model).as_ref() == Some(lock) && inode(&model) == Some(*new);
            Ok(if is_new {
                remove_files(&model)
            } else {
                remove_old(&model, target, (&journal.old, &take_nothing), kept_aside)
            })
        }
        Way::MoveIn { .. } if target.is_dir() => {
            move_in(bench, target, (journal, &take_nothing), kept_aside)?;
            Ok(Ok(()))
        }
        Way::MoveIn { .. } => Ok(remove_files(&model)),
    }
}

/// Whether an update of a directory was begun and never finished, so that its files are of two versions.
pub fn is_half_published(dir: &Path) -> bool {
    let Ok(target) = fs::canonicalize(dir) else { return false };
    let parent = parent_of(&target);
    if !is_anything_left(&target) {
        return false;
    }
    // A build that is doing it just now is waited for.
    let Ok(_turn) = take_turn::<std::convert::Infallible>(parent, &|| Ok(()));
    let begun = |folder: &Path, name: Option<&OsStr>| {
        let is_begun = |bench: &Workbench| {
            matches!(read_journal(bench), Found::Journal(Journal { way: Way::MoveIn { .. }, .. }))
        };
        left_behind(folder, name).is_ok_and(|left| left.iter().any(is_begun))
    };
    begun(&target, None) || begun(parent, target.file_name())
}

fn tell(events: &dyn Events, kept_aside: &[PathBuf]) {
    for path in kept_aside {
        events.event(Event::KeptAside { path });
    }
}

/// Whether a directory may be replaced as a whole: nobody else has anything in it or on it.
fn may_trade(target: &Path, owned: &Owned) -> bool {
    let is_here = fs::canonicalize(".").is_ok_and(|here| here == target);
    let is_ours = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(|name| owned.holds(target, name)))
    };
    !is_here
        && !is_mount_point(target, parent_of(target))
        && fs::read_dir(target).is_ok_and(|mut entries| entries.all(is_ours))
}

/// Has the two versions trade places, where the system can.
fn trade(bench: &Workbench, model: &Path, target: &Path, owned: &Owned) -> io::Result<bool> {
    let (Some(inode), Some(lock)) = (inode(model), lockfile_digest(model)) else { return Ok(false) };
    let way = Way::Exchange { lock, inode };
    write_journal(bench, &Journal { way, old: owned.clone(), new: Owned::default() })?;
    Ok(renameat_with(CWD, model, CWD, target, RenameFlags::EXCHANGE).is_ok())
}

/// Removes an old version that has been replaced. What is not lamarck's, which came when it was too late to
/// leave the folder where it is, moves to the new one, but never under a name that loaders read.
fn remove_old(
    old: &Path,
    target: &Path,
    (owned, take): (&Owned, Take<'_>),
    kept_aside: &mut Vec<PathBuf>,
) -> io::Result<()> {
    disk::fail_point("remove", old)?;
    // Somebody may put things there until the folder is gone, but not for ever.
    for _ in 0..100 {
        for entry in entries(old)? {
            let name = entry.file_name().unwrap_or_default();
            if name.to_str().is_some_and(|name| owned.holds(old, name)) {
                if !take(&entry) {
                    fs::remove_file(&entry)?;
                }
                continue;
            }
            let place = target.join(name);
            let is_moved = !is_read_by_loaders(name)
                && match rename_if_free(&entry, &place) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
                    result => result.map(|()| true)?,
                };
            if !is_moved {
                kept_aside.push(rename_to_free(&entry, &place)?);
            }
        }
        match fs::remove_dir(old) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            result => return result,
        }
    }
    Err(io::ErrorKind::DirectoryNotEmpty.into())
}

fn is_read_by_loaders(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    format::is_weights(&name) || name.ends_with(".json") || companions::copied().any(|copied| copied == name)
}

fn move_in(
    bench: &Workbench,
    target: &Path,
    (journal, take): (&Journal, Take<'_>),
    kept_aside: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let Journal { way: Way::MoveIn { files, kept }, old, new } = journal else { return Ok(()) };
    let (model, displaced) = (bench.path().join(MODEL), bench.path().join(DISPLACED));
    if !displaced.is_dir() {
        fs::create_dir(&displaced)?;
    }
    let mut change =
        MoveIn { model: &model, displaced: &displaced, target, files, kept, old, new, take, kept_aside };
    match change.progress() {
        Progress::Under => change.finish()?,
        // Somebody has put another folder in its place.
        Progress::Elsewhere => remove_files(&model)?,
        Progress::Torn => {
            change.unload()?;
            remove_files(&model)?;
        }
    }
    fs::remove_dir(displaced)
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
    for folder in [MODEL, DISPLACED] {
        if bench.path().join(folder).exists() {
            fs::remove_dir(bench.path().join(folder))?;
        }
    }
    for file in [HALF_JOURNAL, JOURNAL] {
        if bench.path().join(file).exists() {
            fs::remove_file(bench.path().join(file))?;
        }
    }
    bench.end()
}

fn write_journal(bench: &Workbench, journal: &Journal) -> io::Result<()> {
    let (half, whole) = (bench.path().join(HALF_JOURNAL), bench.path().join(JOURNAL));
    disk::fail_point("write", &half)?;
    let mut file = File::create(&half)?;
    file.write_all(&serde_json::to_vec(journal)?)?;
    file.sync_all()?;
    fs::rename(half, &whole)?;
    sync_folder(bench.path())
}

fn read_journal(bench: &Workbench) -> Found {
    match fs::read(bench.path().join(JOURNAL)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Err(_) => Found::Unreadable,
        Ok(bytes) => serde_json::from_slice(&bytes).map_or(Found::Unreadable, Found::Journal),
    }
}

fn lockfile_digest(folder: &Path) -> Option<String> {
    let path = folder.join(LOCKFILE);
    regular(&path)?;
    Some(Digest::of(&fs::read(path).ok()?).to_string())
}
