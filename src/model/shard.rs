//! One open safetensors file: its tensors, its identity, and its bytes by positioned reads.
//!
//! Sources are read with pread, never mapped: a file that shrinks under a map kills the process.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

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
        let identity = Identity::of(&metadata);
        let mut first = [0; header::LENGTH_BYTES];
        if identity.size < first.len() as u64 {
            return Err(problem(format!("has {} bytes, too few for a safetensors file", identity.size)));
        }
        file.read_exact_at(&mut first, 0).map_err(ModelError::io(path))?;
        let length = header::header_length(first, identity.size).map_err(problem)?;
        let mut json = vec![0; length];
        file.read_exact_at(&mut json, first.len() as u64).map_err(ModelError::io(path))?;
        let tensors = header::parse(&json, identity.size).map_err(problem)?;
        Ok(Self { path: path.to_owned(), identity, tensors, file })
    }

    /// Reads bytes at an offset from the start of the file.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ModelError> {
        self.file.read_exact_at(into, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => ModelError::Changed { path: self.path.clone() },
            _ => ModelError::Io { path: self.path.clone(), source: error },
        })
    }

    /// Has the disk begin to read a range.
    pub fn will_read(&self, offset: u64, n_bytes: u64) {
        disk::will_read(&self.file, offset, n_bytes);
    }

    /// Fails if the path no longer names the file, in the state, that was opened.
    pub fn check_unchanged(&self) -> Result<(), ModelError> {
        let metadata = std::fs::metadata(&self.path).map_err(ModelError::io(&self.path))?;
        if Identity::of(&metadata) == self.identity {
            Ok(())
        } else {
            Err(ModelError::Changed { path: self.path.clone() })
        }
    }
}
