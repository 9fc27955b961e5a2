//! What stands in a `lamarck.toml`, with findings where it cannot be.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::args::size;
use crate::project::Policy;
use crate::recipe::{CardSettings, Finding, Span, allow, card, did_you_mean};

/// A project's settings. Paths are relative to the file.
#[derive(Debug, Default)]
pub struct Settings {
    /// The recipe that is built without an argument.
    pub recipe: Option<PathBuf>,
    pub models: Vec<PathBuf>,
    pub cache: Option<PathBuf>,
    pub merges: Option<PathBuf>,
    pub jobs: Option<u16>,
    pub memory: Option<u64>,
    pub shard_size: Option<u64>,
    pub cache_limit: Option<u64>,
    pub store: Policy,
    pub stream: bool,
    pub allow: Vec<&'static str>,
    pub card: CardSettings,
}

const KEYS: [&str; 12] = [
    "recipe",
    "models",
    "cache",
    "merges",
    "jobs",
    "memory",
    "shard-size",
    "cache-limit",
    "store",
    "stream",
    "allow",
    "card",
];

const MAX_JOBS: u16 = 1024;

/// Reads the text of a file.
pub fn read(text: &str) -> (Settings, Vec<Finding>) {
    let mut reader = Reader { settings: Settings::default(), findings: Vec::new() };
    match DeTable::parse(text) {
        Ok(table) => {
            for (key, value) in table.get_ref() {
                reader.setting(key, value);
            }
            // Keys come in the order of the alphabet.
            reader.findings.sort_by_key(|finding| finding.span);
        }
        Err(error) => {
            let span = error.span().map(|range| Span { start: range.start, end: range.end });
            reader.wrong(span, format!("not valid TOML: {}", error.message()));
        }
    }
    (reader.settings, reader.findings)
}

struct Reader {
    settings: Settings,
    findings: Vec<Finding>,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl Reader {
    fn setting(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, value: &Value<'_>) {
        let name = key.get_ref().as_ref();
        match name {
            "models" => {
                let folders = self.texts(name, value, "folders", "[\"models\"]");
                self.settings.models = folders.into_iter().map(|(folder, _)| folder.into()).collect();
            }
            "recipe" => self.settings.recipe = self.recipe(name, value),
            "cache" => self.settings.cache = self.folder(name, value),
            "merges" => self.settings.merges = self.folder(name, value),
            "jobs" => self.settings.jobs = self.jobs(name, value),
            "memory" => self.settings.memory = self.size(name, value),
            "shard-size" => self.settings.shard_size = self.size(name, value),
            "cache-limit" => self.settings.cache_limit = self.size(name, value),
            "store" => self.settings.store = self.policy(name, value),
            "stream" => self.settings.stream = self.switch(name, value),
            "allow" => {
                for (code, span) in self.texts(name, value, "codes of findings", "[\"duplicate-key\"]") {
                    match allow::code(&code) {
                        Ok(code) => self.settings.allow.push(code),
                        Err(refusal) => {
                            let finding = Finding::error("settings", span, refusal.message);
                            self.findings.push(finding.help(refusal.help));
                        }
                    }
                }
            }
            "card" => self.card(value),
            _ => {
                let message = format!("there is no setting `{name}`");
                let help = match did_you_mean(&name.replace('_', "-"), KEYS) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("there are: {}", KEYS.join(", ")),
                };
                self.findings.push(Finding::error("settings", span(key), message).help(help));
            }
        }
    }

    fn wrong(&mut self, span: Option<Span>, message: String) {
        self.findings.push(Finding::error("settings", span, message));
    }

    fn texts(&mut self, key: &str, value: &Value<'_>, what: &str, example: &str) -> Vec<(String, Span)> {
        let texts: Option<Vec<(String, Span)>> = value.get_ref().as_array().and_then(|items| {
            items.iter().map(|item| Some((item.get_ref().as_str()?.to_owned(), span(item)))).collect()
        });
        texts.unwrap_or_else(|| {
            let message = format!("`{key}` must be a list of {what} in quotes, such as {example}");
            self.wrong(Some(span(value)), message);
            Vec::new()
        })
    }

    fn card(&mut self, value: &Value<'_>) {
        let Some(table) = value.get_ref().as_table() else {
            return self.wrong(Some(span(value)), "`card` must be a table: write `[card]`".to_owned());
        };
        let (mut language, mut tags) = (Vec::new(), Vec::new());
        let mut texts = BTreeMap::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            match name {
                "language" | "tags" => {
                    let list = match value.get_ref().as_str() {
                        Some(text) => vec![text.to_owned()],
                        None => {
                            let texts = self.texts(name, value, "texts", "[\"en\"]");
                            texts.into_iter().map(|(text, _)| text).collect()
                        }
                    };
                    *(if name == "tags" { &mut tags } else { &mut language }) = list;
                }
                _ if card::keys().any(|known| known == name) => match value.get_ref().as_str() {
                    Some(text) => drop(texts.insert(name.to_owned(), text.trim().to_owned())),
                    None => self.wrong(Some(span(value)), format!("`{name}` must be a text in quotes")),
                },
                _ => {
                    let finding =
                        Finding::error("settings", span(key), format!("`[card]` has no setting `{name}`"));
                    let known = || card::keys().collect::<Vec<_>>().join(", ");
                    self.findings.push(finding.help(match did_you_mean(name, card::keys()) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!("there are: {}", known()),
                    }));
                }
            }
        }
        self.settings.card = CardSettings::from_values(|key| texts.get(key).cloned(), language, tags);
    }

    fn folder(&mut self, key: &str, value: &Value<'_>) -> Option<PathBuf> {
        let folder = value.get_ref().as_str().filter(|folder| !folder.is_empty());
        if folder.is_none() {
            self.wrong(Some(span(value)), format!("`{key}` must be a folder in quotes, such as \"{key}\""));
        }
        folder.map(PathBuf::from)
    }

    fn recipe(&mut self, key: &str, value: &Value<'_>) -> Option<PathBuf> {
        let file = value.get_ref().as_str().filter(|file| !file.is_empty());
        if file.is_none() {
            let message = format!("`{key}` must be a recipe's file in quotes, such as \"recipes/mine.yaml\"");
            self.wrong(Some(span(value)), message);
        }
        file.map(PathBuf::from)
    }

    fn switch(&mut self, key: &str, value: &Value<'_>) -> bool {
        let switch = value.get_ref().as_bool();
        if switch.is_none() {
            self.wrong(Some(span(value)), format!("`{key}` must be true or false"));
        }
        switch.unwrap_or_default()
    }

    fn policy(&mut self, key: &str, value: &Value<'_>) -> Policy {
        const POLICIES: [(&str, Policy); 3] =
            [("all", Policy::All), ("named", Policy::Named), ("auto", Policy::Auto)];
        let named = value.get_ref().as_str();
        let found = POLICIES.iter().find(|(name, _)| Some(*name) == named);
        if found.is_none() {
            self.wrong(Some(span(value)), format!("`{key}` must be \"all\", \"named\" or \"auto\""));
        }
        found.map(|(_, policy)| *policy).unwrap_or_default()
    }

    fn jobs(&mut self, key: &str, value: &Value<'_>) -> Option<u16> {
        let number = value.get_ref().as_integer();
        let jobs = number.and_then(|number| u16::from_str_radix(number.as_str(), number.radix()).ok());
        let jobs = jobs.filter(|jobs| (1..=MAX_JOBS).contains(jobs));
        if jobs.is_none() {
            let message = format!("`{key}` must be a number of threads from 1 to {MAX_JOBS}");
            self.wrong(Some(span(value)), message);
        }
        jobs
    }

    fn size(&mut self, key: &str, value: &Value<'_>) -> Option<u64> {
        let Some(text) = value.get_ref().as_str() else {
            let message = format!("`{key}` must be a size in quotes, such as \"4GiB\"");
            self.wrong(Some(span(value)), message);
            return None;
        };
        size(text).map_err(|problem| self.wrong(Some(span(value)), format!("`{key}`: {problem}"))).ok()
    }
}

fn span<T>(value: &Spanned<T>) -> Span {
    let range = value.span();
    Span { start: range.start, end: range.end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_read() {
        let (settings, findings) = read(
            "recipe = 'r.yaml'\nmodels = ['a', \"b\"]\ncache = 'c'\nmerges = 'm'\njobs = 8\nmemory = '4GiB'\nshard-size = '2GB'\n\
             cache-limit = '1TB'\nstore = 'auto'\nallow = ['duplicate-key']\n",
        );
        assert_eq!(findings, []);
        assert_eq!(settings.recipe, Some("r.yaml".into()));
        assert_eq!(settings.models, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!((settings.cache, settings.merges), (Some("c".into()), Some("m".into())));
        assert_eq!((settings.jobs, settings.memory), (Some(8), Some(4 << 30)));
        assert_eq!(
            (settings.shard_size, settings.cache_limit),
            (Some(2_000_000_000), Some(1_000_000_000_000))
        );
        assert_eq!(settings.store, Policy::Auto);
        assert_eq!(settings.allow, ["duplicate-key"]);
    }

    #[test]
    fn what_is_wrong_is_told_where_it_stands() {
        let (settings, findings) = read(
            "[card]\ntitle = 'T'\ncolour = 1\nlicense_name = 'own'\nlanguage = 'en'\ntags = ['a', 'b']\n",
        );
        assert_eq!(
            findings[0].help,
            ["there are: title, text, license, license_name, license_link, language, tags"]
        );
        assert_eq!(settings.card.license.map(|license| license.id).as_deref(), Some("other"));
        assert_eq!((settings.card.language, settings.card.tags.len()), (vec!["en".to_owned()], 2));
        for (text, place, word) in [
            ("card = 'x'\n", "'x'", "write `[card]`"),
            ("[card]\ntitel = 'x'\n", "titel", "has no setting `titel`"),
            ("[card]\ntitle = 1\n", "1", "must be a text"),
            ("model = ['x']\n", "model", "there is no setting `model`"),
            ("shard_size = '2GB'\n", "shard_size", "there is no setting"),
            ("models = 'x'\n", "'x'", "a list of folders"),
            ("models = [1]\n", "[1]", "a list of folders"),
            ("jobs = 'many'\n", "'many'", "from 1 to 1024"),
            ("jobs = 0\n", "0", "from 1 to 1024"),
            ("memory = 4\n", "4", "such as \"4GiB\""),
            ("memory = '4 parsecs'\n", "'4 parsecs'", "not a unit"),
            ("cache = true\n", "true", "a folder"),
            ("store = 'some'\n", "'some'", "\"named\""),
            ("store = false\n", "false", "\"auto\""),
            ("recipe = ['a.yaml']\n", "['a.yaml']", "a recipe's file"),
            ("allow = ['cycle']\n", "'cycle'", "errors cannot be allowed"),
            ("allow = ['duplicate-keys']\n", "'duplicate-keys'", "no finding has the code"),
        ] {
            let (_, findings) = read(text);
            let [Finding { span: Some(span), message, .. }] = &findings[..] else { panic!("{findings:?}") };
            assert_eq!(&text[span.start..span.end], place);
            assert!(message.contains(word), "{message}");
        }
        let (_, findings) = read("models = [\n");
        assert!(findings[0].message.starts_with("not valid TOML: "), "{findings:?}");
    }
}
