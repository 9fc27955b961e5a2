//! What the code base promises about itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use crate::harness::{project, project_text, rust_files};

/// The modules of the library, lowest first. One may use those before it, never those behind it.
const LAYERS: [&str; 24] = [
    "digest",
    "event",
    "error",
    "draw",
    "disk",
    "identity",
    "tensor",
    "manifest",
    "kernels",
    "methods",
    "op",
    "reference",
    "hub",
    "model",
    "recipe",
    "plan",
    "store",
    "history",
    "gc",
    "build",
    "output",
    "project",
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

/// The path of a file's module below the crate, such as `store::index`.
fn module_path(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(project("src")).expect("the file is below src").with_extension("");
    let mut path: Vec<String> =
        relative.iter().map(|part| part.to_str().expect("names are text").to_owned()).collect();
    path.pop_if(|last| ["mod", "lib"].contains(&last.as_str()));
    path
}

/// A file's code without comments and its tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("the file can be read");
    let code = text.split("#[cfg(test)]\nmod tests").next().expect("there is a first part");
    code.lines().map(|line| line.split("//").next().expect("there is a first part")).fold(
        String::new(),
        |mut code, line| {
            code.push_str(line.trim());
            code.push(' ');
            code
        },
    )
}

/// Every path that begins at `start` (behind a word and `::`), with its braces expanded.
fn expanded(start: &str, before: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        let rest = &start[at..];
        let blank = rest.len() - rest.trim_start().len();
        at += blank;
        let rest = &start[at..];
        if let Some(inner) = rest.strip_prefix('{') {
            at += 1;
            let mut more = inner;
            loop {
                let n = expanded(more, &path, paths);
                let n = n + more[n..].find([',', '}']).expect("braces are closed");
                let is_end = more[n..].starts_with('}');
                more = &more[n + 1..];
                at += n + 1;
                if is_end || more.trim_start().starts_with('}') {
                    return at;
                }
            }
        }
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        path.push(rest[..word].to_owned());
        at += word;
        match start[at..].strip_prefix("::") {
            Some(_) => at += 2,
            None => {
                paths.push(path);
                return at;
            }
        }
    }
}

/// The files that a file uses something of.
fn files_used(file: &Path, files: &BTreeMap<Vec<String>, PathBuf>) -> BTreeSet<PathBuf> {
    let (own, code) = (module_path(file), code(file));
    let children = files.keys().filter(|path| path.split_last().is_some_and(|(_, parent)| *parent == own));
    let children: Vec<&String> = children.filter_map(|path| path.last()).collect();
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("::") {
        let word = code[..at].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |n| n + 1);
        if code[..word].ends_with("::") {
            continue;
        }
        let mut before = own.clone();
        match &code[word..at] {
            "crate" => before.clear(),
            "self" => {}
            "super" => drop(before.pop()),
            child if children.iter().any(|name| *name == child) => before.push(child.to_owned()),
            _ => continue,
        }
        expanded(&code[at + 2..], &before, &mut paths);
    }
    let of = |path: &Vec<String>| {
        let mut path = path.clone();
        while let Some(at) = path.iter().position(|word| word == "super") {
            path.drain(at - 1..=at);
        }
        (0..=path.len()).rev().find_map(|n| files.get(&path[..n])).cloned()
    };
    paths.iter().filter_map(of).filter(|used| used != file).collect()
}

/// Whether a file is compiled for tests alone.
fn is_for_tests(file: &Path) -> bool {
    let name = file.file_stem().and_then(|name| name.to_str()).expect("names are text");
    let folder = file.parent().expect("the file is below src");
    [folder.join("mod.rs"), folder.with_extension("rs")].iter().any(|parent| {
        let text = fs::read_to_string(parent).unwrap_or_default();
        ["mod", "pub mod"].iter().any(|word| text.contains(&format!("#[cfg(test)]\n{word} {name};")))
    })
}

#[test]
fn no_files_use_one_another_in_a_circle() {
    let files: BTreeMap<Vec<String>, PathBuf> = rust_files(&project("src"))
        .into_iter()
        .filter(|file| !file.ends_with("src/main.rs") && !is_for_tests(file))
        .map(|file| (module_path(&file), file))
        .collect();
    let uses: Vec<(&PathBuf, BTreeSet<PathBuf>)> =
        files.values().map(|file| (file, files_used(file, &files))).collect();
    let mut graph = DiGraph::new();
    let nodes: BTreeMap<&PathBuf, _> = uses.iter().map(|(file, _)| (*file, graph.add_node(*file))).collect();
    for (file, used) in &uses {
        for used in used {
            graph.add_edge(nodes[file], nodes[used], ());
        }
    }
    let n_edges: usize = uses.iter().map(|(_, used)| used.len()).sum();
    assert!(n_edges > files.len(), "uses are found");
    let name = |file: &PathBuf| file.strip_prefix(project("src")).expect("it is").display().to_string();
    let circles: Vec<String> = tarjan_scc(&graph)
        .into_iter()
        .filter(|circle| circle.len() > 1)
        .map(|circle| circle.into_iter().map(|node| name(graph[node])).collect::<Vec<_>>().join(", "))
        .collect();
    assert!(circles.is_empty(), "these use one another:\n{}", circles.join("\n"));
}

#[test]
fn the_world_is_touched_in_few_places() {
    let pure = ["tensor", "manifest", "kernels", "methods", "op", "recipe", "plan"];
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
fn unsafe_code_is_in_one_file() {
    let with_unsafe = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("the file can be read");
        text.lines().any(|line| line.contains("unsafe {") || line.contains("unsafe impl"))
    };
    let mut files: Vec<PathBuf> = rust_files(&project("src")).into_iter().filter(with_unsafe).collect();
    files.sort();
    assert_eq!(files, ["src/kernels/simd.rs"].map(project));
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

#[test]
fn every_source_file_is_part_of_the_crate() {
    for file in rust_files(&project("src")) {
        let path = module_path(&file);
        let Some((name, parent)) = path.split_last() else { continue };
        if parent.is_empty() && name == "main" {
            continue;
        }
        let folder = parent.iter().fold(project("src"), |folder, part| folder.join(part));
        let above = if parent.is_empty() { folder.join("lib.rs") } else { folder.join("mod.rs") };
        let text = fs::read_to_string(&above).unwrap_or_default();
        assert!(
            text.contains(&format!("mod {name};")),
            "{} is not declared in {}",
            file.display(),
            above.display()
        );
    }
}
