//! The fields of a stage's keys, by columns: one for each field, with a value for each action.
//!
//! Neighbours in a column are mostly the same, so a column is a list of its values and of runs of them. A
//! column with more to say is a block of its own, which every sheet that has it refers to. The digest of an
//! input is not a text: of a result it says where in the record the action is that made it, of a source it is
//! the digest itself.

use std::collections::HashMap;

use super::codec::{Decoder, Encoder};
use crate::digest::Digest;

/// Columns of more bytes are blocks of their own.
const INLINE: usize = 200;

/// A block and its name.
pub(super) type Block = (Digest, Vec<u8>);

/// The value of a field of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Source(Digest),
    /// The result of an action of the same record.
    Result {
        stage: usize,
        row: usize,
    },
}

/// A field's values, by action; `None` for actions without the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column<'a> {
    pub field: &'a str,
    pub values: Vec<Option<Value<'a>>>,
}

/// A column as it was recorded.
#[derive(Debug)]
pub(super) struct RecordedColumn {
    pub field: String,
    /// In the order of their first rows, the first of which is 0.
    runs: Vec<Run>,
    n_rows: usize,
    texts: Vec<String>,
    /// The digests of all sources, in the order of the rows.
    pub sources: Vec<Digest>,
}

/// Neighbours whose values are told alike.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: usize,
    /// How many sources are in the rows before.
    n_sources: usize,
    mark: Mark,
}

impl RecordedColumn {
    /// The value in a row; `None` behind the last one.
    pub fn get(&self, row: usize) -> Option<Option<Value<'_>>> {
        if row >= self.n_rows {
            return None;
        }
        let Run { first, n_sources, mark } = self.runs[self.runs.partition_point(|run| run.first <= row) - 1];
        Some(match mark {
            Mark::Nothing => None,
            Mark::Text(number) => Some(Value::Text(&self.texts[number as usize])),
            Mark::Source => Some(Value::Source(self.sources[n_sources + row - first])),
            Mark::Result(stage, delta) => {
                Some(Value::Result { stage: stage as usize, row: row.checked_add_signed(delta as isize)? })
            }
        })
    }
}

/// How a value is told from others in a run. Rows are relative to one's own, since a tensor mostly has the same
/// place in every stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Nothing,
    Text(u64),
    Source,
    Result(u64, i64),
}

/// Names a block.
pub(super) fn block(bytes: Vec<u8>) -> Block {
    (Digest::of(&bytes), bytes)
}

/// Writes columns as a sheet, and as blocks that it refers to.
pub(super) fn encode(columns: &[Column<'_>], blocks: &mut Vec<Block>) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.list(columns, |encoder, column| {
        encoder.text(column.field);
        let values = encode_column(&column.values);
        if values.len() <= INLINE {
            encoder.number(0);
            encoder.bytes(&values);
        } else {
            let (digest, values) = block(values);
            encoder.number(1);
            encoder.digest(&digest);
            blocks.push((digest, values));
        }
    });
    encoder.finish()
}

/// Reads a sheet whose blocks `get` gives.
///
/// # Errors
/// Those of `get`. `Ok(None)` if anything is missing or was never written.
pub(super) fn decode<E>(
    sheet: &[u8],
    mut get: impl FnMut(&Digest) -> Result<Option<Vec<u8>>, E>,
) -> Result<Option<Vec<RecordedColumn>>, E> {
    let Some(parts) = parts(sheet) else { return Ok(None) };
    let mut columns = Vec::with_capacity(parts.len());
    for (field, part) in parts {
        let values = match part {
            Part::Inline(values) => Some(values.to_vec()),
            Part::Block(digest) => get(&digest)?,
        };
        let Some(column) = values.and_then(|values| decode_column(field, &values)) else { return Ok(None) };
        columns.push(column);
    }
    Ok(Some(columns))
}

/// The blocks that a sheet refers to.
pub(super) fn blocks_of(sheet: &[u8]) -> Option<Vec<Digest>> {
    let block = |(_, part)| match part {
        Part::Inline(_) => None,
        Part::Block(digest) => Some(digest),
    };
    Some(parts(sheet)?.into_iter().filter_map(block).collect())
}

enum Part<'b> {
    Inline(&'b [u8]),
    Block(Digest),
}

fn parts(sheet: &[u8]) -> Option<Vec<(String, Part<'_>)>> {
    Decoder(sheet).list(|from| {
        let field = from.text()?;
        let part = match from.number()? {
            0 => Part::Inline(from.bytes()?),
            1 => Part::Block(from.digest()?),
            _ => return None,
        };
        Some((field, part))
    })
}

fn encode_column(values: &[Option<Value<'_>>]) -> Vec<u8> {
    let mut texts: Vec<&str> = Vec::new();
    let mut sources: Vec<Digest> = Vec::new();
    let mut runs: Vec<(u64, Mark)> = Vec::new();
    let mut numbers = HashMap::new();
    for (own, value) in values.iter().enumerate() {
        let mark = match value {
            None => Mark::Nothing,
            Some(Value::Text(text)) => Mark::Text(*numbers.entry(*text).or_insert_with(|| {
                texts.push(text);
                texts.len() as u64 - 1
            })),
            Some(Value::Source(digest)) => {
                sources.push(*digest);
                Mark::Source
            }
            Some(Value::Result { stage, row }) => Mark::Result(*stage as u64, *row as i64 - own as i64),
        };
        match runs.last_mut() {
            Some((n, last)) if *last == mark => *n += 1,
            _ => runs.push((1, mark)),
        }
    }
    let mut encoder = Encoder::default();
    encoder.list(&texts, |encoder, text| encoder.text(text));
    encoder.list(&runs, |encoder, (n, mark)| {
        encoder.number(*n);
        match mark {
            Mark::Nothing => encoder.number(0),
            Mark::Source => encoder.number(1),
            Mark::Result(stage, delta) => {
                encoder.number(2);
                encoder.number(*stage);
                encoder.signed(*delta);
            }
            Mark::Text(number) => encoder.number(number + 3),
        }
    });
    encoder.list(&sources, |encoder, digest| encoder.digest(digest));
    encoder.finish()
}

fn decode_column(field: String, bytes: &[u8]) -> Option<RecordedColumn> {
    let mut from = Decoder(bytes);
    let texts = from.list(Decoder::text)?;
    let (mut n_rows, mut n_sources) = (0usize, 0usize);
    let runs = from.list(|from| {
        let n = usize::try_from(from.number()?).ok()?;
        let mark = match from.number()? {
            0 => Mark::Nothing,
            1 => Mark::Source,
            2 => Mark::Result(from.number()?, from.signed()?),
            number => Mark::Text(number - 3),
        };
        let run = Run { first: n_rows, n_sources, mark };
        n_rows = n_rows.checked_add(n)?;
        if mark == Mark::Source {
            n_sources += n;
        }
        Some(run)
    })?;
    let sources = from.list(Decoder::digest)?;
    let is_there = |run: &Run| !matches!(run.mark, Mark::Text(number) if number >= texts.len() as u64);
    let is_whole = n_sources == sources.len() && runs.iter().all(is_there);
    is_whole.then_some(RecordedColumn { field, runs, n_rows, texts, sources })
}

/// Writes names, which are sorted, each as what it adds to the one before.
pub(super) fn encode_names(names: &[&str]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut before = "";
    encoder.list(names, |encoder, name| {
        let shared = before.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        encoder.number(shared as u64);
        encoder.bytes(&name.as_bytes()[shared..]);
        before = name;
    });
    encoder.finish()
}

pub(super) fn decode_names(bytes: &[u8]) -> Option<Vec<String>> {
    let mut before: Vec<u8> = Vec::new();
    Decoder(bytes).list(|from| {
        let shared = usize::try_from(from.number()?).ok()?;
        let rest = from.bytes()?;
        before.truncate((shared <= before.len()).then_some(shared)?);
        before.extend_from_slice(rest);
        String::from_utf8(before.clone()).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_back_and_share_their_blocks() {
        let text = |text: &'static str| Some(Value::Text(text));
        let digest = |n| Some(Value::Source(Digest([n; 32])));
        let streams: Vec<String> = (0..500).map(|i| format!("stream {i}")).collect();
        let columns = [
            vec![text("a"), text("a"), None, text("b"), text("a")],
            (0..5).map(digest).chain([None]).collect(),
            vec![
                Some(Value::Result { stage: 2, row: 7 }),
                Some(Value::Result { stage: 2, row: 8 }),
                digest(9),
                Some(Value::Result { stage: 0, row: 0 }),
            ],
            streams.iter().map(|stream| Some(Value::Text(stream))).collect(),
        ];
        let columns: Vec<Column<'_>> =
            columns.into_iter().map(|values| Column { field: "f", values }).collect();
        let mut blocks = Vec::new();
        let sheet = encode(&columns, &mut blocks);
        assert_eq!(blocks.len(), 1);
        let get = |digest: &Digest| {
            Ok::<_, ()>(blocks.iter().find(|(of, _)| of == digest).map(|(_, block)| block.clone()))
        };
        let recorded = decode(&sheet, get).unwrap().unwrap();
        assert_eq!(recorded.len(), columns.len());
        for (column, recorded) in columns.iter().zip(&recorded) {
            assert_eq!(recorded.field, column.field);
            assert_eq!((0..).map_while(|row| recorded.get(row)).collect::<Vec<_>>(), column.values);
        }
        assert!(decode(&sheet, |_| Ok::<_, ()>(None)).unwrap().is_none());
        assert_eq!(blocks_of(&sheet), Some(vec![blocks[0].0]));
        assert!((0..sheet.len()).all(|n| blocks_of(&sheet[..n]).is_none()));
    }

    #[test]
    fn names_come_back() {
        let names = ["a", "a.b", "a.b\u{e9}", "a.b\u{ea}", "c"];
        assert_eq!(decode_names(&encode_names(&names)).unwrap(), names);
    }
}
