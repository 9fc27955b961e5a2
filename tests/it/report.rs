//! The page of a build: what it says, how it behaves in a browser, and what making it costs.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::browser::{Browser, DOWN, ENTER, RIGHT};
use crate::checkpoints::Checkpoint;
use crate::harness::{Space, settle};

/// The page's file, and how many statistics were made for it.
fn report(space: &Space, args: &[&str]) -> (PathBuf, u64) {
    let document = space.document(&[&["report"], args].concat());
    let path = space.path(document["path"].as_str().unwrap());
    assert_eq!(document["bytes"].as_u64().unwrap(), fs::metadata(&path).unwrap().len());
    (path, document["statistics_ran"].as_u64().unwrap())
}

#[test]
fn a_second_report_is_free_and_an_edit_is_measured_alone() {
    let space = Space::with_full_recipe();
    settle();
    space.ok(&["build", "-q", "recipe.yaml"]);
    let (path, first) = report(&space, &[]);
    // Six stages of 542 merges each, five of them of task vectors, and where it all came from.
    assert_eq!(first, 542 * (6 + 5 + 1));
    let page = fs::read(&path).unwrap();
    assert!(page.len() < 2_000_000, "{}", page.len());
    assert_eq!(report(&space, &[]).1, 0);
    assert_eq!(fs::read(&path).unwrap(), page);
    // What is measured of a build stays as long as the build.
    assert_eq!(space.document(&["cache", "gc", "--stale"])["removed"], 0);
    assert_eq!(report(&space, &[]).1, 0);
    let edited = space.read("recipe.yaml").replacen("weight:        0.90", "weight:        0.85", 1);
    space.write("recipe.yaml", edited);
    space.ok(&["build", "-q", "recipe.yaml"]);
    let (second, ran) = report(&space, &[]);
    assert_eq!(second, space.path("lamarck-report-2.html"));
    assert!(ran > 0 && ran < first / 2, "{ran} of {first}");
    let text = fs::read_to_string(second).unwrap();
    assert!(text.contains("weight of CultriX/SeQwence-14B-EvolMerge 0.9 -&gt; 0.85"));
    // The earlier build is still told of as it was.
    assert_eq!(report(&space, &["1", "-o", "again.html"]).1, 0);
    assert_eq!(fs::read(space.path("again.html")).unwrap(), page);
}

/// Two models that differ from a base in known ways.
fn simple() -> Space {
    let space = Space::new();
    for (name, seed) in [("base", 1), ("a", 2), ("b", 3)] {
        Checkpoint::decoder(3, seed).write(&space.path(name));
    }
    space.write(
        "recipe.yaml",
        "name: mix\nmerge_method: ties\nbase_model: ./base\nmodels:\n\
         - {model: ./a, parameters: {weight: [0.2, 0.8], density: 0.5}}\n- {model: ./b, parameters: {weight: 0.3, density: 0.5}}\n",
    );
    settle();
    space
}

#[test]
fn numbers_are_those_of_the_tensors() {
    let space = simple();
    space.ok(&["build", "-q", "recipe.yaml"]);
    let (path, _) = report(&space, &[]);
    let page = fs::read_to_string(path).unwrap();
    let stats = space.document(&["inspect", "merges/mix", "--stats"]);
    let tensors = stats["tensors"].as_array().unwrap();
    assert!(!tensors.is_empty());
    for tensor in tensors {
        // For one stage, its base and its models are what it all goes back to.
        let name = tensor["tensor"].as_str().unwrap();
        let row = page.split(&format!("<td><code>{name}</code></td>")).nth(1).unwrap();
        let row = row.split("</tr>").next().unwrap();
        assert!(row.contains(&format!("{:.6}", tensor["cosine"].as_f64().unwrap())), "{name}: {row}");
        let largest = tensor["shares"]
            .as_array()
            .unwrap()
            .iter()
            .max_by(|x, y| x["share"].as_f64().unwrap().total_cmp(&y["share"].as_f64().unwrap()));
        let model = largest.unwrap()["model"].as_str().unwrap().trim_start_matches("./");
        assert!(
            row.contains(&format!("<td>./{model} ")) || row.contains(&format!("<td>{model} ")),
            "{name}: {row}"
        );
    }
    assert!(page.contains("weight of ./a, layer 0: 0.2") || page.contains(", layer 0: 0.2"), "the gradient");
    assert!(page.contains("Outside the layers a gradient counts with its first value"));
}

#[test]
fn what_changed_since_is_no_report_of_the_build() {
    let space = simple();
    assert!(space.fails(2, &["report"]).contains("nothing has been built"));
    space.ok(&["build", "-q", "recipe.yaml"]);
    let error = space.fails(2, &["report", "7"]);
    assert!(error.contains("no build 7"), "{error}");
    // Somebody's own page is not written over; an earlier report is.
    space.write("mine.html", "<p>mine</p>");
    let error = space.fails(2, &["report", "-o", "mine.html"]);
    assert!(error.contains("mine.html") && space.read("mine.html") == "<p>mine</p>", "{error}");
    report(&space, &["-o", "page.html"]);
    report(&space, &["-o", "page.html"]);
    Checkpoint::decoder(3, 9).write(&space.path("a"));
    settle();
    let error = space.fails(1, &["report", "-o", "late.html"]);
    assert!(error.contains("build 1 cannot be repeated") && error.contains("`mix`"), "{error}");
    assert!(!space.path("late.html").exists());
}

#[test]
fn lost_results_are_made_again_for_it() {
    let space = simple();
    space.ok(&["build", "-q", "recipe.yaml"]);
    fs::remove_dir_all(space.path("merges")).unwrap();
    let (_, ran) = report(&space, &[]);
    assert!(ran > 0);
}

#[test]
fn what_is_taken_as_it_is_is_told_by_layers() {
    let space = simple();
    space.write(
        "stack.yaml",
        "name: stack\nmerge_method: passthrough\nslices:\n- sources: [{model: ./a, layer_range: [0, 2]}]\n\
         - sources: [{model: ./b, layer_range: [1, 3]}]\n",
    );
    space.ok(&["build", "-q", "stack.yaml"]);
    let (path, ran) = report(&space, &[]);
    let page = fs::read_to_string(path).unwrap();
    assert!(
        page.contains("a: tensors of layers 0-1, ") && page.contains("b: tensors of layers 2-3, "),
        "{page}"
    );
    assert_eq!(ran, 0);
}

#[test]
fn the_page_works_in_a_browser() {
    let space = Space::with_full_recipe();
    space.ok(&["build", "-q", "recipe.yaml"]);
    let (path, _) = report(&space, &[]);
    let Some(browser) = Browser::start() else { return };
    browser.open(&path);
    let text = |selector: &str| {
        let found = browser.run(&format!("return document.querySelector('{selector}').textContent"));
        found.as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(text("h1"), "Build 1 of recipe.yaml");
    let background = || browser.run("return getComputedStyle(document.body).backgroundColor");
    browser.emulate("light", "screen");
    let light = background();
    browser.picture("report-light");
    browser.emulate("dark", "screen");
    assert_ne!(background(), light);
    browser.picture("report-dark");
    browser.emulate("light", "screen");
    // A cell tells its number to the pointer and to the keyboard, and leads to its tensors.
    browser.click("figure.heat svg");
    let wanted = || browser.run("return document.getElementById('filter').value").to_string();
    assert!(wanted().contains('.'), "{}", wanted());
    let shown = || browser.run("return document.querySelectorAll('#tensors tbody tr:not([hidden])').length");
    assert!(shown().as_u64().unwrap() > 0 && shown().as_u64().unwrap() < 542, "{}", shown());
    browser.run("document.querySelector('figure.heat svg').focus()");
    let before = text("figure.heat output");
    browser.press(&[RIGHT, RIGHT, DOWN].concat());
    assert_ne!(text("figure.heat output"), before);
    browser.press(ENTER);
    assert_eq!(browser.run("return document.activeElement.id"), "filter");
    // The filter takes several words.
    browser.run("document.getElementById('filter').value = ''");
    browser.press("layers.20 mlp");
    assert_eq!(shown(), 3);
    assert_eq!(text("#filtered"), "3 of 542");
    // Stages are links.
    browser.click("#stages ~ div a");
    assert_eq!(browser.run("return location.hash.startsWith('#stage-')"), true);
    browser.picture("report-stage");
    // No picture is wider than the page, and nothing but the wide tables scrolls sideways.
    let overflow = browser.run("return document.documentElement.scrollWidth - innerWidth");
    assert!(overflow.as_i64().unwrap() <= 0, "{overflow}");
    browser.emulate("light", "print");
    let hidden = browser.run("return getComputedStyle(document.querySelector('.no-print')).display");
    assert_eq!(hidden, Value::from("none"));
    // What is folded away on the screen is on the paper.
    let folded = browser.run(
        "const map = document.querySelector('details:not([open]) figure.heat'); return map.checkVisibility()",
    );
    assert_eq!(folded, true);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
