//! Makes the steps of a disk fail, for tests.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::*;

/// What goes wrong below a folder.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing; steps are only counted.
    None,
    /// The step of this number fails.
    Once(usize, io::ErrorKind),
    /// The step of this number and everything after it fails.
    From(usize),
    /// As before; besides, what was not synced by then is lost: files written come back empty. A name
    /// that was not synced may have reached the disk or not.
    PowerCut { at: usize, keeps_names: bool },
    /// Just before the step of this number somebody else does something below the folder; then everything goes
    /// on, or the process dies.
    Meanwhile { at: usize, act: fn(&Path), dies: bool },
}

struct Armed {
    root: PathBuf,
    fault: Fault,
    steps: Vec<&'static str>,
    /// Inodes of files that were written and not synced.
    dirty: HashSet<u64>,
    /// Files that got their names, in folders not synced since.
    renamed: Vec<PathBuf>,
}

static ARMED: Mutex<Option<Armed>> = Mutex::new(None);

/// Tests that arm faults take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Arms a fault below a folder until the returned function is called, which gives the steps taken.
pub fn arm(root: &Path, fault: Fault) -> impl FnOnce() -> Vec<&'static str> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (root, steps, renamed) = (root.to_owned(), Vec::new(), Vec::new());
    let armed = Armed { root, fault, steps, dirty: HashSet::new(), renamed };
    *ARMED.lock().expect("no test panics with it") = Some(armed);
    move || {
        let _turn = turn;
        let armed = ARMED.lock().expect("no test panics with it").take().expect("it was armed");
        if let Fault::PowerCut { keeps_names, .. } = armed.fault {
            armed.lose_what_was_not_synced(keeps_names);
        }
        armed.steps
    }
}

pub fn fail_point(what: &'static str, path: &Path) -> io::Result<()> {
    let mut armed = ARMED.lock().expect("no test panics with it");
    let Some(armed) = armed.as_mut().filter(|armed| path.starts_with(&armed.root)) else { return Ok(()) };
    let number = armed.steps.len();
    armed.steps.push(what);
    match armed.fault {
        Fault::Once(at, kind) if at == number => return Err(kind.into()),
        Fault::Meanwhile { at, act, .. } if at == number => act(&armed.root),
        _ => {}
    }
    match armed.fault {
        Fault::Meanwhile { at, dies: true, .. } if number >= at => {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Fault::From(at) | Fault::PowerCut { at, .. } if number >= at => {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        _ => {}
    }
    armed.note(what, path);
    Ok(())
}

impl Armed {
    /// Keeps account of a step that will succeed.
    fn note(&mut self, what: &str, path: &Path) {
        let file = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
        match (what, file) {
            ("write" | "allocate" | "protect", Some(file)) => {
                self.dirty.insert(file.ino());
            }
            ("sync", Some(file)) => {
                self.dirty.remove(&file.ino());
            }
            ("sync", None) => self.renamed.retain(|renamed| renamed.parent() != Some(path)),
            ("sync all", _) => {
                self.dirty.clear();
                self.renamed.clear();
            }
            ("rename", _) => self.renamed.push(path.to_owned()),
            _ => {}
        }
    }

    fn lose_what_was_not_synced(&self, keeps_names: bool) {
        for renamed in self.renamed.iter().filter(|_| !keeps_names) {
            let _ = fs::remove_file(renamed);
        }
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let (path, metadata) = (entry.path(), entry.metadata().expect("nobody else is here"));
                if metadata.is_dir() {
                    folders.push(path);
                } else if self.dirty.contains(&metadata.ino()) {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
                    fs::File::create(&path).expect("it is ours");
                }
            }
        }
    }
}
