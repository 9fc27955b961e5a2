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

#[derive(Clone, Copy, Debug)]
pub struct SegmentSource<'r> {
    pub reference: &'r Reference,
    pub span: Span,
    /// `None` for a base that the recipe does not list.
    pub parameters: Option<&'r Parameters>,
    /// The first input layer.
    pub start: usize,
}

impl Segment<'_> {
    /// The same sources for a module without layers.
    fn around(&self, module: usize) -> Self {
        let sources = self.sources.iter().map(|source| SegmentSource { start: 0, ..*source }).collect();
        Self { module, sources, first_layer: 0, layers: 0, levels: self.levels.clone(), ..*self }
    }
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

/// Turns a stage's body into segments; `layers` tells how many layers a reference has of a module of the donor's.
///
/// # Errors
/// Reports models of different depths under `models`, slices of a model with several modules, unknown
/// modules and layer ranges out of bounds.
pub fn segments<'r>(
    stage: &'r Stage,
    donor: &Inventory,
    layers: &dyn Fn(&Reference, usize) -> usize,
) -> Result<Vec<Segment<'r>>, Vec<Finding>> {
    let modules = &donor.layout.modules;
    let cut = Cutter { stage, layers };
    match &stage.body {
        Body::Models(inputs) => (0..modules.len())
            .map(|module| cut.whole(module, inputs, vec![&stage.parameters]).map_err(|error| vec![error]))
            .collect(),
        Body::Slices(slices) if modules.len() == 1 => cut.slices(0, slices, vec![&stage.parameters]),
        Body::Slices(slices) => {
            let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
            let message = format!(
                "stage `{}` uses `slices` for a model with several modules ({})",
                stage.name,
                names.join(", ")
            );
            let span = slices.first().map_or(stage.span, |slice| slice.span);
            let help = "put the slices of each module under `modules:`";
            Err(vec![Finding::error("several-modules", span, message).help(help)])
        }
        Body::Modules(listed) => {
            let mut segments = Vec::new();
            for entry in listed {
                let named = donor.layout.named(&entry.name.value);
                if named.is_empty() {
                    let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
                    let message = format!("stage `{}` has no module `{}`", stage.name, entry.name.value);
                    let help = format!("the models have: {}", names.join(", "));
                    return Err(vec![Finding::error("unknown-module", entry.name.span, message).help(help)]);
                }
                let levels = vec![&entry.parameters, &stage.parameters];
                for module in named {
                    match &entry.body {
                        ModuleBody::Models(inputs) => {
                            let whole = cut.whole(module, inputs, levels.clone());
                            segments.push(whole.map_err(|error| vec![error])?);
                        }
                        ModuleBody::Slices(slices) => {
                            segments.extend(cut.slices(module, slices, levels.clone())?);
                        }
                    }
                }
            }
            // What stands among another module's tensors is part of it, unless it is listed too.
            for module in 0..modules.len() {
                let is_there = |of: usize| segments.iter().any(|segment| segment.module == of);
                if let Some(outer) = donor.layout.outer(module).filter(|_| !is_there(module))
                    && let Some(last) = segments.iter().rfind(|segment| segment.module == outer)
                {
                    segments.push(last.around(module));
                }
            }
            Ok(segments)
        }
    }
}

struct Cutter<'r, 'f> {
    stage: &'r Stage,
    layers: &'f dyn Fn(&Reference, usize) -> usize,
}

impl<'r> Cutter<'r, '_> {
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
        let layers = (self.layers)(sources[0].reference, module);
        for source in &sources {
            let found = (self.layers)(source.reference, module);
            if found != layers {
                let message = format!(
                    "stage `{}` merges models with different numbers of layers: {layers} and {found}",
                    self.stage.name
                );
                let help = "choose layers of each model with `slices:`";
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
                let depth = (self.layers)(&input.model.value, module);
                if end > depth {
                    let message = format!(
                        "stage `{}` takes layers {start} to {end} of a model that has only {depth}",
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
