//! A hub on loopback: the endpoints that lamarck asks, over folders of this machine, and everything that can go wrong
//! with them. Large files are served by a second host, which must never see a token.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde_json::{Value, json};

use crate::harness::{Run, Space};

/// Files from this size on are large: the second host serves them.
const LARGE: usize = 100_000;

/// What goes wrong with one answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The answer is a status with headers, and nothing else.
    Status(u16, Vec<(&'static str, &'static str)>),
    /// The connection is cut after so many bytes of the body.
    Cut(usize),
    /// After so many bytes of the body nothing more comes, and the connection stays open.
    Stall(usize),
    /// Every byte of the body is another.
    WrongBytes,
    /// The whole file comes, whatever part was asked for.
    Whole,
    /// The answer claims a file of another size, and sends that many bytes.
    Size(usize),
    /// The list says so.
    Listed(Value),
}

/// One request, and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    pub to_cdn: bool,
    pub path: String,
    pub is_head: bool,
    pub range: Option<(usize, usize)>,
    pub authorization: Option<String>,
    /// Bytes of a file that were sent.
    pub sent: usize,
}

#[derive(Default)]
struct State {
    /// By id: the commit of `main`, and the files of every commit.
    models: BTreeMap<String, (String, BTreeMap<String, Files>)>,
    /// What goes wrong with the next requests whose path holds a text; `true` for all of them.
    faults: Vec<(&'static str, Fault, bool)>,
    log: Vec<Request>,
    /// Large files by their SHA-256, as the second host knows them.
    large: BTreeMap<String, Arc<Vec<u8>>>,
    /// Only those with this token may have anything.
    token: Option<String>,
    /// Models that need access.
    gated: Vec<String>,
}

type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// The hub, until the test ends.
pub struct HubServer {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl HubServer {
    pub fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let (hub, cdn) = (listen(), listen());
        let cdn_address = format!("http://{}", cdn.local_addr().expect("it listens"));
        let endpoint = format!("http://{}", hub.local_addr().expect("it listens"));
        for (listener, to_cdn) in [(hub, false), (cdn, true)] {
            let (state, cdn_address) = (Arc::clone(&state), cdn_address.clone());
            std::thread::spawn(move || {
                for connection in listener.incoming().flatten() {
                    let (state, cdn_address) = (Arc::clone(&state), cdn_address.clone());
                    std::thread::spawn(move || serve(&connection, to_cdn, &cdn_address, &state));
                }
            });
        }
        Self { endpoint, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with it")
    }

    /// Puts every file of a folder on the hub, as a new commit of a model's `main`, and gives the commit.
    pub fn push(&self, id: &str, dir: &Path) -> String {
        let mut files = Files::new();
        for entry in fs::read_dir(dir).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().expect("entries have names").to_string_lossy().into_owned();
            if path.is_file() {
                files.insert(name, Arc::new(fs::read(&path).expect("the file can be read")));
            }
        }
        self.push_files(id, files)
    }

    pub fn push_files(&self, id: &str, files: Files) -> String {
        let mut text = id.to_owned();
        files.iter().for_each(|(name, bytes)| text += &format!("{name} {}\n", sha256(bytes)));
        let commit = sha1(text.as_bytes());
        let mut state = self.state();
        let large = files.values().filter(|bytes| bytes.len() >= LARGE);
        state.large.extend(large.map(|bytes| (sha256(bytes), Arc::clone(bytes))));
        let (main, commits) = state.models.entry(id.to_owned()).or_default();
        main.clone_from(&commit);
        commits.insert(commit.clone(), files);
        commit
    }

    /// Has the next request whose path holds a text go wrong.
    pub fn fail_once(&self, path: &'static str, fault: Fault) {
        self.state().faults.push((path, fault, false));
    }

    /// Has every request whose path holds a text go wrong.
    pub fn fail_always(&self, path: &'static str, fault: Fault) {
        self.state().faults.push((path, fault, true));
    }

    pub fn mend(&self) {
        self.state().faults.clear();
    }

    /// Only those with this token get anything from here on.
    pub fn demand_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    pub fn gate(&self, id: &str) {
        self.state().gated.push(id.to_owned());
    }

    /// The requests since this was last asked.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().log)
    }

    /// A command that may ask this hub.
    pub fn command(&self, space: &Space, args: &[&str]) -> Command {
        let mut command = space.command(args);
        command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", &self.endpoint);
        command
    }

    #[track_caller]
    pub fn ok(&self, space: &Space, args: &[&str]) -> Run {
        let run = Run::of(&mut self.command(space, args));
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        run
    }

    /// What a command says that must fail with an exit code.
    #[track_caller]
    pub fn fails(&self, space: &Space, code: i32, args: &[&str]) -> String {
        let run = Run::of(&mut self.command(space, args));
        assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
        run.stderr
    }
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("loopback is there")
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn sha1(bytes: &[u8]) -> String {
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
}

pub fn git_sha1(bytes: &[u8]) -> String {
    sha1(&[format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Serves requests of one connection until it is closed.
fn serve(connection: &TcpStream, to_cdn: bool, cdn: &str, state: &Mutex<State>) {
    let mut lines = BufReader::new(connection);
    while let Some(request) = read_request(&mut lines, to_cdn) {
        let Ok(mut state) = state.lock() else { return };
        let at = state.faults.iter().position(|(path, _, _)| request.path.contains(path));
        let fault =
            at.map(
                |at| if state.faults[at].2 { state.faults[at].1.clone() } else { state.faults.remove(at).1 },
            );
        let mut answer = answer(&request, cdn, &state);
        let cut = match fault {
            None => None,
            Some(Fault::Status(status, headers)) => {
                let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                answer = Answer { status, headers: headers.collect(), body: Vec::new(), is_file: false };
                None
            }
            Some(Fault::Cut(after)) => Some((after.min(answer.body.len()), false)),
            Some(Fault::Stall(after)) => Some((after.min(answer.body.len()), true)),
            Some(Fault::WrongBytes) => {
                answer.body.iter_mut().for_each(|byte| *byte ^= 0x55);
                None
            }
            Some(Fault::Whole) => {
                answer = self::answer(&Request { range: None, ..request.clone() }, cdn, &state);
                None
            }
            Some(Fault::Size(size)) => {
                answer.body.resize(size, 7);
                answer.headers.retain(|(name, _)| name != "Content-Range");
                if answer.status == 206 {
                    answer.headers.push(("Content-Range".to_owned(), format!("bytes 0-{}/{size}", size - 1)));
                }
                None
            }
            Some(Fault::Listed(list)) => {
                answer.body = list.to_string().into_bytes();
                None
            }
        };
        let length = answer.body.len();
        if request.is_head {
            answer.body.clear();
        }
        let body = &answer.body[..cut.map_or(answer.body.len(), |(after, _)| after)];
        let sent = if answer.is_file { body.len() } else { 0 };
        state.log.push(Request { sent, ..request });
        drop(state);
        let mut text = format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", answer.status, length);
        answer.headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        let mut connection = connection;
        let written =
            connection.write_all((text + "\r\n").as_bytes()).and_then(|()| connection.write_all(body));
        if let Some((_, true)) = cut {
            // Until the other side has had enough.
            let _ = lines.read_line(&mut String::new());
        }
        if written.is_err() || cut.is_some() {
            let _ = connection.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read_request(lines: &mut impl BufRead, to_cdn: bool) -> Option<Request> {
    let mut line = String::new();
    lines.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?, words.next()?.to_owned());
    let is_head = method == "HEAD";
    let mut request = Request { to_cdn, path, is_head, range: None, authorization: None, sent: 0 };
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Some(request) };
        match name.to_lowercase().as_str() {
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                request.range = Some((first.parse().ok()?, last.parse().ok()?));
            }
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    is_file: bool,
}

fn refused(status: u16, code: &str, message: &str) -> Answer {
    let header = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let headers = vec![header("X-Error-Code", code), header("X-Error-Message", message)];
    Answer { status, headers, body: Vec::new(), is_file: false }
}

fn answer(request: &Request, cdn: &str, state: &State) -> Answer {
    let path = request.path.split('?').next().expect("there is a first part");
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if request.to_cdn {
        return match state.large.get(parts[0]) {
            Some(bytes) => file(bytes, request.range, Vec::new()),
            None => refused(403, "", "expired"),
        };
    }
    let is_known = state
        .token
        .as_ref()
        .is_none_or(|token| request.authorization.as_deref() == Some(format!("Bearer {token}").as_str()));
    let id = match parts.as_slice() {
        ["api", "models", org, name, ..] | [org, name, "resolve", ..] => format!("{org}/{name}"),
        _ => return refused(404, "", ""),
    };
    if !is_known {
        return refused(401, "RepoNotFound", "Repository not found");
    }
    let Some((main, commits)) = state.models.get(&id) else {
        return refused(404, "RepoNotFound", "Repository not found");
    };
    if state.gated.contains(&id) {
        return refused(403, "GatedRepo", "Access to this model is restricted");
    }
    let at = |revision: &str| {
        let commit = if revision == "main" { main } else { revision };
        commits.get(commit).map(|files| (commit.to_owned(), files))
    };
    match parts.as_slice() {
        [.., "revision", revision] => match at(revision) {
            Some((commit, files)) => {
                let siblings: Vec<Value> = files.keys().map(|name| json!({ "rfilename": name })).collect();
                text(&json!({ "id": id, "sha": commit, "siblings": siblings }))
            }
            None => refused(404, "RevisionNotFound", "Invalid rev id"),
        },
        [.., "tree", revision] => match at(revision) {
            Some((_, files)) => text(&files.iter().map(|(name, bytes)| entry(name, bytes)).collect()),
            None => refused(404, "RevisionNotFound", "Invalid rev id"),
        },
        [_, _, "resolve", revision, name] => {
            let found = at(revision).and_then(|(commit, files)| Some((commit, files.get(*name)?)));
            let Some((commit, bytes)) = found else {
                return refused(404, "EntryNotFound", "Entry not found");
            };
            let header = |name: &str, text: String| (name.to_owned(), text);
            let mut headers = vec![header("X-Repo-Commit", commit)];
            if bytes.len() < LARGE {
                headers.push(header("ETag", format!("\"{}\"", git_sha1(bytes))));
                return file(bytes, request.range, headers);
            }
            let large = state.large.iter().find(|(_, large)| *large == bytes);
            let (sha256, _) = large.expect("it is one of the large files");
            headers.push(header("X-Linked-ETag", format!("\"{sha256}\"")));
            headers.push(header("X-Linked-Size", bytes.len().to_string()));
            headers.push(header("Location", format!("{cdn}/{sha256}?signature=x")));
            Answer { status: 302, headers, body: Vec::new(), is_file: false }
        }
        _ => refused(404, "", ""),
    }
}

fn entry(name: &str, bytes: &[u8]) -> Value {
    let mut entry = json!({ "type": "file", "path": name, "size": bytes.len(), "oid": git_sha1(bytes) });
    if bytes.len() >= LARGE {
        entry["lfs"] = json!({ "oid": sha256(bytes), "size": bytes.len(), "pointerSize": 130 });
    }
    entry
}

fn text(body: &Value) -> Answer {
    Answer { status: 200, headers: Vec::new(), body: body.to_string().into_bytes(), is_file: false }
}

fn file(bytes: &[u8], range: Option<(usize, usize)>, mut headers: Vec<(String, String)>) -> Answer {
    let Some((first, last)) = range else {
        return Answer { status: 200, headers, body: bytes.to_vec(), is_file: true };
    };
    let last = last.min(bytes.len() - 1);
    headers.push(("Content-Range".to_owned(), format!("bytes {first}-{last}/{}", bytes.len())));
    Answer { status: 206, headers, body: bytes[first..=last].to_vec(), is_file: true }
}
