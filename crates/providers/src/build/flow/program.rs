//! A method of kind `program`: the rules by which the answers of a plugin's program are kept.

use tokensink_oauth::identity::IdentitySource;
use tokensink_oauth::pkce::VerifierEncoding;
use tokensink_types::CredentialKind;

use super::{positive, required_identity, rotation};
use crate::build::section::Section;
use crate::definition::{Identity, OAuthClient, ProgramFlow, RequestShape, Setting};
use crate::problem::Problems;

pub(super) fn build(method: &Section<'_>, problems: &mut Problems) -> Option<ProgramFlow> {
    let fix = "name the plugin whose program logs in, for example plugin = \"rig-login\"";
    let plugin = method.require_text("plugin", fix, problems)?;
    let plugin = plugin.trim().to_lowercase();
    let id = method.text("id").unwrap_or_default();
    Some(ProgramFlow {
        // It stands in the store where a provider has several methods, so that a grant finds its own again.
        client: client(method, Setting::Literal(format!("plugin:{plugin}:{id}"))),
        plugin,
    })
}

fn client(method: &Section<'_>, client_id: Setting) -> OAuthClient {
    OAuthClient {
        client_id,
        client_secret: None,
        issuer: None,
        trusted_domains: Vec::new(),
        token_endpoint: None,
        revocation_endpoint: None,
        userinfo_endpoint: None,
        scopes: Vec::new(),
        scopes_env: None,
        verifier: VerifierEncoding::Base64Url,
        exchange: RequestShape::default(),
        refresh: RequestShape::default(),
        revocation: RequestShape::default(),
        identity: identity(method),
        fields: method.pairs("fields"),
        stores: method
            .word("stores", CredentialKind::parse)
            .unwrap_or(CredentialKind::OAuth),
        rotation: rotation(method),
        replay_grace: method.seconds("replay_grace_seconds").unwrap_or_default(),
        // A program says itself that a grant is over.
        terminal_errors: Vec::new(),
        default_life: positive(method.seconds("default_life_seconds")),
        expiry_buffer: method.seconds("expiry_buffer_seconds").unwrap_or_default(),
        idle_limit: positive(method.seconds("idle_limit_seconds")),
        runtime_key: None,
    }
}

/// Where the protocol has the account: `{"type": "result", "account": {"id": ..., "email": ...}}`.
fn identity(method: &Section<'_>) -> Identity {
    let at = |pointer: &str| vec![pointer.to_owned()];
    Identity {
        from: vec![IdentitySource::Response],
        account: at("/account/id"),
        email: at("/account/email"),
        plan: at("/account/plan"),
        subject: at("/account/subject"),
        required: required_identity(method),
    }
}
