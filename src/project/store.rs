//! What a project's store holds, and taking care of it.

use std::sync::atomic::AtomicBool;

use super::error::ProjectError;
use super::records::now;
use super::settings::Project;
use crate::history::{self, Record};
use crate::store::Store;
use crate::store::listing::{Checked, Usage};
use crate::upkeep::{self, Limits, StoreUsage, Swept};

/// What is told while the store is taken care of.
pub struct Watch<'a> {
    /// Called when running builds are waited for.
    pub waiting: &'a dyn Fn(),
    pub interrupted: &'a AtomicBool,
}

impl Project {
    /// Every build with its number, newest first.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the store's index cannot be read.
    pub fn builds(&self) -> Result<Vec<(u64, Record)>, ProjectError> {
        Ok(match Store::open_existing(&self.cache)? {
            Some(store) => history::builds(&store.index().snapshot()?)?,
            None => Vec::new(),
        })
    }

    /// What the store takes, and for whom.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if it cannot be read.
    pub fn usage(&self) -> Result<(Usage, StoreUsage), ProjectError> {
        Ok(match Store::open_existing(&self.cache)? {
            Some(store) => (store.usage()?, upkeep::usage(&store)?),
            None => Default::default(),
        })
    }

    /// Removes what the limits leave no room for; `dry_run` only counts.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if it cannot be opened alone, or something cannot be removed.
    pub fn gc(&self, limits: &Limits, dry_run: bool, watch: &Watch<'_>) -> Result<Swept, ProjectError> {
        let wait = self.wait(watch.waiting, watch.interrupted);
        Ok(match Store::open_alone(&self.cache, wait)? {
            Some(store) => upkeep::sweep(&store, limits, now(), dry_run)?,
            None => Swept::default(),
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
