//! Tests that drive the binary: one target, so that it is linked once.

mod architectures;
mod bad_input;
mod checkpoints;
mod commands;
mod conformance;
mod crash;
mod damage;
mod determinism;
mod eviction;
mod guests;
mod fp8;
mod golden;
mod harness;
mod history;
mod hostile;
mod increment;
mod keys;
mod layers;
mod machine;
mod outputs;
mod proof;
mod recipes;
mod soak;
mod sources;
mod tidy;
mod upgrade;
