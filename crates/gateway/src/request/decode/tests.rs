//! Compressed bodies as clients and attackers send them.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use http::HeaderValue;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

fn read(encodings: &[&str], body: &[u8]) -> Result<DecodedBody, Refusal> {
    let mut headers = HeaderMap::new();
    for value in encodings {
        headers.append(CONTENT_ENCODING, HeaderValue::from_str(value).unwrap());
    }
    decode(&headers, &Bytes::copy_from_slice(body))
}

/// `{"model":"m"}` as the zstd command writes it, with a checksum (RFC 8878).
const BY_ZSTD: [u8; 26] = [
    0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x69, 0x00, 0x00, 0x7b, 0x22, 0x6d, 0x6f, 0x64, 0x65, 0x6c, 0x22,
    0x3a, 0x22, 0x6d, 0x22, 0x7d, 0x27, 0x8b, 0x7c, 0x64,
];

#[test]
fn what_clients_send() {
    let text = br#"{"model":"m"}"#;
    let cases: [(&[&str], Vec<u8>, bool); 7] = [
        (&[], text.to_vec(), false),
        (&["identity"], text.to_vec(), false),
        (&[""], text.to_vec(), false),
        (&["gzip"], gzip(text), true),
        (&["X-GZIP"], gzip(text), true),
        (&["zstd"], zstd(text), true),
        (&[" Zstd "], zstd(text), true),
    ];
    for (encodings, body, compressed) in cases {
        let decoded = read(encodings, &body).unwrap();
        assert_eq!(decoded.bytes.as_ref(), text, "{encodings:?}");
        assert_eq!(decoded.compressed, compressed, "{encodings:?}");
    }
}

#[test]
fn what_is_refused() {
    let text = br#"{"model":"m"}"#;
    let (gz, zs) = (gzip(text), zstd(text));
    let with = |body: &[u8], more: &[u8]| [body, more].concat();
    let cut = |body: &[u8]| body[..body.len() - 1].to_vec();
    let cases: Vec<(&[&str], Vec<u8>, &str)> = vec![
        (&["br"], text.to_vec(), "content_encoding"),
        (&["deflate"], text.to_vec(), "content_encoding"),
        (&["gzip, zstd"], gz.clone(), "content_encoding"),
        (&["gzip", "gzip"], gzip(&gz), "content_encoding"),
        (&["identity, gzip"], gz.clone(), "content_encoding"),
        (&["\u{e9}"], text.to_vec(), "content_encoding"),
        (&["gzip"], text.to_vec(), "bad_encoding"),
        (&["zstd"], text.to_vec(), "bad_encoding"),
        (&["gzip"], Vec::new(), "bad_encoding"),
        (&["zstd"], Vec::new(), "bad_encoding"),
        (&["gzip"], cut(&gz), "bad_encoding"),
        (&["zstd"], cut(&zs), "bad_encoding"),
        (&["gzip"], with(&gz, b"x"), "bad_encoding"),
        (&["zstd"], with(&zs, b"x"), "bad_encoding"),
        (&["gzip"], with(&gz, &gz), "bad_encoding"),
        (&["zstd"], with(&zs, &zs), "bad_encoding"),
        (&["gzip"], zs.clone(), "bad_encoding"),
        (&["zstd"], gz.clone(), "bad_encoding"),
    ];
    for (encodings, body, code) in cases {
        let refusal = read(encodings, &body).unwrap_err();
        assert_eq!(refusal.code, code, "{encodings:?} {body:?}");
        assert!(refusal.fix.is_some());
    }
}

#[test]
fn a_wrong_checksum_is_seen() {
    assert_eq!(
        read(&["zstd"], &BY_ZSTD).unwrap().bytes.as_ref(),
        br#"{"model":"m"}"#
    );
    let mut bent = BY_ZSTD;
    bent[18] ^= 1;
    assert!(read(&["zstd"], &bent).unwrap_err().message.contains("checksum"));
    let mut bent = gzip(b"abc");
    let crc = bent.len() - 8;
    bent[crc] ^= 1;
    assert_eq!(read(&["gzip"], &bent).unwrap_err().code, "bad_encoding");
}

#[test]
fn what_grows_too_much_is_not_grown() {
    for size in [RATIO_FREE + 1, 8 * 1024 * 1024] {
        for (name, body) in [
            ("gzip", gzip(&vec![b' '; size])),
            ("zstd", zstd(&vec![b' '; size])),
        ] {
            assert!(body.len() * RATIO_MAX < size, "{name}: {} bytes", body.len());
            assert_eq!(read(&[name], &body).unwrap_err().status, 413, "{name} {size}");
        }
    }
    for (name, body) in [
        ("gzip", gzip(&vec![b' '; RATIO_FREE])),
        ("zstd", zstd(&vec![b' '; RATIO_FREE])),
    ] {
        assert_eq!(read(&[name], &body).unwrap().bytes.len(), RATIO_FREE, "{name}");
    }
    let plain = Bytes::from(vec![b' '; DECODED_MAX + 1]);
    assert_eq!(decode(&HeaderMap::new(), &plain).unwrap_err().status, 413);
    // A window of 2 GiB.
    let huge = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    assert_eq!(read(&["zstd"], &huge).unwrap_err().code, "bad_encoding");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_was_packed_comes_out(text in prop::collection::vec(any::<u8>(), 0..2_000)) {
        for (name, body) in [("gzip", gzip(&text)), ("zstd", zstd(&text))] {
            let read = read(&[name], &body).unwrap();
            prop_assert_eq!(read.bytes.as_ref(), &text[..], "{}", name);
        }
    }

    /// Bent bytes give the same text, or none.
    #[test]
    fn bent_bytes_do_not_panic(
        text in "[a-z ]{0,300}",
        bends in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for (name, mut body) in [("gzip", gzip(text.as_bytes())), ("zstd", zstd(text.as_bytes()))] {
            for (at, byte) in &bends {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            let _ = read(&[name], &body);
            let end = cut.index(body.len());
            let _ = read(&[name], &body[..end]);
        }
    }

    #[test]
    fn any_bytes_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        for name in ["gzip", "zstd"] {
            let _ = read(&[name], &body);
            let mut framed = vec![0x28, 0xb5, 0x2f, 0xfd];
            framed.extend(&body);
            let _ = read(&[name], &framed);
        }
    }
}

#[test]
fn the_memory_that_decoding_can_take_is_known_before() {
    let needed = |encoding: &str, given: usize| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_str(encoding).unwrap());
        room(&headers, given)
    };
    assert_eq!(room(&HeaderMap::new(), DECODED_MAX), 0);
    assert_eq!((needed("identity", 1_000), needed("br", 1_000)), (0, 0));
    for encoding in ["gzip", "zstd"] {
        assert_eq!(needed(encoding, 10), 2 * RATIO_FREE);
        assert_eq!(needed(encoding, 10_000), 2 * 10_000 * RATIO_MAX);
        assert_eq!(needed(encoding, usize::MAX), 2 * DECODED_MAX);
    }
}
