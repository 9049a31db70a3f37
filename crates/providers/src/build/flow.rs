//! The login of one method: what each kind needs.

mod program;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokensink_oauth::device::OpenAiDeviceUrls;
use tokensink_oauth::pkce::VerifierEncoding;
use tokensink_oauth::request::BodyFormat;
use tokensink_types::record::Rotation;
use tokensink_types::{CredentialKind, MethodId, Secret};
use url::Url;

use super::section::Section;
use crate::check_value::{is_loopback, parse_callback_host};
use crate::definition::{
    DeviceDialect, DeviceFlow, ExternalLogin, Flow, Identity, IdentitySource, OAuthClient, PkceFlow,
    Redirect, RedirectMode, RequestShape, RequiredIdentity, RuntimeKey, RuntimeKeyDialect, SecretSetting,
    Setting, StateSource, TokenCheck,
};
use crate::problem::Problems;
use crate::tree::{Node, Table};

pub(super) fn build_flow(method: &Section<'_>, kind: &str, problems: &mut Problems) -> Option<Flow> {
    match kind {
        "pkce" => build_pkce(method, problems).map(Box::new).map(Flow::Pkce),
        "device" => build_device(method, problems).map(Box::new).map(Flow::Device),
        "token" => Some(Flow::Token(token_check(method))),
        "api_key" => Some(Flow::ApiKey(token_check(method))),
        "external" => build_external(method, problems).map(Flow::External),
        "program" => program::build(method, problems).map(Box::new).map(Flow::Program),
        _ => None,
    }
}

fn token_check(method: &Section<'_>) -> TokenCheck {
    let empty = Table::default();
    let check = method.sub("token_check", &empty);
    TokenCheck {
        prefix: check.text("prefix").map(str::to_owned),
        length_min: check
            .integer("length_min")
            .and_then(|length| usize::try_from(length).ok())
            .unwrap_or(0),
    }
}

fn build_external(method: &Section<'_>, problems: &mut Problems) -> Option<ExternalLogin> {
    let cli = method.require_text(
        "cli",
        "name the program whose login is used, for example \"claude\"",
        problems,
    )?;
    Some(ExternalLogin {
        cli: cli.to_owned(),
        renew_command: method.text("renew_command").map(str::to_owned),
        refresh_with: method.word("refresh_with", |text| MethodId::parse(text).ok()),
    })
}

fn build_pkce(method: &Section<'_>, problems: &mut Problems) -> Option<PkceFlow> {
    let client = build_client(method, problems);
    let authorization_endpoint = endpoint(method, "authorization_endpoint", problems);
    let redirects = build_redirects(method, problems);
    let client = client?;
    Some(PkceFlow {
        client,
        authorization_endpoint,
        redirects,
        redirect_uri_env: method.text("redirect_uri_env").map(str::to_owned),
        callback_hosts: build_callback_hosts(method, problems),
        leading_params: method.pairs("leading_params"),
        authorize_params: method.pairs("authorize_params"),
        state: match method.text("state") {
            Some("verifier") => StateSource::Verifier,
            _ => StateSource::Random,
        },
        exchange_state: method.sub("exchange", &Table::default()).flag("send_state"),
    })
}

/// An endpoint that must be given or discovered.
fn endpoint(method: &Section<'_>, key: &str, problems: &mut Problems) -> Option<Url> {
    let url = method.url(key);
    if url.is_none() && method.text("issuer").is_none() {
        let fix = format!("add {key} = \"https://...\", or issuer = \"https://...\" to have it discovered");
        method.missing(key, &fix, problems);
    }
    url
}

fn build_redirects(method: &Section<'_>, problems: &mut Problems) -> Vec<Redirect> {
    let mut found: Vec<(&str, Option<&str>)> = Vec::new();
    if let Some(uri) = method.text("redirect_uri") {
        found.push((uri, None));
    }
    let nodes = method.table.get("redirects").map(Node::list).unwrap_or_default();
    for table in nodes.iter().filter_map(Node::table) {
        match table.text("uri") {
            Some(uri) => found.push((uri, table.text("mode"))),
            None => method.wrong(
                "redirects",
                "an entry has no uri",
                "write { uri = \"...\" }",
                problems,
            ),
        }
    }
    if found.is_empty() {
        let fix = "add redirect_uri = \"http://127.0.0.1:1455/auth/callback\" or what is registered";
        method.missing("redirect_uri", fix, problems);
    }
    found
        .into_iter()
        .filter_map(|(uri, mode)| build_redirect(uri, mode, method, problems))
        .collect()
}

fn build_redirect(
    uri: &str,
    mode: Option<&str>,
    method: &Section<'_>,
    problems: &mut Problems,
) -> Option<Redirect> {
    let url = Url::parse(uri).ok()?;
    let mode = match mode {
        Some("loopback") => RedirectMode::Loopback,
        Some("paste") => RedirectMode::Paste,
        _ if is_loopback(&url) => RedirectMode::Loopback,
        _ => RedirectMode::Paste,
    };
    if mode == RedirectMode::Loopback && (!is_loopback(&url) || url.scheme() != "http") {
        let key = if method.text("redirect_uri").is_some() {
            "redirect_uri"
        } else {
            "redirects"
        };
        let message = format!("{uri} cannot be listened on");
        let fix = "write an http URL on 127.0.0.1, ::1 or localhost, or mode = \"paste\"";
        method.wrong(key, &message, fix, problems);
    }
    Some(Redirect {
        uri: uri.to_owned(),
        mode,
    })
}

fn build_callback_hosts(method: &Section<'_>, problems: &mut Problems) -> Vec<IpAddr> {
    let texts = method.texts("callback_hosts");
    if texts.is_empty() {
        return vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    }
    let mut hosts = Vec::new();
    for text in &texts {
        match parse_callback_host(text) {
            Ok(address) => hosts.push(address),
            Err(fault) => method.wrong("callback_hosts", &fault.message, &fault.fix, problems),
        }
    }
    hosts
}

fn build_device(method: &Section<'_>, problems: &mut Problems) -> Option<DeviceFlow> {
    let client = build_client(method, problems);
    let empty = Table::default();
    let device = method.sub("device", &empty);
    let dialect = match method.text("device_dialect") {
        Some("openai") => DeviceDialect::OpenAi,
        Some("user_code") => DeviceDialect::UserCode,
        _ => DeviceDialect::Rfc8628,
    };
    let device_authorization_endpoint = endpoint(method, "device_authorization_endpoint", problems);
    let beside = device_authorization_endpoint
        .as_ref()
        .filter(|_| dialect == DeviceDialect::OpenAi)
        .and_then(OpenAiDeviceUrls::beside);
    if dialect == DeviceDialect::OpenAi && beside.is_none() {
        for key in ["poll_endpoint", "redirect_uri", "verification_uri"] {
            let fix = "it does not follow from device_authorization_endpoint; write it";
            device.require_text(key, fix, problems);
        }
    }
    let (poll, page, redirect) = match beside {
        Some(urls) => (
            Some(urls.poll_endpoint),
            Some(urls.verification_uri),
            Some(urls.redirect_uri),
        ),
        None => (None, None, None),
    };
    let format = if dialect == DeviceDialect::OpenAi {
        BodyFormat::Json
    } else {
        BodyFormat::Form
    };
    Some(DeviceFlow {
        client: client?,
        device_authorization_endpoint,
        dialect,
        poll_endpoint: device.url("poll_endpoint").or(poll),
        verification_uri: device.url("verification_uri").or(page),
        redirect_uri: device.url("redirect_uri").or(redirect),
        pkce: device.flag("pkce"),
        format: device.word("format", body_format).unwrap_or(format),
        params: device.pairs("params"),
        headers: device.pairs("headers"),
    })
}

fn build_client(method: &Section<'_>, problems: &mut Problems) -> Option<OAuthClient> {
    let empty = Table::default();
    let client_id = build_client_id(method, problems);
    let token_endpoint = endpoint(method, "token_endpoint", problems);
    let format = method.word("token_request", body_format).unwrap_or_default();
    let runtime_key = build_runtime_key(method, problems);
    let identity = build_identity(method, problems);
    let request = |key: &str, default: BodyFormat| {
        let section = method.sub(key, &empty);
        RequestShape {
            format: section.word("format", body_format).unwrap_or(default),
            params: section.pairs("params"),
            headers: section.pairs("headers"),
        }
    };
    Some(OAuthClient {
        client_id: client_id?,
        client_secret: build_client_secret(method),
        issuer: method.url("issuer"),
        trusted_domains: method
            .texts("trusted_domains")
            .iter()
            .map(|name| name.to_lowercase())
            .collect(),
        token_endpoint,
        revocation_endpoint: method.url("revocation_endpoint"),
        userinfo_endpoint: method.url("userinfo_endpoint"),
        scopes: method.texts("scopes"),
        scopes_env: method.text("scopes_env").map(str::to_owned),
        verifier: match method.text("verifier") {
            Some("hex") => VerifierEncoding::Hex,
            _ => VerifierEncoding::Base64Url,
        },
        exchange: request("exchange", format),
        refresh: request("refresh", format),
        // RFC 7009 section 2.1 knows forms only; a server that wants JSON says so in [auth.revocation].
        revocation: request("revocation", BodyFormat::Form),
        identity,
        fields: method.pairs("fields"),
        stores: method
            .word("stores", CredentialKind::parse)
            .unwrap_or(CredentialKind::OAuth),
        rotation: rotation(method),
        replay_grace: method.seconds("replay_grace_seconds").unwrap_or_default(),
        terminal_errors: terminal_errors(method),
        default_life: positive(method.seconds("default_life_seconds")),
        expiry_buffer: method.seconds("expiry_buffer_seconds").unwrap_or_default(),
        idle_limit: positive(method.seconds("idle_limit_seconds")),
        runtime_key,
    })
}

fn positive(time: Option<Duration>) -> Option<Duration> {
    time.filter(|time| !time.is_zero())
}

/// An empty list would mean that no refusal is ever believed; who wants that says so with `[]`.
fn terminal_errors(method: &Section<'_>) -> Vec<String> {
    if method.table.get("terminal_errors").is_some() {
        method.texts("terminal_errors")
    } else {
        vec!["invalid_grant".to_owned()]
    }
}

fn build_client_id(method: &Section<'_>, problems: &mut Problems) -> Option<Setting> {
    if let Some(id) = method.text("client_id") {
        return Some(Setting::Literal(id.trim().to_owned()));
    }
    let env = method.text("client_id_env");
    if env.is_none() {
        method.missing(
            "client_id",
            "write the client identifier, or client_id_env = \"NAME\"",
            problems,
        );
    }
    env.map(|name| Setting::Env(name.to_owned()))
}

fn build_client_secret(method: &Section<'_>) -> Option<SecretSetting> {
    let literal = method
        .text("client_secret")
        .map(|text| SecretSetting::Literal(Secret::new(text.trim())));
    literal.or_else(|| {
        method
            .text("client_secret_env")
            .map(|name| SecretSetting::Env(name.to_owned()))
    })
}

fn build_runtime_key(method: &Section<'_>, problems: &mut Problems) -> Option<RuntimeKey> {
    method.table.table("runtime_key")?;
    let empty = Table::default();
    let section = method.sub("runtime_key", &empty);
    section.require_text("dialect", "write \"copilot\"", problems);
    section.require_text("endpoint", "write where the token is exchanged", problems);
    Some(RuntimeKey {
        dialect: RuntimeKeyDialect::Copilot,
        endpoint: section.url("endpoint")?,
        headers: section.pairs("headers"),
    })
}

fn build_identity(method: &Section<'_>, problems: &mut Problems) -> Identity {
    let empty = Table::default();
    let section = method.sub("identity", &empty);
    for word in method.texts("required_identity") {
        // A subject is also found without a pointer (spec.md 3.2).
        if word != "subject" && section.texts(&word).is_empty() {
            let fix = format!("add {word} = \"/...\" to identity, or take {word:?} out of required_identity");
            section.missing(&word, &fix, problems);
        }
    }
    let from = section.texts("from");
    if from.iter().any(|word| word == "userinfo") && method.text("userinfo_endpoint").is_none() {
        method.missing(
            "userinfo_endpoint",
            "identity.from = \"userinfo\" needs it",
            problems,
        );
    }
    if from.is_empty() && !section.table.entries.is_empty() {
        section.missing(
            "from",
            "write access_token, id_token, response or userinfo",
            problems,
        );
    }
    Identity {
        from: from.iter().filter_map(|word| identity_source(word)).collect(),
        account: section.texts("account"),
        email: section.texts("email"),
        plan: section.texts("plan"),
        subject: section.texts("subject"),
        required: required_identity(method),
    }
}

fn required_identity(method: &Section<'_>) -> Vec<RequiredIdentity> {
    let words = method.texts("required_identity");
    words
        .iter()
        .filter_map(|word| match word.as_str() {
            "account" => Some(RequiredIdentity::Account),
            "email" => Some(RequiredIdentity::Email),
            "subject" => Some(RequiredIdentity::Subject),
            _ => None,
        })
        .collect()
}

fn rotation(method: &Section<'_>) -> Rotation {
    match method.text("rotation") {
        Some("always") => Rotation::Always,
        Some("never") => Rotation::Never,
        _ => Rotation::Unknown,
    }
}

fn identity_source(word: &str) -> Option<IdentitySource> {
    match word {
        "access_token" => Some(IdentitySource::AccessToken),
        "id_token" => Some(IdentitySource::IdToken),
        "response" => Some(IdentitySource::Response),
        "userinfo" => Some(IdentitySource::UserInfo),
        _ => None,
    }
}

fn body_format(word: &str) -> Option<BodyFormat> {
    match word {
        "form" => Some(BodyFormat::Form),
        "json" => Some(BodyFormat::Json),
        _ => None,
    }
}
