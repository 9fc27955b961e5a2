//! What is found in recipes: every kind is declared and documented, and can be allowed.

use std::collections::BTreeSet;

use lamarck::recipe::codes;

use crate::harness::{Space, project, project_text, rust_files};

/// The table of codes as the documentation has it.
fn table() -> String {
    let row = |code: &codes::Code| {
        let severities: Vec<&str> = code.severities.iter().map(|severity| severity.name()).collect();
        format!("| `{}` | {} | {} |\n", code.name, severities.join(", "), code.doc)
    };
    codes::all().iter().map(row).collect()
}

#[test]
fn the_documentation_lists_every_code() {
    let page = project_text("docs/findings.md");
    let (_, behind) = page.split_once("| --- | --- | --- |\n").expect("the page has a table");
    let rows: String = behind.split_inclusive('\n').take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows, table(), "the table in docs/findings.md should be\n{}", table());
}

#[test]
fn every_finding_has_a_code_that_is_declared() {
    let mut found: BTreeSet<(String, String)> = BTreeSet::new();
    for file in rust_files(&project("src")) {
        let text = std::fs::read_to_string(file).expect("the file can be read");
        for severity in ["error", "warning", "note"] {
            for (at, call) in text.match_indices(&format!("Finding::{severity}(")) {
                let argument = text[at + call.len()..].trim_start();
                let code = argument.strip_prefix('"').and_then(|rest| rest.split('"').next());
                found.extend(code.map(|code| (code.to_owned(), severity.to_owned())));
            }
        }
    }
    let declared = codes::all().iter().flat_map(|code| {
        code.severities.iter().map(|severity| (code.name.to_owned(), severity.name().to_owned()))
    });
    assert_eq!(found, declared.collect::<BTreeSet<_>>());
}

#[test]
fn findings_of_a_kind_are_told_as_one() {
    let space = Space::with_full_recipe();
    let check = space.ok(&["check", "recipe.yaml"]).stderr;
    let titles: Vec<&str> = check.lines().filter(|line| line.contains("]: ")).collect();
    insta::assert_snapshot!(titles.join("\n"), @r"
    note[stage-by-name]: 4 models of other owners are taken to mean stages of this recipe
    warning[base-parameters]: stage `lamarck-14b-converge-della`: `density`, `weight` of `arcee-ai/Virtuoso-Small` have no effect, because `arcee-ai/Virtuoso-Small` is the base
    note[base-listed]: stage `lamarck-14b-converge-della` lists its base among its models, where it has no effect
    note[parameter-beside]: `t` is written beside `parameters` and treated as if it were inside it
    note[padding-kept]: 7 stages keep the padding rows of their embeddings, because the vocabularies are equal
    ");
    assert!(check.contains("also in lines"), "{check}");
    // A build shows what is likely a mistake, and counts the rest.
    let build = space.ok(&["build", "recipe.yaml"]).stderr;
    assert!(build.contains("\n4 notes on recipe.yaml; `lamarck check recipe.yaml` shows all\n"), "{build}");
    assert_eq!(build.matches("]: ").count(), 1, "{build}");
    // What only looks does not repeat it.
    for command in ["plan", "explain", "graph"] {
        let said = space.ok(&[command, "recipe.yaml"]).stderr;
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.ends_with("`lamarck check recipe.yaml` shows all\n"), "{said}");
        assert_eq!(space.ok(&[command, "-q", "recipe.yaml"]).stderr, "");
        let verbose = space.ok(&[command, "-v", "recipe.yaml"]).stderr;
        assert!(verbose.matches("note[parameter-beside]").count() == 7 || command == "graph", "{verbose}");
    }
}

/// Two stages with a warning and a note each.
const NOISY: &str = "name: one\nmerge_method: ties\nbase_model: ./base\nseed: 1\n\
    models: [{model: ./a, parameters: {weight: 1}}]\nparameters: {gamma: 1}\n\
    ---\nname: two\nmerge_method: ties\nbase_model: one\nseed: 1\n\
    models: [{model: ./b, parameters: {weight: 1}}]\nparameters: {gamma: 1}\n";

#[test]
fn what_is_allowed_is_not_told() {
    let space = Space::new();
    for (name, seed) in [("base", 1), ("a", 2), ("b", 3)] {
        crate::checkpoints::Checkpoint::decoder(1, seed).write(&space.path(name));
    }
    let codes = |text: &str, args: &[&str]| -> Vec<String> {
        space.write("recipe.yaml", text);
        let run = space.run(&[&["check", "--json", "recipe.yaml"], args].concat());
        let document: serde_json::Value = serde_json::from_str(&run.stdout).expect("it is JSON");
        let findings = document["findings"].as_array().expect("there is a list").iter();
        findings.map(|finding| format!("{} {}", finding["code"], finding["line"]).replace('"', "")).collect()
    };
    assert_eq!(
        codes(NOISY, &[]),
        ["unused-parameter 6", "unused-seed 4", "unused-parameter 13", "unused-seed 11"]
    );
    space.fails(1, &["check", "recipe.yaml", "--deny-warnings"]);
    // In a stage it holds for the stage.
    let first = NOISY.replacen("name: one\n", "name: one\nallow: [unused-parameter]\n", 1);
    assert_eq!(codes(&first, &[]), ["unused-seed 5", "unused-parameter 14", "unused-seed 12"]);
    let second = NOISY.replacen("name: two\n", "name: two\nallow: unused-parameter\n", 1);
    assert_eq!(codes(&second, &[]), ["unused-parameter 6", "unused-seed 4", "unused-seed 12"]);
    // In a document of its own it holds for all.
    let all = format!("allow: [unused-parameter, unused-seed]\n---\n{NOISY}");
    assert_eq!(codes(&all, &[]), Vec::<String>::new());
    space.ok(&["build", "recipe.yaml", "--deny-warnings"]);
    // What was allowed in vain is told of, where all was looked at.
    let vain = NOISY.replacen("name: one\n", "name: one\nallow: [duplicate-key]\n", 1);
    assert_eq!(codes(&vain, &[]).last().map(String::as_str), Some("unused-allow 2"));
    assert!(!codes(&vain, &["--stage", "two"]).contains(&"unused-allow 2".to_owned()));
    // A project may allow it everywhere.
    space.write("lamarck.toml", "allow = ['unused-parameter', 'unused-seed']\n");
    assert_eq!(codes(NOISY, &[]), Vec::<String>::new());
}

#[test]
fn only_what_is_no_error_can_be_allowed() {
    let space = Space::new();
    for (allow, words) in [
        ("[unused-parametr]", &["unknown-code", "`unused-parametr`", "did you mean `unused-parameter`?"][..]),
        ("[cycle]", &["unknown-code", "errors cannot be allowed"]),
        ("[nonsense]", &["the codes are: ", "duplicate-key"]),
        ("{a: 1}", &["wrong-type", "a list of codes"]),
    ] {
        space.write("recipe.yaml", format!("allow: {allow}\n---\n{NOISY}"));
        let error = space.fails(1, &["check", "recipe.yaml"]);
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!(error.matches("error[").count(), 1, "{error}");
    }
}

#[test]
fn the_shipped_recipe_says_little() {
    let space = Space::with_full_recipe();
    space.ok(&["build", "-q", "recipe.yaml"]);
    let again = space.ok(&["build", "recipe.yaml"]).stderr;
    assert!(again.lines().count() <= 8, "{again}");
}
