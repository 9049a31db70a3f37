//! Running real programs in an environment that holds nothing of the developer's.

#![expect(
    clippy::disallowed_methods,
    reason = "a test that runs real programs needs the real world; it sees a directory of its own only"
)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a program may run unless a test says otherwise: far above what any needs, so that only a hang ends it.
const DEFAULT_TIME: Duration = Duration::from_secs(60);
/// How often a running program is looked at.
const GLANCE: Duration = Duration::from_millis(2);

/// A home directory, a state directory and an environment for real programs; gone when dropped.
#[derive(Debug)]
pub struct HermeticEnv {
    root: TempDir,
    program: PathBuf,
    variables: BTreeMap<OsString, OsString>,
    time: Duration,
}

/// What a program left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutput {
    /// Exit code; 128 + n after signal n.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl RunOutput {
    /// Itself, if the program succeeded.
    ///
    /// # Panics
    /// With both outputs, if it did not.
    #[must_use]
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
}

impl HermeticEnv {
    /// An environment for `program`, usually `env!("CARGO_BIN_EXE_tokensink")`. Set are only HOME,
    /// `OPENCLAW_STATE_DIR`, TMPDIR, PATH (the system's) and a plain terminal and language.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let root = tempfile::Builder::new()
            .prefix("tokensink-test-")
            .tempdir()
            .expect("a temporary directory");
        for dir in ["home", "tmp", "work"] {
            std::fs::create_dir(root.path().join(dir)).expect("a directory");
        }
        let mut env = Self {
            program: program.into(),
            variables: BTreeMap::new(),
            time: DEFAULT_TIME,
            root,
        };
        env.set("HOME", env.home().into_os_string());
        env.set("OPENCLAW_STATE_DIR", env.state_dir().into_os_string());
        env.set("TMPDIR", env.root.path().join("tmp").into_os_string());
        env.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        env.set("LANG", "C.UTF-8");
        env.set("TERM", "dumb");
        env
    }

    /// The home directory.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// The state directory, `.openclaw` in the home directory; not created yet.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.home().join(".openclaw")
    }

    /// The directory in which programs start.
    #[must_use]
    pub fn work_dir(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// Sets a variable for all later programs.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.variables.insert(name.into(), value.into());
    }

    /// Removes a variable for all later programs.
    pub fn unset(&mut self, name: impl AsRef<OsStr>) {
        self.variables.remove(name.as_ref());
    }

    /// How long each program may run before it is killed and the test fails.
    pub fn set_time(&mut self, time: Duration) {
        self.time = time;
    }

    /// Puts a file below the home directory, with mode 0600 and its directories.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn put(&self, below_home: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.home().join(below_home);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        path
    }

    /// Reads a file below the home directory.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn text(&self, below_home: impl AsRef<Path>) -> String {
        let path = self.home().join(below_home);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The command, for tests that need more than [`HermeticEnv::run`].
    #[must_use]
    pub fn command<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .envs(&self.variables)
            .current_dir(self.work_dir());
        command
    }

    /// Runs the program without input.
    ///
    /// # Panics
    /// When it cannot be started or does not end in time.
    pub fn run<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> RunOutput {
        self.run_with_input(args, "")
    }

    /// Runs the program with `input` on its standard input.
    ///
    /// # Panics
    /// When it cannot be started or does not end in time.
    pub fn run_with_input<I: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = I>,
        input: &str,
    ) -> RunOutput {
        self.start_with_input(args, input).wait()
    }

    /// Starts the program without input and lets it run.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> RunningProgram {
        self.start_with_input(args, "")
    }

    fn start_with_input<I: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = I>,
        input: &str,
    ) -> RunningProgram {
        let mut command = self.command(args);
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_owned();
        // A program that does not read its input ends this thread with a broken pipe, which is fine.
        std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        RunningProgram {
            child,
            shown,
            time: self.time,
            stdout: Output::of(stdout),
            stderr: Output::of(stderr),
        }
    }
}

/// A program that runs; killed when dropped.
#[derive(Debug)]
pub struct RunningProgram {
    child: Child,
    shown: String,
    time: Duration,
    stdout: Output,
    stderr: Output,
}

impl RunningProgram {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output that contains `part`.
    ///
    /// # Panics
    /// When it does not come in time, with what came instead.
    pub fn wait_for_line(&mut self, part: &str) -> String {
        let until = Instant::now() + self.time;
        loop {
            if let Some(line) = self.stdout.next_line(until) {
                if line.contains(part) {
                    return line;
                }
            } else {
                panic!(
                    "{}: no line with {part:?}\nstdout: {}\nstderr: {}",
                    self.shown,
                    self.stdout.text,
                    self.stderr.rest(Instant::now())
                );
            }
        }
    }

    /// Waits for its end. Everything that it printed is in the result, lines that were waited for among it.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(mut self) -> RunOutput {
        let until = Instant::now() + self.time;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(
                Instant::now() < until,
                "{} did not end in {:?}\nstdout: {}\nstderr: {}",
                self.shown,
                self.time,
                self.stdout.rest(Instant::now()),
                self.stderr.rest(Instant::now())
            );
            std::thread::sleep(GLANCE);
        };
        self.finish(status)
    }

    /// Kills it (SIGKILL) and returns what it left.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(mut self) -> RunOutput {
        // It may have ended by itself.
        let _ = self.child.kill();
        let status = self.child.wait().expect("wait");
        self.finish(status)
    }

    fn finish(&mut self, status: ExitStatus) -> RunOutput {
        // A detached helper of the program may keep its outputs open; a moment is enough for what is in the pipe.
        let until = Instant::now() + Duration::from_millis(500);
        RunOutput {
            code: status
                .code()
                .or_else(|| status.signal().map(|signal| 128 + signal))
                .expect("a code or a signal"),
            stdout: self.stdout.rest(until),
            stderr: self.stderr.rest(until),
        }
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program prints, collected by a thread.
#[derive(Debug)]
struct Output {
    chunks: Receiver<Vec<u8>>,
    /// What came so far.
    text: String,
    /// Where the next line begins.
    next: usize,
}

impl Output {
    fn of(chunks: Receiver<Vec<u8>>) -> Self {
        Self {
            chunks,
            text: String::new(),
            next: 0,
        }
    }

    /// Takes in one more chunk; `false` at the end or when `until` has passed.
    fn more(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        match self.chunks.recv_timeout(left) {
            Ok(chunk) => {
                self.text.push_str(&String::from_utf8_lossy(&chunk));
                true
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
        }
    }

    fn next_line(&mut self, until: Instant) -> Option<String> {
        loop {
            if let Some(length) = self.text[self.next..].find('\n') {
                let line = self.text[self.next..self.next + length].to_owned();
                self.next += length + 1;
                return Some(line);
            }
            if !self.more(until) {
                return None;
            }
        }
    }

    fn rest(&mut self, until: Instant) -> String {
        while self.more(until) {}
        self.text.clone()
    }
}

/// Sends whole lines (so that no character is cut), and the rest at the end.
fn lines(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let (mut held, mut chunk) = (Vec::new(), [0; 8192]);
        while let Ok(n) = pipe.read(&mut chunk) {
            if n == 0 {
                break;
            }
            held.extend_from_slice(&chunk[..n]);
            let whole = held
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            let rest = held.split_off(whole);
            // Nobody may be listening any more; reading on keeps the program from blocking.
            let _ = sender.send(std::mem::replace(&mut held, rest));
        }
        let _ = sender.send(held);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_only_what_it_was_given() {
        let mut env = HermeticEnv::new("/bin/sh");
        env.set("SECRET_OF_TEST", "x");
        env.put(".config/a", "text");
        let script = "cat; env | cut -d= -f1 | sort | tr '\\n' ' '; pwd >&2; cat ~/.config/a; exit 3";
        let output = env.run_with_input(["-c", script], "in\n");
        assert_eq!(output.code, 3);
        let names = "HOME LANG OPENCLAW_STATE_DIR PATH PWD SECRET_OF_TEST TERM TMPDIR";
        for name in names.split(' ') {
            assert!(output.stdout.contains(name), "{output:?}");
        }
        assert!(!output.stdout.contains("CARGO"), "{output:?}");
        assert!(
            output.stdout.starts_with("in\n") && output.stdout.ends_with("text"),
            "{output:?}"
        );
        assert_eq!(output.stderr.trim(), env.work_dir().to_string_lossy());
    }

    #[test]
    fn a_running_program_is_awaited_line_by_line_and_killed() {
        let env = HermeticEnv::new("/bin/sh");
        let mut program = env.start(["-c", "echo one; echo ready 17; exec sleep 600"]);
        assert_eq!(program.wait_for_line("ready"), "ready 17");
        let output = program.kill();
        assert_eq!((output.code, &*output.stdout), (137, "one\nready 17\n"));
    }

    #[test]
    #[should_panic(expected = "did not end in")]
    fn a_hanging_program_fails_the_test() {
        let mut env = HermeticEnv::new("/bin/sh");
        env.set_time(Duration::from_millis(50));
        env.run(["-c", "exec sleep 600"]);
    }
}
