//! One call of a process at a time goes for a grant's lock; the others wait for it without asking the disk.
//!
//! The kernel's lock alone decides who refreshes. This only keeps a thousand threads of one process from polling it:
//! the first goes for the lock, the rest sleep until it has landed or given up. A caller's deadline ends its own wait.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The locks that calls of this process are going for. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Boarding(Arc<Mutex<HashMap<PathBuf, Arc<Gate>>>>);

#[derive(Debug, Default)]
struct Gate {
    opened: Mutex<bool>,
    news: Condvar,
}

/// Who goes for the lock.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The caller does.
    Ours(Pass),
    /// Another call of this process does.
    Theirs(Waiting),
}

/// The right to go for a lock. Dropping it, after the flight or without one, lets the others look again.
#[derive(Debug)]
pub(crate) struct Pass {
    boarding: Boarding,
    lock: PathBuf,
    gate: Arc<Gate>,
}

/// Another call's turn.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Gate>);

impl Boarding {
    /// Asks for the turn at `lock`.
    pub(crate) fn turn(&self, lock: &Path) -> Turn {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(lock) {
            return Turn::Theirs(Waiting(Arc::clone(gate)));
        }
        let gate = Arc::new(Gate::default());
        gates.insert(lock.to_owned(), Arc::clone(&gate));
        Turn::Ours(Pass {
            boarding: self.clone(),
            lock: lock.to_owned(),
            gate,
        })
    }
}

impl Pass {
    /// Is it for this lock?
    pub(crate) fn is_for(&self, lock: &Path) -> bool {
        self.lock == lock
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut gates = self.boarding.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.remove(&self.lock);
        drop(gates);
        *self.gate.opened.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.gate.news.notify_all();
    }
}

impl Waiting {
    /// Waits until the other call has ended its turn, at most `time`.
    pub(crate) fn wait(&self, time: Duration) {
        let opened = self.0.opened.lock().unwrap_or_else(PoisonError::into_inner);
        // Woken or not, the caller looks for itself.
        let _ = self.0.news.wait_timeout_while(opened, time, |opened| !*opened);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_turn_until_the_pass_is_dropped() {
        let boarding = Boarding::default();
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        let Turn::Ours(pass) = boarding.turn(a) else {
            panic!("nobody is there yet")
        };
        assert!(pass.is_for(a) && !pass.is_for(b));
        assert!(matches!(boarding.turn(b), Turn::Ours(_)), "another lock");
        let Turn::Theirs(waiting) = boarding.clone().turn(a) else {
            panic!("somebody is there")
        };
        waiting.wait(Duration::ZERO);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| waiting.wait(Duration::from_secs(600)));
            drop(pass);
            waiter.join().unwrap();
        });
        // Whoever comes late does not wait for a turn that is over.
        waiting.wait(Duration::from_secs(600));
        assert!(matches!(boarding.turn(a), Turn::Ours(_)));
    }
}
