//! A client for servers on this host: one request per connection, the answer's bytes as they came. Panics say what
//! was wrong with a request or its answer; it knows no TLS, no proxies and no chunked answers.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "it speaks to servers of tests, and a test says what is wrong by panicking"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

/// How long a server may take; only a hanging test ever waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer, or what came of one.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Everything that came over the connection.
    pub bytes: Vec<u8>,
    /// Status; 0 where no whole head came.
    pub status: u16,
    /// Header fields by lower-case name; only `set-cookie` may come several times and is joined by line feeds.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// A text member of the body.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.json()[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
            .to_owned()
    }
}

/// Sends one request and reads until the server closes.
///
/// # Panics
/// When the server cannot be reached or does not answer in time.
#[must_use]
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let url = Url::parse(url).unwrap();
    let host = url.host_str().unwrap();
    let port = url.port_or_known_default().unwrap();
    let mut stream = TcpStream::connect((host, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut request = format!("{method} {target} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n");
    if !body.is_empty() || method == "POST" {
        request.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    stream
        .write_all(format!("{request}\r\n{body}").as_bytes())
        .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    parse(bytes)
}

/// GET.
///
/// # Panics
/// As for [`send`].
#[must_use]
pub fn get(url: &str) -> Answer {
    send("GET", url, &[], "")
}

/// POST of a form.
///
/// # Panics
/// As for [`send`].
#[must_use]
pub fn post(url: &str, pairs: &[(&str, &str)]) -> Answer {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    send("POST", url, &headers, &form(pairs))
}

/// POST of JSON.
///
/// # Panics
/// As for [`send`].
#[must_use]
pub fn post_json(url: &str, body: &Value) -> Answer {
    send(
        "POST",
        url,
        &[("content-type", "application/json")],
        &body.to_string(),
    )
}

/// Form-encoded pairs.
#[must_use]
pub fn form(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn parse(bytes: Vec<u8>) -> Answer {
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or(("", ""));
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        headers
            .entry(name.to_ascii_lowercase())
            .and_modify(|known| {
                known.push('\n');
                known.push_str(value.trim());
            })
            .or_insert_with(|| value.trim().to_owned());
    }
    assert!(
        !headers.contains_key("transfer-encoding"),
        "this client does not read chunks"
    );
    Answer {
        status,
        headers,
        body: body.to_owned(),
        bytes,
    }
}

/// Follows redirects within one origin, with cookies, as a browser would; returns the URL that leads elsewhere.
///
/// # Panics
/// When an answer is no redirect.
#[must_use]
pub fn browse(start: &str) -> Url {
    let mut cookies = BTreeMap::<String, String>::new();
    let mut url = Url::parse(start).unwrap();
    let origin = url.origin();
    for _ in 0..10 {
        let jar: Vec<String> = cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let answer = send("GET", url.as_str(), &[("cookie", &jar.join("; "))], "");
        for cookie in answer
            .headers
            .get("set-cookie")
            .into_iter()
            .flat_map(|all| all.lines())
        {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.to_lowercase().contains("expires=thu, 01 jan 1970") {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let location = answer
            .headers
            .get("location")
            .unwrap_or_else(|| panic!("no redirect: {answer:?}"));
        url = url.join(location).unwrap();
        if url.origin() != origin {
            return url;
        }
    }
    panic!("too many redirects at {url}");
}

/// A parameter of a URL's query.
#[must_use]
pub fn query(url: &Url, name: &str) -> Option<String> {
    url.query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
