//! The real OpenClaw as processes of a home.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{installed, npm_cpu};
use crate::world::{Said, World};

/// Where no proxy listens: a request that was not meant to leave this host fails instead.
const NOWHERE: &str = "http://127.0.0.1:9";

/// OpenClaw 2026.5.28 on a home's state dir.
pub(crate) struct OpenClaw<'a> {
    world: &'a World,
    node: PathBuf,
    script: PathBuf,
}

impl<'a> OpenClaw<'a> {
    /// The program, if the long run is wanted.
    pub(crate) fn in_home(world: &'a World) -> Option<Self> {
        let script = installed("real-openclaw", "openclaw/openclaw.mjs")?;
        let node = installed("node", &format!("node-linux-{}/bin/node", npm_cpu()))?;
        Some(Self { world, node, script })
    }

    /// A command line of it, by words.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.node);
        command
            .arg(&self.script)
            .args(line.split(' '))
            .env_clear()
            .env("HOME", self.world.path(""))
            .env("OPENCLAW_STATE_DIR", self.world.state(""))
            .env("PATH", "/usr/bin:/bin")
            .env("HTTPS_PROXY", NOWHERE)
            .env("HTTP_PROXY", NOWHERE)
            .env("NODE_USE_ENV_PROXY", "1")
            .current_dir(self.world.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command line without input.
    pub(crate) fn run(&self, line: &str) -> Said {
        Said::of(self.command(line).output().unwrap())
    }

    /// Runs a command line with something on standard input.
    pub(crate) fn feed(&self, line: &str, input: &str) -> Said {
        let mut child = self.start(self.command(line).stdin(Stdio::piped()));
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Said::of(child.wait_with_output().unwrap())
    }

    /// Starts a command.
    pub(crate) fn start(&self, command: &mut Command) -> Child {
        command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.node.display()))
    }

    /// What a command line with `--json` prints.
    #[track_caller]
    pub(crate) fn json(&self, line: &str) -> Value {
        self.run(line).code(0).json()
    }
}
