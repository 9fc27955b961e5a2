//! Brings the output of one target up to date.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::built::OutputReport;
use super::catalog::Catalog;
use super::error::ProjectError;
use super::planned::Planned;
use super::settings::Project;
use crate::build::{Build, Outcome};
use crate::identity::Sight;
use crate::model::checkpoint::Checkpoint;
use crate::output::OutputError;
use crate::output::card::{Card, Declared};
use crate::output::content::{LeftOut, Output};
use crate::output::direct::DirectOutput;
use crate::output::extras::Extras;
use crate::output::format::layout::OutputLayout;
use crate::output::lockfile::writing as lockfile;
use crate::plan::{StagePlan, models_needed};
use crate::recipe::Recipe;
use crate::recipe::as_mergekit::as_mergekit;
use crate::store::Store;

/// The outputs of a build.
pub(super) struct Delivery<'a> {
    pub project: &'a Project,
    pub recipe: &'a Recipe,
    pub planned: &'a Planned,
    pub left_out: LeftOut,
    pub rehash: bool,
    /// Whether it is wanted how each output is left.
    pub watches: bool,
}

/// One of them.
pub(super) struct Place<'a> {
    /// The target's, in the order of the plan.
    pub number: usize,
    /// A path without links, and as the user wrote it.
    pub dir: &'a Path,
    pub shown: PathBuf,
    pub layout: &'a OutputLayout,
}

impl Delivery<'_> {
    /// Writes what of an output is not as it should be. Says how it was when it was found to be right, if that is
    /// wanted and can be told from what may come.
    pub fn write(
        &self,
        place: Place<'_>,
        extras: Vec<(String, Vec<u8>)>,
        direct: &DirectOutput<'_>,
        build: &Build<'_>,
        store: &Store,
    ) -> Result<(OutputReport, Option<Sight>), ProjectError> {
        let Self { project, recipe, planned, left_out, rehash, watches } = *self;
        let Place { number, dir, shown, layout } = place;
        let Planned { plan, catalog: Catalog { models, checkpoints, .. } } = planned;
        let target = plan.targets[number];
        let stage = plan.stage(target);
        let stages = lockfile::needed_by(recipe, plan, target);
        // Of all that the recipe names, what this target is made of.
        let needed = models_needed(recipe, &[target]);
        let used: Vec<usize> = (0..models.len())
            .filter(|model| needed.iter().any(|needed| needed.reference == models[*model].reference))
            .collect();
        let card = Card {
            recipe,
            target,
            stages: &stages,
            models: used.iter().map(|model| &models[*model]).collect(),
            declared: used.iter().map(|model| Declared::read(&checkpoints[*model].dir)).collect(),
            settings: recipe.stage(target).card.over(&recipe.card).over(&project.card),
            config: &stage.config,
        };
        // What the recipe asks for is written in any case.
        let leaves_tokenizer =
            left_out.tokenizer && recipe.stage(target).tokenizer.is_none() && stage.chat_template.is_none();
        let output = Output {
            dir,
            stage,
            layout,
            extras: if leaves_tokenizer { Vec::new() } else { extras },
            card: card.text(),
            picture: card.picture(),
            recipe: recipe.portable.text.clone(),
            mergekit: as_mergekit(recipe).filter(|_| !stage.config.is_null()),
            lockfile: lockfile::of(recipe, models, plan, target, build),
            left_out,
            rehash,
            keeps_old: build.keeps_old(target),
        };
        let before = watches.then(|| Sight::of_written(dir)).flatten();
        let written = output.write(number, direct, build, store)?;
        // Somebody else may have come between writing it and looking at it.
        let seen = if watches && written.changed {
            let after = Sight::of_written(dir);
            after.filter(|_| output.is_current(build, store).is_ok_and(|is_current| is_current))
        } else {
            before
        };
        let of = |outcome| stage.nodes.values().filter(|node| build.outcome(**node) == outcome).count();
        let report = OutputReport {
            stage: recipe.stage(target).name.clone(),
            dir: shown,
            tensors: stage.nodes.len(),
            bytes: stage.nodes.values().map(|node| plan[*node].spec().n_bytes() as u64).sum(),
            reused: of(Outcome::Reused),
            cut_off: of(Outcome::CutOff),
            rebuilt: of(Outcome::Ran),
            written,
        };
        Ok((report, seen))
    }
}

/// The files of an output that come from other checkpoints, which can be used as they are to be written. A bare
/// state dict has none.
pub(super) fn extras(
    stage: &StagePlan,
    checkpoints: &[Arc<Checkpoint>],
    dir: &Path,
) -> Result<Vec<(String, Vec<u8>)>, OutputError> {
    if stage.config.is_null() {
        return Ok(Vec::new());
    }
    let extras = Extras {
        tokenizer: &checkpoints[stage.tokenizer.0].dir,
        donor: &checkpoints[stage.donor.0].dir,
        tokens: stage.tokens.as_deref(),
        generation: stage.generation.as_ref(),
        chat_template: stage.chat_template.as_deref(),
    };
    let files = extras.files()?;
    extras.check(&files, dir)?;
    Ok(files)
}
