//! Bytes that memory has no room for any more, and that nothing else holds.

use std::sync::Arc;

use super::bytes::{Bytes, FilePart};
use super::error::BuildError;
use crate::digest::Checksums;
use crate::store::Store;

/// Writes bytes to a temporary file, from which they are read from now on. It has no name any more when this
/// returns, so it is gone when nobody reads it.
pub fn spill(bytes: &Bytes, store: &Store) -> Result<Bytes, BuildError> {
    let file = store.new_blob()?;
    bytes.blocks(|offset, block| Ok::<_, BuildError>(file.write_at(offset, block)?))?;
    let path = file.path().to_owned();
    let part = FilePart { path, file: file.handle()?, offset: 0, n_bytes: bytes.n_bytes(), is_own: true };
    let checksums = Checksums::of_all(&bytes.in_full()?);
    Ok(Bytes::File(Arc::new(part)).checked(Arc::new(checksums)))
}
