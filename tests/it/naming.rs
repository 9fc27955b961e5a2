//! A stage without a name of its own: its file may be moved, and its output can be built again.

use std::fs;

use crate::checkpoints::Checkpoint;
use crate::harness::Space;

/// Drops, by chance and by rank, of a stage with a name and of one without.
fn recipe() -> String {
    let stage = |head: &str, method: &str, model: &str| {
        format!(
            "{head}merge_method: {method}\nbase_model: ./base\nmodels: [{{model: {model}}}, {{model: ./b}}]\n\
             parameters: {{weight: 0.6, density: 0.5, epsilon: 0.1}}\n"
        )
    };
    let dare = stage("name: first\n", "dare_ties", "./a").replace(", epsilon: 0.1", "");
    format!("{dare}---\n# the last\n{}", stage("", "della", "first"))
}

fn space() -> Space {
    let space = Space::new();
    for (name, seed) in [("base", 1), ("a", 2), ("b", 3)] {
        Checkpoint::decoder(2, seed).write(&space.path(name));
    }
    space.write("multi.yaml", recipe());
    space
}

#[test]
fn a_renamed_file_gives_the_same_bytes_and_runs_nothing() {
    let space = space();
    let weights = |stage: &str| fs::read(space.path(&format!("merges/{stage}/model.safetensors"))).unwrap();
    assert!(!space.build(&["multi.yaml"]).ran.is_empty());
    fs::rename(space.path("multi.yaml"), space.path("other.yaml")).unwrap();
    assert_eq!(space.build(&["other.yaml"]).ran.len(), 0);
    assert!(weights("multi") == weights("other"));
}

#[test]
fn an_output_is_built_again_from_its_own_recipe() {
    let space = space();
    space.ok(&["build", "-q", "multi.yaml"]);
    let said = space.ok(&["verify", "merges/multi", "--rebuild"]).stdout;
    assert!(said.contains("come out the same"), "{said}");
    space.ok(&["build", "-q", "merges/multi/recipe.yaml", "--cache", "empty", "--out", "again"]);
    assert!(space.files("again") == space.files("merges/multi"), "a copy of the copy is the same");
    // All that was added stands above the document's first key.
    let added = "name: \"multi\"\nname_from_file: true\nmerge_method: della";
    assert_eq!(space.read("merges/multi/recipe.yaml"), recipe().replace("merge_method: della", added));
    assert!(space.read("merges/multi/README.md").contains(added));
}

#[test]
fn a_model_called_as_the_file_is_still_the_model() {
    let space = space();
    space.write("b.yaml", recipe().replace("./b}", "b}"));
    space.ok(&["build", "-q", "b.yaml"]);
    space.ok(&["verify", "merges/b", "--rebuild"]);
}

#[test]
fn a_file_called_like_a_method_gives_its_name_without_complaint() {
    let space = space();
    for name in ["ties", "linear", "union", "float32"] {
        fs::rename(space.path("multi.yaml"), space.path(&format!("{name}.yml"))).unwrap();
        assert_eq!(space.build(&[&format!("{name}.yml")]).ran.is_empty(), name != "ties");
        space.ok(&["verify", &format!("merges/{name}"), "--rebuild"]);
        fs::rename(space.path(&format!("{name}.yml")), space.path("multi.yaml")).unwrap();
    }
    space.write("x.yaml", recipe().replace("first", "ties"));
    assert!(space.fails(1, &["build", "x.yaml"]).contains("cannot be called `ties`"));
}

#[test]
fn a_stage_may_be_called_as_it_is_published() {
    let space = space();
    let text =
        recipe().replace("name: first", "name: me/first").replace("model: first", "model: merges/me/first");
    space.write("multi.yaml", text);
    space.ok(&["build", "multi.yaml", "--stage", "me/first", "--stage", "multi"]);
    assert!(space.path("merges/me/first/lamarck.lock.json").is_file());
    space.ok(&["verify", "merges/me/first", "--rebuild"]);
    assert_eq!(space.build(&["multi.yaml"]).ran.len(), 0);
    let names: Vec<_> =
        fs::read_dir(space.path("merges/me")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["first"]);
    space.write("multi.yaml", space.read("multi.yaml").replace("weight: 0.6", "weight: 0.7"));
    assert!(!space.build(&["multi.yaml", "--stage", "me/first"]).ran.is_empty());
    for graph in ["text", "dot", "mermaid"] {
        space.ok(&["graph", "multi.yaml", "--format", graph]);
    }
    for (name, problem) in [
        ("../first", "must be a valid folder name"),
        ("me/..", "must be a valid folder name"),
        ("me//first", "must be a valid folder name"),
        ("/first", "must be a valid folder name"),
        ("a/b/c", "NAME or ORG/NAME"),
        ("merges/first", "means the stage"),
    ] {
        space.write(
            "x.yaml",
            recipe().replace("name: first", &format!("name: {name}")).replace("model: first", "model: ./a"),
        );
        assert!(space.fails(1, &["check", "x.yaml"]).contains(problem), "{name}");
    }
    let other = recipe().replace("# the last", "name: first/second");
    space.write("x.yaml", other);
    assert!(space.fails(1, &["check", "x.yaml"]).contains("inside one another"));
}
