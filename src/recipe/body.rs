//! What a stage merges: models, slices or modules, with the parameters of each level.

use super::fields::{Fields, whole};
use super::finding::Finding;
use super::keys::{self, Form, Map};
use super::meant::{Body, Input, Module, ModuleBody, Parameters, Reference, Slice};
use super::reference::Resolver;
use super::settings::{Level, SettingsReader};
use super::span::Spanned;
use super::yaml::{Node, Value};
use crate::methods::MethodSpec;
use crate::reference::ModelRef;

type Base<'a> = Option<&'a Spanned<Reference>>;

/// Reads the body and the own parameters of a stage, given with its name.
pub(super) fn read(
    (stage, fields): (&str, &Fields<'_>),
    resolver: &Resolver<'_>,
    method: &'static MethodSpec,
    base: Base<'_>,
    findings: &mut Vec<Finding>,
) -> Option<(Body, Parameters)> {
    let settings = SettingsReader { stage, method };
    let parts = Parts { resolver, settings, base };
    let parameters = parts.settings.read(fields, "a stage", &keys::STAGE, Level::Above, findings);
    let models = fields.list("models", findings);
    let slices = fields.list("slices", findings);
    let modules = fields.get("modules");
    let body = match (models, slices, modules) {
        (Some(models), None, None) => Body::Models(parts.inputs(models, false, base, findings)),
        (None, Some(slices), None) => Body::Slices(parts.slices(slices, findings)),
        (None, None, Some(modules)) => Body::Modules(parts.modules(modules, findings)?),
        // What is there and is no list was told of.
        (None, None, None) if ["models", "slices"].iter().any(|key| is_no_list(fields, key)) => return None,
        (None, None, None) => {
            let message = format!("stage `{stage}` lists no models");
            let help = "give it one of `models:`, `slices:` or `modules:`";
            findings.push(Finding::error("missing-key", fields.span, message).help(help));
            return None;
        }
        _ => {
            let message = format!("stage `{stage}` has more than one of `models`, `slices` and `modules`");
            findings.push(Finding::error("exclusive-keys", fields.span, message));
            return None;
        }
    };
    Some((body, parameters))
}

fn is_no_list(fields: &Fields<'_>, key: &str) -> bool {
    fields.get(key).is_some_and(|node| !matches!(node.value, Value::List(_)))
}

struct Parts<'a> {
    resolver: &'a Resolver<'a>,
    settings: SettingsReader<'a>,
    base: Base<'a>,
}

impl Parts<'_> {
    /// Reads `models` or, with layer ranges, `sources`. A model that is listed twice counts once.
    fn inputs(
        &self,
        nodes: &[Node],
        ranged: bool,
        base: Base<'_>,
        findings: &mut Vec<Finding>,
    ) -> Vec<Input> {
        let mut inputs: Vec<Input> = Vec::new();
        for node in nodes {
            let Some(input) = self.input(node, ranged, base, findings) else { continue };
            let layers = |input: &Input| input.layer_range.as_ref().map(|range| range.value);
            let Some(first) = inputs.iter().find(|other| other.model.value == input.model.value) else {
                inputs.push(input);
                continue;
            };
            let stage = self.settings.stage;
            findings.push(if layers(first) == layers(&input) {
                let message = format!("stage `{stage}` lists a model twice; the first entry counts");
                Finding::warning("duplicate-model", input.model.span, message)
            } else {
                let message = format!("stage `{stage}` lists a model twice with different layers");
                Finding::error("duplicate-model", input.model.span, message).help(
                    "a slice can take layers of a model only once; take the other layers in another slice",
                )
            });
        }
        inputs
    }

    fn input(&self, node: &Node, ranged: bool, base: Base<'_>, findings: &mut Vec<Finding>) -> Option<Input> {
        let what = if ranged { "a source" } else { "an entry of `models`" };
        let keys = if ranged { &keys::SOURCE } else { &keys::MODEL };
        let fields = Fields::read(node, what, keys, findings)?;
        let Some(model) = fields.get("model") else {
            findings.push(Finding::error("missing-key", fields.span, format!("{what} has no `model`")));
            return None;
        };
        let model = self.resolver.read(model, findings)?;
        let label = label(&model.value);
        let is_base =
            self.settings.method.base.is_relative() && base.is_some_and(|base| base.value == model.value);
        let level = if is_base { Level::Base(&label) } else { Level::Model(&label) };
        let parameters = self.settings.read(&fields, what, keys, level, findings);
        let layer_range = if ranged { Some(self.layer_range(&fields, findings)?) } else { None };
        Some(Input { model, parameters, layer_range })
    }

    fn layer_range(
        &self,
        fields: &Fields<'_>,
        findings: &mut Vec<Finding>,
    ) -> Option<Spanned<(usize, usize)>> {
        let Some(node) = fields.get("layer_range") else {
            let message = "a source of a slice has no `layer_range`";
            findings.push(
                Finding::error("missing-key", fields.span, message)
                    .help("write `layer_range: [0, 8]` for layers 0 to 7"),
            );
            return None;
        };
        let range = match &node.value {
            Value::List(items) => match items.as_slice() {
                [start, end] => whole(start).zip(whole(end)),
                _ => None,
            },
            _ => None,
        };
        match range {
            Some((start, end)) if start <= end => {
                if start == end {
                    let message = format!("`layer_range: [{start}, {end}]` contains no layers");
                    findings.push(Finding::warning("empty-layer-range", node.span, message));
                }
                Some(Spanned { value: (start as usize, end as usize), span: node.span })
            }
            Some(_) => {
                let message = "the end of a `layer_range` must be greater than its start";
                findings.push(Finding::error("layer-range", node.span, message));
                None
            }
            None => {
                let message =
                    "`layer_range` must be two whole numbers: the first layer and the one after the last";
                let finding = Finding::error("wrong-type", node.span, message);
                findings.push(finding.help("write `layer_range: [0, 8]` for layers 0 to 7"));
                None
            }
        }
    }

    /// Tells of keys that have an effect for a stage alone.
    fn of_a_stage(&self, fields: &Fields<'_>, what: &str, known: &Map, findings: &mut Vec<Finding>) {
        let of_stage = known.keys.iter().filter(|key| matches!(key.form, Form::OfStage));
        for entry in of_stage.filter_map(|key| fields.entry(key.name)) {
            let message = format!(
                "stage `{}`: `{}` has no effect in {what}, nor does it in mergekit",
                self.settings.stage, entry.key
            );
            let help = "put these layers into a stage of their own, and refer to that stage here";
            findings.push(Finding::warning("no-effect", entry.key_span, message).help(help));
        }
    }

    fn slices(&self, nodes: &[Node], findings: &mut Vec<Finding>) -> Vec<Slice> {
        nodes.iter().filter_map(|node| self.slice(node, findings)).collect()
    }

    fn slice(&self, node: &Node, findings: &mut Vec<Finding>) -> Option<Slice> {
        let fields = Fields::read(node, "a slice", &keys::SLICE, findings)?;
        self.of_a_stage(&fields, "a slice", &keys::SLICE, findings);
        if let Some(entry) = fields.entry("residual_weight") {
            let message = "`residual_weight` has no effect, nor does it in mergekit";
            findings.push(Finding::warning("no-effect", entry.key_span, message));
        }
        let base = fields.get("base_model").and_then(|node| self.resolver.read(node, findings));
        let parameters = self.settings.read(&fields, "a slice", &keys::SLICE, Level::Above, findings);
        let Some(sources) = fields.list("sources", findings) else {
            findings.push(Finding::error("missing-key", fields.span, "a slice has no `sources`"));
            return None;
        };
        let sources = self.inputs(sources, true, base.as_ref().or(self.base), findings);
        let span = fields.entry("sources").map_or(fields.span, |entry| entry.key_span);
        Some(Slice { span, sources, base, parameters })
    }

    fn modules(&self, node: &Node, findings: &mut Vec<Finding>) -> Option<Vec<Module>> {
        let listed = Fields::read(node, "`modules`", &keys::ANY, findings)?;
        let mut modules = Vec::new();
        for entry in &listed.others {
            let what = format!("module `{}`", entry.key);
            let fields = Fields::read(&entry.value, &what, &keys::MODULE, findings)?;
            self.of_a_stage(&fields, &what, &keys::MODULE, findings);
            let parameters = self.settings.read(&fields, &what, &keys::MODULE, Level::Above, findings);
            let body = match (fields.list("models", findings), fields.list("slices", findings)) {
                (Some(models), None) => ModuleBody::Models(self.inputs(models, false, self.base, findings)),
                (None, Some(slices)) => ModuleBody::Slices(self.slices(slices, findings)),
                _ => {
                    let message = format!("{what} must have either `models` or `slices`");
                    findings.push(Finding::error("exclusive-keys", entry.key_span, message));
                    return None;
                }
            };
            let name = Spanned { value: entry.key.clone(), span: entry.key_span };
            modules.push(Module { name, body, parameters });
        }
        Some(modules)
    }
}

fn label(reference: &Reference) -> String {
    match reference {
        Reference::Stage(_) => "a stage".to_owned(),
        Reference::Model(ModelRef { path, .. }) => format!("`{path}`"),
        Reference::Adapted(adapted) => format!("`{}`", adapted.name),
    }
}
