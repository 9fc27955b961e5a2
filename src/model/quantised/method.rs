//! What `quantization_config` says.

use serde_json::Value;

const KEY: &str = "quantization_config";

/// A block of weights that DeepSeek's scales go for where the configuration says nothing else.
const USUAL_BLOCK: [usize; 2] = [128, 128];

/// Methods of quantisation that are not undone, by what `quant_method` calls them.
const REFUSED: [(&str, &str); 24] = [
    ("aqlm", "AQLM"),
    ("auto-round", "AutoRound"),
    ("autoround", "AutoRound"),
    ("awq", "AWQ"),
    ("bitnet", "BitNet"),
    ("bitsandbytes", "bitsandbytes"),
    ("eetq", "EETQ"),
    ("exl2", "EXL2"),
    ("exl3", "EXL3"),
    ("fp_quant", "FP-Quant"),
    ("gguf", "GGUF"),
    ("gptq", "GPTQ"),
    ("higgs", "HIGGS"),
    ("hqq", "HQQ"),
    ("mxfp4", "MXFP4"),
    ("mxfp8", "MXFP8"),
    ("nvfp4", "NVFP4"),
    ("quanto", "Quanto"),
    ("quark", "Quark"),
    ("sinq", "SINQ"),
    ("spqr", "SpQR"),
    ("torchao", "torchao"),
    ("vptq", "VPTQ"),
    ("metal", "Metal"),
];

/// Eight-bit floats with scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Rows and columns that one scale goes for, where scales go for blocks.
    pub block: Option<[usize; 2]>,
}

impl Method {
    /// Reads what the configuration says; `None` if it says nothing.
    ///
    /// # Errors
    /// Names the method that is not undone, or what about one that is.
    pub fn read(config: &Value) -> Result<Option<Self>, String> {
        let mut found: Vec<Result<Self, String>> = places(config).map(of_method).collect();
        match found.len() {
            0 => Ok(None),
            _ => found.swap_remove(0).map(Some),
        }
    }
}

/// Removes what the configuration says.
pub fn forget(config: &mut Value) {
    let Some(keys) = config.as_object_mut() else { return };
    keys.shift_remove(KEY);
    for (_, nested) in keys.iter_mut().filter(|(key, _)| key.ends_with("_config")) {
        if let Some(keys) = nested.as_object_mut() {
            keys.shift_remove(KEY);
        }
    }
}

/// Every `quantization_config` of a model and of the models in it.
fn places(config: &Value) -> impl Iterator<Item = &Value> {
    let nested = config.as_object().into_iter().flatten().filter(|(key, _)| key.ends_with("_config"));
    std::iter::once(config)
        .chain(nested.map(|(_, nested)| nested))
        .filter_map(|config| config.get(KEY))
        .filter(|value| !value.is_null())
}

fn of_method(config: &Value) -> Result<Method, String> {
    let named = config.get("quant_method").and_then(Value::as_str).unwrap_or_default();
    match named.to_ascii_lowercase().as_str() {
        "fp8" => of_fp8(config),
        "fbgemm_fp8" => Ok(Method { block: None }),
        "modelopt" => of_modelopt(config),
        "compressed-tensors" => of_compressed_tensors(config),
        "" if ["load_in_4bit", "load_in_8bit"].iter().any(|key| config.get(key).is_some()) => {
            Err(refused("bitsandbytes"))
        }
        "" => Err(format!(
            "config.json has a `{KEY}` without a `quant_method`, so the quantisation cannot be undone"
        )),
        other => {
            let name = REFUSED.iter().find(|(method, _)| *method == other).map_or(named, |(_, name)| *name);
            Err(refused(name))
        }
    }
}

fn refused(name: &str) -> String {
    format!("config.json says that the model is quantised with {name}, which lamarck cannot undo")
}

fn of_fp8(config: &Value) -> Result<Method, String> {
    match config.get("weight_block_size") {
        None => Ok(Method { block: Some(USUAL_BLOCK) }),
        Some(Value::Null) => Ok(Method { block: None }),
        Some(size) => Ok(Method { block: Some(block(size)?) }),
    }
}

fn of_modelopt(config: &Value) -> Result<Method, String> {
    match config.get("quant_algo").and_then(Value::as_str) {
        Some("FP8") => Ok(Method { block: None }),
        algorithm => Err(refused(&format!("ModelOpt's {}", algorithm.unwrap_or("unnamed method")))),
    }
}

fn of_compressed_tensors(config: &Value) -> Result<Method, String> {
    let refused = |what: &str| Err(refused(&format!("compressed-tensors, {what}")));
    let is_set = |key: &str| {
        config.get(key).is_some_and(|value| match value {
            Value::Null => false,
            Value::Object(keys) => !keys.is_empty(),
            _ => true,
        })
    };
    if is_set("transform_config") {
        return refused("with a transform of the weights");
    }
    let is_sparse = config.pointer("/sparsity_config/format").and_then(Value::as_str);
    if is_sparse.is_some_and(|format| format != "dense") {
        return refused("with sparse weights");
    }
    if let Some(format) = config.get("format").and_then(Value::as_str)
        && !["float-quantized", "naive-quantized", "dense"].contains(&format)
    {
        return refused(&format!("in the format {format}"));
    }
    let Some(groups) = config.get("config_groups").and_then(Value::as_object) else {
        return refused("without `config_groups`");
    };
    let mut method = Method { block: None };
    for group in groups.values() {
        let is_asymmetric = |part: &str| group.pointer(&format!("/{part}/symmetric")) == Some(&false.into());
        if ["weights", "input_activations", "output_activations"].iter().any(|part| is_asymmetric(part)) {
            return refused("with zero points");
        }
        let weights = &group["weights"];
        let bits = weights.get("num_bits").and_then(Value::as_u64).unwrap_or(8);
        let kind = weights.get("type").and_then(Value::as_str).unwrap_or("int");
        if (bits, kind) != (8, "float") {
            return refused(&format!("to {bits} bits ({kind})"));
        }
        match weights.get("strategy").and_then(Value::as_str) {
            None | Some("tensor" | "channel") => {}
            Some("block") => {
                let size = Some(block(&weights["block_structure"])?);
                if method.block.is_some_and(|other| Some(other) != size) {
                    return refused("in blocks of several sizes");
                }
                method.block = size;
            }
            Some(other) => return refused(&format!("with one scale per {other}")),
        }
    }
    Ok(method)
}

/// Rows and columns of a block.
fn block(size: &Value) -> Result<[usize; 2], String> {
    let edge = |edge: &Value| usize::try_from(edge.as_u64()?).ok().filter(|edge| *edge > 0);
    match size.as_array().map(Vec::as_slice) {
        Some([rows, columns]) => edge(rows).zip(edge(columns)).map(<[usize; 2]>::from),
        _ => None,
    }
    .ok_or_else(|| {
        format!(
            "config.json gives {size} as the block size of scales, which is not a number of rows and columns"
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: Value) -> Result<Option<Method>, String> {
        Method::read(&json!({ KEY: config }))
    }

    fn groups(weights: Value) -> Value {
        json!({"quant_method": "compressed-tensors", "format": "float-quantized",
            "config_groups": {"group_0": {"weights": weights, "input_activations": {"dynamic": true}}}})
    }

    #[test]
    fn eight_bit_floats_are_understood() {
        let block = |block| Ok(Some(Method { block }));
        assert_eq!(read(json!(null)), Ok(None));
        assert_eq!(read(json!({"quant_method": "fp8"})), block(Some([128, 128])));
        assert_eq!(read(json!({"quant_method": "fp8", "weight_block_size": [8, 4]})), block(Some([8, 4])));
        assert_eq!(read(json!({"quant_method": "fp8", "weight_block_size": null})), block(None));
        assert_eq!(read(json!({"quant_method": "fbgemm_fp8"})), block(None));
        assert_eq!(read(json!({"quant_method": "modelopt", "quant_algo": "FP8"})), block(None));
        let weights = json!({"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": true});
        assert_eq!(read(groups(weights)), block(None));
        let weights =
            json!({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [16, 8]});
        assert_eq!(read(groups(weights)), block(Some([16, 8])));
        let nested = json!({"text_config": {KEY: {"quant_method": "fp8", "weight_block_size": null}}});
        assert_eq!(Method::read(&nested), block(None));
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (config, name) in [
            (json!({"quant_method": "gptq", "bits": 4}), "GPTQ"),
            (json!({"quant_method": "awq"}), "AWQ"),
            (json!({"quant_method": "bitsandbytes", "load_in_8bit": true}), "bitsandbytes"),
            (json!({"load_in_4bit": true}), "bitsandbytes"),
            (json!({"quant_method": "mxfp4"}), "MXFP4"),
            (json!({"quant_method": "something-new"}), "something-new"),
            (json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}), "ModelOpt's NVFP4"),
            (json!({"bits": 4}), "without a `quant_method`"),
            (json!({"quant_method": "fp8", "weight_block_size": [0, 4]}), "[0,4]"),
            (groups(json!({"num_bits": 4, "type": "int"})), "to 4 bits (int)"),
            (groups(json!({"num_bits": 8, "type": "float", "symmetric": false})), "zero points"),
            (groups(json!({"num_bits": 8, "type": "float", "strategy": "group"})), "one scale per group"),
            (json!({"quant_method": "compressed-tensors", "format": "pack-quantized"}), "pack-quantized"),
        ] {
            let said = read(config.clone()).unwrap_err();
            assert!(said.contains(name), "{config}: {said}");
        }
    }

    #[test]
    fn it_is_forgotten_wherever_it_stands() {
        let mut config = json!({"a": 1, KEY: {}, "text_config": {KEY: {}, "b": 2}});
        forget(&mut config);
        assert_eq!(config, json!({"a": 1, "text_config": {"b": 2}}));
    }
}
