//! Links between the pages of the project: files that are there, and headings that are in them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::project;

/// Every page that people read on the web.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "examples", "recipes/ancestors"] {
        for entry in fs::read_dir(project(folder)).unwrap() {
            let path = entry.unwrap().path();
            pages.extend(path.extension().is_some_and(|extension| extension == "md").then_some(path));
        }
    }
    assert!(pages.len() > 12, "{pages:?}");
    pages
}

/// The text of a page without what is code in it.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What is linked to: `[text](target)` and `![text](target)`.
fn targets(text: &str) -> Vec<String> {
    let parts = text.split("](").skip(1);
    parts.filter_map(|part| Some(part.split(')').next()?.split_whitespace().next()?.to_owned())).collect()
}

/// The anchors that GitHub makes of headings.
fn anchors(text: &str) -> Vec<String> {
    let heading = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    prose(text).lines().filter(|line| line.starts_with('#')).map(heading).collect()
}

/// What is wrong with a link of a page.
fn problem(page: &Path, target: &str) -> Option<String> {
    if target.contains("://") {
        return (!target.starts_with("https://")).then(|| "is not by https".to_owned());
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { page.to_owned() } else { page.parent()?.join(file) };
    if !path.exists() {
        return Some("leads nowhere".to_owned());
    }
    let is_there =
        anchor.is_empty() || anchors(&fs::read_to_string(path).ok()?).iter().any(|own| own == anchor);
    (!is_there).then(|| "names a heading that is not there".to_owned())
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for target in targets(&prose(&text)) {
            let problem = problem(&page, &target);
            wrong.extend(problem.map(|problem| format!("{}: {target} {problem}", page.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_of_pages_is_whole() {
    let readme = fs::read_to_string(project("README.md")).unwrap();
    let listed = targets(&readme);
    for page in pages().iter().filter(|page| page.parent() == Some(&project("docs"))) {
        let name = format!("docs/{}", page.file_name().unwrap().to_string_lossy());
        assert!(listed.contains(&name), "README.md does not list {name}");
    }
}

#[test]
fn what_leads_nowhere_is_found() {
    let page = project("docs/commands.md");
    assert_eq!(problem(&page, "json.md"), None);
    assert_eq!(problem(&page, "#exit-codes"), None);
    assert!(problem(&page, "#nothing").is_some() && problem(&page, "nothing.md").is_some());
    assert!(problem(&page, "http://example.org").is_some());
    assert_eq!(targets("see [a](b.md) and ![c](d.svg \"title\")"), ["b.md", "d.svg"]);
}
