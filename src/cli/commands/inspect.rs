//! `lamarck inspect`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::statistics;
use crate::cli::args::InspectArgs;
use crate::cli::config::{self, Flags};
use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::cli::words::{bytes, plural};
use crate::model::layout::{Layout, Position};
use crate::model::tokenizer::TOKENIZER;
use crate::project::digests;
use crate::reference::ModelRef;

pub fn run(args: &InspectArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    if args.stats {
        return statistics::run(args, ui);
    }
    let project =
        config::project(None, Flags { models: &args.models, offline: args.offline, ..Flags::default() })?;
    let (reference, adapter) = named(&args.model)?;
    let checkpoint = project.model(&reference)?;
    let adapted = adapter.map(|adapter| project.adapted(&checkpoint, &adapter)).transpose()?;
    if adapted.is_some() && args.digests {
        let message = "the result of an adapter has no digest until it is built; ask for the digests of the model alone";
        return Err(CliError::Usage(message.to_owned()));
    }
    let dir = &checkpoint.dir;
    let names: Vec<&str> = match &adapted {
        Some((_, adapted)) => adapted.inventory.tensors.keys().map(String::as_str).collect(),
        None => checkpoint.names().collect(),
    };
    let is_changed =
        |name: &str| adapted.as_ref().is_some_and(|(_, adapted)| adapted.changes.contains_key(name));
    let digests: Vec<Option<String>> = if args.digests {
        digests(&checkpoint)?.iter().map(|digest| Some(digest.to_string())).collect()
    } else {
        vec![None; names.len()]
    };
    let layout = Layout::infer(names.iter().copied(), &checkpoint.config);
    let spec = |name: &str| match &adapted {
        Some((_, adapted)) => &adapted.inventory.tensors[name],
        None => checkpoint.spec(name).expect("the name is listed"),
    };
    let total: u64 = names.iter().map(|name| spec(name).n_bytes() as u64).sum();
    let parameters: usize = names.iter().map(|name| spec(name).shape.elements()).sum();
    let architectures = checkpoint.config["architectures"].as_array().into_iter().flatten();
    let architecture: Vec<&str> = architectures.filter_map(|name| name.as_str()).collect();
    if ui.json {
        let tensors: Vec<_> = names
            .iter()
            .zip(&digests)
            .map(|(name, digest)| {
                let layer = match layout.place(name).1 {
                    Position::Layer(layer) => Some(layer),
                    Position::Before | Position::After => None,
                };
                let spec = spec(name);
                let mut tensor = json!({ "name": name, "dtype": spec.dtype.name(), "shape": spec.shape.0, "layer": layer, "blake3": digest });
                if adapted.is_some() {
                    tensor["adapted"] = is_changed(name).into();
                }
                tensor
            })
            .collect();
        let modules: Vec<_> = layout
            .modules
            .iter()
            .map(|module| json!({ "name": module.name, "prefix": module.prefix, "layers": module.layers }))
            .collect();
        let mut document = json!({
            "path": dir.to_string_lossy(),
            "architectures": architecture,
            "modules": modules,
            "parameters": parameters,
            "bytes": total,
            "shards": checkpoint.shards.len(),
            "tokenizer": dir.join(TOKENIZER).is_file(),
            "tensors": tensors,
        });
        if let Some((path, _)) = &adapted {
            document["adapter"] = path.to_string_lossy().into();
        }
        ui.print_json(document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("{}\n", dir.display());
    if checkpoint.config.is_null() {
        text.push_str("bare state dict: no config.json\n");
    } else {
        text.push_str(&format!("architecture: {}\n", architecture.join(", ")));
    }
    if let Some((path, adapted)) = &adapted {
        let n = adapted.changes.len();
        text.push_str(&format!("adapter: {}, which changes {n} tensor{}\n", path.display(), plural(n)));
    }
    for module in &layout.modules {
        let name = if module.name == "default" { String::new() } else { format!("{}: ", module.name) };
        text.push_str(&format!("layers: {name}{} ({}.N)\n", module.layers, module.prefix));
    }
    let shards = checkpoint.shards.len();
    text.push_str(&format!(
        "tensors: {} in {shards} shard{}, {parameters} parameters, {}\n",
        names.len(),
        plural(shards),
        bytes(total)
    ));
    text.push_str(&format!(
        "tokenizer: {}\n\n",
        if dir.join(TOKENIZER).is_file() { TOKENIZER } else { "none" }
    ));
    let line = |name: &str| format!("{}{}", spec(name), if is_changed(name) { "  adapted" } else { "" });
    for (group, n) in groups(&layout, &names, &line, &digests) {
        text.push_str(&if n > 1 { format!("{group}  x{n}\n") } else { format!("{group}\n") });
    }
    ui.print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a model as it is named, with its adapter; a path that exists is taken as it is.
fn named(text: &str) -> Result<(ModelRef, Option<ModelRef>), CliError> {
    if Path::new(text).exists() {
        return Ok((ModelRef { path: text.to_owned(), revision: None, hub_only: false }, None));
    }
    ModelRef::parse_pair(text).map_err(|problem| CliError::Usage(format!("`{text}`: {problem}")))
}

/// Tensors that differ in their layer's number alone share a line; with digests each has its own.
fn groups(
    layout: &Layout,
    names: &[&str],
    spec: &dyn Fn(&str) -> String,
    digests: &[Option<String>],
) -> Vec<(String, usize)> {
    let mut order: Vec<String> = Vec::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (name, digest) in names.iter().zip(digests) {
        let line = match (digest, layout.place(name)) {
            (Some(digest), _) => format!("{name}  {}  {digest}", spec(name)),
            (None, (module, Position::Layer(layer))) => {
                let prefix = &layout.modules[module].prefix;
                let suffix = &name[prefix.len() + 1 + layer.to_string().len()..];
                format!("{prefix}.N{suffix}  {}", spec(name))
            }
            (None, _) => format!("{name}  {}", spec(name)),
        };
        *counts.entry(line.clone()).or_insert_with(|| {
            order.push(line.clone());
            0
        }) += 1;
    }
    order.into_iter().map(|line| (line.clone(), counts[&line])).collect()
}
