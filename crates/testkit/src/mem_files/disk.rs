//! The state of an in-memory file system: nodes, names and the switches that make it fail.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use tokensink_host::{Clock, FileStamp};

/// Index of the root directory.
pub(super) const ROOT: usize = 0;
/// As in the Linux kernel.
const MAX_LINKS: usize = 40;

/// Read, write and search permission as in the last digit of a mode.
pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
const SEARCH: u32 = 1;

#[derive(Debug, Clone)]
pub(super) enum Kind {
    File {
        bytes: Vec<u8>,
        durable: Vec<u8>,
        /// What a failed sync has dropped: it reads as written, is not durable, and no later sync makes it so.
        phantom: Vec<Range<usize>>,
    },
    Dir {
        names: Names,
        durable: Names,
    },
    Link(PathBuf),
}

pub(super) type Names = BTreeMap<OsString, usize>;

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) born_ns: i128,
    pub(super) modified_ns: i128,
    pub(super) changed_ns: i128,
    /// The open file that has the lock.
    pub(super) lock: Option<u64>,
    /// Directory entries that lead here.
    pub(super) links: usize,
}

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Found {
    /// The directory that holds the last name.
    pub(super) dir: usize,
    /// The last name; empty for the root.
    pub(super) name: OsString,
    /// What is there.
    pub(super) node: Option<usize>,
    /// The path without links.
    pub(super) path: PathBuf,
}

#[derive(Clone)]
pub(super) struct Disk {
    pub(super) nodes: Vec<Node>,
    pub(super) clock: Arc<dyn Clock>,
    /// Makes every stamp differ from every other.
    ticks: i128,
    /// Most bytes that all files together may have.
    pub(super) capacity: Option<usize>,
    pub(super) faults: HashMap<PathBuf, Errno>,
    pub(super) refuse_rename: Option<Errno>,
    pub(super) read_only: bool,
    pub(super) no_locks: bool,
    pub(super) uid: u32,
    next_handle: u64,
}

impl Disk {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let mut disk = Self {
            nodes: Vec::new(),
            clock,
            ticks: 0,
            capacity: None,
            faults: HashMap::new(),
            refuse_rename: None,
            read_only: false,
            no_locks: false,
            uid: 1000,
            next_handle: 0,
        };
        disk.node(directory(), 0o755);
        disk
    }

    /// A new node that no name leads to yet.
    pub(super) fn node(&mut self, kind: Kind, mode: u32) -> usize {
        let now = self.tick();
        self.nodes.push(Node {
            kind,
            mode,
            uid: self.uid,
            born_ns: now,
            modified_ns: now,
            changed_ns: now,
            lock: None,
            links: 0,
        });
        self.nodes.len() - 1
    }

    pub(super) fn handle_number(&mut self) -> u64 {
        self.next_handle += 1;
        self.next_handle
    }

    /// The present in nanoseconds, never the same twice.
    pub(super) fn tick(&mut self) -> i128 {
        self.ticks += 1;
        i128::from(self.clock.now().0) * 1_000_000 + self.ticks
    }

    /// Notes a change of content (and so of the node).
    pub(super) fn touch(&mut self, node: usize) {
        let now = self.tick();
        self.nodes[node].modified_ns = now;
        self.nodes[node].changed_ns = now;
    }

    pub(super) fn stamp(&self, node: usize) -> FileStamp {
        let inode = node as u64 + 1;
        let node = &self.nodes[node];
        FileStamp {
            device: 1,
            inode,
            size: match &node.kind {
                Kind::File { bytes, .. } => bytes.len() as u64,
                Kind::Dir { names, .. } => names.len() as u64,
                Kind::Link(target) => target.as_os_str().len() as u64,
            },
            modified_ns: node.modified_ns,
            changed_ns: node.changed_ns,
            mode: node.mode,
            uid: node.uid,
            is_dir: matches!(node.kind, Kind::Dir { .. }),
        }
    }

    /// Bytes that can still be written; `None` is no bound.
    pub(super) fn free(&self) -> Option<usize> {
        self.capacity.map(|capacity| capacity.saturating_sub(self.used()))
    }

    pub(super) fn used(&self) -> usize {
        let size = |node: &Node| match &node.kind {
            Kind::File { bytes, .. } if node.links > 0 => bytes.len(),
            _ => 0,
        };
        self.nodes.iter().map(size).sum()
    }

    /// Fails where the switches say so. `change` is true for everything that a read-only file system refuses.
    pub(super) fn gate(&self, path: &Path, change: bool) -> io::Result<()> {
        match self.faults.get(path) {
            Some(errno) => Err((*errno).into()),
            None if change && self.read_only => Err(Errno::ROFS.into()),
            None => Ok(()),
        }
    }

    /// Checks permission bits like the kernel does for a user who is not root.
    pub(super) fn may(&self, node: usize, bit: u32) -> io::Result<()> {
        let Node { mode, uid, .. } = self.nodes[node];
        let bits = if uid == self.uid { mode >> 6 } else { mode };
        if bits & bit == 0 {
            return Err(Errno::ACCESS.into());
        }
        Ok(())
    }

    pub(super) fn names(&self, dir: usize) -> io::Result<&Names> {
        match &self.nodes[dir].kind {
            Kind::Dir { names, .. } => Ok(names),
            Kind::File { .. } | Kind::Link(_) => Err(Errno::NOTDIR.into()),
        }
    }

    /// Finds `path`; `follow` says whether a link in the last place is followed.
    pub(super) fn walk(&self, path: &Path, follow: bool) -> io::Result<Found> {
        assert!(path.is_absolute(), "{} is not absolute", path.display());
        let mut todo = parts(path);
        let mut dirs = vec![(ROOT, PathBuf::from("/"))];
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            let (dir, at) = dirs.last().cloned().unwrap_or((ROOT, PathBuf::from("/")));
            if part == ".." {
                dirs.truncate(dirs.len().saturating_sub(1).max(1));
                continue;
            }
            let node = self.names(dir)?.get(&part).copied();
            self.may(dir, SEARCH)?;
            let path = at.join(&part);
            match node.map(|node| &self.nodes[node].kind) {
                Some(Kind::Link(target)) if follow || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    if target.is_absolute() {
                        dirs.truncate(1);
                    }
                    for part in parts(target).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                Some(Kind::Dir { .. }) if todo.is_empty() => return Ok(found(dir, part, node, path)),
                Some(Kind::Dir { .. }) => dirs.push((node.unwrap_or(ROOT), path)),
                _ if todo.is_empty() => return Ok(found(dir, part, node, path)),
                Some(_) => return Err(Errno::NOTDIR.into()),
                None => return Err(Errno::NOENT.into()),
            }
        }
        let (dir, path) = dirs.pop().unwrap_or((ROOT, PathBuf::from("/")));
        Ok(found(dir, OsString::new(), Some(dir), path))
    }

    /// Finds something that must exist.
    pub(super) fn existing(&self, path: &Path, follow: bool) -> io::Result<(Found, usize)> {
        let found = self.walk(path, follow)?;
        let node = found.node.ok_or(Errno::NOENT)?;
        Ok((found, node))
    }

    /// Gives `node` a name that is free.
    pub(super) fn link(&mut self, dir: usize, name: &OsStr, node: usize) -> io::Result<()> {
        self.may(dir, WRITE)?;
        if let Kind::Dir { names, .. } = &mut self.nodes[dir].kind {
            names.insert(name.to_owned(), node);
        }
        self.nodes[node].links += 1;
        self.touch(dir);
        Ok(())
    }

    /// Takes a name away.
    pub(super) fn unlink(&mut self, dir: usize, name: &OsStr) -> io::Result<()> {
        self.may(dir, WRITE)?;
        let Kind::Dir { names, .. } = &mut self.nodes[dir].kind else {
            return Err(Errno::NOTDIR.into());
        };
        if let Some(node) = names.remove(name) {
            self.nodes[node].links -= 1;
        }
        self.touch(dir);
        Ok(())
    }

    /// Writes as far as there is room.
    pub(super) fn write(&mut self, node: usize, offset: usize, data: &[u8]) -> io::Result<()> {
        let free = self.free();
        let Kind::File { bytes, phantom, .. } = &mut self.nodes[node].kind else {
            return Err(Errno::ISDIR.into());
        };
        let end = offset + data.len();
        let grown = end.saturating_sub(bytes.len());
        let short = free.map_or(0, |free| grown.saturating_sub(free)).min(data.len());
        let data = &data[..data.len() - short];
        let end = offset + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(data);
        *phantom = phantom
            .iter()
            .flat_map(|range| {
                [
                    range.start..range.end.min(offset),
                    range.start.max(end)..range.end,
                ]
            })
            .filter(|range| !range.is_empty())
            .collect();
        self.touch(node);
        if short > 0 {
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }
}

pub(super) fn directory() -> Kind {
    Kind::Dir {
        names: Names::new(),
        durable: Names::new(),
    }
}

pub(super) fn file() -> Kind {
    Kind::File {
        bytes: Vec::new(),
        durable: Vec::new(),
        phantom: Vec::new(),
    }
}

fn found(dir: usize, name: OsString, node: Option<usize>, path: PathBuf) -> Found {
    Found {
        dir,
        name,
        node,
        path,
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}
