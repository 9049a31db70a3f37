//! Tests of the crate as its callers use it.

mod built_in;
mod choices;
mod files;
mod merging;
mod requests;

use std::path::Path;

use tokensink_types::ProviderId;

use crate::{Definition, Problem, Registry, UserFile};

/// A small complete file.
const RIG: &str = r#"
id = "rig"
name = "Rig"
billing = "subscription"
env = ["RIG_API_KEY"]
[api]
kind = "openai-chat"
base_url = "http://127.0.0.1:9500/v1"
headers = { x-account = "{account_id}", x-static = "1" }
models = ["rig-small"]
[api.aliases]
small = "rig-small"
[[auth]]
id = "oauth"
kind = "pkce"
client_id = "rig"
authorization_endpoint = "http://127.0.0.1:9400/auth"
token_endpoint = "http://127.0.0.1:9400/token"
redirect_uri = "http://127.0.0.1:1455/auth/callback"
scopes = ["openid", "email", "offline_access"]
authorize_params = { prompt = "consent", audience = "rig" }
[[auth]]
id = "api-key"
kind = "api_key"
"#;

fn id(text: &str) -> ProviderId {
    ProviderId::parse(text).unwrap()
}

fn file(name: &str, text: &str) -> UserFile {
    UserFile {
        path: Path::new("/state/tokensink/providers").join(name),
        text: text.to_owned(),
    }
}

/// Loads files that must all hold.
fn load(files: &[UserFile]) -> Registry {
    let (registry, problems) = Registry::load(files);
    assert_eq!(problems, Vec::<Problem>::new());
    registry
}

fn definition<'a>(registry: &'a Registry, name: &str) -> &'a Definition {
    registry
        .get(&id(name))
        .unwrap_or_else(|| panic!("no provider {name}"))
}
