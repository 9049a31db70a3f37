//! Numbers for Prometheus, at `/metrics` in the `OpenMetrics` text format.
//!
//! Labels are ids of providers and profiles, reasons and outcomes: never an address, a token or anything that a client
//! made up, so that their number is bounded by what is stored. A profile whose id holds an e-mail address is shown
//! under a short hash ([`tokensink_sink::metric_label`]). What the sink knows (ends of tokens, benches) is asked for at
//! every scrape; the rest is counted here.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokensink_sink::{Gauges, ProfileId, metric_label};

/// The media type of [`Metrics::text`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The outcome of most requests.
pub(crate) const SERVED: &str = "served";

/// Upper ends of the buckets for the time to an answer's head, in seconds: a model may think for minutes.
const HEAD_SECONDS: [f64; 12] = [
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    provider: String,
    profile: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Provider {
    provider: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Retry {
    provider: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Owned {
    agent: String,
    profile: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Benched {
    agent: String,
    profile: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refresh {
    profile: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// Makes the histograms of a family.
#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(HEAD_SECONDS)
    }
}

/// What is counted of requests.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    head: Family<Provider, Histogram, Buckets>,
    streams: Gauge,
    retries: Family<Retry, Counter>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tokensink");
        let requests = Family::default();
        let head = Family::new_with_constructor(Buckets);
        let (streams, retries) = (Gauge::default(), Family::default());
        registry.register("requests", "Requests by account and outcome", requests.clone());
        registry.register_with_unit(
            "head",
            "Time to the head of an answer",
            Unit::Seconds,
            head.clone(),
        );
        registry.register("streams_open", "Answers under way", streams.clone());
        registry.register(
            "retries",
            "Further attempts, by what failed before",
            retries.clone(),
        );
        Self {
            registry,
            requests,
            head,
            streams,
            retries,
        }
    }
}

impl Metrics {
    /// A request is over. Without an account nobody was asked.
    pub(crate) fn ended(&self, provider: &str, profile: Option<&ProfileId>, outcome: &'static str) {
        self.requests(provider, profile, outcome).inc();
    }

    /// The counter of requests that an account has served, for many of them.
    pub(crate) fn served(&self, provider: &str, profile: &ProfileId) -> Counter {
        self.requests(provider, Some(profile), SERVED)
    }

    fn requests(&self, provider: &str, profile: Option<&ProfileId>, outcome: &'static str) -> Counter {
        let labels = Request {
            provider: provider.to_owned(),
            profile: profile.map(metric_label).unwrap_or_default(),
            outcome,
        };
        self.requests.get_or_create(&labels).clone()
    }

    /// The head of an answer went to the client.
    pub(crate) fn head(&self, provider: &str, after: Duration) {
        self.heads(provider).observe(after.as_secs_f64());
    }

    /// The times to the heads of a provider's answers, for many of them.
    pub(crate) fn heads(&self, provider: &str) -> Histogram {
        let labels = Provider {
            provider: provider.to_owned(),
        };
        self.head.get_or_create(&labels).clone()
    }

    /// Another attempt is made.
    pub(crate) fn retried(&self, provider: &str, reason: &'static str) {
        let labels = Retry {
            provider: provider.to_owned(),
            reason,
        };
        self.retries.get_or_create(&labels).inc();
    }

    pub(crate) fn stream_begins(&self) {
        self.streams.inc();
    }

    pub(crate) fn stream_ends(&self) {
        self.streams.dec();
    }

    /// Everything as text.
    ///
    /// # Errors
    /// None that the encoder can have with a string.
    pub(crate) fn text(&self, gauges: &Gauges) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &state(gauges))?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// What the sink knows at this moment.
fn state(gauges: &Gauges) -> Registry {
    let mut registry = Registry::with_prefix("tokensink");
    let expires = Family::<Owned, Gauge<i64, AtomicI64>>::default();
    let benches = Family::<Benched, Gauge>::default();
    for profile in &gauges.profiles {
        let agent = profile.agent.to_string();
        let label = metric_label(&profile.profile);
        if let Some(seconds) = profile.expires_in_seconds {
            let labels = Owned {
                agent: agent.clone(),
                profile: label.clone(),
            };
            expires.get_or_create(&labels).set(seconds);
        }
        for reason in &profile.benches {
            let labels = Benched {
                agent: agent.clone(),
                profile: label.clone(),
                reason: reason.clone(),
            };
            benches.get_or_create(&labels).inc();
        }
    }
    let refreshes = Family::<Refresh, Counter<u64, AtomicU64>>::default();
    for (profile, outcome, count) in &gauges.refreshes {
        let labels = Refresh {
            profile: metric_label(profile),
            outcome,
        };
        refreshes.get_or_create(&labels).inc_by(*count);
    }
    let build = Family::<Build, Gauge>::default();
    let labels = Build {
        version: env!("CARGO_PKG_VERSION"),
    };
    build.get_or_create(&labels).set(1);
    let help = "Time until the token ends; below zero when it has";
    registry.register_with_unit("profile_expires_in", help, Unit::Seconds, expires);
    registry.register("benches_open", "Windows in which a profile is not tried", benches);
    registry.register(
        "refreshes",
        "Refreshes that this process saw, by how they ended",
        refreshes,
    );
    registry.register("build_info", "The version", build);
    registry
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokensink_sink::ProfileGauge;

    #[test]
    fn what_was_counted_stands_in_the_text_and_no_address_does() {
        let metrics = Metrics::default();
        let profile = ProfileId::parse("rig:alice@example.com").unwrap();
        metrics.ended("rig", Some(&profile), "served");
        metrics.ended("rig", Some(&profile), "served");
        metrics.ended("", None, "refused");
        metrics.head("rig", Duration::from_millis(30));
        metrics.retried("rig", "rate_limit");
        metrics.stream_begins();
        let gauges = Gauges {
            profiles: vec![ProfileGauge {
                agent: "main".parse().unwrap(),
                profile: ProfileId::parse("rig:work").unwrap(),
                expires_in_seconds: Some(-5),
                benches: vec!["billing".to_owned(), "billing".to_owned()],
            }],
            refreshes: vec![(profile, "served", 3)],
        };
        let text = metrics.text(&gauges).unwrap();
        let label = metric_label(&ProfileId::parse("rig:alice@example.com").unwrap());
        for line in [
            format!("tokensink_requests_total{{provider=\"rig\",profile=\"{label}\",outcome=\"served\"}} 2"),
            "tokensink_requests_total{provider=\"\",profile=\"\",outcome=\"refused\"} 1".to_owned(),
            "tokensink_head_seconds_bucket{le=\"0.05\",provider=\"rig\"} 1".to_owned(),
            "tokensink_streams_open 1".to_owned(),
            "tokensink_retries_total{provider=\"rig\",reason=\"rate_limit\"} 1".to_owned(),
            "tokensink_profile_expires_in_seconds{agent=\"main\",profile=\"rig:work\"} -5".to_owned(),
            "tokensink_benches_open{agent=\"main\",profile=\"rig:work\",reason=\"billing\"} 2".to_owned(),
            format!("tokensink_refreshes_total{{profile=\"{label}\",outcome=\"served\"}} 3"),
            "# EOF".to_owned(),
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
        }
        assert!(!text.contains('@'), "{text}");
        assert_eq!(text.matches("# EOF").count(), 1);
    }
}
