//! A folder of one's own to run the binary in, and what it said.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// The recipe that builds everything from the ancestors.
pub const FULL: &str = "recipes/lamarck-14b-v0.3-full.yaml";
/// The recipe as it stands on the model card.
pub const CARD: &str = "recipes/lamarck-14b-v0.3.yaml";

/// A small pipeline over the ancestors: stages `stock` and `blend`, of 579 tensors each.
pub const TWO_STAGES: &str = "name: stock\n\
    merge_method: model_stock\n\
    base_model: arcee-ai/Virtuoso-Small\n\
    models: [{model: CultriX/SeQwence-14B-EvolMerge}, {model: CultriX/Qwen2.5-14B-Wernicke}]\n\
    ---\n\
    name: blend\n\
    merge_method: slerp\n\
    base_model: arcee-ai/Virtuoso-Small\n\
    models: [{model: stock}]\n\
    parameters: {t: 0.3}\n";

/// A path of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A text of the project.
pub fn project_text(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file below a folder.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// An empty folder in which the binary runs, apart from the user's environment.
pub struct Space {
    dir: TempDir,
}

/// How a run of the binary ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the binary starts");
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("the output is text"),
            stderr: String::from_utf8(output.stderr).expect("the output is text"),
        }
    }
}

/// What a build said.
#[derive(Debug)]
pub struct Built {
    /// Stage and tensor of every action that ran.
    pub ran: BTreeSet<(String, String)>,
    /// Model and tensor of every source that was read to be hashed.
    pub hashed: BTreeSet<(String, String)>,
    pub damaged: usize,
    /// The last line of each target.
    pub finished: Vec<Value>,
}

impl Space {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("there is room for a test") }
    }

    /// A space with a copy of the full recipe and, by `lamarck.toml`, the shipped ancestors.
    pub fn with_full_recipe() -> Self {
        let space = Self::new();
        space.use_models(&project("recipes/ancestors"));
        space.write("recipe.yaml", project_text(FULL));
        space
    }

    /// Makes `org/name` mean a folder below `dir`.
    pub fn use_models(&self, dir: &Path) {
        self.write("lamarck.toml", format!("models = [{:?}]\n", dir.to_str().expect("paths here are text")));
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("there is a parent")).expect("folders can be made");
        fs::write(path, content).expect("there is room for a test");
    }

    pub fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
    }

    pub fn json(&self, relative: &str) -> Value {
        serde_json::from_str(&self.read(relative)).expect("the file is JSON")
    }

    /// Replaces the only place where `old` stands in a file.
    #[track_caller]
    pub fn replace(&self, relative: &str, old: &str, new: &str) {
        let text = self.read(relative);
        assert_eq!(text.matches(old).count(), 1, "`{old}` should stand once in {relative}");
        self.write(relative, text.replace(old, new));
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lamarck"));
        command.args(args).current_dir(self.dir.path());
        command.env_remove("LAMARCK_CACHE").env_remove("HF_HUB_CACHE");
        for variable in
            ["HF_TOKEN", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"]
        {
            command.env_remove(variable);
        }
        for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "LAMARCK_COMPLETE"] {
            command.env_remove(variable);
        }
        command.env("HF_HOME", self.path("hf")).env("HF_HUB_OFFLINE", "1");
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        Run::of(&mut self.command(args))
    }

    /// Runs the binary, which must succeed.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        run
    }

    /// What a command that must succeed prints for programs.
    #[track_caller]
    pub fn document<S: AsRef<OsStr>>(&self, args: &[S]) -> Value {
        let args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).chain([OsStr::new("--json")]).collect();
        let run = self.ok(&args);
        let document: Value = serde_json::from_str(&run.stdout).expect("the output is one JSON document");
        assert_eq!(document["version"], 1);
        document
    }

    /// Every method, as `lamarck methods` describes it.
    pub fn methods(&self) -> Vec<Value> {
        self.document(&["methods"])["methods"].as_array().expect("there is a list").clone()
    }

    /// Runs the binary, which must fail with an exit code; returns what it said.
    #[track_caller]
    pub fn fails<S: AsRef<OsStr>>(&self, code: i32, args: &[S]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
        run.stderr
    }

    /// Builds with `lamarck build --json` and more arguments.
    #[track_caller]
    pub fn build(&self, args: &[&str]) -> Built {
        let run = self.ok(&[&["build", "--json"], args].concat());
        let mut built =
            Built { ran: BTreeSet::new(), hashed: BTreeSet::new(), damaged: 0, finished: Vec::new() };
        for line in run.stdout.lines() {
            let event: Value = serde_json::from_str(line).expect("every line is JSON");
            let pair = |key: &str| {
                let text = |key: &str| event[key].as_str().expect("the key is there").to_owned();
                (text(key), text("tensor"))
            };
            assert_eq!(event["version"], 1);
            match event["event"].as_str().expect("every line is an event") {
                "ran" => assert!(built.ran.insert(pair("stage")), "no action runs twice"),
                "hashed" => assert!(built.hashed.insert(pair("model")), "no source is hashed twice"),
                "damaged" => built.damaged += 1,
                "finished" => built.finished.push(event.clone()),
                "finding" | "reused" | "kept_aside" => {}
                other => panic!("unknown event {other}"),
            }
        }
        for line in &built.finished {
            assert_eq!(line["ran"], built.ran.len(), "the last line counts what ran");
        }
        built
    }

    /// Builds quietly, and counts the bytes that this writes, whatever they are and wherever they go.
    #[cfg(target_os = "linux")]
    #[track_caller]
    pub fn bytes_written(&self, args: &[&str]) -> u64 {
        let script = r#""$0" build -q "$@" && cat /proc/$$/io"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_lamarck")]).args(args).current_dir(self.dir.path());
        let run = Run::of(&mut shell);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let written = run.stdout.lines().find_map(|line| line.strip_prefix("wchar: "));
        written.and_then(|number| number.parse().ok()).expect("the kernel counts what is written")
    }

    /// Runs the binary, and watches how much anonymous memory it takes; the most, in bytes.
    #[cfg(target_os = "linux")]
    #[track_caller]
    pub fn most_memory(&self, args: &[&str]) -> u64 {
        let mut child = self.command(args).spawn().expect("the binary starts");
        let status = format!("/proc/{}/status", child.id());
        let mut most = 0;
        let ended = loop {
            if let Some(ended) = child.try_wait().expect("it can be waited for") {
                break ended;
            }
            // Until the new process has its own name, it may still show the memory of this one, which started it.
            let text = fs::read_to_string(&status).unwrap_or_default();
            let text = if text.starts_with("Name:\tlamarck\n") { text } else { String::new() };
            let anonymous = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            let kilobytes =
                anonymous.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
            most = most.max(kilobytes.unwrap_or(0) * 1024);
        };
        assert!(ended.success());
        most
    }

    /// Every file below a folder, with its bytes.
    pub fn files(&self, relative: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let root = self.path(relative);
        let mut files = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for path in entries.map(|entry| entry.expect("the folder can be read").path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).expect("the file is below").to_owned();
                    files.insert(name, fs::read(&path).expect("the file can be read"));
                }
            }
        }
        files
    }
}

impl Built {
    /// The number of actions that ran, by stage.
    pub fn by_stage(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (stage, _) in &self.ran {
            *counts.entry(stage.as_str()).or_default() += 1;
        }
        counts
    }

    /// The tensors whose action of a stage ran.
    pub fn tensors_of(&self, stage: &str) -> BTreeSet<&str> {
        self.ran.iter().filter(|(of, _)| of == stage).map(|(_, tensor)| tensor.as_str()).collect()
    }
}

/// Copies a folder and everything below it.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folders can be made");
    for entry in fs::read_dir(from).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let target = to.join(path.file_name().expect("entries have names"));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).expect("there is room for a test");
        }
    }
}

/// Waits until stamps of files just written are old enough to be trusted.
pub fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(2100));
}

/// How often a costly test repeats: `usually`, or `fully` where `LAMARCK_FULL_TESTS` is set.
pub fn scaled(usually: u32, fully: u32) -> u32 {
    if is_full() { fully } else { usually }
}

/// Whether costly tests run in full.
pub fn is_full() -> bool {
    std::env::var_os("LAMARCK_FULL_TESTS").is_some()
}
