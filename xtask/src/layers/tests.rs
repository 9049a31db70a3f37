use super::*;

fn uses(list: &[(&str, &[&str])]) -> Edges {
    list.iter()
        .map(|(from, used)| {
            (
                (*from).to_owned(),
                used.iter().map(|name| (*name).to_owned()).collect(),
            )
        })
        .collect()
}

/// A table whose rows only look up has no cycle; [`may_use`] relies on it to end.
#[test]
fn the_table_has_no_cycle() {
    for (at, layer) in TABLE.iter().enumerate() {
        for used in layer.ours {
            let above = TABLE[..at].iter().any(|other| other.name == *used);
            assert!(above, "{} uses {used}, which does not stand above it", layer.name);
            // What must hold for foreign bytes is itself for tests only.
            assert!(*used != DEV_ONLY || layer.name == "properties", "{}", layer.name);
        }
    }
}

#[test]
fn the_pure_crates_list_no_crate_that_does_io() {
    let io = [
        "tokio",
        "hyper",
        "rustix",
        "reqwest",
        "getrandom",
        "tempfile",
        "tracing",
        "rustls",
        "mio",
        "libc",
    ];
    // What we are measured against is a proxy, and uses nothing of ours.
    for layer in TABLE.iter().filter(|layer| layer.name != "baseline") {
        for name in layer.outside.into_iter().flatten() {
            assert!(!io.contains(name), "{} lists {name}", layer.name);
        }
    }
    for pure in ["types", "oauth", "policy", "refresh", "providers"] {
        let layer = TABLE.iter().find(|layer| layer.name == pure).unwrap();
        assert!(layer.outside.is_some(), "{pure}");
    }
}

#[test]
fn what_the_table_allows_passes() {
    let edges = uses(&[
        ("types", &["sha2"]),
        ("policy", &["tokensink-types", "thiserror"]),
        (
            "authserver",
            &["tokensink-types", "tokensink-oauth", "tokensink-host", "tokio"],
        ),
        ("cli", &["tokensink-sink", "tokensink-host", "clap"]),
        ("xtask", &["serde_json"]),
    ]);
    assert_eq!(check(&edges), []);
}

#[test]
fn each_kind_of_violation_names_edge_rule_and_fix() {
    // (crate, what it uses) -> parts of the message
    let cases: [(&str, &str, [&str; 3]); 9] = [
        (
            "policy",
            "tokensink-host",
            [
                "policy -> host",
                "policy may use types",
                "to a crate that may use both",
            ],
        ),
        (
            "policy",
            "tokio",
            ["policy -> tokio", "policy is pure", "add it to the row of policy"],
        ),
        (
            "refresh",
            "rustix",
            ["refresh -> rustix", "refresh is pure", "do the work in host"],
        ),
        (
            "store",
            "tokensink-sink",
            [
                "store -> sink",
                "store may use types, host",
                "sink stands above store",
            ],
        ),
        (
            "types",
            "tokensink-oauth",
            [
                "types -> oauth",
                "types may use none of our crates",
                "oauth stands above types",
            ],
        ),
        (
            "sink",
            "tokensink-authserver",
            [
                "sink -> authserver",
                "sink may use types, oauth",
                "to a crate that may use both",
            ],
        ),
        (
            "sink",
            "tokensink-testkit",
            ["sink -> testkit", "for tests only", "crates/sink/Cargo.toml"],
        ),
        (
            "xtask",
            "tokensink-types",
            ["xtask -> types", "xtask may use none of our crates", "pass it in"],
        ),
        (
            "unheard-of",
            "serde",
            ["unheard-of", "every crate has a row", "add a row to TABLE"],
        ),
    ];
    for (from, to, parts) in cases {
        let violations = check(&uses(&[(from, &[to])]));
        assert_eq!(violations.len(), 1, "{from} -> {to}: {violations:?}");
        let text = violations[0].to_string();
        for (part, line) in parts.iter().zip(text.lines()) {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
    }
}

#[test]
fn development_dependencies_do_not_count_but_build_dependencies_do() {
    let metadata = r#"{"packages": [
        {"name": "tokensink-policy", "dependencies": [
            {"name": "tokensink-types", "kind": null},
            {"name": "tokensink-testkit", "kind": "dev"},
            {"name": "proptest", "kind": "dev"},
            {"name": "tokensink-store", "kind": "build"}]},
        {"name": "xtask", "dependencies": []}]}"#;
    let edges = edges(metadata).unwrap();
    assert_eq!(
        edges,
        uses(&[
            ("policy", &["tokensink-types", "tokensink-store"]),
            ("xtask", &[])
        ])
    );
    let violations = check(&edges);
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].to.as_deref(), Some("store"));
}

#[test]
fn a_workspace_crate_without_the_prefix_is_one_of_ours() {
    let violations = check(&uses(&[("xtask", &[]), ("sink", &["xtask"])]));
    assert_eq!(violations.len(), 1);
    assert!(violations[0].rule.starts_with("sink may use"), "{violations:?}");
}

#[test]
fn what_is_no_metadata_is_an_error() {
    for text in ["", "{}", "[]", r#"{"packages": [{}]}"#] {
        assert!(edges(text).is_err(), "{text:?}");
    }
}
