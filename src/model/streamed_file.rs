//! A safetensors file that stays on the hub: its header is read when it is opened, ranges of it when they are asked
//! for, and nothing of it is kept.
//!
//! A range that a build works on is brought into a file without a name, which takes room on the disk until the build
//! lets go of it. A few ranges at a time are brought ahead, as a build tells of what it will read next.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::ModelError;
use super::safetensors::{LENGTH_BYTES, header_length, parse};
use super::source_file::{Entry, SourceFile, differing};
use super::view::LogicalTensor;
use crate::hub::{Hub, HubError, HubFile, Snapshot, Want};
use crate::identity::Identity;

/// Bytes that are asked for first: nearly all headers are shorter.
const FIRST_BYTES: u64 = 100_000;

/// Bytes of a range that one connection brings; of a longer range several do, side by side.
const PIECE: u64 = 16 << 20;

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
    /// Ranges that are brought ahead, until somebody asks for them; then it is noted that they were asked for, so
    /// that a hint that comes late brings nothing a second time.
    ahead: Mutex<Ahead>,
}

/// By offset and number of bytes.
type Ahead = HashMap<(u64, u64), Option<Arc<Brought>>>;

/// A range that is brought, or has been, into a file of its own.
#[derive(Debug)]
struct Brought {
    file: Arc<File>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Pieces that have not come.
    left: u64,
    failed: Option<ModelError>,
}

impl Brought {
    fn piece(&self, came: Result<(), ModelError>) {
        let mut state = self.state.lock().expect("no thread panics with it");
        state.left -= 1;
        if let Err(error) = came {
            state.failed.get_or_insert(error);
        }
        self.changed.notify_all();
    }

    /// Waits for all of it. Asked once.
    fn wait(&self) -> Result<Arc<File>, ModelError> {
        let state = self.state.lock().expect("no thread panics with it");
        let mut state =
            (self.changed.wait_while(state, |state| state.left > 0)).expect("no thread panics with it");
        state.failed.take().map_or_else(|| Ok(Arc::clone(&self.file)), Err)
    }
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
        return Err(problem(format!("is too short for a safetensors file ({size} B)")));
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
    fn ahead(&self) -> MutexGuard<'_, Ahead> {
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

    fn new_file(&self) -> Result<Arc<File>, ModelError> {
        let made = fs::create_dir_all(&self.room).and_then(|()| tempfile::tempfile_in(&self.room));
        Ok(Arc::new(made.map_err(ModelError::io(&self.room))?))
    }

    /// Brings some bytes of a range that begins at `offset` into the range's file.
    fn bring_piece(&self, offset: u64, piece: Range<u64>, file: &File) -> Result<(), ModelError> {
        let mut at = piece.start;
        self.read(offset + piece.start, piece.end - piece.start, |bytes| {
            let written = file.write_all_at(bytes, at);
            at += bytes.len() as u64;
            written.map_err(|source| HubError::Io { path: self.room.clone(), source })
        })
    }

    /// Begins to bring a range, piece by piece, on the threads that wait for the hub. They never wait for one another.
    fn begin(self: &Arc<Self>, offset: u64, n_bytes: u64) -> Result<Arc<Brought>, ModelError> {
        let pieces = n_bytes.div_ceil(PIECE);
        let state = Mutex::new(State { left: pieces, failed: None });
        let brought = Arc::new(Brought { file: self.new_file()?, state, changed: Condvar::new() });
        for start in (0..pieces).map(|piece| piece * PIECE) {
            let (remote, brought) = (Arc::clone(self), Arc::clone(&brought));
            self.hub.ahead(move || {
                let piece = start..n_bytes.min(start + PIECE);
                brought.piece(remote.bring_piece(offset, piece, &brought.file));
            });
        }
        Ok(brought)
    }

    /// Brings a range that is wanted now: a short one before all that is brought ahead.
    fn bring(self: &Arc<Self>, offset: u64, n_bytes: u64) -> Result<Arc<File>, ModelError> {
        if n_bytes > PIECE {
            return self.begin(offset, n_bytes)?.wait();
        }
        let file = self.new_file()?;
        self.bring_piece(offset, 0..n_bytes, &file)?;
        Ok(file)
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
        let begun = self.0.ahead().insert((offset, n_bytes), None).flatten();
        begun.map_or_else(|| self.0.bring(offset, n_bytes), |brought| brought.wait()).map(Some)
    }

    fn will_read(&self, offset: u64, n_bytes: u64) {
        let mut ahead = self.0.ahead();
        if !ahead.contains_key(&(offset, n_bytes))
            // Where it cannot begin, reading it will say why.
            && let Ok(brought) = self.0.begin(offset, n_bytes)
        {
            ahead.insert((offset, n_bytes), Some(brought));
        }
    }

    /// A commit is what it is.
    fn check_unchanged(&self) -> Result<(), ModelError> {
        Ok(())
    }

    fn differs(&self, offset: u64) -> ModelError {
        differing(self, offset)
    }

    fn is_suspect(&self) -> bool {
        false
    }
}
