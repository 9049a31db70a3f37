//! The report: tables for people, JSON for programs, and whether each aim is met.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::process::Sample;
use super::stats::{least, median, median_ratio};

/// The command that has an aim.
pub(super) const TOKEN: &str = "token --provider";
/// Most that a warm `acquire` may take, in nanoseconds.
const ACQUIRE_NS: f64 = 5000.0;
/// Most that `token` may take as a multiple of its baseline.
const TOKEN_RATIO: f64 = 2.0;
/// From this many profiles on, the baseline of `token` reads and parses the store.
const MANY: usize = 1000;

/// Positions in [`Row::samples`].
const HELLO: usize = 0;
const READ: usize = 1;
const OURS: usize = 2;
/// What stands there, for JSON.
const NAMES: [&str; 3] = ["hello", "read", "tokensink"];

/// All that was found.
pub(super) struct Report {
    pub(super) rounds: usize,
    pub(super) rows: Vec<Row>,
    pub(super) calls: Vec<Calls>,
}

/// One command on one store.
pub(super) struct Row {
    pub(super) profiles: usize,
    pub(super) records: bool,
    pub(super) command: &'static str,
    /// Per round: hello world, hello world that reads and parses the store, the command.
    pub(super) samples: Vec<[Sample; 3]>,
    pub(super) peak_kib: [u64; 3],
}

/// What calls inside a process cost on one store.
pub(super) struct Calls {
    pub(super) profiles: usize,
    pub(super) records: bool,
    /// A list of `{case, median_ns, min_ns}`.
    pub(super) cases: Value,
}

/// A target, and what was found.
struct Aim {
    what: String,
    limit: f64,
    found: f64,
    unit: &'static str,
}

pub(super) fn store_title(profiles: usize, records: bool) -> String {
    let with = if records { "with" } else { "without" };
    format!("{profiles} profiles, {with} refresh records")
}

impl Row {
    fn wall_ms(&self, which: usize) -> impl Iterator<Item = f64> + '_ {
        self.samples
            .iter()
            .map(move |round| round[which].wall.as_secs_f64() * 1e3)
    }

    fn cpu_ms(&self, which: usize) -> impl Iterator<Item = f64> + '_ {
        self.samples
            .iter()
            .map(move |round| round[which].cpu.as_secs_f64() * 1e3)
    }

    fn wall_ratio(&self, to: usize) -> f64 {
        median_ratio(self.wall_ms(OURS).zip(self.wall_ms(to)))
    }

    fn cpu_ratio(&self, to: usize) -> f64 {
        median_ratio(self.cpu_ms(OURS).zip(self.cpu_ms(to)))
    }

    fn to_json(&self) -> Value {
        let programs: Vec<Value> = (0..NAMES.len())
            .map(|which| {
                json!({
                    "program": NAMES[which],
                    "wall_ms": {"median": median(self.wall_ms(which)), "min": least(self.wall_ms(which))},
                    "cpu_ms": {"median": median(self.cpu_ms(which)), "min": least(self.cpu_ms(which))},
                    "peak_kib": self.peak_kib[which],
                })
            })
            .collect();
        json!({
            "profiles": self.profiles,
            "records": self.records,
            "command": self.command,
            "programs": programs,
            "ratio_to_hello": {"wall": self.wall_ratio(HELLO), "cpu": self.cpu_ratio(HELLO)},
            "ratio_to_read": {"wall": self.wall_ratio(READ), "cpu": self.cpu_ratio(READ)},
        })
    }
}

impl Report {
    pub(super) fn new(rounds: usize) -> Self {
        Self {
            rounds,
            rows: Vec::new(),
            calls: Vec::new(),
        }
    }

    fn aims(&self) -> Vec<Aim> {
        let calls = self.calls.iter().flat_map(|calls| {
            let cases = calls.cases.as_array().into_iter().flatten();
            let ours = cases.filter(|case| case["case"] != "one bare stat");
            ours.map(|case| Aim {
                what: format!(
                    "warm acquire {}, {}",
                    case["case"].as_str().unwrap_or_default(),
                    store_title(calls.profiles, calls.records)
                ),
                limit: ACQUIRE_NS / 1e3,
                found: case["median_ns"].as_f64().unwrap_or(f64::INFINITY) / 1e3,
                unit: "µs",
            })
        });
        let rows = self.rows.iter().filter(|row| row.command == TOKEN).map(|row| {
            let (to, name) = if row.profiles < MANY {
                (HELLO, "hello world")
            } else {
                (READ, "hello world + read + parse")
            };
            Aim {
                what: format!("token against {name}, {}", store_title(row.profiles, row.records)),
                limit: TOKEN_RATIO,
                found: row.wall_ratio(to),
                unit: "x",
            }
        });
        calls.chain(rows).collect()
    }

    pub(super) fn to_json(&self) -> Value {
        let aims: Vec<Value> = self
            .aims()
            .iter()
            .map(|aim| {
                json!({
                    "what": aim.what, "limit": aim.limit, "found": aim.found, "unit": aim.unit,
                    "met": aim.found <= aim.limit,
                })
            })
            .collect();
        let calls: Vec<Value> = self
            .calls
            .iter()
            .map(|calls| json!({"profiles": calls.profiles, "records": calls.records, "cases": calls.cases}))
            .collect();
        json!({
            "rounds": self.rounds,
            "processes": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
            "calls": calls,
            "aims": aims,
        })
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        self.write_processes(&mut text);
        self.write_calls(&mut text);
        text.push_str("\nAims\n");
        for aim in self.aims() {
            let word = if aim.found <= aim.limit {
                "met   "
            } else {
                "MISSED"
            };
            let Aim {
                what,
                limit,
                found,
                unit,
            } = aim;
            // Writing to a String does not fail, here and below.
            let _ = writeln!(
                text,
                "  {word}  {found:>7.2} {unit} (aim {limit:.0} {unit})  {what}"
            );
        }
        text
    }

    fn write_processes(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\nWhole processes: {} rounds in turns; time in ms as median (min), CPU = user + system, memory = most resident; \n\
             \"read\" is hello world that also reads and parses the store; ratios are medians of the rounds' ratios",
            self.rounds
        );
        let mut store = None;
        for row in &self.rows {
            let this = (row.profiles, row.records);
            if store.replace(this) != Some(this) {
                let _ = writeln!(text, "\n{}", store_title(row.profiles, row.records));
                let _ = writeln!(
                    text,
                    "  {:21} {:>16} {:>16} {:>16} {:>8} {:>8} {:>22} {:>22}",
                    "",
                    "hello",
                    "read",
                    "tokensink",
                    "/ hello",
                    "/ read",
                    "CPU ms, / hello, / read",
                    "memory MiB h, r, t"
                );
            }
            let _ = writeln!(text, "{}", row.line());
        }
    }

    fn write_calls(&self, text: &mut String) {
        text.push_str("\nInside a process: a warm acquire, median (min) in µs per call\n");
        for calls in &self.calls {
            let _ = writeln!(text, "\n{}", store_title(calls.profiles, calls.records));
            for case in calls.cases.as_array().into_iter().flatten() {
                let micros = |key: &str| case[key].as_f64().unwrap_or_default() / 1e3;
                let name = case["case"].as_str().unwrap_or_default();
                let _ = writeln!(
                    text,
                    "  {name:24} {:>9.2} ({:.2})",
                    micros("median_ns"),
                    micros("min_ns")
                );
            }
        }
    }
}

impl Row {
    fn line(&self) -> String {
        let time = |which: usize| {
            let (middle, lowest) = (median(self.wall_ms(which)), least(self.wall_ms(which)));
            format!("{middle:.2} ({lowest:.2})")
        };
        let cpu = format!(
            "{:.2}, {:.2}, {:.2}",
            median(self.cpu_ms(OURS)),
            self.cpu_ratio(HELLO),
            self.cpu_ratio(READ)
        );
        #[expect(clippy::cast_precision_loss, reason = "kibibytes of memory, far below 2^52")]
        let mib = |which: usize| self.peak_kib[which] as f64 / 1024.0;
        format!(
            "  {:21} {:>16} {:>16} {:>16} {:>8.2} {:>8.2} {cpu:>23} {:>22}",
            self.command,
            time(HELLO),
            time(READ),
            time(OURS),
            self.wall_ratio(HELLO),
            self.wall_ratio(READ),
            format!("{:.1}, {:.1}, {:.1}", mib(HELLO), mib(READ), mib(OURS)),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row(profiles: usize, millis: [u64; 3]) -> Row {
        let sample = |ms| Sample {
            wall: Duration::from_millis(ms),
            cpu: Duration::from_millis(ms),
        };
        Row {
            profiles,
            records: true,
            command: TOKEN,
            samples: vec![millis.map(sample)],
            peak_kib: [1024, 2048, 4096],
        }
    }

    #[test]
    fn each_size_has_its_own_baseline() {
        let mut report = Report::new(1);
        report.rows = vec![row(5, [10, 40, 30]), row(1000, [10, 40, 70])];
        report.calls = vec![Calls {
            profiles: 5,
            records: true,
            cases: json!([{"case": "by id, own", "median_ns": 6000, "min_ns": 5000},
                {"case": "one bare stat", "median_ns": 900, "min_ns": 800}]),
        }];
        let aims: Vec<(f64, bool)> = report
            .aims()
            .iter()
            .map(|aim| (aim.found, aim.found <= aim.limit))
            .collect();
        assert_eq!(aims, [(6.0, false), (3.0, false), (1.75, true)]);
        let text = report.to_text();
        assert_eq!(text.matches("MISSED").count(), 2, "{text}");
        assert_eq!(report.to_json()["aims"][2]["met"], json!(true));
    }
}
