//! Checkpoints that PyTorch pickled: what is read of them, and what is refused.

use std::collections::BTreeMap;
use std::fs;

use safetensors::{Dtype, SafeTensors};

use crate::harness::{Space, project};

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors(path: &std::path::Path) -> Tensors {
    let bytes = fs::read(path).expect("the file can be read");
    let file = SafeTensors::deserialize(&bytes).expect("the file is sound");
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(tensor).collect()
}

/// A space whose `model` has a fixture as its pytorch_model.bin, and a recipe that copies it.
fn with_fixture(name: &str) -> Space {
    let space = Space::new();
    space.write("model/config.json", "{\"model_type\": \"x\"}");
    space.write("model/pytorch_model.bin", fs::read(project("tests/fixtures/pickled").join(name)).unwrap());
    space.write("recipe.yaml", "name: copy\nmerge_method: passthrough\nmodels: [{model: ./model}]\n");
    space
}

#[test]
fn views_windows_and_every_dtype_are_read_as_torch_reads_them() {
    let space = with_fixture("views.bin");
    space.ok(&["build", "recipe.yaml"]);
    let found = tensors(&space.path("merges/copy/model.safetensors"));
    let expected = tensors(&project("tests/fixtures/pickled/views.safetensors"));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, tensor) in &expected {
        assert_eq!(&found[name], tensor, "{name}");
    }
    assert_eq!(space.build(&["recipe.yaml"]).ran.len(), 0, "nothing is made twice");
    space.ok(&["verify", "merges/copy", "--rebuild"]);
}

#[test]
fn digests_are_those_of_the_tensors_as_they_are_meant() {
    let space = with_fixture("views.bin");
    space.write("same/config.json", "{\"model_type\": \"x\"}");
    let same = fs::read(project("tests/fixtures/pickled/views.safetensors")).unwrap();
    space.write("same/model.safetensors", same);
    let digests = |model: &str| {
        let run = space.ok(&["inspect", model, "--digests", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        json["tensors"].clone()
    };
    assert_eq!(digests("model"), digests("same"));
}

#[test]
fn an_edit_of_one_tensor_makes_that_one_anew() {
    let space = with_fixture("views.bin");
    space.write(
        "recipe.yaml",
        "name: copy\nmerge_method: linear\nmodels: [{model: ./model, parameters: {weight: 2}}]\n\
        parameters: {normalize: false}\ndtype: float32\n",
    );
    let first = space.build(&["recipe.yaml"]).ran.len();
    assert!(first > 0);
    crate::harness::settle();
    // A float of the tensor `plain`, which is stored first.
    let mut bytes = fs::read(space.path("model/pytorch_model.bin")).unwrap();
    let plain = &tensors(&project("tests/fixtures/pickled/views.safetensors"))["plain"].2;
    let at = bytes.windows(plain.len()).position(|window| window == plain).expect("it is stored as it is");
    bytes[at] ^= 1;
    space.write("model/pytorch_model.bin", bytes);
    let built = space.build(&["recipe.yaml"]);
    assert_eq!(built.ran.iter().map(|(_, tensor)| tensor.as_str()).collect::<Vec<_>>(), ["plain"]);
}

#[test]
fn the_model_of_a_training_checkpoint_is_found_and_the_rest_told_of() {
    let space = with_fixture("training.ckpt");
    let run = space.ok(&["build", "recipe.yaml", "-v"]);
    assert!(run.stderr.contains("left out: `epoch`, `lr`, `optimizer`"), "{}", run.stderr);
    let found = tensors(&space.path("merges/copy/model.safetensors"));
    assert_eq!(found, tensors(&project("tests/fixtures/pickled/training.safetensors")));
}

#[test]
fn what_is_not_plain_tensors_is_refused_with_the_reason() {
    for (fixture, reason) in [
        ("hostile.bin", "`posix.mkdir`"),
        ("legacy.bin", "before 1.6"),
        ("protocol4.pt", "protocol 4"),
        ("quantized.bin", "tensor `w` by `torch._utils._rebuild_qtensor`"),
        ("script.pt", "TorchScript"),
        ("module.pt", "`torch.nn.modules.linear.Linear`"),
    ] {
        let space = with_fixture(fixture);
        let told = space.fails(1, &["build", "recipe.yaml"]);
        assert!(told.contains(reason) && told.contains("pytorch_model.bin"), "{fixture}: {told}");
        assert!(!space.path("merges").exists());
    }
    assert!(!std::path::Path::new("/tmp/lamarck-a-pickle-ran").exists());
}

#[test]
fn damage_is_told_at_every_byte() {
    let whole = fs::read(project("tests/fixtures/pickled/training.ckpt")).unwrap();
    let space = with_fixture("training.ckpt");
    let mut refused = 0;
    for cut in (0..whole.len()).step_by(97) {
        space.write("model/pytorch_model.bin", &whole[..cut]);
        let told = space.fails(1, &["check", "recipe.yaml"]);
        assert!(told.contains("pytorch_model.bin") && !told.contains("panicked"), "{told}");
        let mut flipped = whole.clone();
        flipped[cut] ^= 0xff;
        space.write("model/pytorch_model.bin", flipped);
        let run = space.run(&["check", "recipe.yaml"]);
        assert!([0, 1].contains(&run.code) && !run.stderr.contains("panicked"), "{cut}: {}", run.stderr);
        refused += run.code;
    }
    assert!(refused > 0);
}

#[test]
fn safetensors_beside_a_pickle_count() {
    let space = with_fixture("training.ckpt");
    let other = fs::read(project("tests/fixtures/pickled/views.safetensors")).unwrap();
    space.write("model/model.safetensors", other);
    space.ok(&["build", "recipe.yaml"]);
    assert!(tensors(&space.path("merges/copy/model.safetensors")).contains_key("plain"));
}
