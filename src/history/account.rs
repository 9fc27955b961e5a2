//! What a build took: time and bytes by stage, and when each stage was worked on.

use super::codec::{Decoder, Encoder};

/// How a build went, beside what it made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// The version of lamarck that carried it out; empty for builds of versions that did not record this.
    pub version: String,
    /// Threads that shared the work.
    pub threads: u64,
    /// The folders in which models were looked for, as absolute paths.
    pub models: Vec<String>,
    /// Sources that were read and hashed.
    pub hashed: Effort,
    /// In the order in which they depend on one another.
    pub stages: Vec<StageAccount>,
}

/// What was done for one stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageAccount {
    pub name: String,
    /// Actions that the stage came down to; those of the other counts add up to it.
    pub actions: u64,
    pub reused: u64,
    pub cut_off: u64,
    /// Bytes of all their results.
    pub bytes: u64,
    /// Those that ran.
    pub ran: Effort,
}

/// Work of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effort {
    /// Actions or sources.
    pub count: u64,
    /// Bytes of what was made or read.
    pub bytes: u64,
    /// Summed over threads.
    pub seconds: f64,
    /// The part of all threads that was at it, in slices of equal length from the build's start to its end; 255 is
    /// all of them. Empty if nothing was done.
    pub activity: Vec<u8>,
}

/// One piece of work; times are in seconds from the build's start.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub bytes: u64,
    /// How many threads were at it.
    pub threads: usize,
    pub began: f64,
    pub ended: f64,
}

impl Account {
    pub(super) fn encode(&self, encoder: &mut Encoder) {
        let Self { version, threads, models, hashed, stages } = self;
        encoder.text(version);
        encoder.number(*threads);
        encoder.list(models, |encoder, folder| encoder.text(folder));
        hashed.encode(encoder);
        encoder.list(stages, |encoder, StageAccount { name, actions, reused, cut_off, bytes, ran }| {
            encoder.text(name);
            [actions, reused, cut_off, bytes].into_iter().for_each(|number| encoder.number(*number));
            ran.encode(encoder);
        });
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        Some(Self {
            version: from.text()?,
            threads: from.number()?,
            models: from.list(Decoder::text)?,
            hashed: Effort::decode(from)?,
            stages: from.list(|from| {
                Some(StageAccount {
                    name: from.text()?,
                    actions: from.number()?,
                    reused: from.number()?,
                    cut_off: from.number()?,
                    bytes: from.number()?,
                    ran: Effort::decode(from)?,
                })
            })?,
        })
    }
}

impl Effort {
    /// So many slices a build is cut into.
    const SLICES: usize = 120;

    /// Sums pieces of work of a build that took so many seconds on so many threads.
    pub fn of(pieces: impl Iterator<Item = Piece>, (seconds, threads): (f64, usize)) -> Self {
        let mut effort = Self::default();
        let mut active = [0.0; Self::SLICES];
        let scale = Self::SLICES as f64 / seconds.max(f64::MIN_POSITIVE);
        for Piece { bytes, threads: busy, began, ended } in pieces {
            effort.count += 1;
            effort.bytes += bytes;
            effort.seconds += (ended - began) * busy as f64;
            let (began, ended) = (began * scale, ended * scale);
            for slice in began as usize..Self::SLICES.min(ended as usize + 1) {
                let within = ended.min(slice as f64 + 1.0) - began.max(slice as f64);
                active[slice] += within.max(0.0) * busy as f64 / threads as f64;
            }
        }
        if effort.count > 0 {
            effort.activity = active.iter().map(|part| (part * 255.0).round() as u8).collect();
        }
        effort
    }

    fn encode(&self, encoder: &mut Encoder) {
        let Self { count, bytes, seconds, activity } = self;
        [*count, *bytes, seconds.to_bits()].into_iter().for_each(|number| encoder.number(number));
        encoder.bytes(activity);
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        Some(Self {
            count: from.number()?,
            bytes: from.number()?,
            seconds: f64::from_bits(from.number()?),
            activity: from.bytes()?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_the_slices_in_which_it_was_done() {
        let piece = |threads, began, ended| Piece { bytes: 10, threads, began, ended };
        let pieces = [piece(1, 0.0, 6.0), piece(2, 6.0, 9.0), piece(1, 11.9, 12.0)];
        let effort = Effort::of(pieces.into_iter(), (12.0, 2));
        assert_eq!((effort.count, effort.bytes), (3, 30));
        assert!((effort.seconds - 12.1).abs() < 1e-9);
        let activity = effort.activity;
        assert_eq!((activity.len(), activity[0], activity[59], activity[60]), (120, 128, 128, 255));
        assert_eq!((activity[89], activity[90], activity[118], activity[119]), (255, 0, 0, 128));
        assert_eq!(Effort::of([].into_iter(), (1.0, 2)), Effort::default());
    }
}
