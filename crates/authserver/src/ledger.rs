//! What happened, counted: how often each grant was refreshed, which refresh token came twice, what was asked.
//! Holds no secrets; a token appears only as its [`fingerprint`].

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tokensink_types::{Secret, SpendKey};

use crate::faults::{Endpoint, GrantType};

/// Most requests that the log keeps; older ones are dropped, the counts stay exact.
const REQUESTS_MAX: usize = 10_000;

/// A label for a token that says nothing about it: the first 16 hexadecimal digits of its [`SpendKey`].
#[must_use]
pub fn fingerprint(token: &Secret) -> String {
    hex::encode(&SpendKey::of(token).0[..8])
}

/// The books of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// One record per grant, in the order of issue; a record's place is its family's number.
    pub families: Vec<FamilyRecord>,
    /// Token requests that arrived, by grant type ([`GrantType::as_str`]); faults do not matter.
    pub token_posts: BTreeMap<String, u64>,
    /// Refreshes that were granted, replays not counted.
    pub refreshes: u64,
    /// Spent refresh tokens that came again outside the grace.
    pub reuses: u64,
    /// Refreshes answered a second time within the grace.
    pub replays: u64,
    /// Families that were revoked, for any reason.
    pub revocations: u64,
    /// Refresh tokens refused because they had not been used for longer than the idle limit.
    pub idle_refusals: u64,
    /// API requests that were served.
    pub api_served: u64,
    /// API requests that were answered 401.
    pub api_refused: u64,
    /// Faults that were played.
    pub faults: u64,
    /// The last 10,000 requests; those to the control paths are not among them.
    pub requests: VecDeque<RequestRecord>,
    /// How many requests there were.
    pub requests_total: u64,
}

/// One grant and its chain of refresh tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyRecord {
    /// Who it belongs to (`sub`).
    pub account: String,
    /// The client that it was issued to.
    pub client_id: String,
    /// Scopes that were granted.
    pub scopes: Vec<String>,
    /// Refresh tokens issued, the first one included.
    pub generations: u64,
    /// Fingerprint of the newest refresh token.
    pub current: String,
    /// Refreshes that were granted, replays not counted.
    pub refreshes: u64,
    /// Spent refresh tokens of this family that came again outside the grace.
    pub reuses: u64,
    /// Refreshes answered a second time within the grace.
    pub replays: u64,
    /// Why it ended, if it did.
    pub revoked: Option<RevokedBecause>,
}

/// Why a family ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedBecause {
    /// A spent refresh token came again (RFC 9700 section 4.14).
    RefreshTokenReuse,
    /// Its authorization code came again (RFC 6749 section 4.1.2).
    CodeReuse,
    /// The client asked for it (RFC 7009).
    Client,
    /// The resource owner or the test ended it at the server.
    Owner,
}

impl RevokedBecause {
    /// For people.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::RefreshTokenReuse => "ended: a spent refresh token came again",
            Self::CodeReuse => "ended: its authorization code came again",
            Self::Client => "ended by the client",
            Self::Owner => "ended by its owner",
        }
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// When it was handled, in milliseconds since the Unix epoch.
    pub at: i64,
    /// HTTP method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// What the path serves.
    pub endpoint: Endpoint,
    /// Grant type of a token request.
    pub grant: Option<GrantType>,
    /// Client that the request named.
    pub client_id: Option<String>,
    /// `content-type` of the request, without parameters.
    pub content_type: Option<String>,
    /// `user-agent` of the request.
    pub user_agent: Option<String>,
    /// Fingerprint of the refresh token, code, device code, access token or API key that was presented.
    pub key: Option<String>,
    /// Status of the answer; none where the request was not handled and got no answer.
    pub status: Option<u16>,
    /// One word for the result: `issued`, `replayed`, `served`, or why it was refused.
    pub outcome: String,
    /// The fault that was played on it.
    pub fault: Option<String>,
}

impl Ledger {
    /// Token requests of this grant type, whatever became of them.
    #[must_use]
    pub fn posts(&self, grant: GrantType) -> u64 {
        self.token_posts.get(grant.as_str()).copied().unwrap_or(0)
    }

    /// The families of this account (`sub`), oldest first.
    pub fn families_of<'a>(&'a self, account: &'a str) -> impl Iterator<Item = &'a FamilyRecord> {
        self.families
            .iter()
            .filter(move |family| family.account == account)
    }

    /// The logged requests to this endpoint, oldest first.
    pub fn requests_to(&self, endpoint: Endpoint) -> impl Iterator<Item = &RequestRecord> {
        self.requests
            .iter()
            .filter(move |request| request.endpoint == endpoint)
    }

    pub(crate) fn record(&mut self, request: RequestRecord) {
        if let Some(grant) = request.grant {
            *self.token_posts.entry(grant.as_str().to_owned()).or_default() += 1;
        }
        self.faults += u64::from(request.fault.is_some());
        self.requests_total += 1;
        if self.requests.len() == REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    pub(crate) fn refreshed(&mut self, family: usize) {
        self.refreshes += 1;
        if let Some(record) = self.families.get_mut(family) {
            record.refreshes += 1;
        }
    }

    pub(crate) fn replayed(&mut self, family: usize) {
        self.replays += 1;
        if let Some(record) = self.families.get_mut(family) {
            record.replays += 1;
        }
    }

    pub(crate) fn reused(&mut self, family: usize) {
        self.reuses += 1;
        if let Some(record) = self.families.get_mut(family) {
            record.reuses += 1;
        }
    }

    /// Notes the end of a family; the first reason stays.
    pub(crate) fn revoked(&mut self, family: usize, because: RevokedBecause) {
        if let Some(record) = self.families.get_mut(family)
            && record.revoked.is_none()
        {
            record.revoked = Some(because);
            self.revocations += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> RequestRecord {
        RequestRecord {
            at: 0,
            method: "GET".to_owned(),
            path: path.to_owned(),
            endpoint: Endpoint::of(path),
            grant: None,
            client_id: None,
            content_type: None,
            user_agent: None,
            key: None,
            status: Some(200),
            outcome: "served".to_owned(),
            fault: None,
        }
    }

    #[test]
    fn the_log_is_bounded_and_the_count_is_not() {
        let mut ledger = Ledger::default();
        for _ in 0..=REQUESTS_MAX {
            ledger.record(request("/userinfo"));
        }
        ledger.record(request("/v1/models"));
        assert_eq!(ledger.requests.len(), REQUESTS_MAX);
        assert_eq!(ledger.requests_total, 10_002);
        assert_eq!(ledger.requests_to(Endpoint::Api).count(), 1);
    }

    #[test]
    fn a_fingerprint_tells_tokens_apart_and_gives_nothing_away() {
        let canary = fingerprint(&Secret::new("canary"));
        assert_eq!(canary.len(), 16);
        assert_eq!(canary, fingerprint(&Secret::new("canary")));
        assert_ne!(canary, fingerprint(&Secret::new("canary2")));
        assert!(!canary.contains("canary"));
    }
}
