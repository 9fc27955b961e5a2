//! The builds so far, and the names that people gave to some.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::error::ProjectError;
use super::records::{file_id, now};
use super::settings::Project;
use crate::history::{self, Past, Record, Tag};
use crate::recipe::changes::{FieldChange, changes};
use crate::recipe::{LoadOptions, Recipe, load};
use crate::store::snapshot::Snapshot;
use crate::store::{Store, StoreError};

/// A build, what its recipe said, and how that differs from what it said before.
#[derive(Debug)]
pub struct RecordedBuild {
    /// Counted from 1.
    pub number: u64,
    /// What was built, and how it went.
    pub record: Record,
    /// The names that were given to it.
    pub tags: Vec<Tag>,
    /// Empty if it is lost.
    pub recipe_text: String,
    /// The recipe's build before this one, with its text, if both are known.
    pub before: Option<(Record, String)>,
}

/// How a recipe differs from what it was for another build.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Names of stages that are new.
    pub added: Vec<String>,
    /// Names of stages that are gone.
    pub removed: Vec<String>,
    /// What changed in those that both have.
    pub fields: Vec<FieldChange>,
}

impl Edits {
    /// What leads from one recipe to another.
    pub fn between(old: &Recipe, new: &Recipe) -> Self {
        let missing = |from: &Recipe, of: &Recipe| {
            let is_in = |name: &str| from.stages.iter().any(|stage| stage.name == name);
            let names = of.stages.iter().map(|stage| stage.name.clone());
            names.filter(|name| !is_in(name)).collect()
        };
        Self { added: missing(old, new), removed: missing(new, old), fields: changes(old, new) }
    }

    /// Whether the recipes say the same.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl RecordedBuild {
    fn read(
        snapshot: &Snapshot<'_>,
        (number, record): (u64, Record),
        tags: &[Tag],
    ) -> Result<Self, StoreError> {
        let text = |record: &Record| Past::new(record.clone(), snapshot).recipe_text();
        let recipe_text = text(&record)?.unwrap_or_default();
        let before = record.previous.map(|number| history::find(snapshot, number)).transpose()?.flatten();
        let before = match before {
            Some(before) => text(&before)?.map(|text| (before, text)),
            None => None,
        };
        let tags = tags.iter().filter(|tag| tag.build == number).cloned().collect();
        Ok(Self { number, record, tags, recipe_text, before })
    }

    /// The recipe as it was then, unless this version no longer reads it.
    pub fn recipe(&self) -> Option<Recipe> {
        recipe_of(&self.record, &self.recipe_text)
    }

    /// What was edited since the recipe's build before this one; `None` if that is not known.
    pub fn edits(&self) -> Option<Edits> {
        let (before, text) = self.before.as_ref()?;
        Some(Edits::between(&recipe_of(before, text)?, &self.recipe()?))
    }
}

fn recipe_of(record: &Record, text: &str) -> Option<Recipe> {
    let variant = &record.variant;
    let (name, sets, seed) = (variant.recipe.clone(), variant.sets.clone(), variant.seed);
    load(text, &LoadOptions { name, sets, seed }).recipe
}

impl Project {
    /// The newest builds, of all recipes or of one, at most so many, newest first. Also says how many there are
    /// beside them, of all recipes.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the store's index cannot be read.
    pub fn builds(
        &self,
        recipe: Option<&Path>,
        limit: usize,
    ) -> Result<(Vec<RecordedBuild>, u64), ProjectError> {
        let Some(store) = Store::open_existing(&self.cache)? else { return Ok((Vec::new(), 0)) };
        let snapshot = store.index().snapshot()?;
        let tags = history::tags(&snapshot)?;
        let newest = match recipe {
            Some(recipe) => history::newest_of_recipe(&snapshot, &file_id(recipe), limit)?,
            None => history::newest(&snapshot, limit)?,
        };
        let n_listed = newest.len() as u64;
        let read = |build| RecordedBuild::read(&snapshot, build, &tags);
        let builds = newest.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok((builds, snapshot.n_builds()?.saturating_sub(n_listed)))
    }

    /// The build of a number or a tag, or the newest one; `None` if there is none.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the store's index cannot be read.
    pub fn build_named(&self, name: Option<&str>) -> Result<Option<RecordedBuild>, ProjectError> {
        let Some(store) = Store::open_existing(&self.cache)? else { return Ok(None) };
        let snapshot = store.index().snapshot()?;
        let found = match name {
            None => history::newest(&snapshot, 1)?.pop(),
            Some(name) => {
                let number = match name.parse() {
                    Ok(number) => Some(number),
                    Err(_) => history::tag(&snapshot, name)?.map(|tag| tag.build),
                };
                let found = number.map(|number| history::find(&snapshot, number)).transpose()?.flatten();
                number.zip(found)
            }
        };
        let Some(found) = found else { return Ok(None) };
        let tags = history::tags(&snapshot)?;
        Ok(Some(RecordedBuild::read(&snapshot, found, &tags)?))
    }

    /// Every tag, in the order of their names.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the store's index cannot be read.
    pub fn tags(&self) -> Result<Vec<Tag>, ProjectError> {
        let Some(store) = Store::open_existing(&self.cache)? else { return Ok(Vec::new()) };
        Ok(history::tags(&store.index().snapshot()?)?)
    }

    /// Names a build; the build that had the name loses it.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the store cannot be opened or written.
    pub fn set_tag(&self, name: &str, build: u64, note: &str) -> Result<(), ProjectError> {
        let tag = Tag { name: name.to_owned(), build, time: now(), note: note.to_owned() };
        self.write_tags(|store| history::set_tag(store.index(), &tag))
    }

    /// Takes a tag away.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the store cannot be opened or written.
    pub fn remove_tag(&self, name: &str) -> Result<(), ProjectError> {
        self.write_tags(|store| store.index().remove_tag(name))
    }

    fn write_tags(&self, write: impl FnOnce(&Store) -> Result<(), StoreError>) -> Result<(), ProjectError> {
        static NEVER: AtomicBool = AtomicBool::new(false);
        let store = self.open_to_build(&crate::event::tell_nobody, &NEVER)?;
        if store.is_read_only() {
            return Err(StoreError::ReadOnly { path: self.cache.clone() }.into());
        }
        let written = write(&store);
        store.close()?;
        Ok(written?)
    }
}
