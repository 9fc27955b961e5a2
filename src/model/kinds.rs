//! What tensors are called in short, for tables of a model by layer and by kind of module: `q_proj` for
//! `model.layers.7.self_attn.q_proj.weight`.
//!
//! A kind's name is as many of the last words of its tensors' names as tell it from the others. Numbers count for
//! nothing, so that all experts of a layer are of one kind, and neither does `weight`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::layout::{Layout, Position};

/// The kinds of a model's tensors.
#[derive(Debug)]
pub struct Kinds {
    /// Their names: what stands ahead of all layers, in them and behind them.
    pub names: Vec<String>,
    /// Of each tensor, the number of its kind, and where it stands.
    places: HashMap<String, (usize, Position)>,
}

/// Where tensors stand, as columns of a table: what is ahead of the layers, each layer, what is behind them.
#[derive(Debug)]
pub struct Columns {
    /// `in`, layers by their numbers, `out`; only those that there are, but for layers without tensors.
    pub names: Vec<String>,
    n_layers: usize,
    has_before: bool,
}

impl Columns {
    /// The columns that some tensors need.
    pub fn new(positions: impl Iterator<Item = Position>) -> Self {
        let (mut n_layers, mut has_before, mut has_after) = (0, false, false);
        for position in positions {
            match position {
                Position::Before => has_before = true,
                Position::Layer(layer) => n_layers = n_layers.max(layer + 1),
                Position::After => has_after = true,
            }
        }
        let before = has_before.then(|| "in".to_owned()).into_iter();
        let layers = (0..n_layers).map(|layer| layer.to_string());
        let names = before.chain(layers).chain(has_after.then(|| "out".to_owned())).collect();
        Self { names, n_layers, has_before }
    }

    /// The column of a position, if it has one.
    pub fn place(&self, position: Position) -> Option<usize> {
        let first = usize::from(self.has_before);
        let place = match position {
            Position::Before => return self.has_before.then_some(0),
            Position::Layer(layer) => (layer < self.n_layers).then_some(first + layer)?,
            Position::After => first + self.n_layers,
        };
        (place < self.names.len()).then_some(place)
    }
}

/// A module's number, and the words of a name that tell a kind.
type Words<'n> = (usize, Vec<&'n str>);

impl Kinds {
    pub fn new<'n>(names: impl Iterator<Item = &'n str>, layout: &Layout) -> Self {
        let mut found: BTreeMap<Words<'n>, Vec<(&'n str, Position)>> = BTreeMap::new();
        for name in names {
            let (module, position) = layout.place(name);
            let rest = match position {
                Position::Layer(_) => &name[layout.modules[module].prefix.len() + 1..],
                Position::Before | Position::After => name,
            };
            found.entry((module, words(rest))).or_default().push((name, position));
        }
        let rank = |position: &Position| match position {
            Position::Before => 0,
            Position::Layer(_) => 1,
            Position::After => 2,
        };
        let order: BTreeSet<(usize, u8, &Words<'n>)> = found
            .iter()
            .map(|(words, tensors)| {
                let first = tensors.iter().map(|(_, position)| rank(position)).min().unwrap_or(0);
                (words.0, first, words)
            })
            .collect();
        let mut kinds = Self { names: Vec::new(), places: HashMap::new() };
        for (number, (module, _, words)) in order.into_iter().enumerate() {
            let others = found.keys().filter(|(of, other)| *of == module && *other != words.1);
            let others: Vec<&Vec<&str>> = others.map(|(_, other)| other).collect();
            let own = short(&words.1, &others);
            kinds.names.push(match layout.modules.len() {
                1 => own,
                _ => format!("{}: {own}", layout.modules[module].name),
            });
            let tensors = found[words].iter();
            kinds.places.extend(tensors.map(|(name, position)| ((*name).to_owned(), (number, *position))));
        }
        kinds
    }

    /// The number of a tensor's kind, and where it stands; `None` for one that was not named before.
    pub fn place(&self, tensor: &str) -> Option<(usize, Position)> {
        self.places.get(tensor).copied()
    }
}

fn words(name: &str) -> Vec<&str> {
    let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
    let mut words: Vec<&str> = name.split('.').filter(|word| !is_number(word)).collect();
    if words.len() > 1 && words.last() == Some(&"weight") {
        words.pop();
    }
    words
}

/// As many of the last words as none of the others ends with.
fn short(words: &[&str], others: &[&Vec<&str>]) -> String {
    let least = if words.last() == Some(&"bias") { 2 } else { 1 };
    let is_own = |n: &usize| !others.iter().any(|other| other.ends_with(&words[words.len() - n..]));
    let n = (least.min(words.len())..=words.len()).find(is_own).unwrap_or(words.len());
    words[words.len() - n..].join(".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kinds(names: &[&str]) -> Kinds {
        let layout = Layout::infer(names.iter().copied(), &json!({}));
        Kinds::new(names.iter().copied(), &layout)
    }

    #[test]
    fn kinds_are_told_by_as_few_words_as_will_do() {
        let kinds = kinds(&[
            "lm_head.weight",
            "model.embed_tokens.weight",
            "model.layers.0.mlp.experts.0.w1.weight",
            "model.layers.0.mlp.experts.11.w1.weight",
            "model.layers.0.self_attn.q_proj.bias",
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.1.attention.output.dense.weight",
            "model.layers.1.output.dense.weight",
            "model.layers.1.output.norm.weight",
            "model.norm.weight",
        ]);
        let expected = [
            "embed_tokens",
            "attention.output.dense",
            "w1",
            "output.norm",
            "output.dense",
            "q_proj",
            "q_proj.bias",
            "lm_head",
            "model.norm",
        ];
        let mut found = kinds.names.clone();
        assert_eq!((found[0].as_str(), found.last().unwrap().as_str()), ("embed_tokens", "model.norm"));
        found.sort();
        let mut expected = expected.map(str::to_owned);
        expected.sort();
        assert_eq!(found, expected);
        let w1 = kinds.place("model.layers.0.mlp.experts.11.w1.weight").unwrap();
        assert_eq!((kinds.names[w1.0].as_str(), w1.1), ("w1", Position::Layer(0)));
        assert_eq!(kinds.place("model.norm.weight").unwrap().1, Position::After);
        assert_eq!(kinds.place("other"), None);
    }

    #[test]
    fn columns_are_those_that_tensors_need() {
        let columns = Columns::new([Position::Layer(1), Position::After].into_iter());
        assert_eq!(columns.names, ["0", "1", "out"]);
        let places = [Position::Before, Position::Layer(1), Position::Layer(2), Position::After];
        assert_eq!(places.map(|position| columns.place(position)), [None, Some(1), None, Some(2)]);
        let columns = Columns::new([Position::Before, Position::Layer(0)].into_iter());
        assert_eq!(columns.names, ["in", "0"]);
        assert_eq!(columns.place(Position::After), None);
    }

    #[test]
    fn of_several_modules_each_is_named() {
        let kinds = kinds(&["visual.blocks.0.qkv.weight", "model.layers.0.q.weight", "model.norm.weight"]);
        assert!(kinds.names.contains(&"visual: qkv".to_owned()), "{:?}", kinds.names);
        assert!(kinds.names.contains(&"model: q".to_owned()), "{:?}", kinds.names);
    }
}
