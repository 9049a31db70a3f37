//! The authorization request (RFC 6749 section 4.1.1, RFC 7636 section 4.3): the URL that the user's browser opens.

use url::Url;

use crate::pkce::{CodeChallenge, StateParam};
use crate::request::{Extras, Fields};

/// Everything that goes into the URL. The order of the parameters is the one that providers see from OpenClaw
/// (spec.md 11.2): `leading`, then `response_type`, `client_id`, `redirect_uri`, `scope`, `code_challenge`,
/// `code_challenge_method`, `state`, then `extra`.
#[derive(Debug, Clone, Copy)]
pub struct AuthorizationRequest<'a> {
    /// The authorization endpoint; a query that it has already stays in front.
    pub endpoint: &'a Url,
    /// The client identifier.
    pub client_id: &'a str,
    /// Where the code is sent.
    pub redirect_uri: &'a str,
    /// What is asked for; none leaves the parameter out.
    pub scopes: &'a [String],
    /// The code challenge.
    pub challenge: &'a CodeChallenge,
    /// What the redirect must bring back.
    pub state: &'a StateParam,
    /// Parameters before all others (Anthropic's `code=true`).
    pub leading: Extras<'a>,
    /// Parameters after all others. One that stands there already takes the new value at its place.
    pub extra: Extras<'a>,
}

impl AuthorizationRequest<'_> {
    /// The URL. Spaces are written as `+`, as in forms. It holds the state, so it is shown to the user and kept out
    /// of logs.
    #[must_use]
    pub fn url(&self) -> Url {
        let scope = self.scopes.join(" ");
        let fields = Fields::default()
            .with(self.leading)
            .add("response_type", "code")
            .add("client_id", self.client_id)
            .add("redirect_uri", self.redirect_uri)
            .add("scope", &scope)
            .add("code_challenge", self.challenge.as_str())
            .add("code_challenge_method", CodeChallenge::METHOD)
            .add_secret("state", Some(self.state.secret()))
            .with(self.extra);
        let mut url = self.endpoint.clone();
        // RFC 6749 section 3.1: the endpoint has no fragment.
        url.set_fragment(None);
        url.query_pairs_mut().extend_pairs(fields.pairs());
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkce::CodeVerifier;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn codex_url_is_the_one_seen_live() {
        let verifier = CodeVerifier::received("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into());
        let request = AuthorizationRequest {
            endpoint: &Url::parse("https://auth.openai.com/oauth/authorize").unwrap(),
            client_id: "app_EMoamEEZ73f0CkXaXp7hrann",
            redirect_uri: "http://localhost:1455/auth/callback",
            scopes: &words("openid profile email offline_access"),
            challenge: &CodeChallenge::s256(&verifier),
            state: &StateParam::hex([0x5a; 16]),
            leading: &[],
            extra: &pairs(&[
                ("id_token_add_organizations", "true"),
                ("codex_cli_simplified_flow", "true"),
                ("originator", "openclaw"),
            ]),
        };
        assert_eq!(
            request.url().as_str(),
            "https://auth.openai.com/oauth/authorize?response_type=code&client_id=app_EMoamEEZ73f0CkXaXp7hrann\
             &redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback\
             &scope=openid+profile+email+offline_access\
             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256\
             &state=5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a&id_token_add_organizations=true\
             &codex_cli_simplified_flow=true&originator=openclaw"
        );
    }

    #[test]
    fn anthropic_leads_with_code_and_uses_the_verifier_as_state() {
        let verifier = CodeVerifier::received("verifier".into());
        let request = AuthorizationRequest {
            endpoint: &Url::parse("https://claude.ai/oauth/authorize").unwrap(),
            client_id: "cid",
            redirect_uri: "https://console.anthropic.com/oauth/code/callback",
            scopes: &words("org:create_api_key user:profile user:inference"),
            challenge: &CodeChallenge::s256(&verifier),
            state: &StateParam::from_verifier(&verifier),
            leading: &pairs(&[("code", "true")]),
            extra: &[],
        };
        let url = request.url();
        assert!(url.as_str().starts_with(
            "https://claude.ai/oauth/authorize?code=true&response_type=code&client_id=cid&redirect_uri=https%3A"
        ));
        assert!(
            url.as_str()
                .contains("&scope=org%3Acreate_api_key+user%3Aprofile+user%3Ainference&")
        );
        assert!(
            url.as_str()
                .ends_with("&code_challenge_method=S256&state=verifier")
        );
    }

    #[test]
    fn query_stays_fragment_goes_and_extras_replace_in_place() {
        let verifier = CodeVerifier::received("v".into());
        let request = AuthorizationRequest {
            endpoint: &Url::parse("https://as.example/auth?tenant=1#x").unwrap(),
            client_id: "cid",
            redirect_uri: "http://127.0.0.1:1/cb",
            scopes: &[],
            challenge: &CodeChallenge::s256(&verifier),
            state: &StateParam::received("st".into()),
            leading: &[],
            extra: &pairs(&[("client_id", "other"), ("prompt", "consent"), ("none", "")]),
        };
        let url = request.url();
        let names: Vec<_> = url.query_pairs().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(names[..3], ["tenant=1", "response_type=code", "client_id=other"]);
        assert_eq!(names.last().map(String::as_str), Some("prompt=consent"));
        assert!(!url.as_str().contains("scope") && url.fragment().is_none());
    }
}
