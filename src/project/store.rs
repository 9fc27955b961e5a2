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
use crate::history::{self, Past, Record};
use crate::store::listing::{Checked, Usage};
use crate::store::snapshot::Snapshot;
use crate::store::{Store, StoreError};

/// What is told while the store is taken care of.
pub struct Watch<'a> {
    /// Called when running builds are waited for.
    pub waiting: &'a dyn Fn(),
    /// Stops the wait for running builds when it becomes true.
    pub interrupted: &'a AtomicBool,
}

/// A build, and what its recipe said.
#[derive(Debug)]
pub struct RecordedBuild {
    /// Counted from 1.
    pub number: u64,
    /// What was built, and how it went.
    pub record: Record,
    /// Empty if it is lost.
    pub recipe_text: String,
    /// The recipe's build before this one, with its text, if both are known.
    pub before: Option<(Record, String)>,
}

impl RecordedBuild {
    fn read(snapshot: &Snapshot<'_>, number: u64, record: Record) -> Result<Self, StoreError> {
        let text = |record: &Record| Past::new(record.clone(), snapshot).recipe_text();
        let recipe_text = text(&record)?.unwrap_or_default();
        let before = record.previous.map(|number| history::find(snapshot, number)).transpose()?.flatten();
        let before = match before {
            Some(before) => text(&before)?.map(|text| (before, text)),
            None => None,
        };
        Ok(Self { number, record, recipe_text, before })
    }
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

    /// The newest builds, at most so many, newest first, and how many there are beside them.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the store's index cannot be read.
    pub fn builds(&self, limit: usize) -> Result<(Vec<RecordedBuild>, u64), ProjectError> {
        let Some(store) = Store::open_existing(&self.cache)? else { return Ok((Vec::new(), 0)) };
        let snapshot = store.index().snapshot()?;
        let mut builds = Vec::new();
        for (number, record) in history::newest(&snapshot, limit)? {
            builds.push(RecordedBuild::read(&snapshot, number, record)?);
        }
        let n_listed = u64::try_from(limit).unwrap_or(u64::MAX);
        Ok((builds, snapshot.n_builds()?.saturating_sub(n_listed)))
    }

    /// The build of a number, if it is recorded.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the store's index cannot be read.
    pub fn recorded(&self, number: u64) -> Result<Option<RecordedBuild>, ProjectError> {
        let Some(store) = Store::open_existing(&self.cache)? else { return Ok(None) };
        let snapshot = store.index().snapshot()?;
        let record = history::find(&snapshot, number)?;
        Ok(record.map(|record| RecordedBuild::read(&snapshot, number, record)).transpose()?)
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
            Some(store) => (store.usage()?, gc::usage(&store)?),
            None => Default::default(),
        })
    }

    /// Removes what the limits leave no room for; `dry_run` only counts.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if it cannot be opened alone, or something cannot be removed.
    pub fn gc(&self, limits: &Limits, dry_run: bool, watch: &Watch<'_>) -> Result<Removed, ProjectError> {
        let wait = self.wait(watch.waiting, watch.interrupted);
        Ok(match Store::open_alone(&self.cache, wait)? {
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
