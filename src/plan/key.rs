//! What goes into an action's key.
//!
//! | in the key | not in the key |
//! | --- | --- |
//! | the format below, the method and its version | lamarck's version |
//! | each input's role, dtype, shape and digest, in order | paths, repositories, revisions, shards, stamps |
//! | every resolved parameter that can change a byte, by name | the recipe's spelling, parameters without effect |
//! | the dtypes of arithmetic and of the result, the result's shape | threads, memory, host, CPU features |
//! | the random stream, for inputs that draw | stage and tensor names otherwise |

use super::{Action, Node, NodeId, Plan, Task};
use crate::digest::{ActionKey, Digest};
use crate::manifest::{KeyHasher, ManifestText, Sink, SinkExt};

/// Raised whenever the same fields come to mean other bytes.
const ACTION_FORMAT: u64 = 1;

/// The key of an action whose inputs have these digests.
pub fn action_key(plan: &Plan, node: NodeId, inputs: &[Digest]) -> ActionKey {
    let mut hasher = KeyHasher::default();
    write(plan, node, inputs, &mut hasher);
    hasher.finish()
}

/// The same fields as readable text.
pub fn action_manifest(plan: &Plan, node: NodeId, inputs: &[Digest]) -> String {
    let mut text = ManifestText::default();
    write(plan, node, inputs, &mut text);
    text.finish()
}

fn write(plan: &Plan, node: NodeId, digests: &[Digest], sink: &mut dyn Sink) {
    let Node::Action(Action { stage: _, tensor: _, task, spec, origins: _ }) = &plan.graph[node] else {
        unreachable!("only actions have keys");
    };
    sink.integer("format", ACTION_FORMAT);
    match task {
        Task::Compute { method, operation, compute, inputs: _ } => {
            sink.text("method", method.name);
            sink.integer("method.version", method.version.into());
            operation.write_manifest(sink);
            sink.text("compute", compute.map_or("as stored", |dtype| dtype.name()));
        }
        Task::Identical { inputs: _ } => sink.text("method", "identical"),
        Task::Join { inputs: _ } => sink.text("method", "join"),
    }
    for (i, (label, (input, digest))) in
        task.labels().iter().zip(plan.inputs(node).into_iter().zip(digests)).enumerate()
    {
        let input = plan.graph[input].spec();
        sink.text(&format!("inputs[{i}].role"), if label.is_base { "base" } else { "model" });
        sink.text(&format!("inputs[{i}].dtype"), input.dtype.name());
        sink.text(&format!("inputs[{i}].shape"), &input.shape.to_string());
        sink.text(&format!("inputs[{i}].digest"), &digest.to_string());
    }
    sink.text("output.dtype", spec.dtype.name());
    sink.text("output.shape", &spec.shape.to_string());
}
