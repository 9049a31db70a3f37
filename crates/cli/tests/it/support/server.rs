//! A gateway as a process of its own, and requests to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokensink_testkit::loopback::{self, Answer};

use crate::support::stage::clock;
use crate::world::World;

/// A gateway as a process of its own. Killed at the end of a test.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) ready: Value,
}

impl Server {
    pub(crate) fn start(world: &World, arguments: &str) -> Self {
        Self::start_at(world, arguments, 0)
    }

    /// The same with a clock that is so many seconds ahead.
    pub(crate) fn start_at(world: &World, arguments: &str, seconds: i64) -> Self {
        Self::start_in(world, arguments, clock(seconds))
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_in<'a>(
        world: &World,
        arguments: &str,
        variables: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        let line = format!("tokensink -vv serve --port 0 --json {arguments}");
        let words: Vec<&str> = line.split_whitespace().collect();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(world.path("serve.log"))
            .unwrap();
        let mut command = world.command(&words);
        let mut child = command.envs(variables).stderr(log).spawn().unwrap();
        let mut text = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while serde_json::from_str::<Value>(&text).is_err() {
            let length = lines.read_line(&mut text).unwrap();
            assert!(length > 0, "{text} {}", log_of(world));
        }
        let ready = serde_json::from_str(&text).unwrap();
        Self { child, ready }
    }

    pub(crate) fn address(&self) -> &str {
        self.ready["addresses"][0].as_str().unwrap()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.ready["socket"].as_str().unwrap().into()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// The exit code, once it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends JSON with these headers; the whole answer.
    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let url = format!("http://{}{path}", self.address());
        loopback::send("POST", &url, headers, &body.to_string())
    }

    /// Asks over TCP with these header lines; status and body.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        exchange(self.tcp(), method, path, headers, body)
    }

    /// The same over the Unix socket, without a key.
    pub(crate) fn ask_locally(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        exchange(stream, method, path, "host: localhost\r\n", body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already in most tests.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{answer:?}"));
    assert!(
        !head.to_lowercase().contains("access-control-"),
        "no page may read it: {head}"
    );
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(crate) fn log_of(world: &World) -> String {
    std::fs::read_to_string(world.path("serve.log")).unwrap()
}
