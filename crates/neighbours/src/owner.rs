//! The record beside Claude Code's refresh lock that says who holds it (clients.md 3.4, point 3). With it, a Claude
//! Code that waits for the lock of a holder that has died takes it over after some 8 s instead of failing until it is
//! stale.
//!
//! Claude Code believes the record only if it names the birth of both lock directories and its own host and pid
//! namespace, and the process is gone; a record that is wrong, old or missing only means that it waits for the stale
//! time. So nothing here may fail a refresh. Shape and reckoning as seen in 2.1.329.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokensink_host::{Files, Host, Liveness, atomic};
use tokensink_types::ProcessId;

/// The record's name in Claude Code's home.
const RECORD: &str = ".oauth_refresh.lock.owner";
/// Two births that differ by less, in milliseconds, are one: a number may lose its last bit on its way through JSON.
const SAME_BIRTH: f64 = 0.000_5;

/// A record that stands. Dropping it removes it, if it is still ours.
#[derive(Debug)]
pub(crate) struct OwnerRecord {
    files: Arc<dyn Files>,
    path: PathBuf,
    content: Vec<u8>,
}

impl OwnerRecord {
    /// Says that we hold the lock `first` in `home`, and `second` beside it. `None` where the file system does not
    /// tell the birth of a directory, or the record cannot be written.
    pub(crate) fn write(host: &Host, home: &Path, first: &Path, second: Option<&Path>) -> Option<Self> {
        let first = born(host, first)?;
        let second = second.and_then(|second| born(host, second));
        let this = host.processes.this();
        let namespace = namespace(host);
        let mut record = json!({
            "pid": this.pid,
            "pidDomain": domain(host, namespace.as_deref()),
            "pidSpace": space(&this, namespace.as_deref()),
            "lockBirthtimeMs": first,
        });
        if this.start > 0 {
            record["procStart"] = this.start.to_string().into();
        }
        if let Some(second) = second {
            record["legacyLockBirthtimeMs"] = second.into();
        }
        let path = home.join(RECORD);
        let content = record.to_string().into_bytes();
        for leftover in atomic::leftovers(&*host.files, &path).unwrap_or_default() {
            let _ = host.files.remove(&leftover);
        }
        match atomic::replace(&*host.files, &*host.random, &path, &content, 0o600) {
            Ok(_) => Some(Self {
                files: Arc::clone(&host.files),
                path,
                content,
            }),
            Err(error) => {
                tracing::debug!(%error, "who holds the refresh lock is not said");
                None
            }
        }
    }
}

impl Drop for OwnerRecord {
    fn drop(&mut self) {
        if self
            .files
            .read(&self.path)
            .is_ok_and(|found| found == self.content)
        {
            // One that stays names locks that are gone, so nobody believes it.
            let _ = self.files.remove(&self.path);
        }
    }
}

/// Which of the two locks a process that is gone has left behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Abandoned {
    pub(crate) first: bool,
    pub(crate) second: bool,
}

/// By the record in `home`: neither where that names other locks, another host or pid namespace, or a process that may
/// live.
pub(crate) fn abandoned(host: &Host, home: &Path, first: &Path, second: &Path) -> Abandoned {
    abandoned_by(host, home, first, second).unwrap_or_default()
}

fn abandoned_by(host: &Host, home: &Path, first: &Path, second: &Path) -> Option<Abandoned> {
    let bytes = host.files.read(&home.join(RECORD)).ok()?;
    let record: Value = serde_json::from_slice(&bytes).ok()?;
    let this = host.processes.this();
    let namespace = namespace(host);
    let here = record["pidDomain"] == domain(host, namespace.as_deref())
        && record["pidSpace"] == space(&this, namespace.as_deref());
    let holder = ProcessId {
        pid: u32::try_from(record["pid"].as_u64()?).ok()?,
        start: record["procStart"].as_str()?.parse().ok()?,
        ..this
    };
    if !here || host.processes.liveness(&holder) != Liveness::Dead {
        return None;
    }
    let is_of = |name: &str, lock: &Path| {
        let said = record[name].as_f64().zip(born(host, lock));
        said.is_some_and(|(said, born)| (said - born).abs() < SAME_BIRTH)
    };
    Some(Abandoned {
        first: is_of("lockBirthtimeMs", first),
        second: is_of("legacyLockBirthtimeMs", second),
    })
}

fn namespace(host: &Host) -> Option<String> {
    let found = host.files.link_target("/proc/self/ns/pid".as_ref()).ok()??;
    Some(found.to_string_lossy().into_owned())
}

/// The namespace in which a pid counts, with the host's name.
fn space(this: &ProcessId, namespace: Option<&str>) -> String {
    namespace.map_or_else(
        || this.host.clone(),
        |namespace| format!("{}#{namespace}", this.host),
    )
}

/// The birth of a directory in milliseconds as a JavaScript program reckons it: the number must be the same to the last
/// bit.
fn born(host: &Host, lock: &Path) -> Option<f64> {
    let born = host.files.inspect(lock).ok()??.born_ns?;
    let seconds = u32::try_from(born / 1_000_000_000).ok()?;
    let rest = u32::try_from(born % 1_000_000_000).ok()?;
    Some(millis(seconds, rest))
}

fn millis(seconds: u32, nanoseconds: u32) -> f64 {
    f64::from(seconds) * 1000.0 + f64::from(nanoseconds) / 1e6
}

/// Within what a pid counts. On anything but Linux Claude Code says just this word.
fn domain(host: &Host, namespace: Option<&str>) -> String {
    if !cfg!(target_os = "linux") {
        return "linux".to_owned();
    }
    let machine = host.files.read("/etc/machine-id".as_ref()).unwrap_or_default();
    let machine = String::from_utf8_lossy(&machine);
    format!("linux:{}:{}", machine.trim(), namespace.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use tokensink_testkit::TestHost;

    use super::*;

    #[test]
    fn the_record_is_as_claude_code_writes_it() {
        let test = TestHost::new();
        test.files.mkdir("/h/.oauth_refresh.lock");
        test.files.mkdir("/h.lock");
        test.files.put("/etc/machine-id", "3d12\n", 0o644);
        test.files.symlink("pid:[4026531836]", "/proc/self/ns/pid");
        let host = test.host();
        let record = OwnerRecord::write(
            &host,
            Path::new("/h"),
            Path::new("/h/.oauth_refresh.lock"),
            Some(Path::new("/h.lock")),
        );
        let text = test.files.text("/h/.oauth_refresh.lock.owner");
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(said["pid"], 4242);
        assert_eq!(said["procStart"], "4242");
        assert_eq!(said["pidDomain"], "linux:3d12:pid:[4026531836]");
        assert_eq!(said["pidSpace"], "testhost#pid:[4026531836]");
        // The clock stands at 1767225600000; the disk adds some nanoseconds to every birth.
        let birth = |name: &str| said[name].as_f64().unwrap() - 1_767_225_600_000.0;
        assert!((0.0..0.001).contains(&birth("lockBirthtimeMs")), "{said}");
        assert!((0.0..0.001).contains(&birth("legacyLockBirthtimeMs")), "{said}");
        drop(record);
        assert!(
            host.files
                .stat("/h/.oauth_refresh.lock.owner".as_ref())
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn locks_that_a_dead_process_has_left_are_known() {
        let test = TestHost::new();
        let (home, first, second) = (
            Path::new("/h"),
            Path::new("/h/.oauth_refresh.lock"),
            Path::new("/h.lock"),
        );
        test.files.mkdir(first);
        test.files.mkdir(second);
        let host = test.host();
        let next = test.other_process(5000);
        let seen = |abandoned_first, abandoned_second| {
            let both = Abandoned {
                first: abandoned_first,
                second: abandoned_second,
            };
            assert_eq!(abandoned(&next.host(), home, first, second), both);
        };
        seen(false, false);
        std::mem::forget(OwnerRecord::write(&host, home, first, Some(second)));
        for liveness in [Liveness::Running, Liveness::Stopped, Liveness::Unknown] {
            next.processes.set_liveness(host.processes.this(), liveness);
            seen(false, false);
        }
        next.processes.set_liveness(host.processes.this(), Liveness::Dead);
        seen(true, true);
        // Somebody has taken one of them over without a word.
        host.files.remove_dir(first).unwrap();
        test.clock.advance(std::time::Duration::from_millis(5));
        test.files.mkdir(first);
        seen(false, true);
        test.files.put("/h/.oauth_refresh.lock.owner", "{}", 0o600);
        seen(false, false);
    }

    #[test]
    fn births_are_reckoned_as_in_the_real_records() {
        // Nanoseconds as stat(1) told them, and what Claude Code 2.1.329 wrote.
        let cases = [
            (1_795_253_011, 558_965_010, "1795253011558.965"),
            (1_795_253_012, 938_964_966, "1795253012938.965"),
            (1_795_253_014, 250_964_925, "1795253014250.9648"),
        ];
        for (seconds, rest, want) in cases {
            let written = serde_json::Value::from(millis(seconds, rest));
            assert_eq!(written.to_string(), want);
        }
    }
}
