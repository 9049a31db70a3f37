//! Thirty days in a few minutes: real processes, files, locks and sockets, and a clock that everybody shares.
//!
//! Two hosts. The laptop is used for some hours and then sleeps for ten to twenty; a timer renews there, agents inherit,
//! Claude Code's login is shared and Codex's borrowed. The desk never sleeps; a gateway runs there, and one of its
//! logins would be forgotten by its server after a day although its access token lives for ten. Refresh tokens die when
//! they are not used for 24 hours. Callers are killed anywhere; helpers and the gateway where the server answers a
//! repeated request for 30 s, because nobody can save an answer that a strict server gave to a process that is dead.

mod clock;
mod keeper;
mod neighbours;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokensink_authserver::{Fault, FaultAction, GrantType, Ledger, Running, ServerConfig};
use tokensink_host::{Clock as _, Host};
use tokensink_testkit::loopback;

use crate::support::crowd::{Crowd, Dice};
use crate::support::full;
use crate::support::processes::{helpers_of, wait_for_landing};
use crate::support::stage::{add_profile, clock as variables};
use crate::world::{Said, World};
use clock::SoakClock;
use keeper::Keeper;
use neighbours::Program;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// After so long without use a refresh token dies.
const IDLE: u64 = DAY;
const GRACE: u64 = 30;
/// A refresh of ours takes about so long, in microseconds: kills come within it.
const WHOLE_REFRESH: usize = 25_000;
/// A caller that has something to refresh starts its helper within this.
const A_MOMENT: Duration = Duration::from_millis(300);
/// A gateway spreads its renewals over so long, by the clock, which goes on while a test waits.
const SPREAD: Duration = Duration::from_secs(60);
/// How long something may take that takes a second or two; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

const STRICT: &str = "tokensink token --profile-id strict:alice";
const INHERITED: &str = "tokensink token --provider strict --agent work";
const GRACEFUL: &str = "tokensink token --profile-id graceful:bob";
const LASTING: &str = "tokensink token --profile-id lasting:bob";
const CLAUDES: &str = "tokensink token --profile-id anthropic:claude-cli";
const CODEXS: &str = "tokensink token --profile-id openai-codex:codex-cli";

/// What happened.
#[derive(Debug, Default)]
struct Tally {
    processes: usize,
    tokens: usize,
    callers_killed: usize,
    helpers_killed: usize,
    gateways_killed: usize,
    sleeps: usize,
    hours_slept: u64,
    sleeps_in_the_middle_of_a_refresh: usize,
    renewed_by_the_gateway: usize,
    renewed_because_idle: usize,
    refreshed_by_neighbours: usize,
    left_to_their_owner: usize,
}

/// One of the two hosts.
#[derive(Debug, Clone, Copy)]
enum Site {
    Laptop,
    Desk,
}

struct Soak {
    dir: TempDir,
    clock: SoakClock,
    strict: Running,
    graceful: Running,
    lasting: Running,
    laptop: World,
    desk: World,
    dice: Dice,
    tally: Tally,
}

fn assert_works(server: &Running, token: &str) {
    let bearer = format!("Bearer {}", token.trim());
    let headers = [("authorization", bearer.as_str())];
    let answer = loopback::send("GET", &server.url("/v1/models"), &headers, "");
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Seconds in milliseconds.
fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds * 1_000).unwrap()
}

/// Whether somebody holds one of a home's refresh locks, as the kernel tells it (`proc_locks(5)`).
fn is_refreshing(world: &World) -> bool {
    let held = std::fs::read_to_string("/proc/locks").unwrap();
    let Ok(locks) = std::fs::read_dir(world.state("locks/oauth-refresh")) else {
        return false;
    };
    locks
        .filter_map(|lock| lock.ok()?.metadata().ok())
        .any(|lock| held.contains(&format!(":{} ", lock.ino())))
}

impl Soak {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = SoakClock::new(dir.path().join("ahead"));
        let server = |replay_grace_seconds, access_token_seconds| {
            let config = ServerConfig {
                replay_grace_seconds,
                access_token_seconds,
                idle_limit_seconds: Some(IDLE),
                ..ServerConfig::default()
            };
            Running::start(config, Arc::new(clock.clone()), Host::real().random).unwrap()
        };
        let soak = Self {
            strict: server(0, HOUR),
            graceful: server(GRACE, HOUR),
            lasting: server(GRACE, 10 * DAY),
            dir,
            clock,
            laptop: World::new(),
            desk: World::new(),
            dice: Dice::new(30),
            tally: Tally::default(),
        };
        soak.furnish();
        soak
    }

    /// The logins of both hosts.
    fn furnish(&self) {
        let Self { laptop, desk, .. } = self;
        self.log_in(laptop, "strict", &self.strict, "alice");
        self.log_in(laptop, "graceful", &self.graceful, "bob");
        self.log_in(desk, "graceful", &self.graceful, "bob");
        self.log_in(desk, "lasting", &self.lasting, "bob");
        laptop.run("tokensink agents add work").code(0);
        for (id, program) in [("anthropic", Program::Claude), ("openai-codex", Program::Codex)] {
            let definition = format!(
                "id = \"{id}\"\n[[auth]]\nid = \"oauth\"\nclient_id = \"rig\"\ntoken_endpoint = \"{}\"\n",
                self.graceful.url("/oauth/token")
            );
            laptop.write(&format!(".openclaw/tokensink/providers/{id}.toml"), &definition);
            program.log_in(laptop, &self.graceful, &self.clock);
        }
        laptop.run("tokensink external set claude cooperative").code(0);
        laptop.run("tokensink external set codex borrowed").code(0);
    }

    /// A login whose access token has run out, as OpenClaw would have left it.
    fn log_in(&self, world: &World, provider: &str, server: &Running, account: &str) {
        let definition = server.provider_toml(provider);
        world.write(
            &format!(".openclaw/tokensink/providers/{provider}.toml"),
            &definition,
        );
        let issued = server
            .issue(account, &["openid", "email", "offline_access"])
            .unwrap();
        let entry = json!({
            "type": "oauth", "provider": provider, "access": issued.access_token.expose(),
            "refresh": issued.refresh_token.unwrap().expose(), "expires": self.clock.now().0 - 1_000,
            "email": format!("{account}@example.com"), "accountId": format!("acct-{account}"), "clientId": "rig",
        });
        add_profile(world, "main", &format!("{provider}:{account}"), entry);
    }

    fn home(&self, site: Site) -> &World {
        match site {
            Site::Laptop => &self.laptop,
            Site::Desk => &self.desk,
        }
    }

    fn server_of(&self, line: &str) -> &Running {
        match line {
            STRICT | INHERITED => &self.strict,
            LASTING => &self.lasting,
            _ => &self.graceful,
        }
    }

    /// Moves the time on. What is under way ends first: a refresh takes milliseconds, not an hour; where it is to take
    /// hours, its answer is held.
    fn advance(&self, seconds: u64) {
        let began = Instant::now();
        while self.graceful.faults().held() == 0 && is_refreshing(&self.desk) {
            assert!(began.elapsed() < PATIENCE, "a refresh does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        wait_for_landing(&self.laptop);
        wait_for_landing(&self.desk);
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        let span = usize::try_from(most - least + 1).unwrap();
        least + u64::try_from(self.dice.below(span)).unwrap()
    }

    fn run(&mut self, site: Site, line: &str) -> Said {
        self.tally.processes += 1;
        let ahead = self.clock.ahead_seconds().to_string();
        self.home(site)
            .run_with(line, None, &[("TOKENSINK_CLOCK_OFFSET_SECONDS", &ahead)])
    }

    /// One caller, who must be given a token that works.
    fn token(&mut self, site: Site, line: &str) -> String {
        let token = self.run(site, line).code(0).out;
        assert_works(self.server_of(line), &token);
        self.tally.tokens += 1;
        token
    }

    /// Several callers at once, of whom some are killed somewhere; with `helpers` the helpers as well.
    fn storm(&mut self, site: Site, lines: &[&str], helpers: bool) {
        let count = 2 + self.dice.below(5);
        let lines: Vec<&str> = (0..count).map(|place| lines[place % lines.len()]).collect();
        let doomed = self.dice.places(count / 2, count);
        let delay = Duration::from_micros(u64::try_from(self.dice.below(WHOLE_REFRESH)).unwrap());
        // Due, and nothing flies from before.
        self.advance(HOUR);
        let ahead = variables(self.clock.ahead_seconds());
        let mut crowd = Crowd::start(self.home(site), lines.iter().copied(), &ahead);
        self.tally.processes += count;
        if helpers {
            let began = Instant::now();
            // A gateway may have been faster than all of them.
            while helpers_of(self.home(site)).is_empty() && began.elapsed() < A_MOMENT {}
        }
        std::thread::sleep(delay);
        if helpers {
            for helper in helpers_of(self.home(site)) {
                // It may have landed meanwhile.
                let killed = kill_process(Pid::from_raw(helper).unwrap(), Signal::KILL);
                self.tally.helpers_killed += usize::from(killed.is_ok());
            }
        }
        crowd.kill(|place| doomed.contains(&place));
        self.tally.callers_killed += doomed.len();
        let survivors = lines
            .iter()
            .enumerate()
            .filter(|(place, _)| !doomed.contains(place))
            .map(|(_, line)| *line);
        for (said, line) in crowd.finish().into_iter().zip(survivors) {
            assert_works(self.server_of(line), &said.code(0).out);
            self.tally.tokens += 1;
        }
        // Whoever survived or not, within the grace somebody asks again.
        for line in lines.into_iter().collect::<std::collections::BTreeSet<_>>() {
            self.token(site, line);
        }
    }

    /// Half an hour or so at the laptop; its timer renews.
    fn use_laptop(&mut self) {
        // Nobody renews what is only borrowed for its owner.
        if Program::Codex.ends(&self.laptop) + millis(7 * HOUR) < self.clock.now().0 {
            self.use_neighbours();
        }
        match self.dice.below(4) {
            0 => self.storm(Site::Laptop, &[STRICT, INHERITED], false),
            1 => self.storm(Site::Laptop, &[GRACEFUL], true),
            2 => self.use_neighbours(),
            _ => {
                for line in [STRICT, INHERITED, GRACEFUL, CLAUDES] {
                    self.token(Site::Laptop, line);
                }
            }
        }
        wait_for_landing(&self.laptop);
        self.borrow();
        self.run(Site::Laptop, "tokensink renew").code(0);
    }

    /// Both programs are used; what they refresh, we take up, and the other way round.
    fn use_neighbours(&mut self) {
        for program in [Program::Claude, Program::Codex] {
            wait_for_landing(&self.laptop);
            let refreshed = program.used(&self.laptop, &self.graceful, &self.clock);
            self.tally.refreshed_by_neighbours += usize::from(refreshed);
        }
        assert_eq!(
            self.token(Site::Laptop, CODEXS).trim(),
            Program::Codex.access(&self.laptop)
        );
        self.token(Site::Laptop, CLAUDES);
    }

    /// What is only borrowed is handed out while it lives, and its owner named when it does not.
    fn borrow(&mut self) {
        if Program::Codex.ends(&self.laptop) > self.clock.now().0 + millis(MINUTE) {
            assert_eq!(
                self.token(Site::Laptop, CODEXS).trim(),
                Program::Codex.access(&self.laptop)
            );
        } else {
            let said = self.run(Site::Laptop, CODEXS);
            assert!(said.code != 0 && said.err.contains("codex exec"), "{said:#?}");
            self.tally.left_to_their_owner += 1;
        }
    }

    /// An hour or so of the desk. Its gateway works by itself.
    fn use_desk(&mut self, keeper: &mut Keeper) {
        self.gateway_minds_the_idle_one();
        match self.dice.below(10) {
            0 => self.storm(Site::Desk, &[GRACEFUL, LASTING], true),
            1 => drop(self.run(Site::Desk, "tokensink renew").code(0)),
            2 => self.kill_the_gateway(keeper),
            3 => self.wait_for_the_gateway(),
            4 => self.sleep_in_the_middle(),
            _ => {
                self.token(Site::Desk, GRACEFUL);
                self.token(Site::Desk, LASTING);
            }
        }
    }

    /// The login that is used by nobody and whose access token lives on: only the gateway knows that it is time. Hours
    /// pass in no time here, so that it is waited for.
    fn gateway_minds_the_idle_one(&mut self) {
        let before = self.lasting.ledger();
        // As the server counts it: what is noticed later was used earlier.
        let mut requests = before.requests.iter().rev();
        let refresh = requests
            .find(|request| request.grant == Some(GrantType::RefreshToken) && request.outcome == "issued");
        let used_at = refresh.map_or(0, |request| request.at);
        if self.clock.now().0 < used_at + millis(IDLE / 4 * 3) {
            return;
        }
        let began = Instant::now();
        loop {
            let now = self.lasting.ledger();
            if now.refreshes != before.refreshes {
                break;
            }
            assert!(
                now.idle_refusals == 0 && began.elapsed() < PATIENCE + SPREAD,
                "the gateway lets a login die: {} refused as idle, used at {used_at}, now {}, last {:?}",
                now.idle_refusals,
                self.clock.now().0,
                now.requests.back()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self.tally.renewed_because_idle += 1;
    }

    /// Killed anywhere, started again; the timer comes by soon after.
    fn kill_the_gateway(&mut self, keeper: &mut Keeper) {
        // Half of the time in the middle of a renewal.
        if self.dice.below(2) == 0 {
            let before = self.desk_requests();
            self.advance(HOUR);
            let began = Instant::now();
            while self.desk_requests() == before && began.elapsed() < PATIENCE {
                std::thread::yield_now();
            }
        }
        keeper.kill();
        self.tally.gateways_killed += 1;
        self.run(Site::Desk, "tokensink renew").code(0);
        for line in [GRACEFUL, LASTING] {
            self.token(Site::Desk, line);
        }
        *keeper = Keeper::start(&self.desk, &self.time());
    }

    /// Nobody asks; the gateway renews what falls due.
    fn wait_for_the_gateway(&mut self) {
        let before = self.desk_requests();
        self.advance(HOUR);
        let began = Instant::now();
        while self.desk_requests() == before {
            assert!(began.elapsed() < PATIENCE, "the gateway renews nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.tally.renewed_by_the_gateway += 1;
    }

    /// The host sleeps for hours between a request and its answer.
    fn sleep_in_the_middle(&mut self) {
        self.graceful.faults().push(Fault::on_refresh(FaultAction::Hold));
        self.advance(HOUR);
        assert!(
            self.graceful.faults().wait_until_held(1, PATIENCE),
            "the gateway renews nothing"
        );
        // A server that hangs keeps the gateway from no other; and nobody sleeps past the idle limit.
        self.gateway_minds_the_idle_one();
        self.advance(5 * HOUR);
        self.graceful.faults().release();
        self.tally.sleeps_in_the_middle_of_a_refresh += 1;
        self.token(Site::Desk, GRACEFUL);
        self.gateway_minds_the_idle_one();
    }

    fn desk_requests(&self) -> u64 {
        self.graceful.ledger().requests_total
    }

    fn time(&self) -> PathBuf {
        self.dir.path().join("ahead")
    }

    fn live(&mut self, days: u64) {
        let mut keeper = Keeper::start(&self.desk, &self.time());
        let end = i64::try_from(days * DAY).unwrap();
        while self.clock.ahead_seconds() < end {
            for _ in 0..self.between(4, 9) {
                let pause = self.between(20, 80);
                self.advance(pause * MINUTE);
                self.use_desk(&mut keeper);
                self.use_laptop();
            }
            self.use_neighbours();
            // The lid is closed. What the desk's day adds is counted, so that nobody sleeps for longer than announced.
            let began = self.clock.ahead_seconds();
            let hours = self.between(10, 20);
            let wakes = began + i64::try_from(hours * HOUR).unwrap();
            while let left @ 1.. = wakes - self.clock.ahead_seconds() {
                let pause = self.between(60, 180) * MINUTE;
                self.advance(pause.min(u64::try_from(left).unwrap()));
                // What it does may take six hours.
                if left > i64::try_from(9 * HOUR).unwrap() {
                    self.use_desk(&mut keeper);
                } else {
                    self.gateway_minds_the_idle_one();
                }
            }
            self.tally.sleeps += 1;
            self.tally.hours_slept += hours;
            self.use_neighbours();
            self.use_laptop();
        }
        self.advance(2 * HOUR);
        self.use_neighbours();
        for line in [STRICT, INHERITED, GRACEFUL, CLAUDES, CODEXS] {
            self.token(Site::Laptop, line);
        }
        for line in [GRACEFUL, LASTING] {
            self.token(Site::Desk, line);
        }
        wait_for_landing(&self.laptop);
        wait_for_landing(&self.desk);
    }

    #[expect(clippy::print_stdout, reason = "everything counted is printed")]
    fn report(&self, days: u64) {
        println!("{days} simulated days, {:#?}", self.tally);
        let servers = [
            ("strict", &self.strict),
            ("30 s grace", &self.graceful),
            ("30 s grace, tokens of ten days", &self.lasting),
        ];
        for (name, server) in servers {
            let Ledger {
                refreshes,
                replays,
                reuses,
                idle_refusals,
                revocations,
                ..
            } = server.ledger();
            println!(
                "server {name}: {refreshes} refreshes, {replays} repeated within the grace, {reuses} reuses, \
                 {idle_refusals} refused as idle"
            );
            assert_eq!((reuses, idle_refusals, revocations), (0, 0, 0), "{name}");
        }
        println!("0 logins needed");
    }
}

#[test]
fn days_pass_and_nobody_logs_in_again() {
    let days = if full() { 30 } else { 2 };
    let mut soak = Soak::new();
    soak.live(days);
    soak.report(days);
    let Tally {
        callers_killed,
        helpers_killed,
        gateways_killed,
        sleeps,
        ..
    } = soak.tally;
    assert!(callers_killed > 10 && sleeps > 1, "{:#?}", soak.tally);
    assert!(
        !full() || (helpers_killed > 10 && gateways_killed > 10),
        "{:#?}",
        soak.tally
    );
    // Renewal because of the idle limit alone: its access tokens live for ten days.
    assert!(soak.lasting.ledger().refreshes >= days, "{:#?}", soak.tally);
}
