//! Takes the fields of every action's key as they are hashed, and lays them out as blocks.

use std::collections::{BTreeMap, HashMap};

use super::codec::Encoder;
use super::record::StageRecord;
use super::sheet::{self, Block, Column, Value, block};
use crate::digest::{ActionKey, Digest};
use crate::manifest::Sink;

/// Where the bytes of an action's input come from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    Source,
    /// The action that made a tensor of a stage; it is recorded, too.
    Result {
        stage: &'a str,
        tensor: &'a str,
    },
}

/// Every action of a build.
#[derive(Default)]
pub struct Recorder {
    /// By stage, then by tensor.
    stages: BTreeMap<String, BTreeMap<String, Row>>,
}

struct Row {
    key: ActionKey,
    fields: Vec<(String, Field)>,
}

enum Field {
    Text(String),
    Source(Digest),
    Result { stage: String, tensor: String },
}

/// The fields of one action; digests of inputs come in the order of the inputs.
struct Fields<'a> {
    origins: std::slice::Iter<'a, Origin<'a>>,
    fields: Vec<(String, Field)>,
}

impl Sink for Fields<'_> {
    fn field(&mut self, name: &str, value: &str) {
        self.fields.push((name.to_owned(), Field::Text(value.to_owned())));
    }

    fn digest(&mut self, name: &str, digest: &Digest) {
        let field = match self.origins.next() {
            Some(Origin::Result { stage, tensor }) => {
                Field::Result { stage: (*stage).to_owned(), tensor: (*tensor).to_owned() }
            }
            Some(Origin::Source) | None => Field::Source(*digest),
        };
        self.fields.push((name.to_owned(), field));
    }
}

impl Recorder {
    /// Records an action: `write` writes the fields that were hashed into its key.
    pub fn action(
        &mut self,
        (stage, tensor): (&str, &str),
        key: ActionKey,
        origins: &[Origin<'_>],
        write: impl FnOnce(&mut dyn Sink),
    ) {
        let mut fields = Fields { origins: origins.iter(), fields: Vec::new() };
        write(&mut fields);
        let row = Row { key, fields: fields.fields };
        let before = self.stages.entry(stage.to_owned()).or_default().insert(tensor.to_owned(), row);
        debug_assert!(before.is_none(), "{stage}: {tensor} is recorded twice");
    }

    /// The stages, and the blocks that they refer to.
    pub(super) fn finish(self) -> (Vec<StageRecord>, Vec<Block>) {
        let places: HashMap<(&str, &str), (usize, usize)> = (self.stages.iter().enumerate())
            .flat_map(|(stage, (name, rows))| {
                rows.keys()
                    .enumerate()
                    .map(move |(row, tensor)| ((name.as_str(), tensor.as_str()), (stage, row)))
            })
            .collect();
        let mut blocks = Vec::new();
        let mut stages = Vec::new();
        for (name, rows) in &self.stages {
            let names: Vec<&str> = rows.keys().map(String::as_str).collect();
            let mut keys = Encoder::default();
            keys.list(&rows.values().collect::<Vec<_>>(), |keys, row| keys.digest(&Digest(row.key.0)));
            let sheet = sheet::encode(&columns(rows, &places), &mut blocks);
            let parts = [sheet::encode_names(&names), keys.finish(), sheet].map(block);
            let [tensors, keys, sheet] = [0, 1, 2].map(|i| parts[i].0);
            blocks.extend(parts);
            stages.push(StageRecord { name: name.clone(), tensors, keys, sheet });
        }
        (stages, blocks)
    }
}

/// A stage's columns; of results, `places` has the numbers of stage and row.
fn columns<'a>(
    rows: &'a BTreeMap<String, Row>,
    places: &HashMap<(&str, &str), (usize, usize)>,
) -> Vec<Column<'a>> {
    let mut columns: Vec<Column<'_>> = Vec::new();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for (i, row) in rows.values().enumerate() {
        for (name, field) in &row.fields {
            let number = *numbers.entry(name).or_insert_with(|| {
                columns.push(Column { field: name, values: vec![None; rows.len()] });
                columns.len() - 1
            });
            columns[number].values[i] = Some(match field {
                Field::Text(text) => Value::Text(text),
                Field::Source(digest) => Value::Source(*digest),
                Field::Result { stage, tensor } => {
                    let (stage, row) = places[&(stage.as_str(), tensor.as_str())];
                    Value::Result { stage, row }
                }
            });
        }
    }
    columns
}
