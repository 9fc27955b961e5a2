//! One open safetensors file: its tensors, its identity, and its bytes by positioned reads.
//!
//! Sources are read with pread, never mapped: a file that shrinks under a map kills the process.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::ModelError;
use super::header::{self, Entry};
use crate::disk;
use crate::identity::Identity;

/// An open shard.
#[derive(Debug)]
pub struct Shard {
    pub path: PathBuf,
    pub identity: Identity,
    pub tensors: BTreeMap<String, Entry>,
    file: File,
    /// Whether bytes were found to be others than when they were hashed.
    suspect: AtomicBool,
}

impl Shard {
    /// Opens a safetensors file and checks its header.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let problem = |problem| ModelError::Header { path: path.to_owned(), problem };
        let file = File::open(path).map_err(ModelError::io(path))?;
        let metadata = file.metadata().map_err(ModelError::io(path))?;
        if !metadata.is_file() {
            return Err(problem("is not a regular file".to_owned()));
        }
        let identity = Identity::of(&file).map_err(ModelError::io(path))?;
        let mut first = [0; header::LENGTH_BYTES];
        if identity.size < first.len() as u64 {
            return Err(problem(format!("has {} bytes, too few for a safetensors file", identity.size)));
        }
        file.read_exact_at(&mut first, 0).map_err(ModelError::io(path))?;
        let length = header::header_length(first, identity.size).map_err(problem)?;
        let mut json = vec![0; length];
        file.read_exact_at(&mut json, first.len() as u64).map_err(ModelError::io(path))?;
        let tensors = header::parse(&json, identity.size).map_err(problem)?;
        Ok(Self { path: path.to_owned(), identity, tensors, file, suspect: AtomicBool::new(false) })
    }

    /// Reads bytes at an offset from the start of the file.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ModelError> {
        self.file.read_exact_at(into, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => ModelError::Changed { path: self.path.clone() },
            _ => ModelError::Io { path: self.path.clone(), source: error },
        })
    }

    /// Notes that the tensor at an offset was read again and holds other bytes than those that were hashed,
    /// and makes the error that says so.
    pub fn differs(&self, offset: u64) -> ModelError {
        self.suspect.store(true, Ordering::Relaxed);
        let holds =
            |entry: &Entry| (entry.offset..entry.offset + entry.spec.n_bytes() as u64).contains(&offset);
        let tensor = self.tensors.iter().find(|(_, entry)| holds(entry));
        let tensor = tensor.map_or_else(String::new, |(name, _)| name.clone());
        ModelError::Differs { path: self.path.clone(), tensor }
    }

    /// Whether something in the file was found to differ, so that nothing remembered of it can be trusted.
    pub fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// Has the disk begin to read a range.
    pub fn will_read(&self, offset: u64, n_bytes: u64) {
        disk::will_read(&self.file, offset, n_bytes);
    }

    /// Fails if the path no longer names the file, in the state, that was opened.
    pub fn check_unchanged(&self) -> Result<(), ModelError> {
        let metadata = std::fs::metadata(&self.path).map_err(ModelError::io(&self.path))?;
        if self.identity.fits(&metadata) {
            Ok(())
        } else {
            Err(ModelError::Changed { path: self.path.clone() })
        }
    }
}
