//! Safetensors: a JSON header and bare bytes, in one file or in several with an index.
//!
//! Data starts at a multiple of a page and tensors that fill whole pages come first, so that file
//! systems that can share blocks need not copy them. The header's text is fixed by its tensors, unlike
//! the safetensors crate's, whose metadata has no fixed order.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::json;

use super::layout::{Format, OutputLayout, PlacedTensor, ShardLayout};
use crate::model::safetensors::LENGTH_BYTES;
use crate::tensor::TensorSpec;

/// The file that says which shard holds which tensor.
const INDEX: &str = "model.safetensors.index.json";

/// The file that holds a model of one shard.
const SINGLE: &str = "model.safetensors";

const PAGE: usize = 4096;

/// About as many bytes as a tensor takes in a header.
const USUAL: usize = 150;

pub(super) struct Safetensors;

impl Format for Safetensors {
    /// Takes tensors in the order of the model's layers.
    fn lay_out(&self, tensors: &BTreeMap<String, TensorSpec>, shard_bytes: u64) -> OutputLayout {
        let mut ordered: Vec<(&String, &TensorSpec)> = tensors.iter().collect();
        ordered.sort_by_cached_key(|(name, _)| natural_key(name));
        let mut groups: Vec<Vec<(&String, &TensorSpec)>> = vec![Vec::new()];
        let mut filled = 0;
        for (name, spec) in ordered {
            let n_bytes = spec.n_bytes() as u64;
            if filled > 0 && filled + n_bytes > shard_bytes {
                groups.push(Vec::new());
                filled = 0;
            }
            filled += n_bytes;
            groups.last_mut().expect("there is always a group").push((name, spec));
        }
        let n_groups = groups.len();
        let shards: Vec<ShardLayout> =
            groups.into_iter().enumerate().map(|(i, group)| shard(file_name(i, n_groups), group)).collect();
        let index = (n_groups > 1).then(|| (INDEX.to_owned(), index(&shards).into_bytes()));
        OutputLayout { shards, beside: index.into_iter().collect() }
    }

    fn is_weights(&self, name: &str) -> bool {
        name.ends_with(".safetensors")
    }

    fn entry_names(&self) -> &'static [&'static str] {
        &[INDEX, SINGLE]
    }

    /// A file of one shard's name is taken for the whole model, whatever the index says.
    fn shadows(&self, has: &dyn Fn(&str) -> bool) -> &'static [&'static str] {
        if has(INDEX) { &[SINGLE] } else { &[] }
    }
}

fn index(shards: &[ShardLayout]) -> String {
    let total: usize =
        shards.iter().flat_map(|shard| &shard.tensors).map(|tensor| tensor.spec.n_bytes()).sum();
    let map: BTreeMap<&str, &str> = shards
        .iter()
        .flat_map(|shard| shard.tensors.iter().map(|tensor| (tensor.name.as_str(), shard.file.as_str())))
        .collect();
    let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
    serde_json::to_string_pretty(&index).expect("JSON values serialise") + "\n"
}

fn file_name(number: usize, of: usize) -> String {
    if of == 1 { SINGLE.to_owned() } else { format!("model-{:05}-of-{of:05}.safetensors", number + 1) }
}

fn shard(file: String, mut tensors: Vec<(&String, &TensorSpec)>) -> ShardLayout {
    tensors.sort_by_key(|(name, spec)| (spec.n_bytes() % PAGE != 0, *name));
    let mut header = Vec::with_capacity(tensors.len() * USUAL);
    header.resize(LENGTH_BYTES, 0);
    entries(&tensors, &mut header).expect("JSON values serialise");
    header.resize(header.len().next_multiple_of(PAGE), b' ');
    let n_bytes = (header.len() - LENGTH_BYTES) as u64;
    header[..LENGTH_BYTES].copy_from_slice(&n_bytes.to_le_bytes());
    let mut at = header.len() as u64;
    let tensors = tensors
        .into_iter()
        .map(|(name, spec)| {
            let placed = PlacedTensor { name: name.clone(), spec: spec.clone(), offset: at };
            at += spec.n_bytes() as u64;
            placed
        })
        .collect();
    ShardLayout { file, header, tensors, n_bytes: at }
}

/// Writes the JSON of a header.
fn entries(tensors: &[(&String, &TensorSpec)], into: &mut Vec<u8>) -> serde_json::Result<()> {
    #[derive(Serialize)]
    struct Entry<'a> {
        dtype: &'a str,
        shape: &'a [usize],
        data_offsets: [usize; 2],
    }

    let mut serializer = serde_json::Serializer::new(into);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("__metadata__", &json!({ "format": "pt" }))?;
    let mut offset = 0;
    for (name, spec) in tensors {
        let end = offset + spec.n_bytes();
        let (dtype, shape) = (spec.dtype.name(), spec.shape.0.as_slice());
        map.serialize_entry(name, &Entry { dtype, shape, data_offsets: [offset, end] })?;
        offset = end;
    }
    map.end()
}

/// Sorts numbers in names by value, so that layer 2 comes before layer 10.
fn natural_key(name: &str) -> Vec<(u64, String)> {
    name.split('.')
        .map(|part| part.parse().map_or((u64::MAX, part.to_owned()), |n| (n, String::new())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    use crate::tensor::{Dtype, Shape};
    use proptest::prelude::*;

    fn spec(n: usize) -> TensorSpec {
        TensorSpec { dtype: Dtype::F32, shape: Shape(vec![n]) }
    }

    fn cut(tensors: &BTreeMap<String, TensorSpec>, shard_bytes: u64) -> OutputLayout {
        Safetensors.lay_out(tensors, shard_bytes)
    }

    fn bytes_of(shard: &ShardLayout) -> Vec<u8> {
        let mut bytes = shard.header.clone();
        bytes.resize(shard.n_bytes as usize, 7);
        bytes
    }

    #[test]
    fn one_shard_has_no_index_and_several_do() {
        let tensors = BTreeMap::from([("a".to_owned(), spec(10)), ("b".to_owned(), spec(10))]);
        assert_eq!(cut(&tensors, 80).beside, []);
        let layout = cut(&tensors, 79);
        assert_eq!(layout.shards[1].file, "model-00002-of-00002.safetensors");
        let [(name, index)] = layout.beside.as_slice() else { panic!("there is no index") };
        assert_eq!(name, INDEX);
        let index: Value = serde_json::from_slice(index).unwrap();
        assert_eq!(index["weight_map"]["b"], "model-00002-of-00002.safetensors");
        assert_eq!(index["metadata"]["total_size"], 80);
    }

    #[test]
    fn layers_are_in_the_order_of_their_numbers() {
        let tensors = ["h.10.w", "h.2.w", "h.1.w"].map(|name| (name.to_owned(), spec(1))).into();
        let shards = cut(&tensors, 4).shards;
        let order: Vec<&str> = shards.iter().map(|shard| shard.tensors[0].name.as_str()).collect();
        assert_eq!(order, ["h.1.w", "h.2.w", "h.10.w"]);
    }

    proptest! {
        #[test]
        fn the_safetensors_crate_reads_what_is_laid_out(
            sizes in proptest::collection::btree_map("[a-z.\"\\\\0-9]{1,12}", 0usize..3000, 1..20),
            shard_bytes in 1u64..20_000,
        ) {
            let tensors: BTreeMap<String, TensorSpec> =
                sizes.iter().map(|(name, n)| (name.clone(), spec(*n))).collect();
            let mut seen = Vec::new();
            for shard in cut(&tensors, shard_bytes).shards {
                prop_assert_eq!(shard.header.len() % PAGE, 0);
                let bytes = bytes_of(&shard);
                let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
                for (name, view) in read.tensors() {
                    prop_assert_eq!(view.shape(), &[sizes[&name]]);
                    let offset = shard.tensors.iter().find(|tensor| tensor.name == name).unwrap().offset;
                    prop_assert_eq!(view.data().as_ptr() as usize - bytes.as_ptr() as usize, offset as usize);
                    seen.push(name);
                }
            }
            seen.sort();
            prop_assert_eq!(seen, sizes.into_keys().collect::<Vec<_>>());
        }
    }
}
