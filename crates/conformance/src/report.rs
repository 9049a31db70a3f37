//! What came of the scenarios.

use serde::Serialize;
use serde_json::{Value, json};

use crate::scenarios::Scenario;

/// What a scenario says of a program, with what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It did right.
    Passed(String),
    /// It did not.
    Failed(String),
    /// The scenario makes no sense for this program, and counts neither way.
    NotApplicable(String),
    /// The kit could not do its part; nothing is known of the program.
    NotJudged(String),
}

impl Verdict {
    /// `None` where it counts neither way.
    #[must_use]
    pub fn passed(&self) -> Option<bool> {
        match self {
            Self::Passed(_) => Some(true),
            Self::Failed(_) => Some(false),
            Self::NotApplicable(_) | Self::NotJudged(_) => None,
        }
    }

    /// What was seen, in one line.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Passed(detail)
            | Self::Failed(detail)
            | Self::NotApplicable(detail)
            | Self::NotJudged(detail) => detail,
        }
    }

    /// One word for tables.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed(_) => "passed",
            Self::Failed(_) => "failed",
            Self::NotApplicable(_) => "not applicable",
            Self::NotJudged(_) => "not judged",
        }
    }
}

/// One scenario, judged.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// All scenarios of one run, in the order of the catalogue.
#[derive(Debug, Clone)]
pub struct Report {
    /// The program's name.
    pub client: String,
    /// Its version as it tells it.
    pub version: String,
    /// What was judged.
    pub judged: Vec<Judged>,
}

/// How many scenarios ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Done right.
    pub passed: usize,
    /// Done wrong.
    pub failed: usize,
    /// Without sense for this program.
    pub not_applicable: usize,
    /// Left open by the kit.
    pub not_judged: usize,
}

impl Report {
    /// The score.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for judged in &self.judged {
            *match judged.verdict {
                Verdict::Passed(_) => &mut counts.passed,
                Verdict::Failed(_) => &mut counts.failed,
                Verdict::NotApplicable(_) => &mut counts.not_applicable,
                Verdict::NotJudged(_) => &mut counts.not_judged,
            } += 1;
        }
        counts
    }

    /// Whether nothing failed and nothing was left open.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let counts = self.counts();
        counts.failed == 0 && counts.not_judged == 0
    }

    /// The report as an object. `passed` is null where a scenario counts neither way, with the reason in `detail`.
    #[must_use]
    pub fn json(&self) -> Value {
        let scenarios: Vec<Value> = self
            .judged
            .iter()
            .map(|judged| {
                json!({
                    "id": judged.scenario.id,
                    "passed": judged.verdict.passed(),
                    "detail": judged.verdict.detail(),
                    "result": judged.verdict.word(),
                    "title": judged.scenario.title,
                    "millis": judged.millis,
                })
            })
            .collect();
        json!({
            "client": self.client,
            "scenarios": scenarios,
            "version": self.version,
            "counts": self.counts(),
        })
    }
}
