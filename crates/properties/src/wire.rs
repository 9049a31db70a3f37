//! Answers of token endpoints, and the small words that people and programs type.

use std::time::Duration;

use serde_json::Value;
use tokensink_oauth::token::{RefreshAnswer, TokenGrant, classify_exchange, classify_refresh};
use tokensink_oauth::{identity, merge, text};
use tokensink_policy::directive::ModelRef;
use tokensink_types::{
    AgentId, DurationUnit, ProfileId, ProviderId, Secret, SessionKey, UnixMillis, parse_duration,
};

use crate::check::{MARK, NOW, answer, fit_to_show, grant, hides_mark, hides_secrets};

const STATUSES: [u16; 18] = [
    200, 400, 401, 403, 429, 500, 502, 503, 504, 201, 204, 302, 404, 418, 501, 520, 524, 529,
];
const TERMINAL: [&str; 2] = ["invalid_grant", "refresh_token_reused"];

/// Answers to a refresh and to an exchange: what they say of the token that was sent follows from status and body, and
/// nothing that was sent comes back in words.
pub(crate) fn token_answer(data: &[u8]) {
    let response = answer(data, &STATUSES);
    let status = response.status();
    let sent = Secret::new(format!("refresh-{MARK}"));
    let found = classify_refresh(&response, &TERMINAL, &[&sent]);
    assert_eq!(
        found,
        classify_refresh(&response, &TERMINAL, &[&sent]),
        "the same answer says the same"
    );
    match &found {
        RefreshAnswer::Granted(granted) => {
            assert!(status.is_success());
            can_be_kept(granted, response.body().expose());
        }
        RefreshAnswer::Terminal { code, description } => {
            assert!(TERMINAL.contains(&code.as_str()) && (status.is_success() || status.is_client_error()));
            assert!(
                said(response.body().expose(), code),
                "only what the server said ends a login"
            );
            fit_to_show(description, text::DESCRIPTION_MAX);
        }
        RefreshAnswer::Unspent {
            code, description, ..
        } => {
            assert!(!status.is_success() && !matches!(status.as_u16(), 502 | 504));
            fit_to_show(code.as_deref().unwrap_or_default(), text::DESCRIPTION_MAX);
            fit_to_show(description, text::DESCRIPTION_MAX);
        }
        RefreshAnswer::Ambiguous { reason, .. } => {
            assert!(status.is_success() || status.is_server_error(), "{status}");
            fit_to_show(reason, 2 * text::DESCRIPTION_MAX + 200);
        }
    }
    if !matches!(found, RefreshAnswer::Granted(_)) {
        hides_mark(&found);
        hides_granted(response.body().expose(), &found);
    }
    if let Err(error) = classify_exchange(&response, &[&sent]) {
        hides_mark(&error);
        fit_to_show(&error.to_string(), 2 * text::DESCRIPTION_MAX + 200);
    }
}

/// What was granted is whole, is shown nowhere, and takes the place of what was there.
fn can_be_kept(granted: &TokenGrant, body: &[u8]) {
    let refresh = granted.refresh_token.as_ref();
    assert!(!granted.access_token.is_blank() && refresh.is_none_or(|token| !token.is_blank()));
    let life = granted.expires_in.unwrap_or_default();
    assert!(life <= Duration::from_secs(10 * 366 * 86_400), "{life:?}");
    if let Ok(document) = serde_json::from_slice::<Value>(body) {
        hides_secrets(granted, &document, &["access_token", "refresh_token", "id_token"]);
    }
    let old = grant("fuzz", 1).as_oauth().expect("a grant").tokens.clone();
    let (default_life, buffer) = (Some(Duration::from_secs(60)), Duration::from_secs(300));
    let next = merge(&old, granted, NOW, default_life, buffer);
    assert_eq!(next.access, granted.access_token);
    assert!(next.refresh.is_some(), "what the answer lacks keeps its value");
    assert!(next.expires.is_some());
    for pointer in ["", "/scope", "/x/0"] {
        let _ = (
            granted.text(pointer),
            granted.clone().with_expiry_from(pointer, NOW),
        );
    }
    let _ = identity::extract(&identity::IdentityRule::default(), granted, None);
}

/// A token that was granted and cannot be read is in no words either.
fn hides_granted(body: &[u8], found: &RefreshAnswer) {
    const FRESH: &str = "FRESH5b1d8e";
    let text = String::from_utf8_lossy(body);
    let given = ["access", "refresh", "id"].iter().any(|of| {
        [format!("{of}_token\":\"{FRESH}"), format!("{of}_token={FRESH}")]
            .iter()
            .any(|field| text.contains(field))
    });
    if given && text.matches(FRESH).count() == 1 && text.matches("_token").count() == 1 {
        assert!(
            !format!("{found:?}").contains(FRESH),
            "a token is shown: {found:?}"
        );
    }
}

/// Does the body say this word, in one of the ways in which a body can?
fn said(body: &[u8], word: &str) -> bool {
    let plain = String::from_utf8_lossy(body);
    let in_form = || url::form_urlencoded::parse(body).any(|(_, value)| value.trim() == word);
    // Letters of a JSON text may be escaped.
    plain.contains(word) || plain.contains("\\u") || in_form()
}

/// Ids, keys of sessions, durations and `model@profile`: what is taken reads as itself again.
pub(crate) fn words(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(id) = ProfileId::parse(&text) {
        assert_eq!(ProfileId::parse(id.as_str()), Ok(id));
    }
    if let Ok(id) = ProviderId::parse(&text) {
        assert_eq!(ProviderId::parse(id.as_str()), Ok(id));
    }
    if let Ok(key) = SessionKey::parse(&text) {
        assert_eq!(SessionKey::parse(key.as_str()), Ok(key));
    }
    let agent = AgentId::normalise(&text);
    // OpenClaw's rule (spec.md 15.1) cuts after it takes the dashes away, so that one may be left at the end.
    let is_cut = agent.as_str().len() == 64 && agent.as_str().ends_with('-');
    assert!(is_cut || AgentId::normalise(agent.as_str()) == agent, "{agent:?}");
    let one_name = !agent.as_str().contains(['/', '\\', '\0']) && !matches!(agent.as_str(), "" | "." | "..");
    assert!(one_name, "an agent's name is a directory's: {agent:?}");
    for unit in [DurationUnit::Millis, DurationUnit::Seconds, DurationUnit::Days] {
        if let Ok(duration) = parse_duration(&text, unit) {
            assert!(duration <= Duration::from_secs(10 * 366 * 86_400));
            let _ = UnixMillis(NOW.0).plus(duration);
        }
    }
    let reference = ModelRef::parse(&text);
    if let Some(profile) = &reference.profile {
        assert!(!profile.trim().is_empty() && text.contains('@'), "{text:?}");
    }
    assert!(text.contains(reference.model.as_str()), "{text:?}");
}
