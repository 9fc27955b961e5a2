//! lamarck builds model merges as Make builds programs.

pub mod atomic;
pub mod build;
pub mod cli;
pub mod digest;
pub mod history;
pub mod identity;
pub mod kernels;
pub mod manifest;
pub mod mapping;
pub mod methods;
pub mod model;
pub mod output;
pub mod plan;
pub mod recipe;
pub mod store;
pub mod tensor;
pub mod workspace;
