//! What libFuzzer says at the end, as numbers and lines.

/// The summary of one run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stats {
    /// Inputs that were tried.
    runs: u64,
    /// Of these in a second.
    per_second: u64,
    /// Edges of the code that were reached.
    coverage: u64,
    /// Inputs that reach something of their own.
    corpus: u64,
    /// Most memory in MiB.
    peak_mib: u64,
    /// The slowest input, in whole seconds.
    slowest: u64,
}

impl Stats {
    /// Names the columns of [`Stats::row`].
    pub(super) const HEADLINE: &str =
        "target                  runs   a second  coverage   corpus  peak MiB  slowest s";

    /// Reads the log of a run.
    pub(super) fn of(log: &str) -> Self {
        let stat = |name: &str| {
            let line = log
                .lines()
                .find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
            line.and_then(|rest| rest.trim_start_matches(':').trim().parse().ok())
                .unwrap_or(0)
        };
        // `#1234  NEW    cov: 812 ft: 2034 corp: 180/12Kb ...`: the last such line counts.
        let last = |name: &str| {
            let line = log.lines().rev().find(|line| line.contains(" cov: "));
            let rest = line.and_then(|line| line.split_once(name)).map(|(_, rest)| rest);
            let digits = rest.map(|rest| {
                rest.split(|c: char| !c.is_ascii_digit())
                    .next()
                    .unwrap_or_default()
            });
            digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
        };
        Self {
            runs: stat("number_of_executed_units"),
            per_second: stat("average_exec_per_sec"),
            coverage: last(" cov: "),
            corpus: last(" corp: "),
            peak_mib: stat("peak_rss_mb"),
            slowest: stat("slowest_unit_time_sec"),
        }
    }

    /// One row of the table.
    pub(super) fn row(&self, name: &str) -> String {
        let Self {
            runs,
            per_second,
            coverage,
            corpus,
            peak_mib,
            slowest,
        } = self;
        format!("{name:17} {runs:>10} {per_second:>10} {coverage:>9} {corpus:>8} {peak_mib:>9} {slowest:>10}")
    }
}

/// The input that a failed run kept.
pub(super) fn artifact(log: &str) -> Option<&str> {
    let mut lines = log.lines().rev();
    lines.find_map(|line| {
        line.split_once("Test unit written to ")
            .map(|(_, path)| path.trim())
    })
}

/// The lines that say what failed: the panic, and what libFuzzer makes of it.
pub(super) fn what_failed(log: &str) -> Vec<&str> {
    let after = |line: &&str| line.contains("panicked at") || line.starts_with("==");
    log.lines().skip_while(|line| !after(line)).take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "#2\tINITED cov: 10 ft: 12 corp: 1/1b exec/s: 0 rss: 40Mb\n\
        #900\tNEW    cov: 812 ft: 2034 corp: 180/12Kb lim: 41 exec/s: 450 rss: 61Mb L: 9/41 MS: 1 CopyPart-\n\
        Done 90000 runs in 31 second(s)\nstat::number_of_executed_units: 90000\nstat::average_exec_per_sec:     2903\n\
        stat::new_units_added:          50\nstat::slowest_unit_time_sec:    1\nstat::peak_rss_mb:              77\n";

    #[test]
    fn numbers_of_a_run() {
        let want = Stats {
            runs: 90_000,
            per_second: 2903,
            coverage: 812,
            corpus: 180,
            peak_mib: 77,
            slowest: 1,
        };
        assert_eq!(Stats::of(GOOD), want);
        assert_eq!(Stats::of(""), Stats::default());
        assert_eq!(want.row("jwt").len(), Stats::HEADLINE.len());
    }

    #[test]
    fn a_failure_is_told_with_its_input() {
        let log = "INFO: Seed: 1\nthread '<unnamed>' panicked at src/a.rs:5:\nit does not hold\n==7== ERROR: libFuzzer: \
            deadly signal\nartifact_prefix='/t/'; Test unit written to /t/crash-1\nBase64: AA==\n";
        assert_eq!(artifact(log), Some("/t/crash-1"));
        assert_eq!(what_failed(log)[1], "it does not hold");
        assert_eq!(artifact(GOOD), None);
    }
}
