//! The threads of a build: each takes the next node of the schedule, works on it, and says what came of it.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard};

use super::context::{Context, Outcome, Resolved};
use super::error::BuildError;
use super::prefetch::{Prefetch, tell};
use super::reading::accept;
use super::resolve::{Resolution, State};
use super::schedule::{Next, Schedule};
use super::shared::Shared;
use super::spill::spill;
use super::task::Task;
use crate::event::Event;
use crate::plan::{Node, NodeId};
use crate::store::range::{FileRange, RangeContent};

/// What the store remembers of sources, by node.
pub type Remembered = HashMap<NodeId, (FileRange, RangeContent)>;

/// Resolves every node: takes what is known as it is, and runs what is missing, on as many threads as the build has.
pub fn resolve_all(
    shared: &Shared<'_>,
    remembered: Remembered,
    resolution: Resolution<'_>,
) -> Result<(), BuildError> {
    let costs = shared.context.plan.nodes().map(|node| shared.cost(node)).collect();
    let mut work = Work {
        schedule: Schedule::new(costs, shared.context.budget()),
        remembered,
        resolution,
        prefetch: Prefetch::default(),
        stopped: false,
    };
    for node in shared.context.plan.nodes() {
        work.found(shared, node)?;
    }
    let workers = Workers { shared, work: Mutex::new(work), changed: Condvar::new() };
    if workers.lock().schedule.is_finished() {
        return Ok(());
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=shared.context.threads.current_num_threads())
            .map(|number| {
                let thread = std::thread::Builder::new().name(format!("compute {number}"));
                thread.spawn_scoped(scope, || workers.work()).expect("the system has room for threads")
            })
            .collect();
        let results = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        // Every thread is waited for, whatever the first ones say.
        results.collect::<Vec<Result<(), BuildError>>>().into_iter().collect()
    })
}

/// What the threads take turns at.
struct Work<'r> {
    schedule: Schedule,
    remembered: Remembered,
    resolution: Resolution<'r>,
    prefetch: Prefetch,
    /// Whether some thread has ended, so that the others do too.
    stopped: bool,
}

impl Work<'_> {
    /// Acts on what the resolution has come to know of a node.
    fn found(&mut self, shared: &Shared<'_>, node: NodeId) -> Result<(), BuildError> {
        let plan = shared.context.plan;
        match (self.resolution.state(node), &plan[node]) {
            (State::Unknown, _) => {}
            (State::Missing { .. }, of) => {
                if let Node::Source(source) = of {
                    let model = shared.context.checkpoints[source.model.0].dir.to_string_lossy();
                    let (tensor, bytes) = (source.tensor.as_str(), source.spec.n_bytes() as u64);
                    shared.context.events.event(Event::Unread { model: &model, tensor, bytes });
                }
                self.schedule.ready(node.index());
            }
            (State::Known { .. }, Node::Source(source)) => {
                // What is read in this build is resolved by whoever read it.
                let Some((range, content)) = self.remembered.remove(&node) else { return Ok(()) };
                shared.set_resolved(node, accept(shared, source, range, content, true)?);
                self.schedule.skip(node.index());
            }
            (State::Known { digest, key }, Node::Action(action)) => {
                let (stage, tensor) = (shared.context.stage_name(action), action.owner.tensor.as_str());
                shared.context.events.event(Event::Reused { stage, tensor });
                let something_ran =
                    action.inputs.iter().any(|input| shared.resolved(input.node).outcome != Outcome::Reused);
                let outcome = if something_ran { Outcome::CutOff } else { Outcome::Reused };
                shared.set_resolved(node, Resolved { digest, key, outcome });
                self.schedule.skip(node.index());
                shared.warm.release(action.inputs.iter().map(|input| input.node));
            }
        }
        Ok(())
    }
}

struct Workers<'w, 'a, 'r> {
    shared: &'w Shared<'a>,
    work: Mutex<Work<'r>>,
    changed: Condvar,
}

impl<'r> Workers<'_, '_, 'r> {
    fn lock(&self) -> MutexGuard<'_, Work<'r>> {
        self.work.lock().expect("no thread panics with it")
    }

    /// Works until nothing is left, or until this thread or another fails.
    fn work(&self) -> Result<(), BuildError> {
        let _stop = StopOthers(self);
        let mut work = self.lock();
        loop {
            if work.stopped {
                break;
            }
            match work.schedule.next(self.shared.warm.only_here()) {
                Next::Finished => break,
                Next::Wait => work = self.changed.wait(work).expect("no thread panics with it"),
                Next::Start { node, wide } => {
                    let node = NodeId::new(node);
                    let State::Missing { key } = work.resolution.state(node) else {
                        unreachable!("only what is missing is worked on")
                    };
                    let room = work.schedule.room();
                    let Work { prefetch, resolution, .. } = &mut *work;
                    let ahead = prefetch.advance(node.index(), resolution, self.shared);
                    drop(work);
                    self.shared.warm.shrink_to(room, |bytes| spill(bytes, self.shared.context.store))?;
                    ahead.into_iter().for_each(|node| tell(self.shared, node));
                    let task = Task::new(self.shared, wide, room);
                    let Context { threads, measured, plan, events, .. } = &self.shared.context;
                    if let Node::Action(action) = &plan[node] {
                        let stage = self.shared.context.stage_name(action);
                        events.event(Event::Running { stage, tensor: &action.owner.tensor });
                    }
                    let resolved = if wide {
                        let all = threads.current_num_threads();
                        measured.work(node, all, || threads.install(|| task.resolve(node, key)))
                    } else {
                        measured.work(node, 1, || task.resolve(node, key))
                    }?;
                    work = self.lock();
                    self.done(&mut work, node, resolved)?;
                    self.changed.notify_all();
                }
            }
        }
        Ok(())
    }

    fn done(&self, work: &mut Work<'r>, node: NodeId, resolved: Resolved) -> Result<(), BuildError> {
        let shared = self.shared;
        shared.set_resolved(node, resolved);
        for known in work.resolution.learn(node, resolved.digest)? {
            work.found(shared, known)?;
        }
        work.schedule.done(node.index());
        shared.warm.release(shared.context.plan[node].inputs().iter().map(|input| input.node));
        Ok(())
    }
}

/// Has the other threads end when this one does: nothing is left then, or it has failed or panicked.
struct StopOthers<'s, 'w, 'a, 'r>(&'s Workers<'w, 'a, 'r>);

impl Drop for StopOthers<'_, '_, '_, '_> {
    fn drop(&mut self) {
        if let Ok(mut work) = self.0.work.lock() {
            work.stopped = true;
        }
        self.0.changed.notify_all();
    }
}
