//! Whether what a stage lists is what its method merges.

use super::finding::Finding;
use super::meant::{Input, Section, Slice, Stage};
use super::span::Span;

/// Checks a stage's inputs against its method: a base where one is needed, the right number of models,
/// slices whose sources are equally long.
pub(super) fn check(stage: &Stage, findings: &mut Vec<Finding>) {
    for Section { module, slice, inputs } in stage.sections() {
        match slice {
            Some(slice) => check_slice(stage, slice, findings),
            None => {
                let span = module.map_or(stage.span, |module| module.name.span);
                check_models(stage, inputs, span, findings);
            }
        }
    }
}

fn check_models(stage: &Stage, inputs: &[Input], span: Span, findings: &mut Vec<Finding>) {
    let spec = stage.method.spec();
    let Some(base) = &stage.base else {
        if spec.base.is_required() {
            findings.push(no_base(stage, span));
        } else {
            check_count(stage, inputs.len(), span, findings);
        }
        return;
    };
    let listed = inputs.iter().find(|input| input.model.value == base.value);
    if spec.base.is_relative() {
        // For methods of two models, listing the base is how recipes are written.
        if let Some(listed) = listed.filter(|_| spec.inputs.max != Some(1)) {
            let message =
                format!("stage `{}` lists its base among its models, where it has no effect", stage.name);
            findings.push(Finding::note("base-listed", listed.model.span, message));
        }
        check_count(stage, inputs.len() - usize::from(listed.is_some()), span, findings);
    } else {
        // An unlisted base joins the models, as in mergekit.
        if listed.is_none() {
            let message = format!(
                "stage `{}`: method `{}` takes no base, so `base_model` is merged as one more model",
                stage.name, spec.name
            );
            findings.push(Finding::note("base-joins", base.span, message));
        }
        check_count(stage, inputs.len() + usize::from(listed.is_none()), span, findings);
    }
}

fn check_slice(stage: &Stage, slice: &Slice, findings: &mut Vec<Finding>) {
    let spec = stage.method.spec();
    let lengths = slice.sources.iter().filter_map(|source| source.layer_range.as_ref());
    let mut lengths = lengths.map(|range| (range.value.1 - range.value.0, range.span));
    if let Some((first, _)) = lengths.next()
        && let Some((other, span)) = lengths.find(|(length, _)| *length != first)
    {
        let message =
            format!("stage `{}`: the sources of a slice have {first} and {other} layers", stage.name);
        let help = "all sources of a slice must have the same number of layers";
        findings.push(Finding::error("layer-range", span, message).help(help));
    }
    let mut models = slice.sources.len();
    let base = slice.base.as_ref().or(stage.base.as_ref()).filter(|_| spec.base.is_relative());
    match base {
        None if spec.base.is_required() => return findings.push(no_base(stage, slice.span)),
        None => {}
        Some(base) => {
            if !slice.sources.iter().any(|source| source.model.value == base.value) {
                let message =
                    format!("stage `{}`: the base is not among the sources of this slice", stage.name);
                let help = "add it with its `layer_range`, because method `NAME` works relative to it";
                let help = help.replace("NAME", spec.name);
                return findings.push(Finding::error("missing-base", slice.span, message).help(help));
            }
            models -= 1;
        }
    }
    check_count(stage, models, slice.span, findings);
}

fn no_base(stage: &Stage, span: Span) -> Finding {
    let message = format!("stage `{}`: method `{}` needs a base", stage.name, stage.method.spec().name);
    Finding::error("missing-base", span, message).help("add a `base_model:`")
}

fn check_count(stage: &Stage, models: usize, span: Span, findings: &mut Vec<Finding>) {
    let spec = stage.method.spec();
    let count = spec.inputs;
    // The base alone is a merge of nothing, which the task-arithmetic family gives back as it is.
    let base_alone = models == 0 && count.min == 1 && count.max.is_none() && spec.base.is_required();
    if (models >= count.min && count.max.is_none_or(|max| models <= max)) || base_alone {
        return;
    }
    let besides = if spec.base.is_relative() { " besides the base" } else { "" };
    let wanted = match count.max {
        Some(max) if max == count.min => format!("exactly {max}"),
        Some(max) => format!("{} to {max}", count.min),
        None => format!("at least {}", count.min),
    };
    let message = format!(
        "stage `{}`: method `{}` merges {wanted} model{}{besides}, not {models}",
        stage.name,
        spec.name,
        if count.min == 1 && count.max.is_none_or(|max| max == 1) { "" } else { "s" },
    );
    findings.push(Finding::error("model-count", span, message));
}
