//! `lamarck watch`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use signal_hook::consts::SIGCONT;
use signal_hook::flag;

use super::build::{Work, carry_out};
use super::{plan, prepare, read, report};
use crate::cli::args::{BuildArgs, PlaceArgs, RecipeArgs, ReportArgs, WatchArgs};
use crate::cli::config::{self, Flags};
use crate::cli::error::CliError;
use crate::cli::keys::Keys;
use crate::cli::palette::{FAINT, paint};
use crate::cli::saves::Saves;
use crate::cli::signals::Asked;
use crate::cli::ui::{Show, Ui};
use crate::project::ProjectError;

/// What wakes the watch.
enum Waking {
    /// Something happened to a file.
    Stirred,
    Key(u8),
}

/// How soon a signal is heeded.
const SIGNALS: Duration = Duration::from_millis(50);

pub fn run(args: &WatchArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let path = config::recipe_path(args.recipe.recipe.as_deref())?;
    if let Err(source) = std::fs::metadata(&path) {
        return Err(ProjectError::Recipe { path, source }.into());
    }
    // From here on it is this recipe, whatever else appears.
    let recipe = RecipeArgs { recipe: Some(path.clone()), ..args.recipe.clone() };
    let build = BuildArgs {
        recipe,
        places: args.places.clone(),
        seed: args.seed,
        limits: args.limits,
        ..BuildArgs::default()
    };
    let asked = Asked::listen();
    let (wake, woken) = mpsc::channel();
    let stir = wake.clone();
    let mut saves = Saves::watch(&path, config::FILE, move || drop(stir.send(Waking::Stirred)));
    let listen = || Keys::listen(move |key| drop(wake.send(Waking::Key(key))));
    let keys = if ui.json { None } else { listen() };
    let watch = Watch { build, builds: args.build, name: path.display().to_string(), keys, ui };
    let continued: Arc<AtomicBool> = Arc::default();
    // Without it, keys count behind Enter only, once the shell had the terminal.
    let _ = flag::register(SIGCONT, Arc::clone(&continued));
    watch.answer()?;
    loop {
        if continued.swap(false, Ordering::Relaxed) {
            watch.keys.iter().for_each(Keys::take);
        }
        match woken.recv_timeout(saves.rest().min(SIGNALS)) {
            Ok(Waking::Stirred) => saves.stir(),
            Ok(Waking::Key(b'q')) => return Ok(ExitCode::SUCCESS),
            Ok(Waking::Key(b'\n' | b'\r')) => {
                watch.told(Watch::build)?;
                // What was typed meanwhile was not meant for what is there now; what was saved is looked at.
                woken.try_iter().for_each(drop);
                saves.stir();
            }
            Ok(Waking::Key(b'r')) => watch.told(Watch::report)?,
            Ok(Waking::Key(_)) | Err(RecvTimeoutError::Timeout) => {}
            // Neither events nor keys: files are looked at all the same.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(saves.rest().min(SIGNALS)),
        }
        if let Some(code) = asked.code() {
            return Ok(ExitCode::from(code));
        }
        if saves.changed() {
            watch.answer()?;
        }
    }
}

struct Watch<'a> {
    build: BuildArgs,
    /// Whether every save is built at once.
    builds: bool,
    /// The recipe, as it was named.
    name: String,
    keys: Option<Keys>,
    ui: &'a Ui,
}

impl Watch<'_> {
    /// Does what a save asks for.
    fn answer(&self) -> Result<(), CliError> {
        self.told(if self.builds { Self::build } else { Self::plan })
    }

    /// Does something, tells of what is wrong, and goes on. The terminal is its usual self meanwhile.
    ///
    /// # Errors
    /// What leaves no sense in going on: a signal, and output that is closed.
    fn told(&self, work: fn(&Self) -> Result<(), CliError>) -> Result<(), CliError> {
        self.keys.iter().for_each(Keys::leave);
        let done = work(self);
        self.keys.iter().for_each(Keys::take);
        match done {
            Err(error @ CliError::Interrupted { .. }) => return Err(error),
            Err(error) if error.is_of_stdout() => return Err(error),
            Err(error) => self.ui.error(&error),
            Ok(()) => {}
        }
        let what =
            if self.keys.is_some() { "Enter builds, r writes the report, q quits" } else { "Ctrl-C quits" };
        self.ui.status(&paint(FAINT, format!("watching {}: {what}", self.name)));
        Ok(())
    }

    fn plan(&self) -> Result<(), CliError> {
        let started = Instant::now();
        let ready = prepare(&self.build.recipe, Flags::from(&self.build), Show::Warnings, self.ui)?;
        plan::tell(&ready, self.ui)?;
        self.ui.status(&paint(FAINT, format!("planned in {} ms", started.elapsed().as_millis())));
        Ok(())
    }

    /// A page of the recipe's last build.
    fn report(&self) -> Result<(), CliError> {
        let BuildArgs { recipe: RecipeArgs { recipe, .. }, places, limits, .. } = &self.build;
        let project = config::project(recipe.as_deref(), Flags::from(&self.build))?;
        let (builds, _) = project.builds(recipe.as_deref(), 1)?;
        let Some(build) = builds.first() else {
            return Err(CliError::Usage(format!(
                "{} has not been built yet; press Enter to build it",
                self.name
            )));
        };
        let (build, cache) = (Some(build.number.to_string()), Some(project.cache));
        let places = PlaceArgs { cache, ..places.clone() };
        let report = ReportArgs { build, out: None, places, limits: *limits };
        report::run(&report, self.ui).map(drop)
    }

    fn build(&self) -> Result<(), CliError> {
        let read = read(&self.build.recipe, Flags::from(&self.build))?;
        carry_out(Work::new(read, &self.build), self.ui).map(drop)
    }
}
