//! Bytes that stay in memory for those that read them next, shared by all threads.
//!
//! What has no reader left goes at once. Where memory is short the oldest go first: nodes are worked on in the
//! order of their numbers, so those wait for a reader that comes late. Whoever misses them reads them again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::bytes::Bytes;
use super::error::BuildError;
use crate::plan::NodeId;

/// The bytes of one node, once they are there. Locked while somebody reads them in.
type Slot = Arc<Mutex<Option<Bytes>>>;

pub struct Warm(Mutex<Slots>);

struct Slots {
    slots: BTreeMap<NodeId, Slot>,
    /// How many times each node may still be read.
    readers: Vec<usize>,
    /// Bytes in memory of each slot, and of all.
    sizes: BTreeMap<NodeId, u64>,
    total: u64,
}

impl Slots {
    fn set(&mut self, node: NodeId, n_bytes: u64) {
        self.total += n_bytes;
        self.total -= self.sizes.insert(node, n_bytes).unwrap_or(0);
    }

    fn remove(&mut self, node: NodeId) {
        self.slots.remove(&node);
        self.total -= self.sizes.remove(&node).unwrap_or(0);
    }
}

impl Warm {
    /// Knows how many times each node may be read, by node number.
    pub fn new(readers: Vec<usize>) -> Self {
        Self(Mutex::new(Slots { slots: BTreeMap::new(), readers, sizes: BTreeMap::new(), total: 0 }))
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().expect("no thread panics with it")
    }

    /// A node's bytes; those that are not here are loaded, by one thread while others wait for it, and kept if
    /// they have readers.
    pub fn get(
        &self,
        node: NodeId,
        load: impl FnOnce() -> Result<Bytes, BuildError>,
    ) -> Result<Bytes, BuildError> {
        let slot = {
            let mut slots = self.slots();
            if slots.readers[node.index()] == 0 && !slots.slots.contains_key(&node) {
                drop(slots);
                return load();
            }
            Arc::clone(slots.slots.entry(node).or_default())
        };
        let mut held = slot.lock().expect("no thread panics with it");
        if let Some(bytes) = &*held {
            return Ok(bytes.clone());
        }
        let bytes = load()?;
        *held = Some(bytes.clone());
        drop(held);
        let mut slots = self.slots();
        if slots.slots.get(&node).is_some_and(|now| Arc::ptr_eq(now, &slot)) {
            slots.set(node, bytes.in_memory());
        }
        Ok(bytes)
    }

    /// Keeps a node's bytes, if they have readers.
    pub fn put(&self, node: NodeId, bytes: &Bytes) {
        let mut slots = self.slots();
        if slots.readers[node.index()] > 0 {
            slots.slots.insert(node, Arc::new(Mutex::new(Some(bytes.clone()))));
            slots.set(node, bytes.in_memory());
        }
    }

    /// One reader of each of these nodes is done with it, or will not read it after all.
    pub fn release(&self, nodes: impl Iterator<Item = NodeId>) {
        let mut slots = self.slots();
        for node in nodes {
            slots.readers[node.index()] -= 1;
            if slots.readers[node.index()] == 0 {
                slots.remove(node);
            }
        }
    }

    /// Lets go of what takes memory until no more than so many bytes are kept.
    pub fn shrink_to(&self, n_bytes: u64) {
        let mut slots = self.slots();
        while slots.total > n_bytes {
            let oldest = slots.sizes.iter().find(|(_, size)| **size > 0).map(|(node, _)| *node);
            slots.remove(oldest.expect("the total is the sum of the sizes"));
        }
    }

    /// Bytes that are kept in memory.
    pub fn total(&self) -> u64 {
        self.slots().total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(n: usize) -> Bytes {
        Bytes::Memory(Arc::new(vec![7; n]))
    }

    fn loaded(warm: &Warm, node: usize, n: usize) -> bool {
        let mut is_loaded = false;
        let load = || {
            is_loaded = true;
            Ok(bytes(n))
        };
        assert_eq!(warm.get(NodeId::new(node), load).unwrap().n_bytes(), n);
        is_loaded
    }

    #[test]
    fn bytes_stay_for_their_readers_and_no_longer() {
        let warm = Warm::new(vec![2, 1, 0]);
        let node = NodeId::new;
        assert!(loaded(&warm, 0, 5) && !loaded(&warm, 0, 5));
        warm.put(node(1), &bytes(3));
        warm.put(node(2), &bytes(9));
        assert!(!loaded(&warm, 1, 3) && loaded(&warm, 2, 9) && loaded(&warm, 2, 9));
        assert_eq!(warm.total(), 8);
        warm.release([node(0), node(1)].into_iter());
        assert_eq!(warm.total(), 5);
        warm.release([node(0)].into_iter());
        assert_eq!(warm.total(), 0);
        assert!(loaded(&warm, 0, 5) && warm.total() == 0);
    }

    #[test]
    fn the_oldest_make_room() {
        let warm = Warm::new(vec![1; 3]);
        (0..3).for_each(|node| warm.put(NodeId::new(node), &bytes(10)));
        warm.shrink_to(25);
        assert_eq!(warm.total(), 20);
        assert!(!loaded(&warm, 1, 10) && loaded(&warm, 0, 10));
        warm.shrink_to(0);
        assert_eq!(warm.total(), 0);
    }

    #[test]
    fn what_cannot_be_loaded_is_tried_again() {
        let warm = Warm::new(vec![1]);
        assert!(warm.get(NodeId::new(0), || Err(BuildError::Interrupted)).is_err());
        assert!(loaded(&warm, 0, 4) && !loaded(&warm, 0, 4));
    }
}
