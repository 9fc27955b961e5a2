//! What every tier of storage can do: answer for actions, and hold bytes by their digest.
//!
//! The local store is the first tier; others may lie behind it, and take no more than these two traits.

use std::path::Path;
use std::sync::Arc;

use super::blob::{Content, InFile, Lookup};
use super::error::StoreError;
use crate::digest::{ActionKey, Digest};

/// What an action made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionRow {
    pub key: ActionKey,
    pub digest: Digest,
    pub n_bytes: u64,
}

/// The key of an action, and those of what was made beside its result to spare work the next time. Nothing needs it.
pub type BesideRow = (ActionKey, Vec<ActionKey>);

/// Bytes to be kept under their digest.
#[derive(Debug)]
pub struct NewBlob {
    pub digest: Digest,
    pub n_bytes: u64,
    pub content: Content,
}

impl NewBlob {
    /// The same bytes once more, in memory: for another tier.
    pub(super) fn duplicate(&self) -> Result<Self, StoreError> {
        let bytes = self.content.bytes().map_err(StoreError::io("read", Path::new("a result")))?;
        let content = Content::Bytes(Arc::new(bytes.into_owned()));
        Ok(Self { content, ..*self })
    }
}

/// From action keys to the digests of what the actions made.
pub trait ActionCache: Send + Sync {
    /// The digest and the size in bytes of what each action made, in the order of the keys; `None` for
    /// those that are not known. All answers are of one moment.
    fn get_many(&self, keys: &[ActionKey]) -> Result<Vec<Option<(Digest, u64)>>, StoreError>;

    /// Keeps what actions made. The bytes that they name have been kept before.
    ///
    /// # Errors
    /// Also if there is something to keep and the tier is read-only.
    fn put(&self, rows: &[ActionRow]) -> Result<(), StoreError>;
}

/// Bytes by their digest.
pub trait Cas: Send + Sync {
    /// Whether each blob is there in its size (bytes), in the order of the question. Its content is not
    /// looked at.
    fn contains_many(&self, blobs: &[(Digest, u64)]) -> Result<Vec<bool>, StoreError>;

    /// A blob of `n_bytes` bytes, checked against its digest if the tier is the local one.
    fn get(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<Vec<u8>>, StoreError>;

    /// A blob in a file, for what is too large for memory. Whoever reads it checks it.
    fn open(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<InFile>, StoreError>;

    /// Keeps blobs; they are durable when this returns. Those that are there already are dropped.
    ///
    /// # Errors
    /// Also if there is something to keep and the tier is read-only.
    fn put(&self, blobs: Vec<NewBlob>) -> Result<(), StoreError>;
}
