//! A new version of an output directory, made beside the old one until it is put in its place.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::OutputError;
use super::files::{Take, is_mount_point, parent_of};
use super::ownership::Owned;
use super::publish::{self, MODEL};
use super::workbench::Workbench;
use crate::disk;
use crate::event::Events;

/// A directory in the making. Without [`Staging::publish`] it goes as if it had never been.
pub(super) struct Staging {
    target: PathBuf,
    /// Gone once it is published.
    bench: Option<Workbench>,
    /// Files of the old version that are taken over.
    kept: Vec<String>,
}

impl Staging {
    /// Begins a new version of `target`, a path without links, which need not exist.
    pub fn start(target: &Path) -> Result<Self, OutputError> {
        let parent = parent_of(target);
        fs::create_dir_all(parent).map_err(OutputError::io("create", parent))?;
        let permissions = fs::metadata(target).map_or(Permissions::from_mode(0o777), |old| old.permissions());
        let make = |folder: &Path| {
            let bench = Workbench::start(folder, target.file_name().unwrap_or_default())?;
            let staging = Self { target: target.to_owned(), bench: Some(bench), kept: Vec::new() };
            let model = staging.path("");
            fs::create_dir(&model)?;
            // Those of a first version are up to the process's mask.
            if target.exists() {
                fs::set_permissions(&model, permissions.clone())?;
            }
            Ok(staging)
        };
        let staging = if is_mount_point(target, parent) { make(target) } else { make(parent) };
        let staging = match staging {
            Err(error) if is_refused(&error) && target.is_dir() => make(target),
            staging => staging,
        };
        staging.map_err(OutputError::io("create a folder in", parent))
    }

    /// Where a file of the new version is made.
    pub fn path(&self, name: &str) -> PathBuf {
        self.bench.as_ref().expect("it is not published yet").path().join(MODEL).join(name)
    }

    /// Writes a file of the new version.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let mut file = File::create(&path)?;
        disk::fail_point("write", &path)?;
        file.write_all(bytes)?;
        disk::fail_point("sync", &path)?;
        file.sync_all()
    }

    /// Takes a file of the old version over as it is.
    pub fn keep(&mut self, name: &str) -> io::Result<()> {
        self.kept.push(name.to_owned());
        let (old, new) = (self.target.join(name), self.path(name));
        disk::fail_point("link", &new)?;
        if fs::hard_link(&old, &new).is_ok() {
            return Ok(());
        }
        fs::copy(&old, &new)?;
        File::open(&new)?.sync_all()
    }

    /// Puts the new version in the old one's place, of which `owned` may go; gives the files of somebody else's
    /// that had to make room, as they are called now. What goes is offered to `take` first.
    pub fn publish(
        mut self,
        owned: &Owned,
        take: Take<'_>,
        events: &dyn Events,
    ) -> Result<Vec<PathBuf>, OutputError> {
        let bench = self.bench.take().expect("it is published once");
        publish::publish(&self.target, bench, &self.kept, (owned, take), events)
            .map_err(OutputError::io("write", &self.target))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(bench) = self.bench.take() {
            // Whatever cannot be removed now is removed by the next build.
            let _ = publish::give_up(bench);
        }
    }
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::event::Event;
    use crate::output::files::take_nothing;
    use crate::output::names::LOCKFILE;
    use crate::output::publish::recover;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
    }

    fn version(target: &Path, files: &[(&str, &str)]) -> Staging {
        let staging = Staging::start(target).unwrap();
        for (name, text) in files {
            staging.write(name, text.as_bytes()).unwrap();
        }
        staging
    }

    fn nobody(_: Event<'_>) {}

    fn publish(target: &Path, files: &[(&str, &str)], owned: &[&str]) -> Vec<PathBuf> {
        put(version(target, files), target, owned)
    }

    fn put(staging: Staging, target: &Path, owned: &[&str]) -> Vec<PathBuf> {
        staging.publish(&Owned::assume(target, owned.iter().copied()), &take_nothing, &nobody).unwrap()
    }

    #[test]
    fn versions_replace_one_another_whole() {
        let space = tempfile::tempdir().unwrap();
        let target = space.path().join("out");
        publish(&target, &[("a", "1"), (LOCKFILE, "1")], &[]);
        let staging = version(&target, &[("b", "2"), (LOCKFILE, "2")]);
        assert_eq!(fs::read_to_string(target.join(LOCKFILE)).unwrap(), "1");
        put(staging, &target, &["a", LOCKFILE]);
        assert_eq!(names(&target), ["b", LOCKFILE]);
        assert_eq!(names(space.path()), ["out"]);
    }

    #[test]
    fn what_somebody_else_put_there_stays_where_it_is() {
        let space = tempfile::tempdir().unwrap();
        let target = space.path().join("out");
        publish(&target, &[("a", "1"), ("config.json", "1"), (LOCKFILE, "1")], &[]);
        fs::create_dir(target.join("theirs")).unwrap();
        fs::write(target.join("theirs/x"), "precious").unwrap();
        fs::write(target.join("config.json"), "mine").unwrap();
        let inode = fs::metadata(&target).unwrap().ino();
        let aside = publish(&target, &[("b", "2"), ("config.json", "2"), (LOCKFILE, "2")], &["a", LOCKFILE]);
        assert_eq!(names(&target), ["b", "config.json", "config.json.yours", LOCKFILE, "theirs"]);
        assert_eq!(fs::read_to_string(target.join("theirs/x")).unwrap(), "precious");
        assert_eq!(fs::read_to_string(target.join("config.json.yours")).unwrap(), "mine");
        assert_eq!(aside.len(), 1);
        assert_eq!(fs::metadata(target).unwrap().ino(), inode);
        assert_eq!(names(space.path()), ["out"]);
    }

    #[test]
    fn a_version_that_is_given_up_leaves_nothing() {
        let space = tempfile::tempdir().unwrap();
        let target = space.path().join("out");
        publish(&target, &[("a", "1")], &[]);
        drop(version(&target, &[("a", "2")]));
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "1");
        assert_eq!(names(space.path()), ["out"]);
    }

    #[test]
    fn leftovers_go_and_what_is_being_made_stays() {
        let space = tempfile::tempdir().unwrap();
        let target = space.path().join("out");
        publish(&target, &[("a", "1")], &[]);
        let dead = version(&target, &[("a", "dead")]);
        let left = dead.path("").parent().unwrap().to_owned();
        let lock_is_free = |mut staging: Staging| drop(staging.bench.take());
        lock_is_free(dead);
        let alive = version(&target, &[("a", "2")]);
        recover(&target, &nobody).unwrap();
        assert!(!left.exists());
        put(alive, &target, &["a"]);
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "2");
        assert_eq!(names(space.path()), ["out"]);
    }

    #[test]
    fn a_kept_file_that_somebody_replaces_is_theirs() {
        let space = tempfile::tempdir().unwrap();
        let target = space.path().join("out");
        publish(&target, &[("a", "1"), (LOCKFILE, "1")], &[]);
        let mut staging = version(&target, &[(LOCKFILE, "2")]);
        staging.keep("a").unwrap();
        fs::remove_file(target.join("a")).unwrap();
        fs::write(target.join("a"), "mine").unwrap();
        assert!(put(staging, &target, &[LOCKFILE]).is_empty());
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "mine");
        assert_eq!(names(&target), ["a", LOCKFILE]);
    }

    #[test]
    fn a_kept_file_is_the_same_file() {
        let space = tempfile::tempdir().unwrap();
        let target = space.path().join("out");
        publish(&target, &[("a", "1")], &[]);
        let inode = fs::metadata(target.join("a")).unwrap().ino();
        let mut staging = version(&target, &[("b", "2")]);
        staging.keep("a").unwrap();
        put(staging, &target, &["a"]);
        assert_eq!(fs::metadata(target.join("a")).unwrap().ino(), inode);
    }
}
