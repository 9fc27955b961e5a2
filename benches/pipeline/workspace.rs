//! A folder with ancestors and the seven-stage recipe, in which several binaries build, each for itself.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::ancestors::{self, Shape};
use crate::process::{Run, measure};

/// Files that are younger are read again by the next build.
const TRUSTED_AGE: Duration = Duration::from_millis(2500);

pub struct Workspace {
    dir: PathBuf,
}

/// A binary, with a cache and an output of its own in a workspace.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    pub name: &'static str,
    pub path: &'a Path,
}

impl Workspace {
    /// A workspace below `work`, with ancestors of a shape. What is there from an earlier run is used again.
    pub fn new(work: &Path, name: &str, shape: &Shape) -> io::Result<Self> {
        let dir = work.join(name);
        fs::create_dir_all(&dir)?;
        ancestors::generate_once(&dir.join("ancestors"), shape)?;
        let workspace = Self { dir };
        workspace.write_recipe(recipe()?)?;
        Ok(workspace)
    }

    /// Replaces the recipe.
    pub fn write_recipe(&self, text: String) -> io::Result<()> {
        fs::write(self.dir.join("recipe.yaml"), text)
    }

    /// Gives the recipe another weight of the reasoning branch, a new one for every number up to 99.
    pub fn edit(&self, number: usize) -> io::Result<()> {
        assert!(number < 100);
        let weight = format!("weight:        0.8{:02}", 99 - number);
        self.write_recipe(recipe()?.replacen("weight:        0.90", &weight, 1))
    }

    /// Builds from nothing, with the ancestors in the page cache as far as it holds them.
    pub fn cold(&self, program: Program<'_>, flags: &[&str]) -> io::Result<Run> {
        self.forget(program);
        self.settle()?;
        self.run(program, "build", flags)
    }

    /// Removes what a program has built.
    pub fn forget(&self, program: Program<'_>) {
        for what in ["cache", "out"] {
            // There may be nothing yet.
            let _ = fs::remove_dir_all(self.dir.join(format!("{}-{what}", program.name)));
        }
    }

    /// Ends what earlier runs left to be written, and has the ancestors in the page cache.
    pub fn settle(&self) -> io::Result<()> {
        Command::new("sync").status()?;
        read_all(&self.dir.join("ancestors"))
    }

    /// The same on one core, with whatever threads there are.
    pub fn cold_on_one_core(&self, program: Program<'_>) -> io::Result<Run> {
        self.forget(program);
        self.settle()?;
        let mut one_core = Command::new("taskset");
        one_core.args(["--cpu-list", "0"]).arg(program.path);
        self.run_by(one_core, program, "build", &["--jobs", "1"])
    }

    /// Runs a command of a program on the recipe.
    pub fn run(&self, program: Program<'_>, command: &str, flags: &[&str]) -> io::Result<Run> {
        self.run_by(Command::new(program.path), program, command, flags)
    }

    fn run_by(
        &self,
        mut command_line: Command,
        Program { name, .. }: Program<'_>,
        command: &str,
        flags: &[&str],
    ) -> io::Result<Run> {
        let (cache, out) = (format!("{name}-cache"), format!("{name}-out"));
        command_line
            .args([command, "-q", "recipe.yaml", "--models", "ancestors", "--cache", &cache])
            .args(flags)
            .current_dir(&self.dir)
            .stdout(Stdio::null());
        if command == "build" {
            command_line.args(["--out", &out]);
        }
        measure(&mut command_line)
    }

    /// Waits until what was written last is old enough to be trusted by its stamps.
    pub fn let_stamps_age(&self) {
        thread::sleep(TRUSTED_AGE);
    }

    /// Removes everything.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(self.dir)
    }
}

/// The seven stages.
pub fn recipe() -> io::Result<String> {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/lamarck-14b-v0.3-full.yaml"))
}

fn read_all(dir: &Path) -> io::Result<()> {
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
