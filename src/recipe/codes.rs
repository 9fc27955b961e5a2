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
    code("base-joins", NOTE, None, "The method has no base, so `base_model` is one more model to merge."),
    code(
        "base-listed",
        NOTE,
        Some("stages list their base among their models, where it has no effect"),
        "A stage lists its base among its models, where it has no effect.",
    ),
    code(
        "base-parameters",
        WARNING,
        Some("entries set parameters of a base, which have no effect"),
        "Parameters are set for the base, where they have no effect.",
    ),
    code(
        "beside-tensors",
        NOTE,
        Some("files hold more than tensors, which is left out"),
        "A file holds something beside tensors, which is left out.",
    ),
    code("cycle", ERROR, None, "Stages read one another in a circle."),
    code("decimal-comma", ERROR, None, "A number has a comma where it should have a point."),
    code(
        "density-out-of-range",
        WARNING,
        Some("densities are not between 0 and 1"),
        "A density is not between 0 and 1: above 1 all is kept, below 0 nothing.",
    ),
    code(
        "dequantised",
        NOTE,
        Some("models are stored in 8-bit floats with scales, and read as what these stand for"),
        "A model is stored in 8-bit floats with scales, and read as the weights that these stand for.",
    ),
    code("different-depths", ERROR, None, "The models of a stage have different numbers of layers."),
    code(
        "dtype-mismatch",
        ERROR,
        Some("tensors hold numbers in one model and something else in another"),
        "A tensor holds floating-point numbers in one model and something else in another.",
    ),
    code(
        "duplicate-key",
        WARNING,
        Some("keys are given twice; the last one of each holds"),
        "A key is given twice; the last one holds.",
    ),
    code(
        "duplicate-model",
        ERROR_OR_WARNING,
        Some("models are listed twice; the first entry of each holds"),
        "A model is listed twice: the first entry holds, but a slice cannot take other layers of it as well.",
    ),
    code("empty-layer-range", WARNING, None, "A `layer_range` holds no layer."),
    code("exclusive-keys", ERROR, None, "Keys stand together of which there can be only one."),
    code(
        "filter-of-experts",
        WARNING,
        Some("filters do not reach experts, which are merged together"),
        "A filter matches what files call some experts, which are merged together under another name.",
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
        Some("stages name float64; arithmetic is in float32 all the same"),
        "Arithmetic is in float32 also where the dtype is float64.",
    ),
    code("fp8-result", ERROR, None, "A merge of 8-bit floats needs a dtype for its result."),
    code(
        "gguf-tokenizer",
        NOTE,
        Some("GGUF files have no tokenizer's files beside them, and what is made of them has none either"),
        "A GGUF file has no tokenizer's files beside it, and what is made of it has none either.",
    ),
    code(
        "gradient-over-one-layer",
        WARNING,
        Some("gradients run over one layer, which takes their last value"),
        "A gradient runs over a single layer, which takes its last value.",
    ),
    code("hub-model", ERROR, None, "The hub has the model, and does not give it, or not at that revision."),
    code(
        "index-size",
        NOTE,
        Some("indexes of shards give other sizes than their tensors have"),
        "The index of a model's shards gives another size than the tensors have.",
    ),
    code("inputs", ERROR, None, "Too few or too many models are left of a tensor to merge."),
    code(
        "layer-range",
        ERROR,
        None,
        "A `layer_range` is empty, too long, or unlike the others of its slice.",
    ),
    code(
        "layers-by-rule",
        WARNING,
        None,
        "A stack's layers are of other kinds than config.json tells by rule, which no list can mend.",
    ),
    code("missing-base", ERROR, None, "The method needs a base, and none is given where it is needed."),
    code(
        "missing-chat-template",
        ERROR,
        None,
        "The file of a chat template is not there, or cannot be read.",
    ),
    code(
        "missing-dash",
        ERROR,
        None,
        "A list entry lacks its `-`, and so takes the place of the entry above.",
    ),
    code("missing-key", ERROR, None, "A key that must be there is not."),
    code(
        "missing-model",
        ERROR,
        Some("models were not found"),
        "A model is in none of the places looked in.",
    ),
    code("missing-parameter", ERROR, None, "The method needs a parameter that nothing gives."),
    code("model-count", ERROR, None, "The method merges another number of models."),
    code("model-reference", ERROR, None, "A text cannot be the name or the path of a model."),
    code(
        "modules-left-out",
        NOTE,
        None,
        "A stage lists modules, and what it does not list is not in its result.",
    ),
    code("no-effect", WARNING, None, "A key is read and has no effect."),
    code("no-space", ERROR, None, "There is no space behind the colon of a key."),
    code("no-stage", ERROR, None, "The recipe has no stage."),
    code("not-a-model", ERROR, None, "An adapter stands where a model should."),
    code("not-an-adapter", ERROR, None, "A model stands where an adapter should."),
    code(
        "odd-space",
        ERROR,
        None,
        "A no-break space, or another that YAML takes for a letter, stands where a space should.",
    ),
    code("one-name", ERROR, None, "Two tensors would get one name."),
    code(
        "other-names",
        NOTE,
        Some("models call their tensors otherwise than the model whose names the result has"),
        "A model calls its tensors otherwise than the model whose names the result has.",
    ),
    code(
        "padding-kept",
        NOTE,
        Some("stages keep the padding rows of their embeddings, since the vocabularies are equal"),
        "Vocabularies are equal, so the padding rows of embeddings stay.",
    ),
    code(
        "parameter-beside",
        NOTE,
        Some("parameters beside `parameters` are taken as ones under it"),
        "A parameter stands beside `parameters` and is taken as one under it.",
    ),
    code("parameter-value", ERROR, None, "A parameter does not take the value."),
    code("quantised", ERROR, None, "A model's weights are quantised in a way that lamarck does not undo."),
    code(
        "settings",
        ERROR,
        None,
        "A setting of lamarck.toml is unknown, or has a value that it does not take.",
    ),
    code("several-modules", ERROR, None, "`slices` cut layers of a model with several modules."),
    code(
        "shape-mismatch",
        ERROR,
        Some("tensors have other shapes in one model than in another"),
        "A tensor has other shapes in one model than in another.",
    ),
    code(
        "shared-parameter",
        WARNING,
        Some("parameters that all models share are set for single models, without effect"),
        "A parameter that all models share is set for one of them, where it has no effect.",
    ),
    code(
        "sources-cut-off",
        WARNING,
        None,
        "Tensors behind the layers are made of fewer models than the last slice has.",
    ),
    code("stage-as-adapter", ERROR, None, "A stage stands where an adapter should."),
    code(
        "stage-by-name",
        NOTE,
        Some("models of other owners are taken to mean stages of this recipe"),
        "A model `anyone/NAME` is taken to mean this recipe's stage NAME.",
    ),
    code("stage-name", ERROR, None, "A stage cannot have the name."),
    code("stage-revision", ERROR, None, "A revision is asked of a stage, which has none."),
    code(
        "state-dict",
        ERROR_OR_NOTE,
        None,
        "A bare state dict is merged: its result has no config.json, and what needs one cannot be done.",
    ),
    code("state-dict-mixed", ERROR, None, "A bare state dict stands beside a model."),
    code("tab", ERROR, None, "A tab is part of the indentation."),
    code("template", ERROR, None, "A `${` has no `}`."),
    code(
        "tensor-left-out",
        WARNING,
        Some("tensors are left out, as too few models have them"),
        "A tensor is left out, as too few models have it.",
    ),
    code(
        "tensor-missing",
        ERROR_OR_WARNING,
        Some("tensors are made without models that lack them"),
        "A model lacks a tensor that the others have; where it is optional, it is made without that model.",
    ),
    code("token-source", ERROR, None, "There is no such kind of source for a token's row."),
    code(
        "token-without-row",
        WARNING,
        None,
        "A model's tokenizer has tokens that its embedding has no row for; they are left out.",
    ),
    code(
        "tokenizer-assumed",
        NOTE,
        Some("models have no tokenizer.json and are taken to have the stage's vocabulary"),
        "A model has no tokenizer.json and is taken to have the stage's vocabulary.",
    ),
    code("tokenizer-missing", ERROR, None, "The model whose tokenizer is asked for has none."),
    code(
        "tokenizer-unread",
        ERROR,
        None,
        "Vocabularies differ, and one is in a file in which tokens cannot be looked up.",
    ),
    code("too-large", ERROR, None, "The recipe is larger than any recipe."),
    code("unknown-chat-template", ERROR, None, "There is no chat template of the name."),
    code("unknown-code", ERROR, None, "`allow` names a code that no finding has, or that only errors have."),
    code("unknown-dtype", ERROR, None, "There is no dtype of the name, or none to merge in."),
    code(
        "unknown-key",
        ERROR_OR_WARNING,
        Some("keys are unknown and have no effect"),
        "A key is unknown: an error where it looks like a slip of a known one, else without effect.",
    ),
    code("unknown-method", ERROR, None, "There is no merge method of the name."),
    code("unknown-module", ERROR, None, "The models have no module of the name."),
    code("unknown-parameter", ERROR, None, "The method has no such parameter, but one of nearly this name."),
    code("unknown-token", ERROR, None, "A model lacks the token, or the row, that another token is to get."),
    code("unknown-variable", ERROR, None, "No variable of the name is declared."),
    code("unnamed-stage", ERROR, None, "More than one stage has no name."),
    code(
        "unreachable-filter",
        WARNING,
        Some("filters are never reached, since earlier ones match every tensor"),
        "A filter is never reached, since an earlier one matches every tensor.",
    ),
    code("unusable-model", ERROR, None, "A model is there, and cannot be read as one."),
    code(
        "unused-allow",
        NOTE,
        Some("codes are allowed of which nothing was found"),
        "A code is allowed, and nothing of the kind was found.",
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
        Some("seeds are set where nothing draws at random"),
        "A seed is set where nothing draws at random.",
    ),
    code("unused-variable", WARNING, Some("variables are not used"), "A variable is declared and not used."),
    code("vars-in-stage", ERROR, None, "`vars` stands inside a stage, where it has no effect."),
    code("vocabularies-apart", ERROR, None, "The tokenizers of two models have no token in common."),
    code("wrong-type", ERROR, None, "A value is of the wrong type."),
    code("yaml", ERROR, None, "The recipe is not valid YAML."),
    code("zero-rows", WARNING, None, "No model has a token of the output, and its rows become zeros."),
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
