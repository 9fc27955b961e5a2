//! What differs between two versions of a recipe, field by field, as a person would say it.

use std::fmt::Write;

use super::meant::{
    Gradient, Input, Parameters, Recipe, Reference, Section, Setting, Stage, TokenEntry, TokenRow,
};
use super::span::{Span, Spanned};
use crate::methods::Value;

/// One field of a recipe that was edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// `None` if it changed alike in all stages.
    pub stage: Option<String>,
    /// The parameter that it sets, if it is one.
    pub param: Option<&'static str>,
    /// The model that it is set for, if it is for one.
    pub model: Option<String>,
    /// Such as `weight of org/model`, or all there is to say where there is neither `old` nor `new`.
    pub what: String,
    /// The value before, as text; `None` where there was none.
    pub old: Option<String>,
    /// The value now, as text; `None` where there is none.
    pub new: Option<String>,
    /// Where the new value stands.
    pub span: Option<Span>,
}

/// The edits that lead from one version to another, in the order of the new one. Stages are known by their
/// names; those that only one version has are left out.
pub fn changes(old: &Recipe, new: &Recipe) -> Vec<FieldChange> {
    let mut found = Vec::new();
    let pairs: Vec<(&Stage, &Stage)> = new
        .stages
        .iter()
        .filter_map(|stage| Some((old.stages.iter().find(|other| other.name == stage.name)?, stage)))
        .collect();
    let seeds: Vec<(u64, u64)> = pairs.iter().map(|(old, new)| (old.seed, new.seed)).collect();
    let seed = |stage: Option<String>, (old, new): (u64, u64), span| FieldChange {
        stage,
        param: Some("stream"),
        model: None,
        what: "seed".to_owned(),
        old: Some(old.to_string()),
        new: Some(new.to_string()),
        span,
    };
    let is_one = seeds.iter().all(|pair| *pair == seeds[0]);
    if is_one && seeds.first().is_some_and(|(old, new)| old != new) {
        found.push(seed(None, seeds[0], None));
    }
    for ((before, after), seeds) in pairs.into_iter().zip(seeds) {
        if !is_one && seeds.0 != seeds.1 {
            found.push(seed(Some(after.name.clone()), seeds, Some(after.span)));
        }
        compare(&fields(old, before), &fields(new, after), &after.name, &mut found);
    }
    found
}

/// Begins the field that lists models which are fields of their own, for their order.
const ORDER: &str = "order of models";

/// A field with its value as text.
struct Field {
    param: Option<&'static str>,
    model: Option<String>,
    what: String,
    value: String,
    span: Option<Span>,
}

fn sorted(names: &str) -> Vec<&str> {
    let mut names: Vec<&str> = names.split(", ").collect();
    names.sort_unstable();
    names
}

fn compare(old: &[Field], new: &[Field], stage: &str, found: &mut Vec<FieldChange>) {
    let change = |field: &Field, old: Option<String>, new: Option<String>, span| FieldChange {
        stage: Some(stage.to_owned()),
        param: field.param,
        model: field.model.clone(),
        what: field.what.clone(),
        old,
        new,
        span,
    };
    let is_listed = |fields: &[Field], model: &Option<String>| {
        model.is_none() || fields.iter().any(|field| field.param.is_none() && field.model == *model)
    };
    for field in new {
        let before = old.iter().find(|other| other.what == field.what);
        match before {
            Some(before) if before.value == field.value => {}
            Some(before)
                if field.what.starts_with(ORDER) && sorted(&before.value) != sorted(&field.value) => {}
            // What is set for a model that is new goes without saying.
            None if field.param.is_some() && !is_listed(old, &field.model) => {}
            None if field.value.is_empty() => {
                let what = format!("{} added", field.what);
                found.push(FieldChange { what, ..change(field, None, None, field.span) });
            }
            before => {
                let before = before.map(|before| before.value.clone());
                found.push(change(field, before, Some(field.value.clone()), field.span));
            }
        }
    }
    for field in old.iter().filter(|field| !new.iter().any(|other| other.what == field.what)) {
        if field.value.is_empty() {
            let what = format!("{} removed", field.what);
            found.push(FieldChange { what, ..change(field, None, None, None) });
        } else if field.param.is_none() || is_listed(new, &field.model) {
            found.push(change(field, Some(field.value.clone()), None, None));
        }
    }
}

/// Everything that a stage says and that can change its bytes, but for its seed.
fn fields(recipe: &Recipe, stage: &Stage) -> Vec<Field> {
    let mut fields = Fields { recipe, list: Vec::new() };
    fields.plain("merge_method", stage.method.spec().name.to_owned(), Some(stage.span));
    fields.base("base_model", stage.base.as_ref());
    for (what, dtype) in [("dtype", &stage.dtype), ("out_dtype", &stage.out_dtype)] {
        if let Some(dtype) = dtype {
            let name = dtype.value.recipe_name().unwrap_or_else(|| dtype.value.name());
            fields.plain(what, name.to_owned(), Some(dtype.span));
        }
    }
    fields.tokenizer(stage);
    fields.parameters(&stage.parameters, None, "");
    let (mut module_before, mut n_slices) = (None, 0);
    for Section { module, slice, inputs } in stage.sections() {
        let in_module = module.map_or(String::new(), |module| format!(" in module {}", module.name.value));
        if let Some(module) = module.filter(|module| module_before != Some(&module.name)) {
            fields.parameters(&module.parameters, None, &in_module);
            (module_before, n_slices) = (Some(&module.name), 0);
        }
        let Some(slice) = slice else {
            fields.inputs(inputs, &in_module);
            continue;
        };
        n_slices += 1;
        let place = format!(" in slice {n_slices}{in_module}");
        fields.base(&format!("base_model{place}"), slice.base.as_ref());
        fields.parameters(&slice.parameters, None, &place);
        fields.inputs(inputs, &place);
    }
    fields.list
}

struct Fields<'a> {
    recipe: &'a Recipe,
    list: Vec<Field>,
}

impl Fields<'_> {
    fn plain(&mut self, what: &str, value: String, span: Option<Span>) {
        self.list.push(Field { param: None, model: None, what: what.to_owned(), value, span });
    }

    fn base(&mut self, what: &str, base: Option<&Spanned<Reference>>) {
        if let Some(base) = base {
            self.plain(what, self.recipe.name_of(&base.value).to_owned(), Some(base.span));
        }
    }

    fn tokenizer(&mut self, stage: &Stage) {
        let Some(Spanned { value, span }) = &stage.tokenizer else { return };
        let source = value.source.named(&|reference| self.recipe.name_of(reference).to_owned());
        self.plain("tokenizer source", source.to_owned(), Some(*span));
        if let Some(multiple) = value.pad_to_multiple_of {
            self.plain("pad_to_multiple_of", multiple.to_string(), Some(*span));
        }
        if value.trim_vocab {
            self.plain("trim_vocab", "true".to_owned(), Some(*span));
        }
        for TokenEntry { token, source, force } in &value.tokens {
            let name = |reference| self.recipe.name_of(reference);
            let row = match source.as_ref().map(|source| &source.value) {
                None => "any model's row".to_owned(),
                Some(TokenRow::Zero) => "zeros".to_owned(),
                Some(TokenRow::Same(model)) => format!("row of {}", name(model)),
                Some(TokenRow::Token(model, other)) => format!("row of {other:?} of {}", name(model)),
                Some(TokenRow::Id(model, id)) => format!("row {id} of {}", name(model)),
            };
            let forced = if *force { ", for every model" } else { "" };
            self.plain(&format!("token {:?}", token.value), format!("{row}{forced}"), Some(token.span));
        }
    }

    fn inputs(&mut self, inputs: &[Input], place: &str) {
        let name = |input: &Input| self.recipe.name_of(&input.model.value).to_owned();
        let names: Vec<String> = inputs.iter().map(name).collect();
        for (i, (input, name)) in inputs.iter().zip(&names).enumerate() {
            // A model may be listed again, for other layers.
            let again = names[..i].iter().filter(|other| *other == name).count();
            let label = if again > 0 { format!("{name} (again, {again})") } else { name.clone() };
            self.list.push(Field {
                param: None,
                model: Some(name.clone()),
                what: format!("model {label}{place}"),
                value: String::new(),
                span: Some(input.model.span),
            });
            if let Some(range) = &input.layer_range {
                let (start, end) = range.value;
                let what = format!("layer_range of {label}{place}");
                self.plain(&what, format!("[{start}, {end}]"), Some(range.span));
            }
            self.parameters(&input.parameters, Some((name, &label)), place);
        }
        // Streams, and some methods, hang on the order; of models that come or go, it says nothing.
        let span = inputs.first().map(|input| input.model.span);
        self.plain(&format!("{ORDER}{place}"), names.join(", "), span);
    }

    fn parameters(&mut self, parameters: &Parameters, model: Option<(&str, &str)>, place: &str) {
        for (param, setting) in parameters {
            let of = model.map_or_else(String::new, |(_, label)| format!(" of {label}"));
            self.list.push(Field {
                param: Some(param),
                model: model.map(|(name, _)| name.to_owned()),
                what: format!("{param}{of}{place}"),
                value: written(&setting.value),
                span: Some(setting.span),
            });
        }
    }
}

/// A setting, much as it is written.
fn written(setting: &Setting) -> String {
    match setting {
        Setting::Plain(values) => gradient(values),
        Setting::Filtered(clauses) => {
            let mut text = String::new();
            for clause in clauses {
                let separator = if text.is_empty() { "" } else { ", " };
                let filter = clause.filter.as_deref().unwrap_or("*");
                write!(text, "{separator}{filter}: {}", gradient(&clause.value))
                    .expect("writing to a string");
            }
            text
        }
    }
}

fn gradient(gradient: &Gradient) -> String {
    match gradient.0.as_slice() {
        [value] => value.to_string(),
        values => format!("[{}]", values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{LoadOptions, load};

    const RECIPE: &str = "name: x\nmerge_method: ties\nbase_model: ./base\nseed: 1\nmodels:\n\
        - {model: ./a, parameters: {weight: 1.0, density: [0.2, 0.4]}}\n- {model: ./b, parameters: {weight: 0.5}}\n\
        parameters: {normalize: true}\n";

    fn texts(edits: &[(&str, &str)]) -> Vec<String> {
        let recipe = |text: &str| {
            load(text, &LoadOptions { name: "r.yaml".to_owned(), ..LoadOptions::default() }).recipe.unwrap()
        };
        let edited = edits.iter().fold(RECIPE.to_owned(), |text, (old, new)| {
            assert!(text.contains(old));
            text.replacen(old, new, 1)
        });
        let side = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
        changes(&recipe(RECIPE), &recipe(&edited))
            .into_iter()
            .map(|change| match (change.old, change.new) {
                (None, None) => change.what,
                (old, new) => format!("{} {} -> {}", change.what, side(old), side(new)),
            })
            .collect()
    }

    #[test]
    fn edits_are_told_as_they_were_made() {
        assert_eq!(texts(&[]), [""; 0]);
        assert_eq!(texts(&[("weight: 1.0", "weight: 0.9")]), ["weight of ./a 1 -> 0.9"]);
        assert_eq!(texts(&[("0.2, 0.4", "0.2, 0.5")]), ["density of ./a [0.2, 0.4] -> [0.2, 0.5]"]);
        assert_eq!(texts(&[("seed: 1", "seed: 8")]), ["seed 1 -> 8"]);
        assert_eq!(texts(&[("normalize: true", "normalize: false")]), ["normalize true -> false"]);
        assert_eq!(texts(&[("./base", "./other")]), ["base_model ./base -> ./other"]);
        assert_eq!(texts(&[(", density: [0.2, 0.4]", "")]), ["density of ./a [0.2, 0.4] -> nothing"]);
        let added = "- {model: ./c, parameters: {weight: 0.25}}\nparameters";
        assert_eq!(
            texts(&[("parameters: {normalize", &format!("{added}: {{normalize"))]),
            ["model ./c added"]
        );
        assert_eq!(texts(&[("- {model: ./b, parameters: {weight: 0.5}}\n", "")]), ["model ./b removed"]);
        let a = "{model: ./a, parameters: {weight: 1.0, density: [0.2, 0.4]}}";
        let b = "{model: ./b, parameters: {weight: 0.5}}";
        assert_eq!(texts(&[(a, "./x"), (b, a), ("./x", b)]), ["order of models ./a, ./b -> ./b, ./a"]);
    }
}
