//! A safetensors file that stays on the hub: its header is read when it is opened, ranges of it when they are asked
//! for, and nothing of it is kept.
//!
//! A range that a build works on is brought into a file without a name, which takes room on the disk until the build
//! lets go of it. A few ranges at a time are brought ahead, as a build tells of what it will read next.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::ModelError;
use super::safetensors::{LENGTH_BYTES, header_length, parse};
use super::source_file::{Entry, SourceFile};
use super::view::LogicalTensor;
use crate::hub::{Hub, HubError, HubFile, Snapshot, Want};
use crate::identity::Identity;

/// Bytes that are asked for first: nearly all headers are shorter.
const FIRST_BYTES: u64 = 100_000;

/// A file on the hub whose tensors are ranges of its bytes.
#[derive(Debug)]
pub struct StreamedFile(Arc<Remote>);

#[derive(Debug)]
struct Remote {
    hub: Arc<Hub>,
    snapshot: Arc<Snapshot>,
    file: HubFile,
    /// Where it would be if it were fetched.
    path: PathBuf,
    /// Where files without a name are made.
    room: PathBuf,
    tensors: BTreeMap<String, Entry>,
    /// Ranges that are being brought ahead, and those that nobody has asked for yet.
    ahead: Mutex<HashMap<(u64, u64), Arc<Brought>>>,
}

/// A range that is brought, or has been.
#[derive(Debug, Default)]
struct Brought {
    result: Mutex<Option<Result<Arc<File>, ModelError>>>,
    done: Condvar,
}

impl StreamedFile {
    /// Reads the header of a file on the hub, which is noted in `room` for the next time.
    pub fn open(
        hub: &Arc<Hub>,
        snapshot: &Arc<Snapshot>,
        file: &HubFile,
        room: &Path,
    ) -> Result<Self, ModelError> {
        let path = snapshot.dir().join(&file.path);
        let problem = |problem| ModelError::Header { path: path.clone(), problem };
        let noted = room.join("headers").join(format!("{}.json", file.etag()));
        let known = fs::read(&noted).ok().and_then(|json| parse(&json, file.size).ok());
        let tensors = match known {
            Some(tensors) => tensors,
            None => {
                let json = read_header(hub, Want { snapshot, file }, &problem)?;
                let tensors = parse(&json, file.size).map_err(problem)?;
                // Where it cannot be noted, it is read again.
                let _ = note(&noted, &json);
                tensors
            }
        };
        Ok(Self(Arc::new(Remote {
            hub: Arc::clone(hub),
            snapshot: Arc::clone(snapshot),
            file: file.clone(),
            path,
            room: room.to_owned(),
            tensors,
            ahead: Mutex::default(),
        })))
    }
}

/// The JSON of a file's header.
fn read_header(
    hub: &Hub,
    want: Want<'_>,
    problem: &dyn Fn(String) -> ModelError,
) -> Result<Vec<u8>, ModelError> {
    let size = want.file.size;
    let mut start = Vec::new();
    let read_to = |end: u64, start: &mut Vec<u8>| {
        hub.read_range(want, start.len() as u64..end, |bytes| {
            start.extend_from_slice(bytes);
            Ok(())
        })
    };
    read_to(FIRST_BYTES.min(size), &mut start)?;
    let Some(first) = start.first_chunk::<LENGTH_BYTES>() else {
        return Err(problem(format!("has {size} bytes, too few for a safetensors file")));
    };
    let end = LENGTH_BYTES + header_length(*first, size).map_err(problem)?;
    if end > start.len() {
        read_to(end as u64, &mut start)?;
    }
    start.truncate(end);
    start.drain(..LENGTH_BYTES);
    Ok(start)
}

fn note(path: &Path, json: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(json)?;
    file.persist(path)?;
    Ok(())
}

impl Remote {
    fn ahead(&self) -> MutexGuard<'_, HashMap<(u64, u64), Arc<Brought>>> {
        self.ahead.lock().expect("no thread panics with it")
    }

    fn read(
        &self,
        offset: u64,
        n_bytes: u64,
        take: impl FnMut(&[u8]) -> Result<(), HubError>,
    ) -> Result<(), ModelError> {
        let want = Want { snapshot: &self.snapshot, file: &self.file };
        Ok(self.hub.read_range(want, offset..offset + n_bytes, take)?)
    }

    fn bring(&self, offset: u64, n_bytes: u64) -> Result<Arc<File>, ModelError> {
        fs::create_dir_all(&self.room).map_err(ModelError::io(&self.room))?;
        let file = tempfile::tempfile_in(&self.room).map_err(ModelError::io(&self.room))?;
        let mut at = 0;
        self.read(offset, n_bytes, |bytes| {
            let written = file.write_all_at(bytes, at);
            at += bytes.len() as u64;
            written.map_err(|source| HubError::Io { path: self.room.clone(), source })
        })?;
        Ok(Arc::new(file))
    }
}

impl SourceFile for StreamedFile {
    fn path(&self) -> &Path {
        &self.0.path
    }

    fn identity(&self) -> Identity {
        Identity::of_content(self.0.file.etag(), self.0.file.size)
    }

    fn tensors(&self) -> &BTreeMap<String, Entry> {
        &self.0.tensors
    }

    fn views(&self) -> &BTreeMap<String, LogicalTensor> {
        const NONE: &BTreeMap<String, LogicalTensor> = &BTreeMap::new();
        NONE
    }

    fn others(&self) -> &[String] {
        &[]
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ModelError> {
        let mut at = 0;
        self.0.read(offset, into.len() as u64, |bytes| {
            into[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
            Ok(())
        })
    }

    fn is_local(&self) -> bool {
        false
    }

    fn bring(&self, offset: u64, n_bytes: u64) -> Result<Option<Arc<File>>, ModelError> {
        let Some(brought) = self.0.ahead().remove(&(offset, n_bytes)) else {
            return self.0.bring(offset, n_bytes).map(Some);
        };
        let mut result = brought.result.lock().expect("no thread panics with it");
        loop {
            match result.take() {
                Some(result) => return result.map(Some),
                None => result = brought.done.wait(result).expect("no thread panics with it"),
            }
        }
    }

    fn will_read(&self, offset: u64, n_bytes: u64) {
        let brought = Arc::<Brought>::default();
        if self.0.ahead().insert((offset, n_bytes), Arc::clone(&brought)).is_some() {
            return;
        }
        let remote = Arc::clone(&self.0);
        self.0.hub.ahead(move || {
            let result = remote.bring(offset, n_bytes);
            *brought.result.lock().expect("no thread panics with it") = Some(result);
            brought.done.notify_all();
        });
    }

    /// A commit is what it is.
    fn check_unchanged(&self) -> Result<(), ModelError> {
        Ok(())
    }

    fn differs(&self, offset: u64) -> ModelError {
        let holds =
            |entry: &Entry| (entry.offset..entry.offset + entry.spec.n_bytes() as u64).contains(&offset);
        let tensor = self.0.tensors.iter().find(|(_, entry)| holds(entry));
        let tensor = tensor.map_or_else(String::new, |(name, _)| name.clone());
        ModelError::Differs { path: self.0.path.clone(), tensor }
    }

    fn is_suspect(&self) -> bool {
        false
    }
}
