//! The keys of every map that a recipe can hold, each declared once: readers know the keys of a map from here,
//! and the schema says what is said here. A new key is a row, and whatever reads it.

/// A map of known keys.
#[derive(Debug)]
pub struct Map {
    /// What the schema calls it.
    pub name: &'static str,
    pub keys: &'static [Key],
}

/// A key of a map.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub form: Form,
    /// Whether a map without it is an error.
    pub required: bool,
    /// One or two sentences, shown by editors.
    pub doc: &'static str,
}

/// What may stand behind a key. Nothing at all is as good as no key.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Any single value, by its text.
    Text,
    Flag,
    /// A whole number from 0 on.
    Whole,
    /// A merge method's name.
    Method,
    Dtype,
    ChatTemplate,
    /// `base`, `union` or a model.
    TokenizerSource,
    /// A model or stage: a text, or a map of its parts.
    Model,
    /// Where a model is: a text, or a map of path and revision.
    Place,
    /// Two whole numbers: the first layer, and the one behind the last.
    LayerRange,
    /// Settings of a method's parameters.
    Parameters,
    /// What a parameter can be at one place: a value, or a list of values along the layers.
    Value,
    /// A map of anything to single values.
    Variables,
    /// A map of tokens, each with nothing or a map.
    Tokens,
    /// Where a token's row comes from: a model, or a map.
    TokenRow,
    TokenKind,
    /// Codes of findings, or a single one.
    Codes,
    /// Texts, or a single one.
    Texts,
    /// The key is known to be out of place.
    Nothing,
    /// It is out of place, too: mergekit reads it for a stage alone, and drops it elsewhere without a word.
    OfStage,
    Map(&'static Map),
    List(&'static Map),
    /// A map of names, each with a map.
    Named(&'static Map),
}

const fn key(name: &'static str, form: Form, doc: &'static str) -> Key {
    Key { name, form, required: false, doc }
}

const fn required(name: &'static str, form: Form, doc: &'static str) -> Key {
    Key { name, form, required: true, doc }
}

/// A key that has an effect for a stage alone.
const fn of_stage(name: &'static str) -> Key {
    const DOC: &str =
        "Has no effect here, nor does it in mergekit: these layers can be a stage of their own.";
    key(name, Form::OfStage, DOC)
}

/// A map whose keys are its own.
pub static ANY: Map = Map { name: "any", keys: &[] };

/// The key that says that a stage's name is not its own.
pub const NAME_FROM_FILE: &str = "name_from_file";

/// A stage: a document that is no declaration.
pub static STAGE: Map = Map {
    name: "stage",
    keys: &[
        key(
            "name",
            Form::Text,
            "The stage's name: other stages refer to it, and its output goes to this folder under merges/.",
        ),
        key(
            NAME_FROM_FILE,
            Form::Flag,
            "Whether the name was only taken from the file; outputs set this in their copy of the recipe.",
        ),
        required(
            "merge_method",
            Form::Method,
            "How tensors are merged; `lamarck methods NAME` describes each method.",
        ),
        key(
            "base_model",
            Form::Model,
            "The model that others are compared with, if the method works relative to a base.",
        ),
        key("models", Form::List(&MODEL), "Whole models to merge, all with the same number of layers."),
        key(
            "slices",
            Form::List(&SLICE),
            "Runs of layers, stacked in order, each merged from layers of its sources.",
        ),
        key(
            "modules",
            Form::Named(&MODULE),
            "The parts of a model with several parts, such as text_decoder, each with its own models or slices.",
        ),
        key(
            "parameters",
            Form::Parameters,
            "Parameters of the method, for all models; those of slices and models override them.",
        ),
        key(
            "dtype",
            Form::Dtype,
            "The dtype that inputs are rounded to before the arithmetic, which is in float32; also the dtype of the result, unless out_dtype is set.",
        ),
        key("out_dtype", Form::Dtype, "The dtype of the result."),
        key(
            "tokenizer_source",
            Form::TokenizerSource,
            "Where the tokenizer comes from: base, union or a model.",
        ),
        key("tokenizer", Form::Map(&TOKENIZER), "Where the tokenizer comes from, in the long form."),
        key(
            "chat_template",
            Form::ChatTemplate,
            "The chat template to write: auto, a name, a Jinja template or the path of a template file.",
        ),
        key("seed", Form::Whole, "The seed of methods that draw at random."),
        key("random_seed", Form::Whole, "The same as seed."),
        key(
            "cache",
            Form::Flag,
            "Whether the stage's results are kept in the cache; lamarck.toml says what holds for the others.",
        ),
        key("vars", Form::Nothing, "Variables belong in a document of their own, above a `---` line."),
        key("allow", Form::Codes, "Codes of findings to accept in this stage; they are no longer reported."),
        key("card", Form::Map(&CARD), "The content of this stage's model card."),
    ],
};

/// An entry of `models`.
pub static MODEL: Map = Map {
    name: "model",
    keys: &[
        required("model", Form::Model, MODEL_DOC),
        key("parameters", Form::Parameters, MODEL_PARAMETERS_DOC),
    ],
};

/// An entry of a slice's `sources`.
pub static SOURCE: Map = Map {
    name: "source",
    keys: &[
        required("model", Form::Model, MODEL_DOC),
        required("layer_range", Form::LayerRange, "The layers to take: [0, 8] for layers 0 to 7."),
        key("parameters", Form::Parameters, MODEL_PARAMETERS_DOC),
    ],
};

const MODEL_DOC: &str =
    "A model on the Hugging Face hub (org/name, org/name@revision), a folder, or a stage.";
const MODEL_PARAMETERS_DOC: &str = "Parameters for this model only.";

/// An entry of `slices`.
pub static SLICE: Map = Map {
    name: "slice",
    keys: &[
        required(
            "sources",
            Form::List(&SOURCE),
            "The models of the slice, with the same number of layers from each.",
        ),
        key("base_model", Form::Model, "The base of this slice, instead of the stage's."),
        key("parameters", Form::Parameters, "Parameters for this slice."),
        key("residual_weight", Form::Nothing, "Has no effect, nor does it in mergekit."),
        of_stage("merge_method"),
        of_stage("dtype"),
    ],
};

/// An entry of `modules`.
pub static MODULE: Map = Map {
    name: "module",
    keys: &[
        key("models", Form::List(&MODEL), "Whole models to merge in this module."),
        key("slices", Form::List(&SLICE), "Runs of the module's layers."),
        key("parameters", Form::Parameters, "Parameters for this module."),
        of_stage("merge_method"),
        of_stage("base_model"),
        of_stage("dtype"),
    ],
};

/// `tokenizer`.
pub static TOKENIZER: Map = Map {
    name: "tokenizer",
    keys: &[
        key(
            "source",
            Form::TokenizerSource,
            "Where the tokenizer comes from: base, union (the default) or a model.",
        ),
        key(
            "tokens",
            Form::Tokens,
            "Tokens that the tokenizer must have, or whose rows come from another place.",
        ),
        key("pad_to_multiple_of", Form::Whole, "Rounds the number of embedding rows up to a multiple."),
        key(
            "trim_vocab",
            Form::Flag,
            "Whether to remove the rows after the last token if all models are padded alike.",
        ),
    ],
};

/// An entry of `tokens`.
pub static TOKEN: Map = Map {
    name: "token",
    keys: &[
        key(
            "source",
            Form::TokenRow,
            "Where the token's row comes from: a model or stage, another token's row, or zeros.",
        ),
        key("force", Form::Flag, "Whether models that have the token get this row, too."),
    ],
};

/// Where a token's row comes from, as a map.
pub static TOKEN_SOURCE: Map = Map {
    name: "token-source",
    keys: &[
        required("kind", Form::TokenKind, "zero, or model_token for the row of a model's token."),
        key("model", Form::Model, "The model that the row is taken from."),
        key("token", Form::Text, "The token whose row is taken."),
        key("token_id", Form::Whole, "The token whose row is taken, by its id."),
    ],
};

/// A setting for some tensors only.
pub static CLAUSE: Map = Map {
    name: "clause",
    keys: &[
        key(
            "filter",
            Form::Text,
            "A part of the names of the tensors to match; if it is missing or *, all tensors match.",
        ),
        required("value", Form::Value, "The parameter's value for those tensors."),
    ],
};

/// A model as a map.
pub static MODEL_MAP: Map = Map {
    name: "place-of-model",
    keys: &[
        required("model", Form::Place, "Where the model is."),
        key("lora", Form::Place, "Where the adapter to apply to the model is."),
        key("override_architecture", Form::Nothing, "Has no effect: layers are inferred from tensor names."),
    ],
};

pub static MODEL_PLACE: Map = Map {
    name: "place",
    keys: &[
        required("path", Form::Text, "A name on the hub, or a folder."),
        key("revision", Form::Text, "The branch, tag or commit."),
    ],
};

/// `card`.
pub static CARD: Map = Map {
    name: "card",
    keys: &[
        key("title", Form::Text, "The card's title; the stage's name if there is none."),
        key("text", Form::Text, "Markdown below the title."),
        key(
            "license",
            Form::Text,
            "The licence, by its name on the hub; if it is missing, the one that all models agree on.",
        ),
        key("license_name", Form::Text, "The name of the licence, if `license` is `other`."),
        key(
            "license_link",
            Form::Text,
            "Where to find the licence: an address, or a file in the repository.",
        ),
        key("language", Form::Texts, "Codes of languages, such as en; without them those of the models."),
        key("tags", Form::Texts, "Tags beside merge, mergekit and lamarck."),
    ],
};

/// A document that declares variables and is no stage.
pub static DECLARATION: Map = Map {
    name: "declaration",
    keys: &[
        key(
            "vars",
            Form::Variables,
            "Variables: ${name} inserts one into any value of the recipe; --set name=value overrides it.",
        ),
        key("seed", Form::Whole, "The seed of all stages that do not set their own."),
        key("random_seed", Form::Whole, "The same as seed."),
        key(
            "allow",
            Form::Codes,
            "Codes of findings to accept anywhere in the recipe; they are no longer reported.",
        ),
        key("card", Form::Map(&CARD), "The content of model cards; the card of a stage overrides it."),
    ],
};

impl Map {
    /// The names of all keys.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.keys.iter().map(|key| key.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_is_declared_once_in_its_map_and_documented() {
        let maps = [
            &STAGE,
            &MODEL,
            &SOURCE,
            &SLICE,
            &MODULE,
            &TOKENIZER,
            &TOKEN,
            &TOKEN_SOURCE,
            &CLAUSE,
            &MODEL_MAP,
            &MODEL_PLACE,
            &CARD,
            &DECLARATION,
        ];
        assert_eq!(maps.map(|map| map.name).into_iter().collect::<BTreeSet<_>>().len(), maps.len());
        for map in maps {
            assert_eq!(map.names().collect::<BTreeSet<_>>().len(), map.keys.len(), "{map:?}");
            assert!(map.keys.iter().all(|key| key.doc.ends_with('.')), "{map:?}");
        }
    }
}
