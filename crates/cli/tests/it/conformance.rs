//! The conformance kit, put to the test with ourselves: we pass, and who does otherwise is seen to fail.

use serde_json::Value;

use crate::world::World;

/// The scenarios of a report that ended in this way, with what was seen.
fn ended(report: &Value, result: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    report["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|scenario| scenario["result"] == result)
        .map(|scenario| (text(&scenario["id"]), text(&scenario["detail"])))
        .collect()
}

#[test]
fn we_pass_every_scenario() {
    let world = World::new();
    let said = world.run("tokensink conformance run tokensink --json");
    let report = said.json();
    assert_eq!(ended(&report, "failed"), [], "{}", said.err);
    assert_eq!(ended(&report, "not judged"), [], "{}", said.err);
    // A disk is mounted where that is allowed; nothing else may be left out.
    let left_out = ended(&report, "not applicable");
    assert!(left_out.iter().all(|(id, _)| id == "full-disk"), "{left_out:?}");
    let passed = ended(&report, "passed").len();
    assert!(passed >= 40, "{passed}");
    assert_eq!(report["client"], "tokensink");
    assert_eq!(report["counts"]["passed"], passed);
    assert_eq!(said.code, 0);
}

#[test]
fn the_catalogue_is_told_and_unknown_names_are_refused() {
    let world = World::new();
    let listed = world.run("tokensink conformance list --json").code(0).json();
    let scenarios = listed.as_array().unwrap();
    assert!(scenarios.len() >= 41, "{}", scenarios.len());
    let text = world.run("tokensink conformance list").code(0).out;
    for scenario in scenarios {
        assert!(text.contains(scenario["id"].as_str().unwrap()), "{scenario}");
    }
    for line in [
        "tokensink conformance run tokensink --scenario no-such-thing",
        "tokensink conformance run no-such-client",
    ] {
        let said = world.run(line).code(2);
        assert!(said.err.contains("no-such-"), "{said:?}");
        assert!(said.err.contains("fix: tokensink conformance"), "{said:?}");
    }
}
