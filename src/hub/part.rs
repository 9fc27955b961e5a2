//! One file while it is fetched: `ETAG.lamarck.part` beside the blob that it becomes.
//!
//! Behind the place of the file's own bytes stands how many bytes of each segment have come, so that a process that
//! was killed is followed by one that goes on where it was. What a power cut may have left of both is found out by the
//! digest, as everything is.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::cache::make_parent;
use super::error::HubError;
use super::file::HubFile;
use super::snapshot::Snapshot;

/// Bytes that are asked for in one go.
pub const SEGMENT: u64 = 32 << 20;
/// Bytes after which the count of a segment is written down.
const COUNTED: u64 = 1 << 20;
/// Bytes of a count.
const COUNT: u64 = 8;

/// A file that is being fetched, which others are kept from by a lock.
#[derive(Debug)]
pub struct Part {
    file: File,
    path: PathBuf,
    size: u64,
    /// Of each segment, how many bytes have come.
    done: Vec<Mutex<u64>>,
    /// Segments that have not come in full.
    open: AtomicUsize,
    /// Whether some of it came in an earlier process.
    pub was_resumed: bool,
    /// Held by who fetches all of it in one go, from a server that does not give parts.
    pub in_one_go: Mutex<()>,
    lock: File,
}

/// How many segments a file has; an empty one has one, too, so that somebody makes it.
pub fn n_segments(size: u64) -> usize {
    size.div_ceil(SEGMENT).max(1) as usize
}

/// Bytes of a file that came before and need not be fetched again.
pub fn resumable(snapshot: &Snapshot, file: &HubFile) -> u64 {
    let counts = File::open(path(snapshot, file)).and_then(|part| counts(&part, file.size));
    counts.map_or(0, |counts| counts.iter().sum())
}

fn path(snapshot: &Snapshot, file: &HubFile) -> PathBuf {
    snapshot.folder.blob(&format!("{}.lamarck.part", file.etag()))
}

/// The counts of a part that is as large as it must be.
fn counts(part: &File, size: u64) -> io::Result<Vec<u64>> {
    let n_segments = n_segments(size);
    if part.metadata()?.len() != size + n_segments as u64 * COUNT {
        return Ok(vec![0; n_segments]);
    }
    let mut bytes = vec![0; n_segments * COUNT as usize];
    part.read_exact_at(&mut bytes, size)?;
    let counts = bytes.as_chunks::<{ COUNT as usize }>().0.iter().zip(0..);
    let count = |(bytes, segment): (&[u8; 8], u64)| {
        let count = u64::from_le_bytes(*bytes);
        if count <= length(size, segment) { count } else { 0 }
    };
    Ok(counts.map(count).collect())
}

/// Bytes of a segment.
fn length(size: u64, segment: u64) -> u64 {
    SEGMENT.min(size - (segment * SEGMENT).min(size))
}

impl Part {
    /// Begins with a file, or goes on with it. The lock is one that is held for it.
    pub fn open(snapshot: &Snapshot, wanted: &HubFile, lock: File) -> Result<Self, HubError> {
        let (path, size) = (path(snapshot, wanted), wanted.size);
        make_parent(&path)?;
        let opened = || {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            let counts = counts(&file, size)?;
            if counts.iter().all(|count| *count == 0) {
                file.set_len(0)?;
                file.set_len(size + counts.len() as u64 * COUNT)?;
            }
            Ok((file, counts))
        };
        let (file, counts) = opened().map_err(HubError::io(&path))?;
        let open = counts.iter().zip(0..).filter(|(count, segment)| **count < length(size, *segment)).count();
        Ok(Self {
            file,
            path,
            size,
            was_resumed: counts.iter().any(|count| *count > 0),
            done: counts.into_iter().map(Mutex::new).collect(),
            open: AtomicUsize::new(open),
            in_one_go: Mutex::new(()),
            lock,
        })
    }

    /// The bytes that are still to come of a segment.
    pub fn left(&self, segment: usize) -> Range<u64> {
        let start = segment as u64 * SEGMENT;
        start + *self.done(segment)..start + length(self.size, segment as u64)
    }

    fn done(&self, segment: usize) -> MutexGuard<'_, u64> {
        self.done[segment].lock().expect("no thread panics with it")
    }

    /// Takes bytes that begin at a place of the file and end in the same segment. What of them came before is
    /// passed over. Tells how many are new.
    pub fn take(&self, at: u64, bytes: &[u8]) -> Result<usize, HubError> {
        let segment = (at / SEGMENT) as usize;
        let (start, length) = (segment as u64 * SEGMENT, length(self.size, segment as u64));
        let mut done = self.done(segment);
        let new = bytes.get((start + *done - at.min(start + *done)) as usize..).unwrap_or_default();
        debug_assert!(at <= start + *done, "nothing is left out");
        if new.is_empty() {
            return Ok(0);
        }
        self.file.write_all_at(new, start + *done).map_err(HubError::io(&self.path))?;
        let before = *done;
        *done += new.len() as u64;
        if *done == length || *done / COUNTED != before / COUNTED {
            self.write_count(segment, *done)?;
        }
        if *done == length {
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
        Ok(new.len())
    }

    /// Writes down how far every segment is.
    fn write_counts(&self) -> Result<(), HubError> {
        (0..self.done.len()).try_for_each(|segment| self.write_count(segment, *self.done(segment)))
    }

    fn write_count(&self, segment: usize, done: u64) -> Result<(), HubError> {
        let place = self.size + segment as u64 * COUNT;
        self.file.write_all_at(&done.to_le_bytes(), place).map_err(HubError::io(&self.path))
    }

    /// Whether all of it has come.
    pub fn is_whole(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Whether its bytes are those that the hub names.
    pub fn is_sound(
        &self,
        wanted: &HubFile,
        mut proceed: impl FnMut() -> Result<(), HubError>,
    ) -> Result<bool, HubError> {
        let mut context = match wanted.sha256 {
            Some(_) => Context::new(&SHA256),
            None => Context::new(&SHA1_FOR_LEGACY_USE_ONLY),
        };
        if wanted.sha256.is_none() {
            context.update(format!("blob {}\0", self.size).as_bytes());
        }
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        while at < self.size {
            proceed()?;
            let n = (buffer.len() as u64).min(self.size - at) as usize;
            self.file.read_exact_at(&mut buffer[..n], at).map_err(HubError::io(&self.path))?;
            context.update(&buffer[..n]);
            at += n as u64;
        }
        let digest: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(digest.eq_ignore_ascii_case(wanted.etag()))
    }

    /// Removes it if nothing of it has come, so that what is refused leaves nothing behind.
    pub fn clear(&self) -> Result<(), HubError> {
        self.write_counts()?;
        if self.done.iter().any(|done| *done.lock().expect("no thread panics with it") > 0) {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HubError::io(&self.path)(error)),
            _ => Ok(()),
        }
    }

    /// Makes it the blob.
    pub fn finish(self, blob: &Path) -> Result<(), HubError> {
        self.file.set_len(self.size).and_then(|()| self.file.sync_all()).map_err(HubError::io(&self.path))?;
        fs::rename(&self.path, blob).map_err(HubError::io(blob))
    }

    /// Removes it, so that nothing of it is used again, and gives the lock back.
    pub fn discard(self) -> Result<File, HubError> {
        fs::remove_file(&self.path).map_err(HubError::io(&self.path))?;
        Ok(self.lock)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::hub::cache::ModelFolder;

    fn file(size: u64, git: &str) -> HubFile {
        HubFile { path: "a".to_owned(), size, git: git.to_owned(), sha256: None }
    }

    fn part(cache: &Path, file: &HubFile) -> Part {
        let folder = ModelFolder::new(cache, "org/name");
        let snapshot = Snapshot { id: "org/name".into(), commit: "c".into(), folder, files: BTreeMap::new() };
        let lock = tempfile::tempfile().unwrap();
        Part::open(&snapshot, file, lock).unwrap()
    }

    #[test]
    fn what_came_is_known_to_the_next_process() {
        let space = tempfile::tempdir().unwrap();
        let file = file(SEGMENT + 5, &"0".repeat(40));
        let first = part(space.path(), &file);
        assert_eq!(first.take(0, &[1; 100]).unwrap(), 100);
        assert_eq!(first.take(50, &[1; 60]).unwrap(), 10, "what came before is passed over");
        assert_eq!(first.take(0, &[1; 110]).unwrap(), 0);
        assert_eq!(first.take(SEGMENT, &[2; 5]).unwrap(), 5);
        assert!(!first.is_whole());
        first.clear().unwrap();
        drop(first);
        let second = part(space.path(), &file);
        assert_eq!((second.left(0), second.left(1).is_empty()), (110..SEGMENT, true));
        assert!(second.was_resumed);
        // Another size, and a count that cannot be: from the start.
        let longer = self::file(SEGMENT + 6, &"0".repeat(40));
        assert!(!part(space.path(), &longer).was_resumed);
    }

    #[test]
    fn a_file_is_the_blob_once_its_digest_is_right() {
        let space = tempfile::tempdir().unwrap();
        // As `git hash-object` has it.
        let file = file(6, "ce013625030ba8dba906f756967f9e9ca394464a");
        let made = part(space.path(), &file);
        made.take(0, b"hello\n").unwrap();
        assert!(made.is_whole() && made.is_sound(&file, || Ok(())).unwrap());
        let blob = space.path().join("blob");
        made.finish(&blob).unwrap();
        assert_eq!(fs::read(blob).unwrap(), b"hello\n");
        let wrong = part(space.path(), &file);
        wrong.take(0, b"Hello\n").unwrap();
        assert!(!wrong.is_sound(&file, || Ok(())).unwrap());
        wrong.discard().unwrap();
        assert!(!part(space.path(), &file).was_resumed);
    }
}
