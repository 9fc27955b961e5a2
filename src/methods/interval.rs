//! Which numbers a parameter takes.

use std::fmt;
use std::ops::{Bound, RangeBounds};

/// An interval of numbers, each end of it closed, open or absent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub min: Bound<f64>,
    pub max: Bound<f64>,
}

impl Interval {
    /// All numbers.
    pub const ALL: Self = Self { min: Bound::Unbounded, max: Bound::Unbounded };

    pub fn contains(&self, number: f64) -> bool {
        (self.min, self.max).contains(&number)
    }
}

impl fmt::Display for Interval {
    /// As it goes on from "must be" or "is not"; nothing for all numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Bound::Included(min), Bound::Included(max)) = (self.min, self.max) {
            return write!(f, "between {min} and {max}");
        }
        match self.min {
            Bound::Included(min) => write!(f, "at least {min}")?,
            Bound::Excluded(min) => write!(f, "above {min}")?,
            Bound::Unbounded => {}
        }
        if self.min != Bound::Unbounded && self.max != Bound::Unbounded {
            f.write_str(" and ")?;
        }
        match self.max {
            Bound::Included(max) => write!(f, "at most {max}"),
            Bound::Excluded(max) => write!(f, "below {max}"),
            Bound::Unbounded => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bound::{Excluded, Included, Unbounded};
    use super::*;

    #[test]
    fn ends_are_closed_open_or_absent() {
        let cases = [
            (Included(0.0), Included(1.0), [true, true, true], "between 0 and 1"),
            (Excluded(0.0), Excluded(1.0), [false, true, false], "above 0 and below 1"),
            (Included(0.0), Excluded(1.0), [true, true, false], "at least 0 and below 1"),
            (Excluded(0.0), Included(1.0), [false, true, true], "above 0 and at most 1"),
            (Included(0.5), Unbounded, [false, true, true], "at least 0.5"),
            (Excluded(0.5), Unbounded, [false, false, true], "above 0.5"),
            (Unbounded, Included(0.5), [true, true, false], "at most 0.5"),
            (Unbounded, Excluded(0.5), [true, false, false], "below 0.5"),
            (Unbounded, Unbounded, [true, true, true], ""),
        ];
        for (min, max, expected, text) in cases {
            let interval = Interval { min, max };
            assert_eq!([0.0, 0.5, 1.0].map(|number| interval.contains(number)), expected, "{interval}");
            assert_eq!(interval.to_string(), text);
        }
        assert!(Interval { min: Included(0.0), max: Unbounded }.contains(-0.0));
    }
}
