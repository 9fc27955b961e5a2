//! Completing in a shell: the shell's script calls the binary with the words typed so far, and a variable that says so.

use std::env;
use std::io;

use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::ArgValueCompleter;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};

use super::args::Args;
use super::candidates;

/// Set by the script, to the shell's name.
const VARIABLE: &str = "LAMARCK_COMPLETE";

const NAME: &str = "lamarck";

/// What a shell is to run once, so that it completes.
pub fn script(shell: Shell) -> io::Result<String> {
    let name = shell.to_string();
    let shells = Shells::builtins();
    let shell = shells.completer(&name).ok_or_else(|| io::Error::other("unknown shell"))?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
    String::from_utf8(script).map_err(io::Error::other)
}

/// Whether a shell asked for completions, which it then has got. What goes wrong is not told: it would be in the midst
/// of what somebody types.
pub fn answered() -> bool {
    if env::var_os(VARIABLE).is_none() {
        return false;
    }
    let here = env::current_dir().ok();
    let complete =
        CompleteEnv::with_factory(|| with_candidates(Args::command())).var(VARIABLE).completer(NAME);
    complete.try_complete(env::args_os(), here.as_deref()).unwrap_or(true)
}

/// Tells of every argument what it can be, by its name.
fn with_candidates(command: Command) -> Command {
    let is_methods = command.get_name() == "methods";
    let is_diff = command.get_name() == "diff";
    let add = |arg: Arg| {
        let completer = match arg.get_id().as_str() {
            "recipe" | "config_file" if arg.get_action().takes_values() => {
                ArgValueCompleter::new(candidates::recipes)
            }
            "stages" => ArgValueCompleter::new(candidates::stages),
            "sets" => ArgValueCompleter::new(candidates::variables),
            "from" | "build" => ArgValueCompleter::new(candidates::builds_and_tags),
            "delete" => ArgValueCompleter::new(candidates::tags),
            "model" => ArgValueCompleter::new(candidates::models),
            "a" | "b" if is_diff => ArgValueCompleter::new(candidates::sides),
            "name" if is_methods => ArgValueCompleter::new(candidates::methods),
            _ => return arg,
        };
        arg.add(completer)
    };
    command.mut_args(add).mut_subcommands(with_candidates)
}
