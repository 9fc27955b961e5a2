//! What a model's tokenizer is, as far as a merge is concerned: its tokens with their ids, and its files.
//!
//! | file | is about |
//! | --- | --- |
//! | `tokens` | the tokens of one tokenizer, read from tokenizer.json |
//! | `known` | the vocabularies of many models, compared before any is parsed |
//! | `special` | which of them begin, end and fill texts, by each model's own settings |
//! | `written` | tokenizer.json and its neighbours for a vocabulary that grew |
//! | `template` | chat templates as checkpoints hold them |

mod known;
mod special;
mod template;
mod tokens;
mod written;

pub use known::{Vocabulary, vocabularies};
pub use special::special_keys;
pub use template::{CHAT_TEMPLATE, TOKENIZER_CONFIG, chat_template};
pub use tokens::{Flags, GENERATION, TOKENIZER, Tokens};
pub use written::{check, rewritten};
