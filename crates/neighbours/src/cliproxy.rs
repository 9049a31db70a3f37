//! The logins of `CLIProxyAPI` as a source of imports: a directory of JSON files, one login each. Read and never written,
//! since nothing is known of how the proxy guards its files; so it is no [`Neighbour`](crate::Neighbour).
//!
//! A file says what it holds in `type`. The shapes are those of the proxy's own storage (its `internal/auth`): flat for
//! `claude`, `codex` and `qwen`, the tokens in an object of their own for `gemini`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokensink_host::Host;
use tokensink_store::json as js;
use tokensink_types::{Account, Body, Labels, OAuth, ProviderId, TokenSet, UnixMillis};

/// The directory where the proxy keeps its logins, below the home directory.
pub const DIR: &str = ".cli-proxy-api";

/// One file of the directory.
#[derive(Debug)]
pub struct ProxyFile {
    /// The file.
    pub path: PathBuf,
    /// The login, or why there is none. Holds no secret.
    pub login: Result<Box<OAuth>, String>,
}

/// Reads every `*.json` of the directory, in the order of their names.
///
/// # Errors
/// When the directory cannot be listed; a file that cannot be read is part of the answer.
pub fn read_dir(host: &Host, dir: &Path) -> std::io::Result<Vec<ProxyFile>> {
    let mut found = Vec::new();
    for name in host.files.list(dir)? {
        let path = dir.join(name);
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let login = match host.files.read(&path).map(Body::new) {
            Ok(bytes) => parse(bytes.expose()),
            Err(error) => Err(format!("it cannot be read: {error}")),
        };
        found.push(ProxyFile { path, login });
    }
    Ok(found)
}

/// The login in a file's text.
///
/// # Errors
/// Why there is none, without any of the text.
pub fn parse(bytes: &[u8]) -> Result<Box<OAuth>, String> {
    let mut map = js::SecretMap(js::parse_object(bytes).map_err(|failure| failure.why)?);
    let document = &mut map.0;
    let kind = js::text(document, "type").ok_or("it does not say of which type it is")?;
    let provider = match kind.as_str() {
        "claude" => "anthropic",
        "codex" => "openai-codex",
        "qwen" => "qwen-portal",
        "gemini" => "google-gemini-cli",
        _ => return Err("its type is none that we know".to_owned()),
    };
    let provider = ProviderId::parse(provider).map_err(|error| error.to_string())?;
    let account = Account {
        account_id: js::text(document, "account_id"),
        email: js::text(document, "email"),
        ..Account::default()
    };
    let fields = [("projectId", "project_id"), ("resourceUrl", "resource_url")]
        .into_iter()
        .filter_map(|(ours, theirs)| Some((ours.to_owned(), js::text(document, theirs)?)));
    let fields = fields.collect::<BTreeMap<_, _>>();
    let tokens = match document.get_mut("token").and_then(Value::as_object_mut) {
        Some(inner) => tokens(inner, "expiry"),
        None => tokens(document, "expired"),
    };
    if tokens.access.is_blank() && tokens.refresh.is_none() {
        return Err("it holds no tokens".to_owned());
    }
    Ok(Box::new(OAuth {
        provider,
        labels: Labels {
            email: account.email.clone(),
            display_name: None,
        },
        account,
        tokens,
        client_id: None,
        fields,
    }))
}

/// The tokens of an object; `end` names the field with the time when the access token ends, as RFC 3339 writes it.
fn tokens(map: &mut Map<String, Value>, end: &str) -> TokenSet {
    let expires = js::text(map, end).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let mut secret = |name: &str| js::take_secret(map, name).filter(|secret| !secret.is_blank());
    TokenSet {
        access: secret("access_token").unwrap_or_else(|| "".into()),
        refresh: secret("refresh_token"),
        id_token: secret("id_token"),
        expires: expires.map(|at| UnixMillis(at.as_millisecond())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tokensink_testkit::TestHost;

    use super::*;

    fn flat(kind: &str) -> Value {
        json!({"type": kind, "access_token": "at-canary", "refresh_token": "rt-canary", "id_token": "it-canary",
            "email": "a@example.com", "account_id": "acc", "last_refresh": "2026-01-01T00:00:00Z",
            "expired": "2026-01-01T08:00:00+08:00", "resource_url": "portal.qwen.ai"})
    }

    #[test]
    fn every_shape() {
        let gemini = json!({"type": "gemini", "project_id": "p", "email": "a@example.com",
            "token": {"access_token": "at-canary", "refresh_token": "rt-canary", "expiry": "2026-01-01T00:00:00Z"}});
        let cases = [
            (flat("claude"), "anthropic"),
            (flat("codex"), "openai-codex"),
            (flat("qwen"), "qwen-portal"),
            (gemini, "google-gemini-cli"),
        ];
        for (text, provider) in cases {
            let oauth = parse(text.to_string().as_bytes()).unwrap();
            assert_eq!(oauth.provider.as_str(), provider);
            assert_eq!(oauth.tokens.refresh_token().unwrap().expose(), "rt-canary");
            assert_eq!(oauth.tokens.expires, Some(UnixMillis(1_767_225_600_000)));
            assert_eq!(oauth.account.email.as_deref(), Some("a@example.com"));
            assert!(!format!("{oauth:?}").contains("canary"));
        }
    }

    #[test]
    fn what_is_no_login() {
        let cases = [
            "{",
            "[]",
            "{}",
            r#"{"type":"vertex"}"#,
            r#"{"type":"claude","access_token":" "}"#,
        ];
        for text in cases {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_directory() {
        let test = TestHost::new();
        let dir = Path::new("/home/user").join(DIR);
        assert!(read_dir(&test.host(), &dir).unwrap().is_empty());
        test.files
            .put(dir.join("b.json"), flat("claude").to_string(), 0o600);
        test.files.put(dir.join("a.json"), "{", 0o600);
        test.files.put(dir.join("config.yaml"), "port: 1", 0o600);
        let found = read_dir(&test.host(), &dir).unwrap();
        let ok: Vec<bool> = found.iter().map(|file| file.login.is_ok()).collect();
        assert_eq!(ok, [false, true]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_values_are_read_or_refused(field in "type|token|expired|email|access_token", text in ".{0,8}") {
            let mut value = flat("claude");
            value[field] = json!({"access_token": text, "expiry": text});
            let _ = parse(value.to_string().as_bytes());
        }
    }
}
