//! From text to a recipe: variables are filled in, stages named, numbered and read.

use std::collections::HashMap;
use std::path::Path;

use super::abroad;
use super::allow::{self, Allowed};
use super::card;
use super::cycle;
use super::fields::Fields;
use super::finding::Finding;
use super::keys;
use super::meant::{Recipe, Stage, StageId};
use super::naming;
use super::reference::Resolver;
use super::slips;
use super::span::{Span, Spanned};
use super::stage::StageReader;
use super::vars::{self, Vars};
use super::yaml::{self, Node};
use crate::methods;
use crate::tensor::Dtype;

/// What a recipe is read with besides its text.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The file as the user named it; its stem names a stage without a name.
    pub name: String,
    /// Variables set on the command line.
    pub sets: Vec<(String, String)>,
    /// Goes before every seed of the recipe.
    pub seed: Option<u64>,
}

/// A recipe, unless there is an error among the findings.
#[derive(Debug)]
pub struct Loaded {
    /// `None` if any finding is an error; warnings and notes do not take it away.
    pub recipe: Option<Recipe>,
    /// In the order in which they were found.
    pub findings: Vec<Finding>,
    /// Kinds of findings that the recipe allows, for [`allow::apply`].
    pub allowed: Vec<Allowed>,
}

/// Words that mean something else where a stage can be named.
const KEYWORDS: [&str; 3] = ["base", "union", "auto"];

/// Reads a recipe's text. Findings are complete as far as they do not depend on one another.
pub fn load(text: &str, options: &LoadOptions) -> Loaded {
    let mut findings = Vec::new();
    let mut allowed = Vec::new();
    let recipe = read(text, options, &mut allowed, &mut findings);
    let has_error = findings.iter().any(Finding::is_error);
    Loaded { recipe: recipe.filter(|_| !has_error), findings, allowed }
}

fn read(
    text: &str,
    options: &LoadOptions,
    allowed: &mut Vec<Allowed>,
    findings: &mut Vec<Finding>,
) -> Option<Recipe> {
    let slip = |error: Finding| {
        let at = error.span.map(|span| span.start);
        let is_syntax = error.code == "yaml";
        slips::behind_error(text, at).filter(|_| is_syntax).unwrap_or(error)
    };
    let documents = yaml::parse(text).map_err(|error| findings.push(slip(error))).ok()?;
    slips::check(text, &documents, findings);
    if findings.iter().any(Finding::is_error) {
        return None;
    }
    let starts: Vec<usize> = documents.iter().map(|document| document.span.start).collect();
    // A document is what lies between its start and that of the next one; the first has all that is before it.
    let scope = |document: &Node| {
        let start = document.span.start;
        let end = starts.iter().copied().filter(|other| *other > start).min();
        let is_first = starts.iter().all(|other| *other >= start);
        (if is_first { 0 } else { start })..end.unwrap_or(usize::MAX)
    };
    let (declaring, mut documents): (Vec<Node>, Vec<Node>) =
        documents.into_iter().partition(vars::is_declaration);
    let mut vars = Vars::default();
    for document in &declaring {
        vars.declare(document, findings);
    }
    allowed.append(&mut vars.allowed);
    // What is not declared because its document is wrong would be missed wherever it is used.
    if findings.iter().any(Finding::is_error) {
        return None;
    }
    vars.set(&options.sets, findings);
    for document in &mut documents {
        vars.fill(document, findings);
    }
    let card = vars.card.take().map(|mut node| {
        vars.fill(&mut node, findings);
        card::read(&node, findings)
    });
    if findings.iter().any(Finding::is_error) {
        return None;
    }
    vars.check_used(findings);
    if documents.is_empty() {
        findings.push(Finding::error("no-stage", None, "the recipe has no stages"));
        return None;
    }
    let mut named_text = text.to_owned();
    let stages: Vec<(Fields<'_>, StageName)> = documents
        .iter()
        .enumerate()
        .filter_map(|(number, document)| {
            let fields = Fields::read(document, "a stage", &keys::STAGE, findings)?;
            let name = stage_name(&fields, &options.name, findings);
            allowed.extend(allow::read(&fields, scope(document), findings));
            if fields.get("name").is_none() {
                named_text = naming::with_name(text, document, number, &name.name.value);
            }
            Some((fields, name))
        })
        .collect();
    let names = number_stages(&stages, findings);
    let seed = options.seed.or(vars.seed.as_ref().map(|seed| seed.value));
    let resolver = Resolver { stages: &names };
    let stages: Vec<Option<Stage>> = stages
        .iter()
        .map(|(fields, StageName { name, from_file })| {
            let name_from_file = *from_file;
            let reader =
                StageReader { fields, name, name_from_file, resolver: &resolver, flag_seed: options.seed };
            reader.read(seed, findings)
        })
        .collect();
    let stages: Vec<Stage> = stages.into_iter().collect::<Option<_>>()?;
    if stages.iter().all(|stage| !stage.method.spec().draws) {
        let place = vars.seed.as_ref().map(|seed| seed.span);
        let message = match options.seed {
            Some(_) => Some("`--seed` has no effect: no stage draws at random"),
            None => place.map(|_| "the recipe has a seed, but no stage draws at random"),
        };
        findings.extend(message.map(|message| Finding::note("unused-seed", place, message)));
    }
    let LoadOptions { name, sets, seed } = options.clone();
    let portable = abroad::portable(&named_text, &sets, &stages);
    let recipe = Recipe {
        name,
        text: text.into(),
        portable,
        sets,
        seed,
        card: card.unwrap_or_default(),
        stages,
        files: Vec::new(),
    };
    cycle::check(&recipe, findings);
    Some(recipe)
}

/// A stage's name, and whether it is but the file's. Nothing can refer to a stage by its file's name.
struct StageName {
    name: Spanned<String>,
    from_file: bool,
}

fn stage_name(fields: &Fields<'_>, file: &str, findings: &mut Vec<Finding>) -> StageName {
    let marked = fields.flag(keys::NAME_FROM_FILE, findings).unwrap_or(false);
    match fields.text("name", findings) {
        Some((text, span)) => StageName { name: Spanned { value: text.to_owned(), span }, from_file: marked },
        None => {
            let stem = Path::new(file).file_stem().map_or("merged".into(), |stem| stem.to_string_lossy());
            StageName { name: Spanned { value: stem.into_owned(), span: fields.span }, from_file: true }
        }
    }
}

/// Checks the names of all stages and numbers those that can be referred to.
fn number_stages(
    stages: &[(Fields<'_>, StageName)],
    findings: &mut Vec<Finding>,
) -> HashMap<String, StageId> {
    let mut names = HashMap::new();
    let mut unnamed: Option<Span> = None;
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for (number, (_, StageName { name, from_file })) in stages.iter().enumerate() {
        let is_named = !from_file;
        if !is_named && unnamed.replace(name.span).is_some() {
            let message = "more than one stage has no name";
            findings.push(Finding::error("unnamed-stage", name.span, message).help("give it a `name:`"));
            continue;
        }
        if let Some(problem) = unusable_name(&name.value, is_named) {
            let message = format!("a stage cannot be called `{}`: {problem}", name.value);
            let help = if is_named {
                "choose another name"
            } else {
                "give the stage a `name:`; without one, it takes the name of the file"
            };
            findings.push(Finding::error("stage-name", name.span, message).help(help));
        }
        let folder =
            |one: &str, other: &str| other.strip_prefix(one).is_some_and(|rest| rest.starts_with('/'));
        if let Some(other) =
            seen.keys().find(|other| folder(other, &name.value) || folder(&name.value, other))
        {
            let message =
                format!("the outputs of stages `{other}` and `{}` would be inside one another", name.value);
            findings.push(Finding::error("stage-name", name.span, message).help("rename one of them"));
        }
        if seen.insert(&name.value, name.span).is_some() {
            let message = format!("two stages are called `{}`", name.value);
            findings
                .push(Finding::error("stage-name", name.span, message).help("stage names must be unique"));
        }
        if is_named {
            names.insert(name.value.clone(), StageId(number));
        }
    }
    names
}

/// What keeps a name from being a stage's: `NAME` or, as models are published, `ORG/NAME`. A file's name may be any
/// word, since nothing can refer to it.
fn unusable_name(name: &str, is_named: bool) -> Option<&'static str> {
    let means_other = || {
        KEYWORDS.contains(&name) || methods::find(name).is_some() || Dtype::from_recipe_name(name).is_some()
    };
    if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        Some("it must be a valid folder name")
    } else if name.chars().any(|c| c.is_control() || "\\:@+".contains(c)) {
        Some("it contains a character with a special meaning in paths or references")
    } else if name.matches('/').count() > 1 {
        Some("a name has the form NAME or ORG/NAME")
    } else if name.starts_with("merges/") {
        Some("`merges/NAME` means the stage NAME")
    } else if is_named && means_other() {
        Some("the word has another meaning in recipes")
    } else {
        None
    }
}
