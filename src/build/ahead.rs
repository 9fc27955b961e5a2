//! Tells the disk what the next cone will read, while this one computes.

use std::collections::HashMap;
use std::fs::File;

use super::status::source_range;
use super::{Build, BuildError, Bytes};
use crate::digest::Digest;
use crate::disk;
use crate::plan::{Node, NodeId, key};

/// Has the disk begin to read the sources of a cone that no build has read yet, and the results in the store
/// that actions of the cone need to run.
pub(super) fn announce(build: &Build<'_>, nodes: &[NodeId]) -> Result<(), BuildError> {
    let Build { context, snapshot, .. } = build;
    let mut digests: HashMap<NodeId, Digest> = HashMap::new();
    for node in nodes {
        match &context.plan[*node] {
            Node::Source(source) => {
                let range = source_range(&context.checkpoints[source.model.0], &source.tensor);
                match snapshot.remembered(&range)? {
                    Some(content) if !context.rehash => {
                        digests.insert(*node, content.digest);
                    }
                    _ => will_read(&build.source_bytes(source)),
                }
            }
            Node::Action(_) => {
                let inputs = context.plan[*node].inputs();
                let known: Vec<Option<Digest>> =
                    inputs.iter().map(|input| digests.get(&input.node).copied()).collect();
                let all: Option<Vec<Digest>> = known.iter().copied().collect();
                let key = all.map(|all| key::action_key(context.plan, *node, &all));
                if let Some((digest, _)) = key.map(|key| snapshot.action(&key)).transpose()?.flatten() {
                    digests.insert(*node, digest);
                    continue;
                }
                for (input, digest) in inputs.iter().zip(known) {
                    match &context.plan[input.node] {
                        Node::Source(source) => will_read(&build.source_bytes(source)),
                        Node::Action(action) => {
                            let path = digest.map(|digest| context.store.blob_path(&digest));
                            if let Some(Ok(blob)) = path.map(File::open) {
                                disk::will_read(&blob, 0, action.output.n_bytes() as u64);
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn will_read(bytes: &Bytes) {
    if let Bytes::Source { shard, offset, n_bytes } = bytes {
        shard.will_read(*offset, *n_bytes as u64);
    }
}
