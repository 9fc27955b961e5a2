//! `lamarck mergekit-yaml`, `mergekit-multi` and `mergekit-pytorch`: builds, with the command lines of those tools.

use std::path::Path;
use std::process::ExitCode;

use super::build::{Work, carry_out};
use super::read;
use crate::cli::args::{BuildArgs, LimitArgs, MergekitMultiArgs, MergekitYamlArgs, RecipeArgs};
use crate::cli::config::Flags;
use crate::cli::error::CliError;
use crate::cli::mergekit::MergeOptions;
use crate::cli::ui::Ui;
use crate::project::LeftOut;

pub fn yaml(args: &MergekitYamlArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let options = &args.options;
    note(options, None, ui);
    let build = BuildArgs { out: Some(args.out_path.clone()), ..build(&args.config_file, options) };
    let read = read(&build.recipe, flags(&build, options))?;
    carry_out(Work { left_out: left_out(options), ..Work::new(read, &build) }, ui)
}

pub fn multi(args: &MergekitMultiArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let options = &args.options;
    let lazy = args.lazy.no_lazy.then_some(("--no-lazy", "out-of-date results are never reused"));
    note(options, lazy, ui);
    let mut build = build(&args.config_file, options);
    let merges = Some(args.intermediate_dir.as_path());
    let read = read(&build.recipe, Flags { merges, ..flags(&build, options) })?;
    let mut outs = Vec::new();
    // All stages are wanted, also those that nothing reads.
    for stage in read.recipe.iter().flat_map(|recipe| &recipe.stages) {
        build.recipe.stages.push(stage.name.clone());
        if stage.name_from_file {
            let Some(out) = &args.out_path else {
                let message =
                    "the recipe has an unnamed stage; say with --out-path where to write it".to_owned();
                return Err(CliError::Usage(message));
            };
            outs.push((stage.name.clone(), out.clone()));
        }
    }
    if let (Some(out), []) = (&args.out_path, outs.as_slice()) {
        ui.status(&format!("note: every stage has a name, so nothing is written to {}", out.display()));
    }
    carry_out(Work { outs, left_out: left_out(options), ..Work::new(read, &build) }, ui)
}

fn build(recipe: &Path, options: &MergeOptions) -> BuildArgs {
    let recipe = RecipeArgs { recipe: Some(recipe.to_owned()), ..RecipeArgs::default() };
    let MergeOptions { seed, jobs, shard_size, .. } = *options;
    let limits = LimitArgs { jobs, memory: None };
    BuildArgs { recipe, seed, limits, shard_size, ..BuildArgs::default() }
}

fn flags<'a>(build: &'a BuildArgs, options: &'a MergeOptions) -> Flags<'a> {
    Flags { hub: options.hub.as_deref(), ..Flags::from(build) }
}

fn left_out(options: &MergeOptions) -> LeftOut {
    LeftOut { tokenizer: !options.copy_tokenizer, card: !options.write_card }
}

/// Tells, once, of all that changes nothing.
fn note(options: &MergeOptions, lazy: Option<(&str, &'static str)>, ui: &Ui) {
    let given = options.without_meaning.iter().map(|(name, why)| (name.as_str(), *why));
    let lines: Vec<String> = given.chain(lazy).map(|(name, why)| format!("  {name}: {why}")).collect();
    if !lines.is_empty() {
        ui.status(&format!("note: these options have no effect here:\n{}", lines.join("\n")));
    }
}
