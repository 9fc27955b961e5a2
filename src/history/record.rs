//! One build's record: a row of the index.

use super::account::Account;
use super::codec::{Decoder, Encoder};
use crate::digest::Digest;

/// Raised whenever rows come to mean something else; those of a later format count as missing.
const FORMAT: u64 = 2;

/// Rows of this format end before the account.
const WITHOUT_ACCOUNT: u64 = 1;

/// A recipe as it was set to be built: its builds have a history of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The recipe's file, as an absolute path.
    pub recipe: String,
    /// Variables and their values, as given on the command line.
    pub sets: Vec<(String, String)>,
    /// The seed of the command line.
    pub seed: Option<u64>,
    /// The names of the stages that were built.
    pub targets: Vec<String>,
}

impl Variant {
    /// Equal for variants that are the same, in whatever order things were set.
    pub(super) fn id(&self) -> Digest {
        let Self { recipe, sets, seed, targets } = self;
        let mut sorted: Vec<&(String, String)> = sets.iter().collect();
        sorted.sort();
        let mut targets: Vec<&String> = targets.iter().collect();
        targets.sort();
        let mut encoder = Encoder::default();
        encoder.text(recipe);
        encoder.list(&sorted, |encoder, (name, value)| {
            encoder.text(name);
            encoder.text(value);
        });
        encoder.optional(*seed);
        encoder.list(&targets, |encoder, target| encoder.text(target));
        Digest::of(&encoder.finish())
    }
}

/// One build.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Seconds since the epoch.
    pub time: u64,
    pub variant: Variant,
    /// The recipe's build before this one, of whatever variant.
    pub previous: Option<u64>,
    /// The block that holds the recipe's text.
    pub(super) text: Digest,
    pub seconds: f64,
    pub outputs: Vec<OutputRecord>,
    /// Actions executed, over all stages.
    pub ran: usize,
    /// Why, in short; empty for a first build.
    pub reasons: Vec<String>,
    /// Empty where it was not taken.
    pub account: Account,
    pub(super) stages: Vec<StageRecord>,
}

/// What there is to record of a build, beside its actions.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Seconds since the epoch.
    pub time: u64,
    pub variant: Variant,
    pub recipe_text: String,
    pub seconds: f64,
    pub outputs: Vec<OutputRecord>,
    pub ran: usize,
    pub reasons: Vec<String>,
    pub account: Account,
}

/// One directory that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRecord {
    pub stage: String,
    pub dir: String,
    pub tensors: usize,
    pub reused: usize,
    pub cut_off: usize,
    pub rebuilt: usize,
    /// Bytes of all its tensors; 0 in records that do not tell.
    pub bytes: u64,
    /// Bytes of shards that this build wrote.
    pub written: u64,
}

/// The blocks that hold what a stage's actions were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageRecord {
    pub(super) name: String,
    pub(super) tensors: Digest,
    pub(super) keys: Digest,
    pub(super) sheet: Digest,
}

impl Record {
    /// Every stage with the block that holds the keys of its actions.
    pub fn keys_blocks(&self) -> impl Iterator<Item = (&str, &Digest)> {
        self.stages.iter().map(|stage| (stage.name.as_str(), &stage.keys))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { time, variant, previous, text, seconds, outputs, ran, reasons, account, stages } = self;
        let Variant { recipe, sets, seed, targets } = variant;
        let mut encoder = Encoder::default();
        encoder.number(FORMAT);
        encoder.number(*time);
        encoder.text(recipe);
        encoder.list(sets, |encoder, (name, value)| {
            encoder.text(name);
            encoder.text(value);
        });
        encoder.optional(*seed);
        encoder.list(targets, |encoder, target| encoder.text(target));
        encoder.optional(*previous);
        encoder.digest(text);
        encoder.number(seconds.to_bits());
        encoder.list(outputs, |encoder, output| {
            encoder.text(&output.stage);
            encoder.text(&output.dir);
            let counts = [output.tensors, output.reused, output.cut_off, output.rebuilt];
            counts.into_iter().for_each(|count| encoder.number(count as u64));
        });
        encoder.number(*ran as u64);
        encoder.list(reasons, |encoder, reason| encoder.text(reason));
        encoder.list(stages, |encoder, StageRecord { name, tensors, keys, sheet }| {
            encoder.text(name);
            [tensors, keys, sheet].into_iter().for_each(|block| encoder.digest(block));
        });
        account.encode(&mut encoder);
        encoder.list(outputs, |encoder, output| {
            encoder.number(output.bytes);
            encoder.number(output.written);
        });
        encoder.finish()
    }

    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        let mut from = Decoder(row);
        let format = from.number()?;
        if !(WITHOUT_ACCOUNT..=FORMAT).contains(&format) {
            return None;
        }
        let count = |from: &mut Decoder<'_>| usize::try_from(from.number()?).ok();
        let mut record = Self {
            time: from.number()?,
            variant: Variant {
                recipe: from.text()?,
                sets: from.list(|from| Some((from.text()?, from.text()?)))?,
                seed: from.optional()?,
                targets: from.list(Decoder::text)?,
            },
            previous: from.optional()?,
            text: from.digest()?,
            seconds: f64::from_bits(from.number()?),
            outputs: from.list(|from| {
                Some(OutputRecord {
                    stage: from.text()?,
                    dir: from.text()?,
                    tensors: count(from)?,
                    reused: count(from)?,
                    cut_off: count(from)?,
                    rebuilt: count(from)?,
                    bytes: 0,
                    written: 0,
                })
            })?,
            ran: count(&mut from)?,
            reasons: from.list(Decoder::text)?,
            account: Account::default(),
            stages: from.list(|from| {
                Some(StageRecord {
                    name: from.text()?,
                    tensors: from.digest()?,
                    keys: from.digest()?,
                    sheet: from.digest()?,
                })
            })?,
        };
        if format > WITHOUT_ACCOUNT {
            record.account = Account::decode(&mut from)?;
            let sizes = from.list(|from| Some((from.number()?, from.number()?)))?;
            for (output, (bytes, written)) in record.outputs.iter_mut().zip(sizes) {
                (output.bytes, output.written) = (bytes, written);
            }
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::{Effort, StageAccount};
    use super::*;

    #[test]
    fn records_come_back() {
        let digest = |n| Digest([n; 32]);
        let record = Record {
            time: 1,
            variant: Variant {
                recipe: "/r".to_owned(),
                sets: vec![("a".to_owned(), "1".to_owned())],
                seed: Some(8),
                targets: vec!["t".to_owned()],
            },
            previous: Some(3),
            text: digest(1),
            seconds: 0.25,
            outputs: vec![OutputRecord {
                stage: "t".to_owned(),
                dir: "d".to_owned(),
                tensors: 4,
                reused: 3,
                cut_off: 2,
                rebuilt: 1,
                bytes: 70_000,
                written: 300,
            }],
            ran: 300,
            reasons: vec!["because".to_owned()],
            account: Account {
                version: "1.2".to_owned(),
                threads: 2,
                models: vec!["/m".to_owned()],
                hashed: Effort { count: 1, bytes: 2, seconds: 0.5, activity: vec![3, 4] },
                stages: vec![StageAccount {
                    name: "t".to_owned(),
                    actions: 500,
                    reused: 150,
                    cut_off: 50,
                    bytes: 70_000,
                    ran: Effort { count: 300, bytes: 60_000, seconds: 0.4, activity: vec![255] },
                }],
            },
            stages: vec![StageRecord {
                name: "t".to_owned(),
                tensors: digest(2),
                keys: digest(3),
                sheet: digest(4),
            }],
        };
        let row = record.encode();
        assert_eq!(Record::decode(&row), Some(record));
        assert!((0..row.len()).all(|n| Record::decode(&row[..n]).is_none()));
    }

    #[test]
    fn records_of_the_first_format_are_read() {
        // Time, recipe, no sets, no seed, no targets, no previous, text, seconds, nothing made.
        let row = [&[1, 7, 2][..], b"/r", &[0, 0, 0, 0], &[9; 32], &[0, 0, 0, 0, 0]].concat();
        let record = Record::decode(&row).unwrap();
        assert_eq!((record.time, record.variant.recipe.as_str(), record.text), (7, "/r", Digest([9; 32])));
        assert_eq!(record.account, Account::default());
    }

    #[test]
    fn the_order_of_what_is_set_does_not_matter() {
        let variant = |sets: &[(&str, &str)]| Variant {
            recipe: "/r".to_owned(),
            sets: sets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            seed: None,
            targets: Vec::new(),
        };
        assert_eq!(variant(&[("a", "1"), ("b", "2")]).id(), variant(&[("b", "2"), ("a", "1")]).id());
        assert_ne!(variant(&[("a", "1")]).id(), variant(&[]).id());
    }
}
