//! The graph of a recipe's stages, as plain data for every way of drawing it.

use std::fmt;

/// Models and stages, and what each stage reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Each behind those that it reads.
    pub nodes: Vec<Node>,
    /// In the order in which stages name what they read.
    pub edges: Vec<Edge>,
}

/// A model or a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// In full.
    pub name: String,
    /// What a picture has room for.
    pub label: String,
    /// `None` for a model from outside the recipe.
    pub stage: Option<Stage>,
}

/// What is told of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub method: &'static str,
    /// Parameters that all its models share, as far as the recipe sets them.
    pub settings: Vec<Setting>,
    /// What a build would do with it, where that is known.
    pub work: Option<Work>,
}

/// One model or stage that a stage reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edge {
    /// Places in [`Graph::nodes`].
    pub from: usize,
    pub to: usize,
    /// Whether the others are measured from it.
    pub is_base: bool,
    /// Whether it is merged, and not a base alone.
    pub is_input: bool,
    pub weight: Option<Extent>,
    pub density: Option<Extent>,
    /// Layers that are taken of it, first and last, where the stage takes different ones of its models.
    pub layers: Vec<(usize, usize)>,
}

/// A parameter that all models of a stage share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    pub name: &'static str,
    /// Of a flag, 0 for false and 1 for true.
    pub extent: Extent,
    pub is_flag: bool,
}

/// The lowest and the highest value of a setting, over layers and tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extent {
    pub min: f64,
    pub max: f64,
}

/// What a build would do with a stage, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Whether it is over.
    pub is_done: bool,
    pub tensors: usize,
    pub bytes: u64,
    /// Tensors to compute for sure.
    pub run: usize,
    /// Tensors to compute if what they read comes out with other bytes.
    pub if_changed: usize,
    /// Tensors whose results are there.
    pub reuse: usize,
}

/// A stage's work in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is computed.
    Reuse,
    /// Some tensors are, or may have to be.
    Part,
    /// Everything is.
    Run,
}

impl Work {
    /// The verdict on the stage as a whole.
    pub fn verdict(&self) -> Verdict {
        match (self.run, self.if_changed, self.reuse) {
            (0, 0, _) => Verdict::Reuse,
            (_, 0, 0) => Verdict::Run,
            _ => Verdict::Part,
        }
    }

    /// The verdict in words: `reused`, `must run` or how many tensors must, and `ran` when it is over.
    pub fn words(&self) -> String {
        let Self { is_done, tensors, run, if_changed, .. } = self;
        let runs = if *is_done { "ran" } else { "must run" };
        match self.verdict() {
            Verdict::Reuse => "reused".to_owned(),
            Verdict::Run => runs.to_owned(),
            Verdict::Part if *if_changed == 0 => format!("{run} of {tensors} {runs}"),
            Verdict::Part => format!("up to {} of {tensors} {runs}", run + if_changed),
        }
    }
}

impl Verdict {
    /// The word that programs and style sheets know it by.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reuse => "reuse",
            Self::Part => "part",
            Self::Run => "run",
        }
    }
}

impl fmt::Display for Setting {
    /// `t 0..0.7`, `normalize true`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, extent: Extent { min, max }, is_flag } = self;
        match (is_flag, min == max) {
            (false, _) => write!(f, "{name} {}", self.extent),
            (true, true) => write!(f, "{name} {}", *min > 0.0),
            (true, false) => write!(f, "{name} true or false"),
        }
    }
}

impl Extent {
    /// The extent of some values; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        values.into_iter().fold(None, |extent: Option<Self>, value| {
            let Self { min, max } = extent.unwrap_or(Self { min: value, max: value });
            Some(Self { min: min.min(value), max: max.max(value) })
        })
    }
}

impl fmt::Display for Extent {
    /// `0.5`, or `0.2..0.9` where it is not one value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, max } = self;
        if min == max { write!(f, "{min}") } else { write!(f, "{min}..{max}") }
    }
}

impl Edge {
    /// What is written at it, line by line.
    pub fn lines(&self) -> Vec<String> {
        const SHOWN: usize = 3;
        let mut lines = Vec::new();
        if self.is_base {
            lines.push("base".to_owned());
        }
        if let Some(weight) = self.weight {
            lines.push(format!("weight {weight}"));
        }
        if let Some(density) = self.density {
            lines.push(format!("density {density}"));
        }
        let runs: Vec<String> = self
            .layers
            .iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        match (runs.len(), self.layers.as_slice()) {
            (0, _) => {}
            (1, [(first, last)]) if first == last => lines.push(format!("layer {first}")),
            (n, _) if n <= SHOWN => lines.push(format!("layers {}", runs.join(", "))),
            (n, _) => lines.push(format!("{n} runs of layers")),
        }
        lines
    }
}

impl Graph {
    /// What a node reads, in the order of the recipe.
    pub fn inputs(&self, node: usize) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.to == node)
    }

    /// The stages that no stage reads.
    pub fn finals(&self) -> impl Iterator<Item = usize> {
        let is_read = |node: usize| self.edges.iter().any(|edge| edge.from == node);
        (0..self.nodes.len()).filter(move |node| self.nodes[*node].stage.is_some() && !is_read(*node))
    }

    /// Stages with their places in [`Self::nodes`].
    pub fn stages(&self) -> impl Iterator<Item = (usize, &Node, &Stage)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(place, node)| Some((place, node, node.stage.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(run: usize, if_changed: usize, reuse: usize) -> Work {
        Work { is_done: false, tensors: 9, bytes: 0, run, if_changed, reuse }
    }

    #[test]
    fn verdicts_have_words() {
        assert_eq!(work(0, 0, 9).words(), "reused");
        assert_eq!(work(9, 0, 0).words(), "must run");
        assert_eq!(work(2, 0, 7).words(), "2 of 9 must run");
        assert_eq!(work(2, 3, 4).words(), "up to 5 of 9 must run");
        assert_eq!(work(0, 0, 0).verdict(), Verdict::Reuse, "what is another's takes no work");
    }

    #[test]
    fn edges_say_what_is_set() {
        let edge = Edge {
            is_base: true,
            weight: Extent::of([0.9, 0.25]),
            density: Extent::of([1.0]),
            layers: vec![(0, 7), (9, 9)],
            ..Edge::default()
        };
        assert_eq!(edge.lines(), ["base", "weight 0.25..0.9", "density 1", "layers 0-7, 9"]);
        assert_eq!(Edge { layers: vec![(1, 2); 4], ..Edge::default() }.lines(), ["4 runs of layers"]);
    }
}
