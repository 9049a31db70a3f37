use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::answer::tests::answer;
use crate::pkce::CodeVerifier;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

struct Rig {
    authorization: Url,
    poll: Url,
    scopes: Vec<String>,
}

impl Rig {
    fn new(authorization: &str, poll: &str, scope: &str) -> Self {
        Self {
            authorization: Url::parse(authorization).unwrap(),
            poll: Url::parse(poll).unwrap(),
            scopes: scope.split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn flow(&self, dialect: DeviceDialect) -> DeviceFlow<'_> {
        DeviceFlow {
            dialect,
            authorization: Endpoint::new(&self.authorization, "cid"),
            poll: Endpoint::new(&self.poll, "cid"),
            scopes: &self.scopes,
            verification_uri: None,
        }
    }
}

fn rig() -> Rig {
    Rig::new(
        "https://as.example/device",
        "https://as.example/token",
        "read:user",
    )
}

fn authorization(device_code: &str) -> DeviceAuthorization {
    DeviceAuthorization {
        device_code: device_code.into(),
        user_code: "AB-12".into(),
        verification_uri: Url::parse("https://as.example/activate").unwrap(),
        verification_uri_complete: None,
        expires_in: Duration::from_secs(900),
        interval: Duration::from_secs(5),
    }
}

fn body(request: Result<Request<Body>, RequestError>) -> String {
    String::from_utf8(request.unwrap().body().expose().to_vec()).unwrap()
}

#[test]
fn requests_in_all_dialects() {
    let rig = rig();
    let verifier = CodeVerifier::received("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into());
    let challenge = CodeChallenge::s256(&verifier);
    let state = StateParam::received("st".into());
    let pkce = "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

    let plain = rig.flow(DeviceDialect::Rfc8628);
    assert_eq!(
        body(plain.authorization_request(None, None)),
        "client_id=cid&scope=read%3Auser"
    );
    assert_eq!(
        body(plain.poll_request(&authorization("dc"), None)),
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&client_id=cid&device_code=dc"
    );
    // Qwen: PKCE with the device grant; a state is not sent.
    assert_eq!(
        body(plain.authorization_request(Some(&challenge), Some(&state))),
        format!("client_id=cid&scope=read%3Auser&{pkce}")
    );
    assert_eq!(
        body(plain.poll_request(&authorization("dc"), Some(&verifier))),
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&client_id=cid&device_code=dc\
         &code_verifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );

    let minimax = rig.flow(DeviceDialect::UserCode);
    assert_eq!(
        body(minimax.authorization_request(Some(&challenge), Some(&state))),
        format!("response_type=code&client_id=cid&scope=read%3Auser&{pkce}&state=st")
    );
    assert_eq!(
        body(minimax.poll_request(&authorization("AB-12"), Some(&verifier))),
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Auser_code&client_id=cid&user_code=AB-12\
         &code_verifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );

    let openai = rig.flow(DeviceDialect::OpenAi);
    let begin = openai
        .authorization_request(Some(&challenge), Some(&state))
        .unwrap();
    assert_eq!(begin.headers()["content-type"], "application/json");
    assert_eq!(body(Ok(begin)), r#"{"client_id":"cid"}"#);
    assert_eq!(
        body(openai.poll_request(&authorization("da"), None)),
        r#"{"device_auth_id":"da","user_code":"AB-12"}"#
    );
    let blank = plain.poll_request(&authorization(" "), None);
    assert_eq!(
        blank.map(drop),
        Err(RequestError::Missing { field: "device_code" })
    );
}

#[test]
fn openai_urls_follow_from_one() {
    let issuer = Url::parse("https://auth.openai.com").unwrap();
    let urls = OpenAiDeviceUrls::of_issuer(&issuer);
    let texts = [
        (
            &urls.user_code_endpoint,
            "https://auth.openai.com/api/accounts/deviceauth/usercode",
        ),
        (
            &urls.poll_endpoint,
            "https://auth.openai.com/api/accounts/deviceauth/token",
        ),
        (&urls.verification_uri, "https://auth.openai.com/codex/device"),
        (&urls.redirect_uri, "https://auth.openai.com/deviceauth/callback"),
    ];
    for (url, want) in texts {
        assert_eq!(url.as_str(), want);
    }
    assert_eq!(OpenAiDeviceUrls::beside(&urls.user_code_endpoint), Some(urls));
    let deeper = Url::parse("http://127.0.0.1:9/base/api/accounts/deviceauth/usercode").unwrap();
    let deeper = OpenAiDeviceUrls::beside(&deeper).unwrap();
    assert_eq!(
        deeper.redirect_uri.as_str(),
        "http://127.0.0.1:9/base/deviceauth/callback"
    );
    assert_eq!(OpenAiDeviceUrls::beside(&issuer), None);
}

#[test]
fn authorizations_in_all_dialects() {
    let rig = rig();
    let page = "https://as.example/activate";
    let read = |dialect, fallback, body: Value| {
        let flow = DeviceFlow {
            verification_uri: fallback,
            ..rig.flow(dialect)
        };
        flow.parse_authorization(&answer(200, &body.to_string()), None, NOW)
    };
    let cases = [
        (
            DeviceDialect::Rfc8628,
            json!({"device_code": "d", "user_code": "U", "verification_uri": page, "expires_in": 1800, "interval": 7}),
            ("d", 1800, 7),
        ),
        (
            DeviceDialect::Rfc8628,
            json!({"device_code": "d", "user_code": "U", "verification_url": page}),
            ("d", 900, 5),
        ),
        (
            DeviceDialect::Rfc8628,
            json!({"device_code": "d", "user_code": "U", "verification_uri": page, "expires_in": "60", "interval": 0}),
            ("d", 60, 5),
        ),
        (
            DeviceDialect::Rfc8628,
            json!({"device_code": "d", "user_code": "U", "verification_uri": page, "expires_in": 9e15, "interval": 0.2}),
            ("d", 86_400, 1),
        ),
        (
            DeviceDialect::OpenAi,
            json!({"device_auth_id": "da", "user_code": "U", "interval": "5"}),
            ("da", 900, 5),
        ),
        (
            DeviceDialect::OpenAi,
            json!({"device_auth_id": "da", "usercode": "U", "interval": 8}),
            ("da", 900, 8),
        ),
        (
            DeviceDialect::UserCode,
            json!({"user_code": "U", "verification_uri": page, "expired_in": 300, "interval": 2000}),
            ("U", 300, 2),
        ),
        (
            DeviceDialect::UserCode,
            json!({"user_code": "U", "verification_uri": page, "expired_in": NOW.0 + 120_000}),
            ("U", 120, 2),
        ),
        (
            DeviceDialect::UserCode,
            json!({"user_code": "U", "verification_uri": page, "expired_in": 1_700_000_240, "interval": 3}),
            ("U", 240, 3),
        ),
    ];
    for (dialect, body, (device_code, expires_in, interval)) in cases {
        let got = read(dialect, Some(page), body.clone()).unwrap();
        let want = DeviceAuthorization {
            user_code: "U".into(),
            expires_in: Duration::from_secs(expires_in),
            interval: Duration::from_secs(interval),
            ..authorization(device_code)
        };
        assert_eq!(got, want, "{body}");
    }
    let complete = json!({
        "device_code": "d", "user_code": "U\u{1b}[2J", "verification_uri": page,
        "verification_uri_complete": "https://as.example/activate?user_code=U",
    });
    let got = read(DeviceDialect::Rfc8628, None, complete).unwrap();
    assert_eq!(got.user_code, "U[2J");
    assert_eq!(
        got.verification_uri_complete.unwrap().query(),
        Some("user_code=U")
    );
}

#[test]
fn authorizations_that_fail() {
    let rig = rig();
    let page = "https://as.example/activate";
    let read = |dialect, status, body: &str| {
        let state = StateParam::received("st".into());
        let got = rig
            .flow(dialect)
            .parse_authorization(&answer(status, body), Some(&state), NOW);
        got.map(drop).unwrap_err().to_string()
    };
    let cases = [
        (DeviceDialect::OpenAi, 404, "", "device login is not enabled"),
        (DeviceDialect::Rfc8628, 404, "", "the provider answered 404"),
        (
            DeviceDialect::Rfc8628,
            400,
            r#"{"error":"invalid_client"}"#,
            "the provider answered 400 (invalid_client)",
        ),
        (
            DeviceDialect::Rfc8628,
            200,
            r#"{"error":"device_flow_disabled","error_description":"off"}"#,
            "the provider answered 200 (device_flow_disabled: off)",
        ),
        (
            DeviceDialect::Rfc8628,
            200,
            "<html>",
            "the provider answered 200 (an HTML page",
        ),
        (
            DeviceDialect::Rfc8628,
            200,
            r#"{"device_code":"d"}"#,
            "no usable user_code",
        ),
        (
            DeviceDialect::Rfc8628,
            200,
            r#"{"user_code":"u"}"#,
            "no usable device_code",
        ),
        (
            DeviceDialect::OpenAi,
            200,
            r#"{"user_code":"u"}"#,
            "no usable device_auth_id",
        ),
        (
            DeviceDialect::OpenAi,
            200,
            r#"{"user_code":"u","device_auth_id":"d"}"#,
            "no usable verification_uri",
        ),
        (
            DeviceDialect::Rfc8628,
            200,
            r#"{"user_code":"u","device_code":"d","verification_uri":"javascript:x"}"#,
            "no usable verification_uri",
        ),
        (
            DeviceDialect::UserCode,
            200,
            r#"{"user_code":"u","state":"other"}"#,
            "State mismatch",
        ),
        (
            DeviceDialect::UserCode,
            200,
            r#"{"user_code":"u"}"#,
            "State mismatch",
        ),
    ];
    for (dialect, status, body, want) in cases {
        let got = read(dialect, status, body);
        assert!(got.contains(want), "{body}: {got}");
    }
    let good = format!(r#"{{"user_code":"u","state":"st","verification_uri":"{page}"}}"#);
    let state = StateParam::received("st".into());
    let got = rig
        .flow(DeviceDialect::UserCode)
        .parse_authorization(&answer(200, &good), Some(&state), NOW);
    assert!(got.is_ok(), "{got:?}");
}

fn poll(dialect: DeviceDialect, status: u16, body: &str) -> String {
    let rig = rig();
    let response = answer(status, body);
    match rig
        .flow(dialect)
        .parse_poll(&response, &[&"dc-canary".into()], NOW)
    {
        DevicePoll::Pending => "pending".into(),
        DevicePoll::SlowDown => "slow".into(),
        DevicePoll::Expired => "expired".into(),
        DevicePoll::Denied { description } => format!("denied {description}"),
        DevicePoll::Granted(grant) => {
            let life = grant.expires_in.map_or(0, |life| life.as_secs());
            format!("granted {} {life}", grant.access_token.expose())
        }
        DevicePoll::Code { code, verifier } => {
            format!("code {} {}", code.secret().expose(), verifier.secret().expose())
        }
        DevicePoll::Failed {
            status,
            code,
            description,
        } => format!("failed {status} {} {description}", code.unwrap_or_default()),
    }
}

#[test]
fn polls_in_all_dialects() {
    use DeviceDialect::{OpenAi, Rfc8628, UserCode};
    let cases = [
        (
            Rfc8628,
            200,
            r#"{"access_token":"a","expires_in":60}"#,
            "granted a 60",
        ),
        (Rfc8628, 400, r#"{"error":"authorization_pending"}"#, "pending"),
        (Rfc8628, 200, r#"{"error":"authorization_pending"}"#, "pending"),
        (Rfc8628, 200, r#"{"error":"slow_down","interval":10}"#, "slow"),
        (Rfc8628, 429, r#"{"error":"slow_down"}"#, "slow"),
        (
            Rfc8628,
            400,
            r#"{"error":"access_denied","error_description":"no"}"#,
            "denied no",
        ),
        (Rfc8628, 400, r#"{"error":"authorization_declined"}"#, "denied "),
        (Rfc8628, 200, r#"{"error":"expired_token"}"#, "expired"),
        (Rfc8628, 429, r#"{"error":"expired_token"}"#, "expired"),
        (Rfc8628, 429, r#"{"error":"authorization_pending"}"#, "slow"),
        (Rfc8628, 503, "<html>", "slow"),
        (
            Rfc8628,
            400,
            r#"{"error":"invalid_grant","error_description":"dc-canary?"}"#,
            "failed 400 invalid_grant [redacted]?",
        ),
        (
            Rfc8628,
            200,
            r#"{"error":"incorrect_device_code"}"#,
            "failed 200 incorrect_device_code ",
        ),
        (Rfc8628, 200, "{}", "failed 200  "),
        (Rfc8628, 404, "", "failed 404  "),
        (
            OpenAi,
            403,
            r#"{"error":{"code":"deviceauth_authorization_pending"}}"#,
            "pending",
        ),
        (OpenAi, 404, "", "pending"),
        (
            OpenAi,
            200,
            r#"{"authorization_code":"c","code_challenge":"x","code_verifier":"v"}"#,
            "code c v",
        ),
        (OpenAi, 200, r#"{"authorization_code":"c"}"#, "failed 200  "),
        (OpenAi, 200, r#"{"access_token":"a"}"#, "failed 200  "),
        (OpenAi, 400, r#"{"error":"access_denied"}"#, "denied "),
        (OpenAi, 401, "", "failed 401  "),
        (OpenAi, 500, "", "slow"),
        (UserCode, 200, r#"{"status":"pending"}"#, "pending"),
        (
            UserCode,
            200,
            r#"{"status":"success","access_token":"a","expired_in":60}"#,
            "granted a 60",
        ),
        (
            UserCode,
            200,
            r#"{"status":"success","access_token":"a","expired_in":1700000060000}"#,
            "granted a 60",
        ),
        (
            UserCode,
            200,
            r#"{"access_token":"a","expires_in":5}"#,
            "granted a 5",
        ),
        (UserCode, 200, r#"{"status":"success"}"#, "failed 200  "),
        (
            UserCode,
            200,
            r#"{"status":"error","base_resp":{"status_msg":"no"}}"#,
            "failed 200  no",
        ),
        (UserCode, 200, r#"{"error":"authorization_pending"}"#, "pending"),
        (
            UserCode,
            200,
            "<html>",
            "failed 200  an HTML page instead of JSON",
        ),
        (
            UserCode,
            400,
            r#"{"base_resp":{"status_code":1,"status_msg":"bad"}}"#,
            "failed 400  bad",
        ),
    ];
    for (dialect, status, body, want) in cases {
        assert_eq!(poll(dialect, status, body), want, "{dialect:?} {status} {body}");
    }
}

#[test]
fn failures_have_sentences() {
    let cases = [
        (DevicePoll::Pending, None),
        (DevicePoll::SlowDown, None),
        (
            DevicePoll::Expired,
            Some("The code was not entered in time; begin the login again"),
        ),
        (
            DevicePoll::Denied {
                description: "by admin".into(),
            },
            Some("The provider refused the login (access_denied: by admin)"),
        ),
        (
            DevicePoll::Failed {
                status: 400,
                code: Some("invalid_grant".into()),
                description: String::new(),
            },
            Some("The device login failed: the provider answered 400 (invalid_grant)"),
        ),
    ];
    for (poll, want) in cases {
        assert_eq!(poll.failure().as_deref(), want);
    }
}

proptest! {
    #[test]
    fn any_answer_is_read(status in 100_u16..600, body in "\\PC{0,120}", interval in any::<f64>(), expiry in any::<f64>()) {
        let rig = rig();
        let numbers = json!({
            "device_code": "d", "user_code": "u", "device_auth_id": "a", "verification_uri": "https://x.y/",
            "interval": interval, "expires_in": expiry, "expired_in": expiry,
        });
        for dialect in [DeviceDialect::Rfc8628, DeviceDialect::OpenAi, DeviceDialect::UserCode] {
            let _ = poll(dialect, status, &body);
            let flow = rig.flow(dialect);
            let _ = flow.parse_authorization(&answer(status, &body), None, NOW);
            let got = flow.parse_authorization(&answer(200, &numbers.to_string()), None, NOW).unwrap();
            prop_assert!(got.interval >= INTERVAL_MIN && got.expires_in <= EXPIRES_IN_MAX);
        }
    }
}
