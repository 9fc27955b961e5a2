//! What a terminal shows: colours, lines of its width, and silence where it was asked for.

use std::process::Command;

use crate::checkpoints::Checkpoint;
use crate::harness::{Run, Space, settle};

/// Two stages, built once and edited since.
fn edited() -> Space {
    let space = Space::new();
    for (name, seed) in [("base", 1), ("a", 2), ("b", 3)] {
        Checkpoint::decoder(2, seed).write(&space.path(name));
    }
    space.write(
        "recipe.yaml",
        "name: trimmed\nmerge_method: ties\nbase_model: ./base\n\
         models: [{model: ./a, parameters: {weight: 0.9, gamma: 1}}, {model: ./b, parameters: {weight: 0.4}}]\n\
         ---\nname: blend\nmerge_method: slerp\nbase_model: ./base\nmodels: [{model: trimmed}]\nparameters: {t: 0.5}\n",
    );
    settle();
    space.ok(&["build", "-q", "recipe.yaml"]);
    space.replace("recipe.yaml", "weight: 0.9", "weight: 0.8");
    space
}

/// What a terminal of a width shows of a command, with settings of the environment before it.
fn shown(space: &Space, width: usize, environment: &str, args: &str) -> String {
    let line = format!(
        "stty cols {width} rows 24; TERM=xterm {environment} {} {args}",
        env!("CARGO_BIN_EXE_lamarck")
    );
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(space.path(""));
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "LAMARCK_CACHE"] {
        command.env_remove(variable);
    }
    let run = Run::of(command.env("HF_HOME", space.path("hf")).env("HF_HUB_OFFLINE", "1"));
    run.stdout.replace("\r\n", "\n")
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn colours_follow_the_terminal_the_environment_and_the_flag() {
    let space = edited();
    let is_coloured = |text: &str| text.contains('\x1b');
    for (environment, args, expected) in [
        ("", "explain recipe.yaml", true),
        ("NO_COLOR=1", "explain recipe.yaml", false),
        ("NO_COLOR=", "explain recipe.yaml", true),
        ("CLICOLOR=0", "explain recipe.yaml", false),
        ("TERM=dumb", "explain recipe.yaml", false),
        ("CI=true TERM=dumb", "explain recipe.yaml", false),
        ("CLICOLOR_FORCE=1 TERM=dumb", "explain recipe.yaml", true),
        ("", "explain recipe.yaml --color never", false),
        ("NO_COLOR=1", "explain recipe.yaml --color always", true),
        ("", "plan recipe.yaml", true),
        ("", "check recipe.yaml", true),
        ("", "log", true),
        ("", "plan --bogus", true),
        ("NO_COLOR=1", "plan --bogus", false),
        ("", "plan --bogus --color=never", false),
        ("", "plan --help", true),
        ("NO_COLOR=1", "plan --help", false),
        ("", "plan recipe.yaml --json", false),
    ] {
        let text = shown(&space, 100, environment, args);
        assert!(!text.is_empty());
        assert_eq!(is_coloured(&text), expected, "{environment} lamarck {args}: {text}");
    }
    for (variables, args, expected) in [
        (&[][..], &["explain", "recipe.yaml"][..], false),
        (&[("CLICOLOR_FORCE", "1")], &["explain", "recipe.yaml"], true),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &["explain", "recipe.yaml"], false),
        (&[("CLICOLOR_FORCE", "1")], &["explain", "recipe.yaml", "--json"], false),
        (&[], &["explain", "recipe.yaml", "--color", "always"], true),
        (&[], &["plan", "--bogus"], false),
        (&[], &["plan", "--help"], false),
    ] {
        let run = Run::of(space.command(args).envs(variables.iter().copied()));
        assert_eq!(is_coloured(&run.stdout) || is_coloured(&run.stderr), expected, "{variables:?} {args:?}");
    }
    let text = space.ok(&["explain", "recipe.yaml", "--color", "always"]).stdout;
    assert!(text.contains("weight of ./a \x1b[31m0.9\x1b[0m -> \x1b[32m0.8\x1b[0m"), "{text}");
}

#[test]
fn lines_are_as_wide_as_the_terminal_and_lose_nothing() {
    let space = edited();
    let words = |text: &str| plain(text).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for args in [
        "plan recipe.yaml",
        "explain recipe.yaml",
        "explain recipe.yaml --tensor up_proj",
        "check recipe.yaml",
        "methods",
        "methods della",
        "cache gc --dry-run",
        "verify merges/blend",
        "plan recipe.yaml --stage none",
        "build --from 999",
        "inspect no/where --offline",
    ] {
        let split: Vec<&str> = args.split(' ').collect();
        let run = space.run(&split);
        for width in [60, 80] {
            let text = shown(&space, width, "NO_COLOR=1", args);
            if args != "check recipe.yaml" {
                // Whatever order the two streams come in.
                let (mut one, mut two) = (words(&text), words(&format!("{}{}", run.stdout, run.stderr)));
                one.sort();
                two.sort();
                assert_eq!(one, two, "{args}");
            }
            for line in text.lines().filter(|line| line.trim().contains(' ')) {
                assert!(line.chars().count() <= width, "{args} at {width}: {line}");
            }
        }
    }
    let long = space.ok(&["methods", "della"]).stdout;
    assert!(long.lines().any(|line| line.len() > 100), "where no terminal is, lines are as long as they are");
}

#[test]
fn quiet_commands_print_errors_alone() {
    let space = edited();
    for args in [
        &["build", "recipe.yaml"][..],
        &["fetch", "recipe.yaml"],
        &["plan", "recipe.yaml"],
        &["explain", "recipe.yaml"],
        &["check", "recipe.yaml"],
        &["graph", "recipe.yaml"],
        &["inspect", "./a"],
        &["inspect", "merges/blend", "--stats"],
        &["log"],
        &["verify", "merges/blend"],
        &["verify", "merges/blend", "--rebuild"],
        &["methods"],
        &["cache", "stat"],
        &["cache", "gc"],
        &["cache", "verify"],
        &["new", "project"],
        &["man", "pages"],
    ] {
        let run = space.ok(&[args, &["-q"]].concat());
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""), "{args:?}");
    }
    assert!(space.ok(&["cache", "path", "-q"]).stdout == "cache\n", "what is for programs is printed");
    assert!(space.ok(&["plan", "recipe.yaml", "-q", "--json"]).stdout.starts_with('{'));
    let error = space.fails(1, &["plan", "-q", "nowhere.yaml"]);
    assert!(error.starts_with("error: ") && error.contains("nowhere.yaml"), "{error}");
    std::fs::write(space.path("merges/blend/model.safetensors"), "nothing").unwrap();
    let run = space.run(&["verify", "-q", "merges/blend"]);
    assert!(run.code == 3 && run.stdout.contains("model.safetensors"), "{run:?}");
}

#[test]
fn the_version_is_a_line_or_all_of_it() {
    let space = Space::new();
    let version = concat!("lamarck ", env!("CARGO_PKG_VERSION"));
    for args in [&["--version"][..], &["-V"]] {
        let text = space.ok(args).stdout;
        assert!(text.starts_with(version) && text.lines().count() == 1, "{text}");
    }
    for args in [&["-vV"][..], &["-Vv"], &["--version", "--verbose"], &["--verbose", "--version"]] {
        let text = space.ok(args).stdout;
        for key in ["commit: ", "target: ", "profile: ", "vectors: "] {
            assert!(text.lines().any(|line| line.starts_with(key)), "{args:?}: {text}");
        }
    }
}

#[test]
fn help_ends_with_examples_that_can_be_typed() {
    let space = edited();
    let commands = space.ok(&["--help"]).stdout;
    let (_, list) = commands.split_once("Commands:\n").expect("commands are listed");
    let names: Vec<&str> = list.lines().take_while(|line| !line.is_empty()).collect();
    let names = names
        .iter()
        .filter(|line| !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap());
    let mut n_examples = 0;
    for name in names.filter(|name| *name != "help") {
        let help = space.ok(&[name, "--help"]).stdout;
        let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{name}: {help}"));
        for example in examples.lines() {
            n_examples += 1;
            let at = example.find("lamarck ").map(|at| at + "lamarck ".len());
            let Some(at) = at.filter(|_| !example.trim().starts_with("man ")) else { continue };
            let end = ["   ", " |", " >", ")"].iter().filter_map(|end| example[at..].find(end)).min();
            let words = example[at..].get(..end.unwrap_or(example.len() - at)).unwrap();
            // With a flag that is read first of all, nothing runs.
            let line = format!("{} {words} --help", env!("CARGO_BIN_EXE_lamarck"));
            let run = Run::of(Command::new("sh").args(["-c", &line]).current_dir(space.path("")));
            assert_eq!(run.code, 0, "{example}: {}", run.stderr);
        }
    }
    assert!(n_examples > 20);
    assert!(space.fails(2, &["methods", "--cache", "x"]).contains("--cache"), "methods read no cache");
}
