//! A recorded build, whose actions are read when they are asked for.

use std::collections::HashSet;
use std::sync::OnceLock;

use super::codec::Decoder;
use super::record::{Record, StageRecord};
use super::sheet::{self, RecordedColumn, Value};
use crate::digest::{ActionKey, Digest};
use crate::manifest::{ManifestText, Sink};
use crate::store::StoreError;
use crate::store::snapshot::Snapshot;

/// A build and the view of the index that it was found in. What is damaged or gone counts as missing.
pub struct Past<'a> {
    pub record: Record,
    snapshot: &'a Snapshot<'a>,
    /// By the number of the stage, as are sheets.
    actions: Vec<OnceLock<Option<Actions>>>,
    sheets: Vec<OnceLock<Option<Vec<RecordedColumn>>>>,
}

/// What a stage's actions made, in the order of the names, and their keys.
struct Actions {
    tensors: Vec<String>,
    keys: Vec<ActionKey>,
}

/// The keys in a block of keys, in the order of the names of what the actions made.
pub fn read_keys(snapshot: &Snapshot<'_>, block: &Digest) -> Result<Option<Vec<ActionKey>>, StoreError> {
    let read = |from: &mut Decoder<'_>| Some(ActionKey(from.digest()?.0));
    Ok(snapshot.block(block)?.and_then(|block| Decoder(&block).list(read)))
}

impl<'a> Past<'a> {
    pub fn new(record: Record, snapshot: &'a Snapshot<'a>) -> Self {
        let n = record.stages.len();
        let (actions, sheets) = (0..n).map(|_| (OnceLock::new(), OnceLock::new())).unzip();
        Self { record, snapshot, actions, sheets }
    }

    /// The key of the action that made a tensor in this build.
    pub fn key_of(&self, stage: &str, tensor: &str) -> Result<Option<ActionKey>, StoreError> {
        let Some((number, row)) = self.place(stage, tensor)? else { return Ok(None) };
        Ok(self.actions(number)?.map(|actions| actions.keys[row]))
    }

    /// The fields of the key of the action that made a tensor, as lines of `name = value`.
    pub fn manifest(&self, stage: &str, tensor: &str) -> Result<Option<String>, StoreError> {
        let Some((number, row)) = self.place(stage, tensor)? else { return Ok(None) };
        let Some(columns) = self.sheet(number)? else { return Ok(None) };
        let mut text = ManifestText::default();
        for column in columns {
            let field = &column.field;
            match column.get(row) {
                None => return Ok(None),
                Some(None) => {}
                Some(Some(Value::Text(value))) => text.field(field, value),
                Some(Some(Value::Source(digest))) => text.digest(field, &digest),
                Some(Some(Value::Result { stage, row })) => match self.result(stage, row)? {
                    Some(digest) => text.digest(field, &digest),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(text.finish()))
    }

    /// What the recipe said.
    pub fn recipe_text(&self) -> Result<Option<String>, StoreError> {
        let text = self.snapshot.block(&self.record.text)?;
        Ok(text.and_then(|text| String::from_utf8(text).ok()))
    }

    /// The digests of the sources that were read.
    pub fn sources(&self) -> Result<HashSet<Digest>, StoreError> {
        let mut sources = HashSet::new();
        for number in 0..self.record.stages.len() {
            sources.extend(self.sheet(number)?.unwrap_or_default().iter().flat_map(|column| &column.sources));
        }
        Ok(sources)
    }

    /// Every block that the record refers to.
    pub fn blocks(&self) -> Result<Vec<Digest>, StoreError> {
        let mut blocks = vec![self.record.text];
        for StageRecord { name: _, tensors, keys, sheet } in &self.record.stages {
            blocks.extend([tensors, keys, sheet]);
            let sheet = self.snapshot.block(sheet)?;
            blocks.extend(sheet.and_then(|sheet| sheet::blocks_of(&sheet)).unwrap_or_default());
        }
        Ok(blocks)
    }

    fn place(&self, stage: &str, tensor: &str) -> Result<Option<(usize, usize)>, StoreError> {
        let Some(number) = self.record.stages.iter().position(|of| of.name == stage) else {
            return Ok(None);
        };
        let Some(Actions { tensors, .. }) = self.actions(number)? else { return Ok(None) };
        let row = tensors.binary_search_by(|name| name.as_str().cmp(tensor));
        Ok(row.ok().map(|row| (number, row)))
    }

    /// The digest of an action's result.
    fn result(&self, stage: usize, row: usize) -> Result<Option<Digest>, StoreError> {
        let key = match stage < self.record.stages.len() {
            true => self.actions(stage)?.and_then(|actions| actions.keys.get(row)),
            false => None,
        };
        let Some(key) = key else { return Ok(None) };
        Ok(self.snapshot.action(key)?.map(|(digest, _)| digest))
    }

    fn actions(&self, number: usize) -> Result<Option<&Actions>, StoreError> {
        let StageRecord { tensors, keys, .. } = &self.record.stages[number];
        if self.actions[number].get().is_none() {
            let tensors = self.snapshot.block(tensors)?.and_then(|block| sheet::decode_names(&block));
            let keys = read_keys(self.snapshot, keys)?;
            let both = tensors.zip(keys).filter(|(tensors, keys)| tensors.len() == keys.len());
            let _ = self.actions[number].set(both.map(|(tensors, keys)| Actions { tensors, keys }));
        }
        Ok(self.actions[number].get().and_then(Option::as_ref))
    }

    fn sheet(&self, number: usize) -> Result<Option<&[RecordedColumn]>, StoreError> {
        if self.sheets[number].get().is_none() {
            let sheet = self.snapshot.block(&self.record.stages[number].sheet)?;
            let columns = match sheet {
                Some(sheet) => sheet::decode(&sheet, |block| self.snapshot.block(block))?,
                None => None,
            };
            let _ = self.sheets[number].set(columns);
        }
        Ok(self.sheets[number].get().and_then(Option::as_deref))
    }
}
