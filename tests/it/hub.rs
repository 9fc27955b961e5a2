//! Models of the hub, fetched into the cache that Python's tools share.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::harness::{Run, Space, TWO_STAGES, copy_dir, project};
use crate::hub_server::{Fault, HubServer, git_sha1, sha256};

/// The models that `TWO_STAGES` needs.
pub const MODELS: [&str; 3] =
    ["arcee-ai/Virtuoso-Small", "CultriX/SeQwence-14B-EvolMerge", "CultriX/Qwen2.5-14B-Wernicke"];

/// A hub with the shipped ancestors.
pub fn hub(models: &[&str]) -> HubServer {
    let hub = HubServer::start();
    for id in models {
        hub.push(id, &project("recipes/ancestors").join(id));
    }
    hub
}

pub fn space(recipe: &str) -> Space {
    let space = Space::new();
    space.write("recipe.yaml", recipe);
    space
}

/// The bytes of a recipe's output, built from the models on this machine.
pub fn local(recipe: &str, output: &str) -> Vec<u8> {
    let space = space(recipe);
    space.use_models(&project("recipes/ancestors"));
    space.ok(&["build", "recipe.yaml"]);
    fs::read(space.path(output).join("model.safetensors")).expect("there is an output")
}

/// The ids of all shipped ancestors.
pub fn ancestors() -> Vec<String> {
    let root = project("recipes/ancestors");
    let folders = |dir: &Path| {
        let entries = fs::read_dir(dir).expect("the folder can be read");
        entries.map(|entry| entry.expect("the folder can be read").path()).filter(|path| path.is_dir())
    };
    let models = folders(&root).flat_map(|org| folders(&org).collect::<Vec<_>>());
    models.map(|dir| dir.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect()
}

/// The commit that `main` is in the cache.
fn commit_in(space: &Space, id: &str) -> String {
    space.read(&format!("hf/hub/models--{}/refs/main", id.replace('/', "--")))
}

#[test]
fn what_is_nowhere_is_fetched_into_the_shared_cache() {
    let hub = hub(&MODELS);
    let space = space(TWO_STAGES);
    let plan = hub.ok(&space, &["plan", "recipe.yaml"]).stdout;
    assert!(plan.contains("to fetch: 4.0 MB of arcee-ai/Virtuoso-Small, "), "{plan}");
    let requests = hub.requests();
    let ranged = requests.iter().filter(|request| request.range.is_some());
    assert_eq!(
        ranged.map(|request| request.sent).sum::<usize>(),
        500_000,
        "headers are read, and no weights"
    );
    let built = hub.ok(&space, &["build", "recipe.yaml"]);
    assert!(built.stderr.contains("fetching 4.0 MB of arcee-ai/Virtuoso-Small, "), "{}", built.stderr);
    assert_eq!(
        fs::read(space.path("merges/blend/model.safetensors")).unwrap(),
        local(TWO_STAGES, "merges/blend")
    );
    hub.requests();
    // The layout is that of Python's client: blobs by their digests, links to them, and the commit of `main`.
    let files = ["model-00001-of-00003.safetensors", "model.safetensors", "model.safetensors"];
    for (id, file) in MODELS.into_iter().zip(files) {
        let folder = space.path("hf/hub").join(format!("models--{}", id.replace('/', "--")));
        let commit = fs::read_to_string(folder.join("refs/main")).unwrap();
        let snapshot = folder.join("snapshots").join(&commit);
        let source = project("recipes/ancestors").join(id);
        for name in ["config.json", "tokenizer.json", file] {
            let bytes = fs::read(snapshot.join(name)).unwrap();
            assert_eq!(bytes, fs::read(source.join(name)).unwrap());
            let blob = fs::read_link(snapshot.join(name)).unwrap();
            let etag = if bytes.len() < 100_000 { git_sha1(&bytes) } else { sha256(&bytes) };
            assert_eq!(blob.to_str().unwrap(), format!("../../blobs/{etag}"));
        }
        let lock = space.json("merges/blend/lamarck.lock.json");
        assert_eq!(lock["sources"][id]["revision"], commit.as_str());
    }
    // Nothing is asked of the hub any more.
    hub.ok(&space, &["build", "recipe.yaml"]);
    assert!(hub.requests().is_empty());
    space.ok(&["build", "recipe.yaml"]);
}

#[test]
fn faults_that_pass_are_got_over() {
    let hub = hub(&MODELS);
    let space = space(TWO_STAGES);
    for (path, fault) in [
        ("/revision/", Fault::Status(503, vec![])),
        ("/tree/", Fault::Status(429, vec![("Retry-After", "0")])),
        ("config.json", Fault::Cut(10)),
        ("signature", Fault::Cut(1000)),
        ("signature", Fault::Status(403, vec![])),
        ("signature", Fault::Whole),
    ] {
        hub.fail_once(path, fault);
    }
    hub.ok(&space, &["build", "recipe.yaml"]);
    assert_eq!(
        fs::read(space.path("merges/blend/model.safetensors")).unwrap(),
        local(TWO_STAGES, "merges/blend")
    );
}

#[test]
fn a_cut_download_goes_on_where_it_was() {
    let hub = hub(&MODELS);
    let space = space(TWO_STAGES);
    hub.ok(&space, &["plan", "recipe.yaml"]);
    // Two of the models are one file each, the third is three.
    for _ in 0..5 {
        hub.fail_once("signature", Fault::Cut(300_000));
    }
    hub.fail_always("signature", Fault::Status(500, vec![]));
    let stderr = hub.fails(&space, 6, &["build", "recipe.yaml"]);
    assert!(stderr.contains("status 500"), "{stderr}");
    assert!(!space.path("merges").exists());
    hub.mend();
    hub.requests();
    hub.ok(&space, &["fetch", "recipe.yaml"]);
    let requests = hub.requests();
    let resumed = requests.iter().filter(|request| request.to_cdn).filter_map(|request| request.range);
    assert_eq!(resumed.filter(|(first, _)| *first == 300_000).count(), 5);
    hub.ok(&space, &["build", "recipe.yaml"]);
    assert_eq!(
        fs::read(space.path("merges/blend/model.safetensors")).unwrap(),
        local(TWO_STAGES, "merges/blend")
    );
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    let id = MODELS[1];
    let hub = hub(&[id]);
    let space = space(&format!("merge_method: passthrough\nmodels: [{{model: {id}}}]\n"));
    hub.ok(&space, &["plan", "recipe.yaml"]);
    hub.fail_once("signature", Fault::Stall(1_200_000));
    let mut build = hub.command(&space, &["build", "recipe.yaml"]).spawn().expect("the binary starts");
    let folder = space.path("hf/hub/models--CultriX--SeQwence-14B-EvolMerge");
    // The count of what has come stands at the end of the file.
    let count = || {
        let mut files = fs::read_dir(folder.join("blobs")).ok()?.map(|entry| entry.unwrap().path());
        let part = files.find(|path| path.extension().is_some_and(|end| end == "part"))?;
        Some(u64::from_le_bytes(*fs::read(part).ok()?.last_chunk()?))
    };
    while count().is_none_or(|count| count < 1 << 20) {
        std::thread::yield_now();
    }
    build.kill().expect("it runs");
    build.wait().expect("it has been started");
    hub.requests();
    hub.ok(&space, &["build", "recipe.yaml"]);
    let requests = hub.requests();
    assert!(requests.iter().filter_map(|request| request.range).any(|(first, _)| first >= 1 << 20));
    let fetched = folder.join("snapshots").join(commit_in(&space, id)).join("model.safetensors");
    let source = project("recipes/ancestors").join(id).join("model.safetensors");
    assert_eq!(fs::read(fetched).unwrap(), fs::read(source).unwrap());
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let hub = hub(&MODELS);
    hub.demand_token("hf_secret");
    let space = space(TWO_STAGES);
    let stderr = hub.fails(&space, 1, &["build", "recipe.yaml"]);
    assert!(stderr.contains("HF_TOKEN") && !stderr.contains("hf_secret"), "{stderr}");
    space.write("hf/token", "hf_secret\n");
    hub.requests();
    hub.ok(&space, &["build", "recipe.yaml"]);
    let requests = hub.requests();
    assert!(requests.iter().any(|request| request.to_cdn));
    for request in requests {
        let expected = (!request.to_cdn).then_some("Bearer hf_secret");
        assert_eq!(request.authorization.as_deref(), expected, "{}", request.path);
    }
}

#[test]
fn models_that_are_not_given_are_told_apart() {
    let hub = hub(&MODELS);
    hub.gate(MODELS[1]);
    let space = space(TWO_STAGES);
    let stderr = hub.fails(&space, 1, &["plan", "recipe.yaml"]);
    assert!(stderr.contains("have been granted access") && stderr.contains("recipe.yaml:4"), "{stderr}");
    space.replace("recipe.yaml", MODELS[1], "CultriX/SeQwence");
    let stderr = hub.fails(&space, 1, &["plan", "recipe.yaml"]);
    assert!(
        stderr.contains("`CultriX/SeQwence` was not found") && stderr.contains("has no model"),
        "{stderr}"
    );
    space.replace("recipe.yaml", "CultriX/SeQwence", "CultriX/SeQwence-14B-EvolMerge@v9");
    let hub = self::hub(&MODELS);
    let stderr = hub.fails(&space, 1, &["plan", "recipe.yaml"]);
    assert!(stderr.contains("has no revision `v9`"), "{stderr}");
}

#[test]
fn what_is_not_as_the_hub_says_is_refused_and_not_kept() {
    for (fault, expected) in [
        (Fault::WrongBytes, "do not match the hub's SHA-256"),
        (Fault::Size(1_000), "bytes, but its answer has 1000"),
        (Fault::Size(3_000_000), "bytes, but its answer has 3000000"),
    ] {
        let hub = hub(&MODELS[1..2]);
        let space = space("merge_method: passthrough\nmodels: [{model: CultriX/SeQwence-14B-EvolMerge}]\n");
        hub.ok(&space, &["plan", "recipe.yaml"]);
        let before = space.files("hf");
        hub.fail_always("signature", fault);
        let stderr = hub.fails(&space, 6, &["build", "recipe.yaml"]);
        assert!(stderr.contains(expected) && stderr.contains("model.safetensors"), "{stderr}");
        let mut after = space.files("hf");
        after.retain(|path, _| !before.contains_key(path) && !path.to_string_lossy().ends_with(".lock"));
        assert!(after.is_empty(), "{:?}", after.keys());
        assert!(!space.path("merges").exists());
        hub.mend();
        hub.ok(&space, &["build", "recipe.yaml"]);
    }
}

#[test]
fn lists_that_make_no_sense_are_refused() {
    let digest = "a".repeat(40);
    let entry = |path: &str, oid: &str, size: u64| json!([{ "type": "file", "path": path, "oid": oid, "size": size }]);
    for (list, code, expected) in [
        (entry("../../../evil.json", &digest, 1), 6, "no valid name or digest"),
        (entry("/etc/evil.json", &digest, 1), 6, "no valid name or digest"),
        (entry("config.json", "../../evil", 1), 6, "no valid name or digest"),
        (json!({ "not": "a list" }), 6, "invalid answer"),
        (entry("config.json", &digest, 1 << 60), 4, "which has room for"),
        (json!([]), 1, "config.json"),
    ] {
        let hub = hub(&MODELS[..1]);
        let space = space("merge_method: passthrough\nmodels: [{model: arcee-ai/Virtuoso-Small}]\n");
        hub.fail_always("/tree/", Fault::Listed(list));
        let stderr = hub.fails(&space, code, &["build", "recipe.yaml"]);
        assert!(stderr.contains(expected), "{stderr}");
        assert!(space.files("hf").keys().all(|path| !path.to_string_lossy().contains("evil")));
    }
}

#[test]
fn a_revision_that_moves_stays_what_it_was() {
    let hub = hub(&MODELS);
    let first = space(TWO_STAGES);
    hub.ok(&first, &["plan", "recipe.yaml"]);
    let old = commit_in(&first, MODELS[1]);
    // Another model under the same name from here on.
    hub.push(MODELS[1], &project("recipes/ancestors").join(MODELS[2]));
    hub.ok(&first, &["build", "recipe.yaml"]);
    let bytes = fs::read(first.path("merges/blend/model.safetensors")).unwrap();
    assert_eq!(bytes, local(TWO_STAGES, "merges/blend"));
    // Elsewhere the lockfile says which is meant.
    let second = space(TWO_STAGES);
    copy_dir(&first.path("merges"), &second.path("merges"));
    hub.ok(&second, &["fetch", "recipe.yaml", "--locked"]);
    hub.ok(&second, &["build", "recipe.yaml", "--locked", "--offline"]);
    assert_eq!(fs::read(second.path("merges/blend/model.safetensors")).unwrap(), bytes);
    let folder = format!("hf/hub/models--{}", MODELS[1].replace('/', "--"));
    assert!(second.path(&folder).join("snapshots").join(old).is_dir());
    let third = space(TWO_STAGES);
    hub.ok(&third, &["build", "recipe.yaml"]);
    assert_ne!(fs::read(third.path("merges/blend/model.safetensors")).unwrap(), bytes);
}

#[test]
fn offline_nothing_is_asked() {
    let hub = hub(&MODELS);
    let space = space(TWO_STAGES);
    let stderr = hub.fails(&space, 1, &["build", "recipe.yaml", "--offline"]);
    assert!(stderr.contains("the hub was not contacted, because of --offline"), "{stderr}");
    let stderr = space.fails(1, &["build", "recipe.yaml"]);
    assert!(stderr.contains("the hub was not contacted, because of HF_HUB_OFFLINE"), "{stderr}");
    assert!(hub.requests().is_empty());
    hub.ok(&space, &["plan", "recipe.yaml"]);
    hub.requests();
    let stderr = hub.fails(&space, 1, &["build", "recipe.yaml", "--offline"]);
    assert!(stderr.contains("is not completely on this machine, and --offline prevents"), "{stderr}");
    assert!(hub.requests().is_empty());
}

#[test]
fn nothing_but_what_a_merge_needs_is_fetched() {
    let hub = HubServer::start();
    let dir = project("recipes/ancestors").join(MODELS[1]);
    let mut files: BTreeMap<String, Arc<Vec<u8>>> = BTreeMap::new();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        files.insert(name.to_owned(), Arc::new(fs::read(dir.join(name)).unwrap()));
    }
    let others = ["pytorch_model.bin", "original/consolidated.00.pth", "model.gguf", "logo.png"];
    files.extend(others.map(|name| (name.to_owned(), Arc::new(vec![0; 50_000]))));
    hub.push_files("org/name", files);
    let space = space("merge_method: passthrough\nmodels: [{model: org/name}]\n");
    hub.ok(&space, &["build", "recipe.yaml"]);
    let fetched: Vec<String> = hub.requests().into_iter().map(|request| request.path).collect();
    for name in ["bin", "original", "gguf", "png"] {
        assert!(fetched.iter().all(|path| !path.contains(name)), "{name}: {fetched:?}");
    }
}

#[test]
fn pickled_models_are_fetched_before_they_are_planned() {
    let hub = HubServer::start();
    let bytes = |name: &str| fs::read(project("tests/fixtures/pickled").join(name)).unwrap();
    let files =
        [("config.json", b"{\"model_type\": \"x\"}".to_vec()), ("pytorch_model.bin", bytes("views.bin"))];
    hub.push_files("org/name", files.map(|(name, bytes)| (name.to_owned(), Arc::new(bytes))).into());
    let space = space("name: copy\nmerge_method: passthrough\nmodels: [{model: org/name}]\n");
    let stderr = hub.fails(&space, 1, &["plan", "recipe.yaml"]);
    assert!(stderr.contains("run `lamarck fetch` first") && stderr.contains("pytorch_model.bin"), "{stderr}");
    hub.fails(&space, 1, &["build", "recipe.yaml", "--stream"]);
    hub.ok(&space, &["build", "recipe.yaml"]);
    space.ok(&["plan", "recipe.yaml"]);
    assert!(space.path("merges/copy/model.safetensors").is_file());
}

#[test]
fn adapters_are_found_on_the_hub_too() {
    let model = "Qwen/Qwen2.5-14B-Instruct";
    let hub = hub(&[model]);
    let adapter = project("examples/adapters/wernicke");
    hub.push("someone/adapter", &adapter);
    let recipe = |of: &str, adapter: &str| {
        format!("name: baked\nmerge_method: passthrough\nmodels: [{{model: {of}+{adapter}}}]\n")
    };
    let space = space(&recipe(model, "someone/adapter"));
    hub.ok(&space, &["build", "recipe.yaml"]);
    let built = fs::read(space.path("merges/baked/model.safetensors")).unwrap();
    assert_eq!(built, local(&recipe(model, adapter.to_str().unwrap()), "merges/baked"));
}

#[test]
fn without_a_network_the_places_are_named() {
    let space = space(TWO_STAGES);
    let mut command = space.command(&["build", "recipe.yaml"]);
    // Nobody listens on a port that is not one.
    let run = Run::of(command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", "http://127.0.0.1:1"));
    assert_eq!(run.code, 6);
    for said in
        ["http://127.0.0.1:1 could not be reached", "looked for arcee-ai/Virtuoso-Small and ", "--models DIR"]
    {
        assert!(run.stderr.contains(said), "{}", run.stderr);
    }
}

#[test]
fn certificates_are_read_when_something_is_asked() {
    let hub = hub(&MODELS);
    let space = space(TWO_STAGES);
    let run = |args: &[&str]| Run::of(hub.command(&space, args).env("REQUESTS_CA_BUNDLE", "/nowhere.pem"));
    assert_eq!(run(&["methods"]).code, 0);
    let plan = run(&["plan", "recipe.yaml"]);
    assert_eq!(plan.code, 4);
    assert!(plan.stderr.contains("cannot read the certificates in /nowhere.pem"), "{}", plan.stderr);
}
