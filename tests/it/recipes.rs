//! Recipes that are right, and recipes that are wrong in one way each, with what is said about them.
//!
//! The head of each sample lists what is expected: `# SEVERITY CODE LINE:COLUMN`.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;
use serde_json::Value;

use crate::harness::{CARD, FULL, Space, project, project_text};

/// The exit code of a check, and its findings as the heads of samples write them.
fn findings(recipe: &str) -> (Option<i32>, BTreeSet<String>) {
    let space = Space::new();
    let output = space
        .command(&["check", "--json"])
        .arg(project(recipe))
        .current_dir(project("tests/conformance"))
        .output()
        .expect("the binary starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let document: Value =
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{recipe}: {stdout}{stderr}"));
    let of = |finding: &Value| {
        let [severity, code] =
            ["severity", "code"].map(|key| finding[key].as_str().expect("it is text").to_owned());
        match (&finding["line"], &finding["column"]) {
            (Value::Null, _) => format!("{severity} {code}"),
            (line, column) => format!("{severity} {code} {line}:{column}"),
        }
    };
    let findings = document["findings"].as_array().expect("there is a list").iter().map(of).collect();
    (output.status.code(), findings)
}

fn expected(recipe: &str) -> BTreeSet<String> {
    let is_finding =
        |line: &&str| ["error ", "warning ", "note "].iter().any(|severity| line.starts_with(severity));
    let text = project_text(recipe);
    text.lines().filter_map(|line| line.strip_prefix("# ")).filter(is_finding).map(str::to_owned).collect()
}

fn check_samples(folder: &str, code: i32) {
    let mut wrong = Vec::new();
    let samples = fs::read_dir(project(folder)).expect("the samples are there");
    let mut n_samples = 0;
    for sample in samples {
        let name =
            sample.expect("the samples can be read").file_name().into_string().expect("names are text");
        let recipe = format!("{folder}/{name}");
        n_samples += 1;
        let (found, expected) = (findings(&recipe), (Some(code), expected(&recipe)));
        if found != expected {
            wrong.push(format!("{recipe}: found {found:?}, expected {expected:?}"));
        }
    }
    assert!(n_samples > 5);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn valid_samples_pass_with_what_is_said_about_them() {
    check_samples("tests/recipes/valid", 0);
}

#[test]
fn invalid_samples_fail_with_what_is_said_about_them() {
    check_samples("tests/recipes/invalid", 1);
}

#[test]
fn the_shipped_recipes_pass() {
    let space = Space::new();
    space.use_models(&project("recipes/ancestors"));
    for recipe in [FULL, CARD] {
        space.write("recipe.yaml", project_text(recipe));
        let run = space.run(&["check", "--json", "recipe.yaml"]);
        let document: Value = serde_json::from_str(&run.stdout).expect("the output is JSON");
        let errors: Vec<&Value> = document["findings"]
            .as_array()
            .expect("there is a list")
            .iter()
            .filter(|finding| finding["severity"] == "error")
            .collect();
        assert_eq!(errors, Vec::<&Value>::new());
    }
}

#[test]
fn an_error_shows_the_line_and_what_was_meant() {
    let space = Space::new();
    space.write("recipe.yaml", "merge_method: ties\nbase_modle: some/model\nmodels: [{model: some/other}]\n");
    insta::assert_snapshot!(space.fails(1, &["check", "recipe.yaml"]), @r"
    error[unknown-key]: unknown key `base_modle` in a stage
     --> recipe.yaml:2:1
      |
    2 | base_modle: some/model
      | ^^^^^^^^^^
      |
      = help: did you mean `base_model`?

    error: recipe.yaml has 1 error; nothing was built
    ");
}

#[test]
fn variables_are_filled_in_and_set() {
    let space = Space::new();
    space.use_models(&project("tests/conformance/models"));
    space.write(
        "recipe.yaml",
        "vars: {share: 0.25, size: a}\n---\nname: mean\nmerge_method: linear\nmodels:\n\
         - {model: \"qwen-${size}\", parameters: {weight: \"${share}\"}}\n\
         - {model: qwen-b, parameters: {weight: 1}}\n",
    );
    let n_tensors = space.build(&["recipe.yaml"]).ran.len();
    assert_eq!(space.build(&["recipe.yaml", "--set", "share=2.5e-1"]).ran.len(), 0);
    assert_eq!(space.build(&["recipe.yaml", "--set", "share=0.3"]).ran.len(), n_tensors);
    assert_eq!(space.build(&["recipe.yaml", "--set", "size=c"]).ran.len(), n_tensors);
    let error = space.fails(1, &["build", "recipe.yaml", "--set", "shar=0.3"]);
    assert!(error.contains("no variable `shar`") && error.contains("did you mean `share`"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a recipe's text is, reading it ends with a recipe or with an error that has a place in it.
    #[test]
    fn no_text_upsets_the_reader(
        edits in prop::collection::vec((0.0..1.0_f64, 0..40_usize, "[-\\[\\]{}:,&*<!|>'\"#$a-z0-9. \n]{0,12}"), 1..6),
    ) {
        let mut text = project_text(FULL);
        for (at, removed, inserted) in edits {
            let start = (at * text.len() as f64) as usize;
            let end = (start + removed).min(text.len());
            text.replace_range(start..end, &inserted);
        }
        let options = lamarck::recipe::LoadOptions { name: "recipe.yaml".to_owned(), ..Default::default() };
        let loaded = lamarck::recipe::load(&text, &options);
        let has_error = loaded.findings.iter().any(|finding| finding.is_error());
        prop_assert_eq!(loaded.recipe.is_none(), has_error);
        for span in loaded.findings.iter().filter_map(|finding| finding.span) {
            prop_assert!(span.start <= span.end && span.end <= text.len());
            prop_assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end));
        }
    }
}

#[test]
fn what_only_a_stage_has_is_told_of_elsewhere() {
    let space = Space::with_full_recipe();
    let source = "{model: arcee-ai/Virtuoso-Small, layer_range: [0, 2]}";
    let check = |body: &str| {
        space.write("x.yaml", format!("merge_method: passthrough\n{body}\n"));
        space.ok(&["check", "x.yaml"]).stderr
    };
    let told = check(&format!("slices: [{{merge_method: slerp, sources: [{source}]}}]"));
    assert!(told.contains("`merge_method` has no effect in a slice") && !told.contains("unknown"), "{told}");
    let models = "models: [{model: arcee-ai/Virtuoso-Small}]";
    let told = check(&format!("modules: {{default: {{dtype: float32, base_model: x/y, {models}}}}}"));
    assert!(told.contains("`base_model` has no effect in module") && told.contains("`dtype`"), "{told}");
    let told = check(&format!(
        "slices: [{{sources: [{source}]}}, {{sources: [{{model: arcee-ai/Virtuoso-Small, layer_range: ['5', 5]}}]}}]"
    ));
    assert!(told.contains("[5, 5]` contains no layers"), "{told}");
    space.write("x.yaml", "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: 0-8}]}]\n");
    assert!(space.fails(1, &["check", "x.yaml"]).contains("write `layer_range: [0, 8]`"));
}
