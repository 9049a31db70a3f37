//! Telling the service manager how a service is doing: systemd's notification protocol (`sd_notify(3)`).
//!
//! A manager that wants to know puts the address of a datagram socket into `NOTIFY_SOCKET`; without it nothing is
//! sent. What is said helps the manager and is never needed by us, so a failure is the caller's to log.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::Environment;

/// The manager that started us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceManager {
    address: String,
    watchdog: Option<Duration>,
}

/// What a manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState {
    /// It serves.
    Ready,
    /// It is ending.
    Stopping,
    /// It is still alive; within each [`ServiceManager::watchdog`].
    Alive,
}

impl ServiceManager {
    /// The manager that the environment names; `pid` is ours, since a watchdog may be meant for another process.
    #[must_use]
    pub fn of(env: &dyn Environment, pid: u32) -> Option<Self> {
        let address = env.var("NOTIFY_SOCKET")?;
        let for_us = env.var("WATCHDOG_PID").is_none_or(|text| text.parse() == Ok(pid));
        let watchdog = env
            .var("WATCHDOG_USEC")
            .filter(|_| for_us)
            .and_then(|text| text.parse().ok())
            .filter(|micros| *micros > 0)
            .map(Duration::from_micros);
        Some(Self { address, watchdog })
    }

    /// Longest time between two signs of life, if the manager asks for any. Give them twice as often.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells it; `status` is a line for people.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn tell(&self, state: ServiceState, status: Option<&str>) -> io::Result<()> {
        let word = match state {
            ServiceState::Ready => "READY=1",
            ServiceState::Stopping => "STOPPING=1",
            ServiceState::Alive => "WATCHDOG=1",
        };
        let line = status.map(|text| format!("\nSTATUS={}", text.replace('\n', " ")));
        let message = format!("{word}{}", line.unwrap_or_default());
        send(&self.address, message.as_bytes())
    }
}

fn send(address: &str, message: &[u8]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let sent = match address.strip_prefix('@') {
        Some(name) => send_to_abstract(&socket, name, message)?,
        None if address.starts_with('/') => socket.send_to(message, address)?,
        None => return Err(io::Error::other(format!("NOTIFY_SOCKET={address} is no address"))),
    };
    if sent < message.len() {
        return Err(io::Error::other("the message was cut off"));
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn send_to_abstract(socket: &UnixDatagram, name: &str, message: &[u8]) -> io::Result<usize> {
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    socket.send_to_addr(message, &address)
}

#[cfg(not(target_os = "linux"))]
fn send_to_abstract(_: &UnixDatagram, _: &str, _: &[u8]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Variables(Vec<(&'static str, String)>);

    impl Environment for Variables {
        fn var(&self, name: &str) -> Option<String> {
            let found = self.0.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        }
        fn names(&self) -> Vec<String> {
            Vec::new()
        }
        fn home(&self) -> Option<std::path::PathBuf> {
            None
        }
        fn current_dir(&self) -> Option<std::path::PathBuf> {
            None
        }
    }

    type Given<'a> = &'a [(&'static str, &'a str)];

    fn manager(variables: Given<'_>) -> Option<ServiceManager> {
        let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
        ServiceManager::of(&Variables(variables.collect()), 42)
    }

    #[test]
    fn the_environment_says_whom_to_tell_and_how_often() {
        assert_eq!(manager(&[("WATCHDOG_USEC", "5")]), None);
        let cases: [(Given<'_>, Option<u64>); 5] = [
            (&[], None),
            (&[("WATCHDOG_USEC", "3000000")], Some(3)),
            (&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "42")], Some(3)),
            (&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "43")], None),
            (&[("WATCHDOG_USEC", "soon")], None),
        ];
        for (more, seconds) in cases {
            let variables = [&[("NOTIFY_SOCKET", "/x")], more].concat();
            let found = manager(&variables).unwrap();
            assert_eq!(found.watchdog(), seconds.map(Duration::from_secs), "{more:?}");
        }
    }

    #[test]
    fn it_hears_what_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let manager = manager(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).unwrap();
        let mut heard = [0; 100];
        for (state, status, want) in [
            (
                ServiceState::Ready,
                Some("two\nlines"),
                "READY=1\nSTATUS=two lines",
            ),
            (ServiceState::Alive, None, "WATCHDOG=1"),
            (ServiceState::Stopping, None, "STOPPING=1"),
        ] {
            manager.tell(state, status).unwrap();
            let length = listener.recv(&mut heard).unwrap();
            assert_eq!(std::str::from_utf8(&heard[..length]).unwrap(), want);
        }
        drop(listener);
        manager.tell(ServiceState::Ready, None).unwrap_err();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_without_a_file_is_understood() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("tokensink-test-{:?}", std::thread::current().id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let manager = manager(&[("NOTIFY_SOCKET", &format!("@{name}"))]).unwrap();
        manager.tell(ServiceState::Ready, None).unwrap();
        assert_eq!(listener.recv(&mut [0; 100]).unwrap(), 7);
        let wrong = super::send("vsock:2", b"x").unwrap_err();
        assert!(wrong.to_string().contains("no address"), "{wrong}");
    }
}
