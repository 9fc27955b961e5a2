//! What the work of a build will take, by what it took in earlier ones.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::planned::Planned;
use super::settings::Project;
use super::status::Status;
use crate::build::Measured;
use crate::build::status::Verdict;
use crate::history::Costs;
use crate::plan::{Node, NodeId};
use crate::recipe::Recipe;
use crate::store::{Store, StoreError};

/// Reading a source and hashing it.
const READ: &str = "read";
/// The same, over the network.
const READ_AFAR: &str = "read from the hub";
/// Putting what is not written by the way into its output, and the output into place.
const PUBLISH: &str = "publish";

/// What work is taken to cost on a machine that has built nothing yet: seconds of one thread for a piece of work and
/// for each of its bytes.
const FIRST: (f64, f64) = (2e-4, 1.5e-9);

/// What work costs, by what it cost before.
#[derive(Debug, Default)]
struct Prices(Costs);

impl Prices {
    fn seconds(&self, kind: &str, n_bytes: u64) -> f64 {
        let (start, slope) = FIRST;
        self.0.seconds(kind, n_bytes).unwrap_or(start + slope * n_bytes as f64)
    }
}

/// What each piece of work of a plan will take.
#[derive(Debug)]
pub struct Forecast {
    prices: Prices,
    /// Threads that share the work.
    pub threads: usize,
    /// In the order in which stages depend on one another.
    pub stages: Vec<StageForecast>,
}

/// The actions of one stage.
#[derive(Debug)]
pub struct StageForecast {
    /// The stage's name; empty for whatever stage.
    pub name: String,
    /// Seconds of one thread, by the tensor that the action makes.
    pub actions: HashMap<String, f64>,
}

/// How long a build will take, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// What is done in any case.
    pub least: f64,
    /// With all that may turn out to need no work.
    pub most: f64,
}

impl Forecast {
    /// Of work that nothing is known of but these actions.
    #[cfg(test)]
    pub fn of(stages: Vec<StageForecast>, threads: usize) -> Self {
        Self { prices: Prices::default(), threads, stages }
    }

    /// Seconds that one thread takes to read a source.
    pub fn read(&self, n_bytes: u64) -> f64 {
        self.prices.seconds(READ, n_bytes)
    }
}

/// The kind of work that a node takes, and the bytes that it reads and writes.
fn work(planned: &Planned, node: NodeId) -> (&'static str, u64) {
    let plan = &planned.plan;
    let n_bytes = |node: NodeId| plan[node].spec().n_bytes() as u64;
    match &plan[node] {
        Node::Source(source) => {
            let shard = planned.catalog.checkpoints[source.model.0].shard_of(&source.tensor);
            let kind = if shard.is_some_and(|shard| !shard.is_local()) { READ_AFAR } else { READ };
            (kind, n_bytes(node))
        }
        Node::Action(action) => {
            let read: u64 = action.inputs.iter().map(|input| n_bytes(input.node)).sum();
            (action.op.name(), read + n_bytes(node))
        }
    }
}

/// Notes in a store what the work of a build takes, a few times while it goes on and when it ends, so that it is known
/// however it ends.
pub(super) struct Noting<'a> {
    pub planned: &'a Planned,
    pub measured: &'a Measured,
    pub store: &'a Store,
    /// Bytes of shards that were put in place, and the seconds that all threads together took for them.
    pub published: Mutex<Option<(u64, f64)>>,
}

impl Noting<'_> {
    /// The first time is after so long; each further one after twice as long as the one before.
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);

    /// Notes beside some work, and behind it.
    pub fn beside<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.store.is_read_only() {
            return work();
        }
        thread::scope(|scope| {
            let (end, ended) = channel::<()>();
            let noting = scope.spawn(move || {
                let (mut noted, mut wait) = (0, Self::FIRST);
                while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(wait) {
                    noted = self.note(noted, None);
                    wait = Self::LONGEST.min(wait * 2);
                }
                noted
            });
            let result = work();
            drop(end);
            let noted = noting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.note(noted, *self.published.lock().expect("no thread panics with it"));
            result
        })
    }

    /// Notes what was measured beyond what was noted before; says how much that is in all.
    fn note(&self, noted: usize, published: Option<(u64, f64)>) -> usize {
        let all = self.measured.all();
        let mut costs = Costs::default();
        for piece in &all[noted..] {
            let (kind, n_bytes) = work(self.planned, piece.node);
            costs.add(kind, n_bytes, piece.thread_seconds());
        }
        if let Some((n_bytes, seconds)) = published.filter(|(n_bytes, _)| *n_bytes > 0) {
            costs.add(PUBLISH, n_bytes, seconds);
        }
        // Where it cannot be noted, a build is none the worse.
        let _ = costs.record(self.store.index());
        all.len()
    }
}

impl Project {
    /// So many actions of whatever stage, of which nothing is known but that they are alike.
    pub fn forecast_alike(&self, n_actions: usize) -> Forecast {
        let actions = (0..n_actions).map(|number| (number.to_string(), FIRST.0)).collect();
        let stages = vec![StageForecast { name: String::new(), actions }];
        Forecast { prices: Prices::default(), threads: self.n_threads(), stages }
    }

    fn n_threads(&self) -> usize {
        match self.jobs {
            0 => thread::available_parallelism().map_or(1, usize::from),
            jobs => jobs,
        }
    }

    /// How long a build will take that must write so many bytes of shards; `None` if no build was measured yet.
    pub fn estimate(
        &self,
        planned: &Planned,
        Status { verdicts, costs, .. }: &Status,
        to_publish: u64,
    ) -> Option<Estimate> {
        let prices = Prices(costs.clone());
        if prices.0.is_empty() {
            return None;
        }
        let (mut for_sure, mut perhaps) = (0.0, 0.0);
        for node in planned.plan.nodes() {
            let sum = match verdicts[node] {
                Verdict::Run | Verdict::Read => &mut for_sure,
                Verdict::RunIfChanged => &mut perhaps,
                Verdict::Reuse => continue,
            };
            let (kind, n_bytes) = work(planned, node);
            *sum += prices.seconds(kind, n_bytes);
        }
        if to_publish > 0 {
            for_sure += prices.seconds(PUBLISH, to_publish);
        }
        let threads = self.n_threads() as f64;
        Some(Estimate { least: for_sure / threads, most: (for_sure + perhaps) / threads })
    }

    /// What the work of a plan will take.
    pub fn forecast(&self, recipe: &Recipe, planned: &Planned) -> Forecast {
        let plan = &planned.plan;
        let mut forecast = Forecast { prices: self.prices(), threads: self.n_threads(), stages: Vec::new() };
        let mut numbers = HashMap::new();
        for (number, id) in plan.order.iter().enumerate() {
            numbers.insert(*id, number);
            let name = recipe.stage(*id).name.clone();
            forecast.stages.push(StageForecast { name, actions: HashMap::new() });
        }
        for (node, action) in plan.actions() {
            let (kind, n_bytes) = work(planned, node);
            let seconds = forecast.prices.seconds(kind, n_bytes);
            let stage = &mut forecast.stages[numbers[&action.owner.stage]];
            stage.actions.insert(action.owner.tensor.clone(), seconds);
        }
        forecast
    }

    fn prices(&self) -> Prices {
        // A store that cannot be read is the trouble of whoever needs it.
        Prices(self.costs().unwrap_or_default())
    }

    fn costs(&self) -> Result<Costs, StoreError> {
        match Store::open_existing(&self.cache)? {
            Some(store) => Costs::read(&store.index().snapshot()?),
            None => Ok(Costs::default()),
        }
    }
}
