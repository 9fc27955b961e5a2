//! Philox4x32-10, a counter-based random generator.
//!
//! Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011).

/// Identifies one independent sequence of draws: the generator's key and the upper half of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub key: [u32; 2],
    pub high: [u32; 2],
}
