//! Checkpoints of any size under the names of the shipped ancestors: one base, and others a small step
//! away from it, as fine-tunes are. Values follow from names and indices alone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use lamarck::kernels::stream::Stream;
use rayon::prelude::*;
use serde_json::{Value, json};

/// The checkpoints that the recipes in `recipes/` name.
pub const NAMES: [&str; 7] = [
    "arcee-ai/Virtuoso-Small",
    "CultriX/SeQwence-14B-EvolMerge",
    "CultriX/Qwen2.5-14B-Wernicke",
    "Qwen/Qwen2.5-14B-Instruct",
    "sthenno-com/miscii-14b-1028",
    "underwoods/medius-erebus-magnum-14b",
    "Qwen/Qwen2.5-14B",
];

/// Elements made and written in one go.
const BLOCK: usize = 1 << 18;

/// Of a sparse checkpoint one block in so many holds noise; the rest are holes, which read as zeros.
const SPARSE_STEP: usize = 256;

/// Standard deviations of the common part and of each checkpoint's own.
const SPREAD: [f32; 2] = [0.02, 0.002];

/// The dimensions of a Qwen2 model.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Shape {
    #[arg(long, default_value_t = 48)]
    pub layers: usize,
    #[arg(long, default_value_t = 512)]
    pub hidden: usize,
    #[arg(long, default_value_t = 1536)]
    pub intermediate: usize,
    /// Width of keys and values.
    #[arg(long, default_value_t = 128)]
    pub kv: usize,
    #[arg(long, default_value_t = 32000)]
    pub vocabulary: usize,
    #[arg(long, default_value_t = 1)]
    pub shards: usize,
    /// Leave most of every file a hole, which takes no room on the disk.
    #[arg(long)]
    pub sparse: bool,
}

impl Shape {
    /// About 178 million parameters.
    pub const MEDIUM: Self = Self {
        layers: 48,
        hidden: 512,
        intermediate: 1536,
        kv: 128,
        vocabulary: 32000,
        shards: 1,
        sparse: false,
    };

    /// The dimensions of Qwen2.5-14B, in 579 tensors and 8 shards, most of them holes.
    pub const SPARSE_14B: Self = Self {
        layers: 48,
        hidden: 5120,
        intermediate: 13824,
        kv: 1024,
        vocabulary: 152_064,
        shards: 8,
        sparse: true,
    };

    /// Tensors in the order of the layers.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self { hidden, intermediate, kv, vocabulary, .. } = *self;
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![vocabulary, hidden])];
        for layer in 0..self.layers {
            for (name, shape) in [
                ("self_attn.q_proj.weight", vec![hidden, hidden]),
                ("self_attn.q_proj.bias", vec![hidden]),
                ("self_attn.k_proj.weight", vec![kv, hidden]),
                ("self_attn.k_proj.bias", vec![kv]),
                ("self_attn.v_proj.weight", vec![kv, hidden]),
                ("self_attn.v_proj.bias", vec![kv]),
                ("self_attn.o_proj.weight", vec![hidden, hidden]),
                ("mlp.gate_proj.weight", vec![intermediate, hidden]),
                ("mlp.up_proj.weight", vec![intermediate, hidden]),
                ("mlp.down_proj.weight", vec![hidden, intermediate]),
                ("input_layernorm.weight", vec![hidden]),
                ("post_attention_layernorm.weight", vec![hidden]),
            ] {
                tensors.push((format!("model.layers.{layer}.{name}"), shape));
            }
        }
        tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
        tensors.push(("lm_head.weight".to_owned(), vec![vocabulary, hidden]));
        tensors
    }

    /// The number of parameters of one checkpoint.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}

/// Writes all checkpoints below `dir`, as `org/name`.
pub fn generate(dir: &Path, shape: &Shape) -> io::Result<()> {
    NAMES.into_iter().enumerate().try_for_each(|(number, name)| checkpoint(dir, number, name, shape))
}

/// Generates into `dir` unless it holds checkpoints of this shape already.
pub fn generate_once(dir: &Path, shape: &Shape) -> io::Result<()> {
    let (mark, text) = (dir.join("shape.txt"), format!("{shape:?}\n"));
    if fs::read_to_string(&mark).is_ok_and(|present| present == text) {
        return Ok(());
    }
    generate(dir, shape)?;
    fs::write(mark, text)
}

fn checkpoint(root: &Path, number: usize, name: &str, shape: &Shape) -> io::Result<()> {
    let dir = root.join(name);
    fs::create_dir_all(&dir)?;
    let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recipes/ancestors").join(name);
    for file in ["chat_template.jinja", "generation_config.json", "tokenizer_config.json"] {
        // A base model has no chat template.
        if model.join(file).exists() {
            fs::copy(model.join(file), dir.join(file))?;
        }
    }
    let read =
        |file: &str| -> io::Result<Value> { Ok(serde_json::from_slice(&fs::read(model.join(file))?)?) };
    let write = |file: &str, value: &Value| fs::write(dir.join(file), serde_json::to_vec(value)?);
    let mut config = read("config.json")?;
    config["hidden_size"] = shape.hidden.into();
    config["intermediate_size"] = shape.intermediate.into();
    config["num_hidden_layers"] = shape.layers.into();
    config["layer_types"] = vec!["full_attention"; shape.layers].into();
    config["vocab_size"] = shape.vocabulary.into();
    let heads = if shape.hidden.is_multiple_of(128) { shape.hidden / 128 } else { 4 };
    config["num_attention_heads"] = heads.into();
    config["num_key_value_heads"] = (shape.kv * heads / shape.hidden).max(1).into();
    write("config.json", &config)?;
    let mut tokenizer = read("tokenizer.json")?;
    let added = tokenizer["added_tokens"].as_array().map_or(0, Vec::len);
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().expect("the tokenizer has a vocabulary");
    for id in vocabulary.len() + added..shape.vocabulary {
        vocabulary.insert(format!("<unused{id}>"), id.into());
    }
    write("tokenizer.json", &tokenizer)?;

    let tensors = shape.tensors();
    let total: usize = tensors.iter().map(|(_, shape)| 2 * shape.iter().product::<usize>()).sum();
    let mut groups: Vec<Vec<(String, Vec<usize>)>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        if filled >= total.div_ceil(shape.shards) {
            groups.push(Vec::new());
            filled = 0;
        }
        filled += 2 * tensor.1.iter().product::<usize>();
        groups.last_mut().expect("there is always a group").push(tensor);
    }
    let n_groups = groups.len();
    let mut weight_map = serde_json::Map::new();
    for (i, group) in groups.into_iter().enumerate() {
        let file = match n_groups {
            1 => "model.safetensors".to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        weight_map.extend(group.iter().map(|(tensor, _)| (tensor.clone(), file.clone().into())));
        shard(&dir.join(&file), number, &group, shape.sparse)?;
    }
    if n_groups > 1 {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        write("model.safetensors.index.json", &index)?;
    }
    Ok(())
}

fn shard(path: &Path, number: usize, tensors: &[(String, Vec<usize>)], sparse: bool) -> io::Result<()> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, end] }));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = File::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut at = 8 + header.len() as u64;
    file.set_len(at + end as u64)?;
    for (name, shape) in tensors {
        let n = shape.iter().product::<usize>();
        let step = if sparse { SPARSE_STEP } else { 1 };
        (0..n.div_ceil(BLOCK)).into_par_iter().step_by(step).try_for_each(|block| {
            let start = block * BLOCK;
            let bytes = values(name, number, start, BLOCK.min(n - start));
            file.write_all_at(&bytes, at + 2 * start as u64)
        })?;
        at += 2 * n as u64;
    }
    Ok(())
}

/// Elements of a tensor in bf16, from `start` on.
fn values(tensor: &str, number: usize, start: usize, n: usize) -> Vec<u8> {
    // The common part first, then the checkpoint's own.
    let streams = [0, number + 1].map(|position| Stream::derive(0, "ancestors", position, tensor));
    let draw = |which: usize, i: usize| bell((streams[which].bits((start + i) as u64) >> 32) as u32);
    let bells = |i: usize| SPREAD[0] * draw(0, i) + SPREAD[1] * draw(1, i);
    (0..n).flat_map(|i| half::bf16::from_f32(bells(i)).to_le_bytes()).collect()
}

/// A number that is nearly normally distributed: the sum of four bytes, and a fraction.
fn bell(draw: u32) -> f32 {
    let sum: u32 = draw.to_le_bytes().iter().map(|byte| u32::from(*byte)).sum();
    let fraction = draw.wrapping_mul(0x9E37_79B9) as f32 / u32::MAX as f32;
    (sum as f32 + fraction - 510.5) / 147.8
}
