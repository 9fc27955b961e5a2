//! Model references as recipes write them, and which of them mean a stage.

use std::collections::HashMap;
use std::sync::Arc;

use super::fields::Fields;
use super::finding::Finding;
use super::keys;
use super::meant::{Adapted, Reference, StageId};
use super::span::{Span, Spanned};
use super::yaml::{Node, Value};
use crate::reference::ModelRef;

/// Resolves references within one recipe.
pub struct Resolver<'a> {
    /// Every named stage.
    pub stages: &'a HashMap<String, StageId>,
}

impl Resolver<'_> {
    /// Reads a reference. `None`, with findings, if it cannot be one.
    pub fn read(&self, node: &Node, findings: &mut Vec<Finding>) -> Option<Spanned<Reference>> {
        let value = match &node.value {
            Value::Scalar { text, .. } => self.parse(text, node.span, findings)?,
            Value::Map(_) => self.map(node, findings)?,
            Value::Null | Value::List(_) => {
                let message = "a model must be a name, a path or a stage";
                findings.push(Finding::error("wrong-type", node.span, message));
                return None;
            }
        };
        Some(Spanned { value, span: node.span })
    }

    fn parse(&self, text: &str, span: Span, findings: &mut Vec<Finding>) -> Option<Reference> {
        let text = text.trim();
        let (model, adapter) = match ModelRef::parse_pair(text) {
            Ok(pair) => pair,
            Err(problem) => {
                findings.push(Finding::error("model-reference", span, format!("`{text}`: {problem}")));
                return None;
            }
        };
        if let Some(adapter) = &adapter
            && !adapter.hub_only
            && self.stages.contains_key(adapter.path.trim_start_matches("merges/"))
        {
            let message = format!("`{}` is a stage of this recipe, not an adapter", adapter.path);
            let help = format!(
                "write `+./{path}` for a folder or `+hub:{path}` for an adapter on the hub",
                path = adapter.path
            );
            findings.push(Finding::error("stage-as-adapter", span, message).help(help));
            return None;
        }
        let of = self.unadapted(model, span, findings)?;
        Some(self.adapted(of, adapter))
    }

    /// Reads `{model: {path, revision}, lora: {path, revision}, override_architecture}`.
    fn map(&self, node: &Node, findings: &mut Vec<Finding>) -> Option<Reference> {
        let fields = Fields::closed(node, "a model", &keys::MODEL_MAP, findings)?;
        if let Some(entry) = fields.entry("override_architecture") {
            let message = "`override_architecture` has no effect: layers are inferred from tensor names";
            findings.push(Finding::warning("no-effect", entry.key_span, message));
        }
        let Some(model) = fields.get("model") else {
            findings.push(Finding::error("missing-key", fields.span, "a model needs `model: {path: ...}`"));
            return None;
        };
        let model = part(model, "model", findings)?;
        let adapter = match fields.get("lora") {
            Some(lora) => Some(part(lora, "lora", findings)?),
            None => None,
        };
        Some(self.adapted(Reference::Model(model), adapter))
    }

    /// What a reference without an adapter means.
    fn unadapted(&self, model: ModelRef, span: Span, findings: &mut Vec<Finding>) -> Option<Reference> {
        if model.hub_only || model.path.starts_with("./") {
            return Some(Reference::Model(model));
        }
        let Some((name, stage, by_owner)) = self.stage(&model.path) else {
            return Some(Reference::Model(model));
        };
        if let Some(revision) = &model.revision {
            let message = format!("`{name}` is a stage of this recipe, so it has no revision `{revision}`");
            let help = format!("write `hub:{}` for the model of that name on the hub", model.path);
            findings.push(Finding::error("stage-revision", span, message).help(help));
            return None;
        }
        if by_owner {
            let message = format!("`{}` is taken to mean this recipe's stage `{name}`", model.path);
            let help = format!("write `hub:{}` for the model of that name on the hub", model.path);
            findings.push(Finding::note("stage-by-name", span, message).help(help));
        }
        Some(Reference::Stage(stage))
    }

    /// The stage that a path names, with its name, and whether somebody's name stands before it.
    fn stage<'p>(&self, path: &'p str) -> Option<(&'p str, StageId, bool)> {
        let named = |name: &'p str, by_owner| Some((name, *self.stages.get(name)?, by_owner));
        named(path, false).or_else(|| match path.split_once('/') {
            Some(("merges", name)) => named(name, false),
            Some((_, name)) if !name.contains('/') => named(name, true),
            _ => None,
        })
    }

    fn adapted(&self, of: Reference, adapter: Option<ModelRef>) -> Reference {
        let Some(adapter) = adapter else { return of };
        let name = match &of {
            Reference::Model(model) => &model.path,
            Reference::Stage(id) => {
                self.stages.iter().find(|(_, stage)| *stage == id).expect("it was found there").0
            }
            Reference::Adapted(_) => unreachable!("a reference can have only one adapter"),
        };
        let name = format!("{name}+{}", adapter.path);
        Reference::Adapted(Arc::new(Adapted { of, adapter, name }))
    }
}

/// Reads one folder of a reference in map form, itself a text or a map.
fn part(node: &Node, key: &str, findings: &mut Vec<Finding>) -> Option<ModelRef> {
    if let Value::Scalar { text, .. } = &node.value {
        let problem = |problem| Finding::error("model-reference", node.span, format!("`{text}`: {problem}"));
        return ModelRef::parse(text).map_err(|error| findings.push(problem(error))).ok();
    }
    let inner = Fields::closed(node, &format!("`{key}`"), &keys::MODEL_PLACE, findings)?;
    let Some((path, _)) = inner.text("path", findings) else {
        findings.push(Finding::error("missing-key", inner.span, format!("`{key}` has no `path`")));
        return None;
    };
    let revision = inner.text("revision", findings).map(|(text, _)| text.to_owned());
    Some(ModelRef { path: path.to_owned(), revision, hub_only: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Reference>, Vec<&'static str>) {
        let stages = HashMap::from([("blend".to_owned(), StageId(3)), ("org/model".to_owned(), StageId(5))]);
        let mut findings = Vec::new();
        let reference = Resolver { stages: &stages }.parse(text, Span::default(), &mut findings);
        (reference, findings.into_iter().map(|finding| finding.code).collect())
    }

    fn model(path: &str) -> ModelRef {
        ModelRef { path: path.to_owned(), revision: None, hub_only: false }
    }

    #[test]
    fn a_stage_is_known_by_three_spellings() {
        let stage = Some(Reference::Stage(StageId(3)));
        assert_eq!(read("blend"), (stage.clone(), vec![]));
        assert_eq!(read("merges/blend"), (stage.clone(), vec![]));
        assert_eq!(read("anyone/blend"), (stage, vec!["stage-by-name"]));
        let published = Some(Reference::Stage(StageId(5)));
        assert_eq!(read("org/model"), (published.clone(), vec![]));
        assert_eq!(read("merges/org/model"), (published, vec![]));
        for other in ["model", "anyone/org/model", "other/model"] {
            assert_eq!(read(other).0, Some(Reference::Model(model(other))));
        }
    }

    #[test]
    fn prefixes_force_the_other_reading() {
        let hub = ModelRef { hub_only: true, ..model("anyone/blend") };
        assert_eq!(read("hub:anyone/blend").0, Some(Reference::Model(hub)));
        assert_eq!(read("./blend").0, Some(Reference::Model(model("./blend"))));
        assert_eq!(read("a/b/blend").0, Some(Reference::Model(model("a/b/blend"))));
        assert_eq!(read("C:\\models\\x").0, Some(Reference::Model(model("C:\\models\\x"))));
    }

    #[test]
    fn revisions_and_adapters_are_parsed() {
        let revised = ModelRef { revision: Some("v2".to_owned()), ..model("org/name") };
        assert_eq!(read("org/name@v2").0, Some(Reference::Model(revised)));
        let adapted = |of: Reference, name: &str| {
            let adapter = ModelRef { revision: Some("main".to_owned()), ..model("org/lora") };
            Some(Reference::Adapted(Arc::new(Adapted { of, adapter, name: name.to_owned() })))
        };
        let of = Reference::Model(model("org/name"));
        assert_eq!(read("org/name+org/lora@main").0, adapted(of, "org/name+org/lora"));
        assert_eq!(
            read("merges/blend+org/lora@main").0,
            adapted(Reference::Stage(StageId(3)), "blend+org/lora")
        );
        assert_eq!(read("org/name+blend"), (None, vec!["stage-as-adapter"]));
        for wrong in ["a+b+c", "a@b@c", "", "a@", "+x"] {
            assert_eq!(read(wrong), (None, vec!["model-reference"]), "{wrong}");
        }
        assert_eq!(read("blend@v2"), (None, vec!["stage-revision"]));
    }
}
