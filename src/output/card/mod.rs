//! The model card: README.md with the metadata that the Hugging Face hub reads.
//!
//! What is generated stands between marks, in the front matter and in the text. Everything outside of them is
//! its author's, and all of the card where the marks are gone.

use std::fmt::Write;
use std::ops::Range;

mod declared;
mod front_matter;

pub use declared::Declared;
use front_matter::FrontMatter;

use super::names::PICTURE_FILE;
use crate::draw::graph::{Edge, Extent, Graph};
use crate::draw::{graph_svg, graph_text, numbers::counted};
use crate::plan::Model;
use crate::recipe::{CardSettings, Recipe, StageId, picture};

/// Around what is generated of the front matter, which is YAML.
const FRONT: [&str; 2] = ["# lamarck begin", "# lamarck end"];

/// Around what is generated of the text.
const TEXT: [&str; 2] = ["<!-- lamarck begin: written anew by every build -->", "<!-- lamarck end -->"];

/// Where lamarck is to be had, if this one says so.
const PAGE: &str = env!("CARGO_PKG_REPOSITORY");

/// What every card is tagged with.
const TAGS: [&str; 3] = ["merge", "mergekit", "lamarck"];

/// A column of a stage's table: its head, and what it says of an input.
type Column<'a> = (&'a str, &'a dyn Fn(&Edge) -> Option<String>);

/// What a card is made of.
pub struct Card<'a> {
    pub recipe: &'a Recipe,
    pub target: StageId,
    /// The target and the stages that it is made of.
    pub stages: &'a [StageId],
    /// The checkpoints that it is made of.
    pub models: Vec<&'a Model>,
    /// What their cards declare.
    pub declared: Vec<Declared>,
    /// What the recipe and the project say.
    pub settings: CardSettings,
    /// Null for a bare state dict.
    pub config: &'a serde_json::Value,
}

impl Card<'_> {
    /// The card's text.
    pub fn text(&self) -> String {
        let mut text = format!("---\n{}\n{}{}\n---\n{}\n", FRONT[0], self.front(), FRONT[1], TEXT[0]);
        let stage = self.recipe.stage(self.target);
        let title = self.settings.title.as_deref().unwrap_or(&stage.name);
        let what = if self.config.is_null() { "state dict" } else { "language model" };
        let stages = counted(self.stages.len(), "stage");
        let lamarck = if PAGE.is_empty() { "lamarck".to_owned() } else { format!("[lamarck]({PAGE})") };
        let version = env!("CARGO_PKG_VERSION");
        write!(text, "# {title}\n\nA merge of {} in {stages}, built with {lamarck} {version}.\n", {
            counted(self.models.len(), what)
        })
        .expect("writing to a string");
        if let Some(own) = &self.settings.text {
            write!(text, "\n{own}\n").expect("writing to a string");
        }
        let graph = self.graph();
        write!(
            text,
            "\n![The stages of {}, and what each is merged from]({PICTURE_FILE})\n\n<details>\n\
             <summary>The same as Mermaid</summary>\n\n```mermaid\n{}```\n\n</details>\n",
            stage.name,
            graph_text::mermaid(&graph)
        )
        .expect("writing to a string");
        self.list_models(&mut text);
        text.push_str("\n## Stages\n");
        for (id, (place, ..)) in self.stages.iter().zip(graph.stages()) {
            self.stage(*id, (&graph, place), &mut text);
        }
        self.end(&mut text);
        writeln!(text, "{}", TEXT[1]).expect("writing to a string");
        text
    }

    /// The picture beside the card.
    pub fn picture(&self) -> String {
        let title = format!("How {} is merged", self.recipe.stage(self.target).name);
        graph_svg::file(&self.graph(), &title)
    }

    fn graph(&self) -> Graph {
        let name = |reference| self.recipe.label_of(reference);
        picture::picture(self.recipe, self.stages, &name, &name)
    }

    /// What the hub reads.
    fn front(&self) -> String {
        let mut front = FrontMatter::default();
        let bases: Vec<&str> = self.models.iter().filter_map(|model| self.hub_id(model)).collect();
        front.list("base_model", bases.iter().copied());
        if !bases.is_empty() {
            front.text("base_model_relation", "merge");
        }
        if !self.config.is_null() {
            front.text("library_name", "transformers");
        }
        let architectures = self.config["architectures"].as_array();
        let names = architectures.into_iter().flatten().filter_map(serde_json::Value::as_str);
        let mut names = names.filter(|name| name.ends_with("ForCausalLM") || name.ends_with("LMHeadModel"));
        if names.next().is_some() {
            front.text("pipeline_tag", "text-generation");
        }
        let stated = self.settings.license.clone();
        if let Some(license) = stated.or_else(|| Declared::agreed(&self.declared)) {
            front.text("license", &license.id);
            license.name.iter().for_each(|name| front.text("license_name", name));
            license.link.iter().for_each(|link| front.text("license_link", link));
        }
        let languages = if self.settings.language.is_empty() {
            Declared::languages(&self.declared)
        } else {
            self.settings.language.clone()
        };
        front.list("language", languages.iter().map(String::as_str));
        let own = self.settings.tags.iter().map(String::as_str).filter(|tag| !TAGS.contains(tag));
        front.list("tags", TAGS.into_iter().chain(own));
        front.into_text()
    }

    /// What the hub calls a model, if it most likely has it.
    fn hub_id<'m>(&'m self, model: &'m Model) -> Option<&'m str> {
        let label = self.recipe.portable.label(&model.reference);
        // What lies in a cache of the hub came from there, whatever its name.
        model.reference.hub_id().or_else(|| model.commit.as_ref().map(|_| label))
    }

    fn list_models(&self, text: &mut String) {
        text.push_str("\n## Models\n\n");
        let mut told: Vec<String> = Vec::new();
        for model in &self.models {
            let line = match self.hub_id(model) {
                Some(id) => format!("- {}", on_hub(id, model.reference.revision.as_deref())),
                None => format!("- `{}`, a local folder", self.recipe.portable.label(&model.reference)),
            };
            if !told.contains(&line) {
                text.push_str(&line);
                text.push('\n');
                told.push(line);
            }
        }
    }

    /// A stage: its method, what it is measured from, and a row for each input.
    fn stage(&self, id: StageId, (graph, place): (&Graph, usize), text: &mut String) {
        let stage = self.recipe.stage(id);
        let spec = stage.method.spec();
        write!(text, "\n### {}\n\nMethod [{}]({})", stage.name, spec.name, link(spec.reference))
            .expect("writing to a string");
        let named = |edge: &Edge| self.named(graph, edge.from);
        let bases: Vec<String> = graph.inputs(place).filter(|edge| edge.is_base).map(named).collect();
        if !bases.is_empty() {
            write!(text, " on the base {}", bases.join(" and ")).expect("writing to a string");
        }
        let shared = graph.nodes[place].stage.iter().flat_map(|stage| &stage.settings);
        let mut said: Vec<String> = shared.map(ToString::to_string).collect();
        if spec.draws {
            said.push(format!("seed {}", stage.seed));
        }
        said.extend(
            stage.dtype.iter().filter_map(|dtype| Some(format!("dtype {}", dtype.value.recipe_name()?))),
        );
        let out_dtype = stage.out_dtype.iter().filter_map(|dtype| dtype.value.recipe_name());
        said.extend(out_dtype.map(|dtype| format!("out_dtype {dtype}")));
        if !said.is_empty() {
            write!(text, ": {}", said.join(", ")).expect("writing to a string");
        }
        text.push('.');
        if let Some(tokenizer) = &stage.tokenizer {
            let source = tokenizer.value.source.named(&|reference| self.recipe.label_of(reference));
            write!(text, " Tokenizer: {source}.").expect("writing to a string");
        }
        text.push_str("\n\n");
        self.inputs(&graph.inputs(place).filter(|edge| edge.is_input).collect::<Vec<_>>(), graph, text);
    }

    /// What a stage merges: a table, or a list where nothing is said of any input.
    fn inputs(&self, inputs: &[&Edge], graph: &Graph, text: &mut String) {
        let columns: [Column<'_>; 3] = [
            ("Weight", &|edge| edge.weight.map(|extent: Extent| extent.to_string())),
            ("Density", &|edge| edge.density.map(|extent: Extent| extent.to_string())),
            ("Layers", &layers),
        ];
        let used: Vec<_> =
            columns.iter().filter(|(_, cell)| inputs.iter().any(|edge| cell(edge).is_some())).collect();
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let cells = |first: String, rest: &dyn Fn(usize) -> String| {
            row([first].into_iter().chain((0..used.len()).map(rest)).collect())
        };
        if !used.is_empty() {
            text.push_str(&cells("Input".to_owned(), &|column| used[column].0.to_owned()));
            text.push_str(&cells("---".to_owned(), &|_| "---".to_owned()));
        }
        for edge in inputs {
            let name = self.named(graph, edge.from);
            text.push_str(&if used.is_empty() {
                format!("- {name}\n")
            } else {
                cells(name, &|column| used[column].1(edge).unwrap_or_default())
            });
        }
    }

    /// A model or stage of the graph, with a link where it has a page.
    fn named(&self, graph: &Graph, place: usize) -> String {
        let node = &graph.nodes[place];
        if node.stage.is_some() {
            return format!("**{}**", cell(&node.name));
        }
        let model =
            self.models.iter().find(|model| self.recipe.portable.label(&model.reference) == node.name);
        match model.and_then(|model| Some((self.hub_id(model)?, model))) {
            Some((id, model)) => on_hub(id, model.reference.revision.as_deref()),
            None => format!("`{}`", cell(&node.name)),
        }
    }

    /// How to build it again, and from what.
    fn end(&self, text: &mut String) {
        let stage = self.recipe.stage(self.target);
        let folder = shell(stage.name.rsplit('/').next().unwrap_or(&stage.name));
        let mut flags = String::new();
        for (name, value) in &self.recipe.portable.sets {
            flags.push_str(&format!(" --set {}", shell(&format!("{name}={value}"))));
        }
        if let Some(seed) = self.recipe.seed {
            flags.push_str(&format!(" --seed {seed}"));
        }
        let recipe = self.recipe.portable.text.trim_end();
        let fence = fence(recipe);
        write!(
            text,
            "\n## Building it again\n\n`lamarck.lock.json` lists the digest of every tensor that was read and \
             written. With this repository in a folder `{folder}`, the first command builds the model again and fails \
             if a tensor differs; the second one builds it in a folder of its own and compares:\n\n```sh\n\
             lamarck build {folder}/recipe.yaml --stage {} --out {folder} --locked{flags}\n\
             lamarck verify {folder} --rebuild\n```\n",
            shell(&stage.name)
        )
        .expect("writing to a string");
        if self.models.iter().any(|model| self.hub_id(model).is_none()) {
            text.push_str("\nAdd `--models DIR` for the folder that holds the local models.\n");
        }
        write!(text, "\nThe recipe:\n\n{fence}yaml\n{recipe}\n{fence}\n").expect("writing to a string");
    }
}

/// A link to a model's page.
fn on_hub(id: &str, revision: Option<&str>) -> String {
    match revision {
        Some(revision) => format!("[{id}@{revision}](https://huggingface.co/{id}/tree/{revision})"),
        None => format!("[{id}](https://huggingface.co/{id})"),
    }
}

fn layers(edge: &Edge) -> Option<String> {
    let runs = edge.layers.iter();
    let runs: Vec<String> = runs
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    (!runs.is_empty()).then(|| runs.join(", "))
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// A word of a command line.
fn shell(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=+:,@".contains(c));
    if is_plain && !text.is_empty() { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Backticks that stand around a text, more than it has in a row.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
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
}
