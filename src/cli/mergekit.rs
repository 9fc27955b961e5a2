//! The command lines of mergekit's tools, as their `--help` lists them.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};

/// How an option is typed.
#[derive(Clone, Copy)]
enum Kind {
    /// `--name` and the other form, `--no-name`; the last counts.
    Pair(&'static str),
    Flag,
    Value,
}

/// Options that change nothing here, each with why.
const WITHOUT_MEANING: [(&str, Kind, &str); 15] = [
    (
        "allow-crimes",
        Kind::Pair("no-allow-crimes"),
        "layers are found from tensor names, not from the architecture's name",
    ),
    (
        "unsafe-truncate-embeddings",
        Kind::Pair("no-unsafe-truncate-embeddings"),
        "vocabularies of different sizes need a tokenizer in the recipe",
    ),
    ("trust-remote-code", Kind::Pair("no-trust-remote-code"), "lamarck never runs a model's code"),
    ("lora-merge-cache", Kind::Value, "adapters are applied tensor by tensor"),
    ("lora-merge-dtype", Kind::Value, "adapters are applied in float32"),
    ("cuda", Kind::Pair("no-cuda"), "merges run on the processor"),
    ("device", Kind::Value, "merges run on the processor"),
    (
        "low-cpu-memory",
        Kind::Pair("no-low-cpu-memory"),
        "memory is always limited, as with --memory of `lamarck build`",
    ),
    ("lazy-unpickle", Kind::Pair("no-lazy-unpickle"), "pickled tensors are always read one by one"),
    ("read-to-gpu", Kind::Pair("no-read-to-gpu"), "merges run on the processor"),
    ("multi-gpu", Kind::Pair("no-multi-gpu"), "merges run on the processor"),
    ("gpu-rich", Kind::Flag, "merges run on the processor"),
    ("async-write", Kind::Pair("no-async-write"), "results are always written in the background"),
    ("write-threads", Kind::Value, "results are always written in the background"),
    ("clone-tensors", Kind::Pair("no-clone-tensors"), "a layer can always be used several times"),
];

/// Options that all of the tools have, and what is made of them.
#[derive(Debug, Default)]
pub struct MergeOptions {
    /// Where downloaded models are.
    pub hub: Option<PathBuf>,
    pub seed: Option<u64>,
    pub jobs: Option<u16>,
    /// In bytes.
    pub shard_size: Option<u64>,
    pub copy_tokenizer: bool,
    pub write_card: bool,
    /// Those that were given and change nothing, each with why.
    pub without_meaning: Vec<(String, &'static str)>,
}

impl Args for MergeOptions {
    fn augment_args(command: Command) -> Command {
        let value = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
        let mut command = command
            .arg(
                value(
                    "transformers-cache",
                    "Look for downloaded models here instead of in the Hugging Face cache",
                )
                .value_parser(value_parser!(PathBuf)),
            )
            .arg(value("random-seed", "Seed of the random methods").value_parser(value_parser!(u64)))
            .arg(
                value("num-threads", "Threads to use")
                    .short('j')
                    .value_parser(value_parser!(u16).range(1..=1024)),
            )
            .arg(
                value(
                    "out-shard-size",
                    "Largest shard in bytes, with k, m or b for thousand, million, billion",
                )
                .value_parser(kmb),
            );
        for (names, help) in [
            (
                ["copy-tokenizer", "no-copy-tokenizer"],
                "Copy the tokenizer's files to the output (the default)",
            ),
            (["write-model-card", "no-write-model-card"], "Write a README.md (the default)"),
            (
                ["safe-serialization", "no-safe-serialization"],
                "Write safetensors (the default, and all that lamarck writes)",
            ),
        ] {
            command = pair(command, names, help);
        }
        command = command.arg(flag("no-quiet").hide(true).overrides_with_all(["quiet", "no-quiet"]));
        for (name, kind, why) in WITHOUT_MEANING {
            command = match kind {
                Kind::Pair(no) => pair(command, [name, no], why).mut_arg(name, |arg| arg.hide(true)),
                Kind::Flag => command.arg(flag(name).hide(true)),
                Kind::Value => command.arg(value(name, why).hide(true)),
            };
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for MergeOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let is_on = |name: &str| matches.get_flag(name) || !matches.get_flag(&format!("no-{name}"));
        let mut without_meaning: Vec<(String, &str)> = Vec::new();
        for (name, _, why) in WITHOUT_MEANING {
            if matches.value_source(name) == Some(ValueSource::CommandLine) {
                without_meaning.push((format!("--{name}"), why));
            }
        }
        if !is_on("safe-serialization") {
            without_meaning.push(("--no-safe-serialization".to_owned(), "lamarck only writes safetensors"));
        }
        Ok(Self {
            hub: matches.get_one("transformers-cache").cloned(),
            seed: matches.get_one("random-seed").copied(),
            jobs: matches.get_one("num-threads").copied(),
            shard_size: matches.get_one("out-shard-size").copied(),
            copy_tokenizer: is_on("copy-tokenizer"),
            write_card: is_on("write-model-card"),
            without_meaning,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue)
}

fn pair(command: Command, [name, no]: [&'static str; 2], help: &'static str) -> Command {
    let yes = flag(name).help(help).overrides_with_all([name, no]);
    command.arg(yes).arg(flag(no).hide(true).overrides_with_all([name, no]))
}

/// Reads a number of bytes as mergekit does: `5B` is five billion.
fn kmb(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.trim().to_ascii_lowercase() {
        text if text.ends_with('k') => (text.trim_end_matches('k').to_owned(), 1_000),
        text if text.ends_with('m') => (text.trim_end_matches('m').to_owned(), 1_000_000),
        text if text.ends_with('b') => (text.trim_end_matches('b').to_owned(), 1_000_000_000),
        text => (text, 1),
    };
    let number: u64 =
        digits.parse().map_err(|_| "write a whole number with k, m or b, such as 5B".to_owned())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(|| "the size is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<MergeOptions, Error> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        // The tools' own, which lamarck has for all commands.
        let quiet = Arg::new("quiet").long("quiet").action(ArgAction::SetTrue);
        let command = MergeOptions::augment_args(Command::new("x").arg(quiet));
        MergeOptions::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    #[test]
    fn the_last_of_a_pair_counts() {
        let options =
            read("--no-copy-tokenizer --copy-tokenizer --no-write-model-card --quiet --no-quiet").unwrap();
        assert!(options.copy_tokenizer && !options.write_card && options.without_meaning.is_empty());
        let options =
            read("--no-copy-tokenizer --cuda --no-cuda --device cpu --no-safe-serialization").unwrap();
        assert!(!options.copy_tokenizer && options.write_card);
        let named: Vec<&str> = options.without_meaning.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(named, ["--device", "--no-safe-serialization"]);
    }

    #[test]
    fn values_are_read_as_mergekit_reads_them() {
        let options = read("--random-seed 7 -j 2 --out-shard-size 5B --transformers-cache hub").unwrap();
        assert_eq!((options.seed, options.jobs, options.shard_size), (Some(7), Some(2), Some(5_000_000_000)));
        assert_eq!((kmb("200k"), kmb("3M"), kmb("17")), (Ok(200_000), Ok(3_000_000), Ok(17)));
        assert!(["5GB", "0.5B", "", "b", "0"].into_iter().all(|text| kmb(text).is_err()));
        assert!(read("--no-such-option").is_err());
    }
}
