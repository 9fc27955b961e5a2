//! A method's arguments for one output tensor: every parameter's value, and where in the recipe it came from.

use std::sync::LazyLock;

use super::params::evaluate;
use super::segments::Segment;
use super::stage_shape::{OutputTensor, Part};
use crate::kernels::stream::Stream;
use crate::methods::{ArgumentError, Arguments, Default, InputArguments, ParamSpec, Scope, Values};
use crate::recipe::{Finding, Parameters, Recipe, Span, Stage, StageId};

/// What methods have that do not draw.
static UNDRAWN: LazyLock<Stream> = LazyLock::new(|| Stream::derive(0, "", 0, ""));

/// One output tensor with everything that bears on it.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub recipe: &'a Recipe,
    pub id: StageId,
    pub name: &'a str,
    pub output: &'a OutputTensor<'a>,
    pub segment: &'a Segment<'a>,
}

/// A method's arguments for one output tensor, with the places that gave them.
pub struct Resolved {
    pub arguments: Arguments,
    /// Of every value that is no default: the parameter, the input that it belongs to, and the place.
    pub origins: Vec<(&'static str, Option<usize>, Span)>,
}

impl<'a> Site<'a> {
    pub fn stage(&self) -> &'a Stage {
        self.recipe.stage(self.id)
    }

    /// An input as a person would name it.
    pub fn label(&self, part: &Part) -> &'a str {
        self.recipe.name_of(self.segment.sources[part.source].reference)
    }

    /// Resolves every parameter of the method.
    ///
    /// # Errors
    /// If one that is required has no value.
    pub fn arguments(&self) -> Result<Resolved, Finding> {
        let stage = self.stage();
        let spec = stage.method.spec();
        let mut shared = Values::new();
        let mut origins = Vec::with_capacity(spec.params.len() * (self.output.parts.len() + 1));
        for param in spec.params.iter().filter(|param| param.scope == Scope::Shared) {
            let span = self
                .resolve(&mut shared, param, &self.segment.levels, self.name)
                .map_err(|()| self.required(param, None))?;
            origins.extend(span.map(|span| (param.name, None, span)));
        }
        let mut inputs = Vec::new();
        for (number, part) in self.output.parts.iter().enumerate() {
            let source = &self.segment.sources[part.source];
            let is_base = spec.base.is_relative() && self.segment.base == Some(source.reference);
            let levels = self.levels(Some(part));
            let mut values = Values::new();
            for param in spec.params {
                let wanted = match param.scope {
                    Scope::Shared => false,
                    Scope::EachInput => true,
                    Scope::EachModel => !is_base,
                };
                if wanted {
                    let span = self
                        .resolve(&mut values, param, &levels, &part.tensor)
                        .map_err(|()| self.required(param, Some(part)))?;
                    origins.extend(span.map(|span| (param.name, Some(number), span)));
                }
            }
            let stream = match spec.draws {
                true => Stream::derive(stage.seed, stage.stream_name(), part.source, self.name),
                false => *UNDRAWN,
            };
            inputs.push(InputArguments { is_base, stream, values });
        }
        Ok(Resolved { arguments: Arguments { shared, inputs }, origins })
    }

    /// The settings that bear on the tensor, or on one of its inputs, highest precedence first.
    fn levels(&self, part: Option<&Part>) -> Vec<&'a Parameters> {
        let own = part.and_then(|part| self.segment.sources[part.source].parameters);
        own.into_iter().chain(self.segment.levels.iter().copied()).collect()
    }

    /// Resolves one parameter. Returns the place that gave the value, unless it is the default.
    fn resolve(
        &self,
        values: &mut Values,
        param: &ParamSpec,
        levels: &[&Parameters],
        tensor: &str,
    ) -> Result<Option<Span>, ()> {
        match (evaluate(param.name, levels, tensor, self.output.t), param.default) {
            (Some((value, span)), _) => {
                values.insert(param.name, value);
                Ok(Some(span))
            }
            (None, Default::Is(value)) => {
                values.insert(param.name, value);
                Ok(None)
            }
            (None, Default::Absent) => Ok(None),
            (None, Default::Required) => Err(()),
        }
    }

    fn required(&self, param: &ParamSpec, part: Option<&Part>) -> Finding {
        let stage = self.stage();
        let of = part.map_or(String::new(), |part| format!(" for {}", self.label(part)));
        let message = format!(
            "stage `{}`: method `{}` needs the parameter `{}`{of}, but tensor `{}` has no value for it",
            stage.name,
            stage.method.spec().name,
            param.name,
            self.name
        );
        let span = part.map_or(stage.span, |part| self.segment.sources[part.source].span);
        Finding::error("missing-parameter", span, message)
    }

    /// What a method refused, at the place that gave the value.
    pub fn refused(&self, error: &ArgumentError) -> Finding {
        let stage = self.stage();
        let part = error.input.map(|number| &self.output.parts[number]);
        let model = part.map_or(String::new(), |part| format!(" for {}", self.label(part)));
        let tensor = part.map_or(self.name, |part| part.tensor.as_str());
        let origin = evaluate(error.param, &self.levels(part), tensor, self.output.t);
        let message = format!("stage `{}`, tensor `{}`{model}: {}", stage.name, self.name, error.message);
        Finding::error("parameter-value", origin.map_or(stage.span, |(_, span)| span), message)
    }
}
