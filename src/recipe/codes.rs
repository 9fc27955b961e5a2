//! The codes of all findings, with what each says.
//!
//! Codes are stable: recipes allow them, and programs look for them.

use super::finding::Severity;

/// One kind of finding.
#[derive(Debug)]
pub struct Code {
    /// What stands in brackets behind the severity.
    pub name: &'static str,
    /// How bad findings of the kind can be.
    pub severities: &'static [Severity],
    /// How several of one severity are told as one, behind their number; those that are told one by one have none,
    /// but for those that say the same.
    pub many: Option<&'static str>,
    /// One sentence for lists.
    pub doc: &'static str,
}

impl Code {
    /// Whether a recipe can allow it; errors cannot be allowed.
    pub fn can_be_allowed(&self) -> bool {
        self.severities.iter().any(|severity| *severity != Severity::Error)
    }
}

/// The kind of findings of a name.
pub fn find(name: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.name == name)
}

/// Every kind of finding, by name.
pub fn all() -> &'static [Code] {
    CODES
}

const fn code(
    name: &'static str,
    severities: &'static [Severity],
    many: Option<&'static str>,
    doc: &'static str,
) -> Code {
    Code { name, severities, many, doc }
}

const ERROR: &[Severity] = &[Severity::Error];
const WARNING: &[Severity] = &[Severity::Warning];
const NOTE: &[Severity] = &[Severity::Note];
const ERROR_OR_WARNING: &[Severity] = &[Severity::Error, Severity::Warning];
const ERROR_OR_NOTE: &[Severity] = &[Severity::Error, Severity::Note];

static CODES: &[Code] = &[
    code("adapter", ERROR, None, "A LoRA adapter cannot be applied to its model."),
    code("base-joins", NOTE, None, "The method takes no base, so `base_model` is merged as one more model."),
    code(
        "base-listed",
        NOTE,
        Some("stages list their base among their models, where it has no effect"),
        "A stage lists its base among its models, where it has no effect.",
    ),
    code(
        "base-parameters",
        WARNING,
        Some("entries set parameters for the base, which has no effect"),
        "Parameters are set for the base, which has no effect.",
    ),
    code(
        "beside-tensors",
        NOTE,
        Some("files hold data other than tensors, which is left out"),
        "A file holds data other than tensors, which is left out.",
    ),
    code("cycle", ERROR, None, "Stages read one another in a cycle."),
    code("decimal-comma", ERROR, None, "A number has a decimal comma instead of a decimal point."),
    code(
        "density-out-of-range",
        WARNING,
        Some("densities are not between 0 and 1"),
        "A density is not between 0 and 1: above 1, everything is kept; below 0, nothing.",
    ),
    code(
        "dequantised",
        NOTE,
        Some("models are stored in 8-bit floats with scales and read as the weights that they represent"),
        "A model is stored in 8-bit floats with scales and read as the weights that they represent.",
    ),
    code("different-depths", ERROR, None, "The models of a stage have different numbers of layers."),
    code(
        "dtype-mismatch",
        ERROR,
        Some("tensors hold floating-point numbers in one model and something else in another"),
        "A tensor holds floating-point numbers in one model and something else in another.",
    ),
    code(
        "duplicate-key",
        WARNING,
        Some("keys are given twice; the last one of each counts"),
        "A key is given twice; the last one counts.",
    ),
    code(
        "duplicate-model",
        ERROR_OR_WARNING,
        Some("models are listed twice; the first entry of each counts"),
        "A model is listed twice: the first entry counts, but a slice cannot take other layers of the same model as well.",
    ),
    code("empty-layer-range", WARNING, None, "A `layer_range` contains no layers."),
    code("exclusive-keys", ERROR, None, "Keys are used together although only one of them is allowed."),
    code(
        "filter-of-experts",
        WARNING,
        Some("filters do not match experts, which are merged together"),
        "A filter matches a file's names for some experts, but experts are merged together under another name.",
    ),
    code(
        "filter-without-match",
        WARNING,
        Some("filters match no tensor"),
        "A filter matches no tensor, so its value is never used.",
    ),
    code(
        "float64",
        NOTE,
        Some("stages set float64, but arithmetic is always in float32"),
        "Arithmetic is in float32 even if the dtype is float64.",
    ),
    code("fp8-result", ERROR, None, "A merge of 8-bit floats needs a dtype for its result."),
    code(
        "gguf-tokenizer",
        NOTE,
        Some("GGUF files have no tokenizer files beside them, so models made from them have none either"),
        "A GGUF file has no tokenizer files beside it, so a model made from it has none either.",
    ),
    code(
        "gradient-over-one-layer",
        WARNING,
        Some("gradients cover a single layer, which takes their last value"),
        "A gradient covers a single layer, which takes its last value.",
    ),
    code("hub-model", ERROR, None, "The hub does not provide the model, or not at that revision."),
    code(
        "index-size",
        NOTE,
        Some("shard indexes state other sizes than their tensors have"),
        "A model's shard index states another size than its tensors have.",
    ),
    code("inputs", ERROR, None, "A tensor has too few or too many models left to merge."),
    code(
        "layer-range",
        ERROR,
        None,
        "A `layer_range` runs backwards, exceeds the model's layers, or has another length than others in its slice.",
    ),
    code(
        "layers-by-rule",
        WARNING,
        None,
        "A rule in config.json does not describe the kinds of a stack's layers, and cannot be adjusted like a list.",
    ),
    code("missing-base", ERROR, None, "The method needs a base, but the stage or slice has none."),
    code("missing-chat-template", ERROR, None, "A chat template file does not exist or cannot be read."),
    code("missing-dash", ERROR, None, "A list entry lacks its `-`, so it replaces the entry above."),
    code("missing-key", ERROR, None, "A required key is missing."),
    code(
        "missing-model",
        ERROR,
        Some("models were not found"),
        "A model was not found in any of the places searched.",
    ),
    code("missing-parameter", ERROR, None, "The method needs a parameter that is not set."),
    code("model-count", ERROR, None, "The method merges a different number of models."),
    code("model-reference", ERROR, None, "A text is not a valid model name or path."),
    code(
        "modules-left-out",
        NOTE,
        None,
        "A stage lists modules, and its result leaves out those that it does not list.",
    ),
    code("no-effect", WARNING, None, "A key is known but has no effect."),
    code("no-space", ERROR, None, "A space is missing after the colon of a key."),
    code("no-stage", ERROR, None, "The recipe has no stages."),
    code("not-a-model", ERROR, None, "An adapter is used where a model is expected."),
    code("not-an-adapter", ERROR, None, "A model is used where an adapter is expected."),
    code(
        "odd-space",
        ERROR,
        None,
        "A no-break space, or another space that YAML treats as a letter, is used instead of a plain space.",
    ),
    code("one-name", ERROR, None, "Two tensors would get the same name."),
    code(
        "other-names",
        NOTE,
        Some("models have other tensor names than the model whose names the result uses"),
        "A model has other tensor names than the model whose names the result uses.",
    ),
    code(
        "padding-kept",
        NOTE,
        Some("stages keep the padding rows of their embeddings, because the vocabularies are equal"),
        "Vocabularies are equal, so the padding rows of embeddings are kept.",
    ),
    code(
        "parameter-beside",
        NOTE,
        Some("parameters are written beside `parameters` and treated as if they were inside it"),
        "A parameter is written beside `parameters` and treated as if it were inside it.",
    ),
    code("parameter-value", ERROR, None, "A parameter does not accept the value."),
    code("quantised", ERROR, None, "A model's weights are quantised in a way that lamarck cannot undo."),
    code("settings", ERROR, None, "A setting in lamarck.toml is unknown or does not accept the value."),
    code("several-modules", ERROR, None, "`slices` is used for a model with several modules."),
    code(
        "shape-mismatch",
        ERROR,
        Some("tensors have different shapes in different models"),
        "A tensor has different shapes in different models.",
    ),
    code(
        "shared-parameter",
        WARNING,
        Some("parameters that all models share are set for single models, which has no effect"),
        "A parameter that all models share is set for one of them, which has no effect.",
    ),
    code(
        "sources-cut-off",
        WARNING,
        None,
        "Tensors after the layers are made from fewer models than the last slice has.",
    ),
    code("stage-as-adapter", ERROR, None, "A stage is used where an adapter is expected."),
    code(
        "stage-by-name",
        NOTE,
        Some("models of other owners are taken to mean stages of this recipe"),
        "A model `anyone/NAME` is taken to mean this recipe's stage NAME.",
    ),
    code("stage-name", ERROR, None, "A stage cannot have this name."),
    code("stage-revision", ERROR, None, "A revision is given for a stage, but stages have no revisions."),
    code(
        "state-dict",
        ERROR_OR_NOTE,
        None,
        "A bare state dict is merged: its result has no config.json, and whatever needs one is impossible.",
    ),
    code("state-dict-mixed", ERROR, None, "A stage mixes a bare state dict with a model."),
    code("tab", ERROR, None, "A tab is used for indentation."),
    code("template", ERROR, None, "A `${` has no closing `}`."),
    code(
        "tensor-left-out",
        WARNING,
        Some("tensors are left out, because too few models have them"),
        "A tensor is left out, because too few models have it.",
    ),
    code(
        "tensor-missing",
        ERROR_OR_WARNING,
        Some("tensors are made without the models that lack them"),
        "A model lacks a tensor that the others have; if the tensor is optional, it is made without that model.",
    ),
    code("token-source", ERROR, None, "The source of a token's row is of an unknown kind."),
    code(
        "token-without-row",
        WARNING,
        None,
        "A model's tokenizer has tokens without a row in its embedding; they are left out.",
    ),
    code(
        "tokenizer-assumed",
        NOTE,
        Some("models have no tokenizer.json and are assumed to have the stage's vocabulary"),
        "A model has no tokenizer.json and is assumed to have the stage's vocabulary.",
    ),
    code("tokenizer-missing", ERROR, None, "The model that should provide the tokenizer has none."),
    code(
        "tokenizer-unread",
        ERROR,
        None,
        "Vocabularies differ, and one is in a file format in which tokens cannot be looked up.",
    ),
    code("too-large", ERROR, None, "The recipe is too large."),
    code("unknown-chat-template", ERROR, None, "There is no chat template with this name."),
    code("unknown-code", ERROR, None, "`allow` names an unknown code, or one that only errors have."),
    code("unknown-dtype", ERROR, None, "There is no dtype with this name, or models cannot be merged in it."),
    code(
        "unknown-key",
        ERROR_OR_WARNING,
        Some("keys are unknown and have no effect"),
        "A key is unknown: an error if it looks like a misspelled key, otherwise without effect.",
    ),
    code("unknown-method", ERROR, None, "There is no merge method with this name."),
    code("unknown-module", ERROR, None, "The models have no module with this name."),
    code("unknown-parameter", ERROR, None, "The method has no such parameter, but one with a similar name."),
    code("unknown-token", ERROR, None, "A model lacks the token, or the row, that another token should get."),
    code("unknown-variable", ERROR, None, "No variable with this name is declared."),
    code("unnamed-stage", ERROR, None, "More than one stage has no name."),
    code(
        "unreachable-filter",
        WARNING,
        Some("filters are never reached, because earlier ones match every tensor"),
        "A filter is never reached, because an earlier one matches every tensor.",
    ),
    code("unusable-model", ERROR, None, "A model was found but cannot be read."),
    code(
        "unused-allow",
        NOTE,
        Some("codes are allowed, but nothing of their kind was found"),
        "A code is allowed, but nothing of its kind was found.",
    ),
    code(
        "unused-parameter",
        WARNING,
        Some("parameters are not read by their method"),
        "The method does not read the parameter.",
    ),
    code(
        "unused-seed",
        NOTE,
        Some("seeds are set, but nothing draws at random"),
        "A seed is set, but nothing draws at random.",
    ),
    code("unused-variable", WARNING, Some("variables are not used"), "A variable is declared but not used."),
    code("vars-in-stage", ERROR, None, "`vars` is inside a stage, where it has no effect."),
    code("vocabularies-apart", ERROR, None, "The tokenizers of two models have no tokens in common."),
    code("wrong-type", ERROR, None, "A value has the wrong type."),
    code("yaml", ERROR, None, "The recipe is not valid YAML."),
    code("zero-rows", WARNING, None, "No model has a token of the output, so its rows become zeros."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_told_of() {
        assert!(CODES.is_sorted_by(|a, b| a.name < b.name));
        for Code { name, severities, many, doc } in CODES {
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte.is_ascii_digit())
            );
            assert!(!severities.is_empty() && doc.ends_with('.'), "{name}");
            assert!(many.is_none_or(|many| !many.ends_with('.')), "{name}");
        }
    }
}
