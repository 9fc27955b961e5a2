//! The hub, as the environment has it: the variables of Python's `huggingface_hub`, with their meanings there.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::hub::{Settings, Token};

/// Where the hub is and what may be asked of it. A cache that was named by a flag wins.
pub fn settings(cache: Option<PathBuf>, is_offline: bool) -> Settings {
    let seconds = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.parse().ok());
    Settings {
        cache: cache.or_else(|| path("HF_HUB_CACHE")).or_else(|| Some(home()?.join("hub"))),
        endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| Settings::ENDPOINT.to_owned()),
        token: token(),
        offline: if is_offline {
            Some("--offline")
        } else {
            ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| is_on(name))
        },
        timeout: seconds.map_or(Settings::TIMEOUT, Duration::from_secs),
        certificates: ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"].into_iter().find_map(path),
    }
}

fn token() -> Option<Token> {
    let given = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(variable);
    if given.is_none() && is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return None;
    }
    let stored = || fs::read_to_string(path("HF_TOKEN_PATH").or_else(|| Some(home()?.join("token")))?).ok();
    Token::new(&given.or_else(stored)?)
}

/// `HF_HOME`.
fn home() -> Option<PathBuf> {
    path("HF_HOME")
        .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface")))
        .or_else(|| Some(path("HOME")?.join(".cache/huggingface")))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn is_on(name: &str) -> bool {
    variable(name).is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
}
