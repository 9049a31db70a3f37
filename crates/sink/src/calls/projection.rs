//! What other programs see of our benches, and we of theirs: the two lanes of `usageStats` (spec.md 5.1).
//!
//! A lane holds one window, our benches are a set. Of those that belong to a lane the one that ends last is shown, with
//! the model that it concerns, so that another program never takes one model's bench for the account's.
//!
//! With each profile's benches we keep what stood in its two lanes after our last write (`projected`), and while a
//! write is under way what it will leave there (`intended`). The rules for reading a lane follow from that:
//!
//! * A lane that reads as projected or as intended is ours, and is not counted a second time.
//! * Any other open window is another program's, and counts beside our benches.
//! * Where the projected window would still be open, nothing was intended, and the lane is empty or ends earlier,
//!   somebody has cleared or shortened it: our benches of that lane end.
//! * A write that was intended and never confirmed (a crash, a store that was locked) ends nothing.

use serde_json::{Map, Value, json};
use tokensink_policy as policy;
use tokensink_policy::bench::{Bench, Bucket};
use tokensink_policy::classify::Reason;
use tokensink_store::Usage;
use tokensink_types::UnixMillis;

/// One window of `usageStats`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lane {
    /// Its end.
    pub(crate) until: UnixMillis,
    /// Its reason; empty where the file names none.
    pub(crate) reason: String,
    /// The only model that it blocks.
    pub(crate) model: Option<String>,
}

/// Both windows of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lanes {
    /// `cooldownUntil` and what belongs to it.
    pub(crate) cooldown: Option<Lane>,
    /// `disabledUntil`.
    pub(crate) disabled: Option<Lane>,
}

/// What the lanes of a profile mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reconciled {
    /// Windows of other programs.
    pub(crate) foreign: Lanes,
    /// Our benches that show in `cooldownUntil` have ended.
    pub(crate) cooldown_ended: bool,
    /// Those that show in `disabledUntil`.
    pub(crate) disabled_ended: bool,
}

impl Reconciled {
    /// Has `bench` ended with its lane?
    pub(crate) fn has_ended(&self, bench: &Bench) -> bool {
        if is_long(bench.reason) {
            self.disabled_ended
        } else {
            self.cooldown_ended
        }
    }
}

/// The two reasons of `disabledUntil` (spec.md 5.3).
fn is_long(reason: Reason) -> bool {
    matches!(reason, Reason::Billing | Reason::AuthPermanent)
}

impl Lane {
    fn is_open(&self, now: UnixMillis) -> bool {
        now < self.until
    }

    fn of_json(value: Option<&Value>) -> Option<Self> {
        let map = value?.as_object()?;
        Some(Self {
            until: UnixMillis(map.get("until")?.as_i64()?),
            reason: map.get("reason")?.as_str()?.to_owned(),
            model: map.get("model").and_then(Value::as_str).map(str::to_owned),
        })
    }

    fn json(&self) -> Value {
        let mut map = Map::new();
        map.insert("until".to_owned(), self.until.0.into());
        map.insert("reason".to_owned(), json!(self.reason));
        if let Some(model) = &self.model {
            map.insert("model".to_owned(), json!(model));
        }
        Value::Object(map)
    }
}

impl Lanes {
    /// What `usageStats` says. An end that is not above zero counts as none (spec.md 5.1).
    pub(crate) fn of_usage(usage: &Usage) -> Self {
        let lane = |until: Option<UnixMillis>, reason: &Option<String>, model: Option<String>| {
            let until = until.filter(|until| until.0 > 0)?;
            Some(Lane {
                until,
                reason: reason.clone().unwrap_or_default(),
                model,
            })
        };
        let model = usage.cooldown_model.clone().filter(|model| !model.is_empty());
        Self {
            cooldown: lane(usage.cooldown_until, &usage.cooldown_reason, model),
            disabled: lane(usage.disabled_until, &usage.disabled_reason, None),
        }
    }

    /// What shows of `benches` at `now`.
    pub(crate) fn of_benches(benches: &[Bench], now: UnixMillis) -> Self {
        let last = |long: bool| {
            let held = benches.iter().filter(|bench| bench.holds(None, now));
            let bench = held
                .filter(|bench| is_long(bench.reason) == long)
                .max_by_key(|bench| (bench.until, bench.bucket == Bucket::Account))?;
            Some(Lane {
                until: bench.until,
                reason: bench.reason.as_str().to_owned(),
                // Other programs know no bench of calls without a model; to them it is the account's.
                model: bench.bucket.model().map(str::to_owned),
            })
        };
        Self {
            cooldown: last(false),
            disabled: last(true),
        }
    }

    /// Puts them into `usage`.
    pub(crate) fn write_to(&self, usage: &mut Usage) {
        usage.cooldown_until = self.cooldown.as_ref().map(|lane| lane.until);
        usage.cooldown_reason = self.cooldown.as_ref().map(|lane| lane.reason.clone());
        usage.cooldown_model = self.cooldown.as_ref().and_then(|lane| lane.model.clone());
        usage.disabled_until = self.disabled.as_ref().map(|lane| lane.until);
        usage.disabled_reason = self.disabled.as_ref().map(|lane| lane.reason.clone());
    }

    /// As selection has them.
    pub(crate) fn told(self, last_used: Option<UnixMillis>) -> policy::Usage {
        let mut told = policy::Usage {
            last_used,
            ..policy::Usage::default()
        };
        if let Some(lane) = self.cooldown {
            told.cooldown_until = Some(lane.until);
            told.cooldown_reason = Some(lane.reason);
            told.cooldown_model = lane.model;
        }
        if let Some(lane) = self.disabled {
            told.disabled_until = Some(lane.until);
            told.disabled_reason = Some(lane.reason);
        }
        told
    }

    /// As part of our own file; `None` where there is nothing to say.
    pub(crate) fn json(&self) -> Value {
        let mut map = Map::new();
        for (name, lane) in [("cooldown", &self.cooldown), ("disabled", &self.disabled)] {
            if let Some(lane) = lane {
                map.insert(name.to_owned(), lane.json());
            }
        }
        Value::Object(map)
    }

    pub(crate) fn of_json(value: &Value) -> Self {
        Self {
            cooldown: Lane::of_json(value.get("cooldown")),
            disabled: Lane::of_json(value.get("disabled")),
        }
    }

    /// Is anything there?
    pub(crate) fn is_empty(&self) -> bool {
        self.cooldown.is_none() && self.disabled.is_none()
    }
}

/// Reads the lanes of a profile by the rules above.
pub(crate) fn reconcile(
    found: &Lanes,
    projected: &Lanes,
    intended: Option<&Lanes>,
    now: UnixMillis,
) -> Reconciled {
    let one = |lane: fn(&Lanes) -> &Option<Lane>| {
        let (found, projected) = (lane(found), lane(projected));
        let as_intended = intended.is_some_and(|intended| lane(intended) == found);
        if found == projected || as_intended {
            return (None, false);
        }
        let open = projected.as_ref().filter(|lane| lane.is_open(now));
        let ended = intended.is_none()
            && open.is_some_and(|ours| found.as_ref().is_none_or(|found| found.until < ours.until));
        (found.clone().filter(|lane| lane.is_open(now)), ended)
    };
    let (cooldown, cooldown_ended) = one(|lanes| &lanes.cooldown);
    let (disabled, disabled_ended) = one(|lanes| &lanes.disabled);
    Reconciled {
        foreign: Lanes { cooldown, disabled },
        cooldown_ended,
        disabled_ended,
    }
}

/// What a write of ours leaves in the lanes: ours, except where another program's open window ends later; an active
/// window is never shortened or replaced by a write about something else (spec.md 5.3.5).
pub(crate) fn merged(ours: &Lanes, foreign: &Lanes) -> Lanes {
    let one = |ours: &Option<Lane>, foreign: &Option<Lane>| match (ours, foreign) {
        (Some(ours), Some(foreign)) if ours.until > foreign.until => Some(ours.clone()),
        (_, Some(foreign)) => Some(foreign.clone()),
        (ours, None) => ours.clone(),
    };
    Lanes {
        cooldown: one(&ours.cooldown, &foreign.cooldown),
        disabled: one(&ours.disabled, &foreign.disabled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(100);

    fn lane(until: i64, model: Option<&str>) -> Option<Lane> {
        Some(Lane {
            until: UnixMillis(until),
            reason: "rate_limit".to_owned(),
            model: model.map(str::to_owned),
        })
    }

    fn cooldown(lane: Option<Lane>) -> Lanes {
        Lanes {
            cooldown: lane,
            disabled: None,
        }
    }

    /// (what stands there, projected, intended) -> (another's window until, ours has ended)
    #[test]
    fn lanes_are_read_by_the_rules() {
        let (none, ours, theirs) = (None, lane(200, Some("m")), lane(300, None));
        let cases = [
            ("nothing at all", &none, &none, None, (None, false)),
            ("as projected", &ours, &ours, None, (None, false)),
            (
                "a first write is under way",
                &none,
                &none,
                Some(&ours),
                (None, false),
            ),
            (
                "it arrived and was not confirmed",
                &ours,
                &none,
                Some(&ours),
                (None, false),
            ),
            ("cleared by hand", &none, &ours, None, (None, true)),
            (
                "cleared while we write: nobody knows, it stays",
                &none,
                &ours,
                Some(&theirs),
                (None, false),
            ),
            (
                "shortened by hand",
                &lane(150, Some("m")),
                &ours,
                None,
                (Some(150), true),
            ),
            ("ended by hand", &lane(90, Some("m")), &ours, None, (None, true)),
            ("another's longer one", &theirs, &ours, None, (Some(300), false)),
            (
                "another's, and none of ours",
                &theirs,
                &none,
                None,
                (Some(300), false),
            ),
            ("another's old one", &lane(50, None), &none, None, (None, false)),
            ("ours is over anyway", &none, &lane(99, None), None, (None, false)),
            (
                "the scope was widened",
                &lane(200, None),
                &ours,
                None,
                (Some(200), false),
            ),
        ];
        for (what, found, projected, intended, (foreign, ended)) in cases {
            let intended = intended.map(|lane| cooldown(lane.clone()));
            let got = reconcile(
                &cooldown(found.clone()),
                &cooldown(projected.clone()),
                intended.as_ref(),
                NOW,
            );
            let until = got.foreign.cooldown.map(|lane| lane.until.0);
            assert_eq!((until, got.cooldown_ended), (foreign, ended), "{what}");
            assert!(!got.disabled_ended);
        }
    }

    #[test]
    fn json_and_usage_round_trips() {
        let lanes = Lanes {
            cooldown: lane(200, Some("m")),
            disabled: lane(300, None),
        };
        assert_eq!(Lanes::of_json(&lanes.json()), lanes);
        let mut usage = Usage::default();
        lanes.write_to(&mut usage);
        assert_eq!(Lanes::of_usage(&usage), lanes);
        Lanes::default().write_to(&mut usage);
        assert_eq!(usage, Usage::default());
    }
}
