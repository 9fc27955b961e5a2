//! lamarck builds model merges as Make builds programs.

pub mod build;
pub mod digest;
pub mod identity;
pub mod kernels;
pub mod manifest;
pub mod mapping;
pub mod methods;
pub mod model;
pub mod plan;
pub mod recipe;
pub mod store;
pub mod tensor;
