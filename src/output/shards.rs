//! Writes shards, and tells which need not be written.
//!
//! A shard is up to date when its header is the planned one and the index remembers, for the file in its
//! present state, that every range holds the wanted digest: the same memo that spares sources a second
//! reading.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use super::content::Output;
use super::error::OutputError;
use super::files::regular;
use super::format::layout::{PlacedTensor, ShardLayout};
use crate::build::{Build, Bytes};
use crate::digest::Digest;
use crate::disk::{self, DirectWriter};
use crate::identity::Identity;
use crate::store::blob::Content;
use crate::store::commit::NewOutput;
use crate::store::range::{ExternalRange, FileRange, PackedRow, RangeContent};
use crate::store::snapshot::Snapshot;
use crate::store::tier::{ActionRow, NewBlob};
use crate::store::{Cas, Store};

/// Longer than the step in which common file systems stamp files.
const STAMP_STEP: Duration = Duration::from_millis(20);

/// The identity of every shard that is up to date.
pub(super) fn up_to_date(
    output: &Output<'_>,
    build: &Build<'_>,
    store: &Store,
) -> Result<Vec<Option<Identity>>, OutputError> {
    let snapshot = store.index().snapshot()?;
    output.layout.shards.iter().map(|shard| identity_if_up_to_date(output, shard, build, &snapshot)).collect()
}

pub(super) fn digest_of(output: &Output<'_>, build: &Build<'_>, tensor: &str) -> Digest {
    build.resolved(output.stage.nodes[tensor]).digest
}

fn identity_if_up_to_date(
    output: &Output<'_>,
    shard: &ShardLayout,
    build: &Build<'_>,
    snapshot: &Snapshot<'_>,
) -> Result<Option<Identity>, OutputError> {
    let path = output.dir.join(&shard.file);
    let Some(identity) = identity_if_header_is(&path, &shard.header) else { return Ok(None) };
    for PlacedTensor { name, spec, offset } in &shard.tensors {
        let range = FileRange { identity, offset: *offset, n_bytes: spec.n_bytes() as u64 };
        let remembered = snapshot.remembered(&range)?;
        if remembered.is_none_or(|content| content.digest != digest_of(output, build, name)) {
            return Ok(None);
        }
    }
    Ok(Some(identity))
}

/// The file's identity, if it can be read and starts with this header. Anything else means writing anew.
fn identity_if_header_is(path: &Path, header: &[u8]) -> Option<Identity> {
    regular(path)?;
    let mut file = File::open(path).ok()?;
    let identity = Identity::of(&file).ok()?;
    let mut found = vec![0; header.len()];
    file.read_exact(&mut found).ok()?;
    (found == header).then_some(identity)
}

/// Makes a shard's file, with its header and room for everything else.
pub(super) fn create(shard: &ShardLayout, path: &Path) -> io::Result<File> {
    disk::fail_point("create", path)?;
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    // Claims all room at once, so that a full disk is noticed before anything is computed for it.
    disk::fail_point("allocate", path)?;
    allocate(&file, shard.n_bytes)?;
    disk::fail_point("write", path)?;
    file.write_all_at(&shard.header, 0)?;
    Ok(file)
}

/// Fills a shard with what was not delivered to it and makes it durable.
pub(super) fn write(
    output: &Output<'_>,
    shard: &ShardLayout,
    path: &Path,
    build: &Build<'_>,
) -> Result<Identity, OutputError> {
    let failed = |error| OutputError::io("write", &output.dir.join(&shard.file))(error);
    if !path.exists() {
        create(shard, path).map_err(failed)?;
    }
    // Each thread has a handle of its own, to write past the page cache.
    let open = || (File::options().write(true).open(path), DirectWriter::default());
    shard.tensors.par_iter().try_for_each_init(open, |(file, writer), tensor| {
        let node = output.stage.nodes[&tensor.name];
        if build.delivered(node).is_some() {
            return Ok::<(), OutputError>(());
        }
        let file = file.as_ref().map_err(|error| failed(error.kind().into()))?;
        let bytes = build.bytes(node)?;
        let write = |at, block: &[u8]| writer.write_all_at(file, block, tensor.offset + at).map_err(failed);
        // The lockfile will say that this is what the digest names: a source may have changed since it was
        // hashed, and what comes from the store was held to checksums alone.
        if copy_checked(&bytes, build.resolved(node).digest, write)? {
            return Ok(());
        }
        Err(bytes.differs(0).into())
    })?;
    let file = File::open(path).map_err(failed)?;
    disk::fail_point("sync", path).and_then(|()| file.sync_all()).map_err(failed)?;
    Identity::of(&file).map_err(failed)
}

/// Hands bytes over block by block, each with its offset; says whether they were what the digest names.
fn copy_checked(
    bytes: &Bytes,
    digest: Digest,
    mut write: impl FnMut(u64, &[u8]) -> Result<(), OutputError>,
) -> Result<bool, OutputError> {
    let mut hasher = blake3::Hasher::new();
    bytes.blocks(|offset, block| {
        hasher.update(block);
        write(offset, block)
    })?;
    Ok(Digest::from(hasher.finalize()) == digest)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, n_bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), 0, n_bytes) {
        // Some file systems cannot; they tell about a full disk when it is written.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(n_bytes),
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, n_bytes: u64) -> io::Result<()> {
    file.set_len(n_bytes)
}

/// Waits until every shard was last written at least a step of the file system's clock ago, so that a
/// write by someone else, who comes to know the file when it is published, must change its stamp.
pub(super) fn let_stamps_age(shards: &[Identity]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let newest = shards.iter().map(|shard| shard.modified).max().unwrap_or(0);
    let age = now.saturating_sub(Duration::from_nanos(u64::try_from(newest).unwrap_or(0)));
    std::thread::sleep(STAMP_STEP.saturating_sub(age));
}

/// Remembers what published shards hold, for those that are as they were before, and gives up what the store has of
/// it; and where results are now that only the old version held.
pub(super) fn remember(
    output: &Output<'_>,
    before: &[Identity],
    build: &Build<'_>,
    store: &Store,
    packed: Vec<PackedRow>,
) -> Result<(), OutputError> {
    let dir = fs::canonicalize(output.dir).map_err(OutputError::io("read", output.dir))?;
    let mut new = NewOutput { rows: delivered(output, build), packed, ..NewOutput::default() };
    for (shard, before) in output.layout.shards.iter().zip(before) {
        let path = dir.join(&shard.file);
        let file = File::open(&path).map_err(OutputError::io("read", &path))?;
        let identity = Identity::of(&file).map_err(OutputError::io("read", &path))?;
        new.files.push((path.clone(), identity));
        let state = |file: &Identity| (file.inode, file.modified, file.size, file.probe);
        let untouched = state(&identity) == state(before);
        // A stamp of whole seconds comes from a file system whose step is longer than was waited for.
        let has_fine_stamps = identity.modified % 1_000_000_000 != 0;
        if !untouched || !has_fine_stamps {
            take_back(output, shard, build, store)?;
            continue;
        }
        for PlacedTensor { name, spec, offset } in &shard.tensors {
            let range = FileRange { identity, offset: *offset, n_bytes: spec.n_bytes() as u64 };
            let digest = digest_of(output, build, name);
            new.memo.push((range, RangeContent { digest, mark: true }));
            if build.is_kept_result(output.stage.nodes[name]) {
                new.external.push((digest, ExternalRange { path: path.clone(), range }));
            }
        }
    }
    Ok(store.hand_over(&new)?)
}

/// The rows of all actions whose results were delivered to an output.
pub(super) fn delivered(output: &Output<'_>, build: &Build<'_>) -> Vec<ActionRow> {
    output.stage.nodes.values().filter_map(|node| build.delivered(*node)).collect()
}

/// Takes results of a shard whose state cannot be told by its stamps into the store.
fn take_back(
    output: &Output<'_>,
    shard: &ShardLayout,
    build: &Build<'_>,
    store: &Store,
) -> Result<(), OutputError> {
    let mut files = Vec::new();
    for PlacedTensor { name, spec, .. } in &shard.tensors {
        let node = output.stage.nodes[name];
        if build.is_kept_result(node)
            && let Some(blob) = build.rescue(node)?
        {
            let (digest, n_bytes) = (digest_of(output, build, name), spec.n_bytes() as u64);
            files.push(NewBlob { digest, n_bytes, content: Content::File(blob) });
        }
    }
    Ok(store.put(files)?)
}
