//! `auth.cooldowns` of the config as durations (spec.md 5.4).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use tokensink_policy::bench::Limits;
use tokensink_policy::chain::Rotations;
use tokensink_types::ProviderId;

/// Longest value that is believed; a year of days is a mistake, not a back-off.
const HOURS_MAX: f64 = 24.0 * 366.0;

/// Longest pause that is believed: somebody waits for the answer, and whoever tests a bench is to begin before he counts
/// as given up.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long benches of the account's own faults last, by provider; and how far accounts are changed before models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cooldowns {
    base: Limits,
    /// `billingBackoffHoursByProvider`, by canonical id.
    billing: BTreeMap<ProviderId, Duration>,
    rotations: Rotations,
}

impl Cooldowns {
    /// Reads the block. A value that is no finite number above zero counts as absent, and so does a count that is no
    /// natural number.
    pub(crate) fn of(
        block: Option<&Map<String, Value>>,
        canonical: impl Fn(&ProviderId) -> ProviderId,
    ) -> Self {
        let Some(block) = block else {
            return Self::default();
        };
        let hours = |key: &str, default: Duration| time(block.get(key), 3600.0).unwrap_or(default);
        let minutes = |key: &str, default: Duration| time(block.get(key), 60.0).unwrap_or(default);
        let usual = Limits::default();
        let base = Limits {
            billing: hours("billingBackoffHours", usual.billing),
            billing_max: hours("billingMaxHours", usual.billing_max),
            auth_permanent: minutes("authPermanentBackoffMinutes", usual.auth_permanent),
            auth_permanent_max: minutes("authPermanentMaxMinutes", usual.auth_permanent_max),
            memory: hours("failureWindowHours", usual.memory),
        };
        let by_provider = block
            .get("billingBackoffHoursByProvider")
            .and_then(Value::as_object);
        let billing = by_provider.into_iter().flatten().filter_map(|(id, value)| {
            let provider = ProviderId::parse(id).ok()?;
            Some((canonical(&provider), time(Some(value), 3600.0)?))
        });
        let count = |key: &str, usual: usize| {
            let given = block.get(key).and_then(Value::as_u64);
            given
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(usual)
        };
        let usual = Rotations::default();
        let pause = block.get("overloadedBackoffMs").and_then(Value::as_u64);
        let rotations = Rotations {
            overloaded: count("overloadedProfileRotations", usual.overloaded),
            rate_limited: count("rateLimitedProfileRotations", usual.rate_limited),
            overloaded_pause: pause
                .map_or(usual.overloaded_pause, Duration::from_millis)
                .min(PAUSE_MAX),
        };
        Self {
            base,
            billing: billing.collect(),
            rotations,
        }
    }

    /// How far accounts are changed before models.
    pub(crate) fn rotations(&self) -> Rotations {
        self.rotations
    }

    /// What holds for a provider, by its canonical id.
    pub(crate) fn limits(&self, provider: &ProviderId) -> Limits {
        let own = self.billing.get(provider).copied();
        Limits {
            billing: own.unwrap_or(self.base.billing),
            ..self.base
        }
    }
}

fn time(value: Option<&Value>, seconds: f64) -> Option<Duration> {
    let number = value?
        .as_f64()
        .filter(|number| number.is_finite() && *number > 0.0)?;
    let longest = HOURS_MAX * 3600.0;
    Duration::try_from_secs_f64((number * seconds).min(longest)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_defaults_and_nonsense() {
        let provider = |text: &str| ProviderId::parse(text).unwrap();
        let usual = Limits::default();
        let of = |block: &Value| Cooldowns::of(block.as_object(), Clone::clone);
        assert_eq!(Cooldowns::of(None, Clone::clone).limits(&provider("rig")), usual);
        let block = json!({"billingBackoffHours": 2, "billingMaxHours": 7.5, "failureWindowHours": 1,
            "authPermanentBackoffMinutes": 3, "authPermanentMaxMinutes": 9,
            "billingBackoffHoursByProvider": {"Rig": 0.5, "other": -1}});
        let hour = Duration::from_secs(3600);
        let want = Limits {
            billing: hour * 2,
            billing_max: hour * 15 / 2,
            auth_permanent: Duration::from_secs(180),
            auth_permanent_max: Duration::from_secs(540),
            memory: hour,
        };
        assert_eq!(of(&block).limits(&provider("other")), want);
        let rig = Limits {
            billing: hour / 2,
            ..want
        };
        assert_eq!(of(&block).limits(&provider("rig")), rig);
        for nonsense in [json!(0), json!(-2), json!("5"), json!(null), json!({})] {
            let block = json!({"billingBackoffHours": nonsense, "failureWindowHours": nonsense,
                "authPermanentMaxMinutes": nonsense});
            assert_eq!(of(&block).limits(&provider("rig")), usual, "{block}");
        }
    }

    #[test]
    fn rotations() {
        let of = |block: &Value| Cooldowns::of(block.as_object(), Clone::clone).rotations();
        assert_eq!(
            Cooldowns::of(None, Clone::clone).rotations(),
            Rotations::default()
        );
        let block = json!({"overloadedProfileRotations": 0, "rateLimitedProfileRotations": 4, "overloadedBackoffMs": 250});
        let want = Rotations {
            overloaded: 0,
            rate_limited: 4,
            overloaded_pause: Duration::from_millis(250),
        };
        assert_eq!(of(&block), want);
        let endless = of(&json!({"overloadedBackoffMs": u64::MAX}));
        assert_eq!(endless.overloaded_pause, PAUSE_MAX);
        for nonsense in [json!(-1), json!(1.5), json!("5"), json!(null)] {
            let block = json!({"overloadedProfileRotations": nonsense, "rateLimitedProfileRotations": nonsense,
                "overloadedBackoffMs": nonsense});
            assert_eq!(of(&block), Rotations::default(), "{block}");
        }
    }
}
