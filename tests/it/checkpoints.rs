//! Tiny checkpoints: made, read and compared with another reader than the project's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

/// A tensor in f64, as read by the safetensors crate.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// Reads every tensor of a checkpoint, of one shard or of several.
pub fn read(dir: &Path) -> BTreeMap<String, Tensor> {
    let index = dir.join("model.safetensors.index.json");
    let mut tensors = BTreeMap::new();
    if let Ok(text) = fs::read_to_string(&index) {
        let index: Value = serde_json::from_str(&text).expect("the index is JSON");
        let map = index["weight_map"].as_object().expect("the index has a map");
        let mut shards: Vec<&str> = map.values().map(|name| name.as_str().expect("names are text")).collect();
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            for (name, tensor) in read_shard(&dir.join(shard)) {
                assert_eq!(map[&name], *shard, "the index is right about {name}");
                tensors.insert(name, tensor);
            }
        }
        assert_eq!(tensors.len(), map.len(), "the index names every tensor");
    } else {
        tensors = read_shard(&dir.join("model.safetensors"));
    }
    tensors
}

fn read_shard(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let shard = SafeTensors::deserialize(&bytes).expect("the shard is sound");
    shard.tensors().into_iter().map(|(name, view)| (name, decode(&view))).collect()
}

fn decode(view: &TensorView<'_>) -> Tensor {
    let bytes = view.data();
    let values = match view.dtype() {
        Dtype::F32 => {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect()
        }
        Dtype::BF16 => {
            bytes.chunks_exact(2).map(|b| bf16::from_le_bytes(b.try_into().unwrap()).into()).collect()
        }
        Dtype::F16 => {
            bytes.chunks_exact(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).into()).collect()
        }
        Dtype::I64 => {
            bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()
        }
        other => panic!("{other:?} does not occur in these tests"),
    };
    Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), values }
}

/// A checkpoint in the making: f32 tensors with values that depend on the name and a seed.
#[derive(Clone)]
pub struct Checkpoint {
    pub config: Value,
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Checkpoint {
    pub fn new(config: Value) -> Self {
        Self { config, tensors: BTreeMap::new() }
    }

    /// A Qwen2-like decoder of `layers` layers with a hidden size of 4 and an own head.
    pub fn decoder(layers: usize, seed: u64) -> Self {
        let config = json!({
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_hidden_layers": layers,
            "hidden_size": 4, "vocab_size": 8, "tie_word_embeddings": false, "torch_dtype": "float32",
            "layer_types": vec!["full_attention"; layers],
        });
        let mut checkpoint = Self::new(config);
        checkpoint.random("model.embed_tokens.weight", &[8, 4], seed);
        for layer in 0..layers {
            checkpoint.random(&format!("model.layers.{layer}.self_attn.q_proj.weight"), &[4, 4], seed);
            checkpoint.random(&format!("model.layers.{layer}.mlp.up_proj.weight"), &[6, 4], seed);
            checkpoint.random(&format!("model.layers.{layer}.input_layernorm.weight"), &[4], seed);
        }
        checkpoint.random("model.norm.weight", &[4], seed);
        checkpoint.random("lm_head.weight", &[8, 4], seed);
        checkpoint
    }

    /// Adds a tensor of values in (-1, 1) that depend on name and seed only.
    pub fn random(&mut self, name: &str, shape: &[usize], seed: u64) {
        let mut state = name.bytes().fold(seed ^ 0x9e37_79b9_7f4a_7c15, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut next = || {
            // Marsaglia's xorshift64.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        self.f32(name, shape, &values);
    }

    pub fn f32(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), (Dtype::F32, shape.to_vec(), bytes));
    }

    pub fn i64(&mut self, name: &str, shape: &[usize], values: &[i64]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), (Dtype::I64, shape.to_vec(), bytes));
    }

    /// Adds a tensor of eight-bit floats.
    pub fn f8(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) {
        self.tensors.insert(name.to_owned(), (dtype, shape.to_vec(), bytes.to_vec()));
    }

    /// Adds a tensor of unsigned bytes.
    pub fn u8(&mut self, name: &str, shape: &[usize], bytes: &[u8]) {
        self.tensors.insert(name.to_owned(), (Dtype::U8, shape.to_vec(), bytes.to_vec()));
    }

    /// A tensor's values, of those in f32.
    pub fn values(&self, name: &str) -> Vec<f32> {
        let (dtype, _, bytes) = &self.tensors[name];
        assert_eq!(*dtype, Dtype::F32);
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("chunks of four"))).collect()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn remove(&mut self, name: &str) {
        assert!(self.tensors.remove(name).is_some(), "{name} was there");
    }

    /// Stores every tensor in bfloat16.
    pub fn bf16(mut self) -> Self {
        for (dtype, _, bytes) in self.tensors.values_mut().filter(|(dtype, ..)| *dtype == Dtype::F32) {
            let half = bytes.chunks_exact(4).flat_map(|b| {
                bf16::from_f32(f32::from_le_bytes(b.try_into().expect("chunks of four"))).to_le_bytes()
            });
            *bytes = half.collect();
            *dtype = Dtype::BF16;
        }
        self
    }

    /// Writes the checkpoint's folder.
    pub fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).expect("folders can be made");
        fs::write(dir.join("config.json"), self.config.to_string()).expect("there is room");
        let views = self.tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).expect("the shape fits"))
        });
        let bytes = safetensors::serialize(views, None).expect("the tensors can be written");
        fs::write(dir.join("model.safetensors"), bytes).expect("there is room");
    }
}
