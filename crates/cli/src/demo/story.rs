//! The steps. Each does something, waits for what must come of it, and says in plain words what did. Nothing is timed:
//! a process is killed while the server provably holds the answer that it waits for, and time passes by moving clocks.

use std::collections::BTreeMap;
use std::time::Duration;

use tokensink_authserver::{Fault, FaultAction};
use tokensink_host::{ChildProcess, Ended};
use tokensink_types::Secret;

use super::Trouble;
use super::world::{PROVIDER, World, complaint, finished};
use crate::exit::TRY_AGAIN;

/// The life of an access token; the server's default.
const LIFE: Duration = Duration::from_secs(3600);
/// What is left of a token's life when the network is cut: less than the margin in which a refresh is due.
const LAST_MINUTES: Duration = Duration::from_secs(120);
/// How long a held refresh may take to arrive; only a hang ever takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Exit code of a process that SIGKILL ended, as a shell tells it.
const KILLED: i32 = 137;

/// One step.
pub(super) struct Step {
    /// What happens, as a heading.
    pub(super) title: &'static str,
    /// Lets it happen and returns what came of it, in sentences.
    pub(super) play: fn(&mut Story) -> Result<Vec<String>, Trouble>,
}

/// All of them, in order.
pub(super) const STEPS: [Step; 6] = [
    Step {
        title: "Two accounts log in, with nobody at the keyboard",
        play: log_in,
    },
    Step {
        title: "16 processes ask for a token at once",
        play: ask_while_fresh,
    },
    Step {
        title: "An hour later the token has run out, and 32 processes ask at once",
        play: ask_when_expired,
    },
    Step {
        title: "It runs out again, and half of 32 processes are killed meanwhile",
        play: kill_half,
    },
    Step {
        title: "The network to the login server is cut",
        play: cut_the_network,
    },
    Step {
        title: "Both accounts run out, and 40 processes of three agents ask at once",
        play: ask_for_both,
    },
];

/// Who logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Person {
    Alice,
    Bob,
}

impl Person {
    fn name(self) -> &'static str {
        match self {
            Self::Alice => "alice",
            Self::Bob => "bob",
        }
    }
}

/// Agent `main` has alice's login.
const MAIN: &str = "main";
/// Agent `work` has bob's.
const WORK: &str = "work";
/// Agent `night` has none of its own and uses main's.
const NIGHT: &str = "night";

fn person_of(agent: &str) -> Person {
    if agent == WORK { Person::Bob } else { Person::Alice }
}

/// A process that asks for a token.
struct Worker {
    agent: &'static str,
    child: Box<dyn ChildProcess>,
}

/// How one ended.
struct Finished {
    agent: &'static str,
    ended: Ended,
}

/// The story so far.
pub(super) struct Story {
    pub(super) world: World,
    /// The token that the processes printed last, by whose it is; the API took it.
    tokens: BTreeMap<Person, Secret>,
}

impl Story {
    /// At its beginning.
    pub(super) fn new(world: World) -> Self {
        Self {
            world,
            tokens: BTreeMap::new(),
        }
    }

    /// Starts processes that ask for a token, so many for each agent.
    fn ask(&mut self, groups: &[(&'static str, usize)]) -> Result<Vec<Worker>, Trouble> {
        self.ask_with(groups, &[])
    }

    /// The same with further options.
    fn ask_with(
        &mut self,
        groups: &[(&'static str, usize)],
        options: &[&str],
    ) -> Result<Vec<Worker>, Trouble> {
        let agents = groups
            .iter()
            .flat_map(|(agent, count)| std::iter::repeat_n(*agent, *count));
        let start = |agent| {
            let ask = ["token", "--provider", PROVIDER, "--agent", agent];
            let child = self.world.start(&[&ask[..], options].concat())?;
            Ok(Worker { agent, child })
        };
        agents.map(start).collect()
    }

    /// Waits until all have ended.
    fn ends(workers: Vec<Worker>) -> Result<Vec<Finished>, Trouble> {
        let end = |mut worker: Worker| {
            let ended = World::wait(&mut *worker.child)?;
            let agent = worker.agent;
            Ok(Finished { agent, ended })
        };
        workers.into_iter().map(end).collect()
    }

    /// All must have printed a token, all those of one person the same, and the API must take every one. Returns how
    /// many there were.
    fn all_served(&mut self, finished_workers: &[Finished]) -> Result<usize, Trouble> {
        let mut seen: BTreeMap<Person, Secret> = BTreeMap::new();
        for Finished { agent, ended } in finished_workers {
            let printed = finished(&format!("token --agent {agent}"), ended)?;
            let token = Secret::new(printed.trim_end_matches('\n'));
            let person = person_of(agent);
            if !self.world.api_takes(&token)? {
                return Err(Trouble::new(format!(
                    "a process of agent {agent} printed a token that the API refuses"
                )));
            }
            self.world.counts().tokens += 1;
            if *seen.entry(person).or_insert_with(|| token.clone()) != token {
                return Err(Trouble::new(format!(
                    "two processes printed different tokens of {}",
                    person.name()
                )));
            }
        }
        self.tokens.append(&mut seen);
        if self.tokens.get(&Person::Alice) == self.tokens.get(&Person::Bob) {
            return Err(Trouble::new("both accounts were served the same token"));
        }
        Ok(finished_workers.len())
    }

    fn ask_and_be_served(&mut self, groups: &[(&'static str, usize)]) -> Result<usize, Trouble> {
        let workers = self.ask(groups)?;
        let ended = Self::ends(workers)?;
        self.all_served(&ended)
    }

    /// Lets `time` pass, in which the tokens of these people end. The API must say so.
    fn expire(&mut self, time: Duration, people: &[Person]) -> Result<(), Trouble> {
        self.world.advance(time);
        for person in people {
            let Some(token) = self.tokens.get(person) else {
                return Err(Trouble::new(format!(
                    "{} has no token that could end",
                    person.name()
                )));
            };
            if self.world.api_takes(token)? {
                return Err(Trouble::new(format!("{}'s token did not run out", person.name())));
            }
            self.world.counts().expiries += 1;
        }
        Ok(())
    }

    /// Runs `part` and sees to it that the server granted so many refreshes meanwhile.
    fn with_refreshes<T>(
        &mut self,
        expected: u64,
        part: impl FnOnce(&mut Self) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let before = self.world.ledger().refreshes;
        let result = part(self)?;
        let granted = self.world.ledger().refreshes - before;
        if granted == expected {
            return Ok(result);
        }
        Err(Trouble::new(format!(
            "the server granted {granted} refreshes where {expected} were needed"
        )))
    }
}

fn log_in(story: &mut Story) -> Result<Vec<String>, Trouble> {
    let world = &mut story.world;
    for agent in [WORK, NIGHT] {
        world.run(&["agents", "add", agent])?;
    }
    let login = ["models", "auth", "login", "--provider", PROVIDER];
    let browser = [&login[..], &["--method", "oauth"]].concat();
    let device = [&login[..], &["--device-code", "--agent", WORK]].concat();
    // Side by side, because a device may only ask once a second.
    let (mut alice, mut bob) = (world.start(&browser)?, world.start(&device)?);
    let alice = finished(&browser.join(" "), &World::wait(&mut *alice)?)?;
    let bob = finished(&device.join(" "), &World::wait(&mut *bob)?)?;
    let ledger = world.ledger();
    for person in [Person::Alice, Person::Bob] {
        let grants = ledger.families_of(person.name()).count();
        if grants != 1 {
            return Err(Trouble::new(format!(
                "{} logged in once, and the server counts {grants} logins",
                person.name()
            )));
        }
    }
    Ok(vec![
        format!(
            "{}, for agent {MAIN}: by browser (PKCE, loopback redirect)",
            profile_in(&alice)?
        ),
        format!("{}, for agent {WORK}: by device code", profile_in(&bob)?),
    ])
}

/// The profile id that a login printed.
fn profile_in(printed: &str) -> Result<&str, Trouble> {
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix("Auth profile: "));
    line.and_then(|line| line.split(' ').next())
        .ok_or_else(|| Trouble::new("a login did not say which profile it stored"))
}

fn ask_while_fresh(story: &mut Story) -> Result<Vec<String>, Trouble> {
    let served = story.with_refreshes(0, |story| story.ask_and_be_served(&[(MAIN, 12), (WORK, 4)]))?;
    Ok(vec![format!(
        "{served} were served: those of agent {MAIN} alice's token, those of agent {WORK} bob's. The API took \
         each. No refresh was needed."
    )])
}

fn ask_when_expired(story: &mut Story) -> Result<Vec<String>, Trouble> {
    const INHERITING: usize = 8;
    story.expire(LIFE, &[Person::Alice])?;
    let groups = [(MAIN, 24), (NIGHT, INHERITING)];
    let served = story.with_refreshes(1, |story| story.ask_and_be_served(&groups))?;
    Ok(vec![
        format!("The API refused the old token. One refresh, and {served} printed the same new token."),
        format!(
            "{INHERITING} of them belong to agent {NIGHT}, which has no login and uses the one of {MAIN}."
        ),
    ])
}

fn kill_half(story: &mut Story) -> Result<Vec<String>, Trouble> {
    story.expire(LIFE, &[Person::Alice])?;
    let (killed, served) = story.with_refreshes(1, |story| {
        let Some(faults) = story.world.faults() else {
            return Err(Trouble::new("the server is gone"));
        };
        faults.push(Fault::on_refresh(FaultAction::Hold));
        let mut doomed = story.ask(&[(MAIN, 1)])?;
        if !faults.wait_until_held(1, PATIENCE) {
            return Err(Trouble::new("no refresh came to the server"));
        }
        let rest = story.ask(&[(MAIN, 31)])?;
        let (more, spared): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .enumerate()
            .partition(|(place, _)| place % 2 == 1);
        doomed.extend(more.into_iter().map(|(_, worker)| worker));
        for worker in &mut doomed {
            let kill = worker.child.kill();
            kill.map_err(|error| Trouble::new(format!("a process could not be killed: {error}")))?;
        }
        let killed = story.all_killed(&Story::ends(doomed)?)?;
        faults.release();
        let spared = Story::ends(spared.into_iter().map(|(_, worker)| worker).collect())?;
        Ok((killed, story.all_served(&spared)?))
    })?;
    Ok(vec![
        format!(
            "While the server held its answer back, {killed} were ended by SIGKILL, first of all the one whose \
             refresh it was."
        ),
        format!(
            "The refresh went on without them: one refresh, and the other {served} printed the same new token."
        ),
    ])
}

fn cut_the_network(story: &mut Story) -> Result<Vec<String>, Trouble> {
    story.world.advance(LIFE.saturating_sub(LAST_MINUTES));
    story.world.network().cut();
    let before = story.tokens.get(&Person::Alice).cloned();
    let living = story.with_refreshes(0, |story| story.ask_and_be_served(&[(MAIN, 8)]))?;
    if story.tokens.get(&Person::Alice) != before.as_ref() {
        return Err(Trouble::new("a new token came through a network that was cut"));
    }
    story.expire(LAST_MINUTES, &[Person::Alice])?;
    // They would wait for the network for a while; nobody has to watch that.
    let workers = story.ask_with(&[(MAIN, 8)], &["--wait", "1s"])?;
    let put_off = story.all_put_off(&Story::ends(workers)?)?;
    story.world.network().mend()?;
    let served = story.with_refreshes(1, |story| story.ask_and_be_served(&[(MAIN, 8)]))?;
    Ok(vec![
        format!("Two minutes before its end, the old token still served {living} processes."),
        format!("After its end, {put_off} processes were told to try again later (exit code {TRY_AGAIN})."),
        format!("Nothing was lost: with the network back, one refresh served {served} processes."),
    ])
}

fn ask_for_both(story: &mut Story) -> Result<Vec<String>, Trouble> {
    story.expire(LIFE, &[Person::Alice, Person::Bob])?;
    let groups = [(MAIN, 16), (WORK, 16), (NIGHT, 8)];
    let served = story.with_refreshes(2, |story| story.ask_and_be_served(&groups))?;
    Ok(vec![format!(
        "Two refreshes, one for each account, and {served} were served; nobody got the other's token."
    )])
}

impl Story {
    /// All must have been ended by SIGKILL before they could print anything.
    fn all_killed(&mut self, ended: &[Finished]) -> Result<usize, Trouble> {
        for Finished { ended, .. } in ended {
            ended_silently("a process that was to be killed", ended, KILLED)?;
            self.world.counts().killed += 1;
        }
        Ok(ended.len())
    }

    /// All must have printed nothing and asked to be called again.
    fn all_put_off(&mut self, ended: &[Finished]) -> Result<usize, Trouble> {
        for Finished { ended, .. } in ended {
            let who = "a process that had neither a living token nor a network";
            ended_silently(who, ended, i32::from(TRY_AGAIN))?;
            self.world.counts().put_off += 1;
        }
        Ok(ended.len())
    }
}

fn ended_silently(who: &str, ended: &Ended, code: i32) -> Result<(), Trouble> {
    if ended.code == code && ended.output.is_empty() {
        return Ok(());
    }
    Err(Trouble::new(format!(
        "{who} ended with exit code {} instead of {code} and printed {} bytes: {}",
        ended.code,
        ended.output.len(),
        complaint(ended)
    )))
}

#[cfg(test)]
mod tests {
    use tokensink_host::Host;

    use super::*;

    #[test]
    fn the_profile_is_read_from_the_login() {
        let printed = "Auth profile: demo:a@example.com (demo/oauth)\nAccount: a@example.com\n";
        assert_eq!(profile_in(printed), Ok("demo:a@example.com"));
        assert!(profile_in("nothing").is_err());
    }

    fn ended(agent: &'static str, code: i32, output: &str) -> Finished {
        let ended = Ended {
            code,
            output: output.as_bytes().to_vec(),
            complaint: b"error:  why\n".to_vec(),
        };
        Finished { agent, ended }
    }

    /// A story in a world without processes; `play` gets two living tokens, alice's and bob's.
    fn in_a_world(play: impl FnOnce(&mut Story, &str, &str)) {
        let mut story = Story::new(World::open(&Host::real()).unwrap());
        let (alice, bob) = (story.world.issue("alice"), story.world.issue("bob"));
        play(
            &mut story,
            &format!("{}\n", alice.expose()),
            &format!("{}\n", bob.expose()),
        );
        story.world.end_servers();
        story.world.remove().unwrap();
    }

    #[test]
    fn living_tokens_of_the_right_account_are_counted() {
        in_a_world(|story, alice, bob| {
            let workers = [ended(MAIN, 0, alice), ended(NIGHT, 0, alice), ended(WORK, 0, bob)];
            assert_eq!(story.all_served(&workers), Ok(3));
            assert_eq!(story.world.tally().tokens, 3);
            assert!(
                story.expire(LIFE / 2, &[Person::Alice]).is_err(),
                "it still lives"
            );
            assert_eq!(story.expire(LIFE, &[Person::Alice, Person::Bob]), Ok(()));
            assert_eq!(story.world.tally().expiries, 2);
            let dead = story.all_served(&workers).unwrap_err();
            assert!(dead.0.contains("that the API refuses"), "{dead:?}");
            assert_eq!(
                story.world.tally().problems(true).len(),
                1,
                "two expiries and no refresh"
            );
        });
    }

    #[test]
    fn whatever_is_wrong_with_a_token_is_trouble() {
        in_a_world(|story, alice, bob| {
            let other = format!("{}\n", story.world.issue("alice").expose());
            let cases: [(&[Finished], &str); 6] = [
                (
                    &[ended(MAIN, 0, alice), ended(MAIN, 0, &other)],
                    "different tokens of alice",
                ),
                (&[ended(MAIN, 0, alice), ended(WORK, 0, alice)], "the same token"),
                (
                    &[ended(WORK, 0, bob), ended(MAIN, 3, "")],
                    "exit code 3: error: why",
                ),
                (&[ended(MAIN, 0, "made-up\n")], "that the API refuses"),
                (&[ended(MAIN, 0, "")], "that the API refuses"),
                (&[ended(MAIN, 0, "two\nlines\n")], "can be no access token"),
            ];
            for (workers, want) in cases {
                story.tokens.clear();
                let trouble = story.all_served(workers).unwrap_err();
                assert!(trouble.0.contains(want), "{trouble:?}");
            }
        });
    }

    #[test]
    fn ends_are_what_they_should_be() {
        in_a_world(|story, _, _| {
            assert_eq!(story.all_killed(&[ended(MAIN, 137, "")]), Ok(1));
            assert!(story.all_killed(&[ended(MAIN, 137, "token")]).is_err());
            assert!(story.all_killed(&[ended(MAIN, 0, "")]).is_err());
            assert_eq!(story.all_put_off(&[ended(MAIN, 75, "")]), Ok(1));
            assert!(story.all_put_off(&[ended(MAIN, 75, "token")]).is_err());
            assert!(story.all_put_off(&[ended(MAIN, 3, "")]).is_err());
            let tally = story.world.tally();
            assert_eq!((tally.killed, tally.put_off), (1, 1));
            let trouble = story.with_refreshes(1, |_| Ok(())).unwrap_err();
            assert!(trouble.0.contains("granted 0 refreshes where 1"), "{trouble:?}");
        });
    }
}
