//! `lamarck new`.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::NewArgs;
use crate::cli::error::CliError;
use crate::cli::palette::{GOOD, SUBJECT, paint};
use crate::cli::ui::Ui;
use crate::recipe::schema;

const IGNORED: &str = "/cache\n/merges\n/models\n";

pub fn run(args: &NewArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let NewArgs { dir, template } = args;
    fs::create_dir_all(dir).map_err(CliError::write(dir))?;
    let full = fs::canonicalize(dir).map_err(CliError::write(dir))?;
    let wanted = full.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let (recipe_text, name) = template.recipe(&wanted);
    let recipe = format!("recipes/{name}.yaml");
    let schema = serde_json::to_string_pretty(&schema::schema()).expect("JSON values serialise") + "\n";
    let mut files = vec![
        (recipe.clone(), recipe_text, "the recipe to edit"),
        ("lamarck.toml".to_owned(), settings(&recipe), "folders, and the default recipe"),
        ("recipes/recipe.schema.json".to_owned(), schema, "lets editors complete and check recipes"),
    ];
    let ignored = (".gitignore".to_owned(), IGNORED.to_owned(), "keeps results and models out of git");
    let in_dir = |file: &str| if dir == Path::new(".") { PathBuf::from(file) } else { dir.join(file) };
    // Somebody's .gitignore stays as it is; anything else in the way is a project already.
    let keeps_ignored = in_dir(&ignored.0).exists();
    files.extend((!keeps_ignored).then_some(ignored));
    if let Some((file, ..)) = files.iter().find(|(file, ..)| in_dir(file).symlink_metadata().is_ok()) {
        let file = in_dir(file);
        return Err(CliError::Usage(format!("{} already exists; nothing was written", file.display())));
    }
    fs::create_dir_all(in_dir("recipes")).map_err(CliError::write(&in_dir("recipes")))?;
    for (file, text, _) in &files {
        write_new(&in_dir(file), text)?;
    }
    if ui.json {
        let paths: Vec<_> =
            files.iter().map(|(file, ..)| in_dir(file).to_string_lossy().into_owned()).collect();
        ui.print_json(json!({
            "dir": dir.to_string_lossy(),
            "template": template.name(),
            "recipe": in_dir(&recipe).to_string_lossy(),
            "files": paths,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let paths: Vec<String> = files.iter().map(|(file, ..)| in_dir(file).display().to_string()).collect();
    let width = paths.iter().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (path, (.., what)) in paths.iter().zip(&files) {
        text.push_str(&format!("{}  {what}\n", paint(SUBJECT, format!("{path:width$}"))));
    }
    let there = if dir == Path::new(".") { String::new() } else { format!("cd {} && ", dir.display()) };
    text.push_str(&format!("next: {}\n", paint(GOOD, format!("{there}lamarck build"))));
    ui.print(&text)?;
    if keeps_ignored {
        let lines = IGNORED.trim().replace('\n', ", ");
        ui.status(&format!("note: .gitignore was left unchanged; it should contain {lines}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn settings(recipe: &str) -> String {
    let default = format!("recipe = \"{recipe}\"");
    format!(
        "# Settings of this project. Paths are relative to this file. The environment overrides it, and flags override both.\n\n\
         # The recipe that `lamarck build` builds without an argument.\n\
         {default}\n\
         # Folders that hold org/name. What is in none of them comes from the Hugging Face cache, or from the hub.\n\
         models = [\"models\"]\n\
         # Results, so that nothing is computed twice. Safe to delete.\n\
         cache = \"cache\"\n\
         # Merged models.\n\
         merges = \"merges\"\n\n\
         # memory = \"4GiB\"          # for tensors; a quarter of the machine's by default\n\
         # cache-limit = \"200GB\"    # none by default\n"
    )
}

/// Writes a file that was not there.
fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    match file.and_then(|mut file| file.write_all(text.as_bytes())) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(CliError::Usage(format!("{} already exists", path.display())))
        }
        result => result.map_err(CliError::write(path)),
    }
}
