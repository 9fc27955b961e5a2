//! The graph of stages as a tree, as a picture and as a page.

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, settle};

const RECIPE: &str = "name: first\nmerge_method: ties\nbase_model: ./base\nparameters: {weight: 0.5}\n\
    models: [{model: ./a, parameters: {density: [0.2, 0.9]}}, {model: ./b, parameters: {weight: 0.25}}]\n\
    ---\nname: second\nmerge_method: slerp\nbase_model: first\nmodels: [{model: ./b}]\nparameters: {t: 0.3}\n\
    ---\nname: last\nmerge_method: linear\nparameters: {weight: 1}\nmodels: [{model: first}, {model: second}]\n";

fn space() -> Space {
    let space = Space::new();
    for (name, seed) in [("base", 1), ("a", 2), ("b", 3)] {
        Checkpoint::decoder(1, seed).write(&space.path(name));
    }
    space.write("recipe.yaml", RECIPE);
    settle();
    space
}

/// The tree, with lines of plain characters.
fn tree(space: &Space) -> String {
    let text = space.ok(&["graph", "recipe.yaml"]).stdout;
    [('\u{251c}', "+"), ('\u{2514}', "`"), ('\u{2500}', "-"), ('\u{2502}', "|")]
        .iter()
        .fold(text, |text, (line, plain)| text.replace(*line, plain))
}

fn svg(space: &Space) -> String {
    space.ok(&["graph", "recipe.yaml", "--format", "svg"]).stdout
}

#[test]
fn the_tree_shows_a_stage_once_and_says_what_is_set() {
    let space = space();
    insta::assert_snapshot!(tree(&space), @r#"
    last (linear)
    +-- first (ties): weight 1
    |   +-- ./base: base
    |   +-- ./a: weight 0.5, density 0.2..0.9
    |   `-- ./b: weight 0.25
    `-- second (slerp): weight 1
        +-- first (ties): base (*)
        `-- ./b
    "#);
    let two = format!("{RECIPE}---\nname: other\nmerge_method: passthrough\nmodels: [{{model: ./a}}]\n");
    space.write("recipe.yaml", two);
    let text = space.ok(&["graph", "recipe.yaml"]).stdout;
    assert!(text.contains("other (passthrough)\n\u{2514}\u{2500}\u{2500} ./a\n"), "{text}");
    assert_eq!(text.split("\n\n").count(), 2, "one tree for each final stage: {text}");
    let text = space.ok(&["graph", "recipe.yaml", "--stage", "second"]).stdout;
    assert!(text.starts_with("second (slerp)\n") && !text.contains("other"), "{text}");
}

#[test]
fn the_picture_tells_what_a_build_would_do() {
    let space = space();
    let words =
        |svg: &str| ["must run", "reused"].map(|word| svg.matches(&format!(">{word}</text>")).count());
    assert_eq!(words(&svg(&space)), [3, 0]);
    space.ok(&["build", "-q", "recipe.yaml"]);
    assert_eq!(words(&svg(&space)), [0, 3]);
    assert_eq!(svg(&space), svg(&space));
    space.replace("recipe.yaml", "t: 0.3", "t: 0.4");
    let edited = svg(&space);
    assert_eq!(words(&edited), [1, 1], "{edited}");
    assert!(
        edited.contains("weight 0.25") && edited.contains("density 0.2..0.9") && edited.contains("t 0.4")
    );
    let document = space.document(&["graph", "recipe.yaml"]);
    let verdicts: Vec<&str> = document["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| stage["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(verdicts, ["reuse", "run", "part"]);
    assert_eq!(document["stages"][0]["inputs"][0]["density"], serde_json::json!([0.2, 0.9]));
    let plan = space.document(&["plan", "recipe.yaml"]);
    for (drawn, planned) in
        document["stages"].as_array().unwrap().iter().zip(plan["stages"].as_array().unwrap())
    {
        for key in ["stage", "tensors", "run", "run_if_changed", "reuse"] {
            assert_eq!(drawn[key], planned[key], "{key}");
        }
    }
}

#[test]
fn without_models_there_is_a_picture_without_verdicts() {
    let space = Space::new();
    space.write("recipe.yaml", RECIPE);
    let svg = svg(&space);
    assert!(svg.contains("weight 0.25") && !svg.contains("must run") && !svg.contains("tensors"), "{svg}");
    let page = space.ok(&["graph", "recipe.yaml", "--format", "html"]).stdout;
    assert!(page.contains("data-stage=\"second\"") && !page.contains("Status"), "{page}");
    assert!(space.document(&["graph", "recipe.yaml"])["stages"][0]["verdict"].is_null());
}

#[test]
fn the_page_leads_from_the_picture_to_the_table() {
    let space = space();
    let page = space.ok(&["graph", "recipe.yaml", "--format", "html"]).stdout;
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("default-src 'none'"));
    for place in page.match_indices("href=\"#").map(|(at, _)| page[at + 7..].split('"').next().unwrap()) {
        assert!(page.contains(&format!("id=\"{place}\"")), "{place}");
    }
    assert!(page.matches("href=\"#").count() >= 3 && !page.contains("src=\"http"));
}
