//! Safetensors files: parses and checks their headers.
//!
//! The safetensors crate proves that the tensors tile the file; duplicate names, which it accepts,
//! are refused here, and problems are told with the name of the tensor.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use safetensors::SafeTensorError;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::ModelError;
use super::local_file::LocalFile;
use super::source_file::{Entry, Headers, SourceFile};
use crate::tensor::{Dtype, Shape, TensorSpec};

/// Bytes of the length that every safetensors file starts with.
pub const LENGTH_BYTES: usize = 8;

/// The longest header that is read; the safetensors format sets the same bound.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Opens a safetensors file and checks its header; no tensor is read.
pub fn open(path: &Path) -> Result<Arc<dyn SourceFile>, ModelError> {
    Ok(Arc::new(LocalFile::open(path, headers)?))
}

fn headers(file: &File, n_bytes: u64, path: &Path) -> Result<Headers, ModelError> {
    let problem = |problem| ModelError::Header { path: path.to_owned(), problem };
    let mut first = [0; LENGTH_BYTES];
    if n_bytes < first.len() as u64 {
        return Err(problem(format!("is too short for a safetensors file ({n_bytes} B)")));
    }
    file.read_exact_at(&mut first, 0).map_err(ModelError::io(path))?;
    let length = header_length(first, n_bytes).map_err(problem)?;
    let mut json = vec![0; length];
    file.read_exact_at(&mut json, first.len() as u64).map_err(ModelError::io(path))?;
    let tensors = parse(&json, n_bytes).map_err(problem)?;
    Ok(Headers { tensors, ..Headers::default() })
}

/// Checks the length that a file starts with, before anything of that size is allocated.
///
/// # Errors
/// Says what is wrong when the header is said to be longer than the format allows or than the file.
pub fn header_length(first: [u8; LENGTH_BYTES], file_bytes: u64) -> Result<usize, String> {
    let length = u64::from_le_bytes(first);
    if length > MAX_HEADER_BYTES {
        return Err(format!(
            "claims a header of {length} bytes, but safetensors allows at most {MAX_HEADER_BYTES}; it is not a safetensors file, or it is damaged"
        ));
    }
    if length + LENGTH_BYTES as u64 > file_bytes {
        return Err(format!(
            "claims a header of {length} bytes, but the file has {file_bytes}; it is truncated or damaged"
        ));
    }
    Ok(length as usize)
}

/// Parses the header `json` of a file of `file_bytes` bytes.
///
/// # Errors
/// Says which tensor is wrong and how: bad JSON, an unknown dtype, a name used twice, offsets that
/// overlap, leave a gap or reach past the end, a size that does not follow from dtype and shape.
pub fn parse(json: &[u8], file_bytes: u64) -> Result<BTreeMap<String, Entry>, String> {
    let text = std::str::from_utf8(json).map_err(|_| "has a header that is not UTF-8".to_owned())?;
    let Header(mut tensors) =
        serde_json::from_str(text).map_err(|error| format!("has a header that cannot be parsed: {error}"))?;
    let mut seen = HashSet::new();
    if let Some((name, _)) = tensors.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        return Err(format!("lists tensor `{name}` twice"));
    }
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let data_start = (LENGTH_BYTES + json.len()) as u64;
    let metadata = Metadata::new(None, tensors.clone()).map_err(|error| describe(&error, &tensors))?;
    let end = data_start + metadata.data_len() as u64;
    if end != file_bytes {
        return Err(format!(
            "has {file_bytes} bytes, but its tensors end at {end}; it is truncated or damaged"
        ));
    }
    let with_entry = |(name, info): (String, TensorInfo)| {
        let entry = entry(&name, info, data_start)?;
        Ok((name, entry))
    };
    tensors.into_iter().map(with_entry).collect()
}

fn entry(name: &str, info: TensorInfo, data_start: u64) -> Result<Entry, String> {
    let stored = format!("{:?}", info.dtype);
    let dtype = Dtype::from_name(&stored)
        .ok_or_else(|| format!("stores tensor `{name}` as {stored}, which lamarck does not support"))?;
    Ok(Entry {
        spec: TensorSpec { dtype, shape: Shape(info.shape) },
        offset: data_start + info.data_offsets.0 as u64,
    })
}

fn describe(error: &SafeTensorError, tensors: &[(String, TensorInfo)]) -> String {
    match error {
        SafeTensorError::InvalidOffset(name) => {
            format!(
                "gives tensor `{name}` offsets that overlap another tensor's, leave a gap or run backwards"
            )
        }
        other => {
            let size = |info: &TensorInfo| {
                let elements = info.shape.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim))?;
                elements.checked_mul(info.dtype.bitsize()).map(|bits| bits / 8)
            };
            let culprit = tensors
                .iter()
                .find(|(_, info)| size(info) != info.data_offsets.1.checked_sub(info.data_offsets.0));
            match culprit {
                Some((name, info)) => format!(
                    "gives tensor `{name}` offsets {:?} that do not fit its dtype {:?} and shape {:?}",
                    info.data_offsets, info.dtype, info.shape
                ),
                None => format!("has an invalid header: {other}"),
            }
        }
    }
}

/// The header's entries in file order, duplicates and all.
struct Header(Vec<(String, TensorInfo)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map from tensor names to dtype, shape and offsets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        let info = map
                            .next_value::<TensorInfo>()
                            .map_err(|error| serde::de::Error::custom(format!("tensor `{name}`: {error}")))?;
                        tensors.push((name, info));
                    }
                }
                Ok(Header(tensors))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(json: &str, data_bytes: u64, expected: &str) {
        let problem = parse(json.as_bytes(), 8 + json.len() as u64 + data_bytes).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }

    #[test]
    fn a_sound_header_gives_absolute_offsets() {
        let json = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},"a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}"#;
        let entries = parse(json.as_bytes(), 8 + json.len() as u64 + 12).unwrap();
        assert_eq!(entries["a"].offset, 8 + json.len() as u64);
        assert_eq!(entries["b"].offset, 8 + json.len() as u64 + 4);
        assert_eq!(entries["b"].spec.to_string(), "F32 [2]");
    }

    #[test]
    fn hostile_headers_are_refused_with_the_tensor_named() {
        let two = |a: &str, b: &str| {
            format!(
                r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":{a}}},"b":{{"dtype":"F32","shape":[1],"data_offsets":{b}}}}}"#
            )
        };
        refused(&two("[0,4]", "[2,6]"), 6, "`b` offsets that overlap");
        refused(&two("[0,4]", "[8,12]"), 12, "`b` offsets that overlap");
        refused(&two("[4,0]", "[4,8]"), 8, "`a`");
        refused(&two("[0,4]", "[4,8]"), 4, "truncated");
        refused(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}"#, 4, "`a` offsets");
        refused(
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
            0,
            "`a` offsets",
        );
        refused(r#"{"a":{"dtype":"F7","shape":[1],"data_offsets":[0,4]}}"#, 4, "tensor `a`");
        refused(r#"{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#, 1, "does not support");
        refused(
            r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
            2,
            "`a` twice",
        );
        refused("[1]", 0, "cannot be parsed");
        refused(&"[".repeat(100_000), 0, "cannot be parsed");
    }

    #[test]
    fn header_lengths_are_bounded_before_use() {
        assert!(header_length(u64::MAX.to_le_bytes(), 100).unwrap_err().contains("at most"));
        assert!(header_length(93u64.to_le_bytes(), 100).unwrap_err().contains("truncated"));
        assert_eq!(header_length(92u64.to_le_bytes(), 100), Ok(92));
    }
}
