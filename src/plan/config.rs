//! The config.json of a stage's output: the donor's, with every key that the merge changes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::catalog::Inventory;
use super::segments::Segment;
use super::stage_shape::OutputTensor;
use crate::model::layout::{Layout, is_head, is_token_embedding, layer_count_keys, per_layer_lists};
use crate::recipe::{Body, ModuleBody, Reference, Stage};
use crate::tensor::Dtype;

/// Makes the output's config.json. Layer counts and lists with an entry a layer follow the slices; the
/// dtype is the output's; a head that was merged is not declared tied.
pub fn output_config<'r>(
    stage: &Stage,
    donor: &Inventory,
    segments: &[Segment<'_>],
    outputs: &BTreeMap<String, OutputTensor<'_>>,
    inventory: &dyn Fn(&Reference) -> &'r Inventory,
) -> Value {
    let mut config = donor.config.clone();
    for (module, layout) in donor.layout.modules.iter().enumerate() {
        let own: Vec<&Segment<'_>> = segments.iter().filter(|segment| segment.module == module).collect();
        if is_sliced(stage, &donor.layout, module) {
            set_layers(&mut config, donor, layout.layers, &own, inventory);
        }
    }
    set_dtype(&mut config, stage, outputs);
    untie(&mut config, outputs);
    config
}

fn is_sliced(stage: &Stage, layout: &Layout, module: usize) -> bool {
    match &stage.body {
        Body::Models(_) => false,
        Body::Slices(_) => true,
        Body::Modules(modules) => modules.iter().any(|listed| {
            layout.module(&listed.name.value) == Some(module) && matches!(listed.body, ModuleBody::Slices(_))
        }),
    }
}

fn set_layers<'r>(
    config: &mut Value,
    donor: &Inventory,
    donor_layers: usize,
    segments: &[&Segment<'_>],
    inventory: &dyn Fn(&Reference) -> &'r Inventory,
) {
    let total: usize = segments.iter().map(|segment| segment.layers).sum();
    for (pointer, count) in layer_count_keys(&donor.config) {
        if count == donor_layers {
            replace(config, &pointer, total.into());
        }
    }
    for pointer in per_layer_lists(&donor.config, donor_layers) {
        let entry = |reference: &Reference, layer: usize| {
            let list = inventory(reference).config.pointer(&pointer)?.as_array()?;
            list.get(layer).cloned()
        };
        // Each output layer keeps what its own layer had in the slice's first source.
        let list: Option<Vec<Value>> = segments
            .iter()
            .flat_map(|segment| {
                let source = &segment.sources[0];
                (source.start..source.start + segment.layers).map(move |layer| entry(source.reference, layer))
            })
            .collect();
        if let Some(list) = list {
            replace(config, &pointer, list.into());
        }
    }
    // Qwen2 counts the layers without sliding window here; past the last layer it means all of them.
    if let Some(value) = config.get_mut("max_window_layers")
        && let Some(count) = value.as_u64()
        && (count as usize >= donor_layers || count as usize > total)
    {
        *value = total.into();
    }
}

fn set_dtype(config: &mut Value, stage: &Stage, outputs: &BTreeMap<String, OutputTensor<'_>>) {
    let asked = stage.out_dtype.as_ref().or(stage.dtype.as_ref()).map(|dtype| dtype.value);
    let common = || {
        let mut floats = outputs.values().map(|output| output.spec.dtype).filter(|dtype| dtype.is_float());
        let first = floats.next()?;
        Some(floats.fold(first, Dtype::promote))
    };
    let Some(name) = asked.or_else(common).and_then(Dtype::recipe_name) else { return };
    if !rename_dtypes(config, name)
        && let Some(object) = config.as_object_mut()
    {
        object.insert("dtype".to_owned(), name.into());
    }
}

/// Sets every dtype that the config names, of nested models too; says whether there was one on top.
fn rename_dtypes(config: &mut Value, name: &str) -> bool {
    let mut found = false;
    for (key, value) in config.as_object_mut().into_iter().flatten() {
        if matches!(key.as_str(), "dtype" | "torch_dtype") && !value.is_object() {
            *value = name.into();
            found = true;
        } else if key.ends_with("_config") {
            rename_dtypes(value, name);
        }
    }
    found
}

/// Declares a head of its own untied wherever the embedding might be taken for it.
fn untie(config: &mut Value, outputs: &BTreeMap<String, OutputTensor<'_>>) {
    let Some((_, head)) = outputs.iter().find(|(name, _)| is_head(name)) else { return };
    let some_tie = head.parts.iter().any(|part| is_token_embedding(&part.tensor));
    let declared = config.get("tie_word_embeddings").and_then(Value::as_bool);
    if (declared == Some(true) || (declared.is_none() && some_tie))
        && let Some(object) = config.as_object_mut()
    {
        object.insert("tie_word_embeddings".to_owned(), false.into());
    }
    if let Some(nested) = config.pointer_mut("/text_config/tie_word_embeddings") {
        *nested = false.into();
    }
}

fn replace(config: &mut Value, pointer: &str, value: Value) {
    if let Some(place) = config.pointer_mut(pointer) {
        *place = value;
    }
}
