//! The npm package `oidc-provider` as a counterpart: what it says about strictness, so that the server of this crate
//! can be held against it.

use tokensink_testkit::Oidc;
use tokensink_testkit::loopback::{Answer, browse, form, get, post, query, send};
use url::Url;

const REDIRECT: &str = "http://127.0.0.1:1455/auth/callback";
/// The example of RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// What a client asks of the rig.
trait Client {
    fn authorize(&self, account: &str, challenge: &str) -> Url;
    fn exchange(&self, code: &str, verifier: &str) -> Answer;
    fn login(&self, account: &str) -> Answer;
    fn refresh(&self, token: &str) -> Answer;
    fn userinfo(&self, access: &str) -> Result<String, u16>;
}

impl Client for Oidc {
    /// Signs `account` in and comes back with the redirect to the client.
    fn authorize(&self, account: &str, challenge: &str) -> Url {
        let params = form(&[
            ("response_type", "code"),
            ("client_id", "rig"),
            ("redirect_uri", REDIRECT),
            ("scope", "openid email offline_access"),
            ("prompt", "consent"),
            ("state", "s-1"),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256"),
            ("login_hint", account),
        ]);
        browse(&self.url(&format!("/auth?{params}")))
    }

    fn exchange(&self, code: &str, verifier: &str) -> Answer {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("client_id", "rig"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", verifier),
        ];
        post(&self.url("/token"), &pairs)
    }

    fn login(&self, account: &str) -> Answer {
        let redirect = self.authorize(account, CHALLENGE);
        assert_eq!(query(&redirect, "state").as_deref(), Some("s-1"));
        let answer = self.exchange(&query(&redirect, "code").unwrap(), VERIFIER);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    fn refresh(&self, token: &str) -> Answer {
        let pairs = [
            ("grant_type", "refresh_token"),
            ("client_id", "rig"),
            ("refresh_token", token),
        ];
        post(&self.url("/token"), &pairs)
    }

    /// Who the rig says this access token is for, or its status.
    fn userinfo(&self, access: &str) -> Result<String, u16> {
        let bearer = format!("Bearer {access}");
        let answer = send("GET", &self.url("/me"), &[("authorization", &bearer)], "");
        if answer.status == 200 {
            Ok(answer.text("email"))
        } else {
            Err(answer.status)
        }
    }
}

#[test]
fn login_refresh_reuse() {
    let rig = Oidc::start(&["--access-ttl", "1800"]);
    let login = rig.login("bob");
    assert_eq!(login.json()["expires_in"], 1800);
    assert_eq!(
        rig.userinfo(&login.text("access_token")),
        Ok("bob@example.com".to_owned())
    );
    let first = login.text("refresh_token");
    let second = rig.refresh(&first);
    assert_ne!(second.text("refresh_token"), first);
    let third = rig.refresh(&second.text("refresh_token"));
    assert_eq!(third.status, 200);
    let other = rig.login("alice");

    let reuse = rig.refresh(&first);
    assert_eq!(
        (reuse.status, reuse.text("error")),
        (400, "invalid_grant".to_owned())
    );
    let live = rig.refresh(&third.text("refresh_token"));
    assert_eq!(
        (live.status, live.text("error")),
        (400, "invalid_grant".to_owned())
    );
    assert_eq!(rig.userinfo(&third.text("access_token")), Err(401));
    assert_eq!(rig.refresh(&other.text("refresh_token")).status, 200);

    let ledger = rig.ledger();
    assert_eq!(
        (&ledger["refreshes"], &ledger["reuses"], &ledger["revocations"]),
        (&3.into(), &1.into(), &1.into())
    );
    assert_eq!(ledger["token_posts"]["refresh_token"], 5);
    assert_eq!(ledger["token_posts"]["authorization_code"], 2);
    let books = ledger.to_string();
    assert!(
        !books.contains(&first) && !books.contains(&third.text("access_token")),
        "{books}"
    );
}

#[test]
fn a_wrong_verifier_and_a_second_exchange() {
    let rig = Oidc::start(&[]);
    let code = query(&rig.authorize("alice", CHALLENGE), "code").unwrap();
    let wrong = rig.exchange(&code, &"x".repeat(43));
    assert_eq!(
        (wrong.status, wrong.text("error")),
        (400, "invalid_grant".to_owned())
    );
    let code = query(&rig.authorize("alice", CHALLENGE), "code").unwrap();
    let tokens = rig.exchange(&code, VERIFIER);
    assert_eq!(tokens.status, 200);
    assert_eq!(rig.exchange(&code, VERIFIER).status, 400);
    assert_eq!(rig.refresh(&tokens.text("refresh_token")).status, 400);
}

#[test]
fn of_many_at_once_one_is_granted_and_the_grant_ends() {
    const CLIENTS: usize = 8;
    let rig = Oidc::start(&[]);
    let token = rig.login("alice").text("refresh_token");
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| rig.refresh(&token)))
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let granted: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert!(granted.len() <= 1, "{} were granted", granted.len());
    for answer in granted {
        assert_eq!(rig.refresh(&answer.text("refresh_token")).status, 400);
    }
    let ledger = rig.ledger();
    assert_eq!(ledger["reuses"], CLIENTS - 1);
}

#[test]
fn a_device() {
    let rig = Oidc::start(&[]);
    let begin = || {
        let pairs = [("client_id", "rig"), ("scope", "openid email offline_access")];
        let answer = post(&rig.url("/device/auth"), &pairs);
        (answer.text("device_code"), answer.text("user_code"))
    };
    let poll = |code: &str| {
        let grant = "urn:ietf:params:oauth:grant-type:device_code";
        post(
            &rig.url("/token"),
            &[("grant_type", grant), ("client_id", "rig"), ("device_code", code)],
        )
    };
    let (code, user_code) = begin();
    assert_eq!(poll(&code).text("error"), "authorization_pending");
    assert_eq!(
        get(&rig.url(&format!("/__approve?user_code={user_code}&account=bob"))).status,
        200
    );
    let tokens = poll(&code);
    assert_eq!(
        rig.userinfo(&tokens.text("access_token")),
        Ok("bob@example.com".to_owned())
    );
    assert_eq!(rig.refresh(&tokens.text("refresh_token")).status, 200);
    let (code, user_code) = begin();
    assert_eq!(
        get(&rig.url(&format!("/__approve?user_code={user_code}&deny=1"))).status,
        200
    );
    assert_eq!(poll(&code).text("error"), "access_denied");
    assert_eq!(get(&rig.url("/__approve?user_code=XXXX-XXXX")).status, 404);
}

#[test]
fn revocation() {
    let rig = Oidc::start(&[]);
    let tokens = rig.login("alice");
    let refresh = tokens.text("refresh_token");
    let pairs = [
        ("client_id", "rig"),
        ("token", refresh.as_str()),
        ("token_type_hint", "refresh_token"),
    ];
    assert_eq!(post(&rig.url("/token/revocation"), &pairs).status, 200);
    assert_eq!(rig.refresh(&refresh).status, 400);
    let ledger = rig.ledger();
    assert_eq!(
        (&ledger["reuses"], &ledger["revocations"]),
        (&0.into(), &1.into())
    );
}
