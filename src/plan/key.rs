//! What goes into an action's key.
//!
//! | in the key | not in the key |
//! | --- | --- |
//! | the format below, the operation and its version | lamarck's version |
//! | each input's role, dtype, shape and digest, in order | paths, repositories, revisions, shards, stamps |
//! | every field that can change a byte, by name | the recipe's spelling, parameters without effect |
//! | the dtypes of arithmetic and of the result, the result's shape | threads, memory, host, CPU features |
//! | the random stream, for inputs that draw | stage and tensor names otherwise |

use std::sync::LazyLock;

use super::graph::{Action, NodeId, Plan};
use crate::digest::{ActionKey, Digest};
use crate::manifest::{KeyHasher, ManifestText, Sink, SinkExt};

/// Raised whenever the same fields come to mean other bytes.
const ACTION_FORMAT: u64 = 1;

/// The names of an input's fields.
struct InputFields {
    role: String,
    dtype: String,
    shape: String,
    digest: String,
}

impl InputFields {
    fn of(number: usize) -> Self {
        let name = |field: &str| format!("inputs[{number}].{field}");
        Self { role: name("role"), dtype: name("dtype"), shape: name("shape"), digest: name("digest") }
    }
}

/// Those of the first inputs, since every key has some.
static FIRST_INPUTS: LazyLock<[InputFields; 16]> = LazyLock::new(|| std::array::from_fn(InputFields::of));

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

/// Writes the fields of an action's key, given the digests of its inputs in their order.
pub fn write(plan: &Plan, node: NodeId, digests: &[Digest], sink: &mut dyn Sink) {
    let Action { owner: _, op, inputs, output, origins: _ } = plan.action(node);
    assert_eq!(inputs.len(), digests.len(), "a key holds the digest of every input");
    sink.integer("format", ACTION_FORMAT);
    sink.text("method", op.name());
    sink.integer("method.version", op.version().into());
    op.write_fields(sink);
    for (i, (input, digest)) in inputs.iter().zip(digests).enumerate() {
        let spec = plan[input.node].spec();
        let further;
        let names = match FIRST_INPUTS.get(i) {
            Some(names) => names,
            None => {
                further = InputFields::of(i);
                &further
            }
        };
        sink.text(&names.role, input.role.0);
        sink.text(&names.dtype, spec.dtype.name());
        sink.text(&names.shape, &spec.shape.to_string());
        sink.digest(&names.digest, digest);
    }
    sink.text("output.dtype", output.dtype.name());
    sink.text("output.shape", &output.shape.to_string());
}
