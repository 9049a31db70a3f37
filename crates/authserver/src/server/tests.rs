//! The rules of the server, driven without sockets; time is a number here.

mod device;
mod faults;
mod login;
mod refresh;
mod resource;

use std::io;
use std::sync::Mutex;

use http::header::{CONTENT_TYPE, LOCATION};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;
use url::form_urlencoded::Serializer;

use super::*;

const ISSUER: &str = "http://127.0.0.1:9400";
const REDIRECT: &str = "http://127.0.0.1:1455/auth/callback";
/// The example of RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Parameters of a request.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// The same bytes in every run, and none twice; or none at all.
#[derive(Debug, Default)]
struct Counted {
    count: Mutex<u64>,
    broken: bool,
}

impl Random for Counted {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("there is none"));
        }
        let mut count = self.count.lock().unwrap();
        *count += 1;
        let hash = Sha256::digest(count.to_le_bytes());
        for (to, from) in buffer.iter_mut().zip(hash.iter().cycle()) {
            *to = *from;
        }
        Ok(())
    }
}

/// A server, a clock and a client in one.
struct Rig {
    server: AuthorizationServer,
    now: UnixMillis,
    random: Counted,
}

impl Rig {
    fn new(config: ServerConfig) -> Self {
        Self {
            server: AuthorizationServer::new(config, ISSUER).unwrap(),
            now: UnixMillis(1_800_000_000_000),
            random: Counted::default(),
        }
    }

    fn default() -> Self {
        Self::new(ServerConfig::default())
    }

    fn pass(&mut self, millis: i64) {
        self.now = UnixMillis(self.now.0 + millis);
    }

    fn send(&mut self, request: &Request<Body>) -> Got {
        Got::from(self.server.handle(request, self.now, &self.random))
    }

    fn get(&mut self, target: &str) -> Got {
        self.send(&Request::get(target).body(Body::default()).unwrap())
    }

    fn get_with(&mut self, target: &str, header: &str, value: &str) -> Got {
        self.send(
            &Request::get(target)
                .header(header, value)
                .body(Body::default())
                .unwrap(),
        )
    }

    fn post(&mut self, path: &str, pairs: &[(&str, &str)]) -> Got {
        let request = Request::post(path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::new(form(pairs)))
            .unwrap();
        self.send(&request)
    }

    fn post_json(&mut self, path: &str, body: &Value) -> Got {
        let request = Request::post(path)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::new(body.to_string()))
            .unwrap();
        self.send(&request)
    }

    /// A code for the next account in line.
    fn code(&mut self) -> String {
        self.authorize(&[]).redirected("code").unwrap()
    }

    /// The usual authorization request with some parameters changed or, where empty, left out.
    fn authorize(&mut self, changes: &[(&str, &str)]) -> Got {
        let usual = [
            ("response_type", "code"),
            ("client_id", "rig"),
            ("redirect_uri", REDIRECT),
            ("scope", "openid email"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("state", "s-1"),
        ];
        self.get(&format!("/oauth/authorize?{}", form(&changed(&usual, changes))))
    }

    /// The usual exchange with some parameters changed.
    fn exchange(&mut self, code: &str, changes: &[(&str, &str)]) -> Got {
        let usual = [
            ("grant_type", "authorization_code"),
            ("client_id", "rig"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        self.post("/oauth/token", &changed(&usual, changes))
    }

    /// Signs in; returns the token answer.
    fn login(&mut self) -> Got {
        let code = self.code();
        let got = self.exchange(&code, &[]);
        assert_eq!(got.status, 200, "{got:?}");
        got
    }

    fn refresh(&mut self, token: &str) -> Got {
        self.refresh_with(token, &[])
    }

    fn refresh_with(&mut self, token: &str, changes: &[(&str, &str)]) -> Got {
        let usual = [
            ("grant_type", "refresh_token"),
            ("client_id", "rig"),
            ("refresh_token", token),
        ];
        self.post("/oauth/token", &changed(&usual, changes))
    }

    /// The status that the API answers to this access token.
    fn api(&mut self, access: &str) -> u16 {
        self.get_with("/v1/models", "authorization", &format!("Bearer {access}"))
            .status
    }

    /// The outcome of the last request in the log.
    fn outcome(&self) -> &str {
        &self.server.ledger().requests.back().unwrap().outcome
    }
}

/// What a client gets.
#[derive(Debug)]
struct Got {
    status: u16,
    body: String,
    location: Option<Url>,
    headers: http::HeaderMap,
    delivery: Delivery,
}

impl From<ServerAnswer> for Got {
    fn from(answer: ServerAnswer) -> Self {
        let headers = answer.response.headers().clone();
        let location = headers
            .get(LOCATION)
            .map(|url| Url::parse(url.to_str().unwrap()).unwrap());
        Self {
            status: answer.response.status().as_u16(),
            body: String::from_utf8_lossy(answer.response.body().expose()).into_owned(),
            location,
            headers,
            delivery: answer.delivery,
        }
    }
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// A text member of the answer.
    fn text(&self, name: &str) -> String {
        self.json()[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
            .to_owned()
    }

    fn refresh_token(&self) -> String {
        self.text("refresh_token")
    }

    fn access_token(&self) -> String {
        self.text("access_token")
    }

    /// Status and error code.
    fn error(&self) -> (u16, String) {
        (self.status, self.text("error"))
    }

    /// A parameter of the redirect.
    fn redirected(&self, name: &str) -> Option<String> {
        let url = self.location.as_ref()?;
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The payload of a JWT in the answer.
    fn claims(&self, name: &str) -> Value {
        use base64::Engine as _;
        let token = self.text(name);
        let payload = token.split('.').nth(1).unwrap();
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(payload)
            .unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
}

fn form(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// `usual` with the values of `changes`; an empty value leaves the parameter out, an unknown name is added.
fn changed<'a>(usual: &[(&'a str, &'a str)], changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = usual.to_vec();
    for (name, value) in changes {
        match pairs.iter_mut().find(|(known, _)| known == name) {
            Some(pair) => pair.1 = value,
            None => pairs.push((name, value)),
        }
    }
    pairs.retain(|(_, value)| !value.is_empty());
    pairs
}
