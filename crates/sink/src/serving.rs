//! Which gateways serve this state dir: one small file per process in `tokensink/run/`, for people and for messages.
//!
//! Nothing depends on these files: whether a process lives is asked of the system, and a file whose process is gone is
//! taken away by the next gateway. They hold no secret.

mod port;

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokensink_host::{Host, Liveness, atomic};
use tokensink_types::{ProcessId, UnixMillis};

use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;
pub use port::PortHolder;

/// Names of the files: this, the pid, `.json`.
const PREFIX: &str = "serve-";

/// A gateway that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its process.
    pub pid: u32,
    /// When it began to serve.
    pub since: Option<UnixMillis>,
    /// Where it listens, `address:port`.
    pub addresses: Vec<String>,
    /// The Unix socket that it serves.
    pub socket: Option<PathBuf>,
    /// Its version.
    pub version: String,
    /// It exists and is stopped (SIGSTOP, a debugger).
    pub is_stopped: bool,
}

/// The file that says that this process serves. Taken away when it is dropped.
#[derive(Debug)]
pub struct Announcement {
    host: Host,
    path: PathBuf,
    /// What it says, but for the socket.
    said: Value,
}

impl Announcement {
    /// Says that this process serves the Unix socket from now on.
    ///
    /// # Errors
    /// When the file cannot be written; it says then what it said before.
    pub fn serves_socket(&self, socket: &Path) -> Result<()> {
        self.write(Some(socket)).map_err(|error| self.unwritten(&error))
    }

    fn write(&self, socket: Option<&Path>) -> io::Result<()> {
        let mut said = self.said.clone();
        said["socket"] = json!(socket);
        let (files, text) = (&*self.host.files, format!("{said:#}\n"));
        atomic::replace(files, &*self.host.random, &self.path, text.as_bytes(), 0o600)?;
        Ok(())
    }

    fn unwritten(&self, error: &io::Error) -> SinkError {
        let message = format!("{} cannot be written: {error}", self.path.display());
        SinkError::new(ErrorKind::Failed, "run_dir", message)
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if let Err(error) = self.host.files.remove(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the file of this server stays behind");
        }
    }
}

impl Sink {
    /// Where sockets and the files of running servers are.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.paths().run_dir()
    }

    /// Says that this process serves at `addresses`, until the announcement is dropped. Files of processes that are
    /// gone are removed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn announce_server(
        &self,
        addresses: &[String],
        socket: Option<&Path>,
        version: &str,
    ) -> Result<Announcement> {
        let (host, dir) = (self.host(), self.run_dir());
        let this = host.processes.this();
        let path = dir.join(format!("{PREFIX}{}.json", this.pid));
        let said = json!({
            "pid": this.pid, "start": this.start, "boot": this.boot, "host": this.host,
            "since": self.now().0, "addresses": addresses, "version": version,
        });
        let host = host.clone();
        let announcement = Announcement { host, path, said };
        atomic::ensure_dir(&*self.host().files, &dir, 0o700)
            .and_then(|()| {
                self.remove_dead();
                announcement.write(socket)
            })
            .map_err(|error| announcement.unwritten(&error))?;
        Ok(announcement)
    }

    /// The gateways of this state dir that run, oldest first.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn servers(&self) -> Result<Vec<ServerInfo>> {
        let files = self.server_files().map_err(|error| {
            let message = format!("{} cannot be listed: {error}", self.run_dir().display());
            SinkError::new(ErrorKind::Failed, "run_dir", message)
        })?;
        let processes = &self.host().processes;
        let mut servers: Vec<ServerInfo> = files
            .iter()
            .filter_map(|path| {
                let (process, value) = read(&self.host().files.read(path).ok()?)?;
                match processes.liveness(&process) {
                    Liveness::Running => Some(info_of(&process, &value, false)),
                    Liveness::Stopped => Some(info_of(&process, &value, true)),
                    Liveness::Dead | Liveness::Unknown => None,
                }
            })
            .collect();
        servers.sort_by_key(|server| (server.since, server.pid));
        Ok(servers)
    }

    fn remove_dead(&self) {
        let files = &*self.host().files;
        for path in self.server_files().unwrap_or_default() {
            let process = files.read(&path).ok().and_then(|bytes| read(&bytes));
            let dead = process.is_some_and(|(id, _)| self.host().processes.liveness(&id) == Liveness::Dead);
            if dead && let Err(error) = files.remove(&path) {
                tracing::debug!(path = %path.display(), %error, "the file of a server that is gone stays");
            }
        }
    }

    fn server_files(&self) -> io::Result<Vec<PathBuf>> {
        let dir = self.run_dir();
        let names = self.host().files.list(&dir)?.into_iter();
        Ok(names
            .filter(|name| {
                let name = name.to_string_lossy();
                name.starts_with(PREFIX) && name.ends_with(".json")
            })
            .map(|name| dir.join(name))
            .collect())
    }
}

fn read(bytes: &[u8]) -> Option<(ProcessId, Value)> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let process = ProcessId {
        host: text("host")?,
        boot: text("boot")?,
        pid: u32::try_from(value.get("pid")?.as_u64()?).ok()?,
        start: value.get("start")?.as_u64()?,
    };
    Some((process, value))
}

fn info_of(process: &ProcessId, value: &Value, is_stopped: bool) -> ServerInfo {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let addresses = value.get("addresses").and_then(Value::as_array);
    ServerInfo {
        pid: process.pid,
        since: value.get("since").and_then(Value::as_i64).map(UnixMillis),
        addresses: addresses
            .into_iter()
            .flatten()
            .filter_map(|address| address.as_str().map(str::to_owned))
            .collect(),
        socket: text("socket").map(PathBuf::from),
        version: text("version").unwrap_or_default().to_owned(),
        is_stopped,
    }
}

#[cfg(test)]
mod tests {
    use tokensink_testkit::FakeProcesses;

    use super::*;
    use crate::flights::Flights;
    use crate::world::{World, at};

    #[test]
    fn a_server_is_listed_while_it_lives() {
        let world = World::new();
        let sink = world.sink();
        assert_eq!(sink.servers().unwrap(), []);
        let addresses = ["127.0.0.1:7465".to_owned()];
        let socket = at("tokensink/run/gateway.sock");
        let announcement = sink.announce_server(&addresses, Some(&socket), "1.2.3").unwrap();
        let other = world.test.other_process(77);
        other
            .processes
            .set_liveness(FakeProcesses::id(4242), Liveness::Running);
        let theirs = Sink::open_with(other.host(), Flights::inline()).unwrap();
        let second = theirs
            .announce_server(&["127.0.0.1:7466".to_owned()], None, "1")
            .unwrap();
        world
            .test
            .processes
            .set_liveness(FakeProcesses::id(77), Liveness::Stopped);
        let servers = sink.servers().unwrap();
        let seen: Vec<_> = servers.iter().map(|one| (one.pid, one.is_stopped)).collect();
        assert_eq!(seen, [(77, true), (4242, false)]);
        assert_eq!(
            (&servers[1].addresses[..], &servers[1].socket),
            (&addresses[..], &Some(socket))
        );
        drop(announcement);
        assert_eq!(sink.servers().unwrap().len(), 1);
        // Killed, it could not take its file away.
        std::mem::forget(second);
        world
            .test
            .processes
            .set_liveness(FakeProcesses::id(77), Liveness::Dead);
        assert_eq!(sink.servers().unwrap(), []);
        let _announcement = sink.announce_server(&[], None, "1").unwrap();
        let names = world.test.host().files.list(&sink.run_dir()).unwrap();
        assert_eq!(names, ["serve-4242.json"]);
    }

    #[test]
    fn a_server_that_has_taken_over_the_socket_is_listed_with_it() {
        let world = World::new();
        let sink = world.sink();
        let addresses = ["127.0.0.1:7465".to_owned()];
        let announcement = sink.announce_server(&addresses, None, "1.2.3").unwrap();
        let before = sink.servers().unwrap().remove(0);
        assert_eq!(before.socket, None);
        world.test.clock.advance(std::time::Duration::from_secs(60));
        let socket = at("tokensink/run/gateway.sock");
        announcement.serves_socket(&socket).unwrap();
        let after = ServerInfo {
            socket: Some(socket),
            ..before
        };
        assert_eq!(sink.servers().unwrap(), [after], "and the rest is as it was");
        drop(announcement);
        assert_eq!(sink.servers().unwrap(), []);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_left_alone() {
        let world = World::new();
        let sink = world.sink();
        for text in [
            "",
            "{",
            "[]",
            r#"{"pid":-1,"host":"testhost","boot":"boot-1","start":1}"#,
        ] {
            world.put("tokensink/run/serve-1.json", text);
            let _announcement = sink.announce_server(&[], None, "1").unwrap();
            assert_eq!(sink.servers().unwrap().len(), 1, "{text}");
            assert_eq!(world.text("tokensink/run/serve-1.json"), text);
        }
    }
}
