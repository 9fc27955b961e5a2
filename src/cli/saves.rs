//! Notices when files are saved, however an editor does that: in place, or as another file that takes the name.
//!
//! What counts is what the files hold. Events only say when to look; where there are none, as on network disks, a look
//! is taken every second.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// Files come in several writes, which are over when nothing happens for this long.
const QUIET: Duration = Duration::from_millis(8);

/// A file that is empty or not there is given this long to be written.
const UNFINISHED: Duration = Duration::from_millis(300);

/// Where there are no events, files are looked at this often.
const UNASKED: Duration = Duration::from_secs(1);

/// Files that are watched.
pub struct Saves {
    files: Vec<PathBuf>,
    /// What they held when they were last looked at; `None` for those that were not there.
    held: Vec<Option<Vec<u8>>>,
    /// When something has happened that was not looked at.
    stirred: Option<Stirred>,
    looked: Instant,
    /// Ends the watch when it is dropped.
    _watcher: Option<RecommendedWatcher>,
}

#[derive(Clone, Copy)]
struct Stirred {
    first: Instant,
    last: Instant,
}

impl Saves {
    /// Watches a recipe, and a file of settings in any folder that it could be in. `stir` is called on another thread
    /// when something happens to one of them.
    pub fn watch(recipe: &Path, settings: &str, stir: impl Fn() + Send + 'static) -> Self {
        let full = fs::canonicalize(recipe).unwrap_or_else(|_| recipe.to_owned());
        let absolute = std::path::absolute(recipe).unwrap_or_else(|_| recipe.to_owned());
        let mut files = vec![absolute.clone()];
        if full != absolute {
            files.push(full.clone());
        }
        let folders: Vec<PathBuf> = full.ancestors().skip(1).map(Path::to_owned).collect();
        files.extend(folders.iter().map(|folder| folder.join(settings)));
        let watched = files.clone();
        let told = move |event: notify::Result<Event>| {
            let is_change = |event: &Event| !matches!(event.kind, EventKind::Access(_));
            // What was lost may have been about a file.
            let is_about =
                |event: &Event| event.need_rescan() || event.paths.iter().any(|path| watched.contains(path));
            if event.map_or(true, |event| is_change(&event) && is_about(&event)) {
                stir();
            }
        };
        let mut watcher = notify::recommended_watcher(told).ok();
        for folder in folders.iter().map(PathBuf::as_path).chain(absolute.parent()) {
            if let Some(watcher) = &mut watcher {
                // Where a folder cannot be watched it is looked at all the same.
                let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
            }
        }
        let now = Instant::now();
        let mut saves = Self { files, held: Vec::new(), stirred: None, looked: now, _watcher: watcher };
        saves.held = saves.look();
        saves
    }

    /// Notes that something has happened.
    pub fn stir(&mut self) {
        let now = Instant::now();
        let first = self.stirred.map_or(now, |stirred| stirred.first);
        self.stirred = Some(Stirred { first, last: now });
    }

    /// How long nothing need be done, unless something happens.
    pub fn rest(&self) -> Duration {
        match self.stirred {
            Some(Stirred { last, .. }) => QUIET.saturating_sub(last.elapsed()).max(Duration::from_millis(1)),
            None => UNASKED.saturating_sub(self.looked.elapsed()),
        }
    }

    /// Whether files hold something else than when this was last asked.
    pub fn changed(&mut self) -> bool {
        let is_due = match self.stirred {
            Some(Stirred { last, .. }) => last.elapsed() >= QUIET,
            None => self.looked.elapsed() >= UNASKED,
        };
        if !is_due {
            return false;
        }
        self.looked = Instant::now();
        let held = self.look();
        if held == self.held {
            self.stirred = None;
            return false;
        }
        let is_unfinished = held[0].as_ref().is_none_or(Vec::is_empty) && self.held[0] != held[0];
        if is_unfinished {
            let Stirred { first, .. } =
                *self.stirred.get_or_insert(Stirred { first: self.looked, last: self.looked });
            if first.elapsed() < UNFINISHED {
                self.stirred = Some(Stirred { first, last: self.looked });
                return false;
            }
        }
        self.held = held;
        self.stirred = None;
        true
    }

    fn look(&self) -> Vec<Option<Vec<u8>>> {
        self.files.iter().map(|file| fs::read(file).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(saves: &mut Saves) -> bool {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if saves.changed() {
                return true;
            }
            std::thread::sleep(saves.rest().min(Duration::from_millis(5)));
        }
        false
    }

    #[test]
    fn what_is_saved_is_noticed_once_and_half_of_it_never() {
        let space = tempfile::tempdir().unwrap();
        let recipe = space.path().join("recipe.yaml");
        fs::write(&recipe, "a").unwrap();
        // Without events, so that only looking counts.
        let mut saves = Saves::watch(&recipe, "lamarck.toml", || ());
        saves.stir();
        std::thread::sleep(QUIET);
        assert!(!saves.changed(), "nothing has changed");
        fs::write(&recipe, "b").unwrap();
        saves.stir();
        assert!(wait(&mut saves));
        assert!(saves.stirred.is_none() && !saves.changed());
        // Emptied, then written.
        fs::write(&recipe, "").unwrap();
        saves.stir();
        std::thread::sleep(2 * QUIET);
        assert!(!saves.changed(), "more is to come");
        fs::write(&recipe, "c").unwrap();
        assert!(wait(&mut saves));
        assert_eq!(saves.held[0].as_deref(), Some(&b"c"[..]));
        // Gone for good.
        fs::remove_file(&recipe).unwrap();
        saves.stir();
        assert!(wait(&mut saves));
        assert_eq!(saves.held[0], None);
        // Without an event.
        fs::write(space.path().join("lamarck.toml"), "").unwrap();
        assert!(wait(&mut saves));
    }
}
