//! A tensor that is not floating-point: all inputs must be equal, and the result is any of them.

use super::contract::{Access, Op};
use crate::manifest::Sink;
use crate::tensor::TensorSpec;

#[derive(Debug)]
pub struct Identical;

impl Op for Identical {
    fn name(&self) -> &'static str {
        "identical"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, _sink: &mut dyn Sink) {}

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [first, rest @ ..] = inputs else { return Err("has no inputs".to_owned()) };
        match rest.iter().find(|other| **other != *first) {
            Some(other) => Err(format!("has inputs {first} and {other}, which cannot be equal")),
            None => Ok((*first).clone()),
        }
    }

    fn access(&self) -> Access<'_> {
        Access::Digests
    }
}
