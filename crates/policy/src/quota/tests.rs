use proptest::prelude::*;

use super::*;

/// 2026-05-28T20:26:40Z.
const NOW: UnixMillis = UnixMillis(1_780_000_000_000);

fn of<'a>(headers: &[(&'a str, &'a str)]) -> Headers<'a> {
    Headers::of(headers.iter().copied())
}

fn found(headers: &[(&str, &str)]) -> Vec<(String, f64, Option<i64>, Source)> {
    let all = readings(&of(headers), NOW);
    all.into_iter().map(told).collect()
}

/// A reading with its reset in seconds from now.
fn told(reading: Reading) -> (String, f64, Option<i64>, Source) {
    let resets = reading.resets_at.map(|at| (at.0 - NOW.0) / 1000);
    let rounded = (reading.used * 1000.0).round() / 1000.0;
    (reading.window, rounded, resets, reading.source)
}

fn row(window: &str, used: f64, resets: Option<i64>, source: Source) -> (String, f64, Option<i64>, Source) {
    (window.to_owned(), used, resets, source)
}

#[test]
fn a_plans_windows() {
    let headers = [
        ("Anthropic-RateLimit-Unified-Status", "allowed_warning"),
        ("anthropic-ratelimit-unified-reset", "1780003600"),
        ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
        ("anthropic-ratelimit-unified-5h-utilization", "0.83"),
        ("anthropic-ratelimit-unified-5h-reset", "1780003600"),
        ("anthropic-ratelimit-unified-5h-status", "allowed"),
        ("anthropic-ratelimit-unified-7d-utilization", "0.97"),
        ("anthropic-ratelimit-unified-7d-status", "rejected"),
        ("anthropic-ratelimit-unified-7d-reset", "1780086400"),
        ("anthropic-ratelimit-unified-overage-status", "rejected"),
        (
            "anthropic-ratelimit-unified-overage-disabled-reason",
            "org_level_disabled",
        ),
        ("anthropic-ratelimit-unified-fallback-percentage", "0.5"),
        ("date", "today"),
    ];
    assert_eq!(
        found(&headers),
        [
            row("5h", 0.83, Some(3600), Source::AnthropicPlan),
            row("7d", 1.0, Some(86_400), Source::AnthropicPlan),
        ]
    );
}

#[test]
fn the_windows_of_codex_in_headers_events_and_usage() {
    let headers = [
        ("x-codex-primary-used-percent", "12.5"),
        ("x-codex-primary-window-minutes", "300"),
        ("x-codex-primary-reset-at", "1780000060"),
        ("x-codex-secondary-used-percent", "100"),
        ("x-codex-secondary-window-minutes", "10080"),
        ("x-codex-secondary-reset-at", "1780000120"),
        ("x-bonus-primary-used-percent", "1"),
    ];
    assert_eq!(
        found(&headers),
        [
            row("bonus:primary", 0.01, None, Source::CodexHeaders),
            row("5h", 0.125, Some(60), Source::CodexHeaders),
            row("7d", 1.0, Some(120), Source::CodexHeaders),
        ]
    );
    let event = br#"{"type":"codex.rate_limits","plan_type":"plus","rate_limits":{"primary":{"used_percent":12.5,
        "window_minutes":300,"reset_at":1780000060},"secondary":{"used_percent":100,"window_minutes":10080}}}"#;
    let usage = br#"{"plan_type":"plus","rate_limit":{"allowed":true,"primary_window":{"used_percent":12.5,
        "limit_window_seconds":18000,"reset_after_seconds":60},"secondary_window":{"used_percent":100,
        "limit_window_seconds":604800}}}"#;
    for json in [&event[..], &usage[..]] {
        let all: Vec<_> = readings_of_json(json, NOW).into_iter().map(told).collect();
        let want = [
            row("5h", 0.125, Some(60), Source::CodexJson),
            row("7d", 1.0, None, Source::CodexJson),
        ];
        assert_eq!(all, want);
    }
    for other in [
        &br#"{"type":"response.completed","rate_limits":{"primary":{"used_percent":1}}}"#[..],
        b"[]",
        b"",
        b"{\"rate_limits\":7}",
    ] {
        assert_eq!(readings_of_json(other, NOW), []);
    }
}

#[test]
fn limits_that_are_counted_down() {
    let open_ai = [
        ("x-ratelimit-limit-requests", "200"),
        ("x-ratelimit-remaining-requests", "150"),
        ("x-ratelimit-reset-requests", "6m0s"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "1200ms"),
    ];
    assert_eq!(
        found(&open_ai),
        [
            row("requests", 0.25, Some(360), Source::OpenAi),
            row("tokens", 1.0, Some(1), Source::OpenAi),
        ]
    );
    let key = [
        ("anthropic-ratelimit-requests-limit", "50"),
        ("anthropic-ratelimit-requests-remaining", "49"),
        ("anthropic-ratelimit-requests-reset", "2026-05-28T20:27:40Z"),
        ("anthropic-ratelimit-input-tokens-limit", "0"),
        ("anthropic-ratelimit-input-tokens-remaining", "5"),
    ];
    assert_eq!(
        found(&key),
        [row("requests", 0.02, Some(60), Source::AnthropicKey)]
    );
    let plain = [
        ("x-ratelimit-limit", "10"),
        ("x-ratelimit-remaining", "5"),
        ("x-ratelimit-reset", "1780000030000"),
        ("ratelimit-limit", "4"),
        ("ratelimit-remaining", "1"),
        ("ratelimit-reset", "7"),
    ];
    assert_eq!(
        found(&plain),
        [
            row("requests", 0.5, Some(30), Source::OpenAi),
            row("requests", 0.75, Some(7), Source::Generic),
        ]
    );
}

#[test]
fn hostile_values_are_not_there_or_are_bounded() {
    let cases: [(&str, Option<f64>); 8] = [
        ("NaN", None),
        ("inf", None),
        ("", None),
        ("1e999", None),
        ("-3", Some(0.0)),
        ("7", Some(1.0)),
        (" 0.5 ", Some(0.5)),
        ("0.5%", None),
    ];
    for (text, want) in cases {
        let got = readings(&of(&[("anthropic-ratelimit-unified-5h-utilization", text)]), NOW);
        assert_eq!(got.first().map(|reading| reading.used), want, "{text:?}");
    }
    let cases = [
        ("99999999999999", Some(RESET_MAX.as_millis())),
        ("1e300", None),
        ("0", None),
        ("-1", None),
        ("1779999999", None),
        ("2999-12-31T00:00:00Z", Some(RESET_MAX.as_millis())),
        ("soon", None),
    ];
    for (text, want) in cases {
        let headers = [
            ("anthropic-ratelimit-unified-5h-utilization", "0.1"),
            ("anthropic-ratelimit-unified-5h-reset", text),
        ];
        let got = readings(&of(&headers), NOW)[0].resets_at;
        assert_eq!(got.map(|at| NOW.until(at).as_millis()), want, "{text:?}");
    }
    let many: Vec<(String, &str)> = (0..500)
        .map(|at| (format!("anthropic-ratelimit-unified-w{at}-utilization"), "0.5"))
        .collect();
    let many = Headers::of(many.iter().map(|(name, value)| (name.as_str(), *value)));
    assert_eq!(readings(&many, NOW).len(), WINDOWS_MAX);
}

type Pairs<'a> = &'a [(&'a str, &'a str)];

#[test]
fn how_long_to_wait() {
    let nothing: &[(&str, &str)] = &[];
    let plan = &[
        ("anthropic-ratelimit-unified-status", "rejected"),
        ("anthropic-ratelimit-unified-reset", "1780007200"),
        ("retry-after", "30"),
    ][..];
    let unnamed = &[
        ("anthropic-ratelimit-unified-status", "rejected"),
        ("anthropic-ratelimit-unified-5h-status", "rejected"),
        ("anthropic-ratelimit-unified-5h-reset", "1780003600"),
    ][..];
    let warned = &[
        ("anthropic-ratelimit-unified-status", "allowed_warning"),
        ("anthropic-ratelimit-unified-reset", "1780007200"),
    ][..];
    let tokens_gone = &[
        ("x-ratelimit-remaining-requests", "5"),
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-reset-requests", "1h"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "8s"),
    ][..];
    let usage_limit =
        r#"{"error":{"type":"usage_limit_reached","resets_at":1780010000,"resets_in_seconds":5}}"#;
    let seconds_only = r#"{"error":{"type":"usage_limit_reached","resets_in_seconds":600}}"#;
    let past = r#"{"error":{"resets_at":1770000000,"resets_in_seconds":-5}}"#;
    let google =
        r#"[{"error":{"code":429,"details":[{"@type":"x"},{"@type":"RetryInfo","retryDelay":"34.5s"}]}}]"#;
    let sentence =
        r#"{"error":{"message":"Rate limit reached for tokens. Please try again in 1.898s. Visit"}}"#;
    let unclear = r#"{"error":{"message":"Please try again in 5 or so"}}"#;
    // headers, body -> milliseconds from now
    let cases: &[(Pairs<'_>, &str, Option<i64>)] = &[
        (nothing, "", None),
        (nothing, "not json", None),
        (&[("retry-after", "30")], "", Some(30_000)),
        (&[("Retry-After", "1.5")], "", Some(1500)),
        (&[("retry-after", "0")], "", None),
        (&[("retry-after", "-4")], "", None),
        (
            &[("retry-after", "Thu, 28 May 2026 20:27:10 GMT")],
            "",
            Some(30_000),
        ),
        (&[("retry-after", "Thu, 28 May 2020 20:27:10 GMT")], "", None),
        (&[("retry-after", "9999999")], "", Some(8 * 86_400_000)),
        (&[("retry-after-ms", "250"), ("retry-after", "1")], "", Some(250)),
        (&[("retry-after-ms", "x"), ("retry-after", "1")], "", Some(1000)),
        (plan, "", Some(7_200_000)),
        (unnamed, "", Some(3_600_000)),
        (warned, "", None),
        (tokens_gone, "", Some(8000)),
        (&[("retry-after", "5")], usage_limit, Some(10_000_000)),
        (nothing, seconds_only, Some(600_000)),
        (nothing, past, None),
        (&[("retry-after", "5")], past, Some(5000)),
        (nothing, google, Some(34_500)),
        (nothing, sentence, Some(1898)),
        (nothing, unclear, None),
    ];
    for (headers, body, want) in cases {
        let got = stated_wait(&of(headers), body.as_bytes(), NOW).map(|at| at.0 - NOW.0);
        assert_eq!(got, *want, "{headers:?} {body}");
    }
}

const NAMES: [&str; 12] = [
    "anthropic-ratelimit-unified-status",
    "anthropic-ratelimit-unified-reset",
    "anthropic-ratelimit-unified-5h-status",
    "anthropic-ratelimit-unified-5h-utilization",
    "anthropic-ratelimit-unified-5h-reset",
    "anthropic-ratelimit-requests-remaining",
    "x-codex-primary-used-percent",
    "x-codex-primary-reset-at",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "retry-after",
    "retry-after-ms",
];

proptest! {
    /// Whatever a server sends: no panic, shares from 0 to 1, resets and waits ahead and within their bounds.
    #[test]
    fn foreign_text_is_bounded(
        values in prop::collection::vec((0..NAMES.len(), prop_oneof![
            "[ -~]{0,40}", "-?[0-9]{0,20}(\\.[0-9]{0,5})?", "[0-9]{1,6}(ms|s|m|h|d)", Just("rejected".to_owned()),
        ]), 0..12),
        body in prop_oneof![
            ".{0,80}",
            "\\{\"error\":\\{\"(resets_at|resets_in_seconds|retry_after)\":-?[0-9]{1,20}(e[0-9]{1,3})?\\}\\}",
            "\\{\"type\":\"codex.rate_limits\",\"rate_limits\":\\{\"primary\":\\{\"used_percent\":-?[0-9]{1,9},\"reset_at\":[0-9]{1,20}\\}\\}\\}",
        ],
        now in prop_oneof![Just(NOW.0), any::<i64>()],
    ) {
        let now = UnixMillis(now);
        let headers = Headers::of(values.iter().map(|(at, value)| (NAMES[*at], value.as_str())));
        let mut all = readings(&headers, now);
        all.extend(readings_of_json(body.as_bytes(), now));
        for reading in all {
            prop_assert!((0.0..=1.0).contains(&reading.used));
            prop_assert!(reading.resets_at.is_none_or(|at| now < at && at <= now.plus(RESET_MAX)));
        }
        let wait = stated_wait(&headers, body.as_bytes(), now);
        prop_assert!(wait.is_none_or(|at| now < at && at <= now.plus(STATED_MAX)));
    }
}
