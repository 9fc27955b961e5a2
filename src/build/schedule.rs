//! Which node is worked on next: a state machine that knows no files, bytes or threads.
//!
//! Every node is wanted until all that it reads is known, then ready, running, and done. Of those that are ready
//! the one with the smallest number goes first. Numbers follow the output tensors, so that one output after the
//! other is finished while what it is made of is at hand, and a node that many outputs share holds none of them
//! up. A node that is too large to be worked on in memory has all threads, and so the machine, to itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Wanted,
    Ready,
    Running,
    Done,
}

/// What a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes in memory while it is worked on.
    pub n_bytes: u64,
    /// Whether it is worked on by all threads, in blocks.
    pub wide: bool,
}

/// What a thread that has nothing to do should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Work on a node, and tell when it is done.
    Start { node: usize, wide: bool },
    /// Ask again when another node is done.
    Wait,
    /// Nothing is left.
    Finished,
}

/// The states of all nodes.
#[derive(Debug)]
pub struct Schedule {
    steps: Vec<Step>,
    costs: Vec<Cost>,
    ready: BinaryHeap<Reverse<usize>>,
    /// Nodes that are not done.
    left: usize,
    running: usize,
    /// Whether the node that runs is a wide one.
    alone: bool,
    /// What running nodes take.
    in_flight: u64,
    /// The most that nodes may take together, with what is kept for later ones.
    budget: u64,
}

impl Schedule {
    /// All nodes are wanted; costs are by node number.
    pub fn new(costs: Vec<Cost>, budget: u64) -> Self {
        let n = costs.len();
        Self {
            steps: vec![Step::Wanted; n],
            costs,
            ready: BinaryHeap::new(),
            left: n,
            running: 0,
            alone: false,
            in_flight: 0,
            budget,
        }
    }

    /// All that a node reads is there.
    pub fn ready(&mut self, node: usize) {
        self.step(node, Step::Wanted, Step::Ready);
        self.ready.push(Reverse(node));
    }

    /// A wanted node turns out to need no work.
    pub fn skip(&mut self, node: usize) {
        self.step(node, Step::Wanted, Step::Done);
        self.left -= 1;
    }

    /// A running node is done.
    pub fn done(&mut self, node: usize) {
        self.step(node, Step::Running, Step::Done);
        self.left -= 1;
        self.running -= 1;
        self.alone = false;
        self.in_flight -= self.costs[node].n_bytes;
    }

    /// The node to start now, while `kept` bytes stay in memory for later ones that would have to go to a file. One
    /// that does not fit waits for others to end; where none runs it starts all the same, and what is kept must make
    /// room.
    pub fn next(&mut self, kept: u64) -> Next {
        if self.is_finished() {
            return Next::Finished;
        }
        let Some(Reverse(node)) = self.ready.peek().copied() else { return Next::Wait };
        let Cost { n_bytes, wide } = self.costs[node];
        let fits = !wide && !self.alone && self.in_flight + kept + n_bytes <= self.budget;
        if self.running > 0 && !fits {
            return Next::Wait;
        }
        self.ready.pop();
        self.step(node, Step::Ready, Step::Running);
        self.running += 1;
        self.alone = wide;
        self.in_flight += n_bytes;
        Next::Start { node, wide }
    }

    pub fn is_finished(&self) -> bool {
        self.left == 0
    }

    /// The bytes that may be kept in memory for later nodes beside those that run.
    pub fn room(&self) -> u64 {
        self.budget.saturating_sub(self.in_flight)
    }

    fn step(&mut self, node: usize, from: Step, to: Step) {
        assert_eq!(self.steps[node], from, "node {node} cannot become {to:?}");
        self.steps[node] = to;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn narrow(n_bytes: u64) -> Cost {
        Cost { n_bytes, wide: false }
    }

    fn start(schedule: &mut Schedule, kept: u64) -> Option<usize> {
        match schedule.next(kept) {
            Next::Start { node, .. } => Some(node),
            Next::Wait | Next::Finished => None,
        }
    }

    #[test]
    fn the_first_output_comes_first_and_a_shared_node_holds_up_none() {
        // 0 is read by 2 and 4; 1 by 2, 3 by 4.
        let mut schedule = Schedule::new(vec![narrow(1); 5], 100);
        [0, 1, 3].iter().for_each(|node| schedule.ready(*node));
        assert_eq!([start(&mut schedule, 0), start(&mut schedule, 0)], [Some(0), Some(1)]);
        schedule.done(0);
        assert_eq!(start(&mut schedule, 0), Some(3), "1 still runs, and what else there is goes on");
        schedule.done(1);
        schedule.ready(2);
        assert_eq!(start(&mut schedule, 0), Some(2));
        schedule.done(3);
        schedule.ready(4);
        assert_eq!(start(&mut schedule, 0), Some(4), "2 and 4 run side by side");
        schedule.done(4);
        assert_eq!(schedule.next(0), Next::Wait);
        schedule.done(2);
        assert_eq!(schedule.next(0), Next::Finished);
    }

    #[test]
    fn what_does_not_fit_waits_and_what_is_kept_counts() {
        let mut schedule = Schedule::new(vec![narrow(6), narrow(5), narrow(2)], 10);
        (0..3).for_each(|node| schedule.ready(node));
        assert_eq!(start(&mut schedule, 0), Some(0));
        assert_eq!((start(&mut schedule, 0), schedule.room()), (None, 4));
        schedule.done(0);
        assert_eq!(start(&mut schedule, 6), Some(1), "nothing runs, so it starts");
        assert_eq!((schedule.room(), start(&mut schedule, 4)), (5, None));
        assert_eq!(start(&mut schedule, 3), Some(2));
    }

    #[test]
    fn a_wide_node_runs_alone() {
        let wide = Cost { n_bytes: 0, wide: true };
        let mut schedule = Schedule::new(vec![narrow(1), wide, narrow(1)], 10);
        (0..3).for_each(|node| schedule.ready(node));
        assert_eq!((start(&mut schedule, 0), start(&mut schedule, 0)), (Some(0), None));
        schedule.done(0);
        assert_eq!(schedule.next(0), Next::Start { node: 1, wide: true });
        assert_eq!(start(&mut schedule, 0), None);
        schedule.done(1);
        assert_eq!(start(&mut schedule, 0), Some(2));
    }

    proptest! {
        #[test]
        fn every_node_runs_once_behind_what_it_reads_within_the_budget(
            nodes in proptest::collection::vec((0u64..30, 0usize..10, 0usize..10, 0u8..10), 1..40),
            threads in 1usize..4,
            seed: u64,
        ) {
            const BUDGET: u64 = 40;
            let inputs = |node: usize| {
                let (_, a, b, _) = nodes[node];
                [a, b].into_iter().filter(move |back| (1..=node).contains(back)).map(move |back| node - back)
            };
            let costs: Vec<Cost> =
                nodes.iter().map(|(n, .., kind)| Cost { n_bytes: *n, wide: *kind == 0 }).collect();
            let mut schedule = Schedule::new(costs.clone(), BUDGET);
            let (mut done, mut announced) = (vec![false; nodes.len()], vec![false; nodes.len()]);
            let (mut running, mut order, mut dice) = (Vec::new(), Vec::new(), seed);
            loop {
                for node in 0..nodes.len() {
                    if !announced[node] && inputs(node).all(|input| done[input]) {
                        announced[node] = true;
                        // Some turn out to be known.
                        if nodes[node].3 == 9 {
                            schedule.skip(node);
                            done[node] = true;
                        } else {
                            schedule.ready(node);
                        }
                    }
                }
                let next = if running.len() < threads { schedule.next(0) } else { Next::Wait };
                match next {
                    Next::Finished => break,
                    Next::Start { node, wide } => {
                        prop_assert!(inputs(node).all(|input| done[input]));
                        running.push(node);
                        order.push(node);
                        let total: u64 = running.iter().map(|node| costs[*node].n_bytes).sum();
                        prop_assert!(running.len() == 1 || total <= BUDGET && !wide);
                        prop_assert!(running.len() == 1 || running.iter().all(|node| !costs[*node].wide));
                    }
                    Next::Wait => {
                        // A skipped node may have made others ready that were not announced yet.
                        if running.is_empty() {
                            continue;
                        }
                        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let node = running.swap_remove((dice >> 33) as usize % running.len());
                        schedule.done(node);
                        done[node] = true;
                    }
                }
            }
            prop_assert!(done.iter().all(|done| *done));
            order.sort_unstable();
            order.dedup();
            prop_assert_eq!(order.len(), nodes.iter().filter(|node| node.3 != 9).count());
        }
    }
}
