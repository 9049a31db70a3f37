//! The parameters of a request: from its query, from a form, or from JSON. RFC 6749 sections 3.1 and 3.2: a parameter
//! without a value counts as absent, and none may come twice. Values may be secrets and are kept as such.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use serde_json::Value;
use tokensink_types::{Body, Secret};
use url::form_urlencoded;

/// Parameters by name.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, Secret)>);

impl Params {
    /// Query and body together, as the authorization endpoint takes them.
    pub(crate) fn of(request: &Request<Body>) -> Result<Self, String> {
        let mut params = Self::from_form(request.uri().query().unwrap_or("").as_bytes())?;
        for (name, value) in Self::of_body(request)?.0 {
            params.insert(name, value)?;
        }
        Ok(params)
    }

    /// The body alone, as the token endpoint takes it.
    pub(crate) fn of_body(request: &Request<Body>) -> Result<Self, String> {
        let body = request.body().expose();
        match media_type(request.headers()).as_deref() {
            _ if body.is_empty() => Ok(Self::default()),
            Some("application/x-www-form-urlencoded") => Self::from_form(body),
            Some("application/json") => Self::from_json(body),
            other => Err(format!(
                "content-type is {}; it must be application/x-www-form-urlencoded or application/json",
                other.unwrap_or("missing")
            )),
        }
    }

    fn from_form(text: &[u8]) -> Result<Self, String> {
        let mut params = Self::default();
        for (name, value) in form_urlencoded::parse(text) {
            params.insert(name.into_owned(), Secret::new(value.into_owned()))?;
        }
        Ok(params)
    }

    fn from_json(text: &[u8]) -> Result<Self, String> {
        // The parser's own message may quote the text, and the text holds secrets.
        let Ok(Value::Object(members)) = serde_json::from_slice(text) else {
            return Err("the body is not a JSON object".to_owned());
        };
        let mut params = Self::default();
        for (name, value) in members {
            match value {
                Value::String(text) => params.insert(name, Secret::new(text))?,
                Value::Number(number) => params.insert(name, Secret::new(number.to_string()))?,
                Value::Bool(flag) => params.insert(name, Secret::new(flag.to_string()))?,
                Value::Null => {}
                Value::Array(_) | Value::Object(_) => return Err(format!("{name} is not a plain value")),
            }
        }
        Ok(params)
    }

    fn insert(&mut self, name: String, value: Secret) -> Result<(), String> {
        if value.expose().is_empty() {
            return Ok(());
        }
        if self.secret(&name).is_some() {
            return Err(format!("{name} is given more than once"));
        }
        self.0.push((name, value));
        Ok(())
    }

    /// The value of `name`, if it has one.
    pub(crate) fn secret(&self, name: &str) -> Option<&Secret> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value)
    }

    /// The value of `name`, for parameters that are no secrets.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.secret(name).map(Secret::expose)
    }

    /// The words of `scope` (RFC 6749 section 3.3), or `None` where it is absent.
    pub(crate) fn scopes(&self) -> Option<Vec<String>> {
        self.text("scope").map(|scope| {
            scope
                .split(' ')
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        })
    }

    /// Every name with its value, in the order of arrival.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

/// The media type of a body, lower-case and without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next().unwrap_or(value).trim();
    (!media_type.is_empty()).then(|| media_type.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(content_type: &str, body: &str) -> Result<Vec<(String, String)>, String> {
        let request = Request::post("/oauth/token")
            .header(CONTENT_TYPE, content_type)
            .body(Body::new(body))
            .unwrap();
        Params::of_body(&request).map(|params| {
            params
                .iter()
                .map(|(name, value)| (name.to_owned(), value.expose().to_owned()))
                .collect()
        })
    }

    #[test]
    fn bodies() {
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        let json = "Application/JSON";
        type Want<'a> = Result<&'a [(&'a str, &'a str)], &'a str>;
        let cases: [(&str, &str, Want<'_>); 11] = [
            (form, "a=1&b=x+y%21", Ok(&[("a", "1"), ("b", "x y!")])),
            (form, "a=&b=2", Ok(&[("b", "2")])),
            (form, "a=1&a=1", Err("a is given more than once")),
            (
                json,
                r#"{"a":"1","n":3,"t":true,"z":null}"#,
                Ok(&[("a", "1"), ("n", "3"), ("t", "true")]),
            ),
            (json, r#"{"a":{}}"#, Err("a is not a plain value")),
            (json, r#"["canary"]"#, Err("the body is not a JSON object")),
            (json, r#"{"canary"#, Err("the body is not a JSON object")),
            (json, "", Ok(&[])),
            ("text/plain", "", Ok(&[])),
            (
                "text/plain",
                "a=1",
                Err(
                    "content-type is text/plain; it must be application/x-www-form-urlencoded or application/json",
                ),
            ),
            (
                "",
                "a=1",
                Err(
                    "content-type is missing; it must be application/x-www-form-urlencoded or application/json",
                ),
            ),
        ];
        for (content_type, body, want) in cases {
            let want = want
                .map(|pairs| {
                    pairs
                        .iter()
                        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                        .collect()
                })
                .map_err(str::to_owned);
            assert_eq!(parse(content_type, body), want, "{content_type:?} {body:?}");
        }
    }

    #[test]
    fn the_query_counts_only_where_it_may() {
        let request = Request::get("/oauth/authorize?a=1")
            .body(Body::default())
            .unwrap();
        assert_eq!(Params::of(&request).unwrap().text("a"), Some("1"));
        assert!(Params::of_body(&request).unwrap().text("a").is_none());
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in ".{0,64}", json in any::<bool>()) {
            let content_type = if json { "application/json" } else { "application/x-www-form-urlencoded" };
            if let Ok(params) = parse(content_type, &body) {
                prop_assert!(params.iter().all(|(_, value)| !value.is_empty()));
            }
        }

        #[test]
        fn a_form_comes_back_as_it_was_sent(name in "[a-z]{1,9}", value in ".{1,40}") {
            let body = form_urlencoded::Serializer::new(String::new()).append_pair(&name, &value).finish();
            prop_assert_eq!(parse("application/x-www-form-urlencoded", &body), Ok(vec![(name, value)]));
        }
    }
}
