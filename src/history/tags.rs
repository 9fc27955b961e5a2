//! Names that people give to builds.

use super::codec::{Decoder, Encoder};
use crate::store::StoreError;
use crate::store::index::Index;
use crate::store::snapshot::Snapshot;

/// A named build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub name: String,
    /// The build's number.
    pub build: u64,
    /// When it was named, in seconds since the epoch.
    pub time: u64,
    /// Empty if nothing was noted.
    pub note: String,
}

/// Why a tag cannot have a name; `None` if it can. Numbers name builds, and what begins with a dash or holds a `/`
/// or a `#` would be taken for something else on the command line.
pub fn problem_of_name(name: &str) -> Option<&'static str> {
    let is_allowed = |c: char| c.is_alphanumeric() || "._-+".contains(c);
    match name.chars().next() {
        None => Some("it is empty"),
        Some(first) if !first.is_alphanumeric() => Some("it must begin with a letter or a digit"),
        _ if name.chars().all(|c| c.is_ascii_digit()) => Some("a plain number names a build"),
        _ if !name.chars().all(is_allowed) => {
            Some("it can contain only letters, digits, `.`, `_`, `-` and `+`")
        }
        _ => None,
    }
}

/// Gives a build its name.
pub fn set_tag(index: &Index, tag: &Tag) -> Result<(), StoreError> {
    let mut encoder = Encoder::default();
    encoder.number(tag.time);
    encoder.text(&tag.note);
    index.set_tag(&tag.name, tag.build, &encoder.finish())
}

/// The tag of a name.
pub fn tag(snapshot: &Snapshot<'_>, name: &str) -> Result<Option<Tag>, StoreError> {
    Ok(snapshot.tag(name)?.map(|(build, noted)| read(name.to_owned(), build, &noted)))
}

/// Every tag, in the order of their names.
pub fn tags(snapshot: &Snapshot<'_>) -> Result<Vec<Tag>, StoreError> {
    let tags = snapshot.tags()?.into_iter();
    Ok(tags.map(|(name, build, noted)| read(name, build, &noted)).collect())
}

fn read(name: String, build: u64, noted: &[u8]) -> Tag {
    let mut from = Decoder(noted);
    let (time, note) = (from.number().unwrap_or_default(), from.text().unwrap_or_default());
    Tag { name, build, time, note }
}
