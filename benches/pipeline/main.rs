//! The seven-stage recipe through the binary, on generated ancestors:
//! `cargo bench --bench pipeline [-- steps|scale|large...] [--against BINARY] [--rounds N] [--sizes N] [--work DIR]`.
//!
//! - `steps`: a build from nothing, one after an edit, one with nothing to do, `plan` and `explain`
//! - `scale`: builds from nothing of models that double in size, on two cores and on one (by `taskset`)
//! - `large`: sparse ancestors of 14 billion parameters, once; takes minutes and 30 GB of disk
//!
//! Without a name the first two. `--against` measures another binary, such as one of an earlier state, in turn with
//! this one: each pair within seconds, so that a disk's or a neighbour's moods meet both. Numbers are medians, with the
//! quartiles in brackets (of three, the extremes).

#![allow(clippy::print_stdout)]

#[path = "../ancestors/mod.rs"]
mod ancestors;
mod process;
#[path = "../spread/mod.rs"]
mod spread;
mod workspace;

use std::io;
use std::path::{Path, PathBuf};

use ancestors::Shape;
use clap::{Parser, ValueEnum};
use process::Run;
use spread::Spread;
use workspace::{Program, Workspace, recipe};

/// Width, inner width and vocabulary of models of 90 to 783 million parameters.
const SIZES: [(usize, usize, usize); 4] =
    [(512, 576, 16000), (512, 1536, 32000), (1024, 1536, 32000), (1024, 4096, 32000)];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Steps,
    Scale,
    Large,
}

#[derive(Parser)]
struct Args {
    /// What to measure
    #[arg(default_values = ["steps", "scale"])]
    parts: Vec<Part>,
    /// Where ancestors, caches and outputs go
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/pipeline"))]
    work: PathBuf,
    /// Another binary to measure in turn
    #[arg(long)]
    against: Option<PathBuf>,
    /// How often what takes seconds is measured; what takes less, seven times as often
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many of the sizes of `scale` are built, from the smallest; where `--work` is in memory, all may not fit
    #[arg(long, default_value_t = SIZES.len())]
    sizes: usize,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut programs = vec![Program { name: "this", path: Path::new(env!("CARGO_BIN_EXE_lamarck")) }];
    programs.extend(args.against.as_deref().map(|path| Program { name: "that", path }));
    for part in &args.parts {
        match part {
            Part::Steps => steps(&args, &programs)?,
            Part::Scale => scale(&args, programs[0])?,
            Part::Large => large(&args, programs[0])?,
        }
    }
    Ok(())
}

/// What a tuner waits for, at the default size and with as many tensors and files as a 14B model has.
fn steps(args: &Args, programs: &[Program<'_>]) -> io::Result<()> {
    let many_files =
        Shape { hidden: 64, intermediate: 192, kv: 16, vocabulary: 4000, shards: 8, ..Shape::MEDIUM };
    for (name, shape) in [("178M parameters", Shape::MEDIUM), ("579 small tensors in 8 files", many_files)] {
        let workspace = Workspace::new(&args.work, "steps", &shape)?;
        println!("\n7 ancestors of {name}");
        in_turn("from nothing", args.rounds, programs, |_, program| workspace.cold(program, &[]))?;
        workspace.let_stamps_age();
        for program in programs {
            // What was too young to be trusted is looked at again, once.
            workspace.run(*program, "build", &[])?;
        }
        in_turn("nothing changed", 7 * args.rounds, programs, |_, program| {
            workspace.run(program, "build", &[])
        })?;
        workspace.edit(0)?;
        for command in ["plan", "explain"] {
            let title = format!("{command} of an edit");
            in_turn(&title, 7 * args.rounds, programs, |_, program| workspace.run(program, command, &[]))?;
        }
        in_turn("one weight changed", args.rounds, programs, |round, program| {
            workspace.edit(round)?;
            workspace.settle()?;
            workspace.run(program, "build", &[])
        })?;
        workspace.remove()?;
    }
    Ok(())
}

/// Runs each program once a round, the one that goes first by turns, and prints what that took.
fn in_turn(
    title: &str,
    rounds: usize,
    programs: &[Program<'_>],
    run: impl Fn(usize, Program<'_>) -> io::Result<Run>,
) -> io::Result<()> {
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); programs.len()];
    for round in 0..rounds {
        for turn in 0..programs.len() {
            let which = (round + turn) % programs.len();
            runs[which].push(run(round, programs[which])?);
        }
    }
    println!("  {title}, {rounds} rounds");
    for (program, runs) in programs.iter().zip(&runs) {
        println!("    {}: {}", program.name, Summary(runs));
    }
    if let [this, that] = &runs[..] {
        let pairs = this.iter().zip(that);
        let wall = Spread::of(pairs.map(|(this, that)| that.wall.as_secs_f64() / this.wall.as_secs_f64()));
        let cpu = mean_cpu(that) / mean_cpu(this);
        println!("    that/this: wall {wall:.2}, CPU {cpu:.2}");
    }
    Ok(())
}

/// CPU seconds of a run: the mean, since single runs are told in steps.
fn mean_cpu(runs: &[Run]) -> f64 {
    runs.iter().map(|run| run.cpu.as_secs_f64()).sum::<f64>() / runs.len() as f64
}

/// What several runs took.
struct Summary<'a>(&'a [Run]);

impl std::fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |what: fn(&Run) -> f64| Spread::of(self.0.iter().map(what));
        let (wall, cpu) = (of(|run| run.wall.as_secs_f64()), mean_cpu(self.0));
        let [written, anonymous, resident] =
            [of(|run| run.written as f64), of(|run| run.anonymous as f64), of(|run| run.resident as f64)]
                .map(|bytes| bytes.median / 1e6);
        write!(
            f,
            "{wall:.4} s, CPU {cpu:.3} s, {written:.1} MB written, {anonymous:.0} MB anonymous, {resident:.0} MB resident"
        )
    }
}

/// Builds from nothing of models that double in size, on two cores and on one.
fn scale(args: &Args, program: Program<'_>) -> io::Result<()> {
    println!("\nfrom nothing, {} rounds\n", args.rounds);
    println!(
        "| parameters | seconds | ns a parameter | CPU s | MB anonymous | MB written | gain from the second core |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (hidden, intermediate, vocabulary) in SIZES.into_iter().take(args.sizes) {
        let shape = Shape { hidden, intermediate, vocabulary, ..Shape::MEDIUM };
        let workspace = Workspace::new(&args.work, "scale", &shape)?;
        let (mut two, mut one) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            two.push(workspace.cold(program, &["--jobs", "2"])?);
            one.push(workspace.cold_on_one_core(program)?);
        }
        let of = |what: fn(&Run) -> f64| Spread::of(two.iter().map(what));
        let wall = of(|run| run.wall.as_secs_f64());
        let pairs = one.iter().zip(&two);
        let gain = Spread::of(pairs.map(|(one, two)| one.wall.as_secs_f64() / two.wall.as_secs_f64()));
        println!(
            "| {:.0}M | {wall:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {gain:.2}x |",
            shape.parameters() as f64 / 1e6,
            wall.median * 1e9 / shape.parameters() as f64,
            mean_cpu(&two),
            of(|run| run.anonymous as f64).median / 1e6,
            of(|run| run.written as f64).median / 1e6,
        );
        workspace.remove()?;
    }
    Ok(())
}

/// The dimensions of a 14B model, intermediates off, once, and what a tuner waits for thereafter.
fn large(args: &Args, program: Program<'_>) -> io::Result<()> {
    let workspace = Workspace::new(&args.work, "large", &Shape::SPARSE_14B)?;
    workspace.write_recipe(recipe()?.replace("\nout_dtype", "\ncache:               false\nout_dtype"))?;
    println!("\n14B parameters, sparse, intermediates off");
    workspace.forget(program);
    println!("  from nothing: {}", Summary(&[workspace.run(program, "build", &[])?]));
    workspace.let_stamps_age();
    workspace.run(program, "build", &[])?;
    in_turn("nothing changed", 7 * args.rounds, &[program], |_, program| {
        workspace.run(program, "build", &[])
    })?;
    workspace.remove()
}
