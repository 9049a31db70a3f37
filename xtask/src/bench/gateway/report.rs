//! The report on proxies: a table for each case, and whether the aims are met.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::proxies::{BARE, BARE_GUIDED, DIRECT, NAMES, NGINX, OURS, OURS_PLAIN};
use super::{ALONE, BURST, JSON};
use crate::bench::stats::{median, median_ratio};

/// Least answers per second as a share of the bare proxy's.
const JSON_RATIO: f64 = 0.85;
/// Least streams per second as a share of nginx's.
const BURST_RATIO: f64 = 0.64;

/// What one proxy did in one round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// Processor time of the proxy for each answer.
    pub(super) cpu_us: f64,
}

/// All that was found.
#[derive(Debug)]
pub(super) struct Report {
    rounds: usize,
    pins: &'static str,
    /// By case: rounds, each with a sample of every proxy.
    cases: Vec<(&'static str, Vec<Vec<Sample>>)>,
    /// Resident memory of each proxy at the end.
    pub(super) resident_kib: Vec<u64>,
}

/// A target, and what was found.
struct Aim {
    what: &'static str,
    least: f64,
    found: f64,
}

impl Report {
    pub(super) fn new(rounds: usize, pins: &'static str) -> Self {
        Self {
            rounds,
            pins,
            cases: Vec::new(),
            resident_kib: Vec::new(),
        }
    }

    /// Notes a round.
    pub(super) fn add(&mut self, case: &'static str, round: Vec<Sample>) {
        match self.cases.iter_mut().find(|(known, _)| *known == case) {
            Some((_, rounds)) => rounds.push(round),
            None => self.cases.push((case, vec![round])),
        }
    }

    fn rounds_of(&self, case: &str) -> &[Vec<Sample>] {
        let found = self.cases.iter().find(|(known, _)| *known == case);
        found.map_or(&[], |(_, rounds)| rounds)
    }

    fn aims(&self) -> [Aim; 2] {
        [
            Aim {
                what: "JSON answers per second, of bare hyper's",
                least: JSON_RATIO,
                found: ratio(self.rounds_of(JSON), OURS, BARE),
            },
            Aim {
                what: "bursts of 20 events per second, of nginx's",
                least: BURST_RATIO,
                found: ratio(self.rounds_of(BURST), OURS, NGINX),
            },
        ]
    }

    /// What a request takes longer through `which` than without a proxy, in microseconds.
    fn added_us(&self, which: usize) -> f64 {
        let rounds = self.rounds_of(ALONE).iter();
        median(rounds.map(|round| round[which].p50_us - round[DIRECT].p50_us))
    }

    pub(super) fn to_json(&self) -> Value {
        let cases: Vec<Value> = self
            .cases
            .iter()
            .map(|(name, rounds)| {
                let proxies: Vec<Value> = NAMES
                    .iter()
                    .enumerate()
                    .map(|(which, name)| {
                        let of = |value: fn(&Sample) -> f64| {
                            median(rounds.iter().map(|round| value(&round[which])))
                        };
                        json!({
                            "proxy": name,
                            "per_second": of(|sample| sample.per_second),
                            "p50_us": of(|sample| sample.p50_us),
                            "p99_us": of(|sample| sample.p99_us),
                            "cpu_us": of(|sample| sample.cpu_us),
                            "ratio_to_bare": ratio(rounds, which, BARE),
                            "ratio_to_nginx": ratio(rounds, which, NGINX),
                        })
                    })
                    .collect();
                json!({"case": name, "proxies": proxies})
            })
            .collect();
        let aims: Vec<Value> = self
            .aims()
            .iter()
            .map(|aim| {
                json!({"what": aim.what, "least": aim.least, "found": aim.found, "met": aim.found >= aim.least})
            })
            .collect();
        let added: Vec<Value> = (0..NAMES.len())
            .map(|which| json!({"proxy": NAMES[which], "us": self.added_us(which)}))
            .collect();
        json!({
            "rounds": self.rounds, "pins": self.pins, "cases": cases, "added_p50": added,
            "resident_kib": self.resident_kib, "aims": aims,
        })
    }

    pub(super) fn to_text(&self) -> String {
        // Writing to a String does not fail, here and below.
        let mut text = format!("\n{} rounds in turns; medians; {}\n", self.rounds, self.pins);
        for (name, rounds) in &self.cases {
            let _ = writeln!(
                text,
                "\n{name}\n  {:12} {:>10} {:>9} {:>9} {:>12} {:>8} {:>8}",
                "", "answers/s", "p50 µs", "p99 µs", "its CPU, µs", "/ bare", "/ nginx"
            );
            for (which, proxy) in NAMES.iter().enumerate() {
                let of = |value: fn(&Sample) -> f64| median(rounds.iter().map(|round| value(&round[which])));
                let _ = writeln!(
                    text,
                    "  {proxy:12} {:>10.0} {:>9.0} {:>9.0} {:>12.1} {:>8.2} {:>8.2}",
                    of(|sample| sample.per_second),
                    of(|sample| sample.p50_us),
                    of(|sample| sample.p99_us),
                    of(|sample| sample.cpu_us),
                    ratio(rounds, which, BARE),
                    ratio(rounds, which, NGINX),
                );
            }
        }
        text.push_str(
            "\nAdded by the proxy to one request at a time, p50 in µs; resident memory at the end in MiB\n",
        );
        for which in [NGINX, BARE, BARE_GUIDED, OURS_PLAIN, OURS] {
            let kib = self.resident_kib.get(which).copied().unwrap_or_default();
            let _ = writeln!(
                text,
                "  {:12} {:>10.0} {:>9}",
                NAMES[which],
                self.added_us(which),
                kib / 1024
            );
        }
        text.push_str("\nAims\n");
        for aim in self.aims() {
            let word = if aim.found >= aim.least {
                "met   "
            } else {
                "MISSED"
            };
            let _ = writeln!(
                text,
                "  {word}  {:>5.2} (aim {:.2})  {}",
                aim.found, aim.least, aim.what
            );
        }
        text
    }
}

/// Answers per second of one proxy as a share of another's, in the same round.
fn ratio(rounds: &[Vec<Sample>], over: usize, under: usize) -> f64 {
    median_ratio(
        rounds
            .iter()
            .map(|round| (round[over].per_second, round[under].per_second)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aims_go_by_the_ratio_of_the_same_round() {
        let sample = |per_second, p50_us| Sample {
            per_second,
            p50_us,
            ..Sample::default()
        };
        let mut report = Report::new(2, "");
        // The machine was slow in the second round, for all alike.
        for slow in [1.0, 10.0] {
            let round = |speeds: [f64; 6]| speeds.map(|speed| sample(speed / slow, 100.0 / speed)).to_vec();
            report.add(JSON, round([9.0, 8.0, 4.0, 5.0, 1.0, 2.0]));
            report.add(BURST, round([9.0, 4.0, 2.0, 2.5, 1.0, 3.0]));
            report.add(ALONE, round([10.0, 5.0, 5.0, 6.0, 2.0, 4.0]));
        }
        let [json, burst] = report.aims();
        let close = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(close(json.found, 0.5) && close(burst.found, 0.75));
        assert!(close(report.added_us(OURS), 15.0));
        let text = report.to_text();
        assert!(text.contains("MISSED   0.50 (aim 0.85)"), "{text}");
        assert!(text.contains("met      0.75 (aim 0.64)"), "{text}");
        assert_eq!(report.to_json()["aims"][1]["met"], true);
    }
}
