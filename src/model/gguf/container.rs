//! The container: key-value pairs, then what tensors there are, then their bytes. Little-endian, versions 2 and 3.
//!
//! Everything in it comes from a stranger: counts and lengths are held against the size of the file before anything is
//! kept or skipped, so that the work is never more than the file is long.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};

use crate::tensor::Shape;

const MAGIC: [u8; 4] = *b"GGUF";
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;

/// Pairs and tensors that a file has at most; those of large models have some thousands.
const MAX_COUNT: u64 = 1 << 20;

/// The longest name and the longest text that are read.
const MAX_NAME_BYTES: u64 = 65_535;
const MAX_TEXT_BYTES: u64 = 1 << 24;

/// More than any tensor has, and few enough to be counted in bytes.
const MAX_ELEMENTS: u64 = 1 << 48;

/// Axes that a tensor has at most.
const MAX_RANK: u32 = 4;

/// Arrays in arrays are read so deep.
const MAX_DEPTH: usize = 4;

/// Where tensors begin is a multiple of this, unless the file says otherwise.
const ALIGNMENT: u64 = 32;

/// What a file says before the tensors' bytes.
#[derive(Debug)]
pub struct Container {
    pub pairs: BTreeMap<String, Value>,
    /// In the file's order.
    pub tensors: Vec<Stored>,
    /// Where the tensors' bytes begin in the file.
    pub data: u64,
}

/// A value of a pair, as far as it is of use.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    /// An array, of so many elements, which are not kept.
    Array(u64),
}

/// What is said of a tensor.
#[derive(Debug)]
pub struct Stored {
    pub name: String,
    /// Outermost axis first.
    pub shape: Shape,
    /// The number of its type in ggml.
    pub kind: u32,
    /// From where the bytes of all tensors begin.
    pub offset: u64,
}

/// Why a file cannot be read.
#[derive(Debug)]
pub enum Trouble {
    Io(io::Error),
    Content(String),
}

impl From<String> for Trouble {
    fn from(problem: String) -> Self {
        Self::Content(problem)
    }
}

impl Container {
    /// Reads everything but the tensors' bytes of a file of so many bytes.
    pub fn read(file: &File, n_bytes: u64) -> Result<Self, Trouble> {
        let mut reader = Reader { from: BufReader::new(file), at: 0, n_bytes };
        if n_bytes < 24 {
            return Err(format!("is too short for a GGUF file ({n_bytes} B)").into());
        }
        if reader.bytes::<4>()? != MAGIC {
            return Err("is not a GGUF file: it does not begin like one".to_owned().into());
        }
        let version = reader.u32()?;
        if VERSIONS.contains(&version.swap_bytes()) {
            return Err("is a big-endian GGUF file, which lamarck does not support".to_owned().into());
        }
        if !VERSIONS.contains(&version) {
            let problem = format!("is a GGUF file of version {version}; lamarck supports versions 2 and 3");
            return Err(problem.into());
        }
        let n_tensors = reader.count("tensors")?;
        let n_pairs = reader.count("pairs")?;
        let mut pairs = BTreeMap::new();
        for _ in 0..n_pairs {
            let name = reader.text(MAX_NAME_BYTES)?;
            let kind = reader.u32()?;
            let value = reader.value(kind, 0)?;
            if pairs.insert(name.clone(), value).is_some() {
                return Err(format!("gives `{name}` twice").into());
            }
        }
        let tensors: Vec<Stored> = (0..n_tensors).map(|_| reader.stored()).collect::<Result<_, _>>()?;
        let alignment = match pairs.get("general.alignment") {
            None => ALIGNMENT,
            Some(Value::Integer(n)) if (1..=1 << 30).contains(n) && n.count_ones() == 1 => *n as u64,
            Some(other) => {
                return Err(format!("has an alignment of {other:?}, which is not a power of two").into());
            }
        };
        // What is read is no longer than the file, so this cannot overflow.
        let data = reader.at.div_ceil(alignment) * alignment;
        if let Some(Stored { name, .. }) = tensors.iter().find(|stored| stored.offset % alignment != 0) {
            return Err(format!(
                "begins tensor `{name}` at an offset that is not a multiple of {alignment} bytes"
            )
            .into());
        }
        Ok(Self { pairs, tensors, data })
    }
}

struct Reader<'a> {
    from: BufReader<&'a File>,
    at: u64,
    n_bytes: u64,
}

impl Reader<'_> {
    /// Makes sure that the file has so many more bytes.
    fn claim(&mut self, n: u64) -> Result<(), Trouble> {
        match self.at.checked_add(n).filter(|end| *end <= self.n_bytes) {
            Some(end) => self.at = end,
            None => {
                let problem = format!(
                    "ends in the middle of its metadata, at byte {}; it is truncated or damaged",
                    self.n_bytes
                );
                return Err(problem.into());
            }
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Trouble> {
        self.claim(N as u64)?;
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(Trouble::Io)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, Trouble> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, Trouble> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn count(&mut self, what: &str) -> Result<u64, Trouble> {
        match self.u64()? {
            count if count <= MAX_COUNT => Ok(count),
            count => Err(format!("claims to have {count} {what}; it is damaged").into()),
        }
    }

    fn text(&mut self, longest: u64) -> Result<String, Trouble> {
        let length = self.u64()?;
        self.claim(length)?;
        if length > longest {
            return Err(format!("contains a string of {length} bytes; at most {longest} are allowed").into());
        }
        let mut bytes = vec![0; length as usize];
        self.from.read_exact(&mut bytes).map_err(Trouble::Io)?;
        String::from_utf8(bytes).map_err(|_| "contains a string that is not UTF-8".to_owned().into())
    }

    fn skip(&mut self, n: u64) -> Result<(), Trouble> {
        self.claim(n)?;
        let skipped = io::copy(&mut self.from.by_ref().take(n), &mut io::sink()).map_err(Trouble::Io)?;
        if skipped == n { Ok(()) } else { Err(Trouble::Io(io::ErrorKind::UnexpectedEof.into())) }
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, Trouble> {
        Ok(match kind {
            0 => Value::Integer(self.bytes::<1>()?[0].into()),
            1 => Value::Integer(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.bytes()?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Integer(self.u32()?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Float(shortest(f32::from_le_bytes(self.bytes()?))),
            7 => Value::Bool(self.bytes::<1>()?[0] != 0),
            8 => Value::Text(self.text(MAX_TEXT_BYTES)?),
            9 => self.array(depth)?,
            10 => Value::Integer(self.u64()?.into()),
            11 => Value::Integer(i64::from_le_bytes(self.bytes()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            other => return Err(format!("contains a value of type {other}, which GGUF does not have").into()),
        })
    }

    fn array(&mut self, depth: usize) -> Result<Value, Trouble> {
        let (kind, count) = (self.u32()?, self.u64()?);
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            _ => 0,
        };
        if size > 0 {
            self.skip(count.saturating_mul(size))?;
        } else if depth < MAX_DEPTH {
            // Every text and array takes bytes, so that the end of the file ends this.
            for _ in 0..count {
                match kind {
                    8 => {
                        let length = self.u64()?;
                        self.skip(length)?;
                    }
                    _ => drop(self.value(kind, depth + 1)?),
                }
            }
        } else {
            return Err("nests arrays too deeply".to_owned().into());
        }
        Ok(Value::Array(count))
    }

    fn stored(&mut self) -> Result<Stored, Trouble> {
        let name = self.text(MAX_NAME_BYTES)?;
        let rank = self.u32()?;
        if rank > MAX_RANK {
            return Err(format!("gives tensor `{name}` {rank} axes; at most {MAX_RANK} are allowed").into());
        }
        let mut dims = Vec::new();
        for _ in 0..rank {
            dims.push(self.u64()?);
        }
        dims.reverse();
        let n_elements = dims.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim));
        if !n_elements.is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n)) {
            return Err(format!("gives tensor `{name}` the impossible shape {dims:?}").into());
        }
        let shape = Shape(dims.into_iter().map(|n| n as usize).collect());
        Ok(Stored { name, shape, kind: self.u32()?, offset: self.u64()? })
    }
}

/// The number that was meant by a float: the shortest that reads as it.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}
