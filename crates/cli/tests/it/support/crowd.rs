//! Many processes of the command at once, and the choice of which of them die.

use std::process::{Child, Stdio};

use crate::world::{Said, World};

/// Processes that were started one right after the other.
pub(crate) struct Crowd(Vec<Child>);

impl Crowd {
    /// Starts a process for every line.
    pub(crate) fn start<'a>(
        world: &World,
        lines: impl IntoIterator<Item = &'a str>,
        variables: &[(&str, String)],
    ) -> Self {
        Self(
            lines
                .into_iter()
                .map(|line| start(world, line, variables))
                .collect(),
        )
    }

    /// Kills (SIGKILL) every process that `doomed` chooses by its place; they are no longer part of the crowd.
    pub(crate) fn kill(&mut self, mut doomed: impl FnMut(usize) -> bool) {
        let mut left = Vec::new();
        for (place, mut child) in self.0.drain(..).enumerate() {
            if doomed(place) {
                // It may have ended by itself already.
                let _ignored = child.kill();
                child.wait().unwrap();
            } else {
                left.push(child);
            }
        }
        self.0 = left;
    }

    /// Waits for all.
    pub(crate) fn finish(self) -> Vec<Said> {
        self.0.into_iter().map(finish).collect()
    }

    /// Waits for all, and asserts that every one printed the same token and nothing else.
    #[track_caller]
    pub(crate) fn finish_with_one_token(self) -> String {
        let mut token = None;
        for said in self.finish() {
            let said = said.code(0);
            let first = token.get_or_insert_with(|| said.out.clone());
            assert_eq!(*first, said.out, "{said:#?}");
        }
        token.unwrap()
    }
}

/// Starts one process.
pub(crate) fn start(world: &World, line: &str, variables: &[(&str, String)]) -> Child {
    let words: Vec<&str> = line.split(' ').collect();
    world
        .command(&words)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for one process.
pub(crate) fn finish(child: Child) -> Said {
    Said::of(child.wait_with_output().unwrap())
}

/// Numbers that look random and are the same for the same seed (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice whose seed is `TOKENSINK_TEST_SEED`, else `otherwise`. It is printed, so that a failing run can be done again.
    #[expect(clippy::print_stderr, reason = "shown with a test that fails")]
    pub(crate) fn new(otherwise: u64) -> Self {
        let seed = std::env::var("TOKENSINK_TEST_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(otherwise);
        eprintln!("TOKENSINK_TEST_SEED={seed}");
        Self(seed)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(limit).unwrap()).unwrap()
    }

    /// `count` different places below `limit`.
    pub(crate) fn places(&mut self, count: usize, limit: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..limit).collect();
        (0..count)
            .map(|_| all.swap_remove(self.below(all.len())))
            .collect()
    }
}
