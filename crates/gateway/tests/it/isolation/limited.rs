//! A key that is for one provider uses no other of its agent's, whatever it is asked for.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::attempts::{Names, filled};
use super::{Both, Setup, status, stored_key};

const REFUSED: &[u16] = &[403];
/// Whether a name exists is not told to a key that may not use it.
const REFUSED_OR_UNKNOWN: &[u16] = &[400, 403, 404];

/// What a key for `rig` alone sends to get at `mill`.
const TRIES: &[(&[u16], &str)] = &[
    (REFUSED, "POST /mill/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}"),
    (
        REFUSED_OR_UNKNOWN,
        "POST /MILL/x HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{}",
    ),
    (
        REFUSED,
        "POST /mill/v1/messages HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"grain\"}",
    ),
    (
        REFUSED,
        "GET /mill/models HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n",
    ),
    (
        REFUSED,
        "POST /v1/messages HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"mill/grain\"}",
    ),
    (
        REFUSED,
        "POST /v1/messages HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"grain\"}",
    ),
    (
        REFUSED,
        "POST /v1/messages HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"mill/grain@mill:one\"}",
    ),
    (
        REFUSED,
        "POST /v1/messages HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"mod\\u0065l\":\"mi\\u006cl/grain\"}",
    ),
    (
        REFUSED_OR_UNKNOWN,
        "POST /v1/messages HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"came-out-today\"}",
    ),
    (
        REFUSED,
        "POST /v1/messages/count_tokens HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"mill/grain\"}",
    ),
    (
        REFUSED_OR_UNKNOWN,
        "GET /v1/models/mill%2Fgrain HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n",
    ),
    (
        REFUSED,
        "POST /tokensink/v1/lease HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"provider\":\"mill\"}",
    ),
    (
        REFUSED_OR_UNKNOWN,
        "POST /tokensink/v1/lease HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"provider\":\"MILL\"}",
    ),
    (
        REFUSED,
        "POST /tokensink/v1/lease HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"profile\":\"mill:one\"}",
    ),
    (
        REFUSED,
        "POST /tokensink/v1/lease HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"mill/grain\"}",
    ),
    (
        REFUSED,
        "POST /tokensink/v1/lease HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"grain@mill:one\"}",
    ),
    (
        REFUSED,
        "GET /metrics HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n",
    ),
];

#[test]
fn a_key_of_one_provider_uses_no_other() {
    for on_socket in [false, true] {
        let both = Both::new(Setup {
            same_ids: true,
            stored_keys: true,
            on_socket,
        });
        let names = Names {
            key: stored_key(&both.world, "ci", "work", &["rig"]),
            ..both.names("work", "personal")
        };
        let mut tries: Vec<_> = TRIES
            .iter()
            .map(|(want, template)| (*want, (*template).to_owned(), filled(template, &names)))
            .collect();
        tries.push((REFUSED, "compressed".to_owned(), compressed(&names)));
        for (want, what, bytes) in tries {
            let answer = both.exchange(&bytes);
            let text = String::from_utf8_lossy(&answer);
            assert!(want.contains(&status(&answer)), "{what}: {text}");
            assert!(!text.contains("sk-"), "{what}: {text}");
        }
        assert_eq!(both.world.upstream.seen().len(), 0, "nothing went up");
        let ask = |template: &str| both.exchange(&filled(template, &names));
        let models = ask("GET /v1/models HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n");
        let models = String::from_utf8_lossy(&models).into_owned();
        assert!(
            models.contains("rig/small") && !models.contains("grain"),
            "{models}"
        );
        // What it is for, it may use.
        let served = ask("POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"small\"}");
        assert_eq!(status(&served), 200, "{}", String::from_utf8_lossy(&served));
        let lease = ask("POST /tokensink/v1/lease HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"profile\":\"rig:two\"}");
        assert!(String::from_utf8_lossy(&lease).contains("sk-work-2"));
    }
}

fn compressed(names: &Names<'_>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(br#"{"model":"mill/grain"}"#).unwrap();
    let body = encoder.finish().unwrap();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
         content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        names.host,
        names.key,
        body.len()
    );
    [head.into_bytes(), body].concat()
}
