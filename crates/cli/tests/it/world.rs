//! A home directory for real processes, and what they said.

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// A setup-token of the right shape (spec.md 11.7); nobody issued it.
pub(crate) const SETUP_TOKEN: &str =
    "sk-ant-oat01-canary-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// An API key that nobody issued.
pub(crate) const API_KEY: &str = "sk-or-v1-canary-0123456789abcdef0123456789abcdef";

/// A browser without a window: goes where it is sent, with cookies, and shows nothing.
pub(crate) const BROWSER: &str = "curl -sL -b no-such-file -o /dev/null";

/// A home with an empty environment.
pub(crate) struct World {
    dir: TempDir,
}

/// What a process said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// What a process left behind.
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Fails unless the exit code is `code`.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A path in the home.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// A file in the state dir.
    pub(crate) fn state(&self, relative: &str) -> PathBuf {
        self.path(".openclaw").join(relative)
    }

    /// Writes a file in the home.
    pub(crate) fn write(&self, relative: &str, text: &str) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary under one of its names.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        let link = self.path("bin").join(name);
        if !link.exists() {
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(env!("CARGO_BIN_EXE_tokensink"), &link).unwrap();
        }
        link
    }

    /// A command line in this world, by words.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.binary(words[0]));
        command
            .args(&words[1..])
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", "/usr/bin:/bin")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command line without input.
    pub(crate) fn run(&self, line: &str) -> Said {
        self.run_with(line, None, &[])
    }

    /// Runs a command line with something on standard input.
    pub(crate) fn feed(&self, line: &str, input: &str) -> Said {
        self.run_with(line, Some(input), &[])
    }

    /// Runs a command line with input and variables.
    pub(crate) fn run_with(&self, line: &str, input: Option<&str>, variables: &[(&str, &str)]) -> Said {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = self.command(&words);
        command.envs(variables.iter().copied());
        let Some(input) = input else {
            return Said::of(command.output().unwrap());
        };
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        // A command that does not read its input is free to end before we have written it.
        let _ignored = child.stdin.take().unwrap().write_all(input.as_bytes());
        Said::of(child.wait_with_output().unwrap())
    }

    /// Stores the API key for a provider.
    pub(crate) fn store_key(&self, provider: &str) {
        let line = format!("tokensink models auth paste-api-key --provider {provider}");
        self.feed(&line, API_KEY).code(0);
    }

    /// Every file below the state dir with its text.
    pub(crate) fn files(&self) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        collect(&self.state(""), &mut found);
        found
    }

    /// Runs a command line on a terminal of its own: waits for each text to appear, then types the answer.
    pub(crate) fn on_terminal(&self, line: &str, dialogue: &[(&str, &str)]) -> Said {
        let mut session = self.session(line);
        for (shown, typed) in dialogue {
            session.wait_for(shown);
            session.type_in(typed);
        }
        session.finish()
    }

    /// Starts a command line on a terminal of its own.
    pub(crate) fn session(&self, line: &str) -> Session {
        self.session_with(line, &[])
    }

    /// The same with variables.
    pub(crate) fn session_with(&self, line: &str, variables: &[(&str, &str)]) -> Session {
        let words: Vec<&str> = line.split(' ').collect();
        let program = self.binary(words[0]);
        let command = format!("{} {}", program.display(), words[1..].join(" "));
        let child = Command::new("script")
            .args(["-qefc", &command, "/dev/null"])
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .envs(variables.iter().copied())
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Session::of(child)
    }
}

/// How long a terminal may show nothing new before a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command on a terminal. Ends with the test.
pub(crate) struct Session {
    child: Child,
    input: ChildStdin,
    shown: Receiver<Vec<u8>>,
    screen: Vec<u8>,
    seen: usize,
}

impl Session {
    fn of(mut child: Child) -> Self {
        let input = child.stdin.take().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (sender, shown) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0_u8; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            input,
            shown,
            screen: Vec::new(),
            seen: 0,
        }
    }

    /// Waits until `text` appears after all that was waited for before; returns the whole screen so far.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let new = String::from_utf8_lossy(&self.screen[self.seen..]).into_owned();
            if let Some(at) = new.find(text) {
                self.seen += at + text.len();
                return self.screen();
            }
            match self.shown.recv_timeout(PATIENCE) {
                Ok(bytes) => self.screen.extend(bytes),
                Err(why) => panic!("{text:?} never appeared ({why}) in {}", self.screen()),
            }
        }
    }

    /// Types something; `\r` is the Enter key.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the end without closing the terminal's input.
    pub(crate) fn finish(mut self) -> Said {
        loop {
            match self.shown.recv_timeout(PATIENCE) {
                Ok(bytes) => self.screen.extend(bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it never ended: {}", self.screen()),
            }
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Said {
            code,
            out: self.screen(),
            err: String::new(),
        }
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen).into_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already unless a test failed in the middle.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.is_file() {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            found.push((path, text));
        }
    }
}
