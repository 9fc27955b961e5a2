//! What the code base promises about itself.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{project, project_text};

/// The modules of the library, lowest first. One may use those before it, never those behind it.
const LAYERS: [&str; 20] = [
    "digest",
    "event",
    "disk",
    "identity",
    "mapping",
    "tensor",
    "manifest",
    "kernels",
    "methods",
    "recipe",
    "model",
    "plan",
    "store",
    "history",
    "upkeep",
    "build",
    "output",
    "workspace",
    "cli",
    "main",
];
/// Modules that must not use one another, though their order would allow it.
const STRANGERS: [(&str, &str); 6] = [
    ("plan", "store"),
    ("plan", "identity"),
    ("store", "tensor"),
    ("store", "plan"),
    ("methods", "model"),
    ("kernels", "manifest"),
];
const MAX_LINES: usize = 800;

fn rust_files(folder: &Path) -> Vec<PathBuf> {
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

/// The top-level module that a file belongs to.
fn module(file: &Path) -> String {
    let relative = file.strip_prefix(project("src")).expect("the file is below src");
    let first = relative.components().next().expect("the file has a name");
    first.as_os_str().to_str().expect("names are text").trim_end_matches(".rs").to_owned()
}

/// The modules of this crate that a line uses.
fn used(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").map(|(at, matched)| {
        let rest = &line[at + matched.len()..];
        &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())]
    })
}

#[test]
fn imports_point_down() {
    let rank = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    let mut wrong = Vec::new();
    for file in rust_files(&project("src")) {
        let from = module(&file);
        if from == "lib" {
            continue;
        }
        let own = rank(&from).unwrap_or_else(|| panic!("{from} has no place among the layers"));
        for (i, line) in fs::read_to_string(&file).expect("the file can be read").lines().enumerate() {
            for to in used(line) {
                let allowed = rank(to).is_some_and(|rank| rank <= own) && !STRANGERS.contains(&(&from, to));
                if !allowed {
                    wrong.push(format!("{}:{}: {from} uses {to}", file.display(), i + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_world_is_touched_in_few_places() {
    let pure = ["tensor", "manifest", "kernels", "methods", "recipe", "plan"];
    let worldly = ["std::fs", "std::env", "std::process", "std::time", "std::thread", "std::net", "rayon"];
    let printing = [
        "println!",
        "eprintln!",
        "print!(",
        "eprint!(",
        "io::stdout",
        "io::stderr",
        "process::exit",
        "env::var",
    ];
    let mut wrong = Vec::new();
    for file in rust_files(&project("src")) {
        let module = module(&file);
        for (i, line) in fs::read_to_string(&file).expect("the file can be read").lines().enumerate() {
            let is_outside_cli = module != "cli" && module != "main";
            let is_wrong = pure.contains(&module.as_str()) && worldly.iter().any(|word| line.contains(word))
                || is_outside_cli && printing.iter().any(|word| line.contains(word));
            if is_wrong {
                wrong.push(format!("{}:{}: {}", file.display(), i + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_ascii() {
    let mut wrong = Vec::new();
    for file in ["src", "tests", "benches"]
        .iter()
        .map(|folder| project(folder))
        .filter(|path| path.exists())
        .flat_map(|folder| rust_files(&folder))
    {
        let text = fs::read_to_string(&file).expect("the file can be read");
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{}: {lines} lines", file.display()));
        }
        if let Some(line) = text.lines().position(|line| !line.is_ascii()) {
            wrong.push(format!("{}:{}: a character beyond ASCII", file.display(), line + 1));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: no head that says what it is", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_two_files() {
    let with_unsafe = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("the file can be read");
        text.lines().any(|line| line.contains("unsafe {") || line.contains("unsafe impl"))
    };
    let mut files: Vec<PathBuf> = rust_files(&project("src")).into_iter().filter(with_unsafe).collect();
    files.sort();
    assert_eq!(files, ["src/kernels/simd.rs", "src/mapping.rs"].map(project));
}

#[test]
fn every_test_file_is_run() {
    let main = project_text("tests/it/main.rs");
    for file in rust_files(&project("tests/it")) {
        let name = file.file_stem().and_then(|name| name.to_str()).expect("names are text");
        assert!(name == "main" || main.contains(&format!("mod {name};")), "{name} is not declared");
    }
    assert!(!main.contains("#[ignore"));
}
