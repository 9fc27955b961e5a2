//! A model of the hub that is not on this machine in full: what of it is needed, and how its files are opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ModelError;
use super::checkpoint::indexes;
use super::companions;
use super::place::{OpenFile, Place};
use super::source_file::SourceFile;
use super::streamed_file::StreamedFile;
use crate::event::Events;
use crate::hub::{Hub, HubFile, Snapshot, Want};

/// A model of the hub at one commit.
pub struct OnHub<'a> {
    pub hub: &'a Arc<Hub>,
    pub snapshot: Arc<Snapshot>,
    /// Where room is taken on a disk for what is streamed.
    pub room: &'a Path,
    /// Whether a file whose header cannot be read from afar may be fetched whole.
    pub fetches: bool,
    pub events: &'a dyn Events,
}

impl OnHub<'_> {
    fn file(&self, path: &Path) -> Option<&HubFile> {
        self.snapshot.files.get(path.strip_prefix(self.snapshot.dir()).ok()?.to_str()?)
    }
}

/// The small files of a model that a merge may need.
pub fn small_files(snapshot: &Snapshot) -> Vec<Want<'_>> {
    let names = companions::names().chain(indexes());
    names.filter_map(|name| Some(Want { snapshot, file: snapshot.files.get(name)? })).collect()
}

/// The files of tensors among those that were opened that are on no disk yet.
pub fn absent<'a>(snapshot: &'a Snapshot, shards: &[Arc<dyn SourceFile>]) -> Vec<Want<'a>> {
    let dir = snapshot.dir();
    let path = |shard: &Arc<dyn SourceFile>| Some(shard.path().strip_prefix(&dir).ok()?.to_str()?.to_owned());
    let paths = shards.iter().filter(|shard| !shard.is_local()).filter_map(path);
    paths.filter_map(|path| Some(Want { snapshot, file: snapshot.files.get(&path)? })).collect()
}

impl Place for OnHub<'_> {
    fn has(&self, path: &Path) -> bool {
        self.file(path).is_some() || path.is_file()
    }

    fn open(&self, path: &Path, local: OpenFile) -> Result<Arc<dyn SourceFile>, ModelError> {
        if path.exists() {
            return local(path);
        }
        let Some(file) = self.file(path) else {
            let problem = format!("is not a file of {} at {}", self.snapshot.id, self.snapshot.commit);
            return Err(ModelError::Layout { path: path.to_owned(), problem });
        };
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let opened = StreamedFile::open(self.hub, &self.snapshot, file, self.room)?;
            return Ok(Arc::new(opened));
        }
        if !self.fetches {
            return Err(ModelError::Afar { path: PathBuf::from(&self.snapshot.id).join(&file.path) });
        }
        self.hub.download(&[Want { snapshot: &self.snapshot, file }], self.events)?;
        local(path)
    }
}
