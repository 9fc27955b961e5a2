//! What work of each kind took in the builds so far, and so what more of it will take.
//!
//! A piece of work takes some time however small it is, and time for each of its bytes. Both are found for each kind of
//! work by least squares over its pieces, of which only sums are kept.

use std::collections::BTreeMap;

use super::codec::{Decoder, Encoder};
use crate::store::StoreError;
use crate::store::index::Index;
use crate::store::snapshot::Snapshot;

/// Sums over pieces of work of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    pieces: f64,
    bytes: f64,
    bytes_squared: f64,
    /// Of one thread.
    seconds: f64,
    bytes_seconds: f64,
}

/// What work took so far, by kinds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs(BTreeMap<String, Sums>);

/// Beside so many new pieces of work, older ones count for nothing.
const REMEMBERED: f64 = 4096.0;

impl Sums {
    fn all(&mut self) -> [&mut f64; 5] {
        let Self { pieces, bytes, bytes_squared, seconds, bytes_seconds } = self;
        [pieces, bytes, bytes_squared, seconds, bytes_seconds]
    }

    fn add(&mut self, mut other: Self) {
        self.all().into_iter().zip(other.all()).for_each(|(sum, more)| *sum += *more);
    }

    fn scale(&mut self, by: f64) {
        self.all().into_iter().for_each(|sum| *sum *= by);
    }

    /// The seconds that a piece takes, and those that each byte of it does; neither is negative.
    fn line(&self) -> (f64, f64) {
        let Self { pieces: n, bytes: x, bytes_squared: xx, seconds: y, bytes_seconds: xy } = *self;
        let spread = n * xx - x * x;
        let slope = if spread > 1e-9 * n * xx { (n * xy - x * y) / spread } else { y / x.max(1.0) };
        let slope = slope.max(0.0);
        match (y - slope * x) / n {
            start if start >= 0.0 => (start, slope),
            _ => (0.0, y / x.max(1.0)),
        }
    }

    fn is_sound(&self) -> bool {
        let mut copy = *self;
        copy.all().into_iter().all(|sum| sum.is_finite() && *sum >= 0.0) && self.pieces > 0.0
    }
}

impl Costs {
    /// Whether nothing was ever measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes account of a piece of work.
    pub fn add(&mut self, kind: &str, n_bytes: u64, thread_seconds: f64) {
        let bytes = n_bytes as f64;
        let piece = Sums {
            pieces: 1.0,
            bytes,
            bytes_squared: bytes * bytes,
            seconds: thread_seconds,
            bytes_seconds: bytes * thread_seconds,
        };
        match self.0.get_mut(kind) {
            Some(sums) => sums.add(piece),
            None => drop(self.0.insert(kind.to_owned(), piece)),
        }
    }

    /// The seconds that a piece of work will take of a thread: as others of its kind did, or else as all work did.
    /// `None` if nothing was ever measured.
    pub fn seconds(&self, kind: &str, n_bytes: u64) -> Option<f64> {
        let sums = match self.0.get(kind) {
            Some(sums) => *sums,
            None => self.0.values().copied().reduce(|mut all, sums| {
                all.add(sums);
                all
            })?,
        };
        let (start, slope) = sums.line();
        Some(start + slope * n_bytes as f64)
    }

    /// What builds recorded.
    pub fn read(snapshot: &Snapshot<'_>) -> Result<Self, StoreError> {
        let rows = snapshot.costs()?.into_iter();
        Ok(Self(rows.filter_map(|(kind, row)| Some((kind, decode(&row)?))).collect()))
    }

    /// Records what a build measured; the longer ago something was, the less it counts.
    pub fn record(self, index: &Index) -> Result<(), StoreError> {
        if self.is_empty() {
            return Ok(());
        }
        let mut all = Self::read(&index.snapshot()?)?;
        let rows = self.0.into_iter().map(|(kind, new)| {
            let mut sums = all.0.remove(&kind).unwrap_or_default();
            sums.scale(((REMEMBERED - new.pieces) / sums.pieces.max(1.0)).clamp(0.0, 1.0));
            sums.add(new);
            let row = encode(sums);
            (kind, row)
        });
        index.set_costs(&rows.collect::<Vec<_>>())
    }
}

fn encode(mut sums: Sums) -> Vec<u8> {
    let mut encoder = Encoder::default();
    sums.all().into_iter().for_each(|sum| encoder.number(sum.to_bits()));
    encoder.finish()
}

fn decode(row: &[u8]) -> Option<Sums> {
    let (mut from, mut sums) = (Decoder(row), Sums::default());
    for sum in sums.all() {
        *sum = f64::from_bits(from.number()?);
    }
    sums.is_sound().then_some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found - expected).abs() <= 1e-6 * expected)
    }

    #[test]
    fn work_takes_what_its_kind_took() {
        let mut costs = Costs::default();
        assert_eq!(costs.seconds("ties", 7), None);
        for n_bytes in [1_000, 50_000, 1_000_000_u64] {
            costs.add("ties", n_bytes, 0.001 + 2e-9 * n_bytes as f64);
            costs.add("slerp", n_bytes, 0.002 + 1e-9 * n_bytes as f64);
        }
        assert!(close(costs.seconds("ties", 10_000_000_000), 20.001));
        assert!(close(costs.seconds("slerp", 0), 0.002));
        let other = costs.seconds("della", 1_000_000).unwrap();
        assert!(other > 0.0025 && other < 0.0035, "what is not known costs what the rest did: {other}");
    }

    #[test]
    fn pieces_of_one_size_and_odd_ones_give_no_nonsense() {
        let mut costs = Costs::default();
        (0..3).for_each(|_| costs.add("a", 100, 0.5));
        assert!(close(costs.seconds("a", 200), 1.0));
        costs.add("b", 100, 5.0);
        costs.add("b", 1_000_000, 1.0);
        costs.add("c", 0, 1.0);
        for kind in ["b", "c"] {
            let seconds = [0, 100, 1_000_000_000].map(|n_bytes| costs.seconds(kind, n_bytes).unwrap());
            assert!(seconds.iter().all(|seconds| seconds.is_finite() && *seconds >= 0.0), "{seconds:?}");
        }
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let mut costs = Costs::default();
        costs.add("a", 100, 0.5);
        costs.add("a", 300, 0.75);
        let row = encode(costs.0["a"]);
        assert_eq!(decode(&row), Some(costs.0["a"]));
        assert!((0..row.len()).all(|n| decode(&row[..n]).is_none()));
        assert_eq!(decode(&encode(Sums { seconds: f64::NAN, ..costs.0["a"] })), None);
    }
}
