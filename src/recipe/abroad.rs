//! A recipe as it may leave this machine: models that it names by absolute paths are named by their folders.
//!
//! Who has the models elsewhere says where by `--models`; that they are the same is told by their digests. Everything
//! that an output says of its models (card, recipe, lockfile) uses these names.

use std::collections::{BTreeMap, BTreeSet};

use super::chat_template::ChatTemplate;
use super::meant::{Reference, Stage};
use super::portable::Portable;
use super::vars::{self, Vars};
use super::yaml::{self, Node, Value};
use crate::reference::ModelRef;

/// The keys whose values name models.
const MODEL_KEYS: [&str; 6] = ["model", "base_model", "lora", "path", "source", "tokenizer_source"];

/// Where an output has the chat template that it was built with.
const TEMPLATE_BESIDE: &str = "./chat_template.jinja";

/// Finds names for the models of some stages. `text` is theirs, and `sets` filled its variables.
pub(super) fn portable(text: &str, sets: &[(String, String)], stages: &[Stage]) -> Portable {
    let models = models(stages);
    let mut taken: BTreeSet<String> = stages.iter().map(|stage| stage.name.clone()).collect();
    taken.extend(models.iter().filter(|model| !is_absolute(&model.path)).map(|model| model.path.clone()));
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for model in models.iter().filter(|model| is_absolute(&model.path)) {
        if !names.contains_key(&model.path) {
            let parts = parts(&model.path);
            let same =
                names.iter().find(|(path, _)| self::parts(path) == parts).map(|(_, name)| name.clone());
            let name = match same {
                Some(name) => name,
                None => free(&elsewhere(&parts), &parts, &|name| means_nothing(name, &taken)),
            };
            taken.insert(name.clone());
            names.insert(model.path.clone(), name);
        }
    }
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for model in models.iter().filter(|model| !is_absolute(&model.path) && model.hub_id().is_none()) {
        let parts = parts(&model.path);
        let used: BTreeSet<String> = labels.values().chain(&taken).cloned().collect();
        if parts.last().is_some_and(|last| *last == model.path) {
            continue;
        }
        labels.entry(model.path.clone()).or_insert_with(|| {
            free(parts.last().map_or("model", String::as_str), &parts, &|name| !used.contains(name))
        });
    }
    let mut portable = Portable { text: text.to_owned(), sets: sets.to_vec(), names, labels };
    rewrite(&mut portable, stages);
    portable
}

/// Puts the names into text and variables, and says so at the top.
fn rewrite(portable: &mut Portable, stages: &[Stage]) {
    let mut replaced: Vec<(String, String)> =
        portable.names.iter().map(|(path, name)| (path.clone(), name.clone())).collect();
    for stage in stages {
        if let Some(template) = &stage.chat_template
            && let ChatTemplate::File(file) = &template.value
            && is_absolute(file)
        {
            replaced.push((file.clone(), TEMPLATE_BESIDE.to_owned()));
        }
    }
    let mut text = portable.text.clone();
    for (span, filled) in composed(&text, &portable.sets, &portable.names).into_iter().rev() {
        text.replace_range(span.start..span.end, &filled);
    }
    for value in values(&text).into_iter().chain(portable.sets.iter().map(|(_, value)| value.clone())) {
        let parts = parts(&value);
        if is_absolute(&value) && parts.len() > 1 && replaced.iter().all(|(path, _)| *path != value) {
            replaced.push((value, elsewhere(&parts)));
        }
    }
    // What is part of another comes after it.
    replaced.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    for (path, name) in &replaced {
        text = replace_path(&text, path, name);
        for (_, value) in &mut portable.sets {
            *value = replace_path(value, path, name);
        }
    }
    if portable.names.is_empty() {
        portable.text = text;
        return;
    }
    let names: BTreeSet<&String> = portable.names.values().collect();
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    let (mark, rest) = match text.strip_prefix('\u{feff}') {
        Some(rest) => ("\u{feff}", rest),
        None => ("", text.as_str()),
    };
    portable.text = format!(
        "{mark}# The recipe named these models by absolute paths: {}.\n\
             # `--models DIR` says which folder they are in; lamarck.lock.json has their digests.\n{rest}",
        names.join(", ")
    );
}

/// Every model and adapter that some stages name.
fn models(stages: &[Stage]) -> Vec<&ModelRef> {
    fn of<'a>(reference: &'a Reference, found: &mut Vec<&'a ModelRef>) {
        match reference {
            Reference::Stage(_) => {}
            Reference::Model(model) => found.push(model),
            Reference::Adapted(adapted) => {
                of(&adapted.of, found);
                found.push(&adapted.adapter);
            }
        }
    }
    let mut found = Vec::new();
    for stage in stages {
        for located in stage.references() {
            of(&located.value, &mut found);
        }
        for reference in stage.tokenizer_models() {
            of(reference, &mut found);
        }
    }
    found
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
}

/// The folders of a path, each with plain characters only.
fn parts(path: &str) -> Vec<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    path.split('/')
        .filter(|part| !["", ".", ".."].contains(part))
        .map(|part| part.chars().map(plain).collect())
        .collect()
}

/// What a folder is called elsewhere: `org/name` if it seems to lie in one of an owner's name, else its own name.
fn elsewhere(parts: &[String]) -> String {
    let of = |n: usize| parts.len().checked_sub(n).map(|at| parts[at].as_str());
    let name = of(1).unwrap_or("model").trim_start_matches('.');
    let name = if name.is_empty() || name == "null" { "model" } else { name };
    if let (Some(folder), Some("snapshots")) = (of(3), of(2))
        && let Some((owner, name)) = folder.strip_prefix("models--").and_then(|rest| rest.split_once("--"))
    {
        return format!("{owner}/{name}");
    }
    match of(2) {
        Some(owner)
            if ModelRef::is_owner(owner)
                && !of(3).is_some_and(|above| ["home", "Users"].contains(&above)) =>
        {
            format!("{owner}/{name}")
        }
        _ => name.to_owned(),
    }
}

/// Whether a name is no model's, and no stage's, also not as `anyone/STAGE`.
fn means_nothing(name: &str, taken: &BTreeSet<String>) -> bool {
    !taken.contains(name) && name.split_once('/').is_none_or(|(_, last)| !taken.contains(last))
}

/// A name that nothing else has: the one given, or with the folder above, or with a number.
fn free(name: &str, parts: &[String], is_free: &dyn Fn(&str) -> bool) -> String {
    let longer = parts.len().checked_sub(2).map(|at| parts[at..].join("/"));
    let longer = longer.filter(|longer| !longer.starts_with('.'));
    let numbered = (2..).map(|n: usize| format!("{name}-{n}"));
    let mut candidates = [name.to_owned()].into_iter().chain(longer).chain(numbered);
    candidates.find(|name| is_free(name)).expect("there is always a next number")
}

/// Replaces a path wherever it stands by itself or at the beginning of a longer one.
fn replace_path(text: &str, path: &str, name: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(path) {
        let (before, behind) = (&rest[..at], &rest[at + path.len()..]);
        let goes_on = |c: char| c.is_alphanumeric() || "-_.~}/".contains(c);
        let begins = !before.chars().next_back().is_some_and(goes_on);
        let mut next = behind.chars();
        let ends = match next.next() {
            Some('.') => !next.next().is_some_and(char::is_alphanumeric),
            Some(c) => !(c.is_alphanumeric() || c == '-' || c == '_'),
            None => true,
        };
        replaced.push_str(before);
        replaced.push_str(if begins && ends { name } else { path });
        rest = behind;
    }
    replaced + rest
}

/// The values of the variables that a text declares, if any of them can be an absolute path.
fn values(text: &str) -> Vec<String> {
    // Most recipes have no absolute path, which would stand behind something that is no part of a word.
    let is_behind_word = |at: usize| text[..at].ends_with(char::is_alphanumeric);
    if !text.contains('\\') && text.match_indices('/').all(|(at, _)| is_behind_word(at)) {
        return Vec::new();
    }
    let documents = yaml::parse(text).unwrap_or_default();
    let declared = documents.iter().filter(|document| vars::is_declaration(document));
    declared.flat_map(|document| scalars(document, true)).map(|(_, text)| text).collect()
}

/// Names of models that are put together from variables and come to absolute paths: where they stand, and what they
/// are to be.
fn composed(
    text: &str,
    sets: &[(String, String)],
    names: &BTreeMap<String, String>,
) -> Vec<(std::ops::Range<usize>, String)> {
    if names.is_empty() || !text.contains("${") {
        return Vec::new();
    }
    let mut unheard = Vec::new();
    let (declaring, documents): (Vec<Node>, Vec<Node>) =
        yaml::parse(text).unwrap_or_default().into_iter().partition(vars::is_declaration);
    let mut vars = Vars::default();
    declaring.iter().for_each(|document| vars.declare(document, &mut unheard));
    vars.set(sets, &mut unheard);
    let mut found = BTreeMap::new();
    for document in &documents {
        let mut filled = document.clone();
        vars.fill(&mut filled, &mut unheard);
        for ((span, written), (_, meant)) in scalars(document, false).into_iter().zip(scalars(&filled, false))
        {
            // A variable that is all of the name is given the new one.
            let is_whole = written.starts_with("${") && written.find('}') == Some(written.len() - 1);
            let named =
                names.iter().rev().fold(meant.clone(), |text, (path, name)| replace_path(&text, path, name));
            if written != meant && !is_whole && named != meant {
                found.insert((span.start, span.end), named);
            }
        }
    }
    found.into_iter().map(|((start, end), name)| (start..end, name)).collect()
}

/// The scalars of a tree that can name models, or all of them, each with its place.
fn scalars(node: &Node, are_all: bool) -> Vec<(super::span::Span, String)> {
    let mut found = Vec::new();
    match &node.value {
        Value::Null => {}
        Value::Scalar { text, .. } => found.extend(are_all.then(|| (node.span, text.clone()))),
        Value::List(items) => items.iter().for_each(|item| found.extend(scalars(item, are_all))),
        Value::Map(entries) => {
            for entry in entries {
                let is_model = are_all || MODEL_KEYS.contains(&entry.key.as_str());
                let is_scalar = matches!(entry.value.value, Value::Scalar { .. });
                found.extend(scalars(&entry.value, are_all || (is_model && is_scalar)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::recipe::{LoadOptions, Recipe, load};

    fn recipe(text: &str, sets: &[(&str, &str)]) -> Recipe {
        let sets = sets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let loaded = load(text, &LoadOptions { name: "r.yaml".into(), sets, seed: None });
        loaded.recipe.unwrap_or_else(|| panic!("{text}{:?}", loaded.findings))
    }

    /// The names of all that the one stage reads, in a recipe and in its portable form, with the latter's text.
    fn names(text: &str, sets: &[(&str, &str)]) -> (Vec<String>, String) {
        let before = recipe(text, sets);
        let of = |recipe: &Recipe| -> Vec<String> {
            let stage = recipe.stages.last().unwrap();
            let references = stage.references();
            references.iter().map(|located| recipe.portable_name(&located.value)).collect()
        };
        let sets: Vec<(&str, &str)> =
            before.portable.sets.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let after = recipe(&before.portable.text, &sets);
        assert_eq!(of(&after), of(&before), "{}", before.portable.text);
        assert_eq!(after.portable.text, before.portable.text, "once is enough");
        for path in ["/data", "/home", "alice"] {
            assert!(!before.portable.text.contains(path), "{}", before.portable.text);
            assert!(before.portable.sets.iter().all(|(_, value)| !value.contains(path)));
        }
        (of(&before), before.portable.text)
    }

    fn linear(models: &[&str]) -> String {
        let models: Vec<String> = models.iter().map(|model| format!("- model: {model}\n")).collect();
        format!("name: out\nmerge_method: linear\nparameters: {{weight: 1}}\nmodels:\n{}", models.concat())
    }

    #[test]
    fn folders_stand_for_absolute_paths() {
        let text = linear(&["/data/models/one", "\"/data/x/org/two/\"", "org/three", "./four"]);
        let (found, text) = names(&format!("# like /data/models/one, but\n{text}"), &[]);
        assert_eq!(found, ["one", "org/two", "org/three", "./four"]);
        assert!(text.contains("# like one, but") && text.starts_with("# The recipe named"), "{text}");
        assert_eq!(names(&linear(&["/home/alice/one", "b"]), &[]).0, ["one", "b"]);
        let cached = "/data/hf/hub/models--org--a--b/snapshots/0123abc";
        assert_eq!(names(&linear(&[cached, "x"]), &[]).0, ["org/a--b", "x"]);
    }

    #[test]
    fn names_stay_apart() {
        let text = linear(&["/data/a/x", "/data/b/x", "/data/models/x", "a/y", "/data/a/y"]);
        assert_eq!(names(&text, &[]).0, ["a/x", "b/x", "x", "a/y", "a/y-2"]);
        let (found, _) = names(&linear(&["/data/models/out", "/data/models/x+/data/models/lora"]), &[]);
        assert_eq!(
            found,
            ["models/out-2", "x+lora"].map(str::to_owned).map(|name| name.replace("models/out-2", "out-2"))
        );
    }

    #[test]
    fn variables_do_not_tell_either() {
        let text = "vars: {root: /data/models, one: /data/models/one, n: 1}\n---\n".to_owned()
            + &linear(&["${root}/two", "${one}", "plain${n}"]);
        assert_eq!(names(&text, &[]).0, ["two", "one", "plain1"]);
        assert_eq!(names(&text, &[("one", "/data/q/org/three")]).0, ["two", "org/three", "plain1"]);
        assert_eq!(
            names(&text, &[("root", "/data/other")]).0,
            ["two", "one", "plain1"].map(str::to_owned).map(|name| if name == "two" {
                "other/two".to_owned()
            } else {
                name
            })
        );
    }

    #[test]
    fn other_texts_stay() {
        let text = linear(&["a", "./b"]) + "chat_template: \"{{ '/data/x' }} and more of it\"\n";
        assert_eq!(recipe(&text, &[]).portable.text, text);
    }

    #[test]
    fn labels_have_no_folders() {
        let recipe = recipe(&linear(&["../models/a", "b/models/a", "org/c", "./d"]), &[]);
        let stage = &recipe.stages[0];
        let labels: Vec<String> =
            stage.references().iter().map(|located| recipe.label_of(&located.value)).collect();
        assert_eq!(labels, ["a", "models/a", "org/c", "d"]);
    }
}
