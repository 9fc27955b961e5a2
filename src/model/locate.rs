//! Finds the directory that a model reference means: a path, a models folder, the Hugging Face cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::adapter::is_adapter;
use super::checkpoint::is_checkpoint;
use super::download::PARTS_FOLDER;
use crate::hub::ModelFolder;
use crate::reference::ModelRef;

/// The places to look in, in order.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Folders that relative paths are tried against: the working directory, then the recipe's.
    pub roots: Vec<PathBuf>,
    /// Folders that hold `org/name`.
    pub models: Vec<PathBuf>,
    /// The Hugging Face cache (`HF_HOME/hub`).
    pub hub: Option<PathBuf>,
    /// Revisions of models on the hub that count instead of the recipe's, by reference.
    pub pinned: BTreeMap<String, String>,
}

/// A reference that was found nowhere.
#[derive(Debug, PartialEq, Eq)]
pub struct NotFound {
    /// Every directory that was tried.
    pub tried: Vec<PathBuf>,
}

impl Places {
    /// Finds a checkpoint's directory.
    ///
    /// # Errors
    /// Lists every place that was tried.
    pub fn find(&self, model: &ModelRef) -> Result<PathBuf, NotFound> {
        let (found, tried) = self.find_such(model, &is_checkpoint);
        found.ok_or(NotFound { tried })
    }

    /// Finds an adapter's directory.
    ///
    /// # Errors
    /// Lists every place that was tried.
    pub fn find_adapter(&self, adapter: &ModelRef) -> Result<PathBuf, NotFound> {
        let (found, tried) = self.find_such(adapter, &is_adapter);
        found.ok_or(NotFound { tried })
    }

    /// All that says where a model or an adapter is, and what it is: every place that is tried until it is found, which
    /// may be a folder or a file, and the notes of the Hugging Face cache that lead there. Nothing of a model lies
    /// outside of its folder, or of the folder that its file is in.
    pub fn looked_at(&self, model: &ModelRef, is_an_adapter: bool) -> Vec<PathBuf> {
        let is_such: &dyn Fn(&Path) -> bool = if is_an_adapter { &is_adapter } else { &is_checkpoint };
        let (found, mut paths) = self.find_such(model, is_such);
        let in_hub = |place: &PathBuf| self.hub.as_ref().filter(|hub| place.starts_with(hub));
        let note = paths
            .last()
            .and_then(in_hub)
            .map(|hub| ModelFolder::new(hub, &model.path).reference(self.revision(model)));
        if let Some(found) = found {
            let folder = if found.is_file() { found.parent().unwrap_or(Path::new("")) } else { &found };
            // The working directory has no name in a relative path.
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            paths.extend([folder.to_owned(), folder.join(PARTS_FOLDER)]);
        }
        paths.extend(note);
        paths
    }

    /// The first place that holds such a thing, and every place that was tried, that one the last.
    fn find_such(
        &self,
        model: &ModelRef,
        is_such: &dyn Fn(&Path) -> bool,
    ) -> (Option<PathBuf>, Vec<PathBuf>) {
        let mut tried = Vec::new();
        let mut try_dir = |dir: PathBuf| {
            let found = is_such(&dir);
            tried.push(dir.clone());
            found.then_some(dir)
        };
        let found = (!model.hub_only && model.revision.is_none())
            .then(|| self.roots.iter().find_map(|root| try_dir(root.join(&model.path))))
            .flatten()
            .or_else(|| {
                // A path that leads elsewhere is never looked up below a models folder.
                model.is_hub_id().then(|| {
                    let in_models = || model.revision.is_none().then_some(&self.models).into_iter().flatten();
                    in_models()
                        .find_map(|folder| try_dir(folder.join(&model.path)))
                        .or_else(|| self.hub.as_ref().and_then(|hub| try_dir(self.snapshot(hub, model))))
                })?
            });
        (found, tried)
    }

    /// The revision of a model that counts: the one that is pinned, or the recipe's, or the newest.
    pub fn revision<'a>(&'a self, model: &'a ModelRef) -> &'a str {
        let pinned = self.pinned.get(&model.to_string());
        pinned.or(model.revision.as_ref()).map_or("main", String::as_str)
    }

    /// Where a model is in a Hugging Face cache, if it is there.
    fn snapshot(&self, hub: &Path, model: &ModelRef) -> PathBuf {
        let (folder, revision) = (ModelFolder::new(hub, &model.path), self.revision(model));
        folder.snapshot(&folder.commit(revision).unwrap_or_else(|| revision.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::commit_of;

    fn model(path: &str, revision: Option<&str>) -> ModelRef {
        ModelRef { path: path.into(), revision: revision.map(Into::into), hub_only: false }
    }

    fn checkpoint(dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("config.json"), "{}").unwrap();
    }

    #[test]
    fn places_are_tried_in_order() {
        let space = tempfile::tempdir().unwrap();
        let places = Places {
            roots: vec![space.path().join("here")],
            models: vec![space.path().join("models")],
            hub: Some(space.path().join("hub")),
            ..Places::default()
        };
        let repository = space.path().join("hub/models--org--name");
        std::fs::create_dir_all(repository.join("refs")).unwrap();
        std::fs::write(repository.join("refs/main"), "abc\n").unwrap();
        assert_eq!(places.find(&model("org/name", None)).unwrap_err().tried.len(), 3);
        for dir in ["hub/models--org--name/snapshots/abc", "models/org/name", "here/org/name"] {
            checkpoint(&space.path().join(dir));
            assert_eq!(places.find(&model("org/name", None)).unwrap(), space.path().join(dir));
        }
        checkpoint(&repository.join("snapshots/v2"));
        assert_eq!(places.find(&model("org/name", Some("v2"))).unwrap(), repository.join("snapshots/v2"));
        assert_eq!(commit_of(&repository.join("snapshots/v2")).as_deref(), Some("v2"));
        assert_eq!(commit_of(&space.path().join("models/org/name")), None);
    }

    #[test]
    fn paths_are_not_looked_up_in_models_folders() {
        let places = Places { models: vec!["models".into()], hub: Some("hub".into()), ..Places::default() };
        assert_eq!(places.find(&model("../secret", None)).unwrap_err().tried, Vec::<PathBuf>::new());
        assert_eq!(places.find(&model("a/b/c", None)).unwrap_err().tried, Vec::<PathBuf>::new());
    }
}
