//! The conformance kit, put to the test: we pass, who does otherwise is seen to fail, and the server serves by hand.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokensink_testkit::loopback;

use crate::support::full;
use crate::support::processes::signal;
use crate::world::{BROWSER, World};

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

fn ids(ended: Vec<(String, String)>) -> BTreeSet<String> {
    ended.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn we_pass_every_scenario() {
    let world = World::new();
    let said = world.run("tokensink conformance run tokensink --json");
    let report = said.json();
    assert_eq!(ended(&report, "failed"), [], "{}", said.err);
    assert_eq!(ended(&report, "not judged"), [], "{}", said.err);
    // A disk is mounted where that is allowed; nothing else may be left out, and in the long run not even that.
    let left_out = ended(&report, "not applicable");
    let may_be = |id: &str| id == "full-disk" && !full();
    assert!(left_out.iter().all(|(id, _)| may_be(id)), "{left_out:?}");
    let passed = ended(&report, "passed").len();
    assert!(passed >= 40, "{passed}");
    assert_eq!(report["client"], "tokensink");
    assert_eq!(report["counts"]["passed"], passed);
    assert_eq!(said.code, 0);
}

/// A program of `examples/conformance`, put through these scenarios, or all.
fn example(name: &str, only: &[&str]) -> Value {
    let world = World::new();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/conformance");
    let mut line = format!("tokensink conformance run {path}/{name}.toml --json --jobs 8");
    for id in only {
        line.push_str(&format!(" --scenario {id}"));
    }
    let said = world.run(&line).code(1);
    let report = said.json();
    assert_eq!(report["client"], name);
    assert_eq!(ended(&report, "not judged"), [], "{}", said.err);
    report
}

/// What a naive program does right.
const NAIVE_PASSES: [&str; 5] = [
    "fresh-token-is-kept",
    "expired-token-is-refreshed-once",
    "newer-login-is-adopted",
    "invalid-grant-asks-for-a-login",
    "answer-lost",
];

/// What it does wrong; the first two are what a hopeless one cannot do wrong.
const NAIVE_FAILS: [&str; 6] = [
    "rejected-token-is-refreshed-once",
    "invalid-grant-is-believed",
    "many-processes-one-refresh",
    "answer-without-refresh-token",
    "unknown-keys-survive",
    "no-secret-is-told",
];

#[test]
fn every_scenario_is_seen_to_fail_and_a_naive_program_passes_what_it_does_right() {
    let hopeless = example("hopeless", &[]);
    let passed = ids(ended(&hopeless, "passed"));
    let unfailed: Vec<&String> = passed
        .iter()
        .filter(|id| !NAIVE_FAILS.contains(&id.as_str()))
        .collect();
    assert_eq!(unfailed, Vec::<&String>::new(), "{hopeless:#}");
    let naive = example("naive", &[&NAIVE_PASSES[..], &NAIVE_FAILS].concat());
    assert_eq!(
        ids(ended(&naive, "passed")),
        NAIVE_PASSES.map(str::to_owned).into(),
        "{naive:#}"
    );
    assert_eq!(
        ids(ended(&naive, "failed")),
        NAIVE_FAILS.map(str::to_owned).into(),
        "{naive:#}"
    );
}

#[test]
fn the_catalogue_is_told_and_what_is_wrong_is_refused() {
    let world = World::new();
    let listed = world.run("tokensink conformance list --json").code(0).json();
    let scenarios = listed.as_array().unwrap();
    assert!(scenarios.len() >= 41, "{}", scenarios.len());
    let text = world.run("tokensink conformance list").code(0).out;
    for scenario in scenarios {
        assert!(text.contains(scenario["id"].as_str().unwrap()), "{scenario}");
    }
    world.write("wrong.toml", "name = \"x\"\nuze = [\"y\"]\n");
    world.write("script.toml", "[server]\nrotate = true\n");
    let cases = [
        ("run tokensink --scenario no-such-thing", "no-such-thing"),
        ("run no-such-client", "no-such-client"),
        ("run no-such.toml", "no-such.toml"),
        ("run wrong.toml", "uze"),
        (
            "run some.toml --program /bin/true",
            "fix: tokensink conformance run some.toml",
        ),
        ("serve --port 0 --script script.toml", "rotate"),
    ];
    for (line, part) in cases {
        let said = world.run(&format!("tokensink conformance {line}")).code(2);
        assert!(said.err.contains(part), "{said:?}");
    }
}

#[test]
fn a_score_is_written_as_a_page() {
    let world = World::new();
    let line = "tokensink conformance run tokensink --scenario fresh-token-is-kept --html score.html";
    let said = world.run(line).code(0);
    assert!(said.out.contains("1 of 1 passed"), "{said:?}");
    let page = std::fs::read_to_string(world.path("score.html")).unwrap();
    assert!(
        page.contains("fresh-token-is-kept") && page.contains("1 of 1 passed"),
        "{page}"
    );
}

/// A server that runs until its test is over.
struct Serving {
    child: Child,
    output: BufReader<ChildStdout>,
    told: Value,
}

impl Serving {
    fn start(world: &World, options: &str) -> Self {
        let line = format!("tokensink conformance serve --port 0 --json{options}");
        let words: Vec<&str> = line.split(' ').collect();
        let mut child = world.command(&words).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.ends_with("\n}\n") {
            assert_ne!(output.read_line(&mut text).unwrap(), 0, "{text}");
        }
        let told = serde_json::from_str(&text).unwrap();
        Self { child, output, told }
    }

    fn url(&self, name: &str) -> &str {
        self.told["endpoints"][name].as_str().unwrap()
    }

    fn post(&self, name: &str, body: &Value) -> Value {
        let answer = loopback::send("POST", self.url(name), &[], &body.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    /// Ends it as Ctrl-C does; what it said at last.
    fn end(mut self) -> (i32, String) {
        signal(i32::try_from(self.child.id()).unwrap(), Signal::INT);
        let code = self.child.wait().unwrap().code().unwrap();
        let mut last = String::new();
        self.output.read_to_string(&mut last).unwrap();
        let mut notes = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut notes)
            .unwrap();
        (code, last + &notes)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already unless a test failed in the middle.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn a_server_by_hand_takes_logins_and_faults_and_ends_with_its_books() {
    let world = World::new();
    world.write(
        "script.toml",
        "[[fault]]\ngrant = \"refresh_token\"\naction = { kind = \"status\", status = 503 }\n",
    );
    let server = Serving::start(&world, " --grace 30s --script script.toml");
    // What it prints for us is enough to log in.
    let definition = server.told["providerToml"].as_str().unwrap();
    assert!(definition.contains("replay_grace_seconds = 30"), "{definition}");
    world.write(".openclaw/tokensink/providers/kit.toml", definition);
    let login = "tokensink models auth login --provider kit";
    world.run_with(login, None, &[("BROWSER", BROWSER)]).code(0);
    // And what it prints for others is enough for a login, a fault and a refresh.
    let issued = server.post("issue", &json!({"account": "bob"}));
    server.post(
        "faults",
        &json!({"grant": "refresh_token", "nth": 2, "action": {"kind": "cut_before_answer"}}),
    );
    let refresh = |token: &Value| {
        let body = format!(
            "grant_type=refresh_token&client_id=rig&refresh_token={}",
            token.as_str().unwrap()
        );
        let form = [("content-type", "application/x-www-form-urlencoded")];
        loopback::send("POST", server.url("tokenEndpoint"), &form, &body)
    };
    let statuses = [(); 3].map(|()| refresh(&issued["refresh_token"]).status);
    assert_eq!(
        statuses,
        [503, 0, 200],
        "the script's fault, the fault that was set, and the repetition"
    );
    let page = loopback::send("GET", server.url("page"), &[], "").body;
    for part in ["bob", "alice", "cut_before_answer", "replayed"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(
        !page.contains(issued["refresh_token"].as_str().unwrap()),
        "{page}"
    );
    let (code, last) = server.end();
    assert_eq!(code, 0);
    for part in [
        "2 logins",
        "1 refresh granted",
        "1 answer repeated",
        "2 faults played",
    ] {
        assert!(last.contains(part), "{part}: {last}");
    }
}
