//! Checks parameters against their method's declaration.

use std::ops::Bound;

use super::fields::{Fields, did_you_mean, unknown_key};
use super::finding::Finding;
use super::keys::{self, Map};
use super::meant::{Clause, Gradient, Parameters, Setting};
use super::slips;
use super::span::Spanned;
use super::yaml::{Entry, Node, Plain, Value as Yaml};
use crate::methods::{self, Interval, Kind, MethodSpec, ParamSpec, Scope, Value};

/// Where parameters stand, which decides what can have an effect there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Level<'a> {
    /// For the whole stage, module or slice.
    Above,
    /// For one model.
    Model(&'a str),
    /// For the base of a method that does not count it among its models.
    Base(&'a str),
}

/// Reads the parameters of one level.
pub struct SettingsReader<'a> {
    pub stage: &'a str,
    pub method: &'static MethodSpec,
}

impl SettingsReader<'_> {
    /// Reads what stands under `parameters`, and parameters that stand beside it.
    ///
    /// mergekit drops the latter without a word; here they mean the same, and a note says so. What is not
    /// a parameter at all is told of as an unknown key of `what`.
    pub fn read(
        &self,
        fields: &Fields<'_>,
        what: &str,
        known: &Map,
        level: Level<'_>,
        findings: &mut Vec<Finding>,
    ) -> Parameters {
        let mut parameters = Parameters::new();
        let mut of_base: Vec<&Entry> = Vec::new();
        for entry in &fields.others {
            if self.is_parameter(&entry.key) {
                let message = format!(
                    "`{}` is written beside `parameters` and treated as if it were inside it",
                    entry.key
                );
                findings.push(Finding::note("parameter-beside", entry.key_span, message));
                self.add(entry, level, &mut parameters, &mut of_base, findings);
            } else {
                let own = self.method.params.iter().map(|param| param.name);
                unknown_key(entry, what, known.names().chain(own), findings);
            }
        }
        if let Some(node) = fields.get("parameters")
            && let Some(listed) = Fields::read(node, "`parameters`", &keys::ANY, findings)
        {
            for entry in listed.others {
                self.add(entry, level, &mut parameters, &mut of_base, findings);
            }
        }
        if let (Level::Base(base), Some(first)) = (level, of_base.first()) {
            let names: Vec<String> = of_base.iter().map(|entry| format!("`{}`", entry.key)).collect();
            let message = format!(
                "stage `{}`: {} of {base} {} no effect, because {base} is the base",
                self.stage,
                names.join(", "),
                if names.len() == 1 { "has" } else { "have" }
            );
            findings.push(Finding::warning("base-parameters", first.key_span, message));
        }
        parameters
    }

    fn is_parameter(&self, key: &str) -> bool {
        self.method.param(key).is_some() || is_any_parameter(key)
    }

    fn add<'e>(
        &self,
        entry: &'e Entry,
        level: Level<'_>,
        parameters: &mut Parameters,
        of_base: &mut Vec<&'e Entry>,
        findings: &mut Vec<Finding>,
    ) {
        let Some(param) = self.method.param(&entry.key) else {
            return findings.push(self.undeclared(entry));
        };
        match level {
            Level::Base(_) if !param.inert => return of_base.push(entry),
            Level::Model(model) if param.scope == Scope::Shared && !param.inert => {
                let message = format!(
                    "stage `{}`: `{}` of {model} has no effect, because all models share it",
                    self.stage, entry.key
                );
                let help = format!("set `{}` for the whole stage, slice or module", entry.key);
                findings.push(Finding::warning("shared-parameter", entry.key_span, message).help(help));
                return;
            }
            _ => {}
        }
        if let Some(setting) = setting(param, &entry.value, findings) {
            parameters.retain(|(name, _)| *name != param.name);
            parameters.push((param.name, Spanned { value: setting, span: entry.value.span }));
        }
    }

    fn undeclared(&self, entry: &Entry) -> Finding {
        let declared = || self.method.params.iter().map(|param| param.name);
        let message =
            format!("stage `{}`: method `{}` does not read `{}`", self.stage, self.method.name, entry.key);
        match did_you_mean(&entry.key, declared()) {
            Some(meant) if !is_any_parameter(&entry.key) => {
                Finding::error("unknown-parameter", entry.key_span, message)
                    .help(format!("did you mean `{meant}`?"))
            }
            _ => {
                let reads: Vec<&str> = declared().collect();
                let help = if reads.is_empty() {
                    "it reads no parameters".to_owned()
                } else {
                    format!("it reads: {}", reads.join(", "))
                };
                Finding::warning("unused-parameter", entry.key_span, message).help(help)
            }
        }
    }
}

fn is_any_parameter(key: &str) -> bool {
    methods::all().iter().any(|method| method.spec().param(key).is_some())
}

/// Reads a setting: a value, a gradient, or a list of filtered values.
fn setting(param: &ParamSpec, node: &Node, findings: &mut Vec<Finding>) -> Option<Setting> {
    match &node.value {
        Yaml::Null => {
            let message = format!("`{}` has no value", param.name);
            findings.push(Finding::error("wrong-type", node.span, message));
            None
        }
        Yaml::Map(_) => Some(Setting::Filtered(clauses(param, std::slice::from_ref(node), findings)?)),
        Yaml::List(items) if items.iter().any(|item| matches!(item.value, Yaml::Map(_))) => {
            Some(Setting::Filtered(clauses(param, items, findings)?))
        }
        Yaml::List(_) | Yaml::Scalar { .. } => Some(Setting::Plain(gradient(param, node, findings)?)),
    }
}

fn clauses(param: &ParamSpec, items: &[Node], findings: &mut Vec<Finding>) -> Option<Vec<Clause>> {
    let what = format!("an entry of `{}`", param.name);
    let mut clauses: Vec<Clause> = Vec::new();
    for item in items {
        let fields = Fields::closed(item, &what, &keys::CLAUSE, findings)?;
        let filter = match fields.get("filter") {
            None => None,
            Some(_) => Some(fields.text("filter", findings)?.0.to_owned()).filter(|filter| filter != "*"),
        };
        let Some(value) = fields.get("value") else {
            findings.push(Finding::error("missing-key", fields.span, format!("{what} has no `value`")));
            return None;
        };
        let span = value.span;
        if clauses.iter().any(|earlier| earlier.filter.is_none()) {
            let message = format!("{what} is never reached, because an earlier one matches every tensor");
            findings.push(Finding::warning("unreachable-filter", fields.span, message));
        }
        clauses.push(Clause { filter, value: gradient(param, value, findings)?, span });
    }
    Some(clauses)
}

fn gradient(param: &ParamSpec, node: &Node, findings: &mut Vec<Finding>) -> Option<Gradient> {
    match &node.value {
        Yaml::List(items) => {
            items.iter().map(|item| value(param, item, findings)).collect::<Option<Vec<_>>>().map(Gradient)
        }
        _ => value(param, node, findings).map(|value| Gradient(vec![value])),
    }
}

fn value(param: &ParamSpec, node: &Node, findings: &mut Vec<Finding>) -> Option<Value> {
    let read = match (&node.value, param.kind) {
        (Yaml::Scalar { text, plain }, Kind::Number(_)) => number(text, *plain).map(Value::Number),
        (Yaml::Scalar { text, plain }, Kind::Integer(_)) => {
            number(text, *plain).and_then(whole).map(Value::Integer)
        }
        (Yaml::Scalar { text, plain }, Kind::Flag) => flag(text, *plain).map(Value::Flag),
        _ => None,
    };
    let Some(value) = read else {
        findings.push(wrong_type(param, node));
        return None;
    };
    match param.check(value) {
        Ok(()) => {
            if let Some((usual, beyond)) = usual(param.name)
                && let Value::Number(number) = value
                && !usual.contains(number)
            {
                let message = format!("{} {value} is not {usual}; {beyond}", param.name);
                findings.push(Finding::warning("density-out-of-range", node.span, message));
            }
            Some(value)
        }
        Err(message) => {
            findings.push(Finding::error("parameter-value", node.span, message));
            None
        }
    }
}

/// The values that a parameter usually has, and what others come to, as far as methods take them.
fn usual(param: &str) -> Option<(Interval, &'static str)> {
    (param == "density").then_some((
        Interval { min: Bound::Included(0.0), max: Bound::Included(1.0) },
        "above 1, everything is kept; at 0 or below, nothing",
    ))
}

fn wrong_type(param: &ParamSpec, node: &Node) -> Finding {
    if let Yaml::Scalar { text, .. } = &node.value
        && let Some((whole, fraction)) = text.split_once(',')
        && !matches!(param.kind, Kind::Flag)
        && format!("{whole}.{fraction}").parse::<f64>().is_ok()
    {
        return slips::decimal_comma(text, node.span)
            .help(format!("write `{}: {whole}.{fraction}`", param.name));
    }
    let wanted = match param.kind {
        Kind::Number(_) => "a finite number, a list of them, or a list of `filter` and `value`",
        Kind::Integer(_) => "a whole number, a list of them, or a list of `filter` and `value`",
        Kind::Flag => "true or false",
    };
    Finding::error("wrong-type", node.span, format!("`{}` must be {wanted}", param.name))
}

/// A number without a fraction, and not so large that f64 could have lost one.
fn whole(number: f64) -> Option<i64> {
    const MOST: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;
    (number.fract() == 0.0 && number.abs() < MOST).then_some(number as i64)
}

fn number(text: &str, plain: Plain) -> Option<f64> {
    let value = match plain {
        Plain::Number(value) => value,
        Plain::Bool(value) => f64::from(u8::from(value)),
        // `1e-5` is text to YAML 1.1, and a quoted number is a number where one is wanted.
        Plain::Text => without_separators(text.trim()).parse().ok()?,
    };
    value.is_finite().then_some(value)
}

/// `1_000.5` as Python and YAML 1.1 read it: underscores between digits do not count.
fn without_separators(text: &str) -> String {
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let is_separator = |at: usize| is_digit(at.checked_sub(1)) && is_digit(Some(at + 1));
    text.char_indices().filter(|(at, c)| *c != '_' || !is_separator(*at)).map(|(_, c)| c).collect()
}

fn flag(text: &str, plain: Plain) -> Option<bool> {
    match plain {
        Plain::Bool(value) => Some(value),
        Plain::Number(0.0) => Some(false),
        Plain::Number(1.0) => Some(true),
        Plain::Number(_) => None,
        Plain::Text => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Default;
    use crate::recipe::yaml;

    fn param(kind: Kind) -> ParamSpec {
        let scope = Scope::Shared;
        ParamSpec {
            name: "k",
            scope,
            kind,
            default: Default::Absent,
            example: Value::Flag(true),
            inert: false,
            doc: "",
        }
    }

    /// A setting as a recipe writes it, or the finding's code, line and message.
    fn read(kind: Kind, text: &str) -> Result<Setting, (&'static str, String)> {
        let document = yaml::parse(text).unwrap().remove(0);
        let mut findings = Vec::new();
        let setting = setting(&param(kind), &document, &mut findings);
        setting.ok_or_else(|| {
            let [Finding { code, message, .. }] = &findings[..] else { panic!("{findings:?}") };
            (*code, message.clone())
        })
    }

    fn integers(values: &[i64]) -> Result<Setting, (&'static str, String)> {
        Ok(Setting::Plain(Gradient(values.iter().map(|value| Value::Integer(*value)).collect())))
    }

    #[test]
    fn whole_numbers_have_no_fraction() {
        let kind = Kind::Integer(Interval { min: Bound::Included(1.0), max: Bound::Unbounded });
        for (text, whole) in [("10", 10), ("1.0", 1), ("1e3", 1000), ("1_000", 1000), ("\"7\"", 7)] {
            assert_eq!(read(kind, text), integers(&[whole]), "{text}");
        }
        assert_eq!(read(kind, "[1, 2, 5]"), integers(&[1, 2, 5]));
        for text in ["1.5", "[1, 2.5]", "1e300", "9007199254740992", "ten", "[{value: 0.5}]"] {
            let (code, message) = read(kind, text).unwrap_err();
            assert!(code == "wrong-type" && message.starts_with("`k` must be a whole number"), "{message}");
        }
        assert_eq!(read(kind, "0"), Err(("parameter-value", "`k` must be at least 1, not 0".to_owned())));
        assert_eq!(
            read(kind, "[2, 0]"),
            Err(("parameter-value", "`k` must be at least 1, not 0".to_owned()))
        );
    }

    #[test]
    fn numbers_are_held_to_their_interval() {
        let kind = Kind::Number(Interval { min: Bound::Excluded(0.0), max: Bound::Included(1.0) });
        let number = |number| Ok(Setting::Plain(Gradient(vec![Value::Number(number)])));
        assert_eq!(read(kind, "1"), number(1.0));
        assert_eq!(read(kind, "1e-5"), number(1e-5));
        for (text, number) in [("0", "0"), ("[0.5, 1.5]", "1.5"), ("{filter: mlp, value: -0.1}", "-0.1")] {
            let message = format!("`k` must be above 0 and at most 1, not {number}");
            assert_eq!(read(kind, text), Err(("parameter-value", message)));
        }
        assert_eq!(read(Kind::Number(Interval::ALL), "-3"), number(-3.0));
    }
}
