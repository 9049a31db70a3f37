//! What all requests to an authorization server have in common: where they go, who sends them, and how their fields
//! are written (RFC 6749 sections 2.3.1, 4.1.3 and appendix B).
//!
//! Fields keep the order in which they are given, down to the byte: some servers and most recorded requests know
//! one order only. Nothing here knows which fields a grant has.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use thiserror::Error;
use tokensink_types::{Body, Secret};
use url::{Url, form_urlencoded};

/// Further parameters or headers in the order in which they are sent. A name that the request has already takes the
/// new value at its old place; the value `""` leaves the parameter or header out.
pub type Extras<'a> = &'a [(String, String)];

/// How the fields of a request are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyFormat {
    /// `application/x-www-form-urlencoded`, as RFC 6749 appendix B has it.
    #[default]
    Form,
    /// A JSON object of strings (Anthropic, OpenAI's revocation and device endpoints).
    Json,
}

impl BodyFormat {
    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Form => "application/x-www-form-urlencoded",
            Self::Json => "application/json",
        })
    }
}

/// Who asks (RFC 6749 section 2.3.1, credentials in the body). Public clients have no secret.
#[derive(Debug, Clone, Copy)]
pub struct ClientAuth<'a> {
    /// The client identifier; left out where it is empty.
    pub client_id: &'a str,
    /// The client secret of a confidential client.
    pub client_secret: Option<&'a Secret>,
}

/// An endpoint that takes POST requests, with everything about it that comes from the provider definition.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint<'a> {
    /// Where it is.
    pub url: &'a Url,
    /// Who asks.
    pub client: ClientAuth<'a>,
    /// How the fields are written.
    pub format: BodyFormat,
    /// Further fields.
    pub params: Extras<'a>,
    /// Further headers; they may also change `accept` and `content-type`.
    pub headers: Extras<'a>,
}

/// Why a request cannot be built. Each of them is a fault of the provider definition or of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The URL does not fit an HTTP request.
    #[error("{url} cannot be requested: {cause}; correct the endpoint in the provider definition")]
    Endpoint {
        /// The endpoint.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A header that HTTP does not allow.
    #[error(
        "the header {name:?} has a name or value that HTTP does not allow; correct it in the provider definition"
    )]
    Header {
        /// Its name.
        name: String,
    },
    /// The flow needs a value that was not given.
    #[error("{field} is empty, nothing can be asked with it")]
    Missing {
        /// The parameter's name.
        field: &'static str,
    },
}

impl<'a> Endpoint<'a> {
    /// A form endpoint of a public client, without extras.
    #[must_use]
    pub fn new(url: &'a Url, client_id: &'a str) -> Self {
        let client = ClientAuth {
            client_id,
            client_secret: None,
        };
        Self {
            url,
            client,
            format: BodyFormat::Form,
            params: &[],
            headers: &[],
        }
    }

    /// Writes `fields` and the extras into a POST request.
    pub(crate) fn post(&self, fields: Fields<'_>) -> Result<Request<Body>, RequestError> {
        let mut request = Request::new(fields.with(self.params).encode(self.format));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri(self.url)?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, self.format.content_type());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers {
            let error = || RequestError::Header { name: name.clone() };
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| error())?;
            if value.is_empty() {
                headers.remove(key);
            } else {
                headers.insert(key, HeaderValue::from_str(value).map_err(|_| error())?);
            }
        }
        Ok(request)
    }
}

/// A GET request for a JSON document, with a bearer token where the resource is protected (RFC 6750 section 2.1).
pub(crate) fn get(url: &Url, bearer: Option<&Secret>) -> Result<Request<Body>, RequestError> {
    let mut request = Request::new(Body::default());
    *request.uri_mut() = uri(url)?;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(token) = bearer {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
            RequestError::Header {
                name: "authorization".to_owned(),
            }
        })?;
        value.set_sensitive(true);
        headers.insert(http::header::AUTHORIZATION, value);
    }
    Ok(request)
}

fn uri(url: &Url) -> Result<Uri, RequestError> {
    // A fragment is never sent (RFC 9110 section 7.1), and the URI type does not take one.
    let mut url = url.clone();
    url.set_fragment(None);
    Uri::try_from(url.as_str()).map_err(|error| RequestError::Endpoint {
        url: url.to_string(),
        cause: error.to_string(),
    })
}

/// Fields in the order in which they are sent.
#[derive(Default)]
pub(crate) struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    /// Adds a field unless its value is empty or the name is there already: no parameter is sent twice (RFC 6749
    /// section 3.2).
    pub(crate) fn add(mut self, name: &'a str, value: &'a str) -> Self {
        if !value.is_empty() && self.0.iter().all(|(known, _)| *known != name) {
            self.0.push((name, value));
        }
        self
    }

    /// Adds a field if there is a value for it.
    pub(crate) fn add_secret(self, name: &'a str, value: Option<&'a Secret>) -> Self {
        self.add(name, value.map_or("", Secret::expose))
    }

    /// Adds the client's identifier and secret.
    pub(crate) fn client(self, client: ClientAuth<'a>) -> Self {
        self.add("client_id", client.client_id)
            .add_secret("client_secret", client.client_secret)
    }

    /// Lays extras over the fields; see [`Extras`].
    pub(crate) fn with(mut self, extras: Extras<'a>) -> Self {
        for (name, value) in extras {
            if value.is_empty() {
                self.0.retain(|(known, _)| known != name);
            } else if let Some(field) = self.0.iter_mut().find(|(known, _)| known == name) {
                field.1 = value;
            } else {
                self.0.push((name, value));
            }
        }
        self
    }

    /// The fields as they are.
    pub(crate) fn pairs(&self) -> &[(&'a str, &'a str)] {
        &self.0
    }

    /// Writes them. The buffer is made large enough at once, so that no copy of a secret stays behind in memory.
    fn encode(&self, format: BodyFormat) -> Body {
        let size: usize = self
            .0
            .iter()
            .map(|(name, value)| 6 * (name.len() + value.len()) + 8)
            .sum();
        match format {
            BodyFormat::Form => {
                let mut form = form_urlencoded::Serializer::new(String::with_capacity(size));
                form.extend_pairs(&self.0);
                Body::new(form.finish())
            }
            BodyFormat::Json => Body::new(self.json(size + 2)),
        }
    }

    fn json(&self, size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(size);
        for (name, value) in &self.0 {
            out.push(if out.is_empty() { b'{' } else { b',' });
            write_json(&mut out, name);
            out.push(b':');
            write_json(&mut out, value);
        }
        if out.is_empty() {
            out.push(b'{');
        }
        out.push(b'}');
        out
    }
}

fn write_json(out: &mut Vec<u8>, text: &str) {
    #[expect(clippy::expect_used, reason = "writing a string into memory cannot fail")]
    serde_json::to_writer(out, text).expect("a string into a vector");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extras(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn body(request: &Request<Body>) -> &str {
        std::str::from_utf8(request.body().expose()).unwrap()
    }

    #[test]
    fn fields_keep_their_order_in_both_formats() {
        let url = Url::parse("https://as.example/token?tenant=1#top").unwrap();
        let params = extras(&[("scope", "a b"), ("b", "2"), ("gone", ""), ("c", "")]);
        for (format, want, kind) in [
            (
                BodyFormat::Form,
                "b=2&a=x%2F%2B+%22y&scope=a+b",
                "application/x-www-form-urlencoded",
            ),
            (
                BodyFormat::Json,
                r#"{"b":"2","a":"x/+ \"y","scope":"a b"}"#,
                "application/json",
            ),
        ] {
            let endpoint = Endpoint {
                format,
                params: &params,
                ..Endpoint::new(&url, "")
            };
            let fields = Fields::default()
                .add("b", "1")
                .add("b", "0")
                .add("a", "x/+ \"y")
                .add("c", "3")
                .add("d", "");
            let request = endpoint.post(fields).unwrap();
            assert_eq!(body(&request), want);
            assert_eq!(request.method(), Method::POST);
            assert_eq!(request.uri(), "https://as.example/token?tenant=1");
            assert_eq!(request.headers()[CONTENT_TYPE], kind);
            assert_eq!(request.headers()[ACCEPT], "application/json");
        }
    }

    #[test]
    fn no_fields_are_an_empty_object() {
        assert_eq!(Fields::default().encode(BodyFormat::Json).expose(), b"{}");
        assert!(Fields::default().encode(BodyFormat::Form).is_empty());
    }

    #[test]
    fn headers_are_added_replaced_and_left_out() {
        let url = Url::parse("https://as.example/token").unwrap();
        let headers = extras(&[
            ("X-Extra", "1"),
            ("Accept", ""),
            ("content-type", "application/x-y"),
        ]);
        let endpoint = Endpoint {
            headers: &headers,
            ..Endpoint::new(&url, "id")
        };
        let request = endpoint.post(Fields::default()).unwrap();
        assert_eq!(request.headers()["x-extra"], "1");
        assert_eq!(request.headers()[CONTENT_TYPE], "application/x-y");
        assert!(!request.headers().contains_key(ACCEPT));
        for wrong in [("bad name", "1"), ("x", "line\nbreak")] {
            let headers = extras(&[wrong]);
            let endpoint = Endpoint {
                headers: &headers,
                ..endpoint
            };
            assert!(matches!(
                endpoint.post(Fields::default()),
                Err(RequestError::Header { name }) if name == wrong.0
            ));
        }
    }

    #[test]
    fn bearer_goes_into_a_sensitive_header() {
        let url = Url::parse("https://as.example/userinfo").unwrap();
        let request = get(&url, Some(&"at-canary".into())).unwrap();
        assert_eq!(request.headers()["authorization"], "Bearer at-canary");
        assert!(!format!("{request:?}").contains("canary"));
        assert!(get(&url, Some(&"a\nb".into())).is_err());
    }
}
