//! Finds the models that a recipe refers to, on this machine or on the hub, and opens them.

use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use super::error::ProjectError;
use super::missing::{self, Missing};
use super::settings::Project;
use crate::event::{Events, tell_nobody};
use crate::hub::{Hub, HubError, Snapshot, Want, commit_of};
use crate::model::checkpoint::{Checkpoint, is_checkpoint, is_whole};
use crate::model::locate::NotFound;
use crate::model::on_hub::{OnHub, small_files};
use crate::model::place::{OnDisk, Place};
use crate::model::{ModelError, adapter};
use crate::plan::Needed;
use crate::recipe::{Finding, Recipe};
use crate::reference::ModelRef;
use crate::store::Store;

/// How much of a model that is not on this machine may be fetched to open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// What says what it is. A file of tensors that does not tell what it holds unless it is here cannot be opened.
    Headers,
    /// Such files too.
    Files,
}

/// Where a model is.
pub enum Located {
    /// In a folder, in full.
    Here(PathBuf),
    /// On the hub, and perhaps a part of it in the cache.
    OnHub(Arc<Snapshot>),
}

impl Located {
    pub fn snapshot(self) -> Option<Arc<Snapshot>> {
        match self {
            Self::Here(_) => None,
            Self::OnHub(snapshot) => Some(snapshot),
        }
    }
}

impl Project {
    /// Finds models. `None`, with findings, if some are nowhere.
    ///
    /// # Errors
    /// If something that the hub says cannot be written down.
    pub(super) fn locate(
        &self,
        recipe: &Recipe,
        needed: &[Needed],
    ) -> Result<(Option<Vec<Located>>, Vec<Finding>), ProjectError> {
        let (mut findings, mut absent, mut located) = (Vec::new(), Vec::new(), Vec::new());
        let found: Vec<Result<PathBuf, NotFound>> =
            needed.iter().map(|needed| self.find(&needed.reference, needed.is_adapter)).collect();
        let hubs: Vec<Option<&Arc<Hub>>> =
            needed.iter().zip(&found).map(|(needed, found)| self.asks(needed, found)).collect();
        let look_up = || {
            let asked = needed.par_iter().zip(&found).zip(&hubs);
            asked.map(|((needed, found), hub)| Some(self.ask((*hub)?, needed, found))).collect()
        };
        let asked: Vec<Option<Result<Snapshot, HubError>>> = match hubs.iter().flatten().next() {
            Some(hub) => hub.side_by_side(look_up),
            None => needed.iter().map(|_| None).collect(),
        };
        for ((needed, found), asked) in needed.iter().zip(found).zip(asked) {
            let Needed { reference, is_adapter, span } = needed;
            let (is_adapter, span) = (*is_adapter, *span);
            let answer = match asked {
                Some(Ok(snapshot)) => {
                    located.push(Located::OnHub(Arc::new(snapshot)));
                    continue;
                }
                Some(Err(
                    error @ (HubError::Gated { .. } | HubError::Refused { .. } | HubError::NoRevision { .. }),
                )) => {
                    let mut finding = Finding::error("hub-model", span, error.to_string());
                    finding.help.extend(error.help());
                    findings.push(finding);
                    continue;
                }
                Some(Err(error @ HubError::NoModel { .. })) => Some(error),
                Some(Err(source)) => {
                    let tried = found.err().map_or_else(Vec::new, |missing| missing.tried);
                    return Err(ProjectError::NotAsked { model: reference.to_string(), tried, source });
                }
                None => None,
            };
            match found {
                // Where the hub cannot be asked, opening it tells what is missing.
                Ok(dir) => located.push(Located::Here(dir)),
                Err(NotFound { tried }) => match of_other_kind(needed, &tried) {
                    Some(finding) => findings.push(finding),
                    None => absent.push(Missing { reference, is_adapter, span, tried, answer }),
                },
            }
        }
        if !absent.is_empty() {
            findings.extend(missing::findings(self, recipe, &absent));
        }
        Ok((findings.is_empty().then_some(located), findings))
    }

    fn find(&self, reference: &ModelRef, is_adapter: bool) -> Result<PathBuf, NotFound> {
        if is_adapter { self.places.find_adapter(reference) } else { self.places.find(reference) }
    }

    /// The hub, if it is to be asked for a model: one that is nowhere on this machine, or in the hub's cache only
    /// in part. Where it must not be asked, what it said before may still do.
    fn asks(&self, needed: &Needed, found: &Result<PathBuf, NotFound>) -> Option<&Arc<Hub>> {
        let Needed { reference, is_adapter, .. } = needed;
        let hub = self.hub.as_ref()?;
        let is_asked = match found {
            Ok(dir) => {
                let is_whole = || if *is_adapter { adapter::is_whole(dir) } else { is_whole(dir) };
                self.places.hub.as_ref().is_some_and(|cache| dir.starts_with(cache)) && !is_whole()
            }
            Err(NotFound { tried }) => reference.is_on_hub() && of_other_kind(needed, tried).is_none(),
        };
        let answers =
            || hub.offline().is_none() || hub.known(&reference.path, &self.revision(needed, found)).is_some();
        (is_asked && answers()).then_some(hub)
    }

    /// The revision that is asked for: what is there in part stays of the commit that it is of.
    fn revision(&self, needed: &Needed, found: &Result<PathBuf, NotFound>) -> String {
        let commit = found.as_ref().ok().and_then(|dir| commit_of(dir));
        commit.unwrap_or_else(|| self.places.revision(&needed.reference).to_owned())
    }

    fn ask(
        &self,
        hub: &Hub,
        needed: &Needed,
        found: &Result<PathBuf, NotFound>,
    ) -> Result<Snapshot, HubError> {
        hub.snapshot(&needed.reference.path, &self.revision(needed, found))
    }

    /// Opens models, and fetches what that takes.
    ///
    /// # Errors
    /// If the hub does not give what it has.
    pub(super) fn open_all(
        &self,
        needed: &[Needed],
        located: &[Located],
        reach: Reach,
        events: &dyn Events,
    ) -> Result<Vec<Result<Arc<Checkpoint>, ModelError>>, ProjectError> {
        let open = || {
            let models = needed.par_iter().zip(located);
            models.map(|(needed, located)| self.open(located, needed.is_adapter, reach, events)).collect()
        };
        let snapshots = || {
            located.iter().filter_map(|located| match located {
                Located::OnHub(snapshot) => Some(snapshot),
                Located::Here(_) => None,
            })
        };
        match &self.hub {
            Some(hub) if snapshots().next().is_some() => {
                let small: Vec<Want<'_>> = snapshots().flat_map(|snapshot| small_files(snapshot)).collect();
                hub.download(&small, events).map_err(ModelError::from)?;
                // Headers are noted in it. Where that cannot be, they are read again the next time.
                let _ = Store::make_folder(&self.cache);
                Ok(hub.side_by_side(open))
            }
            _ => Ok(open()),
        }
    }

    fn open(
        &self,
        located: &Located,
        is_adapter: bool,
        reach: Reach,
        events: &dyn Events,
    ) -> Result<Arc<Checkpoint>, ModelError> {
        let open = |dir: &PathBuf, place: &dyn Place| {
            if is_adapter { adapter::open(dir, place) } else { Checkpoint::open_at(dir, place) }
        };
        let opened = match (located, &self.hub) {
            (Located::Here(dir), _) => open(dir, &OnDisk),
            (Located::OnHub(snapshot), Some(hub)) => {
                let (snapshot, fetches) = (Arc::clone(snapshot), reach == Reach::Files);
                let place = OnHub { hub, snapshot, room: &self.cache, fetches, events };
                open(&place.snapshot.dir(), &place)
            }
            (Located::OnHub(_), None) => unreachable!("without a hub nothing is on it"),
        };
        opened.map(Arc::new)
    }

    /// Finds and opens one model.
    ///
    /// # Errors
    /// [`ProjectError::NoModel`] if it is nowhere, [`ProjectError::Model`] if it cannot be used.
    pub(super) fn find_and_open(
        &self,
        reference: &ModelRef,
        is_adapter: bool,
    ) -> Result<Arc<Checkpoint>, ProjectError> {
        let needed =
            [Needed { reference: reference.clone(), is_adapter, span: crate::recipe::Span::default() }];
        let found = self.find(reference, is_adapter);
        let asked = self.asks(&needed[0], &found).map(|hub| self.ask(hub, &needed[0], &found));
        let located = match (asked, found) {
            (Some(Ok(snapshot)), _) => Located::OnHub(Arc::new(snapshot)),
            (Some(Err(source)), found) if !matches!(source, HubError::NoModel { .. }) => {
                let tried = found.err().map_or_else(Vec::new, |missing| missing.tried);
                return Err(ProjectError::NotAsked { model: reference.to_string(), tried, source });
            }
            (_, Ok(dir)) => Located::Here(dir),
            (_, Err(NotFound { tried })) => {
                return Err(ProjectError::NoModel { model: reference.to_string(), tried });
            }
        };
        let mut opened = self.open_all(&needed, &[located], Reach::Headers, &tell_nobody)?;
        Ok(opened.remove(0)?)
    }

    /// Fetches files into the hub's cache.
    ///
    /// # Errors
    /// [`ProjectError::Model`] if the hub does not give them.
    pub fn fetch(&self, wants: &[Want<'_>], events: &dyn Events) -> Result<(), ProjectError> {
        match &self.hub {
            Some(hub) => Ok(hub.download(wants, events).map_err(ModelError::from)?),
            None => Ok(()),
        }
    }
}

/// Tells of a model where an adapter is meant, and the reverse.
fn of_other_kind(needed: &Needed, tried: &[PathBuf]) -> Option<Finding> {
    let Needed { reference: ModelRef { path, .. }, is_adapter, span } = needed;
    let is_other = |dir: &PathBuf| if *is_adapter { is_checkpoint(dir) } else { adapter::is_adapter(dir) };
    tried.iter().find(|dir| is_other(dir))?;
    Some(if *is_adapter {
        let message = format!("`{path}` is a model, not an adapter");
        Finding::error("not-an-adapter", *span, message)
            .help("an adapter's folder contains adapter_config.json")
    } else {
        let message = format!("`{path}` is an adapter, not a model");
        let help = format!("write `MODEL+{path}`, where MODEL is the model that it was trained for");
        Finding::error("not-a-model", *span, message).help(help)
    })
}
