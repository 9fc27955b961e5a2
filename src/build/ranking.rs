//! Searches for ranks in a whole tensor: takes the sample, and runs the pass that lists.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::buffers::{Buffers, decode, with_vectors};
use super::bytes::Bytes;
use super::compute::{Computation, Failure, PIECE, leaf};
use super::geometry::Geometry;
use crate::kernels::bracket::{LONGEST, Listed, places, sample_size};
use crate::methods::{Ranking, Sample};
use crate::tensor::Dtype;

impl Computation<'_> {
    /// Carries out the search, as far as that is possible.
    pub(super) fn rank(&self, geometry: &Geometry, ranking: &mut dyn Ranking) -> Result<(), Failure> {
        let n_elements = geometry.extent().n_elements as u64;
        let places: Vec<u64> = places(n_elements, sample_size(n_elements)).collect();
        let Some(inputs) = self.sample(&places) else {
            ranking.absorb(None);
            return Ok(());
        };
        let mut n_lists = 0;
        with_vectors(&inputs, |inputs| n_lists = ranking.see(&Sample { places: &places, inputs }));
        drop(inputs);
        let runs = self.list(geometry, &*ranking, n_lists, n_lists * LONGEST)?;
        ranking.absorb(runs.as_deref());
        Ok(())
    }

    /// The elements of every input at some places, unless they would have to be read from files one by one.
    fn sample(&self, places: &[u64]) -> Option<Vec<Vec<f32>>> {
        let input = |(bytes, dtype): &(Bytes, Dtype)| {
            let size = dtype.size();
            let mut stored = vec![0; places.len() * size];
            let mut elements = places.iter().zip(stored.chunks_exact_mut(size));
            let is_at_hand = elements.all(|(place, element)| {
                let at = *place as usize * size;
                bytes.at_hand_in(at..at + size).is_some_and(|seen| {
                    element.copy_from_slice(seen);
                    true
                })
            });
            if !is_at_hand {
                return None;
            }
            let mut values = vec![0.0; places.len()];
            decode(*dtype, self.compute, &stored, &mut values);
            Some(values)
        };
        if self.parallel {
            self.inputs.par_iter().map(input).collect()
        } else {
            self.inputs.iter().map(input).collect()
        }
    }

    /// The pass over all leaves. Nothing if the lists grow longer than there is room.
    fn list(
        &self,
        geometry: &Geometry,
        ranking: &dyn Ranking,
        n_lists: usize,
        room: usize,
    ) -> Result<Option<Vec<Vec<Listed>>>, Failure> {
        let n_listed = AtomicUsize::new(0);
        let block = |buffers: &mut Buffers, leaves: Range<usize>| -> Result<Vec<Listed>, Failure> {
            (self.proceed)()?;
            let mut lists: Vec<Listed> = (0..n_lists).map(|_| Listed::default()).collect();
            if n_listed.load(Ordering::Relaxed) > room {
                return Ok(lists);
            }
            for index in leaves {
                let span = geometry.leaf(index);
                buffers.fetch(&self.inputs, span)?;
                for piece in geometry.pieces(span, PIECE) {
                    buffers.load(&self.inputs, self.compute, piece)?;
                    buffers.with_values(0, |inputs, _, _, scratch| {
                        ranking.list(&leaf(index, piece, inputs, &[]), &mut lists, scratch);
                    });
                }
                lists.iter_mut().for_each(Listed::end_leaf);
            }
            n_listed.fetch_add(lists.iter().map(Listed::n_within).sum(), Ordering::Relaxed);
            Ok(lists)
        };
        let blocks = if n_lists > 0 { geometry.blocks() } else { Vec::new() };
        let runs: Vec<Vec<Listed>> = if self.parallel {
            blocks.into_par_iter().map_init(|| self.buffers(), block).collect::<Result<_, _>>()?
        } else {
            let mut buffers = self.buffers();
            blocks.into_iter().map(|leaves| block(&mut buffers, leaves)).collect::<Result<_, _>>()?
        };
        Ok((n_listed.into_inner() <= room).then_some(runs))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use super::*;
    use crate::build::bytes::FilePart;
    use crate::build::compute::Target;
    use crate::build::masks::Masks;
    use crate::kernels::select::magnitude;
    use crate::kernels::stream::Stream;
    use crate::methods::{self, Arguments, InputArguments, Operation, Simplified, Value};
    use crate::tensor::{Shape, TensorSpec};

    const N: usize = 300_000;

    static NO_MASKS: LazyLock<Masks> = LazyLock::new(Masks::default);

    /// A method with a base of zeros and one model.
    fn operation(name: &str, values: &[(&'static str, f64)]) -> Box<dyn Operation> {
        let input = |is_base| InputArguments {
            is_base,
            stream: Stream::derive(0, "stage", 0, "tensor"),
            values: if is_base { methods::Values::default() } else { numbers(values) },
        };
        let flags = [("normalize", false), ("rescale", name == "ties")];
        let shared = flags.map(|(name, is_set)| (name, Value::Flag(is_set))).into_iter();
        let arguments = Arguments {
            shared: shared.chain([("lambda", Value::Number(1.0))]).collect(),
            inputs: vec![input(true), input(false)],
        };
        let method = methods::find(name).unwrap();
        match method.simplify(&arguments).unwrap() {
            Simplified::Operation { operation, .. } => operation,
            Simplified::Input(_) => panic!("there is something to compute"),
        }
    }

    fn numbers(values: &[(&'static str, f64)]) -> methods::Values {
        values.iter().map(|(name, value)| (*name, Value::Number(*value))).collect()
    }

    fn computation<'a>(
        operation: &'a dyn Operation,
        inputs: [&Bytes; 2],
        spec: &'a TensorSpec,
        parallel: bool,
    ) -> Computation<'a> {
        Computation {
            operation,
            inputs: inputs.map(|bytes| (bytes.clone(), Dtype::F32)).into(),
            masks: &NO_MASKS,
            compute: None,
            shape: &spec.shape,
            output: spec,
            parallel,
            proceed: &|| Ok(()),
        }
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn the_same_is_kept_whatever_the_sample_says() {
        let spec = TensorSpec { dtype: Dtype::F32, shape: Shape(vec![N]) };
        let hash = |i: usize| (i as u32).wrapping_mul(0x9E37_79B9).rotate_left(9).wrapping_mul(0x85EB_CA6B);
        let smooth: Vec<f32> = (0..N).map(|i| hash(i) as f32 / 2e9 - 1.0).collect();
        let steps: Vec<f32> = smooth.iter().map(|value| (value * 5.0).round()).collect();
        let mut misleading = smooth.clone();
        for place in places(N as u64, sample_size(N as u64)) {
            misleading[place as usize] = 100.0;
        }
        let (zeros, equal) = (vec![0.0; N], vec![-3.5; N]);
        let base = Bytes::Memory(Arc::new(bytes(&zeros)));
        let space = tempfile::tempdir().unwrap();
        let path = space.path().join("values");
        for values in [&smooth, &steps, &misleading, &zeros, &equal] {
            let in_memory = Bytes::Memory(Arc::new(bytes(values)));
            // Nothing is sampled from files.
            std::fs::write(&path, bytes(values)).unwrap();
            let file = Arc::new(std::fs::File::open(&path).unwrap());
            let part = FilePart { path: path.clone(), file, offset: 0, n_bytes: 4 * N, is_own: true };
            let in_file = Bytes::File(Arc::new(part));
            for (name, density, gamma) in
                [("ties", 0.3, 0.0), ("breadcrumbs", 0.5, 0.01), ("ties", 1e-6, 0.0)]
            {
                let operation = operation(name, &[("weight", 1.0), ("density", density), ("gamma", gamma)]);
                let made = |input: &Bytes, parallel| {
                    let made = computation(&*operation, [&base, input], &spec, parallel).run(Target::Memory);
                    let Ok((made, _)) = made else { panic!("it is computed") };
                    made.in_full().unwrap().into_owned()
                };
                let expected = made(&in_file, false);
                assert!(made(&in_memory, false) == expected, "{name} {density}");
                assert!(made(&in_memory, true) == expected && made(&in_file, true) == expected);
                let kept = expected.as_chunks::<4>().0.iter();
                let kept = kept.filter(|value| magnitude(f32::from_le_bytes(**value)) != 0).count();
                let wanted = ((density * N as f64) as usize).max(1);
                let some = values.iter().filter(|value| **value != 0.0).count();
                assert!(
                    kept == wanted.min(some) || gamma > 0.0 && kept <= wanted,
                    "{name} {kept} of {wanted}"
                );
            }
        }
    }

    #[test]
    fn lists_that_grow_too_long_are_given_up() {
        let spec = TensorSpec { dtype: Dtype::F32, shape: Shape(vec![1000]) };
        let operation = operation("ties", &[("weight", 1.0), ("density", 0.5)]);
        let zeros = Bytes::Memory(Arc::new(bytes(&[0.0; 1000])));
        let ones = Bytes::Memory(Arc::new(bytes(&[1.0; 1000])));
        let computation = computation(&*operation, [&zeros, &ones], &spec, false);
        let geometry = Geometry::new(&spec.shape, operation.cut());
        let mut kernel = operation.kernel(geometry.extent());
        let ranking = kernel.ranking().unwrap();
        let n_lists = ranking.see(&Sample { places: &[], inputs: &[&[], &[]] });
        let listed = |room| match computation.list(&geometry, &*ranking, n_lists, room) {
            Ok(runs) => runs.is_some(),
            Err(_) => panic!("memory can be read"),
        };
        assert_eq!((n_lists, listed(1000), listed(999)), (1, true, false));
    }
}
