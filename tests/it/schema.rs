//! The schema of recipes: it is what is shipped, and says of recipes what the reader says.

use std::collections::BTreeSet;
use std::fs;

use jsonschema::Validator;
use lamarck::recipe::{LoadOptions, load};
use serde_json::Value;
use serde_yaml::{DuplicateKeyPolicy, Options};

use crate::examples::examples;
use crate::harness::{CARD, FULL, Space, project, project_text};

const SHIPPED: &str = "docs/recipe.schema.json";

/// Findings of the reader that the schema shows, too.
const SEEN: [&str; 15] = [
    "exclusive-keys",
    "missing-key",
    "no-effect",
    "parameter-value",
    "shared-parameter",
    "token-source",
    "unknown-chat-template",
    "unknown-code",
    "unknown-dtype",
    "unknown-key",
    "unknown-method",
    "unknown-parameter",
    "unused-parameter",
    "vars-in-stage",
    "wrong-type",
];

/// Errors that one document's keys and values do not show: they hang on how inputs compare, on other documents, or
/// on what stands inside a text.
const UNSEEN: [&str; 13] = [
    "cycle",
    "duplicate-model",
    "layer-range",
    "missing-base",
    "model-count",
    "model-reference",
    "no-stage",
    "stage-as-adapter",
    "stage-name",
    "stage-revision",
    "template",
    "unknown-variable",
    "unnamed-stage",
];

/// What is told of a text before it is read as keys and values.
const NOT_YET_YAML: [&str; 7] =
    ["yaml", "too-large", "decimal-comma", "missing-dash", "no-space", "odd-space", "tab"];

fn validator() -> Validator {
    let schema: Value = serde_json::from_str(&project_text(SHIPPED)).expect("the schema is JSON");
    jsonschema::meta::validate(&schema).expect("it is a schema");
    jsonschema::validator_for(&schema).expect("the schema can be used")
}

/// The documents of a recipe as an editor sees them; `None` if they are not YAML.
fn documents(text: &str) -> Option<Vec<Value>> {
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::LastWins;
    serde_yaml::from_multiple_with_options(text, options).ok()
}

/// What is wrong by the schema, and by the reader as far as a schema can see it. `None` if the text is not YAML.
fn verdicts(validator: &Validator, text: &str) -> Option<(Vec<String>, Vec<String>)> {
    let found = load(text, &LoadOptions { name: "recipe.yaml".to_owned(), ..Default::default() }).findings;
    if found.iter().any(|finding| NOT_YET_YAML.contains(&finding.code)) {
        return None;
    }
    for error in found.iter().filter(|finding| finding.is_error()) {
        let is_known = SEEN.contains(&error.code) || UNSEEN.contains(&error.code);
        assert!(is_known, "whether the schema can see `{}` is to be said here:\n{text}", error.code);
    }
    let seen = found.into_iter().filter(|finding| SEEN.contains(&finding.code));
    let by_schema = |document: &Value| -> Vec<String> {
        let shown = |error: jsonschema::ValidationError<'_>| format!("{}: {error}", error.instance_path());
        validator.iter_errors(document).map(shown).collect()
    };
    let by_schema = documents(text)?.iter().flat_map(by_schema).collect();
    Some((by_schema, seen.map(|finding| finding.message).collect()))
}

/// Every recipe of the tests, and those that are shipped.
fn recipes() -> Vec<String> {
    let mut recipes = vec![FULL.to_owned(), CARD.to_owned()];
    recipes.extend(examples().iter().map(|name| format!("examples/{name}.yaml")));
    for folder in ["tests/recipes/valid", "tests/recipes/invalid"] {
        for entry in fs::read_dir(project(folder)).expect("the samples are there") {
            let name = entry.expect("they can be read").file_name().into_string().expect("names are text");
            recipes.push(format!("{folder}/{name}"));
        }
    }
    for entry in fs::read_dir(project("tests/conformance/cases")).expect("the cases are there") {
        let name = entry.expect("they can be read").file_name().into_string().expect("names are text");
        recipes.push(format!("tests/conformance/cases/{name}/recipe.yml"));
    }
    recipes
}

#[test]
fn the_shipped_schema_is_what_the_command_prints() {
    let printed = Space::new().ok(&["schema"]).stdout;
    assert!(
        printed == project_text(SHIPPED),
        "the language has changed: write what `lamarck schema` prints to {SHIPPED}"
    );
    for recipe in [FULL, CARD] {
        let text = project_text(recipe);
        let line = text.lines().next().expect("there is a line");
        let path = line.strip_prefix("# yaml-language-server: $schema=").expect("it names the schema");
        let named = project(recipe).parent().expect("it is in a folder").join(path);
        assert_eq!(named.canonicalize().unwrap(), project(SHIPPED).canonicalize().unwrap());
    }
}

#[test]
fn schema_and_reader_agree_on_all_recipes() {
    let validator = validator();
    let (mut wrong, mut refused) = (Vec::new(), BTreeSet::new());
    for recipe in recipes() {
        let Some((by_schema, by_reader)) = verdicts(&validator, &project_text(&recipe)) else { continue };
        if by_schema.is_empty() != by_reader.is_empty() {
            wrong.push(format!("{recipe}: the schema says {by_schema:?}, the reader {by_reader:?}"));
        }
        if !by_schema.is_empty() {
            refused.insert(recipe);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused.len() >= 8, "{refused:?}");
}

const RIGHT: [&str; 14] = [
    "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]",
    "merge_method: linear\nmodels: [{model: a, parameters: {weight: \"${share}\"}}]\n---\nvars: {share: 1}",
    "vars: {x: 1, y: two, z: yes}\nseed: 3\n---\nmerge_method: linear\nmodels: [{model: \"${y}\"}, {model: \"${x}\"}, {model: \"${z}\"}]",
    "merge_method: slerp\nbase_model: a\nslices:\n- sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 2]}]\n  parameters: {t: [0, 1]}",
    "merge_method: slerp\nbase_model: a\nmodels: [{model: b}]\nparameters:\n  t: [{filter: mlp, value: [0, 1]}, {value: 0.5}]",
    "merge_method: slerp\nbase_model: a\nmodels: [{model: b}]\nparameters: {t: {filter: mlp, value: 1e-5}}",
    "merge_method: karcher\nmodels: [{model: a}, {model: b}]\nparameters: {max_iter: 20, tol: '1e-4'}",
    "merge_method: ties\nbase_model: a\nmodels: [{model: b, weight: 1, int8_mask: true}]\nnormalize: yes\nrandom_seed: 3",
    "merge_method: linear\nmodules:\n  text: {models: [{model: a, parameters: {weight: 0.5}}], parameters: {normalize: off}}",
    "merge_method: passthrough\nmodels: []\nbase_model:\nslices: [{sources: [{model: a, layer_range: [0, 1]}]}]\n---\n",
    "merge_method: linear\nmodels: [{model: {model: {path: a, revision: main}}, parameters: {weight: 1}}]\nchat_template: chatml",
    "merge_method: linear\nmodels: [{model: {model: a}}]\nchat_template: '{% for m in messages %}{{ m }}{% endfor %}'",
    "merge_method: linear\nmodels: [{model: a}]\ntokenizer_source: {model: {path: a}}\nparameters: {weight: 1}\nout_dtype: torch.bfloat16",
    "merge_method: linear\nmodels: [{model: a}]\ntokenizer: {source: base, pad_to_multiple_of: 64}\nbase_model: a\nparameters: {weight: 1}",
];

const WRONG: [&str; 24] = [
    "merge_method: linaer\nmodels: [{model: a}]",
    "models: [{model: a}]",
    "merge_method: linear",
    "merge_method: linear\nmodels: []",
    "merge_method: linear\nmodels: {model: a}",
    "merge_method: linear\nmodels: [a]",
    "merge_method: linear\nmodels: [{parameters: {weight: 1}}]",
    "merge_method: linear\nmodels: [{model: a}]\nslices: [{sources: [{model: a, layer_range: [0, 1]}]}]",
    "merge_method: linear\nmodels: [{model: a, parameters: {wieght: 1}}]",
    "merge_method: linear\nmodels: [{model: a, parameters: {weight: {value: heavy}}}]",
    "merge_method: linear\nmodels: [{model: a, parameters: {weight: [{filter: mlp}]}}]",
    "merge_method: linear\nmodels: [{model: a, parameters: {normalize: true, weight: 1}}]",
    "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1, density: 0.5}}]",
    "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\nparameters: {normalize: 2}",
    "merge_method: sce\nbase_model: a\nmodels: [{model: b, parameters: {weight: 1}}]",
    "merge_method: breadcrumbs\nbase_model: a\nmodels: [{model: b, parameters: {weight: 1, gamma: 1.5}}]",
    "merge_method: karcher\nmodels: [{model: a}, {model: b}]\nparameters: {max_iter: 1.5}",
    "merge_method: karcher\nmodels: [{model: a}, {model: b}]\nparameters: {tol: -1}",
    "merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1}\ndtype: int64",
    "merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1}\nvars: {x: 1}",
    "merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1}\nchat_template: chatlm",
    "merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1}\nseed: -1",
    "merge_method: slerp\nbase_model: a\nslices: [{sources: [{model: a}, {model: b}]}]\nparameters: {t: 1}",
    "merge_method: linear\nmodels: [{model: {model: {path: a, revison: b}}}]\nparameters: {weight: 1}",
];

#[test]
fn schema_and_reader_agree_on_every_form_of_a_value() {
    let validator = validator();
    for (texts, is_right) in [(&RIGHT[..], true), (&WRONG[..], false)] {
        for text in texts {
            let (by_schema, by_reader) =
                verdicts(&validator, text).unwrap_or_else(|| panic!("{text}\nis not YAML"));
            assert_eq!(
                (by_schema.is_empty(), by_reader.is_empty()),
                (is_right, is_right),
                "{text}\n{by_schema:?}\n{by_reader:?}"
            );
        }
    }
}
