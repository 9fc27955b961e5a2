//! The bytes of a tensor, wherever they are.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use crate::digest::{Checksums, Digest};
use crate::disk;
use crate::model::ModelError;
use crate::model::source_file::SourceFile;

/// Bytes that are read and hashed in one go: whole blocks of checksums.
pub const READ_BYTES: usize = 8 * Checksums::BLOCK;

/// A tensor's bytes: in memory, in a file of the store, or still in a checkpoint.
#[derive(Clone, Debug)]
pub enum Bytes {
    Memory(Arc<Vec<u8>>),
    /// In a file of the store, or in one that this build has just made.
    File(Arc<FilePart>),
    Source {
        shard: Arc<dyn SourceFile>,
        offset: u64,
        n_bytes: usize,
    },
    /// Runs of others, one after the other.
    Joined(Arc<Joined>),
    /// In files, and hashed before: whole blocks are read again, and each must be what it was.
    Checked(Arc<Bytes>, Arc<Checksums>),
}

/// Runs of other bytes, each with the place in the whole at which it ends.
#[derive(Debug)]
pub struct Joined {
    runs: Vec<(Run, usize)>,
}

impl Joined {
    /// The runs that hold what lies at a place and behind it, each with the place at which it begins.
    fn from(&self, start: usize) -> impl Iterator<Item = (&Run, usize)> {
        let first = self.runs.partition_point(|(_, end)| *end <= start);
        self.runs[first..].iter().map(|(run, end)| (run, end - run.range.len()))
    }
}

/// Some neighbouring bytes of others.
#[derive(Clone, Debug)]
pub struct Run {
    pub bytes: Bytes,
    pub range: Range<usize>,
}

/// A range of an open file. Read and not mapped, since a map of a file that somebody cuts kills the process.
#[derive(Debug)]
pub struct FilePart {
    pub path: PathBuf,
    pub file: Arc<File>,
    pub offset: u64,
    pub n_bytes: usize,
    /// Whether this build has made it, and nobody else been told of it.
    pub is_own: bool,
}

impl FilePart {
    fn read_at(&self, start: usize, into: &mut [u8]) -> Result<(), ModelError> {
        let offset = self.offset + start as u64;
        self.file.read_exact_at(into, offset).map_err(|error| self.unreadable(error))
    }

    fn read(&self) -> Result<Vec<u8>, ModelError> {
        disk::read_range(&self.file, self.offset, self.n_bytes).map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: io::Error) -> ModelError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.changed(),
            _ => ModelError::io(&self.path)(error),
        }
    }

    fn changed(&self) -> ModelError {
        if self.is_own { ModelError::OwnFile } else { ModelError::Changed { path: self.path.clone() } }
    }
}

impl Bytes {
    pub fn source(shard: Arc<dyn SourceFile>, tensor: &str) -> Self {
        let entry = &shard.tensors()[tensor];
        let (offset, n_bytes) = (entry.offset, entry.spec.n_bytes());
        Self::Source { shard, offset, n_bytes }
    }

    /// Runs of others as one.
    pub fn joined(runs: Vec<Run>) -> Self {
        let ends = runs.iter().scan(0, |end, run| {
            *end += run.range.len();
            Some(*end)
        });
        let ends: Vec<usize> = ends.collect();
        Self::Joined(Arc::new(Joined { runs: runs.into_iter().zip(ends).collect() }))
    }

    pub fn n_bytes(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(part) => part.n_bytes,
            Self::Source { n_bytes, .. } => *n_bytes,
            Self::Joined(joined) => joined.runs.last().map_or(0, |(_, end)| *end),
            Self::Checked(bytes, _) => bytes.n_bytes(),
        }
    }

    /// All of them, if they can be looked at without reading.
    pub fn at_hand(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(bytes) => Some(bytes),
            Self::File(_) | Self::Source { .. } | Self::Joined(_) | Self::Checked(..) => None,
        }
    }

    /// All of them, read unless they are at hand.
    pub fn in_full(&self) -> Result<Cow<'_, [u8]>, ModelError> {
        match self.at_hand() {
            Some(all) => Ok(Cow::Borrowed(all)),
            None => Ok(Cow::Owned(self.read()?)),
        }
    }

    /// All of them in a vector of their own: read at one go, and checked when they are there.
    fn read(&self) -> Result<Vec<u8>, ModelError> {
        match self {
            Self::Memory(all) => Ok(all.to_vec()),
            Self::File(part) => part.read(),
            Self::Source { shard, offset, n_bytes } => shard.read(*offset, *n_bytes),
            Self::Joined(_) => {
                let mut bytes = vec![0; self.n_bytes()];
                self.fill(0, &mut bytes)?;
                Ok(bytes)
            }
            Self::Checked(bytes, checksums) => {
                let read = bytes.read()?;
                let differs = |(i, block): (usize, &[u8])| !checksums.agree(i, block);
                match read.chunks(Checksums::BLOCK).enumerate().position(differs) {
                    Some(i) => Err(bytes.differs(i * Checksums::BLOCK)),
                    None => Ok(read),
                }
            }
        }
    }

    /// Some neighbouring ones, if they can be looked at without reading or joining.
    pub fn at_hand_in(&self, range: Range<usize>) -> Option<&[u8]> {
        match self {
            Self::Memory(all) => Some(&all[range]),
            Self::File(_) | Self::Source { .. } => None,
            Self::Joined(joined) => {
                let (run, from) = joined.from(range.start).next()?;
                let within = range.start - from..range.end - from;
                let is_whole = within.end <= run.range.len();
                is_whole.then(|| {
                    run.bytes.at_hand_in(run.range.start + within.start..run.range.start + within.end)
                })?
            }
            // Of what is in memory nothing changes.
            Self::Checked(bytes, _) => bytes.at_hand_in(range),
        }
    }

    /// How many of them take memory.
    pub fn in_memory(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            _ => 0,
        }
    }

    /// The same bytes, in memory unless they are joined.
    pub fn into_memory(self) -> Result<Self, ModelError> {
        match self {
            Self::Source { .. } | Self::Checked(..) => Ok(Self::Memory(Arc::new(self.read()?))),
            other => Ok(other),
        }
    }

    /// The same, read by all threads.
    pub fn into_memory_side_by_side(self) -> Result<Self, ModelError> {
        match self {
            Self::Source { .. } | Self::Checked(..) => {
                let mut bytes = vec![0; self.n_bytes()];
                let pieces = bytes.par_chunks_mut(READ_BYTES).enumerate();
                pieces.try_for_each(|(i, piece)| self.fill(i * READ_BYTES, piece))?;
                Ok(Self::Memory(Arc::new(bytes)))
            }
            other => Ok(other),
        }
    }

    /// The same bytes, after they were hashed and their checksums taken: what must be read again from a file
    /// is held to them.
    pub fn checked(self, checksums: Arc<Checksums>) -> Self {
        debug_assert!(checksums.cover(self.n_bytes()));
        match self {
            Self::Memory(_) => self,
            Self::File(_) | Self::Source { .. } => Self::Checked(Arc::new(self), checksums),
            Self::Joined(joined) => {
                // These checksums stand for those of the parts.
                let bare = |(Run { bytes, range }, _): &(Run, usize)| {
                    let bytes = if let Self::Checked(bytes, _) = bytes { &**bytes } else { bytes };
                    Run { bytes: bytes.clone(), range: range.clone() }
                };
                let bare = Self::joined(joined.runs.iter().map(bare).collect());
                Self::Checked(Arc::new(bare), checksums)
            }
            Self::Checked(bytes, _) => Self::Checked(bytes, checksums),
        }
    }

    /// Notes that the block at an offset is not what was hashed, and makes the error that says so.
    pub fn differs(&self, at: usize) -> ModelError {
        match self {
            Self::Memory(_) => ModelError::OwnFile,
            Self::File(part) => part.changed(),
            Self::Source { shard, offset, .. } => shard.differs(offset + at as u64),
            Self::Joined(joined) => {
                // What is in memory does not change, so the first part of the block that is in a file is meant.
                let in_file = joined.from(at).find(|(run, _)| !matches!(run.bytes, Self::Memory(_)));
                match in_file {
                    Some((Run { bytes, range }, from)) => {
                        bytes.differs(range.start + at.saturating_sub(from))
                    }
                    None => ModelError::OwnFile,
                }
            }
            Self::Checked(bytes, _) => bytes.differs(at),
        }
    }

    /// Hashes the bytes, reading them once from start to end.
    pub fn digest(&self) -> Result<Digest, ModelError> {
        let mut hasher = blake3::Hasher::new();
        self.blocks(|_, block| {
            hasher.update(block);
            Ok::<(), ModelError>(())
        })?;
        Ok(hasher.finalize().into())
    }

    /// Hands the bytes over in order, in blocks of at most 1 MiB, each with its offset.
    pub fn blocks<E: From<ModelError>>(
        &self,
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut window = Window::default();
        for start in (0..self.n_bytes()).step_by(READ_BYTES) {
            let end = (start + READ_BYTES).min(self.n_bytes());
            visit(start as u64, window.range(self, start..end)?)?;
        }
        Ok(())
    }

    /// Hands the bytes over in order, in blocks large enough for all threads, which share in reading them.
    pub fn large_blocks<E: From<ModelError>>(
        &self,
        mut visit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        const LARGE: usize = 16 * READ_BYTES;
        if let Some(all) = self.at_hand() {
            return all.chunks(LARGE).try_for_each(visit);
        }
        let mut block = vec![0; LARGE.min(self.n_bytes())];
        for start in (0..self.n_bytes()).step_by(LARGE) {
            let block = &mut block[..LARGE.min(self.n_bytes() - start)];
            let pieces = block.par_chunks_mut(READ_BYTES).enumerate();
            pieces.try_for_each(|(i, piece)| self.fill(start + i * READ_BYTES, piece))?;
            visit(block)?;
        }
        Ok(())
    }

    /// Copies the bytes from `start` on; of what is checked, whole blocks.
    fn fill(&self, start: usize, out: &mut [u8]) -> Result<(), ModelError> {
        match self {
            Self::Memory(all) => out.copy_from_slice(&all[start..start + out.len()]),
            Self::File(part) => part.read_at(start, out)?,
            Self::Source { shard, offset, .. } => shard.read_at(offset + start as u64, out)?,
            Self::Joined(joined) => {
                let wanted = start..start + out.len();
                // Of what is checked by blocks, neighbouring runs often share one.
                let mut windows: Vec<(&Arc<Self>, Window)> = Vec::new();
                for (Run { bytes, range }, from) in joined.from(start) {
                    if from >= wanted.end {
                        break;
                    }
                    let shared = wanted.start.max(from)..wanted.end.min(from + range.len());
                    let out = &mut out[shared.start - start..shared.end - start];
                    let at = range.start + shared.start - from;
                    let Self::Checked(whole, _) = bytes else {
                        bytes.fill(at, out)?;
                        continue;
                    };
                    let known = windows.iter().position(|(other, _)| Arc::ptr_eq(other, whole));
                    let number = known.unwrap_or_else(|| {
                        windows.push((whole, Window::default()));
                        windows.len() - 1
                    });
                    out.copy_from_slice(windows[number].1.range(bytes, at..at + out.len())?);
                }
            }
            Self::Checked(bytes, checksums) => {
                debug_assert!(start.is_multiple_of(Checksums::BLOCK));
                for (i, block) in out.chunks_mut(Checksums::BLOCK).enumerate() {
                    let at = start + i * Checksums::BLOCK;
                    bytes.fill(at, block)?;
                    if !checksums.agree(at / Checksums::BLOCK, block) {
                        return Err(bytes.differs(at));
                    }
                }
            }
        }
        Ok(())
    }
}

/// What one reader has read of some bytes, kept as it moves on: where blocks are checked, neighbouring ranges
/// share one. Always used with the same bytes.
#[derive(Default)]
pub struct Window {
    start: usize,
    n_bytes: usize,
    /// At least as many; it does not shrink, so that it is cleared once and not for each range.
    buffer: Vec<u8>,
}

impl Window {
    /// A range of the bytes, read unless it is at hand.
    pub fn range<'w>(&'w mut self, bytes: &'w Bytes, range: Range<usize>) -> Result<&'w [u8], ModelError> {
        if let Some(wanted) = bytes.at_hand_in(range.clone()) {
            return Ok(wanted);
        }
        let end = self.start + self.n_bytes;
        if range.start < self.start || range.end > end {
            let wanted = match bytes {
                Bytes::Checked(..) => {
                    let start = range.start - range.start % Checksums::BLOCK;
                    start..range.end.next_multiple_of(Checksums::BLOCK).min(bytes.n_bytes())
                }
                _ => range.clone(),
            };
            let known = if (self.start..end).contains(&wanted.start) {
                wanted.start - self.start
            } else {
                end - self.start
            };
            self.buffer.copy_within(known..self.n_bytes, 0);
            let kept = self.n_bytes - known;
            if self.buffer.len() < wanted.len() {
                self.buffer.resize(wanted.len(), 0);
            }
            (self.start, self.n_bytes) = (wanted.start, 0);
            bytes.fill(wanted.start + kept, &mut self.buffer[kept..wanted.len()])?;
            self.n_bytes = wanted.len();
        }
        Ok(&self.buffer[range.start - self.start..][..range.len()])
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::model::safetensors;

    const ROOM: usize = 3 * Checksums::BLOCK + 1000;

    /// A shard with tensors `a` and `b`, and the offset of `a`'s first byte.
    fn shard(dir: &Path) -> (PathBuf, Arc<dyn SourceFile>, u64) {
        let header = format!(
            r#"{{"a":{{"dtype":"U8","shape":[{ROOM}],"data_offsets":[0,{ROOM}]}},"b":{{"dtype":"U8","shape":[{ROOM}],"data_offsets":[{ROOM},{}]}}}}"#,
            2 * ROOM
        );
        let data = (0..2 * ROOM).map(|i| (i / 7 * 31) as u8);
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.bytes().chain(data));
        let path = dir.join("model.safetensors");
        std::fs::write(&path, file).unwrap();
        let shard = safetensors::open(&path).unwrap();
        (path, shard, 8 + header.len() as u64)
    }

    fn hashed(bytes: Bytes) -> Bytes {
        let mut sums = Vec::new();
        let take = |_, block: &[u8]| {
            sums.extend(block.chunks(Checksums::BLOCK).map(Checksums::of));
            Ok::<_, ModelError>(())
        };
        bytes.blocks(take).unwrap();
        bytes.checked(Arc::new(Checksums(sums)))
    }

    /// A range of each part.
    fn joined(parts: &[Bytes], range: Range<usize>) -> Bytes {
        let run = |bytes: &Bytes| Run { bytes: bytes.clone(), range: range.clone() };
        Bytes::joined(parts.iter().map(run).collect())
    }

    #[test]
    fn windows_show_what_is_there() {
        let space = tempfile::tempdir().unwrap();
        let (path, shard, data) = shard(space.path());
        let parts = ["a", "b"].map(|name| hashed(Bytes::source(Arc::clone(&shard), name)));
        let file = std::fs::read(path).unwrap();
        let all = &file[data as usize..];
        let joined = hashed(joined(&parts, 0..ROOM));
        assert!(matches!(joined, Bytes::Checked(..)));
        let cut = 1000..ROOM - 999;
        let some = [&all[cut.clone()], &all[ROOM..][cut.clone()]].concat();
        let cut = super::tests::joined(&parts, cut);
        for (bytes, expected) in [(&parts[1], &all[ROOM..]), (&joined, all), (&cut, &some)] {
            let mut window = Window::default();
            for step in [1000, 70_000, Checksums::BLOCK, 300_000] {
                for start in (0..expected.len()).step_by(step) {
                    let range = start..(start + step).min(expected.len());
                    assert!(*window.range(bytes, range.clone()).unwrap() == expected[range]);
                }
            }
            assert!(*bytes.in_full().unwrap() == *expected);
            assert!(bytes.clone().into_memory().unwrap().digest().unwrap() == Digest::of(expected));
        }
    }

    #[test]
    fn what_is_in_memory_is_seen_without_reading() {
        let space = tempfile::tempdir().unwrap();
        let (_, shard, _) = shard(space.path());
        let memory = Bytes::Memory(Arc::new((0..100).collect()));
        let source = Bytes::source(shard, "a");
        let run = |bytes: &Bytes, range| Run { bytes: bytes.clone(), range };
        let joined = Bytes::joined(vec![run(&memory, 40..60), run(&source, 0..10), run(&memory, 0..20)]);
        let seen = |bytes: &Bytes, start| bytes.at_hand_in(start..start + 2).map(<[u8]>::to_vec);
        assert_eq!((seen(&memory, 98), seen(&source, 0)), (Some(vec![98, 99]), None));
        let of_joined = [0, 18, 19, 20, 29, 30, 48].map(|start| seen(&hashed(joined.clone()), start));
        let expected = [Some([40, 41]), Some([58, 59]), None, None, None, Some([0, 1]), Some([18, 19])];
        assert_eq!(of_joined, expected.map(|seen| seen.map(|seen| seen.to_vec())));
    }

    #[test]
    fn a_block_that_changed_since_it_was_hashed_is_not_shown() {
        let space = tempfile::tempdir().unwrap();
        let (path, shard, data) = shard(space.path());
        let parts = ["a", "b"].map(|name| hashed(Bytes::source(Arc::clone(&shard), name)));
        let joined = hashed(joined(&parts, 0..ROOM));
        let at = ROOM - 1;
        File::options().write(true).open(path).unwrap().write_all_at(&[99], data + at as u64).unwrap();
        for bytes in [&parts[0], &joined] {
            let mut window = Window::default();
            assert!(window.range(bytes, 0..Checksums::BLOCK).is_ok());
            let error = window.range(bytes, at - 9..at).unwrap_err().to_string();
            assert!(error.contains("tensor `a` changed since it was hashed"), "{error}");
            assert!(window.range(bytes, at - 9..at).is_err(), "nothing of it is kept");
            assert!(bytes.large_blocks(|_| Ok::<_, ModelError>(())).is_err());
        }
        assert!(parts[0].clone().into_memory().is_err() && parts[1].clone().into_memory().is_ok());
        assert!(shard.is_suspect());
    }
}
