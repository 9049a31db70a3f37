use tokensink_types::{Expiry, UnixMillis};

use super::*;
use crate::worlds::{
    self, NOTHING, NOW, REFERENCE, VALUE, api_key, candidate, id, later, oauth, provider, state, token,
};
use crate::{ConfigProfile, ProviderAliases};

fn form_token(token: Material, expires: Expiry) -> CredentialForm {
    CredentialForm::Token { token, expires }
}

fn form_oauth(access: bool, refresh: bool, expires: Option<UnixMillis>) -> CredentialForm {
    CredentialForm::OAuth {
        access,
        refresh,
        expires,
    }
}

fn ask<'a>(config: &'a Config, of: Option<&'a ProviderId>, purpose: Purpose) -> Ask<'a> {
    Ask {
        config,
        provider: of,
        purpose,
        now: NOW,
    }
}

#[test]
fn credentials_by_themselves() {
    use EligibilityCode as Code;
    let pasted = Material {
        inline: Inline::CommandLine,
        reference: true,
    };
    let both = Material {
        inline: Inline::Value,
        reference: true,
    };
    // (form, code while the reference is unchecked or resolved, code once it has failed)
    let cases = [
        (api_key(), Code::Ok, Code::Ok),
        (
            CredentialForm::ApiKey(NOTHING),
            Code::MissingCredential,
            Code::MissingCredential,
        ),
        (CredentialForm::ApiKey(REFERENCE), Code::Ok, Code::UnresolvedRef),
        (CredentialForm::ApiKey(both), Code::Ok, Code::Ok),
        (
            CredentialForm::ApiKey(pasted),
            Code::MalformedApiKey,
            Code::MalformedApiKey,
        ),
        (form_token(VALUE, Expiry::Never), Code::Ok, Code::Ok),
        (
            form_token(NOTHING, Expiry::Never),
            Code::MissingCredential,
            Code::MissingCredential,
        ),
        (
            form_token(NOTHING, Expiry::Invalid),
            Code::MissingCredential,
            Code::MissingCredential,
        ),
        (
            form_token(VALUE, Expiry::Invalid),
            Code::InvalidExpires,
            Code::InvalidExpires,
        ),
        (
            form_token(VALUE, Expiry::At(UnixMillis(0))),
            Code::InvalidExpires,
            Code::InvalidExpires,
        ),
        (
            form_token(VALUE, Expiry::At(UnixMillis(-5))),
            Code::InvalidExpires,
            Code::InvalidExpires,
        ),
        (form_token(VALUE, Expiry::At(later(1))), Code::Ok, Code::Ok),
        (form_token(VALUE, Expiry::At(NOW)), Code::Expired, Code::Expired),
        (
            form_token(VALUE, Expiry::At(later(-1))),
            Code::Expired,
            Code::Expired,
        ),
        // A reference never bypasses the expiry check.
        (
            form_token(REFERENCE, Expiry::At(later(-1))),
            Code::Expired,
            Code::Expired,
        ),
        (
            form_token(REFERENCE, Expiry::Invalid),
            Code::InvalidExpires,
            Code::InvalidExpires,
        ),
        (
            form_token(REFERENCE, Expiry::At(later(1))),
            Code::Ok,
            Code::UnresolvedRef,
        ),
        (form_oauth(true, true, Some(later(1))), Code::Ok, Code::Ok),
        (form_oauth(true, true, Some(later(-1))), Code::Ok, Code::Ok),
        (form_oauth(false, true, None), Code::Ok, Code::Ok),
        (form_oauth(true, false, None), Code::Ok, Code::Ok),
        (form_oauth(true, false, Some(later(1))), Code::Ok, Code::Ok),
        (form_oauth(true, false, Some(NOW)), Code::Expired, Code::Expired),
        (
            form_oauth(false, false, Some(later(1))),
            Code::MissingCredential,
            Code::MissingCredential,
        ),
    ];
    let config = Config::default();
    for (form, unchecked, failed) in cases {
        for (references, want) in [
            (References::Unchecked, unchecked),
            (References::Resolved, unchecked),
            (References::Failed, failed),
        ] {
            let mut stored = candidate("rig:a", "rig", form);
            stored.references = references;
            let got = eligibility(&id("rig:a"), Some(&stored), &ask(&config, None, Purpose::Order)).unwrap();
            assert_eq!(got.code, want, "{form:?} {references:?}");
            assert_eq!(got.detail.is_empty(), got.is_ok(), "{form:?}: {}", got.detail);
        }
    }
}

#[test]
fn fit_with_provider_and_config() {
    use CredentialKind as Kind;
    use EligibilityCode as Code;
    let (rig, other, alias) = (provider("rig"), provider("other"), provider("alias"));
    let aliases = ProviderAliases::new([(alias.clone(), rig.clone())]);
    let (key, bearer, grant) = (api_key(), token(Expiry::Never), oauth(None));
    // (form, wanted provider, entry of auth.profiles, code in an order, code by id)
    let cases = [
        (key, None, None, Code::Ok, Code::Ok),
        (key, Some(&rig), None, Code::Ok, Code::Ok),
        (key, Some(&alias), None, Code::Ok, Code::Ok),
        (
            key,
            Some(&other),
            None,
            Code::ProviderMismatch,
            Code::ProviderMismatch,
        ),
        (key, None, Some((&alias, Some(Kind::ApiKey))), Code::Ok, Code::Ok),
        (
            key,
            None,
            Some((&other, Some(Kind::ApiKey))),
            Code::ProviderMismatch,
            Code::ProviderMismatch,
        ),
        (
            key,
            None,
            Some((&rig, Some(Kind::Token))),
            Code::ModeMismatch,
            Code::ModeMismatch,
        ),
        (
            key,
            None,
            Some((&rig, Some(Kind::OAuth))),
            Code::ModeMismatch,
            Code::ModeMismatch,
        ),
        (
            key,
            None,
            Some((&rig, None)),
            Code::ModeMismatch,
            Code::ModeMismatch,
        ),
        (bearer, None, Some((&rig, Some(Kind::Token))), Code::Ok, Code::Ok),
        (bearer, None, Some((&rig, Some(Kind::OAuth))), Code::Ok, Code::Ok),
        (
            bearer,
            None,
            Some((&rig, Some(Kind::ApiKey))),
            Code::ModeMismatch,
            Code::ModeMismatch,
        ),
        (grant, None, Some((&rig, Some(Kind::OAuth))), Code::Ok, Code::Ok),
        (
            grant,
            None,
            Some((&rig, Some(Kind::Token))),
            Code::ModeMismatch,
            Code::Ok,
        ),
        (
            grant,
            None,
            Some((&rig, Some(Kind::ApiKey))),
            Code::ModeMismatch,
            Code::ModeMismatch,
        ),
    ];
    for (form, wanted, entry, in_order, by_id) in cases {
        let config = Config {
            aliases: aliases.clone(),
            profiles: entry
                .map(|(of, mode)| ConfigProfile {
                    id: id("rig:a"),
                    provider: of.clone(),
                    mode,
                })
                .into_iter()
                .collect(),
            ..Config::default()
        };
        let stored = candidate("rig:a", "rig", form);
        for (purpose, want) in [(Purpose::Order, in_order), (Purpose::Resolve, by_id)] {
            let got = eligibility(&id("rig:a"), Some(&stored), &ask(&config, wanted, purpose)).unwrap();
            assert_eq!(got.code, want, "{form:?} {wanted:?} {entry:?} {purpose:?}");
        }
    }
}

#[test]
fn an_id_that_is_not_stored_is_missing() {
    let config = Config::default();
    let got = eligibility(&id("rig:gone"), None, &ask(&config, None, Purpose::Resolve)).unwrap();
    assert_eq!(got.code, EligibilityCode::ProfileMissing);
    assert!(got.detail.contains("rig:gone"), "{}", got.detail);
}

/// Oracle 15 of spec.md 19: type oauth with a reference is an error, not a skip.
#[test]
fn oauth_with_a_reference_is_an_error() {
    let mut grant = candidate("rig:grant", "rig", oauth(None));
    grant.ref_fields = vec!["access".to_owned(), "keyRef".to_owned()];
    let by_ref = candidate("rig:token", "rig", form_token(REFERENCE, Expiry::Never));
    let key = candidate("rig:key", "rig", CredentialForm::ApiKey(REFERENCE));
    let config = worlds::config(&[
        ("rig:token", "rig", CredentialKind::OAuth),
        ("rig:key", "rig", CredentialKind::OAuth),
    ]);

    let one = eligibility(&grant.id, Some(&grant), &ask(&config, None, Purpose::Order)).unwrap_err();
    let text = one.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("auth profile rig:grant: OAuth + SecretRef is not supported"),
        "{text}"
    );
    assert!(lines[1].starts_with("profiles.rig:grant.access: "), "{text}");
    assert!(lines[2].starts_with("profiles.rig:grant.keyRef: "), "{text}");

    let by_mode = eligibility(&by_ref.id, Some(&by_ref), &ask(&config, None, Purpose::Order)).unwrap_err();
    assert!(
        by_mode
            .to_string()
            .contains("profiles.rig:token.tokenRef: auth.profiles"),
        "{by_mode}"
    );
    // Here the modes already do not fit, which is found first (spec.md 8.1).
    let mismatch = eligibility(&key.id, Some(&key), &ask(&config, None, Purpose::Order)).unwrap();
    assert_eq!(mismatch.code, EligibilityCode::ModeMismatch);

    let all = check_oauth_refs(&config, &state(vec![grant, by_ref, key])).unwrap_err();
    assert!(all.to_string().starts_with("auth-profiles: "), "{all}");
    assert_eq!(all.violations.len(), 4);
    let fine = state(vec![candidate("rig:token", "rig", token(Expiry::Never))]);
    assert_eq!(check_oauth_refs(&config, &fine), Ok(()));
}

#[test]
fn the_words_are_those_of_the_table() {
    let words: Vec<&str> = EligibilityCode::ALL.iter().map(|code| code.as_str()).collect();
    let table = "ok profile_missing provider_mismatch mode_mismatch missing_credential invalid_expires expired \
                 unresolved_ref malformed_api_key excluded_by_auth_order ineligible_profile no_model";
    assert_eq!(words, table.split_whitespace().collect::<Vec<_>>());
}
