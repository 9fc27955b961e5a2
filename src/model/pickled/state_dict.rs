//! The tensors that a pickle describes.

use candle_core::pickle::Object;

use crate::tensor::{Dtype, Shape};

/// Keys under which programs keep a model's tensors beside other things, those that are preferred first.
const PREFERRED: [&str; 5] = ["state_dict", "model_state_dict", "model", "module", "params"];

/// Storages by name, with what they hold.
const STORAGES: [(&str, Dtype); 11] = [
    ("FloatStorage", Dtype::F32),
    ("BFloat16Storage", Dtype::Bf16),
    ("HalfStorage", Dtype::F16),
    ("DoubleStorage", Dtype::F64),
    ("LongStorage", Dtype::I64),
    ("IntStorage", Dtype::I32),
    ("ShortStorage", Dtype::I16),
    ("CharStorage", Dtype::I8),
    ("ByteStorage", Dtype::U8),
    ("BoolStorage", Dtype::Bool),
    ("ComplexFloatStorage", Dtype::C64),
];

/// Dtypes that have no storage of their own, by name.
const UNTYPED: [(&str, Dtype); 5] = [
    ("float8_e4m3fn", Dtype::F8_E4M3),
    ("float8_e5m2", Dtype::F8_E5M2),
    ("uint16", Dtype::U16),
    ("uint32", Dtype::U32),
    ("uint64", Dtype::U64),
];

/// A tensor as a pickle describes it: a window into a storage, which others may look into, too.
#[derive(Debug, PartialEq)]
pub struct Described {
    pub dtype: Dtype,
    pub shape: Shape,
    /// One an axis, in elements.
    pub strides: Vec<usize>,
    /// The first element's place in the storage, in elements.
    pub offset: usize,
    /// The storage's name in the archive.
    pub storage: String,
}

/// What a pickle holds.
#[derive(Debug, Default)]
pub struct StateDict {
    /// In the order of the pickle, by name.
    pub tensors: Vec<(String, Described)>,
    /// The keys of what is no tensor of the model.
    pub others: Vec<String>,
}

/// Finds the tensors: those at the top, or those of the one dict that holds the model.
///
/// # Errors
/// Says what about a tensor cannot be read, or which dicts there are to choose from.
pub fn state_dict(root: &Object) -> Result<StateDict, String> {
    let Object::Dict(top) = root else {
        return Err("contains no dict of tensors; save the model's state_dict".to_owned());
    };
    let inner: Vec<(&str, &Vec<(Object, Object)>)> = top
        .iter()
        .filter_map(|(key, value)| match (key, value) {
            (Object::Unicode(key), Object::Dict(inner)) if key != "_metadata" && holds_tensors(inner) => {
                Some((key.as_str(), inner))
            }
            _ => None,
        })
        .collect();
    let preferred = PREFERRED.iter().find_map(|key| inner.iter().find(|(name, _)| name == key));
    let chosen = match (preferred, inner.as_slice()) {
        (Some(chosen), _) => Some(chosen),
        (None, []) => None,
        (None, [only]) if !has_tensors(top) => Some(only),
        (None, several) => {
            let names: Vec<String> = several.iter().map(|(name, _)| format!("`{name}`")).collect();
            return Err(format!(
                "contains tensors in several places ({}{}), so it is not clear which are the model's; save only its state_dict",
                names.join(", "),
                if has_tensors(top) { ", and beside them" } else { "" }
            ));
        }
    };
    let mut found = StateDict::default();
    match chosen {
        None => found.add(top)?,
        Some((name, inner)) => {
            found.add(inner)?;
            let beside = top.iter().filter(|(key, _)| !matches!(key, Object::Unicode(key) if key == name));
            found.others.extend(beside.map(|(key, _)| shown(key)));
        }
    }
    if found.tensors.is_empty() {
        return Err("contains no tensors".to_owned());
    }
    found.others.retain(|key| key != "_metadata");
    found.others.sort_unstable();
    Ok(found)
}

impl StateDict {
    fn add(&mut self, items: &[(Object, Object)]) -> Result<(), String> {
        for (key, value) in items {
            let name = shown(key);
            match (tensor(value).map_err(|problem| format!("stores tensor `{name}` {problem}"))?, key) {
                (None, Object::Unicode(_)) if holds_some(value) => {
                    return Err(format!("contains tensors nested inside `{name}`; save a flat state_dict"));
                }
                (None, _) => self.others.push(name),
                (Some(found), Object::Unicode(_)) => self.tensors.push((name, found)),
                (Some(_), _) => return Err(format!("names a tensor `{name}`, which is not a string")),
            }
        }
        Ok(())
    }
}

fn shown(key: &Object) -> String {
    match key {
        Object::Unicode(text) => text.clone(),
        Object::Int(number) => number.to_string(),
        Object::Long(number) => number.to_string(),
        _ => "a key that is not a string".to_owned(),
    }
}

/// Whether some of the values are tensors.
fn has_tensors(items: &[(Object, Object)]) -> bool {
    items.iter().any(|(_, value)| !matches!(tensor(value), Ok(None)))
}

/// Whether there are tensors in it, however deep.
fn holds_tensors(items: &[(Object, Object)]) -> bool {
    items.iter().any(|(_, value)| !matches!(tensor(value), Ok(None)) || holds_some(value))
}

fn holds_some(object: &Object) -> bool {
    match object {
        Object::Dict(items) => holds_tensors(items),
        Object::List(items) | Object::Tuple(items) => {
            items.iter().any(|item| !matches!(tensor(item), Ok(None)) || holds_some(item))
        }
        _ => false,
    }
}

/// Reads a tensor; `None` for what is none.
fn tensor(object: &Object) -> Result<Option<Described>, String> {
    match object {
        // Attributes of a tensor do not change what it holds.
        Object::Build { callable, .. } => tensor(callable),
        Object::Reduce { callable, args } => rebuilt(callable, args),
        _ => Ok(None),
    }
}

fn rebuilt(callable: &Object, args: &Object) -> Result<Option<Described>, String> {
    let (Object::Class { module_name, class_name }, Object::Tuple(args)) = (callable, args) else {
        return Ok(None);
    };
    // Flags that torch keeps beside a tensor's bytes: they are to be conjugated or negated.
    let lazy = |metadata: Option<&Object>| match metadata {
        Some(Object::Dict(flags)) if !flags.is_empty() => {
            let names: Vec<String> = flags.iter().map(|(key, _)| shown(key)).collect();
            let names = names.join(", ");
            Err(format!(
                "with pending operations ({names}); save the result of `.resolve_conj().resolve_neg()`"
            ))
        }
        _ => Ok(()),
    };
    match (module_name.as_str(), class_name.as_str(), args.as_slice()) {
        ("torch._utils", "_rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
            lazy(args.get(6))?;
            window(storage, offset, shape, strides, None).map(Some)
        }
        ("torch._utils", "_rebuild_tensor_v3", [storage, offset, shape, strides, _, _, dtype, ..]) => {
            lazy(args.get(7))?;
            window(storage, offset, shape, strides, Some(dtype)).map(Some)
        }
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state", [inner, ..]) => {
            tensor(inner)
        }
        ("torch._tensor", "_rebuild_from_type_v2", [callable, _, args, ..]) => rebuilt(callable, args),
        ("torch._utils", other, _) => Err(format!("by `torch._utils.{other}`, which is not supported")),
        _ => Ok(None),
    }
}

fn window(
    storage: &Object,
    offset: &Object,
    shape: &Object,
    strides: &Object,
    dtype: Option<&Object>,
) -> Result<Described, String> {
    let damaged = || "in a form that is not supported".to_owned();
    let Object::PersistentLoad(storage) = storage else { return Err(damaged()) };
    let Object::Tuple(storage) = &**storage else { return Err(damaged()) };
    let [Object::Unicode(kind), Object::Class { class_name, .. }, Object::Unicode(key), ..] =
        storage.as_slice()
    else {
        return Err(damaged());
    };
    if kind != "storage" {
        return Err(damaged());
    }
    let known =
        |table: &[(&str, Dtype)], name: &str| table.iter().find(|(known, _)| *known == name).map(|row| row.1);
    let unknown = |name: &str| format!("as {name}, which lamarck does not support");
    let dtype = match dtype {
        None => known(&STORAGES, class_name).ok_or_else(|| unknown(class_name))?,
        Some(Object::Class { class_name, .. }) => {
            known(&UNTYPED, class_name).ok_or_else(|| unknown(&format!("torch.{class_name}")))?
        }
        Some(_) => return Err(damaged()),
    };
    let shape = sizes(shape).ok_or_else(damaged)?;
    let strides = sizes(strides).filter(|strides| strides.len() == shape.len()).ok_or_else(damaged)?;
    let offset = size(offset).ok_or_else(damaged)?;
    Ok(Described { dtype, shape: Shape(shape), strides, offset, storage: key.clone() })
}

fn size(object: &Object) -> Option<usize> {
    match object {
        Object::Int(n) => usize::try_from(*n).ok(),
        Object::Long(n) => usize::try_from(*n).ok(),
        _ => None,
    }
}

/// The numbers of a tuple, or of a `torch.Size`.
fn sizes(object: &Object) -> Option<Vec<usize>> {
    match object {
        Object::Tuple(items) => items.iter().map(size).collect(),
        Object::Reduce { args, .. } => match &**args {
            Object::Tuple(inner) => match inner.as_slice() {
                [only] => sizes(only),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Object {
        Object::Unicode(text.to_owned())
    }

    fn class(module: &str, name: &str) -> Object {
        Object::Class { module_name: module.to_owned(), class_name: name.to_owned() }
    }

    fn call(module: &str, name: &str, args: Vec<Object>) -> Object {
        Object::Reduce { callable: Box::new(class(module, name)), args: Box::new(Object::Tuple(args)) }
    }

    fn ints(numbers: &[i32]) -> Object {
        Object::Tuple(numbers.iter().map(|n| Object::Int(*n)).collect())
    }

    fn stored(storage: &str) -> Object {
        let id = Object::Tuple(vec![
            text("storage"),
            class("torch", storage),
            text("7"),
            text("cpu"),
            Object::Int(9),
        ]);
        let storage = Object::PersistentLoad(Box::new(id));
        let args = vec![storage, Object::Int(2), ints(&[2, 3]), ints(&[1, 2]), Object::Bool(false)];
        call("torch._utils", "_rebuild_tensor_v2", args)
    }

    fn dict(items: Vec<(&str, Object)>) -> Object {
        Object::Dict(items.into_iter().map(|(key, value)| (text(key), value)).collect())
    }

    fn names(root: &Object) -> Result<(Vec<String>, Vec<String>), String> {
        let found = state_dict(root)?;
        Ok((found.tensors.into_iter().map(|(name, _)| name).collect(), found.others))
    }

    #[test]
    fn tensors_are_windows_into_storages() {
        let parameter =
            call("torch._utils", "_rebuild_parameter", vec![stored("HalfStorage"), Object::Bool(true)]);
        let root = dict(vec![("a", stored("HalfStorage")), ("b", parameter)]);
        let StateDict { tensors, .. } = state_dict(&root).unwrap();
        let expected = Described {
            dtype: Dtype::F16,
            shape: Shape(vec![2, 3]),
            strides: vec![1, 2],
            offset: 2,
            storage: "7".to_owned(),
        };
        assert_eq!(tensors[0], ("a".to_owned(), expected));
        assert_eq!(tensors[0].1, tensors[1].1);
    }

    #[test]
    fn the_dict_that_holds_the_model_is_found() {
        let model = || dict(vec![("w", stored("FloatStorage")), ("_metadata", dict(vec![]))]);
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let flat = dict(vec![("w", stored("FloatStorage")), ("step", Object::Int(3))]);
        assert_eq!(names(&flat).unwrap(), (named(&["w"]), named(&["step"])));
        let training = dict(vec![("epoch", Object::Int(3)), ("state_dict", model()), ("ema", model())]);
        assert_eq!(names(&training).unwrap(), (named(&["w"]), named(&["ema", "epoch"])));
        assert_eq!(names(&dict(vec![("net", model())])).unwrap().0, named(&["w"]));
    }

    #[test]
    fn bytes_that_are_not_the_values_are_refused() {
        let with_flags = |flags: Object| {
            let Object::Reduce { callable, args } = stored("ComplexFloatStorage") else { unreachable!() };
            let Object::Tuple(mut args) = *args else { unreachable!() };
            args.extend([dict(vec![]), flags]);
            dict(vec![("z", Object::Reduce { callable, args: Box::new(Object::Tuple(args)) })])
        };
        assert_eq!(names(&with_flags(dict(vec![]))).unwrap().0, ["z"]);
        let problem = names(&with_flags(dict(vec![("conj", Object::Bool(true))]))).unwrap_err();
        assert!(problem.contains("tensor `z`") && problem.contains("(conj)"), "{problem}");
    }

    #[test]
    fn what_cannot_be_told_or_read_is_refused() {
        let model = || dict(vec![("w", stored("FloatStorage"))]);
        for (root, expected) in [
            (dict(vec![("a", model()), ("b", model())]), "`a`, `b`"),
            (dict(vec![("a", model()), ("w", stored("FloatStorage"))]), "`a`, and beside them"),
            (dict(vec![("a", dict(vec![("b", model())]))]), "inside `b`"),
            (dict(vec![("w", stored("QInt8Storage"))]), "tensor `w` as QInt8Storage"),
            (
                dict(vec![("w", call("torch._utils", "_rebuild_sparse_tensor", vec![]))]),
                "_rebuild_sparse_tensor",
            ),
            (dict(vec![("w", call("torch._utils", "_rebuild_tensor_v2", vec![]))]), "tensor `w`"),
            (Object::Dict(vec![(Object::Int(3), stored("FloatStorage"))]), "a tensor `3`"),
            (dict(vec![("step", Object::Int(3))]), "no tensors"),
            (Object::List(vec![]), "no dict of tensors"),
        ] {
            let problem = names(&root).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
