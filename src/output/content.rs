//! What a directory shall hold: everything that a version of an output consists of.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::error::OutputError;
use super::files::regular;
use super::format::layout::{OutputLayout, ShardLayout};
use super::lockfile::writing::NewLockfile;
use super::names::{CARD_FILE, CONFIG_FILE, LOCKFILE, MERGEKIT_FILE, PICTURE_FILE, RECIPE_FILE};
use super::{card, ownership};
use crate::digest::Digest;
use crate::plan::StagePlan;

/// What is not written beside the weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeftOut {
    /// The tokenizer's files and generation_config.json, where they would only be copied.
    pub tokenizer: bool,
    /// README.md, its picture, and the recipe for mergekit.
    pub card: bool,
}

/// A directory to be written.
pub struct Output<'a> {
    /// A path without links.
    pub dir: &'a Path,
    pub stage: &'a StagePlan,
    /// Of the stage's tensors.
    pub layout: &'a OutputLayout,
    /// Files that come from other checkpoints, with their bytes.
    pub extras: Vec<(String, Vec<u8>)>,
    /// Files with their whole text: the model card, the recipe, the lockfile.
    pub card: String,
    pub recipe: String,
    /// The picture that the card shows, and the recipe where mergekit runs it.
    pub picture: String,
    pub mergekit: Option<String>,
    pub lockfile: NewLockfile<'a>,
    pub left_out: LeftOut,
    /// Whether nothing that the store remembers of the directory is trusted.
    pub rehash: bool,
    /// Whether what the old version alone holds is kept.
    pub keeps_old: bool,
}

impl Output<'_> {
    /// Every file but the shards, with its bytes.
    pub(super) fn files(&self) -> Result<Vec<(String, Vec<u8>)>, OutputError> {
        let mut files = self.layout.beside.to_vec();
        files.extend(self.extras.iter().cloned());
        // A bare state dict has nothing beside its tensors.
        if !self.stage.config.is_null() {
            let config = serde_json::to_string_pretty(&self.stage.config).expect("JSON values serialise");
            files.push((CONFIG_FILE.to_owned(), (config + "\n").into_bytes()));
        }
        files.push((RECIPE_FILE.to_owned(), self.recipe.clone().into_bytes()));
        if !self.left_out.card {
            files.push((CARD_FILE.to_owned(), self.card.clone().into_bytes()));
            files.push((PICTURE_FILE.to_owned(), self.picture.clone().into_bytes()));
            let mergekit = self.mergekit.iter();
            files.extend(mergekit.map(|text| (MERGEKIT_FILE.to_owned(), text.clone().into_bytes())));
        }
        let mut listed: BTreeMap<String, String> = files
            .iter()
            .map(|(name, bytes)| (name.clone(), ownership::digest_of(name, bytes).to_string()))
            .collect();
        let header = |shard: &ShardLayout| (shard.file.clone(), Digest::of(&shard.header).to_string());
        listed.extend(self.layout.shards.iter().map(header));
        if let Some(card) = files.iter_mut().find(|(name, _)| name == CARD_FILE) {
            card.1 = self.card_beside(self.present(CARD_FILE));
        }
        files.push((LOCKFILE.to_owned(), self.lockfile.clone().text(listed).into_bytes()));
        Ok(files)
    }

    /// The card, with what its author has written around the one that is there.
    fn card_beside(&self, present: Option<Vec<u8>>) -> Vec<u8> {
        match present.map(String::from_utf8) {
            Some(Ok(present)) => card::renewed(&present, &self.card).into_bytes(),
            Some(Err(no_text)) => no_text.into_bytes(),
            None => self.card.clone().into_bytes(),
        }
    }

    /// Whether a file of the directory holds these bytes.
    pub(super) fn holds(&self, name: &str, bytes: &[u8]) -> bool {
        self.present(name).is_some_and(|present| present == bytes)
    }

    /// A file of the directory that can be read and is neither a link nor a pipe.
    fn present(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.dir.join(name);
        regular(&path)?;
        fs::read(path).ok()
    }
}
