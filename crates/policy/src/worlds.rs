//! Small worlds for the tests of this crate.

use tokensink_types::{AgentId, BillingClass, CredentialKind, Expiry, ProfileId, ProviderId, UnixMillis};

use crate::{
    Candidate, Config, ConfigProfile, CredentialFacts, CredentialForm, Inline, Material, References, State,
    Usage,
};

/// The present in every test.
pub(crate) const NOW: UnixMillis = UnixMillis(1_780_000_000_000);

/// `ms` after [`NOW`].
pub(crate) fn later(ms: i64) -> UnixMillis {
    UnixMillis(NOW.0 + ms)
}

pub(crate) fn provider(text: &str) -> ProviderId {
    ProviderId::parse(text).unwrap()
}

pub(crate) fn id(text: &str) -> ProfileId {
    ProfileId::parse(text).unwrap()
}

pub(crate) fn ids(list: &[&str]) -> Vec<ProfileId> {
    list.iter().map(|text| id(text)).collect()
}

pub(crate) const VALUE: Material = Material {
    inline: Inline::Value,
    reference: false,
};
pub(crate) const REFERENCE: Material = Material {
    inline: Inline::Absent,
    reference: true,
};
pub(crate) const NOTHING: Material = Material {
    inline: Inline::Absent,
    reference: false,
};

pub(crate) fn api_key() -> CredentialForm {
    CredentialForm::ApiKey(VALUE)
}

pub(crate) fn token(expires: Expiry) -> CredentialForm {
    CredentialForm::Token {
        token: VALUE,
        expires,
    }
}

pub(crate) fn oauth(expires: Option<UnixMillis>) -> CredentialForm {
    CredentialForm::OAuth {
        access: true,
        refresh: true,
        expires,
    }
}

pub(crate) fn candidate(profile: &str, of: &str, form: CredentialForm) -> Candidate {
    Candidate {
        id: id(profile),
        owner: AgentId::main(),
        inherited: false,
        facts: CredentialFacts {
            provider: provider(of),
            form,
        },
        billing: BillingClass::Subscription,
        usage: Usage::default(),
        benches: crate::bench::Benches::default(),
        references: References::Unchecked,
        ref_fields: Vec::new(),
    }
}

pub(crate) fn cooling(mut candidate: Candidate, ms: i64) -> Candidate {
    candidate.usage.cooldown_until = Some(later(ms));
    candidate.usage.cooldown_reason = Some("rate_limit".to_owned());
    candidate
}

pub(crate) fn used(mut candidate: Candidate, at: i64) -> Candidate {
    candidate.usage.last_used = Some(UnixMillis(at));
    candidate
}

pub(crate) fn state(candidates: Vec<Candidate>) -> State {
    State {
        agent: AgentId::main(),
        order: crate::ProviderOrders::new(),
        candidates,
    }
}

pub(crate) fn config(profiles: &[(&str, &str, CredentialKind)]) -> Config {
    Config {
        profiles: profiles
            .iter()
            .map(|(profile, of, mode)| ConfigProfile {
                id: id(profile),
                provider: provider(of),
                mode: Some(*mode),
            })
            .collect(),
        ..Config::default()
    }
}
