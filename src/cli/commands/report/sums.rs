//! Statistics of several tensors as one.

use crate::project::Moved;

/// How far tensors moved, added up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distance {
    change: f64,
    base: f64,
}

impl Distance {
    pub fn of(moved: &Moved) -> Self {
        let [change, base] = moved.change.squares();
        Self { change, base }
    }

    pub fn add(&mut self, other: &Self) {
        self.change += other.change;
        self.base += other.base;
    }

    /// The norm of the change as a part of the base's; 0 where nothing changed.
    pub fn relative(&self) -> f64 {
        if self.base == 0.0 { 0.0 } else { (self.change / self.base).sqrt() }
    }
}

/// How much of a change goes the way of each of some models, added up.
#[derive(Clone, Debug)]
pub struct Shares(Vec<f64>);

impl Shares {
    /// By the places of the models in a list; a model that is met twice counts with both.
    pub fn of(moved: &Moved, models: &[String]) -> Self {
        let mut along = vec![0.0; models.len()];
        for (model, part) in moved.models.iter().zip(moved.change.along()) {
            if let Some(place) = models.iter().position(|known| known == model) {
                along[place] += part;
            }
        }
        Self(along)
    }

    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, more)| *sum += more);
    }

    /// Parts of the whole, which is 1; `None` where nothing changed.
    pub fn parts(&self) -> Option<Vec<f64>> {
        let total: f64 = self.0.iter().sum();
        (total > 0.0).then(|| self.0.iter().map(|along| along / total).collect())
    }
}
