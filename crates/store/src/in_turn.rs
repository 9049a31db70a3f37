//! The threads of one process that want the same lock go for it one after the other: hundreds that look for it now and
//! then would leave it unused for most of the time, and some of them without it for good.
//!
//! There is one queue per agent, since each agent's files have a lock of their own. Time that was spent in the queue is
//! part of what the caller is willing to wait: behind a lock that somebody else keeps, all give up at about the same
//! moment instead of one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokensink_host::Clock;
use tokensink_host::lock::Wait;
use tokensink_types::AgentId;

/// Queues kept; those that nobody stands in are given up beyond this number. A host has a few dozen agents.
const QUEUES_MAX: usize = 256;

/// The queues of all agents.
#[derive(Debug, Default)]
pub struct InTurn(Mutex<HashMap<AgentId, Arc<Queue>>>);

impl InTurn {
    /// The queue of this agent.
    pub fn of(&self, agent: &AgentId) -> Arc<Queue> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(agent) {
            return Arc::clone(queue);
        }
        if queues.len() >= QUEUES_MAX {
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        Arc::clone(queues.entry(agent.clone()).or_default())
    }
}

/// One agent's queue.
#[derive(Debug, Default)]
pub struct Queue(Mutex<()>);

impl Queue {
    /// The caller's turn, for as long as the guard lives, and what is left of `wait` then; zero leaves one try.
    pub fn turn(&self, clock: &dyn Clock, wait: Wait) -> (MutexGuard<'_, ()>, Wait) {
        let start = clock.monotonic();
        let turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = clock.monotonic().saturating_sub(start);
        let deadline = wait.deadline.saturating_sub(waited);
        (turn, Wait { deadline })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokensink_testkit::FakeClock;
    use tokensink_types::UnixMillis;

    use super::*;

    const WAIT: Wait = Wait {
        deadline: Duration::from_secs(2),
    };

    /// Tells when it is asked for the time, which is when a caller begins to wait.
    #[derive(Debug)]
    struct Told(FakeClock, mpsc::Sender<()>);

    impl Clock for Told {
        fn now(&self) -> UnixMillis {
            self.0.now()
        }
        fn monotonic(&self) -> Duration {
            let now = self.0.monotonic();
            let _ = self.1.send(());
            now
        }
        fn sleep(&self, time: Duration) {
            self.0.sleep(time);
        }
    }

    fn agent(name: &str) -> AgentId {
        AgentId::normalise(name)
    }

    #[test]
    fn time_in_the_queue_is_part_of_the_wait() {
        let queues = InTurn::default();
        let clock = FakeClock::default();
        for (spent, left) in [(0, 2000), (500, 1500), (2000, 0), (9000, 0)] {
            let (sender, began) = mpsc::channel();
            let told = Told(clock.clone(), sender);
            let queue = queues.of(&agent("main"));
            let (first, all) = queue.turn(&clock, WAIT);
            assert_eq!(all, WAIT, "nobody was before it");
            std::thread::scope(|scope| {
                let second = scope.spawn(|| queues.of(&agent("main")).turn(&told, WAIT).1);
                began.recv().unwrap();
                clock.advance(Duration::from_millis(spent));
                drop(first);
                let deadline = Duration::from_millis(left);
                assert_eq!(
                    second.join().unwrap(),
                    Wait { deadline },
                    "{spent} ms in the queue"
                );
            });
        }
    }

    #[test]
    fn agents_do_not_wait_for_each_other_and_empty_queues_are_given_up() {
        let queues = InTurn::default();
        let clock = FakeClock::default();
        let main = queues.of(&agent("main"));
        let _turn = main.turn(&clock, WAIT);
        for number in 0..3 * QUEUES_MAX {
            let queue = queues.of(&agent(&format!("agent{number}")));
            let (_other, left) = queue.turn(&clock, WAIT);
            assert_eq!(left, WAIT);
        }
        assert!(queues.0.lock().unwrap().len() <= QUEUES_MAX);
        assert!(Arc::ptr_eq(&main, &queues.of(&agent("main"))), "it is in use");
    }
}
