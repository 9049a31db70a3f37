//! The sink is killed (SIGKILL) while it holds the programs' locks. Once what it left behind is older than the
//! program's own stale limit, the program works again, and no login is lost (clients.md 3.4).
//!
//! The server forgives a refresh token that comes again soon: what is lost between a server that does not and a kill
//! in the moment of its answer, nobody can save.

use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::clis::{Ask, Clis};
use super::cooperative::{CLAUDES, CODEXS, HOUR, assert_all_well, assert_the_same_tokens, shared};
use super::rig::{Reuse, Stop};
use crate::support::crowd::Dice;
use crate::support::processes::{helpers_of, kill};

/// A refresh of ours takes about so long, in microseconds.
const WHOLE_REFRESH: usize = 25_000;

/// Claude Code's locks and the seconds after which it takes each.
const LOCKS: [(&str, u64); 3] = [
    (".claude/.oauth_refresh.lock", 60),
    (".claude.lock", 60),
    (".claude/.storage-write.lock", 15),
];

/// When the sink is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// The server has its request and has done nothing.
    Asking,
    /// The server has handled the request and has not answered.
    Handled,
    /// So many microseconds after it began.
    After(u64),
}

impl Moment {
    fn of_round(round: usize, dice: &mut Dice) -> Self {
        match round % 4 {
            0 => Self::Asking,
            1 => Self::Handled,
            _ => Self::After(u64::try_from(dice.below(WHOLE_REFRESH)).unwrap()),
        }
    }
}

/// Starts a line of ours, which has begun once `begun` says so, and kills everything of it.
fn kill_in_the_middle(clis: &Clis, line: &str, moment: Moment, begun: impl Fn() -> bool) {
    match moment {
        Moment::Asking => clis.rig.stop_the_next(Stop::BeforeHandling),
        Moment::Handled => clis.rig.stop_the_next(Stop::BeforeAnswer),
        Moment::After(_) => {}
    }
    let mut caller = clis.ours(line).spawn().unwrap();
    let is_time = || match moment {
        Moment::Asking | Moment::Handled => clis.rig.has_stopped(),
        Moment::After(_) => begun(),
    };
    while !is_time() && caller.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    if let Moment::After(micros) = moment {
        std::thread::sleep(Duration::from_micros(micros));
    }
    for helper in helpers_of(&clis.world) {
        kill(helper);
    }
    // It may have ended by itself already.
    let _ended = caller.kill();
    caller.wait().unwrap();
    clis.rig.go_on();
}

/// Those of Claude Code's locks that are there.
fn left_behind(clis: &Clis) -> Vec<(PathBuf, u64)> {
    let locks = LOCKS.map(|(lock, stale)| (clis.world.path(lock), stale));
    locks.into_iter().filter(|(lock, _)| lock.exists()).collect()
}

fn age(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    let times = FileTimes::new().set_modified(then);
    File::open(path).unwrap().set_times(times).unwrap();
}

/// Whether a lock is held now. One that is too old lies there until somebody needs it.
fn is_new(lock: &Path) -> bool {
    let modified = std::fs::metadata(lock).and_then(|metadata| metadata.modified());
    // We are ahead of the machine's clock, and so is the time that our heartbeat gives a lock.
    modified.is_ok_and(|then| then.elapsed().map_or(true, |age| age < Duration::from_secs(30)))
}

#[test]
fn claude_works_again_after_its_stale_limit() {
    let Some(clis) = shared(Reuse::IsForgiven) else {
        return;
    };
    let mut dice = Dice::new(5);
    let mut in_time = 0;
    for round in 1..=12 {
        clis.rig.advance(HOUR);
        let lock = clis.world.path(LOCKS[0].0);
        let moment = Moment::of_round(round, &mut dice);
        kill_in_the_middle(&clis, CLAUDES, moment, || is_new(&lock));
        let locks = left_behind(&clis);
        in_time += usize::from(locks.iter().any(|(lock, _)| is_new(lock)));
        for (lock, stale) in locks {
            age(&lock, stale + 1);
        }
        if round % 3 == 0 {
            clis.works(Ask::ClaudePrompt);
        }
        assert_the_same_tokens(&clis);
        assert_all_well(&clis, round, &mut dice);
    }
    assert!(
        in_time >= 6,
        "only {in_time} kills came while the locks were held"
    );
}

#[test]
fn codex_works_at_once() {
    let Some(clis) = shared(Reuse::IsForgiven) else {
        return;
    };
    let mut dice = Dice::new(6);
    for round in 1..=8 {
        clis.rig.advance(HOUR);
        let moment = Moment::of_round(round, &mut dice);
        kill_in_the_middle(&clis, CODEXS, moment, || !helpers_of(&clis.world).is_empty());
        if round % 3 == 0 {
            clis.works(Ask::CodexExec);
        }
        assert_the_same_tokens(&clis);
        assert_all_well(&clis, round, &mut dice);
    }
}
