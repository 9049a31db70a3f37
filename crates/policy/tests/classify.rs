//! The corpus of error bodies against the table of rules.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the corpus is a file, and a broken one fails the test"
)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tokensink_policy::classify::{ErrorText, Failure, RULES, Reason, classify, classify_by};
use tokensink_types::ProviderId;

/// One line of `tests/data/errors.jsonl`: what an API answered, and what it means.
struct Case {
    line: usize,
    provider: ProviderId,
    status: Option<u16>,
    text: ErrorText,
    reason: Reason,
    rule: String,
}

impl Case {
    fn read(line: usize, text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap();
        let word = |name: &str| value.get(name).and_then(Value::as_str);
        let text = match (value.get("body"), word("words")) {
            (Some(Value::String(body)), None) => ErrorText::of_body(body.as_bytes()),
            (Some(body), None) => ErrorText::of_body(body.to_string().as_bytes()),
            (None, Some(words)) => ErrorText::of_words(word("code"), words),
            _ => panic!("line {line} has neither body nor words"),
        };
        Self {
            line,
            provider: ProviderId::parse(word("provider").unwrap()).unwrap(),
            status: value["status"]
                .as_u64()
                .map(|status| u16::try_from(status).unwrap()),
            text,
            reason: Reason::parse(word("reason").unwrap()).unwrap(),
            rule: word("rule").unwrap_or_default().to_owned(),
        }
    }

    fn failure(&self) -> Failure<'_> {
        Failure {
            provider: &self.provider,
            status: self.status,
            text: &self.text,
        }
    }
}

fn corpus() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/errors.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .enumerate()
        .map(|(index, line)| Case::read(index + 1, line))
        .collect()
}

#[test]
fn every_body_means_what_the_corpus_says() {
    let corpus = corpus();
    assert!(corpus.len() >= 300, "{} cases", corpus.len());
    let wrong: Vec<String> = corpus
        .iter()
        .filter_map(|case| {
            let class = classify(&case.failure()).unwrap();
            let right = (class.reason, class.rule) == (case.reason, case.rule.as_str());
            (!right).then(|| {
                format!(
                    "line {}: {} by {}, not {} by {}: {}",
                    case.line,
                    class.reason.as_str(),
                    class.rule,
                    case.reason.as_str(),
                    case.rule,
                    case.text.text()
                )
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

/// What `claude -p` says in plain words reaches the rules in an error's fields, and means the same there.
#[test]
fn words_of_a_program_mean_the_same_in_the_fields_of_an_error() {
    let corpus = corpus();
    let without_status = corpus
        .iter()
        .filter(|case| case.status.is_none() && case.text.codes().is_empty());
    let mut count = 0;
    for case in without_status {
        count += 1;
        let body = serde_json::json!({"type": "error", "error": {"type": null, "message": case.text.text()}});
        let wrapped = ErrorText::of_body(body.to_string().as_bytes());
        let failure = Failure {
            text: &wrapped,
            ..case.failure()
        };
        assert_eq!(
            classify(&failure).unwrap().reason,
            case.reason,
            "line {}",
            case.line
        );
    }
    assert!(count > 10, "{count}");
}

#[test]
fn no_rule_can_be_left_out() {
    let corpus = corpus();
    let needless: Vec<&str> = RULES
        .iter()
        .enumerate()
        .filter(|(at, _)| {
            let others: Vec<_> = RULES[..*at].iter().chain(&RULES[at + 1..]).copied().collect();
            let still_right =
                |case: &Case| classify_by(&others, &case.failure()).unwrap().reason == case.reason;
            corpus.iter().all(still_right)
        })
        .map(|(_, rule)| rule.id)
        .collect();
    assert_eq!(needless, [""; 0], "without these every case still has its reason");
}

#[test]
fn the_ids_are_unique() {
    let ids: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), RULES.len());
}

#[test]
fn what_was_served_is_no_failure_whatever_it_says() {
    for case in corpus() {
        for status in [200, 201, 204, 299] {
            let failure = Failure {
                status: Some(status),
                ..case.failure()
            };
            assert_eq!(classify(&failure), None, "line {}", case.line);
        }
    }
}
