//! What the cards of source models declare: their licence and languages, in the front matter of README.md.

use std::path::Path;

use serde_json::Value;

use crate::recipe::License;

/// What one card declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    pub license: Option<License>,
    /// Codes such as `en`.
    pub languages: Vec<String>,
}

impl Declared {
    /// Reads the card of a model's folder; without a card that can be read, nothing is declared.
    pub fn read(dir: &Path) -> Self {
        let card = std::fs::read_to_string(dir.join("README.md")).unwrap_or_default();
        Self::of(&card).unwrap_or_default()
    }

    fn of(card: &str) -> Option<Self> {
        let rest = card.strip_prefix('\u{feff}').unwrap_or(card).strip_prefix("---")?;
        let front = rest.trim_start_matches(['\r', '\n']).split("\n---").next()?;
        let front: Value = serde_yaml::from_str(front).ok()?;
        let texts = |key: &str| -> Vec<String> {
            let items = match &front[key] {
                Value::Array(items) => items.as_slice(),
                item => std::slice::from_ref(item),
            };
            let text = |item: &Value| match item {
                Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
                // Norwegian, to YAML 1.1.
                Value::Bool(false) => Some("no".to_owned()),
                _ => None,
            };
            items.iter().filter_map(text).collect()
        };
        let one = |key: &str| texts(key).into_iter().next();
        let license = one("license");
        let license = license.map(|id| License { id, name: one("license_name"), link: one("license_link") });
        Some(Self { license, languages: texts("language") })
    }

    /// The licence that all declare alike.
    pub fn agreed(all: &[Self]) -> Option<License> {
        let first = all.first()?.license.clone()?;
        all.iter().all(|other| other.license.as_ref() == Some(&first)).then_some(first)
    }

    /// Every language that one of them declares; none if one declares none.
    pub fn languages(all: &[Self]) -> Vec<String> {
        let mut languages: Vec<String> = Vec::new();
        for declared in all {
            if declared.languages.is_empty() {
                return Vec::new();
            }
            for language in &declared.languages {
                if !languages.contains(language) {
                    languages.push(language.clone());
                }
            }
        }
        languages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn license(card: &str) -> Option<String> {
        Some(Declared::of(card)?.license?.id)
    }

    #[test]
    fn licences_are_read_from_front_matter_alone() {
        assert_eq!(license("---\nlicense: apache-2.0\ntags: []\n---\n# x\n").as_deref(), Some("apache-2.0"));
        assert_eq!(license("---\r\nlicense: \"mit\"\r\n---\r\n").as_deref(), Some("mit"));
        assert_eq!(license("---\ntags: []\n---\nlicense: mit\n"), None);
        assert_eq!(license("license: mit\n"), None);
    }

    #[test]
    fn what_is_declared_is_brought_together() {
        let of = |card: &str| Declared::of(card).unwrap();
        let one =
            of("---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\nlanguage: [en, de]\n---\n");
        let two =
            of("---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\nlanguage:\n- no\n- en\n---\n");
        let three = of("---\nlicense: other\n---\n");
        assert_eq!(Declared::agreed(&[one.clone(), two.clone()]), one.license);
        assert_eq!(Declared::agreed(&[one.clone(), three.clone()]), None, "their names differ");
        assert_eq!(Declared::languages(&[one.clone(), two.clone()]), ["en", "de", "no"]);
        assert_eq!(Declared::languages(&[one, three]), Vec::<String>::new());
        assert_eq!((Declared::agreed(&[]), Declared::languages(&[]).len()), (None, 0));
    }
}
