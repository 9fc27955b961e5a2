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
    /// If there are no measurements.
    pub fn of(measurements: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = measurements.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1).expect("there are measurements");
        // Of three measurements the quartiles are the least and the greatest.
        Self { median: sorted[sorted.len() / 2], low: sorted[last / 4], high: sorted[last - last / 4] }
    }
}

impl std::fmt::Display for Spread {
    /// `1.234 (1.200-1.301)`, with as many digits as are asked for.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(3);
        let Self { median, low, high } = self;
        write!(f, "{median:.digits$} ({low:.digits$}-{high:.digits$})")
    }
}
