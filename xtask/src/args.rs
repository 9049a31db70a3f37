//! The command line of xtask.

/// Printed for `--help` and after a mistake.
pub(crate) const USAGE: &str = "\
Usage: cargo xtask <task>

  test [--full] [filter...]   install what the tests need, then run them (with a filter: those whose names contain it)
                              --full adds the browser, the big real programs, long storms, soaks and fuzzing
  layers                      check which crate may use which
  ci [--full]                 everything that a change must pass: fmt, layers, clippy, doc, test; --full adds deny
  deny [--advisories]         check licences, bans and sources of all dependencies; --advisories also fetches RustSec's list";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Help,
    Test(TestOptions),
    Layers,
    Ci { full: bool },
    Deny { advisories: bool },
}

/// Which tests to run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestOptions {
    /// Also the long ones.
    pub(crate) full: bool,
    /// Parts of test names; empty for all.
    pub(crate) filters: Vec<String>,
}

/// Reads the arguments after `cargo xtask`.
pub(crate) fn parse(given: &[String]) -> Result<Task, String> {
    let Some((task, rest)) = given.split_first() else {
        return Err("no task is given".to_owned());
    };
    match task.as_str() {
        "help" | "--help" | "-h" => Ok(Task::Help),
        "test" => test(rest),
        "layers" => flag(rest, "layers", None).map(|_| Task::Layers),
        "ci" => flag(rest, "ci", Some("--full")).map(|full| Task::Ci { full }),
        "deny" => flag(rest, "deny", Some("--advisories")).map(|advisories| Task::Deny { advisories }),
        other => Err(format!("there is no task {other:?}")),
    }
}

fn test(rest: &[String]) -> Result<Task, String> {
    let mut options = TestOptions::default();
    for word in rest {
        match word.as_str() {
            "--full" => options.full = true,
            other if other.starts_with('-') => return Err(format!("`test` has no option {other}")),
            filter => options.filters.push(filter.to_owned()),
        }
    }
    Ok(Task::Test(options))
}

fn flag(rest: &[String], task: &str, allowed: Option<&str>) -> Result<bool, String> {
    match rest.iter().find(|word| Some(word.as_str()) != allowed) {
        Some(word) => Err(format!("`{task}` has no argument {word:?}")),
        None => Ok(!rest.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tasks() {
        let test = |full, filters: &[&str]| {
            Ok(Task::Test(TestOptions {
                full,
                filters: filters.iter().map(|text| (*text).to_owned()).collect(),
            }))
        };
        let no = |message: &str| Err(message.to_owned());
        let cases = [
            ("", no("no task is given")),
            ("--help", Ok(Task::Help)),
            ("test", test(false, &[])),
            ("test order --full select", test(true, &["order", "select"])),
            ("test --nope", no("`test` has no option --nope")),
            ("layers", Ok(Task::Layers)),
            ("layers --full", no("`layers` has no argument \"--full\"")),
            ("ci", Ok(Task::Ci { full: false })),
            ("ci --full", Ok(Task::Ci { full: true })),
            ("ci quick", no("`ci` has no argument \"quick\"")),
            ("deny", Ok(Task::Deny { advisories: false })),
            ("deny --advisories", Ok(Task::Deny { advisories: true })),
            ("tset", no("there is no task \"tset\"")),
        ];
        for (line, want) in cases {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(parse(&words), want, "{line:?}");
        }
    }
}
