//! What the properties have in common.

use std::fmt::Debug;

use http::{Response, StatusCode, header};
use serde_json::Value;
use tokensink_testkit::MapEnvironment;
use tokensink_types::{
    Account, Body, Credential, Labels, OAuth, ProfileId, ProviderId, Secret, TokenSet, UnixMillis,
};

/// Stands in secrets of the seeds and of the worlds here, and must not stand in words for people.
pub(crate) const MARK: &str = "CANARY7f3a91c2";

/// The present of every property.
pub(crate) const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

/// The state directory of every property.
pub(crate) const STATE: &str = "/s";

/// The variables of a machine whose state directory is [`STATE`].
pub(crate) fn environment() -> MapEnvironment {
    MapEnvironment::of([("OPENCLAW_STATE_DIR", STATE)])
}

/// Where everything below [`STATE`] is.
pub(crate) fn paths() -> tokensink_store::Paths {
    tokensink_store::Paths::resolve(&environment()).expect("paths of a fixed directory")
}

/// The first byte, which chooses among cases, and the rest.
pub(crate) fn choice(data: &[u8]) -> (usize, &[u8]) {
    data.split_first()
        .map_or((0, data), |(first, rest)| (usize::from(*first), rest))
}

/// One of a list by the choice.
pub(crate) fn one_of<T: Copy>(list: &[T], choice: usize) -> T {
    list[choice % list.len()]
}

/// Nothing of a secret is in what is shown.
#[track_caller]
pub(crate) fn hides_mark(shown: &dyn Debug) {
    let shown = format!("{shown:?}");
    assert!(!shown.contains(MARK), "a secret is shown: {shown}");
}

/// No secret of `document` is in what is shown: no text of at least 8 bytes that stands under one of `fields`, as long as
/// it stands nowhere else. The text of something that is no secret may happen to be the same.
#[track_caller]
pub(crate) fn hides_secrets(shown: &dyn Debug, document: &Value, fields: &[&str]) {
    let mut texts = Vec::new();
    collect(document, None, &mut texts);
    let shown = format!("{shown:?}");
    for (key, text) in &texts {
        let is_secret = key.is_some_and(|key| fields.contains(&key)) && text.trim().len() >= 8;
        let once = || {
            texts
                .iter()
                .filter(|(_, other)| other.contains(text.trim()))
                .count()
                == 1
        };
        if is_secret && once() {
            let quoted = format!("{:?}", text.trim());
            assert!(
                !shown.contains(quoted.trim_matches('"')),
                "the secret {text:?} is shown: {shown}"
            );
        }
    }
}

/// All texts of a document, keys included, each with the key that it stands under.
fn collect<'a>(value: &'a Value, under: Option<&'a str>, texts: &mut Vec<(Option<&'a str>, &'a str)>) {
    match value {
        Value::String(text) => texts.push((under, text)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, None, texts)),
        Value::Object(map) => {
            for (key, value) in map {
                texts.push((None, key));
                collect(value, Some(key), texts);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// One line without control characters, no longer than `most` characters.
#[track_caller]
pub(crate) fn fit_to_show(text: &str, most: usize) {
    assert!(
        !text.chars().any(char::is_control),
        "control characters: {text:?}"
    );
    assert!(text.chars().count() <= most, "longer than {most}: {text:?}");
}

/// An answer as a server may send it: two bytes choose status and content type, the rest is the body.
pub(crate) fn answer(data: &[u8], statuses: &[u16]) -> Response<Body> {
    const TYPES: [Option<&str>; 6] = [
        Some("application/json"),
        None,
        Some("text/html; charset=utf-8"),
        Some("application/x-www-form-urlencoded"),
        Some("text/plain"),
        Some("application/problem+json; charset=utf-16"),
    ];
    let (status, data) = choice(data);
    let (kind, body) = choice(data);
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = StatusCode::from_u16(one_of(statuses, status)).expect("a valid status");
    if let Some(kind) = one_of(&TYPES, kind) {
        let value = http::HeaderValue::from_static(kind);
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

/// A profile's id.
pub(crate) fn profile(text: &str) -> ProfileId {
    ProfileId::parse(text).expect("a valid id")
}

/// A provider's id.
pub(crate) fn provider(text: &str) -> ProviderId {
    ProviderId::parse(text).expect("a valid id")
}

/// A grant of generation `n`.
pub(crate) fn grant(provider_id: &str, n: u32) -> Credential {
    Credential::OAuth(OAuth {
        provider: provider(provider_id),
        tokens: TokenSet {
            access: Secret::new(format!("access-{MARK}-{n}")),
            refresh: Some(Secret::new(format!("refresh-{MARK}-{n}"))),
            expires: Some(UnixMillis(NOW.0 + i64::from(n))),
            id_token: None,
        },
        account: Account::default(),
        client_id: None,
        fields: std::collections::BTreeMap::new(),
        labels: Labels::default(),
    })
}
