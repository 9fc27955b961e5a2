//! lamarck builds model merges as Make builds programs.

pub mod digest;
pub mod kernels;
pub mod manifest;
pub mod methods;
pub mod model;
pub mod recipe;
pub mod tensor;
