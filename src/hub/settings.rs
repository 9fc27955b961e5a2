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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_and_never_shown() {
        assert_eq!(Token::new(" hf_secret\n").unwrap().as_str(), "hf_secret");
        assert!(Token::new("").is_none() && Token::new("two words").is_none());
        let settings = Settings {
            cache: None,
            endpoint: Settings::ENDPOINT.to_owned(),
            token: Token::new("hf_secret"),
            offline: Some("this test"),
            timeout: Settings::TIMEOUT,
            certificates: None,
        };
        assert!(!format!("{settings:?}").contains("secret"));
        let hub = crate::hub::Hub::new(settings, std::sync::Arc::default());
        assert!(!format!("{hub:?}").contains("secret"));
    }
}
