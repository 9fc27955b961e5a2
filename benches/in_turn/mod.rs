//! Measuring on a machine that others use as well: what is compared runs in turn, in one process, so that both meet
//! the same disturbances; medians and quartiles tell how much those matter.

use std::fs;
use std::time::Instant;

pub const ROUNDS: usize = 9;

/// Seconds of all rounds.
pub struct Times {
    /// The median.
    pub wall: f64,
    pub quartiles: [f64; 2],
    /// Of all threads, in the median round.
    pub cpu: f64,
    /// Round by round.
    walls: Vec<f64>,
}

impl Times {
    /// How many times another work's rate this has, if it moves so many times its bytes: the median of all rounds and
    /// the quartiles.
    #[allow(dead_code)]
    pub fn rate_of(&self, other: &Self, bytes: f64) -> [f64; 3] {
        let mut shares: Vec<f64> =
            self.walls.iter().zip(&other.walls).map(|(own, other)| bytes * other / own).collect();
        shares.sort_by(f64::total_cmp);
        [2, 1, 3].map(|part| shares[part * (ROUNDS - 1) / 4])
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [low, high] = self.quartiles.map(|seconds| 1e3 * seconds);
        write!(f, "({:.1} ms, {low:.1} to {high:.1}, CPU {:.1})", 1e3 * self.wall, 1e3 * self.cpu)
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
    rounds.map(|mut rounds| {
        let walls = rounds.iter().map(|(wall, _)| *wall).collect();
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let at = |part: usize| rounds[part * (ROUNDS - 1) / 4];
        let (wall, cpu) = at(2);
        Times { wall, quartiles: [at(1).0, at(3).0], cpu, walls }
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
