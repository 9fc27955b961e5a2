//! What the tokens of a stage's output are, and what is known of those of its inputs.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::tokenizer::{Flags, Tokens};
use crate::recipe::{Reference, Span, TokenEntry, Tokenizer};

/// The tokens of a stage whose embeddings have to be remapped.
#[derive(Clone, Debug)]
pub struct TokenPlan<'r> {
    /// Those of the output.
    pub tokens: Arc<Tokens>,
    /// How many rows the output has, padding included.
    pub rows: usize,
    /// The stage's models, in the order of the recipe.
    pub inputs: Vec<&'r Reference>,
    pub base: Option<&'r Reference>,
    /// What `tokens` says.
    pub entries: HashMap<&'r str, &'r TokenEntry>,
    /// The tokens of every model that rows are taken from.
    pub of: Vec<(&'r Reference, Arc<Tokens>)>,
    /// Where the recipe asks for a tokenizer.
    pub span: Span,
}

impl<'r> TokenPlan<'r> {
    /// The tokens of a model that rows are taken from.
    ///
    /// # Panics
    /// If no rows are to be taken from it.
    pub fn tokens_of(&self, reference: &Reference) -> &Tokens {
        &self.of.iter().find(|(of, _)| *of == reference).expect("every model is listed").1
    }

    /// Tokens that none of the stage's models has, and of which the recipe does not say where they come from.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        let is_known = move |token: &str| {
            self.entries.get(token).is_some_and(|entry| entry.source.is_some())
                || self.inputs.iter().any(|input| self.tokens_of(input).id(token).is_some())
        };
        self.tokens.iter().map(|(_, token)| token).filter(move |token| !is_known(token))
    }
}

/// The tokens that an output has: those of the tokenizer's source; in a union behind them those that the other
/// models have, in the order of the recipe and of their ids; and behind those what `tokens` names besides. What a
/// model added stays an added token. `None` if that is what the source has anyway.
pub fn output_tokens<'a>(
    asked: &Tokenizer,
    source: &Tokens,
    others: impl Iterator<Item = &'a Tokens>,
) -> Option<Tokens> {
    let mut tokens = source.clone();
    let mut is_new = false;
    for other in others {
        for (_, token) in other.iter() {
            is_new |= tokens.add(token, other.flags(token));
        }
    }
    for entry in &asked.tokens {
        let token = &entry.token.value;
        if tokens.id(token).is_none() {
            is_new |= tokens.add(token, Some(Flags { normalized: true, ..Flags::default() }));
        }
    }
    is_new.then_some(tokens)
}
