//! Whether mergekit runs a recipe as it stands, to the same effect.

use super::chat_template::{self, ChatTemplate};
use super::keys::{self, Form, Map};
use super::meant::{Recipe, Reference};
use super::naming;
use super::vars;
use super::yaml::{self, Node, Value};

/// Keys of maps that are lamarck's alone.
const OWN: [&str; 7] = ["seed", "random_seed", "cache", "allow", "card", "vars", "trim_vocab"];

/// The recipe's text, if `mergekit-yaml` (or with several stages `mergekit-multi`) does with it what is done here.
pub fn as_mergekit(recipe: &Recipe) -> Option<String> {
    let documents = yaml::parse(&recipe.text).ok()?;
    let is_plain = |document: &Node| !vars::is_declaration(document) && is_known(document, &keys::STAGE);
    // A stage by any other spelling is a model to mergekit.
    let fits = |reference: &Reference| match reference.plain() {
        Reference::Stage(stage) => {
            let name = &recipe.stage(*stage).name;
            !scalars(&documents).any(|text| is_other_spelling(text, name))
        }
        Reference::Model(model) => !model.hub_only && !model.path.starts_with('/'),
        Reference::Adapted(_) => unreachable!("a plain reference has no adapter"),
    };
    let stages_fit = recipe.stages.iter().all(|stage| {
        let references = stage.references().into_iter().map(|located| &located.value);
        references.chain(stage.tokenizer_models()).all(fits)
    });
    let runs = documents.iter().all(is_plain) && stages_fit;
    // A stage that took its file's name had none.
    runs.then(|| naming::without_name(&recipe.text).unwrap_or_else(|| recipe.text.to_string()))
}

/// `merges/NAME` or `anyone/NAME`.
fn is_other_spelling(text: &str, stage: &str) -> bool {
    let model = text.split('+').next().unwrap_or(text);
    model.strip_suffix(stage).is_some_and(|owner| owner.ends_with('/') && owner.matches('/').count() == 1)
}

fn scalars(nodes: &[Node]) -> impl Iterator<Item = &str> {
    fn collect<'n>(node: &'n Node, found: &mut Vec<&'n str>) {
        match &node.value {
            Value::Null => {}
            Value::Scalar { text, .. } => found.push(text),
            Value::List(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Map(entries) => entries.iter().for_each(|entry| collect(&entry.value, found)),
        }
    }
    let mut found = Vec::new();
    nodes.iter().for_each(|node| collect(node, &mut found));
    found.into_iter()
}

/// Whether a map has no key that one of the two does not know.
fn is_known(node: &Node, map: &Map) -> bool {
    let Value::Map(entries) = &node.value else { return true };
    entries.iter().all(|entry| {
        let Some(key) = map.keys.iter().find(|key| key.name == entry.key) else { return false };
        if OWN.contains(&key.name) {
            return false;
        }
        match (key.form, &entry.value.value) {
            (Form::Map(inner), _) => is_known(&entry.value, inner),
            (Form::List(inner), Value::List(items)) => items.iter().all(|item| is_known(item, inner)),
            (Form::Named(inner), Value::Map(entries)) => {
                entries.iter().all(|entry| is_known(&entry.value, inner))
            }
            (Form::ChatTemplate, Value::Scalar { text, .. }) => {
                !matches!(chat_template::parse(text), Some(ChatTemplate::File(_)))
            }
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{LoadOptions, load};

    fn runs(text: &str) -> bool {
        let loaded = load(text, &LoadOptions { name: "r.yaml".into(), ..Default::default() });
        let recipe = loaded.recipe.unwrap_or_else(|| panic!("{text}{:?}", loaded.findings));
        as_mergekit(&recipe).is_some_and(|same| same == text)
    }

    #[test]
    fn what_is_ours_alone_is_told_from_what_both_read() {
        let stage = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: org/a}, {model: ./b}]\n";
        assert!(
            runs(stage) && runs(&format!("name: x\n{stage}tokenizer_source: union\nchat_template: chatml\n"))
        );
        for own in [
            "seed: 1\n",
            "cache: false\n",
            "allow: [duplicate-key]\n",
            "card: {title: x}\n",
            "tokenizer: {trim_vocab: true}\n",
        ] {
            assert!(!runs(&format!("{stage}{own}")), "{own}");
        }
        assert!(!runs(&format!("vars: {{v: 1}}\n---\n{}", stage.replace("weight: 1", "weight: \"${v}\""))));
        assert!(!runs(&stage.replace("parameters: {weight: 1}", "weight: 1")), "mergekit drops it");
        for reference in ["hub:org/b", "/abs/b"] {
            assert!(!runs(&stage.replace("./b", reference)), "{reference}");
        }
    }

    #[test]
    fn stages_go_by_their_names() {
        let two = |reference: &str| {
            format!(
                "name: one\nmerge_method: passthrough\nmodels: [{{model: org/a}}]\n---\n\
                 merge_method: linear\nparameters: {{weight: 1}}\nmodels: [{{model: {reference}}}, {{model: org/b}}]\n"
            )
        };
        assert!(runs(&two("one")) && runs(&two("one+org/lora")));
        assert!(!runs(&two("merges/one")) && !runs(&two("me/one")));
    }
}
