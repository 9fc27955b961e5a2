//! The name of a stage without one, written into the recipe's text.
//!
//! Such a stage takes the name of its file, which a copy of the text does not have. The copy that an output
//! keeps therefore says the name, and that it is the file's: the stage must draw as it did without one, and
//! a model that happens to be called the same must not come to mean the stage.

use super::keys::NAME_FROM_FILE;
use super::vars;
use super::yaml::{self, Node, Value};

/// Writes a name into a document of a text, the `number`th that is a stage. The text comes back as it was
/// if there is no place for the keys in it, as behind an empty `name:`.
pub fn with_name(text: &str, document: &Node, number: usize, name: &str) -> String {
    // In quotes, since it may read as a number; and a variable's mark stands for itself.
    let quoted = serde_json::to_string(&name.replace("${", "$${")).expect("texts serialise");
    let (name_line, mark) = (format!("name: {quoted}"), format!("{NAME_FROM_FILE}: true"));
    let start = document.span.start;
    let (before, behind) = text.split_at(start);
    let named = if let Some(inner) = behind.strip_prefix('{') {
        format!("{before}{{{name_line}, {mark}, {inner}")
    } else {
        // What stands before the first key on its line, but for a byte order mark.
        let line = &before[before.rfind('\n').map_or(0, |newline| newline + 1)..];
        let indent = line.trim_start_matches('\u{feff}');
        format!("{before}{name_line}\n{indent}{mark}\n{indent}{behind}")
    };
    if is_named(&named, document, number) { named } else { text.to_owned() }
}

/// A text without the name that [`with_name`] wrote into it; `None` if there is none.
pub fn without_name(text: &str) -> Option<String> {
    let mark = format!("{NAME_FROM_FILE}: true");
    let (before, behind) = text.split_once(&mark)?;
    let (rest, name) = before.rsplit_once("name: \"")?;
    // What separates the two keys follows the second one, too.
    let separator = &name[name.rfind('"')? + 1..];
    Some(rest.to_owned() + behind.strip_prefix(separator)?)
}

/// Whether a text's `number`th stage has the keys that the document has, and the two that name it.
fn is_named(text: &str, document: &Node, number: usize) -> bool {
    let keys = |document: &Node| -> Vec<String> {
        let Value::Map(entries) = &document.value else { return Vec::new() };
        entries.iter().map(|entry| entry.key.clone()).collect()
    };
    let Ok(documents) = yaml::parse(text) else { return false };
    let mut stages = documents.iter().filter(|document| !vars::is_declaration(document));
    let mut expected = keys(document);
    expected.extend(["name".to_owned(), NAME_FROM_FILE.to_owned()]);
    expected.sort_unstable();
    stages.nth(number).is_some_and(|stage| {
        let mut found = keys(stage);
        found.sort_unstable();
        found == expected && found.iter().filter(|key| *key == "name").count() == 1
    })
}

#[cfg(test)]
mod tests {
    use crate::recipe::{LoadOptions, Loaded, Recipe, load};

    fn recipe(text: &str, file: &str) -> Recipe {
        let Loaded { recipe, findings, .. } =
            load(text, &LoadOptions { name: file.into(), ..Default::default() });
        recipe.unwrap_or_else(|| panic!("{text}{findings:?}"))
    }

    /// The text with the file's name, read from another file.
    #[track_caller]
    fn check(text: &str, file: &str, name: &str) -> String {
        let first = recipe(text, file);
        let copy = recipe(&first.portable.text, "other.yaml");
        assert_eq!(copy.portable.text, first.portable.text, "a copy of the copy is the same");
        assert_eq!(super::without_name(&first.portable.text).as_deref(), Some(text));
        for (a, b) in first.stages.iter().zip(&copy.stages) {
            assert_eq!((&a.name, a.stream_name()), (&b.name, b.stream_name()));
            let values = |stage: &crate::recipe::Stage| -> Vec<_> {
                stage.references().into_iter().map(|reference| reference.value.clone()).collect()
            };
            assert_eq!(values(a), values(b), "references mean the same");
        }
        let unnamed = first.stages.iter().find(|stage| stage.name_from_file).unwrap();
        assert_eq!((unnamed.name.as_str(), unnamed.stream_name()), (name, ""));
        first.portable.text
    }

    #[test]
    fn a_name_is_written_wherever_the_document_starts() {
        let body = "merge_method: passthrough\nmodels: [{model: a}]\n";
        let named = check(body, "dir/multi.yaml", "multi");
        assert_eq!(named, format!("name: \"multi\"\nname_from_file: true\n{body}"));
        let flow = check("{merge_method: passthrough, models: [{model: a}]}\n", "x.yml", "x");
        assert!(flow.starts_with("{name: \"x\", name_from_file: true, merge_method"), "{flow}");
        for head in
            ["# a comment\n\n", "---\n", "--- # why\n", "vars: {v: 1}\n---\n# \u{e9}\n", "%YAML 1.1\n---\n"]
        {
            check(&format!("{head}{body}"), "x.yaml", "x");
        }
        check("  merge_method: passthrough\n  models: [{model: a}]\n", "x.yaml", "x");
        check(&format!("name: b\n{body}---\n{}", body.replace("model: a", "model: b")), "x.yaml", "x");
        check("parameters: &p {scale: 2}\nmerge_method: passthrough\nmodels: [{model: a}]\n", "x", "x");
        check("<<: {merge_method: passthrough}\nmodels: [{model: a}]\n", "x", "x");
        check(&body.replace('\n', "\r\n"), "x", "x");
        check(&format!("\u{feff}{body}"), "x", "x");
    }

    #[test]
    fn odd_names_are_kept_and_no_model_comes_to_mean_the_stage() {
        let body = "merge_method: passthrough\nmodels: [{model: org/7}, ]\n";
        for name in ["7", "null", "a ${b} \"c\"", "\u{e9}", "yes", "$${x}"] {
            check(body, &format!("{name}.yaml"), name);
        }
    }
}
