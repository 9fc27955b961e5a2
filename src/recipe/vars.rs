//! Templates: documents that declare variables, and `${name}` in any scalar.

use std::collections::BTreeMap;

use super::allow::{self, Allowed};
use super::fields::{Fields, did_you_mean, whole};
use super::finding::Finding;
use super::keys;
use super::span::{Span, Spanned};
use super::yaml::{self, Entry, Node, Plain, Value};

/// Variables and what else a document of them may hold.
#[derive(Debug, Default)]
pub struct Vars {
    values: BTreeMap<String, Variable>,
    pub seed: Option<Spanned<u64>>,
    /// Findings that the recipe allows in all stages.
    pub allowed: Vec<Allowed>,
    /// What cards say, with its variables not yet filled in.
    pub card: Option<Node>,
}

#[derive(Debug)]
struct Variable {
    value: Value,
    /// What is pasted into a text, whatever the value is when it stands alone.
    text: String,
    span: Span,
    used: bool,
}

/// Whether a document declares what holds for all stages, and is none.
pub fn is_declaration(document: &Node) -> bool {
    let Value::Map(entries) = &document.value else { return false };
    !entries.is_empty() && entries.iter().all(|entry| keys::DECLARATION.names().any(|name| name == entry.key))
}

impl Vars {
    /// Reads a declaring document.
    pub fn declare(&mut self, document: &Node, findings: &mut Vec<Finding>) {
        let Some(fields) = Fields::read(document, "the document", &keys::DECLARATION, findings) else {
            return;
        };
        self.allowed.extend(allow::read(&fields, 0..usize::MAX, findings));
        self.card = fields.get("card").cloned().or_else(|| self.card.take());
        if let Some(seed) = fields.get("seed").or(fields.get("random_seed")) {
            match whole(seed) {
                Some(value) => self.seed = Some(Spanned { value, span: seed.span }),
                None => {
                    let message = "`seed` must be a whole number, 0 or greater";
                    findings.push(Finding::error("wrong-type", seed.span, message));
                }
            }
        }
        let Some(vars) =
            fields.get("vars").and_then(|node| Fields::read(node, "`vars`", &keys::ANY, findings))
        else {
            return;
        };
        for Entry { key, key_span, value } in vars.others {
            let Value::Scalar { text, .. } = &value.value else {
                let message = format!("the variable `{key}` must be a single value");
                findings.push(Finding::error("wrong-type", value.span, message));
                continue;
            };
            let (value, text) = (value.value.clone(), text.clone());
            self.values.insert(key.clone(), Variable { value, text, span: *key_span, used: false });
        }
    }

    /// Applies `--set name=value`.
    pub fn set(&mut self, sets: &[(String, String)], findings: &mut Vec<Finding>) {
        for (name, text) in sets {
            match self.values.get_mut(name) {
                Some(variable) => {
                    variable.value = yaml::plain(text);
                    variable.text.clone_from(text);
                }
                None => {
                    let message = format!("the recipe declares no variable `{name}`");
                    findings.push(self.suggest(name, Finding::error("unknown-variable", None, message)));
                }
            }
        }
    }

    /// Fills variables into every scalar of a document. `$${` stands for a literal `${`.
    pub fn fill(&mut self, node: &mut Node, findings: &mut Vec<Finding>) {
        match &mut node.value {
            Value::List(items) => items.iter_mut().for_each(|item| self.fill(item, findings)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| self.fill(&mut entry.value, findings)),
            Value::Scalar { text, plain: Plain::Text } if text.contains("${") => {
                if let Some(filled) = self.filled(text, node.span, findings) {
                    node.value = filled;
                }
            }
            Value::Null | Value::Scalar { .. } => {}
        }
    }

    fn filled(&mut self, text: &str, span: Span, findings: &mut Vec<Finding>) -> Option<Value> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            if let Some(before) = before.strip_suffix('$') {
                filled.push_str(before);
                filled.push_str("${");
                rest = &from[2..];
                continue;
            }
            filled.push_str(before);
            let Some((name, after)) = from[2..].split_once('}') else {
                findings.push(
                    Finding::error("template", span, "`${` has no closing `}`")
                        .help("write `$${` for a literal `${`"),
                );
                return None;
            };
            let Some(variable) = self.values.get_mut(name) else {
                let finding =
                    Finding::error("unknown-variable", span, format!("no variable `{name}` is declared"));
                findings.push(self.suggest(name, finding));
                return None;
            };
            variable.used = true;
            // A scalar that is nothing but a variable is that variable, of whatever type.
            if before.is_empty() && filled.is_empty() && after.is_empty() {
                return Some(variable.value.clone());
            }
            filled.push_str(&variable.text);
            rest = after;
        }
        filled.push_str(rest);
        Some(yaml::plain(&filled))
    }

    /// Warns of variables that nothing uses.
    pub fn check_used(&self, findings: &mut Vec<Finding>) {
        for (name, variable) in self.values.iter().filter(|(_, variable)| !variable.used) {
            let message = format!("the variable `{name}` is not used");
            findings.push(Finding::warning("unused-variable", variable.span, message));
        }
    }

    fn suggest(&self, name: &str, finding: Finding) -> Finding {
        match did_you_mean(name, self.values.keys().map(String::as_str)) {
            Some(meant) => finding.help(format!("did you mean `{meant}`?")),
            None if self.values.is_empty() => {
                finding.help("declare variables in a document of its own: `vars: {name: value}`")
            }
            None => {
                let names: Vec<&str> = self.values.keys().map(String::as_str).collect();
                finding.help(format!("the declared variables are: {}", names.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, sets: &[(&str, &str)]) -> (Vec<Node>, Vec<&'static str>) {
        let mut findings = Vec::new();
        let mut vars = Vars::default();
        let (declaring, mut others): (Vec<Node>, Vec<Node>) =
            yaml::parse(text).unwrap().into_iter().partition(is_declaration);
        declaring.iter().for_each(|document| vars.declare(document, &mut findings));
        let sets: Vec<_> =
            sets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        vars.set(&sets, &mut findings);
        others.iter_mut().for_each(|document| vars.fill(document, &mut findings));
        vars.check_used(&mut findings);
        (others, findings.into_iter().map(|finding| finding.code).collect())
    }

    fn first(nodes: &[Node]) -> &Value {
        let Value::Map(entries) = &nodes[0].value else { panic!() };
        &entries[0].value.value
    }

    #[test]
    fn a_variable_keeps_its_type_and_text_is_pasted() {
        let (nodes, findings) = fill("vars: {w: 0.5}\n---\nweight: ${w}\n", &[]);
        assert_eq!(first(&nodes), &Value::Scalar { text: "0.5".to_owned(), plain: Plain::Number(0.5) });
        assert!(findings.is_empty());
        let (nodes, _) = fill("vars: {a: x}\n---\nname: pre-${a}-$${a}\n", &[]);
        assert_eq!(first(&nodes), &Value::Scalar { text: "pre-x-${a}".to_owned(), plain: Plain::Text });
        let (nodes, _) = fill("vars: {w: 0.5}\n---\nweight: ${w}\n", &[("w", "0.75")]);
        assert_eq!(first(&nodes), &Value::Scalar { text: "0.75".to_owned(), plain: Plain::Number(0.75) });
    }

    #[test]
    fn what_is_set_is_pasted_as_it_stands() {
        for text in ["", "~", "null", " ", "#", "&a", "1.50", "yes"] {
            let (nodes, findings) = fill("vars: {a: x}\n---\nname: pre-${a}.\n", &[("a", text)]);
            let expected = Value::Scalar { text: format!("pre-{text}."), plain: Plain::Text };
            assert_eq!(first(&nodes), &expected, "{text:?}");
            assert!(findings.is_empty());
        }
    }

    #[test]
    fn variables_are_checked() {
        assert_eq!(fill("vars: {w: 1}\n---\na: ${v}\n", &[]).1, ["unknown-variable", "unused-variable"]);
        assert_eq!(fill("a: 1\n", &[("w", "1")]).1, ["unknown-variable"]);
        assert_eq!(fill("a: x${b\n", &[]).1, ["template"]);
    }
}
