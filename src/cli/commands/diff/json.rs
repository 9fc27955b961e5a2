//! A comparison for programs.

use serde_json::{Value, json};

use super::report::Report;
use super::sums::Group;
use crate::cli::commands::log;
use crate::op::difference::Distance;
use crate::project::{ComparedTensor, Edits, Likeness};
use crate::tensor::TensorSpec;

pub fn document(report: &Report<'_>) -> Value {
    let Report { names, what, kinds, comparison, edits, sums, .. } = report;
    let side = |i: usize| json!({ "name": names[i], "kind": kinds[i], "what": what[i] });
    let spec = |spec: &TensorSpec| json!({ "dtype": spec.dtype.name(), "shape": spec.shape.0 });
    let only = |i: usize| -> Vec<Value> {
        let with_name = |(name, of): &(String, TensorSpec)| with(json!({ "tensor": name }), spec(of));
        comparison.only[i].iter().map(with_name).collect()
    };
    let unlike =
        |(name, [a, b]): &(String, [TensorSpec; 2])| json!({ "tensor": name, "a": spec(a), "b": spec(b) });
    let renamed = |(theirs, ours): &(String, String)| json!({ "a": ours, "b": theirs });
    let layer = |group: &Group| with(json!({ "layer": group.name }), group_json(group));
    let kind = |group: &Group| with(json!({ "kind": group.name }), group_json(group));
    json!({
        "a": side(0),
        "b": side(1),
        "differ": report.differ(),
        "recipe": edits.as_ref().map(recipe_json),
        "total": group_json(&sums.total),
        "kinds": sums.kinds.iter().map(kind).collect::<Vec<_>>(),
        "layers": sums.layers.iter().map(layer).collect::<Vec<_>>(),
        "tensors": comparison.tensors.iter().map(|tensor| tensor_json(report, tensor)).collect::<Vec<_>>(),
        "only_a": only(0),
        "only_b": only(1),
        "other_shapes": comparison.unlike.iter().map(unlike).collect::<Vec<_>>(),
        "unmade_a": comparison.unmade[0],
        "unmade_b": comparison.unmade[1],
        "renamed": comparison.renamed.iter().map(renamed).collect::<Vec<_>>(),
        "computed": comparison.ran,
        "bytes_read": comparison.bytes_hashed,
    })
}

fn recipe_json(edits: &Edits) -> Value {
    let fields = log::fields_json(edits);
    json!({ "edits": fields, "stages_added": edits.added, "stages_removed": edits.removed })
}

fn with(mut document: Value, more: Value) -> Value {
    let (Value::Object(fields), Value::Object(more)) = (&mut document, more) else {
        unreachable!("both are maps")
    };
    fields.extend(more);
    document
}

fn group_json(group: &Group) -> Value {
    let Group { name: _, tensors, equal, distance } = group;
    with(json!({ "tensors": tensors, "equal": equal }), numbers(distance))
}

fn tensor_json(report: &Report<'_>, tensor: &ComparedTensor) -> Value {
    let ComparedTensor { name, specs: [a, b], outcome } = tensor;
    let kinds = &report.comparison.kinds;
    let kind = kinds.place(name).map(|(kind, _)| &kinds.names[kind]);
    let outcome_word = match outcome {
        Likeness::Equal => "equal",
        Likeness::Distance(_) => "differs",
        Likeness::OtherBytes => "other_bytes",
    };
    let mut document = json!({
        "tensor": name,
        "kind": kind,
        "shape": a.shape.0,
        "dtype_a": a.dtype.name(),
        "dtype_b": b.dtype.name(),
        "outcome": outcome_word,
    });
    if let Likeness::Distance(distance) = outcome {
        document = with(document, numbers(distance));
        document["largest_at"] = json!(distance.place(&a.shape));
    }
    document
}

fn numbers(distance: &Distance) -> Value {
    json!({
        "elements": distance.elements,
        "norm": distance.norm(),
        "relative": distance.relative(),
        "cosine": distance.cosine(),
        "changed": distance.differing(),
        "flipped": distance.flipped(),
        "largest": distance.largest,
    })
}
