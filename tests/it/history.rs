//! Builds of the past: what changed between them, and writing one out again.

use std::fs;

use serde_json::Value;

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, settle};

const RECIPE: &str = "vars: {share: 0.25}\n---\nname: mean\nmerge_method: linear\nmodels:\n\
    - {model: ./a, parameters: {weight: \"${share}\"}}\n- {model: ./b, parameters: {weight: 0.75}}\n";

/// Three builds of one recipe.
fn built() -> (Space, Vec<Vec<u8>>) {
    let space = Space::new();
    Checkpoint::decoder(2, 1).write(&space.path("a"));
    Checkpoint::decoder(2, 2).write(&space.path("b"));
    space.write("recipe.yaml", RECIPE);
    let mut models = Vec::new();
    let mut build = |args: &[&str]| {
        space.ok(&[&["build", "-q", "recipe.yaml"], args].concat());
        models.push(fs::read(space.path("merges/mean/model.safetensors")).unwrap());
    };
    build(&[]);
    build(&["--set", "share=0.5"]);
    space.replace("recipe.yaml", "weight: 0.75", "weight: 0.7");
    build(&[]);
    (space, models)
}

#[test]
fn log_shows_how_the_recipe_changed() {
    let (space, _) = built();
    let log = space.document(&["log"]);
    let list = &log["builds"];
    let change = |i: usize| -> Vec<&str> {
        list[i]["change"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect()
    };
    assert_eq!(
        change(0),
        [
            "- - {model: ./b, parameters: {weight: 0.75}}",
            "+ - {model: ./b, parameters: {weight: 0.7}}",
            "- --set share=0.5",
        ]
    );
    assert_eq!(change(1), ["+ --set share=0.5"]);
    assert_eq!(change(2), Vec::<&str>::new());
    let log = space.ok(&["log"]).stdout;
    assert!(log.contains("      mean: weight of ./a 0.25 -> 0.5\n"), "{log}");
    assert!(log.contains("      mean: weight of ./b 0.75 -> 0.7\n"), "{log}");
    assert_eq!(list[1]["edits"][0]["what"], "weight of ./a");
    assert!(list[1]["outputs"][0]["bytes"].as_u64().unwrap() > 0);
}

#[test]
fn log_lists_the_builds_of_one_recipe() {
    let (space, _) = built();
    space.write("other.yaml", RECIPE.replace("mean", "other"));
    space.ok(&["build", "-q", "other.yaml"]);
    let numbers = |args: &[&str]| -> Vec<u64> {
        let builds = space.document(args)["builds"].as_array().unwrap().clone();
        builds.iter().map(|build| build["build"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&["log"]), [4, 3, 2, 1]);
    assert_eq!(numbers(&["log", "recipe.yaml"]), [3, 2, 1]);
    assert_eq!(numbers(&["log", "other.yaml"]), [4]);
    assert_eq!(numbers(&["log", "recipe.yaml", "-n", "2"]), [3, 2]);
    let log = space.ok(&["log"]).stdout;
    let of = |recipe: &str| log.find(&format!("/{recipe}\n")).unwrap();
    assert!(of("other.yaml") < log.find("build 4").unwrap() && log.find("build 4") < log.find("recipe.yaml"));
}

#[test]
fn a_tag_names_its_build_and_keeps_its_results() {
    let (space, models) = built();
    space.ok(&["tag", "1", "first", "--note", "before the \"edit\""]);
    space.ok(&["tag", "first", "best.of-all"]);
    assert_eq!(space.ok(&["tag"]).stdout.lines().count(), 2);
    let tags = space.document(&["tag"]);
    assert_eq!((&tags["tags"][1]["name"], &tags["tags"][1]["build"]), (&"first".into(), &1.into()));
    assert_eq!(tags["tags"][1]["note"], "before the \"edit\"");
    assert!(space.ok(&["log"]).stdout.contains("build 1  [best.of-all, first]"));
    // It is a root, whatever the limits are.
    space.ok(&["cache", "gc", "--stale"]);
    space.ok(&["cache", "gc", "--max-size", "1", "--keep-builds", "0"]);
    let built = space.build(&["--from", "first", "--out", "again"]);
    assert_eq!(built.ran.len(), 0);
    assert!(fs::read(space.path("again/model.safetensors")).unwrap() == models[0]);
    // It moves only if that is meant.
    let error = space.fails(2, &["tag", "2", "first"]);
    assert!(error.contains("build 1 is tagged `first`") && error.contains("--force"), "{error}");
    space.ok(&["tag", "2", "first", "--force"]);
    assert_eq!(space.document(&["show", "first"])["build"], 2);
    space.ok(&["tag", "--delete", "first"]);
    let error = space.fails(2, &["show", "first"]);
    assert!(error.contains("is tagged `first`") && error.contains("lamarck tag"), "{error}");
    space.ok(&["tag", "--delete", "best.of-all"]);
    assert_eq!(space.document(&["tag"])["tags"], serde_json::json!([]));
    for name in ["7", "-x", "a b", "a/b", ""] {
        let error = space.fails(2, &["tag", "2", "--", name]);
        assert!(error.contains("cannot be a tag"), "{name}: {error}");
    }
}

#[test]
fn show_tells_all_that_is_recorded() {
    let space = Space::new();
    Checkpoint::decoder(2, 1).write(&space.path("models/org/a"));
    Checkpoint::decoder(2, 2).write(&space.path("models/org/b"));
    space.write(
        "recipe.yaml",
        "name: mean\nmerge_method: linear\nmodels: [{model: org/a}, {model: org/b}]\nparameters: {weight: 0.5}\n",
    );
    assert!(space.fails(2, &["show"]).contains("nothing has been built"));
    let built = space.build(&["recipe.yaml", "--models", "models"]);
    let ran = built.ran.len() as u64;
    let shown = space.document(&["show"]);
    assert_eq!((&shown["build"], &shown["stages"][0]["stage"]), (&1.into(), &"mean".into()));
    assert_eq!(shown["stages"][0]["ran"]["count"].as_u64().unwrap(), ran);
    assert_eq!(shown["stages"][0]["actions"].as_u64().unwrap(), ran);
    assert!(shown["stages"][0]["ran"]["thread_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(shown["hashed"]["count"].as_u64().unwrap(), 2 * ran);
    assert_eq!(shown["recipe_text"], space.read("recipe.yaml"));
    assert_eq!(shown["models"][0], space.path("models").to_str().unwrap());
    assert_eq!(space.ok(&["show", "1", "--recipe"]).stdout, space.read("recipe.yaml"));
    let page = space.ok(&["show", "1"]).stdout;
    for told in ["build 1, ", "recipe.yaml", "mean -> merges/mean", "1 thread", "models  "] {
        let told = if told == "1 thread" { "thread" } else { told };
        assert!(page.contains(told), "{told}: {page}");
    }
    // Its models are found again without being told where they are.
    space.ok(&["build", "-q", "--from", "1", "--out", "again"]);
    assert_eq!(
        fs::read(space.path("again/model.safetensors")).unwrap(),
        fs::read(space.path("merges/mean/model.safetensors")).unwrap()
    );
}

#[test]
fn collecting_without_a_limit_says_what_could_go() {
    let (space, _) = built();
    let stat = space.document(&["cache", "stat"]);
    let would = space.document(&["cache", "gc"]);
    assert_eq!((&would["dry_run"], &would["removed"]), (&true.into(), &stat["old"]));
    let text = space.ok(&["cache", "gc"]).stdout;
    assert!(
        text.starts_with("nothing removed") && text.contains("--stale") && text.contains("--max-size"),
        "{text}"
    );
    assert!(text.contains("records of 1 build"), "{text}");
    assert_eq!(space.document(&["cache", "stat"]), stat);
    let did = space.document(&["cache", "gc", "--stale"]);
    assert_eq!((&did["dry_run"], &did["removed"]), (&false.into(), &stat["old"]));
    assert_eq!(space.document(&["cache", "stat"])["old"], 0);
}

#[test]
fn an_earlier_build_is_written_out_again() {
    let (space, models) = built();
    fs::remove_file(space.path("recipe.yaml")).unwrap();
    for (number, model) in [(1, 0), (2, 1), (3, 2), (1, 0)] {
        let built = space.build(&["--from", &number.to_string(), "--out", "again"]);
        assert_eq!(built.ran.len(), 0);
        assert!(fs::read(space.path("again/model.safetensors")).unwrap() == models[model]);
    }
    let error = space.fails(2, &["build", "--from", "99"]);
    assert!(error.contains("no build 99") && error.contains("lamarck log"), "{error}");
    // A result that was removed is made again.
    space.ok(&["cache", "gc", "--max-size", "1", "--keep-builds", "0"]);
    let built = space.build(&["--from", "2", "--out", "again"]);
    assert!(!built.ran.is_empty());
    assert!(fs::read(space.path("again/model.safetensors")).unwrap() == models[1]);
}

#[test]
fn a_build_of_other_sources_is_not_passed_off_as_the_old_one() {
    let (space, _) = built();
    Checkpoint::decoder(2, 9).write(&space.path("b"));
    let error = space.fails(1, &["build", "--from", "1", "--out", "again"]);
    assert!(error.contains("build 1 cannot be repeated") && error.contains("`mean`"), "{error}");
    assert!(!space.path("again").exists());
}

#[test]
fn results_that_are_gone_are_planned_and_told_of() {
    let space = Space::new();
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        Checkpoint::decoder(2, i as u64).write(&space.path(name));
    }
    space.write(
        "recipe.yaml",
        "name: one\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 0.5}\n\
         ---\nname: two\nmerge_method: linear\nmodels: [{model: one}, {model: ./c}]\nparameters: {weight: 0.25}\n",
    );
    settle();
    let first = space.build(&["recipe.yaml"]);
    let planned = || {
        let plan: Value = serde_json::from_str(&space.ok(&["plan", "recipe.yaml", "--json"]).stdout).unwrap();
        plan["run"].as_u64().unwrap() as usize
    };
    assert_eq!(planned(), 0);
    // Without the intermediate results nothing has to run, as long as the output is there.
    space.ok(&["cache", "gc", "--max-size", "1", "--keep-builds", "0"]);
    assert_eq!(planned(), 0);
    fs::remove_dir_all(space.path("merges")).unwrap();
    assert_eq!(planned(), first.ran.len());
    let plan = space.fails(10, &["plan", "recipe.yaml", "--exit-code"]);
    assert!(plan.is_empty(), "{plan}");
    assert!(space.ok(&["plan", "recipe.yaml"]).stdout.contains("results no longer in the cache"));
    assert!(space.ok(&["explain", "recipe.yaml"]).stdout.contains("no longer in the cache"));
    let again = space.build(&["recipe.yaml"]);
    assert_eq!(again.ran, first.ran);
    assert_eq!(again.finished[0]["rebuilt"], first.finished[0]["tensors"]);
    assert_eq!(again.finished[0]["reused"], 0);
}

#[test]
fn reasons_are_told_in_the_recipes_own_words() {
    let space = Space::with_full_recipe();
    space.ok(&["build", "-q", "recipe.yaml"]);
    let recipe = space.read("recipe.yaml");
    let n_lines = recipe.lines().count();
    let models = [
        "  - model:           CultriX/SeQwence-14B-EvolMerge\n",
        "  - model:           CultriX/Qwen2.5-14B-Wernicke\n",
    ];
    let edits = [
        (
            "weight:        0.90",
            "weight:        0.85",
            "weight of CultriX/SeQwence-14B-EvolMerge 0.9 -> 0.85: 542",
        ),
        ("[ 0.60, 0.70 ]", "[ 0.62, 0.72 ]", "t in slice 3 [0.6, 0.7] -> [0.62, 0.72]: 96"),
        ("method:        della ", "method:        della_linear ", "merge_method della -> della_linear: 542"),
        (
            &models.concat(),
            &[models[1], models[0]].concat(),
            "order of models CultriX/SeQwence-14B-EvolMerge, ",
        ),
        (models[0], "", "model CultriX/SeQwence-14B-EvolMerge removed: 542"),
        (
            models[0],
            &format!("{}  - model: sthenno-com/miscii-14b-1028\n", models[0]),
            "sthenno-com/miscii-14b-1028 added: 542",
        ),
    ];
    for (old, new, told) in edits {
        assert!(recipe.contains(old), "{old}");
        space.write("recipe.yaml", recipe.replacen(old, new, 1));
        let plan = space.ok(&["plan", "recipe.yaml"]).stdout;
        assert!(plan.contains(told), "{told}: {plan}");
        assert!(!plan.contains("stream") && !plan.contains("divisor"), "{plan}");
        let explained = space.ok(&["explain", "recipe.yaml"]).stdout;
        assert!(plan.lines().count() < n_lines && explained.lines().count() < n_lines, "{explained}");
    }
    // The seed is one change, however many masks it moves; what they are is told who asks.
    space.write("recipe.yaml", &recipe);
    let seeded = ["recipe.yaml", "--seed", "8"];
    assert!(space.ok(&[&["plan"], &seeded[..]].concat()).stdout.contains("  seed 0 -> 8: 1084 actions\n"));
    let explain = |more: &[&str]| space.ok(&[&["explain"], &seeded[..], more].concat()).stdout;
    assert!(!explain(&[]).contains("stream") && explain(&["-v"]).contains("stream"));
    space.ok(&[&["build", "-q"], &seeded[..]].concat());
    let log = space.ok(&["log"]).stdout;
    assert!(log.contains("seed 0 -> 8") && log.len() < recipe.len(), "{log}");
}

#[test]
fn variants_have_histories_of_their_own() {
    let (space, _) = built();
    settle();
    space.ok(&["build", "-q", "recipe.yaml"]);
    let explain = |args: &[&str]| space.ok(&[&["explain", "recipe.yaml"], args].concat()).stdout;
    // The last build of this recipe was of the other weight, and so was the one before of this variant.
    assert!(explain(&[]).contains(" 0 must run, 0 run if"), "{}", explain(&[]));
    space.ok(&["build", "-q", "recipe.yaml", "--set", "share=0.1"]);
    space.replace("recipe.yaml", "weight: 0.7}", "weight: 0.6}");
    let own = explain(&[]);
    assert!(own.contains("0.7 -> 0.6") && !own.contains("0.1") && !own.contains("0.25"), "{own}");
    // One that was never built is told from the recipe's last build.
    let new = explain(&["--set", "share=0.9"]);
    assert!(new.contains("0.1 -> 0.9") && new.contains("0.7 -> 0.6"), "{new}");
}

#[test]
fn log_lists_the_newest_builds_and_counts_the_rest() {
    let (space, _) = built();
    let log = space.ok(&["log", "-n", "2"]).stdout;
    assert_eq!(log.lines().filter(|line| line.starts_with("  build ")).count(), 2);
    assert!(
        log.contains("\n  build 3 ")
            && log.ends_with("1 older build not shown; `lamarck log -n N` lists more\n"),
        "{log}"
    );
    assert!(!space.ok(&["log"]).stdout.contains("older"));
}

#[test]
fn collecting_keeps_the_last_build_of_every_variant() {
    let (space, models) = built();
    let actions = || -> u64 {
        let stat: Value = serde_json::from_str(&space.ok(&["cache", "stat", "--json"]).stdout).unwrap();
        stat["actions"].as_u64().unwrap()
    };
    let before = actions();
    let would = space.ok(&["cache", "gc", "--stale", "--dry-run"]).stdout;
    assert!(would.contains("would remove the record of 1 build; 2 stay"), "{would}");
    assert_eq!(actions(), before);
    let did = space.ok(&["cache", "gc", "--stale"]).stdout;
    assert!(did.contains("removed the record of 1 build; 2 stay"), "{did}");
    assert_eq!(actions(), before / 3 * 2);
    assert!(space.ok(&["cache", "verify"]).stdout.contains("all sound"));
    assert_eq!(space.build(&["recipe.yaml"]).ran.len(), 0);
    assert!(space.fails(2, &["build", "--from", "1"]).contains("no build 1"));
    assert_eq!(space.build(&["--from", "2", "--out", "again"]).ran.len(), 0);
    assert!(fs::read(space.path("again/model.safetensors")).unwrap() == models[1]);
    // Numbers are not given twice.
    space.replace("recipe.yaml", "weight: 0.7}", "weight: 0.6}");
    space.ok(&["build", "-q", "recipe.yaml"]);
    let log = space.ok(&["log"]).stdout;
    assert!(log.contains("\n  build 5 ") && log.contains("mean: weight of ./b 0.75 -> 0.6"), "{log}");
}
