//! `cargo xtask bench --recovery`: how long the next caller waits after the holder of a refresh was killed.
//!
//! The measuring itself is a program of its own (`crates/cli/benches/recovery.rs`), since it needs an authorization
//! server; this builds and runs it, and shows what it found.

use std::fmt::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::args::BenchOptions;
use crate::built::Built;
use crate::run::{Failure, program};

/// Helpers that are killed.
const KILLS: usize = 400;
const KILLS_QUICK: usize = 100;
/// The median wait of the next caller is to be below this, in milliseconds.
const AIM_MS: f64 = 100.0;

/// Builds, measures, reports.
pub(super) fn run(options: &BenchOptions) -> Result<(), Failure> {
    let words = ["bench", "--no-run", "-p", "tokensink-cli", "--bench", "recovery"];
    let path = Built::by_cargo(&words, None)?.named("recovery")?;
    let kills = if options.quick { KILLS_QUICK } else { KILLS };
    eprintln!("   killing {kills} helpers");
    let output = program(&path, [kills.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("{} cannot be started: {error}", path.display())))?;
    if !output.status.success() {
        return Err(Failure::new("the measuring failed"));
    }
    let mut found: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(format!("{} printed no JSON: {error}", path.display())))?;
    judge(&mut found);
    if options.json {
        println!("{found:#}");
    } else {
        print!("{}", text(&found));
    }
    Ok(())
}

/// Adds what follows from the numbers: ratios to the undisturbed calls of the same run, and whether the aim is met.
fn judge(found: &mut Value) {
    let median =
        |value: &Value, place: usize| value["cases"][place]["median_ms"].as_f64().unwrap_or_default();
    let (fresh, refresh) = (median(found, 0), median(found, 1));
    let mut met = true;
    for case in found["cases"].as_array_mut().into_iter().flatten() {
        let this = case["median_ms"].as_f64().unwrap_or_default();
        case["ratio_to_fresh"] = json!(ratio(this, fresh));
        case["ratio_to_refresh"] = json!(ratio(this, refresh));
        met &= this < AIM_MS;
    }
    found["aim"] = json!({"median_ms_below": AIM_MS, "met": met});
}

/// With two digits; none for a ratio to nothing.
fn ratio(over: f64, under: f64) -> Option<f64> {
    (under > 0.0).then(|| (over / under * 100.0).round() / 100.0)
}

fn text(found: &Value) -> String {
    let mut text = format!(
        "\nHelpers killed in the middle of a refresh: {}, {} of them before the request had arrived at the server, {} \
         after;\nrequests repeated within the grace: {}, refresh tokens used twice outside it: {}\n\n",
        found["kills"],
        found["killed_before_the_request_arrived"],
        found["killed_after_it_arrived"],
        found["repeated_requests"],
        found["reuses"]
    );
    // Writing to a String does not fail, here and below.
    let _ = writeln!(
        text,
        "  {:46} {:>6} {:>10} {:>8} {:>8} {:>8} {:>10}",
        "whole processes", "count", "median ms", "p90 ms", "max ms", "/ fresh", "/ refresh"
    );
    for case in found["cases"].as_array().into_iter().flatten() {
        let number = |name: &str| case[name].as_f64().unwrap_or_default();
        let _ = writeln!(
            text,
            "  {:46} {:>6} {:>10.1} {:>8.1} {:>8.1} {:>8.2} {:>10.2}",
            case["case"].as_str().unwrap_or_default(),
            case["count"].as_u64().unwrap_or_default(),
            number("median_ms"),
            number("p90_ms"),
            number("max_ms"),
            number("ratio_to_fresh"),
            number("ratio_to_refresh")
        );
    }
    let word = if found["aim"]["met"] == true {
        "met"
    } else {
        "MISSED"
    };
    let _ = writeln!(text, "\n  {word}: every median below {AIM_MS:.0} ms");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_held_against_the_undisturbed_calls_of_the_run() {
        let case = |name: &str, ms: f64| json!({"case": name, "count": 1, "median_ms": ms});
        let mut found = json!({"cases": [case("fresh", 2.0), case("refresh", 10.0), case("next", 15.0)]});
        judge(&mut found);
        assert_eq!(found["cases"][2]["ratio_to_fresh"], 7.5);
        assert_eq!(found["cases"][2]["ratio_to_refresh"], 1.5);
        assert_eq!(found["aim"]["met"], true);
        assert!(text(&found).contains("  met: every median below 100 ms"));
        found["cases"][2]["median_ms"] = json!(100.0);
        judge(&mut found);
        assert!(text(&found).contains("MISSED"));
        assert_eq!(ratio(1.0, 0.0), None);
    }
}
