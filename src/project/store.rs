//! What a project's store holds, and taking care of it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::error::ProjectError;
use super::records::now;
use super::settings::Project;
use crate::build::BuildError;
use crate::event::{Event, Events, spanned};
use crate::gc::{self, Limits, Removed, StoreUsage};
use crate::store::listing::{Checked, Usage};
use crate::store::{Store, StoreError};

/// What is told while the store is taken care of.
pub struct Watch<'a> {
    /// Called when running builds are waited for.
    pub waiting: &'a dyn Fn(),
    /// Stops the wait for running builds when it becomes true.
    pub interrupted: &'a AtomicBool,
}

impl Project {
    /// Opens the store for building, and waits for whoever has it alone.
    pub(super) fn open_to_build(
        &self,
        events: &dyn Events,
        interrupted: &AtomicBool,
    ) -> Result<Store, ProjectError> {
        let tell = || events.event(Event::Waiting);
        let open = || Store::open(&self.cache, self.memory, self.wait(&tell, interrupted));
        spanned(events, "open store", "", open).map_err(|error| match error {
            StoreError::Interrupted => BuildError::Interrupted.into(),
            error => error.into(),
        })
    }

    /// The threads of a build.
    pub(super) fn threads(&self) -> Result<ThreadPool, ProjectError> {
        let builder = ThreadPoolBuilder::new().num_threads(self.jobs);
        builder.build().map_err(|source| ProjectError::Threads { jobs: self.jobs, source })
    }

    /// Folders of stores of earlier formats, which nothing uses any more.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the cache cannot be listed.
    pub fn older_stores(&self) -> Result<Vec<PathBuf>, ProjectError> {
        Ok(Store::older_versions(&self.cache)?)
    }

    /// What the store takes, and for whom.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if it cannot be read.
    pub fn usage(&self) -> Result<(Usage, StoreUsage), ProjectError> {
        Ok(match Store::open_existing(&self.cache)? {
            Some(store) => (store.usage()?, gc::usage(&store, now())?),
            None => Default::default(),
        })
    }

    /// Removes what the limits leave no room for; `dry_run` only counts.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if it cannot be opened alone, or something cannot be removed.
    pub fn gc(&self, limits: &Limits, dry_run: bool, watch: &Watch<'_>) -> Result<Removed, ProjectError> {
        let store = if dry_run {
            Store::open_existing(&self.cache)?
        } else {
            Store::open_alone(&self.cache, self.wait(watch.waiting, watch.interrupted))?
        };
        Ok(match store {
            Some(store) => gc::collect(store, limits, now(), dry_run)?,
            None => Removed::default(),
        })
    }

    /// Reads all results and compares them with their digests; `repair` removes what is damaged. `progress` is
    /// told how many bytes were read, of how many.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the store cannot be opened, read or repaired.
    pub fn verify(
        &self,
        repair: bool,
        watch: &Watch<'_>,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Checked, ProjectError> {
        // Repairing removes rows, which takes a store that can be written.
        let store = if repair {
            Store::open_alone(&self.cache, self.wait(watch.waiting, watch.interrupted))?
        } else {
            Store::open_existing(&self.cache)?
        };
        let Some(store) = store else { return Ok(Checked::default()) };
        let total = store.usage()?.blob_bytes;
        Ok(store.check(repair, &|n_bytes| progress(n_bytes, total))?)
    }
}
