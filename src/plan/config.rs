//! The config.json of a stage's output: the donor's, with every key that the merge changes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::catalog::Inventory;
use super::segments::Segment;
use super::stage_shape::OutputTensor;
use crate::model::layer_keys::{Kind, LayerKey, layer_keys, of_layer, of_layers};
use crate::model::layout::{Layout, is_head, is_token_embedding};
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
    for module in 0..donor.layout.modules.len() {
        let own: Vec<&Segment<'_>> = segments.iter().filter(|segment| segment.module == module).collect();
        if is_sliced(stage, &donor.layout, module) {
            set_layers(&mut config, donor, module, &own, inventory);
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
            layout.named(&listed.name.value).contains(&module) && matches!(listed.body, ModuleBody::Slices(_))
        }),
    }
}

/// Has every key that goes by a module's layers say of the output's layers what it says of them in the models that they
/// come from, each in the first of its slice.
fn set_layers<'r>(
    config: &mut Value,
    donor: &Inventory,
    module: usize,
    segments: &[&Segment<'_>],
    inventory: &dyn Fn(&Reference) -> &'r Inventory,
) {
    let layers = segments.iter().flat_map(|segment| {
        let source = &segment.sources[0];
        (source.start..source.start + segment.layers).map(|layer| (source.reference, layer))
    });
    let layers: Vec<(&Reference, usize)> = layers.collect();
    let depth = donor.layout.modules[module].layers;
    for LayerKey { pointer, kind } in layer_keys(&donor.config, &donor.layout, module) {
        let now = match kind {
            Kind::Count | Kind::Last => of_layers(kind, vec![Value::Null; layers.len()]),
            Kind::Windowless => {
                let count = donor.config.pointer(&pointer).and_then(Value::as_u64).unwrap_or(0) as usize;
                if count < depth && count <= layers.len() {
                    continue;
                }
                layers.len().into()
            }
            _ => {
                let said = layers.iter().map(|(reference, layer)| {
                    let value = same_key(&inventory(reference).config, &pointer);
                    let of_donor = || of_layer(kind, donor.config.pointer(&pointer)?, *layer);
                    value.and_then(|value| of_layer(kind, value, *layer)).or_else(of_donor)
                });
                let Some(said) = said.collect::<Option<Vec<Value>>>() else { continue };
                of_layers(kind, said)
            }
        };
        if let Some(place) = config.pointer_mut(&pointer) {
            *place = now;
        }
    }
}

/// What a config has under a key, or under the same one in the configuration of its text model or outside of it.
fn same_key<'c>(config: &'c Value, pointer: &str) -> Option<&'c Value> {
    let key = pointer.rsplit('/').next().unwrap_or_default();
    let nested = || config.pointer(&format!("/text_config/{key}"));
    config.pointer(pointer).or_else(nested).or_else(|| config.get(key))
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
    const KEY: &str = "tie_word_embeddings";
    let Some((_, head)) = outputs.iter().find(|(name, _)| is_head(name)) else { return };
    let some_tie = head.parts.iter().any(|part| is_token_embedding(&part.tensor));
    let Some(object) = config.as_object_mut() else { return };
    let declared = object.get(KEY).and_then(Value::as_bool);
    if declared == Some(true) || (declared.is_none() && some_tie) {
        object.insert(KEY.to_owned(), false.into());
    }
    for nested in ["text_config", "llm_config", "language_config", "decoder"] {
        if let Some(nested) = object.get_mut(nested).and_then(|nested| nested.get_mut(KEY)) {
            *nested = false.into();
        }
    }
}
