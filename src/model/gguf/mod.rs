//! GGUF files, as llama.cpp reads them: one file with a model's tensors and metadata.
//!
//! Tensors get the names that transformers gives them, rows and norms are put back as they were, and Q8_0 is read as
//! the numbers that it stands for.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `container` | the bytes: pairs, and where tensors are |
//! | `types` | what a tensor may be stored as |
//! | `names` | architectures, and what their tensors are called |
//! | `config` | what config.json would say |

mod config;
mod container;
mod names;
mod types;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use self::config::Metadata;
use self::container::{Container, Stored, Trouble};
use self::names::{Architecture, OF_CONFIG, architecture};
use self::types::{Kind, kind};
use super::ModelError;
use super::local_file::LocalFile;
use super::source_file::{Entry, Headers, SourceFile};
use super::view::{LogicalTensor, View};
use crate::op::{FromQ8, Offset, Op, Role, RowRun, Rows};
use crate::tensor::{Dtype, TensorSpec};

/// Opens a file and reads what it says of its tensors; no tensor is read.
pub fn open(path: &Path) -> Result<Arc<dyn SourceFile>, ModelError> {
    Ok(Arc::new(LocalFile::open(path, headers)?))
}

/// The config.json of a file's model: `beside` is the one that lies beside it, which must be of this model; without
/// one, it is made of the file's metadata.
pub fn config(path: &Path, beside: Option<Value>) -> Result<Value, ModelError> {
    let file = File::open(path).map_err(ModelError::io(path))?;
    let n_bytes = file.metadata().map_err(ModelError::io(path))?.len();
    let container = Container::read(&file, n_bytes).map_err(|trouble| told(trouble, path))?;
    let problem = |problem| ModelError::Header { path: path.to_owned(), problem };
    let metadata = Metadata::new(&container).map_err(problem)?;
    match beside {
        None => metadata.config(&container).map_err(problem),
        Some(config) => match metadata.differs_from(&config) {
            None => Ok(config),
            Some(problem) => Err(ModelError::Layout { path: path.with_file_name("config.json"), problem }),
        },
    }
}

fn told(trouble: Trouble, path: &Path) -> ModelError {
    match trouble {
        Trouble::Io(error) => ModelError::io(path)(error),
        Trouble::Content(problem) => ModelError::Header { path: path.to_owned(), problem },
    }
}

fn headers(file: &File, n_bytes: u64, path: &Path) -> Result<Headers, ModelError> {
    Container::read(file, n_bytes)
        .and_then(|container| Ok(tensors(&container, n_bytes)?))
        .map_err(|trouble| told(trouble, path))
}

/// Names all tensors, and makes what is not stored as it is meant.
fn tensors(container: &Container, n_bytes: u64) -> Result<Headers, String> {
    if let Some(container::Value::Integer(parts)) = container.pairs.get("split.count")
        && *parts > 1
    {
        return Err(format!("is one of {parts} parts of a model; join them with `llama-gguf-split --merge`"));
    }
    let metadata = Metadata::new(container)?;
    let architecture = architecture(metadata.architecture)?;
    let mut headers = Headers::default();
    let mut runs = Vec::new();
    for stored in &container.tensors {
        let Stored { name, shape, kind: number, offset } = stored;
        if OF_CONFIG.contains(&name.as_str()) {
            headers.others.push(name.clone());
            continue;
        }
        let kind = kind(*number, shape).map_err(|problem| format!("stores tensor `{name}` {problem}"))?;
        let called = architecture.name_of(name).ok_or_else(|| {
            format!("contains tensor `{name}`, which is unknown in `{}` models", architecture.name)
        })?;
        let (Kind::Plain(spec) | Kind::Blocks(spec)) = &kind;
        let begin = container.data.checked_add(*offset);
        let end = begin.and_then(|begin| begin.checked_add(spec.n_bytes() as u64));
        let Some((begin, end)) = begin.zip(end).filter(|(_, end)| *end <= n_bytes) else {
            return Err(format!(
                "has {n_bytes} bytes, but tensor `{name}` ends after them; it is truncated or damaged"
            ));
        };
        runs.push((begin, end, name.as_str()));
        let entry = Entry { spec: spec.clone(), offset: begin };
        if headers.tensors.insert(called.clone(), entry).is_some() {
            return Err(format!("contains tensor `{name}` twice"));
        }
        let (spec, view) = meant(architecture, &metadata, &called, stored, kind)?;
        if !matches!(view, View::Stored(_)) {
            headers.views.insert(called, LogicalTensor { spec, view });
        }
    }
    runs.sort_unstable();
    if let Some(pair) = runs.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        return Err(format!("has overlapping tensors `{}` and `{}`", pair[0].2, pair[1].2));
    }
    Ok(headers)
}

/// A tensor as transformers has it.
fn meant(
    architecture: &Architecture,
    metadata: &Metadata<'_>,
    called: &str,
    stored: &Stored,
    kind: Kind,
) -> Result<(TensorSpec, View), String> {
    let is_q = [".q_proj.weight", ".q_proj.bias"].iter().any(|ending| called.ends_with(ending));
    let is_k = [".k_proj.weight", ".k_proj.bias"].iter().any(|ending| called.ends_with(ending));
    let mut view = View::Stored(called.to_owned());
    let mut spec = TensorSpec { dtype: Dtype::F32, shape: stored.shape.clone() };
    let mut make = |op: Arc<dyn Op>, from: TensorSpec| {
        let stored = std::mem::replace(&mut view, View::Stored(String::new()));
        let inputs = vec![(Role::PART, LogicalTensor { spec: from, view: stored })];
        view = View::Made { op, inputs };
    };
    match kind {
        Kind::Plain(plain) => spec = plain,
        Kind::Blocks(blocks) => make(Arc::new(FromQ8 { shape: stored.shape.clone() }), blocks),
    }
    if architecture.is_permuted && (is_q || is_k) {
        let is_grouped = is_k && metadata.has("attention.head_count_kv");
        let heads =
            metadata.count(if is_grouped { "attention.head_count_kv" } else { "attention.head_count" });
        let op = heads.and_then(|heads| in_halves(&spec, heads)).ok_or_else(|| {
            format!("contains tensor `{}` {}, whose rows do not make up whole heads", stored.name, spec.shape)
        })?;
        make(Arc::new(op), spec.clone());
    }
    if architecture.has_offset_norms && called.ends_with("norm.weight") {
        make(Arc::new(Offset { by: -1.0 }), spec.clone());
    }
    Ok((spec, view))
}

/// Rows of heads whose two halves take turns, with each half in one piece again.
fn in_halves(spec: &TensorSpec, heads: usize) -> Option<Rows> {
    let rows = *spec.shape.0.first()?;
    let of_head = rows / heads;
    if !rows.is_multiple_of(heads) || !of_head.is_multiple_of(2) {
        return None;
    }
    let run = |row: usize| RowRun { input: 0, rows: row..row + 1 };
    let of_half = |head: usize, half: usize| (0..of_head / 2).map(move |i| head * of_head + 2 * i + half);
    let runs = (0..heads).flat_map(|head| [0, 1].into_iter().flat_map(move |half| of_half(head, half)));
    Some(Rows { runs: runs.map(run).collect(), shape: spec.shape.clone() })
}
