//! Finds the directory that a model reference means: a path, a models folder, the Hugging Face cache.

use std::path::{Path, PathBuf};

use super::adapter::is_adapter;
use super::checkpoint::is_checkpoint;
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
        self.find_such(model, &is_checkpoint)
    }

    /// Finds an adapter's directory.
    ///
    /// # Errors
    /// Lists every place that was tried.
    pub fn find_adapter(&self, adapter: &ModelRef) -> Result<PathBuf, NotFound> {
        self.find_such(adapter, &is_adapter)
    }

    fn find_such(&self, model: &ModelRef, is_such: &dyn Fn(&Path) -> bool) -> Result<PathBuf, NotFound> {
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
                        .or_else(|| self.hub.as_ref().and_then(|hub| try_dir(snapshot(hub, model))))
                })?
            });
        found.ok_or(NotFound { tried })
    }
}

/// The commit of a directory in a Hugging Face cache.
pub fn commit_of(dir: &Path) -> Option<String> {
    let is_snapshot = dir.parent()?.file_name()? == "snapshots";
    is_snapshot.then(|| dir.file_name()?.to_str().map(str::to_owned)).flatten()
}

/// The snapshot directory of a model in a Hugging Face cache, which keeps
/// `models--org--name/refs/REVISION` (holding a commit) and `models--org--name/snapshots/COMMIT/`.
fn snapshot(hub: &Path, model: &ModelRef) -> PathBuf {
    let repository = hub.join(format!("models--{}", model.path.replace('/', "--")));
    let revision = model.revision.as_deref().unwrap_or("main");
    let commit = std::fs::read_to_string(repository.join("refs").join(revision))
        .map_or_else(|_| revision.to_owned(), |commit| commit.trim().to_owned());
    repository.join("snapshots").join(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

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
