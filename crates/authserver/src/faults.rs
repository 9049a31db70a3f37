//! What goes wrong, and when: a script of faults that the server plays, so that a test decides which answer is lost.
//! A fault is chosen by what the request asks for and by its place in line, never by time or chance.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a path serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `/oauth/authorize` (RFC 6749 section 3.1).
    Authorization,
    /// `/oauth/token` and `/v1/oauth/token` (RFC 6749 section 3.2).
    Token,
    /// `/oauth/device/code` (RFC 8628 section 3.1) and OpenAI's `/api/accounts/deviceauth/usercode`.
    DeviceAuthorization,
    /// OpenAI's `/api/accounts/deviceauth/token`, where a device polls.
    DevicePoll,
    /// `/approve` and OpenAI's `/codex/device`, where the user types the user code.
    Verification,
    /// `/oauth/revoke` and `/v1/oauth/token/revoke` (RFC 7009).
    Revocation,
    /// `/userinfo`.
    Userinfo,
    /// `/.well-known/oauth-authorization-server` (RFC 8414) and `/.well-known/openid-configuration`.
    Metadata,
    /// `/v1/models`: stands for the API that access tokens are for.
    Api,
    /// No path that is served.
    Unknown,
}

impl Endpoint {
    /// What `path` serves.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path {
            "/oauth/authorize" => Self::Authorization,
            "/oauth/token" | "/v1/oauth/token" => Self::Token,
            "/oauth/device/code" | "/api/accounts/deviceauth/usercode" => Self::DeviceAuthorization,
            "/api/accounts/deviceauth/token" => Self::DevicePoll,
            "/approve" | "/codex/device" => Self::Verification,
            "/oauth/revoke" | "/v1/oauth/token/revoke" => Self::Revocation,
            "/userinfo" => Self::Userinfo,
            "/.well-known/oauth-authorization-server" | "/.well-known/openid-configuration" => Self::Metadata,
            "/v1/models" => Self::Api,
            _ => Self::Unknown,
        }
    }
}

/// What a token request asks for (`grant_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// RFC 6749 section 4.1.3.
    AuthorizationCode,
    /// RFC 6749 section 6.
    RefreshToken,
    /// RFC 8628 section 3.4.
    DeviceCode,
    /// Anything else, a missing one included.
    Other,
}

impl GrantType {
    pub(crate) fn of(word: Option<&str>) -> Self {
        match word {
            Some("authorization_code") => Self::AuthorizationCode,
            Some("refresh_token") => Self::RefreshToken,
            Some("urn:ietf:params:oauth:grant-type:device_code") => Self::DeviceCode,
            _ => Self::Other,
        }
    }

    /// The word used in the ledger and in fault scripts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::DeviceCode => "device_code",
            Self::Other => "other",
        }
    }
}

/// One thing that goes wrong. A field that is not set matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Only requests to this endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Only token requests of this grant type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantType>,
    /// Which of the matching requests that are free of other faults, counted from when the fault was set: 1 is the
    /// next one.
    #[serde(default = "one")]
    pub nth: u32,
    /// How many matching requests it hits from there on.
    #[serde(default = "one")]
    pub times: u32,
    /// What happens.
    pub action: FaultAction,
}

fn one() -> u32 {
    1
}

impl Fault {
    /// `action` for the next request to `endpoint`.
    #[must_use]
    pub fn at(endpoint: Endpoint, action: FaultAction) -> Self {
        Self {
            endpoint: Some(endpoint),
            grant: None,
            nth: 1,
            times: 1,
            action,
        }
    }

    /// `action` for the next refresh.
    #[must_use]
    pub fn on_refresh(action: FaultAction) -> Self {
        Self::on_grant(GrantType::RefreshToken, action)
    }

    /// `action` for the next token request of this grant type.
    #[must_use]
    pub fn on_grant(grant: GrantType, action: FaultAction) -> Self {
        Self {
            grant: Some(grant),
            ..Self::at(Endpoint::Token, action)
        }
    }

    /// The same fault for the `nth` matching request, counted from 1; 0 counts as 1.
    #[must_use]
    pub fn nth(mut self, nth: u32) -> Self {
        self.nth = nth;
        self
    }

    /// The same fault for `times` matching requests in a row.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    fn matches(&self, endpoint: Endpoint, grant: Option<GrantType>) -> bool {
        self.endpoint.is_none_or(|wanted| wanted == endpoint)
            && self.grant.is_none_or(|wanted| Some(wanted) == grant)
    }
}

/// What happens to a request or to its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultAction {
    /// The request is not handled; this is the answer.
    Status {
        /// HTTP status, 200 to 599.
        status: u16,
        /// Body, sent as JSON.
        #[serde(default)]
        body: String,
    },
    /// The request is not handled; the answer asks to come back later (RFC 9110 section 10.2.3).
    RetryAfter {
        /// Seconds to wait.
        seconds: u64,
        /// HTTP status.
        #[serde(default = "too_many_requests")]
        status: u16,
    },
    /// The request is not handled; the answer sends the client elsewhere with the same request (RFC 9110 section
    /// 15.4.8). A token endpoint never does (RFC 9700 section 4.12): who follows gives the refresh token away.
    Redirect {
        /// `location` of the answer.
        location: String,
    },
    /// The connection is closed and the request is not handled: nothing was spent.
    CutBeforeHandling,
    /// The request is handled, and the connection is closed before the first byte of the answer.
    CutBeforeAnswer,
    /// The request is handled, and the connection is closed after so many bytes of the answer, its head counted.
    CutAfterBytes {
        /// How many bytes go out.
        bytes: usize,
    },
    /// Status 200 with bytes that are no JSON.
    Garbage {
        /// Whether the request was handled before its answer was spoiled.
        #[serde(default = "yes")]
        handled: bool,
    },
    /// The request is handled, and its answer is held back until it is released.
    Hold,
    /// The answer is for another account (its `sub`, e-mail address or account id).
    WrongAccount {
        /// Whose tokens are issued instead.
        account: String,
    },
    /// These members are left out of the token answer. Without `refresh_token` nothing is rotated.
    Omit {
        /// Names such as `refresh_token`, `expires_in`, `id_token`.
        fields: Vec<String>,
    },
    /// The token answer gets one more member of this many bytes.
    HugeBody {
        /// Its size, 64 MiB at most.
        bytes: usize,
    },
}

fn too_many_requests() -> u16 {
    429
}

fn yes() -> bool {
    true
}

impl fmt::Display for FaultAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status { .. } => "status",
            Self::RetryAfter { .. } => "retry_after",
            Self::Redirect { .. } => "redirect",
            Self::CutBeforeHandling => "cut_before_handling",
            Self::CutBeforeAnswer => "cut_before_answer",
            Self::CutAfterBytes { .. } => "cut_after_bytes",
            Self::Garbage { .. } => "garbage",
            Self::Hold => "hold",
            Self::WrongAccount { .. } => "wrong_account",
            Self::Omit { .. } => "omit",
            Self::HugeBody { .. } => "huge_body",
        })
    }
}

/// The faults that are still to come, in the order in which they were set.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultScript(VecDeque<Fault>);

impl FaultScript {
    pub(crate) fn push(&mut self, fault: Fault) {
        self.0.push_back(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn remaining(&self) -> Vec<Fault> {
        self.0.iter().cloned().collect()
    }

    /// The fault for this request, if there is one. Of several that are due the oldest is played and the others keep
    /// their turn; each fault that is not yet due is one request nearer.
    pub(crate) fn take(&mut self, endpoint: Endpoint, grant: Option<GrantType>) -> Option<FaultAction> {
        let mut due = None;
        for (index, fault) in self.0.iter_mut().enumerate() {
            if !fault.matches(endpoint, grant) {
                continue;
            }
            if fault.nth > 1 {
                fault.nth -= 1;
            } else if due.is_none() {
                due = Some(index);
            }
        }
        let index = due?;
        let fault = self.0.get_mut(index)?;
        if fault.times > 1 {
            fault.times -= 1;
            return Some(fault.action.clone());
        }
        self.0.remove(index).map(|fault| fault.action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> FaultAction {
        FaultAction::Status {
            status,
            body: String::new(),
        }
    }

    #[test]
    fn faults_wait_for_their_turn() {
        let refresh = (Endpoint::Token, Some(GrantType::RefreshToken));
        type Case = (&'static str, Vec<Fault>, Vec<Option<u16>>);
        let cases: [Case; 5] = [
            ("one", vec![Fault::on_refresh(status(500))], vec![Some(500), None]),
            (
                "nth",
                vec![Fault::on_refresh(status(500)).nth(3)],
                vec![None, None, Some(500), None],
            ),
            (
                "two due at once play one after the other",
                vec![Fault::on_refresh(status(500)), Fault::on_refresh(status(501))],
                vec![Some(500), Some(501), None],
            ),
            (
                "times",
                vec![Fault::on_refresh(status(500)).times(2)],
                vec![Some(500), Some(500), None],
            ),
            (
                "others do not match",
                vec![
                    Fault::at(Endpoint::Api, status(500)),
                    Fault::on_grant(GrantType::DeviceCode, status(501)),
                ],
                vec![None, None],
            ),
        ];
        for (name, faults, want) in cases {
            let mut script = FaultScript::default();
            for fault in faults {
                script.push(fault);
            }
            for (turn, want) in want.into_iter().enumerate() {
                let got = script.take(refresh.0, refresh.1);
                assert_eq!(got, want.map(status), "{name}, request {turn}");
            }
        }
    }

    #[test]
    fn the_script_is_json() {
        let text = r#"[
            {"action": {"kind": "cut_before_answer"}, "grant": "refresh_token", "nth": 2},
            {"action": {"kind": "status", "status": 503}, "endpoint": "api", "times": 4},
            {"action": {"kind": "retry_after", "seconds": 7}},
            {"action": {"kind": "garbage"}}
        ]"#;
        let faults: Vec<Fault> = serde_json::from_str(text).unwrap();
        assert_eq!(
            faults[0],
            Fault {
                endpoint: None,
                ..Fault::on_refresh(FaultAction::CutBeforeAnswer).nth(2)
            }
        );
        assert_eq!(faults[1], Fault::at(Endpoint::Api, status(503)).times(4));
        assert_eq!(
            faults[2].action,
            FaultAction::RetryAfter {
                seconds: 7,
                status: 429
            }
        );
        assert_eq!(faults[3].action, FaultAction::Garbage { handled: true });
        let error = serde_json::from_str::<Fault>(r#"{"action": {"kind": "hang"}}"#).unwrap_err();
        assert!(error.to_string().contains("expected one of `status`"), "{error}");
    }
}
