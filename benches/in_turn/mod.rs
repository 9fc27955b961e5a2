//! Measuring on a machine that others use as well: what is compared runs in turn, in one process, so that both meet
//! the same disturbances; medians and quartiles tell how much those matter.

#[path = "../spread/mod.rs"]
mod spread;

use std::fs;
use std::time::Instant;

pub use spread::Spread;

pub const ROUNDS: usize = 9;

/// Seconds of all rounds.
pub struct Times {
    pub wall: Spread,
    /// Of all threads: the median.
    pub cpu: f64,
    /// Round by round.
    walls: Vec<f64>,
}

impl Times {
    /// How many times another work's rate this has, round by round, if it moves so many times its bytes.
    #[allow(dead_code)]
    pub fn rate_of(&self, other: &Self, bytes: f64) -> Spread {
        Spread::of(self.walls.iter().zip(&other.walls).map(|(own, other)| bytes * other / own))
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, low, high, cpu] =
            [self.wall.median, self.wall.low, self.wall.high, self.cpu].map(|seconds| 1e3 * seconds);
        write!(f, "({median:.1} ms, {low:.1} to {high:.1}, CPU {cpu:.1})")
    }
}

/// Runs two kinds of work in turn.
pub fn in_turn(mut first: impl FnMut(), mut second: impl FnMut()) -> [Times; 2] {
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (work, rounds) in [&mut first as &mut dyn FnMut(), &mut second].into_iter().zip(&mut rounds) {
            let (cpu, started) = (cpu_seconds(), Instant::now());
            work();
            rounds.push((started.elapsed().as_secs_f64(), cpu_seconds() - cpu));
        }
    }
    rounds.map(|rounds| {
        let (walls, cpus): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
        Times { wall: Spread::of(walls.iter().copied()), cpu: Spread::of(cpus).median, walls }
    })
}

/// What all threads of this process have taken so far; 0 where Linux does not tell.
fn cpu_seconds() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() * 1e-9
}
