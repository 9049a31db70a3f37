//! Login on another device (RFC 8628), in the RFC's dialect and in OpenAI's (spec.md 11.3). The dialects differ in
//! names, shapes and in what a successful poll brings; what a device waits for is the same.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokensink_types::{Body, Secret, SpendKey, UnixMillis};

use super::answer::{Refusal, Reply, json_answer, page_answer};
use super::grants::{Code, CodeState, after, random_token};
use super::token::{meets, s256};
use super::{AuthorizationServer, Call};
use crate::pages;
use crate::params::Params;

/// The characters of a user code: no vowels, so that it spells nothing (RFC 8628 section 6.1).
const USER_CODE_LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// What `slow_down` adds to the interval (RFC 8628 section 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// How much earlier than the interval a poll may come: a client waits by its own clock, and the network may bring one
/// poll later than the next.
const POLL_TOLERANCE: Duration = Duration::from_millis(250);

/// Number of device codes above which ended ones are dropped.
const PRUNE_AT: usize = 256;

/// What a device without registered scopes asks for in OpenAI's dialect, which sends none.
const OPENAI_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// One device that waits for its user.
#[derive(Debug, Clone)]
pub(super) struct Device {
    user_code: String,
    client_id: String,
    scopes: Vec<String>,
    /// A PKCE challenge; the RFC does not know it, some providers ask for it (spec.md 11.5).
    challenge: Option<String>,
    expires_at: UnixMillis,
    interval: Duration,
    polled_at: Option<UnixMillis>,
    polls: u32,
    state: DeviceState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeviceState {
    Pending,
    Approved(usize),
    Denied,
    Spent,
}

/// What a poll comes to.
pub(super) enum Poll {
    /// The device's turn to get its tokens, once.
    Approved { account: usize, scopes: Vec<String> },
    /// Not now, or never.
    Refused(Refusal),
}

impl AuthorizationServer {
    /// Both dialects of the device authorization request; the path tells which.
    pub(super) fn device_authorization(
        &mut self,
        request: &Request<Body>,
        params: &Params,
        call: &mut Call<'_>,
    ) -> Reply {
        if !self.config.device.enabled {
            return Err(Refusal::no_devices());
        }
        let client_id = self.client(request, params, call)?;
        let openai = request.uri().path() != "/oauth/device/code";
        let scopes = match params.scopes() {
            None if openai => OPENAI_SCOPES.map(str::to_owned).to_vec(),
            _ => self.scopes(params)?,
        };
        let prefix = if openai { "deviceauth_" } else { "dc_" };
        let code = random_token(call.random, prefix).map_err(|error| Refusal::unavailable(&error))?;
        let mut letters = [0_u8; 8];
        call.random
            .fill(&mut letters)
            .map_err(|error| Refusal::unavailable(&error))?;
        let device = Device {
            user_code: user_code(letters),
            client_id,
            scopes,
            challenge: params.text("code_challenge").map(str::to_owned),
            expires_at: after(call.now, self.config.device.expires_seconds),
            interval: Duration::from_secs(self.config.device.interval_seconds),
            polled_at: None,
            polls: 0,
            state: DeviceState::Pending,
        };
        call.outcome = "issued";
        let key = call.present(&code);
        let answer = self.device_answer(&code, &device.user_code, openai);
        if self.devices.len() >= PRUNE_AT {
            self.devices.retain(|_, device| device.expires_at > call.now);
        }
        self.devices.insert(key, device);
        Ok(answer)
    }

    fn device_answer(&self, code: &Secret, user_code: &str, openai: bool) -> Response<Body> {
        let config = &self.config.device;
        let answer = if openai {
            // The interval is text here (clients.md 4).
            json!({
                "device_auth_id": code.expose(),
                "user_code": user_code,
                "interval": config.interval_seconds.to_string(),
            })
        } else {
            let page = format!("{}/approve", self.issuer);
            json!({
                "device_code": code.expose(),
                "user_code": user_code,
                "verification_uri": page,
                "verification_uri_complete": format!("{page}?user_code={user_code}"),
                "expires_in": config.expires_seconds,
                "interval": config.interval_seconds,
            })
        };
        json_answer(StatusCode::OK, &answer)
    }

    /// One poll of the device with this key.
    pub(super) fn poll(
        &mut self,
        key: &SpendKey,
        client: Option<&str>,
        verifier: Option<&Secret>,
        now: UnixMillis,
    ) -> Poll {
        let Some(device) = self.devices.get_mut(key) else {
            return Poll::Refused(Refusal::grant(
                "unknown_device_code",
                "the device code is not known",
            ));
        };
        if let Some(refusal) = device.refuses(client, verifier) {
            return Poll::Refused(refusal);
        }
        device.poll(now, self.config.device.approve_at_poll)
    }

    /// A poll in OpenAI's dialect (spec.md 11.3): 403 while pending, 404 for what is not known or over, 200 with a
    /// code and the verifier that the server chose for it.
    pub(super) fn openai_device_poll(&mut self, params: &Params, call: &mut Call<'_>) -> Response<Body> {
        let Some(id) = params.secret("device_auth_id") else {
            let why = "device_auth_id is missing";
            return self.refuse(Refusal::request("missing_parameter", why), call);
        };
        let key = call.present(id);
        let known = self.devices.get(&key).is_some_and(|device| {
            params
                .text("user_code")
                .is_some_and(|code| same_user_code(code, &device.user_code))
        });
        if !known {
            call.outcome = "unknown_device_code";
            return device_error(StatusCode::NOT_FOUND, "deviceauth_not_found");
        }
        match self.poll(&key, None, None, call.now) {
            Poll::Approved { account, scopes } => self.openai_code(&key, account, scopes, call),
            Poll::Refused(refusal) => {
                call.outcome = refusal.reason;
                match refusal.reason {
                    "authorization_pending" | "slow_down" => {
                        device_error(StatusCode::FORBIDDEN, "deviceauth_authorization_pending")
                    }
                    "access_denied" => device_error(StatusCode::BAD_REQUEST, "deviceauth_denied"),
                    "expired_token" => device_error(StatusCode::BAD_REQUEST, "deviceauth_expired"),
                    _ => device_error(StatusCode::NOT_FOUND, "deviceauth_not_found"),
                }
            }
        }
    }

    fn openai_code(
        &mut self,
        device: &SpendKey,
        account: usize,
        scopes: Vec<String>,
        call: &mut Call<'_>,
    ) -> Response<Body> {
        let client_id = self
            .devices
            .get(device)
            .map_or_else(String::new, |device| device.client_id.clone());
        let made =
            random_token(call.random, "ac_").and_then(|code| Ok((code, random_token(call.random, "")?)));
        let (code, verifier) = match made {
            Ok(made) => made,
            Err(error) => return self.refuse(Refusal::unavailable(&error), call),
        };
        let challenge = s256(&verifier);
        let answer = json!({
            "authorization_code": code.expose(),
            "code_challenge": challenge,
            "code_verifier": verifier.expose(),
        });
        let record = Code {
            account,
            client_id,
            redirect_uri: format!("{}/deviceauth/callback", self.issuer),
            scopes,
            challenge,
            nonce: None,
            expires_at: after(call.now, self.config.code_seconds),
            state: CodeState::Fresh,
        };
        self.grants.add_code(&code, record, call.now);
        call.outcome = "issued";
        json_answer(StatusCode::OK, &answer)
    }

    /// Where the user types the user code (RFC 8628 section 3.3). With `user_code` in the query it decides at once,
    /// unless a person is to be asked.
    pub(super) fn verification(
        &mut self,
        request: &Request<Body>,
        params: &Params,
        call: &mut Call<'_>,
    ) -> Response<Body> {
        let ask = self.config.interactive && request.method() != Method::POST;
        let code = match params.text("user_code") {
            Some(code) if !ask => code,
            code => {
                call.outcome = "asked";
                let page = pages::verification(
                    request.uri().path(),
                    code.unwrap_or_default(),
                    &self.config.accounts,
                );
                return page_answer(StatusCode::OK, &page);
            }
        };
        let decided = if params.text("decision") == Some("deny") {
            self.deny_device(code, call.now)
        } else {
            self.approve_device(code, params.text("account"), call.now)
        };
        if decided {
            page_answer(
                StatusCode::OK,
                &pages::message("Done", "You can go back to your device."),
            )
        } else {
            call.outcome = "unknown_user_code";
            let text = "This code or account is not known, or it was decided before, or it has expired.";
            page_answer(
                StatusCode::NOT_FOUND,
                &pages::message("This cannot be done", text),
            )
        }
    }

    /// Approves the device with this user code for an account (its `sub`, e-mail address or account id; none takes
    /// the first one). `false` when no device waits under that code or there is no such account.
    pub fn approve_device(&mut self, user_code: &str, account: Option<&str>, now: UnixMillis) -> bool {
        let account = account.map_or(Some(0), |account| self.config.find_account(account));
        account.is_some_and(|account| self.decide_device(user_code, DeviceState::Approved(account), now))
    }

    /// Denies the device with this user code. `false` when no device waits under that code.
    pub fn deny_device(&mut self, user_code: &str, now: UnixMillis) -> bool {
        self.decide_device(user_code, DeviceState::Denied, now)
    }

    fn decide_device(&mut self, user_code: &str, state: DeviceState, now: UnixMillis) -> bool {
        let waiting = self.devices.values_mut().find(|device| {
            device.state == DeviceState::Pending
                && now < device.expires_at
                && same_user_code(user_code, &device.user_code)
        });
        waiting.map(|device| device.state = state).is_some()
    }
}

impl Device {
    /// Why the one who polls may not.
    fn refuses(&self, client: Option<&str>, verifier: Option<&Secret>) -> Option<Refusal> {
        if client.is_some_and(|client| client != self.client_id) {
            let why = "the device code was issued to another client";
            return Some(Refusal::grant("client_mismatch", why));
        }
        let challenge = self.challenge.as_ref()?;
        let met = verifier.is_some_and(|verifier| meets(verifier, challenge));
        (!met).then(|| Refusal::grant("pkce_mismatch", "code_verifier does not meet the code_challenge"))
    }

    /// A poll that comes too fast while nothing is decided is told to slow down, and the interval grows for good
    /// (RFC 8628 section 3.5). `approve_at` is the poll that approves by itself.
    fn poll(&mut self, now: UnixMillis, approve_at: Option<u32>) -> Poll {
        if now >= self.expires_at && self.state != DeviceState::Spent {
            return Poll::Refused(Refusal::poll("expired_token", "the device code has expired"));
        }
        let too_fast = self
            .polled_at
            .is_some_and(|last| now.plus(POLL_TOLERANCE) < last.plus(self.interval));
        self.polled_at = Some(now);
        if self.state == DeviceState::Pending && too_fast {
            self.interval += SLOW_DOWN;
            return Poll::Refused(Refusal::poll("slow_down", "polled too fast"));
        }
        self.polls += 1;
        if self.state == DeviceState::Pending && approve_at.is_some_and(|poll| self.polls >= poll) {
            self.state = DeviceState::Approved(0);
        }
        Poll::Refused(match self.state {
            DeviceState::Pending => Refusal::poll("authorization_pending", "the user has not decided yet"),
            DeviceState::Denied => Refusal::poll("access_denied", "the resource owner said no"),
            DeviceState::Spent => Refusal::grant("device_code_reuse", "the device code was used before"),
            DeviceState::Approved(account) => {
                self.state = DeviceState::Spent;
                return Poll::Approved {
                    account,
                    scopes: self.scopes.clone(),
                };
            }
        })
    }
}

fn device_error(status: StatusCode, code: &str) -> Response<Body> {
    json_answer(status, &json!({"error": {"code": code, "message": code}}))
}

/// Four letters, a dash, four letters.
fn user_code(random: [u8; 8]) -> String {
    let mut code = String::with_capacity(9);
    for (place, byte) in random.into_iter().enumerate() {
        if place == 4 {
            code.push('-');
        }
        let letter = USER_CODE_LETTERS[usize::from(byte) % USER_CODE_LETTERS.len()];
        code.push(char::from(letter));
    }
    code
}

/// Users type codes in any case and leave out the dash (RFC 8628 section 6.1).
fn same_user_code(typed: &str, known: &str) -> bool {
    let letters = |code: &str| -> String {
        code.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_uppercase())
            .collect()
    };
    letters(typed) == letters(known)
}
