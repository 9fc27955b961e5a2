//! The zip archive of a pickled checkpoint: where in the file each tensor's bytes are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use zip::read::ZipFile;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::state_dict::{Described, StateDict, state_dict};
use super::unpickle::unpickle;
use crate::model::ModelError;
use crate::model::local_file::LocalFile;
use crate::model::source_file::{Entry, Headers, SourceFile};
use crate::model::view::{LogicalTensor, View};
use crate::op::{Role, Strided};
use crate::tensor::{Shape, TensorSpec};

/// The longest pickle that is read; those of large models have a few megabytes.
const MAX_PICKLE_BYTES: u64 = 100_000_000;

/// What saves a checkpoint again in the format that is read.
const SAVE_AGAIN: &str = "save it again: `torch.save(torch.load(FILE, weights_only=True), FILE)`";

/// Opens a pickled checkpoint and reads what it says of its tensors; no tensor is read.
pub fn open(path: &Path) -> Result<Arc<dyn SourceFile>, ModelError> {
    Ok(Arc::new(LocalFile::open(path, headers)?))
}

fn headers(file: &File, n_bytes: u64, path: &Path) -> Result<Headers, ModelError> {
    let problem = |problem| ModelError::Header { path: path.to_owned(), problem };
    let mut first = [0; 4];
    if n_bytes < first.len() as u64 {
        return Err(problem(format!("is too short for a checkpoint ({n_bytes} B)")));
    }
    file.read_exact_at(&mut first, 0).map_err(ModelError::io(path))?;
    match first {
        [b'P', b'K', 3, 4] => {}
        [0x80, 1..=5, ..] => {
            return Err(problem(format!(
                "is in the format of PyTorch before 1.6, which lamarck does not support; {SAVE_AGAIN}"
            )));
        }
        _ => {
            return Err(problem(
                "is neither a safetensors file nor a checkpoint saved by PyTorch".to_owned(),
            ));
        }
    }
    let broken = |error: ZipError| match error {
        ZipError::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            ModelError::io(path)(error)
        }
        error => {
            problem(format!("is a zip archive that cannot be read: {error}; it is truncated or damaged"))
        }
    };
    let mut archive = Archive::read(ZipArchive::new(BufReader::new(file)).map_err(broken)?, n_bytes)
        .map_err(|error| error.map_or_else(broken, problem))?;
    archive.headers(n_bytes).map_err(|error| error.map_or_else(broken, problem))
}

/// What is wrong: something about the zip archive, or about what it holds.
enum Trouble {
    Zip(ZipError),
    Content(String),
}

impl From<ZipError> for Trouble {
    fn from(error: ZipError) -> Self {
        Self::Zip(error)
    }
}

impl From<String> for Trouble {
    fn from(problem: String) -> Self {
        Self::Content(problem)
    }
}

impl Trouble {
    fn map_or_else<T>(self, zip: impl FnOnce(ZipError) -> T, content: impl FnOnce(String) -> T) -> T {
        match self {
            Self::Zip(error) => zip(error),
            Self::Content(problem) => content(problem),
        }
    }
}

/// A member's bytes: offset from the start of the file, and number.
#[derive(Clone, Copy)]
struct Member {
    start: u64,
    n_bytes: u64,
}

/// An archive whose members are all stored as they are.
struct Archive {
    /// By name without the folder that holds all.
    members: BTreeMap<String, Member>,
    pickle: Vec<u8>,
}

impl Archive {
    fn read(mut zip: ZipArchive<BufReader<&File>>, n_bytes: u64) -> Result<Self, Trouble> {
        let names: Vec<String> =
            zip.file_names().map(|name| Ok(name?.into_owned())).collect::<Result<_, ZipError>>()?;
        let pickles: Vec<&String> = names
            .iter()
            .filter(|name| name.strip_suffix("/data.pkl").is_some_and(|folder| !folder.contains('/')))
            .collect();
        let [pickle] = pickles.as_slice() else {
            let problem = "is a zip archive, but not one made by PyTorch: it does not contain exactly one FOLDER/data.pkl";
            return Err(problem.to_owned().into());
        };
        let folder = pickle[..pickle.len() - "data.pkl".len()].to_owned();
        if names.iter().any(|name| *name == format!("{folder}constants.pkl")) {
            return Err("is a TorchScript program, not a checkpoint; save the model's state_dict"
                .to_owned()
                .into());
        }
        let mut members = BTreeMap::new();
        let mut order = Vec::new();
        let mut data = Vec::new();
        for number in 0..zip.len() {
            let member = zip.by_index_raw(number)?;
            let name = member.name()?.into_owned();
            let Some(name) = name.strip_prefix(&folder) else { continue };
            if member.compression() != CompressionMethod::Stored
                || member.encrypted()
                || member.compressed_size() != member.size()
            {
                return Err(
                    format!("contains `{name}` compressed, which is not supported; {SAVE_AGAIN}").into()
                );
            }
            let start = member.data_start().unwrap_or(u64::MAX);
            let own = Member { start, n_bytes: member.size() };
            if start.checked_add(own.n_bytes).is_none_or(|end| end > n_bytes) {
                return Err(format!(
                    "says that `{name}` extends beyond the end of the file; it is truncated or damaged"
                )
                .into());
            }
            match name {
                "data.pkl" if own.n_bytes > MAX_PICKLE_BYTES => {
                    return Err(format!(
                        "has a pickle of {} bytes; at most {MAX_PICKLE_BYTES} are allowed",
                        own.n_bytes
                    )
                    .into());
                }
                "data.pkl" => data = content(member)?,
                "byteorder" if own.n_bytes < 16 => order = content(member)?,
                _ => {}
            }
            members.insert(name.to_owned(), own);
        }
        if !matches!(order.trim_ascii(), b"" | b"little") {
            return Err("stores numbers in big-endian order, which lamarck does not support"
                .to_owned()
                .into());
        }
        Ok(Self { members, pickle: data })
    }

    fn headers(&mut self, n_bytes: u64) -> Result<Headers, Trouble> {
        let StateDict { tensors, others } = state_dict(&unpickle(&self.pickle)?)?;
        let mut headers = Headers { others, ..Headers::default() };
        for (name, described) in tensors {
            self.add(&name, described, n_bytes, &mut headers)
                .map_err(|problem| format!("stores tensor `{name}` {problem}"))?;
        }
        Ok(headers)
    }

    fn add(&self, name: &str, tensor: Described, n_bytes: u64, headers: &mut Headers) -> Result<(), String> {
        let Described { dtype, shape, strides, offset, storage } = tensor;
        let size = dtype.size();
        let Some(member) = self.members.get(&format!("data/{storage}")) else {
            return Err(format!("in data/{storage}, which is not in the archive; it is damaged"));
        };
        let reach = Strided::reach(&shape, &strides);
        let end = reach.and_then(|reach| reach.checked_add(offset)?.checked_mul(size));
        if end.is_none_or(|end| reach != Some(0) && end as u64 > member.n_bytes) {
            return Err(format!(
                "with shape {shape}, for which data/{storage} is too short; the file is damaged"
            ));
        }
        // A few stored elements may be seen many times over, but not so that they fill the memory.
        let n_elements = shape.0.iter().try_fold(size, |n, dim| n.checked_mul(*dim));
        if n_elements.is_none_or(|n| n as u64 > n_bytes) {
            return Err(format!(
                "with shape {shape}, which is larger than the whole file; save a copy of it (`.contiguous()`)"
            ));
        }
        let offset = member.start + if reach == Some(0) { 0 } else { (offset * size) as u64 };
        let spec = TensorSpec { dtype, shape };
        if Strided::is_plain(&spec.shape, &strides) || reach == Some(0) {
            return insert(name, Entry { spec, offset }, headers);
        }
        let run = TensorSpec { dtype, shape: Shape(vec![reach.unwrap_or(0)]) };
        let op = Arc::new(Strided { strides, shape: spec.shape.clone() });
        let stored = LogicalTensor { spec: run.clone(), view: View::Stored(name.to_owned()) };
        let view = View::Made { op, inputs: vec![(Role::PART, stored)] };
        headers.views.insert(name.to_owned(), LogicalTensor { spec, view });
        insert(name, Entry { spec: run, offset }, headers)
    }
}

fn content(mut member: ZipFile<'_, BufReader<&File>>) -> Result<Vec<u8>, ZipError> {
    let mut bytes = Vec::new();
    member.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn insert(name: &str, entry: Entry, headers: &mut Headers) -> Result<(), String> {
    match headers.tensors.insert(name.to_owned(), entry) {
        None => Ok(()),
        Some(_) => Err("twice".to_owned()),
    }
}
