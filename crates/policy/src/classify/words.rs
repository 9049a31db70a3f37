//! The words by which the classes of spec.md 7.5 are known, in lower case.

use super::matching::Test;

pub(super) const CONTEXT: Test = Test::Either(
    &Test::Has(&[
        "context length",
        "context window",
        "context_window",
        "context size",
        "context limit",
        "maximum context",
        "prompt is too long",
        "prompt too long",
        "input is too long",
        "input length and `max_tokens` exceed",
        "request_too_large",
        "too many input tokens",
        "exceeds the maximum number of tokens",
        "input token count",
        "reduce the length of the messages",
        "超出最大长度",
    ]),
    &Test::Code(&[
        "context_length_exceeded",
        "string_above_max_length",
        "request_too_large",
    ]),
);

pub(super) const SESSION: Test = Test::Has(&[
    "session expired",
    "session has expired",
    "session not found",
    "conversation not found",
    "no conversation found",
    "session does not exist",
    "previous response with id",
    "item with id",
]);

pub(super) const MODEL: Test = Test::Either(
    &Test::Has(&[
        "model not found",
        "model_not_found",
        "unknown model",
        "no such model",
        "is not a valid model",
        "invalid model name",
        "no endpoints found for",
        "does not exist or you do not have access to it",
        "not supported when using codex with a chatgpt account",
        "model does not exist",
        "model is not supported",
        "does not have access to model",
        "requested model is not supported",
        "not found for api version",
        "模型不存在",
    ]),
    &Test::Both(
        &Test::Has(&["model:", "model `", "models/", "model '"]),
        &Test::Has(&["not_found", "not found", "does not exist"]),
    ),
);

pub(super) const BILLING_WORDS: Test = Test::Has(&[
    "payment required",
    "insufficient credit",
    "insufficient balance",
    "insufficient_balance",
    "insufficient quota",
    "insufficient_quota",
    "insufficient account balance",
    "credit balance",
    "plans & billing",
    "requires more credits",
    "add more credits",
    "out of extra usage",
    "extra usage is required",
    "billing_hard_limit",
    "billing hard limit",
    "billing_not_active",
    "exceeded_current_quota_error",
    "suspended due to insufficient",
    "余额不足",
    "欠费",
    "arrearage",
    "top up",
]);
pub(super) const BILLING_AND: Test = Test::Both(
    &Test::Word(&["billing"]),
    &Test::Has(&["upgrade", "credits", "payment", "plan", "not active"]),
);
pub(super) const BILLING: Test = Test::Either(&BILLING_WORDS, &BILLING_AND);

pub(super) const SWITCHED_OFF: Test = Test::Has(&[
    "key has been revoked",
    "key has been disabled",
    "key has been deactivated",
    "key has been deleted",
    "key was revoked",
    "key revoked",
    "key is disabled",
    "key_revoked",
    "key deactivated",
    "key deleted",
    "account has been deactivated",
    "account_deactivated",
    "account is deactivated",
    "account has been suspended",
    "account has been disabled",
    "organization has been disabled",
    "organization has been deactivated",
    "not allowed for this organization",
    "access terminated",
    "reported as leaked",
]);

pub(super) const RATE: Test = Test::Either(
    &Test::Has(&[
        "rate limit",
        "rate_limit",
        "rate-limit",
        "ratelimit",
        "too many requests",
        "too_many_requests",
        "exceeded your current quota",
        "resource has been exhausted",
        "resource_exhausted",
        "quota exceeded",
        "quota_exceeded",
        "exceeded quota",
        "usage limit",
        "usage_limit_reached",
        "too many concurrent requests",
        "throttl",
        "model_cooldown",
        "tokens per minute",
        "tokens per day",
        "requests per minute",
        "请求过于频繁",
        "访问量过大",
        "速率限制",
        "并发数过高",
    ]),
    &Test::Word(&["429", "tpm", "rpm"]),
);

pub(super) const OVERLOADED: Test = Test::Either(
    &Test::Has(&[
        "overloaded",
        "at capacity",
        "high demand",
        "high load",
        "no capacity",
        "capacity exceeded",
        "engine_overloaded",
        "server is busy",
        "系统繁忙",
    ]),
    &Test::Both(
        &Test::Has(&["service unavailable"]),
        &Test::Has(&["overload", "capacity"]),
    ),
);

pub(super) const AUTH: Test = Test::Either(
    &Test::Has(&[
        "invalid api key",
        "invalid_api_key",
        "incorrect api key",
        "api key not valid",
        "api_key_invalid",
        "invalid token",
        "invalid_token",
        "invalid access token",
        "invalid authorization",
        "invalid x-api-key",
        "authentication",
        "unauthenticated",
        "re-authenticate",
        "oauth token refresh failed",
        "unauthorized",
        "forbidden",
        "access denied",
        "permission_error",
        "permission denied",
        "permission_denied",
        "insufficient permission",
        "missing scope",
        "insufficient scope",
        "token has expired",
        "token expired",
        "token is expired",
        "has expired",
        "no credentials found",
        "no api key found",
        "no cookie auth",
        "could not authenticate",
        "could not validate",
        "user not found",
        "failed to extract accountid from token",
        "failed to parse token",
        "failed to validate token",
        "failed to decode token",
        "身份验证",
        "令牌",
    ]),
    &Test::Word(&["401", "403"]),
);

/// A scope that the credential lacks.
pub(super) const SCOPE: Test = Test::Has(&["missing scope", "does not meet scope requirement"]);

/// Scopes without which no model can be asked.
pub(super) const SCOPE_OF_MODELS: Test =
    Test::Has(&["model.request", "api.responses.write", "user:inference"]);

pub(super) const NETWORK_CODES: &[&str] = &[
    "etimedout",
    "esockettimedout",
    "econnreset",
    "econnaborted",
    "econnrefused",
    "enetunreach",
    "ehostunreach",
    "ehostdown",
    "enetreset",
    "epipe",
    "eai_again",
    "enotfound",
    "und_err_socket",
    "und_err_connect_timeout",
    "und_err_headers_timeout",
    "und_err_body_timeout",
    "err_stream_premature_close",
];
