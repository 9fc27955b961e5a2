//! A recipe's stages as a graph to be drawn: who reads whom, with which weight and density.

use super::meant::{Gradient, Parameters, Recipe, Reference, Section, Setting, Stage, StageId};
use crate::draw::graph::{self, Edge, Extent, Graph, Node};
use crate::methods::{Kind, MethodSpec, ParamSpec, Scope, Value};

/// The graph of some stages, each behind those it reads, and of the models they read; `label` gives names that a
/// picture has room for.
pub fn picture<'r>(
    recipe: &'r Recipe,
    order: &[StageId],
    name: &dyn Fn(&'r Reference) -> String,
    label: &dyn Fn(&'r Reference) -> String,
) -> Graph {
    let mut graph = Graph::default();
    let mut known: Vec<(Reference, usize)> = Vec::new();
    for id in order {
        let stage = recipe.stage(*id);
        let mut read: Vec<&Reference> = Vec::new();
        for located in stage.references() {
            if !read.contains(&&located.value) {
                read.push(&located.value);
            }
        }
        let mut edges: Vec<Edge> = Vec::new();
        for reference in read {
            let from = known.iter().find(|(other, _)| other == reference).map(|(_, place)| *place);
            let from = from.unwrap_or_else(|| {
                graph.nodes.push(Node { name: name(reference), label: label(reference), stage: None });
                known.push((reference.clone(), graph.nodes.len() - 1));
                graph.nodes.len() - 1
            });
            edges.push(Edge { from, ..edge(stage, reference) });
        }
        // Where all are taken alike, nobody has to be told which layers.
        if edges
            .iter()
            .filter(|edge| edge.is_input)
            .map(|edge| &edge.layers)
            .collect::<Vec<_>>()
            .windows(2)
            .all(|pair| pair[0] == pair[1])
        {
            edges.iter_mut().for_each(|edge| edge.layers.clear());
        }
        let to = graph.nodes.len();
        known.push((Reference::Stage(*id), to));
        graph.nodes.push(Node {
            name: stage.name.clone(),
            label: stage.name.clone(),
            stage: Some(graph::Stage {
                method: stage.method.spec().name,
                settings: settings(stage),
                work: None,
            }),
        });
        graph.edges.extend(edges.into_iter().map(|edge| Edge { to, ..edge }));
    }
    graph
}

/// What a stage does with something it reads.
fn edge(stage: &Stage, reference: &Reference) -> Edge {
    let spec = stage.method.spec();
    let bases: Vec<&Reference> = stage
        .base
        .iter()
        .chain(stage.sections().into_iter().filter_map(|section| section.slice?.base.as_ref()))
        .map(|base| &base.value)
        .collect();
    let is_base = bases.contains(&reference);
    // A base that the others are measured from is not merged, even where it is listed among them.
    let is_counted = !(is_base && spec.base.is_relative());
    let sections = stage.sections();
    let listed = || {
        sections.iter().flat_map(|section| {
            section
                .inputs
                .iter()
                .filter(|input| input.model.value == *reference)
                .map(move |input| (section, input))
        })
    };
    let is_input = is_counted && listed().next().is_some();
    let extent = |name: &str| {
        let param = spec.param(name).filter(|param| !param.inert && param.scope != Scope::Shared)?;
        let values = listed()
            .flat_map(|(section, input)| values(&levels(stage, section, Some(&input.parameters)), param));
        Extent::of(values).filter(|_| is_input)
    };
    let mut layers: Vec<(usize, usize)> = Vec::new();
    for (first, behind) in listed().filter_map(|(_, input)| Some(input.layer_range.as_ref()?.value)) {
        if behind <= first {
            continue;
        }
        match layers.last_mut() {
            Some((_, last)) if *last + 1 == first => *last = behind - 1,
            _ => layers.push((first, behind - 1)),
        }
    }
    Edge {
        is_base,
        is_input,
        weight: extent("weight"),
        density: extent("density"),
        layers,
        ..Edge::default()
    }
}

/// What all models of a stage share, as far as the recipe says.
fn settings(stage: &Stage) -> Vec<graph::Setting> {
    let spec: &MethodSpec = stage.method.spec();
    let of = |param: &'static ParamSpec| {
        let sections = stage.sections();
        let values = sections.iter().flat_map(|section| values(&levels(stage, section, None), param));
        Some(graph::Setting {
            name: param.name,
            extent: Extent::of(values)?,
            is_flag: matches!(param.kind, Kind::Flag),
        })
    };
    spec.params.iter().filter(|param| !param.inert && param.scope == Scope::Shared).filter_map(of).collect()
}

/// The levels at which a parameter can be set, the one that goes before the others first.
fn levels<'a>(stage: &'a Stage, section: &Section<'a>, input: Option<&'a Parameters>) -> Vec<&'a Parameters> {
    let slice = section.slice.map(|slice| &slice.parameters);
    let module = section.module.map(|module| &module.parameters);
    input.into_iter().chain(slice).chain(module).chain([&stage.parameters]).collect()
}

/// Every number that a parameter can come to, a flag as 0 or 1.
fn values(levels: &[&Parameters], param: &ParamSpec) -> Vec<f64> {
    let numbers = |gradient: &Gradient| -> Vec<f64> {
        let number = |value: &Value| match value {
            Value::Number(number) => *number,
            Value::Integer(number) => *number as f64,
            Value::Flag(flag) => f64::from(u8::from(*flag)),
        };
        gradient.0.iter().map(number).collect()
    };
    let mut found = Vec::new();
    for parameters in levels {
        let Some((_, setting)) = parameters.iter().find(|(name, _)| *name == param.name) else { continue };
        match &setting.value {
            Setting::Plain(gradient) if gradient.0.is_empty() => {}
            Setting::Plain(gradient) => {
                found.extend(numbers(gradient));
                return found;
            }
            Setting::Filtered(clauses) => {
                found.extend(clauses.iter().flat_map(|clause| numbers(&clause.value)));
                if clauses.iter().any(|clause| clause.filter.is_none()) {
                    return found;
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{LoadOptions, load};

    fn drawn(text: &str) -> Graph {
        let loaded = load(text, &LoadOptions { name: "r.yaml".into(), ..Default::default() });
        let recipe = loaded.recipe.unwrap_or_else(|| panic!("{:?}", loaded.findings));
        let order: Vec<StageId> = (0..recipe.stages.len()).map(StageId).collect();
        let name = |reference| recipe.name_of(reference).to_owned();
        picture(&recipe, &order, &name, &name)
    }

    fn lines(graph: &Graph) -> Vec<(String, String)> {
        let name = |edge: &Edge| graph.nodes[edge.from].name.clone();
        graph.edges.iter().map(|edge| (name(edge), edge.lines().join(", "))).collect()
    }

    #[test]
    fn weights_come_from_the_level_that_counts() {
        let graph = drawn(
            "name: s\nmerge_method: ties\nbase_model: b\nparameters: {weight: 0.5, density: [0.2, 0.9], lambda: 0.9, normalize: false}\n\
             models:\n- {model: x, parameters: {weight: [{filter: mlp, value: 0.1}]}}\n\
             - {model: y, parameters: {weight: [{filter: mlp, value: 1}, {value: 2}], density: 1}}\n- {model: b}\n",
        );
        let expected =
            [("b", "base"), ("x", "weight 0.1..0.5, density 0.2..0.9"), ("y", "weight 1..2, density 1")];
        assert_eq!(lines(&graph), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        let stage = graph.nodes[3].stage.as_ref().unwrap();
        let settings: Vec<String> = stage.settings.iter().map(ToString::to_string).collect();
        assert_eq!(
            (stage.method, settings),
            ("ties", vec!["normalize false".to_owned(), "lambda 0.9".to_owned()])
        );
    }

    #[test]
    fn layers_are_told_where_they_differ() {
        let graph = drawn(
            "name: s\nmerge_method: passthrough\nslices:\n- sources: [{model: x, layer_range: [0, 4]}]\n\
             - sources: [{model: y, layer_range: [2, 6]}]\n- sources: [{model: y, layer_range: [6, 8]}]\n\
             - sources: [{model: x, layer_range: [7, 8]}]\n",
        );
        assert_eq!(
            lines(&graph),
            [("x", "layers 0-3, 7"), ("y", "layers 2-7")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
        let alike = drawn(
            "name: s\nmerge_method: slerp\nbase_model: x\nparameters: {t: [0, 0.6]}\nslices:\n\
             - sources: [{model: x, layer_range: [0, 4]}, {model: y, layer_range: [0, 4]}]\n",
        );
        assert_eq!(lines(&alike), [("x", "base"), ("y", "")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(alike.nodes[2].stage.as_ref().unwrap().settings[0].to_string(), "t 0..0.6");
    }
}
