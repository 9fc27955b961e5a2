//! The model card: README.md with the metadata that the Hugging Face hub reads.

use std::fmt::Write;
use std::path::Path;

use crate::model::locate::is_hub_id;
use crate::plan::Model;
use crate::recipe::{Recipe, StageId};

/// What a card is made of.
pub struct Card<'a> {
    pub recipe: &'a Recipe,
    pub target: StageId,
    /// The target and the stages that it is made of.
    pub stages: &'a [StageId],
    /// The checkpoints that it is made of.
    pub models: &'a [Model],
    /// The licence that all those checkpoints declare, if they agree.
    pub license: Option<&'a str>,
}

impl Card<'_> {
    /// The card's text.
    pub fn text(&self) -> String {
        let stage = self.recipe.stage(self.target);
        let mut text = String::from("---\n");
        let hub: Vec<&str> = self
            .models
            .iter()
            .map(|model| model.reference.path.as_str())
            .filter(|path| is_hub_id(path))
            .collect();
        if !hub.is_empty() {
            text.push_str("base_model:\n");
            for path in &hub {
                writeln!(text, "- {path}").expect("writing to a string");
            }
        }
        text.push_str("library_name: transformers\n");
        if let Some(license) = self.license {
            writeln!(text, "license: {license}").expect("writing to a string");
        }
        text.push_str("tags:\n- merge\n- mergekit\n- lamarck\n---\n");
        writeln!(text, "# {}\n", stage.name).expect("writing to a string");
        text.push_str("A merge of language models, built with lamarck.\n\n## Stages\n\n");
        for id in self.stages {
            self.stage(*id, &mut text);
        }
        text.push_str("\n## Recipe\n\n```yaml\n");
        text.push_str(self.recipe.text.trim_end());
        text.push_str("\n```\n\n");
        text.push_str("`lamarck.lock.json` lists the digest of every tensor that was read and written. ");
        write!(text, "To build it again:\n\n```sh\nlamarck build recipe.yaml --stage {}", stage.name)
            .expect("writing to a string");
        for (name, value) in &self.recipe.sets {
            write!(text, " --set '{name}={value}'").expect("writing to a string");
        }
        if let Some(seed) = self.recipe.seed {
            write!(text, " --seed {seed}").expect("writing to a string");
        }
        text.push_str("\n```\n");
        text
    }

    fn stage(&self, id: StageId, text: &mut String) {
        let stage = self.recipe.stage(id);
        let spec = stage.method.spec();
        write!(text, "- **{}**: [{}]({})", stage.name, spec.name, link(spec.reference))
            .expect("writing to a string");
        let base = stage.base.as_ref().map(|base| self.recipe.name_of(&base.value));
        let mut models: Vec<&str> =
            stage.references().iter().map(|located| self.recipe.name_of(&located.value)).collect();
        models.retain(|model| Some(*model) != base);
        let mut seen = std::collections::HashSet::new();
        models.retain(|model| seen.insert(*model));
        if !models.is_empty() {
            write!(text, " of {}", models.join(", ")).expect("writing to a string");
        }
        if let Some(base) = base {
            write!(text, " on {base}").expect("writing to a string");
        }
        text.push('\n');
    }
}

/// The address in a method's reference.
fn link(reference: &str) -> &str {
    reference.split([' ', ';']).find(|word| word.starts_with("https://")).unwrap_or(reference)
}

/// The licence in the front matter of a checkpoint's card.
pub fn license_of(dir: &Path) -> Option<String> {
    let card = std::fs::read_to_string(dir.join("README.md")).ok()?;
    let front = card.strip_prefix("---\n")?.split("\n---").next()?;
    let line = front.lines().find_map(|line| line.strip_prefix("license:"))?;
    Some(line.trim().trim_matches(['"', '\'']).to_owned()).filter(|license| !license.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_read_from_front_matter_alone() {
        let space = tempfile::tempdir().unwrap();
        let license = |card: &str| {
            std::fs::write(space.path().join("README.md"), card).unwrap();
            license_of(space.path())
        };
        assert_eq!(license("---\nlicense: apache-2.0\ntags: []\n---\n# x\n").as_deref(), Some("apache-2.0"));
        assert_eq!(license("---\ntags: []\n---\nlicense: mit\n"), None);
        assert_eq!(license("license: mit\n"), None);
    }
}
