//! Random traces of requests that fail over: select, call, classify, bench, next step, and time goes on. What holds
//! over all of them: nothing crosses to a costlier class without leave, and no bench is longer than the server said or
//! one step of ours.

use std::fmt;
use std::time::Duration;

use super::*;
use crate::bench::{Bench, Bucket, Failed, Limits, STATED_MAX};
use crate::classify::{Class, ErrorText, Failure, Reason, classify};
use crate::failover::{Attempted, Happened, Step, next};
use crate::quota::{Headers, stated_wait};
use crate::worlds::{NOW, api_key, candidate, id, oauth, provider, state};

const TRACES: u64 = 100_000;
const MODELS: [&str; 2] = ["big", "small"];
const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// Xorshift64*: the same traces in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % end
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// What an upstream does with a call.
#[derive(Debug, Clone, Copy)]
enum Reply {
    Serves,
    Fails(u16, &'static str, &'static [(&'static str, &'static str)]),
    NotConnected,
    TimesOut,
    Cuts,
}

const RATE: &str =
    r#"{"error":{"type":"rate_limit_error","message":"This request would exceed your rate limit"}}"#;
const AUTH: &str = r#"{"error":{"type":"authentication_error","message":"invalid x-api-key"}}"#;
const BROKE: &str = r#"{"error":{"message":"Insufficient credits","code":402}}"#;
const REPLIES: [Reply; 17] = [
    Reply::Serves,
    Reply::Serves,
    Reply::Serves,
    Reply::Serves,
    Reply::Fails(429, RATE, &[]),
    Reply::Fails(429, "", &[]),
    Reply::Fails(429, RATE, &[("retry-after", "0")]),
    Reply::Fails(429, RATE, &[("retry-after", "7")]),
    Reply::Fails(429, RATE, &[("retry-after", "7200")]),
    Reply::Fails(429, RATE, &[("retry-after", "99999999")]),
    Reply::Fails(401, AUTH, &[]),
    Reply::Fails(402, BROKE, &[]),
    Reply::Fails(500, "", &[]),
    Reply::Fails(
        529,
        r#"{"error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        &[],
    ),
    Reply::NotConnected,
    Reply::TimesOut,
    Reply::Cuts,
];

/// What was counted, and what was found wrong.
#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    calls: u64,
    failovers: u64,
    benches: u64,
    unlabelled: u64,
    tests: u64,
    refused_for_money: u64,
    allowed_crossings: u64,
    crossings: u64,
    too_long: u64,
    dead_ends: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{TRACES} traces: {} requests, {} calls, {} failovers, {} benches ({} of unlabelled 429s), {} tests of \
             half-open benches, {} requests refused for their price, {} allowed crossings; found: {} crossings without \
             leave, {} benches that are too long, {} profiles that did not come back",
            self.requests,
            self.calls,
            self.failovers,
            self.benches,
            self.unlabelled,
            self.tests,
            self.refused_for_money,
            self.allowed_crossings,
            self.crossings,
            self.too_long,
            self.dead_ends,
        )
    }
}

/// What is looked for, apart from the machine: a crossing that this does not have is one without leave.
struct Law {
    longest: Duration,
    /// Crossings are judged as if this had been allowed and nothing else; `None` for what the world allows.
    leave: Option<Vec<(BillingClass, BillingClass)>>,
}

/// What each of the replies means, worked out once.
fn classes() -> Vec<Option<Class>> {
    let class = |reply: Reply| match reply {
        Reply::Fails(status, body, _) => classify(&Failure {
            provider: &provider("rig"),
            status: Some(status),
            text: &ErrorText::of_body(body.as_bytes()),
        }),
        _ => None,
    };
    REPLIES.map(class).into()
}

struct Trace<'a> {
    config: Config,
    state: State,
    session: Option<SessionPin>,
    now: UnixMillis,
    dice: Dice,
    law: &'a Law,
    classes: &'a [Option<Class>],
    counts: &'a mut Counts,
}

impl<'a> Trace<'a> {
    fn new(seed: u64, (law, classes): (&'a Law, &'a [Option<Class>]), counts: &'a mut Counts) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let names = &["rig:a", "rig:b", "rig:c"][..=dice.below(3)];
        let profile = |dice: &mut Dice, name: &str| {
            let form = if dice.one_in(2) { oauth(None) } else { api_key() };
            let mut one = candidate(name, "rig", form);
            one.billing = dice.of(&BillingClass::ALL);
            one.usage.last_used = Some(UnixMillis(i64::try_from(dice.below(9)).unwrap()));
            one
        };
        let candidates = names.iter().map(|name| profile(&mut dice, name)).collect();
        let mut state = state(candidates);
        let mut config = Config::default();
        let list = (0..dice.below(4)).map(|_| id(dice.of(names))).collect::<Vec<_>>();
        match dice.below(3) {
            0 => drop(state.order.insert(provider("rig"), list)),
            1 if !list.is_empty() => drop(config.order.insert(provider("rig"), list)),
            _ => {}
        }
        if dice.one_in(3) {
            config
                .allow_crossings
                .insert((BillingClass::Subscription, BillingClass::Metered));
        }
        Self {
            config,
            state,
            session: dice.one_in(2).then(SessionPin::default),
            now: NOW,
            dice,
            law,
            classes,
            counts,
        }
    }

    fn run(mut self) {
        for _ in 0..=self.dice.below(3) {
            self.request();
            let pause = self.dice.of(&[0, 1, 29, 31, 61, 299, 301, 3600, 7201, 90_000]);
            self.now = self.now.plus(Duration::from_secs(pause));
        }
        self.everybody_comes_back();
    }

    /// One request with as many calls as the rules allow.
    fn request(&mut self) {
        self.counts.requests += 1;
        let mut request = Request {
            // One in eight names none, as uploads and lists do.
            model: (self.dice.below(8) > 0).then(|| self.dice.of(&MODELS).to_owned()),
            session: self.session.clone(),
            ..Request::new(Target::Provider(provider("rig")))
        };
        let before = self.session.clone();
        let mut called: Vec<BillingClass> = Vec::new();
        let mut attempted = Attempted {
            head_sent: false,
            replayable: true,
            refreshed: false,
            tries: 0,
        };
        loop {
            let decision = select(&self.config, &self.state, &request, self.now).unwrap();
            let Some(choice) = decision.choice().cloned() else {
                let money = matches!(
                    &decision.outcome,
                    Outcome::Unavailable(Unavailable::TooCostly { .. })
                );
                self.counts.refused_for_money += u64::from(money);
                return;
            };
            if let Some(pinned) = &decision.pin {
                self.session = Some(SessionPin {
                    pin: pinned.pin.clone(),
                    ..SessionPin::default()
                });
            }
            self.judge_price(&choice, &called, before.as_ref());
            called.push(choice.billing);
            if choice.tests {
                self.counts.tests += 1;
                let now = self.now;
                let claimed = self.benches(&choice.profile).probe(request.model.as_deref(), now);
                assert!(claimed);
            }
            loop {
                self.counts.calls += 1;
                self.now = self.now.plus(Duration::from_millis(50));
                let Some(happened) = self.call(&choice.profile, request.model.as_deref()) else {
                    return;
                };
                let step = next(&happened, &attempted);
                attempted.tries += 1;
                match step {
                    Step::PassOn => return,
                    Step::RefreshAndRepeat => attempted.refreshed = true,
                    Step::TryAnother => break,
                }
            }
            self.counts.failovers += 1;
            attempted.refreshed = false;
            request.tried.push(choice.profile);
        }
    }

    fn benches(&mut self, profile: &ProfileId) -> &mut crate::bench::Benches {
        let mut candidates = self.state.candidates.iter_mut();
        &mut candidates.find(|one| one.id == *profile).unwrap().benches
    }

    /// Never dearer than what was called for this request, than what the session lived with, or than what stands
    /// before it in the order.
    fn judge_price(&mut self, choice: &Choice, called: &[BillingClass], session: Option<&SessionPin>) {
        let class_of = |id: &ProfileId| self.state.candidate(id).map(|one| one.billing);
        let lived = session.and_then(|session| class_of(&session.pin.as_ref()?.profile));
        let mut before: Vec<BillingClass> = called.iter().copied().chain(lived).collect();
        let stored = self.state.order.values().find(|list| !list.is_empty());
        match stored.or_else(|| self.config.order.values().next()) {
            Some(list) => {
                let earlier = list.iter().take_while(|id| **id != choice.profile);
                before.extend(earlier.filter_map(class_of));
            }
            None => before.extend(self.state.candidates.iter().map(|one| one.billing)),
        }
        let crossed: Vec<(BillingClass, BillingClass)> = before
            .into_iter()
            .filter(|from| *from < choice.billing)
            .map(|from| (from, choice.billing))
            .collect();
        let allowed = |pair: &(BillingClass, BillingClass)| match &self.law.leave {
            Some(leave) => leave.contains(pair),
            None => self.config.allow_crossings.contains(pair),
        };
        let without_leave = !crossed.iter().all(allowed);
        self.counts.crossings += u64::from(without_leave);
        self.counts.allowed_crossings += u64::from(!crossed.is_empty() && !without_leave);
        // A crossing is said to whoever pays.
        assert_eq!(choice.crosses.is_some(), !crossed.is_empty());
    }

    /// Makes a call and takes note of its outcome; `None` when it was served.
    fn call(&mut self, profile: &ProfileId, model: Option<&str>) -> Option<Happened> {
        let at = self.dice.below(REPLIES.len());
        let (status, body, headers) = match REPLIES[at] {
            Reply::Serves => {
                self.benches(profile).succeed(model);
                return None;
            }
            Reply::Fails(status, body, headers) => (status, body, headers),
            Reply::NotConnected => return Some(Happened::NotConnected),
            Reply::TimesOut => return Some(Happened::TimedOut),
            Reply::Cuts => return Some(Happened::CutOff),
        };
        let class = self.classes[at].unwrap();
        let stated = stated_wait(&Headers::of(headers.iter().copied()), body.as_bytes(), self.now);
        self.note(profile, model, class, stated);
        Some(Happened::Answered { status, class })
    }

    fn note(&mut self, profile: &ProfileId, model: Option<&str>, class: Class, stated: Option<UnixMillis>) {
        let now = self.now;
        let failed = Failed {
            reason: class.reason,
            model,
            stated,
            // One request at a time is made here, so whatever was announced was by this one.
            test: Some(now),
            now,
        };
        let held = self.benches(profile).all.clone();
        let Some(bench) = self.benches(profile).fail(&failed, &Limits::default()).cloned() else {
            return;
        };
        self.counts.benches += 1;
        let inside = held
            .iter()
            .find(|old| old.bucket == bench.bucket && old.reason == bench.reason && old.holds(model, now));
        let unlabelled = stated.is_none() && class.reason == Reason::RateLimit;
        self.counts.unlabelled += u64::from(unlabelled);
        let right = match (stated, inside) {
            // An attempt inside a window never makes it longer; what the server says replaces a guess of ours.
            (Some(stated), Some(old)) if old.stated => bench.until == old.until.min(stated),
            (None, Some(old)) => bench.until == old.until,
            // The server's word, as far as it is believed.
            (Some(stated), _) => bench.until <= stated.min(now.plus(STATED_MAX)),
            (None, None) => now.until(bench.until) <= self.longest(&bench),
        };
        self.counts.too_long += u64::from(!right);
    }

    /// The longest step of ours for a bench.
    fn longest(&self, bench: &Bench) -> Duration {
        assert_eq!(
            bench.bucket == Bucket::Account,
            matches!(bench.reason, Reason::Auth | Reason::Billing)
        );
        match bench.reason {
            Reason::Billing => Limits::default().billing_max,
            _ => self.law.longest,
        }
    }

    /// When every window has ended, each profile can be chosen again, with no restart and no invented request.
    fn everybody_comes_back(&mut self) {
        let benches = self.state.candidates.iter().flat_map(|one| &one.benches.all);
        let last = benches.map(|bench| bench.until).max();
        let now = last.unwrap_or(self.now).max(self.now);
        for one in &self.state.candidates {
            let standing = one.standing(&self.config.aliases, None, now);
            self.counts.dead_ends += u64::from(standing.window.is_some());
        }
    }
}

fn run(traces: u64, law: &Law) -> Counts {
    let mut counts = Counts::default();
    let classes = classes();
    for seed in 1..=traces {
        Trace::new(seed, (law, &classes), &mut counts).run();
    }
    counts
}

const OUR_LAW: Law = Law {
    longest: FIVE_MINUTES,
    leave: None,
};

#[test]
fn a_hundred_thousand_traces_cross_no_class_and_bench_nobody_too_long() {
    let counts = run(TRACES, &OUR_LAW);
    println!("{counts}");
    assert_eq!(
        (counts.crossings, counts.too_long, counts.dead_ends),
        (0, 0, 0),
        "{counts}"
    );
    // The traces go where it could happen.
    let visited = [
        counts.failovers,
        counts.unlabelled,
        counts.tests,
        counts.refused_for_money,
        counts.allowed_crossings,
    ];
    assert!(visited.iter().all(|count| *count > TRACES / 100), "{counts}");
}

/// The same traces under a stricter law than the one that is in force break it: the counters do count.
#[test]
fn the_traces_notice_what_breaks_the_law() {
    let no_leave = Law {
        leave: Some(Vec::new()),
        ..OUR_LAW
    };
    let counts = run(3000, &no_leave);
    assert!(counts.crossings > 0 && counts.too_long == 0, "{counts}");
    let half = Law {
        longest: FIVE_MINUTES / 20,
        ..OUR_LAW
    };
    let counts = run(3000, &half);
    assert!(counts.too_long > 0 && counts.crossings == 0, "{counts}");
}
