//! The model card of an output, what lies beside it, and that neither tells of folders of this machine.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::checkpoints::Checkpoint;
use crate::harness::{Run, Space, settle};

/// Models of two owners below `models`, with cards, and one in the working directory.
fn space() -> Space {
    let space = Space::new();
    for (name, seed, card) in [
        ("models/org/base", 1, "license: apache-2.0\nlanguage: [en, no]\n"),
        ("models/org/tuned", 2, "license: apache-2.0\nlanguage: de\n"),
        ("local", 3, "license: apache-2.0\nlanguage:\n- en\n"),
    ] {
        Checkpoint::decoder(1, seed).write(&space.path(name));
        space.write(&format!("{name}/README.md"), format!("---\n{card}---\n# {name}\n"));
    }
    space.use_models(&space.path("models"));
    space
}

const RECIPE: &str = "name: first\nmerge_method: della\nbase_model: org/base\n\
    models:\n- {model: org/tuned, parameters: {weight: 0.7, density: [0.2, 0.8]}}\n\
    - {model: ./local, parameters: {weight: 0.3}}\n---\n\
    name: last\nmerge_method: linear\nparameters: {weight: 1}\nmodels: [{model: first}, {model: org/base}]\n";

fn built(recipe: &str) -> Space {
    let space = space();
    space.write("recipe.yaml", recipe);
    space.ok(&["build", "-q", "recipe.yaml"]);
    space
}

/// A card's front matter and text.
fn card(space: &Space, out: &str) -> (String, String) {
    let card = space.read(&format!("{out}/README.md"));
    let (front, text) = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    (front.to_owned(), text.to_owned())
}

#[test]
fn the_card_says_what_the_model_is_made_of() {
    let space = built(RECIPE);
    let (front, text) = card(&space, "merges/last");
    insta::assert_snapshot!(front, @r#"
    # lamarck begin
    base_model:
    - org/base
    - org/tuned
    base_model_relation: merge
    library_name: transformers
    pipeline_tag: text-generation
    license: apache-2.0
    language:
    - en
    - "no"
    - de
    tags:
    - merge
    - mergekit
    - lamarck
    # lamarck end
    "#);
    insta::assert_snapshot!(text.split("## Building it again").next().unwrap(), @r#"
    <!-- lamarck begin: written anew by every build -->
    # last

    A merge of 3 language models in 2 stages, built with lamarck 0.1.0.

    ![The stages of last, and what each is merged from](merge.svg)

    <details>
    <summary>The same as Mermaid</summary>

    ```mermaid
    graph TD
      n0(["org/base"])
      n1(["org/tuned"])
      n2(["local"])
      n3["first (della)"]
      n4["last (linear)"]
      n0 -->|"base"| n3
      n1 -->|"weight 0.7<br>density 0.2..0.8"| n3
      n2 -->|"weight 0.3"| n3
      n3 -->|"weight 1"| n4
      n0 -->|"weight 1"| n4
    ```

    </details>

    ## Models

    - [org/base](https://huggingface.co/org/base)
    - [org/tuned](https://huggingface.co/org/tuned)
    - `local`, a local folder

    ## Stages

    ### first

    Method [della](https://arxiv.org/abs/2406.11617) on the base [org/base](https://huggingface.co/org/base): seed 0.

    | Input | Weight | Density |
    | --- | --- | --- |
    | [org/tuned](https://huggingface.co/org/tuned) | 0.7 | 0.2..0.8 |
    | `local` | 0.3 |  |

    ### last

    Method [linear](https://arxiv.org/abs/2203.05482).

    | Input | Weight |
    | --- | --- |
    | **first** | 1 |
    | [org/base](https://huggingface.co/org/base) | 1 |
    "#);
    assert!(text.contains(&format!("```yaml\n{}```", space.read("recipe.yaml"))), "{text}");
    assert!(text.contains("`--models DIR`"), "{text}");
    let svg = space.read("merges/last/merge.svg");
    assert!(svg.contains("density 0.2..0.8") && svg.contains(">local</text>"), "{svg}");
    assert_eq!(space.read("merges/last/mergekit_config.yml"), RECIPE);
}

#[test]
fn its_commands_build_the_model_again() {
    let space = built(RECIPE);
    let text = card(&space, "merges/last").1;
    let commands = text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let before = space.files("merges/last");
    fs::rename(space.path("merges/last"), space.path("last")).unwrap();
    fs::remove_dir_all(space.path("cache")).unwrap();
    let mut ran = 0;
    for line in commands.lines() {
        space.ok(&line.split(' ').skip(1).collect::<Vec<_>>());
        ran += 1;
    }
    assert_eq!(ran, 2);
    assert!(space.files("last") == before);
}

#[test]
fn authors_say_what_cards_say_and_no_tensor_is_made_for_it() {
    let space = space();
    settle();
    space.write("recipe.yaml", RECIPE);
    space.ok(&["build", "-q", "recipe.yaml"]);
    let tensors = fs::read(space.path("merges/last/model.safetensors")).unwrap();
    let toml = space.read("lamarck.toml");
    space.write("lamarck.toml", format!("{toml}[card]\nlicense = 'mit'\nlanguage = 'fr'\ntags = ['mine']\n"));
    let built = space.build(&["recipe.yaml"]);
    assert!(built.ran.is_empty() && built.finished[0]["shards_written"] == 0);
    let (front, _) = card(&space, "merges/last");
    assert!(
        front.contains("license: mit\nlanguage:\n- fr\ntags:\n- merge\n- mergekit\n- lamarck\n- mine\n"),
        "{front}"
    );

    space.write(
        "recipe.yaml",
        format!(
            "vars: {{v: 2}}\ncard: {{title: 'Number ${{v}}', license: llama3, text: 'For **all**.'}}\n---\n\
             {RECIPE}card: {{license_name: own, license_link: LICENSE.md, language: [en, no]}}\n"
        ),
    );
    let built = space.build(&["recipe.yaml"]);
    assert!(built.ran.is_empty() && built.finished[0]["shards_written"] == 0);
    let (front, text) = card(&space, "merges/last");
    assert!(front.contains("license: other\nlicense_name: own\nlicense_link: LICENSE.md\n"), "{front}");
    assert!(front.contains("language:\n- en\n- \"no\"\n") && front.contains("- mine\n"), "{front}");
    assert!(text.contains("# Number 2\n") && text.contains("\nFor **all**.\n"), "{text}");
    assert!(!space.path("merges/last/mergekit_config.yml").exists(), "mergekit knows no cards");
    assert!(fs::read(space.path("merges/last/model.safetensors")).unwrap() == tensors);
    assert!(space.ok(&["plan", "recipe.yaml", "--exit-code"]).stdout.contains("up to date"));

    let slip = RECIPE.replace("name: last\n", "name: last\ncard: {licens: mit}\n");
    space.write("recipe.yaml", slip);
    assert!(space.fails(1, &["build", "recipe.yaml"]).contains("did you mean `license`?"));
}

#[test]
fn a_licence_that_models_do_not_share_is_not_said() {
    let space = space();
    space.write("local/README.md", "---\nlicense: mit\n---\n");
    space.write("recipe.yaml", RECIPE);
    space.ok(&["build", "-q", "recipe.yaml"]);
    let (front, _) = card(&space, "merges/last");
    assert!(!front.contains("license") && !front.contains("language"), "{front}");
    // Of a model that a stage is not made of, nothing is said.
    let other = "---\nname: other\nmerge_method: passthrough\nmodels: [{model: org/base}]\n";
    space.write("recipe.yaml", format!("{RECIPE}{other}"));
    space.ok(&["build", "-q", "recipe.yaml"]);
    let (front, text) = card(&space, "merges/other");
    assert!(front.contains("license: apache-2.0\nlanguage:\n- en\n- \"no\"\n"), "{front}");
    assert!(!front.contains("org/tuned") && !text.contains("local folder"), "{text}");
}

#[test]
fn what_a_user_edits_beside_the_card_is_kept() {
    let space = built(RECIPE);
    for name in ["merge.svg", "mergekit_config.yml"] {
        space.write(&format!("merges/last/{name}"), "mine");
    }
    space.replace("recipe.yaml", "weight: 0.3", "weight: 0.4");
    space.ok(&["build", "-q", "recipe.yaml"]);
    for name in ["merge.svg", "mergekit_config.yml"] {
        assert_eq!(space.read(&format!("merges/last/{name}.yours")), "mine", "{name}");
    }
    assert!(space.read("merges/last/merge.svg").contains("weight 0.4"));
    assert!(space.read("merges/last/mergekit_config.yml").contains("weight: 0.4"));
    // What is no longer written is removed, as it is lamarck's.
    let text = space.read("recipe.yaml");
    space.write("recipe.yaml", format!("seed: 3\n---\n{text}"));
    space.ok(&["build", "-q", "recipe.yaml"]);
    assert!(!space.path("merges/last/mergekit_config.yml").exists());
    space.ok(&["verify", "merges/last"]);
}

/// A recipe that names all models by absolute paths, one of them put together from a variable.
fn absolute(space: &Space) -> String {
    let folder = space.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    format!("vars: {{models: {folder}/models}}\n---\n# Models are in {folder}/models.\n")
        + &RECIPE
            .replace("org/base", &format!("{folder}/models/org/base"))
            .replace("org/tuned", "\"${models}/org/tuned\"")
            .replace("./local", &format!("'{folder}/local'"))
}

#[test]
fn nothing_that_is_published_names_a_folder_of_this_machine() {
    let space = space();
    fs::remove_file(space.path("lamarck.toml")).unwrap();
    space.write("recipe.yaml", absolute(&space));
    space.ok(&["build", "-q", "recipe.yaml"]);
    let folder = space.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    for (name, bytes) in space.files("merges/last") {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(folder), "{name:?} names {folder}");
    }
    let lock = space.json("merges/last/lamarck.lock.json");
    let sources: Vec<&String> = lock["sources"].as_object().unwrap().keys().collect();
    assert_eq!(sources, ["local", "org/base", "org/tuned"]);
    let copy = space.read("merges/last/recipe.yaml");
    assert!(
        copy.starts_with("# The recipe named these models by absolute paths: local, org/base, org/tuned.\n"),
        "{copy}"
    );
    let text = card(&space, "merges/last").1;
    assert!(
        text.contains("- `org/base`, a local folder\n") && text.contains("- `local`, a local folder\n"),
        "{text}"
    );
    assert!(!space.path("merges/last/mergekit_config.yml").exists(), "mergekit does not find them");

    // The recipe as it is written, and the copy where the models are, come to the same.
    assert!(space.build(&["recipe.yaml"]).ran.is_empty());
    space.ok(&["build", "-q", "recipe.yaml", "--locked"]);
    space.ok(&["verify", "merges/last"]);
    Checkpoint::decoder(1, 3).write(&space.path("elsewhere/local"));
    fs::rename(space.path("models"), space.path("moved")).unwrap();
    fs::remove_dir_all(space.path("local")).unwrap();
    let models = ["--models", "moved", "--models", "elsewhere"];
    space.ok(&[&["verify", "merges/last", "--rebuild"][..], &models].concat());
    let error = space.fails(1, &["verify", "merges/last", "--rebuild"]);
    assert!(error.contains("org/base"), "{error}");
    let before = space.files("merges/last");
    space.ok(&[
        &["build", "-q", "merges/last/recipe.yaml", "--stage", "last", "--locked", "--cache", "other"][..],
        &models,
    ]
    .concat());
    let after = space.files("merges/last");
    for name in ["recipe.yaml", "merge.svg", "model.safetensors"] {
        let name = Path::new(name);
        assert!(after[name] == before[name], "a copy of the copy has the same {name:?}");
    }
    Checkpoint::decoder(1, 4).write(&space.path("elsewhere/local"));
    space.fails(
        1,
        &[&["build", "-q", "merges/last/recipe.yaml", "--locked", "--cache", "third"][..], &models].concat(),
    );
}

#[test]
fn variables_of_the_command_line_are_published_as_names() {
    let space = space();
    space.write(
        "recipe.yaml",
        format!("vars: {{own: ./local}}\n---\n{}", RECIPE.replace("./local", "\"${own}\"")),
    );
    let own = space.path("local");
    let set = format!("own={}", own.to_str().unwrap());
    space.ok(&["build", "-q", "recipe.yaml", "--set", &set]);
    assert_eq!(space.json("merges/last/lamarck.lock.json")["set"]["own"], "local");
    let text = card(&space, "merges/last").1;
    assert!(text.contains("--set own=local\n"), "{text}");
    space.ok(&["build", "-q", "recipe.yaml", "--set", &set, "--locked"]);
    space.ok(&["verify", "merges/last", "--rebuild", "--models", "models", "--models", "."]);
}

#[test]
fn lockfiles_that_name_absolute_paths_are_still_held_to() {
    let space = space();
    space.write("recipe.yaml", absolute(&space));
    space.ok(&["build", "-q", "recipe.yaml"]);
    // As they were written before.
    let folder = space.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    let mut lock = space.read("merges/last/lamarck.lock.json");
    for (name, path) in
        [("org/base", "models/org/base"), ("org/tuned", "models/org/tuned"), ("local", "local")]
    {
        lock = lock.replace(&format!("\"{name}\""), &format!("\"{folder}/{path}\""));
    }
    space.write("merges/last/lamarck.lock.json", &lock);
    space.ok(&["build", "-q", "recipe.yaml", "--locked"]);
    assert!(!space.read("merges/last/lamarck.lock.json").contains(folder), "it is written anew");
    space.write("merges/last/lamarck.lock.json", &lock);
    space.replace("recipe.yaml", "weight: 0.3", "weight: 0.4");
    assert!(space.fails(1, &["build", "-q", "recipe.yaml", "--locked"]).contains("weight"));
}

#[test]
fn python_reads_the_card_and_mergekit_the_recipe() {
    let Some(python) = std::env::var_os("LAMARCK_PYTHON") else {
        let _ = writeln!(std::io::stderr(), "skipped: LAMARCK_PYTHON names no interpreter");
        return;
    };
    let recipe = RECIPE.replace("name: last\n", "name: last\nchat_template: chatml\n");
    let space = built(&recipe);
    let script = "
import sys
from huggingface_hub import ModelCard
data = ModelCard.load(sys.argv[1] + '/README.md').data
assert data.base_model == ['org/base', 'org/tuned'], data.base_model
assert data.to_dict()['base_model_relation'] == 'merge'
assert (data.library_name, data.pipeline_tag, data.license) == ('transformers', 'text-generation', 'apache-2.0')
assert data.language == ['en', 'no', 'de'], data.language
assert data.tags == ['merge', 'mergekit', 'lamarck'], data.tags
try:
    from mergekit.scripts.multimerge import load_config
except ImportError:
    sys.exit()
configs, dependencies = load_config(open(sys.argv[1] + '/mergekit_config.yml').read(), 'merges')
assert set(configs) == {'first', 'last'} and dependencies['last'] == {'first'}, dependencies
";
    let run = Run::of(
        Command::new(python).args(["-c", script]).arg(space.path("merges/last")).env("HF_HUB_OFFLINE", "1"),
    );
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}
