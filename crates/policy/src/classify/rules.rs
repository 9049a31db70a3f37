//! The table of rules, in the order in which they are asked (spec.md 7.2 to 7.5, age C2).
//!
//! First what holds whatever the status says, then the status, then the codes, then the words. A status that says
//! nothing by itself (400, 422) and a failure without one go on to codes and words. Where the request may be at fault,
//! words that it wrote itself bench nobody (`echo.rs`).

use super::matching::{Test, When};
use super::words::{
    AUTH, BILLING, BILLING_WORDS, CONTEXT, MODEL, NETWORK_CODES, OVERLOADED, RATE, SCOPE, SCOPE_OF_MODELS,
    SESSION, SWITCHED_OFF,
};
use super::{Failure, Reason};

/// One rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its id, which stands in decisions and never changes its meaning.
    pub id: &'static str,
    /// What it decides.
    pub reason: Reason,
    /// Providers that it is for; empty for all.
    providers: &'static [&'static str],
    when: When,
    test: Test,
}

impl Rule {
    /// Does it decide this failure?
    pub(super) fn matches(&self, failure: &Failure<'_>) -> bool {
        let provider = failure.provider.as_str();
        self.when.is(failure.status)
            && (self.providers.is_empty() || self.providers.contains(&provider))
            && self.test.holds(failure, failure.words(self.reason))
    }
}

const fn rule(id: &'static str, reason: Reason, when: When, test: Test) -> Rule {
    Rule {
        id,
        reason,
        providers: &[],
        when,
        test,
    }
}

const fn rule_of(
    id: &'static str,
    reason: Reason,
    providers: &'static [&'static str],
    when: When,
    test: Test,
) -> Rule {
    Rule {
        id,
        reason,
        providers,
        when,
        test,
    }
}

const DENIED: When = When::Status(&[401, 403]);
const MISSING: When = When::Status(&[404]);
const GONE: When = When::Status(&[410]);
const PAYMENT: When = When::Status(&[402]);

/// The rules, in order. Each has a case in the corpus that fails without it.
pub const RULES: &[Rule] = &[
    // Whatever the status says.
    rule(
        "claude-code-only",
        Reason::Refused,
        When::Always,
        Test::Has(&["only authorized for use with claude code"]),
    ),
    rule(
        "unsupported-region",
        Reason::Refused,
        When::Always,
        Test::Has(&[
            "unsupported_country_region_territory",
            "user location is not supported",
            "not available in your country",
            "not available in your region",
        ]),
    ),
    rule(
        "image-limits",
        Reason::Format,
        When::Status(&[400, 413, 422]),
        Test::Has(&[
            "image dimensions exceed",
            "image exceeds",
            "image size exceeds",
            "could not process image",
            "invalid image",
            "unable to process input image",
            "unsupported image",
        ]),
    ),
    // What a server said of a file that the request names is no word on the account.
    rule(
        "download",
        Reason::Format,
        When::Status(&[400, 422]),
        Test::Has(&[
            "error while downloading",
            "failed to download",
            "unable to download",
            "could not download",
        ]),
    ),
    rule_of(
        "zai-balance",
        Reason::Billing,
        &["zai"],
        When::Always,
        Test::Code(&["1311"]),
    ),
    rule_of(
        "zai-account",
        Reason::Auth,
        &["zai"],
        When::Always,
        Test::Code(&["1113"]),
    ),
    rule_of(
        "openai-out-of-quota",
        Reason::Billing,
        &["openai"],
        When::Status(&[429]),
        Test::Code(&["insufficient_quota", "billing_hard_limit_reached"]),
    ),
    rule_of(
        "moonshot-out-of-quota",
        Reason::Billing,
        &["moonshot", "kimi"],
        When::Status(&[429]),
        Test::Code(&["exceeded_current_quota_error"]),
    ),
    rule(
        "edge-challenge",
        Reason::Timeout,
        When::Status(&[403, 429, 503]),
        Test::Has(&[
            "just a moment...",
            "attention required! | cloudflare",
            "cf-error-details",
            "sorry, you have been blocked",
        ]),
    ),
    // 401 and 403.
    rule("denied-switched-off", Reason::AuthPermanent, DENIED, SWITCHED_OFF),
    rule("denied-billing", Reason::Billing, DENIED, BILLING),
    rule("denied-model", Reason::ModelNotFound, When::Status(&[403]), MODEL),
    rule(
        "denied-rate",
        Reason::RateLimit,
        When::Status(&[403]),
        Test::Either(
            &Test::Has(&[
                "secondary rate limit",
                "ratelimitexceeded",
                "userratelimitexceeded",
                "quotaexceeded",
                "rate limit exceeded",
                "quota exceeded",
            ]),
            &Test::Code(&["rate_limit_exceeded"]),
        ),
    ),
    // A key that may not do this one thing does the others, so nobody is benched for it; another key may do it. Where it
    // may not ask models, it is of no use, and that is a denial like others.
    rule(
        "denied-scope",
        Reason::NotPermitted,
        DENIED,
        Test::Both(
            &Test::Either(&SCOPE, &Test::Code(&["missing_scope", "missing_scopes"])),
            &Test::Not(&SCOPE_OF_MODELS),
        ),
    ),
    rule(
        "denied-operation",
        Reason::NotPermitted,
        When::Status(&[403]),
        Test::Both(
            &Test::Either(
                &Test::Has(&["insufficient permissions for this operation"]),
                &Test::Code(&["insufficient_scope", "insufficient_permissions"]),
            ),
            &Test::Not(&SCOPE_OF_MODELS),
        ),
    ),
    rule("denied", Reason::Auth, DENIED, Test::Any),
    // 402 (spec.md 7.4).
    rule(
        "payment-refresh-window",
        Reason::RateLimit,
        PAYMENT,
        Test::Both(
            &Test::Has(&["subscription quota limit", "subscription limit", "quota window"]),
            &Test::Has(&["automatic", "rolling window", "refreshes"]),
        ),
    ),
    rule("payment-billing", Reason::Billing, PAYMENT, BILLING_WORDS),
    rule(
        "payment-plan-limit",
        Reason::Billing,
        PAYMENT,
        Test::Both(
            &Test::Has(&["limit"]),
            &Test::Has(&[
                "upgrade",
                "current plan",
                "hard limit",
                "maximum allowed limit",
                "key limit",
            ]),
        ),
    ),
    rule("payment-rate", Reason::RateLimit, PAYMENT, RATE),
    rule(
        "payment-period",
        Reason::RateLimit,
        PAYMENT,
        Test::Both(
            &Test::Has(&[
                "daily",
                "weekly",
                "monthly",
                "organization",
                "organisation",
                "workspace",
                "try again",
                "retry",
            ]),
            &Test::Has(&[
                "spend limit",
                "limit exceeded",
                "limit reached",
                "limit exhausted",
                "limit has been",
                "reset",
            ]),
        ),
    ),
    rule("payment", Reason::Billing, PAYMENT, Test::Any),
    // 404.
    rule("missing-context", Reason::ContextOverflow, MISSING, CONTEXT),
    rule("missing-session", Reason::SessionExpired, MISSING, SESSION),
    rule("missing-model", Reason::ModelNotFound, MISSING, MODEL),
    rule("missing-billing", Reason::Billing, MISSING, BILLING),
    rule(
        "missing-switched-off",
        Reason::AuthPermanent,
        MISSING,
        SWITCHED_OFF,
    ),
    rule("missing-auth", Reason::Auth, MISSING, AUTH),
    rule("missing", Reason::ModelNotFound, MISSING, Test::Any),
    // The other statuses.
    rule(
        "request-timeout",
        Reason::Timeout,
        When::Status(&[408]),
        Test::Any,
    ),
    rule("conflict", Reason::Timeout, When::Status(&[409, 425]), Test::Any),
    rule("gone-session", Reason::SessionExpired, GONE, SESSION),
    rule("gone-model", Reason::ModelNotFound, GONE, MODEL),
    rule("gone-billing", Reason::Billing, GONE, BILLING),
    rule("gone-switched-off", Reason::AuthPermanent, GONE, SWITCHED_OFF),
    rule("gone-auth", Reason::Auth, GONE, AUTH),
    rule("gone", Reason::Timeout, GONE, Test::Any),
    rule(
        "too-large",
        Reason::ContextOverflow,
        When::Status(&[413]),
        Test::Any,
    ),
    rule("too-many", Reason::RateLimit, When::Status(&[429]), Test::Any),
    rule("legal", Reason::Refused, When::Status(&[451]), Test::Any),
    rule(
        "closed-overloaded",
        Reason::Overloaded,
        When::Status(&[499]),
        OVERLOADED,
    ),
    rule("closed", Reason::Timeout, When::Status(&[499]), Test::Any),
    rule(
        "unavailable-overloaded",
        Reason::Overloaded,
        When::Status(&[503]),
        OVERLOADED,
    ),
    rule("overloaded", Reason::Overloaded, When::Status(&[529]), Test::Any),
    rule("server", Reason::Timeout, When::Hundred(5), Test::Any),
    rule(
        "open-empty",
        Reason::Unclassified,
        When::Status(&[400, 422]),
        Test::Empty,
    ),
    // Codes (spec.md 7.3).
    rule(
        "code-network",
        Reason::Timeout,
        When::Open,
        Test::Code(NETWORK_CODES),
    ),
    rule(
        "code-rate",
        Reason::RateLimit,
        When::Open,
        Test::Code(&[
            "resource_exhausted",
            "rate_limit",
            "rate_limited",
            "rate_limit_exceeded",
            "rate_limit_error",
            "too_many_requests",
            "throttled",
            "throttling",
            "throttlingexception",
            "throttling_exception",
        ]),
    ),
    rule(
        "code-overloaded",
        Reason::Overloaded,
        When::Open,
        Test::Code(&["overloaded", "overloaded_error"]),
    ),
    // Words (spec.md 7.5, in the order of C2).
    rule("words-session", Reason::SessionExpired, When::Open, SESSION),
    rule("words-model", Reason::ModelNotFound, When::Open, MODEL),
    rule("words-context", Reason::ContextOverflow, When::Open, CONTEXT),
    rule(
        "words-key-limit",
        Reason::Billing,
        When::Open,
        Test::Has(&["key limit exceeded"]),
    ),
    rule(
        "words-period-billing",
        Reason::Billing,
        When::Open,
        Test::Both(
            &Test::Both(
                &Test::Has(&["daily", "weekly", "monthly"]),
                &Test::Has(&[
                    "usage limit",
                    "limit reached",
                    "limit exhausted",
                    "limit exceeded",
                ]),
            ),
            &BILLING,
        ),
    ),
    rule(
        "words-period",
        Reason::RateLimit,
        When::Open,
        Test::Both(
            &Test::Has(&["daily", "weekly", "monthly", "5-hour", "5 hour", "five-hour"]),
            &Test::Has(&[
                "usage limit",
                "limit reached",
                "limit exhausted",
                "limit exceeded",
                "hit your",
            ]),
        ),
    ),
    rule("words-rate", Reason::RateLimit, When::Open, RATE),
    rule("words-overloaded", Reason::Overloaded, When::Open, OVERLOADED),
    rule(
        "words-http",
        Reason::Timeout,
        When::Open,
        Test::Word(&["500", "502", "503", "504", "520", "521", "522", "523", "524"]),
    ),
    rule(
        "words-billing",
        Reason::Billing,
        When::Open,
        // Longer texts quote conversations, in which people talk of bills.
        Test::Either(
            &Test::Both(&Test::Within(512), &BILLING),
            &Test::Both(&Test::Word(&["402"]), &BILLING),
        ),
    ),
    rule(
        "words-switched-off",
        Reason::AuthPermanent,
        When::Open,
        SWITCHED_OFF,
    ),
    rule("words-auth", Reason::Auth, When::Open, AUTH),
    rule(
        "words-stream",
        Reason::Timeout,
        When::Open,
        Test::Has(&[
            "an unknown error occurred",
            "stream ended before",
            "stream closed",
            "stream aborted",
        ]),
    ),
    rule_of(
        "openrouter-upstream",
        Reason::Timeout,
        &["openrouter"],
        When::Open,
        Test::Has(&["provider returned error"]),
    ),
    rule(
        "words-server",
        Reason::Timeout,
        When::Open,
        Test::Has(&[
            "an error occurred while processing",
            "internal server error",
            "internal_error",
            "internal_server_error",
            "server_error",
            "api_error",
            "service temporarily unavailable",
            "service unavailable",
            "bad gateway",
            "gateway timeout",
            "gateway time-out",
            "upstream error",
            "upstream connect error",
        ]),
    ),
    rule(
        "words-format",
        Reason::Format,
        When::Open,
        Test::Has(&[
            "string should match pattern",
            "tool_use.id",
            "tool_use_id",
            "tool_call_id",
            "tool call id was",
            "invalid request format",
            "invalid_request_error",
            "invalid_argument",
            "unexpected role",
        ]),
    ),
    rule(
        "words-no-details",
        Reason::NoErrorDetails,
        When::Open,
        Test::Has(&["unknown error (no error details in response)"]),
    ),
    rule(
        "words-timeout",
        Reason::Timeout,
        When::Open,
        Test::Has(&[
            "timeout",
            "timed out",
            "deadline exceeded",
            "deadline_exceeded",
            "connection error",
            "connection reset",
            "connection refused",
            "connection closed",
            "network error",
            "fetch failed",
            "socket hang up",
            "request failed",
            "request was aborted",
            "premature close",
            "terminated",
            "getaddrinfo",
            "no connection",
            "certificate",
        ]),
    ),
    // A request that was refused without a word that is known.
    rule("malformed", Reason::Format, When::Hundred(4), Test::Any),
];
