//! What each command prints, for people and for programs.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, copy_dir, settle};

/// Models that were written long enough ago for their stamps to be trusted.
static MODELS: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("commands");
    for (name, seed) in [("base", 1), ("a", 2), ("b", 3)] {
        Checkpoint::decoder(4, seed).write(&dir.join("org").join(name));
    }
    settle();
    dir
});

/// Two stages over three models, built once.
fn built() -> Space {
    let space = Space::new();
    space.use_models(&MODELS);
    space.write(
        "recipe.yaml",
        "name: trimmed\n\
         merge_method: ties\n\
         base_model: org/base\n\
         models:\n  \
           - model: org/a\n    \
             parameters:\n      \
               weight: 0.90\n      \
               density: 0.5\n  \
           - {model: org/b, parameters: {weight: 0.4}}\n\
         ---\n\
         name: blend\n\
         merge_method: slerp\n\
         base_model: org/base\n\
         models: [{model: trimmed}]\n\
         parameters: {t: [0, 0.5, 0.7]}\n",
    );
    space.ok(&["build", "recipe.yaml"]);
    space
}

fn json(space: &Space, args: &[&str]) -> Value {
    space.document(args)
}

#[test]
fn build_ends_with_what_a_tuner_wants_to_know() {
    let space = built();
    space.replace("recipe.yaml", "weight: 0.90", "weight: 0.85");
    let run = space.ok(&["build", "recipe.yaml"]);
    assert_eq!(run.stdout, "", "standard output is for results that were asked for");
    let last = run.stderr.lines().last().unwrap();
    let (text, seconds) = last.rsplit_once(" in ").unwrap();
    assert_eq!(text, "built blend: 15 tensors, 6 reused, 9 rebuilt (trimmed weight of org/a 0.9 -> 0.85)");
    assert!(seconds.strip_suffix(" s").unwrap().parse::<f64>().is_ok());

    space.replace("recipe.yaml", "weight: 0.85", "weight: 0.80");
    let quiet = space.ok(&["build", "-q", "recipe.yaml"]);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    space.replace("recipe.yaml", "weight: 0.80", "weight: 0.75");
    let verbose = space.ok(&["build", "-v", "recipe.yaml"]);
    assert!(verbose.stderr.contains("ran trimmed: model.layers.2.mlp.up_proj.weight"));
}

#[test]
fn a_trace_tells_what_every_thread_did() {
    let space = built();
    space.replace("recipe.yaml", "weight: 0.90", "weight: 0.85");
    space.ok(&["build", "recipe.yaml", "--trace", "trace.json"]);
    let events = space.json("trace.json");
    let events = events.as_array().expect("a trace is a list of events");
    let named = |name: &str| events.iter().filter(|event| event["name"] == name).collect::<Vec<_>>();
    assert_eq!(named("ties").len(), 9);
    assert!(named("ties").iter().all(|event| event["ph"] == "X" && event["dur"].as_f64() > Some(0.0)));
    let of: Vec<&str> = named("slerp").iter().filter_map(|event| event["args"]["of"].as_str()).collect();
    assert!(of.contains(&"blend: model.layers.1.mlp.up_proj.weight"), "{of:?}");
    let threads: Vec<&str> =
        named("thread_name").iter().filter_map(|event| event["args"]["name"].as_str()).collect();
    assert!(threads.contains(&"writer") && threads.contains(&"committer"), "{threads:?}");
    let error = space.fails(4, &["build", "recipe.yaml", "--trace", "nowhere/trace.json"]);
    assert!(error.contains("nowhere/trace.json"), "{error}");
    let mut command = space.command(&["check", "recipe.yaml"]);
    let output = command.env("LAMARCK_SIMD", "mmx").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("avx512"));
}

#[test]
fn plan_says_what_would_run_and_runs_nothing() {
    let space = built();
    assert_eq!(
        space.ok(&["plan", "--exit-code", "recipe.yaml"]).stdout.lines().last(),
        Some("everything is up to date")
    );
    space.replace("recipe.yaml", "weight: 0.90", "weight: 0.85");
    let before = space.files("");
    // Times and free disks differ from machine to machine.
    let told = space.ok(&["plan", "recipe.yaml"]).stdout;
    let (of_machine, told): (Vec<&str>, Vec<&str>) =
        told.lines().partition(|line| line.starts_with("time: ") || line.starts_with("disk: "));
    assert!(of_machine[0].starts_with("time: about ") && of_machine[1].contains("to write to cache"));
    insta::assert_snapshot!(told.join("\n"), @r"
    trimmed: 15 tensors: 9 run, 6 not needed
    blend: 15 tensors: 9 run if their inputs change, 6 taken from org/base

    to run: 9 actions, and up to 9 below them where bytes change; 1.1 kB to make
      trimmed weight of org/a 0.9 -> 0.85: 9 actions
    ");
    assert_eq!(space.run(&["plan", "--exit-code", "recipe.yaml"]).code, 10);
    let plan = json(&space, &["plan", "recipe.yaml"]);
    assert_eq!(plan["stages"][0]["run"], 9);
    assert_eq!(plan["stages"][1]["run_if_changed"], 9);
    assert_eq!(plan["stages"][1]["same_as"]["org/base"], 6);
    assert!(space.files("") == before, "plan changes nothing");
}

#[test]
fn plan_works_without_a_cache() {
    let space = built();
    std::fs::remove_dir_all(space.path("cache")).unwrap();
    let plan = json(&space, &["plan", "recipe.yaml"]);
    assert_eq!((&plan["run"], &plan["run_if_changed"]), (&18.into(), &0.into()));
    assert!(!space.path("cache").exists());
}

#[test]
fn explain_names_field_old_new_and_line() {
    let space = built();
    space.replace("recipe.yaml", "weight: 0.90", "weight: 0.85");
    insta::assert_snapshot!(space.ok(&["explain", "recipe.yaml"]).stdout, @r"
    18 actions: 9 must run, 9 run if their inputs change, 0 up to date
         9  trimmed: weight of org/a 0.9 -> 0.85   recipe.yaml:7
    for single tensors: lamarck explain --tensor NAME
    ");
    insta::assert_snapshot!(space.ok(&["explain", "recipe.yaml", "--tensor", "layers.3.mlp"]).stdout, @r"
    trimmed: model.layers.3.mlp.up_proj.weight: must run
      weight of org/a (inputs[1].weight): 0.9 -> 0.85   recipe.yaml:7
    blend: model.layers.3.mlp.up_proj.weight: runs if its inputs come out different
    ");
    let list = json(&space, &["explain", "recipe.yaml", "--stage", "trimmed"]);
    let has_change = |entry: &&Value| entry["reason"] == "changed";
    let change = &list["actions"].as_array().unwrap().iter().find(has_change).unwrap()["changes"][0];
    assert_eq!(change["what"], "weight of org/a");
    assert_eq!((&change["old"], &change["new"], &change["line"]), (&"0.9".into(), &"0.85".into(), &7.into()));

    // A source that changed is a reason too.
    copy_dir(&MODELS, &space.path("mine"));
    Checkpoint::decoder(4, 9).write(&space.path("mine/org/b"));
    space.use_models(&space.path("mine"));
    space.replace("recipe.yaml", "weight: 0.85", "weight: 0.90");
    let text = space.ok(&["build", "recipe.yaml"]).stderr;
    assert!(text.contains("the tensor in org/b changed"), "{text}");
}

#[test]
fn explain_names_what_was_added_and_what_was_never_built() {
    let space = built();
    space.replace(
        "recipe.yaml",
        "{model: org/b, parameters: {weight: 0.4}}",
        "{model: org/b, parameters: {weight: 0.4, density: 0.7}}",
    );
    let text = space.ok(&["explain", "recipe.yaml"]).stdout;
    assert!(text.contains("density of org/b not used -> 0.7"), "{text}");
    let text = space.read("recipe.yaml");
    space.write("recipe.yaml", format!("{text}---\nname: new\nmerge_method: linear\nmodels: [{{model: blend}}, {{model: org/a}}]\nparameters: {{weight: 1}}\n"));
    let text = space.ok(&["explain", "recipe.yaml"]).stdout;
    assert!(text.contains("new"), "{text}");
}

#[test]
fn check_counts_and_lists() {
    let space = built();
    assert_eq!(space.ok(&["check", "recipe.yaml"]).stdout, "recipe.yaml: 2 stages, 30 tensors, no errors\n");
    let document = json(&space, &["check", "recipe.yaml"]);
    assert_eq!(document["stages"], 2);
    space.replace("recipe.yaml", "density: 0.5", "gamma: 0.5");
    let error = space.fails(1, &["check", "--deny-warnings", "recipe.yaml"]);
    assert!(error.contains("unused-parameter") && error.contains("1 warning"), "{error}");
}

#[test]
fn graph_is_written_for_graphviz_and_for_mermaid() {
    let space = built();
    insta::assert_snapshot!(space.ok(&["graph", "recipe.yaml", "--format", "dot"]).stdout, @r#"
    digraph {
        0 [ shape = ellipse label = "org/base"]
        1 [ shape = ellipse label = "org/a"]
        2 [ shape = ellipse label = "org/b"]
        3 [ shape = box label = "trimmed (ties)"]
        4 [ shape = box label = "blend (slerp)"]
        0 -> 3 [ label = "base"]
        1 -> 3 [ label = "weight 0.9\ndensity 0.5"]
        2 -> 3 [ label = "weight 0.4"]
        0 -> 4 [ label = "base"]
        3 -> 4 [ ]
    }
    "#);
    insta::assert_snapshot!(space.ok(&["graph", "recipe.yaml", "--format", "mermaid"]).stdout, @r#"
    graph TD
      n0(["org/base"])
      n1(["org/a"])
      n2(["org/b"])
      n3["trimmed (ties)"]
      n4["blend (slerp)"]
      n0 -->|"base"| n3
      n1 -->|"weight 0.9<br>density 0.5"| n3
      n2 -->|"weight 0.4"| n3
      n0 -->|"base"| n4
      n3 --> n4
    "#);
}

#[test]
fn inspect_shows_a_checkpoint() {
    let space = built();
    let text = space.ok(&["inspect", "org/a", "--models", MODELS.to_str().unwrap()]).stdout;
    assert!(text.contains("layers: 4 (model.layers.N)"), "{text}");
    assert!(text.contains("model.layers.N.mlp.up_proj.weight  F32 [6, 4]  x4"), "{text}");
    let document = json(&space, &["inspect", "org/a", "--models", MODELS.to_str().unwrap(), "--digests"]);
    let tensors = document["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 15);
    assert!(tensors.iter().all(|tensor| tensor["blake3"].as_str().is_some_and(|digest| digest.len() == 64)));
    assert!(space.fails(1, &["inspect", "org/none"]).contains("org/none"));
}

#[test]
fn log_lists_builds_newest_first() {
    let space = built();
    space.replace("recipe.yaml", "weight: 0.90", "weight: 0.85");
    space.ok(&["build", "-q", "recipe.yaml"]);
    space.ok(&["build", "-q", "recipe.yaml"]);
    let list = json(&space, &["log"]);
    let builds: Vec<&Value> = list["builds"].as_array().unwrap().iter().collect();
    assert_eq!(builds.len(), 2, "a build that changed nothing is no news");
    assert_eq!((&builds[0]["build"], &builds[1]["build"]), (&2.into(), &1.into()));
    assert_eq!(builds[0]["ran"], 18);
    assert_eq!(builds[0]["reasons"][0], "trimmed weight of org/a 0.9 -> 0.85");
    assert_eq!(json(&space, &["log", "-n", "1"])["builds"].as_array().map(Vec::len), Some(1));
    assert!(space.ok(&["log"]).stdout.contains("/recipe.yaml\n  build 2  "));
}

#[test]
fn cache_is_where_it_was_said_to_be() {
    let space = built();
    assert_eq!(space.ok(&["cache", "path"]).stdout, "cache\n");
    let stat = json(&space, &["cache", "stat"]);
    assert_eq!((&stat["actions"], &stat["builds"]), (&18.into(), &1.into()));
    let elsewhere = space.command(&["cache", "path"]).env("LAMARCK_CACHE", "other").output().unwrap();
    assert_eq!(elsewhere.stdout, b"other\n");
    assert_eq!(space.ok(&["cache", "path", "--cache", "mine"]).stdout, "mine\n");
    assert!(space.read("cache/CACHEDIR.TAG").starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
}

#[test]
fn methods_are_described() {
    let space = Space::new();
    let names = [
        "passthrough",
        "linear",
        "slerp",
        "nuslerp",
        "multislerp",
        "karcher",
        "task_arithmetic",
        "ties",
        "dare_linear",
        "dare_ties",
        "della",
        "della_linear",
        "breadcrumbs",
        "breadcrumbs_ties",
        "model_stock",
        "sce",
        "ram",
        "ramplus_tl",
        "nearswap",
        "arcee_fusion",
    ];
    let list = space.methods();
    let listed: Vec<&str> = list.iter().map(|method| method["name"].as_str().unwrap()).collect();
    // Others may join them.
    assert_eq!(listed.iter().filter(|name| names.contains(name)).collect::<Vec<_>>(), names.each_ref());
    let lines = space.ok(&["methods"]).stdout;
    assert_eq!(lines.lines().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(), listed);
    for name in listed {
        let text = space.ok(&["methods", name]).stdout;
        assert!(text.starts_with(&format!("{name}: ")) && text.contains("\n  r = "), "{text}");
    }
}

#[test]
fn methods_tell_which_values_their_parameters_take() {
    let space = Space::new();
    let text = space.ok(&["methods", "breadcrumbs"]).stdout;
    assert!(text.contains("\n  gamma (for each model, default 0.01, between 0 and 1)\n"), "{text}");
    assert!(text.contains("\n  density (for each model, default 1)\n"), "{text}");
    let method = json(&space, &["methods", "breadcrumbs"]);
    let param = |name: &str| method["params"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap();
    assert_eq!((&param("gamma")["minimum"], &param("gamma")["maximum"]), (&0.0.into(), &1.0.into()));
    assert!(param("density").get("minimum").is_none() && param("density").get("maximum").is_none());
    assert_eq!(
        (&method["draws"], &json(&space, &["methods", "della"])["draws"]),
        (&false.into(), &true.into())
    );
}

#[test]
fn every_command_has_help() {
    let space = Space::new();
    for command in ["build", "plan", "explain", "check", "graph", "inspect", "log", "methods", "cache"] {
        let help = space.ok(&[command, "--help"]).stdout;
        assert!(help.contains("Usage: lamarck ") && help.contains("--json"), "{help}");
        let options = help.lines().filter(|line| line.trim_start().starts_with("--"));
        assert!(options.clone().count() > 0, "{help}");
    }
    assert!(space.ok(&["--help"]).stdout.contains("Exit codes:"));
    assert!(space.ok(&["--version"]).stdout.starts_with("lamarck "));
}

#[test]
fn the_recipe_need_not_be_named_where_there_is_but_one() {
    let space = built();
    std::fs::create_dir(space.path("recipes")).unwrap();
    std::fs::rename(space.path("recipe.yaml"), space.path("recipes/only.yaml")).unwrap();
    assert_eq!(json(&space, &["plan"])["run"], 0);
    space.write("recipes/other.yaml", space.read("recipes/only.yaml"));
    let error = space.fails(2, &["plan"]);
    assert!(error.contains("recipes/only.yaml") && error.contains("recipes/other.yaml"), "{error}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let space = built();
    let pipe = format!(
        "{} methods | true; {} plan recipe.yaml --json | head -c 1",
        env!("CARGO_BIN_EXE_lamarck"),
        env!("CARGO_BIN_EXE_lamarck")
    );
    let output =
        std::process::Command::new("sh").args(["-c", &pipe]).current_dir(space.path("")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
