//! Reads one stage: its method, types, tokenizer and chat template, and what it merges.

use super::chat_template::{self, ChatTemplate};
use super::fields::{Fields, did_you_mean, unknown_key};
use super::finding::Finding;
use super::keys;
use super::meant::Stage;
use super::reference::Resolver;
use super::span::Spanned;
use super::{body, card, check, tokenizer};
use crate::methods::{self, Method, elsewhere};
use crate::tensor::Dtype;

/// Names that people use for dtypes elsewhere.
const DTYPE_ALIASES: [(&str, &str); 6] = [
    ("bf16", "bfloat16"),
    ("fp16", "float16"),
    ("half", "float16"),
    ("fp32", "float32"),
    ("float", "float32"),
    ("fp64", "float64"),
];

/// Reads one stage.
pub(super) struct StageReader<'a> {
    pub fields: &'a Fields<'a>,
    pub name: &'a Spanned<String>,
    pub name_from_file: bool,
    pub resolver: &'a Resolver<'a>,
    /// The seed of the command line, which goes before the stage's own.
    pub flag_seed: Option<u64>,
}

impl StageReader<'_> {
    pub fn read(&self, recipe_seed: Option<u64>, findings: &mut Vec<Finding>) -> Option<Stage> {
        let Self { fields, name, .. } = self;
        if let Some(entry) = fields.entry("vars") {
            let message = "`vars` inside a stage has no effect";
            findings.push(
                Finding::error("vars-in-stage", entry.key_span, message)
                    .help("move it to a document of its own, above a `---` line"),
            );
        }
        let method = self.method(findings)?;
        let base = fields.get("base_model").and_then(|node| self.resolver.read(node, findings));
        let (body, parameters) =
            body::read((&name.value, fields), self.resolver, method.spec(), base.as_ref(), findings)?;
        let tokenizer = tokenizer::read(fields, self.resolver, findings);
        let seed = fields.whole("seed", findings).or_else(|| fields.whole("random_seed", findings));
        if let Some(entry) = fields.entry("seed").or(fields.entry("random_seed"))
            && !method.spec().draws
        {
            let message = format!(
                "stage `{}` has a seed, but method `{}` does not draw at random",
                name.value,
                method.spec().name
            );
            findings.push(Finding::note("unused-seed", entry.key_span, message));
        }
        let stage = Stage {
            name: name.value.clone(),
            name_from_file: self.name_from_file,
            span: name.span,
            method,
            base,
            body,
            parameters,
            dtype: self.dtype("dtype", findings),
            out_dtype: self.dtype("out_dtype", findings),
            tokenizer,
            chat_template: self.chat_template(findings),
            seed: self.flag_seed.or(seed).or(recipe_seed).unwrap_or(0),
            cache: fields.flag("cache", findings),
            card: fields.get("card").map(|node| card::read(node, findings)).unwrap_or_default(),
        };
        // What could not be read would be missed again where it is counted.
        if !findings.iter().any(Finding::is_error) {
            check::check(&stage, findings);
        }
        Some(stage)
    }

    fn method(&self, findings: &mut Vec<Finding>) -> Option<&'static dyn Method> {
        let Some((name, span)) = self.fields.text("merge_method", findings) else {
            let message = format!("stage `{}` has no `merge_method`", self.name.value);
            // A misspelt key is worth telling even where nothing else can be read.
            for entry in &self.fields.others {
                if did_you_mean(&entry.key, keys::STAGE.names()).is_some() {
                    unknown_key(entry, "a stage", keys::STAGE.names(), findings);
                }
            }
            findings.push(Finding::error("missing-key", self.fields.span, message));
            return None;
        };
        let found = methods::find(name);
        if found.is_none() {
            let names = || methods::all().iter().map(|method| method.spec().name);
            let stage = &self.name.value;
            let unknown = format!("stage `{stage}`: there is no merge method `{name}`");
            findings.push(match (elsewhere::nearest(name), did_you_mean(name, names())) {
                (Some(nearest), _) => {
                    let message = format!("stage `{stage}`: the merge method `{name}` is not supported");
                    Finding::error("unknown-method", span, message)
                        .help(format!("`{nearest}` is the closest supported method; `lamarck methods {nearest}` describes it"))
                }
                (None, Some(meant)) => {
                    Finding::error("unknown-method", span, unknown).help(format!("did you mean `{meant}`?"))
                }
                (None, None) => Finding::error("unknown-method", span, unknown)
                    .help(format!("the methods are: {}", names().collect::<Vec<_>>().join(", "))),
            });
        }
        found
    }

    fn dtype(&self, key: &str, findings: &mut Vec<Finding>) -> Option<Spanned<Dtype>> {
        let (text, span) = self.fields.text(key, findings)?;
        match Dtype::from_recipe_name(text) {
            Some(dtype) if dtype.is_float() => {
                if dtype == Dtype::F64 {
                    let message = format!("stage `{}`: arithmetic is always in float32", self.name.value);
                    findings.push(Finding::note("float64", span, message));
                }
                Some(Spanned { value: dtype, span })
            }
            Some(_) => {
                let message = format!("models cannot be merged in `{key}: {text}`");
                findings.push(Finding::error("unknown-dtype", span, message));
                None
            }
            None => {
                let alias = DTYPE_ALIASES.iter().find(|(alias, _)| *alias == text).map(|(_, meant)| *meant);
                let finding = Finding::error("unknown-dtype", span, format!("there is no dtype `{text}`"));
                let help = match alias.or_else(|| did_you_mean(text, Dtype::recipe_names())) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => {
                        format!("the dtypes are: {}", Dtype::recipe_names().collect::<Vec<_>>().join(", "))
                    }
                };
                findings.push(finding.help(help));
                None
            }
        }
    }

    fn chat_template(&self, findings: &mut Vec<Finding>) -> Option<Spanned<ChatTemplate>> {
        let (text, span) = self.fields.text("chat_template", findings)?;
        let template = chat_template::parse(text);
        if template.is_none() {
            let message = format!("stage `{}`: there is no chat template with this name", self.name.value);
            let help = match did_you_mean(text, chat_template::names()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!(
                    "write a Jinja template, the path of a template file such as ./chat.jinja, or one of: {}",
                    chat_template::names().collect::<Vec<_>>().join(", ")
                ),
            };
            findings.push(Finding::error("unknown-chat-template", span, message).help(help));
        }
        Some(Spanned { value: template?, span })
    }
}
