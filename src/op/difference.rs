//! How one tensor differs from another of the same shape, whatever floating-point types the two are stored in.
//!
//! With a the first, b the second, both widened to f32, and d = b - a, the result is a table of f64: the number of
//! elements, of those that differ, of those with opposite signs, <a, a>, <a, b>, <b, b>, <d, d>, and the largest |d|
//! with the place of the first element that has it. Sums follow a tree fixed by the shape. Everything that is shown
//! follows from the table, so another reading of it makes nothing anew.

use super::compared::table;
use super::contract::{Access, Op, Role, Streaming};
use crate::kernels::reduce::{LANES, over_lanes, products, products_from};
use crate::kernels::simd::vectorized;
use crate::manifest::Sink;
use crate::methods::{Cut, Extent, Kernel, Leaf, Operation, Pass, Scratch};
use crate::tensor::{Shape, TensorSpec};

/// What the first tensor is to this operation.
pub const BEFORE: Role = Role("before");

/// What the second tensor is to this operation.
pub const AFTER: Role = Role("after");

#[derive(Debug)]
pub struct Difference;

impl Op for Difference {
    fn name(&self) -> &'static str {
        "difference"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, _sink: &mut dyn Sink) {}

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [_, _] = inputs else {
            return Err(format!("is compared with one tensor, not {}", inputs.len().saturating_sub(1)));
        };
        table(inputs, TABLE)
    }

    fn access(&self) -> Access<'_> {
        Access::Streaming(Streaming { operation: self, compute: None })
    }
}

impl Operation for Difference {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        self.write_fields(sink);
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Gathering { n_elements: extent.n_elements, table: None })
    }
}

/// Numbers in a table.
const TABLE: usize = 9;

/// Sums of <a, a>, <a, b>, <b, b> and <d, d>.
const PRODUCTS: usize = 4;

/// Numbers of a leaf: the lanes of its sums, its largest |d|, and where that is.
const LEAF: usize = PRODUCTS * LANES + 2;

struct Gathering {
    n_elements: usize,
    table: Option<[f64; TABLE]>,
}

impl Kernel for Gathering {
    fn next_pass(&self) -> Option<Pass> {
        self.table.is_none().then_some(Pass { sums: LEAF, counts: 2 })
    }

    fn takes_pieces(&self) -> bool {
        true
    }

    fn gather(&self, leaf: &Leaf<'_>, sums: &mut [f64], counts: &mut [u64], _scratch: &mut Scratch) {
        let [before, after] = *leaf.inputs else { unreachable!("inputs were counted") };
        let (lanes, largest) = sums.split_at_mut(PRODUCTS * LANES);
        let (of_pair, of_difference) = lanes.split_at_mut(3 * LANES);
        products(&[before, after], of_pair);
        products_from(before, &[after], of_difference);
        let (differing, flipped, most) = compared(before, after);
        counts[0] += differing;
        counts[1] += flipped;
        if f64::from(most) > largest[0] {
            let difference = |(a, b): (&f32, &f32)| (b - a).abs() == most;
            let place = before.iter().zip(after).position(difference).expect("some element has the largest");
            (largest[0], largest[1]) = (most.into(), (leaf.start + place as u64) as f64);
        }
    }

    fn absorb(&mut self, sums: &[f64], counts: &[u64]) -> Result<(), String> {
        let leaves = || sums.chunks_exact(LEAF);
        let lanes: Vec<f64> = leaves().flat_map(|leaf| &leaf[..PRODUCTS * LANES]).copied().collect();
        let sum = |which| over_lanes(&lanes, PRODUCTS, which);
        let mut largest = [0.0, 0.0];
        for leaf in leaves() {
            let [.., most, place] = *leaf else { unreachable!("leaves have numbers") };
            if most > largest[0] {
                largest = [most, place];
            }
        }
        let [n, differing, flipped] = [self.n_elements as f64, counts[0] as f64, counts[1] as f64];
        self.table = Some([n, differing, flipped, sum(0), sum(1), sum(2), sum(3), largest[0], largest[1]]);
        Ok(())
    }

    fn table(&self) -> Option<&[f64]> {
        self.table.as_ref().map(|table| &table[..])
    }

    fn emit(&self, _leaf: &Leaf<'_>, _out: &mut [f32], _scratch: &mut Scratch) {
        unreachable!("the result is a table");
    }
}

vectorized! {
    /// How many elements differ, how many have opposite signs, and the largest difference.
    fn compared(a: &[f32], b: &[f32]) -> (u64, u64, f32) {
        let (mut differing, mut flipped, mut most) = ([0u32; LANES], [0u32; LANES], [0.0f32; LANES]);
        let mut lane = |lane: usize, a: f32, b: f32| {
            differing[lane] += u32::from(a != b);
            flipped[lane] += u32::from((a > 0.0) & (b < 0.0) | (a < 0.0) & (b > 0.0));
            let difference = (b - a).abs();
            most[lane] = if difference > most[lane] { difference } else { most[lane] };
        };
        let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a_chunks.iter().zip(b_chunks) {
            for i in 0..LANES {
                lane(i, a[i], b[i]);
            }
        }
        for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
            lane(i, *a, *b);
        }
        let total = |counts: [u32; LANES]| counts.iter().map(|n| u64::from(*n)).sum();
        (total(differing), total(flipped), most.into_iter().fold(0.0, f32::max))
    }
}

/// A table, read; or those of several tensors added up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    pub elements: f64,
    /// Elements that differ.
    differing: f64,
    /// Elements with opposite signs.
    flipped: f64,
    /// <a, a>, <a, b>, <b, b> and <d, d>.
    before: f64,
    both: f64,
    after: f64,
    change: f64,
    /// The largest |d|.
    pub largest: f64,
    /// The number of the first element that has it, of a single tensor.
    place: f64,
}

impl Distance {
    /// Of no tensor yet.
    pub const NOTHING: Self = Self {
        elements: 0.0,
        differing: 0.0,
        flipped: 0.0,
        before: 0.0,
        both: 0.0,
        after: 0.0,
        change: 0.0,
        largest: 0.0,
        place: 0.0,
    };

    /// Reads a table's bytes; `None` if they are none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let numbers: Vec<f64> = numbers.iter().map(|number| f64::from_le_bytes(*number)).collect();
        let [elements, differing, flipped, before, both, after, change, largest, place] = *numbers else {
            return None;
        };
        let table = Self { elements, differing, flipped, before, both, after, change, largest, place };
        rest.is_empty().then_some(table)
    }

    /// The L2 norm of b - a.
    pub fn norm(&self) -> f64 {
        self.change.sqrt()
    }

    /// The norm of b - a as a part of that of a: 0 where nothing differs, infinite where a is zero and b is not.
    pub fn relative(&self) -> f64 {
        if self.change == 0.0 { 0.0 } else { (self.change / self.before).sqrt() }
    }

    /// The cosine between the two: 1 where nothing differs, and 0 where one of them is zero.
    pub fn cosine(&self) -> f64 {
        let norms = self.before.sqrt() * self.after.sqrt();
        match () {
            () if self.change == 0.0 => 1.0,
            () if norms == 0.0 => 0.0,
            () => (self.both / norms).clamp(-1.0, 1.0),
        }
    }

    /// The part of all elements that differ.
    pub fn differing(&self) -> f64 {
        self.differing / self.elements.max(1.0)
    }

    /// The part of all elements with opposite signs.
    pub fn flipped(&self) -> f64 {
        self.flipped / self.elements.max(1.0)
    }

    /// Where in a tensor of this shape the largest change is, an index for each axis.
    pub fn place(&self, shape: &Shape) -> Vec<usize> {
        let mut rest = self.place as usize;
        let mut index: Vec<usize> = shape
            .0
            .iter()
            .rev()
            .map(|len| {
                let at = rest % len.max(&1);
                rest /= len.max(&1);
                at
            })
            .collect();
        index.reverse();
        index
    }

    /// Adds another tensor's; a place says nothing any more.
    pub fn add(&mut self, other: &Self) {
        self.elements += other.elements;
        self.differing += other.differing;
        self.flipped += other.flipped;
        self.before += other.before;
        self.both += other.both;
        self.after += other.after;
        self.change += other.change;
        self.largest = self.largest.max(other.largest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::at_every_level;
    use crate::tensor::Dtype;

    fn gathered(before: &[f32], after: &[f32], leaf: usize, piece: usize) -> Distance {
        let n = before.len();
        let mut kernel = Difference.kernel(Extent { n_elements: n, rows: 1 });
        let pass = kernel.next_pass().unwrap();
        let (mut sums, mut counts) = (vec![0.0; n.div_ceil(leaf) * pass.sums], vec![0; pass.counts]);
        for (index, own) in sums.chunks_exact_mut(pass.sums).enumerate() {
            let end = ((index + 1) * leaf).min(n);
            for start in (index * leaf..end).step_by(piece) {
                let range = start..(start + piece).min(end);
                let leaf = Leaf {
                    index,
                    inputs: &[&before[range.clone()], &after[range.clone()]],
                    masks: &[],
                    rows: 1,
                    row_len: range.len(),
                    start: start as u64,
                    row_step: 0,
                    col_step: 1,
                };
                kernel.gather(&leaf, own, &mut counts, &mut Scratch::default());
            }
        }
        kernel.absorb(&sums, &counts).unwrap();
        assert!(kernel.next_pass().is_none());
        let bytes: Vec<u8> = kernel.table().unwrap().iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(Distance::read(&bytes[1..]), None);
        Distance::read(&bytes).unwrap()
    }

    #[test]
    fn numbers_are_those_of_their_definitions() {
        let value = |i: usize, k: usize| ((i * 37 + k * 11 + i * k % 7) % 19) as f32 / 4.0 - 2.0;
        let [a, b] = [1, 2].map(|i| (0..1003).map(|k| value(i, k)).collect::<Vec<f32>>());
        let wide = |k: usize| (f64::from(a[k]), f64::from(b[k]));
        let sum = |term: &dyn Fn((f64, f64)) -> f64| (0..a.len()).map(|k| term(wide(k))).sum::<f64>();
        let norm = sum(&|(a, b)| (b - a).powi(2)).sqrt();
        let (of_a, of_b) = (sum(&|(a, _)| a * a).sqrt(), sum(&|(_, b)| b * b).sqrt());
        let part =
            |is: &dyn Fn((f64, f64)) -> bool| sum(&|pair| f64::from(u8::from(is(pair)))) / a.len() as f64;
        let far = |k: &usize| (wide(*k).1 - wide(*k).0).abs();
        let largest = (0..a.len()).map(|k| far(&k)).fold(0.0, f64::max);
        let first = (0..a.len()).find(|k| far(k) == largest).unwrap();
        at_every_level(|_| {
            for (leaf, piece) in [(1003, 1003), (512, 512), (512, 64), (104, 8)] {
                let found = gathered(&a, &b, leaf, piece);
                let near = |a: f64, b: f64| (a - b).abs() < 1e-12 * b.abs().max(1.0);
                assert!(near(found.norm(), norm) && near(found.relative(), norm / of_a));
                assert!(near(found.cosine(), sum(&|(a, b)| a * b) / (of_a * of_b)));
                assert_eq!(found.differing(), part(&|(a, b)| a != b));
                assert_eq!(found.flipped(), part(&|(a, b)| a * b < 0.0));
                assert_eq!((found.elements, found.largest), (1003.0, largest));
                assert_eq!(found.place(&Shape(vec![17, 59])), [first / 59, first % 59]);
            }
        });
    }

    #[test]
    fn where_nothing_differs_or_all_is_zero_nothing_is_divided_by_zero() {
        let same = gathered(&[0.0, 1.0, -1.0], &[0.0, 1.0, -1.0], 3, 3);
        assert_eq!((same.norm(), same.relative(), same.cosine(), same.differing()), (0.0, 0.0, 1.0, 0.0));
        let from_zero = gathered(&[0.0], &[1.0], 1, 1);
        assert_eq!((from_zero.relative(), from_zero.cosine()), (f64::INFINITY, 0.0));
        let zero = gathered(&[0.0, -0.0], &[-0.0, 0.0], 2, 2);
        assert_eq!((zero.relative(), zero.cosine(), zero.differing()), (0.0, 1.0, 0.0));
        let empty = gathered(&[], &[], 1, 1);
        assert_eq!(
            (empty, empty.flipped(), empty.place(&Shape(vec![0, 3]))),
            (Distance::NOTHING, 0.0, vec![0, 0])
        );
        assert_eq!(from_zero.place(&Shape(Vec::new())), [0usize; 0]);
    }

    #[test]
    fn totals_are_those_of_all_elements_at_once() {
        let value = |i: usize, k: usize| ((i * 5 + k * 3) % 7) as f32 - 3.0;
        let [a, b] = [1, 2].map(|i| (0..40).map(|k| value(i, k)).collect::<Vec<f32>>());
        let mut sum = Distance::NOTHING;
        sum.add(&gathered(&a[..24], &b[..24], 24, 24));
        sum.add(&gathered(&a[24..], &b[24..], 16, 16));
        assert_eq!(sum, Distance { place: 0.0, ..gathered(&a, &b, 40, 40) });
    }

    #[test]
    fn only_floats_of_one_shape_are_compared() {
        let spec = |dtype, dims: &[usize]| TensorSpec { dtype, shape: Shape(dims.to_vec()) };
        let (half, single) = (spec(Dtype::Bf16, &[2, 3]), spec(Dtype::F32, &[2, 3]));
        assert_eq!(Difference.output(&[&half, &single]), Ok(spec(Dtype::F64, &[TABLE])));
        assert!(Difference.output(&[&half, &spec(Dtype::Bf16, &[3, 2])]).is_err());
        assert!(Difference.output(&[&half, &spec(Dtype::I64, &[2, 3])]).is_err());
        assert!(Difference.output(&[&half]).is_err());
    }
}
