//! Writes checkpoints of any size for trying things out:
//! `cargo bench --bench generate -- DIR --hidden 1024 --layers 24`.

#![allow(dead_code)]

mod ancestors;

use std::path::PathBuf;

use clap::Parser;

#[derive(Parser)]
struct Args {
    /// Where the checkpoints go, as `org/name`.
    dir: PathBuf,
    #[command(flatten)]
    shape: ancestors::Shape,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    ancestors::generate_once(&args.dir, &args.shape)
}
