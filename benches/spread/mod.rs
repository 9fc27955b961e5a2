//! What many measurements of one thing say together: their median, and how far they lie apart.

/// The median of some measurements, and the quartiles around it.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// # Panics
    /// If there are no measurements, or one is not a number.
    pub fn of(measurements: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = measurements.into_iter().collect();
        sorted.sort_by(|a, b| a.partial_cmp(b).expect("measurements are numbers"));
        let last = sorted.len().checked_sub(1).expect("there are measurements");
        // Nearest ranks: of three measurements the quartiles are the least and the greatest.
        let at = |part: f64| sorted[(part * last as f64).round() as usize];
        let quarter = 0.25 * last as f64;
        Self {
            median: at(0.5),
            low: sorted[quarter.floor() as usize],
            high: sorted[last - quarter.floor() as usize],
        }
    }
}

impl std::fmt::Display for Spread {
    /// `1.234 (1.200-1.301)`, with as many digits as are asked for.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(3);
        let Self { median, low, high } = self;
        f.pad(&format!("{median:.digits$} ({low:.digits$}-{high:.digits$})"))
    }
}
