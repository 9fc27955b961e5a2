//! What was seen of files and folders, so that it can be told later, without reading them again, that nothing of
//! them has changed: no file, no name in a folder, and nothing that was not there.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::state::Identity;
use crate::digest::Checksums;

/// A file of no more bytes can be read where its stamps alone do not tell its state.
const SMALL: u64 = 32 << 20;

/// The most entries of all folders together that are kept in mind.
const MOST: usize = 20_000;

/// Longer than the step in which common file systems stamp files, in nanoseconds.
const STEP: i64 = 20_000_000;

/// Files and folders by their absolute paths, each as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight(BTreeMap<PathBuf, State>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// Nothing has the name.
    Absent,
    /// A link that leads nowhere.
    Dangling { to: PathBuf },
    /// A checksum of the content stands for stamps that are too young.
    File { identity: Identity, content: Option<u128> },
    /// A folder, whatever is in it.
    Folder { device: u64, inode: u64 },
    /// A folder with a checksum of the names in it.
    Listed { device: u64, inode: u64, names: u128 },
    /// Neither a file nor a folder.
    Other { device: u64, inode: u64 },
}

/// What is made of files whose stamps are young.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Young {
    /// Nothing: anybody may be writing them.
    Refused,
    /// They are read; large ones were written by this process, which waited for the clock before anybody else could.
    Read,
}

impl Sight {
    /// Looks at files and folders, of folders also at each file in them. `None` where it could not be told later that
    /// nothing has changed: a file is so young that a write might not move its stamps, or there is too much.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Option<Self> {
        Self::taken(paths, Young::Refused)
    }

    /// The same of a folder that this process has put in place, whose files had stamps a step of the file system's
    /// clock old before they could be found.
    pub fn of_written(folder: &Path) -> Option<Self> {
        Self::taken([folder.to_owned()], Young::Read)
    }

    fn taken(paths: impl IntoIterator<Item = PathBuf>, young: Young) -> Option<Self> {
        let now = now();
        let mut sight = Self::default();
        for path in paths {
            let path = std::path::absolute(path).ok()?;
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => sight.list(path, &metadata, (young, now))?,
                Ok(metadata) => sight.see(path, &metadata, (young, now))?,
                Err(error) if is_absence(&error) => sight.miss(path, (young, now))?,
                Err(_) => return None,
            }
            if sight.0.len() > MOST {
                return None;
            }
        }
        Some(sight)
    }

    /// Whether everything is still as it was.
    pub fn holds(&self) -> bool {
        self.0.iter().all(|(path, state)| state.holds(path).unwrap_or(false))
    }

    /// Every path whose state it holds.
    #[cfg(test)]
    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    fn list(&mut self, folder: PathBuf, metadata: &Metadata, when: (Young, i64)) -> Option<()> {
        let (names, paths) = names(&folder).ok()?;
        if paths.len() > MOST {
            return None;
        }
        for path in paths {
            match fs::metadata(&path) {
                Ok(metadata) => self.see(path, &metadata, when)?,
                Err(error) if is_absence(&error) => self.miss(path, when)?,
                Err(_) => return None,
            }
        }
        let (device, inode) = (metadata.dev(), metadata.ino());
        self.0.insert(folder, State::Listed { device, inode, names });
        Some(())
    }

    /// Notes what is there; a folder that was listed stays so.
    fn see(&mut self, path: PathBuf, metadata: &Metadata, (young, now): (Young, i64)) -> Option<()> {
        let (device, inode) = (metadata.dev(), metadata.ino());
        let state = if metadata.is_file() {
            let identity = identity(&path, metadata).ok()?;
            let content = match young {
                _ if !identity.is_racy(now) => None,
                Young::Read if identity.size <= SMALL => Some(Checksums::of(&fs::read(&path).ok()?)),
                Young::Read if is_settled(&identity, now) => None,
                _ => return None,
            };
            State::File { identity, content }
        } else if metadata.is_dir() {
            State::Folder { device, inode }
        } else {
            State::Other { device, inode }
        };
        self.0.entry(path).or_insert(state);
        Some(())
    }

    /// Notes the first part of a path that is not there.
    fn miss(&mut self, path: PathBuf, when: (Young, i64)) -> Option<()> {
        let parts: Vec<&Path> = path.ancestors().collect();
        for part in parts.into_iter().rev() {
            let error = match fs::metadata(part) {
                Ok(metadata) if metadata.is_dir() => continue,
                // What is below a file is not there as long as that is a file.
                Ok(metadata) => return self.see(part.to_owned(), &metadata, when),
                Err(error) => error,
            };
            let state = match fs::read_link(part) {
                Ok(to) => State::Dangling { to },
                Err(_) if error.kind() == ErrorKind::NotFound => State::Absent,
                Err(_) => return None,
            };
            self.0.insert(part.to_owned(), state);
            return Some(());
        }
        // It has come meanwhile.
        None
    }
}

impl State {
    fn holds(&self, path: &Path) -> io::Result<bool> {
        let is = |metadata: &Metadata, device: u64, inode: u64| {
            (metadata.dev(), metadata.ino()) == (device, inode)
        };
        match self {
            Self::Absent => match fs::symlink_metadata(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
                found => found.map(|_| false),
            },
            Self::Dangling { to } => {
                let is_absent = fs::metadata(path).is_err_and(|error| is_absence(&error));
                Ok(is_absent && fs::read_link(path)? == *to)
            }
            Self::File { identity: seen, content } => {
                let metadata = fs::metadata(path)?;
                if !metadata.is_file() || !seen.fits(&metadata) || identity(path, &metadata)? != *seen {
                    return Ok(false);
                }
                match content {
                    Some(content) => Ok(Checksums::of(&fs::read(path)?) == *content),
                    None => Ok(true),
                }
            }
            Self::Folder { device, inode } => {
                let metadata = fs::metadata(path)?;
                Ok(metadata.is_dir() && is(&metadata, *device, *inode))
            }
            Self::Listed { device, inode, names: seen } => {
                let metadata = fs::metadata(path)?;
                Ok(metadata.is_dir() && is(&metadata, *device, *inode) && names(path)?.0 == *seen)
            }
            Self::Other { device, inode } => {
                let metadata = fs::metadata(path)?;
                let is_other = !metadata.is_file() && !metadata.is_dir();
                Ok(is_other && is(&metadata, *device, *inode))
            }
        }
    }
}

/// The identity of a regular file; without a probe where it cannot be read.
fn identity(path: &Path, metadata: &Metadata) -> io::Result<Identity> {
    match File::open(path) {
        Ok(file) => Identity::of(&file),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(Identity::without_probe(metadata)),
        Err(error) => Err(error),
    }
}

/// Whether the stamps are older than a step of a clock that is finer than whole seconds.
fn is_settled(identity: &Identity, now: i64) -> bool {
    let is_old = |stamp: i64| now.saturating_sub(stamp) >= STEP;
    identity.modified % 1_000_000_000 != 0 && is_old(identity.modified) && is_old(identity.changed)
}

/// A checksum of the names in a folder, and their paths.
fn names(folder: &Path) -> io::Result<(u128, Vec<PathBuf>)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let mut names = Vec::new();
    for name in paths.iter().filter_map(|path| path.file_name()) {
        names.extend_from_slice(name.as_bytes());
        names.push(0);
    }
    Ok((Checksums::of(&names), paths))
}

/// Whether nothing can be found by a path.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Nanoseconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::time::Duration;

    use super::*;

    /// A folder as models have it, its stamps long past.
    fn folder() -> tempfile::TempDir {
        let space = tempfile::tempdir().unwrap();
        let model = space.path().join("org/name");
        fs::create_dir_all(model.join("sub")).unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        fs::write(model.join("model.safetensors"), vec![7; 100_000]).unwrap();
        symlink("nowhere", model.join("dangling")).unwrap();
        space
    }

    #[test]
    fn every_change_shows() {
        type Act = fn(&Path);
        let acts: [(&str, Act); 12] = [
            ("content of the same size", |at| fs::write(at.join("config.json"), "[]").unwrap()),
            ("content of a large file", |at| {
                let mut bytes = vec![7; 100_000];
                bytes[50_000] = 8;
                fs::write(at.join("model.safetensors"), bytes).unwrap();
            }),
            ("another file of the same content", |at| {
                fs::write(at.join("new"), "{}").unwrap();
                fs::rename(at.join("new"), at.join("config.json")).unwrap();
            }),
            ("a file more", |at| fs::write(at.join("model.safetensors.index.json"), "").unwrap()),
            ("a file less", |at| fs::remove_file(at.join("config.json")).unwrap()),
            ("a link that leads somewhere", |at| fs::write(at.join("nowhere"), "").unwrap()),
            ("another link", |at| {
                fs::remove_file(at.join("dangling")).unwrap();
                symlink("elsewhere", at.join("dangling")).unwrap();
            }),
            ("a folder in the place of a file", |at| {
                fs::remove_file(at.join("config.json")).unwrap();
                fs::create_dir(at.join("config.json")).unwrap();
            }),
            ("another folder", |at| {
                fs::rename(at.join("sub"), at.join("../kept")).unwrap();
                fs::create_dir(at.join("sub")).unwrap();
            }),
            ("the whole folder", |at| {
                fs::rename(at, at.with_extension("old")).unwrap();
                fs::create_dir(at).unwrap();
            }),
            ("what was not there", |at| {
                fs::create_dir_all(at.join("../../first/org")).unwrap();
            }),
            ("another state of a file that is no model's", |at| {
                fs::write(at.join("../../recipe"), "b").unwrap();
            }),
        ];
        for (what, act) in acts {
            let space = folder();
            fs::write(space.path().join("recipe"), "a").unwrap();
            let paths = ["org/name", "first/org/name", "recipe"].map(|path| space.path().join(path));
            assert_eq!(Sight::of(paths.clone()), None, "the files are young");
            let sight = Sight::taken(paths, Young::Read).unwrap();
            assert!(sight.holds(), "{what}");
            let text = serde_json::to_vec(&sight).unwrap();
            let again: Sight = serde_json::from_slice(&text).unwrap();
            assert_eq!(again, sight);
            std::thread::sleep(Duration::from_millis(5));
            act(&space.path().join("org/name"));
            assert!(!again.holds(), "{what}");
        }
    }

    #[test]
    fn what_is_not_there_is_found_by_its_first_part() {
        let space = folder();
        let paths = ["a/b/c", "org/name/config.json/x"].map(|path| space.path().join(path));
        let sight = Sight::taken(paths, Young::Read).unwrap();
        let paths: Vec<&Path> = sight.paths().collect();
        assert_eq!(paths, [space.path().join("a"), space.path().join("org/name/config.json")]);
        fs::create_dir(space.path().join("a")).unwrap();
        assert!(!sight.holds(), "a part of it may bring the rest");
    }

    #[test]
    fn large_files_that_are_young_are_trusted_where_they_were_written_here() {
        let space = tempfile::tempdir().unwrap();
        let path = space.path().join("model.safetensors");
        File::create(&path).unwrap().set_len(SMALL + 1).unwrap();
        std::thread::sleep(Duration::from_millis(25));
        assert_eq!(Sight::of([path.clone()]), None);
        let has_fine_stamps = fs::metadata(&path).unwrap().mtime_nsec() != 0;
        assert_eq!(Sight::of_written(space.path()).is_some(), has_fine_stamps);
    }
}
