//! Models of the hub that are read where they are: every byte that is needed comes once, and none is kept.

use std::fs;

use crate::harness::{FULL, Space, project, project_text};
use crate::hub::{ancestors, hub, local, space};
use crate::hub_server::{Fault, HubServer, Request};

const OUTPUT: &str = "merges/lamarck-14b-finalize";

fn hub_of_ancestors() -> HubServer {
    hub(&ancestors().iter().map(String::as_str).collect::<Vec<_>>())
}

/// The parts of tensors that requests brought, headers left aside: what of, and from where to where.
fn parts(requests: &[Request]) -> Vec<(&str, usize, usize)> {
    let ranged = requests.iter().filter_map(|request| Some((request, request.range?)));
    let parts = ranged.filter(|(_, (first, _))| *first > 0);
    let mut parts: Vec<_> =
        parts.map(|(of, (first, _))| (of.path.as_str(), first, first + of.sent)).collect();
    parts.sort_unstable();
    parts
}

/// Bytes of parts, none of which may have come twice.
#[track_caller]
fn bytes_once(requests: &[Request]) -> usize {
    let parts = parts(requests);
    let mut pairs = parts.windows(2);
    assert!(pairs.all(|pair| pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1), "every byte comes once");
    parts.iter().map(|(_, from, to)| to - from).sum()
}

/// Changes one weight of the reasoning branch.
#[track_caller]
fn edit(space: &Space) {
    let density = "density:       0.70\n      weight:        0.90";
    space.replace("recipe.yaml", density, "density:       0.70\n      weight:        0.85");
}

fn output(space: &Space) -> Vec<u8> {
    fs::read(space.path(OUTPUT).join("model.safetensors")).expect("there is an output")
}

#[test]
fn what_is_streamed_comes_once_and_is_not_kept() {
    let full = project_text(FULL);
    let hub = hub_of_ancestors();
    let expected = local(&full, OUTPUT);
    for memory in ["1GiB", "2MB"] {
        let space = space(&full);
        let plan = hub.ok(&space, &["plan", "recipe.yaml", "--stream", "--json"]).stdout;
        let plan: serde_json::Value = serde_json::from_str(&plan).expect("it is JSON");
        assert!(space.path("cache/CACHEDIR.TAG").exists() && space.path("cache/.gitignore").exists());
        hub.requests();
        let run = hub.ok(&space, &["build", "recipe.yaml", "--stream", "--memory", memory]);
        assert_eq!(output(&space), expected);
        let streamed = bytes_once(&hub.requests());
        assert_eq!(plan["bytes_to_fetch"], streamed, "the plan says what will be fetched");
        assert!(run.stderr.contains("were not needed"), "{}", run.stderr);
        let weights = |folder: &str| {
            let files = space.files(folder).into_keys();
            files.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).count()
        };
        assert_eq!((weights("hf"), weights("cache")), (0, 0));
        // What was read is remembered: a build that changes nothing fetches nothing, one after an edit what it reads.
        hub.ok(&space, &["build", "recipe.yaml", "--stream"]);
        assert_eq!(bytes_once(&hub.requests()), 0);
        space.ok(&["build", "recipe.yaml", "--stream"]);
        let plan = space.ok(&["plan", "recipe.yaml", "--stream"]).stdout;
        assert!(plan.contains("everything is up to date") && !plan.contains("to fetch"), "{plan}");
        edit(&space);
        let stderr = space.fails(1, &["build", "recipe.yaml", "--stream"]);
        assert!(stderr.contains("HF_HUB_OFFLINE prevents lamarck from contacting the hub"), "{stderr}");
        hub.ok(&space, &["build", "recipe.yaml", "--stream", "--memory", memory]);
        let again = bytes_once(&hub.requests());
        assert!(again > 0 && again < streamed, "{again} of {streamed}");
        assert_eq!(output(&space), local(&space.read("recipe.yaml"), OUTPUT));
    }
}

#[test]
fn streams_get_over_faults() {
    let full = project_text(FULL);
    let hub = hub_of_ancestors();
    let space = space(&full);
    for fault in [Fault::Cut(10), Fault::Status(503, vec![]), Fault::Whole, Fault::Status(403, vec![])] {
        hub.fail_once("signature", fault);
    }
    space.write("lamarck.toml", "stream = true\n");
    hub.ok(&space, &["build", "recipe.yaml"]);
    assert_eq!(output(&space), local(&full, OUTPUT));
    hub.fail_always("signature", Fault::Status(500, vec![]));
    edit(&space);
    let stderr = hub.fails(&space, 6, &["build", "recipe.yaml"]);
    assert!(stderr.contains("status 500"), "{stderr}");
    assert_eq!(output(&space), local(&full, OUTPUT), "the old model is as it was");
}

#[test]
fn streamed_bytes_that_are_not_those_of_the_lockfile_are_refused() {
    let full = project_text(FULL);
    let hub = hub_of_ancestors();
    let space = space(&full);
    hub.ok(&space, &["build", "recipe.yaml", "--stream"]);
    let expected = output(&space);
    fs::remove_dir_all(space.path("cache/v2")).expect("there is a cache");
    hub.fail_always("signature", Fault::WrongBytes);
    let stderr = hub.fails(&space, 1, &["build", "recipe.yaml", "--stream", "--locked"]);
    assert!(stderr.contains("lockfile") || stderr.contains("NaN"), "{stderr}");
    assert_eq!(output(&space), expected);
}

#[test]
fn single_models_are_looked_into_without_being_fetched() {
    let hub = hub_of_ancestors();
    let space = Space::new();
    let id = "arcee-ai/Virtuoso-Small";
    let run = hub.ok(&space, &["inspect", id]);
    let here =
        space.ok(&["inspect", project("recipes/ancestors").join(id).to_str().expect("paths are text")]);
    assert_eq!(run.stdout.lines().count(), here.stdout.lines().count());
    assert!(run.stdout.contains("579"), "{}", run.stdout);
    assert_eq!(bytes_once(&hub.requests()), 0);
}
