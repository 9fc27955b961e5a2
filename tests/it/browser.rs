//! A headless Chromium, driven over WebDriver as its own driver speaks it.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;

/// The arrow keys and others, as WebDriver writes them.
pub const RIGHT: &str = "\u{e014}";
pub const DOWN: &str = "\u{e015}";
pub const ENTER: &str = "\u{e007}";

/// A browser with one window. It ends with this.
pub struct Browser {
    driver: Child,
    agent: Agent,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// `None`, with a line to standard error, where there is no `chromedriver`.
    pub fn start() -> Option<Self> {
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let Ok(mut driver) = driver else {
            let told = "SKIPPED, NOT TRIED: pages in a browser (there is no chromedriver)\n";
            io::stderr().write_all(told.as_bytes()).expect("standard error is open");
            return None;
        };
        let mut said = BufReader::new(driver.stdout.take().expect("it is piped"));
        let port = loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).expect("the driver speaks") > 0, "the driver ended");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim().trim_end_matches('.').to_owned();
            }
        };
        let agent = Agent::config_builder().http_status_as_error(false).build().new_agent();
        let profile = tempfile::tempdir().expect("a folder can be made");
        let mut browser =
            Self { driver, agent, session: format!("http://127.0.0.1:{port}/session"), _profile: profile };
        let folder = browser._profile.path().to_string_lossy().into_owned();
        let made = browser.post(
            "",
            &json!({ "capabilities": { "alwaysMatch": {
                "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
                "goog:chromeOptions": { "args": [
                    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                    "--disable-background-networking", "--disable-component-update", "--disable-sync",
                    "--window-size=1280,1000", format!("--user-data-dir={folder}"),
                ] },
            } } }),
        );
        let id = made["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}")).to_owned();
        browser.session = format!("{}/{id}", browser.session);
        Some(browser)
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        let url = format!("{}{command}", self.session);
        let sent = self.agent.post(&url).content_type("application/json").send(body.to_string());
        let mut answer = sent.unwrap_or_else(|error| panic!("{url}: {error}"));
        let text = answer.body_mut().with_config().limit(64 << 20).read_to_string();
        let answer: Value = serde_json::from_str(&text.expect("the driver answers")).expect("in JSON");
        let value = &answer["value"];
        assert!(value.get("error").is_none(), "{command}: {value}");
        value.clone()
    }

    /// Opens a file.
    pub fn open(&self, path: &Path) {
        let path = fs::canonicalize(path).expect("the page is there");
        self.post("/url", &json!({ "url": format!("file://{}", path.display()) }));
    }

    /// What the body of a function returns in the page.
    pub fn run(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": body, "args": [] }))
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        let id = found.as_object().and_then(|of| of.values().next()).and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("{selector}: {found}")).to_owned()
    }

    /// Clicks on the middle of an element.
    pub fn click(&self, selector: &str) {
        self.post(&format!("/element/{}/click", self.element(selector)), &json!({}));
    }

    /// Types into whatever has the focus.
    pub fn press(&self, keys: &str) {
        let pressed =
            |key: char| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }));
        let keys: Vec<Value> = keys.chars().flat_map(pressed).collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": keys }] }));
    }

    /// Has the page be seen with a light or a dark theme, or printed.
    pub fn emulate(&self, scheme: &str, media: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let params = json!({ "media": media, "features": features });
        self.post("/goog/cdp/execute", &json!({ "cmd": "Emulation.setEmulatedMedia", "params": params }));
    }

    /// What the page wrote to the console or could not do, and whatever it asked for beside files.
    pub fn complaints(&self) -> Vec<String> {
        let log = |kind: &str| {
            let entries = self.post("/se/log", &json!({ "type": kind }));
            entries.as_array().expect("a log is a list").clone()
        };
        let said = log("browser").into_iter().map(|entry| entry["message"].to_string());
        let requests = log("performance").into_iter().filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            let url = message["params"]["request"]["url"].as_str()?;
            let is_request = message["method"] == "Network.requestWillBeSent";
            // The empty window that it begins with has pages of its own.
            let is_local = ["file:", "data:", "chrome:"].iter().any(|own| url.starts_with(own));
            (is_request && !is_local).then(|| url.to_owned())
        });
        said.chain(requests).collect()
    }

    /// Keeps a picture of the window in the folder that `LAMARCK_SCREENSHOTS` names, for whoever wants to look.
    pub fn picture(&self, name: &str) {
        let Some(folder) = env::var_os("LAMARCK_SCREENSHOTS") else { return };
        let params = json!({ "format": "png", "captureBeyondViewport": false });
        let shot =
            self.post("/goog/cdp/execute", &json!({ "cmd": "Page.captureScreenshot", "params": params }));
        let text = shot["data"].as_str().expect("a picture is text");
        fs::write(Path::new(&folder).join(format!("{name}.png")), decoded(text)).expect("it can be kept");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Bytes of base64.
fn decoded(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').map(value).collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        let number =
            chunk.iter().enumerate().fold(0_u32, |sum, (i, digit)| sum | u32::from(*digit) << (18 - 6 * i));
        bytes.extend(number.to_be_bytes()[1..].iter().take(chunk.len() - 1));
    }
    bytes
}
