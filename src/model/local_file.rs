//! One open file on a local disk: its tensors, its identity, and its bytes by positioned reads.
//!
//! Sources are read with pread, never mapped: a file that shrinks under a map kills the process. Models
//! may have more shards than a process may have files open, so only those read last stay open.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::source_file::{Entry, Headers, SourceFile, differing};
use super::view::LogicalTensor;
use super::{ModelError, download};
use crate::disk;
use crate::identity::Identity;

/// Shards that stay open at most. Threads that read at this moment may hold a few more.
const OPEN: usize = 128;

/// The files of shards that were read last, the latest at the end.
static LAST_READ: Mutex<VecDeque<(Identity, Arc<File>)>> = Mutex::new(VecDeque::new());

fn last_read() -> MutexGuard<'static, VecDeque<(Identity, Arc<File>)>> {
    LAST_READ.lock().expect("no thread panics with it")
}

/// Reads the headers of a file of so many bytes.
pub type ReadHeaders = fn(&File, u64, &Path) -> Result<Headers, ModelError>;

/// A file on a local disk whose tensors are ranges of its bytes.
#[derive(Debug)]
pub struct LocalFile {
    path: PathBuf,
    identity: Identity,
    headers: Headers,
    /// Whether bytes were found to be others than when they were hashed.
    suspect: AtomicBool,
}

impl LocalFile {
    /// Opens a file and reads its headers.
    ///
    /// # Errors
    /// Also if there is no whole file yet, with what to do.
    pub fn open(path: &Path, headers: ReadHeaders) -> Result<Self, ModelError> {
        let problem = |problem| ModelError::Header { path: path.to_owned(), problem };
        let metadata = fs::metadata(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => problem(download::absent(path)),
            _ => ModelError::io(path)(error),
        })?;
        // Before opening: a pipe could wait for ever.
        if !metadata.is_file() {
            return Err(problem("is not a regular file".to_owned()));
        }
        let file = File::open(path).map_err(ModelError::io(path))?;
        let identity = Identity::of(&file).map_err(ModelError::io(path))?;
        if identity.size <= download::MAX_LFS_BYTES {
            let mut start = vec![0; identity.size as usize];
            file.read_exact_at(&mut start, 0).map_err(ModelError::io(path))?;
            if let Some(pointer) = download::lfs_pointer(&start) {
                return Err(problem(pointer));
            }
        }
        let headers = headers(&file, identity.size, path).map_err(|error| match error {
            ModelError::Header { problem: said, .. } => problem(match download::unfinished(path) {
                Some(part) => format!(
                    "{said}; {} is beside it: the download did not finish; run it again",
                    part.display()
                ),
                None if identity.size == 0 => format!("{said}: it is empty; download it again"),
                None => said,
            }),
            other => other,
        })?;
        Ok(Self { path: path.to_owned(), identity, headers, suspect: AtomicBool::new(false) })
    }

    /// The file, opened again if it was closed meanwhile.
    ///
    /// # Errors
    /// Also if it is no longer the file, in the state, that was opened first.
    fn file(&self) -> Result<Arc<File>, ModelError> {
        let mut files = last_read();
        if let Some(at) = files.iter().rposition(|(identity, _)| *identity == self.identity) {
            let file = files.remove(at).expect("it was found there");
            files.push_back(file.clone());
            return Ok(file.1);
        }
        drop(files);
        // Before opening: a pipe in the file's place could wait for ever.
        self.check_unchanged()?;
        let file = Arc::new(File::open(&self.path).map_err(ModelError::io(&self.path))?);
        if Identity::of(&file).map_err(ModelError::io(&self.path))? != self.identity {
            return Err(ModelError::Changed { path: self.path.clone() });
        }
        let mut files = last_read();
        files.push_back((self.identity, Arc::clone(&file)));
        if files.len() > OPEN {
            files.pop_front();
        }
        Ok(file)
    }

    fn unreadable(&self, source: io::Error) -> ModelError {
        let path = self.path.clone();
        match source.kind() {
            ErrorKind::UnexpectedEof => ModelError::Changed { path },
            _ => ModelError::Io { path, source },
        }
    }
}

impl SourceFile for LocalFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn identity(&self) -> Identity {
        self.identity
    }

    fn tensors(&self) -> &BTreeMap<String, Entry> {
        &self.headers.tensors
    }

    fn views(&self) -> &BTreeMap<String, LogicalTensor> {
        &self.headers.views
    }

    fn others(&self) -> &[String] {
        &self.headers.others
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ModelError> {
        self.file()?.read_exact_at(into, offset).map_err(|error| self.unreadable(error))
    }

    fn read(&self, offset: u64, n_bytes: usize) -> Result<Vec<u8>, ModelError> {
        disk::read_range(&*self.file()?, offset, n_bytes).map_err(|error| self.unreadable(error))
    }

    fn differs(&self, offset: u64) -> ModelError {
        self.suspect.store(true, Ordering::Relaxed);
        differing(self, offset)
    }

    fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    fn will_read(&self, offset: u64, n_bytes: u64) {
        // Where it cannot be opened, reading it will say why.
        if let Ok(file) = self.file() {
            disk::will_read(&file, offset, n_bytes);
        }
    }

    fn check_unchanged(&self) -> Result<(), ModelError> {
        let metadata = match fs::metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(ModelError::Changed { path: self.path.clone() });
            }
            metadata => metadata.map_err(ModelError::io(&self.path))?,
        };
        if self.identity.fits(&metadata) {
            Ok(())
        } else {
            Err(ModelError::Changed { path: self.path.clone() })
        }
    }
}
