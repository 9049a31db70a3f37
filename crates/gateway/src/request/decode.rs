//! A copy of a body that can be read: what was compressed is decompressed, within bounds. The body that goes up stays
//! as it came.
//!
//! Strict where servers differ, so that nobody further on reads another body than we do: one encoding, one frame (gzip,
//! RFC 1952: one member), its checksum right, nothing after it.

use std::io::{BufRead, Read};

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};

use super::errors::Refusal;

/// Longest body that is read, in bytes, after decompression: as much as is held for a repetition. The largest requests
/// that the providers accept are of this size.
pub const DECODED_MAX: usize = 32 * 1024 * 1024;

/// How many bytes may come out of one. Conversations as JSON compress to a fifth to a thirtieth.
const RATIO_MAX: usize = 200;

/// What may come out whatever the ratio, in bytes: small bodies that repeat themselves are no attack.
const RATIO_FREE: usize = 1024 * 1024;

/// A body that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedBody {
    /// What it says.
    pub bytes: Bytes,
    /// It came compressed, so that what goes up cannot be edited.
    pub compressed: bool,
}

/// The encodings that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// Reads `body` as its headers say it is encoded (RFC 9110 section 8.4).
///
/// # Errors
/// 415 for another encoding or several, 413 beyond [`DECODED_MAX`] or a ratio that only an attack has, 400 for what is
/// broken or followed by something.
pub fn decode(headers: &HeaderMap, body: &Bytes) -> Result<DecodedBody, Refusal> {
    let encoding = encoding(headers)?;
    let bytes = match encoding {
        Encoding::Identity if body.len() > DECODED_MAX => return Err(too_large()),
        Encoding::Identity => body.clone(),
        Encoding::Gzip => gunzip(body)?,
        Encoding::Zstd => unzstd(body)?,
    };
    Ok(DecodedBody {
        bytes,
        compressed: encoding != Encoding::Identity,
    })
}

/// The most memory that decoding `given` bytes can take: what may come out, and as much again for the decoder's window or
/// for the growth of the buffer. Nothing for what is not compressed.
#[must_use]
pub fn room(headers: &HeaderMap, given: usize) -> usize {
    match encoding(headers) {
        Ok(Encoding::Gzip | Encoding::Zstd) => 2 * most(given),
        Ok(Encoding::Identity) | Err(_) => 0,
    }
}

/// How much may come out of `given` bytes.
fn most(given: usize) -> usize {
    given.saturating_mul(RATIO_MAX).clamp(RATIO_FREE, DECODED_MAX)
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let mut found = Encoding::Identity;
    let mut count = 0;
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_| unsupported("not text"))?;
        for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            count += 1;
            found = match name.to_ascii_lowercase().as_str() {
                "identity" => Encoding::Identity,
                // RFC 9110 section 8.4.1.3: the same.
                "gzip" | "x-gzip" => Encoding::Gzip,
                "zstd" => Encoding::Zstd,
                other => {
                    return Err(unsupported(&format!(
                        "{:?}",
                        other.chars().take(20).collect::<String>()
                    )));
                }
            };
        }
    }
    if count > 1 {
        return Err(unsupported("several"));
    }
    Ok(found)
}

fn gunzip(body: &Bytes) -> Result<Bytes, Refusal> {
    let mut decoder = flate2::bufread::GzDecoder::new(body.as_ref());
    let out = read_bounded(&mut decoder, body.len(), "gzip")?;
    ends(decoder.into_inner(), "gzip")?;
    Ok(out)
}

fn unzstd(body: &Bytes) -> Result<Bytes, Refusal> {
    let broken = |error: &dyn std::fmt::Display| broken("zstd", &error.to_string());
    // A window beyond what may come out is memory for nothing (RFC 8878 section 3.1.1.1.2).
    let window_max = DECODED_MAX as u64;
    let mut decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(body.as_ref(), window_max)
        .map_err(|error| broken(&error))?;
    let out = read_bounded(&mut decoder, body.len(), "zstd")?;
    let (rest, frame) = decoder.into_parts();
    if frame.get_checksum_from_data().is_some()
        && frame.get_checksum_from_data() != frame.get_calculated_checksum()
    {
        return Err(broken(&"its checksum is wrong"));
    }
    ends(rest, "zstd")?;
    Ok(out)
}

/// All that comes out, at most what the bounds allow for `given` bytes.
fn read_bounded(decoder: &mut impl Read, given: usize, name: &str) -> Result<Bytes, Refusal> {
    let max = most(given);
    let mut out = Vec::new();
    let read = decoder.take(max as u64 + 1).read_to_end(&mut out);
    if out.len() > max {
        return Err(too_large());
    }
    read.map_err(|error| broken(name, &error.to_string()))?;
    Ok(Bytes::from(out))
}

fn ends(mut rest: impl BufRead, name: &str) -> Result<(), Refusal> {
    match rest.fill_buf() {
        Ok([]) => Ok(()),
        _ => Err(broken(name, "something follows its end")),
    }
}

fn broken(name: &str, why: &str) -> Refusal {
    let why: String = why.chars().take(200).collect();
    Refusal::bad(
        "bad_encoding",
        format!("the body cannot be read as {name}, as content-encoding says: {why}"),
    )
    .with_fix("send the body uncompressed")
}

fn unsupported(what: &str) -> Refusal {
    Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "content_encoding",
        format!("the body's content-encoding is {what}; to find the model, one of gzip and zstd can be read"),
    )
    .with_fix("send the body uncompressed, or to /<provider>/… where it is not read")
}

fn too_large() -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!(
            "the body is larger than {} MiB or grows more than {RATIO_MAX}-fold when it is decompressed",
            DECODED_MAX / 1024 / 1024
        ),
    )
    .with_fix("send less, or to /<provider>/… where the body is not read")
}

#[cfg(test)]
mod tests;
