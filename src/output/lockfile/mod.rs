//! `lamarck.lock.json`: what an output was made of, enough to make it again and to prove it the same.

pub mod reading;
pub mod writing;

/// Raised whenever fields change their meaning.
const FORMAT: u64 = 1;
