//! What arrives during a login: pasted texts, callbacks, answers of device and discovery endpoints, tokens' claims.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokensink_host::callback::{Received, receive};
use tokensink_oauth::callback::{Callback, parse_callback};
use tokensink_oauth::device::{DeviceAuthorization, DeviceDialect, DeviceFlow, DevicePoll};
use tokensink_oauth::identity::{parse_userinfo, stable_subject_name};
use tokensink_oauth::paste::{PasteError, parse_paste};
use tokensink_oauth::pkce::StateParam;
use tokensink_oauth::request::{BodyFormat, ClientAuth, Endpoint};
use tokensink_oauth::{jwt as token, metadata, revoke, text};
use tokensink_types::{Secret, UnixMillis};
use url::Url;

use crate::check::{MARK, NOW, answer, choice, fit_to_show, hides_mark, one_of};

const STATUSES: [u16; 9] = [200, 201, 204, 400, 401, 404, 429, 500, 302];

/// Claims of a token: read or not, an expiry is a date, and a bad token is no answer at all.
pub(crate) fn jwt(data: &[u8]) {
    let plain = String::from_utf8_lossy(data);
    let wrapped = format!("h.{}.s", URL_SAFE_NO_PAD.encode(data));
    for text in [&*plain, &wrapped] {
        let secret = Secret::new(text);
        let claims = token::claims(&secret);
        if let Some(UnixMillis(at)) = token::expires(&secret) {
            assert!(claims.is_some() && (1..253_402_300_800_000).contains(&at), "{at}");
        }
        if let Some(name) = claims.as_ref().and_then(stable_subject_name) {
            let plain = name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            assert!(name.len() > 3 && plain, "{name:?}");
        }
    }
}

/// A pasted text and a callback's target: only our state brings a code, and nothing in the words is raw.
pub(crate) fn pasted_text(data: &[u8]) {
    let pasted = String::from_utf8_lossy(data);
    let state = StateParam::received(Secret::new(MARK));
    match parse_paste(&pasted, &state) {
        Ok(code) => {
            let code = code.secret().expose();
            assert!(!code.trim().is_empty());
        }
        Err(error) => {
            hides_mark(&error);
            fit_to_show(&error.to_string(), 2 * text::DESCRIPTION_MAX + 100);
            let blank = pasted.chars().all(|c| c.is_whitespace() || c.is_control());
            assert!(!blank || error == PasteError::Empty, "{error:?}");
        }
    }
    target(&pasted);
}

fn target(target: &str) {
    let state = StateParam::received(Secret::new(MARK));
    let found = parse_callback(target, "/auth/callback", &state);
    hides_mark(&found);
    fit_to_show(&found.to_string(), 2 * text::DESCRIPTION_MAX + 100);
    let decoded =
        url::form_urlencoded::parse(target.split_once('?').map_or("", |(_, query)| query).as_bytes())
            .any(|(name, value)| name == "state" && value.split('#').next() == Some(MARK));
    if matches!(found, Callback::Code(_)) || found.ends_wait() {
        assert!(decoded, "without our state nothing ends the wait: {target:?}");
    }
    assert_eq!(found.status().is_success(), matches!(found, Callback::Code(_)));
}

/// What the loopback listener takes for a request: what it makes of a request does not depend on how it arrives or on
/// what follows, and only a loopback host gets through.
pub(crate) fn callback_request(data: &[u8]) {
    let whole = receive(data);
    hides_mark(&whole);
    if let Received::Request { target: sent, .. } = &whole {
        let head = String::from_utf8_lossy(data).to_ascii_lowercase();
        assert!(head.contains("host:") && data.len() <= 8 * 1024);
        assert!(
            ["localhost", "127.", "::"].iter().any(|name| head.contains(name)),
            "{head}"
        );
        target(sent.expose());
    }
    // Byte by byte, a head is judged when it is whole, and what comes after changes nothing but its size.
    let mut seen = None;
    for end in (0..=data.len()).filter(|end| data.len() < 512 || end % 61 == 0 || *end == data.len()) {
        let now = receive(&data[..end]);
        match &seen {
            None if now != Received::Part => seen = Some(now),
            None => {}
            Some(first) if end <= 8 * 1024 => assert_eq!(*first, now, "after {end} bytes"),
            Some(_) => assert!(matches!(now, Received::Refused { .. })),
        }
    }
    if let Received::Refused { why, .. } = &whole {
        fit_to_show(why, 200);
    }
}

/// Answers of device endpoints in the three dialects.
pub(crate) fn device_answer(data: &[u8]) {
    const DIALECTS: [DeviceDialect; 3] = [
        DeviceDialect::Rfc8628,
        DeviceDialect::OpenAi,
        DeviceDialect::UserCode,
    ];
    let (dialect, data) = choice(data);
    let endpoint = Url::parse("https://as.test/device").expect("a URL");
    let secret = Secret::new(format!("secret-{MARK}"));
    let endpoint = Endpoint {
        url: &endpoint,
        client: ClientAuth {
            client_id: "rig",
            client_secret: Some(&secret),
        },
        format: BodyFormat::Form,
        params: &[],
        headers: &[],
    };
    let flow = DeviceFlow {
        dialect: one_of(&DIALECTS, dialect),
        authorization: endpoint,
        poll: endpoint,
        scopes: &[],
        verification_uri: Some("https://as.test/code"),
    };
    let response = answer(data, &STATUSES);
    match flow.parse_authorization(&response, None, NOW) {
        Ok(authorization) => usable(&authorization),
        Err(error) => {
            hides_mark(&error);
            fit_to_show(&error.to_string(), 2 * text::DESCRIPTION_MAX + 200);
        }
    }
    let code = Secret::new(format!("device-{MARK}"));
    let poll = flow.parse_poll(&response, &[&code, &secret], NOW);
    if !matches!(poll, DevicePoll::Granted(_)) {
        hides_mark(&poll);
    }
    if let Some(sentence) = poll.failure() {
        fit_to_show(&sentence, 2 * text::DESCRIPTION_MAX + 200);
    }
    if let DevicePoll::Granted(_) | DevicePoll::Code { .. } = poll {
        assert!(response.status().is_success());
    }
}

fn usable(authorization: &DeviceAuthorization) {
    let day = std::time::Duration::from_secs(86_400);
    assert!(authorization.interval.as_secs() >= 1 && authorization.interval <= day);
    assert!(authorization.expires_in <= day);
    fit_to_show(&authorization.user_code, text::DESCRIPTION_MAX);
    assert!(!authorization.device_code.is_blank());
    for uri in [
        Some(&authorization.verification_uri),
        authorization.verification_uri_complete.as_ref(),
    ] {
        assert!(
            uri.is_none_or(|uri| matches!(uri.scheme(), "https" | "http")),
            "{uri:?}"
        );
    }
}

/// Discovery documents, userinfo and the answers to a revocation.
pub(crate) fn metadata_answer(data: &[u8]) {
    let response = answer(data, &STATUSES);
    let issuer = Url::parse("https://as.test").expect("a URL");
    match metadata::parse(&response, &issuer) {
        Ok(found) => {
            assert_eq!(found.issuer.trim_end_matches('/'), "https://as.test");
            let endpoints = [
                Some(&found.token_endpoint),
                found.authorization_endpoint.as_ref(),
                found.device_authorization_endpoint.as_ref(),
                found.revocation_endpoint.as_ref(),
                found.userinfo_endpoint.as_ref(),
            ];
            for endpoint in endpoints.into_iter().flatten() {
                let loopback = matches!(endpoint.host_str(), Some("localhost" | "[::1]"))
                    || endpoint.host_str().is_some_and(|host| host.starts_with("127."));
                assert!(
                    endpoint.scheme() == "https" || (endpoint.scheme() == "http" && loopback),
                    "{endpoint}"
                );
            }
        }
        Err(error) => fit_to_show(&error.to_string(), 2 * text::DESCRIPTION_MAX + 200),
    }
    let secret = Secret::new(format!("access-{MARK}"));
    if let Err(refusal) = parse_userinfo(&response, &secret) {
        hides_mark(&refusal);
        fit_to_show(&refusal.to_string(), 2 * text::DESCRIPTION_MAX + 100);
    }
    let revoked = revoke::classify(&response, &[&secret]);
    hides_mark(&revoked);
    assert_eq!(
        revoked == revoke::Revocation::Revoked,
        response.status().is_success()
    );
}
