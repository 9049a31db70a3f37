//! A gateway with one check taken out, as pure as can be: the bytes of an attempt, and what would have gone up.
//!
//! For each class the mistake that real gateways have made: believing a header, a path or a query about who asks,
//! looking profiles and sessions up among all, passing bytes on as they are framed.

use std::io::Read as _;
use std::time::Instant;

use tokensink_testkit::Seen;

use super::attempts::{Class, Names};

/// What goes up, and what comes down.
pub(super) fn gateway(class: Class, bytes: &[u8], names: &Names<'_>) -> (Vec<Seen>, Vec<u8>) {
    let (head, body) = split(bytes);
    let seen = request(&head, body);
    let whose = |text: &str| {
        if text.contains(names.other) {
            names.other
        } else {
            names.me
        }
    };
    let header = |name: &str| {
        let found = seen.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let owner = match class {
        Class::Path => whose(&seen.path),
        Class::Query => whose(seen.path.split_once('?').map_or("", |(_, query)| query)),
        // Believes what is named after an agent, and lets the client's headers through.
        Class::Header => {
            let named = seen
                .headers
                .iter()
                .filter(|(name, _)| name.contains("agent") || name.contains("profile"));
            let named: String = named.map(|(_, value)| value.as_str()).collect();
            let mut up = carrying(&seen, "/base/x", whose(&named));
            let theirs = seen
                .headers
                .iter()
                .filter(|(_, value)| !value.contains(&names.key));
            up.headers.extend(theirs.cloned());
            if header("connection").contains("authorization") {
                up.headers.retain(|(name, _)| name != "authorization");
            }
            return (vec![up], answer());
        }
        Class::Model => whose(last_model(body)),
        Class::Encoding => whose(last_model(&unpacked(body))),
        Class::Session => whose(&format!(
            "{}{}",
            header("x-tokensink-session"),
            header("session-id")
        )),
        Class::State => whose(&format!("{}{}", seen.path, String::from_utf8_lossy(body))),
        Class::Own => {
            let lease = format!(
                "HTTP/1.1 200 OK\r\n\r\nsk-{}",
                whose(&String::from_utf8_lossy(body))
            );
            return (Vec::new(), lease.into_bytes());
        }
        // Passes on where the request line says.
        Class::Target => return (vec![carrying(&seen, &seen.path, names.me)], answer()),
        // Passes the bytes on; the provider finds the second request.
        Class::Framing => {
            let second = bytes
                .windows(5)
                .rposition(|window| window == b"GET /" || window == b"POST ");
            let second = second
                .filter(|at| *at > 0)
                .map(|at| request(&split(&bytes[at..]).0, b""));
            let first = carrying(&seen, "/base/x", names.me);
            return (std::iter::once(first).chain(second).collect(), answer());
        }
    };
    (vec![carrying(&seen, "/base/x", owner)], answer())
}

fn answer() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\n\r\n".to_vec()
}

fn carrying(seen: &Seen, path: &str, owner: &str) -> Seen {
    Seen {
        path: path.to_owned(),
        headers: vec![("authorization".to_owned(), format!("Bearer sk-{owner}"))],
        ..seen.clone()
    }
}

fn split(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    (head, bytes.get(end + 4..).unwrap_or_default())
}

fn request(head: &str, body: &[u8]) -> Seen {
    let mut words = head.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let path = words.next().unwrap_or_default().to_owned();
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    Seen {
        method,
        path,
        headers: fields
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: body.to_vec(),
        at: Instant::now(),
        connection: 1,
    }
}

/// The last model that a body names, found as text.
fn last_model(body: &[u8]) -> &str {
    let text = std::str::from_utf8(body).unwrap_or_default();
    text.rsplit("model\"")
        .next()
        .filter(|rest| rest.len() < text.len())
        .unwrap_or_default()
}

/// Unpacks whatever looks packed, as often and as far as it goes.
fn unpacked(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..3 {
        let mut out = Vec::new();
        let mut rest = body.as_slice();
        // What cannot be read says nothing.
        if rest.starts_with(&[0x1f, 0x8b]) {
            let _ = flate2::read::MultiGzDecoder::new(rest).read_to_end(&mut out);
        }
        while let Ok(mut frame) = ruzstd::decoding::StreamingDecoder::new(&mut rest) {
            let _ = frame.read_to_end(&mut out);
        }
        if out.is_empty() {
            break;
        }
        body = out;
    }
    body
}
