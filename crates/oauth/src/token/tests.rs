use http::HeaderValue;
use proptest::prelude::*;
use url::Url;

use super::*;
use crate::answer::tests::answer;
use crate::request::{ClientAuth, Extras};

const CODEX: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
const ANTHROPIC: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";

fn body(request: Result<Request<Body>, RequestError>) -> String {
    String::from_utf8(request.unwrap().body().expose().to_vec()).unwrap()
}

fn endpoint<'a>(url: &'a Url, id: &'a str, format: BodyFormat, params: Extras<'a>) -> Endpoint<'a> {
    Endpoint {
        format,
        params,
        ..Endpoint::new(url, id)
    }
}

#[test]
fn codex_requests_are_the_recorded_ones() {
    let url = Url::parse("https://auth.openai.com/oauth/token").unwrap();
    let endpoint = Endpoint::new(&url, CODEX);
    let exchanged = exchange(
        &endpoint,
        &AuthorizationCode::new("ac 1/x".into()),
        &CodeVerifier::received("ver".into()),
        "http://localhost:1455/auth/callback",
        None,
    );
    assert_eq!(
        body(exchanged),
        format!(
            "grant_type=authorization_code&client_id={CODEX}&code=ac+1%2Fx&code_verifier=ver\
             &redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback"
        )
    );
    assert_eq!(
        body(refresh(&endpoint, &"rt.0".into())),
        format!("grant_type=refresh_token&refresh_token=rt.0&client_id={CODEX}")
    );
}

#[test]
fn anthropic_requests_are_the_recorded_ones() {
    let url = Url::parse("https://platform.claude.com/v1/oauth/token").unwrap();
    let endpoint = endpoint(&url, ANTHROPIC, BodyFormat::Json, &[]);
    let verifier = CodeVerifier::received("ver".into());
    let exchanged = exchange(
        &endpoint,
        &AuthorizationCode::new("c1".into()),
        &verifier,
        "https://platform.claude.com/oauth/code/callback",
        Some(&StateParam::from_verifier(&verifier)),
    );
    assert_eq!(
        body(exchanged),
        format!(
            r#"{{"grant_type":"authorization_code","client_id":"{ANTHROPIC}","code":"c1","state":"ver","redirect_uri":"https://platform.claude.com/oauth/code/callback","code_verifier":"ver"}}"#
        )
    );
    let refreshed = refresh(&endpoint, &"sk-ant-ort01-x".into()).unwrap();
    assert_eq!(refreshed.headers()["content-type"], "application/json");
    assert_eq!(refreshed.headers()["accept"], "application/json");
    assert_eq!(
        body(Ok(refreshed)),
        format!(
            r#"{{"grant_type":"refresh_token","client_id":"{ANTHROPIC}","refresh_token":"sk-ant-ort01-x"}}"#
        )
    );
}

#[test]
fn client_secret_and_extras_have_their_places() {
    let url = Url::parse("https://oauth2.googleapis.com/token").unwrap();
    let secret = Secret::from("cs");
    let params = [
        ("scope".to_owned(), "a b".to_owned()),
        ("client_id".to_owned(), "other".to_owned()),
        ("none".to_owned(), String::new()),
    ];
    let mut endpoint = endpoint(&url, "id", BodyFormat::Form, &params);
    endpoint.client = ClientAuth {
        client_id: "id",
        client_secret: Some(&secret),
    };
    assert_eq!(
        body(refresh(&endpoint, &"rt".into())),
        "grant_type=refresh_token&refresh_token=rt&client_id=other&client_secret=cs&scope=a+b"
    );
}

#[test]
fn nothing_blank_is_ever_sent() {
    let url = Url::parse("https://as.example/token").unwrap();
    let endpoint = Endpoint::new(&url, "id");
    let missing = |field| Err(RequestError::Missing { field });
    assert_eq!(
        refresh(&endpoint, &" ".into()).map(drop),
        missing("refresh_token")
    );
    let code = AuthorizationCode::new("".into());
    let got = exchange(
        &endpoint,
        &code,
        &CodeVerifier::received("v".into()),
        "http://x/",
        None,
    );
    assert_eq!(got.map(drop), missing("code"));
}

#[test]
fn secrets_do_not_show_in_a_request() {
    let url = Url::parse("https://as.example/token").unwrap();
    let request = refresh(&Endpoint::new(&url, "id"), &"rt-canary".into()).unwrap();
    assert!(!format!("{request:?}").contains("canary"));
}

#[test]
fn refresh_answers_and_what_they_say_about_the_sent_token() {
    let terminal = ["invalid_grant", "refresh_token_reused"];
    let words = |answer: RefreshAnswer| match answer {
        RefreshAnswer::Granted(grant) => format!("granted {}", grant.access_token.expose()),
        RefreshAnswer::Terminal { code, description } => format!("terminal {code} {description}"),
        RefreshAnswer::Unspent {
            status,
            code,
            description,
            ..
        } => {
            format!("unspent {status} {} {description}", code.unwrap_or_default())
        }
        RefreshAnswer::Ambiguous { status, .. } => format!("ambiguous {status}"),
    };
    let grant = r#"{"error":"invalid_grant"}"#;
    let reused =
        r#"{"error":{"code":"refresh_token_reused","message":"used","type":"invalid_request_error"}}"#;
    let cases = [
        (200, r#"{"access_token":"a"}"#, "granted a"),
        (201, r#"{"access_token":"a","refresh_token":"b"}"#, "granted a"),
        (200, r#"{"access_token":""}"#, "ambiguous 200"),
        (200, "{}", "ambiguous 200"),
        (200, "<html>", "ambiguous 200"),
        (200, r#"{"access_token":"a"#, "ambiguous 200"),
        (204, "", "ambiguous 204"),
        (200, r#"{"error":"server_error"}"#, "ambiguous 200"),
        (200, grant, "terminal invalid_grant "),
        (400, grant, "terminal invalid_grant "),
        (401, reused, "terminal refresh_token_reused used"),
        (
            403,
            r#"{"code":"invalid_grant","message":"m"}"#,
            "terminal invalid_grant m",
        ),
        (429, grant, "terminal invalid_grant "),
        (
            400,
            r#"{"error":{"code":"x","type":"invalid_grant"}}"#,
            "terminal invalid_grant ",
        ),
        (
            400,
            r#"{"error":"invalid_grant_type"}"#,
            "unspent 400 invalid_grant_type ",
        ),
        (
            400,
            r#"{"error":"invalid_request"}"#,
            "unspent 400 invalid_request ",
        ),
        (401, "", "unspent 401  "),
        (404, "<p>no", "unspent 404  an HTML page instead of JSON"),
        (408, "", "unspent 408  "),
        (
            429,
            r#"{"error":{"type":"rate_limit_error"}}"#,
            "unspent 429 rate_limit_error ",
        ),
        (302, "", "unspent 302  "),
        (304, grant, "unspent 304 invalid_grant "),
        (500, grant, "unspent 500 invalid_grant "),
        (503, "busy", "unspent 503  busy"),
        (529, "", "unspent 529  "),
        (502, grant, "ambiguous 502"),
        (504, "", "ambiguous 504"),
        (520, "", "ambiguous 520"),
        (522, "", "ambiguous 522"),
        (524, "", "ambiguous 524"),
    ];
    for (status, text, want) in cases {
        let got = classify_refresh(&answer(status, text), &terminal, &[]);
        assert_eq!(words(got), want, "{status} {text}");
    }
    let none: [&str; 0] = [];
    let got = classify_refresh(&answer(400, grant), &none, &[]);
    assert_eq!(words(got), "unspent 400 invalid_grant ");
}

#[test]
fn refresh_answers_carry_retry_after_and_no_secret() {
    let mut response = answer(
        429,
        r#"{"error":"too_many","error_description":"rt-canary-9 asked too often"}"#,
    );
    response
        .headers_mut()
        .insert("retry-after", HeaderValue::from_static("7"));
    let got = classify_refresh(&response, &["invalid_grant"], &[&"rt-canary-9".into()]);
    assert_eq!(
        got,
        RefreshAnswer::Unspent {
            status: 429,
            code: Some("too_many".into()),
            description: "[redacted] asked too often".into(),
            retry_after: Some(RetryAfter::Delay(std::time::Duration::from_secs(7))),
        }
    );
    let got = classify_refresh(
        &answer(200, r#"{"message":"rt-canary-9"}"#),
        &["x"],
        &[&"rt-canary-9".into()],
    );
    let RefreshAnswer::Ambiguous { reason, .. } = got else {
        panic!("{got:?}")
    };
    assert_eq!(
        reason,
        "the token endpoint gave status 200 and an answer without access_token ([redacted])"
    );
}

#[test]
fn exchange_answers() {
    assert!(classify_exchange(&answer(200, r#"{"access_token":"a"}"#), &[]).is_ok());
    let cases = [
        (
            400,
            r#"{"error":"invalid_grant","error_description":"code c-canary-77 expired"}"#,
            "the provider answered 400 (invalid_grant: code [redacted] expired)",
        ),
        (503, "", "the provider answered 503 (no further words)"),
        (
            200,
            r#"{"error":"bad_verification_code"}"#,
            "the provider answered 200 (bad_verification_code)",
        ),
        (
            200,
            "{}",
            "the token endpoint gave status 200 and an answer without access_token (no further words); begin the login again",
        ),
        (
            200,
            "<html>",
            "the token endpoint gave status 200 and an answer that is not a JSON object (an HTML page instead of JSON); begin the login again",
        ),
    ];
    for (status, text, want) in cases {
        let error = classify_exchange(&answer(status, text), &[&"c-canary-77".into()]).unwrap_err();
        assert_eq!(error.to_string(), want, "{text}");
    }
}

proptest! {
    /// What the send-once rule rests on, for every answer a server can give.
    #[test]
    fn no_answer_is_taken_for_more_than_it_says(
        status in 200_u16..600,
        text in prop_oneof![
            "\\PC{0,80}",
            "[a-z_]{1,12}".prop_map(|code| format!(r#"{{"error":"{code}"}}"#)),
            Just(r#"{"error":"invalid_grant"}"#.to_owned()),
            Just(r#"{"access_token":"a"}"#.to_owned()),
        ],
    ) {
        let says_grant = text.contains(r#""access_token":"a""#);
        match classify_refresh(&answer(status, &text), &["invalid_grant"], &[]) {
            RefreshAnswer::Granted(_) => prop_assert!((200..300).contains(&status) && says_grant),
            RefreshAnswer::Terminal { .. } => {
                prop_assert!(status < 500 && !(300..400).contains(&status) && text.contains("invalid_grant"));
            }
            RefreshAnswer::Unspent { .. } => {
                prop_assert!(status >= 300 && ![502, 504, 520, 522, 524].contains(&status));
            }
            RefreshAnswer::Ambiguous { .. } => {
                prop_assert!(status < 300 || [502, 504, 520, 522, 524].contains(&status));
            }
        }
    }
}
