//! Which profile a session stays with (spec.md 4.4, 4.5; design: pin).
//!
//! A session keeps its account, because a change costs the provider's prompt cache and may break what is bound to the
//! account. It ends only for a reason of [`Why`]. A `user` pin is locked: nothing but the user and a new session moves
//! it. An `auto` pin is a preference: while its profile is benched another one answers, and the session returns home
//! afterwards. Age C2 moved the session for good there; that made sessions wander.

use serde::{Deserialize, Serialize};
use tokensink_types::ProfileId;

/// Who chose the profile of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinSource {
    /// The user: locked.
    User,
    /// We did: preferred.
    Auto,
}

impl PinSource {
    /// The word in `authProfileOverrideSource`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Auto => "auto",
        }
    }

    /// The source of a stored pin; where it is absent, a compaction count tells that we chose (spec.md 4.4).
    #[must_use]
    pub fn of_stored(word: Option<&str>, has_compaction_count: bool) -> Self {
        match word {
            Some("user") => Self::User,
            Some("auto") => Self::Auto,
            _ if has_compaction_count => Self::Auto,
            _ => Self::User,
        }
    }
}

/// The chosen profile of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The profile.
    pub profile: ProfileId,
    /// Who chose it.
    pub source: PinSource,
    /// How often the session had been compacted then.
    pub compactions: u64,
    /// The mark of the order under which it was chosen; `None` where another program wrote the pin.
    pub order_mark: Option<u64>,
}

/// What is known before a run.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    /// The stored pin.
    pub pin: Option<&'a Pin>,
    /// The first run after `/new`, `/reset` or the session's expiry.
    pub is_new: bool,
    /// How often the session has been compacted.
    pub compactions: u64,
    /// A number that changes with the order that was configured or set; not with benches.
    pub order_mark: u64,
}

/// A profile that may serve, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub profile: ProfileId,
    /// A bench keeps it back now.
    pub benched: bool,
}

/// Why a session's profile is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The user chose it, and it stays.
    Locked,
    /// It was chosen before, and nothing speaks against it.
    Kept,
    /// The pinned profile is benched; this one answers meanwhile, and the pin stays.
    Escaped,
    /// The session had none.
    First,
    /// A new session takes the next one.
    NewSession,
    /// The conversation was compacted, so nothing is lost by taking the next one.
    Compacted,
    /// The order was changed.
    OrderChanged,
    /// The pinned profile is gone, or belongs to another provider.
    Gone,
    /// The order no longer has the pinned profile, or it may not be used any more: a rule denies it, or its price.
    NotInOrder,
    /// The pinned profile costs more than one of the order that the session returns to.
    Cheaper,
    /// There is no profile at all.
    Nothing,
}

impl Why {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Kept => "kept",
            Self::Escaped => "escaped",
            Self::First => "first",
            Self::NewSession => "new_session",
            Self::Compacted => "compacted",
            Self::OrderChanged => "order_changed",
            Self::Gone => "gone",
            Self::NotInOrder => "not_in_order",
            Self::Cheaper => "cheaper",
            Self::Nothing => "nothing",
        }
    }
}

/// The profile of the next run, and the pin to store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// Who serves; `None` when there is nobody.
    pub profile: Option<ProfileId>,
    /// What the session stores from now on; `None` clears it.
    pub pin: Option<Pin>,
    /// Why.
    pub why: Why,
}

/// Resolves the pin of a session before a run. `order` are the eligible profiles; `exists` says whether a profile of
/// the provider is stored at all.
#[must_use]
pub fn resolve(session: &Session<'_>, order: &[Place], exists: &dyn Fn(&ProfileId) -> bool) -> Pinned {
    let fresh = |at: Option<usize>, why: Why| settle(session, order, at, why);
    let Some(pin) = session.pin else {
        return fresh(first_usable(order), Why::First);
    };
    let at = order.iter().position(|place| place.profile == pin.profile);
    if !exists(&pin.profile) {
        return fresh(first_usable(order), Why::Gone);
    }
    let user = pin.source == PinSource::User;
    if session.is_new {
        // Also of a user's pin (spec.md 4.5.5): it becomes ours, on the next profile.
        return fresh(next_usable(order, at), Why::NewSession);
    }
    if user {
        // An order that leaves it out does not end it (spec.md 4.5.2), and neither does a bench.
        return kept(session, pin, Why::Locked);
    }
    let Some(at) = at else {
        return fresh(first_usable(order), Why::NotInOrder);
    };
    if pin.order_mark.is_some_and(|mark| mark != session.order_mark) {
        return fresh(first_usable(order), Why::OrderChanged);
    }
    if session.compactions > pin.compactions {
        return fresh(next_usable(order, Some(at)), Why::Compacted);
    }
    if !order[at].benched {
        return kept(session, pin, Why::Kept);
    }
    match order.iter().find(|place| !place.benched) {
        Some(other) => Pinned {
            profile: Some(other.profile.clone()),
            ..kept(session, pin, Why::Escaped)
        },
        None => kept(session, pin, Why::Kept),
    }
}

/// The pin stays. An automatic one of another program is ours from now on as far as the order is concerned: the next
/// change of that ends it.
fn kept(session: &Session<'_>, pin: &Pin, why: Why) -> Pinned {
    let adopted = (pin.source == PinSource::Auto).then_some(session.order_mark);
    Pinned {
        profile: Some(pin.profile.clone()),
        pin: Some(Pin {
            order_mark: pin.order_mark.or(adopted),
            ..pin.clone()
        }),
        why,
    }
}

/// A new automatic pin on the profile at `at`.
fn settle(session: &Session<'_>, order: &[Place], at: Option<usize>, why: Why) -> Pinned {
    let Some(place) = at.and_then(|at| order.get(at)) else {
        return Pinned {
            profile: None,
            pin: None,
            why: Why::Nothing,
        };
    };
    let pin = Pin {
        profile: place.profile.clone(),
        source: PinSource::Auto,
        compactions: session.compactions,
        order_mark: Some(session.order_mark),
    };
    Pinned {
        profile: Some(place.profile.clone()),
        pin: Some(pin),
        why,
    }
}

/// The first that is not benched, else the first (spec.md 4.5.8).
fn first_usable(order: &[Place]) -> Option<usize> {
    let usable = order.iter().position(|place| !place.benched);
    usable.or_else(|| (!order.is_empty()).then_some(0))
}

/// The next that is not benched behind `at`, going round, else `at` itself (spec.md 4.5.8).
fn next_usable(order: &[Place], at: Option<usize>) -> Option<usize> {
    let Some(at) = at else {
        return first_usable(order);
    };
    let others = (1..order.len()).map(|step| (at + step) % order.len());
    others.into_iter().find(|next| !order[*next].benched).or(Some(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(name: &str) -> ProfileId {
        ProfileId::parse(&format!("rig:{name}")).unwrap()
    }

    /// `a! b c`: a is benched.
    fn order(text: &str) -> Vec<Place> {
        text.split_whitespace()
            .map(|word| Place {
                profile: id(word.trim_end_matches('!')),
                benched: word.ends_with('!'),
            })
            .collect()
    }

    fn pin(name: &str, source: PinSource) -> Pin {
        Pin {
            profile: id(name),
            source,
            compactions: 0,
            order_mark: Some(1),
        }
    }

    fn session(pin: Option<&Pin>) -> Session<'_> {
        Session {
            pin,
            is_new: false,
            compactions: 0,
            order_mark: 1,
        }
    }

    fn run(session: &Session<'_>, places: &str) -> (Option<String>, Option<(String, PinSource)>, Why) {
        let pinned = resolve(session, &order(places), &|profile| *profile != id("gone"));
        let name = |id: &ProfileId| id.name_part().to_owned();
        (
            pinned.profile.as_ref().map(name),
            pinned.pin.map(|pin| (name(&pin.profile), pin.source)),
            pinned.why,
        )
    }

    fn auto(serves: &str, pinned: &str, why: Why) -> (Option<String>, Option<(String, PinSource)>, Why) {
        (
            Some(serves.to_owned()),
            Some((pinned.to_owned(), PinSource::Auto)),
            why,
        )
    }

    #[test]
    fn an_automatic_pin() {
        let b = pin("b", PinSource::Auto);
        let gone = pin("gone", PinSource::Auto);
        let now = session(Some(&b));
        assert_eq!(run(&session(None), "a! b c"), auto("b", "b", Why::First));
        assert_eq!(run(&session(None), "a! b!"), auto("a", "a", Why::First));
        assert_eq!(run(&session(None), ""), (None, None, Why::Nothing));
        assert_eq!(run(&now, "a b c"), auto("b", "b", Why::Kept));
        assert_eq!(run(&now, "a b! c"), auto("a", "b", Why::Escaped));
        assert_eq!(run(&now, "a! b! c!"), auto("b", "b", Why::Kept));
        assert_eq!(run(&now, "a c"), auto("a", "a", Why::NotInOrder));
        assert_eq!(run(&session(Some(&gone)), "a c"), auto("a", "a", Why::Gone));
        assert_eq!(
            run(&Session { order_mark: 2, ..now }, "a b c"),
            auto("a", "a", Why::OrderChanged)
        );
        assert_eq!(
            run(
                &Session {
                    compactions: 1,
                    ..now
                },
                "a b c"
            ),
            auto("c", "c", Why::Compacted)
        );
        assert_eq!(
            run(&Session { is_new: true, ..now }, "a b c"),
            auto("c", "c", Why::NewSession)
        );
        assert_eq!(
            run(&Session { is_new: true, ..now }, "a b c!"),
            auto("a", "a", Why::NewSession)
        );
        assert_eq!(
            run(&Session { is_new: true, ..now }, "b"),
            auto("b", "b", Why::NewSession)
        );
    }

    #[test]
    fn a_users_pin() {
        let b = pin("b", PinSource::User);
        let now = session(Some(&b));
        let locked = (
            Some("b".to_owned()),
            Some(("b".to_owned(), PinSource::User)),
            Why::Locked,
        );
        for places in ["a b c", "a b! c", "a c", ""] {
            assert_eq!(run(&now, places), locked, "{places}");
            assert_eq!(
                run(
                    &Session {
                        order_mark: 9,
                        compactions: 7,
                        ..now
                    },
                    places
                ),
                locked
            );
        }
        assert_eq!(
            run(&Session { is_new: true, ..now }, "a b c"),
            auto("c", "c", Why::NewSession)
        );
        let gone = pin("gone", PinSource::User);
        assert_eq!(run(&session(Some(&gone)), "a"), auto("a", "a", Why::Gone));
    }

    /// Whoever wrote it: from its first use on, a change of the order ends it.
    #[test]
    fn an_automatic_pin_of_another_program() {
        let unmarked = |source| Pin {
            order_mark: None,
            ..pin("b", source)
        };
        let mark = |source, places: &str| {
            let theirs = unmarked(source);
            let found = resolve(&session(Some(&theirs)), &order(places), &|_| true);
            (found.why, found.pin.unwrap().order_mark)
        };
        assert_eq!(mark(PinSource::Auto, "a b"), (Why::Kept, Some(1)));
        assert_eq!(mark(PinSource::Auto, "a b!"), (Why::Escaped, Some(1)));
        assert_eq!(mark(PinSource::User, "a b"), (Why::Locked, None));
    }

    #[test]
    fn who_chose_a_stored_pin() {
        assert_eq!(PinSource::of_stored(Some("user"), true), PinSource::User);
        assert_eq!(PinSource::of_stored(None, true), PinSource::Auto);
        assert_eq!(PinSource::of_stored(None, false), PinSource::User);
    }

    proptest! {
        /// Whatever the state: nobody outside order and pin serves, a locked pin is not left, and no benched profile
        /// is preferred to a usable one for a session that may move.
        #[test]
        fn small_worlds(
            benched in proptest::collection::vec(any::<bool>(), 0..5),
            pinned in proptest::option::of((0_usize..6, any::<bool>(), 0_u64..3, proptest::option::of(0_u64..3))),
            is_new in any::<bool>(),
            compactions in 0_u64..3,
        ) {
            let places: Vec<Place> = benched
                .iter()
                .enumerate()
                .map(|(at, benched)| Place { profile: id(&at.to_string()), benched: *benched })
                .collect();
            let pin = pinned.map(|(at, user, compactions, mark)| Pin {
                profile: id(&at.to_string()),
                source: if user { PinSource::User } else { PinSource::Auto },
                compactions,
                order_mark: mark,
            });
            let session = Session { pin: pin.as_ref(), is_new, compactions, order_mark: 1 };
            let found = resolve(&session, &places, &|_| true);
            let locked = pin.as_ref().filter(|pin| pin.source == PinSource::User && !is_new);
            if let Some(locked) = locked {
                prop_assert_eq!(found.profile.as_ref(), Some(&locked.profile));
            } else if let Some(profile) = &found.profile {
                let place = places.iter().find(|place| place.profile == *profile);
                prop_assert!(place.is_some());
                let usable = places.iter().any(|place| !place.benched);
                let alone = places.iter().filter(|place| !place.benched).count() == 1;
                prop_assert!(!place.unwrap().benched || !usable || (is_new && alone), "{:?}", found);
            } else {
                prop_assert!(places.is_empty());
            }
        }
    }
}
