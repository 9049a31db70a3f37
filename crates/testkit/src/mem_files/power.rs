//! What of a disk is durable, and what a loss of power leaves of the rest.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use super::disk::{Disk, Kind, Names, ROOT};

/// What a disk writes in one piece.
const SECTOR: usize = 512;

impl Disk {
    /// Makes a file's content durable, but for what an earlier sync has failed to write and nobody has written since.
    pub(super) fn sync(&mut self, node: usize) {
        let Kind::File {
            bytes,
            durable,
            phantom,
        } = &mut self.nodes[node].kind
        else {
            return;
        };
        let mut next = bytes.clone();
        for range in phantom.iter() {
            for at in range.clone() {
                if let Some(byte) = next.get_mut(at) {
                    *byte = durable.get(at).copied().unwrap_or(0);
                }
            }
        }
        *durable = next;
    }

    /// What is not durable of a file counts as written from now on, and is not: a sync that failed has dropped it.
    pub(super) fn forget_unsynced(&mut self, node: usize) {
        if let Kind::File {
            bytes,
            durable,
            phantom,
        } = &mut self.nodes[node].kind
        {
            let differs = |at: &usize| durable.get(*at) != bytes.get(*at);
            let first = (0..bytes.len()).find(differs);
            let last = (0..bytes.len()).rev().find(differs);
            phantom.extend(first.zip(last).map(|(first, last)| first..last + 1));
        }
    }

    /// Takes the disk back to what was synced: contents by `sync`, names by `sync_dir`. Locks are gone.
    pub(super) fn lose_power(&mut self) {
        self.cut(&mut |_| 0);
    }

    /// The same, but of what was not synced each sector and each name is there or not as `choose` says: it is given
    /// a number of outcomes and picks one.
    pub(super) fn cut(&mut self, choose: &mut dyn FnMut(u64) -> u64) {
        for node in &mut self.nodes {
            node.lock = None;
            node.links = 0;
            match &mut node.kind {
                Kind::File {
                    bytes,
                    durable,
                    phantom,
                } => {
                    let left = mixture(bytes, durable, phantom, choose);
                    durable.clone_from(&left);
                    *bytes = left;
                    phantom.clear();
                }
                Kind::Dir { names, durable } => {
                    let left = mixed_names(names, durable, choose);
                    durable.clone_from(&left);
                    *names = left;
                }
                Kind::Link(_) => {}
            }
        }
        self.count_links();
    }

    fn count_links(&mut self) {
        let mut counted = vec![0; self.nodes.len()];
        for node in &self.nodes {
            if let Kind::Dir { names, .. } = &node.kind {
                for &node in names.values() {
                    counted[node] += 1;
                }
            }
        }
        for (node, links) in self.nodes.iter_mut().zip(counted) {
            node.links = links;
        }
    }

    /// Makes everything durable, as after a long quiet time.
    pub(super) fn settle(&mut self) {
        for node in &mut self.nodes {
            match &mut node.kind {
                Kind::File {
                    bytes,
                    durable,
                    phantom,
                } => {
                    durable.clone_from(bytes);
                    phantom.clear();
                }
                Kind::Dir { names, durable } => durable.clone_from(names),
                Kind::Link(_) => {}
            }
        }
    }

    /// Every file that is durable by name and content, with that content.
    pub(super) fn durable(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut todo = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, node)) = todo.pop() {
            match &self.nodes[node].kind {
                Kind::File { durable, .. } => {
                    all.insert(path, durable.clone());
                }
                Kind::Dir { durable, .. } => {
                    todo.extend(durable.iter().map(|(name, &node)| (path.join(name), node)));
                }
                Kind::Link(_) => {}
            }
        }
        all
    }
}

/// What is left of a file: its length and each sector are the old or the new.
fn mixture(
    bytes: &[u8],
    durable: &[u8],
    phantom: &[Range<usize>],
    choose: &mut dyn FnMut(u64) -> u64,
) -> Vec<u8> {
    if bytes == durable {
        return durable.to_vec();
    }
    let length = if choose(2) == 0 {
        durable.len()
    } else {
        bytes.len()
    };
    let mut left: Vec<u8> = durable.iter().copied().take(length).collect();
    left.resize(length, 0);
    for start in (0..length).step_by(SECTOR) {
        let sector = start..length.min(start + SECTOR).min(bytes.len());
        let is_phantom = phantom
            .iter()
            .any(|range| range.start < sector.end && sector.start < range.end);
        let same = bytes.get(sector.clone()) == left.get(sector.clone());
        if !same && !is_phantom && choose(2) == 1 {
            left[sector.clone()].copy_from_slice(&bytes[sector]);
        }
    }
    left
}

fn mixed_names(names: &Names, durable: &Names, choose: &mut dyn FnMut(u64) -> u64) -> Names {
    let mut left = durable.clone();
    let all: std::collections::BTreeSet<_> = names.keys().chain(durable.keys()).collect();
    for name in all {
        if names.get(name) == durable.get(name) || choose(2) == 0 {
            continue;
        }
        match names.get(name) {
            Some(&node) => left.insert(name.clone(), node),
            None => left.remove(name),
        };
    }
    left
}
