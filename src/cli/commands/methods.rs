//! `lamarck methods`.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::MethodsArgs;
use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::methods::{self, BaseRule, Default, Kind, MethodSpec, ParamSpec, Scope, Value};
use crate::recipe::did_you_mean;

pub fn run(args: &MethodsArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let specs: Vec<&'static MethodSpec> = match &args.name {
        None => methods::all().iter().map(|method| method.spec()).collect(),
        Some(name) => {
            let found = methods::find(name).ok_or_else(|| {
                let names = methods::all().iter().map(|method| method.spec().name);
                let help = match did_you_mean(name, names) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "`lamarck methods` lists them".to_owned(),
                };
                CliError::Usage(format!("there is no merge method `{name}`; {help}"))
            })?;
            vec![found.spec()]
        }
    };
    if ui.json {
        let list: Vec<_> = specs.iter().map(|spec| as_json(spec)).collect();
        ui.print_json(&if args.name.is_some() { list[0].clone() } else { list.into() })?;
    } else if args.name.is_some() {
        ui.print(&describe(specs[0]))?;
    } else {
        let width = specs.iter().map(|spec| spec.name.len()).max().unwrap_or(0);
        let lines = specs.iter().map(|spec| format!("{:width$}  {}\n", spec.name, spec.summary));
        ui.print(&lines.collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(spec: &MethodSpec) -> String {
    let mut text = format!("{}: {}\n\n", spec.name, spec.summary);
    for line in spec.formula.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str(&format!("\nbase: {}\n", base(spec)));
    text.push_str(&format!("models: {}\n", models(spec)));
    for param in spec.params {
        text.push_str(&format!(
            "\n  {} ({}, {})\n    {}\n",
            param.name,
            scope(param),
            default(param),
            param.doc
        ));
    }
    text.push_str(&format!("\n{}\n", spec.reference));
    text
}

fn base(spec: &MethodSpec) -> &'static str {
    match spec.base {
        BaseRule::Required => "needed",
        BaseRule::Ordinary => "an ordinary model, if given",
    }
}

fn models(spec: &MethodSpec) -> String {
    let besides = if spec.base == BaseRule::Required { " besides the base" } else { "" };
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
        Default::Is(Value::Number(number)) => format!("default {number}"),
        Default::Is(Value::Flag(flag)) => format!("default {flag}"),
    }
}

fn as_json(spec: &MethodSpec) -> serde_json::Value {
    let params: Vec<_> = spec
        .params
        .iter()
        .map(|param| {
            let default = match param.default {
                Default::Is(Value::Number(number)) => json!(number),
                Default::Is(Value::Flag(flag)) => json!(flag),
                Default::Required | Default::Absent => json!(null),
            };
            json!({
                "name": param.name,
                "type": match param.kind { Kind::Number => "number", Kind::Flag => "flag" },
                "scope": match param.scope { Scope::Shared => "shared", Scope::EachInput => "input", Scope::EachModel => "model" },
                "required": param.default == Default::Required,
                "default": default,
                "inert": param.inert,
                "doc": param.doc,
            })
        })
        .collect();
    json!({
        "name": spec.name,
        "version": spec.version,
        "summary": spec.summary,
        "formula": spec.formula,
        "reference": spec.reference,
        "base_required": spec.base == BaseRule::Required,
        "models_min": spec.inputs.min,
        "models_max": spec.inputs.max,
        "params": params,
    })
}
