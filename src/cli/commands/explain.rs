//! `lamarck explain`.

use std::collections::BTreeMap;
use std::mem;
use std::process::ExitCode;

use serde_json::json;

use super::{Ready, prepare};
use crate::build::reasons::{Difference, Reason};
use crate::build::status::Verdict;
use crate::cli::args::ExplainArgs;
use crate::cli::config::Flags;
use crate::cli::error::CliError;
use crate::cli::palette::{self, FAINT, GOOD, MAYBE, RUN, SUBJECT, paint};
use crate::cli::ui::{Show, Ui, place};
use crate::cli::words::plural;
use crate::plan::{Action, Input, Node, NodeId, Plan};
use crate::project::Status;
use crate::recipe::{Recipe, Span};

pub fn run(args: &ExplainArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let Ready { project, recipe, planned, .. } =
        prepare(&args.recipe, Flags { seed: args.seed, ..Flags::from(&args.places) }, Show::Errors, ui)?;
    let status = project.status(&recipe, &planned)?;
    let explained = Explained { plan: &planned.plan, recipe: &recipe, status: &status, verbose: ui.verbose };
    let wanted =
        |action: &Action| args.tensor.as_ref().is_none_or(|text| action.owner.tensor.contains(text.as_str()));
    let actions: Vec<(NodeId, &Action)> =
        planned.plan.actions().filter(|(_, action)| wanted(action)).collect();
    if let Some(text) = &args.tensor
        && actions.is_empty()
    {
        let known = planned
            .plan
            .order
            .iter()
            .any(|id| planned.plan.stage(*id).tensors.keys().any(|name| name.contains(text.as_str())));
        let why =
            if known { "needs no action: it is a tensor of a model, unchanged" } else { "is in no stage" };
        return Err(CliError::Usage(format!("a tensor with `{text}` in its name {why}")));
    }
    if ui.json {
        let list: Vec<_> = actions.iter().map(|(node, action)| explained.json(*node, action)).collect();
        ui.print_json(json!({ "actions": list }))?;
    } else if args.tensor.is_some() {
        ui.print(&actions.iter().map(|(node, action)| explained.one(*node, action)).collect::<String>())?;
    } else {
        ui.print(&explained.all(&actions))?;
    }
    // The process ends with it, and frees it in one go.
    mem::forget(planned);
    Ok(ExitCode::SUCCESS)
}

struct Explained<'a> {
    plan: &'a Plan,
    recipe: &'a Recipe,
    status: &'a Status,
    /// Whether to tell of what only follows from an edit, too.
    verbose: bool,
}

impl Explained<'_> {
    fn stage(&self, action: &Action) -> &str {
        &self.recipe.stage(action.owner.stage).name
    }

    /// One line for each change, with the number of actions that it makes run.
    fn all(&self, actions: &[(NodeId, &Action)]) -> String {
        let verdicts = || actions.iter().map(|(node, _)| self.status.verdicts[*node]);
        let run = verdicts().filter(|verdict| matches!(verdict, Verdict::Run)).count();
        let maybe = verdicts().filter(|verdict| *verdict == Verdict::RunIfChanged).count();
        let up_to_date = actions.len() - run - maybe;
        let mut text = format!(
            "{} actions: {}, {}, {}\n",
            actions.len(),
            paint(RUN, format!("{run} must run")),
            paint(MAYBE, format!("{maybe} run if their inputs change")),
            paint(GOOD, format!("{up_to_date} up to date"))
        );
        let mut changes: BTreeMap<(usize, String, Difference), usize> = BTreeMap::new();
        let (mut new, mut forgotten) = (0, 0);
        for (node, action) in actions {
            match self.status.reasons.get(node) {
                Some(Reason::Changed(differences)) => {
                    for difference in differences.iter().filter(|difference| self.shows(difference)) {
                        let mut difference = difference.clone();
                        // Digests differ from tensor to tensor; the line is about all of them.
                        if difference.is_input() {
                            (difference.old, difference.new) = (None, None);
                        }
                        *changes
                            .entry((action.owner.stage.0, self.stage(action).to_owned(), difference))
                            .or_default() += 1;
                    }
                }
                Some(Reason::New) => new += 1,
                Some(Reason::Forgotten) => forgotten += 1,
                None => {}
            }
        }
        for ((_, stage, difference), n) in changes {
            let at = difference.span.map_or(String::new(), |span| format!("   {}", self.place(span)));
            let change = palette::change(&difference.text());
            text.push_str(&format!("{n:6}  {}: {change}{at}\n", paint(SUBJECT, stage)));
        }
        if new > 0 {
            let why = if self.status.compared { "not in the last build" } else { "no build to compare with" };
            text.push_str(&format!("{new:6}  new: {why}\n"));
        }
        if forgotten > 0 {
            text.push_str(&format!("{forgotten:6}  results no longer in the cache\n"));
        }
        for (model, n) in self.unread() {
            text.push_str(&format!(
                "{n:6}  source tensor{} of {model} to read: new, or its file was touched\n",
                plural(n)
            ));
        }
        if run + maybe > 0 {
            text.push_str("for single tensors: lamarck explain --tensor NAME\n");
        }
        text
    }

    /// Source tensors that no build has read in their present state, by model.
    fn unread(&self) -> BTreeMap<String, usize> {
        let mut unread = BTreeMap::new();
        for (_, action) in self.plan.actions() {
            for Input { node, label, .. } in &action.inputs {
                if self.status.verdicts[*node] == Verdict::Read && matches!(self.plan[*node], Node::Source(_))
                {
                    unread.entry(label.clone()).or_insert_with(std::collections::BTreeSet::new).insert(*node);
                }
            }
        }
        unread.into_iter().map(|(name, nodes)| (name, nodes.len())).collect()
    }

    fn shows(&self, difference: &Difference) -> bool {
        self.verbose || !difference.derived
    }

    /// Everything about one action.
    fn one(&self, node: NodeId, action: &Action) -> String {
        let stage = paint(SUBJECT, self.stage(action));
        let mut text = format!("{stage}: {}: {}\n", action.owner.tensor, self.verdict(node));
        match self.status.reasons.get(&node) {
            Some(Reason::Changed(differences)) => {
                for difference in differences.iter().filter(|difference| self.shows(difference)) {
                    let at = difference.span.map_or(String::new(), |span| format!("   {}", self.place(span)));
                    let Difference { field, what, old, new, .. } = difference;
                    let field = if field == what { String::new() } else { format!(" ({field})") };
                    let values = match (old, new) {
                        (None, None) => String::new(),
                        _ => format!(": {}", palette::change(&difference.old_to_new())),
                    };
                    text.push_str(&format!("  {what}{field}{values}{at}\n"));
                }
            }
            Some(Reason::New) => text.push_str("  no earlier build made this tensor\n"),
            Some(Reason::Forgotten) => text.push_str("  its result is no longer in the cache\n"),
            None => {}
        }
        text
    }

    /// `recipe.yaml:6`.
    fn place(&self, span: Span) -> String {
        paint(FAINT, place(self.recipe, span))
    }

    fn verdict(&self, node: NodeId) -> String {
        let (style, verdict) = match self.status.verdicts[node] {
            Verdict::Reuse => (GOOD, "up to date"),
            Verdict::Read => (RUN, "to be read"),
            Verdict::Run => (RUN, "must run"),
            Verdict::RunIfChanged => (MAYBE, "runs if its inputs come out different"),
        };
        paint(style, verdict)
    }

    fn json(&self, node: NodeId, action: &Action) -> serde_json::Value {
        let verdict = match self.status.verdicts[node] {
            Verdict::Reuse => "reuse",
            Verdict::Read => "read",
            Verdict::Run => "run",
            Verdict::RunIfChanged => "run_if_changed",
        };
        let reason = match self.status.reasons.get(&node) {
            Some(Reason::Changed(_)) => Some("changed"),
            Some(Reason::New) => Some("new"),
            Some(Reason::Forgotten) => Some("forgotten"),
            None => None,
        };
        let differences = match self.status.reasons.get(&node) {
            Some(Reason::Changed(differences)) => differences.as_slice(),
            _ => &[],
        };
        let changes: Vec<_> = differences
            .iter()
            .map(|difference| {
                let at = difference.span.map(|span| span.line_column(&self.recipe.text));
                json!({
                    "field": difference.field,
                    "what": difference.what,
                    "old": difference.old,
                    "new": difference.new,
                    "derived": difference.derived,
                    "line": at.map(|(line, _)| line),
                    "column": at.map(|(_, column)| column),
                })
            })
            .collect();
        json!({
            "stage": self.stage(action),
            "tensor": action.owner.tensor,
            "verdict": verdict,
            "reason": reason,
            "changes": changes,
        })
    }
}
