//! Requests to the hub: who is told the token, which answers are final, and what is tried again.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, LOCATION, RANGE,
    RETRY_AFTER,
};
use ureq::http::{StatusCode, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::error::HubError;
use super::settings::{Settings, Token};

/// Redirections that are followed, one after the other.
const MAX_REDIRECTS: usize = 10;
/// Tries without any progress before it is given up.
const TRIES: u32 = 5;
/// The same, before anybody has answered.
const TRIES_ALONE: u32 = 2;
/// Waited after the first failure, and twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest that a server may have us wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often the wish to stop is looked at while nothing else is done.
const GLANCE: Duration = Duration::from_millis(50);
/// The most bytes of an answer that is no file.
const MAX_TEXT: u64 = 64 << 20;
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");

/// Asks the hub, and stops when that is wanted.
#[derive(Debug)]
pub struct Http {
    /// Once something was asked.
    agent: OnceLock<Agent>,
    timeout: Duration,
    certificates: Option<PathBuf>,
    endpoint: String,
    token: Option<Token>,
    stop: Arc<AtomicBool>,
    /// Where the hub sent us on to for a large file, by the address that was asked for. Such addresses are good for a
    /// while, and who reads many parts of a file need not ask for each.
    sent_on: Mutex<HashMap<String, String>>,
    /// Whether any server has answered anything.
    answered: AtomicBool,
}

/// Why one try came to nothing.
#[derive(Debug)]
pub enum Failure {
    /// It may go well the next time, not before so long has passed.
    Passing(HubError, Option<Duration>),
    Final(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

/// A file, or a part of one, as it comes.
pub struct Answer {
    /// The part that comes and the size of the whole, where only a part comes.
    pub part: Option<(Range<u64>, u64)>,
    /// Bytes that are to come, where the server says so.
    pub n_bytes: Option<u64>,
    /// The address of the next page of a list.
    next_page: Option<String>,
    address: String,
    body: Body,
}

impl Http {
    /// Nothing is read or connected before there is something to ask.
    pub fn new(settings: &Settings, stop: Arc<AtomicBool>) -> Self {
        Self {
            agent: OnceLock::new(),
            timeout: settings.timeout,
            certificates: settings.certificates.clone(),
            endpoint: settings.endpoint.trim_end_matches('/').to_owned(),
            token: settings.token.clone(),
            stop,
            sent_on: Mutex::default(),
            answered: AtomicBool::new(false),
        }
    }

    /// # Errors
    /// If the file of certificates cannot be read.
    fn agent(&self) -> Result<&Agent, HubError> {
        if let Some(agent) = self.agent.get() {
            return Ok(agent);
        }
        let mut config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("lamarck/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(self.timeout))
            .timeout_connect(Some(self.timeout))
            .timeout_recv_response(Some(self.timeout))
            .timeout_per_read(Some(self.timeout));
        if let Some(path) = &self.certificates {
            let pem = fs::read(path).map_err(|source| HubError::Read { path: path.clone(), source })?;
            let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            let roots = RootCerts::new_with_certs(&certificates);
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(self.agent.get_or_init(|| config.build().into()))
    }

    fn sent_on(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.sent_on.lock().expect("no thread panics with it")
    }

    /// The address of something below the endpoint, by the parts between slashes.
    pub fn address<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> String {
        let mut address = self.endpoint.clone();
        for part in parts {
            address.push('/');
            for byte in part.bytes() {
                if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                    address.push(byte.into());
                } else {
                    address.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        address
    }

    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// # Errors
    /// [`HubError::Interrupted`] if it is to stop.
    pub fn check_stop(&self) -> Result<(), HubError> {
        if self.stop.load(Ordering::Relaxed) { Err(HubError::Interrupted) } else { Ok(()) }
    }

    /// Tries until it goes well, fails for good, or has failed often. `attempt` sets what it is given if it came
    /// further than before; failures are counted from there.
    pub fn patiently<T>(
        &self,
        mut attempt: impl FnMut(&mut bool) -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            self.check_stop()?;
            let mut came_further = false;
            let (error, wait) = match attempt(&mut came_further) {
                Ok(done) => return Ok(done),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error, wait)) => (error, wait),
            };
            failures = if came_further { 1 } else { failures + 1 };
            // Where there is no network, nobody has to wait to be told.
            let tries = if self.answered.load(Ordering::Relaxed) { TRIES } else { TRIES_ALONE };
            if failures == tries {
                return Err(error);
            }
            self.pause(wait.unwrap_or(FIRST_PAUSE * 2u32.pow(failures - 1)).min(LONGEST_PAUSE))?;
        }
    }

    fn pause(&self, length: Duration) -> Result<(), HubError> {
        let until = Instant::now() + length;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.check_stop()?;
            std::thread::sleep(left.min(GLANCE));
        }
        Ok(())
    }

    /// Asks for what is at an address of the hub, or for a part of it, once. Where the hub sends us on, we go;
    /// the token does not.
    pub fn get(&self, address: &str, model: &str, part: Option<&Range<u64>>) -> Result<Answer, Failure> {
        let asked = address;
        let mut address = self.sent_on().get(asked).cloned().unwrap_or_else(|| asked.to_owned());
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent()?.get(&address).header(ACCEPT_ENCODING, "identity");
            if let Some(part) = part {
                request = request.header(RANGE, format!("bytes={}-{}", part.start, part.end - 1));
            }
            let is_own = is_below(&address, &self.endpoint);
            if let Some(token) = self.token.as_ref().filter(|_| is_own) {
                request = request.header(AUTHORIZATION, format!("Bearer {}", token.as_str()));
            }
            let response = request.call().map_err(|error| unreachable(&address, &error))?;
            self.answered.store(true, Ordering::Relaxed);
            let (head, body) = response.into_parts();
            if head.status.is_redirection() {
                address = redirection(&address, &head.headers)?;
                continue;
            }
            if !head.status.is_success() {
                self.sent_on().remove(asked);
                return Err(refusal(&address, model, is_own, head.status, &head.headers));
            }
            let number = |name| head.headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
            let part = match head.status {
                StatusCode::PARTIAL_CONTENT => Some(content_range(&head.headers).ok_or_else(|| {
                    let problem = "a part of a file without a valid Content-Range".to_owned();
                    HubError::Malformed { address: address.clone(), problem }
                })?),
                _ => None,
            };
            if address != asked {
                self.sent_on().insert(asked.to_owned(), address.clone());
            }
            let next_page = next_page(&head.headers);
            return Ok(Answer {
                part,
                n_bytes: number(CONTENT_LENGTH),
                next_page,
                address: host(&address),
                body,
            });
        }
        let problem = format!("more than {MAX_REDIRECTS} redirects");
        Err(HubError::Malformed { address, problem }.into())
    }

    /// A text of the hub's, such as a list of files, with the address of the list's next page.
    pub fn text(&self, address: &str, model: &str) -> Result<(Vec<u8>, Option<String>), HubError> {
        self.patiently(|_| {
            let mut answer = self.get(address, model, None)?;
            let text = answer.body.with_config().limit(MAX_TEXT).read_to_vec();
            let text = text.map_err(|error| unreachable(&answer.address, &error))?;
            Ok((text, answer.next_page))
        })
    }
}

impl Answer {
    /// Who answered.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Hands over what comes, in order, until it ends; `take` may end it before.
    ///
    /// # Errors
    /// A passing failure if it breaks off, and whatever `take` fails with.
    pub fn read(self, mut take: impl FnMut(&[u8]) -> Result<bool, Failure>) -> Result<(), Failure> {
        let mut body = self.body.into_reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    if !take(&buffer[..n])? {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let problem = error.to_string();
                    return Err(Failure::Passing(
                        HubError::Unreachable { address: self.address, problem },
                        None,
                    ));
                }
            }
        }
    }
}

/// Whether an address is one of the endpoint's, so that the token may go there.
fn is_below(address: &str, endpoint: &str) -> bool {
    address.strip_prefix(endpoint).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

fn unreachable(address: &str, error: &ureq::Error) -> Failure {
    let address = host(address);
    let problem = error.to_string();
    match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_)
        | ureq::Error::Rustls(_) => Failure::Passing(HubError::Unreachable { address, problem }, None),
        _ => Failure::Final(HubError::Unreachable { address, problem }),
    }
}

/// An address without its path, which may hold a signature.
fn host(address: &str) -> String {
    let uri: Option<Uri> = address.parse().ok();
    uri.and_then(|uri| Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?)))
        .unwrap_or_else(|| address.to_owned())
}

/// Where an answer sends us.
fn redirection(address: &str, headers: &HeaderMap) -> Result<String, HubError> {
    let malformed = || {
        let problem = "a redirect without a target".to_owned();
        HubError::Malformed { address: host(address), problem }
    };
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).ok_or_else(malformed)?;
    if location.starts_with("http://") || location.starts_with("https://") {
        // What was asked for safely is not answered in the open.
        let is_downgrade = address.starts_with("https://") && location.starts_with("http://");
        return if is_downgrade { Err(malformed()) } else { Ok(location.to_owned()) };
    }
    if location.starts_with('/') { Ok(host(address) + location) } else { Err(malformed()) }
}

/// What an answer means that brings no file.
fn refusal(address: &str, model: &str, is_own: bool, status: StatusCode, headers: &HeaderMap) -> Failure {
    let text = |name: HeaderName| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim().to_owned()
    };
    let message = text(ERROR_MESSAGE);
    let answer =
        || HubError::Answer { address: host(address), status: status.as_u16(), message: message.clone() };
    let (model, code) = (model.to_owned(), text(ERROR_CODE));
    match (status.as_u16(), code.as_str()) {
        // The addresses that the hub sends us on to are good for an hour; asked again, it gives another.
        (400..500, _) if !is_own => Failure::Passing(answer(), None),
        (408 | 429 | 500.., _) => {
            let seconds: Option<u64> = text(RETRY_AFTER).parse().ok();
            Failure::Passing(answer(), seconds.map(Duration::from_secs))
        }
        (_, "GatedRepo") => HubError::Gated { model, message }.into(),
        (_, "RepoNotFound") => HubError::NoModel { model, endpoint: host(address) }.into(),
        (_, "RevisionNotFound") => HubError::NoRevision { model, revision: String::new() }.into(),
        (_, "EntryNotFound") => HubError::NoFile { model, file: String::new() }.into(),
        (404, _) => HubError::NoModel { model, endpoint: host(address) }.into(),
        (401 | 403, _) => HubError::Refused { model, message }.into(),
        _ => answer().into(),
    }
}

/// `bytes 0-99/1000`.
fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    let (range, size) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

/// `<https://...>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get("link")?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(next.trim().strip_prefix('<')?.split_once('>')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_the_endpoint_alone() {
        let hub = "https://hub.test:8443";
        for address in ["https://hub.test:8443/a", "https://hub.test:8443?x", "https://hub.test:8443"] {
            assert!(is_below(address, hub));
        }
        for address in [
            "https://hub.test:84433/a",
            "https://hub.test/a",
            "http://hub.test:8443/",
            "https://hub.test:8443@evil/",
        ] {
            assert!(!is_below(address, hub), "{address}");
        }
    }

    #[test]
    fn headers_are_read_with_care() {
        let headers = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
        };
        assert_eq!(content_range(&headers("content-range", "bytes 5-9/10")), Some((5..10, 10)));
        for value in ["bytes 5-10/10", "bytes 9-5/10", "bytes 5-9/*", "items 5-9/10", "bytes -1-9/10"] {
            assert_eq!(content_range(&headers("content-range", value)), None, "{value}");
        }
        let links = r#"<https://a.test/1>; rel="prev", <https://a.test/3?cursor=x>; rel="next""#;
        assert_eq!(next_page(&headers("link", links)).as_deref(), Some("https://a.test/3?cursor=x"));
        let to = |location: &str| redirection("https://a.test/x", &headers("location", location)).ok();
        assert_eq!(to("/y?z").as_deref(), Some("https://a.test/y?z"));
        assert_eq!(to("https://b.test/y").as_deref(), Some("https://b.test/y"));
        assert_eq!((to("http://b.test/y"), to("y")), (None, None));
    }
}
