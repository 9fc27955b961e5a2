//! The model card: README.md with the metadata that the Hugging Face hub reads.
//!
//! What is generated stands between marks, in the front matter and in the text. Everything outside of them is
//! its author's, and all of the card where the marks are gone.

use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

use crate::plan::Model;
use crate::recipe::{Recipe, StageId};

/// Around what is generated of the front matter, which is YAML.
const FRONT: [&str; 2] = ["# lamarck begin", "# lamarck end"];

/// Around what is generated of the text.
const TEXT: [&str; 2] = ["<!-- lamarck begin: written anew by every build -->", "<!-- lamarck end -->"];

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
    /// Whether it is a model that loads, and not a bare state dict.
    pub is_model: bool,
}

impl Card<'_> {
    /// The card's text.
    pub fn text(&self) -> String {
        let stage = self.recipe.stage(self.target);
        let mut text = format!("---\n{}\n", FRONT[0]);
        let hub: Vec<&str> = self
            .models
            .iter()
            .filter(|model| model.reference.is_hub_id())
            .map(|model| model.reference.path.as_str())
            .collect();
        if !hub.is_empty() {
            text.push_str("base_model:\n");
            for path in &hub {
                writeln!(text, "- {path}").expect("writing to a string");
            }
        }
        if self.is_model {
            text.push_str("library_name: transformers\n");
        }
        if let Some(license) = self.license {
            writeln!(text, "license: {license}").expect("writing to a string");
        }
        text.push_str("tags:\n- merge\n- mergekit\n- lamarck\n");
        writeln!(text, "{}\n---\n{}", FRONT[1], TEXT[0]).expect("writing to a string");
        writeln!(text, "# {}\n", stage.name).expect("writing to a string");
        let what = if self.is_model { "language models" } else { "state dicts" };
        write!(text, "A merge of {what}, built with lamarck.\n\n## Stages\n\n").expect("writing to a string");
        for id in self.stages {
            self.stage(*id, &mut text);
        }
        text.push_str("\n## Recipe\n\n```yaml\n");
        text.push_str(self.recipe.named_text.trim_end());
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
        writeln!(text, "\n```\n{}", TEXT[1]).expect("writing to a string");
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

/// The generated parts of a card.
pub(super) fn generated(card: &str) -> String {
    sections(card).map(|section| section.map_or("", |section| &card[section])).concat()
}

/// A card with its generated parts from a fresh one, where it has them.
pub(super) fn renewed(card: &str, fresh: &str) -> String {
    let mut renewed = card.to_owned();
    // From the end, since a replacement moves what follows it.
    for (old, new) in sections(card).into_iter().zip(sections(fresh)).rev() {
        if let (Some(old), Some(new)) = (old, new) {
            renewed.replace_range(old, &fresh[new]);
        }
    }
    renewed
}

/// Where the generated parts of the front matter and of the text are, marks included.
fn sections(card: &str) -> [Option<Range<usize>>; 2] {
    let front = card.strip_prefix("---\n").and_then(|rest| rest.find("\n---\n")).map_or(0, |end| end + 5);
    let between = |text: &str, [begin, end]: [&str; 2]| {
        let begin =
            text.starts_with(begin).then_some(0).or_else(|| Some(text.find(&format!("\n{begin}\n"))? + 1))?;
        // The recipe may hold anything, so the last one counts.
        let end = text.rfind(&format!("\n{end}\n"))? + 1 + end.len();
        (begin < end).then_some(begin..end)
    };
    let text = between(&card[front..], TEXT).map(|found| found.start + front..found.end + front);
    [between(&card[..front], FRONT), text]
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
    fn what_the_author_wrote_stays() {
        let card = |front: &str, text: &str| {
            format!("---\n{}\n{front}\n{}\n---\n{}\n{text}\n{}\n", FRONT[0], FRONT[1], TEXT[0], TEXT[1])
        };
        let fresh = card("new: 1", "new");
        assert_eq!(renewed(&card("old: 1", "old"), &fresh), fresh);
        let edited = |card: &str| card.replacen("---\n", "---\nmine: 2\n", 1) + "my words\n";
        assert_eq!(renewed(&edited(&card("old: 1", "old")), &fresh), edited(&fresh));
        assert_eq!(generated(&edited(&fresh)), generated(&fresh));
        assert_ne!(generated(&card("new: 1", "mine")), generated(&fresh));
        for mine in ["", "# mine\n", "---\nmine: 1\n---\n"] {
            assert_eq!(renewed(mine, &fresh), mine);
        }
    }

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
