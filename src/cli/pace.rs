//! How far a build is, and how long the rest of it will take.
//!
//! The rest is what has not run and is not known to need no run, each piece at what its kind took in earlier builds,
//! corrected by how the build goes so far.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::event::{Event, WorkId};
use crate::project::Forecast;

/// Bytes a second are those of so long a time.
const WINDOW: Duration = Duration::from_secs(10);

/// The stage of all actions of which it is not known whose they are.
const ANY: &str = "";

/// What is left when all actions have run.
const OUTPUTS: &str = "writing outputs";

/// Seconds of work for which earlier builds are believed rather than this one.
const TRUST: f64 = 3.0;

/// What was told of a build so far.
pub struct Pace {
    forecast: Forecast,
    stages: HashMap<String, Stage>,
    /// Seconds of one thread, as forecast, that are done and that are left.
    done: f64,
    left: f64,
    /// When work began, and when a piece of it ended last.
    began: Option<Instant>,
    ended: Instant,
    /// Work under way, the latest last.
    running: Vec<Running>,
    /// Bytes that were read or made, with the time.
    recent: VecDeque<(Instant, u64)>,
}

#[derive(Default)]
struct Stage {
    done: usize,
    all: usize,
}

struct Running {
    /// Of reading.
    id: Option<WorkId>,
    /// Empty for reading.
    stage: String,
    tensor: String,
}

impl Pace {
    pub fn new(forecast: Forecast) -> Self {
        let stages = forecast.stages.iter();
        let count = |name: &String, all: usize| (name.clone(), Stage { done: 0, all });
        let left = forecast.stages.iter().flat_map(|stage| stage.actions.values()).sum();
        Self {
            stages: stages.map(|stage| count(&stage.name, stage.actions.len())).collect(),
            forecast,
            done: 0.0,
            left,
            began: None,
            ended: Instant::now(),
            running: Vec::new(),
            recent: VecDeque::new(),
        }
    }

    /// Takes account of something that happened now.
    pub fn take(&mut self, event: &Event<'_>) {
        match *event {
            Event::Unread { bytes, .. } => self.left += self.forecast.read(bytes),
            Event::Started { id, what: "hash source", of } => {
                self.begin(Running { id: Some(id), stage: String::new(), tensor: of.to_owned() });
            }
            Event::Finished { id, .. } => self.running.retain(|running| running.id != Some(id)),
            Event::Progress { bytes, .. } => self.came(bytes),
            Event::Hashed { bytes, .. } => {
                let seconds = self.forecast.read(bytes);
                self.came(bytes);
                self.end(seconds, true);
            }
            Event::Running { stage, tensor } => {
                self.begin(Running { id: None, stage: stage.to_owned(), tensor: tensor.to_owned() });
            }
            Event::Ran { stage, tensor, bytes } => {
                self.came(bytes);
                self.resolve(stage, tensor, true);
            }
            Event::Reused { stage, tensor } => self.resolve(stage, tensor, false),
            _ => {}
        }
    }

    fn begin(&mut self, running: Running) {
        self.began.get_or_insert_with(Instant::now);
        self.running.push(running);
    }

    /// An action needs no more work, because it ran or was found.
    fn resolve(&mut self, stage: &str, tensor: &str, ran: bool) {
        self.running.retain(|running| running.stage != stage || running.tensor != tensor);
        let name = if self.stages.contains_key(stage) { stage } else { ANY };
        if let Some(stage) = self.stages.get_mut(name) {
            // What was lost and is made again counts once.
            stage.done = (stage.done + 1).min(stage.all);
        }
        let of_stage = self.forecast.stages.iter_mut().find(|of| of.name == name);
        let seconds = of_stage.and_then(|of| match name {
            ANY => of.actions.values().next().copied(),
            _ => of.actions.remove(tensor),
        });
        self.end(seconds.unwrap_or(0.0), ran);
    }

    fn end(&mut self, seconds: f64, ran: bool) {
        self.left = (self.left - seconds).max(0.0);
        if ran {
            self.done += seconds;
            self.ended = Instant::now();
        }
    }

    fn came(&mut self, n_bytes: u64) {
        let now = Instant::now();
        self.recent.push_back((now, n_bytes));
        while self.recent.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.recent.pop_front();
        }
    }

    /// Actions that need no more work, and all of them.
    pub fn actions(&self) -> (usize, usize) {
        let stages = self.stages.values();
        stages.fold((0, 0), |(done, all), stage| (done + stage.done, all + stage.all))
    }

    /// `stage 12/579` and the tensor, of the action that was begun last.
    pub fn current(&self) -> Option<(String, String)> {
        let Some(Running { stage, tensor, .. }) = self.running.last() else {
            let (done, all) = self.actions();
            return (done == all && self.began.is_some()).then(|| (OUTPUTS.to_owned(), String::new()));
        };
        let work = match self.stages.get(stage).or_else(|| self.stages.get(ANY)) {
            _ if stage.is_empty() => "reading".to_owned(),
            Some(Stage { done, all }) => format!("{stage} {done}/{all}"),
            None => stage.clone(),
        };
        Some((work, tensor.clone()))
    }

    /// The part of the work that is done, from 0 to 1.
    pub fn part_done(&self) -> f64 {
        let all = self.done + self.left;
        if all > 0.0 { self.done / all } else { 0.0 }
    }

    /// Of late.
    pub fn bytes_per_second(&self, now: Instant) -> f64 {
        let recent = self.recent.iter().filter(|(at, _)| now.saturating_duration_since(*at) <= WINDOW);
        let n_bytes: u64 = recent.map(|(_, n_bytes)| n_bytes).sum();
        let since = self.began.map_or(WINDOW, |began| now.saturating_duration_since(began).min(WINDOW));
        n_bytes as f64 / since.as_secs_f64().max(0.1)
    }

    /// How long the actions that are left will take; unknown until work begins.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let (done, all) = self.actions();
        if done == all {
            return None;
        }
        let took = now.saturating_duration_since(self.began?).as_secs_f64();
        let threads = self.forecast.threads as f64;
        let (done, left) = (self.done / threads, self.left / threads);
        let trust = TRUST.min((done + left) / 4.0).max(1e-3);
        let at_work = now.saturating_duration_since(self.ended).as_secs_f64();
        // What is under way has not counted as done so far.
        let pace = ((took - at_work).max(0.0) + trust) / (done + trust);
        Some(Duration::from_secs_f64((left * pace - at_work).max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::StageForecast;

    /// A stage of one cheap action and one that takes four times as long.
    fn pace() -> Pace {
        let actions = HashMap::from([("small".to_owned(), 10.0), ("large".to_owned(), 40.0)]);
        Pace::new(Forecast::of(vec![StageForecast { name: "s".to_owned(), actions }], 2))
    }

    fn seconds(pace: &Pace, after: f64) -> f64 {
        pace.left(Instant::now() + Duration::from_secs_f64(after)).unwrap().as_secs_f64()
    }

    #[test]
    fn what_is_left_is_what_has_not_run_and_not_a_part_of_the_count() {
        let mut pace = pace();
        assert_eq!(pace.left(Instant::now()), None);
        pace.take(&Event::Running { stage: "s", tensor: "small" });
        assert_eq!(pace.current(), Some(("s 0/2".to_owned(), "small".to_owned())));
        assert!((seconds(&pace, 0.0) - 25.0).abs() < 1.0, "{}", seconds(&pace, 0.0));
        pace.take(&Event::Reused { stage: "s", tensor: "small" });
        assert!((seconds(&pace, 0.0) - 20.0).abs() < 1.0, "four fifths are left of two actions");
        assert_eq!(pace.actions(), (1, 2));
        let (now, later) = (seconds(&pace, 0.0), seconds(&pace, 5.0));
        assert!(later < now, "{later} after {now}");
        pace.take(&Event::Ran { stage: "s", tensor: "large", bytes: 7 });
        assert_eq!((pace.actions(), pace.part_done()), ((2, 2), 1.0));
        assert_eq!(pace.left(Instant::now()), None);
        assert_eq!(pace.current(), Some((OUTPUTS.to_owned(), String::new())));
    }

    #[test]
    fn what_is_to_be_read_counts_until_it_was() {
        let mut pace = pace();
        let before = pace.left;
        pace.take(&Event::Unread { model: "m", tensor: "t", bytes: 1 << 30 });
        assert!(pace.left > before);
        pace.take(&Event::Hashed { model: "m", tensor: "t", bytes: 1 << 30 });
        assert!((pace.left - before).abs() < 1e-9);
        assert!(pace.bytes_per_second(Instant::now()) > 0.0);
    }
}
