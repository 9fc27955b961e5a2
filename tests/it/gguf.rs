//! Models in GGUF files: read as the checkpoints that they were made from, or refused with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use safetensors::{Dtype, SafeTensors};

use crate::harness::{Space, copy_dir, project, scaled};

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("the file is sound");
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(tensor).collect()
}

fn fixture(name: &str) -> std::path::PathBuf {
    project("tests/fixtures/gguf").join(name)
}

fn recipe(model: &str, dtype: &str) -> String {
    format!("name: x\nmerge_method: passthrough\nmodels: [{{model: {model}}}]\ndtype: {dtype}\n")
}

/// A space with a fixture as `m` and a recipe that copies it.
fn with_fixture(name: &str, dtype: &str) -> Space {
    let space = Space::new();
    copy_dir(&fixture(name), &space.path("m"));
    fs::remove_dir_all(space.path("m/original")).unwrap();
    space.write("r.yaml", recipe("./m", dtype));
    space
}

#[test]
fn a_gguf_file_gives_the_bytes_of_the_checkpoint_that_it_was_made_from() {
    for (name, dtype) in [
        ("llama", "bfloat16"),
        ("qwen2", "float32"),
        ("qwen3", "float16"),
        ("gemma2", "bfloat16"),
        ("gemma3", "bfloat16"),
        ("phi3", "float32"),
    ] {
        let space = with_fixture(name, dtype);
        space.ok(&["build", "-q", "r.yaml", "--deny-warnings"]);
        let found = tensors(&space.path("merges/x/model.safetensors"));
        let expected = tensors(&fixture(name).join("original/model.safetensors"));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (tensor, expected) in &expected {
            assert_eq!(&found[tensor], expected, "{name}: {tensor}");
        }
        assert_eq!(space.build(&["r.yaml"]).ran.len(), 0, "{name}");
        space.ok(&["verify", "merges/x", "--rebuild"]);
        let said = space.ok(&["check", "r.yaml"]).stderr;
        assert!(said.contains("note[gguf-tokenizer]"), "{said}");
    }
}

#[test]
fn q8_0_is_read_as_the_numbers_that_it_stands_for() {
    let space = with_fixture("q8", "float32");
    space.ok(&["build", "-q", "r.yaml"]);
    let found = tensors(&space.path("merges/x/model.safetensors"));
    let expected = tensors(&fixture("q8").join("original/dequantised.safetensors"));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (tensor, expected) in &expected {
        assert_eq!(&found[tensor], expected, "{tensor}");
    }
}

#[test]
fn a_config_is_made_where_the_metadata_tell_all_of_it() {
    for (name, dtype) in
        [("llama", "bfloat16"), ("qwen2", "float32"), ("qwen3", "float16"), ("q8", "float32")]
    {
        let space = with_fixture(name, dtype);
        space.ok(&["build", "-q", "r.yaml"]);
        let made = space.json("merges/x/config.json");
        let original: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(fixture(name).join("original/config.json")).unwrap())
                .unwrap();
        for key in [
            "architectures",
            "model_type",
            "dtype",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "max_position_embeddings",
            "rms_norm_eps",
            "vocab_size",
            "tie_word_embeddings",
            "hidden_act",
            "bos_token_id",
            "eos_token_id",
        ] {
            assert_eq!(made[key], original[key], "{name}: {key}");
        }
        assert_eq!(made["rope_theta"], 10_000.0);
    }
    for name in ["gemma2", "gemma3", "phi3"] {
        let space = with_fixture(name, "bfloat16");
        fs::remove_file(space.path("m/config.json")).unwrap();
        refuses(&space, &["m/model.gguf", "no config.json beside it", name]);
    }
}

#[test]
fn a_gguf_file_can_be_named_and_merged_with_safetensors() {
    let space = with_fixture("llama", "bfloat16");
    fs::rename(space.path("m/model.gguf"), space.path("m/any-name.BF16.gguf")).unwrap();
    copy_dir(&fixture("llama").join("original"), &space.path("original"));
    for model in ["./m", "./m/any-name.BF16.gguf"] {
        space.write(
            "r.yaml",
            format!(
                "name: x\nmerge_method: linear\nmodels: [{{model: {model}}}, {{model: ./original}}]\n\
                 parameters: {{weight: 0.5}}\ndtype: bfloat16\n"
            ),
        );
        space.ok(&["build", "-q", "r.yaml", "--deny-warnings"]);
        let original = tensors(&space.path("original/model.safetensors"));
        assert_eq!(tensors(&space.path("merges/x/model.safetensors")), original);
    }
    // Digests are those of the tensors as they are meant; vectors are wider here.
    let digests = |model: &str| {
        let document = space.document(&["inspect", model, "--digests"]);
        let list = document["tensors"].as_array().unwrap().clone();
        list.into_iter()
            .filter(|tensor| !tensor["name"].as_str().unwrap().contains("norm"))
            .collect::<Vec<_>>()
    };
    assert_eq!(digests("m"), digests("original"));
}

#[test]
fn which_file_and_which_config_is_meant_must_be_clear() {
    let space = with_fixture("gemma2", "bfloat16");
    fs::copy(space.path("m/model.gguf"), space.path("m/other.gguf")).unwrap();
    refuses(&space, &["name one of them", "m/model.gguf"]);
    space.write("r.yaml", recipe("./m/other.gguf", "bfloat16"));
    space.ok(&["build", "-q", "r.yaml"]);
    let space = with_fixture("gemma2", "bfloat16");
    space.replace("m/config.json", "\"hidden_size\": 8", "\"hidden_size\": 16");
    refuses(&space, &["m/config.json", "`hidden_size` 16", "has 8"]);
    // Where there are safetensors too, they count.
    copy_dir(&fixture("gemma2").join("original"), &space.path("m"));
    space.ok(&["build", "-q", "r.yaml"]);
}

/// A GGUF file by hand, of no tensors but those given with their type and bytes.
struct Made {
    pairs: Vec<u8>,
    n_pairs: u64,
    tensors: Vec<u8>,
    n_tensors: u64,
    data: Vec<u8>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Made {
    fn new(architecture: &str) -> Self {
        let mut made = Self { pairs: vec![], n_pairs: 0, tensors: vec![], n_tensors: 0, data: vec![] };
        made.pair("general.architecture", 8, &text(architecture));
        made
    }

    fn pair(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.pairs.extend([&text(key)[..], &kind.to_le_bytes(), value].concat());
        self.n_pairs += 1;
    }

    fn tensor(&mut self, name: &str, dims: &[u64], kind: u32, offset: u64) {
        let dims_bytes: Vec<u8> = dims.iter().flat_map(|n| n.to_le_bytes()).collect();
        let rank = (dims.len() as u32).to_le_bytes();
        self.tensors.extend(
            [&text(name)[..], &rank, &dims_bytes, &kind.to_le_bytes(), &offset.to_le_bytes()].concat(),
        );
        self.n_tensors += 1;
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.n_tensors.to_le_bytes());
        bytes.extend(self.n_pairs.to_le_bytes());
        bytes.extend(&self.pairs);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

#[test]
fn files_that_lie_are_refused_with_the_tensor_named() {
    let name = "blk.0.attn_norm.weight";
    let made = |work: &dyn Fn(&mut Made)| {
        let mut made = Made::new("qwen2");
        made.data = vec![0; 64];
        work(&mut made);
        made.bytes()
    };
    let with = |from: usize, bytes: &[u8]| {
        let mut whole = made(&|made| made.tensor(name, &[4], 0, 0));
        whole[from..from + bytes.len()].copy_from_slice(bytes);
        whole
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "too short"),
        (with(0, b"GGML"), "does not begin like one"),
        (with(4, &[0, 0, 0, 3]), "big-endian"),
        (with(4, &[1, 0, 0, 0]), "version 1"),
        (with(8, &u64::MAX.to_le_bytes()), "18446744073709551615 tensors"),
        (with(8, &1_000_000u64.to_le_bytes()), "truncated or damaged"),
        (with(16, &(1u64 << 40).to_le_bytes()), "1099511627776 pairs"),
        (with(24, &u64::MAX.to_le_bytes()), "truncated or damaged"),
        (made(&|made| made.tensor(name, &[4], 0, 32 * 3)), name),
        (made(&|made| made.tensor(name, &[4], 0, u64::MAX - 31)), name),
        (made(&|made| made.tensor(name, &[4], 0, 4)), "not a multiple of 32"),
        (made(&|made| made.tensor(name, &[1 << 40, 1 << 40], 0, 0)), "impossible shape"),
        (made(&|made| made.tensor(name, &[0, 1 << 60], 0, 0)), "impossible shape"),
        (made(&|made| made.tensor(name, &[1; 5], 0, 0)), "5 axes"),
        (made(&|made| made.tensor(name, &[4], 99, 0)), "as type 99"),
        (made(&|made| made.tensor(name, &[256], 12, 0)), "as Q4_K, which lamarck does not support"),
        (made(&|made| made.tensor(name, &[33], 8, 0)), "Q8_0 with rows"),
        (made(&|made| made.tensor("blk.0.odd.weight", &[4], 0, 0)), "`blk.0.odd.weight`"),
        (
            made(&|made| {
                made.tensor(name, &[4], 0, 0);
                made.tensor(name, &[4], 0, 32);
            }),
            "twice",
        ),
        (
            made(&|made| {
                made.tensor(name, &[12], 0, 0);
                made.tensor("output_norm.weight", &[4], 0, 32);
            }),
            "overlapping tensors",
        ),
        (made(&|made| made.pair("general.alignment", 4, &3u32.to_le_bytes())), "not a power of two"),
        (made(&|made| made.pair("general.alignment", 4, &0u32.to_le_bytes())), "not a power of two"),
        (made(&|made| made.pair("split.count", 2, &3u16.to_le_bytes())), "one of 3 parts"),
        (made(&|made| made.pair("general.architecture", 8, &text("llama"))), "twice"),
        (made(&|made| made.pair("x", 77, &[])), "type 77"),
        (made(&|made| made.pair("x", 9, &[9, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255])), "truncated"),
        (made(&|made| made.pair("x", 9, &[4, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255])), "truncated"),
        (made(&|made| made.pair("x", 9, &[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].repeat(100))), "too deeply"),
        (Made::new("mamba").bytes(), "`mamba`"),
    ];
    for (bytes, words) in cases {
        let space = Space::new();
        space.write("m/model.gguf", bytes);
        space.write("r.yaml", recipe("./m", "float32"));
        refuses(&space, &["m/model.gguf", words]);
    }
}

#[track_caller]
fn refuses(space: &Space, words: &[&str]) {
    let said = space.fails(1, &["build", "r.yaml"]);
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    assert!(!said.contains("panicked") && !space.path("merges").exists(), "{said}");
}

/// Heads of files changed at random: no panic, no endless work.
#[test]
fn files_changed_at_random() {
    let space = with_fixture("llama", "bfloat16");
    let sound = fs::read(space.path("m/model.gguf")).unwrap();
    let changes = prop::collection::vec((0..1400_usize, any::<u8>()), 1..4);
    let mut runner =
        TestRunner::new(Config { cases: scaled(300, 3000), failure_persistence: None, ..Config::default() });
    let result = runner.run(&changes, |changes| {
        let mut bytes = sound.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        fs::write(space.path("m/model.gguf"), bytes).unwrap();
        let run = space.run(&["build", "-q", "r.yaml"]);
        let is_told = run.code == 0 || (run.code == 1 && run.stderr.contains("error"));
        if !is_told || run.stderr.contains("panicked") {
            return Err(TestCaseError::fail(format!("{}: {}", run.code, run.stderr)));
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn files_cut_off_anywhere() {
    let space = with_fixture("llama", "bfloat16");
    let whole = fs::read(space.path("m/model.gguf")).unwrap();
    for length in (0..whole.len() - 32).step_by(41) {
        space.write("m/model.gguf", &whole[..length]);
        refuses(&space, &["m/model.gguf"]);
    }
}
