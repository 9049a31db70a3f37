//! A provider definition that points at the server, in the format that a user writes, so that tests and the demo log
//! in at it in the ordinary way.

use std::fmt::Write as _;

use crate::config::{Rotation, ServerConfig, TokenFormat};

/// JSON pointers (RFC 6901) to the claims of spec.md 11.2.
const IDENTITY: &str = "account = \"/https:~1~1api.openai.com~1auth/chatgpt_account_id\", email = \"/email\", \
                        plan = \"/https:~1~1api.openai.com~1auth/chatgpt_plan_type\"";

/// The definition of provider `id` with the methods `oauth` (PKCE), `device` (RFC 8628) and `api-key`.
pub(crate) fn provider_toml(config: &ServerConfig, issuer: &str, id: &str) -> String {
    let models: Vec<String> = config.models.iter().map(|model| quoted(model)).collect();
    let mut text = format!(
        "id = {id}\nname = {name}\nbilling = \"subscription\"\n\n[api]\nkind = \"openai-chat\"\n\
         base_url = {base}\nheader = \"authorization\"\nscheme = \"Bearer\"\nmodels = [{models}]\n",
        id = quoted(id),
        name = quoted(&format!("Test server {id}")),
        base = quoted(&format!("{issuer}/v1")),
        models = models.join(", "),
    );
    oauth_method(&mut text, config, issuer, "oauth", "pkce");
    line(
        &mut text,
        "authorization_endpoint",
        &quoted(&format!("{issuer}/oauth/authorize")),
    );
    line(&mut text, "redirect_uri", "\"http://127.0.0.1:0/auth/callback\"");
    if config.device.enabled {
        oauth_method(&mut text, config, issuer, "device", "device");
        let endpoint = quoted(&format!("{issuer}/oauth/device/code"));
        line(&mut text, "device_authorization_endpoint", &endpoint);
        line(&mut text, "device_dialect", "\"rfc8628\"");
    }
    text.push_str("\n[[auth]]\nid = \"api-key\"\nkind = \"api_key\"\n");
    text
}

/// What both OAuth methods have in common.
fn oauth_method(text: &mut String, config: &ServerConfig, issuer: &str, id: &str, kind: &str) {
    let scopes: Vec<String> = match config.scopes.as_slice() {
        [] => ["openid", "email", "offline_access"].map(quoted).to_vec(),
        scopes => scopes.iter().map(|scope| quoted(scope)).collect(),
    };
    let client = config.client_ids.first().map_or("rig", String::as_str);
    let rotation = match config.rotation {
        Rotation::Always => "\"always\"",
        Rotation::Never => "\"never\"",
    };
    text.push_str("\n[[auth]]\n");
    line(text, "id", &quoted(id));
    line(text, "kind", &quoted(kind));
    line(text, "client_id", &quoted(client));
    line(text, "token_endpoint", &quoted(&format!("{issuer}/oauth/token")));
    line(
        text,
        "revocation_endpoint",
        &quoted(&format!("{issuer}/oauth/revoke")),
    );
    line(text, "scopes", &format!("[{}]", scopes.join(", ")));
    let from = match config.token_format {
        TokenFormat::Jwt => "access_token",
        TokenFormat::Opaque => "id_token",
    };
    line(text, "identity", &format!("{{ from = \"{from}\", {IDENTITY} }}"));
    line(text, "rotation", rotation);
    line(
        text,
        "replay_grace_seconds",
        &config.replay_grace_seconds.to_string(),
    );
    if let Some(seconds) = config.idle_limit_seconds {
        line(text, "idle_limit_seconds", &seconds.to_string());
    }
    let terminal = "[\"invalid_grant\", \"refresh_token_expired\", \"refresh_token_reused\", \
                    \"refresh_token_invalidated\"]";
    line(text, "terminal_errors", terminal);
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name} = {value}");
}

/// A TOML basic string; JSON's escapes are among TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_toml_and_points_at_the_server() {
        let config = ServerConfig {
            scopes: vec!["a\"b".to_owned()],
            replay_grace_seconds: 30,
            idle_limit_seconds: Some(86_400),
            ..ServerConfig::default()
        };
        let text = provider_toml(&config, "http://127.0.0.1:9", "rig");
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table["id"].as_str(), Some("rig"));
        assert_eq!(table["api"]["base_url"].as_str(), Some("http://127.0.0.1:9/v1"));
        let methods = table["auth"].as_array().unwrap();
        let kinds: Vec<_> = methods.iter().map(|m| m["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["pkce", "device", "api_key"]);
        assert_eq!(
            methods[0]["token_endpoint"].as_str(),
            Some("http://127.0.0.1:9/oauth/token")
        );
        assert_eq!(methods[0]["scopes"][0].as_str(), Some("a\"b"));
        assert_eq!(methods[1]["replay_grace_seconds"].as_integer(), Some(30));
        assert_eq!(methods[0]["idle_limit_seconds"].as_integer(), Some(86_400));
        assert_eq!(
            methods[1]["device_authorization_endpoint"].as_str(),
            Some("http://127.0.0.1:9/oauth/device/code")
        );
    }

    #[test]
    fn what_the_server_does_not_offer_is_not_in_it() {
        let mut config = ServerConfig {
            rotation: Rotation::Never,
            token_format: TokenFormat::Opaque,
            ..ServerConfig::default()
        };
        config.device.enabled = false;
        let table: toml::Table = toml::from_str(&provider_toml(&config, "http://[::1]:9", "x")).unwrap();
        let methods = table["auth"].as_array().unwrap();
        assert_eq!(methods.len(), 2);
        assert_eq!(methods[0]["rotation"].as_str(), Some("never"));
        assert!(methods[0].get("idle_limit_seconds").is_none());
        assert_eq!(methods[0]["identity"]["from"].as_str(), Some("id_token"));
    }
}
