//! `lamarck methods`.

use std::ops::Bound;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::MethodsArgs;
use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::methods::{self, BaseRule, Default, Interval, Kind, MethodSpec, ParamSpec, Scope};
use crate::recipe::did_you_mean;

pub fn run(args: &MethodsArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let specs: Vec<&'static MethodSpec> = match &args.name {
        None => methods::all().iter().map(|method| method.spec()).collect(),
        Some(name) => {
            let found = methods::find(name).ok_or_else(|| {
                let names = methods::all().iter().map(|method| method.spec().name);
                let message = match (methods::elsewhere::nearest(name), did_you_mean(name, names)) {
                    (Some(nearest), _) => {
                        format!("the merge method `{name}` is not supported; `{nearest}` is closest")
                    }
                    (None, Some(meant)) => {
                        format!("there is no merge method `{name}`; did you mean `{meant}`?")
                    }
                    (None, None) => {
                        format!("there is no merge method `{name}`; `lamarck methods` lists them")
                    }
                };
                CliError::Usage(message)
            })?;
            vec![found.spec()]
        }
    };
    if ui.json {
        let list: Vec<_> = specs.iter().map(|spec| as_json(spec)).collect();
        ui.print_json(if args.name.is_some() { alone(list[0].clone()) } else { json!({ "methods": list }) })?;
    } else if args.name.is_some() {
        ui.print(&describe(specs[0]))?;
    } else {
        let width = specs.iter().map(|spec| spec.name.len()).max().unwrap_or(0);
        let lines = specs.iter().map(|spec| format!("{:width$}  {}\n", spec.name, spec.summary));
        ui.print(&lines.collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A method as a document of its own, whose `version` is another.
fn alone(mut method: serde_json::Value) -> serde_json::Value {
    method["method_version"] = method["version"].take();
    method.as_object_mut().expect("a method is a map").shift_remove("version");
    method
}

fn describe(spec: &MethodSpec) -> String {
    let mut text = format!("{}: {}\n\n", spec.name, spec.summary);
    for line in spec.formula.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str(&format!("\nbase: {}\n", base(spec)));
    text.push_str(&format!("models: {}\n", models(spec)));
    for param in spec.params {
        let facts: Vec<String> =
            [scope(param).to_owned(), default(param)].into_iter().chain(values(param)).collect();
        text.push_str(&format!("\n  {} ({})\n    {}\n", param.name, facts.join(", "), param.doc));
    }
    text.push_str(&format!("\n{}\n", spec.reference));
    text
}

fn base(spec: &MethodSpec) -> &'static str {
    match spec.base {
        BaseRule::Required => "needed",
        BaseRule::Optional => "if given, the reference for all models",
        BaseRule::Ordinary => "an ordinary model, if given",
    }
}

fn models(spec: &MethodSpec) -> String {
    let besides = if spec.base.is_relative() { " besides the base" } else { "" };
    match spec.inputs.max {
        Some(max) if max == spec.inputs.min => format!("{max}{besides}"),
        Some(max) => format!("{} to {max}{besides}", spec.inputs.min),
        None => format!("{} or more{besides}", spec.inputs.min),
    }
}

fn scope(param: &ParamSpec) -> &'static str {
    match param.scope {
        Scope::Shared => "for all models",
        Scope::EachInput | Scope::EachModel => "for each model",
    }
}

fn default(param: &ParamSpec) -> String {
    match param.default {
        Default::Required => "required".to_owned(),
        Default::Absent => "optional".to_owned(),
        Default::Is(value) => format!("default {value}"),
    }
}

/// Which values a parameter takes, if not all numbers or both flags.
fn values(param: &ParamSpec) -> Option<String> {
    match param.kind {
        Kind::Flag | Kind::Number(Interval::ALL) => None,
        Kind::Number(interval) => Some(interval.to_string()),
        Kind::Integer(Interval::ALL) => Some("whole".to_owned()),
        Kind::Integer(interval) => Some(format!("whole, {interval}")),
    }
}

fn as_json(spec: &MethodSpec) -> serde_json::Value {
    json!({
        "name": spec.name,
        "version": spec.version,
        "summary": spec.summary,
        "formula": spec.formula,
        "reference": spec.reference,
        "base": match spec.base {
            BaseRule::Required => "required",
            BaseRule::Optional => "optional",
            BaseRule::Ordinary => "ordinary",
        },
        "base_required": spec.base.is_required(),
        "models_min": spec.inputs.min,
        "models_max": spec.inputs.max,
        "draws": spec.draws,
        "params": spec.params.iter().map(param_as_json).collect::<Vec<_>>(),
    })
}

fn param_as_json(param: &ParamSpec) -> serde_json::Value {
    let (kind, interval) = match param.kind {
        Kind::Number(interval) => ("number", interval),
        Kind::Integer(interval) => ("integer", interval),
        Kind::Flag => ("flag", Interval::ALL),
    };
    let default = match param.default {
        Default::Is(value) => json!(value),
        Default::Required | Default::Absent => json!(null),
    };
    let mut entry = json!({
        "name": param.name,
        "type": kind,
        "scope": match param.scope {
            Scope::Shared => "shared",
            Scope::EachInput => "input",
            Scope::EachModel => "model",
        },
        "required": param.default == Default::Required,
        "default": default,
        "example": param.example,
        "inert": param.inert,
        "doc": param.doc,
    });
    // As JSON Schema names the ends of an interval.
    for (bound, closed, open) in
        [(interval.min, "minimum", "exclusiveMinimum"), (interval.max, "maximum", "exclusiveMaximum")]
    {
        match bound {
            Bound::Included(number) => entry[closed] = json!(number),
            Bound::Excluded(number) => entry[open] = json!(number),
            Bound::Unbounded => {}
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Value;

    #[test]
    fn values_that_a_parameter_takes_are_told() {
        let param = |kind| {
            let (scope, default) = (Scope::Shared, Default::Is(Value::Integer(10)));
            ParamSpec { name: "k", scope, kind, default, example: Value::Integer(3), inert: false, doc: "" }
        };
        let above = Interval { min: Bound::Excluded(0.0), max: Bound::Unbounded };
        let whole = param(Kind::Integer(above));
        assert_eq!(values(&whole).as_deref(), Some("whole, above 0"));
        let entry = param_as_json(&whole);
        assert_eq!((&entry["type"], &entry["default"]), (&json!("integer"), &json!(10)));
        assert_eq!((&entry["exclusiveMinimum"], entry.get("minimum")), (&json!(0.0), None));
        assert_eq!(values(&param(Kind::Integer(Interval::ALL))).as_deref(), Some("whole"));
        assert_eq!(values(&param(Kind::Number(above))).as_deref(), Some("above 0"));
        assert_eq!(values(&param(Kind::Number(Interval::ALL))), None);
    }
}
