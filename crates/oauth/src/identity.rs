//! Who a grant belongs to, read by rules that are data (spec.md 3.2, 8.6, 11.2.8).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response};
use serde_json::{Map, Value};
use tokensink_types::{Account, Body, Secret};
use url::Url;

use crate::answer::{object, text_of};
use crate::jwt;
use crate::request::{RequestError, get};
use crate::token::{Refusal, TokenGrant};

/// The claim of OpenAI's tokens that holds the account's ids.
const OPENAI_AUTH: &str = "https://api.openai.com/auth";

/// Where the identity stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdentitySource {
    /// In the claims of the access token.
    #[default]
    AccessToken,
    /// In the claims of the id token.
    IdToken,
    /// In the token answer itself.
    Response,
    /// In the answer of the userinfo endpoint (OpenID Connect Core section 5.3).
    UserInfo,
}

/// Which values are which. Each field lists JSON pointers (RFC 6901); the first that leads to a string or number
/// counts. A `/` within a name is written `~1`, a `~` is written `~0`:
/// `/https:~1~1api.openai.com~1auth/chatgpt_account_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityRule {
    /// Where to look.
    pub from: IdentitySource,
    /// The provider's account or workspace id.
    pub account: Vec<String>,
    /// E-mail address, or what stands in for one.
    pub email: Vec<String>,
    /// Plan name.
    pub plan: Vec<String>,
    /// A stable subject; with no pointers it is that of [`stable_subject`].
    pub subject: Vec<String>,
}

/// Reads the identity of a grant. What is not there stays `None`, also when the token has no readable claims or
/// `userinfo` is needed and absent.
#[must_use]
pub fn extract(rule: &IdentityRule, grant: &TokenGrant, userinfo: Option<&Value>) -> Account {
    let claims;
    let document = match rule.from {
        IdentitySource::Response => grant.rest(),
        IdentitySource::UserInfo => userinfo.unwrap_or(&Value::Null),
        IdentitySource::AccessToken => {
            claims = claims_of(Some(&grant.access_token));
            &claims
        }
        IdentitySource::IdToken => {
            claims = claims_of(grant.id_token.as_ref());
            &claims
        }
    };
    let find = |pointers: &[String]| {
        let mut found = pointers
            .iter()
            .filter_map(|pointer| text_of(document.pointer(pointer)?));
        found.next()
    };
    let subject = match document {
        Value::Object(claims) if rule.subject.is_empty() => stable_subject(claims),
        _ => find(&rule.subject),
    };
    Account {
        account_id: find(&rule.account),
        email: find(&rule.email),
        subject,
        plan: find(&rule.plan),
    }
}

fn claims_of(token: Option<&Secret>) -> Value {
    token.and_then(jwt::claims).map_or(Value::Null, Value::Object)
}

/// The subject that stays when address and plan change (spec.md 3.2), by this order: `chatgpt_account_user_id`,
/// `chatgpt_user_id`, `user_id` (each in OpenAI's auth claim, else at the top), `iss|sub`, `sub`.
#[must_use]
pub fn stable_subject(claims: &Map<String, Value>) -> Option<String> {
    let top = |name: &str| claims.get(name).and_then(text_of);
    let auth = claims.get(OPENAI_AUTH);
    let nested = |name: &str| auth.and_then(|auth| auth.get(name)).and_then(text_of);
    let by_account = ["chatgpt_account_user_id", "chatgpt_user_id", "user_id"]
        .into_iter()
        .find_map(|name| nested(name).or_else(|| top(name)));
    by_account.or_else(|| {
        let subject = top("sub")?;
        Some(match top("iss") {
            Some(issuer) => format!("{issuer}|{subject}"),
            None => subject,
        })
    })
}

/// The profile name for a subject where no e-mail is known: `id-` and the subject in base64url (spec.md 3.2).
#[must_use]
pub fn subject_name(subject: &str) -> String {
    format!("id-{}", URL_SAFE_NO_PAD.encode(subject))
}

/// [`subject_name`] of [`stable_subject`].
#[must_use]
pub fn stable_subject_name(claims: &Map<String, Value>) -> Option<String> {
    stable_subject(claims).map(|subject| subject_name(&subject))
}

/// The request to a userinfo endpoint (OpenID Connect Core section 5.3.1).
///
/// # Errors
/// When the endpoint is impossible or the token does not fit a header.
pub fn userinfo_request(endpoint: &Url, access_token: &Secret) -> Result<Request<Body>, RequestError> {
    get(endpoint, Some(access_token))
}

/// The answer of a userinfo endpoint, for [`extract`].
///
/// # Errors
/// When it is no JSON object with a status of 2xx.
pub fn parse_userinfo(response: &Response<Body>, access_token: &Secret) -> Result<Value, Refusal> {
    let fields = response.status().is_success().then(|| object(response)).flatten();
    fields
        .map(Value::Object)
        .ok_or_else(|| Refusal::read(response, &[access_token]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::answer::tests::answer;
    use crate::jwt::tests::token;

    fn rule(from: IdentitySource, account: &[&str], email: &[&str], plan: &[&str]) -> IdentityRule {
        let own = |pointers: &[&str]| pointers.iter().map(|p| (*p).to_owned()).collect();
        IdentityRule {
            from,
            account: own(account),
            email: own(email),
            plan: own(plan),
            subject: Vec::new(),
        }
    }

    fn grant(value: &Value) -> TokenGrant {
        TokenGrant::from_fields(value.as_object().unwrap().clone()).unwrap()
    }

    fn account(id: Option<&str>, email: Option<&str>, subject: Option<&str>, plan: Option<&str>) -> Account {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Account {
            account_id: own(id),
            email: own(email),
            subject: own(subject),
            plan: own(plan),
        }
    }

    #[test]
    fn openai_claims_have_slashes_and_colons() {
        let claims = json!({
            "sub": "auth0|1", "iss": "https://auth.openai.com",
            OPENAI_AUTH: {"chatgpt_account_id": "acc", "chatgpt_plan_type": "plus", "chatgpt_user_id": "u1"},
            "https://api.openai.com/profile": {"email": " a@b.c "},
        });
        let rule = |from| {
            rule(
                from,
                &["/https:~1~1api.openai.com~1auth/chatgpt_account_id"],
                &["/email", "/https:~1~1api.openai.com~1profile/email"],
                &["/https:~1~1api.openai.com~1auth/chatgpt_plan_type"],
            )
        };
        let want = account(Some("acc"), Some("a@b.c"), Some("u1"), Some("plus"));
        let jwt = token(&claims);
        let in_access = grant(&json!({"access_token": jwt.expose()}));
        let in_id = grant(&json!({"access_token": "opaque", "id_token": jwt.expose()}));
        let unknown = Account::default();
        assert_eq!(
            extract(&rule(IdentitySource::AccessToken), &in_access, None),
            want
        );
        assert_eq!(extract(&rule(IdentitySource::IdToken), &in_id, None), want);
        assert_eq!(extract(&rule(IdentitySource::AccessToken), &in_id, None), unknown);
        assert_eq!(extract(&rule(IdentitySource::IdToken), &in_access, None), unknown);
    }

    #[test]
    fn response_and_userinfo() {
        let answer = json!({
            "access_token": "a",
            "account": {"uuid": "u", "email_address": "a@b.c"},
            "organization": {"uuid": "o"},
        });
        let by_answer = rule(
            IdentitySource::Response,
            &["/organization/uuid", "/account/uuid"],
            &["/account/email_address"],
            &[],
        );
        let want = account(Some("o"), Some("a@b.c"), None, None);
        assert_eq!(extract(&by_answer, &grant(&answer), None), want);

        let chutes = rule(IdentitySource::UserInfo, &["/sub"], &["/username"], &[]);
        let info = json!({"sub": 42, "username": "joe", "email": " "});
        let want = account(Some("42"), Some("joe"), Some("42"), None);
        assert_eq!(extract(&chutes, &grant(&answer), Some(&info)), want);
        assert_eq!(extract(&chutes, &grant(&answer), None), Account::default());
        let wrong = rule(
            IdentitySource::UserInfo,
            &["", "no-slash"],
            &["/missing"],
            &["/email"],
        );
        let own_subject = IdentityRule {
            subject: vec!["/username".to_owned()],
            ..wrong
        };
        let want = account(None, None, Some("joe"), None);
        assert_eq!(extract(&own_subject, &grant(&answer), Some(&info)), want);
    }

    #[test]
    fn stable_subjects_by_order() {
        let cases = [
            (
                json!({OPENAI_AUTH: {"chatgpt_account_user_id": "au", "chatgpt_user_id": "cu"}, "sub": "s"}),
                Some("au"),
            ),
            (
                json!({OPENAI_AUTH: {"chatgpt_user_id": "cu", "user_id": "u"}}),
                Some("cu"),
            ),
            (json!({OPENAI_AUTH: {"user_id": "u"}, "sub": "s"}), Some("u")),
            (json!({"chatgpt_account_user_id": "au", "sub": "s"}), Some("au")),
            (json!({"iss": "https://i", "sub": "s"}), Some("https://i|s")),
            (json!({"iss": " ", "sub": "s"}), Some("s")),
            (json!({"iss": "https://i"}), None),
            (json!({OPENAI_AUTH: "text"}), None),
        ];
        for (claims, want) in cases {
            assert_eq!(
                stable_subject(claims.as_object().unwrap()).as_deref(),
                want,
                "{claims}"
            );
        }
        let claims = json!({"sub": "user-1?"});
        assert_eq!(
            stable_subject_name(claims.as_object().unwrap()).as_deref(),
            Some("id-dXNlci0xPw")
        );
    }

    #[test]
    fn userinfo_answers() {
        let token = Secret::new("at-canary");
        let request = userinfo_request(&Url::parse("https://as.example/userinfo").unwrap(), &token).unwrap();
        assert_eq!(request.uri(), "https://as.example/userinfo");
        assert_eq!(
            parse_userinfo(&answer(200, r#"{"sub":"s"}"#), &token),
            Ok(json!({"sub": "s"}))
        );
        let refusal = parse_userinfo(&answer(401, r#"{"error":"at-canary"}"#), &token).unwrap_err();
        assert_eq!(refusal.to_string(), "the provider answered 401 ([redacted])");
        assert!(parse_userinfo(&answer(200, "[]"), &token).is_err());
    }
}
