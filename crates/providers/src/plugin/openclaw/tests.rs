use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::registry::draft;

fn read_value(value: &Value) -> Manifest {
    read(&value.to_string(), &Registry::builtin()).unwrap()
}

#[test]
fn what_is_data_becomes_a_definition() {
    let manifest = read_value(&json!({
        "id": "acme-plugin",
        "providers": ["Acme", "openai"],
        "providerAuthEnvVars": {"acme": ["ACME_OLD_KEY", "not a name"]},
        "providerAuthAliases": {"acme-eu": "acme", "codex": "acme", "x": "openai-codex"},
        "providerAuthChoices": [
            {"provider": "acme", "method": "api-key", "choiceId": "acme-api-key", "choiceLabel": "Acme key",
             "optionKey": "acmeApiKey", "cliFlag": "--acme-api-key", "groupLabel": "Acme",
             "deprecatedChoiceIds": ["acme-key"]},
            {"provider": "acme", "method": "oauth", "choiceId": "acme-oauth"},
            {"provider": "acme", "method": "token", "choiceId": "acme-token"},
            {"provider": "acme"},
        ],
        "setup": {"providers": [{"id": "acme", "authMethods": ["api-key", "device-code"],
                                 "envVars": ["ACME_API_KEY"], "authEvidence": [{"type": "x"}]}]},
        "contracts": {"externalAuthProviders": ["acme"]},
        "syntheticAuthRefs": [],
    }));
    let [acme] = manifest.definitions.as_slice() else {
        panic!("{manifest:#?}")
    };
    let definition = draft(Path::new("acme.toml"), &acme.text, &Registry::builtin()).unwrap();
    assert_eq!(definition.id.as_str(), "acme");
    assert_eq!(definition.aliases, ["acme-eu"]);
    let env: Vec<&str> = definition.env.iter().map(|env| env.name.as_str()).collect();
    assert_eq!(env, ["ACME_API_KEY", "ACME_OLD_KEY"]);
    let methods: Vec<(&str, &str, &str)> = definition
        .methods
        .iter()
        .map(|method| (method.id.as_str(), method.flow.kind(), method.name.as_str()))
        .collect();
    assert_eq!(
        methods,
        [("api-key", "api_key", "Acme key"), ("token", "token", "token")]
    );
    let choice = &definition.methods[0].choices[0];
    assert_eq!(
        (choice.id.as_str(), choice.group.as_str()),
        ("acme-api-key", "Acme")
    );
    assert_eq!(choice.option.as_deref(), Some("--acme-api-key"));
    assert_eq!(choice.deprecated, ["acme-key"]);
    let left = manifest.left.join("\n");
    for (what, told) in [
        ("the variable", "\"not a name\""),
        (
            "the built-in provider",
            "openai: tokensink has this provider built in",
        ),
        (
            "the login",
            "method oauth (choice acme-oauth) needs the plugin's program",
        ),
        ("the device login", "method device-code needs"),
        ("the alias of another's provider", "alias x: add \"x\" to aliases"),
        ("the taken alias", "alias codex stands for openai-codex already"),
        ("the half choice", "without provider, method or choiceId"),
        ("external logins", "contracts.externalAuthProviders"),
        ("evidence", "authEvidence"),
    ] {
        assert!(left.contains(told), "{what}: {left}");
    }
    assert!(!left.contains("syntheticAuthRefs"), "{left}");
    assert!(manifest.taken.iter().any(|line| line == "acme: alias acme-eu"));
}

#[test]
fn variables_alone_make_a_key_and_logins_alone_make_nothing() {
    let keys =
        read_value(&json!({"id": "p", "providers": ["acme"], "providerAuthEnvVars": {"acme": ["ACME_KEY"]}}));
    assert!(
        keys.definitions[0].text.contains("kind = \"api_key\""),
        "{keys:#?}"
    );
    let logins = read_value(&json!({"id": "p", "providers": ["acme"], "providerAuthChoices": [
            {"provider": "acme", "method": "oauth", "choiceId": "acme"}]}));
    assert_eq!(logins.definitions, []);
    assert!(
        logins.left.iter().any(|line| line.contains("nothing in it")),
        "{logins:#?}"
    );
}

#[test]
fn what_is_no_manifest_is_refused() {
    for (text, want) in [
        ("{", "it is not JSON"),
        ("[]", "an object is expected"),
        ("{\"providers\": []}", "it has no id"),
    ] {
        let error = read(text, &Registry::builtin()).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop_oneof![
            Just("acme"),
            Just("oauth"),
            Just("api-key"),
            Just(""),
            Just("A B"),
            Just("ä\n\"")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let keys = prop_oneof![
            Just("id"),
            Just("providers"),
            Just("setup"),
            Just("envVars"),
            Just("authMethods"),
            Just("provider"),
            Just("method"),
            Just("choiceId"),
            Just("acme"),
            Just("providerAuthEnvVars"),
            Just("providerAuthAliases"),
            Just("providerAuthChoices"),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..6).prop_map(|pairs| {
                Value::Object(
                    pairs
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

proptest! {
    /// Whatever a manifest holds, what is made of it is a definition that holds.
    #[test]
    fn every_definition_holds(rest in any_json(), choices in any_json(), env in any_json()) {
        let value = json!({"id": "p", "providers": ["acme", rest], "providerAuthChoices": [choices],
                           "providerAuthEnvVars": {"acme": env}, "setup": rest});
        let registry = Registry::builtin();
        if let Ok(manifest) = read(&value.to_string(), &registry) {
            for drafted in manifest.definitions {
                let problems = crate::check(Path::new("p.toml"), &drafted.text, &registry);
                prop_assert!(problems.is_empty(), "{}\n{problems:?}", drafted.text);
            }
        }
    }
}
