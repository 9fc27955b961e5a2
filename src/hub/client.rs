//! The hub, ready to be asked.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::cache::ModelFolder;
use super::error::HubError;
use super::http::Http;
use super::settings::Settings;
use super::snapshot::{Snapshot, known, look_up};

/// The hub, ready to be asked.
#[derive(Debug)]
pub struct Hub {
    pub(super) settings: Settings,
    pub(super) http: Http,
    /// Threads that wait for answers, once there is something to wait for; `None` where the system gives none.
    waiting: OnceLock<Option<ThreadPool>>,
    /// Why ranges are not asked for any more: one could not be had, so that whoever wanted them all has failed.
    pub(super) given_up: OnceLock<String>,
    /// Bytes of files that came, whether they are kept or not.
    received: AtomicU64,
}

/// Connections that are open at a time.
pub const CONNECTIONS: usize = 8;

impl Hub {
    /// Asks nothing yet. What goes on ends when `stop` becomes true.
    pub fn new(settings: Settings, stop: Arc<AtomicBool>) -> Self {
        let http = Http::new(&settings, stop);
        Self {
            settings,
            http,
            waiting: OnceLock::new(),
            given_up: OnceLock::new(),
            received: AtomicU64::new(0),
        }
    }

    /// Ends what goes on when it becomes true.
    pub fn stop(&self) -> Arc<AtomicBool> {
        self.http.stop()
    }

    /// What keeps the hub from being asked, if something does.
    pub fn offline(&self) -> Option<&'static str> {
        self.settings.offline
    }

    /// What the cache knows of a model at a revision, whether any of it is there.
    pub fn known(&self, id: &str, revision: &str) -> Option<Snapshot> {
        known(&ModelFolder::new(self.settings.cache.as_deref()?, id), id, revision)
    }

    /// What a model holds at a revision. What the cache knows is not asked again: a revision stays the commit that
    /// it was when it was first looked up.
    ///
    /// # Errors
    /// If there is no such model or revision, or the hub cannot or must not be asked.
    pub fn snapshot(&self, id: &str, revision: &str) -> Result<Snapshot, HubError> {
        if let Some(snapshot) = self.known(id, revision) {
            return Ok(snapshot);
        }
        let cache = self.check_online(id)?;
        look_up(&self.http, ModelFolder::new(cache, id), id, revision)
    }

    /// The cache, if something may be fetched into it.
    pub(super) fn check_online(&self, id: &str) -> Result<&Path, HubError> {
        let offline = |because| HubError::Offline { model: id.to_owned(), because };
        if let Some(because) = self.settings.offline {
            return Err(offline(because));
        }
        self.settings.cache.as_deref().ok_or_else(|| offline("a missing cache"))
    }

    fn waiting(&self) -> Option<&ThreadPool> {
        let make = || {
            let name = |i| format!("hub {i}");
            ThreadPoolBuilder::new().num_threads(CONNECTIONS).thread_name(name).build().ok()
        };
        self.waiting.get_or_init(make).as_ref()
    }

    /// Does something on one of a few threads that are there to wait for the hub.
    pub fn ahead(&self, work: impl FnOnce() + Send + 'static) {
        match self.waiting() {
            Some(threads) => threads.spawn_fifo(work),
            None => work(),
        }
    }

    /// Does what asks the hub many things at once.
    pub fn side_by_side<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self.waiting() {
            Some(threads) => threads.install(work),
            None => work(),
        }
    }

    /// Bytes of files that came so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn note_received(&self, n_bytes: usize) {
        self.received.fetch_add(n_bytes as u64, Ordering::Relaxed);
    }
}
