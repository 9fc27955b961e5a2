//! What commands print for programs is what docs/json.md says.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, project_text};

/// Two stages, with something found in each, built once and edited since.
fn edited() -> Space {
    let space = Space::new();
    for (name, seed) in [("base", 1), ("a", 2), ("b", 3)] {
        Checkpoint::decoder(1, seed).write(&space.path(name));
    }
    space.write(
        "recipe.yaml",
        "name: one\nmerge_method: ties\nbase_model: ./base\nmodels: [{model: ./a, parameters: {weight: 1}}]\n\
         parameters: {gamma: 1}\n---\nname: two\nmerge_method: linear\nmodels: [{model: one}, {model: ./b}]\n\
         parameters: {weight: 0.5}\n",
    );
    space.ok(&["build", "-q", "recipe.yaml"]);
    space.replace("recipe.yaml", "weight: 0.5", "weight: 0.6");
    space.write("wrong.yaml", "merge_method: slrep\nmodels: [{model: ./a}]\n");
    space
}

/// The example below a heading of the page.
fn example(page: &str, heading: &str) -> String {
    let (_, section) =
        page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().expect("there is a first part");
    let (_, block) = section.split_once("```json\n").unwrap_or_else(|| panic!("{heading} has no example"));
    block.split("```").next().expect("there is a first part").to_owned()
}

/// Keys that only some entries have: ends of an interval, and names that are a recipe's own.
const OPTIONAL: [&str; 4] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
const OWN_NAMES: [&str; 2] = [".same_as", ".rows"];
/// Values of a parameter, which are numbers or flags.
const OF_ANY_TYPE: [&str; 2] = [".default", ".example"];

/// Where two documents differ in their keys, or in the types of their values.
fn compare(at: &str, example: &Value, real: &Value, found: &mut Vec<String>) {
    match (example, real) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(example), Value::Object(real)) => {
            if OWN_NAMES.iter().any(|key| at.ends_with(key)) {
                return;
            }
            for key in example.keys().chain(real.keys()).collect::<BTreeSet<_>>() {
                match (example.get(key), real.get(key)) {
                    (Some(example), Some(real)) => compare(&format!("{at}.{key}"), example, real, found),
                    _ if OPTIONAL.contains(&key.as_str()) => {}
                    (None, _) => found.push(format!("{at}.{key} is not in the page")),
                    (_, None) => found.push(format!("{at}.{key} is in the page alone")),
                }
            }
        }
        (Value::Array(example), Value::Array(real)) => {
            for (real, example) in real.iter().zip(example.iter().cycle()) {
                compare(&format!("{at}[]"), example, real, found);
            }
        }
        _ if OF_ANY_TYPE.iter().any(|key| at.ends_with(key)) => {}
        (example, real) if std::mem::discriminant(example) == std::mem::discriminant(real) => {}
        (example, real) => found.push(format!("{at} is {example} in the page and {real} in truth")),
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn every_document_is_as_the_page_describes_it() {
    let space = edited();
    let page = project_text("docs/json.md");
    let mut found = Vec::new();
    for (heading, code, args) in [
        ("lamarck check", 0, &["check", "recipe.yaml"][..]),
        ("lamarck fetch", 0, &["fetch", "recipe.yaml"]),
        ("lamarck plan", 0, &["plan", "recipe.yaml"]),
        ("lamarck explain", 0, &["explain", "recipe.yaml"]),
        ("lamarck graph", 0, &["graph", "recipe.yaml"]),
        ("lamarck inspect", 0, &["inspect", "./a"]),
        ("lamarck inspect --stats", 0, &["inspect", "merges/two", "--stats"]),
        ("lamarck diff", 0, &["diff", "./a", "merges/two"]),
        ("lamarck log", 0, &["log"]),
        ("lamarck show", 0, &["show"]),
        ("lamarck report", 0, &["report", "-o", "page.html"]),
        ("lamarck tag", 0, &["tag"]),
        ("lamarck verify", 0, &["verify", "merges/two"]),
        ("lamarck methods", 0, &["methods"]),
        ("lamarck new", 0, &["new", "project"]),
        ("lamarck man", 0, &["man", "pages"]),
        ("lamarck cache stat", 0, &["cache", "stat"]),
        ("lamarck cache gc", 0, &["cache", "gc", "--stale", "--dry-run"]),
        ("lamarck cache verify", 0, &["cache", "verify"]),
        ("lamarck cache path", 0, &["cache", "path"]),
        ("Errors", 1, &["plan", "wrong.yaml"]),
        ("Errors", 1, &["check", "wrong.yaml"]),
        ("Errors", 1, &["graph", "nowhere.yaml"]),
        ("Errors", 2, &["plan", "recipe.yaml", "--stage", "three"]),
        ("Errors", 2, &["plan", "--bogus"]),
    ] {
        let run = space.run(&[args, &["--json"]].concat());
        assert_eq!(run.code, code, "{args:?}: {}{}", run.stdout, run.stderr);
        let real = parsed(&run.stdout);
        assert_eq!(real["version"], 1);
        compare(heading, &parsed(&example(&page, heading)), &real, &mut found);
        if code != 0 {
            assert_eq!(real["error"]["exit_code"], code);
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_line_of_a_build_is_as_the_page_describes_it() {
    let space = edited();
    let page = project_text("docs/json.md");
    let examples: Vec<Value> = example(&page, "lamarck build").lines().map(parsed).collect();
    let mut found = Vec::new();
    let mut events = BTreeSet::new();
    for (recipe, code) in [("recipe.yaml", 0), ("wrong.yaml", 1)] {
        let run = space.run(&["build", recipe, "--json"]);
        assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
        for line in run.stdout.lines().map(parsed) {
            let event = line["event"].as_str().expect("every line is an event").to_owned();
            let example = examples.iter().find(|example| example["event"] == line["event"]);
            compare(
                &event,
                example.unwrap_or_else(|| panic!("{event} is not in the page")),
                &line,
                &mut found,
            );
            assert_eq!(line["version"], 1);
            events.insert(event);
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    for event in ["error", "finding", "finished", "ran"] {
        assert!(events.contains(event), "{event}");
    }
}
