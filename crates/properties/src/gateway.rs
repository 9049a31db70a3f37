//! What comes in from clients of the gateway and from providers behind it.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use serde_json::Value;
use tokensink_gateway::request::decode::{DECODED_MAX, DecodedBody, decode};
use tokensink_gateway::request::errors::ErrorShape;
use tokensink_gateway::request::events::{Noticed, Scanner};
use tokensink_gateway::request::headers::{Dress, client_headers, lease_headers, upstream_headers};
use tokensink_gateway::request::model::{Edit, outline};
use tokensink_gateway::request::plan::{Directory, Provider, Rights, Target, error_shape, plan};
use tokensink_gateway::request::route::{Family, Route, route, upstream_uri};
use tokensink_policy::classify::{ErrorText, Failure, classify};
use tokensink_policy::quota::{Headers, readings, readings_of_json, stated_wait};
use tokensink_sink::providers::ApiKind;
use tokensink_sink::{AgentId, Betas, ErrorKind, ProfileId, ProviderId, Secret, SinkError};

use crate::check::{MARK, NOW, choice, one_of, provider};

/// Who may be asked: two providers, and one profile of each agent with each.
struct World;

const PROVIDERS: [(&str, ApiKind); 3] = [
    ("anthropic", ApiKind::AnthropicMessages),
    ("openai", ApiKind::OpenAiChat),
    ("openai-codex", ApiKind::OpenAiResponses),
];

impl Directory for World {
    fn provider(&self, name: &str) -> Option<Provider> {
        let (id, kind) = PROVIDERS.into_iter().find(|(id, _)| *id == name)?;
        Some(Provider {
            id: provider(id),
            kind,
            models: vec!["opus".to_owned()],
        })
    }

    fn resolve_model(&self, _: &AgentId, text: &str) -> Result<Target, SinkError> {
        let (name, at) = text
            .split_once('@')
            .map_or((text, None), |(name, at)| (name, Some(at)));
        let found = name
            .split_once('/')
            .and_then(|(id, model)| Some((self.provider(id)?.id, model)));
        let (id, model) =
            found.ok_or_else(|| SinkError::new(ErrorKind::Usage, "unknown_model", "no such model"))?;
        Ok(Target {
            provider: id,
            model: model.to_owned(),
            profile: at.and_then(|at| ProfileId::parse(at).ok()),
        })
    }

    fn provider_of(&self, agent: &AgentId, profile: &ProfileId) -> Option<ProviderId> {
        let own = profile.name_part() == agent.as_str();
        let known = profile.provider_part().and_then(|id| self.provider(id));
        known.filter(|_| own).map(|known| known.id)
    }

    fn with_profiles(&self, _: &AgentId) -> Vec<Provider> {
        PROVIDERS.iter().filter_map(|(id, _)| self.provider(id)).collect()
    }
}

/// A request: a line with method and target, header lines, an empty line, the body. `None` where HTTP itself would
/// refuse it.
fn request_of(data: &[u8]) -> Option<(Parts, &[u8])> {
    let end = data.windows(2).position(|two| two == b"\n\n");
    let (head, body) = end.map_or((data, &data[..0]), |end| (&data[..end], &data[end + 2..]));
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::builder().method(first.next()?).uri(first.next()?);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    Some((request.body(()).ok()?.into_parts().0, body))
}

/// A request to the gateway with a key of the agent `work` that may use one provider: what goes up is of that agent and
/// that provider, below the provider's address, and without a credential of the client.
pub(crate) fn request(data: &[u8]) {
    let Some((parts, body)) = request_of(data) else {
        return;
    };
    let shape = |found: &Route| error_shape(found, &parts.headers, &World);
    let found = match route(&parts.method, &parts.uri, &parts.headers) {
        Ok(found) => found,
        Err(refusal) => return refused(&refusal, ErrorShape::OpenAi),
    };
    let work = AgentId::normalise("work");
    let allowed = [provider("anthropic")].into();
    let rights = Rights {
        agent: &work,
        providers: Some(&allowed),
    };
    let body = DecodedBody {
        bytes: Bytes::copy_from_slice(body),
        compressed: false,
    };
    let plan = match plan(&found, &parts, Some(&body), rights, &World) {
        Ok(plan) => plan,
        Err(refusal) => return refused(&refusal, shape(&found)),
    };
    assert_eq!((&plan.agent, &plan.provider), (&work, &provider("anthropic")));
    if let Some(profile) = &plan.profile {
        assert_eq!(
            (profile.name_part(), profile.provider_part()),
            ("work", Some("anthropic"))
        );
    }
    let up =
        upstream_uri("https://api.test/base", &plan.path_and_query).expect("a planned path makes an address");
    let read = url::Url::parse(&up.to_string()).expect("a URL");
    assert_eq!(read.host_str(), Some("api.test"));
    assert!(read.path().starts_with("/base"), "{read}");
    for (name, _) in read.query_pairs() {
        let name = name.trim().to_ascii_lowercase();
        assert!(
            !matches!(name.as_str(), "key" | "api_key" | "access_token"),
            "{read}"
        );
    }
    if let Some(edit) = &plan.body_edit {
        let edited: Value = serde_json::from_slice(&edit.apply(&body.bytes)).unwrap_or_default();
        assert!(edited.is_null() || edited["model"].as_str() == plan.model.as_deref());
    }
    headers(&parts.headers);
}

fn refused(refusal: &tokensink_gateway::request::errors::Refusal, shape: ErrorShape) {
    assert!(refusal.status.is_client_error(), "{refusal:?}");
    assert!(refusal.text().len() < 4096, "{}", refusal.text());
    let answer = refusal.answer(shape, Some("r1"));
    let body: Value = serde_json::from_slice(answer.body()).expect("an error is JSON");
    assert!(
        body["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains(&refusal.message))
    );
}

fn headers(client: &HeaderMap) {
    let ours = [("authorization".to_owned(), Secret::new(format!("Bearer {MARK}")))];
    let ours = lease_headers(&ours).expect("it can be written");
    let betas = Betas {
        header: "anthropic-beta".to_owned(),
        add: vec!["oauth-2025-04-20".to_owned()],
        remove: Vec::new(),
    };
    let dress = Dress {
        headers: &ours,
        betas: &betas,
    };
    let Ok(up) = upstream_headers(client, dress) else {
        return;
    };
    let credentials = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
    let sent: Vec<_> = credentials.iter().flat_map(|name| up.get_all(name)).collect();
    assert_eq!(
        sent,
        [&HeaderValue::from_str(&format!("Bearer {MARK}")).expect("ASCII")]
    );
    for name in [
        "x-api-key",
        "x-forwarded-for",
        "connection",
        "transfer-encoding",
        "host",
    ] {
        assert!(!up.contains_key(name), "{name} went up");
    }
    let down = client_headers(client);
    for name in [header::SET_COOKIE, header::CONNECTION, header::TRANSFER_ENCODING] {
        assert!(!down.contains_key(&name), "{name} came down");
    }
}

/// The model in a JSON body: what is found is what a JSON parser finds, and an edit changes its own bytes only.
pub(crate) fn model(data: &[u8]) {
    let (family, body) = choice(data);
    let family = one_of(&[Family::Anthropic, Family::OpenAi], family);
    let parsed = serde_json::from_slice::<Value>(body).ok();
    let found = match outline(body, family) {
        Ok(found) => found,
        Err(malformed) => return refused(&malformed.refusal(), ErrorShape::OpenAi),
    };
    assert!(found.ties.len() <= 8);
    if let Some(Value::Object(map)) = &parsed {
        let model = found.model.as_ref().map(|field| field.text.as_str());
        assert_eq!(
            model,
            map.get("model").and_then(Value::as_str),
            "{}",
            String::from_utf8_lossy(body)
        );
        assert_eq!(found.stream, map.get("stream") == Some(&Value::Bool(true)));
    }
    let Some(field) = &found.model else {
        return;
    };
    let edit = Edit::of_model(field, "fuzz/\"m\"");
    let after = edit.apply(body);
    assert_eq!(after[..field.range.start], body[..field.range.start]);
    assert!(after.ends_with(&body[field.range.end..]));
    let again = outline(&after, family).expect("an edited body is read");
    assert_eq!(again.model.map(|field| field.text).as_deref(), Some("fuzz/\"m\""));
    assert_eq!((again.stream, again.ties), (found.stream, found.ties));
}

/// A body and its encoding: no more comes out than the caps say, what is compressed honestly comes out whole, and
/// nothing may follow it.
pub(crate) fn body(data: &[u8]) {
    // As the decoder documents: this many bytes for one, or a megabyte whatever the ratio.
    const RATIO_MAX: usize = 200;
    const RATIO_FREE: usize = 1024 * 1024;
    const ENCODINGS: [Option<&str>; 6] = [
        Some("gzip"),
        Some("zstd"),
        None,
        Some("identity"),
        Some("GZip"),
        Some("gzip, zstd"),
    ];
    let (encoding, data) = choice(data);
    let (times, data) = choice(data);
    let headers = |name: Option<&'static str>| -> HeaderMap {
        name.map(|name| (header::CONTENT_ENCODING, HeaderValue::from_static(name)))
            .into_iter()
            .collect()
    };
    let check = |name, body: &[u8]| {
        let decoded = decode(&headers(name), &Bytes::copy_from_slice(body));
        if let Ok(decoded) = &decoded {
            let most = (body.len() * RATIO_MAX).clamp(RATIO_FREE, DECODED_MAX);
            assert!(
                decoded.bytes.len() <= most || !decoded.compressed,
                "{} bytes",
                decoded.bytes.len()
            );
        }
        decoded
    };
    let _ = check(one_of(&ENCODINGS, encoding), data);
    let plain = data.repeat(1 + times % 8);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&plain).expect("memory");
    let mut packed = packed.finish().expect("memory");
    assert_eq!(
        check(Some("gzip"), &packed).map(|body| body.bytes),
        Ok(Bytes::from(plain))
    );
    packed.push(0);
    assert!(check(Some("gzip"), &packed).is_err(), "something follows");
}

/// A stream of events: what is noticed does not depend on where it is cut, and what is kept is bounded.
pub(crate) fn event_stream(data: &[u8]) {
    let (first, data) = choice(data);
    let (second, data) = choice(data);
    let seen = |cuts: &[usize]| {
        let (mut seen, mut scanner, mut from) = (Vec::new(), Scanner::new(), 0);
        for cut in cuts {
            let cut = (*cut).clamp(from, data.len());
            scanner.feed(&data[from..cut], |noticed| seen.push(noticed));
            from = cut;
        }
        scanner.feed(&data[from..], |noticed| seen.push(noticed));
        seen
    };
    let whole = seen(&[]);
    assert_eq!(
        seen(&[first.min(second), first.max(second)]),
        whole,
        "cut at {first} and {second}"
    );
    let step = 1 + first % 7;
    assert_eq!(
        seen(&(0..data.len()).step_by(step).collect::<Vec<_>>()),
        whole,
        "every {step} bytes"
    );
    for noticed in whole {
        match noticed {
            Noticed::Error { body } | Noticed::Limits { body } => {
                // A text of the event that nobody reads may hold anything.
                let is_text = str::from_utf8(&body).is_ok();
                assert!(!is_text || serde_json::from_slice::<Value>(&body).is_ok());
                assert!(body.len() <= 2 * data.len() + 256);
            }
            Noticed::Answer { id } => assert!(!id.is_empty() && id.len() <= 200),
            Noticed::Usage(_) | Noticed::Finished => {}
        }
    }
}

/// The headers of an answer and its body: what is read of limits is a share and a date, and a wait is never longer than
/// is believed.
pub(crate) fn quota_headers(data: &[u8]) {
    /// No limit of a plan lasts longer than a week and a day.
    const STATED_MAX: Duration = Duration::from_secs(8 * 24 * 3600);
    let text = String::from_utf8_lossy(data);
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let pairs = head.lines().filter_map(|line| line.split_once(':'));
    let headers = Headers::of(pairs.map(|(name, value)| (name.trim(), value.trim())));
    let mut all = readings(&headers, NOW);
    assert!(all.len() <= 16);
    all.extend(readings_of_json(body.as_bytes(), NOW));
    for reading in &all {
        assert!(reading.used.is_finite() && reading.used >= 0.0, "{reading:?}");
        assert!(
            !reading.window.is_empty() && reading.window.len() <= 200,
            "{reading:?}"
        );
    }
    if let Some(until) = stated_wait(&headers, body.as_bytes(), NOW) {
        assert!(NOW < until && until <= NOW.plus(STATED_MAX), "{until:?}");
    }
}

/// An error of a provider: always some class, in bounded words; no class where there is no error.
pub(crate) fn error_body(data: &[u8]) {
    const STATUSES: [u16; 12] = [400, 401, 402, 403, 404, 408, 413, 429, 500, 503, 529, 200];
    let (status, body) = choice(data);
    let status = one_of(&STATUSES, status);
    let text = ErrorText::of_body(body);
    assert!(text.text().chars().count() <= 3 * 4096);
    for name in ["anthropic", "openai-codex", "google"] {
        let id = provider(name);
        for status in [Some(status), None] {
            let failure = Failure {
                provider: &id,
                status,
                text: &text,
            };
            let class = classify(&failure);
            assert_eq!(class.is_none(), status == Some(200));
            assert_eq!(class, classify(&failure));
        }
    }
}
