//! A stage's body as runs of layers: whatever form the recipe uses, a list of segments.

use crate::recipe::{Body, Finding, Input, ModuleBody, Parameters, Reference, Slice, Span, Spanned, Stage};

use super::catalog::Inventory;

/// A run of output layers of one module, with the models it is made of.
#[derive(Debug)]
pub struct Segment<'r> {
    /// The number of the module in the reference layout.
    pub module: usize,
    pub sources: Vec<SegmentSource<'r>>,
    /// What the method's base is here.
    pub base: Option<&'r Reference>,
    /// Parameters that are not one source's, highest precedence first.
    pub levels: Vec<&'r Parameters>,
    /// The number of the first output layer.
    pub first_layer: usize,
    pub layers: usize,
    pub span: Span,
}

#[derive(Debug)]
pub struct SegmentSource<'r> {
    pub reference: &'r Reference,
    pub span: Span,
    /// `None` for a base that the recipe does not list.
    pub parameters: Option<&'r Parameters>,
    /// The first input layer.
    pub start: usize,
}

impl<'r> SegmentSource<'r> {
    fn listed(input: &'r Input, start: usize) -> Self {
        Self {
            reference: &input.model.value,
            span: input.model.span,
            parameters: Some(&input.parameters),
            start,
        }
    }
}

/// Turns a stage's body into segments; `inventory` gives what is known of each reference.
///
/// # Errors
/// Reports models of different depths under `models`, slices of a model with several modules, unknown
/// modules and layer ranges out of bounds.
pub fn segments<'r, 'i>(
    stage: &'r Stage,
    reference: &Inventory,
    inventory: &dyn Fn(&Reference) -> &'i Inventory,
) -> Result<Vec<Segment<'r>>, Vec<Finding>> {
    let modules = &reference.layout.modules;
    let cut = Cutter { stage, inventory };
    match &stage.body {
        Body::Models(inputs) => (0..modules.len())
            .map(|module| cut.whole(module, inputs, vec![&stage.parameters]).map_err(|error| vec![error]))
            .collect(),
        Body::Slices(slices) if modules.len() == 1 => cut.slices(0, slices, vec![&stage.parameters]),
        Body::Slices(slices) => {
            let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
            let message = format!(
                "stage `{}` cuts layers of a model with several modules ({})",
                stage.name,
                names.join(", ")
            );
            let span = slices.first().map_or(stage.span, |slice| slice.span);
            let help = "write the slices of each module under `modules:`";
            Err(vec![Finding::error("several-modules", span, message).help(help)])
        }
        Body::Modules(listed) => {
            let mut segments = Vec::new();
            for entry in listed {
                let Some(module) = reference.layout.module(&entry.name.value) else {
                    let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
                    let message = format!("stage `{}` has no module `{}`", stage.name, entry.name.value);
                    let help = format!("its models have: {}", names.join(", "));
                    return Err(vec![Finding::error("unknown-module", entry.name.span, message).help(help)]);
                };
                let levels = vec![&entry.parameters, &stage.parameters];
                match &entry.body {
                    ModuleBody::Models(inputs) => {
                        segments.push(cut.whole(module, inputs, levels).map_err(|error| vec![error])?);
                    }
                    ModuleBody::Slices(slices) => segments.extend(cut.slices(module, slices, levels)?),
                }
            }
            Ok(segments)
        }
    }
}

struct Cutter<'r, 'i, 'f> {
    stage: &'r Stage,
    inventory: &'f dyn Fn(&Reference) -> &'i Inventory,
}

impl<'r> Cutter<'r, '_, '_> {
    fn layers(&self, reference: &Reference, module: usize) -> usize {
        (self.inventory)(reference).layout.modules.get(module).map_or(0, |module| module.layers)
    }

    /// Whole models as one segment; a base that is not listed joins as the last source.
    fn whole(
        &self,
        module: usize,
        inputs: &'r [Input],
        levels: Vec<&'r Parameters>,
    ) -> Result<Segment<'r>, Finding> {
        let mut sources: Vec<SegmentSource<'r>> =
            inputs.iter().map(|input| SegmentSource::listed(input, 0)).collect();
        if let Some(Spanned { value, span }) = &self.stage.base
            && !sources.iter().any(|source| source.reference == value)
        {
            sources.push(SegmentSource { reference: value, span: *span, parameters: None, start: 0 });
        }
        let layers = self.layers(sources[0].reference, module);
        for source in &sources {
            let found = self.layers(source.reference, module);
            if found != layers {
                let message = format!(
                    "stage `{}` merges models of different depths: {layers} and {found} layers",
                    self.stage.name
                );
                let help = "choose layers of each with `slices:`";
                return Err(Finding::error("different-depths", source.span, message).help(help));
            }
        }
        let base = self.stage.base.as_ref().map(|base| &base.value);
        Ok(Segment { module, sources, base, levels, first_layer: 0, layers, span: self.stage.span })
    }

    fn slices(
        &self,
        module: usize,
        slices: &'r [Slice],
        levels: Vec<&'r Parameters>,
    ) -> Result<Vec<Segment<'r>>, Vec<Finding>> {
        let mut segments = Vec::new();
        let mut errors = Vec::new();
        let mut first_layer = 0;
        for slice in slices {
            let mut layers = 0;
            let mut sources = Vec::new();
            for input in &slice.sources {
                let range = input.layer_range.as_ref().expect("slices give a range for every source");
                let (start, end) = range.value;
                let depth = self.layers(&input.model.value, module);
                if end > depth {
                    let message = format!(
                        "stage `{}` takes layers {start} to {end} of a model that has {depth}",
                        self.stage.name
                    );
                    errors.push(Finding::error("layer-range", range.span, message));
                }
                layers = end - start;
                sources.push(SegmentSource::listed(input, start));
            }
            let base = slice.base.as_ref().or(self.stage.base.as_ref()).map(|base| &base.value);
            let levels = [vec![&slice.parameters], levels.clone()].concat();
            segments.push(Segment { module, sources, base, levels, first_layer, layers, span: slice.span });
            first_layer += layers;
        }
        if errors.is_empty() { Ok(segments) } else { Err(errors) }
    }
}
