//! Fetches many files at once into the cache, each in segments over several connections.
//!
//! What is wanted stands in a queue, file by file and segment by segment, that a few threads work off in order.
//! Whoever finishes a file's last segment checks its digest and puts it in place. A failure ends the work of all;
//! what came by then is kept for the next time, unless it is known to be wrong.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::cache::make_parent;
use super::error::HubError;
use super::http::Failure;
use super::part::{Part, SEGMENT, n_segments, resumable};

use super::client::{CONNECTIONS, Hub};
use super::want::Want;
use crate::event::{Event, Events, Span};

/// How often it is looked whether another process is done with a file.
const PAUSE: Duration = Duration::from_millis(50);

/// A file of the queue.
struct Fetch<'a> {
    want: Want<'a>,
    state: Mutex<State>,
    /// Segments that nobody is done with.
    left: AtomicUsize,
}

enum State {
    Waiting,
    Open(Arc<Part>),
    /// It is in place.
    Done,
}

impl Fetch<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with it")
    }
}

impl Hub {
    /// Bytes of files that are neither in the cache nor on their way from an earlier run.
    pub fn bytes_to_download(&self, wants: &[Want<'_>]) -> u64 {
        let absent = wants.iter().filter(|want| !want.has_blob());
        absent.map(|want| want.file.size - resumable(want.snapshot, want.file)).sum()
    }

    /// Brings files into the cache.
    ///
    /// # Errors
    /// What stops it: nothing that is not whole and right is in place then.
    pub fn download(&self, wants: &[Want<'_>], events: &dyn Events) -> Result<(), HubError> {
        let (there, absent): (Vec<Want<'_>>, Vec<Want<'_>>) = wants.iter().partition(|want| want.has_blob());
        let mut blobs = HashSet::new();
        let (first, same): (Vec<Want<'_>>, Vec<Want<'_>>) =
            absent.into_iter().partition(|want| blobs.insert(want.snapshot.folder.blob(want.file.etag())));
        there.iter().try_for_each(Want::link)?;
        if let Some(want) = first.first() {
            self.check_online(&want.snapshot.id)?;
        }
        self.check_space(&first)?;
        let fetches: Vec<Fetch<'_>> = first
            .into_iter()
            .map(|want| {
                let left = AtomicUsize::new(n_segments(want.file.size));
                Fetch { want, state: Mutex::new(State::Waiting), left }
            })
            .collect();
        let queue: Vec<(&Fetch<'_>, usize)> = fetches
            .iter()
            .flat_map(|fetch| (0..n_segments(fetch.want.file.size)).map(move |segment| (fetch, segment)))
            .collect();
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            while !failed.load(Ordering::Relaxed) {
                let Some((fetch, segment)) = queue.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                self.work(fetch, *segment, &failed, events).inspect_err(|_| {
                    failed.store(true, Ordering::Relaxed);
                })?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS.min(queue.len())).map(|_| scope.spawn(work)).collect();
            let results = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            let errors: Vec<HubError> = results.filter_map(Result::err).collect();
            // Those that were told to stop by the failure of another say less.
            let is_first = |error: &HubError| !matches!(error, HubError::Interrupted);
            let at = errors.iter().position(is_first).unwrap_or(0);
            errors.into_iter().nth(at).map_or(Ok(()), Err)
        })?;
        same.iter().try_for_each(Want::link)
    }

    fn check_space(&self, wants: &[Want<'_>]) -> Result<(), HubError> {
        let Some(dir) = self.settings.cache.as_deref() else { return Ok(()) };
        let needed = self.bytes_to_download(wants);
        let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."));
        match rustix::fs::statvfs(there) {
            Ok(stat) if needed > stat.f_bavail.saturating_mul(stat.f_frsize) => {
                Err(HubError::Space { dir: dir.to_owned(), needed, free: stat.f_bavail * stat.f_frsize })
            }
            // Where it cannot be told, writing will.
            _ => Ok(()),
        }
    }

    /// Fetches one segment, and finishes the file if it is the last.
    fn work(
        &self,
        fetch: &Fetch<'_>,
        segment: usize,
        failed: &AtomicBool,
        events: &dyn Events,
    ) -> Result<(), HubError> {
        let Some(part) = self.open(fetch, failed)? else { return Ok(()) };
        let fetched = self.segment(&fetch.want, &part, segment, failed, events);
        drop(part);
        if fetched.is_err() {
            if let State::Open(part) = &*fetch.state() {
                part.clear()?;
            }
            return fetched;
        }
        if fetch.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        match std::mem::replace(&mut *fetch.state(), State::Done) {
            State::Open(part) => {
                let part = Arc::into_inner(part).expect("all segments are done");
                self.finish(&fetch.want, part, failed, events)
            }
            State::Waiting | State::Done => Ok(()),
        }
    }

    /// The part that a file is fetched into; `None` if another process has fetched it meanwhile.
    fn open(&self, fetch: &Fetch<'_>, failed: &AtomicBool) -> Result<Option<Arc<Part>>, HubError> {
        let mut state = fetch.state();
        match &*state {
            State::Open(part) => return Ok(Some(Arc::clone(part))),
            State::Done => return Ok(None),
            State::Waiting => {}
        }
        let Want { snapshot, file } = fetch.want;
        let path = snapshot.folder.lock(file.etag());
        make_parent(&path)?;
        let lock = File::options().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(HubError::io(&path))?;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                // Where there are no locks, two processes fetch the same.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => break,
                Err(TryLockError::Error(error)) => return Err(HubError::io(&path)(error)),
            }
            self.go_on(failed)?;
            std::thread::sleep(PAUSE);
        }
        if fetch.want.has_blob() {
            fetch.want.link()?;
            *state = State::Done;
            return Ok(None);
        }
        let part = Arc::new(Part::open(snapshot, file, lock)?);
        *state = State::Open(Arc::clone(&part));
        Ok(Some(part))
    }

    fn go_on(&self, failed: &AtomicBool) -> Result<(), HubError> {
        if failed.load(Ordering::Relaxed) { Err(HubError::Interrupted) } else { self.http.check_stop() }
    }

    /// Fetches what is left of a segment.
    fn segment(
        &self,
        want: &Want<'_>,
        part: &Part,
        segment: usize,
        failed: &AtomicBool,
        events: &dyn Events,
    ) -> Result<(), HubError> {
        let name = want.name();
        let span = Span::start(events, "fetch", &name);
        let Want { snapshot, file } = *want;
        let address = snapshot.address(&self.http, file);
        self.http.patiently(|came_further| {
            let left = part.left(segment);
            if left.is_empty() {
                return Ok(());
            }
            let all = 0..file.size;
            let answer = self.http.get(&address, &snapshot.id, (left != all).then_some(&left))?;
            let expected = want.brought(&answer, &left)?;
            // A server that gives no parts gives all to one of us, for all of us.
            let alone = (expected != left).then(|| part.in_one_go.lock().expect("no thread panics with it"));
            if part.left(segment).is_empty() {
                return Ok(());
            }
            let mut at = expected.start;
            answer.read(|bytes| {
                self.go_on(failed)?;
                let mut bytes = bytes;
                if at + bytes.len() as u64 > expected.end {
                    return Err(want.of_length(at + bytes.len() as u64).into());
                }
                while !bytes.is_empty() {
                    let (now, later) = bytes.split_at(bytes.len().min((SEGMENT - at % SEGMENT) as usize));
                    let new = part.take(at, now)?;
                    *came_further |= new > 0;
                    span.progress(new as u64);
                    self.note_received(new);
                    at += now.len() as u64;
                    bytes = later;
                }
                Ok(true)
            })?;
            drop(alone);
            if part.left(segment).is_empty() {
                return Ok(());
            }
            let problem = format!("{name} ended early, after {at} bytes");
            Err(Failure::Passing(HubError::Unreachable { address: address.clone(), problem }, None))
        })
    }

    /// Checks a file that has come in full and puts it in place.
    fn finish(
        &self,
        want: &Want<'_>,
        part: Part,
        failed: &AtomicBool,
        events: &dyn Events,
    ) -> Result<(), HubError> {
        let Want { snapshot, file } = *want;
        let mut part = part;
        debug_assert!(part.is_whole());
        while !part.is_sound(file, || self.go_on(failed))? {
            let was_resumed = part.was_resumed;
            let lock = part.discard()?;
            if !was_resumed {
                let (model, file_name) = (snapshot.id.clone(), file.path.clone());
                let by = if file.sha256.is_some() { "SHA-256" } else { "git SHA-1" };
                return Err(HubError::Digest { model, file: file_name, by });
            }
            // The fault may be of what an earlier run left, so it gets another chance from the start.
            part = Part::open(snapshot, file, lock)?;
            for segment in 0..n_segments(file.size) {
                self.segment(want, &part, segment, failed, events)?;
            }
        }
        part.finish(&snapshot.folder.blob(file.etag()))?;
        want.link()?;
        events.event(Event::Fetched { model: &snapshot.id, file: &file.path, bytes: file.size });
        Ok(())
    }
}
