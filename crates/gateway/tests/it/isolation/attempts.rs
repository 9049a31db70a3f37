//! What a client sends who wants another agent's account. Data: a class, a name, the status that is right, the bytes.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// Who is who.
#[derive(Debug, Clone)]
pub(super) struct Names<'a> {
    /// The agent of the one who sends.
    pub(super) me: &'a str,
    /// The agent that is attacked.
    pub(super) other: &'a str,
    /// The sender's key.
    pub(super) key: String,
    /// The gateway's address.
    pub(super) host: String,
    /// The provider's address.
    pub(super) upstream: String,
}

/// By what an attempt tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Path,
    Target,
    Model,
    Encoding,
    Header,
    Query,
    Session,
    State,
    Framing,
    Own,
}

impl Class {
    pub(super) const ALL: [Self; 10] = [
        Self::Path,
        Self::Target,
        Self::Model,
        Self::Encoding,
        Self::Header,
        Self::Query,
        Self::Session,
        Self::State,
        Self::Framing,
        Self::Own,
    ];
}

pub(super) struct Attempt {
    pub(super) class: Class,
    pub(super) what: String,
    /// The statuses of the first answer that are right; 0 is a connection closed without one.
    pub(super) want: &'static [u16],
    pub(super) bytes: Vec<u8>,
}

/// What a served request has to be, or a refused one.
const SERVED: &[u16] = &[200];
const BAD: &[u16] = &[400];
const NOT_FOUND: &[u16] = &[404];
/// The client's key or the route is not there: which one is said depends on what is looked at first.
const NOT_THERE: &[u16] = &[401, 403, 404, 405];

pub(super) fn attempts(names: &Names<'_>) -> Vec<Attempt> {
    let mut all = Vec::new();
    for (class, table) in [
        (Class::Path, PATHS),
        (Class::Query, QUERIES),
        (Class::Target, TARGETS),
        (Class::Header, HEADERS),
        (Class::Model, BODIES),
        (Class::Session, SESSIONS),
        (Class::State, STATES),
        (Class::Framing, FRAMINGS),
        (Class::Own, OWN),
    ] {
        for (want, template) in table {
            all.push(Attempt {
                class,
                what: (*template).replace("\r\n", " | "),
                want,
                bytes: filled(template, names),
            });
        }
    }
    all.extend(compressed(names));
    all
}

/// A template with its names, and `CL` as the length of what follows the head.
pub(super) fn filled(template: &str, names: &Names<'_>) -> Vec<u8> {
    let text = template
        .replace("OTHER", names.other)
        .replace("ME", names.me)
        .replace("UP", &names.upstream)
        .replace("HOST", &names.host)
        // Last, since a key may hold any of the words above.
        .replace("KEY", &names.key);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let head = head.replace(
        "$AUTH",
        &format!("host: {}\r\nauthorization: Bearer {}", names.host, names.key),
    );
    let head = head.replace(
        "$CL",
        &format!("connection: close\r\ncontent-length: {}", body.len()),
    );
    format!("{head}\r\n\r\n{body}").into_bytes()
}

type Table = &'static [(&'static [u16], &'static str)];

const PATHS: Table = &[
    (BAD, "POST /rig/../mill/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}"),
    (
        BAD,
        "POST /rig/x/../../OTHER/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (
        BAD,
        "POST /rig/%2e%2e/agents/OTHER/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (
        BAD,
        "POST /rig/%2e%2e%2f%2e%2e%2fOTHER HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (
        BAD,
        "POST /rig/%252e%252e/agents/OTHER HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (BAD, "POST /rig/..%5cOTHER/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}"),
    (BAD, "POST /rig/..;/OTHER/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}"),
    (
        BAD,
        "POST /rig/x%0d%0aauthorization:%20Bearer%20sk-OTHER HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (
        NOT_FOUND,
        "POST /rig%2f..%2fOTHER/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (NOT_FOUND, "POST /rig:OTHER/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}"),
    (
        NOT_FOUND,
        "POST /rig@rig:OTHER/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (
        NOT_FOUND,
        "POST /agents/OTHER/rig/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (NOT_FOUND, "POST /OTHER/rig/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}"),
    (
        NOT_FOUND,
        "POST //rig/agents/OTHER HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (
        SERVED,
        "POST /rig/agents/OTHER/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
];

const QUERIES: Table = &[
    (
        SERVED,
        "POST /rig/x?agent=OTHER&profile=rig:OTHER HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (
        SERVED,
        "POST /rig/x?key=sk-OTHER HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (
        SERVED,
        "POST /rig/x?%6bey=sk-OTHER&api_key=sk-OTHER;access_token=sk-OTHER HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (
        SERVED,
        "POST /v1/responses?model=rig/small@rig:OTHER HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small\"}",
    ),
    (
        &[401],
        "POST /rig/x?key=OTHER HTTP/1.1\r\nhost: HOST\r\n$CL\r\n\r\n{}",
    ),
];

const TARGETS: Table = &[
    (
        BAD,
        "POST http://UP/base/OTHER HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (BAD, "POST http://HOST/rig/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}"),
    (
        BAD,
        "POST https://OTHER@HOST/rig/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (
        &[400, 405],
        "CONNECT UP HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n",
    ),
    (
        &[400, 404],
        "OPTIONS * HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n",
    ),
    (
        &[405],
        "TRACE /rig/x HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n",
    ),
    (
        &[426],
        "GET /v1/responses HTTP/1.1\r\n$AUTH\r\nconnection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ),
    (
        &[426],
        "GET /rig/realtime HTTP/1.1\r\n$AUTH\r\nconnection: upgrade, close\r\nupgrade: WebSocket\r\n\r\n",
    ),
    (
        &[200, 426],
        "GET /rig/x HTTP/1.1\r\n$AUTH\r\nconnection: upgrade, http2-settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    ),
];

/// A key of the store is refused where another agent is named; one of the program around the gateway knows no others.
const HEADERS: Table = &[
    (
        &[200, 403],
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nx-tokensink-agent: OTHER\r\n$CL\r\n\r\n{}",
    ),
    (
        SERVED,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nx-tokensink-profile: rig:OTHER\r\nx-tokensink-provider: rig\r\n$CL\r\n\r\n{}",
    ),
    (
        SERVED,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nX-Agent: OTHER\r\nx-openclaw-agent: OTHER\r\n$CL\r\n\r\n{}",
    ),
    (
        SERVED,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nconnection: authorization, x-api-key\r\n$CL\r\n\r\n{}",
    ),
    (
        SERVED,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ncookie: sk-OTHER\r\nproxy-authorization: Bearer sk-OTHER\r\n$CL\r\n\r\n{}",
    ),
    (
        SERVED,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nforwarded: for=OTHER\r\nx-forwarded-user: OTHER\r\n$CL\r\n\r\n{}",
    ),
    (
        &[200, 401],
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\napi-key: sk-OTHER\r\nx-goog-api-key: sk-OTHER\r\n$CL\r\n\r\n{}",
    ),
    (
        &[200, 401],
        "POST /mill/x HTTP/1.1\r\n$AUTH\r\nx-api-key: sk-OTHER\r\n$CL\r\n\r\n{}",
    ),
    (
        &[200, 400, 401],
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nauthorization: Bearer sk-OTHER\r\n$CL\r\n\r\n{}",
    ),
    (
        &[200, 400, 403, 421],
        "POST /rig/x HTTP/1.1\r\nhost: OTHER\r\nauthorization: Bearer KEY\r\n$CL\r\n\r\n{}",
    ),
    (
        &[200, 400, 403, 421],
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nhost: OTHER\r\n$CL\r\n\r\n{}",
    ),
    (
        &[200, 403],
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\norigin: http://OTHER\r\n$CL\r\n\r\n{}",
    ),
];

const BODIES: Table = &[
    (
        NOT_FOUND,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small@rig:OTHER\"}",
    ),
    (
        NOT_FOUND,
        "POST /v1/chat/completions HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"small@rig:OTHER\"}",
    ),
    (
        NOT_FOUND,
        "POST /v1/messages HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"grain@mill:OTHER\"}",
    ),
    (
        NOT_FOUND,
        "POST /v1/messages/count_tokens HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"mill/grain@mill:OTHER\"}",
    ),
    (
        NOT_FOUND,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small@rig:ME@rig:OTHER\"}",
    ),
    (
        NOT_FOUND,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"mod\\u0065l\":\"rig/small\\u0040rig:OTHER\"}",
    ),
    (
        BAD,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small\",\"model\":\"rig/small@rig:OTHER\"}",
    ),
    (
        BAD,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small@rig:OTHER\",\"mod\\u0065l\":\"rig/small\"}",
    ),
    (
        BAD,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small\",\"MODEL\":\"rig/small@rig:OTHER\"}",
    ),
    (
        BAD,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":[\"rig/small@rig:OTHER\"]}",
    ),
    (
        BAD,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small\"}{\"model\":\"rig/small@rig:OTHER\"}",
    ),
    (
        BAD,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small\"/*,\"model\":\"rig/small@rig:OTHER\"*/}",
    ),
    (
        &[200, 400, 404],
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small\u{ff20}rig:OTHER\"}",
    ),
    (
        SERVED,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small\",\"agent\":\"OTHER\",\"profile\":\"rig:OTHER\",\"metadata\":{\"model\":\"x@rig:OTHER\"}}",
    ),
    (
        SERVED,
        "POST /rig/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small@rig:OTHER\"}",
    ),
];

const SESSIONS: Table = &[
    (
        SERVED,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\nx-tokensink-session: session-of-OTHER\r\n$CL\r\n\r\n{\"model\":\"rig/small\"}",
    ),
    (
        SERVED,
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\nsession-id: session-of-OTHER\r\n$CL\r\n\r\n{\"model\":\"rig/small\"}",
    ),
    (
        SERVED,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nx-claude-code-session-id: session-of-OTHER\r\n$CL\r\n\r\n{}",
    ),
    (
        SERVED,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nx-tokensink-session: agent:OTHER:session-of-OTHER\r\n$CL\r\n\r\n{}",
    ),
    (
        SERVED,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nx-tokensink-session: ../../OTHER/sessions/session-of-OTHER\r\n$CL\r\n\r\n{}",
    ),
    (
        BAD,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nx-tokensink-session: mine\r\nx-tokensink-session: session-of-OTHER\r\n$CL\r\n\r\n{}",
    ),
];

const STATES: Table = &[
    (
        &[200, 400],
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small\",\"previous_response_id\":\"resp_OTHER\"}",
    ),
    (
        &[200, 400],
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\nsession-id: session-of-OTHER\r\n$CL\r\n\r\n{\"model\":\"rig/small\",\"previous_response_id\":\"resp_OTHER\"}",
    ),
    (
        &[200, 400],
        "GET /rig/responses/resp_OTHER HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n",
    ),
    (
        &[200, 400],
        "DELETE /rig/v1/files/resp_OTHER HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n",
    ),
    (
        &[200, 400],
        "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small\",\"conversation\":{\"id\":\"session-of-OTHER\"}}",
    ),
];

/// Request smuggling (RFC 9112 section 11.2).
const FRAMINGS: Table = &[
    (
        &[200, 400],
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\nPOST /OTHER/x HTTP/1.1\r\nx: ",
    ),
    (
        &[200, 400],
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\nconnection: close\r\n\r\n0\r\n\r\nGET /base/OTHER HTTP/1.1\r\nx: ",
    ),
    (
        BAD,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ncontent-length: 2\r\ncontent-length: 40\r\nconnection: close\r\n\r\n{}GET /base/OTHER HTTP/1.1\r\n\r\n",
    ),
    (
        &[200, 400],
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ncontent-length: 2, 40\r\nconnection: close\r\n\r\n{}GET /base/OTHER HTTP/1.1\r\n\r\n",
    ),
    (
        BAD,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ncontent-length: +2\r\nconnection: close\r\n\r\n{}GET /base/OTHER HTTP/1.1\r\n\r\n",
    ),
    (
        BAD,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ntransfer-encoding: xchunked\r\nconnection: close\r\n\r\n0\r\n\r\nGET /base/OTHER HTTP/1.1\r\n\r\n",
    ),
    (
        BAD,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ntransfer-encoding: chunked, identity\r\nconnection: close\r\n\r\n0\r\n\r\nGET /base/OTHER HTTP/1.1\r\n\r\n",
    ),
    (
        BAD,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ntransfer-encoding : chunked\r\nconnection: close\r\n\r\n0\r\n\r\nGET /base/OTHER HTTP/1.1\r\n\r\n",
    ),
    (
        BAD,
        "POST /rig/x HTTP/1.1\r\nhost: HOST\r\nx: y\r\n authorization: Bearer KEY\r\nauthorization: Bearer\r\n KEY\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        BAD,
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\nx: a\0b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        &[200, 400],
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\nzz\r\nGET /base/OTHER HTTP/1.1\r\n\r\n",
    ),
    (
        &[200, 400],
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2;x=\"\r\n{}\r\n0\r\nauthorization: Bearer sk-OTHER\r\nx-api-key: sk-OTHER\r\n\r\n",
    ),
    (
        &[200],
        "POST /rig/x HTTP/1.1\r\n$AUTH\r\ncontent-length: 2\r\n\r\n{}POST /rig/OTHER HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        &[200],
        "GET /rig/x HTTP/1.1\r\n$AUTH\r\ncontent-length: 37\r\nconnection: close\r\n\r\nGET /base/OTHER HTTP/1.1\r\nx-y: 123\r\n\r\n",
    ),
];

/// The gateway's own verbs, and what keys of clients must not reach.
const OWN: Table = &[
    (
        NOT_THERE_OR_OWN,
        "POST /tokensink/v1/lease HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"agent\":\"OTHER\",\"provider\":\"rig\"}",
    ),
    (
        NOT_THERE_OR_OWN,
        "POST /tokensink/v1/lease HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"provider\":\"rig\",\"profile\":\"rig:OTHER\"}",
    ),
    (
        NOT_THERE_OR_OWN,
        "POST /tokensink/v1/lease HTTP/1.1\r\n$AUTH\r\nx-tokensink-agent: OTHER\r\n$CL\r\n\r\n{\"model\":\"rig/small@rig:OTHER\"}",
    ),
    (
        NOT_THERE_OR_OWN,
        "POST /tokensink/v1/report HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"lease\":\"1\",\"profile\":\"rig:OTHER\",\"status\":401}",
    ),
    (
        NOT_THERE_OR_OWN,
        "POST /tokensink/v1/lease?agent=OTHER HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"provider\":\"rig\",\"session\":\"session-of-OTHER\"}",
    ),
    (
        NOT_THERE,
        "POST /tokensink/v1/keys HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"name\":\"mine\",\"agent\":\"OTHER\"}",
    ),
    (
        NOT_THERE,
        "POST /TokenSink/v1/lease HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"agent\":\"OTHER\"}",
    ),
    (
        NOT_THERE,
        "POST /%74okensink/v1/lease HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"agent\":\"OTHER\"}",
    ),
    (
        NOT_THERE,
        "DELETE /tokensink/v1/sessions/session-of-OTHER HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n",
    ),
];

/// A lease of one's own is as right as none: the answer is looked at for the other's.
const NOT_THERE_OR_OWN: &[u16] = &[200, 400, 401, 403, 404, 409, 422];

/// Compressed bodies that name the other's profile.
fn compressed(names: &Names<'_>) -> Vec<Attempt> {
    let body = format!(r#"{{"model":"rig/small@rig:{}"}}"#, names.other);
    let plain = br#"{"model":"small"}"#;
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| compress_to_vec(bytes, CompressionLevel::Fastest);
    let cases: [(&str, &'static [u16], Vec<u8>); 8] = [
        ("gzip", &[400, 404], gzip(body.as_bytes())),
        ("zstd", &[400, 404], zstd(body.as_bytes())),
        ("gzip", BAD, [gzip(plain), gzip(body.as_bytes())].concat()),
        ("zstd", BAD, [zstd(plain), zstd(body.as_bytes())].concat()),
        ("gzip, zstd", &[415], zstd(&gzip(body.as_bytes()))),
        ("gzip", BAD, body.clone().into_bytes()),
        ("br", &[415], gzip(body.as_bytes())),
        (
            "identity\r\ncontent-encoding: gzip",
            &[415],
            gzip(body.as_bytes()),
        ),
    ];
    cases
        .into_iter()
        .enumerate()
        .map(|(number, (encoding, want, body))| Attempt {
            class: Class::Encoding,
            what: format!("compressed body {number}, {encoding}"),
            want,
            bytes: [
                format!(
                    "POST /v1/responses HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
                     content-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
                    names.host,
                    names.key,
                    body.len()
                )
                .into_bytes(),
                body,
            ]
            .concat(),
        })
        .collect()
}
