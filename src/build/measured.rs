//! How long the work on each node took, also in a build that did not come to its end.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::plan::NodeId;

/// The work on one node: a source that was hashed, or an action that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub node: NodeId,
    /// How many threads it had to itself; all of them for what is worked on in blocks.
    pub threads: usize,
    /// Since the measuring began.
    pub began: Duration,
    /// By the clock.
    pub took: Duration,
}

impl Work {
    /// Seconds that its threads had no other work.
    pub fn thread_seconds(&self) -> f64 {
        self.took.as_secs_f64() * self.threads as f64
    }
}

/// What was measured so far.
#[derive(Debug)]
pub struct Measured {
    began: Instant,
    work: Mutex<Vec<Work>>,
}

impl Default for Measured {
    fn default() -> Self {
        Self { began: Instant::now(), work: Mutex::default() }
    }
}

impl Measured {
    /// Does the work on a node and notes how long it took, unless it fails.
    pub fn work<T, E>(
        &self,
        node: NodeId,
        threads: usize,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let began = self.began.elapsed();
        let result = work()?;
        let took = self.began.elapsed() - began;
        let mut all = self.work.lock().expect("no thread panics with it");
        all.push(Work { node, threads, began, took });
        Ok(result)
    }

    /// All of it, in the order in which it ended.
    pub fn all(&self) -> Vec<Work> {
        self.work.lock().expect("no thread panics with it").clone()
    }
}
