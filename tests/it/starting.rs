//! How one starts with lamarck: new projects, the repository's own, completions of shells, manual pages.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::examples::examples;
use crate::harness::{CARD, FULL, Run, Space, project};

const TEMPLATES: [&str; 5] = ["slerp", "ties", "della", "lamarck", "frankenmerge"];

#[test]
fn every_template_checks_and_builds() {
    let space = Space::new();
    let ancestors = project("recipes/ancestors");
    for template in TEMPLATES {
        let text = space.ok(&["new", template, "--template", template]).stdout;
        assert!(text.contains(&format!("cd {template} && lamarck build")), "{text}");
        for file in ["lamarck.toml", ".gitignore", "recipes/recipe.schema.json"] {
            assert!(space.path(template).join(file).is_file(), "{template}/{file}");
        }
        for args in [&["check", "--deny-warnings"][..], &["build", "-q"]] {
            let mut command = space.command(args);
            let run = Run::of(command.arg("--models").arg(&ancestors).current_dir(space.path(template)));
            assert_eq!(run.code, 0, "{template} {args:?}: {}", run.stderr);
        }
        assert!(space.path(template).join("cache").is_dir());
        // Words of recipes are no names of stages.
        let named = fs::read_dir(space.path(template).join("merges")).unwrap().next().unwrap().unwrap();
        let named = named.file_name().into_string().unwrap();
        assert!(named == template || named == format!("my-{template}"), "{named}");
        let schema: serde_json::Value = space.json(&format!("{template}/recipes/recipe.schema.json"));
        assert_eq!(schema, serde_json::from_str::<serde_json::Value>(&space.ok(&["schema"]).stdout).unwrap());
    }
}

#[test]
fn a_new_project_never_replaces_a_file() {
    let space = Space::new();
    space.write(".gitignore", "/mine\n");
    let run = space.ok(&["new"]);
    assert_eq!(space.read(".gitignore"), "/mine\n");
    assert!(run.stderr.contains(".gitignore was left unchanged"), "{}", run.stderr);
    let before = space.files("");
    let error = space.fails(2, &["new", ".", "--template", "ties"]);
    assert!(error.contains("already exists") && error.contains("nothing was written"), "{error}");
    assert!(space.files("") == before);
    assert!(space.fails(2, &["new", "x", "--template", "tie"]).contains("ties"));
    assert!(!space.path("x").exists());
}

#[test]
fn what_the_repository_ships_checks_and_builds_as_it_is() {
    let space = Space::new();
    let here = |args: &[&str]| Run::of(space.command(args).current_dir(project("")));
    let names = examples();
    let recipes = names.iter().map(|name| format!("examples/{name}.yaml"));
    for recipe in recipes.chain([FULL.to_owned(), CARD.to_owned()]) {
        let run = here(&["check", &recipe]);
        assert_eq!(run.code, 0, "{recipe}: {}", run.stderr);
    }
    let (cache, out) = (space.path("cache"), space.path("out"));
    let args = ["--cache", cache.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let run = here(&[&["build"][..], &args].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let built = fs::read(out.join("model.safetensors")).unwrap();
    // The card takes two models from the hub that the full recipe makes, and so comes to the same.
    fs::remove_dir_all(&out).unwrap();
    let run = here(&[&["build", CARD][..], &args].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(fs::read(out.join("model.safetensors")).unwrap() == built);
    // Outside of a checkout git knows nothing.
    let ignored =
        Command::new("git").args(["check-ignore", "cache", "merges"]).current_dir(project("")).output();
    if let Some(ignored) = ignored.ok().filter(|ignored| ignored.status.code() != Some(128)) {
        assert_eq!(String::from_utf8_lossy(&ignored.stdout), "cache\nmerges\n");
    }
}

#[test]
fn settings_name_the_recipe_to_build() {
    let space = Space::with_full_recipe();
    let settings = space.read("lamarck.toml");
    space.write("deep/er/recipe.yaml", space.read("recipe.yaml"));
    space.write("recipes/a.yaml", "wrong");
    space.write("recipes/b.yaml", "wrong");
    assert!(space.fails(2, &["check"]).contains("as `recipe` in lamarck.toml"));
    space.write("lamarck.toml", format!("recipe = 'deep/er/recipe.yaml'\n{settings}"));
    assert!(space.ok(&["check"]).stdout.starts_with("deep/er/recipe.yaml: "));
    // The settings are those above the working directory.
    let run = Run::of(space.command(&["check"]).current_dir(space.path("deep/er")));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let error = space.fails(1, &["check", "recipes/a.yaml"]);
    assert!(error.contains("recipes/a.yaml"), "the recipe that is named goes before it: {error}");
    space.write("lamarck.toml", "recipe = 'none.yaml'\n");
    assert!(space.fails(1, &["check"]).contains("none.yaml"));
}

/// What fish would be offered behind some words; the last may be a beginning.
fn offered(space: &Space, words: &[&str]) -> Vec<String> {
    let mut command = space.command(&[&["--", "lamarck"], words].concat());
    let run = Run::of(command.env("LAMARCK_COMPLETE", "fish"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{words:?}");
    run.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn shells_complete_recipes_stages_variables_and_builds() {
    let space = Space::with_full_recipe();
    space.write(
        "recipes/mine.yaml",
        "vars:\n  share: 0.5\n  # of the other\n  size: 1\n---\nname: mine\nmerge_method: slrep\n",
    );
    fs::create_dir(space.path("recipes/below")).unwrap();
    assert_eq!(offered(&space, &["build", "rec"]), ["recipes/mine.yaml", "recipe.yaml", "recipes/"]);
    assert_eq!(
        offered(&space, &["build", "recipe.yaml", "--stage", "lamarck-14b-conv"]),
        ["lamarck-14b-converge-della", "lamarck-14b-converge"]
    );
    assert_eq!(offered(&space, &["plan", "--stage", ""]), ["mine"], "of a recipe with an error, too");
    assert_eq!(offered(&space, &["build", "--set", "s"]), ["share=", "size="]);
    assert!(offered(&space, &["methods", "mod"]) == ["model_stock"]);
    assert!(offered(&space, &["inspect", "arcee"]) == ["arcee-ai/Virtuoso-Small"]);
    assert!(offered(&space, &["build", "--s"]).contains(&"--shard-size".to_owned()));
    // Nothing is made for the sake of an answer.
    let before = space.files("");
    assert_eq!(offered(&space, &["build", "--from", ""]), Vec::<String>::new());
    assert!(space.files("") == before && !space.path("cache").exists());
    space.ok(&["build", "-q", "recipe.yaml"]);
    assert_eq!(offered(&space, &["build", "--from", ""]), ["1"]);
    space.ok(&["tag", "1", "best"]);
    let before = space.files("cache");
    assert_eq!(offered(&space, &["show", ""])[..2], ["best", "1"]);
    assert_eq!(offered(&space, &["tag", "--delete", "b"]), ["best"]);
    assert_eq!(offered(&space, &["build", "--cache", "elsewhere", "--from", ""]), Vec::<String>::new());
    assert!(space.files("cache") == before);
    let started = Instant::now();
    offered(&space, &["build", "recipe.yaml", "--stage", ""]);
    assert!(started.elapsed() < Duration::from_millis(500), "an answer takes {:?}", started.elapsed());
    // Nothing is told of what goes wrong.
    space.write("lamarck.toml", "models = 7\n");
    space.write("cache/v2/index.redb", "no index");
    for words in
        [&["build", "--from", ""][..], &["build", "--stage", ""], &["build", "none.yaml", "--stage", ""]]
    {
        offered(&space, words);
    }
    let run = Run::of(space.command(&["--", "lamarck", "b"]).env("LAMARCK_COMPLETE", "no-shell"));
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""));
}

#[test]
fn every_shell_has_a_script_and_bash_runs_it() {
    let space = Space::with_full_recipe();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = space.ok(&["completions", shell]).stdout;
        assert!(script.contains("LAMARCK_COMPLETE") && script.contains("lamarck"), "{shell}: {script}");
    }
    assert!(space.fails(2, &["completions", "tcsh"]).contains("bash"));
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_lamarck")).parent().unwrap();
    let session = "source <(lamarck completions bash)\n\
        COMP_WORDS=(lamarck build recipe.yaml --stage lamarck-14b-r) COMP_CWORD=4 COMP_TYPE=9\n\
        _clap_complete_lamarck lamarck lamarck-14b-r --stage\n\
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", session]).current_dir(space.path(""));
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default()));
    let run = Run::of(&mut command);
    assert_eq!(run.stdout, "lamarck-14b-reason-model_stock\nlamarck-14b-reason-della\n", "{}", run.stderr);
}

#[test]
fn manual_pages_are_sound() {
    let space = Space::new();
    let text = space.ok(&["man", "pages"]).stdout;
    assert!(text.starts_with("wrote "), "{text}");
    let pages = space.files("pages");
    for name in ["lamarck.1", "lamarck-build.1", "lamarck-cache.1", "lamarck-cache-gc.1"] {
        let page = pages.get(std::path::Path::new(name)).unwrap_or_else(|| panic!("{name} is missing"));
        let page = String::from_utf8(page.clone()).unwrap();
        for heading in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH EXAMPLES"] {
            assert!(page.contains(heading), "{name}: no {heading}");
        }
        assert!(!page.contains('\x1b'), "{name}");
    }
    let Ok(groff) = Command::new("groff").arg("--version").output() else { return };
    assert!(groff.status.success());
    for page in pages.keys() {
        let mut command = Command::new("groff");
        let run = Run::of(command.args(["-man", "-ww", "-Tutf8"]).arg(page).current_dir(space.path("pages")));
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", page.display());
    }
}
