//! Searches for ranks in a whole tensor: takes the sample, and runs the pass that lists.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::buffers::{Buffers, with_vectors};
use super::bytes::Bytes;
use super::compute::{Computation, Failure, PIECE, leaf};
use super::geometry::Geometry;
use crate::kernels::bracket::{LONGEST, Listed, places, sample_size};
use crate::kernels::convert;
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
        let runs = self.list(geometry, &*ranking, n_lists)?;
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
            convert::decode(*dtype, &stored, &mut values);
            if let Some(compute) = self.compute.filter(|compute| !dtype.fits_in(*compute)) {
                convert::round(compute, &mut values);
            }
            Some(values)
        };
        if self.parallel {
            self.inputs.par_iter().map(input).collect()
        } else {
            self.inputs.iter().map(input).collect()
        }
    }

    /// The pass over all leaves. Nothing if the lists grow too long.
    fn list(
        &self,
        geometry: &Geometry,
        ranking: &dyn Ranking,
        n_lists: usize,
    ) -> Result<Option<Vec<Vec<Listed>>>, Failure> {
        let room = n_lists * LONGEST;
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
                    buffers.with_values(0, |inputs, _, scratch| {
                        ranking.list(&leaf(index, piece, inputs), &mut lists, scratch);
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
