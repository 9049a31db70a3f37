//! Who listens on a port: for the message to whoever wanted it. Linux only, and only processes that we may look into.

use std::path::{Path, PathBuf};

use tokensink_host::Files;

use crate::sink::Sink;

/// The state of a socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// A program that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl Sink {
    /// The program that listens on this TCP port, as far as that can be seen.
    #[must_use]
    pub fn port_holder(&self, port: u16) -> Option<PortHolder> {
        let files = &*self.host().files;
        let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .into_iter()
            .filter_map(|path| files.read(Path::new(path)).ok())
            .flat_map(|table| listeners(&String::from_utf8_lossy(&table), port))
            .collect();
        if inodes.is_empty() {
            return None;
        }
        let wanted: Vec<PathBuf> = inodes
            .iter()
            .map(|inode| format!("socket:[{inode}]").into())
            .collect();
        let processes = files.list(Path::new("/proc")).ok()?;
        processes.iter().find_map(|name| {
            let pid: u32 = name.to_str()?.parse().ok()?;
            holds(files, pid, &wanted).then(|| PortHolder {
                pid,
                name: name_of(files, pid),
            })
        })
    }
}

/// The inodes of the sockets that listen on `port`, from the text of `/proc/net/tcp` (proc(5)).
fn listeners(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next()?, fields.nth(1)?);
            let inode = fields.nth(5)?;
            (local.ends_with(&wanted) && state == LISTENS).then(|| inode.to_owned())
        })
        .collect()
}

fn holds(files: &dyn Files, pid: u32, wanted: &[PathBuf]) -> bool {
    let dir = PathBuf::from(format!("/proc/{pid}/fd"));
    let descriptors = files.list(&dir).unwrap_or_default();
    descriptors.iter().any(|name| {
        let target = files.link_target(&dir.join(name)).ok().flatten();
        target.is_some_and(|target| wanted.contains(&target))
    })
}

fn name_of(files: &dyn Files, pid: u32) -> String {
    let bytes = files
        .read(Path::new(&format!("/proc/{pid}/comm")))
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::world::World;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1D29 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000 100 0 0 10 0
   1: 0100007F:1D29 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0000 100 0 0 10 0
   2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0000 100 0 0 10 0
";

    #[test]
    fn only_listeners_on_the_port_count() {
        assert_eq!(listeners(TABLE, 7465), ["4711"]);
        assert_eq!(listeners(TABLE, 80), ["4713"]);
        assert!(listeners(TABLE, 81).is_empty() && listeners("", 80).is_empty());
    }

    #[test]
    fn the_process_with_the_socket_is_named() {
        let world = World::new();
        let sink = world.sink();
        assert_eq!(sink.port_holder(7465), None);
        world.test.files.put("/proc/net/tcp", TABLE, 0o444);
        assert_eq!(sink.port_holder(7465), None, "of another user");
        world.test.files.put("/proc/12/comm", "nginx\n", 0o444);
        world.test.files.put("/proc/self/comm", "x", 0o444);
        world.test.files.symlink("socket:[4711]", "/proc/12/fd/3");
        let holder = PortHolder {
            pid: 12,
            name: "nginx".to_owned(),
        };
        assert_eq!(sink.port_holder(7465), Some(holder));
    }

    proptest! {
        #[test]
        fn any_table_is_read(table in "(\\PC{0,30}\n){0,5}", port: u16) {
            let _inodes = listeners(&table, port);
        }
    }
}
