//! `lamarck watch`: plans whenever its files are saved, however that is done, and builds when asked to.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, settle};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn space() -> Space {
    let space = Space::new();
    for (i, model) in ["base", "a"].iter().enumerate() {
        Checkpoint::decoder(2, i as u64).write(&space.path(model));
    }
    space.write(
        "recipe.yaml",
        "name: one\nmerge_method: slerp\nbase_model: ./base\nmodels: [{model: ./a}]\nparameters: {t: 0.25}\n",
    );
    settle();
    space
}

/// A watch whose output is read, both streams as one.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(mut command: Command) -> Self {
        let (output, input) = std::io::pipe().expect("there are pipes");
        let same = input.try_clone().expect("there are pipes");
        let child = command.stdin(Stdio::null()).stdout(input).stderr(same).spawn();
        // The command holds the pipe's other end.
        drop(command);
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                let _ = send.send(line);
            }
        });
        let child = child.expect("the binary starts");
        Self { child, lines }
    }

    fn of(space: &Space, args: &[&str]) -> Self {
        Self::start(space.command(&[&["watch", "recipe.yaml"], args].concat()))
    }

    /// Waits for a line with a text; gives the lines until then.
    #[track_caller]
    fn until(&self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let started = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no `{text}` in\n{}", seen.join("\n")));
            seen.push(line);
            if seen.last().is_some_and(|line| line.contains(text)) {
                return seen;
            }
        }
    }

    /// Nothing is said any more once a signal has ended it.
    fn end(mut self, signal: &str) -> (Option<i32>, Vec<String>) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let code = self.child.wait().unwrap().code();
        (code, self.lines.iter().collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_way_to_save_is_noticed() {
    let space = space();
    let watch = Watch::of(&space, &[]);
    watch.until("watching recipe.yaml");
    let recipe = space.path("recipe.yaml");
    let first = space.read("recipe.yaml");
    let text = |t: &str| first.replace("t: 0.25", t);
    let (changed, wrong) = (text("t: 0.5"), text("t: [0.5"));
    // In place.
    std::fs::write(&recipe, &changed).unwrap();
    watch.until("to run: 9 actions");
    watch.until("watching recipe.yaml");
    // As vim does: the old file gets another name, and a new one its name.
    std::fs::rename(&recipe, space.path("recipe.yaml~")).unwrap();
    std::fs::write(&recipe, &wrong).unwrap();
    watch.until("error: recipe.yaml has 1 error");
    watch.until("watching recipe.yaml");
    // As others do: a new file is put in its place.
    space.write("new", &changed);
    std::fs::rename(space.path("new"), &recipe).unwrap();
    watch.until("to run: 9 actions");
    watch.until("watching recipe.yaml");
    // Gone for a moment and for good.
    std::fs::remove_file(&recipe).unwrap();
    watch.until("cannot read recipe.yaml");
    watch.until("watching recipe.yaml");
    std::fs::write(&recipe, &changed).unwrap();
    watch.until("to run: 9 actions");
    watch.until("watching recipe.yaml");
    // The settings count as well.
    space.write("lamarck.toml", "nonsense = 1\n");
    watch.until("nonsense");
    watch.until("watching recipe.yaml");
    std::fs::remove_file(space.path("lamarck.toml")).unwrap();
    watch.until("to run: 9 actions");
    watch.until("watching recipe.yaml");
    // Other files do not.
    space.write("other.yaml", "x");
    std::fs::write(&recipe, text("t: 1.0")).unwrap();
    let seen = watch.until("watching recipe.yaml");
    assert_eq!(seen.iter().filter(|line| line.contains("planned in")).count(), 1, "{seen:?}");
    assert!(
        seen.iter().any(|line| line.contains("everything is up to date") || line.contains("taken from ./a"))
    );
    assert_eq!(watch.end("-INT"), (Some(130), Vec::new()));
}

#[test]
fn the_last_of_many_saves_is_planned() {
    let space = space();
    let watch = Watch::of(&space, &["--json"]);
    watch.until("\"event\":\"plan\"");
    let text = space.read("recipe.yaml");
    for i in 0..200 {
        space.write("recipe.yaml", text.replace("t: 0.25", &format!("t: 0.{}", 300 + i)));
    }
    space.write("recipe.yaml", text.replace("merge_method: slerp", "merge_method: slrep"));
    let seen = watch.until("there is no merge method `slrep`");
    assert!(seen.len() < 100, "saves that come together are planned together");
    assert_eq!(watch.end("-TERM").0, Some(143));
}

#[test]
fn saves_are_built_at_once_if_asked() {
    let space = space();
    let watch = Watch::of(&space, &["--build"]);
    watch.until("built one: 9 tensors, 0 reused, 9 rebuilt");
    watch.until("watching recipe.yaml");
    space.replace("recipe.yaml", "t: 0.25", "t: {filter: norm");
    watch.until("error: recipe.yaml has 1 error");
    watch.until("watching recipe.yaml");
    space.replace("recipe.yaml", "t: {filter: norm", "t: 0.5");
    watch.until("rebuilt (one t 0.25 -> 0.5)");
    watch.until("watching recipe.yaml");
    assert!(space.path("merges/one/lamarck.lock.json").is_file());
}

#[test]
fn what_cannot_be_watched_is_an_error() {
    let space = space();
    let error = space.fails(1, &["watch", "nowhere.yaml"]);
    assert!(error.contains("nowhere.yaml"), "{error}");
}

/// Runs a command on a terminal of its own, types, and says what the terminal was like before and after.
const TYPIST: &str = r#"
import os, pty, sys, termios, select, time, signal
script, command = sys.argv[1].split("\n"), sys.argv[2:]
master, slave = pty.openpty()
before = termios.tcgetattr(slave)
child = os.fork()
if child == 0:
    os.setsid()
    import fcntl
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2): os.dup2(slave, fd)
    os.execv(command[0], command)
seen = b""
def until(text):
    global seen
    end = time.time() + 60
    while text.encode() not in seen:
        if not select.select([master], [], [], max(0, end - time.time()))[0]:
            sys.exit("no %r in %s" % (text, seen.decode(errors="replace")))
        try: seen += os.read(master, 4096)
        except OSError: sys.exit("ended without %r: %s" % (text, seen.decode(errors="replace")))
    seen = seen.split(text.encode(), 1)[1]
for line in script:
    what, _, text = line.partition(" ")
    if what == "until": until(text)
    elif what == "type": os.write(master, text.encode().decode("unicode_escape").encode())
    elif what == "raw":
        end = time.time() + 60
        while termios.tcgetattr(slave)[3] & termios.ICANON and time.time() < end: time.sleep(0.005)
        assert not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO), "keys are read one by one"
    elif what == "cooked": termios.tcsetattr(slave, termios.TCSANOW, before)
    elif what == "signal": os.kill(child, getattr(signal, text))
_, status = os.waitpid(child, 0)
assert termios.tcgetattr(slave)[:4] == before[:4], "the terminal is as it was"
print(os.waitstatus_to_exitcode(status))
"#;

/// The exit code, as Python has it; `None` where there is no Python.
fn typed(space: &Space, script: &[&str]) -> Option<String> {
    let mut command = Command::new("python3");
    let lamarck = space.command(&["watch", "recipe.yaml"]);
    command.args(["-c", TYPIST, &script.join("\n")]).arg(lamarck.get_program()).args(lamarck.get_args());
    command.current_dir(space.path("."));
    for (name, value) in lamarck.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Where nobody listens, nobody is told.
            let _ = writeln!(std::io::stderr(), "skipped: there is no python3");
            return None;
        }
        output => output.expect("python3 starts"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn keys_build_and_end_and_the_terminal_is_put_back() {
    let space = space();
    let Some(end) = typed(
        &space,
        &[
            "until Enter builds",
            "raw",
            "type r",
            "until has not been built yet",
            "until Enter builds",
            "raw",
            "type \\r",
            "until 9 rebuilt",
            "until Enter builds",
            "raw",
            "type r",
            "until report of build 1",
            "until Enter builds",
            "raw",
            "cooked",
            "signal SIGCONT",
            "raw",
            "type q",
        ],
    ) else {
        return;
    };
    assert_eq!(end, "0");
    assert!(space.path("merges/one/config.json").is_file());
    assert!(space.path("lamarck-report-1.html").is_file());
    for (how, code) in [("type \\x03", "130"), ("signal SIGTERM", "143")] {
        assert_eq!(typed(&space, &["until Enter builds", "raw", how]).as_deref(), Some(code));
    }
}
