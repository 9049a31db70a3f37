//! The authorization endpoint (RFC 6749 section 4.1.1, PKCE required by RFC 7636 section 4.4.1).
//!
//! A client or redirect URI that is not known gets a page and never a redirect (RFC 6749 section 4.1.2.1); every
//! other error goes back to the client.

use http::header::LOCATION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokensink_types::Body;
use url::{Host, Url};

use super::answer::{Refusal, Reply, page_answer};
use super::grants::{Code, CodeState, after, random_token};
use super::{AuthorizationServer, Call};
use crate::config::LoginAnswer;
use crate::pages;
use crate::params::Params;

/// Length of an S256 challenge: 32 bytes in base64url without padding (RFC 7636 section 4.2).
const CHALLENGE_LENGTH: usize = 43;

/// Who signs in.
enum Decision {
    Account(usize),
    Refused(String),
    /// A person is to be asked.
    Ask,
}

impl AuthorizationServer {
    pub(super) fn authorization(
        &mut self,
        request: &Request<Body>,
        params: &Params,
        call: &mut Call<'_>,
    ) -> Response<Body> {
        let redirect = match self.registered_redirect(params, call) {
            Ok(redirect) => redirect,
            Err(why) => {
                call.outcome = "bad_redirect";
                return page_answer(
                    StatusCode::BAD_REQUEST,
                    &pages::message("This cannot be done", &why),
                );
            }
        };
        let state = params.text("state");
        match self.authorize(request, params, &redirect, call) {
            Ok(Some(code)) => redirect_answer(redirect, &[("code", Some(&code)), ("state", state)]),
            Ok(None) => {
                call.outcome = "asked";
                let page = pages::sign_in(request.uri().path(), params, &self.config.accounts);
                page_answer(StatusCode::OK, &page)
            }
            Err(refusal) => {
                call.outcome = refusal.reason;
                let answer = [
                    ("error", Some(refusal.code())),
                    ("error_description", Some(refusal.description())),
                    ("state", state),
                ];
                redirect_answer(redirect, &answer)
            }
        }
    }

    /// The code, or `None` when a person is to be asked first.
    fn authorize(
        &mut self,
        request: &Request<Body>,
        params: &Params,
        redirect: &Url,
        call: &mut Call<'_>,
    ) -> Reply<Option<String>> {
        if params.text("response_type") != Some("code") {
            return Err(Refusal::request(
                "bad_response_type",
                "response_type must be code",
            ));
        }
        let challenge = match (
            params.text("code_challenge"),
            params.text("code_challenge_method"),
        ) {
            (Some(challenge), Some("S256")) if challenge.len() == CHALLENGE_LENGTH => challenge.to_owned(),
            _ => {
                let why = "code_challenge with code_challenge_method=S256 is required";
                return Err(Refusal::request("no_pkce", why));
            }
        };
        let scopes = self.scopes(params)?;
        let account = match self.decide(request, params) {
            Decision::Ask => return Ok(None),
            Decision::Refused(why) => return Err(Refusal::denied(why)),
            Decision::Account(account) => account,
        };
        let code = random_token(call.random, "ac_").map_err(|error| Refusal::unavailable(&error))?;
        let record = Code {
            account,
            client_id: params.text("client_id").unwrap_or_default().to_owned(),
            redirect_uri: params
                .text("redirect_uri")
                .unwrap_or(redirect.as_str())
                .to_owned(),
            scopes,
            challenge,
            nonce: params.text("nonce").map(str::to_owned),
            expires_at: after(call.now, self.config.code_seconds),
            state: CodeState::Fresh,
        };
        self.grants.add_code(&code, record, call.now);
        call.outcome = "issued";
        call.present(&code);
        Ok(Some(code.expose().to_owned()))
    }

    /// A form that was sent decides; else the next answer in the queue; else a person, or the hint, or the first
    /// account.
    fn decide(&mut self, request: &Request<Body>, params: &Params) -> Decision {
        let no_account = |hint: &str| Decision::Refused(format!("there is no account {hint:?}"));
        let named = |hint: &str, server: &Self| {
            server
                .config
                .find_account(hint)
                .map_or_else(|| no_account(hint), Decision::Account)
        };
        if request.method() == Method::POST {
            if params.text("decision") == Some("deny") {
                return Decision::Refused("the resource owner said no".to_owned());
            }
            if let Some(account) = params.text("account") {
                return named(account, self);
            }
        }
        match self.logins.pop_front() {
            Some(LoginAnswer::Approve(account)) => named(&account, self),
            Some(LoginAnswer::Deny) => Decision::Refused("the resource owner said no".to_owned()),
            None if self.config.interactive => Decision::Ask,
            None => params
                .text("login_hint")
                .map_or(Decision::Account(0), |hint| named(hint, self)),
        }
    }

    /// The redirect URI, if client and URI are known.
    fn registered_redirect(&self, params: &Params, call: &mut Call<'_>) -> Result<Url, String> {
        let client = params.text("client_id").ok_or("client_id is missing.")?;
        call.client_id = Some(client.to_owned());
        if !self.knows_client(client) {
            return Err(format!("client_id {client:?} is not registered."));
        }
        let uri = params.text("redirect_uri").ok_or("redirect_uri is missing.")?;
        let own = format!("{}/oauth/code/callback", self.issuer);
        Url::parse(uri)
            .ok()
            .filter(|url| {
                uri == own
                    || self
                        .config
                        .redirect_uris
                        .iter()
                        .any(|known| redirect_matches(known, uri, url))
            })
            .ok_or_else(|| {
                format!(
                    "redirect_uri {uri:?} is not registered. Registered are: {}",
                    self.config.redirect_uris.join(" ")
                )
            })
    }

    /// Where a client without a listener sends its user: shows `code#state` for pasting (spec.md 11.4).
    pub(super) fn show_code(&self, request: &Request<Body>) -> Response<Body> {
        let params = Params::of(request).unwrap_or_default();
        let text = match (params.text("code"), params.text("state"), params.text("error")) {
            (Some(code), Some(state), _) => format!("{code}#{state}"),
            (Some(code), None, _) => code.to_owned(),
            (None, _, Some(error)) => format!("Sign-in failed: {error}"),
            (None, _, None) => format!("There is no code here. Begin at {}/oauth/authorize", self.issuer),
        };
        page_answer(
            StatusCode::OK,
            &pages::message("Paste this into your terminal", &text),
        )
    }
}

/// Character for character, but a loopback URI may have any port (RFC 8252 sections 7.3 and 8.3).
fn redirect_matches(known: &str, uri: &str, url: &Url) -> bool {
    if known == uri {
        return true;
    }
    let Ok(mut known) = Url::parse(known) else {
        return false;
    };
    if known.scheme() != "http" || !is_loopback(&known) || known.set_port(url.port()).is_err() {
        return false;
    }
    known == *url
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn redirect_answer(mut to: Url, answer: &[(&str, Option<&str>)]) -> Response<Body> {
    {
        let mut query = to.query_pairs_mut();
        for (name, value) in answer {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
    }
    let mut response = page_answer(StatusCode::FOUND, "");
    if let Ok(mut location) = HeaderValue::from_str(to.as_str()) {
        // It carries a code, and answers have a Debug form.
        location.set_sensitive(true);
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_port_of_a_loopback_uri_is_free() {
        let cases = [
            ("http://127.0.0.1/cb", "http://127.0.0.1:1455/cb", true),
            ("http://localhost:1455/cb", "http://localhost:9/cb", true),
            ("http://[::1]/cb", "http://[::1]:7/cb", true),
            ("http://127.0.0.1/cb", "http://127.0.0.1:1455/other", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:1455/cb?x=1", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:1455/cb#x", false),
            ("http://127.0.0.1/cb", "http://user@127.0.0.1:1455/cb", false),
            ("http://127.0.0.1/cb", "http://localhost:1455/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1.example.com/cb", false),
            ("https://127.0.0.1/cb", "https://127.0.0.1:444/cb", false),
            ("https://example.com/cb", "https://example.com/cb", true),
            ("https://example.com/cb", "https://example.com:444/cb", false),
            ("https://example.com/cb", "https://example.com/cb/", false),
        ];
        for (known, uri, want) in cases {
            let url = Url::parse(uri).unwrap();
            assert_eq!(redirect_matches(known, uri, &url), want, "{known} {uri}");
        }
    }
}
