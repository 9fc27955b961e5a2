//! Names every output tensor that any source of a stage could give, with the tensor's name in each source.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::catalog::{Inventory, Model};
use super::segments::Segment;
use super::stage_shape::{Shapes, inventory_of};
use crate::model::layout::{Module, Position, is_head, is_token_embedding, unwrapped};
use crate::recipe::Reference;

/// A tensor slot of the output, before its parts are looked up.
pub struct Slot {
    pub segment: usize,
    pub t: f64,
    /// How many of the segment's sources take part, the first ones.
    pub n_sources: usize,
    /// The tensor's name in each source of the segment, where the source has such a layer.
    pub names: Vec<(usize, String)>,
}

/// The layer tensors of an input's module by layer, each with what follows the layer's number.
type Layers<'a> = BTreeMap<usize, Vec<(&'a str, &'a str)>>;

/// Where the inventories of a stage's inputs are looked up.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub models: &'a [Model],
    pub shapes: &'a Shapes<'a>,
}

impl Inputs<'_> {
    /// Names every output tensor that any source could give.
    pub fn slots(&self, reference: &Inventory, segments: &[Segment<'_>]) -> BTreeMap<String, Slot> {
        let mut slots = BTreeMap::new();
        for (module, layout) in reference.layout.modules.iter().enumerate() {
            let own: Vec<usize> = (0..segments.len()).filter(|i| segments[*i].module == module).collect();
            let (Some(&first), Some(&last)) = (own.first(), own.last()) else { continue };
            // Sorted once an input, however many slices are cut from it.
            let mut layers: BTreeMap<&Reference, Layers<'_>> = BTreeMap::new();
            for &number in &own {
                for source in &segments[number].sources {
                    layers.entry(source.reference).or_insert_with(|| self.layers(source.reference, module));
                }
                layer_slots(number, &segments[number], layout, &layers, &mut slots);
            }
            self.other_slots(module, (first, last), reference.is_bare(), segments, &mut slots);
        }
        slots
    }

    fn layers(&self, reference: &Reference, module: usize) -> Layers<'_> {
        let inventory = inventory_of(self.models, self.shapes, reference);
        let mut layers = Layers::new();
        for name in inventory.tensors.keys() {
            let (of, Position::Layer(layer)) = inventory.layout.place(name) else { continue };
            if of == module {
                let behind = &name[inventory.layout.modules[of].prefix.len() + 1..];
                let suffix = behind.trim_start_matches(|c: char| c.is_ascii_digit());
                layers.entry(layer).or_default().push((name, suffix));
            }
        }
        layers
    }

    /// Tensors outside the layers: those before them follow the first segment, those behind the last. Of bare state
    /// dicts, those of one name meet, and none stands for another.
    fn other_slots(
        &self,
        module: usize,
        (first, last): (usize, usize),
        is_bare: bool,
        segments: &[Segment<'_>],
        slots: &mut BTreeMap<String, Slot>,
    ) {
        for number in BTreeSet::from([first, last]) {
            // As in mergekit, the tensors behind the layers have no more sources than the first slice.
            let n_sources = segments[number].sources.len().min(segments[first].sources.len());
            // Sources may differ in a leading word; the first to name a tensor decides.
            let mut known: HashMap<&str, &str> = HashMap::new();
            for (source_number, source) in segments[number].sources[..n_sources].iter().enumerate() {
                let inventory = inventory_of(self.models, self.shapes, source.reference);
                for name in inventory.tensors.keys() {
                    let governed = match inventory.layout.place(name) {
                        (of, Position::Before) => of == module && number == first,
                        (of, Position::After) => of == module && number == last,
                        (_, Position::Layer(_)) => false,
                    };
                    if governed {
                        let own = if is_bare { name } else { unwrapped(name) };
                        let output = *known.entry(own).or_insert(name);
                        let slot = slots.entry(output.to_owned()).or_insert_with(|| Slot {
                            segment: number,
                            t: 0.0,
                            n_sources,
                            names: Vec::new(),
                        });
                        slot.names.push((source_number, name.clone()));
                    }
                }
            }
            // A head that some source stores is made from the embedding of those that tie theirs.
            let heads: Vec<String> = slots
                .iter()
                .filter(|(name, slot)| !is_bare && slot.segment == number && is_head(name))
                .map(|(name, _)| name.clone())
                .collect();
            for head in heads {
                let slot = slots.get_mut(&head).expect("the name was just listed");
                for (source_number, source) in segments[number].sources[..n_sources].iter().enumerate() {
                    if slot.names.iter().all(|(have, _)| *have != source_number) {
                        let inventory = inventory_of(self.models, self.shapes, source.reference);
                        if let Some(tied) = inventory.tensors.keys().find(|name| is_token_embedding(name)) {
                            slot.names.push((source_number, tied.clone()));
                        }
                    }
                }
            }
        }
    }
}

/// Names the layer tensors of a segment as the donor would, with as many digits.
fn layer_slots(
    number: usize,
    segment: &Segment<'_>,
    Module { prefix, digits, .. }: &Module,
    layers: &BTreeMap<&Reference, Layers<'_>>,
    slots: &mut BTreeMap<String, Slot>,
) {
    for (source_number, source) in segment.sources.iter().enumerate() {
        for (layer, tensors) in layers[source.reference].range(source.start..source.start + segment.layers) {
            let offset = layer - source.start;
            let t = if segment.layers == 1 { 1.0 } else { offset as f64 / (segment.layers - 1) as f64 };
            for (name, suffix) in tensors {
                let output = format!("{prefix}.{:0digits$}{suffix}", segment.first_layer + offset);
                let n_sources = segment.sources.len();
                let slot = slots.entry(output).or_insert_with(|| Slot {
                    segment: number,
                    t,
                    n_sources,
                    names: Vec::new(),
                });
                slot.names.push((source_number, (*name).to_owned()));
            }
        }
    }
}
