//! A store on a host in memory, and credentials to put into it.

use std::collections::BTreeMap;

use tokensink_host::Host;
use tokensink_store::{FileStore, Paths};
use tokensink_testkit::{MapEnvironment, TestHost};
use tokensink_types::{
    Account, AgentId, ApiKey, Credential, Labels, OAuth, ProfileId, ProviderId, Secret, SecretSource,
    TokenSet, UnixMillis,
};

pub(crate) const MAIN: &str = "/s/agents/main/agent/auth-profiles.json";
pub(crate) const MAIN_STATE: &str = "/s/agents/main/agent/auth-state.json";

pub(crate) fn paths() -> Paths {
    Paths::resolve(&MapEnvironment::of([("OPENCLAW_STATE_DIR", "/s")])).unwrap()
}

pub(crate) fn store(test: &TestHost) -> FileStore {
    FileStore::new(test.host(), paths(), false)
}

pub(crate) fn store_on(host: Host) -> FileStore {
    FileStore::new(host, paths(), false)
}

pub(crate) fn main() -> AgentId {
    AgentId::main()
}

pub(crate) fn work() -> AgentId {
    AgentId::normalise("work")
}

pub(crate) fn id(text: &str) -> ProfileId {
    ProfileId::parse(text).unwrap()
}

pub(crate) fn provider(text: &str) -> ProviderId {
    ProviderId::parse(text).unwrap()
}

pub(crate) fn grant(name: &str, access: &str, refresh: &str) -> Credential {
    Credential::OAuth(OAuth {
        provider: provider(name),
        tokens: TokenSet {
            access: Secret::from(access),
            refresh: Some(Secret::from(refresh)),
            expires: Some(UnixMillis(5)),
            id_token: None,
        },
        account: Account::default(),
        client_id: None,
        fields: BTreeMap::new(),
        labels: Labels::default(),
    })
}

pub(crate) fn api_key(name: &str, key: &str) -> Credential {
    Credential::ApiKey(ApiKey {
        provider: provider(name),
        key: SecretSource::inline(Secret::from(key)),
        metadata: BTreeMap::new(),
        labels: Labels::default(),
    })
}
