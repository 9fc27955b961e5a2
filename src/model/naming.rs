//! What one model's tensors are called by another of its family: transformers has moved words in names over the years.
//!
//! Models meet by names without the words that come and go: a wrapper in front (`transformer.h.0`), the name of a part
//! of a larger model (`language_model.model.layers.0`, `model.language_model.layers.0` and `model.layers.0`). A name is
//! taken for another only if no other name of either model comes down to the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::layout::{Layout, Position, bare, is_head, unwrapped};

/// Words for the parts of a larger model, which are left out where there is but one.
const PARTS: [&str; 4] = ["language_model", "text_model", "vision_model", "thinker"];

/// The tensors of a model as another one, whose names a merge takes, calls them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Of each module of the other, the number of the same module of this model.
    modules: Vec<Option<usize>>,
    /// Of tensors outside those modules' layers, the names that are not their own.
    names: HashMap<String, String>,
    /// Beginnings of names, and what they are called by the other.
    pub moved: BTreeSet<(String, String)>,
}

impl Naming {
    /// Compares the names of a model with those of the model that lends its names.
    pub fn new<'a>(
        (lender, theirs): (&Layout, impl Iterator<Item = &'a str>),
        (layout, ours): (&Layout, impl Iterator<Item = &'a str>),
    ) -> Self {
        let stacks = |layout: &'_ Layout| -> Vec<(String, usize)> {
            let modules = layout.modules.iter().enumerate().filter(|(_, module)| module.layers > 0);
            modules.map(|(number, module)| (module.prefix.clone(), number)).collect()
        };
        let (their_stacks, our_stacks) = (stacks(lender), stacks(layout));
        let prefixes = |stacks: &[(String, usize)]| -> Vec<String> {
            stacks.iter().map(|(prefix, _)| prefix.clone()).collect()
        };
        let mut stacks_met = meet(&prefixes(&their_stacks), &prefixes(&our_stacks));
        // The one stack that each has left is the same, whatever it is called.
        let rest = |stacks: &[(String, usize)], is_met: &dyn Fn(&str) -> bool| -> Vec<String> {
            prefixes(stacks).into_iter().filter(|prefix| !is_met(prefix)).collect()
        };
        let theirs_left = rest(&their_stacks, &|prefix| stacks_met.values().any(|met| met == prefix));
        let ours_left = rest(&our_stacks, &|prefix| stacks_met.contains_key(prefix));
        if let ([their], [our]) = (theirs_left.as_slice(), ours_left.as_slice()) {
            stacks_met.insert(our.clone(), their.clone());
        }
        let number = |stacks: &[(String, usize)], prefix: &str| {
            stacks.iter().find(|(known, _)| known == prefix).map(|(_, number)| *number)
        };
        let mut modules = vec![None; lender.modules.len()];
        for (our, their) in &stacks_met {
            let their = number(&their_stacks, their).expect("it is one of the stacks");
            modules[their] = number(&our_stacks, our);
        }
        let is_met = |module: usize| modules.contains(&Some(module));
        let outside = |name: &&str| match layout.place(name) {
            (module, Position::Layer(_)) => !is_met(module),
            _ => true,
        };
        let their_names: Vec<String> = theirs
            .filter(|name| !matches!(lender.place(name), (_, Position::Layer(_))))
            .map(str::to_owned)
            .collect();
        let our_names: Vec<String> = ours.filter(outside).map(str::to_owned).collect();
        let mut names = meet(&their_names, &our_names);
        let is_met = |their: &str| names.values().any(|met| met == their);
        let their_heads: Vec<&String> =
            their_names.iter().filter(|name| is_head(name) && !is_met(name)).collect();
        let our_heads: Vec<&String> =
            our_names.iter().filter(|name| is_head(name) && !names.contains_key(*name)).collect();
        match (their_heads.as_slice(), our_heads.as_slice()) {
            ([their], [our]) => {
                names.insert((*our).clone(), (*their).clone());
            }
            ([], ours) => {
                let moved = stacks_met.iter().find(|(our, their)| our != their);
                for (name, (our, their)) in ours.iter().filter_map(|name| Some((name, moved?))) {
                    names.insert((*name).clone(), head_beside(their, our, name));
                }
            }
            _ => {}
        }
        names.retain(|own, name| own != name);
        let moved = stacks_met.iter().chain(&names).filter(|(own, name)| own != name);
        let moved = moved.map(|(own, name)| without_common_end(own, name)).collect();
        Self { modules, names: names.into_iter().collect(), moved }
    }

    /// That of the lender itself, or of one with which nothing meets but by its own name.
    pub fn own(layout: &Layout) -> Self {
        let modules = (0..layout.modules.len()).map(Some).collect();
        Self { modules, ..Self::default() }
    }

    /// Whether a place in this model is in a layer that the lender has too.
    pub fn is_of_layer(&self, (module, position): (usize, Position)) -> bool {
        matches!(position, Position::Layer(_)) && self.modules.contains(&Some(module))
    }

    /// The number of a module of the lender in this model.
    pub fn module(&self, module: usize) -> Option<usize> {
        self.modules.get(module).copied().flatten()
    }

    /// What the lender calls a tensor outside the layers.
    pub fn name<'n>(&'n self, own: &'n str) -> &'n str {
        self.names.get(own).map_or(own, String::as_str)
    }
}

/// Which names of ours are which of theirs, first by all their words, then by fewer and fewer.
fn meet(theirs: &[String], ours: &[String]) -> BTreeMap<String, String> {
    let forms: [fn(&str) -> String; 4] = [
        str::to_owned,
        |name| unwrapped(name).to_owned(),
        |name| without_tower(&bare(name), &[]),
        |name| without_tower(&bare(name), &PARTS),
    ];
    let mut met: BTreeMap<String, String> = BTreeMap::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for form in forms {
        let unique = |names: Vec<&'_ String>| {
            let mut by_form: HashMap<String, Option<String>> = HashMap::new();
            for name in names {
                by_form.entry(form(name)).and_modify(|known| *known = None).or_insert(Some(name.clone()));
            }
            by_form
        };
        let their_left = unique(theirs.iter().filter(|name| !taken.contains(*name)).collect());
        let our_left = unique(ours.iter().filter(|name| !met.contains_key(*name)).collect());
        for (key, our) in our_left {
            if let (Some(our), Some(Some(their))) = (our, their_left.get(&key)) {
                taken.insert(their.clone());
                met.insert(our, their.clone());
            }
        }
    }
    met
}

/// A name without the words for parts; of a head, only what it is called itself.
fn without_tower(name: &str, parts: &[&str]) -> String {
    if is_head(name) {
        let mut words = name.rsplitn(3, '.');
        let (ending, head) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        return format!("{head}.{ending}");
    }
    name.split('.').filter(|word| !parts.contains(word)).collect::<Vec<_>>().join(".")
}

/// What a head is called by a model that has none, going by where the two have their layers.
fn head_beside(their_layers: &str, our_layers: &str, name: &str) -> String {
    let folder = |layers: &str| {
        let (outer, rest) = layers.split_once('.').unwrap_or_default();
        if rest.starts_with("model.") && outer != "model" { format!("{outer}.") } else { String::new() }
    };
    let own = name.strip_prefix(folder(our_layers).as_str()).unwrap_or(name);
    format!("{}{own}", folder(their_layers))
}

/// The beginnings in which two names differ.
fn without_common_end(a: &str, b: &str) -> (String, String) {
    let (a_words, b_words): (Vec<&str>, Vec<&str>) = (a.split('.').collect(), b.split('.').collect());
    let common = a_words.iter().rev().zip(b_words.iter().rev()).take_while(|(a, b)| a == b).count();
    let start = |words: &[&str]| words[..words.len() - common].join(".");
    (start(&a_words), start(&b_words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Names of ours as theirs, in order, and the numbers of the modules.
    fn named(theirs: &[&str], ours: &[&str]) -> (Vec<String>, Vec<Option<usize>>) {
        let layout = |names: &[&str]| Layout::infer(names.iter().copied(), &json!({}));
        let (lender, own) = (layout(theirs), layout(ours));
        let naming = Naming::new((&lender, theirs.iter().copied()), (&own, ours.iter().copied()));
        let names = ours.iter().map(|name| naming.name(name).to_owned()).collect();
        (names, (0..lender.modules.len()).map(|module| naming.module(module)).collect())
    }

    const OLD: [&str; 7] = [
        "language_model.lm_head.weight",
        "language_model.model.embed_tokens.weight",
        "language_model.model.layers.0.w",
        "multi_modal_projector.w",
        "vision_tower.vision_model.embeddings.w",
        "vision_tower.vision_model.encoder.layers.0.w",
        "vision_tower.vision_model.encoder.layers.1.w",
    ];
    const NEW: [&str; 7] = [
        "lm_head.weight",
        "model.language_model.embed_tokens.weight",
        "model.language_model.layers.0.w",
        "model.multi_modal_projector.w",
        "model.vision_tower.embeddings.w",
        "model.vision_tower.encoder.layers.0.w",
        "model.vision_tower.encoder.layers.1.w",
    ];

    #[test]
    fn what_transformers_has_moved_is_found() {
        for (theirs, ours) in [(OLD, NEW), (NEW, OLD)] {
            let (names, modules) = named(&theirs, &ours);
            for (place, name) in [0, 1, 3, 4].map(|i| (theirs[i], &names[i])) {
                assert_eq!(name, place);
            }
            assert_eq!(modules[..2], [Some(0), Some(1)]);
            let layout = |names: &[&str]| Layout::infer(names.iter().copied(), &json!({}));
            let naming =
                Naming::new((&layout(&theirs), theirs.into_iter()), (&layout(&ours), ours.into_iter()));
            let moved: Vec<_> = naming.moved.iter().map(|(own, their)| format!("{own} > {their}")).collect();
            assert!(!moved.is_empty() && moved.len() <= 5, "{moved:?}");
        }
    }

    #[test]
    fn modules_meet_by_name_and_not_by_order() {
        let ours = ["visual.blocks.0.w", "model.layers.0.w", "model.norm.weight", "visual.merger.w"];
        let theirs = [
            "model.visual.blocks.0.w",
            "model.language_model.layers.0.w",
            "model.language_model.norm.weight",
            "model.visual.merger.w",
        ];
        assert_eq!(named(&theirs, &ours).0[2..], theirs[2..]);
        assert_eq!(named(&ours, &theirs).0[2..], ours[2..]);
        let (_, modules) = named(&["a.layers.0.w", "b.layers.0.w"], &["b.layers.0.w", "c.layers.0.w"]);
        assert_eq!(modules, [Some(1), Some(0)]);
        let (_, modules) = named(&["a.layers.0.w", "b.layers.0.w"], &["c.layers.0.w", "d.layers.0.w"]);
        assert_eq!(modules, [None, None]);
    }

    #[test]
    fn a_head_that_the_other_lacks_is_named_in_its_way() {
        for (theirs, ours) in [(OLD, NEW), (NEW, OLD)] {
            let without: Vec<&str> = theirs[1..].to_vec();
            assert_eq!(named(&without, &ours).0[0], theirs[0]);
        }
    }

    #[test]
    fn heads_meet_whatever_they_are_called() {
        let theirs = ["gpt_neox.layers.0.w", "embed_out.weight"];
        assert_eq!(named(&theirs, &["gpt_neox.layers.0.w", "lm_head.weight"]).0[1], "embed_out.weight");
        let (names, _) = named(&theirs, &["gpt_neox.layers.0.w", "lm_head.weight", "output.weight"]);
        assert_eq!(names[1..], ["lm_head.weight", "output.weight"]);
    }

    #[test]
    fn words_in_front_come_and_go() {
        let bert = ["bert.embeddings.w", "bert.encoder.layer.0.w", "cls.w"];
        assert_eq!(named(&bert, &["embeddings.w", "encoder.layer.0.w"]).0[0], "bert.embeddings.w");
        // Names that could be either stay what they are.
        let both = ["model.layers.0.w", "model.norm.weight", "norm.weight"];
        assert_eq!(named(&["model.layers.0.w", "norm.weight"], &both).0, both);
        assert_eq!(named(&both, &["layers.0.w", "transformer.norm.weight"]).0[1], "transformer.norm.weight");
    }
}
