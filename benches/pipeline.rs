//! The seven-stage recipe through the binary, on generated ancestors:
//! `cargo bench --bench pipeline [-- --work DIR] [--large]`.
//!
//! Cold builds of growing models, one thread beside all, a build after an edit and one with nothing to do;
//! with `--large` also a cold build of sparse ancestors of 14 billion parameters without intermediates, which
//! takes minutes and 30 GB of disk.

#![allow(clippy::print_stdout)]

mod ancestors;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ancestors::Shape;
use clap::Parser;

const ROUNDS: usize = 3;

#[derive(Parser)]
struct Args {
    /// Where ancestors, caches and outputs go
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/pipeline"))]
    work: PathBuf,
    /// Also build ancestors of 14 billion parameters
    #[arg(long)]
    large: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    small_steps(&args.work)?;
    growing(&args.work)?;
    if args.large {
        let shape = Shape::SPARSE_14B;
        let bench = Bench::new(&args.work, "14b", &shape)?;
        let text = bench.recipe_text()?.replace("\nout_dtype", "\ncache:               false\nout_dtype");
        fs::write(&bench.recipe, text)?;
        let run = bench.lamarck("build", &["--out", "out"])?;
        println!("\n14B, sparse, intermediates off: {run}");
        fs::remove_dir_all(&bench.dir)?;
    }
    Ok(())
}

/// Cold builds of models that double in size, on all threads and on one.
fn growing(work: &Path) -> io::Result<()> {
    println!("\ncold builds, medians of {ROUNDS}\n");
    println!(
        "{:>12} {:>9} {:>9} {:>14} {:>10} {:>12}",
        "parameters", "seconds", "CPU s", "ns a parameter", "RssAnon MB", "one thread"
    );
    for (hidden, intermediate, vocabulary) in
        [(512, 576, 16000), (512, 1536, 32000), (1024, 1536, 32000), (1024, 4096, 32000)]
    {
        let shape = Shape { hidden, intermediate, vocabulary, ..Shape::MEDIUM };
        let bench = Bench::new(work, "growing", &shape)?;
        let mut runs = Vec::new();
        let mut alone = Vec::new();
        for _ in 0..ROUNDS {
            runs.push(bench.cold(&[])?);
            alone.push(bench.cold(&["--jobs", "1"])?);
        }
        let (run, alone) = (median(runs), median(alone));
        let n = shape.parameters();
        println!(
            "{:>12} {:>9.2} {:>9.2} {:>14.2} {:>10.0} {:>11.2}x",
            n,
            run.wall.as_secs_f64(),
            run.cpu.as_secs_f64(),
            run.wall.as_secs_f64() * 1e9 / n as f64,
            run.anonymous as f64 / 1e6,
            alone.wall.as_secs_f64() / run.wall.as_secs_f64(),
        );
        fs::remove_dir_all(&bench.dir)?;
    }
    Ok(())
}

/// What a tuner waits for between builds, at the default size and with as many tensors as a 14B model has.
fn small_steps(work: &Path) -> io::Result<()> {
    let tiny = Shape { hidden: 64, intermediate: 192, kv: 16, vocabulary: 4000, shards: 8, ..Shape::MEDIUM };
    for (name, shape) in [("178M", Shape::MEDIUM), ("7 x 579 small tensors in 8 shards", tiny)] {
        let bench = Bench::new(work, "steps", &shape)?;
        bench.cold(&[])?;
        // Files that are younger than two seconds are read again.
        thread::sleep(Duration::from_secs(3));
        bench.lamarck("build", &["--out", "out"])?;
        let step = |command: &str, args: &[&str]| -> io::Result<Run> {
            Ok(median((0..7 * ROUNDS).map(|_| bench.lamarck(command, args)).collect::<io::Result<_>>()?))
        };
        let nothing = step("build", &["--out", "out"])?;
        let mut edits = Vec::new();
        for number in 0..ROUNDS {
            bench.edit(number)?;
            if number == 0 {
                println!("{name}");
                println!("  plan of an edit:    {}", step("plan", &[])?);
                println!("  explain an edit:    {}", step("explain", &[])?);
            }
            edits.push(bench.lamarck("build", &["--out", "out"])?);
        }
        println!("  one weight changed: {}", median(edits));
        println!("  nothing changed:    {nothing}");
        fs::remove_dir_all(&bench.dir)?;
    }
    Ok(())
}

/// A folder with ancestors and a recipe.
struct Bench {
    dir: PathBuf,
    recipe: PathBuf,
}

impl Bench {
    fn new(work: &Path, name: &str, shape: &Shape) -> io::Result<Self> {
        let dir = work.join(name);
        fs::create_dir_all(&dir)?;
        ancestors::generate_once(&dir.join("ancestors"), shape)?;
        let bench = Self { recipe: dir.join("recipe.yaml"), dir };
        fs::write(&bench.recipe, bench.recipe_text()?)?;
        Ok(bench)
    }

    fn recipe_text(&self) -> io::Result<String> {
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/lamarck-14b-v0.3-full.yaml"))
    }

    /// Changes one weight of the reasoning branch.
    fn edit(&self, number: usize) -> io::Result<()> {
        let weight = format!("weight:        0.8{}", 9 - number);
        fs::write(&self.recipe, self.recipe_text()?.replacen("weight:        0.90", &weight, 1))
    }

    /// Builds from nothing, with the ancestors in the page cache as far as it holds them.
    fn cold(&self, flags: &[&str]) -> io::Result<Run> {
        for folder in ["cache", "out"] {
            let _ = fs::remove_dir_all(self.dir.join(folder));
        }
        warm(&self.dir.join("ancestors"))?;
        Command::new("sync").status()?;
        self.lamarck("build", &[&["--out", "out"], flags].concat())
    }

    fn lamarck(&self, command: &str, args: &[&str]) -> io::Result<Run> {
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_lamarck"))
            .args([command, "-q", "recipe.yaml", "--models", "ancestors", "--cache", "cache"])
            .args(args)
            .current_dir(&self.dir)
            .stdout(Stdio::null())
            .spawn()?;
        let status = PathBuf::from(format!("/proc/{}/status", child.id()));
        let stat = PathBuf::from(format!("/proc/{}/stat", child.id()));
        let (mut anonymous, mut cpu) = (0, Duration::ZERO);
        let result = loop {
            if let Some(result) = child.try_wait()? {
                break result;
            }
            anonymous = anonymous.max(rss_anon(&status).unwrap_or(0));
            cpu = cpu_time(&stat).unwrap_or(cpu);
            thread::sleep(Duration::from_micros(500));
        };
        let wall = started.elapsed();
        assert!(result.success(), "{command} failed");
        Ok(Run { wall, cpu, anonymous })
    }
}

/// What one process took. CPU time and memory are as last seen while it ran.
struct Run {
    wall: Duration,
    cpu: Duration,
    anonymous: u64,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (wall, cpu) = (self.wall.as_secs_f64(), self.cpu.as_secs_f64());
        write!(f, "{wall:.3} s, CPU {cpu:.2} s, RssAnon {:.0} MB", self.anonymous as f64 / 1e6)
    }
}

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by_key(|run| run.wall);
    let middle = runs.len() / 2;
    runs.swap_remove(middle)
}

fn rss_anon(status: &Path) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn cpu_time(stat: &Path) -> Option<Duration> {
    const TICKS: u32 = 100;
    let text = fs::read_to_string(stat).ok()?;
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
    Some(Duration::from_secs(1) * ticks / TICKS)
}

fn warm(dir: &Path) -> io::Result<()> {
    let mut folders = vec![dir.to_owned()];
    let mut block = vec![0; 1 << 24];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let mut file = fs::File::open(path)?;
                while file.read(&mut block)? > 0 {}
            }
        }
    }
    Ok(())
}
