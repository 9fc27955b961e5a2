//! Reads a pickle as data, on candle's reader, which carries nothing out.
//!
//! That reader trusts its input in a few ways that a hostile file could use: objects that grow without bounds when
//! they are referred to again and again, nesting that its recursion cannot follow, lengths that are not in the file.
//! So every step is looked at before it is taken. What a checkpoint does not need is refused by name.

use std::collections::HashMap;

use candle_core::pickle::{Object, Stack};

/// How deep objects may be nested.
const MAX_DEPTH: usize = 64;

/// How much an object that is referred to again may hold, and all that are together.
const MAX_SHARED: usize = 10_000;
const MAX_REPEATED: usize = 4_000_000;

/// Reads the object that a pickle describes.
///
/// # Errors
/// Says what in it is damaged, too large, or none of a checkpoint's business.
pub fn unpickle(pickle: &[u8]) -> Result<Object, String> {
    let mut rest = pickle;
    let mut stack = Stack::empty();
    let mut watch = Watch::default();
    loop {
        watch.before(rest, stack.stack())?;
        let at = pickle.len() - rest.len();
        let is_end = stack.read(&mut rest).map_err(|error| damaged(at, &error.to_string()))?;
        if let Some(Object::Class { module_name, class_name }) = stack.stack().last()
            && !is_allowed(module_name, class_name)
        {
            return Err(format!(
                "refers to `{module_name}.{class_name}`, which no tensor needs and which could run code; it was not loaded; save only the model's state_dict, with safetensors if you can"
            ));
        }
        if is_end {
            return stack.finalize().map_err(|error| damaged(at, &error.to_string()));
        }
    }
}

fn damaged(at: usize, problem: &str) -> String {
    // The reader quotes whole objects.
    let problem: String = problem.lines().next().unwrap_or_default().chars().take(80).collect();
    format!("has a pickle that cannot be read, at byte {at}: {problem}")
}

/// Whether a class or function is one that PyTorch describes tensors with.
fn is_allowed(module: &str, name: &str) -> bool {
    match module {
        "torch" => {
            // And how a quantised one is, which is told of by the tensor's name.
            let dtypes = ["float", "bfloat", "int", "uint", "complex", "bool", "per_"];
            name.ends_with("Storage")
                || matches!(name, "Size" | "Tensor")
                || dtypes.iter().any(|dtype| name.starts_with(dtype))
        }
        "torch.storage" => name.ends_with("Storage"),
        "torch._utils" => name.starts_with("_rebuild_"),
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch.nn.parameter" => name == "Parameter",
        "collections" => name == "OrderedDict",
        _ => false,
    }
}

/// Looks at every step before it is taken.
#[derive(Default)]
struct Watch {
    /// How much each object holds that can be referred to.
    shared: HashMap<u32, usize>,
    /// How much all references have brought.
    repeated: usize,
}

impl Watch {
    fn before(&mut self, rest: &[u8], stack: &[Object]) -> Result<(), String> {
        let Some((code, rest)) = rest.split_first() else {
            return Err("has a truncated pickle".to_owned());
        };
        let byte = || rest.first().map(|byte| u32::from(*byte));
        let word = || rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let since_mark = || {
            let mark = stack.iter().rposition(|object| matches!(object, Object::Mark));
            &stack[mark.map_or(0, |mark| mark + 1)..]
        };
        let last = |n: usize| &stack[stack.len().saturating_sub(n)..];
        let taken = match code {
            0x80 if byte().is_some_and(|protocol| protocol > 3) => {
                return Err("has a pickle of protocol 4 or later, which is not supported; save it again without `pickle_protocol`".to_owned());
            }
            b'X' if word().is_some_and(|n| n as usize > rest.len() - 4) => {
                return Err("has a pickle with a string that extends beyond its end".to_owned());
            }
            0x8a if byte().is_some_and(|n| n > 8) => {
                return Err("has a pickle with a number of more than 64 bits".to_owned());
            }
            b'q' => return self.share(byte(), stack),
            b'r' => return self.share(word(), stack),
            b'h' => return self.repeat(byte()),
            b'j' => return self.repeat(word()),
            b't' | b'd' | b'e' | b'u' => since_mark(),
            b'a' | b'Q' | 0x85 => last(1),
            b's' | b'R' | b'b' | 0x81 | 0x86 => last(2),
            0x87 => last(3),
            _ => &[],
        };
        for object in taken {
            weight(object, MAX_DEPTH).ok_or("has a pickle of objects nested too deeply")?;
        }
        match (code, taken) {
            // The reader makes an empty dict of these, whatever they are given.
            (b'R', [Object::Class { class_name, .. }, Object::Tuple(args)])
                if class_name == "OrderedDict" && !args.is_empty() =>
            {
                Err("has a pickle of a dict in a form that is not supported; save it again".to_owned())
            }
            // The reader adds the attributes of a dict to what it holds.
            (b'b', [Object::Dict(_), Object::Dict(attributes)])
                if attributes
                    .iter()
                    .any(|(key, _)| !matches!(key, Object::Unicode(key) if key == "_metadata")) =>
            {
                Err("has a pickle of a dict with attributes, which are not supported; save only the state_dict"
                    .to_owned())
            }
            _ => Ok(()),
        }
    }

    fn share(&mut self, id: Option<u32>, stack: &[Object]) -> Result<(), String> {
        if let (Some(id), Some(object)) = (id, stack.last()) {
            let weight = match object {
                // The reader would remember a dict or list as it is now, and not what is added to it.
                Object::Dict(_) | Object::List(_) => usize::MAX,
                other => weight(other, MAX_DEPTH).ok_or("has a pickle of objects nested too deeply")?,
            };
            self.shared.insert(id, weight);
        }
        Ok(())
    }

    fn repeat(&mut self, id: Option<u32>) -> Result<(), String> {
        let weight = id.and_then(|id| self.shared.get(&id)).copied().unwrap_or(0);
        self.repeated = self.repeated.saturating_add(weight);
        if weight == usize::MAX {
            return Err("contains the same dict or list in two places, which is not supported; save a single state_dict"
                .to_owned());
        }
        if weight > MAX_SHARED || self.repeated > MAX_REPEATED {
            return Err("has a pickle that repeats objects without limit".to_owned());
        }
        Ok(())
    }
}

/// How many objects an object is made of, with a share for the length of texts. `None` if it is nested deeper than
/// allowed.
fn weight(object: &Object, depth: usize) -> Option<usize> {
    let depth = depth.checked_sub(1)?;
    let sum = |sum: usize, object: &Object| Some(sum + weight(object, depth)?);
    match object {
        Object::Tuple(items) | Object::List(items) => items.iter().try_fold(1, sum),
        Object::Dict(items) => items.iter().flat_map(|(key, value)| [key, value]).try_fold(1, sum),
        Object::Reduce { callable, args } | Object::Build { callable, args } => {
            [&**callable, &**args].into_iter().try_fold(1, sum)
        }
        Object::PersistentLoad(id) => sum(1, id),
        Object::Unicode(text) => Some(1 + text.len() / 64),
        Object::Class { module_name, class_name } => Some(1 + (module_name.len() + class_name.len()) / 64),
        Object::Int(_)
        | Object::Long(_)
        | Object::Float(_)
        | Object::Bool(_)
        | Object::None
        | Object::Mark => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(pickle: &[u8], expected: &str) {
        let problem = unpickle(pickle).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }

    #[test]
    fn what_a_pickle_would_run_is_refused_by_name() {
        refused(b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.", "`posix.system`");
        refused(b"\x80\x02ctorch\nload\n.", "`torch.load`");
        refused(b"\x80\x02ctorch.hub\nload\n.", "`torch.hub.load`");
        refused(b"\x80\x02c__builtin__\neval\n.", "`__builtin__.eval`");
    }

    #[test]
    fn damage_is_refused() {
        refused(b"", "truncated pickle");
        refused(b"\x80\x02}", "truncated pickle");
        refused(b"\x80\x02.", "empty stack");
        refused(b"\x80\x02\xff.", "unknown op-code");
        refused(b"\x80\x02X\xff\xff\xff\xffab.", "a string that extends beyond its end");
        refused(b"\x80\x02\x8a\xff", "more than 64 bits");
        refused(b"s.", "empty stack");
        refused(b"\x80\x04\x95", "protocol 4");
    }

    #[test]
    fn objects_do_not_grow_without_bounds() {
        // Each tuple holds the one before it twice.
        let mut pickle = b"\x80\x02K\x01q\x00".to_vec();
        for id in 0..60u8 {
            pickle.extend([b'h', id, b'h', id, 0x86, b'q', id + 1]);
        }
        pickle.push(b'.');
        refused(&pickle, "without limit");
        refused(&[b"\x80\x02)".as_slice(), &[0x85; 1000], b"."].concat(), "nested too deeply");
        refused(&[b"\x80\x02".as_slice(), &[b']'; 1000], &[b'a'; 999], b"."].concat(), "nested too deeply");
    }

    #[test]
    fn what_the_reader_would_lose_is_refused() {
        refused(b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "a dict in a form");
        refused(b"\x80\x02}}X\x01\x00\x00\x00aK\x01sb.", "attributes");
        refused(b"\x80\x02}q\x00h\x00\x86.", "in two places");
    }
}
