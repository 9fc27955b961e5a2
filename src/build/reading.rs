//! Reads what a node is computed from: sources, stored results and what outputs hold. All of it is checked.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::bytes::{Bytes, FilePart};
use super::context::{Context, Outcome, Resolved};
use super::error::BuildError;
use super::examine::{Examination, Examined};
use super::outside::source_range;
use super::shared::Shared;
use super::task::Task;
use crate::digest::{Checksums, Digest};
use crate::event::{Event, Span, spanned};
use crate::model::ModelError;
use crate::plan::{NodeId, Source};
use crate::store::Cas;
use crate::store::blob::{InFile, Lookup};
use crate::store::range::{FileRange, RangeContent};
use crate::tensor::Dtype;

impl Task<'_, '_> {
    /// Reads bytes of a checkpoint: all of them into memory, unless the node is too large for that.
    pub(super) fn read(&self, bytes: Bytes, tensor: &str) -> Result<Bytes, BuildError> {
        if self.wide {
            return Ok(bytes);
        }
        Ok(spanned(self.shared.context.events, "read source", tensor, || bytes.into_memory())?)
    }

    /// Reads a source, into memory if there is room for it beside all that is kept, and for some more like it: one
    /// that had to make room before it is read again would have come in vain. Where little is to be gained, the page
    /// cache serves as well.
    pub(super) fn read_source(&self, node: NodeId, bytes: Bytes, tensor: &str) -> Result<Bytes, BuildError> {
        const LEAST: u64 = 64 << 20;
        const TOGETHER: u64 = 8;
        let Shared { context, warm, .. } = self.shared;
        let n_bytes = bytes.n_bytes() as u64;
        let fits =
            || (LEAST..=self.room / TOGETHER).contains(&n_bytes) && warm.total() + n_bytes <= self.room;
        if self.wide && fits() && !self.shared.is_gathered_from(node) {
            let read = || bytes.into_memory_side_by_side();
            return Ok(spanned(context.events, "read source", tensor, read)?);
        }
        self.read(bytes, tensor)
    }

    pub(super) fn examine(&self, bytes: &Bytes, dtype: Option<Dtype>) -> Result<Examined, BuildError> {
        let proceed = || self.shared.context.check_interrupted();
        Examination { wide: self.wide, proceed: &proceed, span: None }.of(bytes, dtype)
    }

    /// The bytes of a source that is elsewhere, if something on this machine holds the same.
    pub(super) fn instead_of(&self, source: &Source, digest: &Digest) -> Result<Option<Bytes>, BuildError> {
        if self.shared.is_local(source) {
            return Ok(None);
        }
        match self.read_blob(digest, source.spec.n_bytes())? {
            Lookup::Found(bytes) => Ok(Some(bytes)),
            Lookup::Missing | Lookup::Damaged => self.bytes_outside(digest),
        }
    }

    /// The bytes of a source whose digest is known. They may have changed without a trace since they were
    /// hashed, so they are held to their checksums as they are read, or to the digest where there are none.
    pub(super) fn read_again(
        &self,
        node: NodeId,
        source: &Source,
        digest: Digest,
    ) -> Result<Bytes, BuildError> {
        let bytes = self.shared.bring(source)?;
        let checksums = self.shared.snapshot.checksums(&digest)?;
        if let Some(checksums) = checksums.filter(|checksums| checksums.cover(bytes.n_bytes())) {
            return self.read_source(node, bytes.checked(Arc::new(checksums)), &source.tensor);
        }
        let bytes = self.read_source(node, bytes, &source.tensor)?;
        let examined = self.examine(&bytes, None)?;
        if examined.digest != digest {
            return Err(self.shared.source_bytes(source).differs(0).into());
        }
        self.shared.committer.note_checksums((digest, Arc::clone(&examined.checksums)))?;
        Ok(bytes.checked(examined.checksums))
    }

    /// A digest's blob, to be computed with: in memory, and held to its checksums, unless the node is too large for
    /// that or there are none.
    pub(super) fn read_blob(&self, digest: &Digest, n_bytes: usize) -> Result<Lookup<Bytes>, BuildError> {
        let Context { store, tiers, .. } = self.shared.context;
        if !self.wide {
            let checksums = self.shared.snapshot.checksums(digest)?;
            if let Some(checksums) = checksums.filter(|checksums| checksums.cover(n_bytes)) {
                return self.read_by_checksums(digest, n_bytes, &checksums);
            }
            return Ok(tiers.get(digest, n_bytes as u64)?.map(|bytes| Bytes::Memory(Arc::new(bytes))));
        }
        let InFile { path, file, offset } = match tiers.open(digest, n_bytes as u64)? {
            Lookup::Found(found) => found,
            Lookup::Missing => return Ok(Lookup::Missing),
            Lookup::Damaged => return Ok(Lookup::Damaged),
        };
        let part = FilePart { path, file: Arc::new(file), offset, n_bytes, is_own: false };
        let bytes = Bytes::File(Arc::new(part));
        match self.examine(&bytes, None) {
            Ok(found) if found.digest == *digest => Ok(Lookup::Found(bytes.checked(found.checksums))),
            Ok(_) | Err(BuildError::Model(ModelError::Changed { .. })) => Ok(store.remove_damaged(digest)?),
            Err(error) => Err(error),
        }
    }

    fn read_by_checksums(
        &self,
        digest: &Digest,
        n_bytes: usize,
        checksums: &Checksums,
    ) -> Result<Lookup<Bytes>, BuildError> {
        let Context { store, tiers, .. } = self.shared.context;
        let found = match tiers.open(digest, n_bytes as u64)? {
            Lookup::Found(found) => found,
            Lookup::Missing => return Ok(Lookup::Missing),
            Lookup::Damaged => return Ok(Lookup::Damaged),
        };
        match found.read(n_bytes, |bytes| checksums.agree(0, bytes))? {
            Some(bytes) => Ok(Lookup::Found(Bytes::Memory(Arc::new(bytes)))),
            None => Ok(store.remove_damaged(digest)?),
        }
    }

    /// A digest's bytes from a source or a finished output, if some still holds them.
    pub(super) fn bytes_outside(&self, digest: &Digest) -> Result<Option<Bytes>, BuildError> {
        let Shared { outside, snapshot, context, .. } = self.shared;
        let Some(there) = outside.bytes(digest, snapshot)? else { return Ok(None) };
        let read = || {
            let bytes = self.read(there.clone(), &digest.short())?;
            let examined = self.examine(&bytes, None)?;
            if examined.digest != *digest {
                return Err(BuildError::Model(there.differs(0)));
            }
            Ok(bytes.checked(examined.checksums))
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            // What cannot be had from there is made again.
            Err(BuildError::Model(_)) => {
                context.events.event(Event::Damaged { digest: *digest });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads a source and finds its digest.
    pub(super) fn hash(&self, node: NodeId, source: &Source) -> Result<Resolved, BuildError> {
        let Shared { context, committer, warm, .. } = self.shared;
        let checkpoint = &context.checkpoints[source.model.0];
        let range = source_range(checkpoint, &source.tensor);
        let started = now();
        let is_trusted = !range.identity.is_racy(started);
        // What is read to be hashed is at hand for computing; large tensors are read again, block by block, and
        // each block is checked.
        let bytes = self.read_source(node, self.shared.bring(source)?, &source.tensor)?;
        let Examined { digest, finite, checksums } = {
            let span = Span::start(context.events, "hash source", &source.tensor);
            let proceed = || context.check_interrupted();
            Examination { wide: self.wide, proceed: &proceed, span: Some(&span) }
                .of(&bytes, Some(source.spec.dtype))?
        };
        context.events.event(Event::Hashed {
            model: &checkpoint.dir.to_string_lossy(),
            tensor: &source.tensor,
            bytes: bytes.n_bytes() as u64,
        });
        let bytes = bytes.checked(Arc::clone(&checksums));
        warm.put(node, &bytes, false);
        // What came from elsewhere is not fetched a second time to be written out.
        if !self.shared.is_local(source) && self.shared.is_output(node) {
            self.shared.held.lock().expect("no thread panics with it").insert(node, bytes);
        }
        committer.note_checksums((digest, checksums))?;
        let content = RangeContent { digest, mark: finite };
        if is_trusted {
            committer.remember((range, content))?;
        }
        accept(self.shared, source, range, content, is_trusted)
    }
}

/// Resolves a source of which is known what it holds, if that can be used.
pub fn accept(
    shared: &Shared<'_>,
    source: &Source,
    range: FileRange,
    RangeContent { digest, mark: is_finite }: RangeContent,
    is_trusted: bool,
) -> Result<Resolved, BuildError> {
    let Shared { context, outside, .. } = shared;
    let checkpoint = &context.checkpoints[source.model.0];
    let shard = checkpoint.shard_of(&source.tensor).expect("the source is a tensor of the checkpoint");
    if is_trusted && shard.is_local() {
        outside.note_source(digest, &**shard, range);
    }
    let is_locked = !context.locked.is_empty();
    if is_locked && context.locked.get(&(source.model, source.tensor.as_str())) != Some(&Some(digest)) {
        let path = checkpoint.dir.clone();
        return Err(BuildError::NotLocked { path, tensor: source.tensor.clone() });
    }
    if !is_finite {
        return Err(BuildError::NotFinite { path: shard.path().to_owned(), tensor: source.tensor.clone() });
    }
    Ok(Resolved { digest, key: None, outcome: Outcome::Reused })
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
