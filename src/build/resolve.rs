//! The one walk over the action graph: which results are known, which are missing, and of which neither can be
//! told before something runs.
//!
//! Here alone the digests of inputs are turned into keys and the cache is asked: level by level, all keys of a
//! level at once. `plan` and `explain` stop where nothing more is known; a build goes on from there with every
//! digest that it finds.

use rayon::prelude::*;

use crate::digest::{ActionKey, Digest};
use crate::plan::{Node, NodeId, Plan, key};
use crate::store::{ActionCache, StoreError};

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its digest: a source that was read before, or an action, under its key, that the cache knows.
    Known { digest: Digest, key: Option<ActionKey> },
    /// A source that no build has read in its present state, or an action, under its key, that the cache does
    /// not know.
    Missing { key: Option<ActionKey> },
    /// An action of whose inputs not all are known.
    Unknown,
}

impl State {
    pub fn digest(self) -> Option<Digest> {
        match self {
            Self::Known { digest, .. } => Some(digest),
            Self::Missing { .. } | Self::Unknown => None,
        }
    }

    /// The key of an action whose inputs are known.
    pub fn key(self) -> Option<ActionKey> {
        match self {
            Self::Known { key, .. } | Self::Missing { key } => key,
            Self::Unknown => None,
        }
    }
}

/// So many sources or keys at least are looked up or made by one thread.
const MANY: usize = 64;

/// What is known of every node of a plan.
pub struct Resolution<'a> {
    plan: &'a Plan,
    /// `None` stands for a cache that knows nothing.
    cache: Option<&'a dyn ActionCache>,
    /// By node number.
    states: Vec<State>,
    /// How many inputs of a node are not known.
    unknown: Vec<usize>,
}

impl<'a> Resolution<'a> {
    /// Resolves as much as can be without running anything; `remembered` gives what a source was found to hold.
    pub fn new(
        plan: &'a Plan,
        cache: Option<&'a dyn ActionCache>,
        remembered: impl Fn(NodeId) -> Result<Option<Digest>, StoreError> + Sync,
    ) -> Result<Self, StoreError> {
        let mut states = vec![State::Unknown; plan.len()];
        let mut known = Vec::new();
        let sources: Vec<NodeId> =
            plan.nodes().filter(|node| matches!(plan[*node], Node::Source(_))).collect();
        let digests: Vec<Option<Digest>> =
            sources.par_iter().with_min_len(MANY).map(|node| remembered(*node)).collect::<Result<_, _>>()?;
        for (node, digest) in sources.into_iter().zip(digests) {
            states[node.index()] = match digest {
                Some(digest) => {
                    known.push(node);
                    State::Known { digest, key: None }
                }
                None => State::Missing { key: None },
            };
        }
        let unknown = plan.nodes().map(|node| plan[node].inputs().len()).collect();
        let mut resolution = Self { plan, cache, states, unknown };
        // What reads nothing can be looked up at once.
        let of_nothing = plan.actions().filter(|(_, action)| action.inputs.is_empty());
        known.extend(resolution.look_up(of_nothing.map(|(node, _)| node).collect())?);
        resolution.spread(known)?;
        Ok(resolution)
    }

    pub fn state(&self, node: NodeId) -> State {
        self.states[node.index()]
    }

    /// Notes the digest of a node that was missing. Gives the nodes of which something is known only now, each
    /// behind what it reads.
    pub fn learn(&mut self, node: NodeId, digest: Digest) -> Result<Vec<NodeId>, StoreError> {
        let State::Missing { key } = self.state(node) else { unreachable!("a node is learned of once") };
        self.states[node.index()] = State::Known { digest, key };
        self.spread(vec![node])
    }

    /// Looks up what reads the nodes that have just become known, and what reads that.
    fn spread(&mut self, mut known: Vec<NodeId>) -> Result<Vec<NodeId>, StoreError> {
        let mut resolved = Vec::new();
        while !known.is_empty() {
            let mut level = Vec::new();
            for node in known.drain(..) {
                for reader in self.plan.readers(node) {
                    let left = &mut self.unknown[reader.index()];
                    *left -= 1;
                    if *left == 0 {
                        level.push(reader);
                    }
                }
            }
            level.sort_unstable();
            resolved.extend(&level);
            known = self.look_up(level)?;
        }
        Ok(resolved)
    }

    /// Looks up actions whose inputs are known, all keys at once. Gives those that the cache knows.
    fn look_up(&mut self, level: Vec<NodeId>) -> Result<Vec<NodeId>, StoreError> {
        let keys: Vec<ActionKey> = level.par_iter().with_min_len(MANY).map(|node| self.key(*node)).collect();
        let found = match self.cache {
            Some(cache) => cache.get_many(&keys)?,
            None => vec![None; keys.len()],
        };
        let mut known = Vec::new();
        for ((node, key), found) in level.into_iter().zip(keys).zip(found) {
            let n_bytes = self.plan[node].spec().n_bytes() as u64;
            self.states[node.index()] = match found {
                Some((digest, of)) if of == n_bytes => {
                    known.push(node);
                    State::Known { digest, key: Some(key) }
                }
                _ => State::Missing { key: Some(key) },
            };
        }
        Ok(known)
    }

    fn key(&self, node: NodeId) -> ActionKey {
        key::action_key(self.plan, node, &self.inputs(node).expect("all inputs are known"))
    }

    /// The digests of a node's inputs, if all are known.
    pub fn inputs(&self, node: NodeId) -> Option<Vec<Digest>> {
        self.plan[node].inputs().iter().map(|input| self.state(input.node).digest()).collect()
    }
}
