//! Names every output tensor that any source of a stage could give, with the tensor's name in each source.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::catalog::{Inventory, Model};
use super::segments::Segment;
use super::stage_shape::{Shapes, inventory_of};
use crate::model::layout::{Module, Position, is_head, is_token_embedding, unwrapped};
use crate::model::naming::Naming;
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

/// Every tensor of an input, and where it stands there.
type Places<'a> = Vec<(&'a str, (usize, Position))>;

/// The layer tensors of an input's module by layer, each with what follows the layer's number.
type Layers<'a> = BTreeMap<usize, Vec<(&'a str, &'a str)>>;

/// Where the inventories of a stage's inputs are looked up.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub models: &'a [Model],
    pub shapes: &'a Shapes<'a>,
    /// The model that names are taken from.
    pub donor: &'a Inventory,
    /// What each input's tensors are called by it.
    pub namings: &'a HashMap<&'a Reference, Naming>,
}

impl Inputs<'_> {
    /// Names every output tensor that any source could give.
    pub fn slots(&self, segments: &[Segment<'_>]) -> BTreeMap<String, Slot> {
        let mut slots = BTreeMap::new();
        let mut places: BTreeMap<&Reference, Places<'_>> = BTreeMap::new();
        for source in segments.iter().flat_map(|segment| &segment.sources) {
            places.entry(source.reference).or_insert_with(|| self.places(source.reference));
        }
        for (module, layout) in self.donor.layout.modules.iter().enumerate() {
            let own: Vec<usize> = (0..segments.len()).filter(|i| segments[*i].module == module).collect();
            let (Some(&first), Some(&last)) = (own.first(), own.last()) else { continue };
            // Sorted once an input, however many slices are cut from it.
            let mut layers: BTreeMap<&Reference, Layers<'_>> = BTreeMap::new();
            for &number in &own {
                for source in &segments[number].sources {
                    let places = &places[source.reference];
                    let sorted = || self.layers(source.reference, places, module);
                    layers.entry(source.reference).or_insert_with(sorted);
                }
                layer_slots(number, &segments[number], layout, &layers, &mut slots);
            }
            self.other_slots(module, (first, last), segments, &places, &mut slots);
        }
        slots
    }

    /// What a tensor outside the layers is called in a result that may have more or fewer layers than the donor.
    fn numbered(&self, name: &str, segments: &[Segment<'_>]) -> String {
        let Some((module, past, rest)) = self.donor.layout.behind(name) else { return name.to_owned() };
        let own = segments.iter().filter(|segment| segment.module == module);
        let number = own.map(|segment| segment.layers).sum::<usize>() + past;
        let Module { prefix, digits, .. } = &self.donor.layout.modules[module];
        format!("{prefix}.{number:0digits$}.{rest}")
    }

    fn places(&self, reference: &Reference) -> Places<'_> {
        let inventory = inventory_of(self.models, self.shapes, reference);
        inventory.tensors.keys().map(|name| (name.as_str(), inventory.layout.place(name))).collect()
    }

    fn layers<'p>(&self, reference: &Reference, places: &Places<'p>, module: usize) -> Layers<'p> {
        let inventory = inventory_of(self.models, self.shapes, reference);
        let mut layers = Layers::new();
        let Some(module) = self.namings[reference].module(module) else { return layers };
        for (name, place) in places {
            let (of, Position::Layer(layer)) = *place else { continue };
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
        segments: &[Segment<'_>],
        places: &BTreeMap<&Reference, Places<'_>>,
        slots: &mut BTreeMap<String, Slot>,
    ) {
        let is_bare = self.donor.is_bare();
        for number in BTreeSet::from([first, last]) {
            // As in mergekit, the tensors behind the layers have no more sources than the first slice.
            let n_sources = segments[number].sources.len().min(segments[first].sources.len());
            // Sources may differ in a leading word of what the donor lacks; the first to name a tensor decides.
            let mut known: HashMap<&str, &str> = HashMap::new();
            for (source_number, source) in segments[number].sources[..n_sources].iter().enumerate() {
                let naming = &self.namings[source.reference];
                for (own, place) in &places[source.reference] {
                    if naming.is_of_layer(*place) {
                        continue;
                    }
                    let name = naming.name(own);
                    let governed = match self.donor.layout.place(name) {
                        (of, Position::Before) => of == module && number == first,
                        (of, Position::After | Position::Layer(_)) => of == module && number == last,
                    };
                    if governed {
                        let is_known = is_bare || self.donor.tensors.contains_key(name);
                        let output =
                            if is_known { name } else { *known.entry(unwrapped(name)).or_insert(name) };
                        let output = self.numbered(output, segments);
                        let slot = slots.entry(output).or_insert_with(|| Slot {
                            segment: number,
                            t: 0.0,
                            n_sources,
                            names: Vec::new(),
                        });
                        slot.names.push((source_number, (*own).to_owned()));
                    }
                }
            }
            // One that the donor stores is made also where the last slice has none of its own.
            let of_donor = |name: &&String| {
                number == last && is_head(name) && self.donor.layout.place(name) == (module, Position::After)
            };
            for name in self.donor.tensors.keys().filter(of_donor) {
                let slot = || Slot { segment: number, t: 0.0, n_sources, names: Vec::new() };
                slots.entry(name.clone()).or_insert_with(slot);
            }
            // A head that some source stores is made from the embedding of those that tie theirs, and so are embeddings
            // that are all one.
            let heads: Vec<String> = slots
                .iter()
                .filter(|(name, slot)| !is_bare && slot.segment == number && can_be_tied(name))
                .map(|(name, _)| name.clone())
                .collect();
            for head in &heads {
                let slot = slots.get_mut(head).expect("the name was just listed");
                for (source_number, source) in segments[number].sources[..n_sources].iter().enumerate() {
                    if slot.names.iter().all(|(have, _)| *have != source_number) {
                        let inventory = inventory_of(self.models, self.shapes, source.reference);
                        if let Some(tied) = inventory.tensors.keys().find(|name| is_tied(head, name)) {
                            slot.names.push((source_number, tied.clone()));
                        }
                    }
                }
                if slot.names.is_empty() {
                    slots.remove(head);
                }
            }
        }
    }
}

fn can_be_tied(name: &str) -> bool {
    is_head(name) || is_token_embedding(name)
}

/// Whether a tensor stands for one that its model does not store: an embedding for a head, and one that is shared by
/// encoder and decoder for either's.
fn is_tied(absent: &str, name: &str) -> bool {
    let is_shared = |name: &str| name.ends_with("shared.weight");
    is_token_embedding(name) && (is_head(absent) || is_shared(absent) != is_shared(name))
}

/// Names the layer tensors of a segment as the donor would, with as many digits.
fn layer_slots(
    number: usize,
    segment: &Segment<'_>,
    Module { prefix, digits, .. }: &Module,
    layers: &BTreeMap<&Reference, Layers<'_>>,
    slots: &mut BTreeMap<String, Slot>,
) {
    // By the number of the layer and what follows it, so that each is named once, however many sources have it.
    let mut found: BTreeMap<(usize, &str), Vec<(usize, String)>> = BTreeMap::new();
    for (source_number, source) in segment.sources.iter().enumerate() {
        for (layer, tensors) in layers[source.reference].range(source.start..source.start + segment.layers) {
            for (name, suffix) in tensors {
                let names = found.entry((layer - source.start, suffix)).or_default();
                names.push((source_number, (*name).to_owned()));
            }
        }
    }
    let n_sources = segment.sources.len();
    for ((offset, suffix), names) in found {
        let t = if segment.layers == 1 { 1.0 } else { offset as f64 / (segment.layers - 1) as f64 };
        let output = format!("{prefix}.{:0digits$}{suffix}", segment.first_layer + offset);
        let slot = || Slot { segment: number, t, n_sources, names: Vec::new() };
        slots.entry(output).or_insert_with(slot).names.extend(names);
    }
}
