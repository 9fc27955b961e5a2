//! Opens the models that a recipe refers to, without reading a tensor.

use std::io::ErrorKind;
use std::sync::Arc;

use rayon::prelude::*;

use super::beside::{Beside, beside};
use super::error::ProjectError;
use super::locate::{Located, Reach};
use super::settings::Project;
use crate::error::ErrorClass;
use crate::event::{Events, tell_nobody};
use crate::hub::{Snapshot, Want, commit_of};
use crate::model::checkpoint::{Checkpoint, Remark};
use crate::model::layout::Layout;
use crate::model::quantised::{self, Undone};
use crate::model::source_file::SourceFile;
use crate::model::{ModelError, experts, on_hub};
use crate::plan::{Inventory, Model, Needed, models_needed};
use crate::recipe::{Finding, Recipe, Span, StageId};
use crate::reference::ModelRef;

/// The models that a recipe refers to, opened, with what is known of each.
#[derive(Debug)]
pub struct Catalog {
    /// Each once, in the order in which the recipe first names them.
    pub models: Vec<Model>,
    /// Of each model.
    pub checkpoints: Vec<Arc<Checkpoint>>,
    /// Of each model that is not on this machine in full: what the hub has of it.
    pub snapshots: Vec<Option<Arc<Snapshot>>>,
}

impl Catalog {
    /// The files of tensors that are on no disk yet.
    pub fn absent(&self) -> Vec<Want<'_>> {
        let models = self.snapshots.iter().zip(&self.checkpoints);
        let models = models.filter_map(|(snapshot, checkpoint)| Some((snapshot.as_deref()?, checkpoint)));
        models.flat_map(|(snapshot, checkpoint)| on_hub::absent(snapshot, &checkpoint.shards)).collect()
    }
}

impl Project {
    /// Opens what the targets need; without targets, what every final stage needs. `None`, with findings, if a
    /// model is nowhere or cannot be used.
    ///
    /// # Errors
    /// [`ProjectError::Model`] if the system does not read one, or the hub does not give what it has.
    pub fn catalog(
        &self,
        recipe: &Recipe,
        targets: &[StageId],
    ) -> Result<(Option<Catalog>, Vec<Finding>), ProjectError> {
        self.catalog_told(recipe, targets, Reach::Headers, &tell_nobody)
    }

    /// The same, with somebody who is told of what is fetched, and a say in how much that may be.
    ///
    /// # Errors
    /// Those of [`Self::catalog`].
    pub fn catalog_told(
        &self,
        recipe: &Recipe,
        targets: &[StageId],
        reach: Reach,
        events: &dyn Events,
    ) -> Result<(Option<Catalog>, Vec<Finding>), ProjectError> {
        let needed = models_needed(recipe, targets);
        let (located, mut findings) = self.locate(recipe, &needed)?;
        let Some(located) = located else { return Ok((None, findings)) };
        let opened = self.open_all(&needed, &located, reach, events)?;
        let mut checkpoints = Vec::new();
        for (checkpoint, Needed { span, .. }) in opened.into_iter().zip(&needed) {
            match checkpoint {
                Ok(checkpoint) => checkpoints.push(checkpoint),
                Err(error) if error.class() == ErrorClass::Data => findings.push(unusable(&error, *span)),
                Err(error) => return Err(error.into()),
            }
        }
        if !findings.is_empty() {
            return Ok((None, findings));
        }
        for (Needed { span, .. }, checkpoint) in needed.iter().zip(&checkpoints) {
            findings.extend(checkpoint.shards.iter().filter_map(|shard| beside_tensors(&**shard, *span)));
            findings.extend(checkpoint.remark.iter().map(|remark| remarked(remark, *span)));
        }
        // What lies beside an adapter counts for nothing.
        let models = needed.iter().zip(&checkpoints);
        let models: Vec<Option<&Checkpoint>> =
            models.map(|(needed, checkpoint)| (!needed.is_adapter).then_some(checkpoint.as_ref())).collect();
        let (beside, read): (_, Vec<_>) = rayon::join(
            || beside(recipe, &models),
            || checkpoints.par_iter().map(|checkpoint| inventory(checkpoint)).collect(),
        );
        let mut inventories: Vec<Inventory> = Vec::new();
        for ((read, beside), Needed { reference, span, .. }) in read.into_iter().zip(beside?).zip(&needed) {
            match read {
                Ok((inventory, undone)) => {
                    let Beside { vocabulary, generation, chat_template } = beside;
                    inventories.push(Inventory { vocabulary, generation, chat_template, ..inventory });
                    findings.extend(undone.map(|undone| dequantised(reference, &undone, *span)));
                }
                Err(error) => findings.push(quantised(&error, *span)),
            }
        }
        if inventories.len() < needed.len() {
            return Ok((None, findings));
        }
        let models: Vec<Model> = needed
            .into_iter()
            .zip(&checkpoints)
            .zip(inventories)
            .map(|((Needed { reference, .. }, checkpoint), inventory)| Model {
                reference,
                commit: commit_of(&checkpoint.dir),
                inventory,
            })
            .collect();
        let snapshots = located.into_iter().map(Located::snapshot).collect();
        Ok((Some(Catalog { models, checkpoints, snapshots }), findings))
    }
}

/// Tells of what a file holds beside tensors.
fn beside_tensors(shard: &dyn SourceFile, span: Span) -> Option<Finding> {
    const SHOWN: usize = 3;
    let others = shard.others();
    let names: Vec<String> = others.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = if others.len() > SHOWN { ", ..." } else { "" };
    let message = format!(
        "{} holds data other than the model's tensors, which is left out: {}",
        shard.path().display(),
        names.join(", ") + more
    );
    (!others.is_empty()).then(|| Finding::note("beside-tensors", span, message))
}

fn remarked(remark: &Remark, span: Span) -> Finding {
    match remark {
        Remark::IndexSize(message) => Finding::note("index-size", span, message),
        Remark::NoTokenizer(path) => {
            let message = format!(
                "{} has no tokenizer files beside it, so a model made from it has none either",
                path.display()
            );
            Finding::note("gguf-tokenizer", span, message)
                .help("copy tokenizer.json and tokenizer_config.json of the original model into its folder")
        }
    }
}

/// A model that is there and cannot be read as one.
fn unusable(error: &ModelError, span: Span) -> Finding {
    let message = match error {
        ModelError::Io { path, source } if source.kind() == ErrorKind::NotFound => {
            format!("{} does not exist", path.display())
        }
        ModelError::Io { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    };
    Finding::error("unusable-model", span, message)
}

/// A model whose weights are quantised in a way that is not undone.
fn quantised(error: &ModelError, span: Span) -> Finding {
    Finding::error("quantised", span, error.to_string())
        .help("merge the bfloat16 or float16 checkpoint that this model was quantised from")
}

/// Tells of weights that are read as products with their scales.
fn dequantised(reference: &ModelRef, undone: &Undone, span: Span) -> Finding {
    let Undone { tensors, dtype, left_out } = undone;
    let dtype = dtype.recipe_name().unwrap_or_else(|| dtype.name());
    let without = match left_out.as_slice() {
        [] => String::new(),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            format!("; the activation scales `{first}`{more} are left out")
        }
    };
    let message = format!(
        "`{}` is stored in 8-bit floats with scales, and {tensors} of its tensors {} read as {dtype}{without}",
        reference.path,
        if *tensors == 1 { "is" } else { "are" }
    );
    Finding::note("dequantised", span, message)
}

/// What is known of a checkpoint's weights, and what was undone to read them as plain ones.
///
/// # Errors
/// If they are quantised in another way.
pub(super) fn inventory(checkpoint: &Checkpoint) -> Result<(Inventory, Option<Undone>), ModelError> {
    let spec = |name: &str| (name.to_owned(), checkpoint.spec(name).expect("the name is listed").clone());
    let mut tensors = checkpoint.names().map(spec).collect();
    let view = |name: &str| Some((name.to_owned(), checkpoint.view(name)?.clone()));
    let mut views = checkpoint.names().filter_map(view).collect();
    let mut config = checkpoint.config.clone();
    let undone = quantised::undo(&mut tensors, &mut views, &mut config)
        .map_err(|problem| ModelError::Layout { path: checkpoint.dir.clone(), problem })?;
    let (layout, apart) = if config.is_null() {
        (Layout::bare(), None)
    } else {
        let apart = experts::join(&mut tensors, &mut views);
        (Layout::infer(tensors.keys().map(String::as_str), &config), apart)
    };
    let (vocabulary, generation, chat_template) = (None, None, None);
    Ok((Inventory { tensors, views, layout, apart, config, vocabulary, generation, chat_template }, undone))
}
