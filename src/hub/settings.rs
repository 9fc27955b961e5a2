//! Where the hub is, who asks it, and what may be asked.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where the hub is, who asks it, and what may be asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where models are kept, in the layout of Python's `huggingface_hub`; without it nothing is fetched.
    pub cache: Option<PathBuf>,
    /// The address that everything is below.
    pub endpoint: String,
    pub token: Option<Token>,
    /// What keeps lamarck from connecting, as the user knows it.
    pub offline: Option<&'static str>,
    /// How long to wait for a connection and for each read.
    pub timeout: Duration,
    /// A file of certificates to trust instead of the usual ones, as companies have them for their proxies.
    pub certificates: Option<PathBuf>,
}

impl Settings {
    /// The hub that everyone means.
    pub const ENDPOINT: &'static str = "https://huggingface.co";

    /// How long Python's client waits, too.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// Settings with which nothing is looked for and nothing fetched.
    pub fn nowhere() -> Self {
        Self {
            cache: None,
            endpoint: Self::ENDPOINT.to_owned(),
            token: None,
            offline: Some("a missing cache"),
            timeout: Self::TIMEOUT,
            certificates: None,
        }
    }
}

/// A user's token. It is shown nowhere, and sent to the endpoint alone.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// `None` for what cannot be a token.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_token.then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
