//! Bytes that stay in memory for those that read them next, shared by all threads.
//!
//! What has no reader left goes at once. Where memory is short the oldest go first: nodes are worked on in the
//! order of their numbers, so those wait for a reader that comes late. Whoever misses them reads them again. What is
//! nowhere else goes last, and into a file.

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
    /// What each slot takes, and all.
    sizes: BTreeMap<NodeId, Size>,
    total: u64,
}

/// What a slot takes.
#[derive(Clone, Copy, Default)]
struct Size {
    in_memory: u64,
    /// Whether the bytes are nowhere else.
    only_here: bool,
}

impl Slots {
    fn set(&mut self, node: NodeId, size: Size) {
        self.total += size.in_memory;
        self.total -= self.sizes.insert(node, size).unwrap_or_default().in_memory;
    }

    fn remove(&mut self, node: NodeId) {
        self.slots.remove(&node);
        self.total -= self.sizes.remove(&node).unwrap_or_default().in_memory;
    }

    /// The oldest slot that takes memory.
    fn oldest(&self, only_here: bool) -> Option<NodeId> {
        let takes = |(node, size): (&NodeId, &Size)| {
            (size.in_memory > 0 && size.only_here == only_here).then_some(*node)
        };
        self.sizes.iter().find_map(takes)
    }

    fn only_here(&self) -> u64 {
        self.sizes.values().filter(|size| size.only_here).map(|size| size.in_memory).sum()
    }

    /// Lets go of what is elsewhere, too, until no more than so many bytes are kept, or nothing is left of it.
    fn drop_to(&mut self, n_bytes: u64) {
        while self.total > n_bytes
            && let Some(oldest) = self.oldest(false)
        {
            self.remove(oldest);
        }
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
            slots.set(node, Size { in_memory: bytes.in_memory(), only_here: false });
        }
        Ok(bytes)
    }

    /// Keeps a node's bytes, if they have readers; says whether they are to be had nowhere else.
    pub fn put(&self, node: NodeId, bytes: &Bytes, only_here: bool) {
        let mut slots = self.slots();
        if slots.readers[node.index()] > 0 {
            slots.slots.insert(node, Arc::new(Mutex::new(Some(bytes.clone()))));
            slots.set(node, Size { in_memory: bytes.in_memory(), only_here });
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

    /// Lets go of what takes memory until no more than so many bytes are kept. What is nowhere else is replaced by
    /// what `spill` makes of it; whoever reads it meanwhile waits.
    pub fn shrink_to(
        &self,
        n_bytes: u64,
        spill: impl Fn(&Bytes) -> Result<Bytes, BuildError>,
    ) -> Result<(), BuildError> {
        let mut to_spill = Vec::new();
        {
            let mut slots = self.slots();
            slots.drop_to(n_bytes);
            while slots.total > n_bytes {
                let oldest = slots.oldest(true).expect("the total is the sum of the sizes");
                slots.set(oldest, Size { in_memory: 0, only_here: true });
                to_spill.push(Arc::clone(&slots.slots[&oldest]));
            }
        }
        for slot in to_spill {
            let mut held = slot.lock().expect("no thread panics with it");
            *held = held.take().map(|bytes| spill(&bytes)).transpose()?;
        }
        Ok(())
    }

    /// Lets go of what is elsewhere, too, until no more than so many bytes are kept. Says whether that is enough, and
    /// keeps all if it is not.
    pub fn make_room(&self, n_bytes: u64) -> bool {
        let mut slots = self.slots();
        let is_enough = slots.only_here() <= n_bytes;
        if is_enough {
            slots.drop_to(n_bytes);
        }
        is_enough
    }

    /// Bytes that are kept in memory and are nowhere else.
    pub fn only_here(&self) -> u64 {
        self.slots().only_here()
    }

    /// Bytes that are kept in memory.
    pub fn total(&self) -> u64 {
        self.slots().total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::bytes::Run;

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
        warm.put(node(1), &bytes(3), false);
        warm.put(node(2), &bytes(9), false);
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
        let shrink_to = |n| warm.shrink_to(n, |_| panic!("all can be had again")).unwrap();
        (0..3).for_each(|node| warm.put(NodeId::new(node), &bytes(10), false));
        shrink_to(25);
        assert_eq!(warm.total(), 20);
        assert!(!loaded(&warm, 1, 10) && loaded(&warm, 0, 10));
        shrink_to(0);
        assert_eq!(warm.total(), 0);
    }

    #[test]
    fn what_is_nowhere_else_goes_last_and_is_not_lost() {
        let warm = Warm::new(vec![1; 4]);
        (0..4).for_each(|node| warm.put(NodeId::new(node), &bytes(10), node != 2));
        assert!(!warm.make_room(29) && warm.total() == 40, "what would not be enough is not done");
        assert!(warm.make_room(30) && warm.total() == 30);
        assert!(loaded(&warm, 2, 10));
        let spilled = Mutex::new(0);
        let spill = |bytes: &Bytes| {
            *spilled.lock().unwrap() += bytes.n_bytes();
            Ok(Bytes::joined(vec![Run { bytes: bytes.clone(), range: 0..bytes.n_bytes() }]))
        };
        warm.shrink_to(15, spill).unwrap();
        assert_eq!((warm.total(), spilled.into_inner().unwrap()), (10, 20), "the oldest two");
        assert!(!loaded(&warm, 0, 10) && !loaded(&warm, 1, 10) && !loaded(&warm, 3, 10));
        assert!(loaded(&warm, 2, 10), "it was dropped");
    }

    #[test]
    fn what_cannot_be_loaded_is_tried_again() {
        let warm = Warm::new(vec![1]);
        assert!(warm.get(NodeId::new(0), || Err(BuildError::Interrupted)).is_err());
        assert!(loaded(&warm, 0, 4) && !loaded(&warm, 0, 4));
    }
}
