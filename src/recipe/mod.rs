//! Recipes: from YAML text to stages whose every reference and parameter has been checked.
//!
//! Two forms of a recipe: as typed (`yaml`, nodes with source positions) and as meant ([`Recipe`], made by
//! [`load`]). Everything after the recipe works on the second. Nothing here reads files.

mod abroad;
pub mod allow;
pub mod as_mergekit;
mod body;
pub mod card;
pub mod changes;
pub mod chat_template;
mod check;
pub mod codes;
mod cycle;
pub mod describe;
mod fields;
mod finding;
mod keys;
mod load;
mod meant;
mod naming;
pub mod picture;
mod portable;
mod reference;
pub mod schema;
mod settings;
pub mod single;
mod slips;
mod span;
mod stage;
mod tokenizer;
mod vars;
mod yaml;

pub use card::{CardSettings, License};
pub use fields::did_you_mean;
pub use finding::{Finding, Severity};
pub use load::{LoadOptions, Loaded, load};
pub use meant::{
    Adapted, Body, Clause, Gradient, Input, Module, ModuleBody, Parameters, Recipe, Reference, Section,
    Setting, Slice, Stage, StageId, TokenEntry, TokenRow, Tokenizer, TokenizerSource,
};
pub use span::{Span, Spanned};
