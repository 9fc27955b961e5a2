//! Stored elements to f32 and back, rounding to nearest even.
