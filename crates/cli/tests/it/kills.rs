//! Kills and stops anywhere in a refresh, against the real `oidc-provider`, which ends a grant whose refresh token comes
//! twice and answers nothing twice. What it was asked and what it answered is read off the wire.
//!
//! Nobody can save an answer that the server gave to a process that is dead: such a login is lost, and counted. Every
//! other one must go on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokensink_testkit::{CuttingProxy, Oidc, Passed, loopback};
use url::Url;

use crate::support::crowd::{Crowd, Dice, finish, start};
use crate::support::full;
use crate::support::processes::{PATIENCE, helpers_of, kill, signal, state_of, wait_for_landing};
use crate::support::server::Server;
use crate::support::stage::{ONE_LIFE, clock, run_at};
use crate::world::{BROWSER, Said, World};

const LINE: &str = "tokensink token --provider rig";
/// How long a refresh takes, with its process, in microseconds, on a slow machine and on the fastest.
const WHOLE_REFRESH: (usize, usize) = (60_000, 400);

/// The real server behind a wire that is watched, and a home that is logged in there.
struct Real {
    oidc: Oidc,
    wire: CuttingProxy,
    world: World,
}

/// A refresh as it passed over the wire.
#[derive(Debug)]
struct Sent {
    token: String,
    /// The refresh token of the answer, whether the client was given it or not; none for anything but success.
    issued: Option<String>,
}

impl Real {
    fn new() -> Self {
        let oidc = Oidc::start(&[]);
        let url = Url::parse(&oidc.url("/token")).unwrap();
        let wire = CuttingProxy::start(url.socket_addrs(|| None).unwrap()[0]);
        let world = World::new();
        let definition = oidc
            .provider_toml("rig")
            .replace(url.as_str(), &format!("http://{}/token", wire.addr()));
        world.write(".openclaw/tokensink/providers/rig.toml", &definition);
        let real = Self { oidc, wire, world };
        real.log_in();
        real
    }

    fn log_in(&self) {
        let line = "tokensink models auth login --provider rig";
        self.world.run_with(line, None, &[("BROWSER", BROWSER)]).code(0);
    }

    fn assert_works(&self, token: &str) {
        let bearer = format!("Bearer {}", token.trim());
        let answer = loopback::send("GET", &self.oidc.url("/me"), &[("authorization", &bearer)], "");
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Every refresh request that arrived whole, in order.
    fn refreshes(&self) -> Vec<Sent> {
        self.wire.passed().iter().filter_map(refresh_of).collect()
    }

    /// The login has ended: it must be because the server rotated for a helper that is dead, and its answer is nowhere.
    fn assert_lost_with_its_holder(&self, said: &Said) {
        assert!(
            said.err.contains("the answer to an earlier refresh was lost"),
            "{said:#?}"
        );
        assert!(said.err.contains("fix: tokensink models auth login"), "{said:#?}");
        let sent = self.refreshes();
        let last = sent.last().unwrap();
        let earlier = &sent[..sent.len() - 1];
        let spent = earlier
            .iter()
            .rev()
            .find(|one| one.token == last.token && one.issued.is_some());
        let answer = spent
            .and_then(|one| one.issued.as_deref())
            .unwrap_or_else(|| panic!("{sent:#?}"));
        assert!(
            sent.iter().all(|one| one.token != answer),
            "the answer was known: {sent:#?}"
        );
        for (path, text) in self.world.files() {
            assert!(!text.contains(answer), "{} holds the answer", path.display());
        }
        // What was spent is not deleted for that.
        assert!(
            self.world
                .files()
                .iter()
                .any(|(_, text)| text.contains(&last.token))
        );
    }

    /// Sends of a refresh token that the server had already exchanged.
    fn reuses(&self) -> usize {
        let mut exchanged = BTreeSet::new();
        let mut reuses = 0;
        for sent in self.refreshes() {
            reuses += usize::from(exchanged.contains(&sent.token));
            if sent.issued.is_some() {
                exchanged.insert(sent.token);
            }
        }
        reuses
    }
}

fn refresh_of(passed: &Passed) -> Option<Sent> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let request = text(&passed.up);
    let (head, body) = request.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length: ")?
            .parse()
            .ok()
    });
    if length != Some(body.len()) {
        return None;
    }
    let field = |name: &str| {
        let mut fields = url::form_urlencoded::parse(body.as_bytes());
        fields
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    if field("grant_type")? != "refresh_token" {
        return None;
    }
    let answer = text(&passed.answered);
    let (_, json) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    Some(Sent {
        token: field("refresh_token")?,
        issued: value["refresh_token"].as_str().map(str::to_owned),
    })
}

/// Kills every helper of the home; how many.
fn kill_helpers(world: &World) -> usize {
    let helpers = helpers_of(world);
    for helper in &helpers {
        kill(*helper);
    }
    helpers.len()
}

/// Stops a process; false if it has ended first.
fn stop(pid: i32) -> bool {
    if kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).is_err() {
        return false;
    }
    loop {
        // It stops when it would run again.
        match state_of(pid) {
            Some('T') => return true,
            None | Some('Z' | 'X') => return false,
            Some(_) => std::thread::yield_now(),
        }
    }
}

/// How long after its start a refresh is still under way, in microseconds. Machines differ by a factor of ten, so it is
/// learned: whoever came too late comes earlier next time.
struct Reach(usize);

impl Reach {
    fn new() -> Self {
        Self(WHOLE_REFRESH.0)
    }

    fn pause(&self, dice: &mut Dice) {
        std::thread::sleep(Duration::from_micros(u64::try_from(dice.below(self.0)).unwrap()));
    }

    fn learn(&mut self, in_time: bool) {
        let (most, least) = WHOLE_REFRESH;
        self.0 = if in_time { self.0 * 5 / 4 } else { self.0 * 3 / 4 }.clamp(least, most);
    }
}

#[test]
fn whoever_is_killed_only_answers_to_the_dead_are_lost() {
    let mut dice = Dice::new(20_261_122);
    let mut reach = Reach::new();
    let real = Real::new();
    let (rounds, crowd_size): (i64, usize) = if full() { (400, 12) } else { (24, 6) };
    let (mut callers, mut helpers, mut gateways, mut lost) = (0, 0, 0, 0);
    for round in 1..=rounds {
        let ahead = round * ONE_LIFE;
        // A gateway that starts finds the grant due as well.
        let gateway = (dice.below(3) == 0).then(|| Server::start_at(&real.world, "", ahead));
        let mut crowd = Crowd::start(
            &real.world,
            [LINE; 12].into_iter().take(crowd_size),
            &clock(ahead),
        );
        reach.pause(&mut dice);
        let doomed = dice.places(crowd_size / 2, crowd_size);
        let mut shot = 0;
        if dice.below(2) == 0 {
            shot = kill_helpers(&real.world);
            reach.learn(shot > 0);
        }
        crowd.kill(|place| doomed.contains(&place));
        callers += doomed.len();
        helpers += shot;
        gateways += usize::from(gateway.is_some());
        drop(gateway);
        for said in crowd.finish() {
            // Where the login is lost, each says so.
            assert!(said.code == 0 || (said.code == 3 && shot > 0), "{said:#?}");
        }
        let said = run_at(&real.world, LINE, ahead);
        if said.code == 3 {
            assert!(shot > 0, "nobody killed a helper: {said:#?}");
            real.assert_lost_with_its_holder(&said);
            lost += 1;
            real.log_in();
        } else {
            real.assert_works(&said.code(0).out);
        }
        wait_for_landing(&real.world);
    }
    let ledger = real.oidc.ledger();
    assert_eq!(ledger["reuses"], lost, "{ledger:#}");
    assert_eq!(real.reuses(), lost, "{:#?}", real.refreshes());
    println!(
        "{rounds} expiries; killed: {callers} callers, {helpers} helpers, {gateways} gateways; {} refreshes, \
         {lost} answers lost with their holder (each 1 reuse, 1 login), 0 other reuses, 0 other logins",
        ledger["refreshes"]
    );
}

#[test]
fn a_holder_that_is_stopped_anywhere_keeps_its_turn() {
    let mut dice = Dice::new(20_261_123);
    let mut reach = Reach::new();
    let real = Real::new();
    let wanted = if full() { 150 } else { 8 };
    let (mut rounds, mut stopped, mut old, mut new, mut told) = (0, 0, 0, 0, 0);
    let mut ahead = 0;
    while stopped < wanted || old == 0 || told == 0 {
        rounds += 1;
        assert!(
            rounds < 30 * wanted,
            "of {rounds} refreshes {stopped} were stopped"
        );
        // Due and alive for three minutes more, or dead.
        let alive = dice.below(2) == 0;
        let before = run_at(&real.world, LINE, ahead).code(0).out;
        ahead += if alive { 3_400 } else { ONE_LIFE };
        let caller = start(&real.world, LINE, &clock(ahead));
        let mut holders = Vec::new();
        for _ in 0..200 {
            holders = helpers_of(&real.world);
            if !holders.is_empty() {
                break;
            }
        }
        reach.pause(&mut dice);
        let holder = holders.first().copied().filter(|holder| stop(*holder));
        reach.learn(holder.is_some());
        let Some(holder) = holder else {
            finish(caller).code(0);
            continue;
        };
        stopped += 1;
        for _ in 0..3 {
            let said = said_of_the_stopped(&real.world, holder, ahead);
            match said.code {
                0 if alive && said.out == before => old += 1,
                0 => {
                    // It was stopped after its answer was durable.
                    assert_ne!(said.out, before, "a dead token: {said:#?}");
                    new += 1;
                }
                _ => {
                    assert!(!alive, "the old token lives: {said:#?}");
                    told += 1;
                }
            }
        }
        assert!(
            helpers_of(&real.world).iter().all(|flies| *flies == holder),
            "nobody else flies"
        );
        signal(holder, Signal::CONT);
        let token = finish(caller).code(0).out;
        wait_for_landing(&real.world);
        real.assert_works(&run_at(&real.world, LINE, ahead).code(0).out);
        assert!(alive || token != before);
    }
    let ledger = real.oidc.ledger();
    assert_eq!((&ledger["reuses"], real.reuses()), (&0.into(), 0), "{ledger:#}");
    println!(
        "{stopped} holders stopped and resumed; of three callers each meanwhile {old} were given the old token, {new} \
         the new one, {told} were told who holds it and what helps; {} refreshes, 0 reuses, 0 logins",
        ledger["refreshes"]
    );
}

/// What a caller without patience is told while `holder` is stopped: a token, or who holds it and what helps. Until its
/// starter has noted who got the lock, which takes it a moment, that is the starter itself.
#[track_caller]
fn said_of_the_stopped(world: &World, holder: i32, ahead: i64) -> Said {
    let until = Instant::now() + PATIENCE;
    loop {
        let said = run_at(world, &format!("{LINE} --wait 0s"), ahead);
        if said.code == 0 {
            return said;
        }
        let said = said.code(75);
        let named =
            said.err.contains(&format!("process {holder} ")) && said.err.contains("which is stopped, for ");
        if named && said.err.contains(&format!("fix: kill -CONT {holder}")) {
            return said;
        }
        assert!(Instant::now() < until, "{holder}: {said:#?}");
    }
}
