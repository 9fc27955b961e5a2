//! Reads what a stage says of its tokenizer: `tokenizer_source`, or `tokenizer` with everything that can stand in it.

use super::fields::Fields;
use super::finding::Finding;
use super::keys;
use super::meant::{TokenEntry, TokenRow, Tokenizer, TokenizerSource};
use super::reference::Resolver;
use super::span::Spanned;
use super::yaml::{Entry, Node, Value};

/// Reads a stage's tokenizer; `None` if it has none, or, with a finding, one that cannot be read.
pub(super) fn read(
    fields: &Fields<'_>,
    resolver: &Resolver<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Spanned<Tokenizer>> {
    let reader = Reader { resolver };
    let short = fields.get("tokenizer_source");
    let Some(long) = fields.get("tokenizer") else {
        let node = short?;
        let source = reader.source(node, findings)?;
        let tokenizer = Tokenizer { source, tokens: Vec::new(), pad_to_multiple_of: None, trim_vocab: false };
        return Some(Spanned { value: tokenizer, span: node.span });
    };
    if let Some(short) = short {
        let message = "`tokenizer` and `tokenizer_source` cannot be used together";
        findings.push(Finding::error("exclusive-keys", short.span, message));
    }
    let fields = Fields::closed(long, "`tokenizer`", &keys::TOKENIZER, findings)?;
    let source = match fields.get("source") {
        Some(node) => reader.source(node, findings)?,
        None => TokenizerSource::Union,
    };
    let tokens = match fields.get("tokens") {
        Some(node) => Fields::read(node, "`tokens`", &keys::ANY, findings)?
            .others
            .iter()
            .filter_map(|entry| reader.token(entry, findings))
            .collect(),
        None => Vec::new(),
    };
    let pad_to_multiple_of = match fields.whole("pad_to_multiple_of", findings) {
        Some(0) => {
            let span = fields.get("pad_to_multiple_of")?.span;
            let message = "`pad_to_multiple_of` must be at least 1";
            findings.push(Finding::error("parameter-value", span, message));
            None
        }
        n => n.and_then(|n| usize::try_from(n).ok()),
    };
    let trim_vocab = fields.flag("trim_vocab", findings).unwrap_or(false);
    let tokenizer = Tokenizer { source, tokens, pad_to_multiple_of, trim_vocab };
    Some(Spanned { value: tokenizer, span: fields.span })
}

struct Reader<'a> {
    resolver: &'a Resolver<'a>,
}

impl Reader<'_> {
    fn source(&self, node: &Node, findings: &mut Vec<Finding>) -> Option<TokenizerSource> {
        match &node.value {
            Value::Scalar { text, .. } if text == "union" => Some(TokenizerSource::Union),
            Value::Scalar { text, .. } if text == "base" => Some(TokenizerSource::Base),
            _ => Some(TokenizerSource::Model(self.resolver.read(node, findings)?.value)),
        }
    }

    /// Reads an entry of `tokens`.
    fn token(&self, entry: &Entry, findings: &mut Vec<Finding>) -> Option<TokenEntry> {
        let what = format!("`{}` in `tokens`", entry.key);
        if entry.key.is_empty() {
            findings.push(Finding::error("wrong-type", entry.key_span, "a token cannot be empty"));
            return None;
        }
        let token = Spanned { value: entry.key.clone(), span: entry.key_span };
        if entry.value.value == Value::Null {
            return Some(TokenEntry { token, source: None, force: false });
        }
        let fields = Fields::closed(&entry.value, &what, &keys::TOKEN, findings)?;
        let source = match fields.get("source") {
            Some(node) => Some(Spanned { value: self.row(node, &what, findings)?, span: node.span }),
            None => None,
        };
        let force = fields.flag("force", findings).unwrap_or(false);
        if force && source.is_none() {
            let message = format!("{what} has `force: true`, but no `source`");
            let help =
                "say where its row comes from, for example `source: org/model` or `source: {kind: zero}`";
            findings.push(Finding::error("missing-key", entry.key_span, message).help(help));
        }
        Some(TokenEntry { token, source, force })
    }

    /// Reads where a token's row comes from: a model, or a map with a `kind`.
    fn row(&self, node: &Node, what: &str, findings: &mut Vec<Finding>) -> Option<TokenRow> {
        let kind = match &node.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == "kind"),
            _ => None,
        };
        let Some(kind) = kind else {
            return Some(TokenRow::Same(self.resolver.read(node, findings)?.value));
        };
        let what = format!("the source of {what}");
        let fields = Fields::closed(node, &what, &keys::TOKEN_SOURCE, findings)?;
        match fields.text("kind", findings)?.0 {
            "zero" => {
                for key in ["model", "token", "token_id"] {
                    if let Some(entry) = fields.entry(key) {
                        let message = format!("`{key}` of {what} has no effect with `kind: zero`");
                        findings.push(Finding::warning("no-effect", entry.key_span, message));
                    }
                }
                Some(TokenRow::Zero)
            }
            "model_token" => {
                let Some(model) = fields.get("model") else {
                    let message = format!("{what} has no `model`");
                    findings.push(Finding::error("missing-key", fields.span, message));
                    return None;
                };
                let model = self.resolver.read(model, findings)?.value;
                match (fields.get("token"), fields.get("token_id")) {
                    (Some(_), None) => {
                        Some(TokenRow::Token(model, fields.text("token", findings)?.0.to_owned()))
                    }
                    (None, Some(node)) => {
                        let id = fields.whole("token_id", findings)?;
                        match u32::try_from(id) {
                            Ok(id) => Some(TokenRow::Id(model, id)),
                            Err(_) => {
                                let message = format!("{id} is not a valid token id");
                                findings.push(Finding::error("parameter-value", node.span, message));
                                None
                            }
                        }
                    }
                    (None, None) => {
                        let message = format!("{what} has neither a `token` nor a `token_id`");
                        findings.push(Finding::error("missing-key", fields.span, message));
                        None
                    }
                    (Some(_), Some(id)) => {
                        let message = format!("{what} has both a `token` and a `token_id`; give only one");
                        findings.push(Finding::error("exclusive-keys", id.span, message));
                        None
                    }
                }
            }
            other => {
                let message = format!("{what} has the unknown kind `{other}`");
                let help = "the kinds are: zero, model_token";
                findings.push(Finding::error("token-source", kind.value.span, message).help(help));
                None
            }
        }
    }
}
