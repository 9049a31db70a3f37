//! Every small world against the promises of the decision, which are worked out from the description of the world and
//! not from what the decision says of it. All worlds in a release build, every 97th in a debug build.

use tokensink_types::Expiry;

use super::*;
use crate::bench::{Failed, Limits};
use crate::classify::Reason;
use crate::record::RecordedDecision;
use crate::worlds::{NOTHING, NOW, api_key, candidate, cooling, id, ids, later, oauth, provider, token};
use crate::{CredentialForm, DenyRule, ProviderOrders};

const IDS: [&str; 3] = ["rig:a", "rig:b", "rig:c"];

/// What state a profile is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Open,
    /// Another program wrote a window.
    Theirs,
    /// A bench of ours holds.
    Shut,
    /// One may be tested.
    HalfOpen,
    /// One is being tested.
    Probed,
    /// There is no credential.
    Dead,
}

/// Kind and class of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    name: &'static str,
    class: BillingClass,
    /// Its place among kinds where nobody wrote an order (spec.md 4.2.7).
    rank: u8,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "oauth",
        class: BillingClass::Subscription,
        rank: 0,
    },
    Kind {
        name: "key",
        class: BillingClass::Metered,
        rank: 2,
    },
    Kind {
        name: "token",
        class: BillingClass::Free,
        rank: 1,
    },
];
const STATES: [Is; 6] = [Is::Open, Is::Theirs, Is::Shut, Is::HalfOpen, Is::Probed, Is::Dead];

/// Where the list comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Nobody,
    Stored(&'static [&'static str]),
    Config(&'static [&'static str]),
}

const ORDERS: [Order; 5] = [
    Order::Nobody,
    Order::Stored(&["rig:c", "rig:a", "rig:b"]),
    Order::Stored(&["rig:gone", "rig:b"]),
    Order::Config(&["rig:b", "rig:a"]),
    Order::Config(&[]),
];

/// The session of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sits {
    Nowhere,
    Unpinned,
    /// Pinned to this profile by this source.
    On(&'static str, PinSource),
    /// The same, chosen under another order.
    Old(&'static str),
    /// The first run of a new session.
    New(&'static str, PinSource),
    Compacted(&'static str),
}

const SESSIONS: [Sits; 11] = [
    Sits::Nowhere,
    Sits::Unpinned,
    Sits::On("rig:a", PinSource::Auto),
    Sits::On("rig:b", PinSource::Auto),
    Sits::On("rig:a", PinSource::User),
    Sits::On("rig:b", PinSource::User),
    Sits::On("rig:gone", PinSource::User),
    Sits::Old("rig:b"),
    Sits::New("rig:a", PinSource::Auto),
    Sits::New("rig:b", PinSource::User),
    Sits::Compacted("rig:b"),
];
const TRIED: [&[&str]; 4] = [&[], &["rig:a"], &["rig:b"], &["rig:a", "rig:b"]];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deny {
    Nothing,
    A,
    Metered,
}
const DENIED: [Deny; 3] = [Deny::Nothing, Deny::A, Deny::Metered];

/// One world, in words of its own.
#[derive(Debug, Clone)]
struct Small {
    profiles: Vec<(&'static str, Is, Kind)>,
    order: Order,
    sits: Sits,
    tried: &'static [&'static str],
    deny: Deny,
    /// Subscription to metered is allowed.
    leave: bool,
}

impl Small {
    fn config(&self) -> Config {
        let rule = |change: &dyn Fn(&mut DenyRule)| {
            let mut rule = DenyRule {
                id: "no".to_owned(),
                ..DenyRule::default()
            };
            change(&mut rule);
            vec![rule]
        };
        let leave = (self.leave).then_some((BillingClass::Subscription, BillingClass::Metered));
        Config {
            order: match self.order {
                Order::Config(list) => ProviderOrders::from([(provider("rig"), ids(list))]),
                _ => ProviderOrders::new(),
            },
            deny: match self.deny {
                Deny::Nothing => Vec::new(),
                Deny::A => rule(&|rule| rule.profile = Some(id("rig:a"))),
                Deny::Metered => rule(&|rule| rule.billing = Some(BillingClass::Metered)),
            },
            allow_crossings: leave.into_iter().collect(),
            ..Config::default()
        }
    }

    fn state(&self) -> State {
        let mut state = crate::worlds::state(self.profiles.iter().map(built).collect());
        if let Order::Stored(list) = self.order {
            state.order.insert(provider("rig"), ids(list));
        }
        state
    }

    fn request(&self, mark: u64) -> Request {
        let pin = |profile: &str, source, mark| Pin {
            profile: id(profile),
            source,
            compactions: 0,
            order_mark: Some(mark),
        };
        let session = |pin| SessionPin {
            pin,
            ..SessionPin::default()
        };
        let session = match self.sits {
            Sits::Nowhere => None,
            Sits::Unpinned => Some(session(None)),
            Sits::On(on, source) => Some(session(Some(pin(on, source, mark)))),
            Sits::Old(on) => Some(session(Some(pin(on, PinSource::Auto, mark + 1)))),
            Sits::New(on, source) => Some(SessionPin {
                is_new: true,
                ..session(Some(pin(on, source, mark)))
            }),
            Sits::Compacted(on) => Some(SessionPin {
                compactions: 1,
                ..session(Some(pin(on, PinSource::Auto, mark)))
            }),
        };
        Request {
            session,
            tried: ids(self.tried),
            ..Request::new(Target::Provider(provider("rig")))
        }
    }

    fn inputs(&self) -> (Config, State, Request) {
        let (config, state) = (self.config(), self.state());
        let mark = order_mark(&config, &state, &provider("rig"));
        (config, state, self.request(mark))
    }

    fn get(&self, name: &str) -> Option<(Is, Kind)> {
        (self.profiles.iter().find(|(known, _, _)| *known == name)).map(|(_, is, kind)| (*is, *kind))
    }

    /// The stored profiles of the list, in its sequence.
    fn list(&self) -> Vec<&'static str> {
        let all = || self.profiles.iter().map(|(name, _, _)| *name);
        match self.order {
            Order::Nobody => all().collect(),
            Order::Stored(list) | Order::Config(list) => list
                .iter()
                .copied()
                .filter(|name| self.get(name).is_some())
                .collect(),
        }
    }

    /// The user's pin that holds now.
    fn locked(&self) -> Option<&'static str> {
        match self.sits {
            Sits::On(on, PinSource::User) => self.get(on).map(|_| on),
            _ => None,
        }
    }

    fn denies(&self, name: &str) -> bool {
        match self.deny {
            Deny::Nothing => false,
            Deny::A => name == "rig:a",
            Deny::Metered => self
                .get(name)
                .is_some_and(|(_, kind)| kind.class == BillingClass::Metered),
        }
    }

    /// The classes that come before a profile: by the order, by what was tried, by what the session stays with.
    fn cheaper_before(&self, name: &str) -> Vec<BillingClass> {
        let Some((_, own)) = self.get(name) else {
            return Vec::new();
        };
        let list = self.list();
        let mut before: Vec<&str> = match self.order {
            Order::Nobody => list,
            _ => list.into_iter().take_while(|other| *other != name).collect(),
        };
        before.extend(self.tried);
        if let Sits::On(on, PinSource::Auto) | Sits::Compacted(on) = self.sits {
            before.push(on);
        }
        let classes = before
            .into_iter()
            .filter_map(|other| Some(self.get(other)?.1.class));
        classes.filter(|class| *class < own.class).collect()
    }

    fn crosses_without_leave(&self, name: &str) -> bool {
        let metered = self
            .get(name)
            .is_some_and(|(_, kind)| kind.class == BillingClass::Metered);
        let allowed = |from: BillingClass| self.leave && metered && from == BillingClass::Subscription;
        self.cheaper_before(name).into_iter().any(|from| !allowed(from))
    }

    /// Nothing keeps it from a request that is not locked to another.
    fn may_serve(&self, name: &str) -> bool {
        self.list().contains(&name)
            && matches!(self.get(name), Some((Is::Open | Is::HalfOpen, _)))
            && !self.denies(name)
            && !self.tried.contains(&name)
            && !self.crosses_without_leave(name)
    }

    /// Those that may serve, in the order in which they are tried.
    fn may_serve_in_order(&self) -> Vec<&'static str> {
        let mut list = self.list();
        if self.order == Order::Nobody {
            list.sort_by_key(|name| self.get(name).map(|(_, kind)| kind.rank));
        }
        list.retain(|name| self.may_serve(name));
        list
    }
}

fn built((name, is, kind): &(&'static str, Is, Kind)) -> Candidate {
    let form = match kind.name {
        "oauth" => oauth(None),
        "key" => api_key(),
        _ => token(Expiry::Never),
    };
    let mut one = candidate(name, "rig", form);
    one.billing = kind.class;
    let mut bench = |ago: i64| {
        let failed = Failed {
            reason: Reason::RateLimit,
            model: None,
            stated: Some(later(3_600_000)),
            test: None,
            now: later(-ago),
        };
        one.benches.fail(&failed, &Limits::default());
    };
    match is {
        Is::Open => {}
        Is::Theirs => one = cooling(one, 10_000),
        Is::Shut => bench(1000),
        Is::HalfOpen => bench(360_000),
        Is::Probed => {
            bench(360_000);
            assert!(one.benches.probe(None, later(-10_000)));
        }
        Is::Dead => {
            one.facts.form = match one.facts.form {
                CredentialForm::ApiKey(_) => CredentialForm::ApiKey(NOTHING),
                CredentialForm::Token { expires, .. } => CredentialForm::Token {
                    token: NOTHING,
                    expires,
                },
                CredentialForm::OAuth { expires, .. } => CredentialForm::OAuth {
                    access: false,
                    refresh: false,
                    expires,
                },
            };
        }
    }
    one
}

/// What a decision promises. Each of them can be broken; `every_promise_can_be_broken` shows how it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Promise {
    /// Only a stored profile of the agent serves, as it is stored.
    Inside,
    /// Only one that the order has, or the user's pin.
    InOrder,
    /// Not one without a credential.
    Alive,
    /// Not one that is benched, unless the user's pin says so.
    NotBenched,
    /// A half-open bench is said to be tested, and nothing else is.
    TestsSaid,
    /// The user's pin is not left.
    Locked,
    /// A rule holds for everybody.
    Denied,
    /// Nothing is tried twice.
    NotAgain,
    /// No crossing of a class without leave.
    NoCrossing,
    /// Somebody serves if anybody may.
    SomebodyServes,
    /// Without a session the first in the order serves.
    First,
    /// A session stays where it is.
    Stays,
    /// A session's pin is not changed by a request that nobody serves, nor a user's by any.
    PinKept,
    /// There is one verdict for each profile, and one chosen one.
    Verdicts,
}

/// The promises that `decision` breaks.
fn broken(small: &Small, request: &Request, decision: &Decision) -> Vec<Promise> {
    let mut broken = by_choice(small, decision);
    let choice = decision.choice().map(|choice| choice.profile.as_str());
    let mut check = |promise: Promise, kept: bool| {
        if !kept {
            broken.push(promise);
        }
    };
    let order = small.may_serve_in_order();
    match small.locked() {
        Some(pin) => {
            let usable = small.get(pin).is_some_and(|(is, _)| is != Is::Dead);
            let serves = usable && !small.denies(pin) && !small.tried.contains(&pin);
            check(Promise::Locked, choice.is_none_or(|choice| choice == pin));
            check(Promise::SomebodyServes, choice.is_some() == serves);
        }
        None => check(Promise::SomebodyServes, choice.is_some() != order.is_empty()),
    }
    if small.sits == Sits::Nowhere {
        check(Promise::First, choice == order.first().copied());
    }
    if let Sits::On(on, PinSource::Auto) = small.sits {
        // Where it costs more than another by leave, it returns to the cheaper one.
        let stays = small.may_serve(on) && small.cheaper_before(on).is_empty();
        check(Promise::Stays, !stays || choice == Some(on));
    }
    let (before, after) = (request.session.as_ref(), decision.pin.as_ref());
    let kept = match (before, after) {
        (None, None) => true,
        (Some(before), Some(after)) => {
            let same = before.pin == after.pin;
            let still = choice.is_none() || small.locked().is_some();
            (!still || same) && after.profile.as_ref().map(ProfileId::as_str) == choice
        }
        _ => false,
    };
    check(Promise::PinKept, kept);
    let chosen =
        |verdict: &&Verdict| matches!(verdict.rule, Rule::Chosen | Rule::ChosenById | Rule::ChosenByPin);
    let one_each = small.profiles.iter().all(|(name, _, _)| {
        let same = decision
            .verdicts
            .iter()
            .filter(|verdict| verdict.profile.as_str() == *name);
        same.count() == 1
    });
    let marked: Vec<&str> = decision
        .verdicts
        .iter()
        .filter(chosen)
        .map(|verdict| verdict.profile.as_str())
        .collect();
    check(
        Promise::Verdicts,
        one_each && marked == choice.into_iter().collect::<Vec<_>>(),
    );
    broken
}

/// Those that are about who was chosen.
fn by_choice(small: &Small, decision: &Decision) -> Vec<Promise> {
    let mut broken = Vec::new();
    let Some(choice) = decision.choice() else {
        return broken;
    };
    let name = choice.profile.as_str();
    let Some((is, kind)) = small.get(name) else {
        return vec![Promise::Inside];
    };
    let mut check = |promise: Promise, kept: bool| {
        if !kept {
            broken.push(promise);
        }
    };
    let locked = small.locked() == Some(name);
    let stored = choice.owner.is_main() && !choice.inherited && choice.billing == kind.class;
    check(Promise::Inside, stored);
    check(Promise::InOrder, locked || small.list().contains(&name));
    check(Promise::Alive, is != Is::Dead);
    check(
        Promise::NotBenched,
        locked || !matches!(is, Is::Theirs | Is::Shut | Is::Probed),
    );
    check(Promise::TestsSaid, choice.tests == (is == Is::HalfOpen));
    check(Promise::Denied, !small.denies(name));
    check(Promise::NotAgain, !small.tried.contains(&name));
    check(Promise::NoCrossing, locked || !small.crosses_without_leave(name));
    broken
}

/// Every combination of up to three profiles in every state and of every kind.
fn casts() -> Vec<Vec<(&'static str, Is, Kind)>> {
    let mut all = vec![Vec::new()];
    let mut last = all.clone();
    for name in IDS {
        last = last
            .iter()
            .flat_map(|cast| {
                let forms = STATES
                    .into_iter()
                    .flat_map(|is| KINDS.map(|kind| (name, is, kind)));
                forms.map(move |one| [cast.as_slice(), &[one]].concat())
            })
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// All worlds, or every `step`th; it shares no factor with the numbers of values, so that none is passed over.
fn worlds(step: usize) -> impl Iterator<Item = Small> {
    let casts = casts();
    let mixed = [ORDERS.len(), SESSIONS.len(), TRIED.len(), DENIED.len(), 2];
    let around: usize = mixed.iter().product();
    assert_eq!((casts.len(), around), (1 + 18 + 324 + 5832, 1320));
    (0..casts.len() * around).step_by(step).map(move |at| {
        let mut rest = at % around;
        let [order, sits, tried, deny, leave] = mixed.map(|values| {
            let value = rest % values;
            rest /= values;
            value
        });
        Small {
            profiles: casts[at / around].clone(),
            order: ORDERS[order],
            sits: SESSIONS[sits],
            tried: TRIED[tried],
            deny: DENIED[deny],
            leave: leave == 1,
        }
    })
}

const STEP: usize = if cfg!(debug_assertions) { 97 } else { 1 };

#[test]
fn no_small_world_breaks_a_promise() {
    let (mut count, mut chosen) = (0_u64, 0_u64);
    for small in worlds(STEP) {
        let (config, state, request) = small.inputs();
        let decision = select(&config, &state, &request, NOW).unwrap();
        let broken = broken(&small, &request, &decision);
        assert!(broken.is_empty(), "{broken:?}\n{small:?}\n{decision:#?}");
        count += 1;
        chosen += u64::from(decision.choice().is_some());
    }
    println!("{count} worlds, in {chosen} of them somebody serves");
    assert!(
        chosen * 8 > count,
        "too many worlds are dead ends: {chosen} of {count} are not"
    );
}

#[test]
fn a_record_of_any_small_world_decides_the_same_byte_for_byte() {
    for small in worlds(STEP * 17) {
        let (config, state, request) = small.inputs();
        let decision = select(&config, &state, &request, NOW);
        let written = serde_json::to_vec(&decision).unwrap();
        let record = RecordedDecision::of(&config, &state, &request, NOW, decision);
        let text = serde_json::to_string(&record).unwrap();
        let read: RecordedDecision = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_vec(&read.again()).unwrap(), written, "{small:?}");
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}

/// Puts another choice into every decision and looks at what is noticed: each promise must be broken somewhere by a
/// decision that was altered by hand, or it would promise nothing.
#[test]
fn every_promise_can_be_broken() {
    let mut noticed = std::collections::BTreeSet::new();
    for small in worlds(1009) {
        let (config, state, request) = small.inputs();
        let decision = select(&config, &state, &request, NOW).unwrap();
        for altered in alterations(&state, &decision) {
            noticed.extend(broken(&small, &request, &altered));
        }
    }
    use Promise::*;
    let all = [
        Inside,
        InOrder,
        Alive,
        NotBenched,
        TestsSaid,
        Locked,
        Denied,
        NotAgain,
        NoCrossing,
        SomebodyServes,
        First,
        Stays,
        PinKept,
        Verdicts,
    ];
    assert_eq!(noticed.into_iter().collect::<Vec<_>>(), all);
}

fn alterations(state: &State, decision: &Decision) -> Vec<Decision> {
    let choice = |candidate: &Candidate| Choice {
        profile: candidate.id.clone(),
        owner: candidate.owner.clone(),
        inherited: candidate.inherited,
        provider: candidate.facts.provider.clone(),
        billing: candidate.billing,
        crosses: None,
        tests: false,
    };
    let with = |outcome: Outcome| Decision {
        outcome,
        ..decision.clone()
    };
    let mut all: Vec<Decision> = state
        .candidates
        .iter()
        .map(|candidate| with(Outcome::Chosen(choice(candidate))))
        .collect();
    let stranger = candidate("rig:stranger", "rig", api_key());
    all.push(with(Outcome::Chosen(choice(&stranger))));
    all.push(with(Outcome::Unavailable(Unavailable::NoProfile {
        provider: provider("rig"),
    })));
    if let Some(first) = decision.choice() {
        let owner = AgentId::normalise("other");
        all.push(with(Outcome::Chosen(Choice {
            owner,
            ..first.clone()
        })));
        all.push(with(Outcome::Chosen(Choice {
            tests: !first.tests,
            ..first.clone()
        })));
    }
    all.push(Decision {
        verdicts: Vec::new(),
        ..decision.clone()
    });
    all.push(Decision {
        pin: None,
        ..decision.clone()
    });
    all
}
