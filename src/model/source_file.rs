//! Files that hold tensors, as the rest of the code sees them: names, ranges of bytes, and the file's state.
//!
//! A format is read by whoever parses its headers; a place that is no local disk by another implementation of
//! this trait.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::ModelError;
use super::view::LogicalTensor;
use crate::identity::Identity;
use crate::tensor::TensorSpec;

/// Where a tensor's bytes are in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub spec: TensorSpec,
    /// Offset of the first byte from the start of the file.
    pub offset: u64,
}

/// What a file says of itself.
#[derive(Debug, Default)]
pub struct Headers {
    /// Every run of bytes that is a tensor, or that one is made of, by the tensor's name.
    pub tensors: BTreeMap<String, Entry>,
    /// The tensors that are not stored in their own order: what makes them of those that are.
    pub views: BTreeMap<String, LogicalTensor>,
    /// What is in the file beside tensors, by name; it is not read.
    pub others: Vec<String>,
}

/// An open file of a checkpoint.
pub trait SourceFile: Send + Sync + Debug {
    fn path(&self) -> &Path;

    /// The state in which the file was opened.
    fn identity(&self) -> Identity;

    /// Every tensor that is stored in it, by name.
    fn tensors(&self) -> &BTreeMap<String, Entry>;

    /// Those of them that are not stored in their own order, as they are meant.
    fn views(&self) -> &BTreeMap<String, LogicalTensor>;

    /// What is in it beside tensors, by name.
    fn others(&self) -> &[String];

    /// Reads bytes at an offset from the start of the file.
    ///
    /// # Errors
    /// Also if the file is no longer in the state in which it was opened.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ModelError>;

    /// A range of the file, in a vector of its own.
    ///
    /// # Errors
    /// As [`Self::read_at`].
    fn read(&self, offset: u64, n_bytes: usize) -> Result<Vec<u8>, ModelError> {
        let mut bytes = vec![0; n_bytes];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether the file is on a disk of this machine, where it can be opened by its path.
    fn is_local(&self) -> bool {
        true
    }

    /// Brings a range of a file that is elsewhere to this machine; `None` for a local one, which is read where it is.
    /// What is brought is kept for as long as the file that is returned.
    ///
    /// # Errors
    /// If it cannot be had.
    fn bring(&self, offset: u64, n_bytes: u64) -> Result<Option<Arc<File>>, ModelError> {
        let _ = (offset, n_bytes);
        Ok(None)
    }

    /// Has whatever holds the file begin to read a range. Only a hint.
    fn will_read(&self, offset: u64, n_bytes: u64);

    /// Fails if the file is no longer what was opened.
    fn check_unchanged(&self) -> Result<(), ModelError>;

    /// Notes that the tensor at an offset was read again and holds other bytes than those that were hashed,
    /// and makes the error that says so.
    fn differs(&self, offset: u64) -> ModelError;

    /// Whether something in the file was found to differ, so that nothing remembered of it can be trusted.
    fn is_suspect(&self) -> bool;
}

/// The error of a file in which the tensor at an offset holds other bytes than those that were hashed.
pub fn differing(file: &dyn SourceFile, offset: u64) -> ModelError {
    let holds = |entry: &Entry| (entry.offset..entry.offset + entry.spec.n_bytes() as u64).contains(&offset);
    let tensor = file.tensors().iter().find(|(_, entry)| holds(entry));
    let tensor = tensor.map_or_else(String::new, |(name, _)| name.clone());
    ModelError::Differs { path: file.path().to_owned(), tensor }
}
