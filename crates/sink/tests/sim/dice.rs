//! Numbers from a seed.

use tokensink_host::Random;
use tokensink_testkit::SeededRandom;

/// A sequence of numbers that its seed repeats.
#[derive(Debug)]
pub(crate) struct Dice(SeededRandom);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SeededRandom::new(seed))
    }

    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// A number below `outcomes`, 0 where there is no choice.
    pub(crate) fn below(&mut self, outcomes: u64) -> u64 {
        if outcomes < 2 { 0 } else { self.next() % outcomes }
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}
