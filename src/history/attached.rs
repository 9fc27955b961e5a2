//! Actions that belong to a build though it did not need them: statistics of what it did. What keeps the build keeps
//! their results.

use super::codec::Encoder;
use super::sheet::block;
use crate::digest::{ActionKey, Digest};
use crate::store::StoreError;
use crate::store::index::Index;

/// Attaches actions to a build, in the place of those that are.
pub fn attach(index: &Index, build: u64, keys: &[ActionKey]) -> Result<(), StoreError> {
    let mut encoder = Encoder::default();
    encoder.list(keys, |encoder, key| encoder.digest(&Digest(key.0)));
    let (digest, bytes) = block(encoder.finish());
    if index.snapshot()?.attached(build)? == Some(digest) {
        return Ok(());
    }
    index.attach(build, (digest, bytes))
}
