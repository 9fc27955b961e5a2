//! Recipes that projects start with.

use clap::ValueEnum;

use crate::recipe::{Finding, LoadOptions, load};

/// What a project's recipe is a start for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// Two models blended layer by layer
    Slerp,
    /// Fine-tunes of one base, added up where they agree
    Ties,
    /// The same, with random draws and a variable to try values of
    Della,
    /// A pipeline of five stages, as Lamarck-14B's are
    Lamarck,
    /// Layers of two models, stacked into a deeper one
    Frankenmerge,
}

/// What a template's stages are called after.
const NAME: &str = "NAME";

impl Template {
    /// As it is typed.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The recipe, with a name for its last stage that a stage can have, as much like the wanted one as can be.
    pub fn recipe(self, wanted: &str) -> (String, String) {
        let text = match self {
            Self::Slerp => include_str!("templates/slerp.yaml"),
            Self::Ties => include_str!("templates/ties.yaml"),
            Self::Della => include_str!("templates/della.yaml"),
            Self::Lamarck => include_str!("templates/lamarck.yaml"),
            Self::Frankenmerge => include_str!("templates/frankenmerge.yaml"),
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let plain: String = wanted.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
        let plain = plain.trim_matches(['-', '.']);
        let fits = |name: &&str| {
            let loaded = load(&text.replace(NAME, name), &LoadOptions::default());
            !loaded.findings.iter().any(Finding::is_error)
        };
        // Words that mean something in recipes are no names of stages.
        let named = format!("my-{plain}");
        let mut names = [plain, &named].into_iter().filter(|_| !plain.is_empty());
        let name = names.find(fits).unwrap_or("my-merge").to_owned();
        (text.replace(NAME, &name), name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_called_after_the_project_where_they_can_be() {
        for (wanted, name) in [
            ("mine", "mine"),
            ("my merge", "my-merge"),
            ("base", "my-base"),
            ("", "my-merge"),
            ("...", "my-merge"),
        ] {
            assert_eq!(Template::Ties.recipe(wanted).1, name, "{wanted}");
        }
        for template in Template::value_variants() {
            let (text, _) = template.recipe("x");
            assert!(!text.contains("name: NAME") && text.contains("\nname: x\n"), "{text}");
        }
    }
}
