//! What an author says of an output's card: title, licence, language, a text.
//!
//! None of it is in any key: another licence rebuilds no tensor.

use super::fields::Fields;
use super::finding::Finding;
use super::keys;
use super::yaml::{Node, Value};

/// What a recipe, one of its stages or a project says of cards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardSettings {
    /// The heading; without it, the stage's name.
    pub title: Option<String>,
    /// Markdown, below the title.
    pub text: Option<String>,
    /// Without it, what all models agree on.
    pub license: Option<License>,
    /// Codes such as `en`.
    pub language: Vec<String>,
    /// Beside those that every card has.
    pub tags: Vec<String>,
}

/// A licence as the hub knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct License {
    /// One of the hub's identifiers, `other` among them.
    pub id: String,
    /// What `other` is called.
    pub name: Option<String>,
    /// Where it stands: an address, or a file in the repository.
    pub link: Option<String>,
}

/// The keys of a card's settings.
pub fn keys() -> impl Iterator<Item = &'static str> + Clone {
    keys::CARD.names()
}

impl CardSettings {
    /// These settings, and where they say nothing those of `below`.
    pub fn over(&self, below: &Self) -> Self {
        let list = |own: &[String], other: &[String]| if own.is_empty() { other } else { own }.to_vec();
        Self {
            title: self.title.clone().or_else(|| below.title.clone()),
            text: self.text.clone().or_else(|| below.text.clone()),
            license: self.license.clone().or_else(|| below.license.clone()),
            language: list(&self.language, &below.language),
            tags: list(&self.tags, &below.tags),
        }
    }

    /// Settings from values by their keys; the name of a licence stands for `other` where no other is said.
    pub fn from_values(
        mut text: impl FnMut(&str) -> Option<String>,
        language: Vec<String>,
        tags: Vec<String>,
    ) -> Self {
        let (title, body) = (text("title"), text("text"));
        let (id, name, link) = (text("license"), text("license_name"), text("license_link"));
        let id = id.or_else(|| name.as_ref().or(link.as_ref()).map(|_| "other".to_owned()));
        let license = id.map(|id| License { id, name, link });
        Self { title, text: body, license, language, tags }
    }
}

/// Reads a `card`.
pub(super) fn read(node: &Node, findings: &mut Vec<Finding>) -> CardSettings {
    let Some(fields) = Fields::closed(node, "`card`", &keys::CARD, findings) else {
        return CardSettings::default();
    };
    let (language, tags) = (texts(&fields, "language", findings), texts(&fields, "tags", findings));
    let text = |key: &str| fields.text(key, findings).map(|(text, _)| text.trim().to_owned());
    CardSettings::from_values(text, language, tags)
}

/// One text, or a list of them.
fn texts(fields: &Fields<'_>, key: &str, findings: &mut Vec<Finding>) -> Vec<String> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let text = |item: &Node| match &item.value {
        Value::Scalar { text, .. } => Ok(text.clone()),
        _ => Err(item.span),
    };
    items
        .iter()
        .filter_map(|item| {
            let problem = |span| {
                let message = format!("`{key}` must be a string or a list of strings");
                findings.push(Finding::error("wrong-type", span, message));
            };
            text(item).map_err(problem).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{LoadOptions, load};

    fn cards(text: &str) -> (CardSettings, CardSettings) {
        let loaded = load(text, &LoadOptions { name: "r.yaml".into(), ..Default::default() });
        let recipe = loaded.recipe.unwrap_or_else(|| panic!("{:?}", loaded.findings));
        (recipe.card.clone(), recipe.stages[0].card.clone())
    }

    const STAGE: &str = "merge_method: passthrough\nmodels: [{model: a}]\n";

    #[test]
    fn a_stage_goes_before_the_recipe() {
        let text =
            "vars: {v: 3}\ncard: {title: 'All v${v}', license: mit, language: [en, no], tags: x}\n---\n";
        let (all, own) = cards(&format!("{text}card: {{license_name: mine, text: ' about '}}\n{STAGE}"));
        assert_eq!(
            (all.title.as_deref(), &all.language[..]),
            (Some("All v3"), &["en".to_owned(), "no".to_owned()][..])
        );
        let card = own.over(&all);
        let license = License { id: "other".into(), name: Some("mine".into()), link: None };
        assert_eq!((card.license, card.text.as_deref()), (Some(license), Some("about")));
        assert_eq!((card.title.as_deref(), &card.tags[..]), (Some("All v3"), &["x".to_owned()][..]));
        assert_eq!(cards(STAGE), Default::default());
    }

    #[test]
    fn slips_are_told() {
        let findings =
            |text: &str| load(text, &LoadOptions { name: "r".into(), ..Default::default() }).findings;
        let found = findings(&format!("card: {{licence: mit}}\n{STAGE}"));
        assert_eq!(
            (found[0].code, &found[0].help[..]),
            ("unknown-key", &["did you mean `license`?".to_owned()][..])
        );
        assert_eq!(findings(&format!("card: {{language: {{a: b}}}}\n{STAGE}"))[0].code, "wrong-type");
        assert_eq!(findings(&format!("card: x\n---\n{STAGE}"))[0].code, "wrong-type");
    }
}
