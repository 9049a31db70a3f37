//! The token endpoint (RFC 6749 sections 4.1.3, 5 and 6; RFC 7636 section 4.6; RFC 8628 section 3.4).

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokensink_host::Random;
use tokensink_types::{Body, Secret, UnixMillis};

use super::answer::{Refusal, Reply, json_answer, raw_answer};
use super::device::Poll;
use super::grants::{AccessToken, Code, CodeState, Family, Generation, Issued, Spent, after, random_token};
use super::{AuthorizationServer, Call};
use crate::config::{Rotation, TokenFormat};
use crate::faults::GrantType;
use crate::jwt;
use crate::ledger::{FamilyRecord, RevokedBecause};
use crate::params::Params;

/// Who gives what to whom: the beginning of a family.
pub(super) struct NewGrant {
    pub(super) account: usize,
    pub(super) client_id: String,
    pub(super) scopes: Vec<String>,
    pub(super) nonce: Option<String>,
}

/// What one token answer is about.
struct Issue {
    family: usize,
    scopes: Vec<String>,
    nonce: Option<String>,
    /// Whether the answer brings a new refresh token.
    rotate: bool,
}

impl AuthorizationServer {
    pub(super) fn token(&mut self, request: &Request<Body>, params: &Params, call: &mut Call<'_>) -> Reply {
        let client = self.client(request, params, call)?;
        match GrantType::of(params.text("grant_type")) {
            GrantType::AuthorizationCode => self.exchange(&client, params, call),
            GrantType::RefreshToken => self.refresh(&client, params, call),
            GrantType::DeviceCode => self.device_poll(&client, params, call),
            GrantType::Other => Err(Refusal::grant_type()),
        }
    }

    /// A code for tokens. A code that is presented with anything wrong is burnt; one that comes a second time takes
    /// the tokens with it that it brought (RFC 6749 section 4.1.2).
    fn exchange(&mut self, client: &str, params: &Params, call: &mut Call<'_>) -> Reply {
        let code = required(params, "code")?;
        let verifier = required(params, "code_verifier");
        let key = call.present(code);
        let Some(record) = self.grants.code(&key) else {
            return Err(Refusal::grant(
                "unknown_code",
                "the authorization code is not known",
            ));
        };
        if let CodeState::Exchanged(family) = record.state {
            self.revoke(family, RevokedBecause::CodeReuse);
            return Err(Refusal::grant(
                "code_reuse",
                "the authorization code was used before",
            ));
        }
        let wrong = flaw(record, client, params, verifier.as_ref().ok().copied(), call.now);
        record.state = CodeState::Burnt;
        if let Some((reason, description)) = wrong {
            // A missing parameter is an error of another kind (RFC 7636 section 4.6, RFC 6749 section 5.2).
            verifier?;
            return Err(Refusal::grant(reason, description));
        }
        let grant = NewGrant {
            account: call.instead.unwrap_or(record.account),
            client_id: client.to_owned(),
            scopes: record.scopes.clone(),
            nonce: record.nonce.clone(),
        };
        let (issued, answer) = self.begin(grant, call)?;
        if let Some(record) = self.grants.code(&key) {
            record.state = CodeState::Exchanged(issued.family);
        }
        Ok(answer)
    }

    /// The first generation of a new family.
    pub(super) fn begin(&mut self, grant: NewGrant, call: &mut Call<'_>) -> Reply<(Issued, Response<Body>)> {
        let record = FamilyRecord {
            account: self.account_name(grant.account),
            client_id: grant.client_id.clone(),
            scopes: grant.scopes.clone(),
            generations: 0,
            current: String::new(),
            refreshes: 0,
            reuses: 0,
            replays: 0,
            revoked: None,
        };
        let family = self.grants.add_family(Family {
            account: grant.account,
            client_id: grant.client_id,
            scopes: grant.scopes.clone(),
            generation: 0,
            used_at: call.now,
            last: None,
            revoked: false,
        });
        self.ledger.families.push(record);
        let issue = Issue {
            family,
            scopes: grant.scopes,
            nonce: grant.nonce,
            rotate: true,
        };
        self.issue_generation(&issue, call)
    }

    /// A refresh (RFC 6749 section 6), with rotation and reuse detection (RFC 9700 section 4.14.2).
    fn refresh(&mut self, client: &str, params: &Params, call: &mut Call<'_>) -> Reply {
        let token = required(params, "refresh_token")?;
        let key = call.present(token);
        let Some(generation) = self.grants.generation(&key) else {
            return Err(Refusal::grant("unknown_token", "the refresh token is not known")
                .openai("refresh_token_invalidated"));
        };
        let Some(family) = self.grants.family(generation.family) else {
            return Err(Refusal::grant("unknown_token", "the refresh token is not known"));
        };
        if family.client_id != client {
            return Err(Refusal::grant(
                "client_mismatch",
                "the refresh token was issued to another client",
            ));
        }
        if generation.number != family.generation {
            return self.spent_again(generation, call);
        }
        if family.revoked {
            return Err(Refusal::grant("revoked", "the refresh token was revoked")
                .openai("refresh_token_invalidated"));
        }
        if self.is_idle(family.used_at, call.now) {
            self.ledger.idle_refusals += 1;
            return Err(
                Refusal::grant("idle", "the refresh token was not used for too long")
                    .openai("refresh_token_expired"),
            );
        }
        let scopes = narrowed(params.scopes(), &family.scopes)?;
        let rotate = self.config.rotation == Rotation::Always
            && self.config.answer.refresh_token
            && !call.leaves_out("refresh_token");
        let issue = Issue {
            family: generation.family,
            scopes,
            nonce: None,
            rotate,
        };
        let (_, answer) = self.issue_generation(&issue, call)?;
        self.ledger.refreshed(generation.family);
        if let Some(family) = self.grants.family_mut(generation.family) {
            family.used_at = call.now;
            family.last = Some(Spent {
                at: call.now,
                answer: answer.body().clone(),
            });
        }
        Ok(answer)
    }

    fn is_idle(&self, used_at: UnixMillis, now: UnixMillis) -> bool {
        self.config
            .idle_limit_seconds
            .is_some_and(|limit| now > after(used_at, limit))
    }

    /// A spent refresh token came again: within the grace, and as long as its successor is unused, it gets its answer
    /// once more; else its family ends.
    fn spent_again(&mut self, generation: Generation, call: &mut Call<'_>) -> Reply {
        let grace = Duration::from_secs(self.config.replay_grace_seconds);
        let index = generation.family;
        if let Some(family) = self.grants.family(index)
            && let Some(spent) = &family.last
            && !family.revoked
            && generation.number + 1 == family.generation
            && call.now < spent.at.plus(grace)
        {
            let body = spent.answer.expose().to_vec();
            self.ledger.replayed(index);
            call.outcome = "replayed";
            return Ok(raw_answer(StatusCode::OK, "application/json", body));
        }
        self.ledger.reused(index);
        if self.config.reuse_detection {
            self.revoke(index, RevokedBecause::RefreshTokenReuse);
        }
        Err(Refusal::grant("reuse", "the refresh token was already used").openai("refresh_token_reused"))
    }

    /// Makes tokens, takes them into the books, and writes the answer. Randomness comes first: when there is none,
    /// nothing has changed.
    fn issue_generation(&mut self, issue: &Issue, call: &mut Call<'_>) -> Reply<(Issued, Response<Body>)> {
        let owner = self
            .grants
            .family(issue.family)
            .map_or(0, |family| family.account);
        let account = call.instead.unwrap_or(owner);
        let issued = self
            .make_tokens(issue, account, call)
            .map_err(|error| Refusal::unavailable(&error))?;
        let record = AccessToken {
            family: issue.family,
            account,
            expires_at: issued.expires_at,
        };
        self.grants.add_access(&issued.access_token, record, call.now);
        if let Some(token) = &issued.refresh_token {
            self.grants.add_refresh(issue.family, token, call.now);
            if let Some(family) = self.ledger.families.get_mut(issue.family) {
                family.generations += 1;
                family.current = crate::ledger::fingerprint(token);
            }
        }
        call.outcome = "issued";
        let answer = self.token_answer(&issued, issue, account, call);
        Ok((issued, answer))
    }

    fn make_tokens(&self, issue: &Issue, account: usize, call: &Call<'_>) -> io::Result<Issued> {
        let client_id = self
            .grants
            .family(issue.family)
            .map_or("", |family| family.client_id.as_str());
        let expires_at = after(call.now, self.config.access_token_seconds);
        let mint = |nonce: Option<&str>, random: &dyn Random| {
            let id = random_token(random, "")?;
            let claims = jwt::Claims {
                issuer: &self.issuer,
                audience: client_id,
                issued_at: call.now,
                expires_at,
                id: id.expose(),
                nonce,
            };
            Ok::<Secret, io::Error>(match self.config.accounts.get(account) {
                Some(account) => jwt::mint(account, &claims),
                None => id,
            })
        };
        let wants_id_token =
            self.config.answer.id_token && issue.scopes.iter().any(|scope| scope == "openid");
        Ok(Issued {
            access_token: match self.config.token_format {
                TokenFormat::Opaque => random_token(call.random, "at_")?,
                TokenFormat::Jwt => mint(None, call.random)?,
            },
            refresh_token: issue
                .rotate
                .then(|| random_token(call.random, "rt_"))
                .transpose()?,
            id_token: wants_id_token
                .then(|| mint(issue.nonce.as_deref(), call.random))
                .transpose()?,
            expires_at,
            family: issue.family,
        })
    }

    /// The answer of RFC 6749 section 5.1, less what configuration or a fault leaves out.
    fn token_answer(
        &self,
        issued: &Issued,
        issue: &Issue,
        account: usize,
        call: &Call<'_>,
    ) -> Response<Body> {
        let mut answer = Map::new();
        let mut set = |name: &str, value: Value| {
            if !call.leaves_out(name) {
                answer.insert(name.to_owned(), value);
            }
        };
        set("access_token", issued.access_token.expose().into());
        set("token_type", "Bearer".into());
        if self.config.answer.expires_in {
            set("expires_in", self.config.access_token_seconds.into());
        }
        if let Some(token) = &issued.refresh_token {
            set("refresh_token", token.expose().into());
        }
        set("scope", issue.scopes.join(" ").into());
        if let Some(token) = &issued.id_token {
            set("id_token", token.expose().into());
        }
        if self.config.answer.account
            && let Some(account) = self.config.accounts.get(account)
        {
            let uuid = account.account_id.as_deref().unwrap_or(&account.sub);
            set("account", json!({"uuid": uuid, "email_address": account.email}));
        }
        json_answer(StatusCode::OK, &Value::Object(answer))
    }

    fn account_name(&self, account: usize) -> String {
        self.config
            .accounts
            .get(account)
            .map_or_else(String::new, |account| account.sub.clone())
    }

    /// A poll in the RFC's dialect (RFC 8628 section 3.4).
    fn device_poll(&mut self, client: &str, params: &Params, call: &mut Call<'_>) -> Reply {
        let key = call.present(required(params, "device_code")?);
        let (account, scopes) = match self.poll(&key, Some(client), params.secret("code_verifier"), call.now)
        {
            Poll::Approved { account, scopes } => (account, scopes),
            Poll::Refused(refusal) => return Err(refusal),
        };
        let grant = NewGrant {
            account: call.instead.unwrap_or(account),
            client_id: client.to_owned(),
            scopes,
            nonce: None,
        };
        self.begin(grant, call).map(|(_, answer)| answer)
    }

    /// Starts a family without a login, so that a test can begin with a stored grant. `account` is a `sub`, e-mail
    /// address or account id; blank scopes mean `openid`.
    ///
    /// # Errors
    /// A sentence that says why not: no such account, or no randomness.
    pub fn issue(
        &mut self,
        account: &str,
        client_id: &str,
        scopes: &[&str],
        now: UnixMillis,
        random: &dyn Random,
    ) -> Result<Issued, String> {
        let mut call = Call::new(now, random);
        self.issue_to(account, client_id, scopes, &mut call)
            .map(|(issued, _)| issued)
    }

    pub(super) fn issue_to(
        &mut self,
        account: &str,
        client_id: &str,
        scopes: &[&str],
        call: &mut Call<'_>,
    ) -> Result<(Issued, Response<Body>), String> {
        let index = self
            .config
            .find_account(account)
            .ok_or_else(|| format!("there is no account {account:?}"))?;
        let scopes = if scopes.is_empty() {
            &["openid"][..]
        } else {
            scopes
        };
        let grant = NewGrant {
            account: index,
            client_id: client_id.to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            nonce: None,
        };
        self.begin(grant, call)
            .map_err(|refusal| refusal.description().to_owned())
    }
}

/// What is wrong with the presentation of a code, for the log and in words.
fn flaw(
    code: &Code,
    client: &str,
    params: &Params,
    verifier: Option<&Secret>,
    now: UnixMillis,
) -> Option<(&'static str, &'static str)> {
    let redirect_uri = params.text("redirect_uri");
    if code.state == CodeState::Burnt {
        Some(("burnt_code", "the authorization code was presented before"))
    } else if now >= code.expires_at {
        Some(("expired_code", "the authorization code has expired"))
    } else if code.client_id != client {
        Some((
            "client_mismatch",
            "the authorization code was issued to another client",
        ))
    } else if redirect_uri != Some(code.redirect_uri.as_str()) {
        Some((
            "redirect_mismatch",
            "redirect_uri is not that of the authorization request",
        ))
    } else if !verifier.is_some_and(|verifier| meets(verifier, &code.challenge)) {
        Some(("pkce_mismatch", "code_verifier does not meet the code_challenge"))
    } else {
        None
    }
}

fn required<'a>(params: &'a Params, name: &'static str) -> Reply<&'a Secret> {
    params
        .secret(name)
        .ok_or_else(|| Refusal::request("missing_parameter", format!("{name} is missing")))
}

/// Does the verifier meet the challenge? (RFC 7636 section 4.6, method S256.) A verifier of the wrong length or with
/// characters outside section 4.1 never does.
pub(super) fn meets(verifier: &Secret, challenge: &str) -> bool {
    let text = verifier.expose();
    let well_formed = (43..=128).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    well_formed && s256(verifier) == challenge
}

/// The S256 challenge of a verifier (RFC 7636 section 4.2).
pub(super) fn s256(verifier: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose().as_bytes()))
}

/// The scopes of a refresh: those asked for, none of them new (RFC 6749 section 6).
fn narrowed(asked: Option<Vec<String>>, granted: &[String]) -> Reply<Vec<String>> {
    let Some(asked) = asked else {
        return Ok(granted.to_vec());
    };
    match asked.iter().find(|scope| !granted.contains(scope)) {
        Some(new) => Err(Refusal::scope(format!("scope {new:?} was not granted"))),
        None => Ok(asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_has_its_length_and_its_characters() {
        let cases = [
            ("x".repeat(42), false),
            ("x".repeat(43), true),
            ("aZ9-._~".repeat(7), true),
            ("x".repeat(128), true),
            ("x".repeat(129), false),
            (format!("{}+", "x".repeat(43)), false),
            (String::new(), false),
        ];
        for (verifier, want) in cases {
            let verifier = Secret::new(verifier);
            assert_eq!(meets(&verifier, &s256(&verifier)), want, "{}", verifier.expose());
        }
    }
}
